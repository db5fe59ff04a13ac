# SPDX-License-Identifier: GPL-2.0-only
"""`klp-e2e compare` and `klp-e2e history`: what is printed, the exit code."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from history_samples import JOB, a_kernel_input, a_night, a_result, a_row, a_run, a_suite
from samples import klp

from orchestrator.commands.history import REBUILD
from orchestrator.errors import Exit
from orchestrator.history import files
from orchestrator.history.database import NAME, History
from orchestrator.history.nights import NightTotals, Verdict
from orchestrator.history.text import verdict
from orchestrator.model import orders
from orchestrator.report.directory import RESULTS
from orchestrator.verdicts import CaseResult, Status


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Four nights: good, good, failing on a newer kernel, failing."""
    for number, mark in enumerate("..FF", 1):
        name = f"2026-01-0{number}-020000"
        row = replace(a_row(mark, seconds=2.0), reproduce="klp-e2e run --arch one")
        kernel = a_kernel_input("6.1.192-2" if number > 2 else "6.1.190-1")
        (tmp_path / name).mkdir()
        files.write(tmp_path / name, replace(a_night(name, row), kernels=(kernel,)))
    return tmp_path


def test_new_failures_are_1_and_shown_with_what_went_in(place: Path) -> None:
    code, out, _ = klp("compare", place / "2026-01-02-020000", place / "2026-01-03-020000")
    assert code == Exit.TEST_FAILURE
    assert out.splitlines() == [
        "2026-01-02-020000: 1 PASS",
        "2026-01-03-020000: 1 FAIL",
        "new failure: 1",
        f"  {JOB} basic/reload",
        "      +klp_target: answer: ENOEXEC (8)",
        "      reproduce  klp-e2e run --arch one",
        "what went in",
        "  6.1 one  source version  6.1.190-1 -> 6.1.192-2",
    ]


def test_no_new_failures_are_0(place: Path) -> None:
    code, out, _ = klp("compare", place / "2026-01-03-020000", place / "2026-01-04-020000")
    assert code == 0 and "still failing: 1" in out and "since 2026-01-03-020000, 2 nights" in out
    code, out, _ = klp("compare", place / "2026-01-03-020000", place / "2026-01-02-020000")
    assert code == 0 and "fixed: 1" in out
    code, out, _ = klp("compare", place / "2026-01-01-020000", place / "2026-01-02-020000")
    assert code == 0 and out.endswith("nothing changed\n")


def test_results_of_two_runs_compare(tmp_path: Path) -> None:
    good = a_suite(tmp_path / "good", a_run("one"), a_result("one"))
    bad = a_suite(tmp_path / "bad", a_run("one"), a_result("one", Status.FAIL))
    code, out, _ = klp("compare", good, bad)
    assert code == Exit.TEST_FAILURE
    assert "  one basic/reload\n" in out


@pytest.mark.parametrize("now", ["E", "-", ""])
def test_what_proved_nothing_is_not_good(place: Path, now: str) -> None:
    """No gate of a CI lets through what did not run: in trouble, skipped, or without a case."""
    rows = [a_row(mark, seconds=2.0) for mark in now]
    files.write(place / "2026-01-02-020000", a_night("2026-01-02-020000", *rows))
    for more in ((), ("--allow-gone",)):
        code, _, err = klp(
            "compare", place / "2026-01-01-020000", place / "2026-01-02-020000", *more
        )
        assert code == Exit.HARNESS and not err
    # no better than it was, and still nothing
    assert (
        klp("compare", place / "2026-01-02-020000", place / "2026-01-02-020000")[0] == Exit.HARNESS
    )


