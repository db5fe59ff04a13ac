# SPDX-License-Identifier: GPL-2.0-only
"""A night in a few words: its verdict, its headline, its rows by job, its news by symptom."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from orchestrator.errors import Exit
from orchestrator.history import alike
from orchestrator.history.nights import (
    Change,
    Changed,
    Changes,
    Job,
    JobRecord,
    KernelInput,
    Night,
    Row,
    State,
)
from orchestrator.report.verdict import duration
from orchestrator.verdicts import Status, by_status


class Verdict(StrEnum):
    """A night in one word, worst first; what the kernel does wrong comes before our own trouble."""

    NEW_FAILURES = "new failures"
    FAILING = "failing"
    TROUBLE = "trouble"  # something did not get its verdict
    GOOD = "good"


# What was so last night, too.
OLD = (Change.STILL_FAILING, Change.STILL_TROUBLE)
# What nobody has to look at.
QUIET = (*OLD, Change.FASTER, Change.NEW_CASE)


# --- rows ----------------------------------------------------------------------------------------


def by_job(night: Night) -> tuple[tuple[JobRecord, tuple[Row, ...]], ...]:
    """Every job with its rows; last among them one for the job itself where they do not tell."""
    rows: dict[str, list[Row]] = {record.job.name: [] for record in night.jobs}
    for row in night.rows:
        rows[row.job].append(row)
    return tuple(
        (record, (*rows[record.job.name], *_of_itself(night, record, rows[record.job.name])))
        for record in night.jobs
    )


def undone(night: Night) -> tuple[Row, ...]:
    """Of the jobs themselves, those that did not run, or not to a good end."""
    cases = {(row.job, row.case) for row in night.rows}
    return tuple(
        row
        for row in _every_row(night)
        if (row.job, row.case) not in cases and row.status is not Status.PASS
    )


def _every_row(night: Night) -> tuple[Row, ...]:
    return tuple(row for _, rows in by_job(night) for row in rows)


def _of_itself(night: Night, record: JobRecord, rows: Collection[Row]) -> Iterable[Row]:
    """A job without rows, or one that ended worse than they say, is a row itself."""
    status, reason = _end(night, record)
    told = bool(rows) and not status.bad
    if record.state is State.ENDED and any(row.status.bad for row in rows):
        told = True
    if not told:
        yield Row(
            job=record.job.name,
            case=f"{record.job.what}: the job itself" if rows else record.job.what,
            status=status,
            reason=reason,
            symptom=reason,
            seconds=max(0.0, (record.finished or 0.0) - (record.started or record.finished or 0.0)),
            reproduce=shlex.join(("klp-e2e", *record.job.command)),
            failed=int(status.bad),
        )


def _end(night: Night, record: JobRecord) -> tuple[Status, str]:
    """How a job ended, as its record has it, and why so."""
    why = record.reason or night.trouble
    match record.state:
        case State.SKIPPED:
            return Status.SKIP, record.reason
        case State.WAITING:
            return Status.ERROR, f"did not run: {why}".removesuffix(": ")
        case State.RUNNING:
            return Status.ERROR, f"did not come to its end: {why}".removesuffix(": ")
    if record.exit_code is None:
        return Status.SKIP, record.reason
    if record.exit_code == Exit.GOOD:
        return Status.PASS, ""
    wrong = record.exit_code in (Exit.KERNEL_WRONG, Exit.BUILD)
    reason = record.reason or f"ended with exit code {record.exit_code}"
    return Status.FAIL if wrong else Status.ERROR, reason


def counts(rows: Iterable[Row]) -> Mapping[Status, int]:
    """Status -> number of rows; statuses that do not occur are left out; worst first."""
    return by_status(row.status for row in rows)


def totals(night: Night) -> str:
    """`412 cases: 2 FAIL, 410 PASS; 1 of 9 jobs not done; in 18 min 03 s`"""
    parts = ", ".join(f"{number} {status}" for status, number in counts(night.rows).items())
    told = [f"{amount(len(night.rows), 'case')}: {parts or 'nothing ran'}"]
    if missing := len(undone(night)):
        told.append(f"{missing} of {amount(len(night.jobs), 'job')} not done")
    if night.finished is None:
        told.append("not finished")
    else:
        told.append(f"in {duration(max(0.0, night.finished - night.started))}")
    return "; ".join(told)


# --- the night -----------------------------------------------------------------------------------


def verdict(night: Night, changes: Changes) -> Verdict:
    """The night in one word. One in which nothing ran proved nothing: it is not good."""
    rows = _every_row(night)
    if any(each.change is Change.NEW_FAILURE for each in changes.changed):
        return Verdict.NEW_FAILURES
    if any(row.status.wrong for row in rows):
        return Verdict.FAILING
    nothing_ran = all(row.status is Status.SKIP for row in rows)
    unfinished = bool(night.trouble) or night.finished is None
    if nothing_ran or unfinished or any(row.status is Status.ERROR for row in rows):
        return Verdict.TROUBLE
    return Verdict.GOOD


def headline(night: Night, changes: Changes) -> str:
    """`2 new failures, 1 fixed`; of a night without news what is not good in it."""
    kinds = [each.change for each in changes.changed]
    news = [c for c in Change if c in kinds and c not in QUIET]
    parts = [amount(kinds.count(change), change) for change in news]
    if night.trouble:
        parts.append("stopped early")
    elif night.finished is None:
        parts.append("not finished")
    if parts:
        return ", ".join(parts) + _blamed(night, changes)
    found = counts(_every_row(night))
    bad = [f"{number} {status}" for status, number in found.items() if status.bad]
    if bad:
        return f"nothing new: {', '.join(bad)}"
    return "all good" if verdict(night, changes) is Verdict.GOOD else "nothing ran"


def _blamed(night: Night, changes: Changes) -> str:
    """`; blamed on 0003-x.patch`, where every new failure has one culprit."""
    blames = alike.blames(night)
    new = [each for each in changes.changed if each.change is Change.NEW_FAILURE]
    found = {blame.patch if (blame := blames.get(alike.key(e.row))) else "" for e in new}
    return f"; blamed on {found.pop()}" if len(found) == 1 and "" not in found else ""


def amount(number: int, what: str) -> str:
    """`1 new failure`, `2 new failures`, `2 fixed`"""
    plural = number != 1 and what.endswith(("case", "failure", "job"))
    return f"{number} {what}{'s' * plural}"


# --- what is new ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class News:
    """One thing that changed: the rows of one kernel and architecture that have one cause."""

    change: Change
    where: str  # "debian:6.1 + livepatch-reload on s390x"
    kernel: KernelInput | None  # None: it was not built
    first: Changed
    others: tuple[Changed, ...]
    blame: str  # "0003-x.patch: what was seen without it and with it"; empty: not known


def news(night: Night, changes: Changes, kinds: Collection[Change]) -> tuple[News, ...]:
    """What changed in these ways, in the order of `changes`."""
    jobs = {record.job.name: record.job for record in night.jobs}
    kernels = {(each.kernel, each.arch): each for each in night.kernels}
    blames = alike.blames(night)
    found = []
    changed = [each for each in changes.changed if each.change in kinds]
    for first, *others in alike.together(changed, night):
        job = jobs.get(first.row.job)
        kernel = kernels.get((job.kernel, job.arch)) if job else None
        blame = blames.get(alike.key(first.row))
        told = ": ".join(filter(None, (blame.patch, blame.told))) if blame else ""
        place = where(job, first.row)
        found.append(News(first.change, place, kernel, first, tuple(others), told))
    return tuple(found)


def where(job: Job | None, row: Row) -> str:
    """Of a row whose job is in no plan any more, the job's name tells."""
    return f"{job.kernel} on {job.arch}" if job else row.job
