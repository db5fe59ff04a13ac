# SPDX-License-Identifier: GPL-2.0-only
"""What `klp-e2e nightly` does: the plan, the night, its history, its report. Prints nothing itself.

DIR/history.sqlite, DIR/index.html     all nights; DIR and each NIGHT hold a mark, .klp-e2e
DIR/NIGHT/night.json                   the plan, and what is known of it
          jobs/JOB/, jobs/JOB.log      the results directory of each job, and what it printed
          again/JOB/CASE/N/            further tries of a new failure
          bisects/                     which patch is to blame
          inputs/                      configurations and patches of its kernels
          index.html, cases/, ...      the report: pages/site.py, announce/files.py
DIR/part-.../                          the same of a part of a night (--only), which is no night
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator import catalog
from orchestrator.announce import files as announcements
from orchestrator.announce import notify
from orchestrator.build import kernel
from orchestrator.build.configs import configured
from orchestrator.cli import options, session
from orchestrator.cli.version import version
from orchestrator.commands.nightly import inputs, nightrun, place, plan, resources
from orchestrator.commands.nightly.config import Config
from orchestrator.commands.nightly.inputs import Facts
from orchestrator.commands.nightly.nightrun import Before, Limits, NightRun
from orchestrator.deadline import Deadline
from orchestrator.errors import HarnessError, KlpError, NoHistory, UsageError
from orchestrator.history import changes, files, parts
from orchestrator.history.checked import is_night
from orchestrator.history.database import NAME, History
from orchestrator.history.digest import NightDigest, digest
from orchestrator.history.nights import (
    Changes,
    Job,
    JobKind,
    JobRecord,
    Night,
    Part,
    PastResult,
    Skip,
    State,
)
from orchestrator.host import ours, standing
from orchestrator.host.files import TEXT
from orchestrator.host.files import read as read_file
from orchestrator.nouns import Arch
from orchestrator.pages import site
from orchestrator.report.progress import Reporter
from orchestrator.report.store import write_errors
from orchestrator.source import sources

OURS = "nightly.toml"  # in kernel-config/


@dataclass(frozen=True, slots=True)
class NightOptions:
    file: Path
    config: Config
    arches: tuple[Arch, ...]  # of the whole matrix, each with each of its configurations
    nights: Path  # the place of all nights
    resume: str  # name of the night to go on with, or ""
    wait: bool
    notify: str  # a shell command, or ""
    only: tuple[str, ...] = ()  # patterns of jobs, of which a part of the night is; empty: all

    @property
    def guests(self) -> int:
        return self.config.guests or resources.guests(self.arches)


@dataclass(frozen=True, slots=True)
class NightEnd:
    """What there is to say of a night."""

    night: Night
    changes: Changes
    digest: NightDigest
    page: Path
    troubles: tuple[str, ...]  # of ours, which leave the verdict as it is: no history, no mail


def night_options(
    file: Path | None,
    nights: Path | None,
    resume: Path | None,
    wait: bool,
    command: str | None,
    only: Sequence[str] = (),
) -> NightOptions:
    """From what was typed. Raises UsageError when anything in the file cannot be."""
    if resume is not None:
        options.resumed_only(nights)
        if only:
            raise UsageError(
                "--resume and --only exclude each other",
                hint="leave out --only: a part goes on with the jobs that it was begun with",
            )
        resume = resume.resolve()
        if not (resume / files.NIGHT).exists():
            raise UsageError(
                f"{resume} is no night: it has no {files.NIGHT}",
                hint="--resume DIR names the night, as in nights/2026-01-31-020000",
            )
        nights = resume.parent
    file = file or catalog.data_dir("kernel-config") / OURS
    config = catalog.load_toml(file, Config)
    if not config.matrix:
        raise UsageError(f"{file}: it has no [[matrix]]", hint="kernel-config/nightly.toml is one")
    with contextlib.chdir(file.absolute().parent):
        arches = tuple(_guests(config))
        for matrix in config.matrix:
            for suite in matrix.suites:
                options.our_suite(suite)
                for name in map(options.anywhere, matrix.modules):
                    options.chosen_cases(name, (), plan.suite_of(suite, name))
            if matrix.explore is not None:
                options.module_sets(matrix.explore.modules)
        _refuse_namesakes(file, config)
    made = NightOptions(
        file=file.absolute(),
        config=config,
        arches=arches,
        nights=(nights or files.NIGHTS).absolute(),
        resume=resume.name if resume else "",
        wait=wait,
        notify=command or "",
        only=tuple(only),
    )
    options.seconds(config.budget)
    _for_bisects(config)
    whole = jobs(made)
    if all(job.kind is JobKind.BUILD for job in whole):
        raise UsageError(f"{file}: there is no job in it", hint="`suites`, or kselftest = true, …")
    plan.chosen(whole, made.only)
    return made


def _guests(config: Config) -> Iterator[Arch]:
    """Raises UsageError for an architecture or a configuration that is none."""
    for matrix in config.matrix:
        for arch, chosen in itertools.product(options.arches(matrix.arches), matrix.configs):
            names = [chosen] if isinstance(chosen, str) else chosen
            specs = options.configurations([name for name in names if name != plan.NONE])
            for toolchain in matrix.toolchains:
                yield configured(options.with_toolchain(arch, toolchain), specs)


def _refuse_namesakes(file: Path, config: Config) -> None:
    """Nights are told by the names of sets, whose place may be another one the next night."""
    named = (
        (*matrix.modules, *(matrix.explore.modules if matrix.explore else ()))
        for matrix in config.matrix
    )
    places: dict[str, str] = {}
    for name in map(options.anywhere, itertools.chain.from_iterable(named)):
        other = places.setdefault(catalog.called(name), name)
        if other != name:
            raise UsageError(
                f"{file}: {other} and {name}: both module sets are named '{Path(name).name}'",
                hint="a history could not tell them apart: rename a directory",
            )


def _for_bisects(config: Config) -> float:
    return options.seconds(config.bisect) if config.bisect else 0.0


def jobs(wanted: NightOptions) -> tuple[Job, ...]:
    """Every job of the matrix, in its order. Paths in the file are relative to where it lies."""

    def targets(specs: Sequence[str]) -> Iterator[plan.Target]:
        for arch in options.arches(specs):
            yield plan.Target(arch.name, str(arch.file.absolute()) if arch.file else arch.name)

    def known_issues(names: Sequence[str]) -> tuple[str, ...]:
        files = options.issue_files(tuple(map(Path, names)))
        arches = {spec for matrix in wanted.config.matrix for spec in matrix.arches}
        options.known_issues(files, options.arches(sorted(arches)))
        return tuple(map(str, files))

    read = plan.Reader(
        targets,
        options.source,
        options.stack,
        known_issues,
        options.seconds,
        options.configurations,
        options.anywhere,
        catalog.called,
    )
    with contextlib.chdir(wanted.file.parent):
        return plan.expand(wanted.config, read)


def asked(whole: Sequence[Job], only: Sequence[str]) -> tuple[Job, ...]:
    """Those of a night's jobs that are to be carried out. Raises UsageError."""
    return plan.chosen(whole, only) if only else tuple(whole)


