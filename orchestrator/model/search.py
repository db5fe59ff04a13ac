# SPDX-License-Identifier: GPL-2.0-only
"""Which orders an exploration takes: trees of events, planned from the model alone. Pure.

A plan is the same whenever it is made, so that it can be split between guests, counted before the
first of them boots, and taken up again where it was left.

Two states of a guest are taken for one when nothing that the kernel keeps tells them apart: the
model's state, where the loaded modules lie, and for each klp relocation of a loaded livepatch where
its object lay the last two times it was written. Addresses are abstract: a module takes the lowest
place that is free, as module space does for modules of one size. `merge=False` takes no two states
for one and walks every order.
"""

from __future__ import annotations

import errno
import itertools
import random
from collections import deque
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace

from orchestrator.model import model
from orchestrator.model.model import Pair, State
from orchestrator.nouns import (
    VMLINUX,
    Burst,
    Event,
    Load,
    ModuleSet,
    Order,
    Plain,
    Race,
    SetEnabled,
    SetParameter,
    Unload,
)
from orchestrator.verdicts import Expectation

REFUSED = errno.ENODEV  # what a callback or an init that is told to fail returns
WRITINGS = 2  # how many past places of an object are remembered for each livepatch
CALM = 4  # a random walk takes an accepted event so many times as often as a refused one


@dataclass(frozen=True, slots=True)
class Choice:
    """Which events are tried beside single ones."""

    races: bool = False  # pairs of events at the same time
    burst: int = 0  # reloads of every target so many times in a row; 0: none


@dataclass(frozen=True, slots=True)
class Branch:
    """An event, and what is tried after it. `settled`: the events refused without any effect in the
    state it leads to, which are tried one after the other, since none of them changes it."""

    event: Event
    children: tuple[Branch, ...] = ()
    settled: tuple[Event, ...] = ()

    @property
    def edges(self) -> int:
        """How many events are verified in it."""
        return 1 + len(self.settled) + sum(child.edges for child in self.children)


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that begins on a fresh guest."""

    root: Branch  # its event, +nothing, is not carried out
    states: int
    edges: int
    depth: int  # of the deepest event
    complete: bool  # no state was left out for its depth


# --- what can be tried -------------------------------------------------------------------------


def alphabet(module_set: ModuleSet) -> tuple[Plain, ...]:
    """Every single event that makes sense with a module set, whatever the state."""
    events: list[Plain] = []
    for spec in module_set.modules:
        settings = {(failure.parameter, failure.value(REFUSED)) for failure in spec.failures}
        events.append(Load(spec.name))
        events += [Load(spec.name, (parameter,)) for parameter in sorted(settings)]
        events.append(Unload(spec.name))
        if spec.kind == "livepatch":
            events += [SetEnabled(spec.name, False), SetEnabled(spec.name, True)]
        for failure in spec.failures:
            if failure.at != "init":  # an init is asked once, and its parameters come with it
                values = "0", failure.value(REFUSED)
                events += [SetParameter(spec.name, failure.parameter, v) for v in values]
    return tuple(events)


def _offered(module_set: ModuleSet, events: Sequence[Plain], state: State) -> Iterator[Plain]:
    """The events of an alphabet, of several copies of a module only the load of the first one that
    is not there: the others would do the same."""
    first: dict[str, str] = {}
    for spec in module_set.modules:
        if spec.copy_of and spec.name not in state.loaded:
            first.setdefault(spec.copy_of, spec.name)
    later = {s.name for s in module_set.modules if s.copy_of} - {*first.values()} - state.loaded
    yield from (e for e in events if not (isinstance(e, Load) and e.module in later))


def bursts(module_set: ModuleSet, state: State, times: int) -> Iterator[Burst]:
    """Reloads of each loaded module that is no livepatch."""
    if times:
        for spec in module_set.modules:
            if spec.kind != "livepatch" and spec.name in state.loaded:
                yield Burst((Unload(spec.name), Load(spec.name)), times)


def races(accepted: Sequence[Plain]) -> Iterator[Race]:
    """Pairs of events of different modules, each of which could come first."""
    for first, second in itertools.combinations(accepted, 2):
        if first.module != second.module:
            yield Race((first, second))


# --- where modules lie -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class KernelMemory:
    """What the kernel may still know beside the model's state."""

    places: tuple[str, ...] = ()  # module at each place, "" where it is free
    written: frozenset[tuple[Pair, tuple[int, ...]]] = frozenset()
    # of loaded livepatches: the object's places when its relocations were last written