def test_what_is_gone_is_good_only_when_told(place: Path) -> None:
    first, second = (replace(a_row("."), case=case) for case in ("basic/one", "basic/two"))
    files.write(place / "2026-01-01-020000", a_night("2026-01-01-020000", first, second))
    files.write(place / "2026-01-02-020000", a_night("2026-01-02-020000", first))
    words = ("compare", place / "2026-01-01-020000", place / "2026-01-02-020000")
    code, out, _ = klp(*words)
    assert code == Exit.HARNESS and "gone: 1" in out
    assert klp(*words, "--allow-gone")[0] == Exit.GOOD


def test_what_was_skipped_is_good_only_when_told(place: Path) -> None:
    first, second = (replace(a_row("."), case=case) for case in ("basic/one", "basic/two"))
    skipped = replace(a_row("-"), case="basic/two", reason="CONFIG_TEST_LIVEPATCH is off")
    old, new = place / "2026-01-01-020000", place / "2026-01-02-020000"
    files.write(old, a_night(old.name, first, second))
    files.write(new, a_night(new.name, first, skipped))
    code, out, _ = klp("compare", old, new)
    assert code == Exit.HARNESS and "newly skipped: 1\n" in out and skipped.reason in out
    assert klp("compare", old, new, "--allow-gone")[0] == Exit.GOOD
    assert klp("compare", new, new)[0] == Exit.GOOD, "it has been skipped before"
    assert klp("compare", new, old)[0] == Exit.GOOD


@pytest.mark.parametrize(
    ("before", "code"),
    [(".", 1), ("k", 1), ("-", 1), ("", 1), ("F", 0), ("~", 0)],
)
def test_what_is_newly_flaky_is_a_failure(place: Path, before: str, code: int) -> None:
    other = replace(a_row("."), case="basic/other")
    old, new = place / "2026-01-01-020000", place / "2026-01-02-020000"
    files.write(old, a_night(old.name, other, *map(a_row, before)))
    flaky = replace(a_row("~"), runs=3, failed=1)
    files.write(new, a_night(new.name, other, flaky))
    found, out, _ = klp("compare", old, new)
    assert found == code and "flaky: 1\n" in out and "failed 1 of 3 times" in out


@pytest.mark.parametrize("mark", ".!")
def test_what_is_newly_known_is_listed(place: Path, mark: str) -> None:
    old, new = place / "2026-01-01-020000", place / "2026-01-02-020000"
    files.write(old, a_night(old.name, a_row(mark)))
    files.write(new, a_night(new.name, a_row("k")))
    code, out, _ = klp("compare", old, new)
    assert code == Exit.GOOD and "newly known: 1\n" in out
    assert "newly known" not in klp("compare", new, new)[1]


@pytest.mark.parametrize("mark", ".k")
def test_a_new_case_is_listed_also_when_it_is_known(place: Path, mark: str) -> None:
    old, new = place / "2026-01-01-020000", place / "2026-01-02-020000"
    files.write(old, a_night(old.name, replace(a_row("."), case="basic/other")))
    files.write(new, a_night(new.name, replace(a_row("."), case="basic/other"), a_row(mark)))
    code, out, _ = klp("compare", old, new)
    assert code == Exit.GOOD and f"new case: 1\n  {JOB} basic/reload\n" in out


def an_order(number: int, order: str, status: Status = Status.PASS) -> CaseResult:
    result = a_result("one", status, f"order-{number}")
    return replace(result, case=replace(result.case, order=orders.parse(order, None)))


