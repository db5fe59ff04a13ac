# SPDX-License-Identifier: GPL-2.0-only
"""A new failure, tried again from a cold boot: does it fail every time?"""

from __future__ import annotations

import re
import shlex
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from orchestrator.errors import UsageError
from orchestrator.history.nights import Past, Row
from orchestrator.report import directory
from orchestrator.verdicts import Status

AGAIN = Path("again")
OF_A_KIND = 3  # of the cases of a job that fail alike, so many are tried again
OF_A_JOB = 8  # and so many of all: where more fail at once, chance is not the reason
COMMANDS = ("run", "kselftest", "malformed")  # what an exploration finds it has confirmed itself
BAD = (Status.FAIL, Status.FLAKY, Status.FIXED)
_NOT_IN_PATHS = re.compile(r"[^A-Za-z0-9._+=-]+")


def is_new(row: Row, past: Sequence[Past]) -> bool:
    """Whether it failed otherwise, or not at all, when it ran last. `past`: newest first."""
    last = next((each for each in past if each.status is not Status.SKIP), None)
    return last is None or last.status not in BAD or last.symptom != row.symptom


def to_try(
    rows: Sequence[Row], past: Mapping[tuple[str, str], Sequence[Past]], times: int
) -> tuple[Row, ...]:
    """The new failures that have not run 1 + `times` times yet, a few of those that fail alike."""
    seen: Counter[str | tuple[str, str]] = Counter()
    chosen = []
    for row in rows:
        if row.status is not Status.FAIL or _words(row)[:1] not in [[name] for name in COMMANDS]:
            continue
        if not is_new(row, past.get((row.job, row.case), ())):
            continue
        alike = (row.job, row.symptom)
        if seen[alike] < OF_A_KIND:
            seen[row.job] += 1
        seen[alike] += 1
        if seen[alike] <= OF_A_KIND and seen[row.job] <= OF_A_JOB and row.runs <= times:
            chosen.append(row)
    return tuple(chosen)


def _words(row: Row) -> list[str]:
    return shlex.split(row.reproduce)[1:]


def tries(
    night: Path, row: Row, times: int, carry_out: Callable[[Sequence[str], Path], bool]
) -> Iterator[Row]:
    """The row after each further try; FLAKY once it has passed in one of them.

    `carry_out` runs klp-e2e with these words, its output in this file; False when it was ended. A
    try that the harness spoils says nothing, and counts for nothing.
    """
    words = _words(row)
    cold = ["--cold"] * (words[0] == "run" and "--cold" not in words)
    for number in range(row.runs, times + 1):
        name = _NOT_IN_PATHS.sub("-", row.case).strip("-.") or "x"
        place = night / AGAIN / row.job / name / str(number)
        if place.exists():  # a killed night's
            with directory.told(place):
                shutil.rmtree(place)
        command = [*words, *cold, "-o", str(place)]
        if not carry_out(command, place.with_name(f"{number}.log")):
            return
        row = after(row, place)
        yield row


def after(row: Row, place: Path) -> Row:
    """The row with what a further try of it says."""
    try:
        _, results = directory.read(place)
    except UsageError:
        return row
    found = {result.status for result in results}
    failed = max(1, row.failed)
    if Status.FAIL in found:
        return replace(row, runs=row.runs + 1, failed=failed + 1)
    if found & {Status.PASS, Status.KNOWN}:
        return replace(row, runs=row.runs + 1, failed=failed, status=Status.FLAKY)
    return row
