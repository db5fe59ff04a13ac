# SPDX-License-Identifier: GPL-2.0-only
"""The command that feeds the kernel broken livepatch modules."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from orchestrator.cli.program import EXAMPLE, app, guarded
from orchestrator.cli.shared import (
    AccelOption,
    ArchOption,
    JobsOption,
    KernelOption,
    OutputOption,
    ResumeOption,
    SeriesOption,
    show,
    tell_place,
)
from orchestrator.commands import malformed as broken
from orchestrator.commands import options
from orchestrator.errors import Exit
from orchestrator.nouns import Accel
from orchestrator.report import resultstext, verdict
from orchestrator.report.progress import Reporter
from orchestrator.report.terminal import Terminal, tell


@app.command(epilog=EXAMPLE + "klp-e2e malformed --arch s390x --only 'symbol-*'")
@guarded
def malformed(
    arch: ArchOption = None,
    kernel: KernelOption = options.SOURCE,
    series: SeriesOption = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only",
            metavar="NAME",
            help="Try only these; a pattern such as 'symbol-*' or '*/target-later' will do; may be "
            "given again.",
        ),
    ] = None,
    accel: AccelOption = Accel.AUTO,
    output: OutputOption = None,
    resume: ResumeOption = None,
    jobs: JobsOption = None,
) -> Exit:
    """Feed the kernel broken livepatch modules. It should refuse each, and never crash."""
    chosen = broken.cases(only or ())
    built = options.build_options(arch or (), kernel, series or (), jobs)
    place = options.results(output, resume)
    resumed = resume is not None
    wanted = broken.MalformedOptions(built, chosen, place, resumed=resumed, accel=accel)
    writer = broken.begin(wanted, tuple(sys.argv))
    try:
        with writer, Reporter(Terminal(stderr=True)) as reporter:
            broken.run_malformed(wanted, writer, reporter)
    finally:
        if writer.results:
            show(resultstext.results_report(writer.run, writer.results))
            tell("\n".join(broken.speeds(writer.results)))
        tell_place(writer)
    return verdict.results_exit_code(writer.run, writer.results)
