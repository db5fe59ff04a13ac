# SPDX-License-Identifier: GPL-2.0-only
"""What of an exploration is done on guests: a part of the plan walked, a failure sorted."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from orchestrator.build.prepare import Bootable
from orchestrator.explore import triage
from orchestrator.explore.walker import Costs, EventPath, Hit, Walker, WalkListener
from orchestrator.model.findings import Reproducer
from orchestrator.model.search import WorkItem
from orchestrator.run.site import Site
from orchestrator.run.slot import GuestOptions
from orchestrator.run.units import Tell
from orchestrator.verdicts import CaseResult, Step


@dataclass(frozen=True, slots=True)
class Verified:
    """All was as it should be after the last event of a path."""

    path: EventPath
    step: Step
    seconds: float  # getting there included


@dataclass(frozen=True, slots=True)
class Failed:
    """It was not; `blocked`: so many events behind it nobody can verify."""

    path: EventPath
    hit: Hit
    blocked: int


@dataclass(frozen=True, slots=True)
class NotRun:
    """So many events, from a path on, that are given up for trouble of the harness."""

    path: EventPath
    edges: int
    why: str


@dataclass(frozen=True, slots=True)
class Spent:
    """A guest's time on a unit, and what it went into."""

    seconds: float
    saves: int
    restores: int
    repeated: int
    by: Mapping[str, float]  # seconds, by what they went into


Told = Verified | Failed | NotRun | Spent | Reproducer


@dataclass(frozen=True, slots=True)
class Walk:
    """A part of a module set's plan; tells Verified, Failed, NotRun and at last Spent."""

    bootable: Bootable
    module_set: str
    options: GuestOptions
    cpus: int
    item: WorkItem
    seconds: float | None  # after so many it ends, wherever it is; None: when it is done

    def do(self, site: Site, tell: Tell) -> None:
        began = time.monotonic()

        def over() -> bool:
            late = self.seconds is not None and time.monotonic() - began > self.seconds
            return site.stopped or late

        heard = WalkListener(
            lambda path, step, seconds: tell(Verified(path, step, seconds)),
            lambda path, hit, blocked: tell(Failed(path, hit, blocked)),
            lambda path, edges, why: tell(NotRun(path, edges, why)),
        )
        costs = site.kept(self.bootable, ("costs", self.module_set), Costs)
        slot = site.slot(self.bootable, self.options, self.cpus)
        able = self.bootable.kernel.capabilities
        Walker(slot, self.module_set, able, heard, over, costs).walk(self.item)
        tell(Spent(time.monotonic() - began, *costs.told()))

    def given_up(self, why: str) -> Iterable[Told]:
        return [NotRun(self.item.before, self.item.edges, why)]


@dataclass(frozen=True, slots=True)
class Sort:
    """A failure of a kind that nobody has seen; tells its Reproducer."""

    bootable: Bootable
    options: GuestOptions
    cpus: int
    seen: CaseResult
    tries: int  # on guests that are booted for it

    @property
    def module_set(self) -> str:
        return self.seen.case.module_set

    def do(self, site: Site, tell: Tell) -> None:
        warm = site.slot(self.bootable, self.options, self.cpus)
        cold = site.slot(self.bootable, replace(self.options, cold=True), self.cpus)
        found = triage.reproducer(self.seen, warm.run_case, cold.run_case, self.tries)
        if not site.stopped:  # what was tried after that says nothing
            tell(found)

    def given_up(self, why: str) -> Iterable[Told]:
        return [Reproducer(self.seen)]  # as it was seen: how often it fails nobody knows