def digest_of(wanted: NightOptions) -> str:
    """Of what makes all jobs what they are: the file, its lists of known issues, its architectures,
    their paths left out. Two machines on which it is the same run parts of one night. What kernels
    are made of is not in it: it is known when they are. Raises UsageError."""
    names = [wanted.file]
    with contextlib.chdir(wanted.file.parent):
        names += options.issue_files(tuple(map(Path, wanted.config.known_issues)))
    found = hashlib.sha256()
    for name in names:
        try:
            found.update(hashlib.sha256(read_file(name, TEXT)).digest())
        except OSError as err:
            raise UsageError(f"{name}: {err.strerror}") from err
    arches = (repr(replace(arch, file=None, configs=())) for arch in wanted.arches)
    found.update("\n".join(arches).encode(errors="surrogateescape"))
    return found.hexdigest()


@dataclass(frozen=True, slots=True)
class Planned:
    jobs: tuple[Job, ...]  # in the order in which they are begun
    left_out: frozenset[str]  # names of those for which there will be no time


def planned(wanted: NightOptions) -> Planned:
    """For --dry-run. Nothing is fetched: what has changed since the last night is not looked up."""
    resources.possible(wanted.nights, wanted.config.keep_free)
    before = known_before(wanted.nights, "")
    found = asked(jobs(wanted), wanted.only)
    ordered = plan.ordered(found, before.last, {}, before.seconds, built(found))
    out = plan.left_out(ordered, options.seconds(wanted.config.budget), wanted.guests)
    return Planned(ordered, frozenset(job.name for job in out))


