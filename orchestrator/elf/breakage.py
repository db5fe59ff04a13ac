# SPDX-License-Identifier: GPL-2.0-only
"""A good livepatch module, broken against one rule of the format at a time. Pure.

Each breakage takes a well-formed module with klp relocations into its code, and gives one that
breaks the rule of the same name (rules.py), with as little else changed as can be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from orchestrator.elf.klpformat import (
    is_klp_section,
    parse_section_name,
    section_name,
    symbol_name,
)
from orchestrator.elf.patchtable import PREPARED
from orchestrator.elf.records import (
    SHF_ALLOC,
    SHF_EXECINSTR,
    SHF_INFO_LINK,
    SHF_RELA_LIVEPATCH,
    SHN_COMMON,
    SHN_LIVEPATCH,
    SHN_UNDEF,
    SHT_PROGBITS,
    SHT_RELA,
    STB_GLOBAL,
    Elf,
    Rela,
    Section,
    Size,
    Symbol,
)
from orchestrator.errors import UsageError
from orchestrator.nouns import VMLINUX, KlpSymbol

Breakage = Callable[[Elf], Elf]

NO_TYPE = 0xFFFFFF  # no architecture has so many
NO_SECTION = 0xFEFE
NO_INDEX = 0xFF21  # reserved, and not SHN_LIVEPATCH
MODINFO, THIS_MODULE = ".modinfo", ".gnu.linkonce.this_module"


def klp_section(elf: Elf) -> int:
    """The klp section that is broken: a module's, into code if there is one, with entries."""
    found = [
        (not elf.sections[section.info].flags & SHF_EXECINSTR, index)
        for index, section in enumerate(elf.sections)
        if is_klp_section(section) and section.relas and _object(section) != VMLINUX
    ]
    if not found:
        raise UsageError("the module has no klp relocations of a module: nothing can be broken")
    return min(found)[1]


def _object(section: Section) -> str:
    parsed = parse_section_name(section.name)
    return parsed[0] if parsed else ""


def with_section(elf: Elf, index: int, change: Callable[[Section], Section]) -> Elf:
    """With the section of that index changed."""
    sections = list(elf.sections)
    sections[index] = change(sections[index])
    return replace(elf, sections=tuple(sections))


def of_section(change: Callable[[Section], Section]) -> Breakage:
    """The klp section that is broken, changed."""
    return lambda elf: with_section(elf, klp_section(elf), change)


def of_named(name: str, change: Callable[[Section], Section]) -> Breakage:
    """The section of that name, changed."""
    return lambda elf: with_section(elf, _index(elf, name), change)


def _index(elf: Elf, name: str) -> int:
    return next(i for i, section in enumerate(elf.sections) if section.name == name)


def of_entry(change: Callable[[Rela], Rela]) -> Breakage:
    """Of the section's first entry."""
    return of_section(lambda s: replace(s, relas=(change(s.relas[0]), *s.relas[1:])))


def of_symbol(change: Callable[[Symbol], Symbol]) -> Breakage:
    """Of the klp symbol that the section's first entry uses."""

    def broken(elf: Elf) -> Elf:
        index = elf.sections[klp_section(elf)].relas[0].symbol
        symbols = list(elf.symbols)
        symbols[index] = change(symbols[index])
        return replace(elf, symbols=tuple(symbols))

    return broken


def another(name: str, shndx: int) -> Breakage:
    """One more symbol."""
    new = Symbol(name, STB_GLOBAL << 4, 0, shndx, 0, 8)
    return lambda elf: replace(elf, symbols=(*elf.symbols, new))


def behind(elf: Elf, section: Section) -> Elf:
    """With one more section."""
    return replace(elf, sections=(*elf.sections, replace(section, offset=-1, name_at=-1)))


def onto(name: str, flags: int) -> Breakage:
    """The klp section applied to a new section of that name."""

    def broken(elf: Elf) -> Elf:
        more = behind(elf, Section(name, SHT_PROGBITS, flags, data=bytes(4096)))
        return with_section(more, klp_section(elf), lambda s: replace(s, info=len(elf.sections)))

    return broken


def _no_symbol_table(elf: Elf) -> Elf:
    assert elf.symbol_table is not None
    made = with_section(elf, elf.symbol_table, lambda s: replace(s, type=SHT_PROGBITS))
    return replace(made, symbols=())


def _twice(elf: Elf) -> Elf:
    """Its last entry goes into a second section of the same name."""
    section = elf.sections[klp_section(elf)]
    cut = with_section(elf, klp_section(elf), lambda s: replace(s, relas=s.relas[:-1]))
    return behind(cut, replace(section, relas=section.relas[-1:]))


def _plain_symbol(elf: Elf) -> Elf:
    """Its first entry uses a symbol of the module's own."""
    own = next(i for i, s in enumerate(elf.symbols) if s.name and 0 < s.shndx < len(elf.sections))
    return of_entry(lambda rela: replace(rela, symbol=own))(elf)


