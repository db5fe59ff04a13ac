# SPDX-License-Identifier: GPL-2.0-only
"""Records -> bytes of an ELF64 relocatable object, in the byte order that `Elf.ident` says.

Sections lie in the file in the order they were read in, new ones behind; the section header table
comes last, as GNU ld lays out a module. So an unchanged module is written as it was, byte for byte,
as far as its padding was zero. String tables only grow: a name is looked up where its record
says the file had it, and is appended when it is not there.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

from orchestrator.elf.records import (
    ET_REL,
    SHN_LORESERVE,
    SHT_RELA,
    Elf,
    Rela,
    Section,
    Size,
    Symbol,
)
from orchestrator.errors import UsageError


class _Strings:
    """A string table that grows."""

    def __init__(self, data: bytes) -> None:
        self._data = bytearray(data or b"\0")
        self._added: dict[str, int] = {}

    def place(self, name: str, hint: int) -> int:
        """The offset of `name`, appending it if the table does not have it at `hint`."""
        raw = name.encode("utf-8", "surrogateescape") + b"\0"
        if hint >= 0 and self._data.startswith(raw, hint):
            return hint
        if not name and self._data[0] == 0:
            return 0
        if name not in self._added:
            self._added[name] = len(self._data)
            self._data += raw
        return self._added[name]

    def data(self) -> bytes:
        return bytes(self._data)


def write(elf: Elf) -> bytes:
    """The file. Raises UsageError if the records contradict themselves: no string table for the
    symbols, symbols without a symbol table, or a number too large for its field."""
    contents = {i: _contents(elf, s) for i, s in enumerate(elf.sections) if s.has_bytes}
    _place_symbols(elf, contents)
    names = _Strings(contents.get(elf.section_names, b""))
    names_at = [names.place(s.name, s.name_at) for s in elf.sections]
    contents[elf.section_names] = names.data()

    body = bytearray(Size.EHDR)
    offsets: dict[int, int] = {}
    for index in _file_order(elf.sections, contents):
        _align(body, elf.sections[index].align)
        offsets[index] = 0 if index == 0 else len(body)
        body += contents.get(index, b"")
    _align(body, 8)
    table_at = len(body)
    for index, section in enumerate(elf.sections):
        size = len(contents[index]) if section.has_bytes else section.memory_size
        place = (section.address, offsets[index], size)
        meaning = (section.link, section.info, section.align, section.entsize)
        numbers = (names_at[index], section.type, section.flags, *place, *meaning)
        body += _pack(elf, "IIQQQQIIQQ", numbers, f"section {section.name}")
    count = len(elf.sections)
    if count >= SHN_LORESERVE:
        raise UsageError(f"{count} sections; the kernel's loader has room for {SHN_LORESERVE - 1}")
    header = (ET_REL, elf.machine, elf.version, elf.entry, 0, table_at, elf.flags)
    sizes = (Size.EHDR, 0, 0, Size.SHDR, count, elf.section_names)
    body[: Size.EHDR] = elf.ident + _pack(elf, "HHIQQQIHHHHHH", header + sizes, "the ELF header")
    return bytes(body) + elf.trailing


def _contents(elf: Elf, section: Section) -> bytes:
    """The bytes of any section but the symbol table."""
    if section.type != SHT_RELA:
        return section.data
    return b"".join(_pack_rela(elf, r, section.name) for r in section.relas) + section.data


def _pack_rela(elf: Elf, rela: Rela, where: str) -> bytes:
    numbers = (rela.offset, rela.symbol << 32 | rela.type, rela.addend)
    return _pack(elf, "QQq", numbers, f"a relocation of {where}")


def _place_symbols(elf: Elf, contents: dict[int, bytes]) -> None:
    """Puts symbol table and its strings into `contents`."""
    table = elf.symbol_table
    if table is None:
        if elf.symbols:
            raise UsageError("symbols, but no section of type SHT_SYMTAB to write them to")
        return
    link = elf.sections[table].link
    if link not in contents or link == table:
        raise UsageError(f"the symbol table's string table is section {link}, which has no data")
    strings = _Strings(contents[link])
    packed = [_pack_symbol(elf, s, strings.place(s.name, s.name_at)) for s in elf.symbols]
    contents[table] = b"".join(packed) + contents[table]
    contents[link] = strings.data()


def _pack_symbol(elf: Elf, symbol: Symbol, name_at: int) -> bytes:
    numbers = (name_at, symbol.info, symbol.other, symbol.shndx, symbol.value, symbol.size)
    return _pack(elf, "IBBHQQ", numbers, f"symbol {symbol.name}")


def _file_order(sections: Sequence[Section], contents: Mapping[int, bytes]) -> list[int]:
    """Section indices in the order their bytes come in the file."""

    def key(index: int) -> tuple[bool, int, bool, int]:
        # Of sections at one offset the empty ones come first: the other would push them on.
        at = sections[index].offset
        return at < 0, at, bool(contents.get(index)), index

    return sorted(range(len(sections)), key=key)


def _align(body: bytearray, align: int) -> None:
    body += bytes(-len(body) % max(align, 1))


def _pack(elf: Elf, layout: str, numbers: tuple[int, ...], what: str) -> bytes:
    try:
        return struct.pack(("<" if elf.byte_order == "little" else ">") + layout, *numbers)
    except struct.error as err:
        raise UsageError(f"{what} cannot be written: {err}") from err
