# SPDX-License-Identifier: GPL-2.0-only
"""The results directory of any command, as rows.

run, kselftest, malformed    a row for each case: SET/NAME
explore                      SET/walk for each module set, and a row for each finding: SET/SIGNATURE
ablate, mutate               a row for each trial; PASS where what can be seen was seen

A set that is not ours goes by the name of its directory, wherever that lies, and by its content.
And an ERROR with the reason where a kernel was not built (`kernel`), or nothing ran (`results`).
What ended a command early is in its `Run`.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator import catalog
from orchestrator.errors import UsageError
from orchestrator.history.changes import symptom
from orchestrator.history.nights import OF_CASES, JobKind, Row
from orchestrator.model import orders
from orchestrator.model.findings import Finding
from orchestrator.report import directory, explorejson, reproduce, trialsjson
from orchestrator.report.explorejson import CampaignRecord
from orchestrator.report.resultsjson import CaseRecord, ResultsDocument, kind_of
from orchestrator.report.trialsjson import Tried
from orchestrator.trials import CONTROL, Trial, TrialOutcome
from orchestrator.verdicts import Run, RunKind, Status

KERNEL = "kernel"  # names of rows that are no cases
RESULTS = "results"
WALK = "walk"
_OF_RUNS: Mapping[RunKind, JobKind] = {
    RunKind.KSELFTEST: JobKind.KSELFTEST,
    RunKind.MALFORMED: JobKind.MALFORMED,
}


@dataclass(frozen=True, slots=True)
class RunRows:
    """What one directory says. The job of its rows is empty: the directory does not know it."""

    kind: JobKind
    run: Run
    rows: tuple[tuple[str, Row], ...]  # (architecture, row); "": it holds for all of them


def read_run(place: Path, prefix: str = "") -> RunRows:
    """prefix: what the rows' directories begin with. Raises UsageError, naming what is wrong."""
    for file, read in _READERS.items():
        if (place / file).exists():
            return read(place, prefix)
    raise UsageError(
        f"{place} holds no results",
        hint="give a night's directory, or one that `klp-e2e run -o`, `explore -o`, ... wrote",
    )


def _kind(ran: ResultsDocument) -> JobKind:
    """What the job is. Until a run's kind was written down, its cases tell."""
    if ran.run.kind is not None:
        return _OF_RUNS.get(ran.run.kind, JobKind.SUITE)
    return next((OF_CASES[kind_of(case)] for case in ran.cases), JobKind.SUITE)


def _explored_rows(place: Path, prefix: str) -> RunRows:
    walked = explorejson.load_exploration(place)
    found = [pair for campaign in walked.campaigns for pair in _ground(walked, campaign, prefix)]
    return _run_rows(JobKind.EXPLORE, walked.run, found)


def _trial_rows(place: Path, prefix: str) -> RunRows:
    trials = trialsjson.load_trials(place)
    found = [(each.trial.arch, _trial(place, each, prefix)) for each in trials.trials]
    return _run_rows(JobKind.ABLATE, trials.run, found)


def _case_rows(place: Path, prefix: str) -> RunRows:
    ran = directory.document(place)
    found = [(case.arch, _case(ran.run, case, prefix)) for case in ran.cases]
    return _run_rows(_kind(ran), ran.run, found)


# Document -> what reads it.
_READERS: Mapping[str, Callable[[Path, str], RunRows]] = {
    explorejson.DOCUMENT: _explored_rows,
    trialsjson.DOCUMENT: _trial_rows,
    directory.RESULTS: _case_rows,
}


def machine(run: Run, arch: str) -> str:
    """The kind of machine that its guests of an architecture ran on, within which times compare:
    CPU, cores, accelerator. "" where an older klp-e2e did not write it down."""
    accels = sorted({guest.accel for guest in run.guests if guest.arch == arch})
    return ", ".join((run.host_kind, *accels)) if run.host_kind else ""


def trouble(case: str, reason: str) -> Row:
    """A row that is no case: why there are none, or fewer."""
    return Row("", case, Status.ERROR, reason, symptom(reason), timed=False)


def _run_rows(kind: JobKind, run: Run, rows: list[tuple[str, Row]]) -> RunRows:
    rows += [(arch, trouble(KERNEL, f"no kernel: {why}")) for arch, why in run.unbuilt.items()]
    if run.finished is not None and not rows:
        rows.append(("", trouble(RESULTS, run.trouble or "nothing ran")))
    return RunRows(kind, run, tuple(_distinct(rows)))


def _distinct(rows: list[tuple[str, Row]]) -> Iterator[tuple[str, Row]]:
    """An order that was asked for twice is two cases."""
    seen: Counter[tuple[str, str]] = Counter()
    for arch, row in rows:
        seen[arch, row.case] += 1
        times = seen[arch, row.case]
        yield arch, row if times == 1 else replace(row, case=f"{row.case} ({times})")


def _under(prefix: str, place: str) -> str:
    """A directory relative to the night; "" where there is none."""
    return f"{prefix}/{place}" if prefix and place else place


def _content(run: Run, arch: str, module_set: str) -> str:
    """Of a set that is ours, or of an older klp-e2e, nothing is known."""
    return run.own_sets.get(arch, {}).get(module_set, "")