def _vmlinux_symbol(elf: Elf) -> Elf:
    name = symbol_name(KlpSymbol(VMLINUX, "schedule", 0))
    more = another(name, SHN_LIVEPATCH)(elf)
    return of_entry(lambda rela: replace(rela, symbol=len(elf.symbols)))(more)


def _offset_beyond(elf: Elf) -> Elf:
    target = elf.sections[elf.sections[klp_section(elf)].info]
    return of_entry(lambda rela: replace(rela, offset=target.size))(elf)


def _field_not_zero(elf: Elf) -> Elf:
    section = elf.sections[klp_section(elf)]
    at = section.relas[0].offset

    def change(target: Section) -> Section:
        # The second byte holds bits of the value in either byte order, also where the value is
        # but a part of an instruction.
        data = bytearray(target.data)
        data[at + 1] ^= 1
        return replace(target, data=bytes(data))

    return with_section(elf, section.info, change)


def _ordinary(elf: Elf) -> Elf:
    """Its first entry stands among the ordinary relocations too."""
    section = elf.sections[klp_section(elf)]
    name = f".rela{elf.sections[section.info].name}"
    ordinary = replace(section, name=name, flags=SHF_INFO_LINK, relas=section.relas[:1])
    return behind(elf, ordinary)


def _depends(elf: Elf) -> Elf:
    name = _object(elf.sections[klp_section(elf)]).encode()

    def change(section: Section) -> Section:
        kept = [word for word in section.data.split(b"\0") if word]
        kept = [word for word in kept if not word.startswith(b"depends=")]
        return replace(section, data=b"\0".join([*kept, b"depends=" + name, b""]))

    return of_named(MODINFO, change)(elf)


def _patches_another(elf: Elf) -> Elf:
    """With klp-build's tables, in which an object is called otherwise."""
    table, name = len(elf.sections), len(elf.symbols)
    more = another("object_name", table + 1)(elf)
    more = behind(more, Section(PREPARED[0], SHT_PROGBITS, SHF_ALLOC, align=8, data=bytes(64)))
    more = behind(more, Section(".rodata.str", SHT_PROGBITS, SHF_ALLOC, data=b"another\0"))
    pointer = Rela(0, 1, name, 0)
    relas = Section(f".rela{PREPARED[0]}", SHT_RELA, SHF_INFO_LINK, info=table, relas=(pointer,))
    return behind(more, replace(relas, link=elf.symbol_table or 0, align=8, entsize=Size.RELA))


def _unmarked(section: Section) -> Section:
    words = [word for word in section.data.split(b"\0") if word and word != b"livepatch=Y"]
    return replace(section, data=b"\0".join([*words, b""]))


BREAKAGES: Mapping[str, Breakage] = {
    "modinfo-livepatch": of_named(MODINFO, _unmarked),
    "this-module": of_named(THIS_MODULE, lambda s: replace(s, name=".gone")),
    "symbol-table": _no_symbol_table,
    "symbol-common": another("common", SHN_COMMON),
    "symbol-section": another("nowhere", NO_INDEX),
    "section-flag": of_section(lambda s: replace(s, flags=s.flags & ~SHF_RELA_LIVEPATCH)),
    "section-name": of_section(lambda s: replace(s, name=section_name("o" * 56, ".text"))),
    "section-type": of_section(lambda s: replace(s, type=SHT_PROGBITS, relas=())),
    "section-alloc": of_section(lambda s: replace(s, flags=s.flags & ~SHF_ALLOC)),
    "section-size": of_section(lambda s: replace(s, data=b"odd")),
    "section-target": of_section(lambda s: replace(s, info=NO_SECTION)),
    "section-target-alloc": onto(".not-loaded", 0),
    "section-target-early": onto(".init.text", SHF_ALLOC),
    "section-duplicate": _twice,
    "section-link": of_section(lambda s: replace(s, link=0)),
    "section-info-link": of_section(lambda s: replace(s, flags=s.flags & ~SHF_INFO_LINK)),
    "relocation-symbol": _plain_symbol,
    "relocation-vmlinux": _vmlinux_symbol,
    "relocation-offset": _offset_beyond,
    "relocation-type": of_entry(lambda rela: replace(rela, type=NO_TYPE)),
    "relocation-field": _field_not_zero,
    "relocation-ordinary": _ordinary,
    "symbol-name": of_symbol(
        lambda s: replace(s, name=f"{s.name.partition(',')[0]},one", name_at=-1)
    ),
    "symbol-mark": of_symbol(lambda s: replace(s, shndx=SHN_UNDEF)),
    "symbol-unused": another(symbol_name(KlpSymbol("idle", "nobody", 0)), SHN_LIVEPATCH),
    "object-module": of_section(lambda s: replace(s, name=section_name("a/b", ".text"))),
    "object-patched": _patches_another,
    "depends": _depends,
}
