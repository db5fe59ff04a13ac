# SPDX-License-Identifier: GPL-2.0-only
"""The reference model of livepatch: what must hold after each event, in pure Python.

What one event does is in `semantics`. Here it becomes an expectation, and events become bursts and
races: a race may end in more than one way.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet

from orchestrator.errors import UsageError
from orchestrator.model import races
from orchestrator.model.semantics import happen
from orchestrator.model.state import Pair, Progress, State, World, sysfs_name
from orchestrator.nouns import VMLINUX, Burst, Event, ModuleSet, Order, Plain, Probe, Race
from orchestrator.verdicts import Expectation, PatchState, RelocationState

__all__ = ["Pair", "State", "expectations", "outcomes", "step"]

Result = tuple[State, Expectation]


def step(
    module_set: ModuleSet, state: State, event: Plain, capabilities: AbstractSet[str]
) -> Result:
    """One event by itself: the state it leads to, and what must hold then.

    Raises UsageError when the event names a module that the set lacks (see `orders.check`).
    """
    (result,) = outcomes(module_set, state, event, capabilities)
    return result


def outcomes(
    module_set: ModuleSet, state: State, event: Event, capabilities: AbstractSet[str]
) -> tuple[Result, ...]:
    """Every way in which an event may end: one, but for a race.

    Raises UsageError as `step` does.
    """
    world = World(module_set, capabilities)
    match event:
        case Race(events):
            pasts = races.ends(world, state, events)
        case Burst(events, times):
            pasts = (_burst(world, state, events, times),)
        case _:
            pasts = (_one_by_one(world, state, (event,)),)
    return tuple((past.state, expectation(world, past)) for past in pasts)


def expectations(
    module_set: ModuleSet, order: Order, capabilities: AbstractSet[str]
) -> tuple[Expectation, ...]:
    """What must hold after each event of an order that begins on a fresh guest; of a race, the
    first of its outcomes, in which its events come one after another as they are written."""
    state = State()
    result = []
    for event in order.events:
        state, expectation = outcomes(module_set, state, event, capabilities)[0]
        result.append(expectation)
    return tuple(result)


def _one_by_one(world: World, state: State, events: Iterable[Plain]) -> Progress:
    past = Progress(state)
    for event in events:
        past = past.and_then(happen(world, past.state, event))
    return past


def _burst(world: World, state: State, events: tuple[Plain, ...], times: int) -> Progress:
    """States come back soon, and then so does everything else: thousands of events cost little."""
    once = functools.cache(lambda now: _one_by_one(world, now, events))
    answers: list[int] = []
    written: frozenset[Pair] = frozenset()
    for _ in range(times):
        past = once(state)
        state = past.state
        answers += past.answers
        written |= past.written
    return Progress(state, tuple(answers), written, f"{times} times, at last: {past.why}")


def expectation(world: World, past: Progress) -> Expectation:
    state = past.state
    relocations = state.relocation_states()
    for pair in past.written:
        if relocations.get(pair) is RelocationState.STALE:
            relocations[pair] = RelocationState.INDETERMINATE
    patches = {
        name: PatchState(
            enabled=True,
            transition=False,
            objects={o: o == VMLINUX or o in state.loaded for o in world.spec(name).patches},
            functions={
                o: tuple(sorted(map(sysfs_name, functions)))
                for o, functions in world.spec(name).patches.items()
            },
        )
        for name in state.stack
    }
    return Expectation(
        answers=past.answers,
        modules=state.loaded,
        patches=patches,
        probes=dict(
            shown for probe in world.module_set.probes for shown in _shown(world, state, probe)
        ),
        relocations=dict(sorted(relocations.items())),
        why=past.why,
        warnings=tuple(sorted(_warnings(world, state))),
    )


def _warnings(world: World, state: State) -> Iterator[str]:
    """What the kernel warns of when each probe is asked once."""
    for probe in world.module_set.probes:
        asked = dict(_shown(world, state, probe)).get(probe.name) is not None
        over = world.on_top(state.stack, probe) if probe.warns and asked else ""
        if over in probe.warns:
            yield probe.warns[over]


def _shown(world: World, state: State, probe: Probe) -> Iterator[tuple[str, str | None]]:
    """A probe's name and text, None while its object is not loaded; nothing where nobody can tell
    which callbacks were called, or what a patched function would do."""
    if probe.object != VMLINUX and probe.object not in state.loaded:
        yield probe.name, None
    elif probe.at == "now" and _unsafe(world, state, probe):
        return
    elif probe.at != "callbacks":
        yield probe.name, _version(world, state, probe)
    elif (calls := dict(state.calls).get((probe.object, probe.function), ())) is not None:
        yield probe.name, " ".join(probe.patched[call] for call in calls) or probe.original


def _unsafe(world: World, state: State, probe: Probe) -> bool:
    """Would the patched function run into a module that is gone?"""
    over = world.on_top(state.stack, probe)
    return bool(over) and world.dangles(state, over, probe.object)


def _version(world: World, state: State, probe: Probe) -> str:
    """What a probe shows that calls a patched function."""
    if probe.at == "init":
        livepatch = dict(state.at_init)[probe.name]
    else:
        livepatch = world.on_top(state.stack, probe)
    if not livepatch:
        return probe.original
    if livepatch in probe.patched:
        return probe.patched[livepatch]
    raise UsageError(
        f"module set '{world.module_set.name}': probe '{probe.name}' does not say what it shows "
        f"under {livepatch}",
        hint=f'add `{livepatch} = "..."` to that probe\'s table `patched` in set.toml',
    )
