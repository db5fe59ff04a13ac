# SPDX-License-Identifier: GPL-2.0-only
"""An exploration for a terminal: a line for each module set and architecture, then every finding
with the shortest orders that show it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from orchestrator.errors import Exit
from orchestrator.explore.survey import Tally
from orchestrator.model import orders
from orchestrator.model.findings import Finding, Way
from orchestrator.report import text
from orchestrator.report.explored import Document, GroundRecord, findings
from orchestrator.report.verdict import ended, took
from orchestrator.verdicts import Status

WAYS_SHOWN = 5
WIDE = 1000  # columns: more than any table needs
COLUMNS = (
    *("states", "planned", "verified", "failed", "beyond", "unwalked", "to come"),
    *("depth", "relocations", "orders/min"),
)


def report(document: Document) -> RenderableType:
    """Totals, findings, kernels, one line of summary."""
    parts: list[RenderableType] = [_Table(document.grounds)] if document.grounds else []
    for ground in document.grounds:
        parts += [_finding(found) for found in findings(ground)]
        parts += [_troubles(ground)] if ground.tally.unwalked else []
    parts.append(Text("\n".join(text.kernel_lines(document.run))))
    parts.append(Text(summary(document), style="bold"))
    return Group(*parts)


def exit_code(document: Document) -> Exit:
    """1 when anything was found that is not known (--strict: anything), else that of what ended it
    early, else 4 when not all was walked or a module set proved nothing, else 0. A budget may
    leave something to come."""
    found = [each for ground in document.grounds for each in findings(ground)]
    if any(document.run.strict or not each.known for each in found):
        return Exit.KERNEL_WRONG
    if early := ended(document.run):
        return early
    tallies = [ground.tally for ground in document.grounds]
    proved = bool(tallies) and all(tally.verified for tally in tallies)
    unwalked = any(tally.unwalked for tally in tallies)
    to_come = document.wanted.budget is None and any(t.done < t.planned for t in tallies)
    if unwalked or to_come or not proved:
        return Exit.HARNESS
    return Exit.GOOD


def summary(document: Document) -> str:
    """`2 sets on 2 architectures: 5128 orders verified, 3 findings (3 known), in 4 min 02 s`"""
    tallies = [ground.tally for ground in document.grounds]
    found = [each for ground in document.grounds for each in findings(ground)]
    known = sum(each.known for each in found)
    line = f"{sum(t.verified for t in tallies)} orders verified, "
    line += f"{sum(t.relocations for t in tallies)} relocations read back, "
    line += f"{len(found)} {'finding' if len(found) == 1 else 'findings'}"
    line += f" ({known} known)" if known else ""
    line += took(document.run)
    if document.run.trouble:
        line += f"; stopped early: {document.run.trouble}"
    return line


@dataclass(frozen=True, slots=True)
class _Table:
    """A line for each module set and architecture; where the terminal is too narrow for that, a
    paragraph: no number is ever cut."""

    grounds: Sequence[GroundRecord]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        whole = self._whole()
        needed = Measurement.get(console, options.update(max_width=WIDE), whole).maximum
        yield whole if needed <= options.max_width else self._paragraphs()

    def _whole(self) -> Table:
        made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for name in ("", "modules"):
            made.add_column(name, no_wrap=True)
        for name in COLUMNS:
            made.add_column(name, justify="right", no_wrap=True)
        for ground in self.grounds:
            made.add_row(ground.arch, ground.module_set, *map(str, _numbers(ground.tally)))
        return made

    def _paragraphs(self) -> Text:
        lines = []
        for ground in self.grounds:
            named = zip(COLUMNS, _numbers(ground.tally), strict=True)
            told = ", ".join(f"{name} {number}" for name, number in named)
            lines.append(f"{ground.arch} {ground.module_set}: {told}")
        return Text("\n".join(lines))


def _numbers(tally: Tally) -> tuple[int, ...]:
    """Those of COLUMNS."""
    return (
        *(tally.states, tally.planned, tally.verified, tally.failed, tally.beyond, tally.unwalked),
        *(tally.planned - tally.done, tally.depth, tally.relocations, round(tally.per_minute)),
    )


def _finding(found: Finding) -> RenderableType:
    status = Status.KNOWN if found.known else Status.FAIL
    head = Text.assemble(
        (str(status), text.STYLES[status]),
        (f" {found.arch} {found.module_set} {found.signature}", "bold"),
        f" ({found.hits} {'order' if found.hits == 1 else 'orders'})",
    )
    parts: list[RenderableType] = [head]
    for way in found.ways[:WAYS_SHOWN]:
        parts += [Text(f"  {line}", overflow="fold") for line in way_lines(way)]
    if len(found.ways) > WAYS_SHOWN:
        parts.append(Text(f"  … and {len(found.ways) - WAYS_SHOWN} more, see explore.json"))
    return Group(*parts, Text(""))


def way_lines(way: Way) -> list[str]:
    """What there is to say of one way."""
    lines = [f"order      {orders.format(way.order)}"]
    failure = way.result.first_failure()
    if failure is not None:
        check = failure[2]
        lines += [
            f"check      {check.kind}: {check.subject}",
            f"expected   {check.expected}",
            f"seen       {check.seen}",
        ]
    lines.append(f"reliable   {way.repeated} of {way.tries} cold boots, {way.hits} in the walk")
    if way.result.known_issue:
        lines.append(f"listed as  {way.result.known_issue}")
    if way.bundle:
        lines.append(f"bundle     {way.bundle}")
    return lines


def _troubles(ground: GroundRecord) -> Text:
    lines = [
        f"ERROR {ground.arch} {ground.module_set}: {count} orders not walked: {why}"
        for why, count in sorted(ground.tally.troubles.items())
    ]
    return Text("\n".join(lines), style=text.STYLES[Status.ERROR])
