# SPDX-License-Identifier: GPL-2.0-only
"""Ablations and mutants for a terminal: a line for each on each architecture, what is open in full,
the score."""

from __future__ import annotations

from collections.abc import Mapping

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.errors import Exit
from orchestrator.report import resultstext
from orchestrator.report.trialsjson import TrialsDocument
from orchestrator.report.verdict import ended, took
from orchestrator.trials import CONTROL, Trial, TrialOutcome, score

STYLES: Mapping[TrialOutcome, str] = {
    TrialOutcome.CAUGHT: "green",
    TrialOutcome.SURVIVED: "bold red",
    TrialOutcome.SAME: "dim",
    TrialOutcome.UNBUILT: "bold cyan",
    TrialOutcome.ERROR: "bold cyan",
}


def trials_report(document: TrialsDocument) -> RenderableType:
    """Table, what is open, kernels, score."""
    trials = [tried.trial for tried in document.trials]
    parts: list[RenderableType] = [_table(document)] if trials else []
    parts += [_open(trial) for trial in trials if trial.hole]
    parts.append(Text("\n".join(resultstext.kernel_lines(document.run))))
    parts.append(Text(trials_summary(document), style="bold"))
    return Group(*parts)


def trials_exit_code(document: TrialsDocument) -> Exit:
    """1 when the unaltered kernel fails an order; else that of what ended it early; else 3 when
    something does not build; else 4 when anything that can be seen was not seen, or not tried;
    else 0."""
    trials = [tried.trial for tried in document.trials]
    if any(t.alteration == CONTROL and t.outcome is TrialOutcome.CAUGHT for t in trials):
        return Exit.TEST_FAILURE
    if early := ended(document.run):
        return early
    if any(t.outcome is TrialOutcome.UNBUILT for t in trials):
        return Exit.BUILD
    arches = len(document.run.option("arches").split())
    planned = arches * document.planned
    if not 0 < planned <= len(trials) or any(t.hole for t in trials):
        return Exit.HARNESS
    return Exit.GOOD


def trials_summary(document: TrialsDocument) -> str:
    """The control's line, then one for each architecture's score."""
    trials = [tried.trial for tried in document.trials]
    lines = []
    for arch in sorted({trial.arch for trial in trials}):
        controls = [t for t in trials if t.arch == arch and t.alteration == CONTROL]
        wrong = sum(len(t.caught_by) for t in controls)
        ran = sum(t.orders for t in controls)
        lines.append(f"{score(trials, arch)}; {CONTROL}: {wrong} of {ran} orders fail")
    if document.run.finished is not None:
        lines.append(took(document.run).removeprefix(", "))
    if document.run.trouble:
        lines.append(f"stopped early: {document.run.trouble}")
    return "\n".join(lines)


def _table(document: TrialsDocument) -> Table:
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    made.add_column(document.kind)
    made.add_column("", no_wrap=True)
    made.add_column("", no_wrap=True)
    made.add_column("caught by", justify="right", no_wrap=True)
    made.add_column("first", overflow="fold")
    made.add_column("symptom", overflow="fold")
    order = {name: number for number, name in enumerate(document.alterations)}
    trials = sorted(document.trials, key=lambda t: (order.get(t.name, -1), t.name, t.trial.arch))
    for tried in trials:
        trial = tried.trial
        first, symptom = "", trial.symptom or trial.reason
        if trial.caught_by:
            first = f"{trial.caught_by[0]}"
        elif trial.outcome is TrialOutcome.SAME:
            symptom = "the same kernel, byte for byte"
        elif trial.outcome is TrialOutcome.SURVIVED and trial.unseen:
            symptom = f"cannot be seen: {trial.unseen}"
        count = f"{len(trial.caught_by)} of {trial.orders}" if trial.orders else ""
        made.add_row(
            tried.name,
            trial.arch,
            Text(trial.outcome, STYLES[trial.outcome]),
            count,
            first,
            symptom,
        )
    return made


def _open(trial: Trial) -> RenderableType:
    """What is to be looked into."""
    lines = [
        Text.assemble((trial.outcome, STYLES[trial.outcome]), f" {trial.arch} {trial.alteration}")
    ]
    if trial.unseen:
        lines.append(Text(f"  declared    cannot be seen: {trial.unseen}"))
    if trial.reason:
        lines.append(Text(f"  because     {trial.reason}"))
    if trial.order:
        lines.append(Text(f"  order       {trial.order}"))
        lines.append(Text(f"  symptom     {trial.symptom}"))
        lines.append(Text(f"  reproduce   {trial.reproduce}"))
    return Group(*lines, Text(""))
