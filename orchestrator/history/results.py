# SPDX-License-Identifier: GPL-2.0-only
"""The results directory of any command, as rows.

run, kselftest, malformed    a row for each case: SET/NAME
explore                      SET/walk for each module set, and a row for each finding: SET/SIGNATURE
ablate, mutate               a row for each trial; PASS where what can be seen was seen

And an ERROR with the reason where a kernel was not built (`kernel`), or nothing ran (`results`).
What ended a command early is in its `Run`.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator.errors import UsageError
from orchestrator.history.changes import symptom
from orchestrator.history.nights import OF_CASES, Kind, Row
from orchestrator.model import orders
from orchestrator.model.findings import Finding
from orchestrator.report import directory, explored, reproduce, tried
from orchestrator.report.explored import GroundRecord
from orchestrator.report.json import CaseRecord, Document, kind_of
from orchestrator.report.tried import Tried
from orchestrator.trials import CONTROL, Outcome, Trial
from orchestrator.verdicts import Run, RunKind, Status

KERNEL = "kernel"  # names of rows that are no cases
RESULTS = "results"
WALK = "walk"
_OF_RUNS: Mapping[RunKind, Kind] = {
    RunKind.KSELFTEST: Kind.KSELFTEST,
    RunKind.MALFORMED: Kind.MALFORMED,
}


@dataclass(frozen=True, slots=True)
class Told:
    """What one directory says. The job of its rows is empty: the directory does not know it."""

    kind: Kind
    run: Run
    rows: tuple[tuple[str, Row], ...]  # (architecture, row); "": it holds for all of them


def told(place: Path, prefix: str = "") -> Told:
    """prefix: what the rows' directories begin with. Raises UsageError, naming what is wrong."""
    for file, read in _READERS.items():
        if (place / file).exists():
            return read(place, prefix)
    raise UsageError(
        f"{place} holds no results",
        hint="give a night's directory, or one that `klp-e2e run -o`, `explore -o`, ... wrote",
    )


def _kind(ran: Document) -> Kind:
    """What the job is. Until a run's kind was written down, its cases tell."""
    if ran.run.kind is not None:
        return _OF_RUNS.get(ran.run.kind, Kind.SUITE)
    return next((OF_CASES[kind_of(case)] for case in ran.cases), Kind.SUITE)


def _explored(place: Path, prefix: str) -> Told:
    walked = explored.load(place)
    found = [pair for ground in walked.grounds for pair in _ground(walked, ground, prefix)]
    return _told(Kind.EXPLORE, walked.run, found)


def _tried(place: Path, prefix: str) -> Told:
    trials = tried.load(place)
    found = [(each.trial.arch, _trial(place, each, prefix)) for each in trials.trials]
    return _told(Kind.ABLATE, trials.run, found)


def _ran(place: Path, prefix: str) -> Told:
    ran = directory.document(place)
    return _told(_kind(ran), ran.run, [(case.arch, _case(case, prefix)) for case in ran.cases])


# Document -> what reads it.
_READERS: Mapping[str, Callable[[Path, str], Told]] = {
    explored.DOCUMENT: _explored,
    tried.DOCUMENT: _tried,
    directory.RESULTS: _ran,
}


def trouble(case: str, reason: str) -> Row:
    """A row that is no case: why there are none, or fewer."""
    return Row("", case, Status.ERROR, reason, symptom(reason), timed=False)


def _told(kind: Kind, run: Run, rows: list[tuple[str, Row]]) -> Told:
    rows += [(arch, trouble(KERNEL, f"no kernel: {why}")) for arch, why in run.unbuilt.items()]
    if run.finished is not None and not rows:
        rows.append(("", trouble(RESULTS, run.trouble or "nothing ran")))
    return Told(kind, run, tuple(_distinct(rows)))


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


def _case(case: CaseRecord, prefix: str) -> Row:
    return Row(
        job="",
        case=case.label,
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
    )


def _symptom(status: Status, reason: str) -> str:
    return "" if status in (Status.PASS, Status.SKIP) else symptom(reason)


# --- explorations --------------------------------------------------------------------------------


def _ground(
    document: explored.Document, ground: GroundRecord, prefix: str
) -> Iterator[tuple[str, Row]]:
    walk = f"{ground.module_set}/{WALK}"
    found = [
        _finding(document.run, each, walk, prefix)
        for each in explored.findings(ground)
        if each.ways
    ]
    tally, budget = ground.tally, document.wanted.budget
    reason = (
        f"{tally.verified} of {tally.planned} orders verified, of up to {tally.depth} events"
        + f"; {len(found)} {'finding' if len(found) == 1 else 'findings'}" * bool(found)
        + "".join(f"; {n} not walked: {why}" for why, n in sorted(tally.troubles.items()))
    )
    to_come = budget is None and tally.done < tally.planned
    status = Status.ERROR if tally.unwalked or to_come or not tally.verified else Status.PASS
    if any(row.status is Status.FAIL for row in found):
        status = Status.FAIL
    elif found and status is Status.PASS:
        status = Status.KNOWN
    yield (
        ground.arch,
        Row(
            job="",
            case=walk,
            status=status,
            reason=reason,
            symptom=_symptom(status, reason),
            seconds=tally.seconds,
            why="every order that its events can make, as deep as there is time for",
            reproduce=_again(document.run, ground),
            failed=int(status is Status.FAIL),
            relocations=tally.relocations,
            timed=False,  # how far it goes is decided by its plan, or by its budget
        ),
    )
    yield from ((ground.arch, row) for row in found)


def _again(run: Run, ground: GroundRecord) -> str:
    """A line that walks this module set alone, by default values where others were asked for."""
    where = reproduce.kernel_words(run, ground.arch)
    depth = ("--depth", str(ground.tally.depth)) if ground.tally.depth else ()
    return shlex.join(("klp-e2e", "explore", *where, "--modules", ground.module_set, *depth))


def _finding(run: Run, found: Finding, walk: str, prefix: str) -> Row:
    """By its shortest way that is not known, where there is one."""
    way = next((way for way in found.ways if not way.result.known_issue), found.ways[0])
    status = Status.KNOWN if found.known else Status.FAIL
    return Row(
        job="",
        case=f"{found.module_set}/{found.signature}",
        status=status,
        reason=way.result.reason,
        symptom=symptom(str(found.signature)),
        seconds=way.result.seconds,
        order=orders.format(way.order),
        why=f"{found.hits} orders of the walk fail like this",
        reproduce=way.result.reproduce or reproduce.line(run, way.result),
        directory=_under(prefix, way.bundle),
        runs=max(way.tries, 1),
        failed=way.repeated if way.tries else 1,
        within=walk,
        timed=False,
    )


# --- ablations and mutants -----------------------------------------------------------------------


def _trial(place: Path, tried_one: Tried, prefix: str) -> Row:
    trial = tried_one.trial
    status = Status.PASS
    if trial.hole:
        untold = trial.outcome in (Outcome.UNBUILT, Outcome.ERROR)
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
        case Outcome.CAUGHT:
            declared = f", though declared: {trial.unseen}" if trial.unseen else ""
            count = f"{len(trial.caught_by)} of {trial.orders} orders fail"
            return f"{count}, first {' '.join(trial.caught_by[:1])}: {trial.symptom}{declared}"
        case Outcome.SURVIVED:
            declared = f"; cannot be seen: {trial.unseen}" if trial.unseen else ""
            return f"no order of {trial.orders} fails{declared}"
        case Outcome.SAME:
            return "the same kernel, byte for byte"
        case Outcome.UNBUILT:
            return f"not built: {trial.reason}"
        case Outcome.ERROR:
            return trial.reason
