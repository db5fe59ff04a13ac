# SPDX-License-Identifier: GPL-2.0-only
"""`klp-e2e build`: kernels into the cache."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.build import prepare
from orchestrator.cli import options
from orchestrator.cli.arguments import (
    ArchOption,
    ConfigOption,
    JobsOption,
    KernelOption,
    SeriesOption,
    ToolchainOption,
)
from orchestrator.cli.options import BuildOptions
from orchestrator.cli.program import EXAMPLE, app, guarded
from orchestrator.errors import Exit
from orchestrator.nouns import Kernel
from orchestrator.report.progress import Reporter
from orchestrator.report.terminal import Terminal, tell


@app.command(epilog=EXAMPLE + "klp-e2e build --arch s390x --kernel debian:6.12 --series none")
@guarded
def build(
    arch: ArchOption = None,
    kernel: KernelOption = options.SOURCE,
    series: SeriesOption = None,
    config: ConfigOption = None,
    toolchain: ToolchainOption = None,
    print_directory: Annotated[
        bool,
        typer.Option(
            "--print-directory", help="Print only where they are, for K=$(klp-e2e build ...)."
        ),
    ] = False,
    jobs: JobsOption = None,
) -> Exit:
    """Build the kernels. Of those in the cache it only says where they are."""
    wanted = options.build_options(arch, kernel, series, jobs, config, toolchain)
    with Reporter(Terminal(stderr=True)) as reporter:
        kernels = build_kernels(wanted, reporter)
    for made in kernels:
        where = str(made.directory)
        tell(where if print_directory else f"{made.arch} {made.release} {where}")
    return Exit.GOOD


def build_kernels(wanted: BuildOptions, reporter: Reporter) -> tuple[Kernel, ...]:
    """The kernels, one an architecture, built where they are not."""
    return prepare.kernels(
        wanted.arches,
        source=wanted.source,
        series=wanted.series,
        jobs=wanted.jobs,
        say=reporter.say,
        advance=reporter.advance,
    )