def _case(run: Run, case: CaseRecord, prefix: str) -> Row:
    return Row(
        job="",
        case=f"{catalog.called(case.module_set)}/{case.name}",
        status=case.status,
        reason=case.reason,
        symptom=_symptom(case.status, case.reason),
        seconds=case.seconds,
        order=case.order,
        why=case.why,
        reproduce=case.reproduce,
        directory=_under(prefix, case.directory),
        failed=int(case.status is Status.FAIL),
        relocations=sum(step.relocations_read for step in case.steps),
        timed=not case.cold,
        kind=kind_of(case),
        module_set=case.module_set,
        name=case.name,
        content=_content(run, case.arch, case.module_set),
    )


def _symptom(status: Status, reason: str) -> str:
    return "" if status in (Status.PASS, Status.SKIP) else symptom(reason)


# --- explorations --------------------------------------------------------------------------------


def _ground(
    document: explorejson.ExploreDocument, campaign: CampaignRecord, prefix: str
) -> Iterator[tuple[str, Row]]:
    walk = f"{catalog.called(campaign.module_set)}/{WALK}"
    content = _content(document.run, campaign.arch, campaign.module_set)
    found = [
        replace(_finding(document.run, each, walk, prefix), content=content)
        for each in explorejson.findings(campaign)
        if each.reproducers
    ]
    stats, budget = campaign.stats, document.options.budget
    reason = (
        f"{stats.verified} of {stats.planned} orders verified, of up to {stats.depth} events"
        + f"; {len(found)} {'finding' if len(found) == 1 else 'findings'}" * bool(found)
        + "".join(f"; {n} not walked: {why}" for why, n in sorted(stats.errors.items()))
    )
    to_come = budget is None and stats.done < stats.planned
    status = Status.ERROR if stats.not_run or to_come or not stats.verified else Status.PASS
    status = min((status, *(row.status for row in found)), key=lambda each: each.rank)
    yield (
        campaign.arch,
        Row(
            job="",
            case=walk,
            status=status,
            reason=reason,
            symptom=_symptom(status, reason),
            seconds=stats.seconds,
            why="every order that its events can make, as deep as there is time for",
            reproduce=_again(document.run, campaign),
            failed=int(status is Status.FAIL),
            relocations=stats.relocations,
            timed=False,  # how far it goes is decided by its plan, or by its budget
            module_set=campaign.module_set,
            content=content,
        ),
    )
    yield from ((campaign.arch, row) for row in found)


def _again(run: Run, campaign: CampaignRecord) -> str:
    """A line that walks this module set alone, by default values where others were asked for."""
    where = reproduce.kernel_words(run, campaign.arch)
    depth = ("--depth", str(campaign.stats.depth)) if campaign.stats.depth else ()
    known = reproduce.known_words(run)
    chosen = ("--modules", campaign.module_set, *depth)
    return shlex.join(("klp-e2e", "explore", *where, *chosen, *known))


def _finding(run: Run, found: Finding, walk: str, prefix: str) -> Row:
    """By its shortest reproducer that is not known, where there is one."""
    reproducer = next(
        (reproducer for reproducer in found.reproducers if not reproducer.result.known_issue),
        found.reproducers[0],
    )
    return Row(
        job="",
        case=f"{catalog.called(found.module_set)}/{found.signature}",
        status=found.status,
        reason=reproducer.result.reason,
        symptom=symptom(str(found.signature)),
        seconds=reproducer.result.seconds,
        order=orders.format(reproducer.order),
        why=f"{found.hits} orders of the walk fail like this",
        reproduce=reproducer.result.reproduce or reproduce.line(run, reproducer.result),
        directory=_under(prefix, reproducer.bundle),
        runs=max(reproducer.tries, 1),
        failed=reproducer.repeated if reproducer.tries else 1,
        within=walk,
        timed=False,
        module_set=found.module_set,
    )


# --- ablations and mutants -----------------------------------------------------------------------


def _trial(place: Path, tried_one: Tried, prefix: str) -> Row:
    trial = tried_one.trial
    status = Status.PASS
    if trial.hole:
        untold = trial.outcome in (TrialOutcome.UNBUILT, TrialOutcome.ERROR)
        status = Status.ERROR if untold else Status.FAIL
    reason = _outcome(trial)
    at = f"{tried_one.name}/{trial.arch}"
    return Row(
        job="",
        case=tried_one.name,
        status=status,
        reason=reason,
        symptom=_symptom(status, reason),
        seconds=trial.run_seconds,
        order=trial.order,
        why="an order that fails tells this kernel from the unaltered one"
        if trial.alteration != CONTROL
        else "what the unaltered kernel fails, no alteration can be caught by",
        reproduce=trial.reproduce,
        directory=_under(prefix, at if (place / at).is_dir() else ""),
        failed=int(status is Status.FAIL),
    )


def _outcome(trial: Trial) -> str:
    """One line: what became of it, and why."""
    match trial.outcome:
        case TrialOutcome.CAUGHT:
            declared = f", though declared: {trial.unseen}" if trial.unseen else ""
            count = f"{len(trial.caught_by)} of {trial.orders} orders fail"
            return f"{count}, first {' '.join(trial.caught_by[:1])}: {trial.symptom}{declared}"
        case TrialOutcome.SURVIVED:
            declared = f"; cannot be seen: {trial.unseen}" if trial.unseen else ""
            return f"no order of {trial.orders} fails{declared}"
        case TrialOutcome.SAME:
            return "the same kernel, byte for byte"
        case TrialOutcome.UNBUILT:
            return f"not built: {trial.reason}"
        case TrialOutcome.ERROR:
            return trial.reason
