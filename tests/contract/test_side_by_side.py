# SPDX-License-Identifier: GPL-2.0-only
"""What `make test` relies on: tests of one group run in one worker, whatever the versions of pytest
and pytest-xdist. With pytest 9.2 and pytest-xdist 3.8 they silently did not."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from orchestrator.host import process

TESTS = """
import pytest

pytestmark = pytest.mark.xdist_group("GROUP")


@pytest.mark.parametrize("number", range(4))
def test_it(number: int) -> None:
    assert number >= 0
"""


def test_a_group_stays_with_one_worker(tmp_path: Path) -> None:
    for group in ("first", "second"):
        (tmp_path / f"test_{group}.py").write_text(TESTS.replace("GROUP", group))
    side_by_side = ("-n", "2", "--dist", "loadgroup", "-p", "no:cacheprovider")
    command = [sys.executable, "-m", "pytest", "-v", *side_by_side, str(tmp_path)]
    told = process.run(command, cwd=tmp_path).output
    ran = re.findall(r"^\[(gw\d)\] .*PASSED .*test_(first|second)\.py", told, re.MULTILINE)
    assert len(ran) == 8, told
    assert len(set(ran)) == 2, told  # (worker, group): each group with one worker
