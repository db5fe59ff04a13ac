# SPDX-License-Identifier: GPL-2.0-only
"""Ordinary module -> livepatch module, and what is refused on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from elf_samples import (
    CALL,
    DATA,
    FN,
    HIDDEN,
    INIT,
    MODINFO,
    PRINTK,
    RELA_DATA,
    RELA_TEXT,
    SYMTAB,
    TEXT,
    VAR,
    WORD,
    append,
    livepatch,
    symbol,
    table,
    target,
    with_section,
    with_symbol,
)

from orchestrator import catalog
from orchestrator.elf import relocation, tables
from orchestrator.elf.klp import auto_symbols, convert, inspect, klp_relocations
from orchestrator.elf.reader import read
from orchestrator.elf.records import (
    SHF_ALLOC,
    SHF_INFO_LINK,
    SHN_COMMON,
    SHT_REL,
    SHT_RELA,
    ByteOrder,
    Elf,
    Rela,
    Section,
)
from orchestrator.elf.writer import write
from orchestrator.errors import UsageError
from orchestrator.nouns import KlpRelocation, KlpSymbol

ORDERS: tuple[ByteOrder, ...] = ("little", "big")
CALLED = KlpSymbol("the_target", "target_fn", 0)
READ = KlpSymbol("the_target", "target_var", 2)
CORE = KlpSymbol("vmlinux", "hidden", 0)


@pytest.mark.parametrize("order", ORDERS)
def test_entries_move_and_everything_else_stays(order: ByteOrder) -> None:
    before = read(write(livepatch(order)))
    after = read(convert(write(before), [CALLED, READ], table=table))
    moved = {
        s.name: (s.info, s.link, s.flags, s.entsize, s.align, s.relas) for s in after.sections[12:]
    }
    header = (SYMTAB, 0x100042, 24, 8)
    text, data = before.sections[RELA_TEXT].relas, before.sections[RELA_DATA].relas
    assert moved == {
        ".klp.rela.the_target..text": (TEXT, *header, (text[1], text[3])),
        ".klp.rela.the_target..data": (DATA, *header, (data[0],)),
    }
    assert after.sections[RELA_TEXT].relas == (text[0], text[2], text[4])
    assert after.sections[RELA_DATA].relas == (data[1],)
    klp = {FN: ".klp.sym.the_target.target_fn,0", VAR: ".klp.sym.the_target.target_var,2"}
    for index, (old, new) in enumerate(zip(before.symbols, after.symbols, strict=True)):
        if index in klp:
            assert new == replace(old, name=klp[index], shndx=0xFF20)
        else:
            assert new == old
    changed = {
        i
        for i, (old, new) in enumerate(zip(before.sections, after.sections, strict=False))
        if old != new and old.type != 3
    }
    assert changed == {RELA_TEXT, RELA_DATA, MODINFO}


def test_the_object_need_no_longer_be_loaded_first() -> None:
    after = read(convert(write(livepatch()), [CALLED]))
    assert after.sections[MODINFO].data == (
        b"livepatch=Y\0license=GPL\0depends=other" + bytes(12) + b"name=my_patch\0"
    )


def test_an_object_that_is_used_the_ordinary_way_as_well_has_to_be_loaded_first() -> None:
    bound = read(convert(write(livepatch()), [CALLED], bound=["the_target"]))
    assert bound.sections[MODINFO] == livepatch().sections[MODINFO]


def test_a_section_that_loses_every_entry_stays_empty() -> None:
    elf = with_section(livepatch(), RELA_DATA, lambda s: replace(s, relas=s.relas[:1]))
    after = read(convert(write(elf), [READ]))
    assert (after.sections[RELA_DATA].name, after.sections[RELA_DATA].size) == (".rela.data", 0)


def test_converting_again_adds_an_object_and_extends_a_section() -> None:
    at_once = convert(write(livepatch()), [CALLED, READ, CORE], table=table)
    first = convert(write(livepatch()), [CALLED])
    elf = read(convert(convert(first, [CORE]), [READ]))
    assert {s.name: s.relas for s in elf.sections} == {
        s.name: s.relas for s in read(at_once).sections
    }
    assert inspect(at_once, table=table).violations == ()
    more = with_section(
        livepatch(), RELA_DATA, lambda s: replace(s, relas=(*s.relas, Rela(0, WORD, FN, 0)))
    )
    extended = read(convert(convert(write(more), [READ]), [CALLED]))
    section = extended.section(".klp.rela.the_target..data")
    assert section and [r.symbol for r in section.relas] == [VAR, FN]
    assert convert(first, []) == first


def test_a_symbol_may_stand_in_the_sections_of_another_object() -> None:
    """Of a module on which that object depends; and what the kernel has to refuse can be made."""
    elsewhere = {CORE: "the_target"}
    made = convert(write(livepatch()), [CALLED, CORE], elsewhere=elsewhere)
    elf = read(made)
    text = livepatch().sections[RELA_TEXT].relas
    assert {s.name: s.relas for s in elf.sections[12:]} == {
        ".klp.rela.the_target..text": (text[1], text[2], text[3])
    }
    assert elf.symbols[HIDDEN].name == ".klp.sym.vmlinux.hidden,0"
    assert {v.rule for v in inspect(made).violations} == {"relocation-vmlinux"}


def test_fields_are_zeroed() -> None:
    elf = with_section(livepatch(), TEXT, lambda s: replace(s, data=b"\xaa" * 64))
    after = read(convert(write(elf), [CALLED], table=table))
    expected = bytearray(b"\xaa" * 64)
    expected[0x0C:0x10] = expected[0x1C:0x20] = bytes(4)
    assert after.sections[TEXT].data == expected


def test_a_dash_in_the_objects_name_becomes_what_the_kernel_calls_it() -> None:
    after = read(convert(write(livepatch()), [KlpSymbol("the-target", "target_fn", 0)]))
    assert after.symbols[FN].name == ".klp.sym.the_target.target_fn,0"
    assert after.section(".klp.rela.the_target..text")


def with_relas(target_name: str, flags: int, *relas: Rela) -> Callable[[Elf], Elf]:
    """Adds a section and, behind it, relocations that apply to it."""

    def change(elf: Elf) -> Elf:
        info = len(elf.sections)
        elf = append(elf, Section(target_name, 1, flags, data=bytes(32)))
        name = f".rela{target_name}"
        rela = Section(name, SHT_RELA, SHF_INFO_LINK, 0, SYMTAB, info, 8, 24, relas=relas)
        return append(elf, rela)

    return change


def same(elf: Elf) -> Elf:
    return elf


def unused(elf: Elf) -> Elf:
    return replace(elf, symbols=(*elf.symbols, symbol("idle")))


def called(**change: object) -> KlpSymbol:
    return KlpSymbol(**{"object": "t", "name": "target_fn", "sympos": 0, **change})  # type: ignore[arg-type] # values of the right types, given by name


def test_what_a_module_leaves_undefined_is_named_where_a_symbol_is_not_there() -> None:
    with pytest.raises(UsageError, match="target_fm does not occur") as caught:
        convert(write(livepatch()), [called(name="target_fm")])
    assert caught.value.hint.startswith("did you mean target_fn? undefined in it: ")


def late(section: str) -> tuple[Callable[[Elf], Elf], list[KlpSymbol], str]:
    change = with_relas(section, SHF_ALLOC, Rela(0, WORD, FN, 0))
    return change, [CALLED], f"{section} uses the_target:target_fn,0, which cannot be deferred"


REFUSALS: list[tuple[Callable[[Elf], Elf], list[KlpSymbol], str]] = [
    (
        lambda e: with_section(e, MODINFO, lambda s: replace(s, data=s.data[12:])),
        [CALLED],
        r"no MODULE_INFO\(livepatch",
    ),
    (lambda e: replace(e, trailing=b"~Module signature appended~\n"), [CALLED], "is signed"),
    (same, [called(name="nowhere")], "nowhere does not occur"),
    (same, [called(name="live_fn")], "live_fn is defined in the module itself"),
    (
        lambda e: with_symbol(e, FN, lambda s: replace(s, shndx=SHN_COMMON)),
        [CALLED],
        "target_fn is a COMMON symbol",
    ),
    (
        lambda e: with_symbol(
            e, FN, lambda s: replace(s, name=".klp.sym.a.target_fn,1", shndx=0xFF20)
        ),
        [CALLED],
        "target_fn is already the klp symbol a:target_fn,1",
    ),
    (unused, [called(name="idle")], "no relocation of the livepatch refers to idle"),
    (same, [CALLED, called(object="u")], "the livepatch: target_fn cannot be both"),
    (with_relas(".debug_loc", 0, Rela(0, WORD, FN, 0)), [CALLED], ".debug_loc uses target_fn"),
    (
        lambda e: append(e, Section(".rel.text", SHT_REL, info=TEXT, data=bytes(16))),
        [CALLED],
        ".rel.text is a SHT_REL section",
    ),
    late("__jump_table"),
    late(".altinstructions"),
    late(".static_call_sites"),
    late("__ex_table"),
    late("__dyndbg"),
    late("__tracepoints_ptrs"),
    late(".init.data"),
    late(".data..percpu"),
    (
        with_relas(".data..percpu", SHF_ALLOC, Rela(0, WORD, HIDDEN, 0)),
        [CORE],
        "per-CPU data is copied",
    ),
    (
        lambda e: with_section(
            e, RELA_TEXT, lambda s: replace(s, relas=(*s.relas, Rela(0x0C, CALL, PRINTK, 0)))
        ),
        [CALLED],
        "cannot be applied at different times",
    ),
    (
        lambda e: with_section(
            e, RELA_TEXT, lambda s: replace(s, relas=(*s.relas, Rela(0x40, CALL, FN, 0)))
        ),
        [CALLED],
        "beyond the end of .text",
    ),
    (
        lambda e: with_section(
            e, RELA_TEXT, lambda s: replace(s, relas=(*s.relas, Rela(0x3E, CALL, FN, 0)))
        ),
        [CALLED],
        "field lies beyond the end of .text",
    ),
    (
        lambda e: with_section(
            e, RELA_TEXT, lambda s: replace(s, relas=(*s.relas, Rela(0x30, 99, FN, 0)))
        ),
        [CALLED],
        "relocation type 99 is not in the table",
    ),
    (same, [called(object="o" * 56)], "object's name has 56 bytes; the kernel reads 55"),
    (same, [called(name="n" * 512)], "symbol's name has 512 bytes"),
    (same, [called(name="a,b")], "must not contain ','"),
    (same, [called(object="a.b")], "must not contain '.'"),
    (same, [called(object="")], "the object has no name"),
    (same, [called(sympos=-1)], "sympos -1 is out of range"),
]


@pytest.mark.parametrize(("change", "symbols", "message"), REFUSALS, ids=[r[2] for r in REFUSALS])
def test_what_cannot_be_converted_is_refused_by_name(
    change: Callable[[Elf], Elf], symbols: list[KlpSymbol], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        convert(write(change(livepatch())), symbols, table=table)


def test_vmlinux_may_be_used_from_what_the_loader_reads() -> None:
    change = with_relas("__jump_table", SHF_ALLOC, Rela(0, WORD, HIDDEN, 0))
    data = convert(write(change(livepatch())), [CORE], table=table)
    assert inspect(data, table=table).violations == ()


@pytest.mark.parametrize(
    ("vermagic", "takes"),
    [("6.15.9 SMP", False), ("6.16.0-rc6+ SMP", True), ("7.3.4 mod_unload", True), ("7", False)],
)
def test_per_cpu_data_is_relocated_for_vmlinux_since_6_16(vermagic: str, takes: bool) -> None:
    def change(elf: Elf) -> Elf:
        tag = f"vermagic={vermagic}\0".encode()
        elf = with_section(elf, MODINFO, lambda s: replace(s, data=s.data + tag))
        return with_relas(".data..percpu", SHF_ALLOC, Rela(0, WORD, HIDDEN, 0))(elf)

    data = write(change(livepatch()))
    if not takes:
        with pytest.raises(UsageError, match=r"never relocated \(before Linux 6\.16\)"):
            convert(data, [CORE], table=table)
        return
    made = convert(data, [CORE], table=table)
    assert inspect(made, table=table).violations == ()
    with pytest.raises(UsageError, match="cannot read back the copy of each CPU"):
        klp_relocations(read(made), table)


@pytest.mark.parametrize(
    ("entries", "where"),
    [
        ([(0x0C, CALL), (0x0C, CALL)], "at 0xc: a klp relocation at 0xc writes the same field"),
        ([(0x0C, CALL), (0x0E, CALL)], "at 0xc: a klp relocation at 0xe writes the same field"),
        ([(0x1C, CALL), (0x16, WORD)], "at 0x1c: a klp relocation at 0x16 writes the same field"),
        ([(0x22, CALL)], "at 0x22: an ordinary relocation at 0x24 writes the same field"),
        ([(0x26, CALL)], "at 0x26: an ordinary relocation at 0x24 writes the same field"),
        ([(0x28, CALL), (0x0C, WORD), (0x08, CALL)], ""),
    ],
)
def test_a_field_that_two_relocations_write_is_named(
    entries: list[tuple[int, int]], where: str
) -> None:
    """Whichever comes later is refused, or writes over the other. An ordinary one is at 0x24."""
    good = read(convert(write(livepatch()), [CALLED], table=table))
    klp = next(i for i, s in enumerate(good.sections) if s.name.startswith(".klp.rela"))
    relas = tuple(Rela(offset, kind, FN, 0) for offset, kind in entries)
    edited = with_section(good, klp, lambda s: replace(s, relas=relas))
    if not where:
        assert [r.offset for r in klp_relocations(edited, table)] == [at for at, _ in entries]
        return
    with pytest.raises(UsageError, match=where):
        klp_relocations(edited, table)


@pytest.mark.parametrize("order", ORDERS)
def test_auto_takes_what_the_target_defines(order: ByteOrder) -> None:
    found = auto_symbols(write(livepatch(order)), write(target(order)), "the-target")
    assert found == (CALLED, replace(READ, sympos=0))


def test_auto_leaves_an_ambiguous_name_to_the_caller() -> None:
    patch, twice = write(livepatch()), write(target(twice="target_fn"))
    with pytest.raises(UsageError, match=r"target_fn,1 in .text\+0x10; target_fn,2 in .text\+0x30"):
        auto_symbols(patch, twice, "t")
    assert auto_symbols(patch, twice, "t", given={"target_fn"}) == (
        KlpSymbol("t", "target_var", 0),
    )


def test_auto_refuses_a_target_of_another_architecture() -> None:
    with pytest.raises(UsageError, match="t is for EM_S390"):
        auto_symbols(write(livepatch()), write(target("big")), "t")


def test_relocations_of_a_module_that_others_built() -> None:
    """Sections per function, two for one object, another object's symbol, sympos above 0."""
    elf = livepatch()
    for index, name in ((FN, ".klp.sym.t.fn.isra.0,3"), (VAR, ".klp.sym.dep.var,0")):
        elf = with_symbol(elf, index, lambda s, n=name: replace(s, name=n, shndx=0xFF20))  # type: ignore[misc] # mypy cannot infer a lambda with a default
    for name, info, rela in (
        (".klp.rela.t..text.live_fn", TEXT, Rela(8, CALL, FN, -4)),
        (".klp.rela.t.data", DATA, Rela(24, WORD, VAR, 5)),
    ):
        elf = append(elf, Section(name, SHT_RELA, 0x100042, 0, SYMTAB, info, 8, 24, relas=(rela,)))
    twice = append(elf, replace(elf.sections[TEXT], data=b""))
    with pytest.raises(UsageError, match=r"several sections named \.text"):
        klp_relocations(read(write(twice)), table)
    assert klp_relocations(read(write(elf)), table) == (
        KlpRelocation("t", ".text", 8, CALL, KlpSymbol("t", "fn.isra.0", 3), -4, bytes(4)),
        KlpRelocation("t", ".data", 24, WORD, KlpSymbol("dep", "var", 0), 5, b"\x11" * 8),
    )
    for bad, message in (
        (Rela(8, 99, FN, 0), "type 99 is not in the table"),
        (Rela(8, CALL, INIT, 0), "init_module is no klp symbol"),
        (Rela(8, CALL, 4000, 0), "symbol 4000, which does not exist"),
        (Rela(0x3D, CALL, FN, 0), "beyond the end of .text"),
    ):
        broken = with_section(elf, 12, lambda s, r=bad: replace(s, relas=(r,)))  # type: ignore[misc] # as above
        with pytest.raises(UsageError, match=message):
            klp_relocations(broken, table)


