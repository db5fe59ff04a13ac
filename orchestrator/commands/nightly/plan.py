# SPDX-License-Identifier: GPL-2.0-only
"""From the matrix to a list of jobs, the most valuable first. Pure."""

from __future__ import annotations

import difflib
import fnmatch
import hashlib
import itertools
import re
import statistics
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace

from orchestrator.commands.nightly.config import Config, Exploring, Matrix
from orchestrator.errors import UsageError
from orchestrator.history.nights import Job, JobKind, Night, State

# Seconds that a job takes when no night has told yet. A build is the dear one: its first time.
GUESSES: Mapping[JobKind, float] = {
    JobKind.BUILD: 900,
    JobKind.SUITE: 120,
    JobKind.KSELFTEST: 120,
    JobKind.MALFORMED: 180,
    JobKind.EXPLORE: 1200,
    JobKind.ABLATE: 1800,
}
# Within one class of value: what says most in least time first.
RANK = (
    JobKind.BUILD,
    JobKind.SUITE,
    JobKind.KSELFTEST,
    JobKind.MALFORMED,
    JobKind.EXPLORE,
    JobKind.ABLATE,
)
JUDGED = (JobKind.SUITE, JobKind.MALFORMED, JobKind.EXPLORE)  # by the lists of known issues
KNOWN_ISSUES = "--known-issues"
SUITE = "core"  # that `run` takes by default
USUAL = "orders"  # what a set's usual orders are called
NONE = "none"  # of series, of configurations: as the architecture has it
DIGITS = 6  # hexadecimal, that tell jobs apart that would have one name
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_NOT_IN_PATHS = re.compile(r"[^A-Za-z0-9._+@=-]+")


@dataclass(frozen=True, slots=True)
class Target:
    """An architecture as the matrix has it."""

    name: str
    spec: str  # as --arch takes it


@dataclass(frozen=True, slots=True)
class Reader:
    """What the words of a configuration stand for, wherever a job runs. Each raises UsageError."""

    targets: Callable[[Sequence[str]], Iterable[Target]]  # `arches` of a matrix
    source: Callable[[str], str]
    stack: Callable[[Sequence[str]], tuple[str, ...]]  # of series; empty: the bare kernel
    known_issues: Callable[[Sequence[str]], tuple[str, ...]]  # files of them
    seconds: Callable[[str], float]
    configs: Callable[[Sequence[str]], tuple[str, ...]] = tuple
    module_set: Callable[[str], str] = str  # as --modules takes it wherever a job runs
    called: Callable[[str], str] = str  # a set, in names that serve for many nights


def expand(config: Config, read: Reader) -> tuple[Job, ...]:
    """Every job of the matrix once, in its order: of each kernel the build first.

    A name is made of the matrix's words alone, never of where anything lies, so that it is the same
    on every machine. A second job of a name has digits of its own words behind it, not a number
    that would count what else the file has.
    """
    found: dict[tuple[str, ...], Job] = {}
    names: set[str] = set()
    files = read.known_issues(config.known_issues)
    known = tuple(word for file in files for word in (KNOWN_ISSUES, file))
    for matrix in config.matrix:
        for source in matrix.kernels:
            for stack, configs, toolchain in itertools.product(
                matrix.series, matrix.configs, matrix.toolchains
            ):
                series = (stack,) if isinstance(stack, str) else stack
                chosen = (configs,) if isinstance(configs, str) else configs
                for target in read.targets(matrix.arches):
                    for job in _jobs(
                        matrix, source, series, chosen, toolchain, target, read, known
                    ):
                        if job.command in found:
                            continue
                        words = (source, series, chosen, toolchain, target.name, job.what)
                        walk = _told(matrix.explore) if job.kind is JobKind.EXPLORE else ()
                        name = _distinct(job, repr((words, walk)), names)
                        names.add(name)
                        found[job.command] = replace(job, name=name)
    return tuple(found.values())


def _told(walk: Exploring | None) -> tuple[tuple[str, object], ...]:
    """What of a walk's keys is not as it is by default: those that are added later change no
    name."""
    keys = ((key.name, getattr(walk, key.name), key.default) for key in fields(Exploring))
    return tuple((name, value) for name, value, default in keys if walk and value != default)


def _distinct(job: Job, words: str, names: Container[str]) -> str:
    """words: of the matrix, that make the job. A number, too, for what differs in nothing but where
    it lies: two architectures of one name."""
    if job.name not in names:
        return job.name
    digits = hashlib.sha256(words.encode(errors="surrogateescape")).hexdigest()[:DIGITS]
    with_digits = name = f"{job.name}-{digits}"
    for number in itertools.count(2):
        if name not in names:
            break
        name = f"{with_digits}-{number}"
    return name


