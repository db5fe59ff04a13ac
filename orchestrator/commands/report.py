# SPDX-License-Identifier: GPL-2.0-only
"""`klp-e2e report`: what an earlier command has left, shown again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.program import EXAMPLE, app, complain, guarded
from orchestrator.cli.showing import show
from orchestrator.commands.nightly import text as night_text
from orchestrator.commands.nightly import work
from orchestrator.errors import Exit, UsageError
from orchestrator.history import files
from orchestrator.report import documents, resultsjson
from orchestrator.report.terminal import tell


@app.command(epilog=EXAMPLE + "klp-e2e report results/2026-01-31-020000")
@guarded
def report(
    place: Annotated[
        Path | None,
        typer.Argument(metavar="DIR", help="What run, explore, port, nightly, ... have left."),
    ] = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of results.json.")
    ] = False,
) -> Exit:
    """Print an earlier run's table. The exit code is that run's. Writes a night's report anew."""
    if schema:
        tell(resultsjson.schema_text().removesuffix("\n"))
        return Exit.GOOD
    if place is None:
        raise UsageError("report needs a directory", hint="klp-e2e report DIR, or --schema")
    found = documents.kind_in(place, (NIGHT, *documents.KINDS))
    shown, code = found.shown(place)
    show(shown)
    return code


def night_again(place: Path) -> work.NightEnd:
    """A night, its report written anew; what that lacks is told."""
    night = work.report_again(place)
    for trouble in night.troubles:
        complain(trouble)
    return night


NIGHT = documents.kind(
    files.NIGHT, night_again, night_text.night, lambda night: night.digest.exit_code
)
