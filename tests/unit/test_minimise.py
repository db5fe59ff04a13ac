# SPDX-License-Identifier: GPL-2.0-only
"""Shrinking failing orders."""

from __future__ import annotations

import random

import pytest
from samples import a_result, klp

from orchestrator.commands import minimise as command
from orchestrator.errors import Exit, HarnessError
from orchestrator.model import orders
from orchestrator.model.findings import Reproducer, is_part
from orchestrator.model.minimise import minimise
from orchestrator.nouns import Order
from orchestrator.verdicts import Status


def shrunk(text: str, needed: str) -> str:
    core = orders.parse(needed)
    return orders.format(minimise(orders.parse(text), lambda order: is_part(core, order)))


@pytest.mark.parametrize(
    ("text", "needed"),
    [
        ("+p +t -t +f +t", "+p +t -t +f +t"),
        ("+f -f +p p=0 -p +p +f +t -t -f +f +t t.x=1", "+p +t -t +f +t"),
        ("+a +b +c", "+b"),
        ("+p[x=1] +t", "+p[x=1] +t"),
    ],
)
def test_what_is_not_needed_goes(text: str, needed: str) -> None:
    assert shrunk(text, needed) == needed


def test_nothing_more_can_be_left_out_and_nothing_is_asked_twice() -> None:
    dice = random.Random(1)
    alphabet = orders.parse("+p -p +t -t +f -f p=0").events
    for _ in range(30):
        order = Order(tuple(dice.choices(alphabet, k=25)))
        core = Order(tuple(order.events[i] for i in sorted(dice.sample(range(25), 4))))
        asked: list[Order] = []

        def fails(candidate: Order, core: Order = core, asked: list[Order] = asked) -> bool:
            asked.append(candidate)
            return is_part(core, candidate)

        assert minimise(order, fails) == core
        assert len(asked) == len(set(asked)) < 120


def test_events_become_simpler() -> None:
    def fails(order: Order) -> bool:
        text = orders.format(order)
        return "+t" in text and ("-t" in text or "*" in text)

    text = orders.format(minimise(orders.parse("+p[x=1] {+p +t} (-t +t)*50"), fails))
    assert text == "-t +t"
    # it takes four rounds to fail, and no fewer
    rounds = minimise(
        orders.parse("+t (-t +t)*50"),
        lambda order: any(getattr(event, "times", 0) >= 4 for event in order.events),
    )
    assert orders.format(rounds) in ("(-t +t)*4", "(-t +t)*5")


def test_an_order_that_fails_by_nothing_becomes_one_event() -> None:
    assert len(minimise(orders.parse("+a +b +c +d"), lambda order: True).events) == 1


@pytest.mark.parametrize("status", [Status.FAIL, Status.KNOWN])
def test_a_failure_that_is_seen_again_is_1_known_or_not(
    status: Status, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As replay, the bundle's script and the line that reproduces it have it."""
    again = Reproducer(a_result(status=status), repeated=1, tries=1, bundle="b")
    monkeypatch.setattr(command, "minimise_failure", lambda *_: again)
    assert klp("minimise", "r", "s390x/basic/reload").code == Exit.TEST_FAILURE


def test_a_failure_that_is_not_seen_again_is_4(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object) -> None:
        raise HarnessError("it does not fail in this way any more")

    monkeypatch.setattr(command, "minimise_failure", gone)
    assert klp("minimise", "r", "s390x/basic/reload").code == Exit.HARNESS
