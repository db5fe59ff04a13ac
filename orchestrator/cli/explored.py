# SPDX-License-Identifier: GPL-2.0-only
"""Commands that look for orders that fail, shorten them, and show them again."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli import complete
from orchestrator.cli.program import EXAMPLE, app, guarded
from orchestrator.cli.shared import (
    AccelOption,
    ArchOption,
    ChannelOption,
    JobsOption,
    KernelOption,
    OutputOption,
    SeriesOption,
    StrictOption,
    show,
    tell_place,
)
from orchestrator.commands import exploration, options, session
from orchestrator.commands.outsiders import Given
from orchestrator.errors import Exit
from orchestrator.explore.exploration import CampaignOptions, Strategy
from orchestrator.model.search import Choice
from orchestrator.nouns import Accel, Channel
from orchestrator.report import exploretext
from orchestrator.report.progress import Reporter
from orchestrator.report.terminal import Terminal, tell
from orchestrator.repro import bundle

ModulesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--modules",
        metavar="SET|DIR",
        autocompletion=complete.every_module_set,
        help=f"Module set, or 'all'; may be given again. [default: {options.MODULE_SET}]",
    ),
]


@app.command(
    epilog=EXAMPLE + "klp-e2e explore --arch s390x --modules basic --series none --depth 6\n"
    "  klp-e2e explore --modules all --budget 10m\n"
    "  klp-e2e explore --resume results/2026-01-31-020000"
)
@guarded
def explore(
    arch: ArchOption = None,
    kernel: KernelOption = options.SOURCE,
    series: SeriesOption = None,
    modules: ModulesOption = None,
    depth: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Events in an order; default: by the strategy."),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="30s, 10m, 2h: go deeper, or walk on, until it is over."),
    ] = None,
    strategy: Annotated[
        Strategy,
        typer.Option(
            help="Every event in every state; walks by a seed; or every two events in either "
            "sequence, in few orders."
        ),
    ] = Strategy.EXHAUSTIVE,
    seed: Annotated[int, typer.Option(metavar="S", help="Gives the same walks again.")] = 1,
    orders: Annotated[
        int, typer.Option(min=1, metavar="N", help="Random walks, where no budget bounds them.")
    ] = 100,
    races: Annotated[
        bool, typer.Option("--races", help="Also events at the same time, on two CPUs.")
    ] = False,
    burst: Annotated[
        int, typer.Option(min=0, metavar="N", help="Also N reloads of each target in a row.")
    ] = 0,
    every_order: Annotated[
        bool, typer.Option("--every-order", help="Also orders that lead to a state seen before.")
    ] = False,
    confirm: Annotated[
        int, typer.Option(min=0, metavar="N", help="Cold boots of each order that fails.")
    ] = 10,
    guests: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Of each architecture; default: by the cores."),
    ] = None,
    channel: ChannelOption = Channel.AGENT,
    accel: AccelOption = Accel.AUTO,
    strict: StrictOption = False,
    output: OutputOption = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Go on with an interrupted one, as it was begun. Sources, series, module sets and "
            "architectures of your own are to be named again.",
        ),
    ] = None,
    jobs: JobsOption = None,
) -> Exit:
    """Walk every load order. Minimises what fails, and keeps a bundle of it."""
    if resume is not None:
        given = Given.of(arch=arch or (), kernel=kernel, series=series or (), modules=modules or ())
        asked, writer = exploration.resumed(resume, jobs, given)
    else:
        built = options.build(arch or (), kernel, series or (), jobs)
        wanted = CampaignOptions(
            strategy=strategy,
            depth=depth,
            budget=None if budget is None else options.seconds(budget),
            orders=orders,
            seed=seed,
            choice=Choice(races, burst),
            merge=not every_order,
            confirm=confirm,
            guests=guests or exploration.guests(built),
        )
        sets = options.module_sets(modules or ())
        asked = exploration.ExploreOptions(
            built, sets, wanted, channel, strict, options.results(output), accel
        )
        writer = exploration.begin(asked, tuple(sys.argv))
    try:
        with writer, Reporter(Terminal(stderr=True)) as reporter:
            exploration.explore(asked, writer, reporter)
    finally:
        if writer.head.campaigns:
            show(exploretext.report(writer.head))
        tell_place(writer)
    return exploretext.exit_code(writer.head)


@app.command(epilog=EXAMPLE + "klp-e2e minimise results/2026-01-31-020000 s390x/basic/reload-moved")
@guarded
def minimise(
    results: Annotated[Path, typer.Argument(metavar="RESULTS")],
    case: Annotated[str, typer.Argument(metavar="CASE", help="ARCH/SET/NAME of a failure.")],
    confirm: Annotated[
        int, typer.Option(min=0, metavar="N", help="Cold boots of the shortest order.")
    ] = 10,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            metavar="DIR",
            help="The bundle: a new or empty directory, or a bundle, which is replaced. "
            "[default: RESULTS/findings/…, beside what is there]",
        ),
    ] = None,
    arch: ArchOption = None,
    kernel: KernelOption = options.SOURCE,
    series: SeriesOption = None,
    modules: ModulesOption = None,
    accel: Annotated[
        Accel | None, typer.Option("--accel", help="What guests run under. [default: as then]")
    ] = None,
    jobs: JobsOption = None,
) -> Exit:
    """Shorten a failing order. To one of which nothing can be left out; with a bundle of it.

    Everything is as it was in that run. A source, a series, a module set or an architecture that is
    not klp-e2e's own is to be named again: to build it is to run what its author wrote.
    """
    given = Given.of(arch=arch or (), kernel=kernel, series=series or (), modules=modules or ())
    with Reporter(Terminal(stderr=True)) as reporter:
        reproducer = exploration.minimise(
            results, case, confirm, output, jobs, reporter, given, accel
        )
    tell("\n".join(exploretext.reproducer_lines(reproducer)))
    return Exit.TEST_FAILURE


@app.command(epilog=EXAMPLE + "klp-e2e replay results/2026-01-31-020000/findings/s390x-basic -n 10")
@guarded
def replay(
    place: Annotated[Path, typer.Argument(metavar="BUNDLE")],
    times: Annotated[
        int, typer.Option("-n", min=1, metavar="N", help="So many times, each from a cold boot.")
    ] = 1,
    accel: AccelOption = Accel.AUTO,
) -> Exit:
    """See a bundle's order fail again. Exit code 1 when it fails, 0 when it does not.

    A bundle is code: its kernel is booted, in a guest without a network. Nothing but QEMU is
    started, with arguments of ours. The bundle's own reproduce.sh is a script of whoever made it:
    read it first.
    """
    results = session.replay(bundle.read(place), times, tell, accel)
    return bundle.exit_code(results)