def test_a_static_calls_field_is_the_kernels_to_write_and_its_tables_to_sort() -> None:
    sites = with_relas(
        ".static_call_sites", SHF_ALLOC, Rela(0, CALL, 1, 0x13), Rela(4, CALL, HIDDEN, 0)
    )
    elf = read(convert(write(sites(livepatch())), [CORE, CALLED], table=table))
    found = {(r.section, r.offset): (r.rewritten, r.table) for r in klp_relocations(elf, table)}
    assert found == {
        (".text", 0x0C): (False, 0),
        (".text", 0x14): (True, 0),  # a call of 5 bytes at 0x13
        (".text", 0x1C): (False, 0),
        (".static_call_sites", 4): (False, 32),
    }
    plain = read(convert(write(livepatch()), [CORE], table=table))
    assert not any(r.rewritten for r in klp_relocations(plain, table))


ALTERNATIVE = Path(__file__).parent / "genuine/alternative-7.3.4.ko"
ROWS = relocation.table(catalog.arch("x86_64").relocations)


def test_code_with_an_alternative_is_the_kernels_to_write() -> None:
    """Of two calls of one function the first has another in its place, where the processor wants
    it; a right kernel would fail by it."""
    elf = read(ALTERNATIVE.read_bytes())
    found = {(r.section, r.offset): r.rewritten for r in klp_relocations(elf, ROWS)}
    assert found == {
        (".text", 5): True,
        (".text", 12): False,
        (".altinstr_replacement", 1): False,
    }
    assert tables.alternatives(elf) == {(7, at) for at in range(4, 9)}  # .text


