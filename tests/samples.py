# SPDX-License-Identifier: GPL-2.0-only
"""Values as the product makes them, for tests that need one of them."""

from __future__ import annotations

from pathlib import Path

from pydantic import TypeAdapter

from orchestrator.history import files
from orchestrator.history.nights import Changes
from orchestrator.model import words
from orchestrator.nouns import KlpSymbol
from orchestrator.report import resultsjson
from orchestrator.verdicts import Answers, CaseResult, Check, Reading, RelocationState, Run


def an_answer(expected: int | tuple[int, ...] = 0, seen: int | tuple[int, ...] = 0) -> Check:
    """A check of an event's answer, or of a burst's or race's."""
    wanted, got = (one if isinstance(one, tuple) else (one,) for one in (expected, seen))
    return words.answers(Answers(wanted, got))


def read_changes(night: Path) -> Changes:
    """What a night's directory says has changed; klp-e2e writes that for others only."""
    document = TypeAdapter(files.ChangesDocument).validate_json(
        (night / files.CHANGES).read_bytes()
    )
    return document.changes


def a_reading(
    raw: str = "00 00 00 00",
    *,
    livepatch: str = "p",
    object: str = "t",
    symbol: str = "x",
    owner: str = "",
    section: str = ".text",
    offset: int = 0xE,
    type: str = "R_GOT",
    state: RelocationState = RelocationState.APPLIED,
    initial: str = "00 00 00 00",
    before: str = "",
    hop: str = "",
    hop_address: int | None = None,
    resolves_to: int | None = 0x8,
    symbol_address: int | None = 0x10,
) -> Check:
    """A check of one klp relocation; as it stands, of one that leads 8 bytes below its symbol."""
    return words.reading(
        Reading(
            livepatch=livepatch,
            object=object,
            section=section,
            offset=offset,
            type=type,
            symbol=KlpSymbol(owner or object, symbol, 0),
            state=state,
            raw=raw,
            initial=initial,
            before=before,
            hop=hop,
            hop_address=hop_address,
            resolves_to=resolves_to,
            symbol_address=symbol_address,
            beside="",
        )
    )


def load_results(text: str, name: str = "results.json") -> tuple[Run, tuple[CaseResult, ...]]:
    """What a results.json says, as values."""
    read = resultsjson.read_document(text, name)
    return read.run, tuple(resultsjson.as_result(case) for case in read.cases)
