# SPDX-License-Identifier: GPL-2.0-only
"""Many cases: one lane per architecture, side by side. A lane's guest goes back to its fresh state
between cases, by a snapshot or by a new boot."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace

from orchestrator import known, lab, process
from orchestrator.errors import GuestLost, HarnessError
from orchestrator.guest import Channel, Guest
from orchestrator.lab import deadline
from orchestrator.nouns import Case
from orchestrator.observe import Sight
from orchestrator.prepare import Bench
from orchestrator.runner import CaseRun
from orchestrator.verdicts import CaseResult, CheckKind, GuestRecord, Status

SNAPSHOT_SECONDS = 10.0  # to save or restore; times the architecture's time_scale
BOOTS_IN_VAIN = 2  # after so many in a row nobody waits for another one
FRESH = "fresh"  # the snapshot of a booted guest before its first case

OnResult = Callable[[CaseResult], None]
OnGuest = Callable[[GuestRecord], None]


@dataclass(frozen=True, slots=True)
class Options:
    """How to run, as opposed to what (`Bench`) and which (`Case`)."""

    cold: bool = False  # boot for every case instead of restoring a snapshot
    channel: Channel = Channel.AGENT


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

    def result(seen: CaseResult) -> None:
        with mutex:
            on_result(seen)

    def guest(seen: GuestRecord) -> None:
        with mutex:
            on_guest(seen)

    lanes = [Lane(bench, options, stop, result, guest) for bench in benches]
    with ThreadPoolExecutor(max_workers=max(1, len(lanes))) as pool:
        try:
            for future in [pool.submit(lane.run, cases) for lane in lanes]:
                future.result()
        except BaseException:
            stop.set()
            for lane in lanes:
                lane.kill()
            process.end_all()  # a guest that still boots is no lane's yet
            raise


class Lane:
    """One architecture's guest and the cases that go over it."""

    def __init__(
        self,
        bench: Bench,
        options: Options,
        stop: threading.Event,
        on_result: OnResult,
        on_guest: OnGuest,
    ) -> None:
        self._bench = bench
        self._options = options
        self._stop = stop
        self._on_result = on_result
        self._on_guest = on_guest
        self._life = ExitStack()
        self._guest: Guest | None = None
        self._sights: Mapping[str, Sight] = {}
        self._cold = True  # the guest was booted, not restored, for the case at hand
        self._in_vain: list[HarnessError] = []  # why the last boots in a row failed

    def run(self, cases: Sequence[Case]) -> None:
        """Run the cases in turn; a guest that is lost or misbehaves is replaced by a new one."""
        with ExitStack() as stack:
            stack.callback(self._discard)
            for case in cases:
                if self._stop.is_set():
                    return
                result = self._run(case)
                if self._stop.is_set():
                    return  # an interrupted case has no result
                self._on_result(result)

    def kill(self) -> None:
        """End the guest now, from another thread: whoever waits for it gets GuestLost."""
        guest = self._guest
        if guest is not None:
            guest.machine.kill()

    def _run(self, case: Case) -> CaseResult:
        began = time.monotonic()
        result = CaseResult(case=case, arch=self._bench.arch.name)
        try:
            if len(self._in_vain) == BOOTS_IN_VAIN:
                raise self._in_vain[-1]
            guest = self._fresh_guest()
        except HarnessError as trouble:
            self._discard()
            result = replace(result, reason=trouble.whole)
            if isinstance(trouble, GuestLost):
                result = replace(result, console=trouble.console)
                if trouble.crash is not None:
                    reason = f"{trouble.crash}, while booting"
                    result = replace(result, status=Status.FAIL, reason=reason)
        else:
            result = replace(result, qemu_argv=guest.machine.argv, cold=self._cold)
            sight = self._sights[case.module_set]
            result = CaseRun(guest, sight, self._bench.kernel, result).run()
            if self._options.cold or guest.machine.broken or _ill(result):
                self._discard()
        result = replace(result, seconds=time.monotonic() - began)
        return known.judge_known(result, self._bench.kernel, self._bench.known_issues)

    def _fresh_guest(self) -> Guest:
        """The guest in its freshly booted state: restored, or booted where that cannot be."""
        if self._guest is not None:
            try:
                self._guest.restore(FRESH, deadline(self._bench.arch, SNAPSHOT_SECONDS))
            except HarnessError:
                # It says nothing of the kernel that a guest cannot go back: boot another one.
                self._discard()
            else:
                self._cold = False
                return self._guest
        self._cold = True
        try:
            guest = self._boot()
        except HarnessError as trouble:
            self._in_vain.append(trouble)
            raise
        self._in_vain.clear()
        return guest

    def _boot(self) -> Guest:
        channel = self._options.channel
        guest = self._life.enter_context(
            lab.booted(self._bench, channel=channel, on_end=self._on_guest)
        )
        self._guest = guest
        if self._stop.is_set():
            guest.machine.kill()  # `kill` came while there was no guest to be killed
        self._sights = lab.sights(self._bench, guest)
        if not self._options.cold:
            guest.save(FRESH, deadline(self._bench.arch, SNAPSHOT_SECONDS))
        return guest

    def _discard(self) -> None:
        self._guest = None
        self._sights = {}
        self._life.close()


def _ill(result: CaseResult) -> bool:
    """Whether this guest is not to be trusted any more, snapshot or not."""
    return any(
        not check.good and check.kind is CheckKind.HEALTH
        for step in result.steps
        for check in step.checks
    )
