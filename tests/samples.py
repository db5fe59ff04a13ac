# SPDX-License-Identifier: GPL-2.0-only
"""Values as the product makes them, for tests that need one of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import typer.main
from pydantic import TypeAdapter
from typer.testing import CliRunner

from orchestrator import cli
from orchestrator.history import files
from orchestrator.history.nights import Changes
from orchestrator.model import orders, words
from orchestrator.nouns import Case, Kernel, KlpSymbol
from orchestrator.report import log, resultsjson
from orchestrator.verdicts import Answers, CaseResult, Check, Reading, RelocationState, Run


class Told(NamedTuple):
    """What a command ended with and printed."""

    code: int
    out: str
    err: str


def klp(*argv: object) -> Told:
    """`klp-e2e` with these words, in this process."""
    done = CliRunner().invoke(cli.app, [str(word) for word in argv])
    log.show(0)  # what -v has switched on is the process's
    return Told(done.exit_code, done.stdout, done.stderr)


def commands() -> Mapping[str, Any]:
    """Every command of cli/table.py, by its name with its group's: "run", "cache list"."""
    return _commands(typer.main.get_command(cli.app))


def _commands(group: Any, before: str = "") -> Mapping[str, Any]:
    found: dict[str, Any] = {}
    for name, command in group.commands.items():
        words = f"{before} {name}".strip()
        found |= _commands(command, words) if hasattr(command, "commands") else {words: command}
    return found


def a_kernel(
    arch: str = "s390x", place: Path = Path("/cache/kernel/0123"), **changes: Any
) -> Kernel:
    """A build of Debian's 6.1 without a series, but for `changes`; its files lie in `place`."""
    made = Kernel(
        key="0123",
        arch=arch,
        source="debian:6.1",
        source_version="6.1.192-2",
        series=(),
        release="6.1.192",
        version=(6, 1),
        compiler="gcc 12.2",
        directory=place,
        image=place / "image",
        system_map=place / "System.map",
        config=place / "config",
        build_tree=place / "build",
        source_tree=place / "tree",
    )
    return replace(made, **changes)


def a_result(**changes: Any) -> CaseResult:
    """A case on s390x that nothing has happened to yet, but for `changes`."""
    order = orders.parse("+klp_patch +klp_target -klp_target +klp_target")
    case = Case("reload", "basic", order, "the slot must be filled again")
    return replace(CaseResult(case, "s390x"), **changes)


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
    earlier: tuple[int, ...] = (),
    address: int | None = None,
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
            earlier=earlier,
            address=address,
        )
    )


def load_results(text: str, name: str = "results.json") -> tuple[Run, tuple[CaseResult, ...]]:
    """What a results.json says, as values."""
    read = resultsjson.read_document(text, name)
    return read.run, tuple(resultsjson.as_result(case) for case in read.cases)
