# SPDX-License-Identifier: GPL-2.0-only
"""One night, from its plan to its report; every step is on disk before the next one begins.

A night that was killed at any moment is gone on with by its night.json: jobs that ended stay as
they are, that under way goes on with what its own directory has.
"""

from __future__ import annotations

import functools
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator.cli import session
from orchestrator.commands.bisect import work
from orchestrator.commands.nightly import bisects, inputs, jobs, plan, resources, retry
from orchestrator.commands.nightly.config import Config
from orchestrator.commands.nightly.inputs import Facts
from orchestrator.commands.nightly.scheduler import Pool, Scheduler, Task
from orchestrator.deadline import Deadline
from orchestrator.errors import Exit, HarnessError, KlpError, UsageError
from orchestrator.history import checked, files
from orchestrator.history.nights import (
    Blame,
    Job,
    JobKind,
    JobRecord,
    KernelInput,
    Night,
    PastResult,
    Row,
    Skip,
    State,
)
from orchestrator.report.progress import Reporter
from orchestrator.report.store import why_ended
from orchestrator.report.verdict import duration
from orchestrator.verdicts import Status


@dataclass(frozen=True, slots=True)
class Before:
    """What earlier nights tell this one."""

    nights: Path  # the place of nights
    past: Mapping[tuple[str, str], Sequence[PastResult]]  # (job, case) -> newest first


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds and GiB; `deadline` of the whole night."""

    deadline: Deadline
    bisect: float
    config: Config


class NightRun:
    """The work of one night. `run` it once; `night` is what is known at any time."""

    def __init__(
        self,
        place: Path,
        night: Night,
        facts: Mapping[tuple[str, str], Facts],
        before: Before,
        limits: Limits,
        reporter: Reporter,
    ) -> None:
        self.place = place
        self.night = night
        self._facts = facts  # (source, series as one text) -> what is known of it
        self._before = before
        self._limits = limits
        self._reporter = reporter
        self._mutex = threading.Lock()
        self._making_room = threading.Lock()
        self._scheduler: Scheduler

    def run_jobs(self, guests: int) -> None:
        """Every job that has not ended. Raises HarnessError when the disk is full."""
        self._scheduler = Scheduler(guests)
        for record in self.night.jobs:
            if record.state in (State.WAITING, State.RUNNING):
                pool = Pool.BUILD if record.job.kind is JobKind.BUILD else Pool.GUEST
                ready = functools.partial(self._built, record.job)
                self._scheduler.add(Task(pool, functools.partial(self._job, record.job), ready))
        for row in retry.to_try(self.night.rows, self._before.past, self._limits.config.retries):
            self._try_again(row)
        self._scheduler.run_tasks()
        self._bisect()

    def end(self, err: BaseException | None) -> None:
        """Say so; a night that was interrupted, or killed by a full disk, can be gone on with."""
        self._update(
            lambda night: replace(
                night,
                finished=None if err else time.time(),
                trouble=why_ended(err),
                interrupted=isinstance(err, KeyboardInterrupt),
            )
        )

    # --- what is known ---------------------------------------------------------------------------

    def _update(self, change: Callable[[Night], Night]) -> None:
        with self._mutex:
            self.night = change(self.night)
            files.write(self.place, self.night)

    def _record(self, job: Job) -> JobRecord:
        return next(record for record in self.night.jobs if record.job.name == job.name)

    def _job_of(self, row: Row) -> Job:
        return next(record.job for record in self.night.jobs if record.job.name == row.job)

    def _set(self, record: JobRecord) -> None:
        self._update(functools.partial(with_record, record=record))

    def _build_of(self, job: Job) -> JobRecord | None:
        same = (
            record
            for record in self.night.jobs
            if record.job.kind is JobKind.BUILD
            and (record.job.kernel, record.job.arch) == (job.kernel, job.arch)
        )
        return next(same, None)

    def _built(self, job: Job) -> bool:
        """Whether it can begin, or need not: its kernel's build has ended, well or not."""
        build = self._build_of(job)
        if job.kind is JobKind.BUILD or build is None:
            return True
        return build.state in (State.ENDED, State.SKIPPED)

    # --- one job ---------------------------------------------------------------------------------

    def _job(self, job: Job) -> None:
        hindered = self._hindered(job)
        if hindered is not None:
            skip, why = hindered
            record = replace(self._record(job), state=State.SKIPPED, skip=skip, reason=why)
            self._set(record)
            self._say(f"SKIP  {job.name}: {why}")
            return
        record = self._record(job)
        words = jobs.command(self.place, record)
        started, began = time.time(), time.monotonic()
        record = replace(record, state=State.RUNNING, started=started)
        self._set(record)
        log = jobs.log_of(self.place, record)
        ended = jobs.carry_out(self.place, words, log, self._scheduler.stop, self._limits.deadline)
        if self._scheduler.stop.is_set():
            return  # it stays RUNNING: a night that goes on goes on with it
        if ended.code not in (Exit.GOOD, Exit.TEST_FAILURE):
            self._refuse_full_disk(job)
        found = jobs.rows(self.place, record, ended)
        facts = self._facts[key(job)]
        made = None
        if job.kind is not JobKind.BUILD and jobs.directory_of(self.place, record).exists():
            made = inputs.of_run(self.place, job, facts)
        seconds = time.monotonic() - began
        last = replace(
            record,
            state=State.ENDED,
            reason=ended.why,
            exit_code=ended.code,
            finished=started + seconds,  # the wall clock may have been set meanwhile
            host=session.host_name(),
            machine=jobs.machine(self.place, record),
        )

        def change(night: Night) -> Night:
            """All at once: a kill in between must not leave half of it."""
            others = tuple(row for row in night.rows if row.job != job.name)
            known = {(kernel.kernel, kernel.arch) for kernel in night.kernels}
            more = (made,) if made and (made.kernel, made.arch) not in known else ()
            night = replace(night, rows=(*others, *found), kernels=(*night.kernels, *more))
            return with_record(night, last)

        self._update(change)
        self._say(f"ended {job.name}: {rows_summary(found)}, {duration(seconds)}")
        for row in retry.to_try(found, self._before.past, self._limits.config.retries):
            self._try_again(row)

    def _refuse_full_disk(self, job: Job) -> None:
        """A job that a full disk has ended stays RUNNING: it can go on where there is room."""
        if short := resources.lacks(self.place.parent, resources.NONE_GIB):
            raise HarnessError(
                f"{job.name}: No space left on device ({short.told})",
                hint=f"make room; then --resume {self.place} goes on",
            )

    def _hindered(self, job: Job) -> tuple[Skip, str] | None:
        """Why it is not begun, in words too; None where nothing is in the way."""
        build = self._build_of(job)
        if job.kind is not JobKind.BUILD and build is not None and build.exit_code != 0:
            # a kernel that there was no time for is as planned, and so is what needs it
            skip = Skip.TIME if build.skip is Skip.TIME else Skip.KERNEL
            return skip, f"its kernel was not built: {build.reason or 'see the build'}"
        left = self._limits.deadline.left()
        if job.estimate >= left and not self._record(job).started:
            takes = f"it takes about {duration(job.estimate)}"
            return Skip.TIME, f"the night's time is up: {takes}, and {duration(left)} are left"
        full = self._lacks_room()
        return (Skip.DISK, full) if full else None

    def _lacks_room(self) -> str:
        """In words; "" where there is enough, or old nights could make it. To a part they are not
        there to be removed: others may be at work in the place of nights, and know of them."""
        nights, gib = self.place.parent, self._limits.config.keep_free
        if self.night.part is not None:
            short = resources.lacks(nights, gib)
            return short.told if short else ""
        with self._making_room:
            return resources.make(nights, gib, self.night.name)

    def _say(self, line: str) -> None:
        done = sum(r.state in (State.ENDED, State.SKIPPED) for r in self.night.jobs)
        self._reporter.say(line)
        self._reporter.advance("jobs", done, len(self.night.jobs))

    # --- a failure that is new -------------------------------------------------------------------

    def _try_again(self, row: Row) -> None:
        self._scheduler.add(Task(Pool.GUEST, functools.partial(self._again, row)), first=True)

    def _again(self, row: Row) -> None:
        def carry_out(words: Sequence[str], log: Path) -> bool:
            ended = jobs.carry_out(
                self.place, words, log, self._scheduler.stop, self._limits.deadline
            )
            return ended.code is not None

        job = self._job_of(row)
        for now in retry.tries(self.place, job, row, self._limits.config.retries, carry_out):
            self._update(functools.partial(with_row, row=now))
            self._reporter.say(
                f"again {row.job} {row.case}: failed {now.failed} of {now.runs} times"
            )

    def _bisect(self) -> None:
        """Bisect what is new and fails, a kind of failure at a time, while there is time."""
        by_name = {record.job.name: record.job for record in self.night.jobs}
        kernels = {(kernel.kernel, kernel.arch): kernel for kernel in self.night.kernels}
        past = self._before.past
        fresh = [
            row
            for row in self.night.rows
            if row.status is Status.FAIL and retry.is_new(row, past.get((row.job, row.case), ()))
        ]
        blamed = {(found.job, found.case) for found in self.night.blames}
        end = self._limits.deadline.sooner(self._limits.bisect)
        first = free_number(self.place / bisects.BISECTS)
        for number, row in enumerate(bisects.worth(fresh, kernels, by_name), first):
            if (row.job, row.case) in blamed:
                continue
            if end.passed:
                break
            found = self._bisected(by_name[row.job], row, f"{number:02}", end)
            more = bisects.shared(found, row, fresh, by_name)
            self._update(functools.partial(with_blames, blames=more))
            cause = ": ".join(filter(None, (found.patch, found.told)))
            self._reporter.say(f"blame {row.job} {row.case}: {cause}")
        rest = bisects.likely(fresh, self.night.blames, by_name)
        self._update(functools.partial(with_blames, blames=rest))

    def _bisected(self, job: Job, row: Row, name: str, end: Deadline) -> Blame:
        now = next(k for k in self.night.kernels if (k.kernel, k.arch) == (job.kernel, job.arch))
        good, kept = self._last_good(job, row)
        why = "no input that can be bisected has changed"
        for kind in bisects.bisect_kinds(now, good):
            if kind is bisects.BisectKind.THEIRS and kept is None:
                continue
            place = self.place / bisects.BISECTS / f"{name}-{kind}"
            words = [*bisects.command(kind, job, row, str(kept), now, good), "-o", str(place)]
            log = place.with_name(f"{place.name}.log")
            ended = jobs.carry_out(self.place, words, log, self._scheduler.stop, end)
            if ended.code is None:
                return Blame(row.job, row.case, "", "the time for bisects was up", "")
            why = "a bisect of what has changed explains it by nothing"
            if ended.code == 0:
                verdict = bisects.verdict(kind, work.kept(place), now, good)
                if verdict is not None:
                    where = str(place.relative_to(self.place))
                    return Blame(row.job, row.case, *verdict, where)
        return Blame(row.job, row.case, "", why, "")

    def _last_good(self, job: Job, row: Row) -> tuple[KernelInput | None, Path | None]:
        """What the kernel was made of in the last night in which the case passed, and its patches,
        where they were kept."""
        for past in self._before.past.get((row.job, row.case), ()):
            if past.status in (Status.PASS, Status.KNOWN):
                place = self._before.nights / past.night
                if not checked.is_night(past.night):
                    return None, None
                try:
                    kernels = files.read(place).kernels
                except UsageError:  # its files are gone
                    return None, None
                mine = [k for k in kernels if (k.kernel, k.arch) == (job.kernel, job.arch)]
                return (mine[0] if mine else None), inputs.known(place, job)
        return None, None


