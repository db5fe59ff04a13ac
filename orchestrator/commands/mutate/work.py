# SPDX-License-Identifier: GPL-2.0-only
"""What `klp-e2e ablate` and `mutate` do, from options to a directory. Prints nothing itself.

Each architecture has a worker of its own, side by side with the others: it builds an altered
kernel, which after the last one is a matter of an object or two, and runs orders on it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator.build import prepare
from orchestrator.build.prepare import Bootable
from orchestrator.cli import options, outsiders, session
from orchestrator.cli.options import BuildOptions
from orchestrator.cli.outsiders import NOTHING, Given
from orchestrator.commands import malformed
from orchestrator.elf import reader, relocation, writer
from orchestrator.elf.breakage import BREAKAGES
from orchestrator.elf.inspection import inspect
from orchestrator.elf.rules import RULES
from orchestrator.errors import BuildError, HarnessError, UsageError
from orchestrator.host import workdir
from orchestrator.host.rundir import run_dir
from orchestrator.nouns import VMLINUX, Accel, Arch, Case
from orchestrator.report.directory import ResultsDirectory
from orchestrator.report.progress import Reporter
from orchestrator.report.trialsjson import DOCUMENT as TRIALS
from orchestrator.report.trialsjson import SCHEMA, TrialsDocument, TriedDirectory
from orchestrator.run import workers
from orchestrator.run.slot import GuestOptions, GuestSlot
from orchestrator.source import alterations, series
from orchestrator.source.alterations import Alteration, AlterationKind
from orchestrator.trials import CONTROL, DOCUMENT, Trial, TrialOutcome, judged
from orchestrator.verdicts import CaseResult, GuestRecord, RunKind, Status


@dataclass(frozen=True, slots=True)
class ExperimentOptions:
    build: BuildOptions
    kind: AlterationKind
    alterations: tuple[Alteration, ...]  # each in all its texts, oldest first
    patches: Path | None  # where they lie; None: ours
    suite: str
    whole: bool  # every order, also after one has failed
    controls: int  # how often the unaltered kernel is run
    directory: Path
    accel: Accel = Accel.AUTO


def begin(asked: ExperimentOptions, command: Sequence[str]) -> TriedDirectory:
    """The directory with what is known before anything is built."""
    kind = RunKind.ABLATE if asked.kind is AlterationKind.ABLATION else RunKind.MUTATE
    run = session.begun(asked.build, command, strict=True, kind=kind, accel=asked.accel)
    arches = " ".join(arch.name for arch in asked.build.arches)
    chosen = {**run.options, "arches": arches, "suite": asked.suite}
    chosen |= {"patches": str(asked.patches)} if asked.patches else {}
    names = tuple(dict.fromkeys(each.name for each in asked.alterations))
    head = TrialsDocument(
        SCHEMA, replace(run, options=chosen), asked.kind, names, asked.whole, asked.controls
    )
    return TriedDirectory(asked.directory, head)


def resumed(
    place: Path, jobs: int | None, given: Given = NOTHING
) -> tuple[ExperimentOptions, TriedDirectory]:
    """An experiment that was interrupted, with everything as it was asked for. given: see
    `outsiders.refuse`."""
    writer = TriedDirectory.resumed(place)
    head, run = writer.head, writer.head.run
    arches = session.arches_of(run, place)
    patches = Path(run.option("patches")) if "patches" in run.options else None
    suite = run.option("suite", options.SUITE)
    named = run.option("arches").split()
    outsiders.refuse(place / TRIALS, run, given, arches=named, suite=suite, patches=patches)
    stack = run.series or (options.BARE,)
    built = options.build_options(arches, run.exact_source, stack, jobs, run.configs, run.toolchain)
    asked = ExperimentOptions(
        build=built,
        kind=head.kind,
        alterations=options.alterations(head.kind, head.alterations, patches),
        patches=patches,
        suite=suite,
        whole=head.whole,
        controls=head.controls,
        directory=writer.path,
        accel=session.accel_of(run, writer.path),
    )
    return asked, writer


def conduct(asked: ExperimentOptions, writer: TriedDirectory, reporter: Reporter) -> None:
    """Try every alteration on every architecture; within the writer's block: each trial is on
    disk before the next begins.

    Raises what the unaltered kernel's build raises: without it nothing can be said.
    """
    session.need_emulators(asked.build, asked.accel, reporter.say)
    cases = options.suite_cases(asked.suite)
    module_sets = (*(case.module_set for case in cases), *malformed.MODULE_SETS)
    controls = session.bootables(asked.build, module_sets, reporter)
    # All of one source: it tells which text of an alteration is meant.
    version = controls[0].kernel.version
    asked = replace(asked, alterations=alterations.fitting(asked.alterations, version))
    cases += _of_broken_modules(asked)
    qemu = {bootable.arch.name: prepare.qemu_version(bootable.arch) for bootable in controls}
    kernels = tuple(bootable.kernel for bootable in controls)
    run = writer.head.run
    own = {**session.inputs(asked.build, cases), **patches(asked), **session.built(controls)}
    inputs = {**run.inputs, **own}
    names = tuple(each.name for each in asked.alterations)
    writer.update(replace(run, kernels=kernels, qemu=qemu, inputs=inputs), names)
    if not names:
        raise UsageError(
            f"no {asked.kind} that was asked for is one for Linux {version[0]}.{version[1]}",
            hint="the header field Since names the first kernel that has what it breaks",
        )
    stop, mutex = threading.Event(), threading.Lock()
    made = [_Worker(asked, cases, bootable, writer, reporter, stop, mutex) for bootable in controls]

    def end() -> None:
        for worker in made:
            worker.end()

    workers.side_by_side([worker.work for worker in made], stop, end)


def patches(asked: ExperimentOptions) -> Mapping[str, str]:
    """What the alterations are: name -> digest of the patch's file."""
    texts = series.altered(options.patches_of(asked.kind, asked.patches))
    return {
        f"patch {each.name}": workdir.file_digest(texts[each.name][each.since])
        for each in asked.alterations
    }


