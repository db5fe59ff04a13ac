# SPDX-License-Identifier: GPL-2.0-only
"""Which of the things that changed have one cause, as far as is known. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from orchestrator.history.nights import Blame, Changed, Night, Row

Key = tuple[str, str]  # (job, case)
# SET/order-N, as orders are called that nobody has given a name; twice the same has a number more
_NUMBERED = re.compile(r"(?P<before>.*/)order-\d+(?: \(\d+\))?")


def key(row: Row) -> Key:
    return row.job, row.case


def blames(night: Night) -> dict[Key, Blame]:
    """What the bisects found, by case."""
    return {(blame.job, blame.case): blame for blame in night.blames}


def together(found: Sequence[Changed], night: Night) -> list[list[Changed]]:
    """Those that changed in the same way on one kernel and architecture, and are blamed on the same
    patch or show the same; in the order of `found`. First comes one with a short order whose way of
    failing was bisected.
    What passes shows nothing: of that the note counts ("failed in NIGHT")."""
    jobs = {record.job.name: record.job for record in night.jobs}
    blamed = blames(night)

    def shows(changed: Changed) -> tuple[str, ...]:
        row, job = changed.row, jobs.get(changed.row.job)
        place = (job.kernel, job.arch) if job else (row.job, "")
        return (*place, row.symptom or row.reason or changed.note or row.case)

    def rank(changed: Changed) -> tuple[bool, int]:
        blame = blamed.get(key(changed.row))
        bisected = blame is not None and bool(blame.patch) and bool(blame.directory)
        return not bisected, len(changed.row.order)

    patches = {
        shows(changed): blame.patch
        for changed in found
        if (blame := blamed.get(key(changed.row))) and blame.patch
    }
    groups: dict[tuple[str, ...], list[Changed]] = {}
    for changed in found:
        *place, symptom = shows(changed)
        cause = patches.get((*place, symptom), symptom)
        groups.setdefault((changed.change, *place, cause), []).append(changed)
    return [sorted(group, key=rank) for group in groups.values()]


def by_order(rows: Iterable[Row]) -> tuple[Row, ...]:
    """The rows, with the orders that have no name but a number called by what they are: number one
    of another run, or of another version of a module set, may be another order."""
    seen: Counter[tuple[str, str]] = Counter()
    return tuple(_by_order(row, seen) for row in rows)


def _by_order(row: Row, seen: Counter[tuple[str, str]]) -> Row:
    numbered = _NUMBERED.fullmatch(row.case)
    if not (numbered and row.order):
        return row
    case = f"{numbered['before']}{row.order}"
    seen[row.job, case] += 1
    times = seen[row.job, case]
    return replace(row, case=case if times == 1 else f"{case} ({times})")


def told_apart(one: Night, other: Night) -> tuple[Night, Night]:
    """Both, with cases that have a name in common, and not the order, called by their orders as
    well: what one of them has proved the other has not run."""
    orders = {key(row): row.order for row in one.rows if row.kind and row.order}
    others = {
        key(row)
        for row in other.rows
        if row.kind and row.order and orders.get(key(row), row.order) != row.order
    }

    def called(row: Row) -> Row:
        return replace(row, case=f"{row.case}: {row.order}") if key(row) in others else row

    first, second = (replace(each, rows=tuple(map(called, each.rows))) for each in (one, other))
    return first, second
