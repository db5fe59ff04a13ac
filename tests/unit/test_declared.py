# SPDX-License-Identifier: GPL-2.0-only
"""A livepatch's own tables, read from records of a module, and compared with set.toml."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from orchestrator.build import declared
from orchestrator.elf import writer
from orchestrator.elf.patchtable import SECTION, Function, Layout, PatchTable, layout, tables
from orchestrator.elf.records import (
    SHF_ALLOC,
    SHF_WRITE,
    SHN_UNDEF,
    SHT_NULL,
    SHT_PROGBITS,
    SHT_RELA,
    SHT_STRTAB,
    SHT_SYMTAB,
    STB_GLOBAL,
    STB_LOCAL,
    STT_SECTION,
    ByteOrder,
    Elf,
    Rela,
    Section,
    Symbol,
)
from orchestrator.errors import UsageError
from orchestrator.nouns import ModuleSpec

# Other than on any real kernel: nothing but the layout may say where what is.
LAYOUT = Layout(
    patch_mod=8,
    patch_objs=24,
    patch_replace=40,
    object_name=8,
    object_funcs=0,
    object_size=32,
    func_old_name=16,
    func_new_func=0,
    func_old_sympos=8,
    func_size=40,
)
Objects = dict[str | None, list[tuple[str | None, int]]]


def a_module(objects: Objects, replace: bool = False, byte_order: ByteOrder = "little") -> Elf:
    """A module whose .data holds struct klp_patch and its tables, after eight bytes of another."""
    texts, data, relas = bytearray(b"\0"), bytearray(64), []

    def pointer(at: int, symbol: int, addend: int) -> None:
        relas.append(Rela(at, 1, symbol, addend))

    def text(at: int, words: str | None) -> None:
        if words is not None:
            pointer(at, TEXTS, len(texts))
            texts.extend(words.encode() + b"\0")

    pointer(8, THIS_MODULE, 0)  # the owner of something else, whose neighbour leads nowhere
    start = 16
    pointer(start + LAYOUT.patch_mod, THIS_MODULE, 0)
    pointer(start + LAYOUT.patch_objs, DATA, len(data))
    data[start + LAYOUT.patch_replace] = replace
    table = len(data)
    data.extend(bytes((len(objects) + 1) * LAYOUT.object_size))
    for number, (name, functions) in enumerate(objects.items()):
        place = table + number * LAYOUT.object_size
        text(place + LAYOUT.object_name, name)
        pointer(place + LAYOUT.object_funcs, DATA, len(data))
        for function, sympos in functions:
            at = len(data)
            data.extend(bytes(LAYOUT.func_size))
            text(at + LAYOUT.func_old_name, function)
            pointer(at + LAYOUT.func_new_func, CODE, 0)
            data[at + LAYOUT.func_old_sympos : at + LAYOUT.func_old_sympos + 8] = sympos.to_bytes(
                8, byte_order
            )
        data.extend(bytes(LAYOUT.func_size))
    little = byte_order == "little"
    sections = (
        Section("", SHT_NULL),
        Section(".text", SHT_PROGBITS, SHF_ALLOC, data=bytes(8)),
        Section(".rodata.str", SHT_PROGBITS, SHF_ALLOC, data=bytes(texts)),
        Section(".data", SHT_PROGBITS, SHF_ALLOC | SHF_WRITE, data=bytes(data)),
        Section(".rela.data", SHT_RELA, link=5, info=3, entsize=24, relas=tuple(relas)),
        Section(".symtab", SHT_SYMTAB, link=6, info=4, entsize=24),
        Section(".strtab", SHT_STRTAB, data=b"\0"),
        Section(".shstrtab", SHT_STRTAB, data=b"\0"),
    )
    ident = b"\x7fELF\x02" + (b"\x01" if little else b"\x02") + b"\x01" + bytes(9)
    symbols = (
        Symbol("", 0, 0, SHN_UNDEF, 0, 0),
        *(Symbol("", STB_LOCAL << 4 | STT_SECTION, 0, index, 0, 0) for index in (1, 2, 3)),
        Symbol("__this_module", STB_GLOBAL << 4, 0, SHN_UNDEF, 0, 0),
    )
    return Elf(ident, 62 if little else 22, 1, 0, 0, 7, sections, symbols)


CODE, TEXTS, DATA, THIS_MODULE = 1, 2, 3, 4


@pytest.mark.parametrize("byte_order", ["little", "big"])
@pytest.mark.parametrize("replace", [False, True])
def test_the_tables_are_read_as_the_kernel_reads_them(byte_order: ByteOrder, replace: bool) -> None:
    objects: Objects = {None: [("f", 0), (None, 3)], "t": [("g", 2)], "empty": []}
    found = tables(a_module(objects, replace, byte_order), LAYOUT)
    functions = (Function("f", 0), Function("", 3))
    expected = (("vmlinux", functions), ("t", (Function("g", 2),)), ("empty", ()))
    assert found == (PatchTable(replace, expected),)


def test_what_is_no_struct_klp_patch_is_passed_over() -> None:
    assert tables(a_module({}), LAYOUT) == ()
    whole = a_module({"t": [("f", 0)]})
    no_relas = (
        *whole.sections[:4],
        Section(".rela.data", SHT_RELA, link=5, info=3, entsize=24),
        *whole.sections[5:],
    )
    assert tables(Elf(whole.ident, 62, 1, 0, 0, 7, no_relas, whole.symbols), LAYOUT) == ()


def test_the_layout_is_ten_numbers() -> None:
    numbers = b"".join(n.to_bytes(8, "big") for n in range(10))
    sections = (Section("", SHT_NULL), Section(SECTION, SHT_PROGBITS, data=numbers))
    ident = b"\x7fELF\x02\x02\x01" + bytes(9)
    assert layout(Elf(ident, 22, 1, 0, 0, 0, sections, ()), "x.ko") == Layout(*range(10))
    with pytest.raises(UsageError, match=r"x\.ko has no \.klp_e2e_layout of 10 numbers"):
        layout(Elf(ident, 22, 1, 0, 0, 0, sections[:1], ()), "x.ko")


def spec(replace: bool = False, **patches: tuple[str, ...]) -> ModuleSpec:
    return ModuleSpec("p", "livepatch", patches=patches, replace=replace)


RIGHT = spec(t=("f", "g,2"), vmlinux=("h,1",))
CODED: Objects = {"t": [("g", 2), ("f", 0)], None: [("h", 0)]}


def check(told: ModuleSpec, objects: Objects, replace: bool = False) -> None:
    data = writer.write(a_module(objects, replace))
    declared.check(told, data, LAYOUT, Path("/mine/set.toml"))


def test_what_says_the_same_is_taken() -> None:
    check(RIGHT, CODED)
    check(spec(replace=True, t=("f",)), {"t": [("f", 1)]}, replace=True)
    check(RIGHT, {})  # its tables are made while it loads


@pytest.mark.parametrize(
    ("told", "objects", "replace", "message", "hint"),
    [
        (RIGHT, {**CODED, "tt": [("f", 0)]}, False, "patches tt, and .*patches t, vm", "is t mea"),
        (RIGHT, {**CODED, "zz": [("f", 0)]}, False, "patches zz, and", r'add `zz = \["f"\]`'),
        (RIGHT, {"t": CODED["t"]}, False, "patches t, and .* it patches vmlinux", "take vmlinux"),
        (RIGHT, {**CODED, None: []}, False, "replaces nothing of vmlinux, .* h,1", "take it"),
        (RIGHT, {**CODED, None: [("hh", 0)]}, False, "replaces hh,1 of vmlinux", "is h,1 meant"),
        (RIGHT, {**CODED, None: [("h", 2)]}, False, "replaces h,2 of vmlinux", "is h,1 meant"),
        (RIGHT, {**CODED, None: [("h", 0)] * 2}, False, "h,1 of vmlinux 2 times", "once"),
        (RIGHT, {**CODED, None: [("h", 0), ("xyz", 0)]}, False, "replaces xyz,1", '"xyz" to'),
        (RIGHT, CODED, True, "has .replace = true, and /mine/set.toml says false", "replace = tru"),
        (spec(replace=True, t=("f",)), {"t": [("f", 0)]}, False, "has .replace = false", "= false"),
    ],
)
def test_a_difference_names_both(
    told: ModuleSpec, objects: Objects, replace: bool, message: str, hint: str
) -> None:
    with pytest.raises(UsageError, match=rf"p.ko .*{message}") as caught:
        check(told, objects, replace)
    assert re.search(hint, caught.value.hint), caught.value.hint
