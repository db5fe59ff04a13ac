# SPDX-License-Identifier: GPL-2.0-only
"""Which functions of a module ftrace can trace, and livepatch so replace. Pure."""

from __future__ import annotations

import bisect
from collections.abc import Set

from orchestrator.elf import reader
from orchestrator.elf.records import Elf

Place = tuple[int, int]  # a section's index, an offset in it

# Where ftrace reads it (ftrace_callsites in find_module_sections(), kernel/module/main.c).
_TABLES = ("__mcount_loc", "__patchable_function_entries")


def functions(elf: Elf) -> Set[Place] | None:
    """Where the functions begin that ftrace can trace; None where the module tells of none.

    A place before a function, in no other, is that function's: so has it
    -fpatchable-function-entry=N,M with M > 0 (arm64 with DYNAMIC_FTRACE_WITH_CALL_OPS).
    """
    known = sorted((s.shndx, s.value, s.value + max(s.size, 1)) for s in reader.defined(elf))
    found = set()
    for table in elf.sections:
        if not 0 < table.info < len(elf.sections) or elf.sections[table.info].name not in _TABLES:
            continue
        for rela in (r for r in table.relas if r.symbol < len(elf.symbols)):
            section, at = elf.symbols[rela.symbol].shndx, elf.symbols[rela.symbol].value
            found.add((section, at + rela.addend))
    return {_owner(place, known) for place in found} if found else None


def _owner(place: Place, known: list[tuple[int, int, int]]) -> Place:
    """Where the function begins that a place is in, or before; the place itself where none does."""
    section, at = place
    after = bisect.bisect_right(known, (section, at, 1 << 64))
    begun = [known[after - 1]] if after else []
    next_one = [known[after]] if after < len(known) else []
    if begun and begun[0][0] == section and at < begun[0][2]:
        return begun[0][:2]
    return next_one[0][:2] if next_one and next_one[0][0] == section else place
