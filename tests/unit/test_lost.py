# SPDX-License-Identifier: GPL-2.0-only
"""Guests that are lost, in every way in which QEMU, its guest or the channel to it can end: the
kernel is to blame only where it said itself that it crashed."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from samples import a_reading

from orchestrator.build.prepare import Bootable
from orchestrator.catalog import arches
from orchestrator.deadline import Deadline
from orchestrator.errors import GuestLost, HarnessError, OutOfTime
from orchestrator.explore.walker import Costs, Walker, WalkListener
from orchestrator.host.process import Running
from orchestrator.model import orders, words
from orchestrator.nouns import BuiltSet, Case, ModuleSet, Probe
from orchestrator.run.observe import GuestView
from orchestrator.run.runner import EventRun
from orchestrator.run.slot import GuestOptions, GuestSlot
from orchestrator.verdicts import Health, Sign, Status
from orchestrator.vm import machine, serial, ssh
from orchestrator.vm.guest import Guest
from orchestrator.vm.pulse import Pulse
from orchestrator.vm.qemu import Places

ARCH = next(iter(arches().values()))
QUIET = "[    1.000000] Run /init as init process\n"
WARN = "[    1.000000] WARNING: CPU: 0 PID: 1 at kernel/foo.c:1 foo+0x1/0x2\n"
STALL = "[   21.000000] rcu: INFO: rcu_sched self-detected stall on CPU\n"
LOCKDEP = "[    1.000000] WARNING: possible circular locking dependency detected\n"
KASAN = "[    1.000000] BUG: KASAN: use-after-free in foo+0x1/0x2\n"
OOPS = "[    1.000000] BUG: kernel NULL pointer dereference, address: 0000000000000000\n"
PANIC = "[    1.000000] Kernel panic - not syncing: Attempted to kill init! exitcode=0x9\n"
HARMLESS = (QUIET, WARN, STALL, LOCKDEP, KASAN)
DEADLY = {
    OOPS: "BUG: kernel NULL pointer dereference",
    PANIC: "Kernel panic - not syncing: Attempted to kill init",
    WARN + PANIC: "Kernel panic - not syncing: Attempted to kill init",
}
# of QEMU: killed (by the host for its memory, by us, by somebody), its own fault, its own end
STATUSES = (-9, -15, -6, -11, 1, 0, None)


@pytest.fixture
def console(tmp_path: Path) -> Iterator[serial.Console]:
    with serial.kept(tmp_path / "console.log") as made:
        yield made


FOO = "foo.c:1 foo"  # as WARN has it


def a_view(*warnings: str) -> GuestView:
    """Of a set whose functions are to give these warnings."""
    probe = Probe("warn", "t", "f", "a", warns={str(n): text for n, text in enumerate(warnings)})
    built = BuiltSet(ModuleSet("mine", Path("nowhere"), (), probes=(probe,)), {})
    return GuestView(ARCH, built, {})


Lose = Callable[[str, int | None, HarnessError], HarnessError]


@pytest.fixture
def lose(console: serial.Console, tmp_path: Path) -> Lose:
    """A boot that fails with this trouble, its console saying this, QEMU's status being that."""

    def lost(said: str, status: int | None, err: HarnessError) -> HarnessError:
        with (tmp_path / "console.log").open("r+") as printer:
            printer.write(said)
        running = SimpleNamespace(poll=lambda: status, wait=lambda deadline: status)
        at = SimpleNamespace(qemu_log=tmp_path / "none")
        return machine._boot_failure(
            ARCH,
            ["qemu"],
            cast(Running, running),
            cast(Places, at),
            Pulse(os.getpid()),
            console,
            err,
        )

    return lost


def booted(err: HarnessError) -> tuple[Status, str]:
    """What a case is whose guest did not boot for that."""

    class Unbooted(GuestSlot):
        def _boot(self, cpus: int) -> None:  # type: ignore[override]
            raise err

    bootable = cast(Bootable, SimpleNamespace(arch=ARCH))
    with Unbooted(bootable, GuestOptions(), cast(object, SimpleNamespace(is_set=bool))) as slot:  # type: ignore[arg-type]
        result = slot.use(Case("one", "basic", orders.parse("+klp_target")), lambda _, r: r)
    return result.status, result.reason


TROUBLES = (GuestLost("QEMU has ended"), OutOfTime("time ran out"))


@pytest.mark.parametrize("err", TROUBLES, ids=repr)
@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("said", HARMLESS)
def test_a_boot_that_ends_without_a_crash_of_the_kernel_is_error(
    said: str, status: int | None, err: HarnessError, lose: Lose
) -> None:
    lost = lose(said, status, err)
    assert isinstance(lost, GuestLost) and lost.crash is None
    verdict, reason = booted(lost)
    assert verdict is Status.ERROR
    assert (said is QUIET) == ("its kernel said" not in reason), "what it said is told even so"


