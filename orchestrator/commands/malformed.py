# SPDX-License-Identifier: GPL-2.0-only
"""`klp-e2e malformed`: broken livepatch modules, each on a fresh guest, before and after their
target.

Each broken module makes a module set of its own, of what is loaded with the good one; what
the kernel is to answer is in the set, so that model and judge know of no malformations.
"""

from __future__ import annotations

import fnmatch
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.build import delivery, prepare
from orchestrator.build.prepare import Bootable
from orchestrator.cli import options, session
from orchestrator.cli.arguments import (
    AccelOption,
    ArchOption,
    ConfigOption,
    FleetOption,
    JobsOption,
    KernelOption,
    KnownIssuesOption,
    OutputOption,
    ResumeOption,
    SeriesOption,
    StrictOption,
    ToolchainOption,
)
from orchestrator.cli.options import BuildOptions
from orchestrator.cli.program import EXAMPLE, app, guarded
from orchestrator.cli.showing import run_and_show
from orchestrator.elf import reader
from orchestrator.elf.records import Elf
from orchestrator.errors import Exit, UsageError
from orchestrator.fleet import chosen
from orchestrator.host import ours, workdir
from orchestrator.model import orders
from orchestrator.model.malformations import (
    GROUNDS,
    MALFORMATIONS,
    PREFIX,
    Ground,
    Malformation,
    Refused,
    broken_how,
)
from orchestrator.nouns import (
    Accel,
    BuiltModule,
    BuiltSet,
    Case,
    CaseKind,
    Defect,
    KlpRelocation,
    Load,
)
from orchestrator.report.directory import ResultsDirectory
from orchestrator.report.progress import Reporter
from orchestrator.repro import bundle
from orchestrator.run import slot, workers
from orchestrator.verdicts import CaseResult, GuestRecord, Health, RunKind, Status

MODULE_SETS = tuple(ground.module_set for ground in GROUNDS)
MODULES, FINDINGS = "modules", "findings"  # below the results directory


@dataclass(frozen=True, slots=True)
class MalformedOptions:
    build: BuildOptions
    cases: tuple[Case, ...]
    directory: Path
    guests: int = 1  # of each architecture
    resumed: bool = False  # `directory` may hold what the same command left there
    accel: Accel = Accel.AUTO
    strict: bool = False


def cases(patterns: Sequence[str]) -> tuple[Case, ...]:
    """Those that a pattern fits, NAME or NAME/TIME; all when none is given. Raises UsageError."""
    made = {
        f"{name}/{time}": Case(
            time, PREFIX + name, orders.parse(order), _why(malformation), CaseKind.MALFORMED
        )
        for name, malformation in MALFORMATIONS.items()
        for time, order in _orders(malformation.ground).items()
    }
    for pattern in patterns:
        if not any(_fits(name, (pattern,)) for name in made):
            raise UsageError(
                f"no malformation is called {pattern}", hint=f"known: {', '.join(MALFORMATIONS)}"
            )
    return tuple(case for name, case in made.items() if not patterns or _fits(name, patterns))


def _orders(ground: Ground) -> Mapping[str, str]:
    """By when the target comes. Afterwards it must be possible to get rid of the livepatch, if
    there is one."""
    target, livepatch = f"+{ground.target}", f"+{ground.livepatch}"
    if ground.enabled:
        livepatch = f"+{ground.enabled} {livepatch}"
    away = f"{ground.livepatch}=0 -{ground.livepatch}"
    return {
        "target-first": f"{target} {livepatch} {away}",
        "target-later": f"{livepatch} {target} {away}",
    }


def _fits(name: str, patterns: Iterable[str]) -> bool:
    alone = name.partition("/")[0]
    return any(fnmatch.fnmatchcase(each, p) for p in patterns for each in (name, alone))


def _why(malformation: Malformation) -> str:
    what = "not checked" if malformation.unchecked else f"refused by: {malformation.refused}"
    return f"{malformation.text}; {what}; {malformation.where}"


def begin(wanted: MalformedOptions, command: Sequence[str]) -> ResultsDirectory:
    """The directory with what is known before anything is built."""
    run = session.begun(
        wanted.build, command, strict=wanted.strict, kind=RunKind.MALFORMED, accel=wanted.accel
    )
    planned = len(wanted.cases) * len(wanted.build.arches)
    run = replace(run, planned=planned, inputs=session.inputs(wanted.build, wanted.cases))
    return ResultsDirectory(wanted.directory, run, resume=wanted.resumed)


