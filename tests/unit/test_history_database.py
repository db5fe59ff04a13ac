# SPDX-License-Identifier: GPL-2.0-only
"""The nights' database: what is put in comes out, and nothing that happens to the file stops more
than a look-up."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from history_samples import JOB, a_job, a_kernel, a_night, a_row

from orchestrator.errors import Exit, NoHistory
from orchestrator.history import database, files
from orchestrator.history.database import NAME, SIDES, History
from orchestrator.history.nights import Night, NightTotals, Past, State
from orchestrator.history.schema import MIGRATIONS, VERSION
from orchestrator.verdicts import Status

KEY = (JOB, "basic/reload")
BRIEF = 0.05  # seconds of patience, so that a test of a lock takes no longer


def nights(marks: str) -> list[Night]:
    """n1, n2 ..., one case each, by its marks."""
    made = []
    for number, mark in enumerate(marks, 1):
        row = replace(a_row(mark, seconds=number / 8), relocations=10 * number)
        night = a_night(f"n{number}", row, replace(a_row("."), job="other/job"))
        made.append(replace(night, kernels=(a_kernel(f"6.1.{number}"),)))
    return made


def keep(place: Path, *made: Night) -> None:
    for night in made:
        (place / night.name).mkdir()
        files.write(place / night.name, night)


def marks(history: History, before: str = "", limit: int = 30) -> list[tuple[str, Status]]:
    return [(past.night, past.status) for past in history.past(before, limit).get(KEY, ())]


def raw(path: Path, statement: str) -> list[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(statement).fetchall()


@contextlib.contextmanager
def hold(path: Path, *statements: str) -> Iterator[None]:
    """Another program that does this, and stays."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        for statement in statements:
            other.execute(statement).fetchall()
        yield


# --- look-ups ------------------------------------------------------------------------------------


def test_what_is_put_in_comes_out(tmp_path: Path) -> None:
    with History(tmp_path / NAME) as history:
        for night in nights(".FF"):
            history.add(night)
        assert history.told == ()
        assert history.names() == ("n3", "n2", "n1")
        first = Past("n2", Status.FAIL, 0.25, "+klp_target: answer: ENOEXEC (N)")
        assert history.past("n3")[KEY] == (first, Past("n1", Status.PASS, 0.125))
        assert set(history.past("n3")) == {KEY, ("other/job", "basic/reload")}
        assert history.totals(2) == (
            NightTotals("n3", 1000.0, 1000.0, {Status.FAIL: 1, Status.PASS: 1}, 30),
            NightTotals("n2", 1000.0, 1000.0, {Status.FAIL: 1, Status.PASS: 1}, 20),
        )


def test_what_is_not_timed_stays_so(tmp_path: Path) -> None:
    with History(tmp_path / NAME) as history:
        history.add(a_night("a", replace(a_row("."), timed=False)))
        assert [past.timed for past in history.past("")[KEY]] == [False]


@pytest.mark.parametrize(
    ("before", "limit", "expected"),
    [("n3", 30, "n2 n1"), ("n4", 2, "n3 n2"), ("n1", 30, ""), ("not-yet-there", 2, "n4 n3")],
)
def test_the_past_ends_before_a_night(
    before: str, limit: int, expected: str, tmp_path: Path
) -> None:
    with History(tmp_path / NAME) as history:
        for night in nights("..F."):
            history.add(night)
        assert [night for night, _ in marks(history, before, limit)] == expected.split()


def test_a_case_by_part_of_its_name_or_by_a_pattern(tmp_path: Path) -> None:
    with History(tmp_path / NAME) as history:
        for night in nights(".F"):
            history.add(night)
        history.add(a_night("n3", a_row(".", "basic/new[1]")))

        def found(pattern: str) -> list[tuple[str, str]]:
            return [(each.job, each.case) for each in history.case(pattern)]

        assert found("basic/re") == [KEY, ("other/job", "basic/reload")]
        assert found("*/one/* basic/re*") == [KEY]
        assert found("core basic/reload") == [KEY]
        assert found("new[1]") == [(JOB, "basic/new[1]")]
        assert found("nothing") == []
        [reload, _] = history.case("reload")
        assert [past.night for past in reload.past] == ["n2", "n1"]
        assert reload.versions["n2"] == "6.1.2"
        assert [len(each.past) for each in history.case("reload", limit=2)] == [1, 1]
        assert history.case("reload", limit=1) == ()


def test_durations_of_jobs(tmp_path: Path) -> None:
    ended = a_job()
    records = [
        ended,
        replace(ended, finished=1060.0),
        replace(ended, reason="stopped early"),
        replace(ended, exit_code=4),
        a_job(state=State.RUNNING),
        replace(ended, finished=None),
        replace(ended, finished=900.0),  # the clock was set back meanwhile
    ]
    with History(tmp_path / NAME) as history:
        for number, record in enumerate(records):
            history.add(a_night(f"n{number}", jobs=[record]))
        assert history.seconds(JOB) == (60.0, 180.0)
        assert history.seconds("nothing") == ()


