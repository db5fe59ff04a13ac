# SPDX-License-Identifier: GPL-2.0-only
"""Nights made of a few words, and results directories by those who write them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import samples

from orchestrator.explore.campaign import CampaignOptions, Stats
from orchestrator.history.changes import symptom
from orchestrator.history.nights import (
    Job,
    JobKind,
    JobRecord,
    KernelInput,
    Night,
    PastResult,
    Row,
    State,
)
from orchestrator.model import orders
from orchestrator.model.findings import Signature
from orchestrator.nouns import Case, Channel
from orchestrator.report import explorejson, resultsjson, trialsjson
from orchestrator.report.directory import ResultsDirectory
from orchestrator.report.explorejson import (
    CampaignRecord,
    ExploreDirectory,
    FindingRecord,
    ReproducerRecord,
)
from orchestrator.source.alterations import AlterationKind as Alteration
from orchestrator.trials import CONTROL, Trial, TrialOutcome
from orchestrator.verdicts import CaseResult, Run, RunKind, Status, Step

JOB = "debian-6.1/one/core"
RELOAD = "+klp_patch +klp_target -klp_target +klp_target"
WORDS = {
    ".": Status.PASS,
    "F": Status.FAIL,
    "G": Status.FAIL,  # with another symptom
    "~": Status.FLAKY,
    "k": Status.KNOWN,
    "!": Status.FIXED,
    "E": Status.ERROR,
    "-": Status.SKIP,
}


def a_row(mark: str, case: str = "basic/reload", job: str = JOB, seconds: float = 1.0) -> Row:
    """By a mark of WORDS."""
    status = WORDS[mark]
    reason = {"G": "another oops", ".": ""}.get(mark, "+klp_target: answer: ENOEXEC (8)")
    told = "" if status in (Status.PASS, Status.SKIP) else symptom(reason)
    runs, failed = (2, 1) if status is Status.FLAKY else (1, 0)
    return Row(job, case, status, reason, told, seconds, runs=runs, failed=failed)


def a_night(
    name: str, *rows: Row, ended: bool = True, jobs: Sequence[JobRecord] | None = None
) -> Night:
    """With a job for each that its rows name, of three minutes each."""
    names = dict.fromkeys(row.job for row in rows)
    state = State.ENDED if ended else State.RUNNING
    return Night(
        name=name,
        started=1000.0,
        finished=2000.0 if ended else None,
        tool="0.1.0",
        host="a host",
        config="nightly.toml",
        budget=None,
        jobs=tuple(a_job(each, state) for each in names) if jobs is None else tuple(jobs),
        kernels=(a_kernel_input(),),
        rows=rows,
    )


def a_job(name: str = JOB, state: State = State.ENDED, reason: str = "") -> JobRecord:
    job = Job(name, JobKind.SUITE, "6.1", "debian:6.1", (), "one", "core", ("run",), 60.0, "")
    return JobRecord(job, state, reason, 0, 1000.0, 1180.0)


def a_kernel_input(version: str = "6.1.190-1", kernel: str = "6.1") -> KernelInput:
    return KernelInput(kernel, "one", version, "6.1.190", {}, "", "gcc 12", "QEMU 7.2")


def some_past(marks: str, seconds: float = 1.0) -> list[PastResult]:
    """Nights n1, n2 ... as written, the newest last; returned newest first. A blank: not there."""
    past = []
    for number, mark in enumerate(marks, 1):
        if mark != " ":
            row = a_row(mark)
            past.append(PastResult(f"n{number}", row.status, seconds, row.symptom))
    return past[::-1]


# --- results directories -------------------------------------------------------------------------


def a_run(*arches: str, planned: int = 1, command: str = "run") -> Run:
    return Run(
        command=("klp-e2e", command),
        started=100.0,
        source="debian:6.1",
        series=("livepatch-reload",),
        planned=planned,
        finished=160.0,
        kernels=tuple(
            samples.a_kernel(
                arch,
                source_version="6.1.190-1",
                release="6.1.190",
                series=("livepatch-reload",),
                config=Path("kept") / f"{arch}.config",
            )
            for arch in arches
        ),
        host="a host",
        qemu=dict.fromkeys(arches, "QEMU 7.2"),
        kind=RunKind(command),
    )


def a_result(
    arch: str, status: Status = Status.PASS, name: str = "reload", module_set: str = "basic"
) -> CaseResult:
    return CaseResult(
        case=Case(name, module_set, orders.parse(RELOAD, None), "the slot must be filled again"),
        arch=arch,
        status=status,
        reason="" if status is Status.PASS else "+klp_target: bytes ff 9a resolve to 0x3ff7ff0e010",
        steps=(Step("+klp_patch", (), 0.1, 0.1, 3), Step("+klp_target", (), 0.1, 0.1, 4)),
        known_issue="s390-stale-got" if status is Status.KNOWN else "",
        seconds=1.5,
        cold=name == "first",
    )


def a_suite(place: Path, run: Run, *results: CaseResult) -> Path:
    with ResultsDirectory(place, run) as writer:
        for result in results:
            writer.add(result)
    return place


def an_exploration(
    place: Path, *, found: Status | None = None, verified: int = 40, not_run: int = 0
) -> Path:
    stats = Stats(
        planned=40 + not_run, verified=verified, failed=40 - verified, not_run=not_run, depth=4,
        relocations=900, seconds=30.0,
    )  # fmt: skip
    if not_run:
        stats.errors["the guest is lost"] += not_run
    reproducers: tuple[ReproducerRecord, ...] = ()
    if found is not None:
        blamed = "set.toml" if found is Status.ERROR else ""
        result = replace(a_result("one", found), culprit=blamed)
        record = resultsjson.record(result)
        reproducers = (ReproducerRecord(record, 26, 9, 10, "findings/one-basic"),)
    findings = (
        FindingRecord(Signature("+klp_target", "answer", "ENOEXEC (8)"), reproducers),
    ) * bool(reproducers)
    campaigns = (CampaignRecord("one", "basic", stats, findings),)
    head = explorejson.ExploreDocument(
        1,
        a_run("one", command="explore"),
        CampaignOptions(depth=4),
        ("basic",),
        Channel.AGENT,
        campaigns,
    )
    return ExploreDirectory(place, head).path


def an_ablation(place: Path, *trials: tuple[str, TrialOutcome, str]) -> Path:
    """trials: (name, outcome, why it cannot be seen)"""
    made = [
        trialsjson.Tried(
            name,
            Trial(
                name, "one", outcome, unseen, reason="no compiler",
                orders=89 * (outcome in (TrialOutcome.CAUGHT, TrialOutcome.SURVIVED)),
                caught_by=("basic/reload",) * (outcome is TrialOutcome.CAUGHT), symptom="an oops",
            ),
        )
        for name, outcome, unseen in trials
    ]  # fmt: skip
    run = a_run("one", command="ablate")
    names = tuple(name for name, _, _ in trials if name != CONTROL)
    head = trialsjson.TrialsDocument(1, run, Alteration.ABLATION, names, False, 1, tuple(made))
    return trialsjson.TriedDirectory(place, head).path
