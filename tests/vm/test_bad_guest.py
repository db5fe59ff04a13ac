# SPDX-License-Identifier: GPL-2.0-only
"""Guests that do not start, do not get ready, hang, crash or are killed: what the case is then, and
that the next case and the other architectures do not notice."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
from vmkit import TROUBLE, Ran, case, run_cases, wait_for

from orchestrator.build.prepare import Bootable
from orchestrator.deadline import Deadline
from orchestrator.errors import GuestLost, HarnessError
from orchestrator.model.words import SILENT
from orchestrator.run import booting, observe, runner, slot
from orchestrator.run.observe import Done
from orchestrator.verdicts import CaseResult, CheckKind, Status
from orchestrator.vm import machine, pulse
from orchestrator.vm.guest import Guest

pytestmark = pytest.mark.xdist_group("troubled guests")  # one run for most of them

GOOD = case("good", "+klp_patch +klp_target")
HANG_SECONDS = 2.5  # an event takes a tenth of a second


# --- guests that never are ------------------------------------------------------------------------


def test_a_qemu_that_does_not_start_says_why(bootable: Bootable) -> None:
    arch = dataclasses.replace(bootable.arch, machine=f"{bootable.arch.machine},no-such-option=on")
    with (
        pytest.raises(HarnessError, match=r"before the guest started: .*no-such-option") as caught,
        booting.booted(dataclasses.replace(bootable, arch=arch)),
    ):
        pytest.fail("it is up")
    assert f"to see it again: {arch.qemu}" in caught.value.hint.replace("/usr/bin/", "")
    assert any("no-such-option=on" in word for word in caught.value.argv)


def test_an_emulator_that_does_not_start_is_error_and_the_others_run(
    bootables: Mapping[str, Bootable],
) -> None:
    first, *others = bootables.values()
    broken = dataclasses.replace(first, arch=dataclasses.replace(first.arch, cpu="no-such-cpu"))
    ran = run_cases([broken, *others], [GOOD, dataclasses.replace(GOOD, name="again")])
    for name in ("good", "again"):
        result = ran.result(first.arch.name, name)
        assert (result.status, result.steps) == (Status.ERROR, ())
        assert "no-such-cpu" in result.reason
        assert "no-such-cpu" in result.qemu_argv
        assert {ran.result(b.arch.name, name).status for b in others} == {Status.PASS}


def test_after_two_boots_in_vain_nobody_boots_again(
    bootables: Mapping[str, Bootable], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a row: one that works starts the count afresh."""
    good = next(iter(bootables.values()))
    broken = dataclasses.replace(good, arch=dataclasses.replace(good.arch, cpu="no-such-cpu"))
    boot, plan = booting.booted, iter([broken, good, broken, broken])

    def booted(bootable: Bootable, **how: Any) -> contextlib.AbstractContextManager[Guest]:
        return boot(next(plan), **how)

    monkeypatch.setattr(booting, "booted", booted)
    cases = [dataclasses.replace(GOOD, name=str(number)) for number in range(6)]
    results = run_cases([good], cases, slot.GuestOptions(cold=True)).results
    assert list(plan) == []
    assert [result.status for result in results] == [
        Status.ERROR,
        Status.PASS,
        *[Status.ERROR] * 4,
    ]
    assert results[3].reason == results[4].reason == results[5].reason
    assert "no-such-cpu" in results[5].reason
    assert results[5].qemu_argv == results[3].qemu_argv


@pytest.mark.parametrize(
    ("cmdline", "why"),
    [
        # init ends
        ("rdinit=/bin/ls", "it died while booting.*Kernel panic - not syncing: Attempted to kill"),
        # no init
        ("rdinit=/none init=/none", "it died while booting.*Kernel panic - not syncing: Requested"),
        # init reads a console on which nobody types
        ("rdinit=/bin/cat", "it never got ready"),
    ],
)
def test_a_guest_that_never_gets_ready_is_lost_with_its_last_lines(
    bootable: Bootable, cmdline: str, why: str
) -> None:
    seconds = 2.0 if "never" in why else 20.0
    with (
        pytest.raises(GuestLost, match=f"the {bootable.arch.name} guest is lost: {why}") as caught,
        machine.boot(
            bootable.arch,
            bootable.kernel.image,
            bootable.userland,
            {},
            booting.deadline(bootable.arch, seconds),
            cmdline=cmdline,
        ),
    ):
        pytest.fail("it is up")
    assert len(caught.value.console.splitlines()) > 5
    assert any(cmdline in word for word in caught.value.argv)