@dataclass(frozen=True, slots=True)
class Node:
    """A guest's state as far as its future goes."""

    state: State = field(default_factory=State)
    past: KernelMemory = field(default_factory=KernelMemory)


def advance(
    module_set: ModuleSet, node: Node, event: Plain, capabilities: AbstractSet[str]
) -> tuple[Node, Expectation]:
    """One event, with the model's expectation for it."""
    state, expected = model.step(module_set, node.state, event, capabilities)
    # What a livepatch notes of its callbacks is for the reader: nothing that follows depends on it.
    state = replace(state, calls=frozenset()) if state.calls else state
    return Node(state, _past(module_set, node, event, state, expected)), expected


def _past(
    module_set: ModuleSet, node: Node, event: Plain, state: State, expected: Expectation
) -> KernelMemory:
    places, written = node.past.places, dict(node.past.written)
    if isinstance(event, Load) and event.module not in node.state.loaded:
        place = places.index("") if "" in places else len(places)
        if state != node.state or any(expected.answers):
            for livepatch in node.state.stack:
                spec = module_set.module(livepatch)
                if spec is not None and event.module in spec.patches:
                    pair = (livepatch, event.module)
                    written[pair] = (*written.get(pair, ()), place)[-WRITINGS:]
        if event.module in state.loaded:
            places = (*places[:place], event.module, *places[place + 1 :])
            spec = module_set.module(event.module)
            for name in spec.klp_symbols if spec is not None else ():
                if name != VMLINUX and name in state.loaded:
                    written[event.module, name] = (places.index(name),)
    gone = node.state.loaded - state.loaded
    if gone:
        places = tuple("" if name in gone else name for name in places)
        while places and not places[-1]:
            places = places[:-1]
        written = {pair: past for pair, past in written.items() if pair[0] not in gone}
    return KernelMemory(places, frozenset(written.items()))


# --- exhaustive --------------------------------------------------------------------------------


@dataclass(slots=True)
class _Growing:
    """A branch while the plan is made."""

    event: Event
    node: Node
    depth: int
    children: list[_Growing] = field(default_factory=list)
    settled: list[Event] = field(default_factory=list)

    def grown(self) -> Branch:
        children = tuple(child.grown() for child in self.children)
        return Branch(self.event, children, tuple(self.settled))


def exhaustive(
    module_set: ModuleSet,
    capabilities: AbstractSet[str],
    depth: int,
    choice: Choice = Choice(),
    *,
    merge: bool = True,
) -> Plan:
    """Every event in every state that `depth` events can reach, each state on a shortest way.

    An event refused without effect belongs to its state and adds nothing to the depth.
    """
    root = _Growing(Load("nothing"), Node(), 0)
    seen = {root.node}
    waiting = deque([root])
    states, deepest, complete = 1, 0, True
    events = alphabet(module_set)
    while waiting:
        at = waiting.popleft()
        if at.depth == depth:
            complete = False
            continue
        accepted = []
        for event in _offered(module_set, events, at.node.state):
            node, expected = advance(module_set, at.node, event, capabilities)
            if node == at.node:
                at.settled.append(event)
                continue
            if not any(expected.answers):
                accepted.append(event)
            child = _Growing(event, node, at.depth + 1)
            at.children.append(child)
            deepest = max(deepest, child.depth)
            if not merge or node not in seen:
                seen.add(node)
                states += 1
                waiting.append(child)
        more: list[Event] = [*bursts(module_set, at.node.state, choice.burst)]
        more += races(accepted) if choice.races else ()
        at.children += [_Growing(event, at.node, at.depth + 1) for event in more]
    whole = root.grown()
    return Plan(whole, states, whole.edges - 1, deepest, complete)


# --- sampled -----------------------------------------------------------------------------------


def random_orders(
    module_set: ModuleSet,
    capabilities: AbstractSet[str],
    depth: int,
    seed: int,
    choice: Choice = Choice(),
) -> Iterator[Order]:
    """Without end: orders of `depth` events. The n-th depends on the seed and on n alone."""
    for number in itertools.count():
        dice = random.Random(f"{seed}/{number}")
        node, events = Node(), []
        for _ in range(depth):
            event, node = _thrown(dice, module_set, node, capabilities, choice)
            events.append(event)
        yield Order(tuple(events))


