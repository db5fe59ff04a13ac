# SPDX-License-Identifier: GPL-2.0-only
"""A port's report card, for a terminal, as a page, and for machines.

DIR/card.txt  card.html  card.json      rewritten whenever more is known
DIR/core/  explore/  ...                results directories of their own
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, TypeAdapter, with_config
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.errors import Exit
from orchestrator.port.card import ReportCard, Verdict, card_exit_code, card_summary
from orchestrator.port.coverage import Coverage
from orchestrator.report import resultsjson, store
from orchestrator.report.resultstext import plain
from orchestrator.report.store import Store, write
from orchestrator.report.verdict import duration
from orchestrator.templating import page_templates

SCHEMA: Literal[1] = 1
DOCUMENT = "card.json"
PAGE = "card.html"
TEXT = "card.txt"
COLUMNS = ("type", "number", "handled at", "in our table", "klp entries", "ordinary", "seen late")
STYLES: Mapping[Verdict, str] = {
    Verdict.PASS: "green",
    Verdict.KNOWN: "yellow",
    Verdict.FAIL: "bold red",
    Verdict.WRONG: "bold magenta",
    Verdict.UNBUILT: "bold cyan",
    Verdict.ERROR: "bold cyan",
    Verdict.SKIP: "dim",
}
_TEMPLATES = page_templates()


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True, slots=True)
class CardDocument:
    """card.json as a whole."""

    schema: Literal[1]
    exit_code: int
    card: ReportCard


_DOCUMENT = TypeAdapter(CardDocument)


class CardDirectory(Store):
    """A context manager made with the card as it begins; at its end `finished` is written, and in
    `trouble` what ended it early."""

    DOCUMENTS = (DOCUMENT, PAGE, TEXT)

    def __init__(self, path: Path, card: ReportCard) -> None:
        self.card = card
        super().__init__(path)

    def _open(self) -> None:
        self.update(self.card)

    def _end(self, err: BaseException | None) -> None:
        self.update(self.card.ended(time.time(), store.why_ended(err)))

    @property
    def _idle(self) -> bool:
        return not self.card.kernel

    def update(self, card: ReportCard) -> None:
        """More is known."""
        self.card = card
        write(self.path / DOCUMENT, document(card))
        write(self.path / PAGE, page(card))
        write(self.path / TEXT, plain(card_report(card)))


def load_card(path: Path) -> ReportCard:
    """card.json of a directory. Raises UsageError."""
    file = path / DOCUMENT
    read = store.load_document(file, _DOCUMENT, "klp-e2e port").card
    resultsjson.refuse_times((read.started, read.finished), str(file))
    return read


def document(card: ReportCard) -> str:
    """card.json"""
    whole = CardDocument(schema=SCHEMA, exit_code=int(card_exit_code(card)), card=card)
    return _DOCUMENT.dump_json(whole, indent=2).decode() + "\n"


def page(card: ReportCard) -> str:
    """card.html: one file, no scripts."""
    code = card_exit_code(card)
    return _TEMPLATES.get_template("card.html.j2").render(
        card=card,
        title=f"livepatch on {card.arch}",
        facts=facts(card),
        columns=COLUMNS,
        rows=[(row, cells(row)) for row in card.coverage],
        summary=card_summary(card),
        good=code is Exit.GOOD,
        code=int(code),
    )


def facts(card: ReportCard) -> list[tuple[str, str]]:
    """What the card is about: (name, value), those that are known."""
    took = "" if card.finished is None else duration(card.finished - card.started)
    known = [
        ("architecture", card.arch),
        ("source", card.source),
        ("series", " ".join(card.series) or "none"),
        ("configuration", " ".join(card.configs)),
        ("kernel", card.kernel),
        ("host", card.host),
        ("begun", time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(card.started))),
        ("took", took),
        ("command", " ".join(card.command)),
    ]
    return [(name, value) for name, value in known if value]


def cells(row: Coverage) -> tuple[str, ...]:
    """A row of the coverage table, in the order of COLUMNS."""
    return (
        row.name,
        str(row.number),
        (row.place or "not handled") + (", does nothing" if row.idle else ""),
        "yes" if row.readable else "no",
        str(row.livepatches),
        str(row.modules),
        str(row.late),
    )


# --- for a terminal ----------------------------------------------------------------------------


def card_report(card: ReportCard) -> RenderableType:
    """Heading, lines, relocation coverage, summary."""
    parts: list[RenderableType] = [
        Text(f"livepatch on {card.arch}", style="bold"),
        _grid([(Text(name, style="dim"), Text(value)) for name, value in facts(card)]),
        Text(""),
        _lines(card),
        Text("relocation coverage", style="bold"),
    ]
    if card.coverage_note:
        parts.append(Text(card.coverage_note))
    if card.coverage:
        parts.append(_coverage(card.coverage))
    parts.append(Text(card_summary(card), style="bold"))
    return Group(*parts)


def _grid(rows: list[tuple[Text, Text]]) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for row in rows:
        grid.add_row(*row)
    return grid


def _lines(card: ReportCard) -> Table:
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    made.add_column("", no_wrap=True)
    made.add_column("", max_width=36, overflow="fold")
    made.add_column("evidence", overflow="fold")
    for line in card.lines:
        parts = [Text(each) for each in line.evidence]
        parts += [Text.assemble(("because ", "dim"), each) for each in line.obstacles]
        parts += [Text.assemble(("do      ", "dim"), each) for each in line.advice]
        parts += [Text.assemble(("see     ", "dim"), each) for each in line.files]
        verdict = Text(str(line.verdict), style=STYLES[line.verdict])
        made.add_row(verdict, Text(line.name), Text("\n").join(parts))
    return made


def _coverage(rows: tuple[Coverage, ...]) -> Table:
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    numeric = (1, 4, 5, 6)
    for index, name in enumerate(COLUMNS):
        made.add_column(name, justify="right" if index in numeric else "left", overflow="fold")
    made.add_column("", overflow="fold")
    for row in rows:
        made.add_row(*map(Text, cells(row)), Text(row.gap, style="bold red"))
    return made
