# SPDX-License-Identifier: GPL-2.0-only
"""An exploration of module sets on several guests: who walks what, what was found, and totals that
add up."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from orchestrator.build.prepare import Bench
from orchestrator.explore import triage
from orchestrator.explore.explore import Costs, Hit, Path, Told, Walker
from orchestrator.model import orders, walk
from orchestrator.model.findings import Finding, Way, added, counted, explained, of_step
from orchestrator.model.walk import Choice, Errand
from orchestrator.nouns import Order
from orchestrator.run.lanes import with_rigs
from orchestrator.run.rig import Options, Rig
from orchestrator.verdicts import GuestRecord, Step

PART = 120  # events in an errand: some tens of seconds
RANDOM_DEPTH = 10
DEPTH = 4


class Strategy(StrEnum):
    """Which orders are taken."""

    EXHAUSTIVE = "exhaustive"  # every event in every state
    RANDOM = "random"  # walks by a seed
    PAIRS = "pairs"  # every two events in either sequence, in few orders


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be explored, and for how long."""

    strategy: Strategy = Strategy.EXHAUSTIVE
    depth: Annotated[int, Field(ge=1)] | None = (
        None  # None: until the budget is used up, or the strategy's own
    )
    budget: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = (
        None  # seconds for all sets together
    )
    orders: Annotated[int, Field(ge=1)] = 100  # random walks, where no budget bounds them
    seed: int = 1
    choice: Choice = field(default_factory=Choice)
    merge: bool = True  # see `walk`
    confirm: Annotated[int, Field(ge=0)] = 10  # cold boots of each way of a finding
    guests: Annotated[int, Field(ge=1, le=1024)] = 1  # of each architecture


@dataclass(slots=True)
class Tally:
    """What became of one module set's plan on one architecture.

    planned = verified + failed + beyond + unwalked + what is still to come.
    """

    states: int = 0
    planned: int = 0
    verified: int = 0  # events after which all was as it should be: as many orders
    failed: int = 0
    beyond: int = 0  # events behind a failed one, which nobody can verify
    unwalked: int = 0  # given up for trouble of the harness
    depth: int = 0  # of the longest verified order
    relocations: int = 0  # read back
    seconds: float = 0.0  # guests' time
    saves: int = 0
    restores: int = 0
    repeated: int = 0  # events done again to get to a state
    spent: dict[str, float] = field(default_factory=dict)  # seconds of walking, by what took them
    whole: bool = True  # the plan leaves out no state for its depth
    troubles: Counter[str] = field(default_factory=Counter)  # why -> events not walked

    @property
    def done(self) -> int:
        return self.verified + self.failed + self.beyond + self.unwalked

    @property
    def per_minute(self) -> float:
        """Verified orders in a minute of one guest."""
        return 60 * self.verified / self.seconds if self.seconds else 0.0