def chosen(jobs: Sequence[Job], patterns: Sequence[str]) -> tuple[Job, ...]:
    """The jobs that a pattern fits, or one's name is, and the builds of their kernels, in the order
    of `jobs`. Raises UsageError for a pattern that nothing fits, with the names like it."""
    names = [job.name for job in jobs]
    for pattern in patterns:
        if not any(_fits(name, pattern) for name in names):
            close = difflib.get_close_matches(pattern, names, n=3, cutoff=0.4)
            raise UsageError(
                f"no job of the night is called {pattern}",
                hint=f"did you mean {', '.join(close)}?" if close else "--dry-run lists them",
            )
    wanted = {name for name in names if any(_fits(name, pattern) for pattern in patterns)}
    kernels = {(job.kernel, job.arch) for job in jobs if job.name in wanted}
    return tuple(
        job
        for job in jobs
        if job.name in wanted or (job.kind is JobKind.BUILD and (job.kernel, job.arch) in kernels)
    )


def _fits(name: str, pattern: str) -> bool:
    """A name may have a bracket in it."""
    return name == pattern or fnmatch.fnmatchcase(name, pattern)


def stack_words(series: Sequence[str], configs: Sequence[str], toolchain: str) -> tuple[str, ...]:
    """The options that say what a kernel has on top of its source; no series: it is bare."""
    words = [word for name in series or ("none",) for word in ("--series", name)]
    words += [word for name in configs for word in ("--config", name)]
    return (*words, "--toolchain", toolchain) if toolchain else tuple(words)


def suite_of(suite: str, module_set: str) -> str | None:
    """What --suite is told of a set; None of one that is not ours, of which the default suite has
    no orders: `run` takes its usual ones."""
    return None if suite == SUITE and "/" in module_set else suite


def _jobs(
    matrix: Matrix,
    source: str,
    series: tuple[str, ...],
    configs: tuple[str, ...],
    toolchain: str,
    target: Target,
    read: Reader,
    known: tuple[str, ...],
) -> Iterator[Job]:
    stack, tree = read.stack(series), read.source(source)
    chosen = read.configs([name for name in configs if name != NONE])
    named = configs if chosen else ()
    compiled = (toolchain,) if toolchain else ()
    kernel = " + ".join((source, *(series if stack else ()), *named, *compiled))
    place = "/".join(_path(part) for part in (kernel.replace(" + ", "+"), target.name))
    where = ("--arch", target.spec, "--kernel", tree, *stack_words(stack, chosen, toolchain))

    def job(
        kind: JobKind,
        what: str,
        *extra: str,
        estimate: float | None = None,
        module_sets: tuple[str, ...] = (),
    ) -> Job:
        return Job(
            name=f"{place}/{_path(what)}",
            kind=kind,
            kernel=kernel,
            source=tree,
            series=stack,
            configs=chosen,
            toolchain=toolchain,
            arch=target.name,
            what=what,
            command=(str(kind), *where, *extra, *(known if kind in JUDGED else ())),
            estimate=GUESSES[kind] if estimate is None else estimate,
            why="",
            arch_spec=target.spec,
            module_sets=module_sets,
        )

    yield job(JobKind.BUILD, "build")
    for suite in matrix.suites:
        if not matrix.modules:
            yield job(JobKind.SUITE, suite, "--suite", suite)
        for module_set in map(read.module_set, matrix.modules):
            chosen_suite = suite_of(suite, module_set)
            what = f"{chosen_suite or USUAL} {read.called(module_set)}"
            words = ["--suite", chosen_suite] if chosen_suite else []
            yield job(
                JobKind.SUITE, what, *words, "--modules", module_set, module_sets=(module_set,)
            )
    if matrix.kselftest:
        yield job(JobKind.KSELFTEST, "kselftest")
    if matrix.malformed:
        yield job(JobKind.MALFORMED, "malformed")
    if matrix.explore is not None:
        exploring = matrix.explore
        sets = [read.module_set(name) for name in exploring.modules]
        words = [word for name in sets for word in ("--modules", name)]
        words += ["--budget", exploring.budget, "--strategy", exploring.strategy, "--guests", "1"]
        words += ["--races"] * exploring.races + ["--burst", str(exploring.burst)] * bool(
            exploring.burst
        )
        what = " ".join(("explore", *map(read.called, sets), *(["races"] * exploring.races)))
        yield job(
            JobKind.EXPLORE,
            what,
            *words,
            estimate=read.seconds(exploring.budget),
            module_sets=tuple(sets),
        )
    if matrix.ablate:
        yield job(JobKind.ABLATE, "ablate")


