# SPDX-License-Identifier: GPL-2.0-only
"""Work on several guests at once: one worker each, side by side."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait

from orchestrator.build.prepare import Bootable
from orchestrator.host import process
from orchestrator.model.orders import format as notation
from orchestrator.nouns import Case
from orchestrator.run.slot import GuestOptions, GuestSlot
from orchestrator.verdicts import CaseResult, GuestRecord

LOOK_SECONDS = 0.5

OnResult = Callable[[CaseResult], None]
OnGuest = Callable[[GuestRecord], None]


def run_cases(
    bootables: Sequence[Bootable],
    cases: Sequence[Case],
    options: GuestOptions,
    on_result: OnResult,
    on_guest: OnGuest = lambda record: None,
    run: Callable[[GuestSlot, Case], CaseResult] = GuestSlot.run_case,
    done: Container[tuple[str, str, str]] = (),
) -> None:
    """Run every case on every bootable, the bootables, and the guests of each, side by side.

    `done`: (architecture, SET/NAME, order) of those that need not run.
    `on_result` and `on_guest` are called from the workers' threads, one call at a time. On Ctrl-C,
    and on whatever a callback raises, the guests are ended at once and it comes through.
    """
    mutex = threading.Lock()
    stop = threading.Event()

    def guest(seen: GuestRecord) -> None:
        with mutex:
            on_guest(seen)

    def worker(slot: GuestSlot) -> None:
        """The cases in turn; a guest that is lost or misbehaves is replaced by a new one."""
        while not stop.is_set():
            with mutex:
                case = next(waiting[slot], None)
            if case is None:
                return
            result = run(slot, case)
            with mutex:
                if stop.is_set():
                    return  # an interrupted case has no result
                on_result(result)

    waiting: dict[GuestSlot, Iterator[Case]] = {}
    for bootable in bootables:
        # one for all guests of this bootable
        name = bootable.arch.name
        left = iter([c for c in cases if (name, c.label, notation(c.order)) not in done])
        waiting |= {GuestSlot(bootable, options, stop, guest): left for _ in range(options.guests)}
    with_slots(list(waiting), worker, stop)


def with_slots(
    slots: Sequence[GuestSlot], work: Callable[[GuestSlot], None], stop: threading.Event
) -> None:
    """Do `work` with each slot, side by side, and end its guest; see `side_by_side`."""

    def worker(slot: GuestSlot) -> None:
        with slot:
            work(slot)

    def end() -> None:
        for slot in slots:
            slot.kill()

    side_by_side([functools.partial(worker, slot) for slot in slots], stop, end)


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
