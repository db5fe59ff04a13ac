# SPDX-License-Identifier: GPL-2.0-only
"""Does units of work on a fleet's workers.

What is true is known here: which unit is out, with whom, and how often it was lost. Dask carries a
unit to the worker that was chosen for it and brings back what came of it; where it loses a worker,
or itself, the unit goes out again. A unit that two workers were lost with is given up.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import pickle
import queue
import secrets
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, field, replace
from typing import Any

from distributed import Client, Future

from orchestrator.build.prepare import Bootable
from orchestrator.errors import HarnessError
from orchestrator.fleet import packing, place, worker
from orchestrator.fleet.place import Fleet
from orchestrator.fleet.store import Store
from orchestrator.host import workdir
from orchestrator.host.rundir import run_dir
from orchestrator.run.units import Queue, Unit

logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what is wrong is said by us
LOOK_SECONDS = 0.5
PATIENCE = 60.0  # seconds without a worker, or a scheduler, that would do
LOSSES = 2  # of a unit, then it is given up
AHEAD = 2  # units with a worker at once: the next one is there when one is done
GRAIN = 8  # cases in a unit
RESULT_SECONDS = 5.0  # to get what came of a unit from who has done it


@dataclass(slots=True, eq=False)
class _Out:
    """A unit that is on its way."""

    queue: Queue
    unit: Unit
    lost: int = 0  # so many workers were lost that had it
    future: Future[Any] | None = None


@dataclass(slots=True, eq=False)
class _Hand:
    """A worker, as this command knows it."""

    address: str
    arches: frozenset[str]
    out: list[_Out] = field(default_factory=list)
    last: Queue | None = None  # whose guest it has

    @property
    def takes(self) -> bool:
        """Nothing else is with it while it has what a worker was lost with."""
        return len(self.out) < AHEAD and not any(out.lost for out in self.out)


class OnFleet:
    """An executor. `say` hears of workers that come, go and are refused."""

    grain = GRAIN

    def __init__(self, fleet: Fleet, say: Callable[[str], None]) -> None:
        self._fleet = fleet
        self._say = say

    def perform(self, queues: Sequence[Queue]) -> None:
        """See `Executor`. Raises HarnessError where the fleet cannot be reached for long."""
        work = _Work(self._fleet, queues, self._say)
        try:
            work.go()
        finally:
            work.close()


class _Work:
    def __init__(self, fleet: Fleet, queues: Sequence[Queue], say: Callable[[str], None]) -> None:
        self._fleet = fleet
        self._say = say
        self._store = Store(fleet.store)
        self._command = secrets.token_hex(8)
        self._number = itertools.count()
        self._left = list(queues)  # that may have further units
        self._again: deque[_Out] = deque()
        self._hands: dict[str, _Hand] = {}
        self._refused: dict[str, str] = {}  # workers that take nothing of ours, and why
        self._ended: queue.SimpleQueue[tuple[_Out, Future[Any]]] = queue.SimpleQueue()
        self._packed: dict[int, tuple[Bootable, str]] = {}  # by id: it, and its digest in the store
        self._client: Client | None = None
        self._look_again = 0.0
        self._trouble = ""  # why the scheduler could not be reached, at last
        self._alone_since = self._able_since = time.monotonic()

    # --- the whole -----------------------------------------------------------------------------

    def go(self) -> None:
        while True:
            self._meet()
            self._give_up_strange()
            self._hand_out()
            if not self._left and not self._again and not any(h.out for h in self._hands.values()):
                return
            with contextlib.suppress(queue.Empty):
                self._take(*self._ended.get(timeout=LOOK_SECONDS))
                while True:
                    self._take(*self._ended.get_nowait())

    def close(self) -> None:
        """Whatever is still done for us is ended."""
        client, self._client = self._client, None
        if client is None:
            return
        with contextlib.suppress(Exception):  # who cannot be told any more ends it by himself
            busy = [hand.address for hand in self._hands.values() if hand.out]
            for hand in self._hands.values():
                for out in hand.out:
                    if out.future is not None:
                        out.future.cancel(force=True)
            if busy:
                client.run(worker.end, self._command, workers=busy, on_error="ignore")
        with contextlib.suppress(Exception):
            client.close(timeout=5)

    # --- who is there --------------------------------------------------------------------------

    def _meet(self) -> None:
        """Those who have come since; what was with those who have gone goes out again."""
        if time.monotonic() < self._look_again:
            return
        there = self._there()
        self._look_again = time.monotonic() + LOOK_SECONDS
        for address in set(self._hands) - set(there):
            self._lose(address, "it has gone")
        for address, resources in there.items():
            if address not in self._hands and address not in self._refused:
                arches = frozenset(
                    name.removeprefix("arch:") for name in resources if name.startswith("arch:")
                )
                self._hands[address] = _Hand(address, arches)
        if self._hands:
            self._alone_since = time.monotonic()
        elif time.monotonic() - self._alone_since > PATIENCE:
            why = [f"{who}: {why}" for who, why in self._refused.items()] or [self._trouble]
            raise HarnessError(
                f"no worker of the fleet at {self._fleet.address} for {PATIENCE:.0f} s: "
                f"{'; '.join(filter(None, why)) or 'none has come'}",
                hint="klp-e2e fleet shows who is there; what is done is kept, --resume goes on",
            )

    def _there(self) -> dict[str, dict[str, float]]:
        """Address -> resources of each worker; none while the scheduler cannot be reached."""
        try:
            if self._client is None:
                keys = place.security(self._fleet.address, place.directory())
                self._client = Client(
                    self._fleet.address, security=keys, timeout=5, set_as_default=False
                )
                self._say(f"the fleet at {self._fleet.address}")
            info = self._client.scheduler_info(n_workers=-1)
        except (OSError, TimeoutError) as err:
            self._trouble = str(err)
            self._forget_client()
            return {}
        return {address: told["resources"] for address, told in info["workers"].items()}

    def _forget_client(self) -> None:
        """The scheduler is gone, and what it knew: no worker is to blame."""
        for hand in self._hands.values():
            for out in hand.out:
                out.future = None
                self._again.append(out)
        self._hands.clear()
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(Exception):
                client.close(timeout=1)

    def _lose(self, address: str, why: str, blame: int = 1) -> None:
        """What was with a worker goes out again. Which of it the worker was at nobody knows: each
        is handed out alone from now on, so that the next time one is known."""
        hand = self._hands.pop(address)
        self._say(f"worker {address}: {why}")
        for out in hand.out:
            out.future = None
            out.lost += blame
            self._over_again(out, f"worker {address}: {why}")

    def _over_again(self, out: _Out, why: str) -> None:
        """It goes out again, but for one that has ended too many."""
        if out.lost < LOSSES:
            self._again.append(out)
        else:
            self._give_up(out, f"given up after {out.lost} workers, at last {why}")

    def _give_up(self, out: _Out, why: str) -> None:
        for message in out.unit.given_up(why):
            out.queue.told(out.unit, message)

    def _give_up_strange(self) -> None:
        """What no worker can do, where none that could has come for long."""
        able = frozenset[str]().union(*(hand.arches for hand in self._hands.values()))
        strange = [out for out in self._again if out.unit.bootable.arch.name not in able]
        if not strange:
            self._able_since = time.monotonic()
        elif time.monotonic() - self._able_since > PATIENCE:
            for out in strange:
                self._again.remove(out)
                name = out.unit.bootable.arch.name
                self._give_up(out, f"no worker of the fleet can run {name} guests")

    # --- what is done --------------------------------------------------------------------------

    def _hand_out(self) -> None:
        """Each worker has something to do, of what its guest is for where there is such a thing."""
        if self._client is None:
            return
        for hand in sorted(self._hands.values(), key=lambda each: len(each.out)):
            while hand.takes and (out := self._next(hand)) is not None:
                self._send(hand, out)

    def _next(self, hand: _Hand) -> _Out | None:
        for out in list(self._again):
            alone = not out.lost or not hand.out
            if alone and out.unit.bootable.arch.name in hand.arches:
                self._again.remove(out)
                return out
        busy = {id(q): sum(h.last is q for h in self._hands.values()) for q in self._left}
        for each in sorted(self._left, key=lambda q: (q is not hand.last, busy[id(q)])):
            unit = each.next()
            if unit is None:
                if not self._comes_more(each):
                    self._left.remove(each)
                continue
            out = _Out(each, unit)
            if unit.bootable.arch.name in hand.arches:
                return out
            self._again.append(out)
        return None

    def _comes_more(self, one: Queue) -> bool:
        """May what is out make it have another unit?"""
        outs = (out for hand in self._hands.values() for out in hand.out)
        return any(out.queue is one for out in (*outs, *self._again))

    def _send(self, hand: _Hand, out: _Out) -> None:
        assert self._client is not None
        order = worker.Order(
            replace(out.unit, bootable=None),  # type: ignore[type-var]
            self._stored(out.unit.bootable),
            self._command,
            worker.identity(),
            self._fleet.store,
        )
        name = f"klp-e2e-{self._command}-{next(self._number)}"
        future = self._client.submit(
            worker.do, order, key=name, workers=[hand.address], pure=False, retries=0
        )
        out.future = future
        hand.out.append(out)
        hand.last = out.queue
        future.add_done_callback(lambda done, out=out: self._ended.put((out, done)))

    def _stored(self, bootable: Bootable) -> str:
        """Its digest in the store, where it is by then, and all of its files."""
        if id(bootable) not in self._packed:
            packed, files = packing.packed(bootable)
            for digest, path in files.items():
                self._store.put(digest, path)
            with run_dir("fleet") as scratch:
                pickled = scratch / "bootable"
                pickled.write_bytes(pickle.dumps(packed))
                digest = workdir.file_digest(pickled)
                self._store.put(digest, pickled)
            self._packed[id(bootable)] = bootable, digest
        return self._packed[id(bootable)][1]

    def _take(self, out: _Out, future: Future[Any]) -> None:
        """What came of a unit, unless it has gone out again meanwhile."""
        if out.future is not future:
            return
        (hand,) = (hand for hand in self._hands.values() if out in hand.out)
        hand.out.remove(out)
        out.future = None
        if future.status == "error":  # what nobody foresaw: perhaps it is that machine
            out.lost += 1
            self._over_again(out, f"{hand.address}: {future.exception()!r}")
            return
        try:
            done: worker.Done = future.result(timeout=RESULT_SECONDS)
        except (OSError, TimeoutError, CancelledError):
            # gone with the scheduler, or with a worker that was done and is lost since
            self._again.append(out)
            return
        if done.refused:
            self._refused[hand.address] = done.refused
            self._again.append(out)
            self._lose(hand.address, done.refused, blame=0)
            return
        for message in done.messages:
            out.queue.told(out.unit, message)
        for record in done.guests:
            out.queue.guest(record)
