# SPDX-License-Identifier: GPL-2.0-only
"""Is it a well-formed livepatch module? Every rule of the format, and where it is broken. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from orchestrator.elf import relocation, tables
from orchestrator.elf.klpformat import (
    LEFT_OVER_PREFIX,
    SECTION_PREFIX,
    SYMBOL_PREFIX,
    TOMBSTONE_PREFIX,
    built_for,
    dependencies,
    is_klp_section,
    is_livepatch,
    modinfo,
    parse_section_name,
    parse_symbol_name,
    why_not,
)
from orchestrator.elf.patchtable import prepared
from orchestrator.elf.reader import read
from orchestrator.elf.records import (
    SHF_INFO_LINK,
    SHN_ABS,
    SHN_COMMON,
    SHN_LIVEPATCH,
    SHN_UNDEF,
    SHT_RELA,
    ByteOrder,
    Elf,
    Rela,
    Section,
    Size,
    Symbol,
)
from orchestrator.elf.relocation import Table
from orchestrator.elf.rules import RULES
from orchestrator.nouns import VMLINUX, KlpSymbol


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule that is broken, and where."""

    rule: str  # key of RULES
    text: str
    where: str
    warning: bool = False


@dataclass(frozen=True, slots=True)
class InspectedSection:
    """A klp section: one with SHF_RELA_LIVEPATCH, or named as if it were."""

    index: int
    name: str
    object: str  # "" if the name cannot be read
    applies_to: str  # name of the section sh_info points at, "" if there is none
    entries: int


@dataclass(frozen=True, slots=True)
class InspectedRelocation:
    """An entry of a klp section as the file has it."""

    section: str  # name of the klp section
    object: str
    applies_to: str
    offset: int
    type: int
    symbol_name: str  # raw
    symbol: KlpSymbol | None  # None if the name cannot be read
    addend: int
    field: bytes | None  # None if its width is not known or it lies outside


@dataclass(frozen=True, slots=True)
class InspectedSymbol:
    """A klp symbol: SHN_LIVEPATCH, or named as if it were."""

    index: int
    name: str  # raw
    symbol: KlpSymbol | None
    uses: int  # entries of klp sections that refer to it


@dataclass(frozen=True, slots=True)
class Inspection:
    module: str  # MODULE_INFO(name), "" if it has none
    machine: int
    byte_order: ByteOrder
    sections: tuple[InspectedSection, ...]
    relocations: tuple[InspectedRelocation, ...]
    symbols: tuple[InspectedSymbol, ...]
    violations: tuple[Violation, ...]
    undefined: tuple[str, ...] = ()  # ordinary symbols that somebody has to export, sorted

    @property
    def well_formed(self) -> bool:
        """Whether only warnings, if anything, are left."""
        return all(v.warning for v in self.violations)


def inspect(
    data: bytes,
    *,
    table: Table | None = None,
    none: Collection[int] = (),
    name: str = "the module",
) -> Inspection:
    """What a livepatch module defers, and each violation of the format.

    Without `table` relocation types and the content of the fields are not checked. none: types
    that the loader passes over.
    Raises UsageError only for what is no ELF64 relocatable object.
    """
    elf = read(data, name)
    klp = [(i, s) for i, s in enumerate(elf.sections) if _claims_klp(s)]
    uses: dict[int, int] = {}
    for _, section in klp:
        for rela in section.relas:
            uses[rela.symbol] = uses.get(rela.symbol, 0) + 1
    return Inspection(
        module=dict(modinfo(elf)).get("name", ""),
        machine=elf.machine,
        byte_order=elf.byte_order,
        sections=tuple(
            InspectedSection(i, s.name, _object(s), _applies_to(elf, s), len(s.relas))
            for i, s in klp
        ),
        relocations=tuple(_relocation(elf, s, r, table) for _, s in klp for r in s.relas),
        symbols=tuple(
            InspectedSymbol(i, s.name, parse_symbol_name(s.name), uses.get(i, 0))
            for i, s in enumerate(elf.symbols)
            if _claims_klp_symbol(s)
        ),
        violations=tuple(
            Violation(rule, RULES[rule].text, where, RULES[rule].warning)
            for rule, where in _violations(elf, klp, uses, table, none)
        ),
        undefined=tuple(sorted({s.name for s in elf.symbols if s.shndx == SHN_UNDEF and s.name})),
    )