def free_number(bisects: Path) -> int:
    """Of the next bisect; one that was interrupted has left its directory, and its log."""
    taken = (re.match(r"(\d{1,6})-", path.name, re.ASCII) for path in bisects.glob("*-*"))
    return max((int(found[1]) for found in taken if found), default=0) + 1


def key(job: Job) -> tuple[str, str]:
    """By which kernels that are made of the same are known."""
    return job.source, " + ".join(job.series)


def with_record(night: Night, record: JobRecord) -> Night:
    """The night with the record in the place of what it was."""
    records = (record if each.job.name == record.job.name else each for each in night.jobs)
    return replace(night, jobs=tuple(records))


def with_row(night: Night, row: Row) -> Night:
    """The night with the row in the place of what it was."""
    rows = (row if (r.job, r.case) == (row.job, row.case) else r for r in night.rows)
    return replace(night, rows=tuple(rows))


def with_blames(night: Night, blames: Sequence[Blame]) -> Night:
    return replace(night, blames=(*night.blames, *blames))


def rows_summary(rows: Sequence[Row]) -> str:
    """`86 PASS, 3 KNOWN`"""
    counts = {status: sum(row.status is status for row in rows) for status in Status}
    return ", ".join(f"{number} {status}" for status, number in counts.items() if number) or "done"


def look(
    planned: Sequence[Job], reporter: Reporter
) -> tuple[tuple[Job, ...], dict[tuple[str, str], Facts], dict[tuple[str, str], str]]:
    """(the jobs, each of the very source that was found; what each kernel is made of; why what of
    some cannot be had)."""
    found: dict[tuple[str, str], Facts] = {}
    troubles: dict[tuple[str, str], str] = {}
    for job in planned:
        if key(job) not in found and key(job) not in troubles:
            try:
                found[key(job)] = inputs.look(job, reporter.say)
            except KlpError as err:
                troubles[key(job)] = str(err)
    jobs_of_it = []
    facts: dict[tuple[str, str], Facts] = {}
    for job in planned:
        known = found.get(key(job))
        jobs_of_it.append(plan.pinned(job, known.source) if known else job)
        if known:
            facts[key(jobs_of_it[-1])] = known
    return tuple(jobs_of_it), facts, troubles
