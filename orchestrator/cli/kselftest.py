# SPDX-License-Identifier: GPL-2.0-only
"""The command that runs the kernel's own tests."""

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
from orchestrator.commands import kselftest as own_tests
from orchestrator.commands import options
from orchestrator.errors import Exit
from orchestrator.nouns import Accel
from orchestrator.report import resultstext, verdict
from orchestrator.report.progress import Reporter
from orchestrator.report.terminal import Terminal


@app.command(epilog=EXAMPLE + "klp-e2e kselftest --arch s390x --test test-callbacks.sh")
@guarded
def kselftest(
    arch: ArchOption = None,
    kernel: KernelOption = options.SOURCE,
    series: SeriesOption = None,
    test: Annotated[
        list[str] | None,
        typer.Option("--test", metavar="SCRIPT", help="Run only this script; may be given again."),
    ] = None,
    accel: AccelOption = Accel.AUTO,
    output: OutputOption = None,
    resume: ResumeOption = None,
    jobs: JobsOption = None,
) -> Exit:
    """Run the kernel's own livepatch tests. They come from the kernel's source, series included."""
    built = options.build_options(arch or (), kernel, series or (), jobs)
    wanted = own_tests.KselftestOptions(
        built,
        tuple(test or ()),
        options.results(output, resume),
        resumed=resume is not None,
        accel=accel,
    )
    writer = own_tests.begin(wanted, tuple(sys.argv))
    try:
        with writer, Reporter(Terminal(stderr=True)) as reporter:
            own_tests.run_scripts(wanted, writer, reporter)
    finally:
        if writer.results:
            show(resultstext.results_report(writer.run, writer.results))
        tell_place(writer)
    return verdict.results_exit_code(writer.run, writer.results)
