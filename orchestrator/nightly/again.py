# SPDX-License-Identifier: GPL-2.0-only
"""A new failure, tried again from a cold boot: does it fail every time?"""

from __future__ import annotations

import hashlib
import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from orchestrator import catalog
from orchestrator.errors import UsageError
from orchestrator.history.nights import Job, Kind, Past, Row
from orchestrator.host import ours
from orchestrator.report import directory, store
from orchestrator.verdicts import Status

AGAIN = Path("again")
OF_A_KIND = 3  # of the cases of a job that fail alike, so many are tried again
OF_A_JOB = 8  # and so many of all: where more fail at once, chance is not the reason
# What names a case of each. What an exploration finds it has confirmed itself.
NAMED: Mapping[Kind, tuple[str, ...]] = {
    Kind.SUITE: ("--modules", "--order"),
    Kind.KSELFTEST: ("--test",),
    Kind.MALFORMED: ("--only",),
}
_NOT_IN_PATHS = re.compile(r"[^A-Za-z0-9._+=-]+")


def is_new(row: Row, past: Sequence[Past]) -> bool:
    """Whether it failed otherwise, or not at all, when it ran last. `past`: newest first."""
    last = next((each for each in past if each.status is not Status.SKIP), None)
    return last is None or not last.status.wrong or last.symptom != row.symptom


def to_try(
    rows: Sequence[Row], past: Mapping[tuple[str, str], Sequence[Past]], times: int
) -> tuple[Row, ...]:
    """The new failures that have not run 1 + `times` times yet, a few of those that fail alike."""
    seen: Counter[str | tuple[str, str]] = Counter()
    chosen = []
    for row in rows:
        if row.status is not Status.FAIL or not {*_line(row)[:1]} & {*NAMED}:
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


def words(job: Job, row: Row) -> tuple[str, ...]:
    """What runs this case alone, after klp-e2e: the job's kernel, and of the row's own line only
    what names the case. Empty where that line is none that klp-e2e writes for the job."""
    found = _line(row)
    if found[:1] != [str(job.kind)] or job.kind not in NAMED:
        return ()
    chosen = [word for name in NAMED[job.kind] for word in option(found, name)]
    if not chosen or not all(_is_known(each, job) for each in option(chosen, "--modules")[1:]):
        return ()
    where = [word for name in ("--arch", "--kernel") for word in option(job.command, name)]
    series = [word for name in job.series or ("none",) for word in ("--series", name)]
    return (str(job.kind), *where, *series, *chosen)


def _is_known(module_set: str, job: Job) -> bool:
    """Is it one of ours, or one that the job itself is given? Another would be built and loaded."""
    if not catalog.is_place(module_set):
        return module_set in catalog.module_sets()
    given = {Path(word).resolve() for word in job.command if catalog.is_place(word)}
    return Path(module_set).resolve() in given


def _line(row: Row) -> list[str]:
    """The words of the row's line after klp-e2e; none where it is no such line."""
    try:
        program, *found = shlex.split(row.reproduce) or [""]
    except ValueError:
        return []
    return found if program == "klp-e2e" else []


def option(line: Sequence[str], name: str) -> Sequence[str]:
    """The option with its value; nothing where it is not there."""
    if name not in line[:-1]:
        return ()
    place = line.index(name)
    return line[place : place + 2]


def tries(
    night: Path, job: Job, row: Row, times: int, carry_out: Callable[[Sequence[str], Path], bool]
) -> Iterator[Row]:
    """The row after each further try; FLAKY once it has passed in one of them.

    `carry_out` runs klp-e2e with these words, its output in this file; False when it was ended. A
    try that the harness spoils says nothing, and counts for nothing. Raises NotOurs where its
    directory is not the night's own.
    """
    line = words(job, row)
    cold = ["--cold"] * (line[:1] == ("run",))
    for number in range(row.runs, times + 1) if line else ():
        place = night / AGAIN / job.name / directory_name(row.case) / str(number)
        with store.told(place):
            ours.remove(ours.below(place, night), within=night)  # a killed night's
        command = [*line, *cold, "-o", str(place)]
        if not carry_out(command, place.with_name(f"{number}.log")):
            return
        row = after(row, place)
        yield row


def directory_name(case: str) -> str:
    """A case as a directory's name, no two the same."""
    name = _NOT_IN_PATHS.sub("-", case).strip("-.")[:80] or "x"
    return name if name == case else f"{name}-{hashlib.sha256(case.encode()).hexdigest()[:8]}"


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
