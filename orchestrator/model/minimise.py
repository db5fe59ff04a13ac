# SPDX-License-Identifier: GPL-2.0-only
"""Shrinking an order that fails to one of which nothing can be left out. Pure: who calls says what
an order does.

Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input" (2002): delta debugging,
here over events, then over what single events are made of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from orchestrator.nouns import Burst, Event, Load, Order, Race

Fails = Callable[[Order], bool]  # whether an order still fails in the same way


def minimise(order: Order, fails: Fails) -> Order:
    """The shortest order found that `fails`: without any one of its events it no longer does.

    `order` itself is taken to fail. `fails` is asked once for each order.
    """
    asked: dict[Order, bool] = {order: True}

    def still(candidate: Order) -> bool:
        if candidate not in asked:
            asked[candidate] = bool(candidate.events) and fails(candidate)
        return asked[candidate]

    while True:
        smaller = _fewer(order, still)
        smaller = next((o for o in _simpler(smaller) if still(o)), smaller)
        if smaller == order:
            return order
        order = smaller


def _fewer(order: Order, fails: Fails) -> Order:
    """Leave out ever smaller runs of events, as long as what is left fails."""
    size = max(1, len(order.events) // 2)
    while True:
        for start in range(0, len(order.events), size):
            shorter = Order(order.events[:start] + order.events[start + size :])
            if fails(shorter):
                order = shorter
                break
        else:
            if size == 1:
                return order
            size //= 2


def _simpler(order: Order) -> Iterator[Order]:
    """The order with one of its events made simpler, the simplest first."""
    for index, event in enumerate(order.events):
        for simpler in _parts(event):
            yield Order(order.events[:index] + simpler + order.events[index + 1 :])


def _parts(event: Event) -> Iterator[tuple[Event, ...]]:
    match event:
        case Race(events):
            yield tuple(events)
            yield tuple(reversed(events))
        case Burst(events, times):
            yield tuple(events)
            if times > 1:
                yield (replace(event, times=times // 2),)
                yield (replace(event, times=times - 1),)
        case Load(_, parameters) if parameters:
            yield (replace(event, parameters=()),)
