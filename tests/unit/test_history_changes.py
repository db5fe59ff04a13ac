# SPDX-License-Identifier: GPL-2.0-only
"""What a night tells that those before it did not. Marks: see history_samples.WORDS."""

from __future__ import annotations

from dataclasses import replace

import pytest
from history_samples import JOB, WORDS, a_job, a_kernel_input, a_night, a_row, some_past

from orchestrator.history.changes import changes, standing, symptom
from orchestrator.history.nights import Change, Changed, Changes, Night, State
from orchestrator.verdicts import Status

KEY = (JOB, "basic/reload")
STILL = (Change.STILL_FAILING, Change.STILL_TROUBLE)


def told(marks: str, seconds: float = 1.0) -> Changed | None:
    """What is said of the last of these nights, which knows all others."""
    now = a_night(f"n{len(marks)}", a_row(marks[-1], seconds=seconds))
    before = a_night("n0") if len(marks) == 1 else a_night(f"n{len(marks) - 1}")
    found = changes(now, before, {KEY: some_past(marks[:-1])}).changed
    assert len(found) <= 1
    return found[0] if found else None


@pytest.mark.parametrize(
    ("marks", "change", "since", "nights", "last_good"),
    [
        ("....F", Change.NEW_FAILURE, "n5", 1, "n4"),
        ("...FF", Change.STILL_FAILING, "n4", 2, "n3"),
        ("...FFE-FF", Change.STILL_FAILING, "n4", 4, "n3"),
        ("....EF", Change.NEW_FAILURE, "n6", 1, "n4"),
        ("...FG", Change.NEW_FAILURE, "n5", 1, "n3"),
        ("..FGG", Change.STILL_FAILING, "n4", 2, "n2"),
        ("...kF", Change.NEW_FAILURE, "n5", 1, "n3"),
        ("...k!", Change.NEW_FAILURE, "n5", 1, "n3"),
        ("F", Change.NEW_FAILURE, "n1", 1, ""),
        (" . F", Change.NEW_FAILURE, "n4", 1, "n2"),
        ("...E", Change.NEW_TROUBLE, "n4", 1, "n3"),
        ("..E-E", Change.STILL_TROUBLE, "n3", 2, "n2"),
        ("..FE", Change.NEW_TROUBLE, "n4", 1, "n2"),
        ("..F.", Change.FIXED, "n4", 1, "n2"),
        ("..FFE.", Change.FIXED, "n6", 1, "n2"),
        ("..!.", Change.FIXED, "n4", 1, "n2"),
        ("...-", Change.NEWLY_SKIPPED, "n4", 1, "n3"),
        ("..--", None, "", 0, ""),
        (".E.", None, "", 0, ""),
        ("..k", Change.NEWLY_KNOWN, "n3", 1, "n2"),
        ("..kk", None, "", 0, ""),
        (".!k", Change.NEWLY_KNOWN, "n3", 1, "n1"),
        ("k", Change.NEW_CASE, "n1", 1, ""),
        ("F-k", None, "", 0, ""),
        (".", Change.NEW_CASE, "n1", 1, ""),
        (" -.", None, "", 0, ""),
        ("...", None, "", 0, ""),
        # flakes
        ("...~", Change.FLAKY, "n4", 1, "n3"),
        ("..~~", Change.FLAKY, "n3", 2, "n2"),
        (".F.F.F", Change.FLAKY, "n6", 1, "n5"),
        ("~....F", Change.FLAKY, "n6", 1, "n5"),
        ("~..........F", Change.NEW_FAILURE, "n12", 1, "n11"),
        ("....F....F", Change.NEW_FAILURE, "n10", 1, "n9"),
        (".G.G.F", Change.NEW_FAILURE, "n6", 1, "n5"),
        (".F.F.FFF", Change.STILL_FAILING, "n6", 3, "n5"),
        ("...~.", None, "", 0, ""),
        (".F.F.F.", None, "", 0, ""),
        ("~FFF.", Change.FIXED, "n5", 1, ""),
    ],
)
def test_a_case_over_the_nights(
    marks: str, change: Change | None, since: str, nights: int, last_good: str
) -> None:
    found = told(marks)
    if change is None:
        assert found is None
    else:
        assert found is not None
        assert (found.change, found.since, found.nights, found.last_good) == (
            *(change, since, nights, last_good),
        )


