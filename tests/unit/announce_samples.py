# SPDX-License-Identifier: GPL-2.0-only
"""Nights to announce: one with everything in it, one without news, one that was killed."""

from __future__ import annotations

from dataclasses import replace

from orchestrator.history.nights import (
    Blame,
    Change,
    Changed,
    Changes,
    InputChange,
    Job,
    JobKind,
    JobRecord,
    KernelInput,
    Night,
    Row,
    State,
)
from orchestrator.verdicts import Status

KERNEL = "debian:6.1 + livepatch-reload"
HOSTILE = "a|b `c` </script><b>&amp; ]]> \x00\x1b[31m\n# not ok 1 *x* \ud800 _y_ \\| $z$ ``` \u2026"
BEGUN = 1_700_000_000.0


def a_job(name: str, kind: JobKind = JobKind.SUITE, arch: str = "s390x") -> Job:
    return Job(
        name=f"debian-6.1+livepatch-reload/{arch}/{name}",
        kind=kind,
        kernel=KERNEL,
        source="debian:6.1",
        series=("livepatch-reload",),
        arch=arch,
        what=name,
        command=("run", "--arch", arch, "--suite", name),
        estimate=60.0,
        why="failed last night",
    )


def a_record(job: Job, code: int | None = 0, **changed: object) -> JobRecord:
    made = JobRecord(job, State.ENDED, "", code, BEGUN, BEGUN + 60)
    return replace(made, **changed)  # type: ignore[arg-type]  # fields by name, from tests only


def a_row(job: Job, case: str, status: Status = Status.PASS, reason: str = "") -> Row:
    bad = status not in (Status.PASS, Status.SKIP)
    return Row(
        job=job.name,
        case=case,
        status=status,
        reason=reason,
        symptom=reason,
        seconds=1.25,
        order="+klp_patch +klp_target" * bad,
        why="the GOT slot must be filled again",
        reproduce=f"klp-e2e run --arch {job.arch} --modules basic --order '+klp_patch +klp_target'",
        directory=f"jobs/{job.name}/{job.arch}/{case.replace('/', '.')}",
        runs=3 if status is Status.FLAKY else 1,
        failed=int(bad),
    )


CORE, BUILD = a_job("core"), a_job("build", JobKind.BUILD)
ABLATE = replace(a_job("ablate", JobKind.ABLATE), arch="x86_64", name="debian-6.1/x86_64/ablate")
STALE = "+klp_target: resolves to the old place"
ROWS = (
    a_row(CORE, "basic/reload", Status.FAIL, STALE),
    a_row(CORE, "basic/reload-moved", Status.FAIL, STALE),
    a_row(CORE, "basic/hostile", Status.FAIL, HOSTILE),
    a_row(CORE, "basic/flaky", Status.FLAKY, "no answer"),
    a_row(CORE, "basic/known", Status.KNOWN, "ENOEXEC (8)"),
    a_row(CORE, "basic/fixed", Status.FIXED, "listed, and passes"),
    a_row(CORE, "basic/error", Status.ERROR, "guest lost"),
    a_row(CORE, "basic/skip", Status.SKIP, "needs two CPUs"),
    a_row(CORE, "basic/good"),
)
PATCHES = {"0001-a.patch": "1" * 64, "0002-b.patch": "2" * 64}
NIGHT = Night(
    name="2026-01-31-020000",
    started=BEGUN,
    finished=BEGUN + 1083,
    tool="0.1.0",
    host="Debian GNU/Linux 12, 2 cores",
    config="nightly.toml",
    budget=3600.0,
    jobs=(
        a_record(BUILD),
        a_record(CORE, 1),
        a_record(ABLATE, None, state=State.SKIPPED, reason="the night's time was up"),
    ),
    kernels=(
        KernelInput(
            *(KERNEL, "s390x", "6.1.192-2", "6.1.192"),
            *(PATCHES, "inputs/config", "gcc 12.2", "QEMU 7.2.22"),
        ),
    ),
    rows=ROWS,
    blames=(Blame(CORE.name, "basic/reload", "0002-b.patch", "without it, all is right", "b"),),
)
BEFORE = "2026-01-30-020000"
CHANGES = Changes(
    before=BEFORE,
    changed=(
        Changed(Change.NEW_FAILURE, ROWS[0], NIGHT.name, last_good=BEFORE),
        Changed(Change.NEW_FAILURE, ROWS[1], NIGHT.name, last_good=BEFORE),
        Changed(Change.NEW_FAILURE, ROWS[2], NIGHT.name),
        Changed(Change.FLAKY, ROWS[3], NIGHT.name, note="failed in 3 of the last 30 nights"),
        Changed(Change.STILL_TROUBLE, ROWS[6], "2026-01-20-020000", 11),
        Changed(Change.GONE, replace(ROWS[8], job="old/job", case="basic/gone"), NIGHT.name),
        Changed(Change.SLOWER, ROWS[8], NIGHT.name, note="4.2 s, usually 1.1 s"),
    ),
    inputs=(
        InputChange(KERNEL, "s390x", "source version", "6.1.190-1", "6.1.192-2"),
        InputChange("", "", "host", "", HOSTILE),
    ),
)

QUIET = replace(NIGHT, jobs=(a_record(CORE),), rows=ROWS[8:], blames=())
QUIET_CHANGES = Changes(before=BEFORE)
EMPTY = replace(NIGHT, jobs=(), rows=(), kernels=(), blames=())
KILLED = replace(
    NIGHT,
    finished=None,
    jobs=(
        a_record(BUILD),
        a_record(CORE, None, state=State.RUNNING, finished=None),
        JobRecord(a_job("later")),
    ),
    rows=ROWS[8:],
    blames=(),
)
NIGHTS = {
    "everything": (NIGHT, CHANGES),
    "quiet": (QUIET, QUIET_CHANGES),
    "no history": (NIGHT, Changes(before="")),
    "empty": (EMPTY, Changes(before="")),
    "killed": (KILLED, QUIET_CHANGES),
}