def run_malformed(
    wanted: MalformedOptions, writer: ResultsDirectory, reporter: Reporter, fleet: bool = False
) -> None:
    """Every case on every architecture; a guest that a module crashes is replaced by another.

    Raises HarnessError, and BuildError when no kernel builds.
    """
    session.need_emulators(wanted.build, wanted.accel, reporter.say)
    made, unbuilt = session.buildable(wanted.build, MODULE_SETS, reporter)
    names = dict.fromkeys(broken_how(case.module_set) for case in wanted.cases)
    kernels = tuple(bootable.kernel for bootable in made)
    qemu = {bootable.arch.name: prepare.qemu_version(bootable.arch) for bootable in made}
    known = {**writer.run.inputs, **session.built(made)}
    writer.update(replace(writer.run, kernels=kernels, unbuilt=unbuilt, qemu=qemu, inputs=known))
    bootables = {b.arch.name: with_broken(b, names, writer.path) for b in made}

    def on_result(result: CaseResult) -> None:
        able = bootables[result.arch].kernel.capabilities
        told = writer.add(judged(result, able))
        reporter.result(told, len(writer.results), writer.run.planned)
        if told.status is Status.FAIL and told.first_failure() is not None:
            name = bundle.name(told.arch, told.case.module_set, told.case.name)
            place = bundle.place(writer.path / FINDINGS, name)
            bundle.write(place, bootables[told.arch], told, (0, 0))

    def on_guest(record: GuestRecord) -> None:
        writer.update(replace(writer.run, guests=(*writer.run.guests, record)))

    used = slot.GuestOptions(guests=wanted.guests, accel=wanted.accel)
    made = tuple(bootables.values())
    reporter.begin("cases", len(writer.results), writer.run.planned)
    executor = chosen.executor(fleet, reporter.say)
    workers.run_cases(made, wanted.cases, used, on_result, on_guest, writer.done, executor)


def judged(result: CaseResult, capabilities: AbstractSet[str]) -> CaseResult:
    """FAIL becomes KNOWN where the kernel does not look for what is wrong with the module, and so
    does a guest that hangs there: memory was written over. What went wrong before the module was
    there is no work of its."""
    malformation = MALFORMATIONS[broken_how(result.case.module_set)]
    unchecked = not malformation.checked(capabilities)
    details = (check.detail for step in result.steps for check in step.checks)
    hangs = any(isinstance(detail, Health) and detail.silent for detail in details)
    if unchecked and _broken_was_loaded(result) and (result.status is Status.FAIL or hangs):
        issue = f"not checked: {malformation.where}"
        return replace(result, status=Status.KNOWN, known_issue=issue)
    return result


def _broken_was_loaded(result: CaseResult) -> bool:
    """Was it, or was that being tried, when the first thing went wrong?"""
    failed = result.first_failure()
    last = len(result.steps) - 1 if failed is None else failed[0]
    broken = MALFORMATIONS[broken_how(result.case.module_set)].ground.livepatch
    return Load(broken) in result.case.order.events[: last + 1]


def with_broken(bootable: Bootable, names: Iterable[str], place: Path) -> Bootable:
    """The bootable with a module set for each of these malformations; the broken modules are
    written below `place`, as modules/ARCH/NAME/klp_patch.ko. Raises HarnessError when they
    cannot be."""
    sets = {}
    for name in names:
        directory = place / MODULES / bootable.arch.name / name
        with workdir.disk_errors(f"cannot write below {place}"):
            ours.folder(directory, within=place)
        good = bootable.sets[MALFORMATIONS[name].ground.module_set]
        able, sign = bootable.kernel.capabilities, partial(delivery.signed, bootable.kernel)
        sets[PREFIX + name] = broken_set(good, name, directory, able, sign)
    return replace(bootable, sets=sets)


def with_those_of(bootable: Bootable, cases: Iterable[Case], place: Path) -> Bootable:
    """The bootable with what the cases need of broken modules besides its own sets."""
    names = {broken_how(c.module_set) for c in cases if c.kind is CaseKind.MALFORMED}
    broken = with_broken(bootable, sorted(names), place).sets if names else {}
    return replace(bootable, sets={**bootable.sets, **broken})