def _of_broken_modules(asked: ExperimentOptions) -> tuple[Case, ...]:
    """Those cases of `klp-e2e malformed` that an alteration's header asks for."""
    first = {name for each in asked.alterations for name in each.first}
    return tuple(case for case in malformed.cases(()) if case.label in first)


class _Worker:
    """One architecture's trials, in turn."""

    def __init__(
        self,
        asked: ExperimentOptions,
        cases: tuple[Case, ...],
        control: Bootable,
        writer: TriedDirectory,
        reporter: Reporter,
        stop: threading.Event,
        mutex: threading.Lock,
    ) -> None:
        self._asked = asked
        self._control = control
        self._arch: Arch = control.arch
        self._writer = writer
        self._reporter = reporter
        self._stop = stop
        self._mutex = mutex
        self._slot: GuestSlot | None = None
        self._cases = cases

    def end(self) -> None:
        """From another thread: end the guest there is."""
        slot = self._slot
        if slot is not None:
            slot.kill()

    def work(self) -> None:
        """The unaltered kernel first: an order that it fails catches nobody."""
        for number in range(self._asked.controls):
            name = self._writer.head.control(number)
            control = Trial(CONTROL, self._arch.name)
            before = self._writer.trial(name, self._arch.name)
            if before is None:
                # A failure that is known would catch every alteration, too.
                bootable = replace(self._control, known_issues=())
                before = self._orders(name, bootable, control, self._cases, whole=True)
                if self._stop.is_set():  # what of it ran would count as all
                    return
                self._tell(name, replace(before, alteration=CONTROL))
            wrong = set(before.caught_by)
            self._cases = tuple(c for c in self._cases if c.label not in wrong)
        for alteration in self._asked.alterations:
            if self._stop.is_set():
                return
            if self._writer.trial(alteration.name, self._arch.name) is None:
                trial = self._tried(alteration)
                if not self._stop.is_set():  # an interrupted trial says nothing
                    self._tell(alteration.name, trial)
        if self._asked.kind is AlterationKind.ABLATION and not self._writer.trial(
            DOCUMENT, self._arch.name
        ):
            self._tell(DOCUMENT, documented(self._control))

    def _tell(self, name: str, trial: Trial) -> None:
        with self._mutex:
            self._writer.add(name, trial)
            self._reporter.say(line(trial))
            done = self._writer.done(self._arch.name)
            total = self._writer.head.planned
            self._reporter.advance(f"{self._asked.kind}s on {self._arch.name}", done, total)

    def _tried(self, alteration: Alteration) -> Trial:
        trial = Trial(
            alteration.name, self._arch.name, unseen=alteration.unseen_on(self._arch.name)
        )
        began = time.monotonic()
        try:
            bootable = self._built(alteration)
        except BuildError as err:
            return replace(trial, outcome=TrialOutcome.UNBUILT, reason=err.full_message)
        except HarnessError as err:
            return replace(trial, reason=err.full_message)
        trial = replace(trial, build_seconds=time.monotonic() - began)
        if _contents(bootable) == _contents(self._control):
            return replace(trial, outcome=TrialOutcome.SAME)
        cases = alteration.in_turn(self._cases)
        return self._orders(alteration.name, bootable, trial, cases, self._asked.whole)

    def _built(self, alteration: Alteration) -> Bootable:
        wanted = self._asked.build
        (bootable,) = prepare.bootables(
            (self._arch,),
            source=wanted.source,
            series=(*wanted.series, alteration.series),
            module_sets=tuple(self._control.sets),
            known_issues=(),  # what is wrong with it is our doing
            jobs=max(1, wanted.jobs // len(wanted.arches)),
            say=lambda text: None,
            advance=lambda task, done, total: None,
        )
        return bootable

    def _orders(
        self, name: str, bootable: Bootable, trial: Trial, cases: Sequence[Case], whole: bool
    ) -> Trial:
        """The trial judged; each result is in a results directory of its own."""
        began = time.monotonic()
        run = replace(
            self._writer.head.run,
            series=bootable.kernel.series,
            kernels=(bootable.kernel,),
            planned=len(cases),
            started=time.time(),
            guests=(),
        )
        results: list[CaseResult] = []
        place = self._writer.place(name, self._arch.name)
        used = GuestOptions(accel=self._asked.accel)

        def on_guest(record: GuestRecord) -> None:
            """The experiment's, too: they say what its times were measured on."""
            directory.update(replace(directory.run, guests=(*directory.run.guests, record)))
            with self._mutex:
                head = self._writer.head.run
                self._writer.update(replace(head, guests=(*head.guests, record)))

        with (
            run_dir("broken") as scratch,
            ResultsDirectory(place, run) as directory,
            GuestSlot(
                malformed.with_those_of(bootable, cases, scratch), used, self._stop, on_guest
            ) as self._slot,
        ):
            for case in cases:
                result = self._slot.run_case(case)
                if self._stop.is_set():
                    break
                results.append(directory.add(result))
                if result.status is Status.FAIL and not whole:
                    directory.update(replace(directory.run, planned=len(results)))
                    break
        return replace(judged(trial, results), run_seconds=time.monotonic() - began)


def documented(bootable: Bootable) -> Trial:
    """The sixth piece of the series has no code: it is the format's documentation, and what stands
    on it is `inspect`. Of each rule that is more than a warning: is a good module of ours, broken
    against it, told by that rule?"""
    module = next(
        module
        for built in bootable.sets.values()
        for module in built.modules.values()
        if any(entry.object != VMLINUX for entry in module.klp_relocations)
    )
    table = relocation.table(bootable.arch.relocations)
    good = reader.read(module.path.read_bytes(), module.path.name)
    rules = [name for name, rule in RULES.items() if not rule.warning]
    told = []
    for rule in rules:
        broken = writer.write(BREAKAGES[rule](good))
        violations = inspect(broken, table=table, name=rule).violations
        if rule in {violation.rule for violation in violations}:
            told.append(rule)
    untold = sorted(set(rules) - set(told))
    return Trial(
        DOCUMENT,
        bootable.arch.name,
        TrialOutcome.SURVIVED if untold else TrialOutcome.CAUGHT,
        orders=len(rules),
        caught_by=tuple(f"inspect/{rule}" for rule in told),
        symptom=f"not told by inspect: {', '.join(untold)}" if untold else RULES[told[0]].text,
    )


def line(trial: Trial) -> str:
    """`CAUGHT    s390x 3-s390-mod-arch-specific: basic/livepatch-first: ..., 45 of 75, 63 s`"""
    text = f"{trial.outcome:<8}  {trial.arch} {trial.alteration}"
    if trial.caught_by:
        text += f": {trial.caught_by[0]}: {trial.symptom}"
    elif trial.reason:
        text += f": {trial.reason}"
    seconds = trial.build_seconds + trial.run_seconds
    return f"{text} ({len(trial.caught_by)} of {trial.orders} orders, {seconds:.0f} s)"


def _contents(bootable: Bootable) -> Mapping[str, str]:
    """The digest of everything a guest runs of it."""
    files = {"kernel": bootable.kernel.image}
    for name, built in bootable.sets.items():
        files.update((f"{name}/{m}", module.path) for m, module in built.modules.items())
    return {name: workdir.file_digest(path) for name, path in files.items()}