@pytest.mark.parametrize(
    ("marks", "note"),
    [
        (".F.F.F", "failed in 3 of the last 6 nights"),
        (".F...F", "failed in 2 of the last 6 nights"),
        ("...FG", "failed otherwise before: +klp_target: answer: ENOEXEC (N)"),
        ("..FF.", "failed in 2 nights, since n3"),
        ("..F.", "failed in n3"),
        ("....F", ""),
        ("...FF", ""),
    ],
)
def test_notes(marks: str, note: str) -> None:
    found = told(marks)
    assert found is not None and found.note == note


def test_a_flake_of_this_night_says_how_often_it_failed() -> None:
    row = replace(a_row("~"), runs=3, failed=1)
    [found] = changes(a_night("n9", row), None, {KEY: some_past("..~.")}).changed
    assert found.note == "failed 1 of 3 times; failed in 2 of the last 5 nights"


def test_without_a_history_the_night_before_serves() -> None:
    before, now = a_night("a", a_row(".")), a_night("b", a_row("F"))
    [found] = changes(now, before, {}).changed
    assert (found.change, found.last_good) == (Change.NEW_FAILURE, "a")
    [found] = changes(a_night("c", a_row("F")), now, {}).changed
    assert (found.change, found.since) == (Change.STILL_FAILING, "b")


def test_the_night_before_counts_once() -> None:
    past = {KEY: some_past(".F")}
    [found] = changes(a_night("n3", a_row("F")), a_night("n2", a_row("F")), past).changed
    assert found.nights == 2


def test_the_first_night_of_all_has_no_new_cases() -> None:
    now = a_night("a", a_row("."), a_row("F", "basic/other"))
    found = changes(now, None, {})
    assert [each.change for each in found.changed] == [Change.NEW_FAILURE]
    assert (found.before, found.inputs) == ("", ())


@pytest.mark.parametrize("mark", [mark for mark in WORDS if mark != "~"])
def test_a_night_compared_with_itself_has_no_news(mark: str) -> None:
    rows = [a_row(mark), replace(a_row("F", "basic/found"), within="basic/walk")]
    night = a_night("a", *rows, a_row("F", "basic/walk"))
    found = changes(night, night, {})
    assert all(each.change in STILL for each in found.changed)
    assert found.inputs == ()


def test_worst_first() -> None:
    before = a_night("a", *(a_row(mark, name) for name, mark in zip("abcd", "F..F", strict=True)))
    now = a_night("b", *(a_row(mark, name) for name, mark in zip("abcd", ".EFF", strict=True)))
    found = changes(now, before, {}).changed
    assert [(each.row.case, each.change) for each in found] == [
        ("c", Change.NEW_FAILURE),
        ("b", Change.NEW_TROUBLE),
        ("d", Change.STILL_FAILING),
        ("a", Change.FIXED),
    ]


# --- durations -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("usual", "seconds", "change"),
    [
        ([1.0, 1.1, 0.9, 1.0, 1.0], 4.0, Change.SLOWER),
        ([1.0, 1.1, 0.9, 1.0, 1.0], 1.4, None),  # less than half a second
        ([10.0] * 5, 12.4, None),  # less than a quarter
        ([10.0] * 5, 12.6, Change.SLOWER),
        ([10.0] * 5, 7.4, Change.FASTER),
        ([5.0, 10.0, 15.0, 8.0, 12.0], 20.0, None),  # as noisy as it is
        ([10.0] * 4, 40.0, None),  # too few to tell
    ],
)
def test_durations(usual: list[float], seconds: float, change: Change | None) -> None:
    past = [replace(some_past(".")[0], night=f"n{i}", seconds=s) for i, s in enumerate(usual)]
    now = a_night("now", a_row(".", seconds=seconds))
    found = changes(now, a_night("n0"), {KEY: past}).changed
    assert [each.change for each in found] == ([change] if change else [])


