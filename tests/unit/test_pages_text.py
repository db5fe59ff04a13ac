# SPDX-License-Identifier: GPL-2.0-only
"""Expected beside seen; logs with the crash marked; the words of a first page."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pages_samples import NIGHT, STEPS, job
from samples import a_reading

from orchestrator.announce.mail import subject
from orchestrator.errors import Exit
from orchestrator.history.digest import digest
from orchestrator.history.nights import (
    Change,
    Changed,
    Changes,
    JobRecord,
    Night,
    NightTotals,
    Row,
    Skip,
    State,
)
from orchestrator.pages import compare, front, logs
from orchestrator.pages.compare import Piece, Pieces
from orchestrator.pages.logs import Mark
from orchestrator.verdicts import Check, CheckKind, RelocationState, Status


def marked(pieces: Pieces) -> str:
    return "".join(f"[{p.text}]" if p.differs else p.text for p in pieces)


def test_bytes_are_compared_place_by_place() -> None:
    (raw, _) = compare.pairs(a_reading("00 ff ff 00", state=RelocationState.UNRELOCATED))
    assert marked(raw.expected) == "00 [00 00] 00" and marked(raw.seen) == "00 [ff ff] 00"


def test_addresses_are_compared_digit_by_digit() -> None:
    through = {"hop": "got", "hop_address": 0x3FF02010}
    places = {"resolves_to": 0x3FF10600, "symbol_address": 0x3FF18600}
    check = a_reading("9a", **through, **places)  # type: ignore[arg-type]
    assert check.seen.endswith("through got 0x3ff02010 to 0x3ff10600, 0x8000 below the symbol")
    (place, _) = compare.pairs(check)
    assert marked(place.expected) == "0x3ff1[8]600" and marked(place.seen) == "0x3ff1[0]600"


def test_words_that_differ_are_marked() -> None:
    check = Check(CheckKind.VALUE, "target", "call=18 read=42 x=1", "call=18 read=7 x=1", False)
    (words,) = compare.pairs(check)
    assert marked(words.seen) == "call=18 [read=7] x=1"
    long = Check(CheckKind.VALUE, "target", "a " * 500, "b " * 500, False)
    assert compare.pairs(long)[0].expected == (Piece("a " * 500),)


def test_a_fields_bytes_over_the_events() -> None:
    relocation, value = compare.failed(STEPS)
    assert [marked(r.raw) for r in relocation.readings] == [
        "00 00 00 00",
        "[ff ff ff 9a]",
        *["ff ff ff 9a"] * 3,
    ]
    assert [r.good for r in relocation.readings] == [True] * 4 + [False]
    assert (relocation.number, value.readings) == (5, ())


# --- logs --------------------------------------------------------------------------------------

CRASH = "[    9.100000] BUG: kernel NULL pointer dereference, address: 18"


def test_a_crash_and_a_refusal_are_marked() -> None:
    log = logs.log(f"a\nlivepatch: failed to initialize patch 'x'\n{CRASH}\nb\nc")
    assert [chunk.mark for chunk in log.chunks] == ["", Mark.REFUSAL, Mark.CRASH, ""]
    assert log.chunks[-1].text == "b\nc" and [c.number for c in log.marked] == [1, 2]
    assert log.title == "BUG: kernel NULL pointer dereference"


def test_a_long_log_is_shown_around_its_crash() -> None:
    quiet = "q" * 99 + "\n"
    log = logs.log(quiet * 5000 + f"{CRASH}\n" + quiet * 5000)
    shown = sum(len(chunk.text) for chunk in (*log.head, *log.chunks))
    assert logs.MOST * 0.9 < shown <= logs.MOST
    assert log.chunks[1].text == CRASH and log.before and log.after
    assert log.before + log.after + log.head_lines + 12 + 1 < 10_001
    calm = logs.log(quiet * 5000)
    assert calm.before == 3000 and calm.after == 0 and not calm.marked


# --- the first page ----------------------------------------------------------------------------


def night(*statuses: Status, jobs: tuple[JobRecord, ...] = ()) -> Night:
    rows = tuple(Row("j", f"c{i}", status) for i, status in enumerate(statuses))
    return Night(NIGHT, 0.0, 9.0, "1", "host", "c", None, jobs=jobs, rows=rows)


def changed(*kinds: Change) -> Changes:
    row = Row("j", "c", Status.FAIL)
    return Changes("before", tuple(Changed(kind, row, NIGHT) for kind in kinds))


FAILED, PASSED, KNOWN = Status.FAIL, Status.PASS, Status.KNOWN


@pytest.mark.parametrize(
    ("found", "changes", "tone", "line", "code"),
    [
        (night(PASSED), changed(), PASSED, "all good", Exit.GOOD),
        (night(PASSED, KNOWN), changed(), KNOWN, "all good", Exit.GOOD),
        (night(FAILED, FAILED), changed(), FAILED, "nothing new: 2 FAIL", Exit.TEST_FAILURE),
        (
            night(FAILED, PASSED),
            changed(Change.NEW_FAILURE, Change.FIXED, Change.FIXED),
            FAILED,
            "1 new failure, 2 fixed",
            Exit.TEST_FAILURE,
        ),
        (night(Status.SKIP), changed(), Status.ERROR, "nothing ran", Exit.HARNESS),
        (
            replace(night(PASSED), finished=None),
            changed(),
            Status.ERROR,
            "not finished",
            Exit.HARNESS,
        ),
        (
            replace(night(PASSED), trouble="disk full"),
            changed(),
            Status.ERROR,
            "stopped early",
            Exit.HARNESS,
        ),
        (
            replace(night(PASSED), trouble="interrupted", interrupted=True),
            changed(),
            Status.ERROR,
            "stopped early",
            Exit.INTERRUPTED,
        ),
        (
            night(PASSED, jobs=(replace(job("j", "k", "a", "core"), exit_code=3),)),
            changed(),
            FAILED,
            "nothing new: 1 FAIL",
            Exit.BUILD,
        ),
        (
            night(PASSED, jobs=(replace(job("j", "k", "a", "core"), exit_code=4),)),
            changed(),
            Status.ERROR,
            "nothing new: 1 ERROR",
            Exit.HARNESS,
        ),
        (
            night(
                PASSED,
                jobs=(
                    replace(job("j", "k", "a", "core"), exit_code=0),
                    replace(job("l", "k", "a", "more"), state=State.SKIPPED, skip=Skip.SOURCE),
                ),
            ),
            changed(),
            Status.ERROR,
            "nothing new: 1 job not run",
            Exit.HARNESS,
        ),
    ],
)
def test_the_verdict_in_one_line(
    found: Night, changes: Changes, tone: Status, line: str, code: Exit
) -> None:
    told = digest(found, changes)
    assert (told.tone, told.headline, told.exit_code) == (tone, line, code)
    assert subject(found, changes).startswith(f"klp-e2e: {line}")


def test_what_fails_alike_is_one_card() -> None:
    rows = [Row("j", f"c{i}", FAILED, symptom="same" if i < 3 else "other") for i in range(4)]
    news = Changes("before", tuple(Changed(Change.NEW_FAILURE, row, NIGHT) for row in rows))
    (group,) = front.groups(night(), news, {})
    assert [(c.first.row.case, len(c.others)) for c in group.cards] == [("c0", 2), ("c3", 0)]
    assert group.number == 4


def test_many_failures_do_not_bury_the_first() -> None:
    rows = [Row("j", f"c{i}", FAILED, symptom=f"{min(i, 99)}") for i in range(199)]
    news = Changes("before", tuple(Changed(Change.NEW_FAILURE, row, NIGHT) for row in rows))
    (group,) = front.groups(night(), news, {})
    assert len(group.cards) == front.MOST_CARDS and len(group.listed) == front.MOST_LISTED
    assert len(group.cards) + len(group.listed) + group.more == group.number == 199
    (group,) = front.groups(night(), replace(news, changed=news.changed[99:]), {})
    (card,) = group.cards
    assert 1 + len(card.others) + card.more == 100 and len(card.others) == front.MOST_LISTED


def test_a_cell_has_the_worst_of_its_job() -> None:
    ended = job("j", "k", "a", "core")
    views = front.jobs(night(PASSED, KNOWN, PASSED, jobs=(ended,)))
    assert (views[0].word, views[0].told) == ("KNOWN", "2 of 3 pass")
    assert [row.status for row in views[0].open] == [KNOWN]
    waiting = job("w", "k", "b", "core", State.WAITING)
    broken = replace(ended, exit_code=3)
    assert front.jobs(night(jobs=(waiting,)))[0].word == "waiting"
    assert front.jobs(night(jobs=(broken,)))[0].told == "not built"
    matrix = front.matrix(front.jobs(night(jobs=(ended, waiting))))
    assert matrix.columns == ("core",) and [row[:2] for row in matrix.rows] == [
        ("k", "a"),
        ("k", "b"),
    ]


def test_trends_over_nights() -> None:
    newest = NightTotals("b", 1.0, None, {PASSED: 999, FAILED: 1, Status.SKIP: 9}, 20)
    oldest = NightTotals("a", 0.0, 60.0, {}, 10)
    rate, took, read = front.trends((newest, oldest))
    assert rate.trend.values == (None, 99.9) and rate.about.startswith("99.9 % last")
    assert took.trend.values == (1.0, None) and read.trend.values == (10.0, 20.0)
