# SPDX-License-Identifier: GPL-2.0-only
"""kcidb.json of a night, in KCIDB's I/O format (version 5.3, what `kcidb-io` 141 calls it).

A kernel is a checkout, its build for an architecture a build, a row a test run. KCIDB demands a URL
of every file, and a night has none to give: names and digests of patches, and where a test's files
are, stand under `misc`. No id is ever that of another night or machine: the night's own part is its
name and a digest of host and start.

What becomes of our statuses, by the words of KCIDB's schema:

    FAIL, KNOWN  FAIL   it ran, and found the code faulty; KNOWN is an incident of an issue, too
    FLAKY        FAIL   one run found the code faulty, and of several runs the worst counts
    FIXED, PASS  PASS
    ERROR        ERROR  it did not come to its end
    SKIP         SKIP   it does not apply
    (a job)      MISS   none of it ran: there was no kernel, no time, or it was cut short
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from orchestrator.errors import Exit
from orchestrator.history import digest
from orchestrator.history.nights import (
    Changed,
    Changes,
    Job,
    JobKind,
    JobRecord,
    KernelInput,
    Night,
    Row,
)
from orchestrator.report.junit import xml
from orchestrator.verdicts import Status

ORIGIN = "klp_e2e"
VERSION = {"major": 5, "minor": 3}
STATUSES: Mapping[Status, str] = {
    Status.PASS: "PASS",
    Status.FIXED: "PASS",
    Status.FAIL: "FAIL",
    Status.FLAKY: "FAIL",
    Status.KNOWN: "FAIL",
    Status.ERROR: "ERROR",
    Status.SKIP: "SKIP",
}
BUILT: Mapping[int, str] = {Exit.GOOD: "PASS", Exit.BUILD: "FAIL"}  # any other exit code: MISS
LOG_LIMIT = 16384  # characters of log_excerpt

Object = dict[str, Any]


def kcidb(night: Night, changes: Changes) -> str:
    """The file's text."""
    jobs = digest.by_job(night)
    kernels = {(each.kernel, each.arch): each for each in night.kernels}
    changed = {(each.row.job, each.row.case): each for each in changes.changed}
    campaigns: dict[tuple[str, str], list[tuple[JobRecord, tuple[Row, ...]]]] = {}
    for record, rows in jobs:
        campaigns.setdefault((record.job.kernel, record.job.arch), []).append((record, rows))
    ran = {(row.job, row.case) for row in night.rows}
    tests = [
        _test(
            night,
            record.job,
            row,
            kernels.get((record.job.kernel, record.job.arch)),
            changed.get((row.job, row.case)),
            itself=(row.job, row.case) not in ran,
        )
        for record, rows in jobs
        for row in rows
        if not _is_build(record.job)
    ]
    known = [row for row in night.rows if row.status is Status.KNOWN]
    document = {
        "version": VERSION,
        "checkouts": list(_checkouts(night, [record.job for record, _ in jobs])),
        "builds": [_build(night, found, kernels.get(key)) for key, found in campaigns.items()],
        "tests": tests,
        "issues": list({issue["id"]: issue for issue in map(_issue, known)}.values()),
        "incidents": [_incident(night, row) for row in known],
    }
    return json.dumps(_clean(document), indent=1) + "\n"


def _id(night: Night, *parts: str) -> str:
    own = hashlib.sha256(f"{night.host}\n{night.started!r}".encode(errors="replace")).hexdigest()
    return f"{ORIGIN}:{'/'.join((f'{night.name}-{own[:8]}', *parts))}"


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def _is_build(job: Job) -> bool:
    return job.kind is JobKind.BUILD


# --- checkouts and builds ------------------------------------------------------------------------


def _checkouts(night: Night, jobs: list[Job]) -> Iterator[Object]:
    inputs = {each.kernel: each for each in night.kernels}
    for job in {job.kernel: job for job in jobs}.values():
        made: Object = {
            "id": _id(night, job.kernel),
            "origin": ORIGIN,
            "comment": job.kernel,
            "start_time": _time(night.started),
            "misc": {
                "source": job.source,
                "series": list(job.series),
                "configs": list(job.configs),
            },
            **_repository(job),
        }
        if night.finished is not None:
            made["origin_builds_finish_time"] = _time(night.finished)
            made["origin_tests_finish_time"] = _time(night.finished)
        if job.kernel in inputs:
            found = inputs[job.kernel]
            made |= {"valid": True, **_patchset(found.patches)}
            made["misc"] |= {"version": found.source_version, "patches": dict(found.patches)}
        yield made


