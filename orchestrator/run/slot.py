# SPDX-License-Identifier: GPL-2.0-only
"""One architecture's guest, kept between uses: fresh again by a snapshot, or by a new boot where
that cannot be."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

from orchestrator.build.prepare import Bootable
from orchestrator.deadline import Deadline
from orchestrator.errors import GuestLost, HarnessError, KlpError, foreseen
from orchestrator.model import known
from orchestrator.model.leaks import Leak
from orchestrator.model.orders import largest_race
from orchestrator.nouns import Accel, Case, Channel
from orchestrator.run import booting, leaking
from orchestrator.run.observe import GuestView
from orchestrator.run.runner import CaseRun
from orchestrator.verdicts import CaseResult, CheckKind, GuestRecord, Status, Step
from orchestrator.vm.guest import Guest

SNAPSHOT_SECONDS = 10.0  # to save or restore; times the architecture's time_scale
BOOTS_IN_VAIN = 2  # after so many in a row nobody waits for another one
FRESH = "fresh"  # the snapshot of a booted guest before its first event


@dataclass(frozen=True, slots=True)
class GuestOptions:
    """How guests are used, as opposed to what runs on them."""

    cold: bool = False  # boot for every case instead of restoring a snapshot
    channel: Channel = Channel.AGENT
    guests: int = 1  # of each bootable, side by side; each takes the next case
    accel: Accel = Accel.AUTO


class GuestSlot:
    """A context manager: the guest, if there is one, ends with it."""

    def __init__(
        self,
        bootable: Bootable,
        options: GuestOptions,
        stop: threading.Event,
        on_guest: Callable[[GuestRecord], None] = lambda record: None,
        cpus: int = 1,
    ) -> None:
        """stop: set when everything is to end; cpus: of a guest for whatever is not a race."""
        self.bootable = bootable
        self.booted = True  # the guest was booted, not restored, by the last `fresh`
        self._options = options
        self._stop = stop
        self._on_guest = on_guest
        self._cpus = max(cpus, bootable.arch.cpus)
        self._life = ExitStack()
        self._guest: Guest | None = None
        self._views: Mapping[str, GuestView] = {}
        self._leaks: tuple[Leak, ...] | None = None  # of a guest that is only looked at
        self._in_vain: list[HarnessError] = []  # why the last boots in a row failed

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        err: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.discard()

    @property
    def _cold(self) -> bool:
        """Is each use a boot?"""
        return self._options.cold or not self.bootable.arch.snapshots

    @property
    def stopped(self) -> bool:
        """Is everything to end?"""
        return self._stop.is_set()

    def fresh(self, cpus: int = 1) -> Guest:
        """The guest in its freshly booted state, with so many CPUs or those of the slot.

        A race has a guest of its own: on several CPUs every transition takes its time, up to the
        second after which the kernel tries again (kernel/livepatch/transition.c). Raises
        HarnessError when there is none to be had, at once where the last boots failed too.
        """
        if self.stopped:
            raise HarnessError("no guest is booted any more: all is to end")
        if len(self._in_vain) == BOOTS_IN_VAIN:
            raise self._in_vain[-1]
        cpus = max(cpus, self._cpus)
        if self._guest is not None and (self._cold or self._guest.machine.arch.cpus != cpus):
            self.discard()
        if self._guest is not None:
            try:
                self._guest.restore(FRESH, self.snapshot_deadline())
            except HarnessError:
                # It says nothing of the kernel that a guest cannot go back: boot another one.
                self.discard()
            else:
                self.booted = False
                return self._guest
        self.booted = True
        try:
            guest = self._boot(cpus)
        except HarnessError as err:
            self._in_vain.append(err)
            if self._guest is not None:
                err.argv = self._guest.machine.argv
            self.discard()
            raise
        self._in_vain.clear()
        return guest

    def view(self, module_set: str) -> GuestView:
        """How to look at a module set in the guest that `fresh` gave."""
        return self._views[module_set]

    def snapshot_deadline(self) -> Deadline:
        return booting.deadline(self.bootable.arch, SNAPSHOT_SECONDS)

    def discard(self) -> None:
        """End the guest; `fresh` boots another one."""
        self._guest = None
        self._views = {}
        self._life.close()

    def kill(self) -> None:
        """End the guest now, from another thread: whoever waits for it gets GuestLost."""
        guest = self._guest
        if guest is not None:
            guest.machine.kill()

    def run_case(self, case: Case) -> CaseResult:
        """One case on a fresh guest, judged; nothing is raised but Ctrl-C."""

        def on_guest(guest: Guest, result: CaseResult) -> CaseResult:
            return CaseRun(
                guest, self.view(case.module_set), self.bootable.kernel, result, self._leaks
            ).run_events()

        result = self.use(case, on_guest)
        return judged(result, self.bootable)

    def use(self, case: Case, on_guest: Callable[[Guest, CaseResult], CaseResult]) -> CaseResult:
        """What `on_guest` makes of a fresh guest and of the result so far, in which the rest is
        filled in; where there is no guest, why. Nothing is raised but Ctrl-C."""
        began = time.monotonic()
        result = CaseResult(case=case, arch=self.bootable.arch.name)
        try:
            with foreseen():
                guest = self.fresh(largest_race(case.order))
        except HarnessError as err:
            result = replace(result, reason=err.full_message, qemu_argv=err.argv)
            if isinstance(err, GuestLost):
                result = replace(result, console=err.console)
                if err.crash is not None:
                    reason = f"{err.crash}, while booting"
                    result = replace(result, status=Status.FAIL, reason=reason)
        else:
            result = replace(result, qemu_argv=guest.machine.argv, cold=self.booted)
            try:
                with foreseen():
                    result = on_guest(guest, result)
            except KlpError as err:
                result = replace(result, status=Status.ERROR, reason=err.full_message)
            if result.status is Status.FAIL and (why := guest.stood_still()):
                result = replace(result, status=Status.ERROR, reason=f"{why}: {result.reason}")
            # after ERROR nobody knows what the guest, or its channel, would say next
            worn = self._cold or guest.machine.broken or result.status is Status.ERROR
            if worn or any(map(ill, result.steps)):
                self.discard()
        return replace(result, seconds=time.monotonic() - began)

    def _boot(self, cpus: int) -> Guest:
        guest = self._life.enter_context(
            booting.booted(
                self.bootable,
                channel=self._options.channel,
                accel=self._options.accel,
                cpus=cpus,
                on_end=self._on_guest,
            )
        )
        self._guest = guest
        if self.stopped:
            guest.machine.kill()  # `kill` came while there was no guest to be killed
        self._views = booting.views(self.bootable, guest)
        self._leaks = leaking.rehearse(guest, self.bootable)
        if not self._cold:
            guest.save(FRESH, self.snapshot_deadline())
        return guest


def judged(result: CaseResult, bootable: Bootable) -> CaseResult:
    """The result, measured by the known issues."""
    built = bootable.sets[result.case.module_set]
    through = known.hops(built, bootable.arch)
    return known.judge_known(result, built.set, bootable.kernel, bootable.known_issues, through)


def ill(step: Step) -> bool:
    """Whether the guest is not to be trusted any more after this event, snapshot or not."""
    return any(not check.good and check.kind is CheckKind.HEALTH for check in step.checks)
