# SPDX-License-Identifier: GPL-2.0-only
"""Work on several guests at once: one lane each, side by side."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from orchestrator import process
from orchestrator.nouns import Case
from orchestrator.prepare import Bench
from orchestrator.rig import Options, Rig
from orchestrator.verdicts import CaseResult, GuestRecord

OnResult = Callable[[CaseResult], None]
OnGuest = Callable[[GuestRecord], None]


def run_cases(
    benches: Sequence[Bench],
    cases: Sequence[Case],
    options: Options,
    on_result: OnResult,
    on_guest: OnGuest = lambda record: None,
) -> None:
    """Run every case on every bench, the benches side by side.

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
        for case in cases:
            if stop.is_set():
                return
            result = rig.run(case)
            with mutex:
                if stop.is_set():
                    return  # an interrupted case has no result
                on_result(result)

    side_by_side([Rig(bench, options, stop, guest) for bench in benches], lane, stop)


def side_by_side(rigs: Sequence[Rig], work: Callable[[Rig], None], stop: threading.Event) -> None:
    """Do `work` with each rig in a thread of its own, and end its guest.

    On Ctrl-C, and on whatever `work` raises: `stop` is set, the guests are ended, and it comes
    through.
    """

    def lane(rig: Rig) -> None:
        with rig:
            work(rig)

    with ThreadPoolExecutor(max_workers=max(1, len(rigs))) as pool:
        try:
            for future in [pool.submit(lane, rig) for rig in rigs]:
                future.result()
        except BaseException:
            stop.set()
            for rig in rigs:
                rig.kill()
            process.end_all()  # a guest that still boots is no rig's yet
            raise