def test_a_kernel_that_crashes_while_booting_is_fail(bootable: Bootable) -> None:
    cmdline = f"{bootable.arch.cmdline} rdinit=/bin/ls"
    broken = dataclasses.replace(bootable, arch=dataclasses.replace(bootable.arch, cmdline=cmdline))
    (result,) = run_cases([broken], [GOOD]).results
    assert (result.status, result.steps) == (Status.FAIL, ())
    title = "Kernel panic - not syncing: Attempted to kill init, while booting"
    assert result.reason == title
    assert "Kernel panic" in result.console


def test_two_guests_of_one_architecture_do_not_meet(bootable: Bootable) -> None:
    """Each has a port of its own, chosen by QEMU."""
    with contextlib.ExitStack() as stack:
        guests = [stack.enter_context(booting.booted(bootable, want_ssh=True)) for _ in range(2)]
        assert len({guest.machine.ssh_port for guest in guests}) == 2
        for number, guest in enumerate(guests):
            until = booting.deadline(bootable.arch, 20)
            with guest.machine.open_ssh(until) as ssh:
                shell = ssh.lines("read who; echo $who > /tmp/who; echo written", until)
                shell.send(str(number), until)
                assert shell.receive(until) == "written"
                shell.close()
        for number, guest in enumerate(guests):
            assert (
                guest.run_command("cat /tmp/who", booting.deadline(bootable.arch, 20))
                == f"{number}\n"
            )


# --- guests that come to grief --------------------------------------------------------------------

TROUBLES = {
    # what: (order, title that the case must have)
    "warn": ("+trouble[what=warn]", "WARNING in trouble_warn"),
    "warn-by-write": ("+trouble trouble.what=warn", "WARNING in trouble_warn"),
    "bug": ("+trouble[what=bug]", "kernel BUG in trouble_bug"),
    "oops": ("+trouble trouble.what=oops", "in trouble_oops"),
    "panic": ("+trouble[what=panic]", "Kernel panic - not syncing: trouble was asked for"),
    "reboot": ("+trouble trouble.what=reboot", "QEMU: SHUTDOWN guest-reset"),
    "taint": ("+trouble[what=taint]", "(U"),
    "show": ("+trouble[what=show]", "in trouble_oops"),
}
CRASHES = {"bug", "oops", "panic", "reboot", "show"}


@pytest.fixture(scope="session")
def troubled(bootables: Mapping[str, Bootable]) -> Ran:
    """Every trouble and a good case at the end, on all architectures side by side."""
    cases = [case(name, order, TROUBLE) for name, (order, _) in TROUBLES.items()]
    cases += [case("hang", "+trouble trouble.what=hang", TROUBLE), GOOD]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "EVENT_SECONDS", HANG_SECONDS)
        return run_cases(list(bootables.values()), cases)


@pytest.mark.parametrize("name", TROUBLES)
def test_what_the_kernel_complains_of_is_fail_with_its_title(
    troubled: Ran, bootable: Bootable, name: str
) -> None:
    result = troubled.result(bootable.arch.name, name)
    title = TROUBLES[name][1]
    assert result.status is Status.FAIL
    assert title in result.reason
    failure = result.first_failure()
    assert failure is not None
    index, step, check = failure
    assert (index, step.event) == (len(result.case.order.events) - 1, last_event(result))
    assert check.kind is CheckKind.HEALTH
    assert title in check.seen
    if name in CRASHES:
        assert result.dmesg == ""  # there is nobody left to ask
        assert f"trouble: {name} begins" in result.console or name == "show"


def last_event(result: CaseResult) -> str:
    return TROUBLES[result.case.name][0].split()[-1]