def built(found: Sequence[Job]) -> frozenset[str]:
    """Names of the builds that find their kernel in the cache, as far as that can be told without
    the network."""
    return frozenset(job.name for job in found if job.kind is JobKind.BUILD and _is_built(job))


def _is_built(job: Job) -> bool:
    with contextlib.suppress(KlpError):  # whatever it is, the job itself will tell
        (arch,) = options.arches((job.arch_spec,))
        arch = configured(options.with_toolchain(arch, job.toolchain), job.configs)
        tree = sources.at_hand(job.source)
        return tree is not None and kernel.is_built(arch, tree, job.series)
    return False


def run_night(wanted: NightOptions, reporter: Reporter) -> NightEnd:
    """The night, or the rest of one. Raises HarnessError: another one runs, or the disk is full;
    UsageError when there is none to go on with, or the place of nights is not ours."""
    troubles: list[str] = []
    resources.possible(wanted.nights, wanted.config.keep_free)
    with write_errors(wanted.nights):
        adopted = place.claim(wanted.nights)
    if adopted:
        reporter.say(adopted)
    wanted = replace(wanted, nights=wanted.nights.resolve())
    part = bool(wanted.only) or bool(wanted.resume and not is_night(wanted.resume))
    alone = resources.alone(wanted.nights, wanted.wait, reporter.say, part=part)
    with alone, contextlib.ExitStack() as life:
        with write_errors(wanted.nights):
            life.enter_context(standing.at_work(wanted.nights))
        running = _night_run(wanted, troubles, reporter)
        with write_errors(running.place):
            life.enter_context(standing.at_work(running.place))
        try:
            running.run_jobs(wanted.guests)
            running.end(None)
        except (KeyboardInterrupt, KlpError) as err:
            with contextlib.suppress(KlpError):  # a full disk has been told
                running.end(err)
                report_night(wanted.nights, running.night, troubles)
            raise
        ended = report_night(wanted.nights, running.night, troubles)
        if wanted.notify:
            try:
                notify.send(wanted.notify, running.place, ended.night, ended.changes)
            except HarnessError as err:
                troubles.append(err.full_message)
        if part:
            return replace(ended, troubles=tuple(troubles))
        # Last: whatever is wrong with an old night, this one has been told.
        pruned = resources.prune(wanted.nights, wanted.config.keep_nights, running.night.name)
        troubles += pruned.troubles
    return replace(ended, troubles=tuple(troubles))


def _night_run(wanted: NightOptions, troubles: list[str], reporter: Reporter) -> NightRun:
    """The night as it is to be worked on: a new one with its plan, or what a kill left of one."""
    held = _unfinished(wanted.nights, wanted.resume) if wanted.resume else None
    whole = jobs(wanted)
    mine_only = _held_part(held, whole) if held and held.part else wanted.only
    todo = asked(whole, mine_only)
    names = tuple(job.name for job in todo)
    part = Part(names, whole, digest_of(wanted)) if mine_only else None
    name = held.name if held else name_of(wanted.nights, part)
    mine = wanted.nights / name
    before = known_before(wanted.nights, name, troubles)
    begun = {record.job.name: record.job for record in held.jobs} if held else {}
    pinned = [plan.as_begun(job, begun.get(job.name)) for job in todo]
    found, facts, missing = nightrun.look(pinned, reporter)
    planned = replace(_begun(wanted, name, found, before, facts), part=part)
    if held:
        planned = resumed(planned, held)
    with write_errors(mine):
        ours.make(mine, ours.MarkKind.NIGHT, hint="choose another place with -o DIR")
    planned = replace(planned, jobs=tuple(_possible(record, missing) for record in planned.jobs))
    for job in found:
        if job.kind is JobKind.BUILD and nightrun.key(job) in facts:
            inputs.keep_series(mine, job, facts[nightrun.key(job)])
    files.write(mine, planned)
    config = wanted.config
    deadline = Deadline.after(options.seconds(config.budget))
    limits = Limits(deadline, _for_bisects(config), config)
    return NightRun(mine, planned, facts, Before(wanted.nights, before.past), limits, reporter)


