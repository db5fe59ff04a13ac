# SPDX-License-Identifier: GPL-2.0-only
"""`klp-e2e compare`: one night, or results directory, measured by another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.program import EXAMPLE, app, complain, guarded
from orchestrator.cli.showing import show
from orchestrator.errors import Exit
from orchestrator.history import files, text
from orchestrator.history.alike import told_apart
from orchestrator.history.changes import changes, unheard, without_proof
from orchestrator.history.nights import Change
from orchestrator.verdicts import Status


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
    old, new = told_apart(files.read(before), files.read(now))
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
