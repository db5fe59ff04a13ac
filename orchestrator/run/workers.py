# SPDX-License-Identifier: GPL-2.0-only
"""Who does units of work: this machine, on several guests side by side."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Container, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import Any, Protocol

from orchestrator.build.prepare import Bootable
from orchestrator.host import process
from orchestrator.model.orders import format as notation
from orchestrator.nouns import Case
from orchestrator.run.site import Site
from orchestrator.run.slot import GuestOptions
from orchestrator.run.units import CaseQueue, Queue
from orchestrator.verdicts import CaseResult, GuestRecord

LOOK_SECONDS = 0.5

OnResult = Callable[[CaseResult], None]
OnGuest = Callable[[GuestRecord], None]


class Executor(Protocol):
    @property
    def grain(self) -> int:
        """How many cases a unit has: handing one out costs something."""

    def perform(self, queues: Sequence[Queue]) -> None:
        """Do every unit of every queue, the queues side by side. On Ctrl-C, and on whatever a queue
        raises, the guests are ended at once and it comes through."""


class Here:
    """This machine: for each queue as many sites as it is wide."""

    grain = 1

    def perform(self, queues: Sequence[Queue]) -> None:
        stop = threading.Event()
        mutex = threading.Lock()
        works = []
        sites = []
        for queue in queues:
            turn = threading.Lock()
            for _ in range(queue.width):
                sites.append(Site(stop, functools.partial(_in_turn, mutex, queue.guest)))
                works.append(functools.partial(_work, queue, sites[-1], turn, mutex))

        def end() -> None:
            for site in sites:
                site.kill()

        side_by_side(works, stop, end)


def _in_turn(mutex: threading.Lock, told: Callable[[Any], None], message: Any) -> None:
    with mutex:
        told(message)


def _work(queue: Queue, site: Site, turn: threading.Lock, mutex: threading.Lock) -> None:
    with site:
        while not site.stopped:
            with turn:
                unit = queue.next()
            if unit is None:
                return

            def tell(message: Any, unit: Any = unit) -> None:
                with mutex:
                    if not site.stopped:
                        queue.told(unit, message)

            unit.do(site, tell)


def run_cases(
    bootables: Sequence[Bootable],
    cases: Sequence[Case],
    options: GuestOptions,
    on_result: OnResult,
    on_guest: OnGuest = lambda record: None,
    done: Container[tuple[str, str, str]] = (),
    executor: Executor | None = None,
) -> None:
    """Run every case on every bootable, the bootables, and the guests of each, side by side.

    `done`: (architecture, SET/NAME, order) of those that need not run.
    `on_result` and `on_guest` are called from several threads, one call at a time.
    """
    executor = executor or Here()
    queues = []
    for bootable in bootables:
        name = bootable.arch.name
        left = [c for c in cases if (name, c.label, notation(c.order)) not in done]
        queues.append(CaseQueue(bootable, left, options, on_result, on_guest, executor.grain))
    executor.perform(queues)


def wait_for(futures: Iterable[Future[None]]) -> None:
    """Until all have ended; raises what one of them does, at once. An interrupt that another thread
    took for the main one, as the kernel may have it, is noticed in LOOK_SECONDS."""
    left = set(futures)
    while left:
        done, left = wait(left, LOOK_SECONDS, FIRST_EXCEPTION)
        for future in done:
            future.result()


def side_by_side(
    works: Sequence[Callable[[], None]], stop: threading.Event, end: Callable[[], None]
) -> None:
    """Each in a thread of its own. On Ctrl-C, and on whatever one raises: `stop` is set, `end` is
    called to end their guests, all our processes are ended, and it comes through.

    Until the last has ended, what one starts even then is ended, too: a guest that boots is no
    slot's yet, and whoever prepares a tree knows nothing of `stop`, and goes on to compile it.
    """
    with ThreadPoolExecutor(max(1, len(works)), thread_name_prefix="guest") as pool:
        futures = [pool.submit(work) for work in works]
        try:
            wait_for(futures)
        except BaseException:
            stop.set()
            end()
            process.end_all()
            while wait(futures, LOOK_SECONDS).not_done:
                process.end_all()
            raise
