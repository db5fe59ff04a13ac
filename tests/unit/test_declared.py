# SPDX-License-Identifier: GPL-2.0-only
"""A livepatch's own tables, read from records of a module, and compared with set.toml."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from patchtable_samples import CODE, DATA, LAYOUT, THIS_MODULE, Objects, States, a_module

from orchestrator.build import declared
from orchestrator.elf import writer
from orchestrator.elf.patchtable import SECTION, Function, Layout, PatchTable, layout, tables
from orchestrator.elf.records import (
    SHF_ALLOC,
    SHF_WRITE,
    SHT_NOBITS,
    SHT_NULL,
    SHT_PROGBITS,
    SHT_RELA,
    ByteOrder,
    Elf,
    Section,
)
from orchestrator.errors import UsageError
from orchestrator.nouns import ModuleSpec


@pytest.mark.parametrize("byte_order", ["little", "big"])
@pytest.mark.parametrize("replace", [False, True])
def test_the_tables_are_read_as_the_kernel_reads_them(byte_order: ByteOrder, replace: bool) -> None:
    objects: Objects = {None: [("f", 0), (None, 3)], "t": [("g", 2)], "empty": []}
    found = tables(a_module(objects, replace, byte_order), LAYOUT, "x.ko")
    functions = (Function("f", 0), Function("", 3))
    expected = (("vmlinux", functions), ("t", (Function("g", 2),)), ("empty", ()))
    assert found == (PatchTable(replace, expected),)


@pytest.mark.parametrize("byte_order", ["little", "big"])
@pytest.mark.parametrize(
    ("states", "expected"),
    [
        (None, ()),
        ([(0, 0)], ()),
        ([(1, 0), (2**64 - 1, 2**32 - 1), (0, 9), (3, 3)], ((1, 0), (2**64 - 1, 2**32 - 1))),
        ([(1, 0), (2, 5)], None),  # no end: the kernel would read on
    ],
)
def test_states_are_read_up_to_the_one_without_id(
    byte_order: ByteOrder, states: States | None, expected: tuple[tuple[int, int], ...] | None
) -> None:
    (found,) = tables(a_module({"t": []}, False, byte_order, states), LAYOUT, "x.ko")
    assert found.states == expected


def test_states_that_lie_elsewhere_are_not_taken_for_none() -> None:
    (outside,) = tables(a_module({"t": []}, states=[], states_at=THIS_MODULE), LAYOUT, "x.ko")
    assert outside.states is None
    whole = a_module({"t": []}, states=[], states_at=CODE)
    filled_later = Section(".bss", SHT_NOBITS, SHF_ALLOC | SHF_WRITE, memory_size=200)
    sections = (whole.sections[0], filled_later, *whole.sections[2:])
    (found,) = tables(replace(whole, sections=sections), LAYOUT, "x.ko")
    assert found.states is None


def test_what_is_no_struct_klp_patch_is_passed_over() -> None:
    assert tables(a_module({}), LAYOUT, "x.ko") == ()
    whole = a_module({"t": [("f", 0)]})
    no_relas = (
        *whole.sections[:4],
        Section(".rela.data", SHT_RELA, link=5, info=3, entsize=24),
        *whole.sections[5:],
    )
    assert tables(Elf(whole.ident, 62, 1, 0, 0, 7, no_relas, whole.symbols), LAYOUT, "x.ko") == ()


def test_what_the_kernel_could_not_write_to_is_no_struct_klp_patch() -> None:
    """A module parameter leads to its operations as struct klp_patch does to objects, and these to
    functions: in clang's code of `callbacks` they looked like struct klp_func."""
    whole = a_module({"t": [("f", 0)]})
    assert len(tables(whole, LAYOUT, "x.ko")) == 1
    constant = replace(whole.sections[DATA], name="__param", flags=SHF_ALLOC)
    sections = (*whole.sections[:DATA], constant, *whole.sections[DATA + 1 :])
    assert tables(replace(whole, sections=sections), LAYOUT, "x.ko") == ()


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        ({"t": [("f" * 600, 0)]}, "x.ko patches what has a name of 512 bytes or more"),
        ({"t" * 600: [("f", 0)]}, "x.ko patches what has a name of 512 bytes or more"),
        ({"t": [("f", 0)] * 100_001}, "x.ko has more than 100000 struct klp_object, klp_func"),
    ],
)
def test_tables_that_no_kernel_would_take_are_refused(objects: Objects, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        tables(a_module(objects), LAYOUT, "x.ko")


def test_the_layout_is_fourteen_numbers() -> None:
    numbers = b"".join(n.to_bytes(8, "big") for n in range(14))
    sections = (Section("", SHT_NULL), Section(SECTION, SHT_PROGBITS, data=numbers))
    ident = b"\x7fELF\x02\x02\x01" + bytes(9)
    assert layout(Elf(ident, 22, 1, 0, 0, 0, sections, ()), "x.ko") == Layout(*range(14))
    with pytest.raises(UsageError, match=r"x\.ko has no \.klp_e2e_layout of 14 numbers"):
        layout(Elf(ident, 22, 1, 0, 0, 0, sections[:1], ()), "x.ko")


def spec(
    replace: bool = False, states: Mapping[str, int] | None = None, **patches: tuple[str, ...]
) -> ModuleSpec:
    return ModuleSpec("p", "livepatch", patches=patches, replace=replace, states=states or {})


RIGHT = spec(t=("f", "g,2"), vmlinux=("h,1",))
CODED: Objects = {"t": [("g", 2), ("f", 0)], None: [("h", 0)]}


def check(
    told: ModuleSpec, objects: Objects, replace: bool = False, states: States | None = None
) -> bool:
    data = writer.write(a_module(objects, replace, states=states))
    return declared.check(told, data, LAYOUT, Path("/mine/set.toml"))


def test_what_says_the_same_is_taken() -> None:
    assert check(RIGHT, CODED)
    check(spec(replace=True, t=("f",)), {"t": [("f", 1)]}, replace=True)
    assert not check(RIGHT, {})  # its tables are made while it loads


TWO: Objects = {"t": [("f", 0), ("g", 0)]}


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (a_module(TWO, sized=3), ""),
        (a_module(TWO, sized=9), ""),  # a part of something larger
        (a_module(TWO, sized=2), "p.ko has an array funcs that no empty entry ends"),
        (a_module(TWO, ended=False), "p.ko has an array without a name that no empty entry ends"),
        (a_module(TWO, new=False), "p.ko has no .new_func for f of t: no kernel enables it"),
        (a_module(TWO, owned=False), "p.ko has a struct klp_patch whose .mod is NULL"),
        (a_module({"t": [("f", 0)]}, owned=False), ""),  # it may be something else
    ],
)
def test_what_no_kernel_would_enable_is_told_before_a_boot(made: Elf, message: str) -> None:
    def checked() -> bool:
        return declared.check(spec(t=("f", "g")), writer.write(made), LAYOUT, Path("set.toml"))

    if message:
        with pytest.raises(UsageError, match=re.escape(message)):
            checked()
    else:
        checked()


@pytest.mark.parametrize(
    ("told", "states", "message", "hint"),
    [
        ({}, [(1, 2), (0, 0)], "has .states 1 of version 2, and .* says nothing", '= { "1" = 2 }'),
        ({"1": 2}, None, "has .states nothing, and .*toml says 1 of version 2", "states = {"),
        ({"1": 2}, [(1, 3), (0, 0)], ".* 1 of version 3, .* says 1 of version 2", "correct"),
        ({"1": 2}, [(1, 2), (1, 2), (0, 0)], "has 2 entries of struct klp_state for 1", "one"),
        ({"1": 2}, [(1, 2)], "has .states that cannot be read", "ended by an empty one"),
    ],
)
def test_states_are_compared(
    told: dict[str, int], states: States | None, message: str, hint: str
) -> None:
    assert check(spec(states={"1": 2}, t=("f",)), {"t": [("f", 0)]}, states=[(1, 2), (0, 0)])
    with pytest.raises(UsageError, match=rf"p.ko {message}") as caught:
        check(spec(states=told, t=("f",)), {"t": [("f", 0)]}, states=states)
    assert hint in caught.value.hint


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
