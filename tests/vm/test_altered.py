# SPDX-License-Identifier: GPL-2.0-only
"""Kernels made wrong on purpose, and the patch that makes the difference: with the real command."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from vmkit import BUILDS, Klp, klp_e2e, wait_for

from orchestrator import catalog
from orchestrator.cli import options
from orchestrator.errors import Exit
from orchestrator.source.alterations import AlterationKind
from orchestrator.trials import CONTROL, TrialOutcome

pytestmark = [pytest.mark.xdist_group("build trees"), pytest.mark.timeout(BUILDS)]

RELOAD = "+klp_patch +klp_target -klp_target +filler +klp_target"


def trials(place: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """(name, architecture) -> trial"""
    document = json.loads((place / "trials.json").read_text())
    return {(t["name"], t["trial"]["arch"]): t["trial"] for t in document["trials"]}


def test_a_piece_is_missed_where_it_is_used(tmp_path: Path) -> None:
    """Piece 3 is s390's own: the other kernel is the same without it."""
    told = klp_e2e("ablate", "--only", "3-*", "--suite", "smoke", "-o", tmp_path / "r")
    assert told.code == Exit.GOOD, told.output + told.errors
    found = trials(tmp_path / "r")
    (piece,) = options.alterations(AlterationKind.ABLATION, ("3-*",))
    caught = found[piece.name, "s390x"]
    assert caught["outcome"] == TrialOutcome.CAUGHT
    assert caught["caught_by"] == ["basic/livepatch-first", "basic/life", "basic/reload-moved"]
    assert found[piece.name, "x86_64"]["outcome"] == TrialOutcome.SAME
    for arch in ("s390x", "x86_64"):
        assert found[CONTROL, arch]["outcome"] == TrialOutcome.SURVIVED
        assert found["6-documentation", arch]["outcome"] == TrialOutcome.CAUGHT
    again = klp_e2e("report", tmp_path / "r")
    assert again.code == Exit.GOOD and again.output in told.output
    # what it showed is kept like the results of any run, and the line that shows it again names it
    kept = json.loads((tmp_path / "r" / piece.name / "s390x" / "results.json").read_text())
    failed = next(case for case in kept["cases"] if case["status"] == "FAIL")
    assert f"--series ablations/{piece.name}" in failed["reproduce"] == caught["reproduce"]


@pytest.fixture
def mutants(tmp_path: Path) -> Path:
    """One that is caught, one that does not compile, one that does not apply."""
    place = tmp_path / "mutants"
    place.mkdir()
    (ours,) = options.alterations(AlterationKind.MUTANT, ("*-alive-not-set",))
    text = (catalog.data_dir("kernel-config") / f"{ours.series}.patch").read_text()
    taken_out = "-\tmod->klp_alive = true;\n"
    assert text.count(taken_out) == 1
    (place / "1-caught.patch").write_text(text)
    no_c = text.replace(taken_out, f"{taken_out}+\tthis is no C;\n").replace(
        ",7 +1264,6", ",7 +1264,7"
    )
    assert no_c != text
    (place / "2-no-c.patch").write_text(no_c)
    (place / "3-elsewhere.patch").write_text(text.replace("kernel/livepatch/core.c", "kernel/no.c"))
    return place


def test_what_does_not_build_is_named_and_does_not_stop_the_rest(klp: Klp, mutants: Path) -> None:
    """Interrupted on the way, and taken up again. On a kernel with a known issue: the order that
    shows it fails with and without a mutant, and catches none."""
    place = klp.results
    started = klp.start(
        *("mutate", "--arch", "s390x", "--suite", "smoke", "--patches", str(mutants), "--whole"),
        *("--series", "none", "-o", str(place)),
    )
    wait_for("the first mutant", lambda: (place / "1-caught").exists())
    started.send_signal(signal.SIGINT)
    assert klp.end(started).code == Exit.INTERRUPTED
    klp.assert_nothing_left()
    assert set(trials(place)) == {(CONTROL, "s390x")}
    refused = klp.run("mutate", "--resume", str(place))
    assert (refused.code, "--patches" in refused.err) == (Exit.USAGE, True), refused.err
    told = klp.run("mutate", "--resume", str(place), "--patches", str(mutants))
    assert told.code == Exit.TEST_FAILURE, told.err
    found = {name: trial for (name, _), trial in trials(place).items()}
    assert [trial["outcome"] for trial in found.values()] == [
        *(TrialOutcome.CAUGHT, TrialOutcome.CAUGHT, TrialOutcome.UNBUILT, TrialOutcome.UNBUILT)
    ]
    assert found[CONTROL]["caught_by"] == ["basic/reload-moved"]
    assert found["1-caught"]["caught_by"] == ["basic/target-first"]
    assert "error: " in found["2-no-c"]["reason"]
    assert "does not apply: there is no file" in found["3-elsewhere"]["reason"]


def test_the_patch_that_mends_it(tmp_path: Path) -> None:
    told = klp_e2e("bisect", "--arch", "s390x", "--order", RELOAD, "-o", tmp_path / "r")
    assert told.code == Exit.GOOD, told.output + told.errors
    first = told.output.splitlines()[0]
    assert first == "s390x: the order begins to pass with 0003-s390-clear-relocations.patch"
    assert "livepatch-reload@2: fails: " in told.output
    assert "livepatch-reload@3: passes" in told.output


def test_every_prefix_of_a_series(tmp_path: Path) -> None:
    """Up to the patch that mends it the failure is a known one; and everything builds."""
    told = klp_e2e(
        *("run", "--each-patch", "--series", "livepatch-reload@4", "--arch", "s390x"),
        *("--order", RELOAD, "-o", tmp_path / "r"),
    )
    assert told.code == Exit.GOOD, told.output + told.errors
    lines = [line for line in told.output.splitlines() if ": s390x " in line]
    assert [line.rpartition(" ")[2] for line in lines] == [*["KNOWN"] * 3, *["PASS"] * 2]
    assert lines[0].startswith("before the first patch: ")
    assert lines[3].startswith("0003-s390-clear-relocations.patch: ")
    assert len([path for path in (tmp_path / "r").iterdir() if path.is_dir()]) == len(lines)
