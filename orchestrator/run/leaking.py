# SPDX-License-Identifier: GPL-2.0-only
"""What a guest has lost by kmemleak's account, on kernels that keep one."""

from __future__ import annotations

from orchestrator.build.prepare import Bootable
from orchestrator.model import leaks, memory
from orchestrator.model.leaks import Leak
from orchestrator.nouns import Arch, Kernel
from orchestrator.run import booting
from orchestrator.vm.guest import Guest

SCAN_SECONDS = 30.0  # two scans and the wait before; times the architecture's time_scale


def told(kernel: Kernel) -> bool:
    """Does this kernel keep account of what is lost?"""
    return leaks.OPTION in kernel.config.read_text(errors="replace").splitlines()


def look(guest: Guest, arch: Arch) -> tuple[Leak, ...]:
    """What is lost now. Raises HarnessError, also where kmemleak has given up."""
    return leaks.read(guest.run_command(leaks.SCAN, booting.deadline(arch, SCAN_SECONDS)))


def rehearse(guest: Guest, bootable: Bootable) -> tuple[Leak, ...] | None:
    """What a booted guest loses while all is done that is done to look at one; it is not listed
    again. None where its kernel does not tell. Raises HarnessError."""
    if not told(bootable.kernel):
        return None
    arch = bootable.arch
    until = booting.deadline(arch, booting.BOOT_SECONDS)
    guest.observe((), memory.FILES, until)
    guest.read_memory([(0, 1)], until)
    guest.run_command("dmesg", until)
    guest.mark(until)
    found = look(guest, arch)
    guest.run_command(leaks.FORGET, until)
    return found
