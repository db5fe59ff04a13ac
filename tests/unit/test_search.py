# SPDX-License-Identifier: GPL-2.0-only
"""The plan of an exploration: everything is in it once, and its parts add up."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from orchestrator import catalog
from orchestrator.model import model, orders, search
from orchestrator.model.search import Branch, Choice, WorkItem
from orchestrator.nouns import Event, Load, Order, Race, Unload

BASIC = catalog.module_set("basic")
CALLBACKS = catalog.module_set("callbacks")
ABLE = frozenset({"clears-on-unload", "clears-on-refusal"})
RELOAD_MOVED = "+klp_patch +klp_target -klp_target +filler +klp_target"


def walked(before: tuple[Event, ...], branch: Branch) -> Iterator[tuple[Event, ...]]:
    """Every order that a branch verifies."""
    for child in branch.children:
        yield (*before, child.event)
        yield from walked((*before, child.event), child)
    for event in branch.settled:
        yield (*before, event)


def brute(depth: int) -> set[tuple[Event, ...]]:
    """Every order of so many events in which each but the last has an effect."""
    found: set[tuple[Event, ...]] = set()
    states: dict[tuple[Event, ...], model.State] = {(): model.State()}
    for _ in range(depth):
        following = {}
        for before, state in states.items():
            for event in search.alphabet(BASIC):
                after, _ = model.step(BASIC, state, event, ABLE)
                found.add((*before, event))
                if after != state:
                    following[(*before, event)] = after
        states = following
    return found


def test_without_merging_every_order_is_walked() -> None:
    plan = search.exhaustive(BASIC, ABLE, 4, merge=False)
    orders_of_plan = list(walked((), plan.root))
    assert len(orders_of_plan) == len(set(orders_of_plan)) == plan.edges
    # in the deepest states nothing is tried any more
    assert set(orders_of_plan) <= brute(5)
    assert brute(4) <= set(orders_of_plan)


def test_of_several_copies_the_first_that_is_not_there_is_loaded() -> None:
    far = catalog.module_set("far")
    copies = [spec.name for spec in far.modules if spec.copy_of]
    walks = list(walked((), search.exhaustive(far, ABLE, 4).root))
    walks += [o.events for o in itertools.islice(search.random_orders(far, ABLE, 12, 1), 200)]
    seen = set()
    for events in walks:
        there: set[str] = set()
        for event in events:
            if isinstance(event, Load) and event.module in copies:
                first = next((name for name in copies if name not in there), None)
                assert event.module == first or event.module in there
                there.add(event.module)
                seen.add(event.module)
            elif isinstance(event, Unload):
                there.discard(event.module)
    assert len(copies) == 6 and seen > set(copies[:3])


def test_merging_keeps_apart_what_a_kernel_may_keep_apart() -> None:
    plan = search.exhaustive(BASIC, ABLE, 6)
    chosen = {orders.format(Order(events)) for events in walked((), plan.root)}
    assert RELOAD_MOVED in chosen
    assert "+klp_patch +klp_target -klp_target +klp_target" in chosen
    again = search.exhaustive(BASIC, ABLE, 6)
    assert plan == again
    assert plan.edges < search.exhaustive(BASIC, ABLE, 6, merge=False).edges / 3


def test_every_model_state_within_reach_is_in_the_plan() -> None:
    plan = search.exhaustive(CALLBACKS, ABLE, 5)
    merged, every = (
        {
            model.expectations(CALLBACKS, Order(events), ABLE)[-1].modules
            for events in walked((), tree.root)
        }
        for tree in (plan, search.exhaustive(CALLBACKS, ABLE, 5, merge=False))
    )
    assert merged == every


def test_races_and_bursts_are_leaves() -> None:
    plan = search.exhaustive(BASIC, ABLE, 3, Choice(races=True, burst=50))
    texts = {orders.format(Order(events)) for events in walked((), plan.root)}
    assert "{+klp_target +klp_patch}" in texts
    assert "+klp_target (-klp_target +klp_target)*50" in texts
    assert not any("} " in text or ")*50 " in text for text in texts)
    assert not any("klp_patch=0 klp_patch" in text for text in texts if "{" in text)


# --- parts -------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [1, 7, 100, 10_000])
def test_errands_are_the_plan_each_order_once(most: int) -> None:
    plan = search.exhaustive(CALLBACKS, ABLE, 5)
    items = search.items(plan.root, most)
    parts = [order for e in items for order in walked(e.before, e.branch)]
    assert sorted(parts, key=repr) == sorted(walked((), plan.root), key=repr)
    assert sum(e.edges for e in items) == plan.edges
    reached: set[tuple[Event, ...]] = {()}
    for item in items:  # nobody is sent to a state that no errand before has verified
        assert item.before in reached
        reached.update(walked(item.before, item.branch))
    if most == 7:
        assert max(e.edges for e in items) < 60


def test_what_was_verified_is_left_out_and_what_is_behind_a_failure_too() -> None:
    plan = search.exhaustive(BASIC, ABLE, 4)
    everything = set(walked((), plan.root))
    whole = WorkItem((), plan.root)
    assert search.undone(whole, everything, set()) is None
    half = set(itertools.islice(walked((), plan.root), plan.edges // 2))
    left = search.undone(whole, half, set())
    assert left is not None
    rest = set(walked((), left.branch))
    assert everything - half <= rest
    assert all(any(o[: len(order)] == order for o in everything - half) for order in rest & half)
    dead = (Load("klp_patch"), Load("klp_target"))
    pruned = search.undone(whole, set(), {dead})
    assert pruned is not None
    assert set(walked((), pruned.branch)) == {o for o in everything if o[:2] != dead}
    assert search.undone(WorkItem((*dead, Load("filler")), plan.root), set(), {dead}) is None


# --- sampled -----------------------------------------------------------------------------------


def test_a_seed_gives_the_same_walks_again() -> None:
    choice = Choice(races=True, burst=3)
    first, again, other = (
        list(itertools.islice(search.random_orders(CALLBACKS, ABLE, 12, seed, choice), 50))
        for seed in (7, 7, 8)
    )
    assert first == again != other
    assert all(len(order.events) == 12 for order in first)
    assert any(isinstance(event, Race) for order in first for event in order.events)
    for order in first:
        orders.check(order, CALLBACKS)


def test_pairs_are_few_orders_that_cover_both_sequences() -> None:
    chosen = search.pairs(BASIC, ABLE, 10, seed=1)
    assert 3 < len(chosen) < 40
    covered = {pair for order in chosen for pair in itertools.combinations(order.events, 2)}
    for first, second in itertools.permutations(search.alphabet(BASIC), 2):
        assert (first, second) in covered


def test_an_order_of_its_own_is_an_errand() -> None:
    order = orders.parse(RELOAD_MOVED, BASIC)
    item = search.chain(order)
    assert list(walked((), item.branch))[-1] == order.events
    assert item.edges == len(order.events)
