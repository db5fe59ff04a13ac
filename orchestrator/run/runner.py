# SPDX-License-Identifier: GPL-2.0-only
"""One event on one guest, and one case. Both start as not known and are earned."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace

from orchestrator import kernelreports, plain
from orchestrator.deadline import Deadline
from orchestrator.errors import GuestLost, HarnessError, foreseen
from orchestrator.model import leaks, words
from orchestrator.model.culprit import not_the_kernels
from orchestrator.model.judge import crash_of, judge, judge_memory, with_cmdline
from orchestrator.model.leaks import Leak
from orchestrator.model.model import State, outcomes
from orchestrator.model.orders import format_event, plain_events
from orchestrator.model.places import remembered
from orchestrator.nouns import CaseKind, Event, Kernel
from orchestrator.plain import short
from orchestrator.run import held, leaking
from orchestrator.run.booting import deadline
from orchestrator.run.observe import (
    EVENT_SECONDS,
    GuestView,
    check_untouched,
    observe_memory,
    observe_rest,
    perform,
)
from orchestrator.verdicts import (
    CaseResult,
    Check,
    CheckKind,
    Expectation,
    Observation,
    Status,
    Step,
    proof,
)
from orchestrator.vm import marks
from orchestrator.vm.guest import Guest


class EventRun:
    """An event on its way over a guest. `step` holds what is known so far, also after `take` has
    raised."""

    def __init__(self, guest: Guest, view: GuestView, event: Event) -> None:
        self.step = Step(format_event(event), (), 0.0, 0.0, 0)
        self.warnings = 0  # of the set's own that were judged
        self._guest = guest
        self._view = view
        self._event = event
        self._mark = guest.console_untold()

    def take(
        self, state: State, previous: Observation | None, capabilities: AbstractSet[str]
    ) -> tuple[State, Observation]:
        """Do it, look, judge by every way in which it may end, and go on from the one that fits.

        previous: what was seen after the event before, None on a fresh guest. Raises GuestLost and
        HarnessError.
        """
        with foreseen():
            return self._taken(state, previous, capabilities)

    def _taken(
        self, state: State, previous: Observation | None, capabilities: AbstractSet[str]
    ) -> tuple[State, Observation]:
        guest, view = self._guest, self._view
        until = deadline(view.arch, EVENT_SECONDS * plain_events(self._event))
        possible = [
            (after, with_cmdline(expected, guest.cmdline))
            for after, expected in outcomes(view.built.set, state, self._event, capabilities)
        ]
        began = time.monotonic()
        done = perform(guest, view, self._event, until)
        took = time.monotonic() - began
        memory = remembered(observe_memory(guest, view, done, took, until), previous)
        _, checks = _fittest(
            [(a, judge_memory(e, memory, previous, view.built)) for a, e in possible]
        )
        self.step = replace(
            self.step,
            checks=checks,
            seconds=took,
            readback_seconds=memory.readback_seconds,
            relocations_read=len(memory.relocations),
        )
        seen = observe_rest(guest, view, memory, self._mark, until, _unsafe(view, possible))
        after, checks = _fittest([(a, judge(e, seen, previous, view.built)) for a, e in possible])
        self.step = replace(self.step, checks=checks)
        self.warnings = len(seen.warnings)
        if not self.step.good and (why := guest.stood_still()):
            raise HarnessError(why, hint="is this host, or QEMU, being stopped now and then?")
        wrong = {check.kind for check in checks if not check.good}
        if wrong and wrong <= {CheckKind.SYSFS, CheckKind.VALUE}:
            held.check(guest, view.built.set, seen.patches, deadline(view.arch, EVENT_SECONDS))
        if self.step.good:
            check_untouched(guest, memory.relocations, until)
        return after, seen

    def console(self) -> str:
        """What the console has printed since the event began."""
        return plain.excerpt(self._guest.console_since(self._mark))

    def speak(self, late: Sequence[str]) -> None:
        """Note what the kernel complained of after the event had been judged."""
        self.note(_late(tuple(late), self._complaints()))

    def _complaints(self) -> str:
        """The same without the warnings that the set's own functions are to make."""
        printed = self._guest.console_since(self._mark)
        return kernelreports.without(printed, self._view.built.set.warnings)[0]

    def note(self, check: Check) -> None:
        """What was looked at after the event had been judged."""
        self.step = replace(self.step, checks=(*self.step.checks, check))

    def end(self, lost: GuestLost) -> str | None:
        """Why the kernel is to blame: the title of the crash, when console or QMP show it (for a
        QEMU that has ended, an oops or a panic), or a relocation that was read to be wrong before
        the guest hung. The step says so, and what was reported before it; and also when the guest
        is silent, which by itself proves nothing."""
        printed = self._complaints()
        said = kernelreports.death_title if lost.ended else kernelreports.crash_title
        first = kernelreports.crash_title(printed)
        title = crash_of(said(printed), self._guest.qmp_events())
        if self._guest.stood_still():
            return None
        relocations = (c for c in self.step.checks if c.kind is CheckKind.RELOCATION)
        wrong = next((check for check in relocations if not check.good), None)
        if title is not None or lost.silent:
            before = kernelreports.reports(printed)[:1] if said(printed) != first else ()
            told = [_late(before, printed)] if before else []
            check = dead(title, printed, lost.ended)
            self.step = replace(self.step, checks=(*self.step.checks, *told, check))
        if title is None and lost.silent and wrong is not None:
            return f"{wrong.subject}: {short(wrong.seen)}; then the guest hung"
        return title


