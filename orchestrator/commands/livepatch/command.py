# SPDX-License-Identifier: GPL-2.0-only
"""`klp-e2e livepatch`: what is typed, and what is shown."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.builders import klpbuild
from orchestrator.cli import complete, options
from orchestrator.cli.arguments import (
    AccelOption,
    ConfigOption,
    JobsOption,
    KernelOption,
    KnownIssuesOption,
    NoSeriesOption,
    OutputOption,
    StrictOption,
    ToolchainOption,
)
from orchestrator.cli.program import EXAMPLE, app, guarded
from orchestrator.cli.showing import run_and_show
from orchestrator.commands import explore
from orchestrator.commands.livepatch import work
from orchestrator.commands.run import work as runs
from orchestrator.errors import Exit, UsageError
from orchestrator.explore.campaign import CampaignOptions
from orchestrator.nouns import Accel, Channel
from orchestrator.report.progress import Reporter
from orchestrator.report.terminal import Terminal, tell

NEWEST = "debian:newest"


@app.command(epilog=EXAMPLE + "klp-e2e livepatch fix.patch --kernel dir:linux")
@guarded
def livepatch(
    patch: Annotated[
        Path,
        typer.Argument(
            metavar="PATCH",
            help="The change of the kernel's source: a patch, a mail or an mbox of several.",
        ),
    ],
    arch: Annotated[
        str | None,
        typer.Option(
            "--arch",
            "--arch-file",
            metavar="A|FILE",
            autocompletion=complete.arches,
            help="Name of a built-in architecture, or its file. [default: this machine's]",
        ),
    ] = None,
    kernel: KernelOption = NEWEST,
    series: NoSeriesOption = None,
    config: ConfigOption = None,
    toolchain: ToolchainOption = None,
    builder: Annotated[
        str,
        typer.Option("--builder", metavar="NAME", help="Who makes the livepatch."),
    ] = klpbuild.NAME,
    no_replace: Annotated[
        bool,
        typer.Option("--no-replace", help="Let it stand beside livepatches that are there."),
    ] = False,
    into: Annotated[
        Path | None,
        typer.Option(
            "--into",
            metavar="DIR",
            help="Only build, and put the livepatch, its targets and their set.toml into DIR, new "
            "or empty.",
        ),
    ] = None,
    walk: Annotated[
        bool,
        typer.Option("--explore", help="Walk every load order, as `explore` does."),
    ] = False,
    order: Annotated[
        list[str] | None,
        typer.Option(
            "--order",
            metavar="'EVENTS'",
            help="Run this order instead of the usual ones; may be given again.",
        ),
    ] = None,
    known_issues: KnownIssuesOption = None,
    strict: StrictOption = False,
    accel: AccelOption = Accel.AUTO,
    output: OutputOption = None,
    jobs: JobsOption = None,
) -> Exit:
    """Build a livepatch of a source patch and prove it. Runs every order in which it and what it
    patches come and go, each relocation read back. The kernel is taken as it is, without a series,
    where none is named."""
    if sum(map(bool, (walk, order, into))) > 1:
        raise UsageError(
            "--into, --explore and --order exclude one another",
            hint="`klp-e2e run --modules DIR/` runs what --into has built",
        )
    if into is not None:
        work.check_place(into)
    built = options.build_options(
        (arch or work.this_machine(),),
        kernel,
        series or (options.BARE,),
        jobs,
        config,
        toolchain,
        known_issues,
    )
    with Reporter(Terminal(stderr=True)) as reporter:
        made = work.make(built, patch, builder, replacing=not no_replace, reporter=reporter)
        if into is not None:
            work.keep(made, into)
    for line in work.described(made):
        tell(line)
    if into is not None:
        tell(f"to run its orders: {work.again(made, into)}")
        return Exit.GOOD
    if walk:
        return explored(made, strict, output, accel)
    cases = options.chosen_cases(str(made.place), order or (), None)
    wanted = options.run_options(made.build, cases, output, strict, cold=False, accel=accel)
    writer = runs.results_directory(wanted, tuple(sys.argv))
    return run_and_show(writer, lambda reporter: runs.run_orders(wanted, writer, reporter))


def explored(made: work.Made, strict: bool, output: Path | None, accel: Accel) -> Exit:
    """Every load order of the set."""
    wanted = CampaignOptions(guests=explore.guests_of(made.build))
    place = options.results(output)
    asked = explore.ExploreOptions(
        made.build, (str(made.place),), wanted, Channel.AGENT, strict, place, accel
    )
    return explore.explored(asked, explore.begin(asked, tuple(sys.argv)))
