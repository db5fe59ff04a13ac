# SPDX-License-Identifier: GPL-2.0-only
"""What is remembered of where a symbol was."""

from __future__ import annotations

from orchestrator.model.places import remembered
from orchestrator.nouns import KlpRelocation, KlpSymbol
from orchestrator.verdicts import Observation, RelocationReading

RELOCATION = KlpRelocation("t", ".text", 0, 26, KlpSymbol("t", "x", 0), 0, b"\0\0\0\0")


def seen(here: int | None, slot: int | None, raw: bytes = b"1234") -> Observation:
    reading = RelocationReading("p", RELOCATION, "R", 0, raw, slot, "got 0x40", here, "")
    return Observation((0,), frozenset(), {}, {}, (reading,), 0, "")


def places(*observations: Observation) -> tuple[int, ...]:
    before = None
    for each in observations:
        before = remembered(each, before)
    assert before is not None
    return before.relocations[0].places


UNWRITTEN = seen(None, None, RELOCATION.initial)


def test_where_it_was_while_it_was_loaded() -> None:
    assert places(UNWRITTEN) == ()
    assert places(UNWRITTEN, seen(8, 8)) == (8,)
    assert places(seen(8, 8), seen(None, 8), seen(24, 8), seen(None, 8)) == (8, 24)


def test_what_has_changed_while_it_was_away_is_no_place_of_its() -> None:
    assert places(seen(8, 8), seen(None, 99)) == (8,)


def test_of_a_load_that_was_refused_what_it_has_written_counts() -> None:
    assert places(UNWRITTEN, seen(None, 8)) == (8,)
    assert places(seen(None, 8), seen(None, 99), seen(24, 99)) == (8, 24)
    assert places(UNWRITTEN, seen(None, None)) == ()


def test_a_livepatch_that_is_loaded_anew_has_a_slot_of_its_own() -> None:
    assert places(seen(8, 8), UNWRITTEN, seen(24, 24)) == (24,)
    gone = Observation((0,), frozenset(), {}, {}, (), 0, "")
    assert places(seen(8, 8), gone, seen(24, 24)) == (24,)
