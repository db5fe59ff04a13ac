# SPDX-License-Identifier: GPL-2.0-only
"""`klp-e2e history`: the nights, and a case over them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.program import EXAMPLE, app, complain, guarded
from orchestrator.cli.showing import show
from orchestrator.errors import Exit, UsageError
from orchestrator.history import files, text
from orchestrator.history.database import NAME, History
from orchestrator.report.terminal import tell

REBUILD = "rebuild"


NIGHTS_SHOWN = 60  # of a case: what fits on a line


PlaceOption = Annotated[Path, typer.Option("-o", metavar="DIR", help="Directory of all nights.")]


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
