# SPDX-License-Identifier: GPL-2.0-only
"""Suites of cases: orchestrator/suites/NAME.toml, or a file of somebody's own -> cases.

`SuiteFile` is the file's content, for `catalog.load_toml`. An order is either written out
([[case]]) or made: [[interleave]] gives every order in which its sequences can run into one
another.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from orchestrator.errors import UsageError
from orchestrator.model import orders
from orchestrator.model.movers import movers, needed
from orchestrator.nouns import (
    Burst,
    Case,
    Event,
    Load,
    ModuleSet,
    ModuleSpec,
    Order,
    Race,
    SetEnabled,
    SetParameter,
    Unload,
)

# A case's name becomes a directory's name, and stands in globs of known-issues.toml.
_NAME = re.compile(r"[a-z0-9][A-Za-z0-9+=.-]{0,199}")
_ORDERS = 10_000  # that one [[interleave]] may make


@dataclass(frozen=True, slots=True)
class CaseEntry:
    """[[case]]: one order."""

    name: str
    modules: str  # module set
    order: str
    why: str  # what this order is there to catch


@dataclass(frozen=True, slots=True)
class Interleave:
    """[[interleave]]: all interleavings of `sequences`, each followed by `then`.

    A case is named `name` and its interleaved events in short: `any-order` with letters
    {klp_both = "L", klp_target_a = "A"} gives any-order+L+A-A.
    """

    name: str
    modules: str
    sequences: tuple[str, ...]
    letters: Mapping[str, str]  # module -> its short name
    why: str
    then: str = ""  # events at the end of each order


@dataclass(frozen=True, slots=True)
class SuiteFile:
    description: str
    case: tuple[CaseEntry, ...] = ()
    interleave: tuple[Interleave, ...] = ()


def placed(suite: SuiteFile, where: Callable[[str], str]) -> SuiteFile:
    """The suite with its module sets as `where` calls them."""
    return replace(
        suite,
        case=tuple(replace(each, modules=where(each.modules)) for each in suite.case),
        interleave=tuple(replace(each, modules=where(each.modules)) for each in suite.interleave),
    )


def module_sets(suite: SuiteFile) -> tuple[str, ...]:
    """Those that it speaks of, each once."""
    names = [each.modules for each in suite.case] + [each.modules for each in suite.interleave]
    return tuple(dict.fromkeys(names))


def expand(suite: SuiteFile, sets: Mapping[str, ModuleSet]) -> tuple[Case, ...]:
    """The cases of a suite: those written out first, then the made ones.

    Raises UsageError, naming the entry, for a module set that does not exist, for an order that
    makes no sense with it, for a name that is no file name, and for a name or an order that is
    there twice.
    """
    cases = [case for entry in suite.case for case in _written(entry, sets)]
    cases += [case for entry in suite.interleave for case in _made(entry, sets)]
    by_order: dict[tuple[str, Order], str] = {}
    names = set()
    for case in cases:
        if _NAME.fullmatch(case.name) is None:
            raise UsageError(
                f"'{case.name}' is no name for a case",
                hint="letters, digits and +=.- make one, a small letter or digit first",
            )
        if case.name in names:
            raise UsageError(f"two cases are named '{case.name}'", hint="rename one")
        same = by_order.setdefault((case.module_set, case.order), case.name)
        if same != case.name:
            raise UsageError(
                f"'{same}' and '{case.name}' are the same order", hint="drop one of them"
            )
        names.add(case.name)
    return tuple(cases)


def usual(name: str, module_set: ModuleSet) -> tuple[Case, ...]:
    """Orders for a module set that no suite speaks of; `name` is what cases call it.

    For each livepatch and each module of the set that it patches, every order in which the one is
    loaded, disabled and unloaded, and the other loaded, unloaded and loaded again, with what takes
    the memory that it left before that (see `movers`). For a livepatch with none of them, its life,
    once and twice. For every two livepatches of one object that stand next to one another, orders
    that have both loaded. What they depend on comes first. `explore` goes on from there.
    """
    livepatches = [spec for spec in module_set.modules if spec.kind == "livepatch"]
    found: list[Order] = []
    for spec in livepatches:
        life = (Load(spec.name), SetEnabled(spec.name, False), Unload(spec.name))
        targets = [target for target in spec.patches if module_set.module(target) is not None]
        for target in targets:
            found += _together(module_set, (spec,), target, life)
        if not targets:
            found += [_after_needed(module_set, [spec.name], life * times) for times in (1, 2)]
    for one, other in _neighbours(livepatches):
        found += _stacked(module_set, one, other)
        found += _stacked(module_set, other, one)
    return tuple(Case(f"order-{n}", name, order) for n, order in enumerate(dict.fromkeys(found), 1))


def _neighbours(livepatches: Sequence[ModuleSpec]) -> Iterator[tuple[ModuleSpec, ModuleSpec]]:
    """Every two that follow one another among those of some object."""
    objects = dict.fromkeys(name for spec in livepatches for name in spec.patches)
    found = (
        pair
        for name in objects
        for pair in itertools.pairwise(spec for spec in livepatches if name in spec.patches)
    )
    yield from {(one.name, other.name): (one, other) for one, other in found}.values()


def _stacked(module_set: ModuleSet, one: ModuleSpec, other: ModuleSpec) -> Iterator[Order]:
    """Orders in which `other` comes on top of `one`, and a target of both comes and goes."""
    if other.name in needed(module_set, [one.name]):
        return
    off = () if other.replace else (SetEnabled(one.name, False),)
    last = (SetEnabled(other.name, False), Unload(other.name), *off, Unload(one.name))
    life = (Load(one.name), Load(other.name))
    both = [name for name in one.patches if name in other.patches]
    targets = [name for name in both if module_set.module(name) is not None]
    for target in targets:
        yield from _together(module_set, (one, other), target, life, last)
    if not targets:
        yield _after_needed(module_set, [one.name, other.name], (*life, *last))


def _together(
    module_set: ModuleSet,
    livepatches: Sequence[ModuleSpec],
    target: str,
    life: Sequence[Event],
    last: Sequence[Event] = (),
) -> Iterator[Order]:
    """Every order in which `life` and the life of a target run into one another, then `last`."""
    free = [movers(module_set, target, spec.name) for spec in livepatches]
    between = [Load(name) for name in free[0] if all(name in others for others in free)]
    again: tuple[Event, ...] = (Load(target), Unload(target), *between, Load(target))
    for order in orders.interleavings((life, again)):
        names = [*(spec.name for spec in livepatches), target]
        yield _after_needed(module_set, names, (*order.events, *last))


def _after_needed(module_set: ModuleSet, names: Iterable[str], events: Iterable[Event]) -> Order:
    return Order((*map(Load, needed(module_set, names)), *events))


def _written(entry: CaseEntry, sets: Mapping[str, ModuleSet]) -> Iterator[Case]:
    order = _parse(entry.order, _set(entry.name, entry.modules, sets), entry.name)
    yield Case(entry.name, entry.modules, order, entry.why)


def _made(entry: Interleave, sets: Mapping[str, ModuleSet]) -> Iterator[Case]:
    module_set = _set(entry.name, entry.modules, sets)
    sequences = [_parse(text, module_set, entry.name).events for text in entry.sequences]
    then = _parse(entry.then, module_set, entry.name).events if entry.then else ()
    if (count := _count(sequences)) > _ORDERS:
        raise UsageError(
            f"'{entry.name}' makes {count:.1e} orders, more than {_ORDERS}",
            hint="shorten its sequences, or put what they have in common into `then`",
        )
    for order in orders.interleavings(sequences):
        name = entry.name + "".join(_short(event, entry) for event in order.events)
        yield Case(name, entry.modules, Order((*order.events, *then)), entry.why)


def _count(sequences: Iterable[Sequence[Event]]) -> float:
    """How many orders they make; infinite, when it is too many to count."""
    count, events = 1.0, 0
    for sequence in sequences:
        for taken in range(1, len(sequence) + 1):
            events += 1
            count *= events / taken
            if count > 1e12 or events > _ORDERS:
                return math.inf
    return count


def _short(event: Event, entry: Interleave) -> str:
    if isinstance(event, Race | Burst):
        raise UsageError(
            f"'{entry.name}' interleaves '{orders.format_event(event)}', no single event",
            hint="give it a [[case]] of its own, or put it into `then`",
        )
    if event.module not in entry.letters:
        raise UsageError(
            f"'{entry.name}' has no letter for module '{event.module}'",
            hint=f'add `{event.module} = "X"` to its `letters`',
        )
    letter = entry.letters[event.module]
    match event:
        case Load():
            return f"+{letter}"
        case Unload():
            return f"-{letter}"
        case SetEnabled(_, enabled):
            return f"{letter}={int(enabled)}"
        case SetParameter(_, parameter, value):
            return f"{letter}.{parameter}={value}"


def _set(name: str, modules: str, sets: Mapping[str, ModuleSet]) -> ModuleSet:
    if modules not in sets:
        raise UsageError(
            f"'{name}' wants module set '{modules}', which does not exist",
            hint=f"known module sets: {', '.join(sorted(sets)) or 'none'}",
        )
    return sets[modules]


def _parse(text: str, module_set: ModuleSet, name: str) -> Order:
    try:
        return orders.parse(text, module_set)
    except UsageError as err:
        raise UsageError(f"'{name}': {err}", hint=err.hint) from err
