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

from orchestrator.explore.campaign import Stats
from orchestrator.model import orders
from orchestrator.model.culprit import SUSPECT
from orchestrator.model.findings import Finding, Reproducer
from orchestrator.nouns import set_title
from orchestrator.report import resultstext
from orchestrator.report.explorejson import CampaignRecord, ExploreDocument, findings
from orchestrator.report.verdict import took
from orchestrator.verdicts import Status

REPRODUCERS_SHOWN = 5
WIDE = 1000  # columns: more than any table needs
COLUMNS = (
    *("states", "planned", "verified", "failed", "blocked", "not run", "pending"),
    *("depth", "relocations", "orders/min"),
)


def exploration_report(document: ExploreDocument) -> RenderableType:
    """Totals, findings, kernels, one line of summary."""
    parts: list[RenderableType] = [_Table(document.campaigns)] if document.campaigns else []
    for campaign in document.campaigns:
        parts += [_finding(found) for found in findings(campaign)]
        parts += [_troubles(campaign)] if campaign.stats.not_run else []
    parts.append(Text("\n".join(resultstext.kernel_lines(document.run))))
    parts.append(Text(exploration_summary(document), style="bold"))
    return Group(*parts)


def exploration_summary(document: ExploreDocument) -> str:
    """`2 sets on 2 architectures: 5128 orders verified, 3 findings (3 known), in 4 min 02 s`"""
    all_stats = [campaign.stats for campaign in document.campaigns]
    found = [each for campaign in document.campaigns for each in findings(campaign)]
    known = sum(each.known for each in found)
    line = f"{sum(t.verified for t in all_stats)} orders verified, "
    line += f"{sum(t.relocations for t in all_stats)} relocations read back, "
    line += f"{len(found)} {'finding' if len(found) == 1 else 'findings'}"
    line += f" ({known} known)" if known else ""
    line += took(document.run)
    blamed = sum(each.blamed for each in found)
    line += f"; {SUSPECT}: {blamed} of them" if blamed else ""
    if document.run.trouble:
        line += f"; stopped early: {document.run.trouble}"
    return line


@dataclass(frozen=True, slots=True)
class _Table:
    """A line for each module set and architecture; where the terminal is too narrow for that, a
    paragraph: no number is ever cut."""

    campaigns: Sequence[CampaignRecord]

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
        for campaign in self.campaigns:
            made.add_row(
                campaign.arch, set_title(campaign.module_set), *map(str, _numbers(campaign.stats))
            )
        return made

    def _paragraphs(self) -> Text:
        lines = []
        for campaign in self.campaigns:
            named = zip(COLUMNS, _numbers(campaign.stats), strict=True)
            numbers = ", ".join(f"{name} {number}" for name, number in named)
            lines.append(f"{campaign.arch} {set_title(campaign.module_set)}: {numbers}")
        return Text("\n".join(lines))


def _numbers(stats: Stats) -> tuple[int, ...]:
    """Those of COLUMNS."""
    return (
        *(stats.states, stats.planned, stats.verified, stats.failed, stats.blocked, stats.not_run),
        *(stats.planned - stats.done, stats.depth, stats.relocations, round(stats.per_minute)),
    )


def _finding(found: Finding) -> RenderableType:
    status = found.status
    head = Text.assemble(
        (str(status), resultstext.STYLES[status]),
        (f" {found.arch} {set_title(found.module_set)} {found.signature}", "bold"),
        f" ({found.hits} {'order' if found.hits == 1 else 'orders'})",
    )
    parts: list[RenderableType] = [head]
    for reproducer in found.reproducers[:REPRODUCERS_SHOWN]:
        parts += [Text(f"  {line}", overflow="fold") for line in reproducer_lines(reproducer)]
    if len(found.reproducers) > REPRODUCERS_SHOWN:
        parts.append(
            Text(f"  … and {len(found.reproducers) - REPRODUCERS_SHOWN} more, see explore.json")
        )
    return Group(*parts, Text(""))


def reproducer_lines(reproducer: Reproducer) -> list[str]:
    """What there is to say of one reproducer."""
    lines = [f"order      {orders.format(reproducer.order)}"]
    failure = reproducer.result.first_failure()
    if failure is not None:
        check = failure[2]
        lines += [
            f"check      {check.kind}: {check.subject}",
            f"expected   {check.expected}",
            f"seen       {check.seen}",
        ]
    boots = f"{reproducer.repeated} of {reproducer.tries} cold boots"
    lines.append(f"reliable   {boots}, {reproducer.hits} in the walk")
    if reproducer.result.known_issue:
        lines.append(f"listed as  {reproducer.result.known_issue}")
    if reproducer.result.culprit:
        lines.append(f"culprit    {reproducer.result.culprit}: {SUSPECT}")
    if reproducer.bundle:
        lines.append(f"bundle     {reproducer.bundle}")
    return lines


def _troubles(campaign: CampaignRecord) -> Text:
    lines = [
        f"ERROR {campaign.arch} {set_title(campaign.module_set)}: {count} orders not walked: {why}"
        for why, count in sorted(campaign.stats.errors.items())
    ]
    return Text("\n".join(lines), style=resultstext.STYLES[Status.ERROR])
