# SPDX-License-Identifier: GPL-2.0-only
"""What is whose fault: a mistake in set.toml is not told as the kernel's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from samples import a_reading, an_answer
from samples import a_result as fresh
from test_report import a_result

from orchestrator import kernelreports
from orchestrator.model import orders, words
from orchestrator.model.culprit import SUSPECT, judge_together, not_the_kernels
from orchestrator.nouns import BuiltModule, BuiltSet, ModuleSet, ModuleSpec, Probe
from orchestrator.report import resultstext
from orchestrator.verdicts import (
    Answers,
    CaseResult,
    Check,
    Health,
    Modules,
    Patched,
    PatchState,
    RelocationState,
    Shown,
    Sign,
    Status,
    Step,
)

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
        ((words.shown(Shown("file", None, "error: EISDIR")),), "it is a directory"),
        ((words.shown(Shown("file", "a", "error: EISDIR")),), "it is a directory"),
        ((words.shown(Shown("file", "a", "error: ENOTDIR")),), "is no directory"),
        ((words.shown(Shown("file", "a", "error: EIO")),), ""),
        ((words.shown(Shown("command", "a", "error: EISDIR")),), ""),
        ((), ""),
    ],
)
def test_whose_fault_it_is(checks: tuple[Check, ...], why: str) -> None:
    found = not_the_kernels(step(*checks), BuiltSet(SET, {}), ())
    assert (why in found) if why else (found == "")


def test_a_module_that_goes_without_an_event_is_a_commands_work() -> None:
    """No kernel unloads one by itself. What fails beside it follows from that."""
    away = words.modules(Modules(("t", "u"), ("u",)))
    built = BuiltSet(SET, {})

    def found(event: str, *checks: Check, of: BuiltSet = built) -> str:
        return not_the_kernels(replace(step(*checks), event=event), of, ())

    assert "t went, and no event unloads it: does 'nonsuch" in found("+p", a_reading(), away)
    assert found("+t", away) == found("{+t -t}", away) == ""
    assert found("+p", away, words.dead("BUG: oops", ())) == ""
    files = replace(SET, probes=tuple(probe for probe in SET.probes if probe.file))
    assert found("+p", away, of=BuiltSet(files, {})) == ""


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


# --- all orders together -----------------------------------------------------------------------

MINE = ModuleSet(
    "/me/mine",
    Path("/me/mine"),
    (ModuleSpec("t", "target"), ModuleSpec("p", "livepatch", patches={"t": ("f",)})),
    probes=(
        Probe("show", "t", "f", "old", {"p": "new"}, file="/proc/mine"),
        Probe("saw", "t", "f", "old", {"p": "new"}, file="/proc/saw", at="init"),
    ),
)
APPLIED = a_reading(state=RelocationState.APPLIED, resolves_to=0x1000, symbol_address=0x1000)
OLD, NEW = words.shown(Shown("show", "old", "old")), words.shown(Shown("show", "new", "new"))


def shows(expected: str, seen: str | None, probe: str = "show") -> Check:
    return words.shown(Shown(probe, expected, seen))


def refused(errno: int) -> Check:
    return an_answer(0, errno)


def reported(*frames: str, title: str = "WARNING: CPU: 0 PID: 41 at mine.c:30 f+0x1/0x2") -> Check:
    return words.health(Health(Sign.CONSOLE, (title,), frames), "no kernel report")


def tainted(letters: str = "W") -> Check:
    return words.health(
        Health(Sign.TAINT), "nothing beyond 4096 (O)", f"1 (O{letters})", good=False
    )


def lost_memory(kilobytes: int) -> Check:
    return words.health(Health(Sign.MEMORY), "at most 8 kB", f"{kilobytes} kB more", good=False)


TAINTED = tainted()


def ran(order: str, *checks: tuple[Check, ...]) -> CaseResult:
    """A case whose steps were these; it failed if the last one did."""
    events = order.split()[: len(checks)]
    steps = tuple(
        Step(event, (an_answer(), *mine) if not _answers(mine) else mine, 0.0, 0.0, 0)
        for event, mine in zip(events, checks, strict=True)
    )
    failed = not steps[-1].good
    case = replace(fresh().case, module_set=MINE.name, order=orders.parse(order), name=order)
    return fresh(
        case=case, steps=steps, status=Status.FAIL if failed else Status.PASS, reason="seen"
    )


def _answers(checks: tuple[Check, ...]) -> bool:
    return any(check.subject == "answer" for check in checks)


BLAMED = {
    "a text never shown": (
        ran("+p +t", (), (APPLIED, shows("new", "newer"))),
        ran("+t +p", (OLD,), (APPLIED, shows("new", "newer"))),
    ),
    "texts swapped": (
        ran("+p +t p=0", (), (APPLIED, shows("new", "old"))),
        ran("+t +p", (shows("old", "new"),)),
    ),
    "wrong before any livepatch": (ran("+t +p", (shows("old", "elder"),)),),
    "a warning before any livepatch": (
        ran("+t -t +p", (OLD,), (reported("g [t]"), TAINTED)),
        ran(
            "+p +t -t",
            (),
            (APPLIED, NEW),
            (reported("g [t]", title="WARNING: CPU: 1 PID: 7 at mine.c:30 f+0x1/0x2"), TAINTED),
        ),
    ),
    "refused before any livepatch": (
        ran("+t +p", (refused(22), shows("old", None))),
        ran("+p +t", (), (refused(22), shows("new", None), a_reading())),
    ),
    "a crash in the livepatch's code": (
        ran("+p +t", (), (APPLIED, words.dead("BUG: oops in f", ("f [p]", "seq_read")))),
        ran("+t +p", (OLD,), (APPLIED, words.dead("BUG: oops in f", ("f [p]", "seq_read")))),
    ),
}
DEAD = words.dead("BUG: oops in f", ("f [p]", "seq_read"))
BLAMED["no record"] = (
    ran(
        "+t +p",
        (shows("old", "old", "saw"),),
        (APPLIED, NEW, shows("old", "new", "saw")),
    ),
)
BLAMED["another text each time"] = (
    ran("+t +p", (shows("old", "1"),)),
    ran("+t -t", (shows("old", "3"),)),
    ran("+p +t", (), (APPLIED, shows("new", "4"))),
)
NOT_BLAMED = {
    "another text each time, under a livepatch": (
        ran("+t +p", (OLD,), (APPLIED, shows("new", "2"))),
        ran("+p +t", (), (APPLIED, shows("new", "4"))),
    ),
    "a record that comes with its module": (
        ran(
            "+p +t -t +t",
            (),
            (APPLIED, shows("new", "new", "saw")),
            (),
            (APPLIED, shows("new", "old", "saw")),
        ),
    ),
    "another order shows it": (
        ran("+p +t", (), (APPLIED, shows("new", "newer"))),
        ran("+t +p", (OLD,), (APPLIED, NEW)),
    ),
    "not the same each time": (
        ran("+p +t", (), (APPLIED, shows("new", "limit=3"))),
        ran("+t +p", (OLD,), (APPLIED, shows("new", "limit=7"))),
    ),
    "the old function still runs": (
        ran("+p +t", (), (APPLIED, shows("new", "old"))),
        ran("+t +p", (OLD,), (APPLIED, shows("new", "old"))),
    ),
    "the old function still runs, and nobody saw it before": (
        ran("+p +t", (), (APPLIED, shows("new", "old"))),
        ran("+p +t -t +t", (), (APPLIED, shows("new", "old"))),
    ),
    "a relocation is wrong elsewhere": (
        ran("+p +t", (), (APPLIED, shows("new", "newer"))),
        ran("+t +p", (OLD,), (a_reading(), shows("new", "newer"))),
    ),
    "one order only": (ran("+p +t", (), (APPLIED, shows("new", "newer"))),),
    "what its init saw": (
        ran("+p +t", (), (APPLIED, shows("new", "newer", "saw"))),
        ran("+t +p", (OLD,), (APPLIED, shows("new", "newer", "saw"))),
    ),
    "refused with a livepatch, not without": (
        ran("+p +t", (), (refused(22),)),
        ran("+t +p", (OLD,), (refused(22),)),
    ),
    "refused otherwise": (ran("+t +p", (refused(22),)), ran("+p +t", (), (refused(8),))),
    "refused as without a livepatch, and livepatch complains": (
        ran("+t +p", (refused(22),)),
        ran("+p +t", (), (refused(22), reported("klp_module_going"), TAINTED)),
    ),
    "a crash in code that ran well before": (
        ran("+p +t -t +t", (), (APPLIED, NEW), (), (APPLIED, DEAD)),
        ran("+p +t", (), (APPLIED, DEAD)),
    ),
    "a crash through a stale relocation": (
        ran("+p +t", (), (a_reading(), DEAD)),
        ran("+t +p", (OLD,), (a_reading(), DEAD)),
    ),
    "a crash in the kernel": (
        ran("+p +t", (), (APPLIED, words.dead("BUG: oops in klp", ("klp", "f [p]")))),
        ran("+t +p", (OLD,), (APPLIED, words.dead("BUG: oops in klp", ("klp", "f [p]")))),
    ),
    "a warning after the livepatch": (
        ran("+t +p", (OLD,), (APPLIED, NEW, reported("g [t]"), TAINTED)),
        ran("+p +t", (), (APPLIED, NEW, reported("g [t]"), TAINTED)),
    ),
    "a report from elsewhere, without any livepatch": (
        ran("+t -t", (OLD,), (reported("free_module"),)),
        ran("+t -t +p", (OLD,), (reported(title="INFO: task hung: t"),)),
    ),
    "more memory than without a livepatch": (
        ran("+t +p", (OLD, lost_memory(12))),
        ran("+p +t", (), (APPLIED, NEW, lost_memory(1200))),
    ),
    "a taint that nobody had without a livepatch": (
        ran("+t +p", (OLD, tainted("W"))),
        ran("+p +t", (), (APPLIED, NEW, tainted("DW"))),
    ),
    "a relocation of which an older klp-e2e told nothing but that it was wrong": (
        ran("+p +t", (), (APPLIED, shows("new", "newer"))),
        ran("+t +p", (OLD,), (replace(a_reading(), detail=None), shows("new", "newer"))),
    ),
    "something else as well": (
        ran("+t +p", (shows("old", "elder"),)),
        ran("+p +t p=0", (), (APPLIED, NEW), (shows("old", "elder"), patched(transition=True))),
    ),
}


@pytest.mark.parametrize("results", BLAMED.values(), ids=BLAMED)
def test_a_set_that_is_wrong_alike_everywhere_is_the_likelier_culprit(
    results: tuple[CaseResult, ...],
) -> None:
    judged = judge_together(results, MINE)
    assert {each.status for each in judged} == {Status.ERROR}
    assert all(each.culprit in each.reason and SUSPECT in each.reason for each in judged)


@pytest.mark.parametrize("results", NOT_BLAMED.values(), ids=NOT_BLAMED)
def test_what_may_be_the_kernels_stays_the_kernels(results: tuple[CaseResult, ...]) -> None:
    judged = judge_together(results, MINE)
    failed = [each.status for each in results].count(Status.FAIL)
    left = [each.status for each in judged].count(Status.FAIL)
    blamed = [each for each in judged if each.culprit]
    assert left >= 1 and left + len(blamed) == failed
    assert all("without any livepatch" in each.culprit for each in blamed)  # a control proves that


def test_a_record_that_is_none_is_told_in_one_line() -> None:
    shown = words.shown(Shown("saw", "old\nold", "new\nnew\n"))
    was = words.shown(Shown("saw", "old\nold", "old\nold\n"))
    (judged,) = judge_together((ran("+t +p", (was,), (APPLIED, shown)),), MINE)
    assert "+p changes it from 'old / old' to 'new / new'" in judged.culprit


def test_what_was_seen_right_elsewhere_or_may_have_been_blames_nobody() -> None:
    results = BLAMED["a text never shown"]
    assert judge_together(results, MINE, frozenset({("show", "new")})) == results
    assert judge_together(results, MINE, frozenset({("show", "newer")})) == results
    assert judge_together(results, MINE, None) == results
    alone = BLAMED["wrong before any livepatch"]
    assert judge_together(alone, MINE, None) != alone


def test_of_a_text_that_did_not_change_the_compiler_is_a_suspect_too() -> None:
    failed = NOT_BLAMED["the old function still runs"][0]
    assert (
        "suspects   the kernel; or the modules, or set.toml, of this set (is the function inl"
        in (resultstext.plain(resultstext.failure(failed)))
    )


def test_a_warning_that_is_nowhere_as_promised_is_the_sets_mistake() -> None:
    def warned(*seen: str) -> Check:
        return words.warnings(("x.c:5 f [p]",), seen)

    same = ran("+p +t", (), (warned("x.c:6 f [p]"),)), ran("+t +p", (), (warned("x.c:6 f [p]"),))
    assert [each.status for each in judge_together(same, MINE)] == [Status.ERROR] * 2
    for other in ((), ("x.c:7 f [p]",), ("x.c:5 f [p]",)):
        results = same[0], ran("+t +p", (), (warned(*other),))
        assert judge_together(results, MINE)[0].status is Status.FAIL
