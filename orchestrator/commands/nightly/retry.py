# SPDX-License-Identifier: GPL-2.0-only
"""A new failure, tried again from a cold boot: does it fail every time?"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from orchestrator import catalog
from orchestrator.commands.nightly import plan
from orchestrator.errors import UsageError
from orchestrator.history.nights import OF_CASES, Job, PastResult, Row
from orchestrator.host import ours
from orchestrator.nouns import CaseKind
from orchestrator.report import directory, reproduce, store
from orchestrator.verdicts import Status

RETRIES = Path("again")
OF_A_KIND = 3  # of the cases of a job that fail alike, so many are tried again
OF_A_JOB = 8  # and so many of all: where more fail at once, chance is not the reason
_NOT_IN_PATHS = re.compile(r"[^A-Za-z0-9._+=-]+")


def is_new(row: Row, past: Sequence[PastResult]) -> bool:
    """Whether it failed otherwise, or not at all, when it ran last. `past`: newest first."""
    last = next((each for each in past if each.status is not Status.SKIP), None)
    return last is None or not last.status.wrong or last.symptom != row.symptom


def to_try(
    rows: Sequence[Row], past: Mapping[tuple[str, str], Sequence[PastResult]], times: int
) -> tuple[Row, ...]:
    """The new failures that have not run 1 + `times` times yet, a few of those that fail alike."""
    seen: Counter[str | tuple[str, str]] = Counter()
    chosen = []
    for row in rows:
        if row.status is not Status.FAIL or row.kind is None:
            continue  # what an exploration finds it has confirmed itself
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
    """What runs this case alone, after klp-e2e: the job's kernel, and of the row only what names
    the case. Empty where it is no case of such a job."""
    if row.kind is None or OF_CASES[row.kind] is not job.kind:
        return ()
    if row.kind is CaseKind.ORDER and not _is_known(row.module_set, job):
        return ()
    command, *chosen = reproduce.case_words(row.kind, row.module_set, row.name, row.order)
    stack = plan.stack_words(job.series, job.configs, job.toolchain)
    where = ("--arch", job.arch_spec, "--kernel", job.source, *stack)
    return (command, *where, *chosen, *plan.known_words(job))


def _is_known(module_set: str, job: Job) -> bool:
    """Is it one of ours, or one that the job itself is given? Another would be built and loaded."""
    if not catalog.is_place(module_set):
        return module_set in catalog.module_sets()
    given = {Path(place).resolve() for place in job.module_sets if catalog.is_place(place)}
    return Path(module_set).resolve() in given


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
        place = night / RETRIES / job.name / directory_name(row.case) / str(number)
        with store.write_errors(place):
            ours.below(place, night)
            if not ours.removed(place, night, directory.strangers):  # a killed night's
                ours.retire(place, night, "interrupted")
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
