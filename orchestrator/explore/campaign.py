# SPDX-License-Identifier: GPL-2.0-only
"""A module set on one architecture: its plan, handed out in parts, what was found, and totals that
add up."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated

from pydantic import AliasChoices, Field
from pydantic.fields import FieldInfo

from orchestrator import catalog
from orchestrator.build.prepare import Bootable
from orchestrator.explore.units import Spent
from orchestrator.explore.walker import EventPath
from orchestrator.model import search
from orchestrator.model.culprit import Text, judge_together
from orchestrator.model.findings import (
    Finding,
    rejudged,
)
from orchestrator.model.search import Choice, WorkItem
from orchestrator.nouns import Order, set_title

PART = 120  # events in a work item: some tens of seconds
RANDOM_DEPTH = 10
DEPTH = 4


def also(name: str, before: str) -> FieldInfo:
    """A field that schema 1 of explore.json has by another name."""
    info: FieldInfo = Field(validation_alias=AliasChoices(name, before))
    return info


class Strategy(StrEnum):
    """Which orders are taken."""

    EXHAUSTIVE = "exhaustive"  # every event in every state
    RANDOM = "random"  # walks by a seed
    PAIRS = "pairs"  # every two events in either sequence, in few orders


@dataclass(frozen=True, slots=True)
class CampaignOptions:
    """What is to be explored, and for how long."""

    strategy: Strategy = Strategy.EXHAUSTIVE
    depth: Annotated[int, Field(ge=1)] | None = (
        None  # None: until the budget is used up, or the strategy's own
    )
    budget: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = (
        None  # seconds for all sets together
    )
    orders: Annotated[int, Field(ge=1)] = 100  # random walks, where no budget bounds them
    seed: int = 1
    choice: Choice = field(default_factory=Choice)
    merge: bool = True  # see `walk`
    confirm: Annotated[int, Field(ge=0)] = 10  # cold boots of each reproducer of a finding
    guests: Annotated[int, Field(ge=1, le=1024)] = 1  # of each architecture


@dataclass(slots=True)
class Stats:
    """What became of one module set's plan on one architecture.

    planned = verified + failed + beyond + unwalked + what is still to come.
    """

    states: int = 0
    planned: int = 0
    verified: int = 0  # events after which all was as it should be: as many orders
    failed: int = 0
    blocked: Annotated[int, also("blocked", "beyond")] = (
        0  # events behind a failed one, which nobody can verify
    )
    not_run: Annotated[int, also("not_run", "unwalked")] = 0  # given up for trouble of the harness
    depth: int = 0  # of the longest verified order
    relocations: int = 0  # read back
    seconds: float = 0.0  # guests' time
    saves: int = 0
    restores: int = 0
    repeated: int = 0  # events done again to get to a state
    spent: dict[str, float] = field(default_factory=dict)  # seconds of walking, by what took them
    whole: bool = True  # the plan leaves out no state for its depth
    errors: Annotated[Counter[str], also("errors", "troubles")] = field(
        default_factory=Counter
    )  # why -> events not walked

    @property
    def done(self) -> int:
        return self.verified + self.failed + self.blocked + self.not_run

    @property
    def per_minute(self) -> float:
        """Verified orders in a minute of one guest."""
        return 60 * self.verified / self.seconds if self.seconds else 0.0


class Campaign:
    """One module set on one architecture: its plan, handed out in work items, and what was found.

    May be used from several threads.
    """

    def __init__(self, bootable: Bootable, name: str, wanted: CampaignOptions) -> None:
        self.bootable = bootable
        self.name = name
        self.stats = Stats()
        self.findings: tuple[Finding, ...] = ()
        self.done: set[EventPath] = set()
        self.dead: set[EventPath] = set()
        self.right: set[Text] = set()  # that probes were seen to show where they were to
        self._ahead: set[EventPath] = set()  # counted as planned, and handed out
        self._mutex = threading.Lock()
        self._wanted = wanted
        self._items = self._all()

    @property
    def _planned_by_item(self) -> bool:
        """Else the whole plan is counted before it begins."""
        return self._wanted.budget is not None or self._wanted.strategy is not Strategy.EXHAUSTIVE

    def next(self) -> WorkItem | None:
        """The next part of the plan of which something is left, None when there is none."""
        with self._mutex:
            return next(self._items, None)

    # --- what is told of the walk --------------------------------------------------------------

    def verified(self, path: EventPath, relocations: int) -> bool:
        """False when it was verified before, and is not to be counted again."""
        with self._mutex:
            if path in self.done:
                return False
            self.done.add(path)
            self._ahead.discard(path)
            self.stats.verified += 1
            self.stats.relocations += relocations
            self.stats.depth = max(self.stats.depth, len(path))
            return True

    def failed(self, path: EventPath, blocked: int) -> None:
        with self._mutex:
            self.dead.add(path)
            self.stats.failed += 1
            self.stats.blocked += blocked

    def not_run(self, path: EventPath, edges: int, why: str) -> None:
        """`edges` events from `path` on are given up; where they were planned one by one, as many
        of them as nobody has verified. What is handed out again is planned again."""
        with self._mutex:
            if self._planned_by_item:
                lost = {each for each in self._ahead if each[: len(path)] == path}
                self._ahead -= lost
                edges = len(lost)
            self.stats.not_run += edges
            self.stats.errors[why] += edges

    def spent(self, told: Spent) -> None:
        with self._mutex:
            self.stats.seconds += told.seconds
            self.stats.saves += told.saves
            self.stats.restores += told.restores
            self.stats.repeated += told.repeated
            for what, took in told.by.items():
                self.stats.spent[what] = self.stats.spent.get(what, 0.0) + took

    def judge_together(self, whole: bool) -> None:
        """At the end of a walk: for what was found in a set that is not ours, may the set itself be
        to blame? whole: nothing of it was walked before this Campaign was made."""
        if catalog.is_place(self.name):
            results = [way.result for found in self.findings for way in found.reproducers]
            seen = self.right if whole else None
            module_set = self.bootable.sets[self.name].set
            self.findings = rejudged(self.findings, judge_together(results, module_set, seen))

    def __str__(self) -> str:
        return f"{self.bootable.arch.name} {set_title(self.name)}"

    # --- the plan ------------------------------------------------------------------------------

    def _all(self) -> Iterator[WorkItem]:
        wanted = self._wanted
        module_set = self.bootable.sets[self.name].set
        able = self.bootable.kernel.capabilities
        if wanted.strategy is Strategy.EXHAUSTIVE:
            yield from self._ever_deeper()
            return
        depth = wanted.depth or RANDOM_DEPTH
        chosen: Iterator[Order]
        if wanted.strategy is Strategy.PAIRS:
            chosen = iter(search.pairs(module_set, able, depth, wanted.seed))
        else:
            chosen = search.random_orders(module_set, able, depth, wanted.seed, wanted.choice)
            if wanted.budget is None:
                chosen = itertools.islice(chosen, wanted.orders)
        for order in chosen:
            yield from self._left(search.chain(order))

    def _ever_deeper(self) -> Iterator[WorkItem]:
        """To the depth asked for; within a budget, depth by depth."""
        wanted = self._wanted
        depths: Iterator[int] = iter([wanted.depth or DEPTH])
        if wanted.budget is not None:
            depths = itertools.islice(itertools.count(1), wanted.depth)
        for depth in depths:
            plan = search.exhaustive(
                self.bootable.sets[self.name].set,
                self.bootable.kernel.capabilities,
                depth,
                wanted.choice,
                merge=wanted.merge,
            )
            self.stats.states = plan.states
            self.stats.whole = plan.complete
            if wanted.budget is None:
                self.stats.planned = plan.edges
            for item in search.items(plan.root, PART):
                yield from self._left(item)
            if plan.complete:
                return

    def _left(self, item: WorkItem) -> Iterator[WorkItem]:
        left = search.undone(item, self.done, self.dead)
        if left is not None:
            if self._planned_by_item:
                self.stats.planned += self._new(left)
            yield left

    def _new(self, item: WorkItem) -> int:
        """How many of its events nobody has verified yet, nor another guest has before it."""
        before = len(self._ahead)

        def count(path: EventPath, branch: search.Branch) -> None:
            self._ahead |= {(*path, event) for event in branch.settled} - self.done
            for child in branch.children:
                self._ahead |= {(*path, child.event)} - self.done
                count((*path, child.event), child)

        count(item.before, item.branch)
        return len(self._ahead) - before