def _repository(job: Job) -> Object:
    """git:https://HOST/linux.git#COMMIT, and the branch it was planned of; KCIDB takes no other
    kind of URL."""
    found = re.fullmatch(r"git:(https://[^#]+)(?:#(.*))?", job.source)
    if found is None:
        return {}
    checkout = {"git_repository_url": found[1]}
    if re.fullmatch("[0-9a-f]{40}", found[2] or ""):
        checkout["git_commit_hash"] = found[2]
    _, _, branch = job.kernel.partition(" + ")[0].partition("#")
    return {**checkout, "git_repository_branch": branch} if branch else checkout


def _patchset(patches: Mapping[str, str]) -> Object:
    """As KCIDB computes it, where the digests are what it computes it from."""
    if not all(re.fullmatch("[0-9a-f]{64}", each) for each in patches.values()):
        return {}
    lines = "".join(f"{each}\n" for each in patches.values())
    return {"patchset_hash": hashlib.sha256(lines.encode()).hexdigest() if lines else ""}


def _build(
    night: Night, jobs: list[tuple[JobRecord, tuple[Row, ...]]], kernel: KernelInput | None
) -> Object:
    job = jobs[0][0].job
    made: Object = {
        "id": _id(night, job.kernel, job.arch),
        "checkout_id": _id(night, job.kernel),
        "origin": ORIGIN,
        "architecture": re.sub(r"[^a-z0-9_]", "_", job.arch.lower()),
        "config_name": ORIGIN,
        "status": "MISS",
    }
    for record, rows in jobs:
        if not _is_build(record.job):
            continue
        if record.exit_code is not None:
            made["status"] = BUILT.get(record.exit_code, "MISS")
        if reasons := [row.reason for row in rows if row.reason]:
            made["comment"] = "; ".join(reasons)
        if record.started is not None and record.finished is not None:
            made["start_time"] = _time(record.started)
            made["duration"] = max(0.0, record.finished - record.started)
    if kernel is not None:
        made |= {"status": "PASS", "compiler": kernel.compiler}
        made["misc"] = {"release": kernel.release, "config": kernel.config}
    return made


# --- tests ---------------------------------------------------------------------------------------


def _test(
    night: Night,
    job: Job,
    row: Row,
    kernel: KernelInput | None,
    changed: Changed | None,
    itself: bool,
) -> Object:
    """`itself`: the row is of the job, not of a case."""
    missed = itself and row.status in (Status.ERROR, Status.SKIP)
    made: Object = {
        "id": _id(night, row.job, row.case),
        "build_id": _id(night, job.kernel, job.arch),
        "origin": ORIGIN,
        "path": ".".join(map(_node, (ORIGIN, job.what, *row.case.split("/")))),
        "status": "MISS" if missed else STATUSES[row.status],
        "comment": ": ".join(filter(None, (row.case, row.why))),
        "duration": row.seconds,
        "environment": {
            "comment": night.host,
            "misc": {"qemu": kernel.qemu} if kernel else {},
        },
        "misc": {
            "status": row.status,
            "order": row.order,
            "symptom": row.symptom,
            "reproduce": row.reproduce,
            "directory": row.directory,
            "runs": row.runs,
            "failed": row.failed,
        },
    }
    if row.reason:
        made["log_excerpt"] = row.reason[:LOG_LIMIT]
    if changed is not None:
        made["misc"] |= {"change": changed.change, "since": changed.since}
    return made


def _node(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "_", text).strip("_") or "_"


# --- what is known -------------------------------------------------------------------------------


def _issue_id(row: Row) -> str:
    symptom = hashlib.sha256((row.symptom or row.reason).encode(errors="replace")).hexdigest()
    return f"{ORIGIN}:known-{symptom[:16]}"


def _issue(row: Row) -> Object:
    """One for each symptom, the same one in every night: it has no other name in a row."""
    return {
        "id": _issue_id(row),
        "version": 1,
        "origin": ORIGIN,
        "comment": row.symptom or row.reason,
        "culprit": {"code": True, "tool": False, "harness": False},
    }


def _incident(night: Night, row: Row) -> Object:
    return {
        "id": _id(night, row.job, row.case),
        "origin": ORIGIN,
        "issue_id": _issue_id(row),
        "issue_version": 1,
        "test_id": _id(night, row.job, row.case),
        "present": True,
    }


def _clean(value: Any) -> Any:
    """Without the characters that no database of text takes: a guest's console is full of them."""
    match value:
        case str():
            return xml(value)
        case dict():
            return {xml(key): _clean(each) for key, each in value.items()}
        case list():
            return [_clean(each) for each in value]
        case _:
            return value
