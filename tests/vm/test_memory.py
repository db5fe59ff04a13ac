# SPDX-License-Identifier: GPL-2.0-only
"""Can what we read be believed? Guest memory by two ways, many snapshots, both channels."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from vmkit import FRESH, Ran, case, run_cases

from orchestrator.build.prepare import Bootable
from orchestrator.cli import options
from orchestrator.deadline import Deadline
from orchestrator.errors import HarnessError
from orchestrator.nouns import Channel
from orchestrator.run import booting, observe, slot
from orchestrator.verdicts import CaseResult, CheckKind, Status
from orchestrator.vm.guest import Guest

SECONDS = 20.0
RESTORES = 50
SYMBOLS = ("_text", "schedule", "klp_module_coming", "apply_relocate_add", "linux_banner")
TEXT_BYTES = 256
MANY = case("many", "+klp_patch +klp_target -klp_target +filler +klp_target klp_patch=0 -klp_patch")


def test_agent_and_emulator_read_the_same_memory(bootable: Bootable, guest: Guest) -> None:
    """/proc/kcore in the running guest against QMP memsave with the CPUs stopped."""
    view = booting.views(bootable, guest)["basic"]
    until = booting.deadline(bootable.arch, SECONDS)
    for event in case("loaded", "+klp_patch +klp_target").order.events:
        done = observe.perform(guest, view, event, until)
        assert done.answers == (0,)
    seen = observe.observe_memory(guest, view, done, 0.0, until)
    fields = [(reading.address, len(reading.raw)) for reading in seen.relocations]
    assert fields
    symbols = guest.symbol(SYMBOLS, until)
    assert set(symbols) == set(SYMBOLS)
    ranges = fields + [(address, TEXT_BYTES) for address in symbols.values()]

    peeked = guest.read_memory(ranges, until)
    saved = memsave(guest, ranges, until)
    assert peeked == saved
    assert peeked[: len(fields)] == [reading.raw for reading in seen.relocations]
    banner = peeked[-1]
    assert banner is not None and banner.startswith(f"Linux version {guest.release}".encode())
    # nothing is there, and both say so
    assert guest.read_memory([(2**64 - 8192, 8)], until) == [None]


def memsave(guest: Guest, ranges: Sequence[tuple[int, int]], until: Deadline) -> list[bytes]:
    """Memory as QEMU sees it through the page tables of the stopped CPU."""
    file = guest.machine.places.directory / "memory"
    out = []
    monitor = guest.machine.qmp
    stop_in_kernel(guest, ranges[0][0], until)
    try:
        for address, length in ranges:
            where = {"val": signed(address), "size": length, "filename": str(file)}
            monitor.execute("memsave", where, until)
            out.append(file.read_bytes())
    finally:
        monitor.execute("cont")
    return out


def stop_in_kernel(guest: Guest, address: int, until: Deadline) -> None:
    """Stop the CPUs while in the kernel's address space, where an idle guest nearly always is."""
    while True:
        guest.machine.qmp.execute("stop")
        where = {"val": signed(address), "size": 1, "filename": "/dev/null"}
        try:
            guest.machine.qmp.execute("memsave", where, until)
            return
        except HarnessError:
            guest.machine.qmp.execute("cont")
            until.check("a guest that is idle")
            time.sleep(0.05)


def signed(address: int) -> int:
    """QMP's `val` is a signed 64-bit number."""
    return address - 2**64 if address >= 2**63 else address


def test_a_guest_lives_through_many_restores(bootable: Bootable, guest: Guest) -> None:
    """Each time it answers, over the channel that was open all along, and from its fresh state."""
    path = observe.module_path("basic", "klp_target")
    for _ in range(RESTORES):
        until = booting.deadline(bootable.arch, SECONDS)
        guest.restore(FRESH, until)
        look = guest.observe((), (), until)
        assert (look.taint, dict(look.modules), dict(look.patches)) == (0, {}, {})
        assert guest.change(("load", path), until) == 0


def test_both_channels_show_the_same(bootables: Mapping[str, Bootable]) -> None:
    """The smoke suite and a long order, over the agent's port and over SSH."""
    cases = (*options.suite_cases("smoke"), MANY)
    by_channel = {
        channel: run_cases(list(bootables.values()), cases, slot.GuestOptions(channel=channel))
        for channel in Channel
    }
    shown = {channel: everything(ran) for channel, ran in by_channel.items()}
    assert shown[Channel.SSH] == shown[Channel.AGENT]
    assert len(shown[Channel.SSH]) == len(bootables) * len(cases)
    for ran in by_channel.values():
        wrong = {(r.arch, r.case.name): r.reason for r in ran.results if r.status != Status.PASS}
        assert wrong == {}


def everything(ran: Ran) -> dict[tuple[str, str], list[object]]:
    """(architecture, case) -> all that was checked, without the addresses of this very boot."""
    return {(result.arch, result.case.name): list(told(result)) for result in ran.results}


def told(result: CaseResult) -> Sequence[object]:
    return [
        (step.event, check.kind, check.subject, check.good)
        if check.kind is CheckKind.RELOCATION
        else (step.event, check)
        for step in result.steps
        for check in step.checks
    ]
