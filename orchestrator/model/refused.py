# SPDX-License-Identifier: GPL-2.0-only
"""What an event leaves behind when the kernel refuses loads that it should not refuse. Pure.

The event's answers are gone through one by one: each has to be what the model says of the state by
then, or that refusal of a load. What must hold at the end follows from that, and nothing else does.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from orchestrator.model import model, races
from orchestrator.model.semantics import happen
from orchestrator.model.state import Pair, Progress, State, World
from orchestrator.nouns import Burst, Event, Load, ModuleSet, Plain, Race
from orchestrator.verdicts import Expectation, RelocationState


@dataclass(frozen=True, slots=True)
class Refusals:
    """modules: whose loads were refused. expectation: what must hold afterwards; of relocations
    for those modules nothing is known."""

    modules: frozenset[str]
    expectation: Expectation


def as_it_went(
    module_set: ModuleSet,
    capabilities: AbstractSet[str],
    events: Iterable[Event],
    answers: Iterable[Sequence[int]],
    errno: int,
) -> tuple[Event, ...]:
    """The events, each race as a row of them that gives the answers that there were: refusals of
    loads with that errno are its answers, too. A race of which no row does stays as it is written.
    """
    world, state = World(module_set, capabilities), State()
    found: list[Event] = []
    for event, told in itertools.zip_longest(events, answers, fillvalue=None):
        if event is None:
            break
        if isinstance(event, Race) and told is not None:
            event = Burst(_row(world, state, event.events, told, errno), 1)
        found.append(event)
        state, _ = model.outcomes(module_set, state, event, capabilities)[0]
    return tuple(found)


def _row(
    world: World, state: State, events: tuple[Plain, ...], answers: Sequence[int], errno: int
) -> tuple[Plain, ...]:
    """All of them; or else those that succeeded and those that were refused so, or those that
    succeeded: what ran into another (EBUSY, EWOULDBLOCK) changed nothing."""
    pairs = list(zip(events, answers, strict=True))
    known = [pair for pair in pairs if pair[1] in (0, errno)]
    for some in (pairs, known, [pair for pair in pairs if not pair[1]]):
        for row in itertools.permutations(some):
            if _fits(world, state, row, errno):
                return tuple(event for event, _ in row)
    return events


def _fits(world: World, state: State, row: Iterable[tuple[Plain, int]], errno: int) -> bool:
    for event, answer in row:
        outcome = happen(world, state, event)
        if outcome.errno == answer:
            state = outcome.state
        elif outcome.errno or not isinstance(event, Load) or answer != errno:
            return False
    return True


def before(module_set: ModuleSet, events: Iterable[Event], capabilities: AbstractSet[str]) -> State:
    """The state after these events; after a race, that of its events in the sequence written."""
    state = State()
    for event in events:
        state, _ = model.outcomes(module_set, state, event, capabilities)[0]
    return state


def after(
    module_set: ModuleSet,
    capabilities: AbstractSet[str],
    state: State,
    event: Event,
    answers: Sequence[int],
    errno: int,
    pairs: AbstractSet[Pair] = frozenset(),
) -> tuple[Refusals, ...]:
    """Every way in which the event may have ended with these answers; none where an answer is
    neither the model's nor that errno of a load, and where no load was refused so.

    pairs: whose klp relocations it has to be for which a load is refused; none: it may be any load.
    """
    world = World(module_set, capabilities)
    match event:
        case Race(events):
            return tuple(_raced(world, state, events, tuple(answers), errno, pairs))
        case Burst(events, times):
            answered = list(zip(events * times, answers, strict=True))
        case _:
            answered = [(event, answers[0])]
    found = _gone_through(world, state, answered, errno, pairs)
    return () if found is None else (found,)


def _raced(
    world: World,
    state: State,
    events: tuple[Plain, ...],
    answers: tuple[int, ...],
    errno: int,
    pairs: AbstractSet[Pair],
) -> Iterator[Refusals]:
    """What a refused load holds meanwhile, and what runs into it, is the race's own business."""
    objects = {name for _, name in pairs}
    loads = [
        index
        for index, (event, answer) in enumerate(zip(events, answers, strict=True))
        if isinstance(event, Load) and answer == errno and (not pairs or event.module in objects)
    ]
    for count in range(1, len(loads) + 1):
        for some in itertools.combinations(loads, count):
            modules = frozenset(events[index].module for index in some)
            for end in races.ends(world, state, events, dict.fromkeys(some, errno)):
                if end.answers == answers:
                    yield Refusals(modules, model.expectation(world, end))


def _gone_through(
    world: World,
    state: State,
    answered: Iterable[tuple[Plain, int]],
    errno: int,
    pairs: AbstractSet[Pair],
) -> Refusals | None:
    refused: set[str] = set()
    for event, answer in answered:
        outcome = happen(world, state, event)
        if outcome.errno == answer:
            state = outcome.state
        elif isinstance(event, Load) and answer == errno and _over_others(state, event, pairs):
            refused.add(event.module)
        else:
            return None
    return (
        Refusals(frozenset(refused), model.expectation(world, Progress(state))) if refused else None
    )


def _over_others(state: State, event: Load, pairs: AbstractSet[Pair]) -> bool:
    """Does this load write klp relocations of `pairs` over what an earlier one left?"""
    now = state.relocation_states()
    return not pairs or any(
        livepatch in state.stack
        and name == event.module
        and now.get((livepatch, name)) is RelocationState.STALE
        for livepatch, name in pairs
    )
