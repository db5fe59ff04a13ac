# SPDX-License-Identifier: GPL-2.0-only
"""More ways to break a good livepatch module than there are rules (breakage.py). Pure."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace

from orchestrator.elf.breakage import (
    Breakage,
    behind,
    klp_section,
    of_section,
    of_symbol,
    with_section,
)
from orchestrator.elf.klpformat import (
    is_klp_section,
    parse_section_name,
    parse_symbol_name,
    symbol_name,
)
from orchestrator.elf.records import (
    SHF_EXECINSTR,
    SHN_UNDEF,
    SHT_NOBITS,
    SHT_PROGBITS,
    SHT_RELA,
    Elf,
    Rela,
    Section,
    Size,
    Symbol,
)
from orchestrator.errors import UsageError

_POINTER = 8  # bytes
_NAME = re.compile(rb"[A-Za-z_][A-Za-z0-9_.]*\0")


def same(elf: Elf) -> Elf:
    return elf


def _object_of(section: Section) -> str:
    parsed = parse_section_name(section.name)
    if parsed is None:
        raise UsageError(f"{section.name} is no klp section's name")
    return parsed[0]


def section_called(name: str) -> Breakage:
    """The klp section under another name, in which `{}` stands for its object."""
    return of_section(lambda s: replace(s, name=name.format(_object_of(s)), name_at=-1))


def section_copied(name: str) -> Breakage:
    """The klp section once more, under another name."""

    def broken(elf: Elf) -> Elf:
        section = elf.sections[klp_section(elf)]
        return behind(elf, replace(section, name=name.format(_object_of(section))))

    return broken


def with_entry(change: Callable[[Rela, Section], Rela]) -> Breakage:
    """One more entry, made from the last one and the section that the entries apply to."""

    def broken(elf: Elf) -> Elf:
        index = klp_section(elf)
        section = elf.sections[index]
        more = change(section.relas[-1], elf.sections[section.info])
        return with_section(elf, index, lambda s: replace(s, relas=(*s.relas, more)))

    return broken


def of_last_entry(change: Callable[[Rela], Rela]) -> Breakage:
    return of_section(lambda s: replace(s, relas=(*s.relas[:-1], change(s.relas[-1]))))


def symbol_called(name: str) -> Breakage:
    """The first entry's klp symbol under another name, made from {object}, {name}, {sympos}."""

    def renamed(symbol: Symbol) -> Symbol:
        made = name.format(**_said(symbol))
        return replace(symbol, name=made, name_at=-1)

    return of_symbol(renamed)


def _said(symbol: Symbol) -> Mapping[str, object]:
    said = parse_symbol_name(symbol.name)
    if said is None:
        raise UsageError(f"{symbol.name} is no klp symbol's name")
    return asdict(said)


def ambiguous(elf: Elf) -> Elf:
    """A klp symbol with namesakes no longer says which of them it is."""
    symbols = list(elf.symbols)
    for index, symbol in enumerate(symbols):
        said = parse_symbol_name(symbol.name)
        if said is not None and said.sympos:
            name = symbol_name(replace(said, sympos=0))
            symbols[index] = replace(symbol, name=name, name_at=-1)
            return replace(elf, symbols=tuple(symbols))
    raise UsageError("the module has no klp symbol with a sympos")


def as_data(elf: Elf) -> Elf:
    """The klp section's entries, in a section of another type."""
    index = klp_section(elf)
    layout = struct.Struct(("<" if elf.byte_order == "little" else ">") + "QQq")
    entries = elf.sections[index].relas
    data = b"".join(layout.pack(r.offset, r.symbol << 32 | r.type, r.addend) for r in entries)
    return with_section(elf, index, lambda s: replace(s, type=SHT_PROGBITS, relas=(), data=data))


def without_bytes(section: Section) -> Section:
    """It takes memory, which is zero, but no room in the file."""
    return replace(section, type=SHT_NOBITS, relas=(), memory_size=section.size)


def half_an_entry(elf: Elf) -> Elf:
    """Of the last klp section that applies to data the last entry's second half is missing.

    Not of one for code: a call that leads nowhere may as well lead back to itself, for ever.
    """
    index = max(
        index
        for index, section in enumerate(elf.sections)
        if is_klp_section(section)
        and section.relas
        and not elf.sections[section.info].flags & SHF_EXECINSTR
    )
    half = bytes(Size.RELA // 2)
    return with_section(elf, index, lambda s: replace(s, relas=s.relas[:-1], data=half))


def without_old_name(elf: Elf) -> Elf:
    """The name of the first function that the module replaces is NULL: nothing is written where
    struct klp_func begins (include/linux/livepatch.h: old_name, new_func)."""
    for index, section in enumerate(elf.sections):
        if section.type != SHT_RELA or is_klp_section(section):
            continue
        pointers = {rela.offset: rela for rela in section.relas}
        for at, rela in enumerate(section.relas):
            new_func = pointers.get(rela.offset + _POINTER)
            if new_func is not None and _names(elf, rela) and _is_code(elf, new_func):
                less = replace(section, relas=section.relas[:at] + section.relas[at + 1 :])
                return replace(
                    elf, sections=(*elf.sections[:index], less, *elf.sections[index + 1 :])
                )
    raise UsageError("the module has no struct klp_func with a name: none can be taken out")


def _names(elf: Elf, rela: Rela) -> bool:
    """Does it lead to a symbol's name?"""
    section, offset = _leads_to(elf, rela)
    return section is not None and bool(_NAME.match(section.data, max(0, offset)))


def _is_code(elf: Elf, rela: Rela) -> bool:
    section, _ = _leads_to(elf, rela)
    return section is not None and bool(section.flags & SHF_EXECINSTR)


def _leads_to(elf: Elf, rela: Rela) -> tuple[Section | None, int]:
    """(section, offset in it), (None, 0) out of the module."""
    symbol = elf.symbols[rela.symbol] if rela.symbol < len(elf.symbols) else None
    if symbol is None or not SHN_UNDEF < symbol.shndx < len(elf.sections):
        return None, 0
    return elf.sections[symbol.shndx], symbol.value + rela.addend


def beyond_file(data: bytes, section: int) -> bytes:
    """sh_size leads beyond the file (Elf64_Ehdr.e_shoff, Elf64_Shdr.sh_size)."""
    order = "<" if data[5] == 1 else ">"
    (table,) = struct.unpack_from(f"{order}Q", data, 40)
    made = bytearray(data)
    struct.pack_into(f"{order}Q", made, table + section * Size.SHDR + 32, len(data) + 1)
    return bytes(made)
