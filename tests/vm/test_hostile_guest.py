# SPDX-License-Identifier: GPL-2.0-only
"""Guests that lie, flood and stall: the host's memory and time stay within limits, the case is
ERROR, never the kernel's fault and never PASS, and the run goes on with a new guest."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
from vmkit import HOSTILE, RUNS, Klp, Ran, case, in_namespace, run_cases

from orchestrator.build import prepare
from orchestrator.build.prepare import Bootable
from orchestrator.cli import options
from orchestrator.errors import Exit
from orchestrator.run import runner, slot
from orchestrator.verdicts import CaseResult, Status
from orchestrator.vm import guest as guests

pytestmark = pytest.mark.xdist_group("hostile guests")

EVENT_SECONDS = 4.0
CASE_SECONDS = 60.0  # times time_scale: events, a boot, and a host that is busy
MEMORY_BYTES = 2 << 30  # of this process, pytest included

AT_ONCE, LATER = "+hostile[what={}]", "+hostile -hostile +hostile hostile.what={}"
LIES = {
    # what: (when, reason that the case must give)
    "flood": (AT_ONCE, "its console has said more than"),
    "mute": (LATER, "the kernel's log has what its console did not show: INFO: task foo:1 blocked"),
    "off": (AT_ONCE, "console is not whole: /dev/kmsg cannot be written: EPERM"),
    "dropped": (LATER, "console is not whole: the kernel has dropped 7 messages"),
    "deep": (AT_ONCE, "is no JSON"),
    "endless": (LATER, "is no answer of the agent's"),
    "half": (AT_ONCE, "no answer to `run"),
    "wrong": (LATER, "is not as agreed"),
    "errors": (AT_ONCE, "is no JSON"),
    "chatter": (LATER, "is not as agreed"),
    "well": (AT_ONCE, "console is not whole: what was written into the kernel's log does not"),
}
GOOD = "+hostile -hostile"
HUNG = "INFO: task foo:1 blocked for more than 120 seconds."


@pytest.fixture(scope="module")
def bootable(any_bootable: Bootable) -> Bootable:
    (made,) = prepare.bootables(
        (any_bootable.arch,),
        source=options.SOURCE,
        series=(options.SERIES,),
        module_sets=(HOSTILE,),
        known_issues=(),
        jobs=1,
        say=lambda text: None,
        advance=lambda task, done, total: None,
    )
    return made


@pytest.fixture(scope="module")
def ran(bootable: Bootable) -> Iterator[Ran]:
    """Every lie, each with a good case behind it."""
    cases = [
        made
        for what, (order, _) in LIES.items()
        for made in (
            case(what, order.format(what), HOSTILE),
            case(f"after {what}", GOOD, HOSTILE),
        )
    ]
    cases += [
        case("longline", "+hostile[what=longline]", HOSTILE),
        case("hung", "+hostile hostile.what=hung", HOSTILE),
        case("quiet", "+hostile hostile.what=quiet", HOSTILE),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "EVENT_SECONDS", EVENT_SECONDS)
        patch.setattr(guests, "CONSOLE_SECONDS", EVENT_SECONDS / 2)
        yield run_cases([bootable], cases, slot.GuestOptions())


@pytest.mark.parametrize("what", LIES)
def test_a_lie_is_error_and_says_what_it_was(ran: Ran, bootable: Bootable, what: str) -> None:
    result = ran.result(bootable.arch.name, what)
    assert result.status is Status.ERROR, result.reason
    assert LIES[what][1] in result.reason
    assert_bounded(result, bootable)


@pytest.mark.parametrize("what", LIES)
def test_the_run_goes_on_with_a_new_guest(ran: Ran, bootable: Bootable, what: str) -> None:
    after = ran.result(bootable.arch.name, f"after {what}")
    assert (after.status, after.cold) == (Status.PASS, True), after.reason


def test_one_long_line_is_no_trouble(ran: Ran, bootable: Bootable) -> None:
    """And what a module says behind words of its own is no report."""
    result = ran.result(bootable.arch.name, "longline")
    assert result.status is Status.PASS, result.reason
    assert "debug WARNING: calibration missing" in result.console
    assert_bounded(result, bootable)


@pytest.mark.parametrize("name", ["hung", "quiet"])
def test_what_the_kernel_says_alone_in_its_log_is_fail(
    ran: Ran, bootable: Bootable, name: str
) -> None:
    """Also where the console is told to be quiet, and the log is emptied then."""
    result = ran.result(bootable.arch.name, name)
    assert (result.status, HUNG in result.reason) == (Status.FAIL, True), result.reason
    assert "klp-e2e: mark" not in result.console + result.dmesg


def test_memory_stays_bounded(ran: Ran) -> None:
    assert ran.results
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 < MEMORY_BYTES


def assert_bounded(result: CaseResult, bootable: Bootable) -> None:
    assert result.seconds < CASE_SECONDS * bootable.arch.time_scale
    assert len(result.console) < 1 << 20


def test_a_disk_that_runs_full_hides_nothing(klp: Klp, bootable: Bootable) -> None:
    """The guest complains when the temporary directory has had no room for seconds."""
    mount = f"mount -t tmpfs -o size=150m none {klp.temporary}"
    full = f"dd if=/dev/zero of={klp.temporary}/full 2> {klp.directory}/full"
    here = f"ls {klp.temporary}/{RUNS}/*/console.log > /dev/null 2>&1"
    waiting = f"for i in $(seq 3000); do {here} && break; sleep 0.1; done"
    script = f'({waiting}; {full}) & "$@"; code=$?; rm -f {klp.temporary}/full; exit $code'
    order = "+hostile " + "-hostile +hostile " * 10 + "hostile.what=hung"
    told = klp.run(
        *klp.run_argv(bootable, "--modules", HOSTILE, "--cold", "--order", order),
        prefix=[*in_namespace(mount), "sh", "-c", script, "sh"],
    )
    assert "No space left" in Path(klp.directory / "full").read_text()
    (found,) = klp.document()["cases"]
    assert (found["status"], HUNG in found["reason"]) == ("FAIL", True), found["reason"]
    assert told.code == Exit.TEST_FAILURE