class Ground:
    """One module set on one architecture: its plan, handed out in errands, and what was found.

    May be used from several threads.
    """

    def __init__(self, bench: Bench, name: str, wanted: Wanted) -> None:
        self.bench = bench
        self.name = name
        self.tally = Tally()
        self.findings: tuple[Finding, ...] = ()
        self.done: set[Path] = set()
        self.dead: set[Path] = set()
        self.triage = threading.Lock()
        self._ahead: set[Path] = set()  # counted as planned, and handed out
        self._mutex = threading.Lock()
        self._wanted = wanted
        self._errands = self._all()

    def next(self) -> Errand | None:
        """The next part of the plan of which something is left, None when there is none."""
        with self._mutex:
            return next(self._errands, None)

    # --- what is told of the walk --------------------------------------------------------------

    def verified(self, path: Path, relocations: int) -> bool:
        """False when it was verified before, and is not to be counted again."""
        with self._mutex:
            if path in self.done:
                return False
            self.done.add(path)
            self._ahead.discard(path)
            self.tally.verified += 1
            self.tally.relocations += relocations
            self.tally.depth = max(self.tally.depth, len(path))
            return True

    def failed(self, path: Path, beyond: int) -> None:
        with self._mutex:
            self.dead.add(path)
            self.tally.failed += 1
            self.tally.beyond += beyond

    def unwalked(self, path: Path, edges: int, why: str) -> None:
        with self._mutex:
            self.tally.unwalked += edges
            self.tally.troubles[why] += edges
            # what is handed out again is planned again
            self._ahead = {way for way in self._ahead if way[: len(path)] != path}

    def spent(self, seconds: float, costs: Costs) -> None:
        """A guest's time on an errand, and what its walker has spent since it began."""
        with self._mutex:
            self.tally.seconds += seconds
            self.tally.saves += costs.saves
            self.tally.restores += costs.restores
            self.tally.repeated += costs.repeated
            for what, took in costs.spent.items():
                self.tally.spent[what] = self.tally.spent.get(what, 0.0) + took
            costs.saves = costs.restores = costs.repeated = 0
            costs.spent.clear()

    def __str__(self) -> str:
        return f"{self.bench.arch.name} {self.name}"

    # --- the plan ------------------------------------------------------------------------------

    def _all(self) -> Iterator[Errand]:
        wanted = self._wanted
        module_set = self.bench.sets[self.name].set
        able = self.bench.kernel.capabilities
        if wanted.strategy is Strategy.EXHAUSTIVE:
            yield from self._ever_deeper()
            return
        depth = wanted.depth or RANDOM_DEPTH
        chosen: Iterator[Order]
        if wanted.strategy is Strategy.PAIRS:
            chosen = iter(walk.pairs(module_set, able, depth, wanted.seed))
        else:
            chosen = walk.random_orders(module_set, able, depth, wanted.seed, wanted.choice)
            if wanted.budget is None:
                chosen = itertools.islice(chosen, wanted.orders)
        for order in chosen:
            yield from self._left(walk.chain(order))

    def _ever_deeper(self) -> Iterator[Errand]:
        """To the depth asked for; within a budget, depth by depth."""
        wanted = self._wanted
        depths: Iterator[int] = iter([wanted.depth or DEPTH])
        if wanted.budget is not None:
            depths = itertools.islice(itertools.count(1), wanted.depth)
        for depth in depths:
            plan = walk.exhaustive(
                self.bench.sets[self.name].set,
                self.bench.kernel.capabilities,
                depth,
                wanted.choice,
                merge=wanted.merge,
            )
            self.tally.states = plan.states
            self.tally.whole = plan.complete
            if wanted.budget is None:
                self.tally.planned = plan.edges
            for errand in walk.errands(plan.root, PART):
                yield from self._left(errand)
            if plan.complete:
                return

    def _left(self, errand: Errand) -> Iterator[Errand]:
        left = walk.undone(errand, self.done, self.dead)
        if left is not None:
            if self._wanted.budget is not None or self._wanted.strategy is not Strategy.EXHAUSTIVE:
                self.tally.planned += self._new(left)
            yield left

    def _new(self, errand: Errand) -> int:
        """How many of its events nobody has verified yet, nor another guest has before it."""
        before = len(self._ahead)

        def count(way: Path, branch: walk.Branch) -> None:
            self._ahead |= {(*way, event) for event in branch.settled} - self.done
            for child in branch.children:
                self._ahead |= {(*way, child.event)} - self.done
                count((*way, child.event), child)

        count(errand.before, errand.branch)
        return len(self._ahead) - before


@dataclass(frozen=True, slots=True)
class Listener:
    """Who hears of an exploration's course; called one at a time."""

    verified: Callable[[Ground, Path, Step, float], None]  # seconds
    failed: Callable[[Ground, Path, int], None]  # and events behind it that nobody can verify
    change: Callable[[Ground], None]  # totals or findings have changed
    found: Callable[[Ground, Way], Way]  # a new way; it comes back with its bundle
    guest: Callable[[GuestRecord], None]
    say: Callable[[str], None]


