# SPDX-License-Identifier: GPL-2.0-only
"""A night's own files: night.json and changes.json; and any other results read as a night.

Each file is replaced whole, so that a killed night leaves what it knew.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, TypeAdapter, with_config

from orchestrator.build import kconfig
from orchestrator.errors import UsageError
from orchestrator.history import checked
from orchestrator.history.alike import by_order
from orchestrator.history.inputs import Configs
from orchestrator.history.nights import (
    Changes,
    Job,
    JobRecord,
    KernelInput,
    Night,
    Row,
    Skip,
    State,
)
from orchestrator.history.results import RESULTS, RunRows, machine, read_run, trouble
from orchestrator.host.files import CONFIG
from orchestrator.host.files import read as read_file
from orchestrator.nouns import Kernel
from orchestrator.report import store
from orchestrator.report.store import INTERRUPTED

SCHEMA: Literal[1] = 1
NIGHT = "night.json"
CHANGES = "changes.json"
NIGHTS = Path("nights")  # where nights lie when nothing else is said
COMMAND = "klp-e2e nightly"
_OLD_COMMIT = re.compile(r"\(([0-9a-f]{12})\)$")  # of a source's version: "6.1.0 (0123456789ab)"
_OLD_TIME = "the night's time is up"  # began the reason of what there was no time for


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True, slots=True)
class NightDocument:
    """night.json as a whole."""

    schema: Literal[1]
    night: Night


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True, slots=True)
class ChangesDocument:
    """changes.json as a whole."""

    schema: Literal[1]
    changes: Changes


_NIGHT = TypeAdapter(NightDocument)
_CHANGES = TypeAdapter(ChangesDocument)


def write(place: Path, night: Night) -> None:
    """night.json into the night's directory. Raises HarnessError."""
    text = _NIGHT.dump_json(NightDocument(SCHEMA, night), indent=1).decode()
    store.write(place / NIGHT, f"{text}\n", sync=True)


def write_changes(place: Path, changes: Changes) -> None:
    """changes.json into the night's directory. Raises HarnessError."""
    text = _CHANGES.dump_json(ChangesDocument(SCHEMA, changes), indent=1).decode()
    store.write(place / CHANGES, f"{text}\n")


def document(place: Path) -> Night:
    """night.json of a directory, its name as it stands there. Raises UsageError, also where it
    says what klp-e2e never writes: names that lead elsewhere, rows of no job."""
    file = place / NIGHT
    if not file.is_file():
        raise UsageError(f"{file} is no file", hint=f"give a directory of `{COMMAND}`")
    night = _upgraded(store.load_document(file, _NIGHT, COMMAND).night)
    if why := checked.wrong(night):
        raise UsageError(f"{file} was not written by klp-e2e: {why}", hint="do not trust it")
    return night


def _upgraded(night: Night) -> Night:
    """What an older klp-e2e said in words only, as it is said now."""
    jobs = (
        replace(record, skip=Skip.TIME if record.reason.startswith(_OLD_TIME) else Skip.SOURCE)
        if record.state is State.SKIPPED and record.skip is None
        else record
        for record in night.jobs
    )
    kernels = (
        replace(kernel, commit=found[1])
        if not kernel.commit and (found := _OLD_COMMIT.search(kernel.source_version))
        else kernel
        for kernel in night.kernels
    )
    interrupted = night.interrupted or night.trouble == INTERRUPTED
    upgraded = replace(night, jobs=tuple(jobs), kernels=tuple(kernels), interrupted=interrupted)
    return replace(upgraded, rows=by_order(night.rows))


def read(place: Path) -> Night:
    """A night's directory, by whose name it goes; or that of another command, as a night with one
    job for each architecture, named like it. Raises UsageError."""
    if (place / NIGHT).exists():
        return replace(document(place), name=place.resolve().name)
    return _night(place, read_run(place))


def nights(place: Path) -> Iterator[Path]:
    """The directories that are called like nights and hold one, by name; no links to any."""
    found = sorted(path for path in place.glob("*-*-*-*") if checked.is_night(path.name))
    return (
        path
        for path in found
        if not path.is_symlink() and (path / NIGHT).is_file() and not (path / NIGHT).is_symlink()
    )


def rows(job_directory: Path, job: str, prefix: str) -> tuple[Row, ...]:
    """What a job's command found out so far.

    prefix: the job's directory, relative to the night. Results that cannot be read are one ERROR
    with the reason. A case's name begins with its architecture where there are several.
    """
    try:
        found = read_run(job_directory, prefix).rows
    except UsageError as malformed:
        return (replace(trouble(RESULTS, str(malformed)), job=job),)
    several = len({arch for arch, _ in found if arch}) > 1
    return by_order(
        replace(row, job=job, case=f"{arch} {row.case}" if arch and several else row.case)
        for arch, row in found
    )


def configs(place: Path, now: Night, place_before: Path, before: Night) -> Configs:
    """The options of each kernel that both nights kept the .config of. places: the nights'
    directories. A file that is gone, or is none, counts as not kept."""
    old = {(k.kernel, k.arch): _options(place_before, k) for k in before.kernels}
    both = {}
    for kernel in now.kernels:
        key = kernel.kernel, kernel.arch
        one, other = old.get(key), _options(place, kernel)
        if one and other:
            both[key] = one, other
    return both


def _options(place: Path, kernel: KernelInput) -> dict[str, str]:
    """Empty: not kept, or not for us to read: it may be another user's cache."""
    try:
        return kconfig.parse(read_file(place / kernel.config, CONFIG).decode())
    except (OSError, ValueError):
        return {}


# --- other commands' directories as nights -------------------------------------------------------


def _night(place: Path, found: RunRows) -> Night:
    run = found.run
    arches = dict.fromkeys([*(k.arch for k in run.kernels), *(arch for arch, _ in found.rows)])
    named = [arch for arch in arches if arch]
    return Night(
        name=str(place),
        started=run.started,
        finished=run.finished,
        tool="",  # not recorded
        host=run.host,
        config="",
        budget=None,
        jobs=tuple(_job(found, arch) for arch in named),
        kernels=tuple(_kernel(found, kernel) for kernel in run.kernels),
        rows=by_order(replace(row, job=arch or str(found.kind)) for arch, row in found.rows),
        trouble=run.trouble,
    )


def _job(found: RunRows, arch: str) -> JobRecord:
    run = found.run
    job = Job(
        name=arch,
        kind=found.kind,
        kernel="",
        source=run.source,
        series=run.series,
        configs=run.configs,
        toolchain=run.toolchain,
        arch=arch,
        what=str(found.kind),
        command=run.command[1:],
        estimate=0.0,
        why="",
    )
    state = State.RUNNING if run.finished is None else State.ENDED
    record = JobRecord(job, state, run.trouble, None, run.started, run.finished)
    return replace(record, host=run.host_name, machine=machine(run, arch))


def _kernel(found: RunRows, kernel: Kernel) -> KernelInput:
    """Nameless, so that any two runs compare. Of a series only the name was recorded."""
    return KernelInput(
        kernel="",
        arch=kernel.arch,
        source_version=kernel.source_version,
        release=kernel.release,
        patches=dict.fromkeys(kernel.series, ""),
        config=str(kernel.config),
        compiler=kernel.compiler,
        qemu=found.run.qemu.get(kernel.arch, ""),
        configs=kernel.configs,
    )
