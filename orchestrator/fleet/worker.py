# SPDX-License-Identifier: GPL-2.0-only
"""What a worker does with a unit of work. Imported by name on every worker of a fleet.

A worker does one unit at a time, and keeps the guest of the last one for the next. Its guests end
with it, as all that klp-e2e starts does (`host.process`).
"""

from __future__ import annotations

import functools
import hashlib
import pickle
import platform
import threading
import time
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import orchestrator
from orchestrator import catalog
from orchestrator.build.prepare import Bootable
from orchestrator.errors import KlpError
from orchestrator.fleet import packing
from orchestrator.fleet.store import Store, local
from orchestrator.run.site import Site
from orchestrator.run.units import Unit
from orchestrator.verdicts import GuestRecord

IDLE_SECONDS = 60.0  # after which a guest that is kept for the next unit ends
SOURCES = ("*.py", "*.toml", "*.c", "*.h")


@dataclass(frozen=True, slots=True)
class Order:
    """A unit, and whose it is."""

    unit: Any  # without its bootable
    bootable: str  # digest of it in the store, as `packing.packed` makes it, pickled
    command: str  # a token of the command that asks
    identity: str
    store: str


@dataclass(frozen=True, slots=True)
class Done:
    """What came of it. `refused`: this worker takes nothing of this command, and why."""

    messages: tuple[Any, ...] = ()
    guests: tuple[GuestRecord, ...] = ()
    refused: str = ""
    seconds: float = 0.0


@functools.cache
def identity() -> str:
    """This klp-e2e: its version, and a digest of all that could make results differ. `0.1.0 ...`"""
    sums = hashlib.sha256()
    roots = [Path(orchestrator.__file__).parent]
    roots += [catalog.data_dir(name) for name in ("images/modules", "images/guest")]
    for root in roots:
        for path in sorted(each for pattern in SOURCES for each in root.rglob(pattern)):
            sums.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return f"{metadata.version('klp-e2e')}, {sums.hexdigest()[:16]}"


class Keeper:
    """The worker's site. One for a process: `KEEPER`."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._stop = threading.Event()
        self._guests: list[GuestRecord] = []
        self._site = Site(self._stop, self._guests.append)
        self._command = ""
        self._count = 0
        self._unpacked: tuple[str, Bootable] | None = None  # by its digest
        self._used = time.monotonic()
        self.store = ""  # the fleet's as it is seen from this machine, "" where that is no other

    def do(self, order: Order) -> Done:
        """In the worker's thread. Trouble of this machine, the store's included, is an answer, too:
        another worker may have none."""
        if order.identity != identity():
            return Done(refused=f"its klp-e2e is {identity()}, not {order.identity}")
        began = time.monotonic()
        messages: list[Any] = []
        with self._mutex:
            self._command = order.command
            if self._stop.is_set():
                self._stop = threading.Event()
                self._site = Site(self._stop, self._guests.append)
            try:
                unit = self._ready(order)
            except KlpError as err:
                return Done(refused=err.full_message)
            try:
                unit.do(self._site, messages.append)
                self._count += 1
            finally:
                self._command, self._used = "", time.monotonic()
            guests, self._guests[:] = tuple(self._guests), []
        return Done(tuple(messages), guests, "", time.monotonic() - began)

    def _ready(self, order: Order) -> Unit:
        """The unit with its bootable's files on this machine; one that was just here is kept."""
        if self._unpacked is None or self._unpacked[0] != order.bootable:
            here = functools.partial(local, Store(self.store or order.store))
            # it is what the command that asks has put there: its digest came from it
            packed = pickle.loads(here(order.bootable).read_bytes())
            self._unpacked = order.bootable, packing.unpacked(packed, here)
        unit: Unit = replace(order.unit, bootable=self._unpacked[1])
        return unit

    def told(self) -> str:
        """`debian, 3 units done, at one`"""
        busy = "at one" if self._command else "idle"
        return f"{platform.node()}, {self._count} units done, {busy}"

    def end(self, command: str) -> None:
        """From another thread: end at once what is done for this command."""
        if self._command == command:
            self._stop.set()
            self._site.kill()

    def rest(self) -> None:
        """From another thread, now and then: end the guest that nobody has used for long."""
        if time.monotonic() - self._used > IDLE_SECONDS and self._mutex.acquire(blocking=False):
            try:
                self._site.clear()
            finally:
                self._mutex.release()

    def close(self) -> None:
        """The worker ends."""
        self._stop.set()
        self._site.kill()
        with self._mutex:
            self._site.clear()


KEEPER = Keeper()


def do(order: Order) -> Done:
    return KEEPER.do(order)


def told() -> str:
    return KEEPER.told()


def end(command: str) -> None:
    KEEPER.end(command)
