# SPDX-License-Identifier: GPL-2.0-only
"""`klp-e2e port`: what is typed, and what is shown."""

from __future__ import annotations

import sys

from orchestrator import catalog
from orchestrator.cli import options
from orchestrator.cli.arguments import (
    AccelOption,
    ArchArgument,
    ConfigOption,
    JobsOption,
    KernelOption,
    KnownIssuesOption,
    OutputOption,
    SeriesOption,
    ToolchainOption,
)
from orchestrator.cli.program import EXAMPLE, app, guarded
from orchestrator.cli.showing import show, tell_place
from orchestrator.commands.port import parts
from orchestrator.commands.port import work as porting
from orchestrator.errors import Exit
from orchestrator.nouns import Accel
from orchestrator.port.card import Verdict, card_exit_code
from orchestrator.report import cardjson
from orchestrator.report.progress import Reporter
from orchestrator.report.terminal import Terminal


@app.command(epilog=EXAMPLE + "klp-e2e port ./mine.toml --kernel dir:linux --series none")
@guarded
def port(
    arch: ArchArgument,
    kernel: KernelOption = options.SOURCE,
    series: SeriesOption = None,
    config: ConfigOption = None,
    toolchain: ToolchainOption = None,
    known_issues: KnownIssuesOption = None,
    accel: AccelOption = Accel.AUTO,
    output: OutputOption = None,
    jobs: JobsOption = None,
) -> Exit:
    """Make an architecture's report card. What of livepatch works, what is missing, and why."""
    catalog.arch_file(arch)  # before there is a directory
    wanted = porting.PortOptions(
        spec=arch,
        source=options.source(kernel),
        series=options.stack(series or ()),
        configs=options.configurations(config or ()),
        toolchain=toolchain or "",
        jobs=options.compilers(jobs),
        scope=parts.whole(),
        directory=options.results(output),
        accel=accel,
        known_issues=options.issue_files(known_issues or ()),
    )
    writer = porting.begin(wanted, tuple(sys.argv))
    try:
        with writer, Reporter(Terminal(stderr=True)) as reporter:
            porting.make(wanted, writer, reporter)
    finally:
        if any(line.verdict is not Verdict.SKIP for line in writer.card.lines):
            show(cardjson.card_report(writer.card))
        tell_place(writer)
    return card_exit_code(writer.card)
