# SPDX-License-Identifier: GPL-2.0-only
"""One event on one guest, and one case. Both start as not known and are earned."""

from __future__ import annotations

import time
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace

from orchestrator.errors import GuestLost, HarnessError
from orchestrator.model.judge import crash_of, judge, judge_memory, with_cmdline
from orchestrator.model.model import State, outcomes
from orchestrator.model.orders import format_event, plain_events
from orchestrator.nouns import Event, Kernel
from orchestrator.run.lab import deadline
from orchestrator.run.observe import EVENT_SECONDS, Sight, observe_memory, observe_rest, perform
from orchestrator.verdicts import (
    SILENT,
    CaseResult,
    Check,
    CheckKind,
    Observation,
    Status,
    Step,
)
from orchestrator.vm.console import crash_title
from orchestrator.vm.guest import Guest


class EventRun:
    """An event on its way over a guest. `step` holds what is known so far, also after `take` has
    raised."""

    def __init__(self, guest: Guest, sight: Sight, event: Event) -> None:
        self.step = Step(format_event(event), (), 0.0, 0.0, 0)
        self._guest = guest
        self._sight = sight
        self._event = event
        self._mark = guest.console_mark()

    def take(
        self, state: State, previous: Observation | None, capabilities: AbstractSet[str]
    ) -> tuple[State, Observation]:
        """Do it, look, judge by every way in which it may end, and go on from the one that fits.

        previous: what was seen after the event before, None on a fresh guest. Raises GuestLost and
        HarnessError.
        """
        guest, sight = self._guest, self._sight
        until = deadline(sight.arch, EVENT_SECONDS * plain_events(self._event))
        possible = [
            (after, with_cmdline(expected, guest.cmdline))
            for after, expected in outcomes(sight.built.set, state, self._event, capabilities)
        ]
        began = time.monotonic()
        done = perform(guest, sight, self._event, until)
        took = time.monotonic() - began
        memory = observe_memory(guest, sight, done, took, until)
        _, checks = _fittest(
            [(a, judge_memory(e, memory, previous, sight.built)) for a, e in possible]
        )
        self.step = replace(
            self.step,
            checks=checks,
            seconds=took,
            readback_seconds=memory.readback_seconds,
            relocations_read=len(memory.relocations),
        )
        seen = observe_rest(guest, sight, memory, self._mark, until)
        after, checks = _fittest([(a, judge(e, seen, previous, sight.built)) for a, e in possible])
        self.step = replace(self.step, checks=checks)
        return after, seen

    def console(self) -> str:
        """What the console has printed since the event began."""
        return self._guest.console_since(self._mark)

    def end(self, lost: GuestLost) -> str | None:
        """The title of the crash, when console or QMP show that the kernel is to blame. The step
        says so, and also when the guest is silent, which proves nothing."""
        title = crash_of(crash_title(self.console()), self._guest.qmp_events())
        if title is not None or lost.silent:
            check = Check(CheckKind.HEALTH, "guest", "lives", title or SILENT, False)
            self.step = replace(self.step, checks=(*self.step.checks, check))
        return title


def _fittest(
    judged: Sequence[tuple[State, tuple[Check, ...]]],
) -> tuple[State, tuple[Check, ...]]:
    """What fewest checks speak against, the first on a tie."""
    return min(judged, key=lambda outcome: sum(not check.good for check in outcome[1]))


class CaseRun:
    """A case on its way over a guest that stands in its fresh state."""

    def __init__(self, guest: Guest, sight: Sight, kernel: Kernel, result: CaseResult) -> None:
        self._guest = guest
        self._sight = sight
        self._result = result
        self._capabilities = kernel.capabilities
        self._mark = guest.console_mark()
        self._taken: list[EventRun] = []

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
            title = self._taken[-1].end(lost) if self._taken else None
            status = Status.ERROR if title is None else Status.FAIL
            result = replace(result, status=status, reason=title or lost.whole)
        except HarnessError as trouble:
            result = replace(result, status=Status.ERROR, reason=trouble.whole)
        console = self._guest.console_since(self._mark)
        steps = tuple(taken.step for taken in self._taken)
        return replace(result, steps=steps, console=console)

    def _events(self) -> tuple[Status, str]:
        state, previous = State(), None
        for event in self._result.case.order.events:
            taken = EventRun(self._guest, self._sight, event)
            self._taken.append(taken)
            state, previous = taken.take(state, previous, self._capabilities)
            if not taken.step.good:
                wrong = next(check for check in taken.step.checks if not check.good)
                return Status.FAIL, f"{taken.step.event}: {wrong.subject}: {wrong.seen}"
        if not self._taken:
            return Status.ERROR, "the order has no events: nothing was checked"
        return Status.PASS, ""
