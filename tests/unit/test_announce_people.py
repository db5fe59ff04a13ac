# SPDX-License-Identifier: GPL-2.0-only
"""A night for people: the mail, the page of a CI job, and the words they begin with."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from announce_samples import (
    BEFORE,
    CHANGES,
    CORE,
    HOSTILE,
    KILLED,
    NIGHT,
    NIGHTS,
    QUIET,
    QUIET_CHANGES,
    ROWS,
    a_record,
    a_row,
)

from orchestrator.announce import files
from orchestrator.announce.mail import SHOWN, WIDTH, mail, subject
from orchestrator.announce.summary import night_markdown
from orchestrator.errors import Exit
from orchestrator.history import digest
from orchestrator.history.nights import Blame, Change, Changed, Changes, Night, Verdict
from orchestrator.verdicts import Status

EVERY = pytest.mark.parametrize(("night", "changes"), NIGHTS.values(), ids=NIGHTS)


def a_night(*statuses: Status) -> Night:
    rows = tuple(a_row(CORE, f"case {status}", status, "because") for status in statuses)
    return replace(QUIET, rows=rows)


# --- in a few words ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("night", "changes", "verdict", "headline"),
    [
        (NIGHT, CHANGES, Verdict.NEW_FAILURES, "3 new failures, 1 flaky, 1 gone, 1 slower"),
        (a_night(Status.PASS, Status.KNOWN), QUIET_CHANGES, Verdict.GOOD, "all good"),
        (a_night(Status.FLAKY), QUIET_CHANGES, Verdict.FAILING, "nothing new: 1 FLAKY"),
        (
            a_night(Status.ERROR, Status.FAIL),
            QUIET_CHANGES,
            Verdict.FAILING,
            "nothing new: 1 FAIL, 1 ERROR",
        ),
        (a_night(Status.ERROR), QUIET_CHANGES, Verdict.TROUBLE, "nothing new: 1 ERROR"),
        (a_night(Status.SKIP), QUIET_CHANGES, Verdict.TROUBLE, "nothing ran"),
        (replace(QUIET, jobs=(), rows=()), QUIET_CHANGES, Verdict.TROUBLE, "nothing ran"),
        (replace(QUIET, trouble="disk full"), QUIET_CHANGES, Verdict.TROUBLE, "stopped early"),
        (KILLED, QUIET_CHANGES, Verdict.TROUBLE, "not finished"),
    ],
)
def test_verdict_and_headline(
    night: Night, changes: Changes, verdict: Verdict, headline: str
) -> None:
    found = digest.digest(night, changes)
    assert (found.verdict, found.headline) == (verdict, headline)
    assert (found.exit_code is Exit.GOOD) is (verdict is Verdict.GOOD)


def test_news_of_one_symptom_are_one() -> None:
    [stale, hostile] = digest.news(NIGHT, CHANGES, [Change.NEW_FAILURE])
    assert stale.where == "debian:6.1 + livepatch-reload on s390x"
    assert stale.first.row.case == "basic/reload"
    assert [each.row.case for each in stale.others] == ["basic/reload-moved"]
    assert stale.blame == "0002-b.patch: without it, all is right"
    assert (hostile.others, hostile.blame) == ((), "")


def test_blame_of_any_case_is_that_of_the_symptom() -> None:
    turned = replace(CHANGES, changed=(CHANGES.changed[1], CHANGES.changed[0]))
    [stale] = digest.news(NIGHT, turned, [Change.NEW_FAILURE])
    assert stale.blame == "0002-b.patch: without it, all is right"


def test_news_blamed_on_one_patch_are_one_whatever_they_show() -> None:
    other = replace(CHANGES.changed[1], row=replace(CHANGES.changed[1].row, symptom="else"))
    mine = Blame(other.row.job, other.row.case, "0002-b.patch", "by what else fails", "")
    night = replace(NIGHT, blames=(mine, *NIGHT.blames))
    [stale] = digest.news(
        night, replace(CHANGES, changed=(other, CHANGES.changed[0])), [Change.NEW_FAILURE]
    )
    assert stale.first.row.case == "basic/reload", "the one that was bisected itself"
    assert stale.others == (other,) and stale.blame == "0002-b.patch: without it, all is right"
    [one, two] = digest.news(
        replace(night, blames=()),
        replace(CHANGES, changed=(other, CHANGES.changed[0])),
        [Change.NEW_FAILURE],
    )
    assert not one.others and not two.others


# --- mail ----------------------------------------------------------------------------------------


@EVERY
def test_lines_of_a_mail_fit_unless_they_are_to_be_pasted(night: Night, changes: Changes) -> None:
    text = mail(night, changes)
    assert re.match(r"Subject: klp-e2e: \S.*\n\n", text)
    assert text.isascii() and not re.search(r"[\x00-\x09\x0b-\x1f]", text)
    long = [line for line in text.splitlines() if len(line) > WIDTH]
    assert all(line.startswith("klp-e2e ") for line in long)


def test_a_mail_names_what_where_since_when_whom_to_blame_and_how_to_see_it() -> None:
    long = replace(ROWS[0], reproduce=f"klp-e2e run --order '{'+a -a ' * 30}'")
    changes = replace(CHANGES, changed=(replace(CHANGES.changed[0], row=long),))
    lines = mail(NIGHT, changes).splitlines()
    assert lines[0] == "Subject: klp-e2e: 1 new failure; blamed on 0002-b.patch"
    begin = lines.index("NEW FAILURE: basic/reload")
    assert lines[begin + 1 : begin + 11] == [
        "  where     debian:6.1 + livepatch-reload on s390x",
        "            Linux 6.1.192 (6.1.192-2), gcc 12.2, QEMU 7.2.22",
        "  what      +klp_target: resolves to the old place",
        "  tests     the GOT slot must be filled again",
        f"  since     this night; it last passed in {BEFORE}",
        "  blame     0002-b.patch: without it, all is right",
        "  files     jobs/debian-6.1+livepatch-reload/s390x/core/s390x/basic.reload",
        "  reproduce:",
        "",
        long.reproduce,
    ]
    inputs = lines.index("Inputs that changed:")
    assert lines[inputs + 1 : inputs + 3] == [
        "  debian:6.1 + livepatch-reload on s390x: source version: 6.1.190-1 ->",
        "    6.1.192-2",
    ]


def test_a_mail_of_a_night_without_news_is_short() -> None:
    assert len(mail(QUIET, QUIET_CHANGES).splitlines()) < 10


def test_a_mail_of_a_thousand_failures_is_not_a_thousand_long() -> None:
    rows = [replace(ROWS[0], case=f"case {n}", symptom=f"symptom {n}") for n in range(1000)]
    changed = [Changed(Change.NEW_FAILURE, row, NIGHT.name) for row in rows]
    changed += [Changed(Change.FIXED, row, NIGHT.name) for row in rows]
    text = mail(NIGHT, Changes(BEFORE, tuple(changed)))
    assert text.count("NEW FAILURE: ") == SHOWN
    assert "... and 990 more; the page has them all." in text
    assert "  ... and 990 more\n" in text
    assert len(text.splitlines()) < 200


def test_a_subject_is_one_short_line() -> None:
    job = replace(CORE, kernel=HOSTILE * 3)
    night = replace(NIGHT, jobs=(a_record(job, 1),))
    told = subject(night, CHANGES)
    assert told == "klp-e2e: 3 new failures, 1 flaky, 1 gone, 1 slower"
    assert len(f"Subject: {told}") <= WIDTH


def test_what_was_not_done_is_in_the_mail() -> None:
    text = mail(replace(KILLED, trouble="the disk is full"), QUIET_CHANGES)
    assert "It stopped early: the disk is full\n" in text
    assert "/later: ERROR: did not run: the disk is full\n" in " ".join(text.split("\n    "))


# --- the page of a CI job ------------------------------------------------------------------------


def unescaped(markdown: str) -> str:
    return re.sub(r"\\([\\`*_\[\]~$])", "", markdown)


@EVERY
def test_no_text_of_a_summary_is_taken_for_markup(night: Night, changes: Changes) -> None:
    text = night_markdown(night, changes)
    prose = re.sub(r"(?ms)^(`{3,})sh\n.*?^\1$", "", text)
    assert not re.search(r"[<>`*_~$\[\]\x00-\x09\x0b-\x1f]", unescaped(prose))
    tables = re.findall(r"(?m)^(?:\|.*\n)+", prose)
    for table in tables:
        assert len({line.count("|") for line in table.splitlines()}) == 1, table


def test_a_summary_tells_verdict_changes_matrix_and_how_to_see_it() -> None:
    text = night_markdown(NIGHT, CHANGES)
    assert text.startswith("## klp-e2e: 3 new failures, 1 flaky, 1 gone, 1 slower\n")
    titles = re.findall("(?m)^### (.*)$", text)
    assert titles == ["What changed", "As before", "Inputs that changed", "Matrix", "Reproduce"]
    assert "| debian:6.1 + livepatch-reload | x86\\_64 | ablate | 1 SKIP |" in text
    assert f"```sh\n{ROWS[0].reproduce}\n```" in text


def test_a_fence_is_longer_than_any_in_it() -> None:
    row = replace(ROWS[0], reproduce="klp-e2e run --order '````'")
    changes = replace(CHANGES, changed=(Changed(Change.NEW_FAILURE, row, NIGHT.name),))
    assert "`````sh\nklp-e2e run --order '````'\n`````\n" in night_markdown(NIGHT, changes)


# --- files ---------------------------------------------------------------------------------------


@EVERY
def test_all_files_are_written(tmp_path: Path, night: Night, changes: Changes) -> None:
    files.write(tmp_path, night, changes)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("junit.xml", "kcidb.json", "mail.txt", "results.ktap", "summary.md"),
    ]
    assert (tmp_path / "mail.txt").read_text() == mail(night, changes)
