# SPDX-License-Identifier: GPL-2.0-only
"""An exploration of module sets on several guests: who walks what, and what becomes of failures."""

from __future__ import annotations

import contextlib
import queue
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from orchestrator.explore import triage
from orchestrator.explore.campaign import Campaign, CampaignOptions
from orchestrator.explore.units import Failed, NotRun, Sort, Spent, Told, Verified, Walk
from orchestrator.explore.walker import EventPath
from orchestrator.model import orders
from orchestrator.model.culprit import right_texts
from orchestrator.model.findings import (
    Reproducer,
    Signature,
    added,
    counted,
    explained,
    of_step,
)
from orchestrator.run.slot import GuestOptions
from orchestrator.run.workers import Executor, Here
from orchestrator.verdicts import CaseResult, GuestRecord, Step


@dataclass(frozen=True, slots=True)
class Listener:
    """Who hears of an exploration's course; called one at a time."""

    verified: Callable[[Campaign, EventPath, Step, float], None]  # seconds
    failed: Callable[
        [Campaign, EventPath, int], None
    ]  # and events behind it that nobody can verify
    change: Callable[[Campaign], None]  # totals or findings have changed
    found: Callable[[Campaign, Reproducer], Reproducer]  # a new one; it comes back with its bundle
    guest: Callable[[GuestRecord], None]
    say: Callable[[str], None]


def explore(
    campaigns: Sequence[Campaign],
    wanted: CampaignOptions,
    options: GuestOptions,
    listener: Listener,
    executor: Executor | None = None,
) -> None:
    """Walk every campaign, the architectures side by side, with so many guests each.

    Trouble with guests is counted and stops nothing else. On Ctrl-C, and on whatever the listener
    raises, the guests are ended and it comes through.
    """
    end = None if wanted.budget is None else time.monotonic() + wanted.budget
    arches = dict.fromkeys(campaign.bootable.arch.name for campaign in campaigns)
    queues = [
        _Queue(
            [c for c in campaigns if c.bootable.arch.name == arch], wanted, options, listener, end
        )
        for arch in arches
    ]
    (executor or Here()).perform(queues)


class _Queue:
    """One architecture's campaigns, in turn: a budget is for all of them. What is found is sorted
    before anything further is walked."""

    def __init__(
        self,
        campaigns: Sequence[Campaign],
        wanted: CampaignOptions,
        options: GuestOptions,
        listener: Listener,
        end: float | None,
    ) -> None:
        """end: when the budget is used up, as time.monotonic() has it."""
        self._wanted = wanted
        self._options = options
        self._cpus = 2 if wanted.choice.races else 1
        self._listener = listener
        self._end = end
        self._turn = deque(campaigns)
        self._failures = {c.name: _Failures(c, listener) for c in campaigns}

    @property
    def width(self) -> int:
        return self._wanted.guests

    def next(self) -> Walk | Sort | None:
        for failures in self._failures.values():
            if (seen := failures.next()) is not None:
                bootable = failures.campaign.bootable
                return Sort(bootable, self._options, self._cpus, seen, self._wanted.confirm)
        left = None if self._end is None else self._end - time.monotonic()
        while self._turn and (left is None or left > 0):
            campaign = self._turn.popleft()
            if (item := campaign.next()) is not None:
                self._turn.append(campaign)
                where = campaign.bootable, campaign.name
                return Walk(*where, self._options, self._cpus, item, left)
        return None

    def told(self, unit: Walk | Sort, message: Told) -> None:
        failures = self._failures[unit.module_set]
        campaign = failures.campaign
        match message:
            case Verified(path, step, seconds):
                if campaign.verified(path, step.relocations_read):
                    campaign.right |= right_texts(step)
                    self._listener.verified(campaign, path, step, seconds)
            case Failed():
                failures.failed(message)
            case NotRun(path, edges, why):
                campaign.not_run(path, edges, why)
            case Spent():
                campaign.spent(message)
            case Reproducer():
                failures.sorted(message)
        if not isinstance(message, Verified):
            self._listener.change(campaign)

    def guest(self, record: GuestRecord) -> None:
        self._listener.guest(record)


class _Failures:
    """A campaign's failures, sorted one after the other: what was found decides whether the next
    one is new."""

    def __init__(self, campaign: Campaign, listener: Listener) -> None:
        self.campaign = campaign
        self._listener = listener
        self._waiting: deque[Failed] = deque()
        self._sorted: Failed | None = None  # the one that is being sorted, or is to be
        self._seen: queue.SimpleQueue[CaseResult] = queue.SimpleQueue()  # it, for who sorts it

    def next(self) -> CaseResult | None:
        """A failure of a kind that nobody has seen, as it was seen; None when there is none, or
        somebody is at it."""
        with contextlib.suppress(queue.Empty):
            return self._seen.get_nowait()
        return None

    def failed(self, failed: Failed) -> None:
        self.campaign.failed(failed.path, failed.blocked)
        self._waiting.append(failed)
        self._turn()

    def sorted(self, reproducer: Reproducer) -> None:
        """What the failure that `next` gave comes from."""
        failed, self._sorted = self._sorted, None
        assert failed is not None, "nobody was at it"
        reproducer = self._listener.found(self.campaign, reproducer)
        self.campaign.findings = added(self.campaign.findings, _like(failed), reproducer)
        self._tell(failed)
        self._turn()

    def _turn(self) -> None:
        """What a finding explains is a hit more of it; the first that none does is to be sorted."""
        campaign = self.campaign
        while self._waiting and self._sorted is None:
            failed = self._waiting.popleft()
            seen = triage.seen_once(campaign.bootable, campaign.name, failed.hit)
            at = explained(campaign.findings, _like(failed), seen)
            if at is None:
                self._listener.say(f"{campaign}: minimising {orders.format(failed.hit.order)}")
                self._sorted = failed
                self._seen.put(seen)
            else:
                campaign.findings = counted(campaign.findings, at)
                self._tell(failed)

    def _tell(self, failed: Failed) -> None:
        """Only when it is sorted: what is not will be found again by who goes on later."""
        self._listener.failed(self.campaign, failed.path, failed.blocked)


def _like(failed: Failed) -> Signature:
    return of_step(failed.hit.order.events[-1], failed.hit.step)
