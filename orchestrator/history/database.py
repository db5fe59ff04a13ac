# SPDX-License-Identifier: GPL-2.0-only
"""The nights in SQLite, for look-ups.

Nights are files first. A database that is missing or damaged is made anew from those files, and
then knows no more than they do; in a sound one, nights whose files were removed stay for good. One
that cannot be used just now (locked, read-only) raises NoHistory: whoever asked goes on without.
"""

from __future__ import annotations

import fnmatch
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from orchestrator.errors import UsageError
from orchestrator.history import files, store
from orchestrator.history.changes import whole
from orchestrator.history.digest import digest
from orchestrator.history.nights import (
    CaseHistory,
    Changes,
    Job,
    Night,
    NightTotals,
    PastResult,
    Verdict,
)
from orchestrator.verdicts import Status

NAME = "history.sqlite"  # beside the nights
PATIENCE = 5.0  # seconds that another's transaction is waited for
YEAR = 365
MONTH = 30
_STATUS = {str(status): status for status in Status}


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What `rebuild` took from files."""

    nights: int
    unreadable: tuple[str, ...]  # a line for each night whose files are malformed


class History:
    """A context manager around DIR/history.sqlite, DIR being the place of nights.

    reading: nothing is written; what is asked for is looked up in a copy, or in one that is made of
    the nights' files. `told`: a line for each thing that had to be done. Everything raises
    NoHistory, also where the file is not ours.
    """

    def __init__(self, path: Path, patience: float = PATIENCE, *, reading: bool = False) -> None:
        self.path = path
        self.told: tuple[str, ...] = ()
        self._patience = patience
        self._reading = reading
        self._connection: store.Connection

    def __enter__(self) -> Self:
        with store.mapped(self.path):
            self._connection, told = (
                store.copied(self.path)
                if self._reading
                else store.opened(self.path, self._patience)
            )
        self.told += (told,) * bool(told)
        try:
            if not self.names():  # new, or whoever made it was killed before it was filled
                self._fill()
        except BaseException:
            self._connection.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        err: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._connection.close()

    # --- nights in --------------------------------------------------------------------------------

    def add(self, night: Night, *, mine: bool = True) -> str:
        """One transaction. What was known of this night is replaced, and keeps its place in the
        order; a new one is the newest, whatever the clock says. What is known of another night of
        this name stays, and why is returned, in words.

        mine: False for files of which nothing says that they are a night's own: they replace
        nothing.
        """
        with store.mapped(self.path), store.transaction(self._connection):
            return self._put(night, mine)

    def rebuild(self, place: Path) -> Rebuilt:
        """Every night of which there are files, as these have it; the others stay as they are. From
        then on the order of nights is that of their names."""
        unreadable: list[str] = []
        taken = 0
        with store.mapped(self.path), store.transaction(self._connection):
            for directory in files.nights(place):
                try:
                    told = self._put(files.read(directory))
                    unreadable += [told] * bool(told)
                    taken += not told
                except UsageError as malformed:
                    unreadable.append(str(malformed))
            self._do(
                "UPDATE nights SET sequence = (SELECT count(*) FROM nights AS n"
                " WHERE n.name <= nights.name)"
            )
        return Rebuilt(taken, tuple(unreadable))

    # --- look-ups ---------------------------------------------------------------------------------

    def names(self) -> tuple[str, ...]:
        """Of all nights, newest first."""
        rows = self._do("SELECT name FROM nights ORDER BY sequence DESC")
        return tuple(name for (name,) in rows)

    def totals(self, limit: int = YEAR) -> tuple[NightTotals, ...]:
        """The last nights, newest first."""
        nights = self._do(
            "SELECT id, name, started, finished, relocations, verdict FROM nights"
            " ORDER BY sequence DESC LIMIT ?",
            limit,
        )
        counts: dict[int, dict[Status, int]] = {}
        for night, status, number in self._do("SELECT night, status, number FROM counts"):
            counts.setdefault(night, {})[Status(status)] = number
        return tuple(
            NightTotals(
                name,
                started,
                None if finished is None else max(0.0, finished - started),
                counts.get(night, {}),
                relocations,
                None if verdict is None else Verdict(verdict),
            )
            for night, name, started, finished, relocations, verdict in nights
        )

    def past(
        self, before: str, limit: int = MONTH
    ) -> Mapping[tuple[str, str], tuple[PastResult, ...]]:
        """(job, case) -> the last `limit` nights before that one, newest first; before a night that
        is not in here, the last there are."""
        late = self._do(
            "SELECT id, name FROM nights WHERE sequence <"
            " ifnull((SELECT sequence FROM nights WHERE name = ?), 1 << 62)"
            " ORDER BY sequence DESC LIMIT ?",
            *(before, limit),
        )
        names = self._do(
            "SELECT cases.id, jobs.name, cases.name FROM cases JOIN jobs ON jobs.id = job"
        )
        keys = {case: (job, name) for case, job, name in names}
        return {keys[case]: past for case, past in self._of(keys, late).items()}

    def case(self, pattern: str, limit: int = YEAR) -> tuple[CaseHistory, ...]:
        """Cases whose "JOB CASE" holds `pattern`, or fits it as a glob, in the last nights, by job
        and name."""
        chosen = {
            case: (job, name, kernel, arch)
            for case, job, name, kernel, arch in self._do(
                "SELECT cases.id, jobs.name, cases.name, kernel, arch"
                " FROM cases JOIN jobs ON jobs.id = job ORDER BY jobs.name, cases.name"
            )
            if pattern in f"{job} {name}" or fnmatch.fnmatchcase(f"{job} {name}", pattern)
        }
        late = self._do("SELECT id, name FROM nights ORDER BY sequence DESC LIMIT ?", limit)
        past = self._of(chosen, late)
        versions: dict[tuple[str, str], dict[str, str]] = {}
        for night, kernel, arch, version in self._do(
            "SELECT name, kernel, arch, source_version FROM kernels JOIN nights ON id = night"
        ):
            versions.setdefault((kernel, arch), {})[night] = version
        return tuple(
            CaseHistory(job, name, past[case], versions.get((kernel, arch), {}))
            for case, (job, name, kernel, arch) in chosen.items()
            if case in past
        )

    def _of(
        self, cases: Iterable[int], late: Sequence[tuple[int, str]]
    ) -> Mapping[int, tuple[PastResult, ...]]:
        """What became of these cases in these nights (id, name), in the order of the nights."""
        nights = {number: (place, name) for place, (number, name) in enumerate(late)}
        symptoms = dict(self._do("SELECT id, text FROM symptoms"))
        jobs = dict(self._do("SELECT id, job FROM cases"))
        machines = {
            (job, night): kind
            for job, night, kind in self._do("SELECT job, night, kind FROM machines")
            if night in nights
        }
        found: dict[int, list[tuple[int, PastResult]]] = {}
        for case, night, status, ms, symptom, timed, content in self._do(
            'SELECT "case", night, status, ms, symptom, timed, content FROM json_each(?)'
            ' CROSS JOIN results ON "case" = value AND night >= ?',  # CROSS: by cases
            *(json.dumps([*cases]), min(nights, default=0)),
        ):
            if night in nights:
                place, name = nights[night]
                past = PastResult(
                    *(name, _STATUS[status], ms / 1000, symptoms.get(symptom, "")),
                    timed=timed == 1,
                    content=content,
                    machine=machines.get((jobs[case], night), ""),
                )
                found.setdefault(case, []).append((place, past))
        return {
            case: tuple(past for _, past in sorted(those, key=itemgetter(0)))
            for case, those in found.items()
        }

    def seconds(self, job: str) -> Sequence[float]:
        """How long a job took in each night in which it came to its end, newest first."""
        rows = self._do(
            "SELECT ms FROM durations JOIN jobs ON jobs.id = job JOIN nights ON nights.id = night"
            " WHERE jobs.name = ? ORDER BY sequence DESC",
            job,
        )
        return tuple(ms / 1000 for (ms,) in rows)

    # --- one night --------------------------------------------------------------------------------

    def _put(self, night: Night, mine: bool = True) -> str:
        if night.part is not None:
            return f"{night.name} is a part of a night, and none of its own: `klp-e2e merge`"
        at = self._do("SELECT started, finished, tool, host FROM nights WHERE name = ?", night.name)
        if at and (not mine or at[0][0] != night.started):
            if at[0] == (night.started, night.finished, night.tool, night.host):
                return ""
            why = "this is another" if mine else "nothing says that this is the same"
            return f"{self.path} knows a night {night.name}, which stays there: {why}"
        relocations = sum(row.relocations for row in night.rows)
        known = self._do("SELECT id FROM nights WHERE name = ?", night.name)
        self._do(
            "INSERT INTO nights"
            " (name, sequence, started, finished, tool, host, relocations, verdict) VALUES"
            " (?1, (SELECT ifnull(max(sequence), 0) + 1 FROM nights), ?2, ?3, ?4, ?5, ?6, ?7)"
            " ON CONFLICT (name) DO UPDATE SET"
            " (started, finished, tool, host, relocations, verdict) = (?2, ?3, ?4, ?5, ?6, ?7)",
            *(night.name, night.started, night.finished, night.tool, night.host, relocations),
            str(digest(night, Changes("")).verdict),  # what of it is new is for its own page
        )
        [(number,)] = self._do("SELECT id FROM nights WHERE name = ?", night.name)
        for table in ("counts", "kernels", "durations", "machines", "results") if known else ():
            self._do(f"DELETE FROM {table} WHERE night = ?", number)
        self._many(
            "INSERT INTO counts VALUES (?, ?, ?)",
            ((number, *each) for each in Counter(row.status for row in night.rows).items()),
        )
        self._many(
            "INSERT OR REPLACE INTO kernels VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                (
                    number,
                    k.kernel,
                    k.arch,
                    k.source_version,
                    k.release,
                    k.compiler,
                    k.qemu,
                    k.config,
                )
                for k in night.kernels
            ),
        )
        jobs = self._jobs(night)
        self._many(
            "INSERT OR REPLACE INTO durations VALUES (?, ?, ?)",
            ((jobs[name], number, ms) for name, ms in _durations(night)),
        )
        self._many(
            "INSERT OR REPLACE INTO machines VALUES (?, ?, ?)",
            ((jobs[r.job.name], number, r.machine) for r in night.jobs if r.machine),
        )
        self._results(number, night, jobs)
        return ""

    def _jobs(self, night: Night) -> Mapping[str, int]:
        """Job -> its id. What its kernel is called may change."""
        by_name: dict[str, Job | None] = dict.fromkeys(row.job for row in night.rows)
        by_name |= {record.job.name: record.job for record in night.jobs}
        self._many(
            "INSERT INTO jobs (name, kernel, arch) VALUES (?1, ?2, ?3)"
            " ON CONFLICT (name) DO UPDATE SET (kernel, arch) = (?2, ?3)",
            (
                (name, *((job.kernel, job.arch) if job else ("", "")))
                for name, job in by_name.items()
            ),
        )
        return dict(self._do("SELECT name, id FROM jobs"))

    def _results(self, number: int, night: Night, jobs: Mapping[str, int]) -> None:
        self._many(
            "INSERT OR IGNORE INTO cases (job, name) VALUES (?, ?)",
            ((jobs[row.job], row.case) for row in night.rows),
        )
        self._many(
            "INSERT OR IGNORE INTO symptoms (text) VALUES (?)",
            {(row.symptom,) for row in night.rows if row.symptom},
        )
        cases = {(job, name): case for case, job, name in self._do("SELECT * FROM cases")}
        symptoms = dict(self._do("SELECT text, id FROM symptoms"))
        self._many(
            "INSERT OR REPLACE INTO results VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                (
                    cases[jobs[row.job], row.case],
                    number,
                    row.status,
                    round(row.seconds * 1000),
                    symptoms.get(row.symptom),
                    row.timed,
                    row.content,
                )
                for row in night.rows
            ),
        )

    # --- the file ---------------------------------------------------------------------------------

    def _fill(self) -> None:
        """From the nights beside it, of which there may be none."""
        rebuilt = self.rebuild(self.path.parent)
        if rebuilt.nights or rebuilt.unreadable:
            what = "knows no nights" if self._reading else "is made anew"
            self.told += (
                f"{self.path} {what}, nights taken from files: {rebuilt.nights}",
                *rebuilt.unreadable,
            )

    # --- statements -------------------------------------------------------------------------------

    def _do(self, statement: str, *values: Any) -> list[Any]:
        with store.mapped(self.path):
            return self._connection.execute(statement, values).fetchall()

    def _many(self, statement: str, rows: Iterable[tuple[Any, ...]]) -> None:
        with store.mapped(self.path):
            self._connection.executemany(statement, rows)


def _durations(night: Night) -> Iterator[tuple[str, int]]:
    """(job, milliseconds) of those that came to their end; a clock that was set back in one says
    nothing of it."""
    for record in night.jobs:
        if whole(record) and record.started is not None and record.finished is not None:
            seconds = record.finished - record.started
            if seconds >= 0:
                yield record.job.name, round(seconds * 1000)
