# SPDX-License-Identifier: GPL-2.0-only
"""A night for a terminal: its plan before, what changed after."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.announce import mail
from orchestrator.cli import options
from orchestrator.commands.nightly.work import NightEnd, NightOptions, Planned
from orchestrator.report.verdict import duration


def plan(planned: Planned, wanted: NightOptions) -> RenderableType:
    """One line a job, in the order in which they are begun."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("job", "about", "why here"):
        table.add_column(column, overflow="fold")
    for job in planned.jobs:
        out = job.name in planned.left_out
        about = duration(job.estimate) if job.estimate else "in the cache"
        table.add_row(job.name, about, "no time" if out else job.why)
    total = sum(job.estimate for job in planned.jobs)
    budget = duration(options.seconds(wanted.config.budget))
    line = (
        f"{len(planned.jobs)} jobs, {duration(total)} one after another; the night has {budget}, "
        f"guests side by side: {wanted.guests}"
    )
    return Group(table, Text(line, style="bold"))


def night(ended: NightEnd) -> RenderableType:
    """What the mail says, and where the report is."""
    return Group(Text(mail.mail(ended.night, ended.changes)), Text(f"report: {ended.page}"))
