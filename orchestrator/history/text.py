# SPDX-License-Identifier: GPL-2.0-only
"""Nights for a terminal: one compared with another, all of them, a case over them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, pairwise

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from orchestrator.history.changes import standing
from orchestrator.history.nights import (
    CaseHistory,
    Change,
    Changed,
    Changes,
    InputChange,
    Night,
    NightTotals,
    PastResult,
    Verdict,
)
from orchestrator.report.resultstext import STYLES
from orchestrator.report.verdict import duration
from orchestrator.verdicts import Status, by_status

ABSENT = " "
CHANGE_STYLES: Mapping[Change, str] = {
    Change.NEW_FAILURE: "bold red",
    Change.NEW_TROUBLE: "bold cyan",
    Change.FLAKY: "bold red",
    Change.STILL_FAILING: "red",
    Change.STILL_TROUBLE: "cyan",
    Change.FIXED: "bold green",
}


def compared(before: Night, now: Night, changes: Changes) -> RenderableType:
    """How both ended; what changed, worst first; then what went in and is not what it was."""
    both = ((night.name, by_status(row.status for row in night.rows)) for night in (before, now))
    heads = (f"{name}: {_counts(found)}" for name, found in both)
    parts: list[RenderableType] = [Text("\n".join(heads))]
    for change, of_kind in groupby(changes.changed, lambda c: c.change):
        parts += _kind(change, [*of_kind])
    if changes.inputs:
        parts.append(Text("what went in", style="bold"))
        parts.append(Padding(_inputs(changes.inputs), (0, 0, 0, 2)))
    if len(parts) == 1:
        parts.append(Text("nothing changed"))
    return Group(*parts)


def _kind(change: Change, found: Sequence[Changed]) -> Iterator[RenderableType]:
    """A heading with their number, then each."""
    yield Text(f"{change}: {len(found)}", style=CHANGE_STYLES.get(change, "bold"))
    for each in found:
        yield Text(f"  {each.row.job} {each.row.case}", overflow="fold")
        for line in _lines(each):
            yield Text(f"      {line}", overflow="fold")


def _lines(changed: Changed) -> Iterator[str]:
    row = changed.row
    if row.status not in (Status.PASS, Status.KNOWN) and row.reason:
        yield row.reason
    if changed.nights > 1:
        yield f"since {changed.since}, {changed.nights} nights"
    if changed.note:
        yield changed.note
    if row.reproduce and row.status.wrong:
        yield f"reproduce  {row.reproduce}"


def _inputs(inputs: Sequence[InputChange]) -> Table:
    grid = Table.grid(padding=(0, 2))
    for _ in range(3):
        grid.add_column(overflow="fold")
    for each in inputs:
        where = " ".join(filter(None, (each.kernel, each.arch)))
        change = f"{each.before or 'nothing'} -> {each.after or 'nothing'}"
        grid.add_row(Text(where), Text(each.what), Text(change))
    return grid


def nights(totals: Sequence[NightTotals]) -> Table:
    """A line each, in the order given."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("night", "began", "verdict", "cases"):
        made.add_column(name, no_wrap=True)
    made.add_column("took", justify="right", no_wrap=True)
    for night in totals:
        began = time.strftime("%Y-%m-%d %H:%M", time.localtime(night.started))
        took = "did not end" if night.seconds is None else duration(night.seconds)
        cells = (night.name, began, verdict(night), _counts(night.counts), took)
        made.add_row(*map(Text, cells))
    return made


def _counts(counts: Mapping[Status, int]) -> str:
    ranked = sorted(counts, key=lambda status: status.rank)
    return ", ".join(f"{counts[each]} {each}" for each in ranked) or "nothing ran"


def verdict(night: NightTotals) -> str:
    """`good`, `2 failures`, `trouble`, or `nothing ran`: as its digest has it."""
    failures = sum(number for status, number in night.counts.items() if status.wrong)
    if failures:
        return f"{failures} {'failure' if failures == 1 else 'failures'}"
    if not any(status is not Status.SKIP for status in night.counts):
        return "nothing ran"
    if night.verdict is not None:
        return str(night.verdict)
    return str(Verdict.TROUBLE if night.counts.get(Status.ERROR) else Verdict.GOOD)


def cases(histories: Sequence[CaseHistory], names: Sequence[str]) -> RenderableType:
    """Each case with a letter for each night of `names` (newest first), the newest on the right,
    and where it stands."""
    shown = [*reversed(names)]
    key = ", ".join(f"{status.letter} {status}" for status in Status)
    ends = f"{shown[0]} to {shown[-1]}; " if shown else ""
    parts: list[RenderableType] = []
    for each in histories:
        found = {past.night: past.status for past in each.past}
        strip = Text.assemble(
            *(
                (found[name].letter, STYLES[found[name]]) if name in found else ABSENT
                for name in shown
            )
        )
        parts.append(Text(f"{each.job} {each.case}", overflow="fold"))
        parts.append(Text.assemble("  |", strip, f"|  {_standing(each)}", overflow="fold"))
    return Group(*parts, Text(f"{ends}{key}", style="dim"))


def _standing(case: CaseHistory) -> str:
    """`FAIL since NIGHT (6.1.192-2), 2 nights; last good NIGHT (6.1.190-1)`"""
    since, number, good = standing(case.past)
    newest = case.past[0]
    parts = (
        f"{newest.status} since {_at(case, since)}, {number} {'night' if number == 1 else 'nights'}"
    )
    parts += f"; {other}" if (other := _other_set(case.past)) else ""
    if newest.status is Status.PASS:
        return f"{parts}, {duration(newest.seconds)}"
    return f"{parts}; last good {_at(case, good)}" if good else f"{parts}; never seen good"


def _other_set(past: Sequence[PastResult]) -> str:
    """In which night its module set, one that is not ours, was last another than before."""
    known = [each for each in past if each.content]
    for newer, older in pairwise(known):
        if newer.content != older.content:
            return f"its module set is another since {newer.night}"
    return ""


def _at(case: CaseHistory, night: str) -> str:
    version = case.versions.get(night, "")
    return f"{night} ({version})" if version else night
