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
        help="Name of a module set, a directory with a set.toml, or 'all' for every built-in set; "
        f"may be given again. [default: {options.MODULE_SET}]",
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
        typer.Option(min=1, metavar="N", help="Events in an order. [default: by the strategy]"),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Go deeper, or walk on, for so long: 30s, 10m, 2h."),
    ] = None,
    strategy: Annotated[
        Strategy,
        typer.Option(
            help="exhaustive: every event in every state; random: walks by a seed; pairs: every "
            "two events in either sequence, in few orders."
        ),
    ] = Strategy.EXHAUSTIVE,
    seed: Annotated[
        int, typer.Option(metavar="S", help="Of random walks: the same seed, the same.")
    ] = 1,
    orders: Annotated[
        int, typer.Option(min=1, metavar="N", help="How many random walks, without --budget.")
    ] = 100,
    races: Annotated[
        bool, typer.Option("--races", help="Try also two events at the same time, on two CPUs.")
    ] = False,
    burst: Annotated[
        int, typer.Option(min=0, metavar="N", help="Try also N reloads of each target in a row.")
    ] = 0,
    every_order: Annotated[
        bool,
        typer.Option("--every-order", help="Run also orders that lead to a state seen before."),
    ] = False,
    confirm: Annotated[
        int,
        typer.Option(min=0, metavar="N", help="Boot N times for each order that fails: how often?"),
    ] = 10,
    guests: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Guests of each architecture. [default: by cores]"),
    ] = None,
    channel: ChannelOption = Channel.AGENT,
    accel: AccelOption = Accel.AUTO,
    strict: StrictOption = False,
    output: OutputOption = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Go on with the exploration that was begun in DIR, as it was begun. A source, a "
            "series, a module set or an architecture that is not built in has to be named again.",
        ),
    ] = None,
    jobs: JobsOption = None,
) -> Exit:
    """Walk every load order. Minimises what fails, and keeps a bundle of it."""
    if resume is not None:
        options.resumed_only(output)
        given = Given.of(arch=arch or (), kernel=kernel, series=series or (), modules=modules or ())
        asked, writer = exploration.resumed(resume, jobs, given)
    else:
        built = options.build_options(arch or (), kernel, series or (), jobs)
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
            show(exploretext.exploration_report(writer.head))
        tell_place(writer)
    return exploretext.exploration_exit_code(writer.head)


@app.command(epilog=EXAMPLE + "klp-e2e minimise results/2026-01-31-020000 s390x/basic/reload-moved")
@guarded
def minimise(
    results: Annotated[
        Path, typer.Argument(metavar="RESULTS", help="Directory of the run in which it failed.")
    ],
    case: Annotated[str, typer.Argument(metavar="CASE", help="The failed ARCH/SET/NAME.")],
    confirm: Annotated[
        int,
        typer.Option(
            min=0, metavar="N", help="Boot N times for the shortest order: how often does it fail?"
        ),
    ] = 10,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            metavar="DIR",
            help="Where the bundle goes: a new or empty directory, or a bundle, which is "
            "replaced. [default: a new one in RESULTS/findings]",
        ),
    ] = None,
    arch: ArchOption = None,
    kernel: KernelOption = options.SOURCE,
    series: SeriesOption = None,
    modules: ModulesOption = None,
    accel: Annotated[
        Accel | None,
        typer.Option("--accel", help="What guests run under. [default: as in that run]"),
    ] = None,
    jobs: JobsOption = None,
) -> Exit:
    """Shorten a failing order. Leaves out events until none can be left out; keeps a bundle of it.

    Everything is as it was in that run. A source, a series, a module set or an architecture that is
    not built in has to be named again: to build it is to run what its author wrote.
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
    place: Annotated[
        Path, typer.Argument(metavar="BUNDLE", help="Its directory, from explore or minimise.")
    ],
    times: Annotated[
        int,
        typer.Option(
            "-n", min=1, metavar="N", help="Run it N times, each time on a guest booted anew."
        ),
    ] = 1,
    accel: AccelOption = Accel.AUTO,
) -> Exit:
    """See a bundle's order fail again. Exit code 1 when it fails, 0 when it does not.

    A bundle is code: its kernel is booted, in a guest without a network. Nothing but QEMU is
    started, with arguments that klp-e2e chooses. The bundle's own reproduce.sh is a script of
    whoever made it: read it first.
    """
    results = session.replay(bundle.read(place), times, tell, accel)
    return bundle.replay_exit_code(results)
