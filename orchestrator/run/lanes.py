# SPDX-License-Identifier: GPL-2.0-only
"""Work on several guests at once: one lane each, side by side."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Container, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from orchestrator.build.prepare import Bench
from orchestrator.host import process
from orchestrator.model.orders import format as notation
from orchestrator.nouns import Case
from orchestrator.run.rig import Options, Rig
from orchestrator.verdicts import CaseResult, GuestRecord

OnResult = Callable[[CaseResult], None]
OnGuest = Callable[[GuestRecord], None]


def run_cases(
    benches: Sequence[Bench],
    cases: Sequence[Case],
    options: Options,
    on_result: OnResult,
    on_guest: OnGuest = lambda record: None,
    run: Callable[[Rig, Case], CaseResult] = Rig.run,
    done: Container[tuple[str, str, str]] = (),
) -> None:
    """Run every case on every bench, the benches, and the guests of each, side by side.

    `done`: (architecture, SET/NAME, order) of those that need not run.
    `on_result` and `on_guest` are called from the lanes' threads, one call at a time. On Ctrl-C,
    and on whatever a callback raises, the guests are ended at once and it comes through.
    """
    mutex = threading.Lock()
    stop = threading.Event()

    def guest(seen: GuestRecord) -> None:
        with mutex:
            on_guest(seen)

    def lane(rig: Rig) -> None:
        """The cases in turn; a guest that is lost or misbehaves is replaced by a new one."""
        while not stop.is_set():
            with mutex:
                case = next(waiting[rig], None)
            if case is None:
                return
            result = run(rig, case)
            with mutex:
                if stop.is_set():
                    return  # an interrupted case has no result
                on_result(result)

    waiting: dict[Rig, Iterator[Case]] = {}
    for bench in benches:
        # one for all guests of this bench
        name = bench.arch.name
        left = iter([c for c in cases if (name, c.label, notation(c.order)) not in done])
        waiting |= {Rig(bench, options, stop, guest): left for _ in range(options.guests)}
    with_rigs(list(waiting), lane, stop)


def with_rigs(rigs: Sequence[Rig], work: Callable[[Rig], None], stop: threading.Event) -> None:
    """Do `work` with each rig, side by side, and end its guest; see `side_by_side`."""

    def lane(rig: Rig) -> None:
        with rig:
            work(rig)

    def end() -> None:
        for rig in rigs:
            rig.kill()

    side_by_side([functools.partial(lane, rig) for rig in rigs], stop, end)


def side_by_side(
    works: Sequence[Callable[[], None]], stop: threading.Event, end: Callable[[], None]
) -> None:
    """Each in a thread of its own. On Ctrl-C, and on whatever one raises: `stop` is set, `end` is
    called to end their guests, all our processes are ended, and it comes through."""
    with ThreadPoolExecutor(max(1, len(works)), thread_name_prefix="guest") as pool:
        try:
            for future in [pool.submit(work) for work in works]:
                future.result()
        except BaseException:
            stop.set()
            end()
            process.end_all()  # a guest that still boots is no rig's yet
            raise
