# SPDX-License-Identifier: GPL-2.0-only
"""Tasks for which a transition has to wait."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.nouns import ModuleSet, ModuleSpec
from orchestrator.run.held import Sleeper, sleeper

SET = ModuleSet(
    "mine",
    Path("mine"),
    (
        ModuleSpec("tm", "target"),
        ModuleSpec("lp", "livepatch", patches={"tm": ("tm_show",), "vmlinux": ("acct_on,1",)}),
    ),
)
ELSEWHERE = "[<0>] do_wait+0x5c/0x90\n[<0>] other_show+0x1/0x2 [other]\n"


@pytest.mark.parametrize(
    ("listed", "found"),
    [
        ("", None),
        (f"task S init\n{ELSEWHERE}", None),
        (
            f"task S init\n{ELSEWHERE}task S tm loop\n[<0>] tm_show+0x2f/0x60 [tm]\n",
            Sleeper("tm loop", "tm_show [tm]"),
        ),
        (
            "task D x\n[<0>] msleep+0x1/0x2\n[<0>] lp_show+0x2f/0x60 [lp]\n",
            Sleeper("x", "lp_show [lp]"),
        ),
        ("task S x\n[<0>] acct_on+0x2f/0x60\n", Sleeper("x", "acct_on")),
        ("task R x\n[<0>] tm_show+0x2f/0x60 [tm]\n", None),  # on its way
        ("task S a\ntask R x\n[<0>] tm_show+0x2f/0x60 [tm]\n", None),
    ],
)
def test_who_sleeps_in_a_function_of_the_set(listed: str, found: Sleeper | None) -> None:
    assert sleeper(listed, SET) == found
