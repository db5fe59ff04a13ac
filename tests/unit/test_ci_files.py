# SPDX-License-Identifier: GPL-2.0-only
"""The files for GitHub and GitLab: as their schemas have it, every command line one of ours."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import check_jsonschema  # type: ignore[import-untyped]  # it has no stubs
import pytest
import typer.testing
from click.testing import CliRunner
from ruamel.yaml import YAML

from orchestrator import cli
from orchestrator.host import process

CI = Path(__file__).parents[2] / ".ci"
GITHUB, GITLAB, CELLS = "github/nightly.yml", "gitlab/nightly.yml", "gitlab/cells.yml"
FILES = {
    GITHUB: {"nightly", "merge", "cache"},
    GITLAB: {"nightly"},
    CELLS: {"nightly", "merge", "cache"},
}
EACH = pytest.mark.parametrize("place", FILES)
NAMES = ("debian-6.1+livepatch-reload/s390x", "debian-6.1/x86_64")


def text(place: str) -> str:
    return (CI / place).read_text()


def valid(file: Path, place: str) -> bool:
    schema = "vendor.github-workflows" if place == GITHUB else "vendor.gitlab-ci"
    words = ["--builtin-schema", schema, str(file)]
    return CliRunner().invoke(check_jsonschema.main, words).exit_code == 0


@EACH
def test_the_file_is_as_its_schema_has_it(place: str, tmp_path: Path) -> None:
    assert valid(CI / place, place)
    broken = tmp_path / "nightly.yml"
    broken.write_text(re.sub(r"(?m)^( +)(timeout\S*): .*", r"\1\2: {}", text(place)))
    assert not valid(broken, place)


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from strings(each)


@EACH
def test_every_command_line_is_one_of_ours(place: str) -> None:
    lines = [line for each in strings(YAML().load(text(place))) for line in each.splitlines()]
    ours = [line.split(".venv/bin/klp-e2e ")[1] for line in lines if "/klp-e2e " in line]
    assert {line.split()[0] for line in ours} == FILES[place]
    for line in ours:
        assert known(shlex.split(re.split(r"\s*(?:\|\||&&|;|>)", line)[0])), line


def known(words: list[str]) -> bool:
    """Whether `klp-e2e` has this command with these options; it is only asked for its help."""
    return typer.testing.CliRunner().invoke(cli.app, [*words, "--help"]).exit_code == 0


def made_of_the_plan(place: str, at: Path, **more: str) -> None:
    """What the job that plans does with the plan, in this directory."""
    (line,) = [each for each in strings(YAML().load(text(place))) if "python3 -" in each]
    line = re.sub(r"(?m)^\.venv/bin/klp-e2e .*\n", "", line)  # that made the plan
    (at / "plan.json").write_text(json.dumps({"cells": NAMES}))
    process.run(["bash", "-euc", line], cwd=at, env=more)


def test_github_gets_a_matrix_of_the_plan(tmp_path: Path) -> None:
    output = tmp_path / "output"
    made_of_the_plan(GITHUB, tmp_path, GITHUB_OUTPUT=str(output))
    name, _, value = output.read_text().partition("=")
    assert name == "cells" and json.loads(value) == [*NAMES] and value.count("\n") == 1
    assert "fromJSON(needs.plan.outputs.cells)" in text(GITHUB)


def test_gitlab_gets_a_child_pipeline_of_the_plan(tmp_path: Path) -> None:
    child = tmp_path / "child.yml"
    shutil.copy(CI / CELLS, child)
    made_of_the_plan(GITLAB, tmp_path)
    assert valid(child, CELLS)
    jobs = YAML().load(child.read_text())
    for name in NAMES:
        assert jobs[name]["extends"] == ".cell"
        assert jobs[name]["variables"]["CELL"] == name
        assert "/" not in jobs[name]["variables"]["SLUG"]


def test_what_is_not_ours_would_be_noticed() -> None:
    assert not known(["cache", "prune", "--younger-than", "7"])
    assert not known(["daily"])


@EACH
def test_targets_of_make_are_there(place: str) -> None:
    makefile = (CI.parent / "Makefile").read_text()
    targets = re.findall(r"(?m)(?:run: |- )make (\S+)$", text(place))
    assert targets
    assert all(re.search(rf"(?m)^{target}:", makefile) for target in targets)


@pytest.mark.parametrize(("made", "stays"), [("installed", True), ("made-by-make", False)])
def test_make_clean_leaves_an_environment_that_it_did_not_make(
    made: str, stays: bool, tmp_path: Path
) -> None:
    """One that was there is installed into, and holds its owner's work, too."""
    shutil.copy(CI.parent / "Makefile", tmp_path)
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / made).touch()
    process.run(["make", "-C", str(tmp_path), "clean"])
    assert (tmp_path / ".venv").exists() is stays