_REPLACED = "code that has an alternative, which is put there while the livepatch loads"

_Broken = Iterator[tuple[str, str]]  # (rule, where)


def _claims_klp(section: Section) -> bool:
    return is_klp_section(section) or section.name.startswith(SECTION_PREFIX)


def _claims_klp_symbol(symbol: Symbol) -> bool:
    marked = symbol.shndx == SHN_LIVEPATCH and not symbol.name.startswith(TOMBSTONE_PREFIX)
    return marked or symbol.name.startswith(SYMBOL_PREFIX)


def _object(section: Section) -> str:
    parsed = parse_section_name(section.name)
    return parsed[0] if parsed else ""


def _target(elf: Elf, section: Section) -> Section | None:
    return elf.sections[section.info] if 0 < section.info < len(elf.sections) else None


def _applies_to(elf: Elf, section: Section) -> str:
    target = _target(elf, section)
    return target.name if target else ""


def _relocation(elf: Elf, section: Section, rela: Rela, table: Table | None) -> InspectedRelocation:
    symbol_name = elf.symbol_name(rela.symbol)
    return InspectedRelocation(
        section=section.name,
        object=_object(section),
        applies_to=_applies_to(elf, section),
        offset=rela.offset,
        type=rela.type,
        symbol_name=symbol_name,
        symbol=parse_symbol_name(symbol_name),
        addend=rela.addend,
        field=_field(elf, section, rela, table),
    )


def _field(elf: Elf, section: Section, rela: Rela, table: Table | None) -> bytes | None:
    """The field's bytes in the file; None if its type is not known or it lies outside."""
    row = table(rela.type) if table else None
    target = _target(elf, section)
    if target is None or row is None:
        return None
    return relocation.field(row, elf.byte_order, target.data, rela.offset)


def _violations(
    elf: Elf,
    klp: list[tuple[int, Section]],
    uses: Mapping[int, int],
    table: Table | None,
    none: Collection[int],
) -> _Broken:
    yield from _module_rules(elf, [s for _, s in klp])
    yield from _symbol_rules(elf, uses)
    seen: set[tuple[str, int]] = set()
    replaced = tables.alternatives(elf)
    for index, section in klp:
        where = f"section {index} {section.name}"
        yield from _section_rules(elf, section, where)
        key = (_object(section), section.info)
        if key in seen:
            yield "section-duplicate", where
        seen.add(key)
        for rela in section.relas:
            at = f"{where}, {_applies_to(elf, section) or 'section ?'}+{rela.offset:#x}"
            yield from _relocation_rules(elf, section, rela, at, table)
            late = _object(section) not in ("", VMLINUX)
            if late and (section.info, rela.offset) in replaced:
                yield "section-target-early", f"{at}, {_REPLACED}"
    yield from _ordinary_rules(elf, none)


def _ordinary_rules(elf: Elf, none: Collection[int]) -> _Broken:
    """Rules of relocations that the loader applies when the livepatch loads."""
    klp = {
        index
        for index, symbol in enumerate(elf.symbols)
        if symbol.shndx == SHN_LIVEPATCH or _claims_klp_symbol(symbol)
    }
    for section in elf.sections:
        target = _target(elf, section)
        if section.type != SHT_RELA or _claims_klp(section) or not (target and target.allocated):
            continue
        if target.name.startswith(LEFT_OVER_PREFIX):
            continue
        for rela in section.relas:
            if rela.symbol in klp and rela.type not in none:
                where = f"{target.name}+{rela.offset:#x}: {elf.symbol_name(rela.symbol)}"
                yield "relocation-ordinary", where


