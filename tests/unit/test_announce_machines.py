# SPDX-License-Identifier: GPL-2.0-only
"""A night for machines: JUnit, KTAP and KCIDB's format, as those who read them check them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import junitparser
import kcidb_io  # type: ignore[import-untyped]  # it has no stubs
import pytest
from announce_samples import (
    BUILD,
    CORE,
    HOSTILE,
    KILLED,
    NIGHT,
    NIGHTS,
    PATCHES,
    a_record,
    a_row,
)
from ktap_grammar import parse_ktap

from orchestrator.announce.kcidb import kcidb
from orchestrator.announce.nightjunit import junit
from orchestrator.announce.nightktap import ktap
from orchestrator.history.nights import Changes, Night, State
from orchestrator.verdicts import Status

EVERY = pytest.mark.parametrize(("night", "changes"), NIGHTS.values(), ids=NIGHTS)
HOSTILE_JOB = replace(CORE, name=f"x/{HOSTILE}", kernel=HOSTILE, what=HOSTILE)
HOSTILE_NIGHT = replace(
    NIGHT,
    jobs=(a_record(HOSTILE_JOB, 1),),
    rows=(
        a_row(HOSTILE_JOB, HOSTILE, Status.KNOWN, HOSTILE),
        a_row(HOSTILE_JOB, "more", Status.FAIL, "\x00" * 20_000),
    ),
)


@EVERY
def test_every_night_can_be_read(night: Night, changes: Changes) -> None:
    junitparser.JUnitXml.fromstring(junit(night).encode())
    parse_ktap(ktap(night))
    kcidb_io.schema.LATEST.validate(json.loads(kcidb(night, changes)))


def test_hostile_text_reaches_no_machine() -> None:
    loaded = junitparser.JUnitXml.fromstring(junit(HOSTILE_NIGHT).encode())
    case = next(iter(next(iter(loaded))))
    assert case.name.startswith("a|b `c` </script><b>&amp; ]]> \ufffd")
    assert len(parse_ktap(ktap(HOSTILE_NIGHT))) == 3
    made = kcidb(HOSTILE_NIGHT, Changes(before=""))
    kcidb_io.schema.LATEST.validate(json.loads(made))
    assert "\\u0000" not in made and "\\ud800" not in made


# --- JUnit ---------------------------------------------------------------------------------------


def suites(night: Night) -> Mapping[str, Mapping[str, junitparser.TestCase]]:
    loaded = junitparser.JUnitXml.fromstring(junit(night).encode())
    return {suite.name: {case.name: case for case in suite} for suite in loaded}


def test_junit_counts_and_tells_how_to_see_it_again() -> None:
    loaded = junitparser.JUnitXml.fromstring(junit(NIGHT).encode())
    assert (loaded.tests, loaded.failures, loaded.errors, loaded.skipped) == (11, 5, 1, 3)
    failed = suites(NIGHT)[CORE.name]["basic/reload"]
    assert failed.classname == "debian-6.1+livepatch-reload.s390x.core"
    assert failed.time == 1.25
    assert failed.result[0].message == NIGHT.rows[0].reason
    assert "order: +klp_patch +klp_target\n" in failed.result[0].text
    assert failed.system_out == f"{NIGHT.rows[0].reproduce}\n"


def test_what_did_not_run_is_seen() -> None:
    killed = suites(KILLED)
    assert list(killed[CORE.name]) == ["basic/good", "core: the job itself"]
    unfinished = killed[CORE.name]["core: the job itself"].result[0]
    assert isinstance(unfinished, junitparser.Error)
    assert unfinished.message == "did not come to its end"
    [never] = (
        case
        for name, of in killed.items()
        if name != CORE.name
        for case in of.values()
        if case.result
    )
    assert never.result[0].message == "did not run"
    skipped = suites(NIGHT)["debian-6.1/x86_64/ablate"]["ablate"].result[0]
    assert (skipped.type, skipped.message) == ("SKIP", "the night's time was up")


@pytest.mark.parametrize(
    ("code", "rows", "expected"),
    [
        (0, (Status.PASS,), None),
        (0, (), "PASS"),
        (1, (Status.FAIL,), None),
        (1, (Status.KNOWN,), "FAIL"),
        (4, (Status.ERROR, Status.FAIL), None),
        (4, (Status.PASS,), "ERROR"),
        (3, (Status.PASS,), "FAIL"),
        (None, (Status.SKIP,), None),
        (None, (), "SKIP"),
    ],
)
def test_a_job_that_ended_worse_than_its_cases_say(
    code: int | None, rows: tuple[Status, ...], expected: str | None
) -> None:
    cases = tuple(a_row(CORE, f"case {status}", status) for status in rows)
    night = replace(NIGHT, jobs=(a_record(CORE, code),), rows=cases)
    itself = [c for name, c in suites(night)[CORE.name].items() if name.startswith("core")]
    found = [case.result[0].type if case.result else "PASS" for case in itself]
    assert found == ([expected] if expected else [])


# --- KTAP ----------------------------------------------------------------------------------------


def test_ktap_says_what_happened() -> None:
    found = parse_ktap(ktap(NIGHT))
    core = {name[2:]: told for name, told in found.items() if name.startswith("1:basic/")}
    assert core == {
        "basic/reload": ("not ok", None),
        "basic/reload-moved": ("not ok", None),
        "basic/hostile": ("not ok", None),
        "basic/flaky": ("not ok", None),
        "basic/known": ("ok", "XFAIL"),
        "basic/fixed": ("not ok", None),
        "basic/error": ("not ok", "ERROR"),
        "basic/skip": ("ok", "SKIP"),
        "basic/good": ("ok", None),
    }
    assert found[f"1:{BUILD.name}"] == ("ok", None)
    assert found[f"2:{CORE.name}"] == ("not ok", None)
    assert found["3:debian-6.1/x86_64/ablate"] == ("ok", "SKIP")
    assert f"  # reproduce: {NIGHT.rows[0].reproduce}\n" in ktap(NIGHT)


# --- KCIDB ---------------------------------------------------------------------------------------


def report(night: Night) -> Any:
    return json.loads(kcidb(night, NIGHTS["everything"][1]))


def test_kcidb_statuses_are_those_of_its_schema() -> None:
    made = report(NIGHT)
    statuses = {test["path"]: test["status"] for test in made["tests"]}
    assert statuses == {
        "klp_e2e.core.basic.reload": "FAIL",
        "klp_e2e.core.basic.reload-moved": "FAIL",
        "klp_e2e.core.basic.hostile": "FAIL",
        "klp_e2e.core.basic.flaky": "FAIL",
        "klp_e2e.core.basic.known": "FAIL",
        "klp_e2e.core.basic.fixed": "PASS",
        "klp_e2e.core.basic.error": "ERROR",
        "klp_e2e.core.basic.skip": "SKIP",
        "klp_e2e.core.basic.good": "PASS",
        "klp_e2e.ablate.ablate": "MISS",
    }
    [known] = [test["id"] for test in made["tests"] if test["path"].endswith(".known")]
    [incident] = made["incidents"]
    assert (incident["test_id"], incident["present"]) == (known, True)
    assert incident["issue_id"] == made["issues"][0]["id"]


def test_kcidb_objects_belong_together_and_hold_the_inputs() -> None:
    made = report(NIGHT)
    [checkout] = made["checkouts"]
    assert {build["checkout_id"] for build in made["builds"]} == {checkout["id"]}
    assert {test["build_id"] for test in made["tests"]} == {b["id"] for b in made["builds"]}
    ids = [test["id"] for test in made["tests"]]
    assert len(ids) == len(set(ids))
    assert checkout["misc"]["patches"] == PATCHES
    # those two digests, a line each, through sha256sum
    assert checkout["patchset_hash"] == (
        "f5404fd407075eb9ef6261cbfc12da4cbe2906c3a04dcffd2be12daa6a475c89"
    )
    built = {build["architecture"]: build for build in made["builds"]}
    assert (built["s390x"]["status"], built["s390x"]["compiler"]) == ("PASS", "gcc 12.2")
    assert (built["s390x"]["duration"], built["x86_64"]["status"]) == (60.0, "MISS")
    first = made["tests"][0]
    assert first["environment"]["misc"] == {"qemu": "QEMU 7.2.22"}
    assert first["misc"]["change"] == "new failure"


def test_kcidb_ids_are_those_of_this_night_on_this_host() -> None:
    """Two machines with the same timer begin nights of the same name."""
    other = replace(NIGHT, host="another")
    assert report(NIGHT)["checkouts"][0]["id"] == report(NIGHT)["checkouts"][0]["id"]
    assert report(NIGHT)["checkouts"][0]["id"] != report(other)["checkouts"][0]["id"]
    assert report(NIGHT)["issues"] == report(other)["issues"]


def test_kcidb_of_a_kernel_that_is_not_there() -> None:
    source, commit = "git:https://example.org/linux.git", "0123456789" * 4
    kernel = f"{source}#for-next + fix"
    build, core = (replace(j, kernel=kernel, source=f"{source}#{commit}") for j in (BUILD, CORE))
    told = a_row(build, "build", Status.FAIL, "the compiler says no")
    jobs = (a_record(build, 3), a_record(core, None, state=State.SKIPPED, reason="no kernel"))
    made = report(replace(NIGHT, jobs=jobs, kernels=(), rows=(told,)))
    [checkout], [built], [test] = made["checkouts"], made["builds"], made["tests"]
    assert checkout["git_repository_url"] == "https://example.org/linux.git"
    assert checkout["git_repository_branch"] == "for-next"
    assert checkout["git_commit_hash"] == commit
    assert "valid" not in checkout and "patchset_hash" not in checkout
    assert (built["status"], built["comment"]) == ("FAIL", "the compiler says no")
    assert (test["status"], test["log_excerpt"]) == ("MISS", "no kernel")
    kcidb_io.schema.LATEST.validate(made)
