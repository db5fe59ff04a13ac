# SPDX-License-Identifier: GPL-2.0-only
"""What a night's first page says, from a night and what changed in it. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from orchestrator.errors import Exit
from orchestrator.history import alike, digest
from orchestrator.history.alike import Key
from orchestrator.history.nights import (
    Blame,
    Change,
    Changed,
    Changes,
    JobRecord,
    Night,
    NightTotals,
    PastResult,
    Row,
    State,
)
from orchestrator.pages.plain import anchor, page_name
from orchestrator.pages.svg import Trend
from orchestrator.report.verdict import duration
from orchestrator.verdicts import Status

STRIP = 12  # nights of a case's past that a first page shows
MOST_CARDS = 20  # of one kind
MOST_LISTED = 40  # cases in one list of changes; every case is in the lists of the jobs

# How a kind of change is headed, in the order of the page.
GROUPS: Mapping[Change, str] = {
    Change.NEW_FAILURE: "New failures",
    Change.NEW_TROUBLE: "New trouble, ours or the machine's",
    Change.FIXED: "Fixed",
    Change.STILL_FAILING: "Still failing",
    Change.STILL_TROUBLE: "Still in trouble",
    Change.FLAKY: "Flaky",
    Change.NEWLY_KNOWN: "Newly wrong as a known issue",
    Change.NEWLY_SKIPPED: "Newly skipped",
    Change.GONE: "Gone from the plan",
    Change.SLOWER: "Slower",
    Change.FASTER: "Faster",
    Change.NEW_CASE: "New cases",
}
BROKE = (Change.NEW_FAILURE, Change.NEW_TROUBLE)
# Those that get a card: what broke, since when, how to see it.
CARDS = (*BROKE, Change.FLAKY)


@dataclass(frozen=True, slots=True)
class FrontCard:
    """Cases that changed alike: see history.alike. The first stands for all."""

    first: Changed
    others: tuple[Changed, ...]  # as many as are listed
    more: int  # that are not
    blame: Blame | None
    strip: tuple[PastResult, ...]  # the first one's past, oldest first


@dataclass(frozen=True, slots=True)
class Group:
    change: Change
    title: str
    cards: tuple[FrontCard, ...] = ()
    listed: tuple[Changed, ...] = ()
    more: int = 0  # that are not listed
    number: int = 0


@dataclass(frozen=True, slots=True)
class JobView:
    """A job with its rows: what needs a look, worst first, and what passed."""

    record: JobRecord
    anchor: str
    word: str  # of its cell: worst status, or what became of it instead
    told: str  # "86 of 89 pass"
    counts: Mapping[Status, int] = field(default_factory=dict)
    open: tuple[Row, ...] = ()
    passed: tuple[Row, ...] = ()
    took: str = ""


@dataclass(frozen=True, slots=True)
class Matrix:
    columns: tuple[str, ...]
    rows: tuple[tuple[str, str, tuple[tuple[JobView, ...], ...]], ...]  # kernel, arch, cells


def went_wrong(record: JobRecord) -> bool:
    """It ended without saying what it was to say."""
    said = (None, Exit.GOOD, Exit.TEST_FAILURE)
    return record.state is State.ENDED and record.exit_code not in said


def worst(found: Mapping[Status, int]) -> Status:
    return min(found, key=lambda status: status.rank, default=Status.SKIP)


# --- what changed ------------------------------------------------------------------------------


def groups(
    night: Night, changes: Changes, past: Mapping[Key, Sequence[PastResult]]
) -> tuple[Group, ...]:
    """What changed, by kind, in the order of the page."""
    kinds: dict[Change, list[Changed]] = {change: [] for change in GROUPS}
    for changed in changes.changed:
        kinds[changed.change].append(changed)
    blames = alike.blames(night)
    made = []
    for change, title in GROUPS.items():
        found = kinds[change]
        if not found:
            continue
        cards: tuple[FrontCard, ...] = ()
        rest = found
        if change in CARDS:
            grouped = alike.together(found, night)
            cards = tuple(_card(each, blames, past) for each in grouped[:MOST_CARDS])
            rest = [changed for each in grouped[MOST_CARDS:] for changed in each]
        listed, more = tuple(rest[:MOST_LISTED]), len(rest[MOST_LISTED:])
        made.append(Group(change, title, cards, listed, more, len(found)))
    return tuple(made)


def _card(
    group: Sequence[Changed],
    blames: Mapping[Key, Blame],
    past: Mapping[Key, Sequence[PastResult]],
) -> FrontCard:
    first, *others = group
    blame = blames.get(alike.key(first.row))
    strip = tuple(reversed(past.get(alike.key(first.row), ())[:STRIP]))
    listed = tuple(others[:MOST_LISTED])
    return FrontCard(first, listed, len(others) - len(listed), blame, strip)


def with_pages(night: Night, changes: Changes) -> Mapping[Key, str]:
    """(job, case) -> file of its page: every case that has files, did not pass, or changed."""
    changed = {
        alike.key(each.row) for each in changes.changed if each.change is not Change.NEW_CASE
    }
    plain = (Status.PASS, Status.SKIP)
    return {
        alike.key(row): page_name(row.job, row.case)
        for row in night.rows
        if row.directory or row.status not in plain or alike.key(row) in changed
    }


# --- jobs --------------------------------------------------------------------------------------


def jobs(night: Night) -> tuple[JobView, ...]:
    """Every job, in the night's order."""
    rows: dict[str, list[Row]] = {record.job.name: [] for record in night.jobs}
    for row in night.rows:
        rows.setdefault(row.job, []).append(row)
    return tuple(_job(record, rows[record.job.name]) for record in night.jobs)


