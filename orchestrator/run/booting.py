# SPDX-License-Identifier: GPL-2.0-only
"""A bootable brought to life: a booted guest with the modules of every set in it, and for each set
what is needed to look at it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from orchestrator.build import delivery
from orchestrator.build.prepare import Bootable
from orchestrator.deadline import Deadline
from orchestrator.errors import HarnessError
from orchestrator.host import workdir
from orchestrator.nouns import VMLINUX, Accel, Arch, Channel
from orchestrator.run.observe import GuestView, module_path
from orchestrator.verdicts import GuestRecord
from orchestrator.vm import machine
from orchestrator.vm.guest import Guest

BOOT_SECONDS = 20.0  # times the architecture's time_scale
ANCHOR = "_text"  # the kernel image's first symbol: its distance from System.map is KASLR's


def deadline(arch: Arch, seconds: float) -> Deadline:
    """`seconds` as they would be natively, made longer for this architecture's emulation."""
    return Deadline.after(seconds * arch.time_scale)


@contextlib.contextmanager
def booted(
    bootable: Bootable,
    *,
    channel: Channel = Channel.AGENT,
    accel: Accel = Accel.AUTO,
    want_ssh: bool = False,
    debug: bool = False,
    cpus: int = 1,
    cmdline: str = "",
    on_end: Callable[[GuestRecord], None] = lambda record: None,
) -> Iterator[Guest]:
    """Boot a guest of the bootable; `on_end` gets its record when it has ended.

    debug: sockets for gdb and for a second QMP client. cpus: at least so many, for races (see
    `orders.largest_race`). cmdline: kernel parameters beyond the architecture's. Raises
    HarnessError, GuestLost.
    """
    started, began = time.time(), time.monotonic()
    pack = delivery.packing(bootable.kernel)
    with workdir.disk_errors("the guest's modules cannot be read"):
        files = {
            # not by the name cases use, which may be a path: `observe.perform` asks for its own
            module_path(built_set.set.name, module): pack(built.path.read_bytes())
            for built_set in bootable.sets.values()
            for module, built in built_set.modules.items()
        }
    arch, kernel = bootable.arch, bootable.kernel
    arch = replace(arch, cpus=max(arch.cpus, cpus))
    until = deadline(arch, BOOT_SECONDS)
    with contextlib.ExitStack() as stack:
        running = stack.enter_context(
            machine.boot(
                arch,
                kernel.image,
                bootable.userland,
                files,
                until,
                accel=accel,
                want_ssh=want_ssh or channel is Channel.SSH,
                debug=debug,
                cmdline=cmdline,
            )
        )
        guest = Guest(running, channel, until)
        stack.callback(guest.close)
        ready = time.monotonic()
        yield guest
        memory, disk = running.footprint()
        stack.close()
        on_end(
            GuestRecord(
                arch=arch.name,
                started=started,
                accel=running.accel,
                ready_seconds=ready - began,
                alive_seconds=time.monotonic() - began,
                ended_by=running.ended_by,
                memory=memory,
                disk=disk,
            )
        )


def views(bootable: Bootable, guest: Guest) -> Mapping[str, GuestView]:
    """How to look at each of the bootable's module sets in this boot of the guest."""
    return {
        name: GuestView(bootable.arch, built_set, vmlinux)
        for vmlinux in [_vmlinux_symbols(bootable, guest)]
        for name, built_set in bootable.sets.items()
    }


def _vmlinux_symbols(bootable: Bootable, guest: Guest) -> Mapping[str, tuple[int, ...]]:
    """Where the kernel symbols that livepatches refer to are in this boot, by System.map."""
    wanted = {
        rela.symbol.name
        for built_set in bootable.sets.values()
        for module in built_set.modules.values()
        for rela in module.klp_relocations
        if rela.symbol.object == VMLINUX
    }
    linked = parse_system_map(
        bootable.kernel.system_map.read_text(errors="replace"), wanted | {ANCHOR}
    )
    here = guest.symbol([ANCHOR], deadline(bootable.arch, BOOT_SECONDS))
    if ANCHOR not in here or ANCHOR not in linked:
        raise HarnessError(f"{ANCHOR} is missing from the guest's kallsyms or from System.map")
    if missing := sorted(wanted - linked.keys()):
        raise HarnessError(f"System.map has no {', '.join(missing)}, which a livepatch refers to")
    return moved(linked, here[ANCHOR])


def moved(linked: Mapping[str, tuple[int, ...]], anchor: int) -> Mapping[str, tuple[int, ...]]:
    """Symbols of System.map in a boot in which ANCHOR is there. What lies below it is no address
    but an offset into a per-CPU area, and stays (scripts/kallsyms.c, make_percpus_absolute())."""
    first = linked[ANCHOR][0]
    return {
        name: tuple(at + anchor - first if at >= first else at for at in found)
        for name, found in linked.items()
    }


def parse_system_map(text: str, names: set[str]) -> dict[str, tuple[int, ...]]:
    """name -> its addresses, in address order, which is that of kallsyms (scripts/kallsyms.c).

    Raises HarnessError for a line that has none.
    """
    found: dict[str, list[int]] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        address, _, name = (*line.split(maxsplit=2), "", "", "")[:3]
        if name not in names:
            continue
        try:
            found.setdefault(name, []).append(int(address, 16))
        except ValueError:
            raise HarnessError(f"System.map is damaged in line {number}") from None
    return {name: tuple(addresses) for name, addresses in found.items()}
