# SPDX-License-Identifier: GPL-2.0-only
"""A night in a few words: its verdict, its headline, its rows by job, its news by symptom.

Page, mail, summary, the user's own command, the terminal and the exit code take what they say of a
night from one `NightDigest`.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from orchestrator.errors import Exit
from orchestrator.history import alike
from orchestrator.history.nights import (
    Change,
    Changed,
    Changes,
    Job,
    JobKind,
    JobRecord,
    KernelInput,
    Night,
    Row,
    Skip,
    State,
    Verdict,
)
from orchestrator.report.verdict import duration
from orchestrator.verdicts import Status, by_status

# What was so last night, too.
OLD = (Change.STILL_FAILING, Change.STILL_TROUBLE)
# What nobody has to look at.
QUIET = (*OLD, Change.FASTER, Change.NEW_CASE)


# --- rows ----------------------------------------------------------------------------------------


def by_job(night: Night) -> tuple[tuple[JobRecord, tuple[Row, ...]], ...]:
    """Every job with its rows; last among them one for the job itself where they do not tell."""
    rows: dict[str, list[Row]] = {record.job.name: [] for record in night.jobs}
    for row in night.rows:
        rows.setdefault(row.job, []).append(row)
    return tuple(
        (record, (*rows[record.job.name], *_of_itself(night, record, rows[record.job.name])))
        for record in night.jobs
    )


def undone(night: Night) -> tuple[Row, ...]:
    """Of the jobs themselves, those that did not run, or not to a good end."""
    return tuple(row for row in _of_jobs(night) if row.status is not Status.PASS)


def _of_jobs(night: Night) -> Iterator[Row]:
    """The rows that stand for jobs themselves."""
    cases = {(row.job, row.case) for row in night.rows}
    for _, rows in by_job(night):
        yield from (row for row in rows if (row.job, row.case) not in cases)


def _every_row(night: Night) -> tuple[Row, ...]:
    return (*night.rows, *_of_jobs(night))


def _of_itself(night: Night, record: JobRecord, rows: Collection[Row]) -> Iterable[Row]:
    """A job without rows, or one that ended worse than they say, is a row itself."""
    status, reason = _end(night, record)
    whole = bool(rows) and not status.bad
    if record.state is State.ENDED and any(row.status.bad for row in rows):
        whole = True
    if not whole:
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
    wrong = record.exit_code in (Exit.TEST_FAILURE, Exit.BUILD)
    reason = record.reason or f"ended with exit code {record.exit_code}"
    return Status.FAIL if wrong else Status.ERROR, reason


def counts(rows: Iterable[Row]) -> Mapping[Status, int]:
    """Status -> number of rows; statuses that do not occur are left out; worst first."""
    return by_status(row.status for row in rows)


def totals(night: Night) -> str:
    """`412 cases: 2 FAIL, 410 PASS; 1 of 9 jobs not done; in 18 min 03 s`"""
    ran = ", ".join(f"{number} {status}" for status, number in counts(night.rows).items())
    parts = [f"{amount(len(night.rows), 'case')}: {ran or 'nothing ran'}"]
    if missing := len(undone(night)):
        parts.append(f"{missing} of {amount(len(night.jobs), 'job')} not done")
    if night.finished is None:
        parts.append("not finished")
    else:
        parts.append(f"in {duration(night.finished - night.started)}")
    return "; ".join(parts)


# --- the night -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NightDigest:
    """What everybody is told of a night."""

    verdict: Verdict
    headline: str
    exit_code: Exit
    tone: Status  # whose colour the headline has


def digest(night: Night, changes: Changes) -> NightDigest:
    """The night as a whole."""
    found = _verdict(night, changes)
    return NightDigest(found, _headline(night, changes), _exit(night, found), _tone(night, found))


def _verdict(night: Night, changes: Changes) -> Verdict:
    """One in which nothing ran proved nothing: it is not good."""
    rows = _every_row(night)
    if any(row.status.wrong for row in rows):
        new = any(each.change is Change.NEW_FAILURE for each in changes.changed)
        return Verdict.NEW_FAILURES if new else Verdict.FAILING
    ended = night.finished is not None and not night.trouble
    judged = not any(row.status is Status.ERROR for row in rows) and not _prevented(night)
    return Verdict.GOOD if ended and judged and _proven(night) else Verdict.TROUBLE


def _builds(night: Night) -> set[str]:
    return {record.job.name for record in night.jobs if record.job.kind is JobKind.BUILD}


def _proven(night: Night) -> bool:
    """Did any case pass, or fail as it is known to? That a kernel was built is not enough."""
    builds = _builds(night)
    ran = (row.status for row in night.rows if row.job not in builds)
    return any(status in (Status.PASS, Status.KNOWN) for status in ran)


def _prevented(night: Night) -> list[JobRecord]:
    """Jobs that could not run; that there is no time for one is planned so."""
    skipped = (record for record in night.jobs if record.state is State.SKIPPED)
    return [record for record in skipped if record.skip is not Skip.TIME]


def _exit(night: Night, verdict: Verdict) -> Exit:
    """1 when the kernel is wrong anywhere, else 3 when one was not built, else 4 when something did
    not get its verdict, or nothing ran."""
    if night.interrupted:
        return Exit.INTERRUPTED
    match verdict:
        case Verdict.GOOD:
            return Exit.GOOD
        case Verdict.TROUBLE:
            return Exit.HARNESS
    unbuilt = {record.job.name for record in night.jobs if record.exit_code == Exit.BUILD}
    wrong = {(row.job, row.case) for row in night.rows if row.status.wrong}
    own = {(row.job, row.case) for row in undone(night) if row.status.wrong} - wrong
    of_kernels = {job for job, _ in wrong} - _builds(night) | {job for job, _ in own} - unbuilt
    return Exit.TEST_FAILURE if of_kernels else Exit.BUILD


def _tone(night: Night, verdict: Verdict) -> Status:
    match verdict:
        case Verdict.GOOD:
            return next(iter(counts(night.rows)))
        case Verdict.TROUBLE:
            return Status.ERROR
    return Status.FAIL


def _headline(night: Night, changes: Changes) -> str:
    """`2 new failures, 1 fixed`; of a night without news what is not good in it. A part says that
    it is one: what is good of it says nothing of the night."""
    told = _told(night, changes)
    return f"{share(night)}: {told}" if night.part else told


def share(night: Night) -> str:
    """`a part of a night, 2 of 98 jobs`; "" of a whole one."""
    if night.part is None:
        return ""
    return f"a part of a night, {len(night.jobs)} of {amount(len(night.part.plan), 'job')}"


def _told(night: Night, changes: Changes) -> str:
    kinds = [each.change for each in changes.changed]
    news = [c for c in Change if c in kinds and c not in QUIET]
    parts = [amount(kinds.count(change), change) for change in news]
    if night.trouble:
        parts.append("stopped early")
    elif night.finished is None:
        parts.append("not finished")
    if parts:
        return ", ".join(parts) + _blamed(night, changes)
    bad = [f"{n} {status}" for status, n in counts(_every_row(night)).items() if status.bad]
    if prevented := len(_prevented(night)):
        bad.append(f"{amount(prevented, 'job')} not run")
    if not _proven(night) and not bad:
        return "nothing ran"
    return f"nothing new: {', '.join(bad)}" if bad else "all good"


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
        cause = ": ".join(filter(None, (blame.patch, blame.told))) if blame else ""
        place = where(job, first.row)
        found.append(News(first.change, place, kernel, first, tuple(others), cause))
    return tuple(found)


def where(job: Job | None, row: Row) -> str:
    """Of a row whose job is in no plan any more, the job's name tells."""
    return f"{job.kernel} on {job.arch}" if job else row.job