def test_a_slow_night_is_said_once() -> None:
    """All take twice as long, one five times: that one is slower, and everything is."""
    past, rows = {}, []
    for number in range(12):
        case = f"basic/{number}"
        key = (KEY[0], case)
        past[key] = [replace(each, seconds=10.0) for each in some_past(".....")]
        rows.append(a_row(".", case, seconds=50.0 if number == 3 else 20.0))
    told = changes(a_night("n6", *rows), a_night("n5"), past)
    assert [(each.change, each.row.case) for each in told.changed] == [(Change.SLOWER, "basic/3")]
    (pace,) = told.inputs
    assert (pace.before, pace.after) == ("as usual", "2.0 times as much")
    few = changes(a_night("n6", *rows[4:12]), a_night("n5"), past)
    assert {each.change for each in few.changed} == {Change.SLOWER} and len(few.changed) == 8
    assert few.inputs == ()


MINE, OTHER = "CPU, 2 cores, tcg", "CPU, 2 cores, kvm"


@pytest.mark.parametrize(
    ("then", "now", "slower"),
    [(MINE, MINE, True), (OTHER, MINE, False), ("", MINE, False), (MINE, "", False)],
)
def test_times_are_compared_within_a_kind_of_machine(then: str, now: str, slower: bool) -> None:
    """What was not recorded is no kind that compares with another. A verdict counts wherever."""
    past = [replace(each, machine=then) for each in some_past(".....")]
    night = a_night("n6", a_row(".", seconds=9.0), jobs=[replace(a_job(), machine=now)])
    before = a_night("n5", a_row("."), jobs=[replace(a_job(), machine=then)])
    for known in (past, past[1:]):  # of the last night the files may tell
        found = changes(night, before, {KEY: known}).changed
        assert [each.change for each in found] == [Change.SLOWER] * slower
    failed = replace(night, rows=(a_row("F"),))
    [found_wrong] = changes(failed, before, {KEY: past}).changed
    assert (found_wrong.change, found_wrong.last_good) == (Change.NEW_FAILURE, "n5")


def test_each_host_has_its_own_pace() -> None:
    """Of two, on which a night's parts ran, one was busy: no case of it is slower than the rest."""
    past, rows = {}, []
    for job in ("a/one/core", "b/one/core"):
        for number in range(12):
            case = f"basic/{number}"
            past[job, case] = [replace(each, seconds=10.0) for each in some_past(".....")]
            rows.append(a_row(".", case, job, seconds=30.0 if job[0] == "b" else 10.0))
    records = [replace(a_job(f"{host}/one/core"), host=host) for host in "ab"]
    told = changes(a_night("n6", *rows, jobs=records), a_night("n5"), past)
    assert told.changed == ()
    (pace,) = [each for each in told.inputs if each.what.startswith("time")]
    assert (pace.what, pace.after) == ("time that cases take on b", "3.0 times as much")


def test_slower_since() -> None:
    past = some_past(".......")
    past[:2] = [replace(each, seconds=4.2) for each in past[:2]]
    [found] = changes(a_night("n8", a_row(".", seconds=4.4)), a_night("n7"), {KEY: past}).changed
    assert (found.since, found.nights, found.last_good) == ("n6", 3, "n5")
    assert found.note == "4.4 s, usually 1.0 s"


def test_boots_and_failures_are_no_durations() -> None:
    past = some_past(".....")
    cold = replace(a_row(".", seconds=9.0), timed=False)
    assert not changes(a_night("n6", cold), a_night("n5"), {KEY: past}).changed
    booted = [replace(each, timed=False) for each in past]
    assert not changes(a_night("n6", a_row(".", seconds=9.0)), None, {KEY: booted}).changed
    failed = [replace(each, status=Status.KNOWN) for each in past]
    assert not changes(a_night("n6", a_row(".", seconds=9.0)), None, {KEY: failed}).changed


