# SPDX-License-Identifier: GPL-2.0-only
"""`klp-e2e bisect`: what is typed, and what is shown."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from orchestrator.cli import options
from orchestrator.cli.arguments import (
    AccelOption,
    ConfigOption,
    JobsOption,
    KernelOption,
    OneArchOption,
    OutputOption,
    SeriesOption,
    ToolchainOption,
    modules_option,
)
from orchestrator.cli.program import EXAMPLE, app, guarded
from orchestrator.commands.bisect import work
from orchestrator.errors import Exit, UsageError
from orchestrator.nouns import Accel
from orchestrator.report.progress import Reporter
from orchestrator.report.terminal import Terminal, tell


@app.command(
    epilog=EXAMPLE + "klp-e2e bisect --arch s390x --series livepatch-reload \\\n"
    "      --order '+klp_patch +klp_target -klp_target +filler +klp_target'\n"
    "  klp-e2e bisect --arch x86_64 --kernel git:linux --good v6.1 --bad v6.2 --series none \\\n"
    "      --order '+klp_patch +klp_target -klp_target +klp_target'"
)
@guarded
def bisect(
    order: Annotated[str, typer.Option("--order", metavar="'EVENTS'", help="The order to run.")],
    arch: OneArchOption,
    kernel: KernelOption = options.SOURCE,
    series: SeriesOption = None,
    config: ConfigOption = None,
    toolchain: ToolchainOption = None,
    modules: Annotated[
        str,
        modules_option("the order's modules."),
    ] = options.MODULE_SET,
    good: Annotated[
        str | None,
        typer.Option(
            "--good", metavar="REF", help="Commit of --kernel git:REPO where the order passes."
        ),
    ] = None,
    bad: Annotated[
        str | None,
        typer.Option(
            "--bad", metavar="REF", help="Commit of --kernel git:REPO where the order fails."
        ),
    ] = None,
    times: Annotated[
        int, typer.Option("--times", min=1, metavar="N", help="Run it N times on each kernel.")
    ] = 1,
    accel: AccelOption = Accel.AUTO,
    output: OutputOption = None,
    jobs: JobsOption = None,
) -> Exit:
    """Find the patch, or the commit, that changes what an order does. Among the patches of the last
    series, or with --good and --bad among the commits of --kernel git:REPO."""
    built = options.build_options((arch,), kernel, series, jobs, config, toolchain)
    (case,) = options.chosen_cases(modules, (order,), None)
    place = options.results(output)
    asked = work.BisectOptions(built, case, times, place, accel)
    command = tuple(sys.argv)
    with Reporter(Terminal(stderr=True)) as reporter:
        if good is not None and bad is not None:
            found = work.over_commits(asked, good, bad, command, reporter)
        elif good is not None or bad is not None:
            raise UsageError("--good and --bad go together", hint="give both, or none: a series")
        else:
            found = work.over_series(asked, command, reporter)
    work.keep(asked.directory, found)
    for line in work.lines(asked, found):
        tell(line)
    tell(f"results: {asked.directory}")
    return Exit.GOOD