def _held_part(held: Night, whole: Sequence[Job]) -> tuple[str, ...]:
    """The jobs that a part was begun with: of what it says only their names are taken, and these
    are to be the plan's. Raises UsageError."""
    assert held.part is not None
    known = {job.name for job in whole}
    if not held.part.only or (other := [name for name in held.part.only if name not in known]):
        raise _other_night(held, other[0] if held.part.only else "it has no job")
    return held.part.only


def _other_night(held: Night, what: str) -> UsageError:
    return UsageError(
        f"the file is not what {held.name} was begun with: {what}",
        hint="without --resume a night begins",
    )


def resumed(planned: Night, held: Night) -> Night:
    """The plan with what a night found out before it was killed. What is to be carried out is all
    of the plan; of the jobs that stand in the night only their states are taken.

    Raises UsageError where the plan is not the one that the night was begun with.
    """
    states = {record.job.name: record for record in held.jobs}
    now, then = ({r.job.name: plan.of_branch(r.job) for r in each.jobs} for each in (planned, held))
    if now != then:
        other = sorted(name for name in {*now, *then} if now.get(name) != then.get(name))
        raise UsageError(
            f"{planned.config} is not what night {held.name} was begun with: {other[0]}",
            hint="without --resume a night begins",
        )
    if planned.part and held.part and planned.part.digest != held.part.digest:
        raise _other_night(held, "a part has to fit the others")
    records = tuple(replace(states[r.job.name], job=r.job) for r in planned.jobs)
    goes_on = replace(held, finished=None, trouble="", interrupted=False)
    return replace(goes_on, config=planned.config, jobs=records, part=planned.part)


def _begun(
    wanted: NightOptions,
    name: str,
    found: Sequence[Job],
    before: Known,
    facts: Mapping[tuple[str, str], Facts],
) -> Night:
    """A night with its plan."""
    changed = {}
    for then in before.last.kernels if before.last else ():
        for job in found:
            if (job.kernel, job.arch) == (then.kernel, then.arch) and nightrun.key(job) in facts:
                known = facts[nightrun.key(job)]
                what = inputs.differences(known.source_version, known.digests, then)
                changed[job.kernel, job.arch] = what
    ordered = plan.ordered(found, before.last, changed, before.seconds, built(found))
    return Night(
        name=name,
        started=time.time(),
        finished=None,
        tool=version(),
        host=session.host_line(),
        config=str(wanted.file),
        budget=options.seconds(wanted.config.budget),
        jobs=tuple(map(JobRecord, ordered)),
    )


def _possible(record: JobRecord, missing: Mapping[tuple[str, str], str]) -> JobRecord:
    """Skipped from the start where its kernel's source or series cannot be had."""
    why = missing.get(nightrun.key(record.job))
    if why is None or record.state in (State.ENDED, State.SKIPPED):
        return record
    return replace(record, state=State.SKIPPED, skip=Skip.SOURCE, reason=why)


def name_of(nights: Path, part: Part | None = None) -> str:
    """After the time; and after every night there is, whatever the clock says. That of a part is no
    night's, so that nobody takes it for one, and another machine's part has another."""
    if part is not None:
        whose = (session.host_name(), str(os.getpid()), *part.only)
        digits = hashlib.sha256("\n".join(whose).encode()).hexdigest()[:8]
        first = f"part-{time.strftime('%Y-%m-%d-%H%M%S')}-{digits}"
        numbered = (f"{first}.{number}" for number in itertools.count(1))
        candidates = itertools.chain((first,), numbered)
        return next(name for name in candidates if not os.path.lexists(nights / name))
    name = time.strftime("%Y-%m-%d-%H%M%S")
    last = max((path.name for path in nights.iterdir() if is_night(path.name)), default="")
    return name if name > last else f"{last}.1"


