# SPDX-License-Identifier: GPL-2.0-only
"""A night of parts that were run here and there, as if one machine had run them all. Pure.

What no part has is not run, and a night that lacks a job is in trouble: nobody gets a good one by
leaving out the part that failed. For the same reason a job that two parts have run is refused, and
not chosen from.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import NamedTuple

from orchestrator.errors import UsageError
from orchestrator.history.nights import (
    Blame,
    Job,
    JobKind,
    JobRecord,
    KernelInput,
    Night,
    Row,
    Skip,
    State,
)

NOT_RUN = "none of the parts that were merged has it"
# Nothing else of `inputs`: patches that a night keeps are built and run by later ones.
_CONFIG = re.compile(r"inputs/[^/]+\.config")
_COMMIT = re.compile(r"[0-9a-f]{0,64}")
_BISECT = re.compile(r"bisects/\d{1,6}-(?P<way>[a-z]+)", re.ASCII)
_BEGUN = (State.RUNNING, State.ENDED)


class Given(NamedTuple):
    """A part, and how it is called where it is complained of."""

    called: str
    night: Night


class Copy(NamedTuple):
    """What goes from a part's directory into the night's: a file, or a directory with all in it.
    Paths are relative to these; there may be nothing."""

    part: int  # which of those given
    source: str
    goal: str


@dataclass(frozen=True, slots=True)
class Merged:
    night: Night
    copies: tuple[Copy, ...]


def alike(before: Night, part: Night) -> Night:
    """Of an earlier night what a part can be compared with; all of it, where it is whole."""
    if part.part is None:
        return before
    mine = {record.job.name for record in part.jobs}
    kernels = {(record.job.kernel, record.job.arch) for record in part.jobs}
    return replace(
        before,
        jobs=tuple(record for record in before.jobs if record.job.name in mine),
        rows=tuple(row for row in before.rows if row.job in mine),
        kernels=tuple(k for k in before.kernels if (k.kernel, k.arch) in kernels),
    )


def merged(given: Sequence[Given], name: str) -> Merged:
    """The night, called `name`. Raises UsageError where the parts are not of one night, contradict
    one another, or are none."""
    if not given:
        raise UsageError("merge needs the directories of parts", hint="klp-e2e merge DIR...")
    plan = _one_plan(given)
    holders = {job.name: _holder(job, given) for job in plan}
    jobs = tuple(_record(job, holders[job.name], given) for job in plan)
    kernels = _kernels(given)
    blames, bisects = _blames(given, holders)
    copies = [*_of_jobs(holders), *bisects]
    copies += [Copy(part, kernel.config, kernel.config) for part, kernel in kernels]
    found = [each.night for each in given]
    ends = [night.finished for night in found if night.finished is not None]
    night = Night(
        name=name,
        started=min(night.started for night in found),
        finished=max(ends) if len(ends) == len(found) else None,
        tool=found[0].tool,
        host="; ".join(dict.fromkeys(night.host for night in found)),
        config=found[0].config,
        budget=found[0].budget,
        jobs=jobs,
        kernels=tuple(kernel for _, kernel in kernels),
        rows=tuple(_rows(plan, holders, given)),
        blames=blames,
        trouble="; ".join(filter(None, map(_trouble, given))),
        parts=tuple(night.name for night in found),
    )
    return Merged(night, tuple(copy for copy in copies if copy.source))


def _trouble(given: Given) -> str:
    night = given.night
    if night.trouble or night.finished is None:
        return f"{night.name}: {night.trouble or 'it did not end'}"
    return ""


# --- do they belong together? --------------------------------------------------------------------


def _one_plan(given: Sequence[Given]) -> tuple[Job, ...]:
    """Every job of the night, from the first part, which the others agree with."""
    first = given[0]
    for each in given:
        if each.night.part is None:
            raise UsageError(
                f"{each.called} is no part of a night: nothing in it says so",
                hint="`klp-e2e nightly --only JOB` makes parts; a whole night stands by itself",
            )
        what = _differs(first.night, each.night)
        if what:
            raise UsageError(
                f"{first.called} and {each.called} are no parts of one night: {what}",
                hint="merge those that one file, and one klp-e2e, have made",
            )
        if why := _malformed(each.night):
            raise UsageError(
                f"{each.called} was not written by klp-e2e: {why}", hint="do not trust it"
            )
    assert first.night.part is not None
    return first.night.part.plan


def _differs(one: Night, other: Night) -> str:
    assert one.part is not None and other.part is not None
    if one.tool != other.tool:
        return f"klp-e2e {one.tool} made one, {other.tool} the other"
    if one.part.digest != other.part.digest:
        return "the file, a list of known issues or an architecture is not the same"
    names, others = ([job.name for job in night.part.plan] for night in (one, other) if night.part)
    if names != others:
        return f"{min({*names} ^ {*others}, default='the order of jobs')} is not in both plans"
    return ""


def _malformed(night: Night) -> str:
    """What cannot be in a part that klp-e2e wrote, beside what `checked` has seen."""
    assert night.part is not None
    names = [job.name for job in night.part.plan]
    mine = {record.job.name: record.job for record in night.jobs}
    if set(mine) != set(night.part.only):
        return "its jobs are not those that it was begun with"
    for job in night.part.plan:
        own = mine.get(job.name, job)
        if (own.kind, own.kernel, own.arch) != (job.kind, job.kernel, job.arch):
            return f"{job.name} is another job than in its plan"
    if strange := set(mine) - set(names):
        return f"{min(strange)} is not in its plan"
    above = {str(place) for name in names for place in PurePosixPath(name).parents}
    if within := above & set(names):
        return f"a job lies in {min(within)}, which is one itself"
    for kernel in night.kernels:
        if not _COMMIT.fullmatch(kernel.commit):
            return f"{kernel.commit!r} is no commit"
        if kernel.config and not _CONFIG.fullmatch(kernel.config):
            return f"{kernel.config!r} is no configuration that it keeps"
    return ""


# --- who has what --------------------------------------------------------------------------------


def _holder(job: Job, given: Sequence[Given]) -> int | None:
    """Which part's job counts; None: no part has it.

    Every part builds what it runs: of builds the worst counts, so that one which failed somewhere
    is told. Raises UsageError where two have run anything else.
    """
    having = [
        (number, record)
        for number, each in enumerate(given)
        for record in each.night.jobs
        if record.job.name == job.name
    ]
    begun = [(number, record) for number, record in having if record.state in _BEGUN]
    if len(begun) > 1 and job.kind is not JobKind.BUILD:
        one, other = (given[number].called for number, _ in begun[:2])
        raise UsageError(
            f"{one} and {other} have both run {job.name}",
            hint="give one of them: a night has one result of each job",
        )
    if begun:
        return max(begun, key=lambda each: _badness(each[1]))[0]
    return having[0][0] if having else None


def _badness(record: JobRecord) -> int:
    """Of a build; the first of those that are equally bad counts."""
    if record.state is not State.ENDED:
        return 1
    return 2 if record.exit_code != 0 else 0


def _record(job: Job, holder: int | None, given: Sequence[Given]) -> JobRecord:
    if holder is None:
        return JobRecord(job, State.SKIPPED, NOT_RUN, skip=Skip.PART)
    return next(r for r in given[holder].night.jobs if r.job.name == job.name)


def _rows(
    plan: Sequence[Job], holders: Mapping[str, int | None], given: Sequence[Given]
) -> Iterator[Row]:
    by_job: dict[tuple[int, str], list[Row]] = {}
    for number, each in enumerate(given):
        for row in each.night.rows:
            by_job.setdefault((number, row.job), []).append(row)
    for job in plan:
        holder = holders[job.name]
        if holder is not None:
            yield from by_job.get((holder, job.name), ())


def _of_jobs(holders: Mapping[str, int | None]) -> Iterator[Copy]:
    for name, part in holders.items():
        if part is not None:
            for path in (f"jobs/{name}", f"jobs/{name}.log", f"again/{name}"):
                yield Copy(part, path, path)


def _kernels(given: Sequence[Given]) -> list[tuple[int, KernelInput]]:
    """(part, kernel) of each kernel once. QEMU may be another on each machine, and all are named.

    Raises UsageError where what is called one kernel is two: on one architecture in all that it is
    made of, on several in source and patches, which one machine would have looked up once.
    """
    found: dict[tuple[str, str], tuple[int, KernelInput]] = {}
    sources: dict[str, tuple[int, KernelInput]] = {}
    for number, each in enumerate(given):
        for kernel in each.night.kernels:
            key = kernel.kernel, kernel.arch
            for (holder, other), unlike in (
                (sources.setdefault(kernel.kernel, (number, kernel)), _other_source),
                (found.setdefault(key, (number, kernel)), _other_build),
            ):
                if what := unlike(other, kernel):
                    raise UsageError(
                        f"{given[holder].called} and {each.called} have run {kernel.kernel} on "
                        f"{kernel.arch} of two kinds: {what}",
                        hint="run again the part that is out of date; "
                        "name a branch by its commit where parts begin at different times",
                    )
            holder, other = found[key]
            emulators = dict.fromkeys([*other.qemu.split("; "), kernel.qemu])
            found[key] = holder, replace(other, qemu="; ".join(filter(None, emulators)))
    return list(found.values())


def _other_build(one: KernelInput, other: KernelInput) -> str:
    """What, but for its source, makes another kernel of it."""
    return _first_unlike(
        ("release", one.release, other.release),
        ("compiler", one.compiler, other.compiler),
        ("configuration", " ".join(one.configs), " ".join(other.configs)),
    )


def _first_unlike(*pairs: tuple[str, str, str]) -> str:
    """pairs: what it is, and its two values."""
    return next(
        (
            f"{what} {one or 'none'}, {what} {two or 'none'}"
            for what, one, two in pairs
            if one != two
        ),
        "",
    )


def _other_source(one: KernelInput, other: KernelInput) -> str:
    told = _first_unlike(
        ("source version", one.source_version, other.source_version),
        ("commit", one.commit, other.commit),
    )
    if told:
        return told
    if list(one.patches.items()) != list(other.patches.items()):
        names = {*one.patches.items()} ^ {*other.patches.items()}
        return f"patch {min(name for name, _ in names)}" if names else "its patches' order"
    return ""


# --- what bisects found --------------------------------------------------------------------------


def _blames(
    given: Sequence[Given], holders: Mapping[str, int | None]
) -> tuple[tuple[Blame, ...], list[Copy]]:
    """The blames, their directories numbered anew: each part has counted from one."""
    blames: list[Blame] = []
    goals: dict[tuple[int, str], str] = {}
    for number, each in enumerate(given):
        for blame in each.night.blames:
            if holders.get(blame.job) != number:
                continue
            place = ""
            if match := _BISECT.fullmatch(blame.directory):
                fresh = f"bisects/{len(goals) + 1:02}-{match['way']}"
                place = goals.setdefault((number, blame.directory), fresh)
            blames.append(replace(blame, directory=place))
    copies = [
        Copy(part, f"{source}{end}", f"{goal}{end}")
        for (part, source), goal in goals.items()
        for end in ("", ".log")
    ]
    return tuple(blames), copies
