# SPDX-License-Identifier: GPL-2.0-only
"""Where a module's parts come to lie: more memory than it has of its own, another name for a copy
of it, relocated fields at the end of a page. Pure.

The loader puts sections of one kind in the file's sequence, each kind from the start of a page on
(layout_sections() up to 6.3, __layout_sections() since, in kernel/module/main.c). One of type
SHT_NOBITS takes memory, and no byte of the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from orchestrator.elf import klpformat
from orchestrator.elf.footprint import Footprint
from orchestrator.elf.records import (
    SHF_ALLOC,
    SHF_EXECINSTR,
    SHF_WRITE,
    SHT_NOBITS,
    STT_SECTION,
    Elf,
    Rela,
    Section,
)
from orchestrator.elf.relocation import Table
from orchestrator.errors import UsageError
from orchestrator.nouns import RelocationType, Room

PAGE = 4096  # every architecture's page is a multiple of it
SPARE = 512  # bytes that a filler may be smaller than what it is to replace: architectures add some

_UNITS = {"K": 1 << 10, "M": 1 << 20}
_SIZE = re.compile("([1-9][0-9]{0,3})([KM])")
_FLAGS = {
    "text": SHF_ALLOC | SHF_EXECINSTR,
    "rodata": SHF_ALLOC,
    "ro_after_init": SHF_ALLOC | SHF_WRITE,
    "data": SHF_ALLOC | SHF_WRITE,
}
_NAMES = {"ro_after_init": ".data..ro_after_init"}  # the loader knows this kind by its name
_THIS_MODULE = ".gnu.linkonce.this_module"  # struct module, with its name in it
_MODINFO = ".modinfo"


def is_size(text: str) -> bool:
    """Is it a size, as in "64K" and "130M"? At most 9999M; "" is none."""
    return not text or _SIZE.fullmatch(text) is not None


def said(room: Room) -> Footprint:
    """The bytes of each kind that a set.toml asks for."""
    return Footprint(_bytes(room.text), _bytes(room.rodata), 0, _bytes(room.data))


def _bytes(text: str) -> int:
    found = _SIZE.fullmatch(text)
    return int(found[1]) * _UNITS[found[2]] if found else 0


def to_fill(place: Footprint, own: Footprint) -> Footprint:
    """What a module that has `own` needs to take the memory of one that had `place`: it fits there,
    and the other no longer does beside it."""
    late = place.ro_after_init and max(1, place.ro_after_init - own.ro_after_init)
    kinds = (max(0, had - has - SPARE) for had, has in zip(place, own, strict=True))
    return Footprint(*kinds)._replace(ro_after_init=late)


def enlarged(elf: Elf, more: Footprint) -> Elf:
    """The module with so many bytes more of each kind, behind what it has."""
    added = (
        Section(
            _NAMES.get(kind, f".klp_e2e.{kind}"),
            SHT_NOBITS,
            _FLAGS[kind],
            align=8,
            memory_size=size,
        )
        for kind, size in more._asdict().items()
        if size
    )
    return replace(elf, sections=(*elf.sections, *added))


def renamed(elf: Elf, old: str, new: str) -> Elf:
    """A copy under another name, which is nowhere else in it. Raises UsageError for a name that is
    longer than the field in struct module."""
    here, there = old.encode() + b"\0", new.encode() + b"\0"
    sections = list(elf.sections)
    for index, section in enumerate(sections):
        if section.name == _THIS_MODULE:
            at = section.data.index(here)
            field = here.ljust(len(there), b"\0")
            if not section.data.startswith(field, at):
                raise UsageError(f"{new} is too long for the name of a module")
            data = bytearray(section.data)
            data[at : at + len(field)] = there.ljust(len(field), b"\0")
            sections[index] = replace(section, data=bytes(data))
        if section.name == _MODINFO:
            was, now = f"name={old}".encode(), f"name={new}".encode()
            lines = [now if line == was else line for line in section.data.split(b"\0")]
            sections[index] = replace(section, data=b"\0".join(lines))
    return replace(elf, sections=tuple(sections))


# --- the end of a page -------------------------------------------------------------------------


def at_page_end(elf: Elf, table: Table, name: str) -> Elf:
    """The livepatch with one of its klp relocations at the end of a page of its code: across it
    where the code's alignment allows that for any, else in the last word. One that is relative to a
    page comes before others: those are what loaders treat otherwise there (erratum 843419 of
    Cortex-A53, arch/arm64/kernel/module.c).

    Something is put in front of the code, in its own section: loaders know what is at a page's end
    by the offset in it (count_plts(), arch/arm64/kernel/module-plts.c, aligns the section so that
    the rest is not). Raises UsageError where the livepatch's code has no klp relocation.
    """
    for index, section in enumerate(elf.sections):
        if section.flags & SHF_EXECINSTR and section.type != SHT_NOBITS:
            pads = dict(_pads(elf, index, table))
            if pads:
                pad = min(pads, key=lambda each: (pads[each], each))
                return _pushed(elf, index, pad)
    raise UsageError(f"{name}: no klp relocation of its code can lie at the end of a page")


def _pads(elf: Elf, index: int, table: Table) -> Iterator[tuple[int, tuple[bool, int]]]:
    """(bytes in front of that section's code, how little it is wanted) of each klp relocation."""
    align = max(elf.sections[index].align, 1)
    for section in elf.sections:
        if klpformat.is_klp_section(section) and section.info == index:
            for rela in section.relas:
                row = table(rela.type)
                if row is not None:
                    yield from _pads_of(rela, row, align)


def _pads_of(rela: Rela, row: RelocationType, align: int) -> Iterator[tuple[int, tuple[bool, int]]]:
    size = row.bits // 8
    for over in range(size - 1, -size - 1, -1):  # bytes of it that lie behind the page's end
        pad = (over - size - rela.offset) % PAGE
        if pad % align == 0:
            across = 0 < over < size
            rank = 0 if across else 1 if over == 0 else 2
            yield pad, ("Page(" not in row.value, rank)


def _pushed(elf: Elf, index: int, pad: int) -> Elf:
    """The module with a section's content so many bytes further in it, and that at a page's start.
    Whoever points there still does: by a symbol in it, or by the section's own."""
    inside = {number for number, symbol in enumerate(elf.symbols) if symbol.shndx == index}
    itself = {number for number in inside if elf.symbols[number].type == STT_SECTION}

    def moved(rela: Rela, here: bool) -> Rela:
        return replace(
            rela,
            offset=rela.offset + pad * here,
            addend=rela.addend + pad * (rela.symbol in itself),
        )

    sections = [
        replace(s, relas=tuple(moved(rela, s.info == index) for rela in s.relas))
        for s in elf.sections
    ]
    code = sections[index]
    sections[index] = replace(code, data=bytes(pad) + code.data, align=max(PAGE, code.align))
    symbols = (
        replace(symbol, value=symbol.value + pad) if number in inside - itself else symbol
        for number, symbol in enumerate(elf.symbols)
    )
    return replace(elf, sections=tuple(sections), symbols=tuple(symbols))
