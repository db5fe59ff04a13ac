# SPDX-License-Identifier: GPL-2.0-only
"""Bytes of a kernel module -> records. The only module that imports elftools.

pyelftools decodes the ELF header and the section headers. Symbol and relocation tables are
decoded here with `struct`: pyelftools turns st_shndx and st_info into names where it knows one,
while a livepatch module's raw numbers are the point, and large modules have 10^5 entries.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import replace
from io import BytesIO

from elftools.common.exceptions import ELFError
from elftools.common.utils import struct_parse
from elftools.elf import enums
from elftools.elf.elffile import ELFFile

from orchestrator.elf.records import (
    SHN_ABS,
    SHN_UNDEF,
    SHT_NOBITS,
    SHT_NULL,
    SHT_RELA,
    SHT_SYMTAB,
    STT_FILE,
    STT_SECTION,
    ByteOrder,
    Elf,
    Rela,
    Section,
    Size,
    Symbol,
)
from orchestrator.errors import UsageError

_COMPRESSED = {b"\x1f\x8b": "gzip", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}

_NAME_MAX = 2048  # bytes; the kernel's own limit is 512 (KSYM_NAME_LEN)
_NAMES_MAX = 4  # times the file's size: tables share a string among names, but not all of them
_ALIGN_MAX = 1 << 20  # bytes; modules align to a page at most

# pyelftools gives a section type it knows as a name, any other as a number.
_SECTION_TYPES = {
    name: number
    for table, entries in vars(enums).items()
    if table.startswith("ENUM_SH_TYPE")
    for name, number in entries.items()
    if isinstance(number, int)
}


def read(data: bytes, name: str = "the module") -> Elf:
    """The records of an ELF64 relocatable object.

    `name` is what messages call it. Raises UsageError when `data` is not ELF, not 64 bits, not
    relocatable, or damaged: a header, table, string or section that reaches beyond the file.
    """
    file = _identify(data, name)
    header = file.header
    order: ByteOrder = "little" if file.little_endian else "big"
    sections, tables, symbols = _tables(file, data, name)
    ends = [s.offset + s.size for s in sections if s.has_bytes]
    ends += [len(symbols) * Size.SYM + sections[i].offset + sections[i].size for i in tables]
    ends.append(header["e_shoff"] + len(sections) * Size.SHDR)
    return Elf(
        ident=data[:16],
        machine=_number(header["e_machine"], enums.ENUM_E_MACHINE),
        version=_number(header["e_version"], enums.ENUM_E_VERSION),
        entry=header["e_entry"],
        flags=header["e_flags"],
        section_names=header["e_shstrndx"],
        sections=tuple(_decode_relas(s, order) for s in sections),
        symbols=symbols,
        trailing=data[max(ends) :],
    )


def symbols(data: bytes, name: str) -> tuple[Symbol, ...]:
    """The symbol table of an ELF64 file, relocatable or linked, as vmlinux is. Raises as `read`."""
    return _tables(_identify(data, name, linked=True), data, name)[2]


def _tables(
    file: ELFFile, data: bytes, name: str
) -> tuple[list[Section], list[int], tuple[Symbol, ...]]:
    """(sections, which of them are symbol tables, symbols)."""
    sections = _sections(file, data, name)
    tables = [i for i, s in enumerate(sections) if s.type == SHT_SYMTAB]
    if len(tables) > 1:
        raise UsageError(f"{name} has {len(tables)} symbol tables; ELF allows one")
    if not tables:
        return sections, tables, ()
    order: ByteOrder = "little" if file.little_endian else "big"
    sections, found = _symbols(sections, tables[0], order, name)
    return sections, tables, found


def expect_machine(elf: Elf, machine: int, byte_order: ByteOrder, name: str = "the module") -> None:
    """Raises UsageError unless the object is for this e_machine and byte order."""
    if (elf.machine, elf.byte_order) != (machine, byte_order):
        raise UsageError(
            f"{name} is for {machine_name(elf.machine)}, {elf.byte_order}-endian; "
            f"expected {machine_name(machine)}, {byte_order}-endian",
            "give a module built for this architecture",
        )


def machine_name(number: int) -> str:
    """EM_NAME as elf.h spells it, or "machine N"."""
    table: Mapping[str, object] = enums.ENUM_E_MACHINE
    return next((name for name, n in table.items() if n == number), f"machine {number}")


def relocation_numbers() -> Mapping[str, frozenset[int]]:
    """R_NAME -> its numbers, of every machine that pyelftools knows; the name tells the machine."""
    found: dict[str, set[int]] = {}
    for table, entries in vars(enums).items():
        if table.startswith("ENUM_RELOC_TYPE"):
            for name, number in entries.items():
                if isinstance(number, int):
                    found.setdefault(name, set()).add(number)
    return {name: frozenset(numbers) for name, numbers in found.items()}


def definitions(elf: Elf) -> Mapping[str, tuple[tuple[str, int], ...]]:
    """Symbol name -> (section name, offset in bytes) of each definition, in symbol-table order.

    That is the order in which `sympos` counts from 1 (module_kallsyms_on_each_symbol() in
    kernel/module/kallsyms.c skips only SHN_UNDEF). An absolute symbol has section name "" and its
    value as offset. Symbols that stand for sections and source files are left out.
    """
    found: dict[str, list[tuple[str, int]]] = {}
    for symbol in defined(elf):
        section = "" if symbol.shndx == SHN_ABS else elf.sections[symbol.shndx].name
        found.setdefault(symbol.name, []).append((section, symbol.value))
    return {name: tuple(places) for name, places in found.items()}


def defined(elf: Elf) -> Iterator[Symbol]:
    """The symbols that `definitions` tells of."""
    for symbol in elf.symbols:
        placed = symbol.shndx == SHN_ABS or SHN_UNDEF < symbol.shndx < len(elf.sections)
        if placed and symbol.name and symbol.type not in (STT_SECTION, STT_FILE):
            yield symbol


def _number(value: int | str, table: Mapping[str, object]) -> int:
    """The number that pyelftools turned into a name."""
    number = value if isinstance(value, int) else table[value]
    assert isinstance(number, int)
    return number


def _identify(data: bytes, name: str, *, linked: bool = False) -> ELFFile:
    """pyelftools' view of `data`, once the ELF header is known to be one a module can have, or,
    with `linked`, a program."""
    if not data:
        raise UsageError(f"{name} is empty")
    for magic, program in _COMPRESSED.items():
        if data.startswith(magic):
            raise UsageError(f"{name} is compressed with {program}", "decompress it first")
    if not data.startswith(b"\x7fELF"):
        raise UsageError(f"{name} is not an ELF file", "give a kernel module (.ko)")
    if len(data) < Size.EHDR:
        raise UsageError(f"{name} is truncated: {len(data)} bytes, less than an ELF header")
    if data[4] != 2:
        raise UsageError(f"{name} is not a 64-bit ELF file")
    if data[5] not in (1, 2):
        raise UsageError(f"{name} has a damaged ELF header: byte order {data[5]}")
    order = "<" if data[5] == 1 else ">"
    # Before pyelftools sees it: some of its versions read the section name table at once.
    (table_at,) = struct.unpack_from(order + "Q", data, 40)
    header_size, _, segments, entry, count, names = struct.unpack_from(order + "6H", data, 52)
    if (header_size, entry) != (Size.EHDR, Size.SHDR):
        raise UsageError(f"{name} has a damaged ELF header: wrong size of its structures")
    if table_at + max(count, 1) * Size.SHDR > len(data):
        raise UsageError(
            f"{name} is truncated: {count} section headers at offset {table_at:#x}, "
            f"but the file has {len(data):#x} bytes",
            "build or copy it again",
        )
    if not 0 < names < count:
        raise UsageError(f"{name} has no section name table (e_shstrndx {names})")
    try:
        file = ELFFile(BytesIO(data))
    except (ELFError, ValueError, OverflowError) as err:
        raise UsageError(f"{name} has a damaged ELF header: {err}") from err
    if linked:
        return file
    if file.header["e_type"] != "ET_REL":
        raise UsageError(
            f"{name} is not a relocatable object, but ELF type {file.header['e_type']}",
            "give a kernel module (.ko), not a program or vmlinux",
        )
    if segments:
        raise UsageError(f"{name} has program headers; no kernel module has")
    return file


def _sections(file: ELFFile, data: bytes, name: str) -> list[Section]:
    """All sections with their raw bytes, in header order, every one within the file."""
    start = file.header["e_shoff"]
    sections: list[Section] = []
    names_at: list[int] = []
    room = len(data)
    for index in range(file.header["e_shnum"]):
        raw = struct_parse(file.structs.Elf_Shdr, file.stream, start + index * Size.SHDR)
        kind = _number(raw["sh_type"], _SECTION_TYPES)
        offset, size = raw["sh_offset"], raw["sh_size"]
        has_bytes = kind not in (SHT_NULL, SHT_NOBITS)
        if has_bytes and offset + size > len(data):
            raise UsageError(
                f"{name} is truncated: section {index} reaches to {offset + size:#x}, "
                f"but the file has {len(data):#x} bytes",
                "build or copy it again",
            )
        room -= size if has_bytes else 0
        if room < 0:
            raise UsageError(f"{name} is damaged: its sections overlap")
        align = raw["sh_addralign"]
        if align > _ALIGN_MAX or align & (align - 1):
            raise UsageError(f"{name} is damaged: section {index} is aligned to {align:#x}")
        names_at.append(raw["sh_name"])
        sections.append(
            Section(
                name="",
                type=kind,
                flags=raw["sh_flags"],
                address=raw["sh_addr"],
                link=raw["sh_link"],
                info=raw["sh_info"],
                align=align,
                entsize=raw["sh_entsize"],
                data=data[offset : offset + size] if has_bytes else b"",
                memory_size=0 if has_bytes else size,
                name_at=raw["sh_name"],
                offset=offset,
            )
        )
    if sections[0].type != SHT_NULL or sections[0].memory_size:
        raise UsageError(f"{name} has a damaged section table: section 0 is not the null section")
    names = sections[file.header["e_shstrndx"]].data
    strings = _Strings(names, len(data), name)
    return [
        replace(section, name=strings.at(at, f"section {index}"))
        for index, (section, at) in enumerate(zip(sections, names_at, strict=True))
    ]


def _symbols(
    sections: list[Section], index: int, order: ByteOrder, name: str
) -> tuple[list[Section], tuple[Symbol, ...]]:
    """The sections with the symbol table taken out of its section's data, and the symbols."""
    table = sections[index]
    if not 0 < table.link < len(sections):
        raise UsageError(f"{name} has a symbol table without a string table (sh_link {table.link})")
    whole_file = Size.EHDR + sum(section.size + Size.SHDR for section in sections)
    strings = _Strings(sections[table.link].data, whole_file, name)
    whole = len(table.data) // Size.SYM * Size.SYM
    layout = struct.Struct(("<" if order == "little" else ">") + "IBBHQQ")
    symbols = tuple(
        Symbol(
            name=strings.at(at, f"symbol {number}"),
            info=info,
            other=other,
            shndx=shndx,
            value=value,
            size=size,
            name_at=at,
        )
        for number, (at, info, other, shndx, value, size) in enumerate(
            layout.iter_unpack(table.data[:whole])
        )
    )
    rest = replace(table, data=table.data[whole:])
    return [*sections[:index], rest, *sections[index + 1 :]], symbols


