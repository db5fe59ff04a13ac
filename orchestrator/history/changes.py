# SPDX-License-Identifier: GPL-2.0-only
"""What a night tells that those before it did not. Pure.

A failure is FAIL, FLAKY or FIXED (listed as known, and yet it passes); PASS, KNOWN and failures are
verdicts; ERROR is trouble and SKIP nothing, so that neither ends a row of failures. Two failures
are one when their symptom is the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise, takewhile
from typing import NamedTuple

from orchestrator.errors import Exit
from orchestrator.history import speed
from orchestrator.history.inputs import Configs, inputs
from orchestrator.history.nights import (
    Change,
    Changed,
    Changes,
    JobRecord,
    Night,
    PastResult,
    Row,
    State,
)
from orchestrator.verdicts import Status

FLAKY_NIGHTS = 10  # in which failures and passes are looked for
RECOVERIES = 2  # as many of failing and passing again are a flake
STEADY = 3  # nights in a row it failed whenever it was tried: that is no flake any more

_HEX = re.compile(r"\b0x[0-9a-f]+\b|\b(?=[a-f]*\d)[0-9a-f]{8,}\b", re.IGNORECASE)
_BYTES = re.compile(r"\bbytes(?: [0-9a-f]{2})+\b")
_NUMBER = re.compile(r"(?<!\w)-?\d+(?:\.\d+)*(?:e[+-]\d+)?(?!\w)")


def symptom(reason: str) -> str:
    """The reason on one line, with N for every address, time and number: the same for the same
    fault. A number that is part of a name stays.

    `+L: L .text+0xe R_390_64 m:y,0: bytes cc 9f resolve to 0x3ff7` becomes
    `+L: L .text+N R_390_64 m:y,N: bytes N resolve to N`
    """
    text = _BYTES.sub("bytes N", reason)
    return " ".join(_HEX.sub("N", _NUMBER.sub("N", text)).split())


def changes(
    now: Night,
    before: Night | None,
    past: Mapping[tuple[str, str], Sequence[PastResult]],
    configs: Configs | None = None,
) -> Changes:
    """What is new, worst first.

    past: (job, case) -> the nights before this one, newest first; empty where there is no history:
    then `before` alone is what it is compared with. configs: see `inputs`.
    """
    machines = {record.job.name: record.machine for record in now.jobs}
    earlier = _Earlier(before, past, machines)
    here = {(row.job, row.case): row for row in now.rows}
    walks = {(r.job, r.within) for r in (*now.rows, *earlier.rows.values()) if r.within}
    paces = _paces(now, earlier)
    pace_of = {r.job.name: paces[r.host] for r in now.jobs}
    changed = [*_missing(now, here, earlier, pace_of)]
    for key, row in here.items():
        # What a walk found is told by its findings, once.
        if key in walks and _is_verdict(row.status):
            continue
        found = _news(now.name, row, earlier.of(row), pace_of.get(row.job, 1.0))
        if found is not None and (found.change is not Change.NEW_CASE or before is not None):
            changed.append(found)
    worst = list(Change)
    changed.sort(key=lambda c: (worst.index(c.change), c.row.job, c.row.case))
    if before is None:
        return Changes("", tuple(changed))
    different = (*inputs(now, before, configs or {}), *speed.pace_changes(paces))
    return Changes(before.name, tuple(changed), different)


def _paces(now: Night, earlier: _Earlier) -> Mapping[str, float]:
    """Host -> how fast it was: of a night that was merged of parts each may have its own pace."""
    hosts = {record.job.name: record.host for record in now.jobs}
    rows: dict[str, list[Row]] = {host: [] for host in hosts.values()}
    for row in now.rows:
        rows.setdefault(hosts.get(row.job, ""), []).append(row)
    return {
        host: speed.pace((row, earlier.of(row)) for row in those) for host, those in rows.items()
    }


class Standing(NamedTuple):
    """Of a case: the first of the nights in a row in which it was as in the newest, how many these
    are, and the last in which it passed, or ""."""

    since: str
    nights: int
    last_good: str


def standing(history: Sequence[PastResult]) -> Standing:
    """history: newest night first, not empty."""
    newest = history[0]
    run = [*takewhile(lambda p: _alike(p, newest), _heard(history, newest.status))]
    good = next((p.night for p in history if p.status is Status.PASS), "")
    return Standing(run[-1].night, len(run), good)


def whole(record: JobRecord) -> bool:
    """Did the job come to its end? One that ended with trouble may have left something out."""
    verdict = record.exit_code in (None, Exit.GOOD, Exit.TEST_FAILURE)
    return record.state is State.ENDED and not record.reason and verdict


def unheard(now: Night, before: Night) -> tuple[Row, ...]:
    """What had a verdict before, and now has nothing at all, for its job was cut short: it is not
    gone, and nobody knows what it is."""
    here = {(row.job, row.case) for row in now.rows}
    short = {record.job.name for record in now.jobs if _cut_short(record)}
    return tuple(
        row
        for row in before.rows
        if row.job in short and _is_verdict(row.status) and (row.job, row.case) not in here
    )


def without_proof(before: Night, changes: Changes) -> tuple[Row, ...]:
    """What had a verdict before, and now has not run: its row as it is now, or was."""
    proved = {(row.job, row.case) for row in before.rows if _is_verdict(row.status)}
    lost = (Change.GONE, Change.NEWLY_SKIPPED)
    return tuple(
        each.row
        for each in changes.changed
        if each.change in lost and (each.row.job, each.row.case) in proved
    )


def _cut_short(record: JobRecord) -> bool:
    return record.state is not State.SKIPPED and not whole(record)


# --- the nights before ---------------------------------------------------------------------------


class _Earlier:
    """The nights before this one, by case."""

    def __init__(
        self,
        before: Night | None,
        past: Mapping[tuple[str, str], Sequence[PastResult]],
        machines: Mapping[str, str],
    ) -> None:
        """machines: job -> the kind that ran it now; what others took is not compared with it."""
        self._machines = machines
        self._before = {r.job.name: r.machine for r in before.jobs} if before else {}
        self.rows = {(r.job, r.case): r for r in before.rows} if before else {}
        self._night = before.name if before else ""
        self._past = past

    def of(self, row: Row) -> list[PastResult]:
        """Newest first. A night whose walk did not come upon a finding is one that passed it."""
        own = self._case(row.job, row.case)
        if not row.within:
            return own
        found = {p.night: p for p in own}
        return [
            found.get(p.night, PastResult(p.night, Status.PASS, timed=False))
            for p in self._case(row.job, row.within)
            if p.night in found or _is_verdict(p.status)
        ]

    def _case(self, job: str, case: str) -> list[PastResult]:
        known = list(self._past.get((job, case), ()))
        row = self.rows.get((job, case))
        if row is not None and all(p.night != self._night for p in known):
            known = [as_past(self._night, row, self._before.get(job, "")), *known]
        mine = self._machines.get(job, "")
        return [p if p.machine == mine else replace(p, timed=False) for p in known]


def as_past(night: str, row: Row, machine: str = "") -> PastResult:
    found = PastResult(night, row.status, row.seconds, row.symptom, row.timed, row.content)
    return replace(found, machine=machine)


def _is_verdict(status: Status) -> bool:
    return status not in (Status.ERROR, Status.SKIP)


def _failed(past: PastResult) -> bool:
    return past.status.wrong


def _alike(one: PastResult, other: PastResult) -> bool:
    """Failed with the same symptom, as far as both are kept; or ended alike."""
    if _failed(one) and _failed(other):
        return not (one.symptom and other.symptom) or one.symptom == other.symptom
    return one.status is other.status


def _heard(history: Sequence[PastResult], status: Status) -> list[PastResult]:
    """Without the nights that say nothing about a case that ends like this."""
    if status is Status.SKIP:
        return list(history)
    mute = (Status.SKIP, Status.ERROR) if _is_verdict(status) else (Status.SKIP,)
    return [p for p in history if p.status not in mute]


# --- one case ------------------------------------------------------------------------------------


def _news(night: str, row: Row, earlier: Sequence[PastResult], pace: float) -> Changed | None:
    """What there is to say of a row; None: nothing that was not known."""
    match row.status:
        case Status.FAIL | Status.FLAKY | Status.FIXED:
            return _failure(night, row, earlier)
        case Status.ERROR:
            return _note(Change.NEW_TROUBLE, night, row, earlier, Change.STILL_TROUBLE)
        case Status.SKIP:
            ran = bool(earlier) and earlier[0].status is not Status.SKIP
            return _note(Change.NEWLY_SKIPPED, night, row, earlier) if ran else None
        case Status.PASS:
            return _passed(night, row, earlier, pace)
        case Status.KNOWN:
            if not earlier:
                return _note(Change.NEW_CASE, night, row, earlier)
            heard = _heard(earlier, row.status)
            passed = bool(heard) and heard[0].status in (Status.PASS, Status.FIXED)
            return _note(Change.NEWLY_KNOWN, night, row, earlier) if passed else None


def _note(
    change: Change,
    night: str,
    row: Row,
    earlier: Sequence[PastResult],
    still: Change | None = None,
    note: str = "",
) -> Changed:
    """With where it stands; `still`: what it is called when it was so before."""
    since, nights, _ = standing([as_past(night, row), *earlier])
    good = next((p.night for p in earlier if p.status is Status.PASS), "")
    return Changed(still if still and nights > 1 else change, row, since, nights, good, note)


def _failure(night: str, row: Row, earlier: Sequence[PastResult]) -> Changed:
    newest = as_past(night, row)
    history = _heard([newest, *earlier], row.status)
    failed = sum(map(_failed, history))
    note = f"failed in {failed} of the last {len(history)} nights" if failed > 1 else ""
    if row.status is Status.FLAKY:
        often = f"failed {row.failed} of {row.runs} times"
        note = f"{often}; {note}" if note else often
        return _note(Change.FLAKY, night, row, earlier, note=note)
    if _is_flake(history, newest):
        return _note(Change.FLAKY, night, row, earlier, note=note)
    if len(history) > 1 and _failed(history[1]):
        other = "" if _alike(newest, history[1]) else history[1].symptom
        note = f"failed otherwise before: {other}" if other else ""
    return _note(Change.NEW_FAILURE, night, row, earlier, Change.STILL_FAILING, note)


def _is_flake(history: Sequence[PastResult], like: PastResult) -> bool:
    """Has it, of late, failed like this and passed again, more than once or within one night?

    history: verdicts, newest first.
    """
    steady = [*takewhile(lambda p: p.status is Status.FAIL and _alike(p, like), history)]
    if len(steady) >= STEADY:
        return False
    late = history[: FLAKY_NIGHTS + 1]  # this night and those before it
    recoveries = sum(
        newer.status is Status.PASS and _failed(older) and _alike(older, like)
        for newer, older in pairwise(late)
    )
    within = any(p.status is Status.FLAKY and _alike(p, like) for p in late)
    return within or recoveries >= RECOVERIES


def _passed(night: str, row: Row, earlier: Sequence[PastResult], pace: float) -> Changed | None:
    history = _heard(earlier, row.status)
    if not earlier:
        return _note(Change.NEW_CASE, night, row, earlier)
    if history and _failed(history[0]):
        if _is_flake(history, history[0]):
            return None  # to pass now and then is what a flake does
        since, nights, _ = standing(history)
        known = f"failed in {nights} nights, since {since}" if nights > 1 else f"failed in {since}"
        fixed = _note(Change.FIXED, night, row, earlier, note=known)
        return replace(fixed, since=night, nights=1)
    return speed.news(night, row, earlier, pace)


# --- cases that are not there --------------------------------------------------------------------


def _missing(
    now: Night,
    here: Mapping[tuple[str, str], Row],
    earlier: _Earlier,
    paces: Mapping[str, float],
) -> Iterator[Changed]:
    """Cases that had a verdict in the night before. Where a job has not ended, or was cut short,
    nothing is said of those it did not come to."""
    jobs = {record.job.name: record for record in now.jobs}
    for key, row in earlier.rows.items():
        if key in here or not _is_verdict(row.status):
            continue
        record, walk = jobs.get(row.job), here.get((row.job, row.within))
        if record is not None and record.state is State.SKIPPED:
            skipped = replace(row, status=Status.SKIP, reason=record.reason, symptom="")
            yield _note(Change.NEWLY_SKIPPED, now.name, skipped, earlier.of(row))
        elif record is not None and not whole(record):
            continue
        elif walk is None:
            good = next((p.night for p in earlier.of(row) if p.status is Status.PASS), "")
            yield Changed(Change.GONE, row, since=now.name, last_good=good)
        elif _is_verdict(walk.status):
            reason = f"not found again: {walk.reason}"
            passed = replace(row, status=Status.PASS, reason=reason, symptom="", timed=False)
            again = replace(passed, runs=1, failed=0)
            found = _passed(now.name, again, earlier.of(row), paces.get(row.job, 1.0))
            if found is not None:
                yield found
