# SPDX-License-Identifier: GPL-2.0-only
"""`klp-e2e explore`: every load order of module sets, walked, and what fails of it kept."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.build import prepare
from orchestrator.cli import options, outsiders, session
from orchestrator.cli.arguments import (
    AccelOption,
    ArchOption,
    ChannelOption,
    ConfigOption,
    FleetOption,
    JobsOption,
    KernelOption,
    KnownIssuesOption,
    ModuleSetsOption,
    OutputOption,
    SeriesOption,
    StrictOption,
    ToolchainOption,
)
from orchestrator.cli.options import BuildOptions
from orchestrator.cli.outsiders import NOTHING, Given
from orchestrator.cli.program import EXAMPLE, app, guarded
from orchestrator.cli.showing import show, tell_place
from orchestrator.errors import Exit, UsageError
from orchestrator.explore import exploration
from orchestrator.explore.campaign import Campaign, CampaignOptions, Strategy
from orchestrator.explore.exploration import Listener
from orchestrator.explore.walker import EventPath as Events
from orchestrator.fleet import chosen
from orchestrator.model.findings import Reproducer
from orchestrator.model.orders import format as notation
from orchestrator.model.search import Choice
from orchestrator.nouns import Accel, Channel, Order
from orchestrator.report import exploretext
from orchestrator.report.explorejson import (
    DOCUMENT,
    SCHEMA,
    ExploreDirectory,
    ExploreDocument,
    Walked,
    exploration_exit_code,
)
from orchestrator.report.exploremachine import MACHINES
from orchestrator.report.progress import Reporter
from orchestrator.report.terminal import Terminal
from orchestrator.repro import bundle
from orchestrator.run.slot import GuestOptions
from orchestrator.verdicts import GuestRecord, RunKind, Step

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
    return ExploreDirectory(asked.directory, head, MACHINES)


def resumed(
    place: Path, jobs: int | None, given: Given = NOTHING, known: Sequence[Path] = ()
) -> tuple[ExploreOptions, ExploreDirectory]:
    """An exploration that was interrupted, with everything as it was asked for: what stands in its
    explore.json counts as a command line does, but for what `outsiders.refuse` wants to see on this
    one, and for files of known issues: what is in them has to be the same. Raises UsageError."""
    writer = ExploreDirectory.resumed(place, MACHINES)
    head = writer.head
    named = head.run.option("arches").split()
    arches = tuple(map(head.run.arch_spec, named))
    if not arches:
        raise UsageError(f"{place / DOCUMENT} names no architecture", hint="begin a new one")
    outsiders.refuse(place / DOCUMENT, head.run, given, arches=named, module_sets=head.module_sets)
    built = options.build_options(
        arches,
        head.run.exact_source,
        head.run.series or (options.BARE,),
        jobs,
        head.run.configs,
        head.run.toolchain,
        known,
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


def guests_of(built: BuildOptions) -> int:
    """How many guests of each architecture keep this host's cores busy."""
    return max(1, len(os.sched_getaffinity(0)) // len(built.arches))


def run_exploration(
    asked: ExploreOptions, writer: ExploreDirectory, reporter: Reporter, fleet: bool = False
) -> None:
    """Walk it, or what is left of it, within the writer's block: every verified order and every
    finding is on disk at once."""
    session.need_emulators(asked.build, asked.accel, reporter.say)
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
            own_sets=session.own_sets(bootables),
            origins=session.origins(bootables),
        )
    )
    campaigns = [Campaign(b, name, asked.wanted) for b in bootables for name in asked.module_sets]
    writer.restore(campaigns)
    whole = not any(campaign.done for campaign in campaigns)
    with _Scribe(writer, campaigns, reporter) as scribe:
        used = GuestOptions(channel=asked.channel, accel=asked.accel)
        executor = chosen.executor(fleet, reporter.say)
        exploration.explore(campaigns, asked.wanted, used, scribe.listener(), executor)
        for campaign in campaigns:
            campaign.judge_together(whole)


def explored(asked: ExploreOptions, writer: ExploreDirectory, fleet: bool = False) -> Exit:
    """Do it, and show what there is of it, however it ends."""
    try:
        with writer, Reporter(Terminal(stderr=True)) as reporter:
            run_exploration(asked, writer, reporter, fleet)
    finally:
        if writer.head.campaigns:
            show(exploretext.exploration_report(writer.head))
        tell_place(writer)
    return exploration_exit_code(writer.head)


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
    config: ConfigOption = None,
    toolchain: ToolchainOption = None,
    modules: ModuleSetsOption = None,
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
    fleet: FleetOption = False,
    known_issues: KnownIssuesOption = None,
    strict: StrictOption = False,
    output: OutputOption = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Go on with the exploration that was begun in DIR, as it was begun. A source, a "
            "series, a module set, an architecture or known issues that are not built in have to "
            "be named again.",
        ),
    ] = None,
    jobs: JobsOption = None,
) -> Exit:
    """Walk every load order. Minimises what fails, and keeps a bundle of it."""
    if resume is not None:
        options.resumed_only(output)
        given = Given.of(
            arch=arch,
            kernel=kernel,
            series=series,
            config=config,
            modules=modules,
        )
        asked, writer = resumed(resume, jobs, given, known_issues or ())
    else:
        built = options.build_options(arch, kernel, series, jobs, config, toolchain, known_issues)
        wanted = CampaignOptions(
            strategy=strategy,
            depth=depth,
            budget=None if budget is None else options.seconds(budget),
            orders=orders,
            seed=seed,
            choice=Choice(races, burst),
            merge=not every_order,
            confirm=confirm,
            guests=guests or guests_of(built),
        )
        sets = options.module_sets(modules or ())
        asked = ExploreOptions(built, sets, wanted, channel, strict, options.results(output), accel)
        writer = begin(asked, tuple(sys.argv))
    return explored(asked, writer, fleet)