# --- cases that are not there --------------------------------------------------------------------

BEFORE = a_night("a", a_row("."), a_row("F", "basic/other"))


def without(*rows: str, **job: object) -> Night:
    made = [a_row(".", case) for case in rows]
    return a_night("b", *made, jobs=[replace(a_job(), **job)])  # type: ignore[arg-type]  # by name


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (a_night("b", jobs=[]), [Change.GONE] * 2),
        (without("basic/reload"), [Change.GONE]),
        (without("basic/reload", state=State.RUNNING), []),
        (without(state=State.WAITING), []),
        (without("basic/reload", reason="stopped early: no space left"), []),
        (without("basic/reload", exit_code=4), []),
        (without("basic/reload", exit_code=1), [Change.GONE]),
        (
            without(state=State.SKIPPED, reason="the night's time was up"),
            [Change.NEWLY_SKIPPED] * 2,
        ),
    ],
)
def test_what_is_not_there(now: Night, expected: list[Change]) -> None:
    found = changes(now, BEFORE, {}).changed
    assert [each.change for each in found] == expected
    if Change.NEWLY_SKIPPED in expected:
        assert {each.row.status for each in found} == {Status.SKIP}
        assert {each.row.reason for each in found} == {"the night's time was up"}


@pytest.mark.parametrize("mark", "E-")
def test_what_did_not_run_last_time_is_not_gone(mark: str) -> None:
    assert not changes(a_night("b", jobs=[]), a_night("a", a_row(mark)), {}).changed


def a_walk(mark: str, *findings: str) -> Night:
    rows = [replace(a_row(each, "basic/oops"), within="basic/walk") for each in findings]
    return a_night("now", a_row(mark, "basic/walk"), *rows, jobs=[a_job()])


def test_a_walk_s_findings_are_the_news_and_not_the_walk() -> None:
    [found] = changes(a_walk("F", "F"), replace(a_walk("."), name="a"), {}).changed
    assert (found.change, found.row.case) == (Change.NEW_FAILURE, "basic/oops")
    assert found.last_good == "a", "it was walked there, and not found"


def test_a_finding_that_is_not_found_again_is_fixed() -> None:
    before = replace(a_walk("F", "F"), name="a")
    [found] = changes(a_walk("."), before, {}).changed
    assert (found.change, found.row.case) == (Change.FIXED, "basic/oops")
    assert found.row.status is Status.PASS and "not found again" in found.row.reason
    [found] = changes(a_walk("E"), before, {}).changed
    assert (found.change, found.row.case) == (Change.NEW_TROUBLE, "basic/walk")


def test_a_finding_that_comes_back_is_new() -> None:
    past = {(JOB, "basic/oops"): some_past("F  "), (JOB, "basic/walk"): some_past("F..")}
    [found] = changes(a_walk("F", "F"), a_night("n3"), past).changed
    assert (found.change, found.last_good) == (Change.NEW_FAILURE, "n3")


# --- what went in --------------------------------------------------------------------------------


def input_lines(now: Night, before: Night, **more: object) -> set[str]:
    found: Changes = changes(now, before, {}, **more)  # type: ignore[arg-type]  # by name
    return {" ".join((i.kernel, i.arch, i.what, i.before, "->", i.after)) for i in found.inputs}


