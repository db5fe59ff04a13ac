# SPDX-License-Identifier: GPL-2.0-only
"""Where in a row of kernels an order begins to pass, or to fail. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from orchestrator.errors import BuildError, HarnessError, UsageError


@dataclass(frozen=True, slots=True)
class Seen:
    """What one kernel of the row said."""

    name: str  # of the point
    fails: bool | None  # None: it did not build, or the harness had trouble
    symptom: str = ""  # of a failure; the reason where there is no verdict
    reproduce: str = ""
    booted: bool = True  # else it failed before the order began
    built: bool = True  # else there is no kernel of it

    @property
    def word(self) -> str:
        """`passes`, `fails: ...`, `cannot be told: ...`"""
        if self.fails is None:
            return f"cannot be told: {self.symptom}"
        return f"fails: {self.symptom}" if self.fails else "passes"


@dataclass(frozen=True, slots=True)
class Between:
    """Between two points; more than one step apart where those between could not be told."""

    before: int
    after: int


def search(points: int, look: Callable[[int], Seen]) -> Between:
    """The change in a row of `points` points, the first and the last of which differ.

    Halves the row as git bisect does: that there is one change is taken for granted. A point that
    cannot be told, as `compared` has it, is passed over for its nearest neighbour. Raises
    as `differ` does.
    """
    first, last = look(0), look(points - 1)
    differ(first, last)
    low, high = 0, points - 1
    untold: set[int] = set()
    while left := [n for n in range(low + 1, high) if n not in untold]:
        middle = min(left, key=lambda n: abs(2 * n - low - high))
        seen = compared(look(middle), first, last)
        if seen.fails is None:
            untold.add(middle)
        elif seen.fails == first.fails:
            low = middle
        else:
            high = middle
    return Between(low, high)


def compared(seen: Seen, first: Seen, last: Seen) -> Seen:
    """What a point between two ends that differ says of what they differ in. A kernel that does not
    boot says nothing of an order, unless that is how the end fails that does."""
    failing = first if first.fails else last
    if seen.fails and not seen.booted and failing.booted:
        return replace(seen, fails=None)
    return seen


def differ(first: Seen, last: Seen) -> None:
    """Raises UsageError when there is nothing between them to look for, BuildError or HarnessError
    when one of them has no verdict."""
    for end in (first, last):
        if end.fails is None:
            error = HarnessError if end.built else BuildError
            raise error(f"{end.name} {end.word}", hint="bisect needs a verdict at both ends")
    if first.fails == last.fails:
        raise UsageError(
            f"nothing changes between {first.name} and {last.name}: the order {last.word} at both",
            hint="another order, another architecture, or another range?",
        )