def test_orders_are_compared_by_what_they_are(tmp_path: Path) -> None:
    """And not by the number that they have in one run."""
    short, long = "+klp_patch", "+klp_patch +klp_target -klp_target +klp_target"
    old = a_suite(tmp_path / "a", a_run("one"), an_order(1, short))
    other = a_suite(tmp_path / "b", a_run("one"), an_order(1, long, Status.KNOWN))
    code, out, _ = klp("compare", old, other)
    assert code == Exit.HARNESS and "newly known" not in out
    assert f"gone: 1\n  one basic/{short}\n" in out and f"new case: 1\n  one basic/{long}\n" in out
    both = an_order(1, long, Status.FAIL), an_order(2, short)
    code, out, _ = klp("compare", old, a_suite(tmp_path / "c", a_run("one"), *both))
    assert code == Exit.TEST_FAILURE and f"new failure: 1\n  one basic/{long}\n" in out
    swapped = an_order(1, short, Status.FAIL), an_order(2, long)
    code, out, _ = klp("compare", old, a_suite(tmp_path / "d", a_run("one"), *swapped))
    assert code == Exit.TEST_FAILURE and f"new failure: 1\n  one basic/{short}\n" in out
    twice = an_order(1, short), an_order(2, short)
    code, out, _ = klp("compare", old, a_suite(tmp_path / "e", a_run("one"), *twice))
    assert code == Exit.GOOD and f"new case: 1\n  one basic/{short} (2)\n" in out


def test_another_order_of_the_same_name_proves_nothing(tmp_path: Path) -> None:
    def named(order: str) -> CaseResult:
        result = a_result("one", Status.PASS, "reload")
        return replace(result, case=replace(result.case, order=orders.parse(order, None)))

    long = named("+klp_patch +klp_target -klp_target +klp_target")
    old = a_suite(tmp_path / "a", a_run("one"), long)
    new = a_suite(tmp_path / "b", a_run("one"), named("+klp_patch"))
    code, out, _ = klp("compare", old, new)
    assert code == Exit.HARNESS
    assert "gone: 1\n  one basic/reload: +klp_patch +klp_target" in out
    assert "new case: 1\n  one basic/reload: +klp_patch\n" in out
    assert klp("compare", "--allow-gone", old, new)[0] == klp("compare", old, old)[0] == Exit.GOOD


@pytest.mark.parametrize("more", [(), ("--allow-gone",)])
@pytest.mark.parametrize("end", [{"finished": None}, {"finished": 9.0, "trouble": "interrupted"}])
def test_what_a_run_did_not_come_to_is_not_good(
    tmp_path: Path, end: dict[str, Any], more: tuple[str, ...]
) -> None:
    """It was killed, or interrupted: what it lacks is not gone, and not good either."""
    two = (a_result("one"), a_result("one", name="other"))
    before = a_suite(tmp_path / "before", a_run("one"), *two)
    now = a_suite(tmp_path / "now", a_run("one"), two[0])
    document = json.loads((now / RESULTS).read_text())
    document["run"] |= end
    (now / RESULTS).write_text(json.dumps(document))
    code, _, err = klp("compare", before, now, *more)
    assert code == Exit.HARNESS and "was cut short: of 1 cases" in err
    assert klp("compare", now, before, *more)[0] == Exit.GOOD


@pytest.mark.parametrize("content", [None, b"\xff{"])
def test_what_cannot_be_compared_is_2(content: bytes | None, place: Path) -> None:
    if content is not None:
        (place / "2026-01-01-020000" / files.NIGHT).write_bytes(content)
    bad = place if content is None else place / "2026-01-01-020000"
    code, out, err = klp("compare", bad, place / "2026-01-02-020000")
    assert (code, out) == (Exit.USAGE, "")
    assert str(bad) in err and "Traceback" not in err


def test_nights_newest_first(place: Path) -> None:
    code, out, err = klp("history", "-o", place)
    assert code == 0 and "nights taken from files: 4" in err and not (place / NAME).exists()
    lines = [line.split() for line in out.splitlines() if line.startswith(" 2026-01")]
    assert [line[0] for line in lines] == [f"2026-01-0{number}-020000" for number in (4, 3, 2, 1)]
    assert " ".join(lines[0][3:]) == "1 failure 1 FAIL 16 min 40 s"
    assert " ".join(lines[-1][3:]) == "good 1 PASS 16 min 40 s"


