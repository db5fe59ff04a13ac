# SPDX-License-Identifier: GPL-2.0-only
"""What the documents point at is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
PAGES = [TOP / "README.md", *sorted((TOP / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_is_named_is_there(page: Path) -> None:
    text = page.read_text()
    named = re.findall(r"`((?:tests|orchestrator|docs|kernel-config|images)/[\w./-]+)`", text)
    linked = re.findall(r"\]\((?!http)([^)#]+)\)", text)
    lost = [n for n in named if "NAME" not in n and not (TOP / n).exists()]
    lost += [name for name in linked if not (page.parent / name).exists()]
    tests = re.findall(r"`(test_\w+\.py)`", text)
    lost += [name for name in tests if not list(TOP.glob(f"tests/*/{name}"))]
    assert not lost
