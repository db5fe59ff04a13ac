# SPDX-License-Identifier: GPL-2.0-only
"""A converted livepatch laid out as others' tools do it: kpatch-build's create-klp-module.c,
objtool's klp-post-link.c. The same records, in other places."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import replace

from orchestrator.elf import reader, writer
from orchestrator.elf.klpformat import is_klp_section, parse_section_name, section_name
from orchestrator.elf.records import (
    SHF_INFO_LINK,
    SHN_LIVEPATCH,
    SHN_LORESERVE,
    SHT_RELA,
    STB_LOCAL,
    Elf,
    Section,
    Symbol,
)

SHT_GROUP = 17  # sh_info: the symbol that names it; data: flags, then the sections in it


def laid_out(data: bytes, name: str, moved: tuple[str, str]) -> bytes:
    """The livepatch with

    - its klp sections before all others, in reverse order, and no .rela section left empty;
    - half of its klp symbols local, behind the other locals, the rest between other globals;
    - what it defers for object `moved[0]` written when `moved[1]` is loaded: symbols that one
      module exports to the other.
    """
    elf = reader.read(data, name)
    elf = _merged(elf, *moved)
    elf = _with_symbols_in(elf, _symbol_order(elf))
    return writer.write(_with_sections_in(elf, _section_order(elf)))


def _merged(elf: Elf, moved: str, into: str) -> Elf:
    sections = list(elf.sections)
    for index, section in enumerate(elf.sections):
        parsed = parse_section_name(section.name)
        if not is_klp_section(section) or parsed is None or parsed[0] != moved:
            continue
        name = section_name(into, parsed[1])
        home = next((i for i, s in enumerate(sections) if s.name == name), None)
        if home is None:
            sections[index] = replace(section, name=name)
        else:
            relas = (*sections[home].relas, *section.relas)
            sections[home] = replace(sections[home], relas=relas)
            sections[index] = replace(section, relas=())
    return replace(elf, sections=tuple(sections))


def _symbol_order(elf: Elf) -> list[tuple[int, Symbol]]:
    """(old index, symbol) in the new order; locals first, as ELF has it."""
    klp = [(i, s) for i, s in enumerate(elf.symbols) if s.shndx == SHN_LIVEPATCH]
    made_local = [(i, replace(s, info=STB_LOCAL << 4 | s.type)) for i, s in klp[::2]]
    others = [(i, s) for i, s in enumerate(elf.symbols) if s.shndx != SHN_LIVEPATCH]
    found = [(i, s) for i, s in others if s.binding == STB_LOCAL] + made_local
    left = klp[1::2]
    for each in [(i, s) for i, s in others if s.binding != STB_LOCAL]:
        found.append(each)
        if left:
            found.append(left.pop())
    return found + left


def _with_symbols_in(elf: Elf, order: Sequence[tuple[int, Symbol]]) -> Elf:
    now_at = {old: new for new, (old, _) in enumerate(order)}
    symbols = tuple(symbol for _, symbol in order)
    local = sum(symbol.binding == STB_LOCAL for symbol in symbols)

    def changed(index: int, section: Section) -> Section:
        if index == elf.symbol_table:
            return replace(section, info=local)
        if section.type == SHT_GROUP:
            return replace(section, info=now_at[section.info])
        relas = tuple(replace(rela, symbol=now_at[rela.symbol]) for rela in section.relas)
        return replace(section, relas=relas)

    return replace(elf, sections=_each(elf, changed), symbols=symbols)


def _section_order(elf: Elf) -> list[int]:
    kept = [i for i, s in enumerate(elf.sections) if s.type != SHT_RELA or s.relas]
    klp = [i for i in reversed(kept) if is_klp_section(elf.sections[i])]
    return [0, *klp, *(i for i in kept[1:] if i not in klp)]


def _with_sections_in(elf: Elf, order: Sequence[int]) -> Elf:
    now_at = {old: new for new, old in enumerate(order)}

    def changed(index: int, section: Section) -> Section:
        by_index = section.type == SHT_RELA or section.flags & SHF_INFO_LINK
        info = now_at[section.info] if by_index and index in now_at else section.info
        section = replace(section, link=now_at[section.link], info=info)
        if section.type != SHT_GROUP:
            return section
        layout = f"{'<' if elf.byte_order == 'little' else '>'}{len(section.data) // 4}I"
        flags, *members = struct.unpack(layout, section.data)
        data = struct.pack(layout, flags, *(now_at[member] for member in members))
        return replace(section, data=data)

    sections = _each(elf, changed)
    symbols = tuple(
        symbol if symbol.shndx >= SHN_LORESERVE else replace(symbol, shndx=now_at[symbol.shndx])
        for symbol in elf.symbols
    )
    return replace(
        elf,
        sections=tuple(sections[old] for old in order),
        symbols=symbols,
        section_names=now_at[elf.section_names],
    )


def _each(elf: Elf, changed: Callable[[int, Section], Section]) -> tuple[Section, ...]:
    return tuple(changed(index, section) for index, section in enumerate(elf.sections))