def broken_set(
    good: BuiltSet,
    name: str,
    directory: Path,
    capabilities: AbstractSet[str],
    sign: Callable[[bytes, str], bytes] = lambda data, name: data,
) -> BuiltSet:
    """The good set with its livepatch broken, and with what a kernel of these capabilities makes of
    that. sign: puts a signature behind it, so that it is refused for nothing but what is broken.

    Where the kernel does not look, nothing is read back and no patched function is called: nobody
    can say what it should do.
    """
    malformation = MALFORMATIONS[name]
    ground = malformation.ground
    livepatch = good.modules[ground.livepatch]
    elf = reader.read(livepatch.path.read_bytes(), livepatch.path.name)
    elf = replace(elf, trailing=b"")  # a signature of the good one
    path = directory / f"{ground.livepatch}.ko"
    with workdir.disk_errors(f"cannot write {path}"):
        directory.mkdir(exist_ok=True)
        with ours.replacing(path) as written:
            written.write_bytes(sign(malformation.file(elf), path.name))
    spec = replace(livepatch.spec, defects=_defects(malformation, capabilities))
    broken = malformation.breaks(elf)
    relocations = tuple(_initial(entry, broken) for entry in livepatch.klp_relocations)
    if not (checked := malformation.checked(capabilities)):
        spec, relocations = replace(spec, klp_symbols={}), ()
    others = (ground.target, ground.enabled)
    modules = {each: good.modules[each] for each in others if each}
    modules[ground.livepatch] = BuiltModule(spec, path, relocations, livepatch.symbols)
    module_set = replace(
        good.set,
        name=PREFIX + name,
        description=malformation.text,
        modules=tuple(module.spec for module in modules.values()),
        probes=good.set.probes if checked else (),
    )
    return BuiltSet(module_set, modules)


def _defects(malformation: Malformation, capabilities: AbstractSet[str]) -> tuple[Defect, ...]:
    lacking = malformation.needs and malformation.needs not in capabilities
    if lacking and not malformation.unchecked:
        return ()
    errno = malformation.answer(capabilities)
    match malformation.refused:
        case Refused.LOADER:
            return (Defect("", errno, written=False),)
        case Refused.OBJECT:
            return (Defect(malformation.ground.target, errno, written=True),)
        case Refused.NOT:
            return ()


def _initial(relocation: KlpRelocation, broken: Elf) -> KlpRelocation:
    """The relocation with its field's bytes as the broken module has them."""
    section = broken.section(relocation.section)
    if section is None:
        return relocation
    end = relocation.offset + len(relocation.initial)
    return replace(relocation, initial=section.data[relocation.offset : end])


def speeds(results: Sequence[CaseResult]) -> list[str]:
    """One line an architecture: `s390x: 72 modules a minute on a warm guest, 58 with boots`."""
    lines = []
    for arch in sorted({result.arch for result in results}):
        mine = [result for result in results if result.arch == arch]
        warm = [result for result in mine if not result.cold]
        lines.append(
            f"{arch}: {_per_minute(warm):.0f} modules a minute on a warm guest, "
            f"{_per_minute(mine):.0f} with {len(mine) - len(warm)} boots"
        )
    return lines


def _per_minute(results: Sequence[CaseResult]) -> float:
    seconds = sum(result.seconds for result in results)
    return 60 * len(results) / seconds if seconds else 0.0


@app.command(epilog=EXAMPLE + "klp-e2e malformed --arch s390x --only 'symbol-*'")
@guarded
def malformed(
    arch: ArchOption = None,
    kernel: KernelOption = options.SOURCE,
    series: SeriesOption = None,
    config: ConfigOption = None,
    toolchain: ToolchainOption = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only",
            metavar="NAME",
            help="Try only these; a pattern such as 'symbol-*' or '*/target-later' will do; may be "
            "given again.",
        ),
    ] = None,
    known_issues: KnownIssuesOption = None,
    strict: StrictOption = False,
    accel: AccelOption = Accel.AUTO,
    fleet: FleetOption = False,
    output: OutputOption = None,
    resume: ResumeOption = None,
    jobs: JobsOption = None,
) -> Exit:
    """Feed the kernel broken livepatch modules. It should refuse each, and never crash."""
    chosen = cases(only or ())
    built = options.build_options(arch, kernel, series, jobs, config, toolchain, known_issues)
    place = options.results(output, resume)
    resumed = resume is not None
    wanted = MalformedOptions(built, chosen, place, resumed=resumed, accel=accel, strict=strict)
    writer = begin(wanted, tuple(sys.argv))
    return run_and_show(
        writer, lambda reporter: run_malformed(wanted, writer, reporter, fleet), speeds
    )