@pytest.mark.parametrize(
    ("size", "at", "length", "bytes_"),
    [
        (12, 10, 4, 4),
        (13, 12, 4, 4),
        (14, 12, 4, 4),
        (14, 12, 0, 0),
        (16, 12, 4, 0),
        (11, 10, 4, 0),
    ],
)
def test_the_shapes_that_kernels_have_had_of_an_alternative(
    size: int, at: int, length: int, bytes_: int
) -> None:
    """What has another is passed over, and so is what is cut off."""
    elf = read(ALTERNATIVE.read_bytes())
    index = next(i for i, s in enumerate(elf.sections) if s.name == tables.ALTERNATIVES)
    content = bytearray(2 * size)
    content[at] = content[size + at] = length
    (first, second) = next(s.relas for s in elf.sections if s.info == index and s.relas)
    relas = (first, second, *(replace(r, offset=r.offset + size) for r in (first, second)))
    apart = replace(relas[2], addend=relas[2].addend + 0x20)
    relas = (*relas[:2], apart, relas[3])

    def change(data: bytes, entries: tuple[Rela, ...]) -> Elf:
        made = with_section(elf, index, lambda s: replace(s, data=data))
        number = next(i for i, s in enumerate(elf.sections) if s.info == index and s.relas)
        return with_section(made, number, lambda s: replace(s, relas=entries))

    assert len(tables.alternatives(change(bytes(content), relas))) == 2 * bytes_
    nowhere = replace(first, symbol=4000), *relas[1:]
    assert len(tables.alternatives(change(bytes(content), nowhere))) == bytes_
    assert tables.alternatives(change(b"", relas)) == frozenset()


def test_no_modules_symbol_is_deferred_in_code_with_an_alternative() -> None:
    """The kernel has put another instruction there by then; one of vmlinux it applies before."""
    entry = bytes(12) + b"\5\0"  # of struct alt_instr: 5 bytes, from 0x13
    sites = with_relas(
        tables.ALTERNATIVES, SHF_ALLOC, Rela(0, CALL, 1, 0x13), Rela(4, CALL, 1, 0x30)
    )
    elf = sites(livepatch())
    index = next(i for i, s in enumerate(elf.sections) if s.name == tables.ALTERNATIVES)
    elf = with_section(elf, index, lambda s: replace(s, data=entry))
    with pytest.raises(UsageError, match=r"\.text\+0x14 uses the_target:hidden,0, which cannot be"):
        convert(write(elf), [replace(CORE, object="the_target")], table=table)
    found = klp_relocations(read(convert(write(elf), [CORE, CALLED], table=table)), table)
    assert {r.offset for r in found if r.rewritten} == {0x14}
