# SPDX-License-Identifier: GPL-2.0-only
"""What is one finding, and what is another."""

from __future__ import annotations

from dataclasses import replace

import pytest
from samples import a_reading, an_answer

from orchestrator.explore.triage import shortest
from orchestrator.model import findings, orders, words
from orchestrator.model.findings import (
    Reproducer,
    Signature,
    added,
    alike,
    counted,
    explained,
    fails_as,
    signature,
)
from orchestrator.nouns import Case
from orchestrator.verdicts import CaseResult, Check, Shown, Status, Step

GOOD, REFUSED = an_answer(), an_answer(seen=8)
STALE = a_reading()
VALUE = words.shown(Shown("target", "42", "0"))
CRASH = words.dead("BUG at 0xffff12 in 00000000deadbeef")


def failed(text: str, *checks: Check) -> CaseResult:
    order = orders.parse(text)
    steps = [Step(orders.format_event(event), (GOOD,), 0, 0, 0) for event in order.events]
    steps[-1] = Step(steps[-1].event, checks, 0, 0, 0)
    return CaseResult(Case("found", "basic", order), "a", Status.FAIL, "", tuple(steps))


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (failed("+p +t", GOOD, REFUSED, VALUE), Signature("+t", "answer", "ENOEXEC (8)")),
        (failed("+p +t[x=1]", STALE), Signature("+t", "relocation", "R_GOT")),
        (failed("+p +t", VALUE), Signature("+t", "value", "target")),
        (failed("+p +t", STALE, CRASH), Signature("+t", "health", "guest: BUG at N in N")),
        (failed("+p (-t +t)*50", VALUE), Signature("(-t +t)*N", "value", "target")),
        (failed("{+p[x=1] +t}", VALUE), Signature("{+p +t}", "value", "target")),
        (failed("+p +t", GOOD), None),
    ],
)
def test_how_a_case_failed(result: CaseResult, expected: Signature | None) -> None:
    assert signature(result) == expected


@pytest.mark.parametrize(
    ("part", "whole", "expected"),
    [
        ("+p +t", "+p +f +t", True),
        ("+p +t", "+t +p", False),
        ("+t +t", "+t -t", False),
        ("+p", "+p[x=1]", False),
    ],
)
def test_parts(part: str, whole: str, expected: bool) -> None:
    assert findings.is_part(orders.parse(part), orders.parse(whole)) is expected


def test_failures_alike_are_one_finding_with_the_shortest_way_first() -> None:
    like = Signature("+t", "answer", "ENOEXEC (8)")
    found = added((), like, Reproducer(failed("+f +p +t -t +t", REFUSED)))
    assert explained(found, like, failed("+f +p p.x=1 +t -t +t", REFUSED)) == (0, 0)
    assert explained(found, like, failed("+p +t -t +t", REFUSED)) is None
    found = added(found, like, Reproducer(failed("+p +t -t +t", REFUSED)))
    assert [orders.format(reproducer.order) for reproducer in found[0].reproducers] == [
        "+p +t -t +t",
        "+f +p +t -t +t",
    ]
    found = added(found, Signature("+t", "value", "target"), Reproducer(failed("+p +t", VALUE)))
    assert len(found) == 2
    at = explained(found, like, failed("+p +t -t +t +f", REFUSED))
    assert at == (0, 0)
    found = counted(found, at)
    assert [reproducer.hits for reproducer in found[0].reproducers] == [2, 1]
    assert found[0].hits == 3
    # a longer order was minimised to one that is there already
    assert (
        added(found, like, Reproducer(failed("+p +t -t +t", REFUSED)))[0].reproducers[0].hits == 3
    )


def test_a_failure_is_not_known_because_one_like_it_is() -> None:
    news = failed("+p +t -t +t", STALE)
    listed = replace(news, status=Status.KNOWN, known_issue="stale")
    like = signature(news)
    assert like is not None
    found = added((), like, Reproducer(listed))
    assert explained(found, like, listed) == (0, 0) and found[0].known
    assert explained(found, like, news) is None
    assert alike(listed, listed) and alike(news, news) and not alike(listed, news)
    assert fails_as(news, news) and fails_as(news, listed) and not fails_as(listed, news)
    assert not fails_as(replace(news, steps=()), news)
    found = added(found, like, Reproducer(news))
    assert len(found) == 1 and not found[0].known
    assert explained(found, like, news) == (0, 1)
    assert [each.hits for each in found[0].reproducers] == [1, 1]


def test_what_should_succeed_does_in_the_shortest_order_too() -> None:
    """Else `p.fail=0` goes, and the target is refused in another way than it should be."""
    whole = failed("+p[fail=19] p.fail=0 +t", REFUSED).case

    def run(case: Case) -> CaseResult:
        text = orders.format(case.order)
        if not text.startswith("+p[fail=19]") or not text.endswith("+t"):
            return CaseResult(case, "a", Status.PASS)
        return failed(text, REFUSED if "=0" in text else an_answer(expected=19, seen=8))

    like = signature(run(whole))
    assert like is not None
    found = shortest(whole, lambda result: signature(result) == like, run)
    assert found is not None and found.case.order == whole.order
