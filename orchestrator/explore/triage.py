# SPDX-License-Identifier: GPL-2.0-only
"""From an order that failed to the shortest that fails alike, and how reliably it does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from orchestrator.build.prepare import Bootable
from orchestrator.explore.walker import Hit
from orchestrator.model.findings import Reproducer, alike, promised
from orchestrator.model.minimise import minimise
from orchestrator.model.orders import format_event
from orchestrator.nouns import Case, Order
from orchestrator.run.slot import judged
from orchestrator.verdicts import CaseResult, Status, Step

RunCase = Callable[[Case], CaseResult]
Alike = Callable[[CaseResult], bool]


def shortest(case: Case, is_alike: Alike, run: RunCase) -> CaseResult | None:
    """The case with the shortest order that fails alike, as it ran; None when not even the whole
    order does, on a fresh guest.

    An event that should succeed has to in the shortest order, too: to be refused in another way
    than one should tells less.
    """
    failed: dict[Order, CaseResult] = {}

    def fails(order: Order) -> bool:
        result = run(replace(case, order=order))
        whole = failed.get(case.order, result)
        if not is_alike(result) or promised(result) != promised(whole):
            return False
        failed[order] = _up_to_failure(result)
        return True

    return failed[minimise(case.order, fails)] if fails(case.order) else None


def repeated(case: Case, is_alike: Alike, run: RunCase, times: int) -> int:
    """Of so many runs, how many fail alike."""
    return sum(is_alike(run(case)) for _ in range(times))


def reproducer(seen: CaseResult, warm: RunCase, cold: RunCase, tries: int) -> Reproducer:
    """What is to be known of a failure that was `seen_once`: `warm` runs a case on a guest made
    fresh by a snapshot, `cold` on one that was booted for it."""
    is_alike = partial(alike, seen)
    result = shortest(seen.case, is_alike, warm) or seen
    return Reproducer(result, repeated=repeated(result.case, is_alike, cold, tries), tries=tries)


def seen_once(bootable: Bootable, module_set: str, hit: Hit) -> CaseResult:
    """A failure as the walk saw it, judged by itself: all that is known of one that does not come
    again."""
    case = Case("found", module_set, hit.order)
    empty = (Step(format_event(event), (), 0.0, 0.0, 0) for event in hit.order.events[:-1])
    before = hit.before or tuple(empty)
    bad = next(check for check in hit.step.checks if not check.good)
    result = CaseResult(
        case=case,
        arch=bootable.arch.name,
        status=Status.FAIL,
        reason=f"{hit.step.event}: {bad.subject}: {bad.seen}",
        steps=(*before, hit.step),
        console=hit.console,
    )
    return judged(result, bootable)


def _up_to_failure(result: CaseResult) -> CaseResult:
    """Events behind the one that fails are not part of the way to it."""
    events = result.case.order.events[: len(result.steps)]
    return replace(result, case=replace(result.case, order=Order(events)))
