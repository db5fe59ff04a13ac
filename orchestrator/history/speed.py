# SPDX-License-Identifier: GPL-2.0-only
"""Slower or faster than the noise of earlier nights and tonight's own pace explain. Pure.

A case for which a guest was booted is not compared: the boot is in its time. On a night on which
everything takes twice as long, no case is slower than the others: that is said once. What a case
took on a machine of another kind (CPU, cores, accelerator) is not `timed`: `changes` sees to it.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile

from orchestrator.history.nights import Change, Changed, InputChange, PastResult, Row
from orchestrator.report.verdict import duration
from orchestrator.verdicts import Status

NIGHTS = 5  # at least, before anything is said of durations
SHARE = 0.25  # of the median: what is closer to it is noise
SECONDS = 0.5  # the same, for short cases
DEVIATIONS = 5.0  # and so many standard deviations, as the median of deviations gives them
MAD_SCALE = 1.4826  # of a normal distribution: standard deviation by median absolute deviation
ENOUGH = 10  # cases that have to be compared before a night has a pace of its own


def pace(cases: Iterable[tuple[Row, Sequence[PastResult]]]) -> float:
    """How many times as long as usual the night's cases took, by their median; 1 when too few can
    be compared. Each with the nights before this one, newest first."""
    ratios = [
        row.seconds / usual
        for row, earlier in cases
        if row.status is Status.PASS and (usual := _usual(row, _timed(earlier)))
    ]
    return statistics.median(ratios) if len(ratios) >= ENOUGH else 1.0


def pace_changes(paces: Mapping[str, float]) -> tuple[InputChange, ...]:
    """What a reader is to know of the machines, if anything. paces: host -> its own; which it is
    stands there where they are several."""
    what = "time that cases take"
    return tuple(
        InputChange(
            *("", "", f"{what} on {host}" if host and len(paces) > 1 else what),
            *("as usual", f"{pace:.1f} times as much"),
        )
        for host, pace in paces.items()
        if abs(pace - 1) > SHARE
    )


def news(night: str, row: Row, earlier: Sequence[PastResult], pace: float) -> Changed | None:
    """SLOWER or FASTER of a case that passed; None when there is nothing to say."""
    timed = _timed(earlier)
    usual = _usual(row, timed)
    if not usual:
        return None
    spread = MAD_SCALE * statistics.median(abs(p.seconds - usual) for p in timed)
    margin = max(DEVIATIONS * spread, SHARE * usual, SECONDS)
    if abs(row.seconds / pace - usual) <= margin:
        return None
    slower = row.seconds / pace > usual
    as_far = [
        *takewhile(
            lambda p: abs(p.seconds - usual) > margin and (p.seconds > usual) is slower, timed
        )
    ]
    return Changed(
        Change.SLOWER if slower else Change.FASTER,
        row,
        as_far[-1].night if as_far else night,
        len(as_far) + 1,
        next((p.night for p in timed[len(as_far) :]), ""),
        f"{duration(row.seconds)}, usually {duration(usual)}",
    )


def _timed(earlier: Sequence[PastResult]) -> list[PastResult]:
    return [p for p in earlier if p.status is Status.PASS and p.timed]


def _usual(row: Row, timed: Sequence[PastResult]) -> float:
    """The median; 0 where there is nothing to compare with."""
    enough = row.timed and len(timed) >= NIGHTS
    return statistics.median(p.seconds for p in timed) if enough else 0.0