def test_a_night_that_goes_on_replaces_itself(tmp_path: Path) -> None:
    first, second = nights("FF")
    with History(tmp_path / NAME) as history:
        for night in (first, second, replace(first, rows=(a_row("."),), finished=None)):
            history.add(night)
        assert history.names() == ("n2", "n1"), "it keeps its place"
        assert marks(history) == [("n2", Status.FAIL), ("n1", Status.PASS)]
        assert [past.night for past in history.past("")["other/job", "basic/reload"]] == ["n2"]
        assert history.totals()[1] == NightTotals("n1", 1000.0, None, {Status.PASS: 1}, 0)


def test_nights_come_one_after_another_whatever_the_clock_says(tmp_path: Path) -> None:
    named = ["2026-03-29-020000", "2026-03-28-230000", "1970-01-01-000010"]
    with History(tmp_path / NAME) as history:
        for number, name in enumerate(named):
            night = replace(a_night(name, a_row("."), jobs=[]), started=-1.0 * number)
            history.add(replace(night, finished=night.started - 3600.0))
        assert history.names() == tuple(reversed(named))
        assert [night for night, _ in marks(history, named[2])] == named[1::-1]
        assert [total.seconds for total in history.totals()] == [0.0] * 3


# --- from files ----------------------------------------------------------------------------------


def dump(path: Path) -> list[str]:
    """All it holds, without what depends on the order in which it came."""
    tables = {
        "nights": "name, sequence, started, finished, tool, host, relocations",
        "counts JOIN nights ON id = night": "name, status, number",
        "kernels JOIN nights ON id = night": "name, kernel, arch, source_version, config",
        "durations JOIN nights ON nights.id = night JOIN jobs ON jobs.id = job": (
            "nights.name, jobs.name, kernel, arch, ms"
        ),
        'results JOIN nights ON nights.id = night JOIN cases ON cases.id = "case"'
        " JOIN jobs ON jobs.id = job LEFT JOIN symptoms ON symptoms.id = symptom": (
            "nights.name, jobs.name, cases.name, status, ms, timed, text"
        ),
    }
    found = []
    for table, columns in tables.items():
        found += [f"{table} {row}" for row in raw(path, f"SELECT {columns} FROM {table}")]
    return sorted(found)


def test_rebuilt_from_files_it_is_the_same(tmp_path: Path) -> None:
    made = nights(".F~E-k!")
    keep(tmp_path, *made)
    added, anew = tmp_path / "added" / NAME, tmp_path / NAME
    added.parent.mkdir()
    with History(added) as history:
        for night in made:
            history.add(night)
    with History(anew) as history:
        assert history.told == (f"{anew} is made anew, nights taken from files: 7",)
    assert dump(added) == dump(anew)
    with History(added) as history:
        rebuilt = history.rebuild(tmp_path)
    assert (rebuilt.nights, rebuilt.unreadable) == (7, ())
    assert dump(added) == dump(anew)


def test_rebuilding_orders_by_name_and_keeps_what_has_no_files(tmp_path: Path) -> None:
    first, second, third = nights(".F.")
    with History(tmp_path / NAME) as history:
        history.add(third)
        history.add(replace(second, rows=(a_row("."),)))
        keep(tmp_path, first, second)
        (tmp_path / "n0").mkdir()
        (tmp_path / "n0" / files.NIGHT).write_text("{")
        rebuilt = history.rebuild(tmp_path)
        assert rebuilt.nights == 2
        assert [line for line in rebuilt.unreadable if "n0/night.json is malformed" in line]
        assert history.names() == ("n3", "n2", "n1")
        assert marks(history)[1] == ("n2", Status.FAIL), "files have the last word"


# --- what may happen to the file -----------------------------------------------------------------


def an_old_one(path: Path, version: int) -> None:
    """As the klp-e2e of that version left it."""
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        for statements in MIGRATIONS[:version]:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {version}")
        connection.execute("INSERT INTO nights VALUES (1, 'n0', 1, 5.0, 9.0, '0.0.1', 'a host')")
        connection.execute("INSERT INTO jobs VALUES (1, ?, '6.1', 'one')", (JOB,))
        connection.execute("INSERT INTO cases VALUES (1, 1, 'basic/reload')")
        connection.execute("INSERT INTO results VALUES (1, 1, 'FAIL', 1500)")
        connection.execute("INSERT INTO counts VALUES (1, 'FAIL', 1)")


def test_a_database_of_version_1_becomes_one_of_today(tmp_path: Path) -> None:
    path = tmp_path / NAME
    an_old_one(path, 1)
    with History(path) as history:
        assert history.told == ()
        assert history.past("")[KEY] == (Past("n0", Status.FAIL, 1.5),)
        assert history.totals() == (NightTotals("n0", 5.0, 4.0, {Status.FAIL: 1}, 0),)
        history.add(nights("F")[0])
        assert [past.symptom != "" for past in history.past("")[KEY]] == [True, False]
    assert raw(path, "PRAGMA user_version") == [(VERSION,)]
    with History(path) as history:
        assert history.names() == ("n1", "n0")