def explore(
    grounds: Sequence[Ground], wanted: Wanted, options: Options, listener: Listener
) -> None:
    """Walk every ground, the architectures side by side, with so many guests each.

    Trouble with guests is counted and stops nothing else. On Ctrl-C, and on whatever the listener
    raises, the guests are ended and it comes through.
    """
    stop = threading.Event()
    mutex = threading.Lock()
    end = None if wanted.budget is None else time.monotonic() + wanted.budget
    benches = {ground.bench.arch.name: ground.bench for ground in grounds}

    def guest(record: GuestRecord) -> None:
        with mutex:
            listener.guest(record)

    def rig(bench: Bench, cold: bool) -> Rig:
        cpus = 2 if wanted.choice.races else 1
        return Rig(bench, replace(options, cold=cold), stop, guest, cpus)

    def over() -> bool:
        return stop.is_set() or (end is not None and time.monotonic() > end)

    def work(mine: Rig) -> None:
        lanes = [
            _Lane(mine, rig(mine.bench, cold=True), ground, wanted, listener, mutex, over)
            for ground in grounds
            if ground.bench.arch.name == mine.bench.arch.name
        ]
        while lanes:  # in turn: a budget is for all of them
            lanes = [lane for lane in lanes if not over() and lane.errand()]

    rigs = [rig(bench, options.cold) for bench in benches.values() for _ in range(wanted.guests)]
    with_rigs(rigs, work, stop)


class _Lane:
    """One guest's part in one ground."""

    def __init__(
        self,
        rig: Rig,
        cold: Rig,
        ground: Ground,
        wanted: Wanted,
        listener: Listener,
        mutex: threading.Lock,
        over: Callable[[], bool],
    ) -> None:
        self._rig = rig
        self._cold = cold
        self._ground = ground
        self._tries = wanted.confirm
        self._listener = listener
        self._mutex = mutex
        self._hits: list[tuple[Path, Hit, int]] = []
        able = ground.bench.kernel.capabilities
        told = Told(self._verified, self._hit, ground.unwalked)
        self._walker = Walker(rig, ground.name, able, told, over)

    def errand(self) -> bool:
        """Walk the next part of the plan; False when there is none."""
        ground = self._ground
        errand = ground.next()
        if errand is None:
            return False
        began = time.monotonic()
        self._walker.walk(errand)
        ground.spent(time.monotonic() - began, self._walker.costs)
        with ground.triage, self._cold:
            self._sort_hits()
        with self._mutex:
            self._listener.change(ground)
        return True

    def _verified(self, path: Path, step: Step, seconds: float) -> None:
        if self._ground.verified(path, step.relocations_read):
            with self._mutex:
                self._listener.verified(self._ground, path, step, seconds)

    def _hit(self, path: Path, hit: Hit, beyond: int) -> None:
        self._ground.failed(path, beyond)
        self._hits.append((path, hit, beyond))

    def _sort_hits(self) -> None:
        """Told of only when it is sorted: what is not will be found again by who goes on later."""
        for path, hit, beyond in self._hits:
            self._sort(hit)
            if self._rig.stopped:
                return
            with self._mutex:
                self._listener.failed(self._ground, path, beyond)
        self._hits.clear()

    def _sort(self, hit: Hit) -> None:
        """Into the findings: a hit more of a way that is known, else a way of its own."""
        ground = self._ground
        like = of_step(hit.order.events[-1], hit.step)
        at = explained(ground.findings, like, hit.order)
        if at is not None:
            ground.findings = counted(ground.findings, at)
            return
        self._listener.say(f"{ground}: minimising {orders.format(hit.order)}")
        way = triage.way(
            ground.bench, ground.name, hit, like, self._rig.run, self._cold.run, self._tries
        )
        if self._rig.stopped:
            return  # what was tried after that says nothing
        with self._mutex:
            way = self._listener.found(ground, way)
        ground.findings = added(ground.findings, like, way)