def pinned(job: Job, source: str) -> Job:
    """The job of this very source, whatever happens to the branch that it was planned of."""
    words = list(job.command)
    if "--kernel" in words[:-1]:
        words[words.index("--kernel") + 1] = source
    return replace(job, source=source, command=tuple(words))


def known_words(job: Job) -> tuple[str, ...]:
    """Of a job's command those that name files of known issues."""
    pairs = itertools.pairwise(job.command)
    return tuple(each for pair in pairs if pair[0] == KNOWN_ISSUES for each in pair)


def as_begun(job: Job, begun: Job | None) -> Job:
    """The planned job at the commit at which a night has begun it, where both are of one branch.
    Of what that night says only the commit's number is taken."""
    place, _, commit = begun.source.partition("#") if begun else ("", "", "")
    same = place == job.source.partition("#")[0] and place.startswith("git:")
    return pinned(job, f"{place}#{commit}") if same and _COMMIT.fullmatch(commit) else job


def of_branch(job: Job) -> Job:
    """The job without what two plans of one matrix may differ in: its commit, its place, why."""
    return replace(pinned(job, job.source.partition("#")[0]), estimate=0.0, why="")


def _path(text: str) -> str:
    """A part of a path that says what `text` says; never "." or ".."."""
    return _NOT_IN_PATHS.sub("-", text).strip("-.") or "x"


# --- the most valuable first ---------------------------------------------------------------------


def ordered(
    jobs: Sequence[Job],
    last: Night | None,
    changed: Mapping[tuple[str, str], str],
    took: Callable[[str], Sequence[float]],
    built: Container[str] = (),
) -> tuple[Job, ...]:
    """What failed last night, then what has changed since, then what did not run, then the rest;
    each with its estimate and why it stands where it stands. A build comes before its first user.

    `changed`: (kernel, architecture) -> what of it is not as it was, in words; `took`: how long a
    job took in earlier nights, in seconds, newest first; `built`: names of the builds that find
    their kernel in the cache.
    """
    wrong = {row.job for row in last.rows if row.status.bad} if last else set()
    ran = {record.job.name for record in last.jobs if record.state is State.ENDED} if last else None
    classed: list[tuple[int, int, int, Job]] = []
    for number, job in enumerate(jobs):
        before = took(job.name)
        estimate = statistics.median(before) if before else job.estimate
        if job.name in built:
            estimate = 0.0
        value, why = _value(job, wrong, ran, changed.get((job.kernel, job.arch), ""))
        made = replace(job, estimate=estimate, why=why)
        classed.append((value, RANK.index(job.kind), number, made))
    first = {
        (job.kernel, job.arch): place
        for *place, job in sorted(classed, key=lambda each: each[:3], reverse=True)
        if job.kind is not JobKind.BUILD
    }

    def key(each: tuple[int, int, int, Job]) -> tuple[list[int], int]:
        *own, job = each
        if job.kind is JobKind.BUILD:
            return first.get((job.kernel, job.arch), own), 0
        return own, 1

    return tuple(job for *_, job in sorted(classed, key=key))


def _value(job: Job, wrong: set[str], ran: set[str] | None, changed: str) -> tuple[int, str]:
    if ran is None:
        return 3, "the first night"
    if job.name in wrong:
        return 0, "failed last night"
    if changed:
        return 1, f"changed since: {changed}"
    if job.name not in ran:
        return 2, "did not run last night"
    return 3, "as last night"


def left_out(jobs: Sequence[Job], budget: float, workers: int) -> tuple[Job, ...]:
    """What will not fit, as far as the estimates can tell: builds on a worker of their own, the
    rest on so many others, each job where it can begin first."""
    free = {True: [0.0], False: [0.0] * workers}
    built: dict[tuple[str, str], float] = {}
    out = []
    for job in jobs:
        build = job.kind is JobKind.BUILD
        mine = free[build]
        worker = mine.index(min(mine))
        begin = max(mine[worker], 0.0 if build else built.get((job.kernel, job.arch), 0.0))
        if begin + job.estimate > budget:
            out.append(job)
            continue
        mine[worker] = begin + job.estimate
        if build:
            built[job.kernel, job.arch] = mine[worker]
    return tuple(out)
