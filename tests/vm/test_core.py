# SPDX-License-Identifier: GPL-2.0-only
"""What `make run` does, whole, and what it leaves behind. Architectures that have to be named go
through the smoke suite only, which is a few orders: the cores that CI has are busy enough."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jsonschema
import junitparser
import pytest
from vmkit import ARCHES, EVERY_ARCH, klp_e2e

from orchestrator import catalog
from orchestrator.cli import options
from orchestrator.host import process
from orchestrator.report import directory
from orchestrator.report import resultsjson as documents
from orchestrator.verdicts import CaseResult, CheckKind, Status

pytestmark = pytest.mark.xdist_group("core run")  # one run of a suite for all of them

SUITE = {arch: "core" if arch in ARCHES else "smoke" for arch in EVERY_ARCH}


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """By suite."""
    made = {}
    for suite in dict.fromkeys(SUITE.values()):
        made[suite] = tmp_path_factory.mktemp(suite) / "results"
        named = [word for arch in arches(suite) for word in ("--arch", arch)]
        done = klp_e2e("run", *named, "--suite", suite, "-o", made[suite])
        assert done.code == 0, done.output + done.errors
    return made


@pytest.fixture
def place(places: Mapping[str, Path], arch: str) -> Path:
    return places[SUITE[arch]]


@pytest.fixture
def results(place: Path, arch: str) -> Sequence[CaseResult]:
    _, found = directory.read(place)
    return [result for result in found if result.arch == arch]


def arches(suite: str) -> Sequence[str]:
    return [arch for arch in EVERY_ARCH if SUITE[arch] == suite]


@pytest.mark.parametrize("arch", EVERY_ARCH)
def test_every_order_passes(results: Sequence[CaseResult], arch: str) -> None:
    wrong = {r.case.name: (r.status, r.reason) for r in results if r.status is not Status.PASS}
    assert wrong == {}
    assert len(results) == len(options.suite_cases(SUITE[arch]))


def test_the_suites_are_as_large_as_they_are_said_to_be() -> None:
    assert len(options.suite_cases("core")) >= 80 > 10 >= len(options.suite_cases("smoke")) >= 4


@pytest.mark.parametrize("arch", EVERY_ARCH)
def test_a_pass_was_earned(results: Sequence[CaseResult]) -> None:
    """Every event was done, and after each one all kinds of checks stand there."""
    for result in results:
        assert len(result.steps) == len(result.case.order.events)
        for step in result.steps:
            kinds = {check.kind for check in step.checks}
            assert {CheckKind.ANSWER, CheckKind.SYSFS, CheckKind.HEALTH} <= kinds
            relocations = [c for c in step.checks if c.kind is CheckKind.RELOCATION]
            assert len(relocations) == step.relocations_read


@pytest.mark.parametrize("arch", EVERY_ARCH)
def test_every_relocation_type_was_seen_deferred_and_then_applied(
    results: Sequence[CaseResult], arch: str
) -> None:
    """Read before the target came unrelocated, and after it resolving to the target's symbol."""
    wanted = {row.name for row in catalog.arch(arch).relocations if row.emitted_for}
    deferred, applied = set(), set()
    for result in results:
        for step in result.steps:
            for check in step.checks:
                if check.kind is CheckKind.RELOCATION:
                    name = next(word for word in check.subject.split() if word.startswith("R_"))
                    if check.expected.startswith("resolves to"):
                        applied.add(name)
                    elif ", unrelocated" in check.expected:
                        deferred.add(name)
    assert wanted <= deferred
    assert wanted <= applied


@pytest.mark.parametrize("suite", dict.fromkeys(SUITE.values()))
def test_the_directory_holds_what_the_readme_says(places: Mapping[str, Path], suite: str) -> None:
    place = places[suite]
    document = json.loads((place / "results.json").read_text())
    jsonschema.validate(document, json.loads(documents.schema_text()))
    suites = junitparser.JUnitXml.fromfile(str(place / "junit.xml"))
    cases = sum(suite.tests for suite in suites)
    assert cases == len(options.suite_cases(suite)) * len(arches(suite))
    ktap = (place / "results.ktap").read_text()
    assert ktap.startswith("KTAP version 1\n")
    assert "not ok" not in ktap
    for arch in arches(suite):
        for case in (place / arch).iterdir():
            names = {path.name for path in case.iterdir()}
            assert names >= {"console.log", "dmesg", "qemu-command", "reproduce.sh", "result.json"}
            assert "livepatch" in (case / "dmesg").read_text() + (case / "console.log").read_text()


@pytest.mark.parametrize("arch", EVERY_ARCH)
def test_a_reproduce_script_runs_its_case_alone(place: Path, arch: str, tmp_path: Path) -> None:
    script = place / arch / "basic.reload-moved" / "reproduce.sh"
    done = process.run(["/bin/sh", script], cwd=tmp_path, check=False)
    assert done.code == 0, done.output + done.errors
    [again] = tmp_path.glob("results/*/results.json")
    assert [case_of(case) for case in json.loads(again.read_text())["cases"]] == [
        case_of(case)
        for case in json.loads((place / "results.json").read_text())["cases"]
        if case["directory"] == f"{arch}/basic.reload-moved"
    ]


def case_of(case: Mapping[str, Any]) -> tuple[str, ...]:
    """What was run of a case in results.json, and with which verdict, beside what it is called."""
    return tuple(case[key] for key in ("arch", "module_set", "order", "status"))
