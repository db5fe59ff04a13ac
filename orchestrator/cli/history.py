# SPDX-License-Identifier: GPL-2.0-only
"""Commands that look back: one night compared with another, a case over the nights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.program import EXAMPLE, app, complain, guarded
from orchestrator.cli.shared import show
from orchestrator.errors import Exit, UsageError
from orchestrator.history import files, text
from orchestrator.history.alike import by_order, told_apart
from orchestrator.history.changes import changes, unheard, without_proof
from orchestrator.history.database import NAME, History
from orchestrator.history.nights import Change
from orchestrator.report.terminal import tell
from orchestrator.verdicts import Status

REBUILD = "rebuild"
NIGHTS_SHOWN = 60  # of a case: what fits on a line

PlaceOption = Annotated[Path, typer.Option("-o", metavar="DIR", help="Directory of all nights.")]


@app.command(epilog=EXAMPLE + "klp-e2e compare nights/2026-01-30-020000 nights/2026-01-31-020000")
@guarded
def compare(
    before: Annotated[Path, typer.Argument(metavar="A", help="A night, or a results directory.")],
    now: Annotated[Path, typer.Argument(metavar="B", help="The one to compare with it.")],
    allow_gone: Annotated[
        bool, typer.Option("--allow-gone", help="Accept cases of A that B did not run.")
    ] = False,
) -> Exit:
    """Say what changed from A to B, and which inputs. Exit code 1: B has new failures, or cases
    that are newly flaky; 4: B has new errors, was cut short, has no verdict for a case for which A
    has one, or no verdict at all."""
    old, new = told_apart(by_order(files.read(before)), by_order(files.read(now)))
    found = changes(new, old, {}, files.configs(now, new, before, old))
    show(text.compared(old, new, found))
    if missing := unheard(new, old):
        complain(f"{now} was cut short: of {len(missing)} cases of {before} it tells nothing")
    seen = {each.change for each in found.changed}
    flaky = any(each.change is Change.FLAKY and each.nights == 1 for each in found.changed)
    if Change.NEW_FAILURE in seen or flaky:
        return Exit.TEST_FAILURE
    lost = not allow_gone and without_proof(old, found)
    proved = any(row.status not in (Status.ERROR, Status.SKIP) for row in new.rows)
    if missing or lost or not proved or Change.NEW_TROUBLE in seen:
        return Exit.HARNESS
    return Exit.GOOD


@app.command(
    epilog=EXAMPLE + "klp-e2e history\n"
    "  klp-e2e history basic/reload-moved\n"
    f"  klp-e2e history {REBUILD} -o nights"
)
@guarded
def history(
    case: Annotated[
        str | None,
        typer.Argument(
            metavar="CASE",
            help="Show this case: part of 'JOB CASE', or a pattern such as '*/core basic/*'. "
            f"'{REBUILD}': read every night's files into the database again.",
        ),
    ] = None,
    place: PlaceOption = files.NIGHTS,
) -> Exit:
    """List the nights, newest first. Or show a case over the last of them."""
    if not (place / NAME).exists() and not any(files.nights(place)):
        raise UsageError(f"{place} has no nights", hint="name the place with -o DIR")
    with History(place / NAME, reading=case != REBUILD) as nights:
        for line in nights.told:
            complain(line)
        if case is None:
            totals = nights.totals()
            if not totals:  # the database of a night that never was
                raise UsageError(f"{place} has no nights", hint="name the place with -o DIR")
            show(text.nights(totals))
        elif case == REBUILD:
            _rebuild(nights, place)
        else:
            found = nights.case(case)
            if not found:
                raise UsageError(f"no case is called {case}", hint="try a part of its name")
            show(text.cases(found, nights.names()[:NIGHTS_SHOWN]))
    return Exit.GOOD


def _rebuild(nights: History, place: Path) -> None:
    rebuilt = nights.rebuild(place)
    for line in rebuilt.unreadable:
        complain(line)
    tell(f"{nights.path}: {rebuilt.nights} nights read, {len(nights.names())} known")
