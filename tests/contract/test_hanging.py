# SPDX-License-Identifier: GPL-2.0-only
"""A test that hangs ends, says where, and takes what it started with it; other tests go on."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import psutil

from orchestrator.host import process

PROJECT = Path(__file__).parents[2]
TESTS = """
import pytest

from orchestrator.host import process


@pytest.fixture
def guest():
    with process.start(["sleep", "MARK"]) as running:
        yield running


@pytest.mark.timeout(1)
def test_hangs(guest):
    process.run(["sh", "-c", "while :; do sleep MARK; done"])  # HERE


def test_goes_on():
    pass
"""


def test_a_test_that_hangs_ends_and_says_where(tmp_path: Path) -> None:
    mark = f"1000.{id(tmp_path)}"  # seconds that nobody else sleeps
    file = tmp_path / "test_hanging_one.py"
    file.write_text(TESTS.replace("MARK", mark))
    options = ("-c", PROJECT / "pyproject.toml", "--rootdir", tmp_path, "-p", "no:cacheprovider")
    told = process.run(
        [sys.executable, "-m", "pytest", *options, file], cwd=PROJECT, check=False
    ).output
    line = next(n for n, text in enumerate(TESTS.splitlines(), 1) if "# HERE" in text)
    assert re.search(rf"test_hanging_one\.py:{line}: ", told), told
    assert "Timeout (>1.0s) from pytest-timeout" in told
    assert "1 failed, 1 passed" in told
    assert not [one.pid for one in psutil.process_iter() if mark in _words(one)]


def _words(one: psutil.Process) -> list[str]:
    try:
        return one.cmdline()
    except psutil.Error:
        return []
