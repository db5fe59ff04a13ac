# SPDX-License-Identifier: GPL-2.0-only
"""The N-th symbol of a name, where a livepatch was built and where it is loaded."""

from __future__ import annotations

import pytest

from orchestrator.builders.sympos import differing
from orchestrator.nouns import VMLINUX, KlpSymbol

HERE = {"open": ("a.c", "b.c"), "alone": ("a.c",), "wide": ("no file of its own",)}


def asked(name: str, sympos: int) -> KlpSymbol:
    return KlpSymbol(VMLINUX, name, sympos)


@pytest.mark.parametrize(
    ("symbol", "theirs", "words"),
    [
        (asked("alone", 0), {"alone": ("a.c",)}, ""),
        (asked("alone", 1), {"alone": ("a.c",)}, ""),
        (asked("wide", 0), {"wide": ("no file of its own",)}, ""),
        (asked("open", 1), {"open": ("a.c", "b.c")}, ""),
        (asked("open", 2), {"open": ("a.c", "b.c")}, ""),
        (asked("open", 1), {"open": ("b.c", "a.c")}, "meant is that of b.c"),
        (asked("open", 2), {"open": ("b.c", "a.c")}, "meant is that of a.c"),
        (asked("open", 0), {"open": ("a.c",)}, "the kernel has 2"),
        (asked("open", 3), {"open": ("a.c", "b.c", "c.c")}, "has 2 of that name"),
        (asked("alone", 0), {"alone": ("c.c",)}, "meant is that of c.c"),
        (asked("gone", 0), {"gone": ("a.c",)}, "none of that name"),
        (asked("alone", 1), {}, ""),  # the builder does not say
    ],
)
def test_differing(symbol: KlpSymbol, theirs: dict[str, tuple[str, ...]], words: str) -> None:
    told = list(differing([symbol, symbol], theirs, HERE))
    assert len(told) == bool(words)
    assert all(words in line and symbol.name in line for line in told)
