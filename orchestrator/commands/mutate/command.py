# SPDX-License-Identifier: GPL-2.0-only
"""`klp-e2e mutate`, and what `ablate` shares with it: what is typed, and what is shown."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli import options
from orchestrator.cli.arguments import (
    AccelOption,
    ArchOption,
    ConfigOption,
    JobsOption,
    KernelOption,
    OutputOption,
    SeriesOption,
    SuiteOption,
    ToolchainOption,
)
from orchestrator.cli.outsiders import Given
from orchestrator.cli.program import EXAMPLE, app, guarded
from orchestrator.cli.showing import show, tell_place
from orchestrator.commands.mutate import work
from orchestrator.errors import Exit
from orchestrator.nouns import Accel
from orchestrator.report import trialstext
from orchestrator.report.progress import Reporter
from orchestrator.report.terminal import Terminal
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


@app.command(epilog=EXAMPLE + "klp-e2e mutate --arch s390x --only '*got*'")
@guarded
def mutate(
    arch: ArchOption = None,
    kernel: KernelOption = options.SOURCE,
    series: SeriesOption = None,
    config: ConfigOption = None,
    toolchain: ToolchainOption = None,
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
        return resumed(resume, output, jobs, arch, kernel, series, config, suite, patches)
    built = options.build_options(arch, kernel, series, jobs, config, toolchain)
    return tried(
        AlterationKind.MUTANT, built, only or (), patches, suite, whole, controls, accel, output
    )


def resumed(
    place: Path,
    output: Path | None,
    jobs: int | None,
    arch: list[str] | None,
    kernel: str,
    series: list[str] | None,
    config: list[str] | None,
    suite: str | None,
    patches: Path | None,
) -> Exit:
    """The experiment that was begun in `place`, gone on with."""
    options.resumed_only(output)
    given = Given.of(
        arch=arch,
        kernel=kernel,
        series=series,
        config=config,
        suite=suite,
        patches=patches,
    )
    return conducted(*work.resumed(place, jobs, given))


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
    asked = work.ExperimentOptions(
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
    return conducted(asked, work.begin(asked, tuple(sys.argv)))


def conducted(asked: work.ExperimentOptions, writer: TriedDirectory) -> Exit:
    try:
        with writer, Reporter(Terminal(stderr=True)) as reporter:
            work.conduct(asked, writer, reporter)
    finally:
        if writer.head.trials:
            show(trialstext.trials_report(writer.head))
        tell_place(writer)
    return trialstext.trials_exit_code(writer.head)
