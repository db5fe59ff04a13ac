# SPDX-License-Identifier: GPL-2.0-only
"""Commands about the patches of a series: what each is worth, and whether we would notice."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli import complete
from orchestrator.cli.program import EXAMPLE, app, guarded
from orchestrator.cli.shared import (
    AccelOption,
    ArchOption,
    JobsOption,
    KernelOption,
    OutputOption,
    SeriesOption,
    SuiteOption,
    show,
    tell_place,
)
from orchestrator.commands import bisection, experiment, options
from orchestrator.commands.outsiders import Given
from orchestrator.errors import Exit, UsageError
from orchestrator.nouns import Accel
from orchestrator.report import trialstext
from orchestrator.report.progress import Reporter
from orchestrator.report.terminal import Terminal, tell
from orchestrator.report.trialsjson import TriedDirectory
from orchestrator.source.alterations import AlterationKind

OnlyOption = Annotated[
    list[str] | None,
    typer.Option(
        "--only",
        metavar="NAME",
        help="Try only these patches; a pattern such as '3-*' will do; may be given again.",
    ),
]
PatchesOption = Annotated[
    Path | None,
    typer.Option(
        "--patches",
        metavar="DIR",
        help="Try the patches of this directory. [default: the built-in ones, in "
        "kernel-config/ablations and kernel-config/mutants]",
    ),
]
ResumeOption = Annotated[
    Path | None,
    typer.Option(
        "--resume",
        metavar="DIR",
        help="Go on with what was begun in DIR, as it was begun. A source, a series, a suite, "
        "patches or an architecture that are not built in have to be named again.",
    ),
]
ControlsOption = Annotated[
    int,
    typer.Option(
        "--controls", min=1, metavar="N", help="Run the unaltered kernel N times, to compare with."
    ),
]


@app.command(epilog=EXAMPLE + "klp-e2e ablate --only '3-*'")
@guarded
def ablate(
    arch: ArchOption = None,
    kernel: KernelOption = options.SOURCE,
    series: SeriesOption = None,
    suite: SuiteOption = None,
    only: OnlyOption = None,
    patches: PatchesOption = None,
    controls: ControlsOption = 1,
    accel: AccelOption = Accel.AUTO,
    output: OutputOption = None,
    resume: ResumeOption = None,
    jobs: JobsOption = None,
) -> Exit:
    """Take livepatch apart, piece by piece. Which orders notice that a piece is gone?"""
    if resume is not None:
        options.resumed_only(output)
        given = Given.of(
            arch=arch or (), kernel=kernel, series=series or (), suite=suite, patches=patches
        )
        return conducted(*experiment.resumed(resume, jobs, given))
    built = options.build_options(arch or (), kernel, series or (), jobs)
    return tried(
        AlterationKind.ABLATION, built, only or (), patches, suite, True, controls, accel, output
    )


@app.command(epilog=EXAMPLE + "klp-e2e mutate --arch s390x --only '*got*'")
@guarded
def mutate(
    arch: ArchOption = None,
    kernel: KernelOption = options.SOURCE,
    series: SeriesOption = None,
    suite: SuiteOption = None,
    only: OnlyOption = None,
    patches: PatchesOption = None,
    whole: Annotated[
        bool, typer.Option("--whole", help="Run every order, also after one has failed.")
    ] = False,
    controls: ControlsOption = 1,
    accel: AccelOption = Accel.AUTO,
    output: OutputOption = None,
    resume: ResumeOption = None,
    jobs: JobsOption = None,
) -> Exit:
    """Make small mistakes in livepatch. Does an order catch each?"""
    if resume is not None:
        options.resumed_only(output)
        given = Given.of(
            arch=arch or (), kernel=kernel, series=series or (), suite=suite, patches=patches
        )
        return conducted(*experiment.resumed(resume, jobs, given))
    built = options.build_options(arch or (), kernel, series or (), jobs)
    return tried(
        AlterationKind.MUTANT, built, only or (), patches, suite, whole, controls, accel, output
    )


def tried(
    kind: AlterationKind,
    built: options.BuildOptions,
    only: Sequence[str],
    patches: Path | None,
    suite: str | None,
    whole: bool,
    controls: int,
    accel: Accel,
    output: Path | None,
) -> Exit:
    """A new experiment, from its beginning."""
    asked = experiment.ExperimentOptions(
        build=built,
        kind=kind,
        alterations=options.alterations(kind, only, patches),
        patches=None if patches is None else patches.absolute(),
        suite=options.suite(options.SUITE if suite is None else suite),
        whole=whole,
        controls=controls,
        directory=options.results(output),
        accel=accel,
    )
    return conducted(asked, experiment.begin(asked, tuple(sys.argv)))


def conducted(asked: experiment.ExperimentOptions, writer: TriedDirectory) -> Exit:
    try:
        with writer, Reporter(Terminal(stderr=True)) as reporter:
            experiment.conduct(asked, writer, reporter)
    finally:
        if writer.head.trials:
            show(trialstext.trials_report(writer.head))
        tell_place(writer)
    return trialstext.trials_exit_code(writer.head)


@app.command(
    epilog=EXAMPLE + "klp-e2e bisect --arch s390x --series livepatch-reload \\\n"
    "      --order '+klp_patch +klp_target -klp_target +filler +klp_target'\n"
    "  klp-e2e bisect --arch x86_64 --kernel git:linux --good v6.1 --bad v6.2 --series none \\\n"
    "      --order '+klp_patch +klp_target -klp_target +klp_target'"
)
@guarded
def bisect(
    order: Annotated[str, typer.Option("--order", metavar="'EVENTS'", help="The order to run.")],
    arch: Annotated[
        str,
        typer.Option(
            "--arch",
            "--arch-file",
            metavar="A|FILE",
            autocompletion=complete.arches,
            help="Name of a built-in architecture, or a file A.toml with A.config beside it.",
        ),
    ],
    kernel: KernelOption = options.SOURCE,
    series: SeriesOption = None,
    modules: Annotated[
        str,
        typer.Option(
            "--modules",
            metavar="SET|DIR",
            autocompletion=complete.module_sets,
            help="Name of a module set, or a directory with a set.toml: the order's modules.",
        ),
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
    built = options.build_options((arch,), kernel, series or (), jobs)
    (case,) = options.chosen_cases(modules, (order,), None)
    place = options.results(output)
    asked = bisection.BisectOptions(built, case, times, place, accel)
    command = tuple(sys.argv)
    with Reporter(Terminal(stderr=True)) as reporter:
        if good is not None and bad is not None:
            found = bisection.over_commits(asked, good, bad, command, reporter)
        elif good is not None or bad is not None:
            raise UsageError("--good and --bad go together", hint="give both, or none: a series")
        else:
            found = bisection.over_series(asked, command, reporter)
    bisection.keep(asked.directory, found)
    for line in bisection.lines(asked, found):
        tell(line)
    tell(f"results: {asked.directory}")
    return Exit.GOOD
