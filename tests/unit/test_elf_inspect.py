# SPDX-License-Identifier: GPL-2.0-only
"""Each rule of the format, broken once: it is named, and a good module breaks none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from elf_samples import CALL, FN, MODINFO, livepatch, table, with_section, with_symbol

from orchestrator import catalog
from orchestrator.elf import relocation
from orchestrator.elf.breakage import BREAKAGES
from orchestrator.elf.inspection import Inspection
from orchestrator.elf.klp import convert, inspect
from orchestrator.elf.reader import read
from orchestrator.elf.records import SHF_RELA_LIVEPATCH, Elf, Section
from orchestrator.elf.rules import RULES
from orchestrator.elf.writer import write
from orchestrator.nouns import KlpSymbol, RelocationType

GOOD = read(
    convert(
        write(livepatch()),
        [KlpSymbol("t", "target_fn", 0), KlpSymbol("vmlinux", "hidden", 0)],
        table=table,
    )
)


ALONG = {  # what cannot be broken without the other
    "symbol-table": ("relocation-symbol", "section-link"),
    "section-type": ("symbol-unused",),
    "relocation-symbol": ("symbol-unused",),
    "relocation-vmlinux": ("symbol-unused",),
    "symbol-mark": ("relocation-symbol",),
}


def named(name: str) -> Elf:
    """GOOD with a klp symbol of that name."""
    return with_symbol(GOOD, FN, lambda s: replace(s, name=name))


def test_what_is_not_converted_is_listed() -> None:
    before, after = inspect(write(livepatch())), inspect(write(GOOD), table=table)
    assert {"target_fn", "hidden"} <= set(before.undefined)
    assert set(before.undefined) - set(after.undefined) == {"target_fn", "hidden"}


def test_every_rule_has_its_case() -> None:
    assert BREAKAGES.keys() == RULES.keys()


@pytest.mark.parametrize("rule", RULES)
def test_a_broken_rule_is_named(rule: str) -> None:
    found = inspect(write(BREAKAGES[rule](GOOD)), table=table)
    assert rule in {v.rule for v in found.violations}
    violation = next(v for v in found.violations if v.rule == rule)
    assert violation.where and violation.text == RULES[rule].text
    assert {v.rule for v in found.violations} <= {rule, *ALONG.get(rule, ())}
    assert found.well_formed == RULES[rule].warning


def test_a_field_within_an_instruction_is_broken_too() -> None:
    """A call of powerpc, `bl .`, as gcc leaves it: its lowest bit is one, and no value."""
    (number, at) = next(
        (s.info, s.relas[0].offset) for s in GOOD.sections if s.flags & SHF_RELA_LIVEPATCH
    )
    call = RelocationType(
        name="CALL", number=CALL, bits=32, value="S + A - P", field=("25..2 = 25..2",)
    )
    before = b"\1\0\0\x48"

    def put(section: Section) -> Section:
        data = section.data[:at] + before + section.data[at + 4 :]
        return replace(section, data=data)

    broken = BREAKAGES["relocation-field"](with_section(GOOD, number, put))
    field = broken.sections[number].data[at : at + 4]
    assert field != before and relocation.cleared(call, "little", field) == before


def test_a_good_module_is_shown_whole() -> None:
    found = inspect(write(GOOD), table=table)
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
    assert "symbol-name" in {v.rule for v in inspect(write(named(name))).violations}


# --- what the kernel's own builder makes -------------------------------------------------------

GENUINE = Path(__file__).parent / "genuine/objtool-7.3.4.ko"


def test_what_objtool_makes_is_well_formed() -> None:
    arch = catalog.arch("x86_64")
    rows = relocation.table(arch.relocations)
    for other in GENUINE.parent.glob("*.ko"):
        assert not inspect(other.read_bytes(), table=rows, none=arch.none).violations, other.name
    found = inspect(GENUINE.read_bytes(), table=rows, none=arch.none)
    assert found.violations == ()
    assert {str(s.symbol) for s in found.symbols} == {
        "klp_target:local_helper,0",
        "klp_target:secret,0",
    }
    assert {r.object for r in found.relocations} == {"klp_target"}
    # where the loader does not pass over the type that is left, it would refuse it
    refused = inspect(GENUINE.read_bytes(), table=rows)
    assert {v.rule for v in refused.violations} == {"relocation-ordinary"}


def of_genuine(name: str) -> tuple[Inspection, Elf]:
    data = (GENUINE.parent / f"{name}.ko").read_bytes()
    arch = catalog.arch("x86_64")
    return inspect(data, table=relocation.table(arch.relocations), none=arch.none), read(data)


@pytest.mark.parametrize(
    ("name", "deferred", "undefined"),
    [
        (
            "two-objects-7.3.4",
            {
                ".klp.rela.klp_target..text": ["klp_target:target_hidden,0"],
                ".klp.rela.vmlinux..text": ["vmlinux:core_hidden,0"],
            },
            {"printk_like"},
        ),
        # of several of one name the second, and the static local of the second
        (
            "namesake-7.3.4",
            {".klp.rela.vmlinux..text": ["vmlinux:seen,2", "vmlinux:times.0,2"]},
            set(),
        ),
        # one of its keys is exported, and is left to the loader
        (
            "tables-7.3.4",
            {".klp.rela.vmlinux.__jump_table": ["vmlinux:core_key,0"]},
            {"core_shown_key", "printk_like"},
        ),
    ],
)
def test_what_objtool_defers_is_read(
    name: str, deferred: dict[str, list[str]], undefined: set[str]
) -> None:
    found, elf = of_genuine(name)
    assert found.violations == ()
    told: dict[str, set[str]] = {}
    for each in found.relocations:
        told.setdefault(each.section, set()).add(str(each.symbol))
        assert each.symbol is not None and each.object == each.symbol.object
    assert {section: sorted(symbols) for section, symbols in told.items()} == deferred
    assert set(found.undefined) == undefined
    if name.startswith("tables"):
        entries = {s.name: s.size for s in elf.sections if s.name.startswith("__")}
        assert (entries["__bug_table"], entries["__ex_table"]) == (12, 12)
        assert entries["__jump_table"] == 32


def test_what_a_builder_defers_and_no_kernel_applies_is_told() -> None:
    """objtool klp diff of 7.3.4 asks of a module's symbol whether a static key or a static call is
    the kernel's to read while the livepatch loads, and does not ask of an alternative."""
    found, _ = of_genuine("wrong/alternative-7.3.4")
    assert {v.rule for v in found.violations} == {"section-target-early"}
    code, copied = sorted(violation.where for violation in found.violations)
    assert ".text+0x5, code that has an alternative" in code
    assert ".klp.rela.klp_target..altinstr_replacement: " in copied


