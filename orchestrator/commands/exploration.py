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
from orchestrator.explore import exploration, triage
from orchestrator.explore.exploration import Campaign, CampaignOptions, Listener
from orchestrator.explore.walker import EventPath as Events
from orchestrator.host import ours
from orchestrator.model.findings import Reproducer, signature
from orchestrator.model.orders import format as notation
from orchestrator.nouns import Accel, Channel, Order
from orchestrator.report import directory, store
from orchestrator.report.explorejson import (
    DOCUMENT,
    FINDINGS,
    SCHEMA,
    ExploreDirectory,
    ExploreDocument,
    Walked,
)
from orchestrator.report.progress import Reporter
from orchestrator.repro import bundle
from orchestrator.run.slot import GuestOptions, GuestSlot
from orchestrator.verdicts import CaseResult, GuestRecord, RunKind, Step

SAVE_SECONDS = 5.0  # between two writings of the totals; the journal is written at once


@dataclass(frozen=True, slots=True)
class ExploreOptions:
    build: BuildOptions
    module_sets: tuple[str, ...]
    wanted: CampaignOptions
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
    head = ExploreDocument(SCHEMA, run, asked.wanted, asked.module_sets, asked.channel)
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
    built = options.build_options(
        arches, head.run.exact_source, head.run.series or (options.BARE,), jobs
    )
    asked = ExploreOptions(
        built,
        head.module_sets,
        head.options,
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
) -> Reproducer:
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
    built = options.build_options(arch, run.exact_source, run.series or (options.BARE,), jobs)
    accel = session.accel_of(run, results) if accel is None else accel
    session.need_emulators(built, accel)
    (bootable,) = session.bootables(built, (case.module_set,), reporter)
    stop = threading.Event()
    used = GuestOptions(accel=accel)
    with (
        GuestSlot(bootable, used, stop) as warm,
        GuestSlot(bootable, replace(used, cold=True), stop) as cold,
    ):
        reporter.say(f"minimising {notation(case.order)}")
        short = triage.shortest(case, like, warm.run_case)
        if short is None:
            raise HarnessError(
                f"{name} does not fail in this way any more: {like}",
                hint="has the kernel changed since? klp-e2e run tells",
            )
        reporter.say(f"booting it {tries} times")
        reproducer = Reproducer(
            short, repeated=triage.repeated(short.case, like, cold.run_case, tries), tries=tries
        )
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
    bootables = session.bootables(asked.build, asked.module_sets, reporter)
    run = writer.head.run
    writer.update(
        replace(
            run,
            kernels=tuple(bootable.kernel for bootable in bootables),
            qemu={
                bootable.arch.name: prepare.qemu_version(bootable.arch) for bootable in bootables
            },
            inputs={**run.inputs, **session.inputs(asked.build), **session.built(bootables)},
        )
    )
    campaigns = [Campaign(b, name, asked.wanted) for b in bootables for name in asked.module_sets]
    writer.restore(campaigns)
    with _Scribe(writer, campaigns, reporter) as scribe:
        used = GuestOptions(channel=asked.channel, accel=asked.accel)
        exploration.explore(campaigns, asked.wanted, used, scribe.listener())


class _Scribe:
    """Writes down what a survey tells, and says how far it is."""

    def __init__(
        self, writer: ExploreDirectory, campaigns: Sequence[Campaign], reporter: Reporter
    ) -> None:
        self._writer = writer
        self._grounds = campaigns
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

    def _verified(self, campaign: Campaign, path: Events, step: Step, seconds: float) -> None:
        order, read = notation(Order(path)), step.relocations_read
        self._writer.walked(Walked(*_where(campaign), order, True, read, seconds=round(seconds, 4)))
        self._advance(campaign)

    def _failed(self, campaign: Campaign, path: Events, blocked: int) -> None:
        self._writer.save(self._grounds)  # its finding, before the order counts as walked
        self._writer.walked(
            Walked(*_where(campaign), notation(Order(path)), False, blocked=blocked)
        )
        self._advance(campaign)

    def _advance(self, campaign: Campaign) -> None:
        stats = campaign.stats
        note = (
            f"depth {stats.depth}, {stats.relocations} relocations, {len(campaign.findings)} found"
        )
        self._reporter.advance(f"exploring {campaign}", stats.done, stats.planned, note)

    def _changed(self, campaign: Campaign) -> None:
        if time.monotonic() - self._saved > SAVE_SECONDS:
            self._writer.save(self._grounds)
            self._saved = time.monotonic()

    def _found(self, campaign: Campaign, reproducer: Reproducer) -> Reproducer:
        known = f" ({reproducer.result.known_issue})" if reproducer.result.known_issue else ""
        what = f"{notation(reproducer.order)}: {reproducer.result.reason}{known}"
        self._reporter.say(f"{campaign}: {what}, {reproducer.repeated}/{reproducer.tries}")
        place = self._writer.bundle(bundle.name(campaign.bootable.arch.name, campaign.name))
        bundle.write(
            place, campaign.bootable, reproducer.result, (reproducer.repeated, reproducer.tries)
        )
        return replace(reproducer, bundle=str(place.relative_to(self._writer.path)))

    def _guest(self, record: GuestRecord) -> None:
        run = self._writer.head.run
        self._writer.update(replace(run, guests=(*run.guests, record)))


def _where(campaign: Campaign) -> tuple[str, str]:
    return campaign.bootable.arch.name, campaign.name
