# SPDX-License-Identifier: GPL-2.0-only
"""Each rule of the format, broken once: it is named, and a good module breaks none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from elf_samples import (
    CALL,
    DEBUG,
    FN,
    MODINFO,
    MODULE,
    RELA_TEXT,
    SYMTAB,
    TEXT,
    append,
    field_bytes,
    livepatch,
    symbol,
    with_section,
    with_symbol,
)

from orchestrator.elf.klp import convert, inspect
from orchestrator.elf.reader import read
from orchestrator.elf.records import SHF_ALLOC, SHF_INFO_LINK, SHN_COMMON, Elf, Rela, Section
from orchestrator.elf.rules import RULES
from orchestrator.elf.writer import write
from orchestrator.nouns import KlpSymbol

KLP = 12  # the klp section of .text

GOOD = read(
    convert(
        write(livepatch()),
        [KlpSymbol("t", "target_fn", 0), KlpSymbol("vmlinux", "hidden", 0)],
        field_bytes=field_bytes,
    )
)


def klp(**change: object) -> Callable[[Elf], Elf]:
    return lambda elf: with_section(elf, KLP, lambda s: replace(s, **change))  # type: ignore[arg-type] # fields by name


def fn(**change: object) -> Callable[[Elf], Elf]:
    return lambda elf: with_symbol(elf, FN, lambda s: replace(s, **change))  # type: ignore[arg-type] # fields by name


def rela(**change: object) -> Callable[[Elf], Elf]:
    def first(section: Section) -> Section:
        head = replace(section.relas[0], **change)  # type: ignore[arg-type] # fields by name
        return replace(section, relas=(head, *section.relas[1:]))

    return lambda elf: with_section(elf, KLP, first)


def add_symbol(**change: object) -> Callable[[Elf], Elf]:
    new = replace(symbol("new"), **change)  # type: ignore[arg-type] # fields by name
    return lambda elf: replace(elf, symbols=(*elf.symbols, new))


def no_symbol_table(elf: Elf) -> Elf:
    return replace(with_section(elf, SYMTAB, lambda s: replace(s, type=1)), symbols=())


def onto_init(elf: Elf) -> Elf:
    more = append(elf, Section(".init.text", 1, SHF_ALLOC, data=bytes(64)))
    return klp(info=len(elf.sections))(more)


BREAK: dict[str, Callable[[Elf], Elf]] = {
    "modinfo-livepatch": lambda e: with_section(e, MODINFO, lambda s: replace(s, data=b"a=b\0")),
    "this-module": lambda e: with_section(e, MODULE, lambda s: replace(s, name=".gone")),
    "symbol-table": no_symbol_table,
    "symbol-common": add_symbol(shndx=SHN_COMMON),
    "symbol-section": add_symbol(shndx=0xFF21),
    "section-flag": klp(flags=SHF_ALLOC | SHF_INFO_LINK),
    "section-name": klp(name=".klp.rela." + "o" * 56 + "..text"),
    "section-type": klp(type=1, relas=()),
    "section-alloc": klp(flags=0x100040),
    "section-size": klp(data=b"odd"),
    "section-target": klp(info=99),
    "section-target-alloc": klp(info=DEBUG, relas=()),
    "section-target-early": onto_init,
    "section-duplicate": lambda e: append(e, replace(e.sections[KLP], relas=())),
    "section-link": klp(link=0),
    "section-info-link": klp(flags=0x100002),
    "relocation-symbol": rela(symbol=3),
    "relocation-vmlinux": rela(symbol=7),
    "relocation-offset": rela(offset=0x3D),
    "relocation-type": rela(type=99),
    "relocation-field": lambda e: with_section(e, TEXT, lambda s: replace(s, data=b"\1" * 64)),
    "relocation-ordinary": lambda e: with_section(
        e, RELA_TEXT, lambda s: replace(s, relas=(*s.relas, Rela(0x30, CALL, FN, 0)))
    ),
    "symbol-name": fn(name=".klp.sym.t.target_fn,one"),
    "symbol-mark": fn(shndx=0),
    "symbol-unused": add_symbol(name=".klp.sym.t.idle,0", shndx=0xFF20),
    "depends": lambda e: with_section(
        e, MODINFO, lambda s: replace(s, data=b"livepatch=Y\0depends=a,t\0")
    ),
}


def test_every_rule_has_its_case() -> None:
    assert BREAK.keys() == RULES.keys()


@pytest.mark.parametrize("rule", RULES)
def test_a_broken_rule_is_named(rule: str) -> None:
    found = inspect(write(BREAK[rule](GOOD)), field_bytes=field_bytes)
    assert rule in {v.rule for v in found.violations}
    violation = next(v for v in found.violations if v.rule == rule)
    assert violation.where and violation.text == RULES[rule].text
    if RULES[rule].warning:
        assert {v.rule for v in found.violations} == {rule}
    assert found.well_formed == RULES[rule].warning


def test_a_good_module_is_shown_whole() -> None:
    found = inspect(write(GOOD), field_bytes=field_bytes)
    assert found.well_formed and not found.violations
    assert (found.module, found.byte_order) == ("my_patch", "little")
    assert [(s.name, s.object, s.applies_to, s.entries) for s in found.sections] == [
        (".klp.rela.t..text", "t", ".text", 2),
        (".klp.rela.vmlinux..text", "vmlinux", ".text", 1),
    ]
    assert [(r.offset, r.type, r.symbol, r.field) for r in found.relocations][:1] == [
        (0x0C, CALL, KlpSymbol("t", "target_fn", 0), bytes(4))
    ]
    assert [(s.symbol, s.uses) for s in found.symbols] == [
        (KlpSymbol("t", "target_fn", 0), 2),
        (KlpSymbol("vmlinux", "hidden", 0), 1),
    ]


def test_an_ordinary_module_is_not_a_livepatch() -> None:
    bare = with_section(livepatch(), MODINFO, lambda s: replace(s, data=b"license=GPL\0"))
    assert [v.rule for v in inspect(write(bare)).violations] == ["modinfo-livepatch"]


@pytest.mark.parametrize(
    "name",
    [
        ".klp.sym.t.target_fn",
        ".klp.sym.t.,0",
        ".klp.sym..f,0",
        ".klp.sym.t.a,b,0",
        ".klp.sym.t.f,",
        ".klp.sym.t.f,0x1",
        ".klp.sym.t.f,18446744073709551616",
        ".klp.sym." + "o" * 56 + ".f,0",
        ".klp.sym.t." + "n" * 512 + ",0",
    ],
)
def test_names_that_the_kernel_cannot_read(name: str) -> None:
    assert "symbol-name" in {v.rule for v in inspect(write(fn(name=name)(GOOD))).violations}
