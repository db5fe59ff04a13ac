# SPDX-License-Identifier: GPL-2.0-only
"""One script of the kernel's own livepatch tests on one guest, as a case. As in `runner`, it starts
as not known and is earned."""

from __future__ import annotations

import shlex
import time
from dataclasses import replace

from orchestrator import kernelreports, plain
from orchestrator.build.testtree import COLLECTION
from orchestrator.deadline import Deadline
from orchestrator.errors import GuestLost, HarnessError, OutOfTime
from orchestrator.model.judge import crash_of
from orchestrator.run import selftests
from orchestrator.run.booting import deadline
from orchestrator.run.observe import EVENT_SECONDS
from orchestrator.verdicts import CaseResult, Status
from orchestrator.vm import marks
from orchestrator.vm.guest import Guest

# Times time_scale. Scripts give up by themselves what does not happen within 60 s of the guest's
# (MAX_RETRIES in functions.sh); ours is for those that hang elsewhere.
SCRIPT_SECONDS = 150.0


def run_script(guest: Guest, result: CaseResult, patience: float = SCRIPT_SECONDS) -> CaseResult:
    """Run the script that the case names on a fresh guest that has the kernel's tests.

    patience: seconds until it counts as hanging, times time_scale. Whatever goes wrong with guest
    or harness is in the result; nothing is raised but Ctrl-C.
    """
    mark = guest.console_mark()
    try:
        result = _earned(guest, result, mark, patience)
    except (GuestLost, OutOfTime) as err:
        ended = isinstance(err, GuestLost) and err.ended
        result = _unfinished(guest, replace(result, reason=err.full_message), mark, ended)
    except HarnessError as err:
        result = replace(result, reason=err.full_message)
    return replace(result, console=plain.excerpt(guest.console_since(mark)))


def _earned(guest: Guest, result: CaseResult, mark: int, patience: float) -> CaseResult:
    arch, script = guest.machine.arch, result.case.name
    token = guest.mark(_soon(guest))
    began = time.monotonic()
    command = shlex.join(["run-kselftest", f"{COLLECTION}:{script}"])
    output = guest.run_command(command, deadline(arch, patience))
    seconds = time.monotonic() - began
    log = guest.run_command("dmesg", _soon(guest))
    taint = guest.observe((), (), _soon(guest)).taint
    script_output = selftests.parse(output, script)
    # in the log alone: the console was told to be quiet, or was not whole; the kernel said it
    printed = kernelreports.reports(guest.printed(mark, _soon(guest)))
    logged = kernelreports.reports(marks.logged_since(token, log))
    reports = printed or logged
    steps = selftests.steps(script_output, log, taint, reports, seconds)
    status, reason = selftests.verdict(script_output, steps)
    return replace(
        result, status=status, reason=reason, steps=steps, dmesg=marks.without_marks(log)
    )


def _unfinished(guest: Guest, result: CaseResult, mark: int, ended: bool) -> CaseResult:
    """A script that hangs, or whose guest is lost: the kernel's fault if it says so itself. Of a
    QEMU that has `ended` a warning does not say why."""
    printed = guest.console_since(mark)
    test = selftests.running(printed)
    said = kernelreports.death_title if ended else kernelreports.crash_title
    title = crash_of(said(printed), guest.qmp_events())
    if title is not None:
        step = selftests.crashed(test, title)
        result = replace(result, status=Status.FAIL, reason=title, steps=(step,))
    return replace(result, reason=f"{test}: {result.reason}" if test else result.reason)


def _soon(guest: Guest) -> Deadline:
    return deadline(guest.machine.arch, EVENT_SECONDS)
