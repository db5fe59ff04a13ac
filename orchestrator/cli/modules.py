# SPDX-License-Identifier: GPL-2.0-only
"""Commands that work on module files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.program import EXAMPLE, app, guarded
from orchestrator.commands import modfiles
from orchestrator.errors import Exit
from orchestrator.report.terminal import tell

ArchFileOption = Annotated[
    list[str] | None,
    typer.Option(
        "--arch-file",
        metavar="FILE",
        help="File A.toml of an architecture that is not built in; may be given again.",
    ),
]


@app.command(
    epilog=EXAMPLE + "klp-e2e convert patch.ko klp_patch.ko --object klp_target \\\n"
    "      --symbol hidden --symbol twice,2"
)
@guarded
def convert(
    source: Annotated[Path, typer.Argument(metavar="IN.ko", help="An ordinary module.")],
    goal: Annotated[Path, typer.Argument(metavar="OUT.ko", help="The livepatch module.")],
    object_name: Annotated[
        str | None,
        typer.Option("--object", metavar="M", help="Module that defines the symbols, or vmlinux."),
    ] = None,
    symbol: Annotated[
        list[str] | None,
        typer.Option(
            "--symbol", metavar="NAME[,N]", help="Defer this symbol, the N-th of that name."
        ),
    ] = None,
    auto: Annotated[
        Path | None,
        typer.Option(metavar="TARGET.ko", help="Defer every symbol that this module defines."),
    ] = None,
    arch_file: ArchFileOption = None,
    force: Annotated[
        bool, typer.Option("--force", help="Write over OUT.ko if it is there.")
    ] = False,
) -> Exit:
    """Defer a module's relocations. Makes a livepatch module of an ordinary one."""
    files = arch_file or ()
    number = modfiles.convert(source, goal, object_name, symbol or (), auto, files, force=force)
    tell(f"{goal}: {number} klp symbol{'s' * (number != 1)}")
    return Exit.GOOD


@app.command(epilog=EXAMPLE + "klp-e2e inspect klp_patch.ko --json")
@guarded
def inspect(
    module: Annotated[Path, typer.Argument(metavar="X.ko", help="A livepatch module.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
    arch_file: ArchFileOption = None,
) -> Exit:
    """Check a livepatch module. Exit code 1 when it is not well-formed."""
    found, arch = modfiles.examine(module, arch_file or ())
    tell(modfiles.as_json(found) if as_json else modfiles.as_text(found, arch))
    return Exit.GOOD if found.well_formed else Exit.TEST_FAILURE