def _thrown(
    dice: random.Random,
    module_set: ModuleSet,
    node: Node,
    capabilities: AbstractSet[str],
    choice: Choice,
) -> tuple[Event, Node]:
    """One event of a random walk, and where it leads."""
    events = _offered(module_set, alphabet(module_set), node.state)
    ways = [(event, *advance(module_set, node, event, capabilities)) for event in events]
    accepted = [event for event, _, expected in ways if not any(expected.answers)]
    weights = [1 if to == node else CALM for _, to, _ in ways]
    more: list[Event] = [*bursts(module_set, node.state, choice.burst)]
    more += races(accepted) if choice.races else ()
    if more and dice.random() < len(more) / (len(more) + CALM * len(ways)):
        event = dice.choice(more)
        for part in event.events if isinstance(event, Race) else ():
            node, _ = advance(module_set, node, part, capabilities)
        return event, node
    chosen, to, _ = dice.choices(ways, weights)[0]
    return chosen, to


def pairs(
    module_set: ModuleSet, capabilities: AbstractSet[str], depth: int, seed: int
) -> tuple[Order, ...]:
    """Few orders in which every two events that can both have an effect come one after the other,
    in either sequence, with anything between them.

    Greedy: of some random orders the one that covers most of what is left, until none adds any.
    """
    covered: set[tuple[Event, Event]] = set()
    chosen: list[Order] = []
    source = random_orders(module_set, capabilities, depth, seed)
    while True:
        best = max(
            itertools.islice(source, PAIR_CANDIDATES), key=lambda o: len(_pairs_of(o) - covered)
        )
        new = _pairs_of(best) - covered
        if not new:
            return tuple(chosen)
        covered |= new
        chosen.append(best)


PAIR_CANDIDATES = 200


def _pairs_of(order: Order) -> set[tuple[Event, Event]]:
    return set(itertools.combinations(order.events, 2))


# --- parts of a plan ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WorkItem:
    """A part of a plan for one guest: get to a state, then walk everything that follows."""

    before: tuple[Event, ...]  # verified by another work item
    branch: Branch  # its own event is the last of `before`, or nothing on a fresh guest

    @property
    def edges(self) -> int:
        return self.branch.edges - 1


def items(root: Branch, most: int) -> tuple[WorkItem, ...]:
    """A plan in parts of about `most` events, the parts nearest to the root first."""
    out: list[WorkItem] = []

    def cut(before: tuple[Event, ...], branch: Branch) -> Branch:
        """The branch with its large subtrees taken out, as work items of their own."""
        kept = []
        for child in branch.children:
            way = (*before, child.event)
            if child.edges > most:
                later.append((way, child))
                child = replace(child, children=(), settled=())
            kept.append(child)
        return replace(branch, children=tuple(kept))

    later: list[tuple[tuple[Event, ...], Branch]] = [((), root)]
    for before, branch in later:  # grows while it is read
        mine = cut(before, branch)
        if mine.children or mine.settled:
            out.append(WorkItem(before, mine))
    return tuple(out)


def chain(order: Order) -> WorkItem:
    """An order of its own as a work item."""
    branch: Branch | None = None
    for event in reversed(order.events):
        branch = Branch(event, (branch,) if branch is not None else ())
    return WorkItem((), Branch(Load("nothing"), (branch,) if branch is not None else ()))


def undone(
    item: WorkItem, done: AbstractSet[tuple[Event, ...]], dead: AbstractSet[tuple[Event, ...]]
) -> WorkItem | None:
    """What is left of a work item, None for nothing.

    done: verified orders, done again only where something behind them is left. dead: orders that
    failed; nothing is tried behind them.
    """

    def left(before: tuple[Event, ...], branch: Branch) -> Branch | None:
        walked = [(*before, e) in done or (*before, e) in dead for e in branch.settled]
        settled = tuple(e for e, over in zip(branch.settled, walked, strict=True) if not over)
        kept = []
        for child in branch.children:
            way = (*before, child.event)
            rest = None if way in dead else left(way, child)
            if rest is not None:
                kept.append(rest)
            elif way not in done and way not in dead:
                kept.append(replace(child, children=(), settled=()))
        if not kept and not settled:
            return None
        return replace(branch, children=tuple(kept), settled=settled)

    if any(item.before[:n] in dead for n in range(1, len(item.before) + 1)):
        return None
    rest = left(item.before, item.branch)
    return None if rest is None else replace(item, branch=rest)