def _module_rules(elf: Elf, klp: list[Section]) -> _Broken:
    if not is_livepatch(elf):
        yield "modinfo-livepatch", ".modinfo"
    if elf.section(".gnu.linkonce.this_module") is None:
        yield "this-module", "section headers"
    if elf.symbol_table is None:
        yield "symbol-table", "section headers"
    objects = {_object(section) for section in klp}
    for module in dependencies(elf):
        if module in objects:
            yield "depends", f".modinfo: depends on {module}"
    table = prepared(elf, "the module")
    patched = {name for name, _ in table.objects} if table is not None else objects
    for name in sorted(objects - patched - {""}):
        yield "object-patched", f"{name}: it patches {', '.join(sorted(patched))}"
    for name in sorted(objects | patched):
        if "/" in name:
            yield "object-module", name


def _symbol_rules(elf: Elf, uses: Mapping[int, int]) -> _Broken:
    for index, symbol in enumerate(elf.symbols):
        where = f"symbol {index} {symbol.name}"
        if symbol.shndx == SHN_COMMON:
            yield "symbol-common", where
        elif symbol.shndx >= len(elf.sections) and symbol.shndx not in (SHN_ABS, SHN_LIVEPATCH):
            yield "symbol-section", f"{where}: st_shndx {symbol.shndx:#x}"
        if not _claims_klp_symbol(symbol):
            continue
        if symbol.shndx != SHN_LIVEPATCH:
            yield "symbol-mark", f"{where}: st_shndx {symbol.shndx:#x}"
        if parse_symbol_name(symbol.name) is None:
            yield "symbol-name", where
        if index not in uses:
            yield "symbol-unused", where


def _section_rules(elf: Elf, section: Section, where: str) -> _Broken:
    """Rules of one klp section, without its entries."""
    parsed = parse_section_name(section.name)
    target = _target(elf, section)
    late = _object(section) != VMLINUX
    if parsed is None:
        yield "section-name", where
    if not is_klp_section(section):
        yield "section-flag", where
    if section.type != SHT_RELA:
        yield "section-type", f"{where}: type {section.type}"
    elif section.data or section.entsize != Size.RELA:
        yield "section-size", f"{where}: size {section.size}, sh_entsize {section.entsize}"
    if not section.allocated:
        yield "section-alloc", where
    if target is None:
        yield "section-target", f"{where}: sh_info {section.info} of {len(elf.sections)} sections"
    elif not target.allocated:
        yield "section-target-alloc", f"{where}: {target.name}"
    elif section.relas and (why := why_not(target.name, late, built_for(elf))):
        yield "section-target-early", f"{where}: {target.name}: {why}"
    if section.link != elf.symbol_table:
        yield "section-link", f"{where}: sh_link {section.link}"
    if not section.flags & SHF_INFO_LINK:
        yield "section-info-link", where


def _relocation_rules(
    elf: Elf, section: Section, rela: Rela, where: str, table: Table | None
) -> _Broken:
    """Rules of one entry of a klp section."""
    symbol = elf.symbols[rela.symbol] if rela.symbol < len(elf.symbols) else None
    parsed = parse_symbol_name(symbol.name) if symbol else None
    if symbol is None or symbol.shndx != SHN_LIVEPATCH:
        yield "relocation-symbol", f"{where}: {elf.symbol_name(rela.symbol)}"
    if parsed and parsed.object == VMLINUX and _object(section) != VMLINUX:
        yield "relocation-vmlinux", f"{where}: {parsed}"
    row = table(rela.type) if table else None
    if table and row is None:
        yield "relocation-type", f"{where}: type {rela.type}"
    target = _target(elf, section)
    if target and rela.offset + (row.bits // 8 if row else 1) > target.size:
        yield "relocation-offset", f"{where}: {target.name} has {target.size:#x} bytes"
    field = _field(elf, section, rela, table)
    if row and field and field != relocation.cleared(row, elf.byte_order, field):
        yield "relocation-field", f"{where}: {field.hex(' ')}"