def _job(record: JobRecord, rows: list[Row]) -> JobView:
    found = digest.counts(rows)
    ranked = sorted(rows, key=lambda row: row.status.rank)
    took = ""
    if record.started is not None and record.finished is not None:
        took = duration(record.finished - record.started)
    word, told = _cell(record, found, len(rows))
    return JobView(
        record=record,
        anchor=anchor(record.job.name),
        word=word,
        told=told,
        counts=found,
        open=tuple(row for row in ranked if row.status is not Status.PASS),
        passed=tuple(row for row in ranked if row.status is Status.PASS),
        took=took,
    )


def _cell(record: JobRecord, found: Mapping[Status, int], number: int) -> tuple[str, str]:
    if record.state is State.SKIPPED:
        return str(Status.SKIP), "job skipped"
    if record.state is State.WAITING:
        return str(record.state), ""
    told = f"{found.get(Status.PASS, 0)} of {number} pass" if number else ""
    if record.state is State.RUNNING:
        return str(record.state), told
    if went_wrong(record):
        bad = worst(found) if any(status.wrong for status in found) else Status.ERROR
        built = "not built" if record.exit_code == Exit.BUILD else told or "went wrong"
        return str(bad), built
    if not number:
        wrong = record.exit_code == Exit.TEST_FAILURE
        return (str(Status.FAIL), "no cases") if wrong else (str(Status.PASS), "done")
    return str(worst(found)), told


def matrix(views: Sequence[JobView]) -> Matrix:
    """Kernels and architectures over what was done; cells in which there is nothing are empty."""
    columns = tuple(dict.fromkeys(view.record.job.what for view in views))
    kernels = dict.fromkeys((v.record.job.kernel, v.record.job.arch) for v in views)
    cells: dict[tuple[str, str, str], list[JobView]] = {}
    for view in views:
        job = view.record.job
        cells.setdefault((job.kernel, job.arch, job.what), []).append(view)
    rows = tuple(
        (kernel, arch, tuple(tuple(cells.get((kernel, arch, what), ())) for what in columns))
        for kernel, arch in kernels
    )
    return Matrix(columns, rows)


# --- all nights --------------------------------------------------------------------------------


def pass_rate(totals: NightTotals) -> float | None:
    """Percent of what ran; None when nothing did."""
    ran = sum(number for status, number in totals.counts.items() if status is not Status.SKIP)
    return 100.0 * totals.counts.get(Status.PASS, 0) / ran if ran else None


@dataclass(frozen=True, slots=True)
class Figure:
    """A trend with its words: what it says, and what its lower and upper edge are."""

    trend: Trend
    about: str
    low: str
    high: str


def trends(newest_first: Sequence[NightTotals]) -> tuple[Figure, ...]:
    """Pass rate, duration and relocations read back."""
    nights = list(reversed(newest_first))
    rates = tuple(map(pass_rate, nights))
    took = tuple(None if n.seconds is None else n.seconds / 60 for n in nights)
    read = tuple(float(n.relocations) for n in nights)
    lowest = min((rate for rate in rates if rate is not None), default=0.0)
    made = (
        (Trend("pass rate", rates, math.floor(min(lowest, 99.0)), 100.0), percent),
        (Trend("duration", took, 0.0, max((m for m in took if m), default=1.0)), _minutes),
        (Trend("relocations read back", read, 0.0, max(read, default=1.0) or 1.0), _number),
    )
    return tuple(
        Figure(trend, _told(trend, say), say(trend.low), say(trend.high)) for trend, say in made
    )


def _told(trend: Trend, say: Callable[[float], str]) -> str:
    known = trend.known
    if not known:
        return "not known"
    return f"{say(known[-1])} last, {say(min(known))} to {say(max(known))}"


def percent(value: float) -> str:
    return f"{math.floor(value * 10) / 10:.1f} %"  # 100 % is when every one passed


def _minutes(value: float) -> str:
    return duration(value * 60)


def _number(value: float) -> str:
    return f"{value:,.0f}".replace(",", " ")
