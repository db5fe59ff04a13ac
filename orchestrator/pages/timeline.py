# SPDX-License-Identifier: GPL-2.0-only
"""A case as a time line: what was in which state after each event, one lifeline a module and one a
group of klp relocations. Pure.

States are the model's; where a check failed, the lifeline is wrong from there, and says what was
seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from enum import StrEnum

from orchestrator import errnos
from orchestrator.model import model, orders
from orchestrator.model.state import Pair
from orchestrator.nouns import Burst, Event, ModuleSet, Order, Plain, Race
from orchestrator.verdicts import (
    Answers,
    Check,
    Expectation,
    Modules,
    Patched,
    Reading,
    RelocationState,
    Step,
    Unread,
)


class Look(StrEnum):
    """What a lifeline shows after one event."""

    NOT_LOADED = "not loaded"
    LOADED = "loaded"
    ENABLED = "enabled"
    DISABLED = "disabled"
    TRANSITION = "in transition"
    UNRELOCATED = "unrelocated"
    APPLIED = "applied"
    STALE = "stale"
    UNREACHED = "not reached"


_RELOCATIONS = {
    RelocationState.UNRELOCATED: Look.UNRELOCATED,
    RelocationState.APPLIED: Look.APPLIED,
    RelocationState.STALE: Look.STALE,
    RelocationState.INDETERMINATE: Look.STALE,
}


@dataclass(frozen=True, slots=True)
class Cell:
    look: Look
    note: str = ""  # "refused, ENODEV (19)"; where it is wrong, what is
    wrong: bool = False

    @property
    def text(self) -> str:
        """In words, for a table."""
        if self.wrong:
            return f"wrong: {self.note}"
        return f"{self.look}, {self.note}" if self.note else str(self.look)


@dataclass(frozen=True, slots=True)
class Lifeline:
    name: str
    cells: tuple[Cell, ...]  # one for each event


@dataclass(frozen=True, slots=True)
class Moment:
    """One event, and what was checked after it."""

    event: str
    why: str  # what the model says it does; empty: nobody knows
    checks: int
    failed: int
    seconds: float
    reached: bool

    @property
    def told(self) -> str:
        if not self.reached:
            return str(Look.UNREACHED)
        if not self.checks:
            return "no checks"
        return f"{self.failed} of {self.checks} wrong" if self.failed else f"{self.checks} good"

    @property
    def sign(self) -> str:
        """What stands before the words, for those who look and do not read."""
        if not self.reached or not self.checks:
            return ""
        return "✗ " if self.failed else "✓ "


@dataclass(frozen=True, slots=True)
class TimeLine:
    moments: tuple[Moment, ...]
    lifelines: tuple[Lifeline, ...] = ()


def bare(events: Sequence[str], steps: Sequence[Step]) -> TimeLine:
    """Events without lifelines: nobody knows the modules, or there are none."""
    return TimeLine(tuple(_moments(events, steps, [""] * len(events))))


def time_line(
    module_set: ModuleSet, order: Order, capabilities: AbstractSet[str], steps: Sequence[Step]
) -> TimeLine:
    """steps: of the events that were done. Raises UsageError when the order is not of this set."""
    orders.check(order, module_set)
    expected = model.expectations(module_set, order, capabilities)
    events = [orders.format_event(event) for event in order.events]
    moments = tuple(_moments(events, steps, [e.why for e in expected]))
    checks = [steps[i].checks if i < len(steps) else () for i in range(len(events))]
    done = list(zip(order.events, expected, checks, strict=True))
    names = dict.fromkeys(plain.module for event in order.events for plain in _plain(event))
    pairs = sorted({pair for e in expected for pair in e.relocations})
    livepatches = {m.name for m in module_set.modules if m.kind == "livepatch"}
    lifelines = [
        Lifeline(n, tuple(_module(n, n in livepatches, *each) for each in done)) for n in names
    ]
    lifelines += [
        Lifeline(
            f"{livepatch} → {name}",
            tuple(_relocations((livepatch, name), e, made) for _, e, made in done),
        )
        for livepatch, name in pairs
    ]
    return TimeLine(moments, tuple(_until(len(steps), lifeline) for lifeline in lifelines))


def _moments(events: Sequence[str], steps: Sequence[Step], why: Sequence[str]) -> Iterator[Moment]:
    for index, event in enumerate(events):
        if index < len(steps):
            checks = steps[index].checks
            failed = sum(not check.good for check in checks)
            yield Moment(event, why[index], len(checks), failed, steps[index].seconds, True)
        else:
            yield Moment(event, why[index], 0, 0, 0.0, False)


def _until(steps: int, lifeline: Lifeline) -> Lifeline:
    cells = [c if i < steps else Cell(Look.UNREACHED) for i, c in enumerate(lifeline.cells)]
    return replace(lifeline, cells=tuple(cells))


def _plain(event: Event) -> tuple[Plain, ...]:
    return event.events if isinstance(event, Race | Burst) else (event,)


def _module(
    name: str, livepatch: bool, event: Event, expected: Expectation, checks: tuple[Check, ...]
) -> Cell:
    look = Look.NOT_LOADED
    if name in expected.modules:
        look = Look.LOADED
        if livepatch:
            look = Look.ENABLED if name in expected.patches else Look.DISABLED
    cell = Cell(look, _refusal(name, event, expected))
    for check in (check for check in checks if not check.good):
        found = check.detail
        if isinstance(found, Answers) and any(p.module == name for p in _plain(event)):
            cell = Cell(cell.look, f"{check.seen}, not {check.expected}", True)
        elif isinstance(found, Patched) and found.livepatch == name:
            moving = found.seen_state is not None and found.seen_state.transition
            note = str(Look.TRANSITION) if moving else "not so in sysfs"
            cell = Cell(Look.TRANSITION if moving else cell.look, note, True)
        elif isinstance(found, Modules):
            there = name in found.seen_modules
            if there != (name in expected.modules):
                on = Look.LOADED if there else Look.NOT_LOADED
                cell = Cell(on, cell.note if cell.wrong else f"{on}, not {cell.look}", True)
    return cell


def _refusal(name: str, event: Event, expected: Expectation) -> str:
    """With what the model has this event refused; of a burst, the last time round."""
    events = _plain(event)
    answers = expected.answers[-len(events) :]
    for plain, answer in zip(events, answers, strict=True):
        if plain.module == name and answer:
            return f"refused, {errnos.describe(answer)}"
    return ""


def _relocations(pair: Pair, expected: Expectation, checks: tuple[Check, ...]) -> Cell:
    good = [
        check.good
        for check in checks
        if isinstance(check.detail, Reading | Unread)
        and (check.detail.livepatch, check.detail.object) == pair
    ]
    state = expected.relocations.get(pair)
    look = Look.NOT_LOADED if state is None else _RELOCATIONS[state]
    if all(good):
        return Cell(look)
    return Cell(look, f"{good.count(False)} of {len(good)} not {look}", True)
