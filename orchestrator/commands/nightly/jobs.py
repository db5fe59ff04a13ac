# SPDX-License-Identifier: GPL-2.0-only
"""One command of klp-e2e as a process of its own: begun, gone on with, ended, and what it left.

A process of its own, so that nothing that goes wrong in one job ends the night, and so that a job
is a line that anybody can paste.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import orchestrator
from orchestrator.cli import options, outsiders
from orchestrator.deadline import Deadline
from orchestrator.errors import Exit, UsageError
from orchestrator.history import changes, files, results
from orchestrator.history.nights import Job, JobKind, JobRecord, Row
from orchestrator.host import ours, process
from orchestrator.report import directory, documents, explorejson, store, trialsjson
from orchestrator.verdicts import Status

JOBS = Path("jobs")
LEFT = "(what was left)"  # the case that stands for all that had no time
GRACE = 30.0  # seconds for a job to end its guests and to write what it knows
POLL = 0.1
TAIL = 2000  # bytes of a log that tell why a job ended
# Ourselves, whatever lies in the working directory: -P keeps that off the path.
PROGRAM = (sys.executable, "-P", "-m", "orchestrator")
HOME = {"PYTHONPATH": str(Path(orchestrator.__file__).parents[1])}
QUIET = (Exit.GOOD, Exit.TEST_FAILURE)  # the results tell; any other exit code tells of trouble
# Whose --resume takes everything from the directory, by this document; others take results.json.
RESUMED = {JobKind.EXPLORE: explorejson.DOCUMENT, JobKind.ABLATE: trialsjson.DOCUMENT}


@dataclass(frozen=True, slots=True)
class JobEnd:
    """code: None when we ended it; `why` says what for."""

    code: int | None
    why: str = ""


def directory_of(night: Path, record: JobRecord) -> Path:
    return night / JOBS / record.job.name


def log_of(night: Path, record: JobRecord) -> Path:
    """What the job printed."""
    place = directory_of(night, record)
    return place.with_name(f"{place.name}.log")


def command(night: Path, record: JobRecord) -> tuple[str, ...]:
    """The words after klp-e2e that begin the job, or go on with what a killed night left of it.

    A directory that cannot be read any more, or is of another job, is put aside (a klp-e2e of
    another version may read it), an empty one removed: the job begins anew.
    Raises NotOurs where it is not the night's own.
    """
    job, place = record.job, directory_of(night, record)
    if job.kind is JobKind.BUILD:
        return job.command
    with store.write_errors(place):
        ours.below(place, night)
    if place.exists() and not _is_of(job, place):
        with store.write_errors(place):
            if not ours.removed(place, night, lambda _: not store.is_blank(place)):
                ours.retire(place, night, "unreadable")
    if not (place / RESUMED.get(job.kind, directory.RESULTS)).exists():
        return (*job.command, "-o", str(place))
    if job.kind not in RESUMED:
        return (*job.command, "--resume", str(place))
    return (str(job.kind), *_named_again(job.command), "--resume", str(place))


def _named_again(words: Sequence[str]) -> Iterator[str]:
    """What of a job's words --resume wants to hear again (`outsiders.refuse`): the matrix is the
    user's own, and `_is_of` has compared them."""
    for option, value in pairwise(words):
        if option in outsiders.OPTIONS:
            yield from (option, value)


def _is_of(job: Job, place: Path) -> bool:
    """Can what lies there be gone on with? --resume takes everything from the directory: kernel,
    architecture and modules must be the job's own, or anything at all would be built and run."""
    try:
        run = documents.run_in(place)
        if job.kind not in RESUMED:
            return True
        sets = (
            explorejson.load_exploration(place).module_sets if job.kind is JobKind.EXPLORE else ()
        )
    except UsageError:
        return False
    return (
        (run.source, run.exact_source) == (job.source, job.source)
        and (run.series, run.configs, run.toolchain) == (job.series, job.configs, job.toolchain)
        and [run.arch_spec(name) for name in run.option("arches").split()] == [job.arch_spec]
        and set(sets) <= {*options.module_sets(job.module_sets)}
        and "patches" not in run.options
    )


def carry_out(
    night: Path, words: Sequence[str], log: Path, stop: threading.Event, deadline: Deadline | None
) -> JobEnd:
    """Run it to its end; ends it when `stop` is set or the deadline has passed. `log`: a file in
    the night, which is appended to."""
    with store.write_errors(log), ours.appending(ours.below(log, night)) as file:
        file.write(f"$ klp-e2e {shlex.join(words)}\n")
    with contextlib.ExitStack() as life:
        with store.write_errors(log):
            running = life.enter_context(
                process.start([*PROGRAM, *words], env=HOME, stdout=log, stderr=log)
            )
        while (code := running.poll()) is None:
            late = deadline is not None and deadline.passed
            if stop.is_set() or late:
                running.end(GRACE)
                return JobEnd(None, "the night's time was up" if late else "interrupted")
            time.sleep(POLL)
    return JobEnd(code)


def rows(night: Path, record: JobRecord, ended: JobEnd) -> tuple[Row, ...]:
    """What the job found out: its cases, and a row that tells why it did not get to the end."""
    job, place = record.job, directory_of(night, record)
    found = files.rows(place, job.name, str(JOBS / job.name)) if place.exists() else ()
    if job.kind is JobKind.BUILD and ended.code == Exit.GOOD:
        return (Row(job.name, "build", Status.PASS, reproduce=_line(record)),)
    if ended.code is None:
        return (*found, Row(job.name, LEFT, Status.SKIP, ended.why))
    stopped = _trouble(place)
    judged = ended.code in QUIET or any(row.status is Status.ERROR for row in found)
    if found and judged and not stopped:  # one that found out nothing proved nothing
        return found
    unbuilt = job.kind is JobKind.BUILD and ended.code == Exit.BUILD
    status = Status.FAIL if unbuilt else Status.ERROR
    why = stopped or _last_words(log_of(night, record))
    case = "build" if job.kind is JobKind.BUILD else f"({job.kind})"
    row = Row(job.name, case, status, f"{job.kind} ended with {ended.code}: {why}")
    row = replace(row, symptom=changes.symptom(row.reason), reproduce=_line(record))
    return (*found, row)


def machine(night: Path, record: JobRecord) -> str:
    """The kind of machine that it ran on; "" where no guest did."""
    try:
        return results.machine(documents.run_in(directory_of(night, record)), record.job.arch)
    except UsageError:
        return ""


def _line(record: JobRecord) -> str:
    return shlex.join(("klp-e2e", *record.job.command))


def _trouble(place: Path) -> str:
    """Why what lies there ended early."""
    try:
        return documents.run_in(place).trouble if place.exists() else ""
    except UsageError as err:
        return str(err)


def _last_words(log: Path) -> str:
    """The message a command of ours ends with: the last line that is not indented, and its hint."""
    with store.write_errors(log), log.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL))
        lines = file.read().decode(errors="replace").splitlines()
    told = [line for line in lines if line.startswith("klp-e2e: ")]
    return told[-1].removeprefix("klp-e2e: ") if told else (lines[-1] if lines else "no word")
