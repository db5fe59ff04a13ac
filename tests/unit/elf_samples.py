# SPDX-License-Identifier: GPL-2.0-only
"""A small livepatch module and a small target, made of records; no compiler needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from orchestrator.elf import relocation
from orchestrator.elf.records import (
    SHF_ALLOC,
    SHF_EXECINSTR,
    SHF_INFO_LINK,
    SHF_WRITE,
    SHN_ABS,
    SHN_UNDEF,
    SHT_NOBITS,
    SHT_NULL,
    SHT_PROGBITS,
    SHT_RELA,
    SHT_STRTAB,
    SHT_SYMTAB,
    STB_GLOBAL,
    STB_LOCAL,
    STT_FILE,
    STT_FUNC,
    STT_NOTYPE,
    STT_OBJECT,
    STT_SECTION,
    ByteOrder,
    Elf,
    Rela,
    Section,
    Symbol,
)
from orchestrator.nouns import RelocationType

NULL, TEXT, RELA_TEXT, DATA, RELA_DATA, BSS, MODINFO, MODULE, DEBUG, SYMTAB, STRTAB, NAMES = range(
    12
)
FN, VAR, PRINTK, HIDDEN, INIT = 4, 5, 6, 7, 8
CALL, WORD = 4, 1  # relocation types, of 4 and 8 bytes


ROWS = (
    RelocationType(name="call", number=CALL, bits=32, value="S + A - P"),
    RelocationType(name="word", number=WORD, bits=64, value="S + A"),
)
table = relocation.table(ROWS)


def symbol(name: str, shndx: int = SHN_UNDEF, value: int = 0, kind: int = STT_NOTYPE) -> Symbol:
    return Symbol(name, STB_GLOBAL << 4 | kind, 0, shndx, value, 0)


def local(name: str, shndx: int, value: int = 0, kind: int = STT_FUNC) -> Symbol:
    return Symbol(name, STB_LOCAL << 4 | kind, 0, shndx, value, 8)


def _elf(byte_order: ByteOrder, sections: tuple[Section, ...], symbols: tuple[Symbol, ...]) -> Elf:
    little = byte_order == "little"
    return Elf(
        ident=b"\x7fELF\x02" + (b"\x01" if little else b"\x02") + b"\x01" + bytes(9),
        machine=62 if little else 22,
        version=1,
        entry=0,
        flags=0,
        section_names=NAMES,
        sections=sections,
        symbols=symbols,
    )


def livepatch(byte_order: ByteOrder = "little") -> Elf:
    """Calls target_fn and hidden, and has a pointer to target_var in .data."""
    ax, wa = SHF_ALLOC | SHF_EXECINSTR, SHF_ALLOC | SHF_WRITE
    text_relas = (
        Rela(0x04, CALL, PRINTK, -4),
        Rela(0x0C, CALL, FN, -4),
        Rela(0x14, CALL, HIDDEN, -4),
        Rela(0x1C, CALL, FN, 0x7FFFFFFF),
        Rela(0x24, CALL, 1, 8),
    )
    data_relas = (Rela(8, WORD, VAR, -(1 << 63)), Rela(16, WORD, INIT, 0))
    modinfo = b"livepatch=Y\0license=GPL\0depends=other,the-target\0name=my_patch\0"

    def relas(name: str, info: int, entries: tuple[Rela, ...]) -> Section:
        flags = SHF_INFO_LINK
        return Section(name, SHT_RELA, flags, 0, SYMTAB, info, 8, 24, relas=entries)

    sections = (
        Section("", SHT_NULL, align=0),
        Section(".text", SHT_PROGBITS, ax, align=16, data=bytes(0x40)),
        relas(".rela.text", TEXT, text_relas),
        Section(".data", SHT_PROGBITS, wa, align=8, data=bytes(24) + b"\x11" * 8),
        relas(".rela.data", DATA, data_relas),
        Section(".bss", SHT_NOBITS, wa, align=8, memory_size=0x1000),
        Section(".modinfo", SHT_PROGBITS, SHF_ALLOC, data=modinfo),
        Section(".gnu.linkonce.this_module", SHT_PROGBITS, wa, align=64, data=bytes(range(128))),
        Section(".debug_info", SHT_PROGBITS, data=bytes(16)),
        Section(".symtab", SHT_SYMTAB, link=STRTAB, info=FN, align=8, entsize=24),
        Section(".strtab", SHT_STRTAB),
        Section(".shstrtab", SHT_STRTAB),
    )
    symbols = (
        Symbol("", 0, 0, 0, 0, 0),
        local("", TEXT, kind=STT_SECTION),
        local("my_patch.c", SHN_ABS, kind=STT_FILE),
        local("live_fn", TEXT, 0x10),
        symbol("target_fn"),
        symbol("target_var"),
        symbol("_printk"),
        symbol("hidden"),
        symbol("init_module", TEXT, 0x20, STT_FUNC),
    )
    return _elf(byte_order, sections, symbols)


def with_functions(elf: Elf) -> Elf:
    """The livepatch with a struct klp_func: target_fn is replaced by live_fn."""
    funcs, text = len(elf.sections), len(elf.symbols)
    relas = (Rela(0, WORD, text, 0), Rela(8, WORD, 1, 0x10))
    sections = (
        Section(".data.funcs", SHT_PROGBITS, SHF_ALLOC | SHF_WRITE, align=8, data=bytes(48)),
        Section(".rela.data.funcs", SHT_RELA, SHF_INFO_LINK, 0, SYMTAB, funcs, 8, 24, relas=relas),
        Section(".rodata", SHT_PROGBITS, SHF_ALLOC, data=b"target_fn\0"),
    )
    name = symbol("the_name", funcs + 2)
    return replace(elf, sections=(*elf.sections, *sections), symbols=(*elf.symbols, name))


def target(byte_order: ByteOrder = "little", twice: str = "") -> Elf:
    """Defines target_fn and target_var; the name `twice` a second time."""
    base = livepatch(byte_order)
    symbols = [
        Symbol("", 0, 0, 0, 0, 0),
        local("target.c", SHN_ABS, kind=STT_FILE),
        local("target_fn", TEXT, 0x10),
        symbol("target_var", DATA, 8, STT_OBJECT),
        symbol("absolute", SHN_ABS, 0x1234),
        symbol("_printk"),
    ]
    if twice:
        symbols.insert(3, local(twice, TEXT, 0x30))
    sections = tuple(replace(s, relas=()) for s in base.sections)
    return replace(base, sections=sections, symbols=tuple(symbols))


def with_section(elf: Elf, index: int, change: Callable[[Section], Section]) -> Elf:
    sections = list(elf.sections)
    sections[index] = change(sections[index])
    return replace(elf, sections=tuple(sections))


def with_symbol(elf: Elf, index: int, change: Callable[[Symbol], Symbol]) -> Elf:
    symbols = list(elf.symbols)
    symbols[index] = change(symbols[index])
    return replace(elf, symbols=tuple(symbols))


def append(elf: Elf, section: Section) -> Elf:
    return replace(elf, sections=(*elf.sections, section))