OBJECTS = {"objtool-7.3.4": b"klp_target", "two-objects-7.3.4": b"klp_target"}
OBJECTS |= {"kpatch-build-0.9.10": b"dummy"}
ALONG_GENUINE = {  # what a builder's module says of itself needs its symbols
    "symbol-table": {"relocation-symbol", "section-link", "object-patched"},
    "object-module": {"object-patched"},
}


def patches_another(elf: Elf, name: bytes) -> Elf:
    """It says that it patches an object called otherwise."""
    other, string = b"x" + name[1:], b"%s\0"
    sections = tuple(
        replace(section, data=section.data.replace(string % name, string % other))
        if section.allocated and section.name != ".modinfo"
        else section
        for section in elf.sections
    )
    return replace(elf, sections=sections)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", OBJECTS)
def test_a_broken_rule_is_named_of_what_a_builder_made(name: str, rule: str) -> None:
    _, elf = of_genuine(name)
    broken = BREAKAGES[rule](elf)
    if rule == "object-patched":  # where the tables are there already
        broken = patches_another(elf, OBJECTS[name])
    arch = catalog.arch("x86_64")
    rows = relocation.table(arch.relocations)
    found = inspect(write(broken), table=rows, none=arch.none)
    rules = {violation.rule for violation in found.violations}
    along = {*ALONG.get(rule, ()), *ALONG_GENUINE.get(rule, ())}
    assert rule in rules and rules <= {rule, *along}


def test_what_is_left_of_late_relocations_has_no_type() -> None:
    elf = read(GENUINE.read_bytes())
    index = next(i for i, s in enumerate(elf.sections) if s.name == ".rela.text")
    typed = tuple(replace(r, type=2) if r.type == 0 else r for r in elf.sections[index].relas)
    spoilt = with_section(elf, index, lambda section: replace(section, relas=typed))
    found = inspect(write(spoilt), none=[0])
    assert {v.rule for v in found.violations} == {"relocation-ordinary"}
    assert all("klp.tombstone" in v.where for v in found.violations)
