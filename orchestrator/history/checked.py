# SPDX-License-Identifier: GPL-2.0-only
"""What a night.json may say: names that lead nowhere else, numbers that can be. Pure.

A night may come from anywhere (an artifact of a CI job, another machine), so nothing in it is
believed before it was looked at here, once, when it is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass

from orchestrator.history.nights import Night, State
from orchestrator.verdicts import Status

MOST = 1e11  # seconds, bytes, numbers of anything: all that fits a calendar, and SQLite's integers
LONGEST = 1000  # characters of a path
_NOT_BEGUN = (State.WAITING, State.SKIPPED)
_NOT_FAILED = (Status.PASS, Status.SKIP)
_NIGHT = re.compile(r"\d{4}-\d\d-\d\d-\d{6}(\.\d{1,9})*", re.ASCII)
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def is_night(name: str) -> bool:
    """Can a night have been given this name? 2026-01-31-020000, and with .1 behind where the clock
    was set back."""
    return _NIGHT.fullmatch(name) is not None


def is_inside(path: str) -> bool:
    """Does a relative path lead down, and nowhere else?"""
    parts = path.split("/")
    return (
        len(path) <= LONGEST and not {"", ".", ".."} & set(parts) and _CONTROLS.search(path) is None
    )


def wrong(night: Night) -> str:
    """What cannot be in a night that klp-e2e wrote, in words; "" when nothing is."""
    if "/" in night.name or not is_inside(night.name):
        return f"{night.name!r} is no name of a night"
    names = [record.job.name for record in night.jobs]
    for name in names:
        if not is_inside(name):
            return f"{name!r} is no name of a job"
    if len(set(names)) < len(names):
        return "two of its jobs have one name"
    places = [*((row.job, row.case, row.directory) for row in night.rows)]
    places += [(blame.job, blame.case, blame.directory) for blame in night.blames]
    if why := _odd_part(night):
        return why
    known = set(names)
    for job, case, place in places:
        if job not in known:
            return f"{case!r} belongs to a job that it does not have, {job!r}"
        if place and not is_inside(place):
            return f"{place!r} is no directory in a night"
    if why := _contradiction(night):
        return why
    for kernel in night.kernels:
        if kernel.config and not is_inside(kernel.config):
            return f"{kernel.config!r} is no file in a night"
    odd = next((number for number in _numbers(night) if not abs(number) <= MOST), None)
    return "" if odd is None else f"{odd} is no number that it can have"


def _odd_part(night: Night) -> str:
    planned = [job.name for job in night.part.plan] if night.part else []
    for name in (*planned, *(night.part.only if night.part else ())):
        if not is_inside(name):
            return f"{name!r} is no name of a job"
    if len(set(planned)) < len(planned):
        return "two jobs of its plan have one name"
    return ""


def _contradiction(night: Night) -> str:
    """What of its rows cannot be so by what else it says: the verdict is counted from them."""
    begun = {record.job.name for record in night.jobs if record.state not in _NOT_BEGUN}
    seen: set[tuple[str, str]] = set()
    for row in night.rows:
        tried = f"{row.case!r} is {row.status}, and failed {row.failed} of {row.runs} times"
        if row.job not in begun:
            return f"{row.case!r} is {row.status}, and {row.job!r} was not begun"
        if (row.job, row.case) in seen:
            return f"it has {row.case!r} of {row.job!r} twice"
        if not 0 <= row.failed <= row.runs or (row.failed and row.status in _NOT_FAILED):
            return tried
        if row.status is Status.FLAKY and not 0 < row.failed < row.runs:
            return tried
        seen.add((row.job, row.case))
    return ""


def _numbers(value: object) -> Iterator[float]:
    if is_dataclass(value):
        for field in fields(value):
            yield from _numbers(getattr(value, field.name))
    elif isinstance(value, tuple):
        for each in value:
            yield from _numbers(each)
    elif isinstance(value, int | float):
        yield value
