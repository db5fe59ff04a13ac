# SPDX-License-Identifier: GPL-2.0-only
"""The search for the patch that changes what an order does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from orchestrator.commands.bisect.halving import Between, Seen, search
from orchestrator.commands.bisect.work import said
from orchestrator.errors import BuildError, HarnessError, UsageError
from orchestrator.model.orders import parse
from orchestrator.nouns import Case
from orchestrator.verdicts import CaseResult, Status, Step


def row(text: str, looked: list[int] | None = None) -> tuple[int, Callable[[int], Seen]]:
    """ "..xx" passes twice, then fails; "?" cannot be told; "b" fails while booting."""
    fails = {".": False, "x": True, "?": None, "b": True}

    def look(number: int) -> Seen:
        if looked is not None:
            looked.append(number)
        return Seen(f"@{number}", fails[text[number]], "why", booted=text[number] != "b")

    return len(text), look


@pytest.mark.parametrize(
    ("text", "change"),
    [
        (".x", Between(0, 1)),
        ("x.", Between(0, 1)),
        ("....x", Between(3, 4)),
        (".xxxx", Between(0, 1)),
        ("xxx..", Between(2, 3)),
        ("..?xx", Between(1, 3)),
        (".???x", Between(0, 4)),
        ("..?.x", Between(3, 4)),
        (".?x?x", Between(0, 2)),
        # which does not boot says nothing of the order
        ("..b.x", Between(3, 4)),
        (".bbbx", Between(0, 4)),
        ("xb...", Between(0, 2)),
        # unless that is the failure
        ("..bbb", Between(1, 2)),
        ("..xxb", Between(1, 2)),
        ("bb...", Between(1, 2)),
    ],
)
def test_the_change_is_found(text: str, change: Between) -> None:
    points, look = row(text)
    assert search(points, look) == change


def test_it_halves_the_row() -> None:
    looked: list[int] = []
    points, look = row("." * 60 + "x" * 4, looked)
    assert search(points, look) == Between(59, 60)
    assert len(looked) <= 2 + 6 and len(set(looked)) == len(looked)


@pytest.mark.parametrize("text", ["...", "xxx"])
def test_ends_that_do_not_differ(text: str) -> None:
    points, look = row(text)
    with pytest.raises(UsageError, match="nothing changes between @0 and @2"):
        search(points, look)


@pytest.mark.parametrize("text", ["?.x", ".x?"])
def test_an_end_that_cannot_be_told(text: str) -> None:
    points, look = row(text)
    with pytest.raises(HarnessError, match="cannot be told: why"):
        search(points, look)
    with pytest.raises(BuildError, match="cannot be told: why"):
        search(points, lambda number: replace(look(number), built=False))


STEP = Step("+m", (), 0.1, 0.1, 0)


def ran(status: Status, *steps: Step) -> CaseResult:
    case = Case("one", "basic", parse("+m"))
    return CaseResult(case, "one", status, str(status), steps, reproduce="line")


@pytest.mark.parametrize(
    ("results", "seen"),
    [
        ([ran(Status.PASS, STEP)], Seen("k", False, "", "line")),
        ([ran(Status.PASS, STEP), ran(Status.FAIL, STEP)], Seen("k", True, "FAIL", "line")),
        ([ran(Status.FAIL)], Seen("k", True, "FAIL", "line", booted=False)),
        ([ran(Status.FAIL), ran(Status.KNOWN, STEP)], Seen("k", True, "KNOWN", "line")),
        ([ran(Status.PASS, STEP), ran(Status.ERROR)], Seen("k", None, "ERROR")),
    ],
)
def test_what_a_kernel_says(results: list[CaseResult], seen: Seen) -> None:
    assert said("k", results) == seen
