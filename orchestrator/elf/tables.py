# SPDX-License-Identifier: GPL-2.0-only
"""What the kernel itself changes of a module after vmlinux's klp relocations were written. Pure.

Tables that it sorts while the module loads: where an entry is found then. Static calls, and code
that has an alternative.

A klp relocation of vmlinux is written before that, and what it has written moves with its entry;
the fields are relative, and changed with the move. Sources: jump_label_sort_entries() of
kernel/jump_label.c, static_call_sort_entries() of kernel/static_call_inline.c.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from orchestrator.elf import following
from orchestrator.elf.klpformat import is_klp_section
from orchestrator.elf.records import Elf, Rela
from orchestrator.nouns import Arch

# bytes of an entry: struct jump_entry with HAVE_ARCH_JUMP_LABEL_RELATIVE, struct static_call_site
ENTRY: Mapping[str, int] = {"__jump_table": 16, ".static_call_sites": 8}
STATIC_CALLS = ".static_call_sites"
ALTERNATIVES = ".altinstructions"
# struct alt_instr: bytes of an entry -> where in it is how long the code is. Its first field leads
# to the code, its second to the alternative. 12: arm64, loongarch, s390 up to 6.11, and x86 up to
# 6.2; 13: s390 since then; 14: x86 since then.
_LENGTH_AT: Mapping[int, int] = {12: 10, 13: 12, 14: 12}
_CALL = range(1, 5)  # bytes of a call before its field: arch/x86/kernel/static_call.c, insn_type
# jump_entry_set_init(), static_call_set_init(): a bit of the key, set for code that is freed after
# init and cleared for all other. A .ko may have it set in the addend: objtool has gone by it
# (arch/x86/include/asm/jump_label.h with HAVE_JUMP_LABEL_HACK).
IN_INIT = 2


def found(
    arch: Arch, section: str, start: int, content: bytes, fields: Sequence[following.Field]
) -> tuple[following.Field, ...]:
    """The fields where their entries are by now: each at its own place, or at another entry's that
    leads to its symbol and that no field before it was found at; unchanged where there is none.

    section: one of ENTRY. start: where it lies, with this content. fields: as they were read at the
    places that the .ko file says, all of this section.
    """
    size, taken = ENTRY[section], set[int]()
    result = []
    for field in fields:
        own, width = field.address - start, len(field.raw)
        at = own % size
        places = (own, *range(at, len(content) - width + 1, size))
        moved = (
            replace(field, address=start + place, raw=content[place : place + width])
            for place in places
            if place not in taken
        )
        right = (each for each in moved if leads_to(arch, each) == each.symbol)
        there = next(right, field)
        taken.add(there.address - start)
        result.append(there)
    return tuple(result)


def leads_to(arch: Arch, field: following.Field) -> int | None:
    """Where a field of such a table leads, whatever it says of its code being gone after init."""
    led = following.follow(arch, field, None, None).to
    if led is None or field.symbol is None:
        return led
    differs = (led + field.addend) ^ (field.symbol + field.addend)
    return field.symbol if differs == IN_INIT else led


def calls(elf: Elf) -> frozenset[tuple[int, int]]:
    """(section, offset) where the field of a static call may lie. The kernel writes there what is
    called by now, in place of the trampoline, while the module loads and whenever that changes
    (static_call_add_module(), __static_call_update())."""
    sites = (
        (symbol.shndx, symbol.value + rela.addend)
        for section in elf.sections
        if 0 < section.info < len(elf.sections) and not is_klp_section(section)
        if elf.sections[section.info].name == STATIC_CALLS
        for rela in section.relas
        if rela.offset % ENTRY[STATIC_CALLS] == 0 and rela.symbol < len(elf.symbols)
        for symbol in (elf.symbols[rela.symbol],)
    )
    return frozenset((section, at + width) for section, at in sites for width in _CALL)


def alternatives(elf: Elf) -> frozenset[tuple[int, int]]:
    """(section, offset) of the bytes of code that has an alternative. Where the processor wants it
    the kernel puts that there while the module loads (apply_alternatives(), after
    apply_relocations()). None, where the table is of a shape that no kernel has had."""
    found = set[tuple[int, int]]()
    for section in elf.sections:
        if not 0 < section.info < len(elf.sections) or is_klp_section(section):
            continue
        table = elf.sections[section.info]
        if table.name == ALTERNATIVES and section.relas:
            found |= _replaced(elf, table.data, section.relas)
    return frozenset(found)


def _replaced(elf: Elf, table: bytes, relas: Sequence[Rela]) -> set[tuple[int, int]]:
    """Of one table, with the relocations that fill it: two of each entry."""
    size, odd = divmod(2 * len(table), len(relas))
    if odd or size not in _LENGTH_AT:
        return set()
    found = set[tuple[int, int]]()
    for rela in relas:
        at = rela.offset + _LENGTH_AT[size]
        if rela.offset % size == 0 and at < len(table) and rela.symbol < len(elf.symbols):
            symbol = elf.symbols[rela.symbol]
            start = symbol.value + rela.addend
            found |= {(symbol.shndx, start + n) for n in range(table[at])}
    return found
