# SPDX-License-Identifier: GPL-2.0-only
"""What `klp-e2e run` does, from options to results. Prints nothing itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from orchestrator import catalog
from orchestrator.build import prepare
from orchestrator.build.prepare import Bootable
from orchestrator.cli import session
from orchestrator.cli.options import RunOptions
from orchestrator.fleet import chosen
from orchestrator.model import culprit, orders
from orchestrator.nouns import BuiltSet
from orchestrator.report.directory import ResultsDirectory
from orchestrator.report.progress import Reporter
from orchestrator.run import disassembly, slot, workers
from orchestrator.verdicts import CaseResult, GuestRecord, RunKind, Status


def results_directory(wanted: RunOptions, command: Sequence[str]) -> ResultsDirectory:
    """The directory with what is known before anything is built."""
    run = session.begun(
        wanted.build, command, strict=wanted.strict, kind=RunKind.ORDERS, accel=wanted.accel
    )
    run = replace(
        run,
        planned=len(wanted.cases) * len(wanted.build.arches),
        options={
            **run.options,
            "jobs": wanted.build.jobs,
            "cold": wanted.cold,
            "channel": wanted.channel,
        },
        inputs=session.inputs(wanted.build, wanted.cases),
    )
    return ResultsDirectory(wanted.directory, run, resume=wanted.resumed)


def run_orders(
    wanted: RunOptions, writer: ResultsDirectory, reporter: Reporter, fleet: bool = False
) -> None:
    """Every case on every architecture; each result is on disk before the next one begins.

    An architecture that does not build does not keep the others from running: a patch may break
    one only. Raises BuildError when none builds.
    """
    session.need_emulators(wanted.build, wanted.accel, reporter.say)
    module_sets = [case.module_set for case in wanted.cases]
    made, unbuilt = session.buildable(wanted.build, module_sets, reporter)
    qemu = {bootable.arch.name: prepare.qemu_version(bootable.arch) for bootable in made}
    kernels = tuple(bootable.kernel for bootable in made)
    known = {**writer.run.inputs, **session.built(made)}
    own = session.own_sets(made)
    made_of = session.origins(made)
    told = replace(writer.run, kernels=kernels, qemu=qemu, unbuilt=unbuilt, inputs=known)
    writer.update(replace(told, own_sets=own, origins=made_of))

    by_arch = {bootable.arch.name: bootable for bootable in made}

    def on_result(result: CaseResult) -> None:
        bootable = by_arch[result.arch]
        built = bootable.sets[result.case.module_set]
        shown = disassembly.of(result, built, bootable.arch)
        told = writer.add(replace(result, disassembly=shown), _to_keep(result, built))
        reporter.result(told, len(writer.results), writer.run.planned)

    def on_guest(record: GuestRecord) -> None:
        writer.update(replace(writer.run, guests=(*writer.run.guests, record)))

    executor = chosen.executor(fleet, reporter.say)
    used = slot.GuestOptions(wanted.cold, wanted.channel, wanted.guests, wanted.accel)
    reporter.begin("cases", len(writer.results), writer.run.planned)
    workers.run_cases(made, wanted.cases, used, on_result, on_guest, writer.done, executor)
    for bootable in made:
        _judge_together(writer, bootable)


def _to_keep(result: CaseResult, built: BuiltSet) -> list[Path]:
    """The .ko files of a case in which something was wrong: a look into them often says why."""
    if result.first_failure() is None:
        return []
    return [built.modules[name].path for name in orders.loaded(result.case.order)]


def _judge_together(writer: ResultsDirectory, bootable: Bootable) -> None:
    """Where cases of a set that is not ours failed: may the set itself be to blame? Ours are known
    to be right."""
    here = [result for result in writer.results if result.arch == bootable.arch.name]
    failed = {each.case.module_set for each in here if each.status is Status.FAIL}
    for name in filter(catalog.is_place, sorted(failed)):
        mine = [result for result in here if result.case.module_set == name]
        writer.judge_again(culprit.judge_together(mine, bootable.sets[name].set))
