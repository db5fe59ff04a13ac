# SPDX-License-Identifier: GPL-2.0-only
"""`klp-e2e merge`: what is typed, and what is shown."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.program import EXAMPLE, app, complain, guarded
from orchestrator.cli.showing import show
from orchestrator.commands.merge import work
from orchestrator.commands.nightly import text
from orchestrator.errors import Exit
from orchestrator.history import files


@app.command(epilog=EXAMPLE + "klp-e2e merge parts/part-* -o nights")
@guarded
def merge(
    parts: Annotated[
        list[Path],
        typer.Argument(metavar="DIR...", help="What `klp-e2e nightly --only` has left, each."),
    ],
    output: Annotated[
        Path, typer.Option("-o", metavar="DIR", help="Directory of all nights, which gets it.")
    ] = files.NIGHTS,
) -> Exit:
    """Make one night of parts that were run here and there. A job that none of them has is not run,
    and a night without it not good. The exit code is that of the night."""
    ended = work.merge(parts, output)
    for trouble in ended.troubles:
        complain(trouble)
    show(text.night(ended))
    return ended.digest.exit_code
