# SPDX-License-Identifier: GPL-2.0-only
"""`klp-e2e kselftest`: the kernel's own livepatch tests, each script on a fresh guest."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from orchestrator import initramfs
from orchestrator.build import image, prepare, testtree
from orchestrator.build.prepare import SET_SECONDS, Bootable
from orchestrator.build.testtree import SelftestTree
from orchestrator.cli import options, session
from orchestrator.cli.arguments import (
    AccelOption,
    ArchOption,
    ConfigOption,
    FleetOption,
    JobsOption,
    KernelOption,
    OutputOption,
    ResumeOption,
    SeriesOption,
    ToolchainOption,
)
from orchestrator.cli.options import BuildOptions
from orchestrator.cli.program import EXAMPLE, app, guarded
from orchestrator.cli.showing import run_and_show
from orchestrator.deadline import Deadline
from orchestrator.errors import Exit, UsageError
from orchestrator.fleet import chosen
from orchestrator.host.rundir import run_dir
from orchestrator.nouns import Accel, Case, CaseKind, Order
from orchestrator.report.directory import ResultsDirectory
from orchestrator.report.progress import Reporter
from orchestrator.run import selftests, slot, workers
from orchestrator.verdicts import CaseResult, GuestRecord, RunKind

ADDITION = "kselftest"  # images/guest/NAME.toml


@dataclass(frozen=True, slots=True)
class KselftestOptions:
    build: BuildOptions
    tests: tuple[str, ...]  # names of scripts; empty: all of them
    directory: Path
    guests: int = 1  # of each architecture
    resumed: bool = False  # `directory` may hold what the same command left there
    accel: Accel = Accel.AUTO


def begin(wanted: KselftestOptions, command: Sequence[str]) -> ResultsDirectory:
    """The directory with what is known before anything is built."""
    run = session.begun(
        wanted.build, command, strict=False, kind=RunKind.KSELFTEST, accel=wanted.accel
    )
    run = replace(
        run,
        options={**run.options, "test": " ".join(sorted(wanted.tests)) or "all"},
        inputs=session.inputs(wanted.build),
    )
    return ResultsDirectory(wanted.directory, run, resume=wanted.resumed)


def run_scripts(
    wanted: KselftestOptions, writer: ResultsDirectory, reporter: Reporter, fleet: bool = False
) -> None:
    """Every script on every architecture, in the order of kselftest.

    Raises UsageError for a script that is not there, HarnessError, and BuildError when no kernel
    builds, or one's tests do not.
    """
    session.need_emulators(wanted.build, wanted.accel, reporter.say)
    made, unbuilt = session.buildable(wanted.build, (), reporter)
    trees = [_tree(bootable, wanted, reporter) for bootable in made]
    scripts = cases(trees[0], wanted.tests)  # of one source and series all have the same
    writer.update(
        replace(
            writer.run,
            planned=len(scripts) * len(wanted.build.arches),
            kernels=tuple(bootable.kernel for bootable in made),
            unbuilt=unbuilt,
            qemu={bootable.arch.name: prepare.qemu_version(bootable.arch) for bootable in made},
        )
    )

    def on_result(result: CaseResult) -> None:
        told = writer.add(result)
        reporter.result(told, len(writer.results), writer.run.planned)

    def on_guest(record: GuestRecord) -> None:
        writer.update(replace(writer.run, guests=(*writer.run.guests, record)))

    with run_dir("kselftest") as scratch:
        bootables = [
            with_tests(bootable, tree, scratch) for bootable, tree in zip(made, trees, strict=True)
        ]
        used = slot.GuestOptions(guests=wanted.guests, accel=wanted.accel)
        reporter.begin("cases", len(writer.results), writer.run.planned)
        executor = chosen.executor(fleet, reporter.say)
        workers.run_cases(bootables, scripts, used, on_result, on_guest, writer.done, executor)


def _tree(bootable: Bootable, wanted: KselftestOptions, reporter: Reporter) -> SelftestTree:
    return testtree.build(
        bootable.kernel,
        bootable.arch,
        jobs=wanted.build.jobs,
        deadline=Deadline.after(SET_SECONDS),
        say=reporter.say,
    )


def cases(tree: SelftestTree, wanted: Sequence[str] = ()) -> tuple[Case, ...]:
    """A case for each wanted script, or for all. Raises UsageError for one that is not there."""
    for name in wanted:
        if name not in tree.tests:
            raise UsageError(
                f"this kernel has no test {name}", hint=f"it has: {', '.join(tree.tests)}"
            )
    chosen = (name for name in tree.tests if not wanted or name in wanted)
    return tuple(
        Case(name, selftests.MODULE_SET, Order(()), kind=CaseKind.SELFTEST) for name in chosen
    )


def with_tests(bootable: Bootable, tree: SelftestTree, scratch: Path) -> Bootable:
    """The bootable with the tests, and the programs that they call, in its userland."""
    userland = scratch / bootable.arch.name
    tools = image.addition(bootable.arch, ADDITION).read_bytes()
    userland.write_bytes(initramfs.stack(bootable.userland.read_bytes(), tools, tree.archive()))
    return replace(bootable, userland=userland)


@app.command(epilog=EXAMPLE + "klp-e2e kselftest --arch s390x --test test-callbacks.sh")
@guarded
def kselftest(
    arch: ArchOption = None,
    kernel: KernelOption = options.SOURCE,
    series: SeriesOption = None,
    config: ConfigOption = None,
    toolchain: ToolchainOption = None,
    test: Annotated[
        list[str] | None,
        typer.Option("--test", metavar="SCRIPT", help="Run only this script; may be given again."),
    ] = None,
    accel: AccelOption = Accel.AUTO,
    fleet: FleetOption = False,
    output: OutputOption = None,
    resume: ResumeOption = None,
    jobs: JobsOption = None,
) -> Exit:
    """Run the kernel's own livepatch tests. They come from the kernel's source, series included."""
    built = options.build_options(arch, kernel, series, jobs, config, toolchain)
    wanted = KselftestOptions(
        built,
        tuple(test or ()),
        options.results(output, resume),
        resumed=resume is not None,
        accel=accel,
    )
    writer = begin(wanted, tuple(sys.argv))
    return run_and_show(writer, lambda reporter: run_scripts(wanted, writer, reporter, fleet))
