# SPDX-License-Identifier: GPL-2.0-only
"""How much memory of each kind a module takes for as long as it is loaded. Pure.

The kinds are those of layout_sections() and its successors in kernel/module/main.c: they were parts
of one area up to 6.3, and are areas of their own since 6.4. What architectures add (GOT, PLT,
stubs) is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from orchestrator.elf.records import SHF_EXECINSTR, SHF_WRITE, Elf, Section

_RO_AFTER_INIT = (".data..ro_after_init", "__jump_table")  # module_mark_ro_after_init()
_INIT = ".init"  # module_init_section(): given back once the module lives


class Footprint(NamedTuple):
    """Bytes of each kind."""

    text: int
    rodata: int
    ro_after_init: int
    data: int


def footprint(elf: Elf) -> Footprint:
    """What the sections of a module add up to, each aligned as it asks."""
    sizes = dict.fromkeys(Footprint._fields, 0)
    for section in elf.sections:
        if section.allocated and not section.name.startswith(_INIT):
            kind = _kind(section)
            align = max(section.align, 1)
            sizes[kind] = -(-sizes[kind] // align) * align + section.size
    return Footprint(**sizes)


def _kind(section: Section) -> str:
    if section.flags & SHF_EXECINSTR:
        return "text"
    if section.name in _RO_AFTER_INIT:
        return "ro_after_init"
    return "data" if section.flags & SHF_WRITE else "rodata"


def smallest(found: Sequence[Footprint]) -> Footprint:
    """The least of each kind: it goes wherever one of them went."""
    return Footprint(*map(min, *found)) if len(found) > 1 else found[0]
