# SPDX-License-Identifier: GPL-2.0-only
"""`klp-e2e arch`: help with the two files of an architecture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli import complete, options
from orchestrator.cli.arguments import KernelOption
from orchestrator.cli.program import EXAMPLE, app, guarded
from orchestrator.errors import Exit
from orchestrator.port import archcheck, archnew
from orchestrator.report.progress import Reporter
from orchestrator.report.terminal import Terminal, tell

arch = typer.Typer(no_args_is_help=True, help="Write and check an architecture's two files.")
app.add_typer(arch, name="arch", epilog=EXAMPLE + "klp-e2e arch check")


@arch.command(epilog=EXAMPLE + "klp-e2e arch check s390x ./mine.toml")
@guarded
def check(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME|FILE",
            autocompletion=complete.arches,
            help="Architectures, by name or file. [default: every built-in one]",
        ),
    ] = None,
    kernel: KernelOption = options.SOURCE,
) -> Exit:
    """Say all that is wrong with an architecture's files. Exit code 2: the files are wrong; 4: this
    host lacks something."""
    with Reporter(Terminal(stderr=True)) as reporter:
        reports = archcheck.check(names or (), options.source(kernel), reporter.say)
    for report in reports:
        tell("\n".join(report.lines))
    return archcheck.check_exit_code(reports)


@arch.command(epilog=EXAMPLE + "klp-e2e arch new riscv64 --kernel-arch riscv --directory .")
@guarded
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Debian's or GNU's name for it.")],
    kernel_arch: Annotated[
        str | None,
        typer.Option(
            "--kernel-arch", metavar="A", help="The kernel's name for it, as in make ARCH=A."
        ),
    ] = None,
    like: Annotated[
        str | None,
        typer.Option(
            "--like",
            metavar="NAME|FILE",
            autocompletion=complete.arches,
            help="Fill in the values of this architecture, to start from.",
        ),
    ] = None,
    directory: Annotated[
        Path | None,
        typer.Option(
            "--directory", metavar="DIR", help="Where the two files go. [default: klp-e2e's tree]"
        ),
    ] = None,
) -> Exit:
    """Write an architecture's two files, as commented templates. Never over what is there."""
    for path in archnew.write(name, directory, kernel_arch=kernel_arch, like=like):
        tell(str(path))
    return Exit.GOOD
