# SPDX-License-Identifier: GPL-2.0-only
"""An ELF64 relocatable object as frozen values, in either byte order. No behaviour, no I/O.

Each fact stands in one place only: symbols in `Elf.symbols`, relocation entries in
`Section.relas`, everything else as raw bytes in `Section.data`. Numbers are kept as the file has
them, so that nothing is lost on the way from `reader.read` through `writer.write`.

Numbers are from the System V gABI and include/uapi/linux/elf.h.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Literal

ByteOrder = Literal["little", "big"]

ET_REL = 1

SHT_NULL = 0
SHT_PROGBITS = 1
SHT_SYMTAB = 2
SHT_STRTAB = 3
SHT_RELA = 4
SHT_NOBITS = 8
SHT_REL = 9

SHF_WRITE = 0x1
SHF_ALLOC = 0x2
SHF_EXECINSTR = 0x4
SHF_INFO_LINK = 0x40
SHF_RELA_LIVEPATCH = 0x00100000

SHN_UNDEF = 0
SHN_LORESERVE = 0xFF00
SHN_LIVEPATCH = 0xFF20
SHN_ABS = 0xFFF1
SHN_COMMON = 0xFFF2

STB_LOCAL = 0
STB_GLOBAL = 1
STB_WEAK = 2

STT_NOTYPE = 0
STT_OBJECT = 1
STT_FUNC = 2
STT_SECTION = 3
STT_FILE = 4


class Size(IntEnum):
    """Bytes of the ELF64 structures."""

    EHDR = 64
    SHDR = 64
    SYM = 24
    RELA = 24


@dataclass(frozen=True, slots=True)
class Rela:
    """One entry of a SHT_RELA section (Elf64_Rela)."""

    offset: int  # bytes from the start of the section it applies to
    type: int  # ELF64_R_TYPE, 32 bits
    symbol: int  # ELF64_R_SYM: index into Elf.symbols; not checked by the reader
    addend: int  # signed


@dataclass(frozen=True, slots=True)
class Symbol:
    """One entry of the symbol table (Elf64_Sym)."""

    name: str
    info: int  # st_info: binding << 4 | type
    other: int  # st_other
    shndx: int  # st_shndx, raw: a section's index or a reserved SHN_* number
    value: int
    size: int
    name_at: int = field(default=-1, compare=False)
    # where the file's string table has the name; only a hint to the writer, -1: nowhere yet

    @property
    def binding(self) -> int:
        return self.info >> 4

    @property
    def type(self) -> int:
        return self.info & 0xF


@dataclass(frozen=True, slots=True)
class Section:
    """One section with its header.

    `data` holds the raw bytes in the file. For a SHT_RELA section and for the symbol table it
    holds only the trailing bytes that make no whole entry, which a sane file has none of.
    """

    name: str
    type: int  # sh_type
    flags: int = 0
    address: int = 0
    link: int = 0
    info: int = 0
    align: int = 1
    entsize: int = 0
    data: bytes = b""
    relas: tuple[Rela, ...] = ()
    memory_size: int = 0  # sh_size of SHT_NOBITS and SHT_NULL, which have no bytes in the file
    name_at: int = field(default=-1, compare=False)  # as in Symbol, in the section name table
    offset: int = field(default=-1, compare=False)
    # where the file had it; the writer keeps the order of the sections, -1: after all others

    @property
    def has_bytes(self) -> bool:
        """Whether the section's bytes are in the file."""
        return self.type not in (SHT_NULL, SHT_NOBITS)

    @property
    def size(self) -> int:
        """sh_size; of the symbol table, whose entries are elsewhere, only the trailing bytes."""
        return len(self.data) + len(self.relas) * Size.RELA if self.has_bytes else self.memory_size

    @property
    def allocated(self) -> bool:
        """Whether the module loader keeps it in memory."""
        return bool(self.flags & SHF_ALLOC)


@dataclass(frozen=True, slots=True)
class Elf:
    """An ELF64 object of type ET_REL. `sections[0]` is the null section."""

    ident: bytes  # e_ident, 16 bytes
    machine: int
    version: int
    entry: int
    flags: int
    section_names: int  # e_shstrndx
    sections: tuple[Section, ...]
    symbols: tuple[Symbol, ...]  # of the one SHT_SYMTAB section; () if there is none
    trailing: bytes = b""  # what follows the ELF object in the file: a module signature

    @property
    def byte_order(self) -> ByteOrder:
        return "little" if self.ident[5] == 1 else "big"

    @property
    def symbol_table(self) -> int | None:
        """Index of the symbol table's section."""
        return next((i for i, s in enumerate(self.sections) if s.type == SHT_SYMTAB), None)

    def section(self, name: str) -> Section | None:
        """The first section of that name."""
        return next((s for s in self.sections if s.name == name), None)

    def symbol_name(self, index: int) -> str:
        """The name to print for a symbol: its own, or that of the section it stands for."""
        if not index < len(self.symbols):
            return f"symbol {index}, which does not exist"
        symbol = self.symbols[index]
        if symbol.type == STT_SECTION and symbol.shndx < len(self.sections):
            return symbol.name or self.sections[symbol.shndx].name
        return symbol.name
