# SPDX-License-Identifier: GPL-2.0-only
"""What `klp-e2e explore` does, from options to a directory. Prints nothing itself."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator.build import prepare
from orchestrator.commands import options, outsiders, session
from orchestrator.commands.options import BuildOptions
from orchestrator.commands.outsiders import NOTHING, Given
from orchestrator.errors import HarnessError, UsageError
from orchestrator.explore import survey, triage
from orchestrator.explore.explore import Path as Events
from orchestrator.explore.survey import Ground, Listener, Wanted
from orchestrator.host import ours
from orchestrator.model.findings import Way, signature
from orchestrator.model.orders import format as notation
from orchestrator.nouns import Accel, Channel, Order
from orchestrator.report import directory, store
from orchestrator.report.explored import (
    DOCUMENT,
    FINDINGS,
    SCHEMA,
    Document,
    ExploreDirectory,
    Walked,
)
from orchestrator.report.progress import Reporter
from orchestrator.repro import bundle
from orchestrator.run.rig import Options, Rig
from orchestrator.verdicts import CaseResult, GuestRecord, RunKind, Step

SAVE_SECONDS = 5.0  # between two writings of the totals; the journal is written at once


@dataclass(frozen=True, slots=True)
class ExploreOptions:
    build: BuildOptions
    module_sets: tuple[str, ...]
    wanted: Wanted
    channel: Channel
    strict: bool
    directory: Path
    accel: Accel = Accel.AUTO


def begin(asked: ExploreOptions, command: Sequence[str]) -> ExploreDirectory:
    """The directory with what is known before anything is built."""
    run = session.begun(
        asked.build, command, strict=asked.strict, kind=RunKind.EXPLORE, accel=asked.accel
    )
    arches = " ".join(arch.name for arch in asked.build.arches)
    run = replace(run, options={**run.options, "arches": arches})
    head = Document(SCHEMA, run, asked.wanted, asked.module_sets, asked.channel)
    return ExploreDirectory(asked.directory, head)


def resumed(
    place: Path, jobs: int | None, given: Given = NOTHING
) -> tuple[ExploreOptions, ExploreDirectory]:
    """An exploration that was interrupted, with everything as it was asked for: what stands in its
    explore.json counts as a command line does, but for what `outsiders.refuse` wants to see on this
    one. Raises UsageError."""
    writer = ExploreDirectory.resumed(place)
    head = writer.head
    named = head.run.options.get("arches", "").split()
    arches = tuple(map(head.run.arch_spec, named))
    if not arches:
        raise UsageError(f"{place / DOCUMENT} names no architecture", hint="begin a new one")
    outsiders.refuse(place / DOCUMENT, head.run, given, arches=named, module_sets=head.module_sets)
    built = options.build(arches, head.run.exact_source, head.run.series or (options.BARE,), jobs)
    asked = ExploreOptions(
        built,
        head.module_sets,
        head.wanted,
        head.channel,
        head.run.strict,
        writer.path,
        session.accel_of(head.run, writer.path),
    )
    return asked, writer


def guests(built: BuildOptions) -> int:
    """How many guests of each architecture keep this host's cores busy."""
    return max(1, len(os.sched_getaffinity(0)) // len(built.arches))


def minimise(
    results: Path,
    name: str,
    tries: int,
    place: Path | None,
    jobs: int | None,
    reporter: Reporter,
    given: Given = NOTHING,
    accel: Accel | None = None,
) -> Way:
    """The shortest order that fails as a case of a results directory did, as a bundle too.

    place: where the bundle goes; None: among the results' findings, beside whatever is there.
    given: see `outsiders.refuse`. accel: None for the run's own.
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
    if place is None:
        _findings(results)  # before it takes minutes
    case = result.case
    outsiders.refuse(results, run, given, arches=(result.arch,), module_sets=(case.module_set,))
    arch = (run.arch_spec(result.arch),)
    built = options.build(arch, run.exact_source, run.series or (options.BARE,), jobs)
    accel = session.accel_of(run, results) if accel is None else accel
    session.need_emulators(built, accel)
    (bench,) = session.benches(built, (case.module_set,), reporter)
    stop = threading.Event()
    used = Options(accel=accel)
    with Rig(bench, used, stop) as warm, Rig(bench, replace(used, cold=True), stop) as cold:
        reporter.say(f"minimising {notation(case.order)}")
        short = triage.shortest(case, like, warm.run)
        if short is None:
            raise HarnessError(
                f"{name} does not fail in this way any more: {like}",
                hint="has the kernel changed since? klp-e2e run tells",
            )
        reporter.say(f"booting it {tries} times")
        way = Way(short, repeated=triage.repeated(short.case, like, cold.run, tries), tries=tries)
    if place is None:
        called = bundle.name(result.arch, case.module_set, case.name)
        place = bundle.place(_findings(results), called)
    bundle.write(place, bench, short, (way.repeated, way.tries))
    return replace(way, bundle=str(place))


def _findings(results: Path) -> Path:
    """Where bundles of a run's failures go. Raises NotOurs where a link leads elsewhere."""
    home = results if results.is_dir() else results.parent
    with store.told(home / FINDINGS):
        return ours.folder(home / FINDINGS, within=home)


def _failed(found: Sequence[CaseResult], name: str) -> CaseResult:
    """`ARCH/SET/NAME` among a run's results."""
    names = {f"{r.arch}/{r.case.label}": r for r in found}
    if name not in names:
        bad = [n for n, r in names.items() if r.first_failure() is not None]
        raise UsageError(
            f"these results have no case {name}", hint=f"that failed: {', '.join(bad) or 'none'}"
        )
    return names[name]


def explore(asked: ExploreOptions, writer: ExploreDirectory, reporter: Reporter) -> None:
    """Walk it, or what is left of it, within the writer's block: every verified order and every
    finding is on disk at once."""
    session.need_emulators(asked.build, asked.accel)
    benches = session.benches(asked.build, asked.module_sets, reporter)
    run = writer.head.run
    writer.update(
        replace(
            run,
            kernels=tuple(bench.kernel for bench in benches),
            qemu={bench.arch.name: prepare.qemu_version(bench.arch) for bench in benches},
            inputs={**run.inputs, **session.inputs(asked.build), **session.built(benches)},
        )
    )
    grounds = [Ground(b, name, asked.wanted) for b in benches for name in asked.module_sets]
    writer.restore(grounds)
    with _Scribe(writer, grounds, reporter) as scribe:
        used = Options(channel=asked.channel, accel=asked.accel)
        survey.explore(grounds, asked.wanted, used, scribe.listener())


class _Scribe:
    """Writes down what a survey tells, and says how far it is."""

    def __init__(
        self, writer: ExploreDirectory, grounds: Sequence[Ground], reporter: Reporter
    ) -> None:
        self._writer = writer
        self._grounds = grounds
        self._reporter = reporter
        self._saved = time.monotonic()

    def __enter__(self) -> _Scribe:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.save(self._grounds)

    def listener(self) -> Listener:
        return Listener(
            self._verified,
            self._failed,
            self._changed,
            self._found,
            self._guest,
            self._reporter.say,
        )

    def _verified(self, ground: Ground, path: Events, step: Step, seconds: float) -> None:
        order, read = notation(Order(path)), step.relocations_read
        self._writer.walked(Walked(*_where(ground), order, True, read, seconds=round(seconds, 4)))
        self._advance(ground)

    def _failed(self, ground: Ground, path: Events, beyond: int) -> None:
        self._writer.save(self._grounds)  # its finding, before the order counts as walked
        self._writer.walked(Walked(*_where(ground), notation(Order(path)), False, beyond=beyond))
        self._advance(ground)

    def _advance(self, ground: Ground) -> None:
        tally = ground.tally
        note = f"depth {tally.depth}, {tally.relocations} relocations, {len(ground.findings)} found"
        self._reporter.advance(f"exploring {ground}", tally.done, tally.planned, note)

    def _changed(self, ground: Ground) -> None:
        if time.monotonic() - self._saved > SAVE_SECONDS:
            self._writer.save(self._grounds)
            self._saved = time.monotonic()

    def _found(self, ground: Ground, way: Way) -> Way:
        known = f" ({way.result.known_issue})" if way.result.known_issue else ""
        reliability = f"{way.repeated}/{way.tries}"
        self._reporter.say(
            f"{ground}: {notation(way.order)}: {way.result.reason}{known}, {reliability}"
        )
        place = self._writer.bundle(bundle.name(ground.bench.arch.name, ground.name))
        bundle.write(place, ground.bench, way.result, (way.repeated, way.tries))
        return replace(way, bundle=str(place.relative_to(self._writer.path)))

    def _guest(self, record: GuestRecord) -> None:
        run = self._writer.head.run
        self._writer.update(replace(run, guests=(*run.guests, record)))


def _where(ground: Ground) -> tuple[str, str]:
    return ground.bench.arch.name, ground.name