def _decode_relas(section: Section, order: ByteOrder) -> Section:
    """A SHT_RELA section with its entries taken out of its data; any other section as it is."""
    if section.type != SHT_RELA:
        return section
    whole = len(section.data) // Size.RELA * Size.RELA
    layout = struct.Struct(("<" if order == "little" else ">") + "QQq")
    relas = tuple(
        Rela(offset=offset, type=info & 0xFFFFFFFF, symbol=info >> 32, addend=addend)
        for offset, info, addend in layout.iter_unpack(section.data[:whole])
    )
    return replace(section, data=section.data[whole:], relas=relas)


class _Strings:
    """A string table. Each string may be asked for often, and every name is kept and shown: not
    more of them than a file of `size` bytes can mean."""

    def __init__(self, table: bytes, size: int, file: str) -> None:
        self._table = table
        self._left = _NAMES_MAX * size
        self._file = file

    def at(self, at: int, what: str) -> str:
        """The NUL-terminated string there; bytes that are not UTF-8 survive as surrogates."""
        if at == 0 and not self._table:
            return ""
        end = self._table.find(b"\0", at, at + _NAME_MAX + 1)
        if end < 0:
            if at + _NAME_MAX < len(self._table):
                raise UsageError(
                    f"the name of {what} of {self._file} is longer than {_NAME_MAX} bytes"
                )
            raise UsageError(
                f"the name of {what} of {self._file} lies beyond its string table",
                "build or copy the file again",
            )
        self._left -= end - at
        if self._left < 0:
            raise UsageError(f"{self._file} is damaged: its names are much longer than the file")
        return self._table[at:end].decode("utf-8", "surrogateescape")
