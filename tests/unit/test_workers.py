# SPDX-License-Identifier: GPL-2.0-only
"""Cases on several guests: who takes which, and what one of them can do to the others. No guest is
booted."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from samples import a_kernel

from orchestrator import catalog
from orchestrator.build.prepare import Bootable
from orchestrator.host import process
from orchestrator.model import orders
from orchestrator.nouns import Arch, Case
from orchestrator.run import workers
from orchestrator.run.slot import GuestOptions, GuestSlot
from orchestrator.verdicts import CaseResult, Status
from orchestrator.vm.guest import Guest

CASES = [Case(f"case-{number}", "basic", orders.parse("+klp_target")) for number in range(8)]


def a_bench(arch: Arch) -> Bootable:
    return Bootable(arch, a_kernel(arch.name), {}, Path("nowhere"), ())


def bootables() -> list[Bootable]:
    return [a_bench(arch) for arch in catalog.arches().values()]


@pytest.mark.parametrize("guests", [1, 2, 3])
def test_each_bench_runs_every_case_once_on_all_its_guests(
    guests: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    meeting = threading.Barrier(guests)
    used: set[GuestSlot] = set()
    found: list[CaseResult] = []

    def run(slot: GuestSlot, case: Case) -> CaseResult:
        if slot not in used:
            used.add(slot)
            if slot.bootable is made[0]:
                meeting.wait(timeout=10)  # they do run side by side
        return CaseResult(case, slot.bootable.arch.name)

    made = bootables()
    monkeypatch.setattr(GuestSlot, "run_case", run)
    workers.run_cases(made, CASES, GuestOptions(guests=guests), found.append)
    times = Counter((result.arch, result.case.name) for result in found)
    assert len(times) == len(made) * len(CASES) and set(times.values()) == {1}
    assert Counter(id(slot.bootable) for slot in used)[id(made[0])] == guests


def test_a_case_is_done_when_set_name_and_order_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    (bootable,) = bootables()[:1]
    arch = bootable.arch.name
    done = {
        (arch, "basic/case-0", "+klp_target"),
        (arch, "basic/case-1", "+klp_patch +klp_target"),  # another order of that name
        (arch, "callbacks/case-2", "+klp_target"),
        ("another", "basic/case-3", "+klp_target"),
    }
    found: list[CaseResult] = []

    def run(slot: GuestSlot, case: Case) -> CaseResult:
        return CaseResult(case, arch)

    monkeypatch.setattr(GuestSlot, "run_case", run)
    workers.run_cases([bootable], CASES, GuestOptions(), found.append, done=done)
    assert [result.case for result in found] == CASES[1:]


def test_what_a_callback_raises_ends_all_lanes(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[Case] = []

    def run(slot: GuestSlot, case: Case) -> CaseResult:
        ran.append(case)
        return CaseResult(case, slot.bootable.arch.name)

    def on_result(result: CaseResult) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(GuestSlot, "run_case", run)
    with pytest.raises(KeyboardInterrupt):
        workers.run_cases(bootables()[:1], CASES, GuestOptions(guests=2), on_result)
    assert len(ran) <= 4


class Broken(GuestSlot):
    """Its guests are fakes, the first of which makes trouble that nobody foresaw."""

    def __init__(self, trouble: Callable[[], object]) -> None:
        super().__init__(bootables()[0], GuestOptions(), threading.Event())
        self.booted_so_far = 0
        self._trouble = trouble

    def fresh(self, cpus: int = 1) -> Guest:
        self.booted_so_far += self._guest is None
        machine = SimpleNamespace(argv=("qemu",), broken=False)
        self._guest = cast(Guest, SimpleNamespace(machine=machine))
        return self._guest

    def looked(self, guest: Guest, result: CaseResult) -> CaseResult:
        if self.booted_so_far == 1:
            self._trouble()
        return replace(result, status=Status.PASS)


def deep() -> object:
    return json.loads("[" * 200_000)


def none() -> object:
    raise AttributeError("'NoneType' object has no attribute 'x'" * 1000)


@pytest.mark.parametrize(("trouble", "name"), [(deep, "RecursionError"), (none, "AttributeError")])
def test_what_nobody_foresaw_is_error_of_that_case_alone(
    trouble: Callable[[], object], name: str
) -> None:
    slot = Broken(trouble)
    first, second, third = (slot.use(case, slot.looked) for case in CASES[:3])
    assert first.status is Status.ERROR
    assert f"a mistake of klp-e2e itself: {name}" in first.reason
    assert ".py:" in first.reason and len(first.reason) < 500
    assert (second.status, third.status) == (Status.PASS, Status.PASS)
    assert slot.booted_so_far == 2  # the guest that it happened with is not used again


def test_a_guest_that_cannot_be_had_for_whatever_reason_is_error() -> None:
    class Never(Broken):
        def fresh(self, cpus: int = 1) -> Guest:
            raise RecursionError("deep")

    slot = Never(none)
    assert slot.use(CASES[0], slot.looked).status is Status.ERROR


def test_an_interrupt_is_no_error_of_a_case() -> None:
    def interrupt() -> object:
        raise KeyboardInterrupt

    slot = Broken(interrupt)
    with pytest.raises(KeyboardInterrupt):
        slot.use(CASES[0], slot.looked)


def test_an_interrupt_that_another_thread_took_is_noticed() -> None:
    """The kernel may hand it to any thread; the main one, which waits for the others, is not woken
    by it."""
    text = """
import os, signal, threading, time
from orchestrator.run import workers
stop, ready = threading.Event(), threading.Event()
def work():
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    ready.set()
    stop.wait(60)
def send():
    ready.wait()
    time.sleep(0.2)
    os.kill(os.getpid(), signal.SIGINT)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # none but the workers take it
try:
    workers.side_by_side([work, send], stop, lambda: None)
except KeyboardInterrupt:
    print("interrupted", stop.is_set())
"""
    argv = [sys.executable, "-c", text]
    told = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    assert told.stdout == "interrupted True\n", told.stderr


def test_what_is_started_after_an_interrupt_is_ended_too() -> None:
    """By a worker that was between two programs: of a kernel's tree, the patch and the make."""
    ended: list[int] = []

    def slow() -> None:
        stop.wait(10)
        time.sleep(workers.LOOK_SECONDS / 2)  # all processes have been ended by now
        ended.append(process.run(["sleep", "60"], check=False).code)

    def interrupted() -> None:
        raise KeyboardInterrupt

    stop = threading.Event()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        workers.side_by_side([slow, interrupted], stop, lambda: None)
    assert ended == [-signal.SIGTERM] and time.monotonic() - began < 20