def test_a_migration_that_fails_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / NAME
    an_old_one(path, 1)
    broken = (*MIGRATIONS[:1], (*MIGRATIONS[1], "ALTER TABLE nowhere ADD COLUMN x"))
    monkeypatch.setattr(database, "MIGRATIONS", broken)
    with pytest.raises(NoHistory, match="no such table: nowhere"), History(path):
        pass
    assert raw(path, "PRAGMA user_version") == [(1,)]
    monkeypatch.undo()
    with History(path) as history:
        assert marks(history) == [("n0", Status.FAIL)]


def test_a_newer_one_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / NAME
    raw(path, f"PRAGMA user_version = {VERSION + 1}")
    before = path.read_bytes()
    with (
        pytest.raises(NoHistory, match=f"version {VERSION + 1}, this klp-e2e knows"),
        History(path),
    ):
        pass
    raw(path, "SELECT 1")
    assert path.read_bytes()[100:] == before[100:]
    assert raw(path, "PRAGMA user_version") == [(VERSION + 1,)]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: 2 * 4096])


def scribble(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096:] = b"\x5a" * (len(data) - 4096)
    path.write_bytes(data)


def replace_by_text(path: Path) -> None:
    path.write_text("this is no database\n" * 1000)


@pytest.mark.parametrize("damage", [cut, scribble, replace_by_text])
def test_a_damaged_one_is_set_aside_and_made_anew(
    damage: Callable[[Path], None], tmp_path: Path
) -> None:
    path = tmp_path / NAME
    made = nights(".F.")
    keep(tmp_path, *made)
    with History(path) as history:
        history.add(a_night("n4", a_row(".")))  # has no files
    damage(path)
    with History(path) as history:
        damaged, anew = history.told
        assert "was damaged (" in damaged and f"{NAME}.damaged-" in damaged
        assert anew.endswith("is made anew, nights taken from files: 3")
        assert history.names() == ("n3", "n2", "n1")
        assert marks(history)[1] == ("n2", Status.FAIL)
    assert len([*tmp_path.glob(f"{NAME}.damaged-*")]) == 1
    with History(path) as history:
        assert history.told == ()


def no_file(path: Path) -> None:
    assert not path.exists()


def no_nights(path: Path) -> None:
    with History(path) as history:
        assert history.told == ()


@pytest.mark.parametrize("left", [no_file, Path.touch, no_nights])
def test_one_that_knows_nothing_is_filled(left: Callable[[Path], None], tmp_path: Path) -> None:
    left(tmp_path / NAME)
    keep(tmp_path, *nights("F"))
    with History(tmp_path / NAME) as history:
        assert marks(history) == [("n1", Status.FAIL)]


def test_while_another_writes_it_is_read_and_not_written(tmp_path: Path) -> None:
    path = tmp_path / NAME
    one, two = nights(".F")
    with History(path, patience=BRIEF) as history:
        history.add(one)
        with hold(path, "BEGIN IMMEDIATE", "DELETE FROM results"):
            assert marks(history) == [("n1", Status.PASS)]
            with History(path, patience=BRIEF) as another:
                assert marks(another) == [("n1", Status.PASS)]
            with pytest.raises(NoHistory, match="locked") as told:
                history.add(two)
            assert told.value.exit_code is Exit.HARNESS and told.value.hint
        history.add(two)
        assert history.names() == ("n2", "n1")


def test_one_that_another_keeps_to_itself_is_no_history(tmp_path: Path) -> None:
    path = tmp_path / NAME
    with History(path) as history:
        history.add(nights(".")[0])
    alone = ("PRAGMA locking_mode = EXCLUSIVE", "BEGIN EXCLUSIVE", "DELETE FROM counts")
    locked = pytest.raises(NoHistory, match="locked")
    with hold(path, *alone), locked, History(path, patience=BRIEF):
        pass
    assert [each.name for each in tmp_path.iterdir() if "damaged" in each.name] == []
    with History(path) as history:
        assert history.names() == ("n1",)


def test_a_place_that_is_not_there_or_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(NoHistory, match="unable to open"), History(tmp_path / "none" / NAME):
        pass
    (tmp_path / NAME).mkdir()
    with pytest.raises(NoHistory), History(tmp_path / NAME):
        pass


def test_a_night_that_cannot_be_added_leaves_all_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / NAME
    one, two = nights(".F")
    with History(path) as history:
        history.add(one)
    before = dump(path)
    raw(path, "CREATE TRIGGER full BEFORE INSERT ON results BEGIN SELECT raise(ABORT, 'full'); END")
    with History(path) as history:
        for night in (two, replace(one, rows=(a_row("F"),))):
            with pytest.raises(NoHistory, match="full"):
                history.add(night)
    assert dump(path) == before


def test_it_leaves_no_other_files(tmp_path: Path) -> None:
    with History(tmp_path / NAME) as history:
        history.add(nights(".")[0])
    assert {path.name for path in tmp_path.iterdir()} <= {NAME + side for side in SIDES}
