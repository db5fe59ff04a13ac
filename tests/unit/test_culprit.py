# SPDX-License-Identifier: GPL-2.0-only
"""What is whose fault: a mistake in set.toml is not told as the kernel's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from samples import a_reading, an_answer
from test_report import a_result

from orchestrator import kernelreports
from orchestrator.model import words
from orchestrator.model.culprit import not_the_kernels
from orchestrator.nouns import BuiltModule, BuiltSet, ModuleSet, ModuleSpec, Probe
from orchestrator.report import resultstext
from orchestrator.verdicts import Answers, Check, Modules, Patched, PatchState, Shown, Status, Step

SET = ModuleSet(
    "mine",
    Path("/mine"),
    (),
    probes=(
        Probe("file", "t", "f", "a", file="/proc/mien"),
        Probe("command", "t", "f", "a", command="nonsuch /proc/mine"),
    ),
)
GONE = words.shown(Shown("file", "a", None))
NOT_FOUND = words.shown(Shown("command", "a", "sh: nonsuch: not found\nexit status 127"))
STATE = PatchState(True, False, {"t": True}, {"t": ("f,1",)})


def patched(**changes: object) -> Check:
    seen = replace(STATE, **changes)  # type: ignore[arg-type]
    return words.patched(Patched("p", STATE, seen))


def step(*checks: Check) -> Step:
    return Step("+t", (an_answer(), *checks), 0.0, 0.0, 0)


@pytest.mark.parametrize(
    ("checks", "why"),
    [
        ((GONE,), "the guest has no file /proc/mien"),
        ((NOT_FOUND,), "the guest has no such command: nonsuch /proc/mine"),
        ((GONE, NOT_FOUND), "no file"),
        ((patched(functions={"t": ("g,1",)}),), "patches g,1 of t by its own word"),
        ((patched(objects={"u": True}, functions={"u": ("f,1",)}),), "set.toml says f,1 of t"),
        ((patched(objects={"t": False}),), ""),  # the kernel's: the same names
        ((patched(transition=True),), ""),
        ((GONE, a_reading()), ""),  # a relocation is wrong as well
        ((GONE, words.modules(Modules(("t",), ()))), ""),  # its module is away
        ((words.shown(Shown("file", "a", "b")),), ""),
        ((words.shown(Shown("command", "a", "exit status 1")),), ""),
        ((words.shown(Shown("file", None, "a")),), ""),
        ((), ""),
    ],
)
def test_whose_fault_it_is(checks: tuple[Check, ...], why: str) -> None:
    found = not_the_kernels(step(*checks), BuiltSet(SET, {}), ())
    assert (why in found) if why else (found == "")


@pytest.mark.parametrize("compared", [True, False])
def test_a_livepatch_that_was_compared_with_set_toml_is_not_to_blame(compared: bool) -> None:
    spec = ModuleSpec("p", "livepatch", patches={"t": ("f,1",)})
    module = BuiltModule(spec, Path("p.ko"), (), {}, compared=compared)
    seen = step(patched(functions={"t": ("g,1",)}))
    assert (not_the_kernels(seen, BuiltSet(SET, {"p": module}), ()) == "") is compared


REFUSED = (
    "livepatch: Livepatch patch (p) is not compatible with the already installed livepatches.",
)


@pytest.mark.parametrize(
    ("expected", "seen", "refusals", "compared", "blamed"),
    [
        ((0,), (22,), REFUSED, False, True),
        ((0, 0), (0, 22), REFUSED, False, True),
        ((0,), (22,), REFUSED, True, False),  # it has none: the kernel is wrong
        ((0,), (22,), (), False, False),
        ((0,), (2,), REFUSED, False, False),
        ((22, 0), (22, 2), REFUSED, False, False),  # that one had to be
    ],
)
def test_states_that_nobody_could_read_are_not_the_kernels(
    expected: tuple[int, ...],
    seen: tuple[int, ...],
    refusals: tuple[str, ...],
    compared: bool,
    blamed: bool,
) -> None:
    spec = ModuleSpec("p", "livepatch", patches={"t": ("f,1",)})
    built = BuiltSet(SET, {"p": BuiltModule(spec, Path("p.ko"), (), {}, compared=compared)})
    taken = Step("+p", (words.answers(Answers(expected, seen)), patched(enabled=False)), 0, 0, 0)
    found = not_the_kernels(taken, built, refusals)
    assert ("the .states of p cannot be read" in found) is blamed
    crashed = replace(taken, checks=(*taken.checks, words.dead("BUG: oops", ())))
    assert not_the_kernels(crashed, built, refusals) == ""


def test_the_refusal_for_states_is_the_kernels_own() -> None:
    assert kernelreports.refusals(f"[    1.000000] {REFUSED[0]}\n") == REFUSED


def test_a_failure_of_a_set_that_is_not_ours_says_who_else_may_be_wrong() -> None:
    frames = ("klp_show [mine]", "klp_show [mine]", "seq_read_iter", "vfs_read")
    dead = step(words.dead("BUG: oops in klp_show", frames))
    result = replace(a_result(Status.FAIL), steps=(dead,))
    shown = resultstext.plain(resultstext.failure(result))
    assert "in         klp_show [mine] < seq_read_iter < vfs_read\n" in shown
    assert "suspects" not in shown
    mine = replace(result, case=replace(result.case, module_set="/home/me/mine"))
    assert "suspects   the kernel; or the modules, or set.toml, of this set\n" in resultstext.plain(
        resultstext.failure(mine)
    )