def test_a_case_over_the_nights(place: Path) -> None:
    code, out, _ = klp("history", "basic/re", "-o", place)
    assert code == 0
    assert out.splitlines()[:2] == [
        f"{JOB} basic/reload",
        "  |..FF|  FAIL since 2026-01-03-020000 (6.1.192-2), 2 nights; "
        "last good 2026-01-02-020000 (6.1.190-1)",
    ]
    assert out.splitlines()[-1].startswith("2026-01-01-020000 to 2026-01-04-020000; . PASS, F FAIL")


def test_a_night_in_which_it_was_not_there_is_a_gap(place: Path) -> None:
    files.write(place / "2026-01-02-020000", a_night("2026-01-02-020000"))
    assert "  |. FF|  FAIL since 2026-01-03-020000" in klp("history", "reload", "-o", place)[1]


def test_rebuild(place: Path) -> None:
    klp("history", REBUILD, "-o", place)
    (place / "2026-01-01-020000" / files.NIGHT).unlink()
    (place / "2026-01-02-020000" / files.NIGHT).write_text("{")
    code, out, err = klp("history", "rebuild", "-o", place)
    assert (code, out) == (0, f"{place / NAME}: 2 nights read, 4 known\n")
    assert "2026-01-02-020000/night.json is malformed" in err


def test_what_is_not_there_is_2(place: Path, tmp_path: Path) -> None:
    code, out, err = klp("history", "no-such", "-o", place)
    assert (code, out) == (Exit.USAGE, "") and "no case is called no-such" in err
    nowhere = tmp_path / "nowhere"
    for argv in (("history",), ("history", "rebuild"), ("history", "x")):
        code, out, err = klp(*argv, "-o", nowhere)
        assert (code, out) == (Exit.USAGE, "") and "has no nights" in err
    assert not nowhere.exists()


def test_a_database_without_a_night_is_2(tmp_path: Path) -> None:
    with History(tmp_path / NAME):
        pass
    code, out, err = klp("history", "-o", tmp_path)
    assert (code, out) == (Exit.USAGE, "") and f"{tmp_path} has no nights" in err


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({Status.PASS: 3, Status.SKIP: 1}, "good"),
        ({Status.PASS: 3, Status.FLAKY: 1, Status.FAIL: 1, Status.ERROR: 1}, "2 failures"),
        ({Status.KNOWN: 3, Status.ERROR: 1}, "trouble"),
        ({Status.SKIP: 3}, "nothing ran"),
        ({}, "nothing ran"),
    ],
)
def test_a_night_s_verdict(counts: dict[Status, int], expected: str) -> None:
    assert verdict(NightTotals("n", 0.0, 1.0, counts)) == expected


def test_a_night_s_verdict_is_that_of_its_mail() -> None:
    """That a job could not run is in no row."""
    passed = NightTotals("n", 0.0, 1.0, {Status.PASS: 3})
    assert verdict(replace(passed, verdict=Verdict.TROUBLE)) == "trouble"


def test_every_status_has_its_mark() -> None:
    assert len({status.letter for status in Status}) == len(Status)


@pytest.mark.parametrize(
    ("contents", "told"),
    [
        (("c0", "c0", "c0"), ""),
        (("c0", "c1", "c1"), "; its module set is another since 2026-01-02-020000"),
        (("c0", "", "c1"), "; its module set is another since 2026-01-03-020000"),
        (("", "", "c1"), ""),
    ],
)
def test_a_case_whose_module_set_became_another_says_so(
    contents: Sequence[str], told: str, tmp_path: Path
) -> None:
    for number, content in enumerate(contents, 1):
        name = f"2026-01-0{number}-020000"
        (tmp_path / name).mkdir()
        files.write(tmp_path / name, a_night(name, replace(a_row("."), content=content)))
    _, out, _ = klp("history", "basic/reload", "-o", tmp_path)
    said = out.replace("\n", "")
    assert f"PASS since 2026-01-01-020000 (6.1.190-1), 3 nights{told}, 1.0 s" in said