def test_inputs() -> None:
    old = replace(a_kernel_input(), patches={"1.patch": "aa", "2.patch": "bb", "3.patch": "cc"})
    new = replace(
        a_kernel_input("6.1.192-2"),
        patches={"3.patch": "cc", "1.patch": "a0", "4.patch": "dd"},
        compiler="gcc 13",
        qemu="",
    )
    before = replace(a_night("a"), kernels=(old, a_kernel_input("6.12.1", "6.12")))
    now = replace(a_night("b"), kernels=(new,), tool="0.2.0", host="another host")
    options = ({"SMP": "y", "KASAN": "n", "HZ": "100"}, {"SMP": "y", "HZ": "250", "NEW": "n"})
    assert input_lines(now, before, configs={("6.1", "one"): options}) == {
        "  klp-e2e 0.1.0 -> 0.2.0",
        "  host a host -> another host",
        "6.1 one source version 6.1.190-1 -> 6.1.192-2",
        "6.1 one compiler gcc 12 -> gcc 13",
        "6.1 one patch 1.patch aa -> a0",
        "6.1 one patch 2.patch bb -> ",
        "6.1 one patch 4.patch  -> dd",
        "6.1 one order of patches 1.patch 3.patch -> 3.patch 1.patch",
        "6.1 one CONFIG_HZ 100 -> 250",
        "6.12 one kernel 6.12.1 -> ",
    }


def test_what_was_not_recorded_has_not_changed() -> None:
    by_name = replace(a_kernel_input(), patches={"series": "", "gone": ""}, compiler="")
    by_digest = replace(a_kernel_input(), patches={"series": "aa"})
    before = replace(a_night("a"), kernels=(by_name,), tool="")
    now = replace(a_night("b"), kernels=(by_digest,))
    assert input_lines(now, before) == {"6.1 one patch gone applied -> "}


# --- symptoms, standing --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            "+t: p .text+0xe R_390_64 t:w,0: bytes ff 9a lead through got 0x3ff7f02010 to 0x3e",
            "+t: p .text+0x1e R_390_64 t:w,0: bytes 00 11 lead through got 0x2ff7f010 to 0xabcde",
        ),
        ("[    2.988141] module: loc 00000000d012637e", "[ 12.1] module: loc ffffffffc0271052"),
        ("calls: patched=0,read=-1430075576", "calls: patched=1,read=77"),
        ("CPU: 0 PID: 44 at 10:01:02", "CPU: 1 PID: 4411 at 09:59:00"),
        ("no answer in 12.5 s\n  at all", "no answer in 3 s at all"),
    ],
)
def test_the_same_symptom(one: str, other: str) -> None:
    assert symptom(one) == symptom(other) == symptom(symptom(one))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("+klp_patch: answer: ENOEXEC (8)", "+klp_patch: answer: EINVAL (22)"),
        ("p .text+0xe R_390_64 t:w", "p .text+0xe R_390_32 t:w"),
        ("page fault in klp_show_1", "page fault in klp_show_2"),
        ("facade is bad", "decade is bad"),
    ],
)
def test_another_symptom(one: str, other: str) -> None:
    assert symptom(one) != symptom(other)


@pytest.mark.parametrize(
    ("marks", "expected"),
    [
        ("...FF", ("n4", 2, "n3")),
        ("FE-F", ("n1", 2, "")),
        (".F..", ("n3", 2, "n4")),
        (".FEE", ("n3", 2, "n1")),
        (".F-", ("n3", 1, "n1")),
    ],
)
def test_standing(marks: str, expected: tuple[str, int, str]) -> None:
    assert standing(some_past(marks)) == expected


def test_a_set_of_ones_own_that_holds_something_else_is_told() -> None:
    """In another place it is the same set: nothing but what it holds tells two of one name."""

    def night(name: str, *contents: str, place: str = "/home/me/mine") -> Night:
        rows = (
            replace(a_row(".", f"mine/{number}"), module_set=place, content=content)
            for number, content in enumerate(contents)
        )
        return a_night(name, *rows)

    before = night("a", "c0", "c0")
    assert input_lines(night("b", "c0", "c0", place="/builds/42/mine"), before) == set()
    assert input_lines(night("b", "c1", "c1"), before) == {" one module set mine c0 -> c1"}
    written_to = " one module set mine c0 -> c0 c1"
    assert input_lines(night("b", "c0", "c1"), before) == {written_to}
    assert input_lines(night("b", "", ""), before) == set()  # nothing is known
    assert input_lines(before, night("b", "", "")) == set()
