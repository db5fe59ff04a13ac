# SPDX-License-Identifier: GPL-2.0-only
"""Runs that end before they should: the command, its documents and `report` say the same."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import junitparser
import pytest
from history_samples import a_result, a_run
from ktap_grammar import parse_ktap
from typer.testing import CliRunner

from orchestrator import cli
from orchestrator.commands import session
from orchestrator.errors import BuildError, Exit, HarnessError, UsageError
from orchestrator.report import directory, explorejson, verdict
from orchestrator.report.junit import junit
from orchestrator.report.ktap import ktap


def code_of(*argv: str) -> int:
    return CliRunner().invoke(cli.app, argv).exit_code


@pytest.mark.parametrize("command", ["run", "kselftest", "malformed", "explore", "ablate"])
@pytest.mark.parametrize(
    ("happening", "code", "trouble"),
    [
        (UsageError("mine_secrte does not occur in the module"), 2, "mine_secrte does not occur"),
        (BuildError("a symbol is not listed"), 3, "a symbol is not listed"),
        (HarnessError("the disk is full"), 4, "the disk is full"),
        (ZeroDivisionError(), 4, ""),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_a_run_that_ends_before_its_first_case_says_the_same_everywhere(
    command: str,
    happening: BaseException,
    code: int,
    trouble: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def ends(*_: object) -> NoReturn:
        raise happening

    monkeypatch.setattr(session, "need_emulators", ends)
    monkeypatch.setattr(session, "bootables", ends)
    place = tmp_path / "r"
    assert code_of(command, "--arch", "x86_64", "-o", str(place)) == code
    if code == Exit.USAGE:  # nothing could run: the place is free for the same command
        assert not place.exists()
        return
    assert code_of("report", str(place)) == code
    if command == "ablate":
        return
    if command == "explore":
        assert trouble in explorejson.load_exploration(place).run.trouble
        return
    run, results = directory.read(place)
    assert trouble in run.trouble and not results
    assert json.loads((place / directory.RESULTS).read_text())["exit_code"] == code
    (suite,) = junitparser.JUnitXml.fromfile(str(place / "junit.xml"))
    assert suite.errors == 1 and trouble in next(iter(suite)).result[0].message
    assert "\nBail out! stopped early: " in (place / "results.ktap").read_text()


def test_what_was_gone_on_with_tells_its_own_time(tmp_path: Path) -> None:
    """And not that since it was begun for the first time, with all that passed in between."""
    begun = replace(a_run("one"), started=1000.0)
    with directory.ResultsDirectory(tmp_path, begun) as first:
        first.add(a_result("one"))
    later = time.time()
    with directory.ResultsDirectory(tmp_path, replace(begun, started=later), resume=True) as second:
        pass
    assert (second.run.started, second.run.resumed) == (1000.0, later)
    assert second.run.finished is not None and second.run.finished - later < 1000
    kept, results = directory.read(tmp_path)
    assert verdict.took(replace(kept, finished=later + 60)) == ", in 1 min 00 s"
    assert ", in 1 min 00 s" in verdict.results_summary(replace(kept, finished=later + 60), results)
    assert verdict.took(replace(begun, finished=1247.0)) == ", in 4 min 07 s"


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"finished": None}, "it has not come to its end"),
        ({"planned": 3}, "2 of 3 cases did not run"),
        ({"unbuilt": {"one": "no compiler"}}, "no kernel for one: no compiler"),
        ({"trouble": "interrupted"}, "stopped early: interrupted"),
        ({}, ""),
    ],
)
def test_less_than_there_should_be_looks_good_to_no_machine(
    changed: Mapping[str, Any], why: str
) -> None:
    results = [a_result("one")]
    run = replace(a_run("one"), **changed)
    suites = list(junitparser.JUnitXml.fromstring(junit(run, results).encode()))
    errors = [case.result[0].message for suite in suites[1:] for case in suite]
    assert errors == [why] * bool(why)
    assert [line for line in ktap(run, results).splitlines() if line.startswith("Bail")] == (
        [f"Bail out! {why}"] * bool(why)
    )
    parse_ktap(ktap(run, results))
    assert bool(verdict.results_exit_code(run, results)) == (bool(why) and run.finished is not None)
