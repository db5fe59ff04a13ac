# SPDX-License-Identifier: GPL-2.0-only
"""An ordinary module -> a livepatch module with deferred relocations, and its relocations.

Conversion comes last, after modpost and before signing: the linker would keep neither the special
section index nor the flag, nor two SHT_RELA sections for one section.

Indices never change: klp sections are put behind all others, klp symbols stay where the undefined
symbols were, and a .rela section that loses all its entries stays, empty. The loader and
apply_relocate_add() walk an empty one without effect (kernel/module/main.c, apply_relocations()).
`__versions` stays as it is: check_version() is asked only about symbols that the loader itself
resolves, and SHN_LIVEPATCH ones are not (simplify_symbols()).
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from orchestrator.elf import fields, relocation, tables
from orchestrator.elf.inspection import Inspection, Violation, inspect
from orchestrator.elf.klpformat import (
    PER_CPU,
    SIGNATURE,
    SYMBOL_PREFIX,
    built_for,
    checked,
    is_klp_section,
    is_livepatch,
    object_name,
    parse_section_name,
    parse_symbol_name,
    section_name,
    symbol_name,
    why_not,
)
from orchestrator.elf.reader import definitions, expect_machine, read
from orchestrator.elf.records import (
    SHF_ALLOC,
    SHF_INFO_LINK,
    SHF_RELA_LIVEPATCH,
    SHN_COMMON,
    SHN_LIVEPATCH,
    SHN_UNDEF,
    SHT_NOBITS,
    SHT_REL,
    SHT_RELA,
    ByteOrder,
    Elf,
    Rela,
    Section,
    Size,
)
from orchestrator.elf.writer import write
from orchestrator.errors import UsageError
from orchestrator.nouns import VMLINUX, KlpRelocation, KlpSymbol, RelocationType

__all__ = [
    "Inspection",
    "Violation",
    "auto_symbols",
    "convert",
    "inspect",
    "klp_relocations",
]

_SEE = "klp-e2e inspect names each rule it breaks"
_EDITED = "no kernel can apply it: was the .ko changed since it was linked?"
_ADD = "add it to the table of relocations in the architecture's file"


UNDEFINED_SHOWN = 8  # symbols, of a module that lacks the one that is wanted


def convert(
    data: bytes,
    symbols: Sequence[KlpSymbol],
    *,
    elsewhere: Mapping[KlpSymbol, str] = MappingProxyType({}),
    table: relocation.Table | None = None,
    bound: Collection[str] = (),
    name: str = "the livepatch",
) -> bytes:
    """The module with every relocation against `symbols` deferred until their object is loaded.

    Each of `symbols` is undefined in the module under its plain name. Their objects are taken out
    of `depends=`, which would have them loaded first. May be applied again, for further objects.
    elsewhere: of some symbols the object in whose sections their relocations go, where it is not
    their own: a module on which that object depends, or what the kernel has to refuse.
    bound: objects of which it uses further symbols the ordinary way: they stay in `depends=`.
    With `table` their fields are cleared, as some architectures want them, and relocation
    types that the architecture's table lacks are refused.

    Raises UsageError, naming symbol and section, for what cannot be converted.
    """
    elf = read(data, name)
    _check_module(elf, name)
    wanted = _wanted(elf, symbols, name)
    if not wanted:
        return data
    homes = {index: elsewhere.get(symbol, symbol.object) for index, symbol in wanted.items()}
    sections = list(elf.sections)
    moved: dict[tuple[str, int], list[Rela]] = {}  # (object, section they apply to)
    for index, section in enumerate(elf.sections):
        moving = [rela for rela in section.relas if rela.symbol in wanted]
        if not moving:
            continue
        _check_section(elf, section, moving, wanted, homes)
        sections[index] = replace(
            section, relas=tuple(rela for rela in section.relas if rela.symbol not in wanted)
        )
        if table is not None:
            sections[section.info] = _cleared(elf, sections[section.info], moving, table)
        for rela in moving:
            moved.setdefault((homes[rela.symbol], section.info), []).append(rela)
    _check_all_used(wanted, moved.values(), name)
    _add_klp_sections(elf, sections, moved)
    _strip_depends(sections, {symbol.object for symbol in wanted.values()} - set(bound))
    renamed = tuple(
        replace(symbol, name=symbol_name(wanted[index]), shndx=SHN_LIVEPATCH)
        if index in wanted
        else symbol
        for index, symbol in enumerate(elf.symbols)
    )
    return write(replace(elf, sections=tuple(sections), symbols=renamed))


def auto_symbols(
    livepatch: bytes, target: bytes, object: str, *, given: Collection[str] = ()
) -> tuple[KlpSymbol, ...]:
    """Every undefined symbol of the livepatch that the target module defines, except `given`.

    sympos is 0, "must be unique". Raises UsageError, listing the candidates, for a name the target
    has more than once: which of them the livepatch means is for the caller to say.
    """
    patch, module = read(livepatch, "the livepatch"), read(target, object)
    expect_machine(module, patch.machine, patch.byte_order, object)
    defined = definitions(module)
    object = object_name(object)
    found = []
    for name in dict.fromkeys(s.name for s in patch.symbols if s.shndx == SHN_UNDEF):
        places = defined.get(name, ())
        if name in given or not places:
            continue
        if len(places) > 1:
            candidates = (f"{name},{n} in {s or '*ABS*'}+{at:#x}" for n, (s, at) in _count(places))
            raise UsageError(
                f"{object} defines {name} {len(places)} times: {'; '.join(candidates)}",
                f"say which one is meant, as in {name},1",
            )
        found.append(checked(KlpSymbol(object, name, 0)))
    return tuple(found)


def klp_relocations(
    elf: Elf, table: relocation.Table, name: str = "the livepatch"
) -> tuple[KlpRelocation, ...]:
    """Every entry of every klp section, in file order, whoever built the module.

    Raises UsageError for what the kernel would refuse or misread, and for a relocation type that
    `table` does not know; `inspect` says it in full.
    """
    found = []
    shared = fields.shared(elf, table)
    rewritten = tables.calls(elf) | tables.alternatives(elf)
    named = Counter(section.name for section in elf.sections if section.allocated)
    for section in elf.sections:
        if not is_klp_section(section):
            continue
        parsed = parse_section_name(section.name)
        if parsed is None or section.type != SHT_RELA or not section.info < len(elf.sections):
            raise UsageError(f"{name}: {section.name} is not a livepatch relocation section", _SEE)
        target = elf.sections[section.info]
        if named[target.name] > 1:
            raise UsageError(
                f"{name} has several sections named {target.name}: no guest shows where each lies",
                "link it again: `ld -r` makes one of those of one name",
            )
        if section.relas and target.name == PER_CPU:
            raise UsageError(
                f"{name}: {section.name} writes per-CPU data, and klp-e2e cannot read back the "
                "copy of each CPU",
                hint="point there from ordinary data",
            )
        for rela in section.relas:
            where = f"{name}: {section.name} at {rela.offset:#x}"
            entry = _deferred(elf, parsed[0], target, rela, table, where)
            if parsed[0] == VMLINUX and (section.info, rela.offset) in rewritten:
                entry = replace(entry, rewritten=True)
            if other := shared.get((section.info, rela.offset)):
                raise UsageError(f"{where}: {other} writes the same field", _EDITED)
            found.append(entry)
    return tuple(found)


def _deferred(
    elf: Elf, object: str, target: Section, rela: Rela, table: relocation.Table, where: str
) -> KlpRelocation:
    """One entry of a klp section that applies to `target`."""
    row = table(rela.type)
    if row is None:
        raise UsageError(f"{where}: relocation type {rela.type} is not in the table", _ADD)
    known = rela.symbol < len(elf.symbols)
    symbol = parse_symbol_name(elf.symbols[rela.symbol].name) if known else None
    if symbol is None:
        raise UsageError(f"{where}: {elf.symbol_name(rela.symbol)} is no klp symbol", _SEE)
    initial = _field(row, elf.byte_order, target, rela.offset, where)
    if why := relocation.refusal(row, elf.byte_order, initial, rela.offset, rela.addend):
        raise UsageError(f"{where}: {why}", _EDITED)
    return KlpRelocation(
        object=object,
        section=target.name,
        offset=rela.offset,
        type=rela.type,
        symbol=symbol,
        addend=rela.addend,
        initial=initial,
        table=len(target.data) if target.name in tables.ENTRY else 0,
    )


def _count(places: Iterable[tuple[str, int]]) -> Iterable[tuple[int, tuple[str, int]]]:
    return enumerate(places, start=1)  # sympos counts from 1


def _field(row: RelocationType, order: ByteOrder, section: Section, at: int, where: str) -> bytes:
    """The bytes of a field as they stand in the file."""
    found = relocation.field(row, order, section.data, at)
    if found is None:
        raise UsageError(f"{where}: the field lies beyond the end of {section.name}")
    return found


def _check_module(elf: Elf, name: str) -> None:
    """Refuses what cannot become a livepatch module at all."""
    if not is_livepatch(elf):
        raise UsageError(
            f'{name} has no MODULE_INFO(livepatch, "Y"): the kernel would not apply its klp '
            "relocations",
            'add MODULE_INFO(livepatch, "Y"); to its source',
        )
    if elf.trailing.endswith(SIGNATURE):
        raise UsageError(f"{name} is signed", "convert first, sign afterwards")
    if elf.symbol_table is None:
        raise UsageError(f"{name} has no symbol table", "do not strip it")
    if rel := next((s for s in elf.sections if s.type == SHT_REL and s.data), None):
        raise UsageError(f"{name}: {rel.name} is a SHT_REL section; only SHT_RELA is supported")


def _wanted(elf: Elf, symbols: Sequence[KlpSymbol], name: str) -> Mapping[int, KlpSymbol]:
    """Symbol-table index -> klp symbol it shall become."""
    by_name: dict[str, KlpSymbol] = {}
    for symbol in map(checked, symbols):
        if (first := by_name.setdefault(symbol.name, symbol)) != symbol:
            raise UsageError(
                f"{name}: {symbol.name} cannot be both {first} and {symbol}",
                hint="it is one symbol of the module: name it once",
            )
    found = {
        index: by_name[symbol.name]
        for index, symbol in enumerate(elf.symbols)
        if symbol.shndx == SHN_UNDEF and symbol.name in by_name
    }
    missing = by_name.keys() - {symbol.name for symbol in found.values()}
    for symbol in by_name.values():
        if symbol.name in missing:
            why = _why_not_undefined(elf, symbol)
            raise UsageError(f"{name}: {symbol.name} {why}", _instead(elf, symbol.name))
    return found


def _instead(elf: Elf, wanted: str) -> str:
    """What the module does leave undefined."""
    names = sorted({s.name for s in elf.symbols if s.shndx == SHN_UNDEF and s.name})
    close = difflib.get_close_matches(wanted, names, n=1)
    more = [f"and {len(names) - UNDEFINED_SHOWN} more"] if len(names) > UNDEFINED_SHOWN else []
    guess = f"did you mean {close[0]}? " if close else ""
    return f"{guess}undefined in it: {', '.join([*names[:UNDEFINED_SHOWN], *more]) or 'nothing'}"


def _why_not_undefined(elf: Elf, wanted: KlpSymbol) -> str:
    for symbol in elf.symbols:
        if symbol.name == wanted.name:
            if symbol.shndx == SHN_COMMON:
                return "is a COMMON symbol; compile with -fno-common and declare it extern"
            return "is defined in the module itself; declare it extern"
        klp = parse_symbol_name(symbol.name)
        if symbol.name.startswith(SYMBOL_PREFIX) and klp and klp.name == wanted.name:
            return f"is already the klp symbol {klp}"
    return "does not occur in the module"


def _check_section(
    elf: Elf,
    section: Section,
    moving: Sequence[Rela],
    wanted: Mapping[int, KlpSymbol],
    homes: Mapping[int, str],
) -> None:
    """Refuses relocations of `section` that cannot be deferred."""
    first = wanted[moving[0].symbol].name
    if is_klp_section(section):
        raise UsageError(f"{section.name} uses {first}, which is not a klp symbol yet", _SEE)
    if not 0 < section.info < len(elf.sections):
        raise UsageError(f"{section.name} applies to section {section.info}, which does not exist")
    target = elf.sections[section.info]
    if not target.allocated:
        raise UsageError(
            f"{target.name} uses {first}, but is not loaded into memory",
            "build without debugging information, or objcopy --strip-debug first",
        )
    replaced = tables.alternatives(elf)
    kept = {rela.offset for rela in section.relas if rela.symbol not in wanted}
    for rela in moving:
        symbol = wanted[rela.symbol]
        late = homes[rela.symbol] != VMLINUX
        if why := why_not(target.name, late, built_for(elf)):
            raise UsageError(f"{target.name} uses {symbol}, which cannot be deferred: {why}")
        if late and (section.info, rela.offset) in replaced:
            raise UsageError(
                f"{target.name}+{rela.offset:#x} uses {symbol}, which cannot be deferred: it is "
                "code that has an alternative, which is put there while the livepatch loads"
            )
        if rela.offset in kept:
            raise UsageError(
                f"{target.name}+{rela.offset:#x} has relocations against {symbol} and against "
                "another symbol; they cannot be applied at different times"
            )
        if target.type == SHT_NOBITS or rela.offset >= target.size:
            raise UsageError(f"{section.name}: {rela.offset:#x} is beyond the end of {target.name}")


def _cleared(elf: Elf, section: Section, relas: Sequence[Rela], table: relocation.Table) -> Section:
    """The section without values in the fields of `relas`: some architectures check that."""
    data = bytearray(section.data)
    for rela in relas:
        row = table(rela.type)
        where = f"{section.name}+{rela.offset:#x}"
        if row is None:
            raise UsageError(f"{where}: relocation type {rela.type} is not in the table", _ADD)
        found = _field(row, elf.byte_order, section, rela.offset, where)
        if why := relocation.unwanted(row, elf.byte_order, found):
            raise UsageError(f"{where}: {why}")
        clear = relocation.cleared(row, elf.byte_order, found)
        data[rela.offset : rela.offset + len(clear)] = clear
    return replace(section, data=bytes(data))


def _check_all_used(
    wanted: Mapping[int, KlpSymbol], moved: Iterable[Sequence[Rela]], name: str
) -> None:
    used = {rela.symbol for relas in moved for rela in relas}
    for index, symbol in wanted.items():
        if index not in used:
            raise UsageError(f"no relocation of {name} refers to {symbol.name}")


def _add_klp_sections(
    elf: Elf, sections: list[Section], moved: Mapping[tuple[str, int], Sequence[Rela]]
) -> None:
    """Appends one klp section for each object and section, or extends the one there is."""
    for (object, info), relas in moved.items():
        name = section_name(object, sections[info].name)
        for index, section in enumerate(sections):
            if is_klp_section(section) and (section.name, section.info) == (name, info):
                sections[index] = replace(section, relas=(*section.relas, *relas))
                break
        else:
            sections.append(
                Section(
                    name=name,
                    type=SHT_RELA,
                    flags=SHF_ALLOC | SHF_INFO_LINK | SHF_RELA_LIVEPATCH,
                    link=elf.symbol_table or 0,
                    info=info,
                    align=8,
                    entsize=Size.RELA,
                    relas=tuple(relas),
                )
            )


def _strip_depends(sections: list[Section], objects: Collection[str]) -> None:
    """Takes `objects` out of depends= in .modinfo, padding with NULs: nothing else moves.

    next_string() in kernel/module/main.c skips such padding, as kmod does.
    """
    for index, section in enumerate(sections):
        if section.name != ".modinfo":
            continue
        lines = section.data.split(b"\0")
        for number, line in enumerate(lines):
            if line.startswith(b"depends="):
                names = line.removeprefix(b"depends=").split(b",")
                kept = [n for n in names if _module(n) not in objects]
                lines[number] = (b"depends=" + b",".join(kept)).ljust(len(line), b"\0")
        sections[index] = replace(section, data=b"\0".join(lines))


def _module(raw: bytes) -> str:
    return object_name(raw.decode("utf-8", "surrogateescape"))
