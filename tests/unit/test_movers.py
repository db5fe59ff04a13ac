# SPDX-License-Identifier: GPL-2.0-only
"""What moves a target, what has to be there before it, and how much memory a module takes."""

from __future__ import annotations

from pathlib import Path

import pytest
from history_samples import a_run
from samples import a_reading, a_result, an_answer

from orchestrator import catalog
from orchestrator.elf.footprint import Footprint, footprint, smallest
from orchestrator.elf.records import (
    SHF_ALLOC,
    SHF_EXECINSTR,
    SHF_WRITE,
    SHT_NOBITS,
    SHT_PROGBITS,
    Elf,
    Section,
)
from orchestrator.model import orders
from orchestrator.model.movers import FILLER, completed, movers, needed, unmoved
from orchestrator.nouns import Case, ModuleSet, ModuleSpec, Room
from orchestrator.report import resultstext
from orchestrator.verdicts import CaseResult, Status, Step


def a_set(*modules: ModuleSpec) -> ModuleSet:
    return ModuleSet("mine", Path("/mine"), modules)


def livepatch(*objects: str, **symbols: tuple[str, ...]) -> ModuleSpec:
    patches = dict.fromkeys(objects, ("f",))
    return ModuleSpec("p", "livepatch", patches=patches, klp_symbols=symbols)


TARGET = ModuleSpec("t", "target")
BASE = ModuleSpec("base", "plain")
USER = ModuleSpec("t", "target", depends=("base",))


@pytest.mark.parametrize(
    ("modules", "moved_by"),
    [
        ((TARGET, livepatch("t")), []),
        ((TARGET, livepatch("t"), BASE), ["base"]),
        ((USER, livepatch("t"), BASE), []),  # it stays while the target is loaded
        ((TARGET, livepatch("t", t=("base:x",)), BASE), []),  # it has to be there
        ((TARGET, livepatch("t"), ModuleSpec("u", "target")), ["u"]),
        ((TARGET, livepatch("t"), ModuleSpec("u", "target"), BASE), ["base"]),
        ((TARGET, livepatch("t"), ModuleSpec("u", "target", depends=("t",))), []),
        ((ModuleSpec("t", "plain"), livepatch("t")), []),  # no module moves itself
    ],
)
def test_what_moves_a_target(modules: tuple[ModuleSpec, ...], moved_by: list[str]) -> None:
    module_set = a_set(*modules)
    assert movers(module_set, "t", "p") == moved_by
    whole = completed(module_set)
    assert movers(whole, "t", "p") == (moved_by or [FILLER])
    assert completed(whole) == whole
    assert (whole == module_set) == bool(moved_by)


def test_nothing_is_added_where_nothing_can_move() -> None:
    for module_set in (a_set(livepatch("vmlinux")), a_set(livepatch("not_in_it")), a_set(TARGET)):
        assert completed(module_set) == module_set


def test_a_set_has_as_many_copies_as_it_says() -> None:
    room = ModuleSpec("room", "plain", room=Room(data="1M"), copies=3)
    whole = completed(a_set(TARGET, livepatch("t"), room))
    names = ["room_1", "room_2", "room_3"]
    assert [spec.name for spec in whole.modules] == ["t", "p", *names]
    assert movers(whole, "t", "p") == names
    assert all(spec.ours and spec.copy_of == "room" for spec in whole.modules[2:])
    assert completed(whole) == whole


def test_what_has_to_be_there_comes_in_a_sequence_that_loads() -> None:
    deep = a_set(
        ModuleSpec("t", "target", depends=("b",)),
        ModuleSpec("b", "plain", depends=("a",)),
        ModuleSpec("a", "plain"),
        livepatch("t", t=("other:x", "auto", "own")),
        ModuleSpec("other", "plain"),
    )
    assert needed(deep, ("p", "t")) in (["other", "a", "b"], ["a", "b", "other"])


def test_our_own_sets_that_cannot_move_their_target_get_a_filler() -> None:
    with_ours = {n for n, s in catalog.module_sets().items() if s.module(FILLER) is not None}
    wanted = "depends held keys no-functions packed page-end refused replace states sympos"
    assert with_ours == set(wanted.split())


def section(name: str, flags: int, size: int, align: int = 1, type: int = SHT_PROGBITS) -> Section:
    data = b"" if type == SHT_NOBITS else bytes(size)
    return Section(name, type, flags, align=align, data=data, memory_size=size)


def test_the_memory_of_a_module_by_kind() -> None:
    ro, rw, code = SHF_ALLOC, SHF_ALLOC | SHF_WRITE, SHF_ALLOC | SHF_EXECINSTR
    found = Elf(
        b"\x7fELF" + bytes(12),
        *(0, 1, 0, 0, 0),
        sections=(
            section(".text", code, 10),
            section(".text.more", code, 16, 16),
            section(".init.text", code, 5000),
            section(".rodata", ro, 3),
            section(".data", rw, 7),
            section(".bss", rw, 4096, 64, SHT_NOBITS),
            section(".data..ro_after_init", rw, 8),
            section("__jump_table", rw, 8, 8),
            section(".comment", 0, 99),
        ),
        symbols=(),
    )
    assert footprint(found) == Footprint(text=32, rodata=3, ro_after_init=16, data=64 + 4096)
    assert smallest([Footprint(1, 20, 3, 40), Footprint(10, 2, 30, 4)]) == Footprint(1, 2, 3, 4)
    assert smallest([Footprint(1, 2, 3, 4)]) == Footprint(1, 2, 3, 4)


# --- what was not moved --------------------------------------------------------------------------


def loaded_at(*places: int, refused: int = 0, order: str = "") -> CaseResult:
    """`+t` at each of these places, with what was read back there, and `-t` between them."""
    steps = []
    for number, place in enumerate(places):
        if number:
            steps.append(Step("-t", (an_answer(refused, refused),), 0, 0, 0))
        read = a_reading(symbol_address=place, resolves_to=place)
        steps.append(Step("+t", (an_answer(), read), 0, 0, 1))
    events = orders.parse(order or " -t ".join(["+t"] * len(places)))
    return a_result(case=Case("c", "mine", events), steps=tuple(steps), status=Status.PASS)


@pytest.mark.parametrize(
    ("results", "still"),
    [
        ((loaded_at(8),), ()),  # it was never loaded again
        ((loaded_at(8, 8),), ("s390x mine: t",)),
        ((loaded_at(8, 8, 16),), ()),
        ((loaded_at(8, 8), loaded_at(16, 16)), ("s390x mine: t",)),  # of two boots
        ((loaded_at(8, 8), loaded_at(8, 16)), ()),
        ((loaded_at(8, 8, refused=16),), ()),  # it never went
        ((), ()),
    ],
)
def test_targets_that_never_moved_are_told(
    results: tuple[CaseResult, ...], still: tuple[str, ...]
) -> None:
    assert unmoved(results) == still
    told = resultstext.plain(resultstext.results_report(a_run("one"), results))
    assert ("came back to their old place each time" in told) == bool(still)