def _unfinished(nights: Path, name: str) -> Night:
    """The night of that name, if it is the newest and has not ended, or such a part of one. Raises
    UsageError."""
    newest = [*files.nights(nights)][-1:]
    if is_night(name) and newest != [nights / name]:
        why = f"{newest[0].name} is the newest night there" if newest else "there is no night"
    else:
        found = files.document(nights / name)
        if not (found.name == name and ours.marked(nights / name, ours.MarkKind.NIGHT)):
            why = "it was not begun here: nothing in it says so"
        elif not is_night(name) and found.part is None:
            why = "it is called neither as a night nor as a part of one"
        elif found.parts:
            why = "it was merged of parts, which were begun elsewhere: go on with those"
        elif found.finished is not None:
            why = "it has ended"
        else:
            return found
    raise UsageError(
        f"{nights / name} cannot be gone on with: {why}", hint="without --resume a night begins"
    )


# --- what earlier nights tell, what later ones are to know ---------------------------------------


@dataclass(frozen=True, slots=True)
class Known:
    """What earlier nights tell."""

    past: Mapping[tuple[str, str], Sequence[PastResult]]
    took: Mapping[str, Sequence[float]]  # job -> seconds, newest first
    last: Night | None

    def seconds(self, job: str) -> Sequence[float]:
        return self.took.get(job, ())


def known_before(nights: Path, name: str, troubles: list[str] | None = None) -> Known:
    """What there is to know before the night of this name; without a history that can be read, what
    the last night's files tell, and why is added to `troubles`."""
    last = _last(nights, name)
    past: Mapping[tuple[str, str], Sequence[PastResult]] = {}
    took: dict[str, Sequence[float]] = {}
    if nights.is_dir():
        try:
            with History(nights / NAME, reading=True) as history:
                past = history.past(name)
                took = {r.job.name: history.seconds(r.job.name) for r in last.jobs} if last else {}
        except NoHistory as err:
            if troubles is not None:
                troubles.append(f"{err}; the night goes on without")
    if not past and last is not None:
        kinds = {record.job.name: record.machine for record in last.jobs}
        past = {
            (r.job, r.case): (changes.as_past(last.name, r, kinds.get(r.job, "")),)
            for r in last.rows
        }
    return Known(past, took, last)


def _last(nights: Path, name: str) -> Night | None:
    """The last night before that one whose files can be read."""
    before = [path for path in files.nights(nights) if not name or path.name < name]
    for path in reversed(before):
        with contextlib.suppress(UsageError):
            night = files.read(path)
            if night.part is None:  # a part that somebody has given the name of a night
                return night
    return None


def report_again(directory: Path) -> NightEnd:
    """The report of a night that lies there, written once more. Raises UsageError, HarnessError.

    The history and the list of all nights know it only where it is one of a place of ours.
    """
    directory = directory.resolve()
    found = files.read(directory)
    place.check_report(directory)
    return report_night(directory.parent, found, [], listed=place.belongs(directory))


def report_night(
    nights: Path, found: Night, troubles: list[str], *, listed: bool = True
) -> NightEnd:
    """Everything that is written of a night. Without history it is compared with the last one. A
    part is compared with what of that it has, and listed nowhere."""
    last = _last(nights, found.name)
    before = parts.alike(last, found) if last else None
    known = known_before(nights, found.name)
    mine = nights / found.name
    both = files.configs(mine, found, nights / before.name, before) if before else {}
    news = changes.changes(found, before, known.past, both)
    files.write_changes(mine, news)
    page = site.write(nights, found, news, known.past)
    announcements.write(mine, found, news)
    if listed and found.part is None and place.may_list(nights):
        try:
            with History(nights / NAME) as history:
                told = history.add(found, mine=ours.marked(mine, ours.MarkKind.NIGHT))
                troubles += [*history.told, *[told] * bool(told)]
                totals = history.totals()
            site.write_list(nights, totals)
        except NoHistory as err:
            troubles.append(f"{err}; `klp-e2e history rebuild` adds the night later")
        except ours.NotOurs as err:
            troubles.append(str(err))
    return NightEnd(found, news, digest(found, news), page, tuple(troubles))
