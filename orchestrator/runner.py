# SPDX-License-Identifier: GPL-2.0-only
"""One case on one guest. It starts as ERROR and is earned event by event."""

from __future__ import annotations

import time
from dataclasses import replace

from orchestrator.console import crash_title
from orchestrator.errors import GuestLost, HarnessError
from orchestrator.guest import Guest
from orchestrator.judge import crash_of, judge, judge_memory, with_cmdline
from orchestrator.lab import deadline
from orchestrator.model import expectations
from orchestrator.nouns import Event, Kernel
from orchestrator.observe import Sight, observe_memory, observe_rest, perform
from orchestrator.orders import format_event
from orchestrator.verdicts import (
    CaseResult,
    Check,
    CheckKind,
    Expectation,
    Observation,
    Status,
    Step,
)

EVENT_SECONDS = 20.0  # for one event, or one look; times the architecture's time_scale


class CaseRun:
    """A case on its way over a guest that stands in its fresh state."""

    def __init__(self, guest: Guest, sight: Sight, kernel: Kernel, result: CaseResult) -> None:
        self._guest = guest
        self._sight = sight
        self._result = result
        self._mark = guest.console_mark()
        self._steps: list[Step] = []
        self._expected = expectations(sight.built.set, result.case.order, kernel.capabilities)

    def run(self) -> CaseResult:
        """Do every event and check everything after it, up to the first that is wrong.

        Whatever goes wrong with guest or harness is in the result; nothing is raised but Ctrl-C.
        """
        result = self._result
        try:
            status, reason = self._events()
            dmesg = self._guest.run("dmesg", deadline(self._sight.arch, EVENT_SECONDS))
            result = replace(result, status=status, reason=reason, dmesg=dmesg)
        except GuestLost as lost:
            status, reason = self._lost(lost)
            result = replace(result, status=status, reason=reason)
        except HarnessError as trouble:
            result = replace(result, status=Status.ERROR, reason=trouble.whole)
        console = self._guest.console_since(self._mark)
        return replace(result, steps=tuple(self._steps), console=console)

    def _events(self) -> tuple[Status, str]:
        previous: Observation | None = None
        for event, expected in zip(self._result.case.order.events, self._expected, strict=True):
            previous = self._event(event, expected, previous)
            step = self._steps[-1]
            if not step.good:
                wrong = next(check for check in step.checks if not check.good)
                return Status.FAIL, f"{step.event}: {wrong.subject}: {wrong.seen}"
        if not self._steps:
            return Status.ERROR, "the order has no events: nothing was checked"
        return Status.PASS, ""

    def _event(
        self, event: Event, expected: Expectation, previous: Observation | None
    ) -> Observation:
        """Do it, look, judge, and keep the step, also when GuestLost is raised on the way."""
        guest, sight = self._guest, self._sight
        mark = guest.console_mark()
        until = deadline(sight.arch, EVENT_SECONDS)
        expected = with_cmdline(expected, guest.cmdline)
        step = Step(format_event(event), (), 0.0, 0.0, 0)
        try:
            began = time.monotonic()
            errno = perform(guest, sight, event, until)
            took = time.monotonic() - began
            memory = observe_memory(guest, sight, errno, took, until)
            step = replace(
                step,
                checks=judge_memory(expected, memory, previous, sight.built),
                seconds=took,
                readback_seconds=memory.readback_seconds,
                relocations_read=len(memory.relocations),
            )
            seen = observe_rest(guest, sight, memory, mark, until)
            step = replace(step, checks=judge(expected, seen, previous, sight.built))
        finally:
            self._steps.append(step)
        return seen

    def _lost(self, lost: GuestLost) -> tuple[Status, str]:
        """FAIL when console or QMP show that the kernel crashed, else the harness's trouble."""
        console = self._guest.console_since(self._mark)
        title = crash_of(crash_title(console), self._guest.qmp_events())
        if title is None:
            return Status.ERROR, lost.whole
        check = Check(CheckKind.HEALTH, "guest", "lives", title, False)
        last = self._steps[-1]
        self._steps[-1] = replace(last, checks=(*last.checks, check))
        return Status.FAIL, title
