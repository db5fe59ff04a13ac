# SPDX-License-Identifier: GPL-2.0-only
"""Documentation/dev-tools/ktap.rst: version, plan, result and diagnostic lines, two spaces a
level."""

from __future__ import annotations

import re
from collections.abc import Mapping

LINE = re.compile(
    r"(?P<indent>(?:  )*)(?:(?P<version>KTAP version 1)|1\.\.(?P<plan>\d+)|"
    r"(?P<answer>ok|not ok) (?P<number>\d+) (?P<name>[^#\s][^#]*?)"
    r"(?: # (?P<directive>SKIP|XFAIL|ERROR)?.*)?|Bail out! .+|#.*)"
)


def parse_ktap(written: str) -> Mapping[str, tuple[str, str | None]]:
    """Subtest results by name, after checking structure, plans and numbering."""
    plans: dict[int, int] = {}
    seen: dict[int, int] = {}
    found = {}
    for line in written.splitlines():
        match = LINE.fullmatch(line)
        assert match, f"not a KTAP line: {line!r}"
        level = len(match["indent"]) // 2
        if match["version"]:
            seen[level] = 0
        elif match["plan"]:
            plans[level] = int(match["plan"])
        elif match["answer"]:
            seen[level] += 1
            assert int(match["number"]) == seen[level]
            if level == 0:
                assert seen[1] == plans[1]
            found[f"{seen.get(0, 0)}:{match['name']}"] = (match["answer"], match["directive"])
    assert seen[0] == plans[0]
    return found