@pytest.mark.parametrize("err", TROUBLES, ids=repr)
@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("said", DEADLY)
def test_a_kernel_that_says_that_it_crashed_is_fail(
    said: str, status: int | None, err: HarnessError, lose: Lose
) -> None:
    assert booted(lose(said, status, err)) == (Status.FAIL, f"{DEADLY[said]}, while booting")


def test_a_qemu_that_was_ended_is_told_from_one_that_hangs(lose: Lose) -> None:
    killed, silent = (lose(WARN, status, TROUBLES[1]) for status in (-9, None))
    assert isinstance(killed, GuestLost) and isinstance(silent, GuestLost)
    assert (killed.ended, killed.silent) == (True, False)
    assert (silent.ended, silent.silent) == (False, True)


def test_our_end_of_a_flooded_console_is_no_end_of_somebody_elses(
    console: serial.Console, lose: Lose
) -> None:
    console.flooded = True
    lost = lose(WARN, -9, TROUBLES[0])
    assert isinstance(lost, GuestLost) and not lost.ended


def test_a_kernel_that_crashes_while_booting_is_no_finding_of_an_order() -> None:
    lost = GuestLost("it died while booting", crash="Kernel panic")

    def fresh() -> None:
        raise lost

    bootable = SimpleNamespace(sets={"basic": SimpleNamespace(set=None)})
    slot = SimpleNamespace(bootable=bootable, fresh=fresh, discard=lambda: None, booted=True)
    told: list[str] = []

    def hit(*_: object) -> None:
        told.append("hit")

    hears = WalkListener(hit, hit, lambda path, edges, why: told.append(why))
    walker = Walker(cast(GuestSlot, slot), "basic", frozenset(), hears, lambda: False, Costs())
    first, second = orders.parse("+klp_patch +klp_target").events
    assert not walker._verify((first,), second, 1)
    assert told == ["it died while booting"]


def test_nobody_waits_for_the_sshd_of_a_qemu_that_has_ended() -> None:
    def alive() -> None:
        raise GuestLost("QEMU has ended")

    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    keys = ssh.new_keys()
    with (
        pytest.raises(GuestLost, match="QEMU has ended"),
        ssh.connect(port, keys, Deadline.after(5), alive),
    ):
        pytest.fail("somebody answered")


@pytest.mark.parametrize("first", ["", WARN])
def test_what_was_reported_before_a_death_is_not_forgotten(first: str) -> None:
    """The death's frames are its own, and whoever looks for a known issue sees both."""
    died = f"{OOPS}[    1.000000] RIP: 0010:bar+0x1/0x2 [livepatch_x]\n"
    guest = SimpleNamespace(
        console_untold=lambda: 0,
        console_since=lambda mark: first + died,
        qmp_events=lambda: ("SHUTDOWN guest-panic",),
        stood_still=lambda: "",
    )
    (event,) = orders.parse("+klp_target").events
    taken = EventRun(cast(Guest, guest), a_view(), event)
    assert taken.end(GuestLost("gone", ended=True)) == f"{DEADLY[OOPS]} in bar"
    details = [c.detail for c in taken.step.checks if isinstance(c.detail, Health)]
    assert details[-1].frames == ("bar [livepatch_x]",)
    assert [d.sign for d in details[:-1]] == [Sign.CONSOLE] * bool(first)
    assert all("WARNING" in d.reports[0] for d in details[:-1])


@pytest.mark.parametrize("wrong", [True, False])
@pytest.mark.parametrize("lost", [GuestLost("it hangs", silent=True), GuestLost("killed")])
def test_a_guest_that_hangs_after_what_was_read_to_be_wrong_is_the_kernels(
    wrong: bool, lost: GuestLost
) -> None:
    """The memory is read before any patched function is called, which may loop for ever."""
    guest = SimpleNamespace(
        console_untold=lambda: 0,
        console_since=lambda mark: "",
        qmp_events=lambda: (),
        stood_still=lambda: "",
    )
    (event,) = orders.parse("+klp_target").events
    taken = EventRun(cast(Guest, guest), a_view(), event)
    check = a_reading("12 34", symbol_address=0x10 if wrong else 0x8)
    taken.step = replace(taken.step, checks=(check,))
    assert check.good is not wrong
    why = taken.end(lost)
    if wrong and lost.silent:
        assert why == f"{check.subject}: {check.seen}; then the guest hung"
        assert [each.seen for each in taken.step.checks] == [check.seen, words.SILENT]
    else:
        assert why is None


def test_a_promised_warning_is_no_reason_why_a_guest_hangs() -> None:
    guest = SimpleNamespace(
        console_untold=lambda: 0,
        console_since=lambda mark: WARN,
        qmp_events=lambda: (),
        stood_still=lambda: "",
    )
    (event,) = orders.parse("+klp_target").events
    ends = [
        EventRun(cast(Guest, guest), view, event).end(GuestLost("it hangs", silent=True))
        for view in (a_view(FOO), a_view("foo.c:2 bar"), a_view())
    ]
    assert ends == [None, "WARNING in foo", "WARNING in foo"]
