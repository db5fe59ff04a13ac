# SPDX-License-Identifier: GPL-2.0-only
"""Tasks for which a transition has to wait."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast
from unittest.mock import Mock

import pytest

from orchestrator.deadline import Deadline
from orchestrator.errors import HarnessError
from orchestrator.nouns import ModuleSet, ModuleSpec
from orchestrator.run import held
from orchestrator.run.held import Sleeper, sleepers
from orchestrator.verdicts import PatchState
from orchestrator.vm.guest import Guest

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
        ("task S x\n[<0>] tm_other+0x2f/0x60 [tm]\n", None),  # a right kernel moves it
        ("task S x\n[<0>] tm_show.isra.0+0x2/0x6 [tm]\n", Sleeper("x", "tm_show.isra.0 [tm]")),
        ("task S x\n[<0>] acct_on+0x2f/0x60\n", Sleeper("x", "acct_on")),
        ("task R x\n[<0>] tm_show+0x2f/0x60 [tm]\n", None),  # on its way
        ("task S a\ntask R x\n[<0>] tm_show+0x2f/0x60 [tm]\n", None),
    ],
)
def test_who_sleeps_in_a_function_of_the_set(listed: str, found: Sleeper | None) -> None:
    assert next(iter(sleepers(listed, SET)), None) == found


STAYS = "task R tm spin\n[<0>] tm_show+0x2f/0x60 [tm]\n"
INSIDE = STAYS.replace("\n", "\n[<0>] tm_helper+0x1/0x20 [tm]\n", 1)


@pytest.mark.parametrize(
    ("looks", "told"),
    [
        ([STAYS] * held._LOOKS, "tm spin, which runs in tm_show"),
        ([INSIDE, STAYS, *[INSIDE] * held._LOOKS], "tm spin, which runs in tm_show"),
        ([STAYS] * (held._LOOKS - 1) + [""], ""),
        (["", *[STAYS] * held._LOOKS], ""),
        ([STAYS, *["task R tm spin\n[<0>] other+0x1/0x2 [other]\n"] * held._LOOKS], ""),
    ],
)
def test_a_task_that_runs_has_to_be_there_at_each_look(
    looks: list[str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held, "_BETWEEN_SECONDS", 0)
    guest = cast("Guest", SimpleNamespace(run_command=Mock(side_effect=looks)))
    states = {"lp": PatchState(enabled=True, transition=True, objects={})}
    if not told:
        held.check(guest, SET, states, Deadline.after(60))
        return
    with pytest.raises(HarnessError, match=told):
        held.check(guest, SET, states, Deadline.after(60))
