# SPDX-License-Identifier: GPL-2.0-only
"""`klp-e2e run`: what is typed, and what is shown."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from orchestrator.cli import options
from orchestrator.cli.arguments import (
    AccelOption,
    ArchOption,
    ChannelOption,
    ConfigOption,
    FleetOption,
    JobsOption,
    KernelOption,
    KnownIssuesOption,
    OutputOption,
    ResumeOption,
    SeriesOption,
    StrictOption,
    SuiteOption,
    ToolchainOption,
    modules_option,
)
from orchestrator.cli.program import EXAMPLE, app, guarded
from orchestrator.cli.showing import run_and_show, show
from orchestrator.commands.run import eachpatch, work
from orchestrator.errors import Exit, UsageError
from orchestrator.nouns import Accel, Channel
from orchestrator.report import prefixes, resultstext, verdict
from orchestrator.report.progress import Reporter
from orchestrator.report.terminal import Terminal, tell


@app.command(
    epilog=EXAMPLE + "klp-e2e run --arch s390x --series none --modules basic \\\n"
    "      --order '+klp_patch +klp_target -klp_target +filler +klp_target'"
)
@guarded
def run(
    arch: ArchOption = None,
    kernel: KernelOption = options.SOURCE,
    series: SeriesOption = None,
    config: ConfigOption = None,
    toolchain: ToolchainOption = None,
    modules: Annotated[
        str | None,
        modules_option(
            "the modules of --order "
            f"({options.MODULE_SET} if not given). Without --order: run only this set's cases of "
            "the suite, or its usual orders."
        ),
    ] = None,
    order: Annotated[
        list[str] | None,
        typer.Option(
            "--order",
            metavar="'EVENTS'",
            help="Run this order instead of a suite; may be given again.",
        ),
    ] = None,
    suite: SuiteOption = None,
    case: Annotated[
        list[str] | None,
        typer.Option(
            "--case",
            metavar="NAME",
            help="Run only this case, SET/NAME or NAME; a pattern such as 'basic/*' will do; may "
            "be given again.",
        ),
    ] = None,
    known_issues: KnownIssuesOption = None,
    strict: StrictOption = False,
    cold: Annotated[
        bool, typer.Option("--cold", help="Boot for each order instead of restoring a snapshot.")
    ] = False,
    each_patch: Annotated[
        bool,
        typer.Option(
            "--each-patch", help="Run with the first patch of the last series, with two, ..."
        ),
    ] = False,
    channel: ChannelOption = Channel.AGENT,
    accel: AccelOption = Accel.AUTO,
    fleet: FleetOption = False,
    output: OutputOption = None,
    resume: ResumeOption = None,
    jobs: JobsOption = None,
) -> Exit:
    """Run orders on guests. Builds what is not in the cache, boots, prints a line an order."""
    cases = options.only_cases(options.chosen_cases(modules, order or (), suite), case or ())
    built = options.build_options(arch, kernel, series, jobs, config, toolchain, known_issues)
    wanted = options.run_options(built, cases, output, strict, cold, channel, resume, accel)
    if each_patch:
        if wanted.resumed or fleet:
            given = "--fleet" if fleet else "--resume"
            raise UsageError(f"--each-patch begins anew, here: leave out {given}")
        return run_each_patch(wanted)
    writer = work.results_directory(wanted, tuple(sys.argv))
    return run_and_show(writer, lambda reporter: work.run_orders(wanted, writer, reporter, fleet))


def run_each_patch(wanted: options.RunOptions) -> Exit:
    """Prefix by prefix: what is wrong with it in full, then all of them, a line each."""
    done = []
    try:
        with Reporter(Terminal(stderr=True)) as reporter:
            for prefix in eachpatch.run_each_patch(wanted, tuple(sys.argv), reporter):
                done.append(prefix)
                for result in resultstext.worst_first(prefix.results):
                    if verdict.counts_as_failure(result.status, wanted.strict):
                        show(resultstext.failure(result))
    finally:
        for prefix in done:
            tell(prefix.line)
        tell(f"results: {wanted.directory}")
    return prefixes.exit_code(done)
