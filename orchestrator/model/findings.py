# SPDX-License-Identifier: GPL-2.0-only
"""What belongs together of everything that failed. Pure.

Two failures are of one kind when the same event goes wrong in the same way: that is a finding. The
orders that cannot be made shorter are its reproducers; an order that holds a shorter one that fails
alike says nothing new.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from orchestrator.model import orders
from orchestrator.nouns import Burst, Event, Load, Order, Race
from orchestrator.verdicts import (
    Answers,
    CaseResult,
    Check,
    CheckKind,
    Health,
    Reading,
    Sign,
    Status,
    Step,
)


@dataclass(frozen=True, slots=True, order=True)
class Signature:
    """How an event failed."""

    event: str  # in notation, without parameters and numbers of times
    kind: str  # of the first failed check, a CheckKind
    detail: str  # relocation type, errno seen, name of the probe, what the console said

    def __str__(self) -> str:
        return f"{self.event}: {self.kind}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Reproducer:
    """One order to a failure from which nothing can be left out."""

    result: CaseResult  # of this order; its last step is the one that fails
    hits: int = 1  # orders of the walk that hold this one and fail alike
    repeated: int = 0  # of `tries` cold boots, how many failed alike
    tries: int = 0
    bundle: str = ""  # directory, relative to the results

    @property
    def order(self) -> Order:
        return self.result.case.order


@dataclass(frozen=True, slots=True)
class Finding:
    """One kind of failure on one architecture and module set, the shortest reproducer first."""

    arch: str
    module_set: str
    signature: Signature
    reproducers: tuple[Reproducer, ...]

    @property
    def hits(self) -> int:
        return sum(reproducer.hits for reproducer in self.reproducers)

    @property
    def known(self) -> bool:
        """Is every reproducer of it a known issue?"""
        return all(reproducer.result.known_issue for reproducer in self.reproducers)

    @property
    def blamed(self) -> bool:
        """Is the module set itself likelier wrong than the kernel, in every reproducer of it?"""
        return all(reproducer.result.culprit for reproducer in self.reproducers)

    @property
    def status(self) -> Status:
        """What it says."""
        if self.blamed:
            return Status.ERROR
        return Status.KNOWN if self.known else Status.FAIL


def rejudged(found: Sequence[Finding], results: Iterable[CaseResult]) -> tuple[Finding, ...]:
    """The findings, each reproducer with its new result; `results` in their order."""
    anew = iter(results)
    return tuple(
        replace(
            finding,
            reproducers=tuple(replace(each, result=next(anew)) for each in finding.reproducers),
        )
        for finding in found
    )


def signature(result: CaseResult) -> Signature | None:
    """How a case failed, None when no check of it did."""
    failure = result.first_failure()
    if failure is None:
        return None
    index, step, _ = failure
    return of_step(result.case.order.events[index], step)


def promised(result: CaseResult) -> int | None:
    """The errno that the event which failed should have been answered with, 0 for success; None
    where nothing is wrong with its answer, or it has several."""
    failure = result.first_failure()
    answer = failure[2].detail if failure is not None else None
    expected = answer.expected_errnos if isinstance(answer, Answers) else ()
    return expected[0] if len(expected) == 1 else None


def of_step(event: Event, step: Step) -> Signature:
    """How this event failed; a crash of the guest counts before everything that led to it."""
    bad = [check for check in step.checks if not check.good]
    crash = next(filter(is_death, bad), None)
    first = crash or bad[0]
    return Signature(_plain(event), first.kind, _detail(first))


def is_death(check: Check) -> bool:
    """Does it say that the guest is gone?"""
    return isinstance(check.detail, Health) and check.detail.sign is Sign.GUEST


def alike(one: CaseResult, other: CaseResult) -> bool:
    """Did both fail, in the same way, and either both as is known or neither so?"""
    like = signature(one)
    return like is not None and like == signature(other) and _both_known(one, other)


def fails_as(again: CaseResult, first: CaseResult) -> bool:
    """Does it fail as the first one did? What is known is not what was not. The other way round the
    list that knows it may only not have been named again."""
    like = signature(first)
    known = bool(again.known_issue) and not first.known_issue
    return like is not None and signature(again) == like and not known


def _both_known(one: CaseResult, other: CaseResult) -> bool:
    return bool(one.known_issue) == bool(other.known_issue)


def is_part(part: Order, whole: Order) -> bool:
    """Whether all events of `part` stand in `whole`, in the same sequence."""
    left = iter(whole.events)
    return all(event in left for event in part.events)


class Place(NamedTuple):
    """Which of the findings, and which of its reproducers; both from 0."""

    finding: int
    reproducer: int


def explained(found: Iterable[Finding], like: Signature, result: CaseResult) -> Place | None:
    """Where this failure is told of already, or None. A failure by itself is no known issue
    because another that looks like it is one."""
    order = result.case.order
    for index, finding in enumerate(found):
        for number, reproducer in enumerate(finding.reproducers):
            same = finding.signature == like and _both_known(reproducer.result, result)
            if same and is_part(reproducer.order, order):
                return Place(index, number)
    return None


def counted(found: Sequence[Finding], at: Place) -> tuple[Finding, ...]:
    """The findings with one hit more for that reproducer."""
    index, number = at
    finding = found[index]
    reproducer = finding.reproducers[number]
    reproducers = (
        *finding.reproducers[:number],
        replace(reproducer, hits=reproducer.hits + 1),
        *finding.reproducers[number + 1 :],
    )
    return (*found[:index], replace(finding, reproducers=reproducers), *found[index + 1 :])


def added(found: Sequence[Finding], like: Signature, reproducer: Reproducer) -> tuple[Finding, ...]:
    """The findings with it: a hit more where it is there already, else in its finding."""
    result = reproducer.result
    for index, finding in enumerate(found):
        if (finding.arch, finding.module_set, finding.signature) != (
            result.arch,
            result.case.module_set,
            like,
        ):
            continue
        for number, other in enumerate(finding.reproducers):
            if other.order == reproducer.order and _both_known(other.result, result):
                return counted(found, Place(index, number))
        reproducers = tuple(
            sorted((*finding.reproducers, reproducer), key=lambda w: len(w.order.events))
        )
        return (*found[:index], replace(finding, reproducers=reproducers), *found[index + 1 :])
    return (*found, Finding(result.arch, result.case.module_set, like, (reproducer,)))


def _plain(event: Event) -> str:
    match event:
        case Load(module, _):
            event = Load(module)
        case Burst(events, _):
            return f"({' '.join(map(_plain, events))})*N"
        case Race(events):
            return f"{{{' '.join(map(_plain, events))}}}"
    return orders.format_event(event)


def _detail(check: Check) -> str:
    if isinstance(check.detail, Reading):
        return check.detail.type
    if check.kind is CheckKind.ANSWER:
        return check.seen
    if check.kind is CheckKind.HEALTH:
        return re.sub(r"0x[0-9a-f]+|\b[0-9a-f]{8,}\b", "N", f"{check.subject}: {check.seen}")
    return check.subject