def test_a_hang_is_error_with_the_last_console_lines(troubled: Ran, bootable: Bootable) -> None:
    """Nothing shows that the kernel is to blame, and nothing that it is not."""
    result = troubled.result(bootable.arch.name, "hang")
    assert result.status is Status.ERROR
    assert "no answer to `write /sys/module/trouble/parameters/what hang` in time" in result.reason
    assert result.console.splitlines()[-1].endswith("trouble: hang begins")
    loaded, hung = result.steps
    assert loaded.good
    assert [(check.subject, check.seen) for check in hung.checks] == [("guest", SILENT)]


def test_after_a_lost_guest_the_next_case_has_a_new_one(troubled: Ran, bootable: Bootable) -> None:
    mine = [result for result in troubled.results if result.arch == bootable.arch.name]
    assert all(result.cold for result in mine)  # every one before it was thrown away
    assert mine[-1].case == GOOD and mine[-1].status is Status.PASS
    records = [record for record in troubled.guests if record.arch == bootable.arch.name]
    assert len(records) == len(mine)
    assert {record.ended_by for record in records} <= {"itself", "QMP quit", "power-off"}


def console_of(emulator: psutil.Process) -> Path:
    (path,) = (
        word.partition("path=")[2] for word in emulator.cmdline() if word.startswith("file,id=con")
    )
    return Path(path)


def test_a_killed_emulator_is_error_for_that_case_alone(bootables: Mapping[str, Bootable]) -> None:
    """SIGKILL while a module's init runs on the first architecture."""
    victim = next(iter(bootables.values()))
    waits = case("waits", "+trouble[what=wait]", TROUBLE)
    cases = [GOOD, waits, dataclasses.replace(GOOD, name="after")]

    def kill() -> None:
        def waiting() -> psutil.Process | None:
            for process in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    ours = process.name().startswith(victim.arch.qemu[:15])
                    if ours and "wait begins" in console_of(process).read_text(errors="replace"):
                        return process
            return None

        wait_for("a module that waits", waiting).kill()

    killer = threading.Thread(target=kill)
    killer.start()
    ran = run_cases(list(bootables.values()), cases)
    killer.join()
    killed = ran.result(victim.arch.name, "waits")
    assert killed.status is Status.ERROR
    assert "QEMU ended with status -9" in killed.reason
    assert killed.console.splitlines()[-1].endswith("trouble: wait begins")
    others = [result for result in ran.results if result is not killed]
    assert len(others) == len(bootables) * len(cases) - 1
    assert {result.status for result in others} == {Status.PASS}
    assert ran.result(victim.arch.name, "after").cold
    assert {r.arch: r.cold for r in others if r.case.name == "after"} == {
        name: name == victim.arch.name for name in bootables
    }


def test_what_is_wrong_with_a_guest_that_was_stopped_is_error(
    bootable: Bootable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its clock went on: an RCU stall, a hung task, a transition without an end prove nothing. What
    is right is right."""
    monkeypatch.setattr(pulse, "STILL_SECONDS", 0.5)
    done = observe.perform

    def perform(guest: Guest, *what: Any) -> Done:
        answers = done(guest, *what)
        os.kill(guest.machine.pid, signal.SIGSTOP)
        time.sleep(1)
        os.kill(guest.machine.pid, signal.SIGCONT)
        return answers

    monkeypatch.setattr(runner, "perform", perform)
    cases = [case("warn", "+trouble[what=warn]", TROUBLE), case("calm", "+trouble", TROUBLE)]
    warn, calm = run_cases([bootable], cases).results
    assert warn.status is Status.ERROR and "was let stand still for 1 s" in warn.reason
    assert calm.status is Status.PASS


def test_time_that_runs_out_before_the_start_is_no_guest(bootable: Bootable) -> None:
    with pytest.raises(HarnessError), contextlib.ExitStack() as stack:
        at = machine.boot(
            bootable.arch, bootable.kernel.image, bootable.userland, {}, Deadline.after(0.0)
        )
        stack.enter_context(at)
