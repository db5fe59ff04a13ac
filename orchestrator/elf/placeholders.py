# SPDX-License-Identifier: GPL-2.0-only
"""Constants that only vmlinux gets, at boot, in a livepatch's code. Pure.

Code of vmlinux has a placeholder for such a constant, and a section that lists its places for
runtime_const_init() (include/asm-generic/vmlinux.lds.h, RUNTIME_CONST). A livepatch that was
compiled as vmlinux's code has the placeholder, too, and nobody fills it in there. Only that of a
pointer can be told from code that means what it says, where an instruction holds it whole.
"""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.elf.records import SHF_EXECINSTR, Elf

POINTER = 0x0123456789ABCDEF  # arch/x86/include/asm/runtime-const.h, runtime_const_ptr()


def left(elf: Elf) -> Iterator[str]:
    """`.text+0x12` for each."""
    pattern = POINTER.to_bytes(8, elf.byte_order)
    for section in elf.sections:
        if section.flags & SHF_EXECINSTR:
            at = section.data.find(pattern)
            while at >= 0:
                yield f"{section.name}+{at:#x}"
                at = section.data.find(pattern, at + 1)