def dead(title: str | None, console: str, ended: bool) -> Check:
    """See `words.dead`: with what the console tells of where. ended: QEMU is gone."""
    found = kernelreports.frames(console, ended), kernelreports.fault(console, ended)
    return words.dead(title, *found)


def _late(reports: tuple[str, ...], console: str) -> Check:
    return words.late(reports, kernelreports.frames(console), kernelreports.fault(console))


def _unsafe(view: GuestView, possible: Sequence[tuple[State, Expectation]]) -> frozenset[str]:
    """The probes that may crash the guest: the model does not say what they show."""
    promised = {name for _, expected in possible for name in expected.probes}
    probes = view.built.set.probes
    return frozenset(p.name for p in probes if p.at == "now" and p.name not in promised)


def _fittest(
    judged: Sequence[tuple[State, tuple[Check, ...]]],
) -> tuple[State, tuple[Check, ...]]:
    """What fewest checks speak against, the first on a tie."""
    return min(judged, key=lambda outcome: sum(not check.good for check in outcome[1]))


class CaseRun:
    """A case on its way over a guest that stands in its fresh state."""

    def __init__(
        self,
        guest: Guest,
        view: GuestView,
        kernel: Kernel,
        result: CaseResult,
        leaks: Collection[Leak] | None = None,
    ) -> None:
        """leaks: what the guest loses that is only looked at; None: its kernel does not tell."""
        self._guest = guest
        self._view = view
        self._leaks = leaks
        self._result = result
        self._capabilities = kernel.capabilities
        self._mark = guest.console_mark()
        self._taken: list[EventRun] = []
        self._culprit = ""

    def run_events(self) -> CaseResult:
        """Do every event and check everything after it, up to the first that is wrong.

        Whatever goes wrong with guest or harness is in the result; nothing is raised but Ctrl-C.
        """
        result = self._result
        try:
            token = self._guest.mark(self._soon())
            status, reason = self._events()
            if status is Status.PASS and self._leaks is not None:
                status, reason = self._lost(self._leaks)
            result = replace(result, culprit=self._culprit)
            dmesg = self._guest.run_command("dmesg", self._soon())
            if status is Status.PASS:
                status, reason = self._silence(marks.logged_since(token, dmesg))
            dmesg = marks.without_marks(dmesg)
            result = replace(result, status=status, reason=reason, dmesg=dmesg)
        except GuestLost as lost:
            title = self._taken[-1].end(lost) if self._taken else None
            status = Status.ERROR if title is None else Status.FAIL
            result = replace(result, status=status, reason=title or lost.full_message)
        except HarnessError as err:
            result = replace(result, status=Status.ERROR, reason=err.full_message)
        printed = plain.excerpt(self._guest.console_since(self._mark))
        return replace(result, steps=self._steps(), console=printed)

    def _steps(self) -> tuple[Step, ...]:
        return tuple(taken.step for taken in self._taken)

    def _events(self) -> tuple[Status, str]:
        state, previous = State(), None
        for event in self._result.case.order.events:
            taken = EventRun(self._guest, self._view, event)
            self._taken.append(taken)
            state, previous = taken.take(state, previous, self._capabilities)
            if not taken.step.good:
                if why := not_the_kernels(taken.step, self._view.built, previous.refusals):
                    self._culprit = why
                    return Status.ERROR, f"{taken.step.event}: {why}"
                wrong = next(check for check in taken.step.checks if not check.good)
                return Status.FAIL, f"{taken.step.event}: {wrong.subject}: {short(wrong.seen)}"
        if not self._taken:
            return Status.ERROR, "the order has no events: nothing was checked"
        if self._result.case.kind is CaseKind.ORDER and not proof(self._steps()).events:
            return Status.ERROR, "every event was refused, as it should be: nothing was proved"
        return Status.PASS, ""

    def _silence(self, log: str) -> tuple[Status, str]:
        """What the kernel has said since its last event was judged belongs to that event. And what
        its log knows the console must have shown, or the console has proved nothing."""
        promised = self._view.built.set.warnings
        printed = self._guest.printed(self._mark, self._soon())
        complaints, warnings = kernelreports.without(printed, promised)
        judged = sum(taken.warnings for taken in self._taken)
        said = (*kernelreports.reports(complaints), *warnings[judged:])
        if said:
            last = self._taken[-1]
            last.speak(said)
            return Status.FAIL, f"{last.step.event}: console: {'; '.join(said)}"
        if unseen := kernelreports.reports(kernelreports.without(log, promised)[0]):
            raise HarnessError(
                f"the kernel's log has what its console did not show: {'; '.join(unseen)}",
                hint="what has taken its parameter ignore_loglevel back, or printk's time stamps?",
            )
        return Status.PASS, ""

    def _lost(self, before: Collection[Leak]) -> tuple[Status, str]:
        """The memory that the order has lost belongs to its last event."""
        found = leaking.look(self._guest, self._view.arch)
        check = leaks.check(found, before, self._view.built.modules)
        last = self._taken[-1]
        last.note(check)
        if check.good:
            return Status.PASS, ""
        return Status.FAIL, f"{last.step.event}: {check.subject}: {short(check.seen)}"

    def _soon(self) -> Deadline:
        return deadline(self._view.arch, EVENT_SECONDS)
