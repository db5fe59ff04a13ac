# SPDX-License-Identifier: GPL-2.0-only
"""`klp-e2e minimise`: the shortest order that fails as a case of an earlier run did."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli import options, outsiders, session
from orchestrator.cli.arguments import (
    ArchOption,
    ConfigOption,
    JobsOption,
    KernelOption,
    KnownIssuesOption,
    ModuleSetsOption,
    SeriesOption,
    ToolchainOption,
)
from orchestrator.cli.outsiders import NOTHING, Given
from orchestrator.cli.program import EXAMPLE, app, guarded
from orchestrator.errors import Exit, HarnessError, UsageError
from orchestrator.explore import triage
from orchestrator.host import ours
from orchestrator.model.findings import Reproducer, fails_as, signature
from orchestrator.model.orders import format as notation
from orchestrator.nouns import Accel, Case
from orchestrator.report import directory, exploretext, store
from orchestrator.report.explorejson import (
    FINDINGS,
)
from orchestrator.report.progress import Reporter
from orchestrator.report.terminal import Terminal, tell
from orchestrator.repro import bundle
from orchestrator.run.slot import GuestOptions, GuestSlot
from orchestrator.verdicts import CaseResult, Status


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
    config: ConfigOption = None,
    toolchain: ToolchainOption = None,
    modules: ModuleSetsOption = None,
    known_issues: KnownIssuesOption = None,
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
    given = Given.of(
        arch=arch,
        kernel=kernel,
        series=series,
        config=config,
        modules=modules,
    )
    with Reporter(Terminal(stderr=True)) as reporter:
        known = known_issues or ()
        reproducer = minimise_failure(
            results, case, confirm, output, jobs, reporter, given, accel, known
        )
    tell("\n".join(exploretext.reproducer_lines(reproducer)))
    return Exit.TEST_FAILURE


def minimise_failure(
    results: Path,
    name: str,
    tries: int,
    place: Path | None,
    jobs: int | None,
    reporter: Reporter,
    given: Given = NOTHING,
    accel: Accel | None = None,
    known: Sequence[Path] = (),
) -> Reproducer:
    """The shortest order that fails as a case of a results directory did, as a bundle too.

    place: where the bundle goes; None: among the results' findings, beside whatever is there.
    given: see `outsiders.refuse`. accel: None for the run's own. known: files of known issues.
    Raises UsageError when there is no such case, it did not fail, or `place` is somebody else's;
    HarnessError when it does not fail any more.
    """
    if place is not None:
        bundle.check(place)  # before it takes minutes
    run, found = directory.read(results)
    result = _failed(found, name)
    like = signature(result)
    if like is None:
        raise UsageError(f"no check of {name} has failed: {result.reason or result.status}")

    def fails_so(found: CaseResult) -> bool:
        return fails_as(found, result)

    if place is None:
        _findings(results)  # before it takes minutes
    case = result.case
    outsiders.refuse(results, run, given, arches=(result.arch,), module_sets=(case.module_set,))
    arch = (run.arch_spec(result.arch),)
    stack = run.series or (options.BARE,)
    built = options.build_options(
        arch, run.exact_source, stack, jobs, run.configs, run.toolchain, known
    )
    accel = session.accel_of(run, results) if accel is None else accel
    session.need_emulators(built, accel, reporter.say)
    (bootable,) = session.bootables(built, (case.module_set,), reporter)
    stop = threading.Event()
    used = GuestOptions(accel=accel)
    with (
        GuestSlot(bootable, used, stop) as warm,
        GuestSlot(bootable, replace(used, cold=True), stop) as cold,
    ):
        reporter.say(f"minimising {notation(case.order)}")
        tried: list[CaseResult] = []

        def run_case(each: Case) -> CaseResult:
            tried.append(warm.run_case(each))
            return tried[-1]

        short = triage.shortest(case, fails_so, run_case)
        if short is None and tried[0].status is Status.ERROR:
            raise HarnessError(f"{name} could not be run again: {tried[0].reason}")
        if short is None:
            raise HarnessError(
                f"{name} does not fail in this way any more: {like}",
                hint="has the kernel changed since? klp-e2e run tells",
            )
        reporter.say(f"booting it {tries} times")
        repeated = triage.repeated(short.case, fails_so, cold.run_case, tries)
        reproducer = Reproducer(short, repeated=repeated, tries=tries)
    if place is None:
        called = bundle.name(result.arch, case.module_set, case.name)
        place = bundle.place(_findings(results), called)
    bundle.write(place, bootable, short, (reproducer.repeated, reproducer.tries))
    return replace(reproducer, bundle=str(place))


def _findings(results: Path) -> Path:
    """Where bundles of a run's failures go. Raises NotOurs where a link leads elsewhere."""
    home = results if results.is_dir() else results.parent
    with store.write_errors(home / FINDINGS):
        return ours.folder(home / FINDINGS, within=home)


def _failed(found: Sequence[CaseResult], name: str) -> CaseResult:
    """`ARCH/SET/NAME` among a run's results."""
    titles = Counter((r.arch, r.case.title) for r in found)
    names = {f"{r.arch}/{r.case.label}": r for r in found}
    names |= {f"{r.arch}/{r.case.title}": r for r in found if titles[r.arch, r.case.title] == 1}
    if name not in names:
        bad = [f"{r.arch}/{r.case.title}" for r in found if r.first_failure() is not None]
        raise UsageError(
            f"these results have no case {name}", hint=f"that failed: {', '.join(bad) or 'none'}"
        )
    return names[name]
