# SPDX-License-Identifier: GPL-2.0-only
"""The nights' database: what is put in comes out, and nothing that happens to the file stops more
than a look-up."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from history_samples import JOB, a_job, a_kernel_input, a_night, a_row

from orchestrator.errors import Exit, NoHistory
from orchestrator.history import files, store
from orchestrator.history.database import NAME, History
from orchestrator.history.nights import Night, NightTotals, PastResult, State, Verdict
from orchestrator.history.schema import MIGRATIONS, OURS, VERSION
from orchestrator.history.store import SIDES
from orchestrator.host import ours
from orchestrator.verdicts import Status

KEY = (JOB, "basic/reload")
BAD = Verdict.FAILING
BRIEF = 0.05  # seconds of patience, so that a test of a lock takes no longer


def nights(marks: str) -> list[Night]:
    """2026-01-01-020000, 2026-01-02-020000 ..., one case each, by its marks."""
    made = []
    for number, mark in enumerate(marks, 1):
        row = replace(a_row(mark, seconds=number / 8), relocations=10 * number)
        night = a_night(f"2026-01-0{number}-020000", row, replace(a_row("."), job="other/job"))
        made.append(replace(night, kernels=(a_kernel_input(f"6.1.{number}"),)))
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


def test_on_which_kind_of_machine_a_case_ran_is_kept(tmp_path: Path) -> None:
    (night,) = nights(".")
    records = (replace(a_job(), machine="CPU, 2 cores, tcg"), a_job("other/job"))
    kept = replace(night, jobs=records)
    with History(tmp_path / NAME) as history:
        history.add(kept)
        found = history.past("")
        assert found[KEY][0].machine == "CPU, 2 cores, tcg"
        assert found["other/job", "basic/reload"][0].machine == ""
        history.add(night)  # once more, by what an older klp-e2e would write
        assert history.past("")[KEY][0].machine == ""


def test_what_is_put_in_comes_out(tmp_path: Path) -> None:
    with History(tmp_path / NAME) as history:
        for night in nights(".FF"):
            history.add(night)
        assert history.told == ()
        assert history.names() == ("2026-01-03-020000", "2026-01-02-020000", "2026-01-01-020000")
        first = PastResult(
            "2026-01-02-020000", Status.FAIL, 0.25, "+klp_target: answer: ENOEXEC (N)"
        )
        assert history.past("2026-01-03-020000")[KEY] == (
            first,
            PastResult("2026-01-01-020000", Status.PASS, 0.125),
        )
        assert set(history.past("2026-01-03-020000")) == {KEY, ("other/job", "basic/reload")}
        both = {Status.FAIL: 1, Status.PASS: 1}
        assert history.totals(2) == (
            NightTotals("2026-01-03-020000", 1000.0, 1000.0, both, 30, BAD),
            NightTotals("2026-01-02-020000", 1000.0, 1000.0, both, 20, BAD),
        )


def test_what_is_not_timed_stays_so(tmp_path: Path) -> None:
    with History(tmp_path / NAME) as history:
        history.add(a_night("a", replace(a_row("."), timed=False)))
        assert [past.timed for past in history.past("")[KEY]] == [False]


@pytest.mark.parametrize(
    ("before", "limit", "expected"),
    [
        ("2026-01-03-020000", 30, "2026-01-02-020000 2026-01-01-020000"),
        ("2026-01-04-020000", 2, "2026-01-03-020000 2026-01-02-020000"),
        ("2026-01-01-020000", 30, ""),
        ("not-yet-there", 2, "2026-01-04-020000 2026-01-03-020000"),
    ],
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
        history.add(a_night("2026-01-03-020000", a_row(".", "basic/new[1]")))

        def found(pattern: str) -> list[tuple[str, str]]:
            return [(each.job, each.case) for each in history.case(pattern)]

        assert found("basic/re") == [KEY, ("other/job", "basic/reload")]
        assert found("*/one/* basic/re*") == [KEY]
        assert found("core basic/reload") == [KEY]
        assert found("new[1]") == [(JOB, "basic/new[1]")]
        assert found("nothing") == []
        [reload, _] = history.case("reload")
        assert [past.night for past in reload.past] == ["2026-01-02-020000", "2026-01-01-020000"]
        assert reload.versions["2026-01-02-020000"] == "6.1.2"
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
            history.add(a_night(f"2026-01-0{number}-020000", jobs=[record]))
        assert history.seconds(JOB) == (60.0, 180.0)
        assert history.seconds("nothing") == ()


def test_a_night_that_goes_on_replaces_itself(tmp_path: Path) -> None:
    first, second = nights("FF")
    with History(tmp_path / NAME) as history:
        for night in (first, second, replace(first, rows=(a_row("."),), finished=None)):
            history.add(night)
        assert history.names() == ("2026-01-02-020000", "2026-01-01-020000"), "it keeps its place"
        assert marks(history) == [
            ("2026-01-02-020000", Status.FAIL),
            ("2026-01-01-020000", Status.PASS),
        ]
        assert [past.night for past in history.past("")["other/job", "basic/reload"]] == [
            "2026-01-02-020000"
        ]
        assert history.totals()[1] == NightTotals(
            "2026-01-01-020000", 1000.0, None, {Status.PASS: 1}, 0, Verdict.TROUBLE
        )


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
        (tmp_path / "2026-01-00-020000").mkdir()
        (tmp_path / "2026-01-00-020000" / files.NIGHT).write_text("{")
        rebuilt = history.rebuild(tmp_path)
        assert rebuilt.nights == 2
        assert [
            line
            for line in rebuilt.unreadable
            if "2026-01-00-020000/night.json is malformed" in line
        ]
        assert history.names() == ("2026-01-03-020000", "2026-01-02-020000", "2026-01-01-020000")
        assert marks(history)[1] == ("2026-01-02-020000", Status.FAIL), "files have the last word"


# --- what may happen to the file -----------------------------------------------------------------


def an_old_one(path: Path, version: int) -> None:
    """As the klp-e2e of that version left it."""
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        for statements in MIGRATIONS[:version]:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {version}")
        connection.execute(
            "INSERT INTO nights VALUES (1, '2026-01-00-020000', 1, 5.0, 9.0, '0.0.1', 'a host')"
        )
        connection.execute("INSERT INTO jobs VALUES (1, ?, '6.1', 'one')", (JOB,))
        connection.execute("INSERT INTO cases VALUES (1, 1, 'basic/reload')")
        connection.execute("INSERT INTO results VALUES (1, 1, 'FAIL', 1500)")
        connection.execute("INSERT INTO counts VALUES (1, 'FAIL', 1)")


def test_a_database_of_version_1_becomes_one_of_today(tmp_path: Path) -> None:
    path = tmp_path / NAME
    an_old_one(path, 1)
    with History(path) as history:
        assert history.told == ()
        assert history.past("")[KEY] == (PastResult("2026-01-00-020000", Status.FAIL, 1.5),)
        assert history.totals() == (
            NightTotals("2026-01-00-020000", 5.0, 4.0, {Status.FAIL: 1}, 0),
        )
        history.add(nights("F")[0])
        assert [past.symptom != "" for past in history.past("")[KEY]] == [True, False]
    assert raw(path, "PRAGMA user_version") == [(VERSION,)]
    with History(path) as history:
        assert history.names() == ("2026-01-01-020000", "2026-01-00-020000")


def test_a_migration_that_fails_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / NAME
    an_old_one(path, 1)
    broken = (*MIGRATIONS[:1], (*MIGRATIONS[1], "ALTER TABLE nowhere ADD COLUMN x"))
    monkeypatch.setattr(store, "MIGRATIONS", broken)
    with pytest.raises(NoHistory, match="no such table: nowhere"), History(path):
        pass
    assert raw(path, "PRAGMA user_version") == [(1,)]
    monkeypatch.undo()
    with History(path) as history:
        assert marks(history) == [("2026-01-00-020000", Status.FAIL)]


def test_a_newer_one_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / NAME
    with History(path):
        pass
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


# --- whose it is ---------------------------------------------------------------------------------


def ipython_s(path: Path) -> None:
    raw(path, "CREATE TABLE sessions (session INTEGER PRIMARY KEY, remark TEXT)")


def another_of_the_same_version(path: Path) -> None:
    ipython_s(path)
    raw(path, "PRAGMA user_version = 2")


def one_that_says_whose_it_is(path: Path) -> None:
    an_old_one(path, 1)
    raw(path, "PRAGMA application_id = 77")


def an_empty_one(path: Path) -> None:
    raw(path, "PRAGMA user_version = 0")
    raw(path, "VACUUM")
    assert path.stat().st_size


def a_text(path: Path) -> None:
    path.write_text("my history, since 1970\n" * 100)


def in_wal_mode(path: Path) -> None:
    ipython_s(path)
    raw(path, "PRAGMA journal_mode = WAL")


def looked_at(place: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in place.iterdir() if path.is_file()}


@pytest.mark.parametrize("reading", [True, False])
@pytest.mark.parametrize(
    "make",
    [
        *(ipython_s, another_of_the_same_version, one_that_says_whose_it_is),
        *(an_empty_one, a_text, in_wal_mode),
    ],
)
def test_a_stranger_s_stays_as_it_is(
    make: Callable[[Path], None], reading: bool, tmp_path: Path
) -> None:
    make(tmp_path / NAME)
    keep(tmp_path, *nights(".F"))
    before = looked_at(tmp_path)
    told = pytest.raises(NoHistory, match="is not a history of klp-e2e, and stays as it is")
    with told, History(tmp_path / NAME, reading=reading):
        pass
    assert looked_at(tmp_path) == before


def test_a_link_to_nowhere_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / NAME).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(NoHistory, match="stays as it is"), History(tmp_path / NAME):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def a_journal_that_names(victim: Path, path: Path) -> None:
    """What SQLite takes for a transaction of several databases that was interrupted: it removes the
    file which is to list them."""
    name, magic = bytes(victim), bytes.fromhex("d9d505f920a163d7")
    numbers = (0, 1, path.stat().st_size // 4096, 512, 4096)
    head = magic + b"".join(number.to_bytes(4) for number in numbers)
    tail = (2**30 // 4096 + 1).to_bytes(4) + name + len(name).to_bytes(4) + sum(name).to_bytes(4)
    path.with_name(f"{NAME}-journal").write_bytes(head.ljust(512, b"\0") + tail + magic)


def a_fifo(victim: Path, path: Path) -> None:
    os.mkfifo(path.with_name(f"{NAME}-journal"))


def a_link_beside(victim: Path, path: Path) -> None:
    path.with_name(f"{NAME}-journal").symlink_to(victim)


def a_link_to_it(victim: Path, path: Path) -> None:
    path.rename(path.with_name("other.sqlite"))
    path.symlink_to("other.sqlite")


@pytest.mark.parametrize("reading", [True, False])
@pytest.mark.parametrize("put", [a_journal_that_names, a_fifo, a_link_beside, a_link_to_it])
def test_sqlite_finds_nothing_beside_it_that_leads_elsewhere(
    put: Callable[[Path, Path], None], reading: bool, tmp_path: Path
) -> None:
    path, victim = tmp_path / "n" / NAME, tmp_path / "thesis"
    path.parent.mkdir()
    victim.write_text("three years of work")
    with History(path) as history:
        history.add(nights(".")[0])
    raw(path, "PRAGMA journal_mode = DELETE")
    put(victim, path)
    told = pytest.raises(NoHistory, match="stays as it is")
    with told, History(path, reading=reading):
        pass
    assert victim.read_text() == "three years of work"


ENDLESS = "WITH RECURSIVE r (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM r) SELECT x FROM r"


@pytest.mark.parametrize("reading", [True, False])
@pytest.mark.parametrize(
    "statements",
    [
        ("DROP TABLE counts", f"CREATE VIEW counts AS {ENDLESS}"),
        (
            "CREATE TRIGGER more AFTER INSERT ON results BEGIN"
            f" INSERT INTO symptoms (text) {ENDLESS}; END",
        ),
        ("DROP TABLE counts", "CREATE VIRTUAL TABLE counts USING fts4 (night, status, number)"),
    ],
)
def test_what_somebody_put_there_is_not_begun(
    statements: tuple[str, ...], reading: bool, tmp_path: Path
) -> None:
    path = tmp_path / NAME
    with History(path) as history:
        history.add(nights(".")[0])
    for statement in statements:
        raw(path, statement)
    before = looked_at(tmp_path)
    told = pytest.raises(NoHistory, match="which klp-e2e did not make, and stays as it is")
    with told, History(path, reading=reading):
        pass
    assert looked_at(tmp_path)[NAME] == before[NAME]


def test_ours_says_so_in_the_file_itself(tmp_path: Path) -> None:
    path = tmp_path / NAME
    with History(path), contextlib.closing(sqlite3.connect(path)) as another:
        another.execute("SELECT 1 FROM nights").fetchall()
        assert store.whose(path) is store.Owner.OURS, "though nobody has closed it yet"
    assert raw(path, "PRAGMA application_id") == [(OURS,)]


@pytest.mark.parametrize("version", [1, 2])
def test_older_ones_are_told_by_their_tables_and_signed(version: int, tmp_path: Path) -> None:
    path = tmp_path / NAME
    an_old_one(path, 1)
    for statement in MIGRATIONS[1] if version == 2 else ():
        raw(path, statement)
    raw(path, f"PRAGMA user_version = {version}")
    before = looked_at(tmp_path)
    with History(path, reading=True) as history:
        assert marks(history) == [("2026-01-00-020000", Status.FAIL)]
    assert looked_at(tmp_path) == before
    with History(path) as history:
        assert marks(history) == [("2026-01-00-020000", Status.FAIL)]
    assert raw(path, "PRAGMA application_id") == [(OURS,)]


def test_who_reads_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / NAME
    keep(tmp_path, *nights(".F"))
    with History(path, reading=True) as history:
        assert history.told == (f"{path} knows no nights, nights taken from files: 2",)
        assert len(history.names()) == 2
    assert not path.exists()
    with History(path) as history:
        history.add(nights("..F")[2])
    before = looked_at(tmp_path)
    with History(path, reading=True) as history:
        assert history.told == () and len(history.names()) == 3
        history.add(nights("....")[3])
    assert looked_at(tmp_path) == before


def test_who_reads_sees_what_another_has_just_written(tmp_path: Path) -> None:
    path = tmp_path / NAME
    with History(path) as history:
        history.add(nights(".")[0])
        with History(path, reading=True) as another:
            assert marks(another) == [("2026-01-01-020000", Status.PASS)]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE results SET status = 'SPLENDID'",
        "UPDATE counts SET number = 'x'",
        "UPDATE nights SET started = x'00'",
        "UPDATE nights SET started = 9e999",
        "UPDATE durations SET ms = 'long'",
        "UPDATE results SET ms = 1.5",
    ],
)
def test_what_klp_e2e_never_writes_is_damage(statement: str, tmp_path: Path) -> None:
    path = tmp_path / NAME
    keep(tmp_path, *nights("F"))
    with History(path) as history:
        assert len(history.names()) == 1
    raw(path, statement)
    with History(path) as history:
        assert "it has what klp-e2e never writes" in history.told[0]
        assert history.totals()[0].counts == {Status.FAIL: 1, Status.PASS: 1}


# --- damaged -------------------------------------------------------------------------------------


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
    ours.mark(tmp_path, ours.MarkKind.NIGHTS)
    keep(tmp_path, *made)
    with History(path) as history:
        history.add(a_night("2026-01-04-020000", a_row(".")))  # has no files
    damage(path)
    content = path.read_bytes()
    with History(path, reading=True) as history:
        assert f"{path} is damaged (" in history.told[0]
        assert len(history.names()) == 3
    assert path.read_bytes() == content
    with History(path) as history:
        damaged, anew = history.told
        assert "was damaged (" in damaged and f"{NAME}.damaged-" in damaged
        assert anew.endswith("is made anew, nights taken from files: 3")
        assert history.names() == ("2026-01-03-020000", "2026-01-02-020000", "2026-01-01-020000")
        assert marks(history)[1] == ("2026-01-02-020000", Status.FAIL)
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
        assert marks(history) == [("2026-01-01-020000", Status.FAIL)]


def test_while_another_writes_it_is_read_and_not_written(tmp_path: Path) -> None:
    path = tmp_path / NAME
    one, two = nights(".F")
    with History(path, patience=BRIEF) as history:
        history.add(one)
        with hold(path, "BEGIN IMMEDIATE", "DELETE FROM results"):
            assert marks(history) == [("2026-01-01-020000", Status.PASS)]
            with History(path, patience=BRIEF) as another:
                assert marks(another) == [("2026-01-01-020000", Status.PASS)]
            with pytest.raises(NoHistory, match="locked") as told:
                history.add(two)
            assert told.value.exit_code is Exit.HARNESS and told.value.hint
        history.add(two)
        assert history.names() == ("2026-01-02-020000", "2026-01-01-020000")


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
        assert history.names() == ("2026-01-01-020000",)


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
    with History(path) as history:
        raw(
            path, "CREATE TRIGGER x BEFORE INSERT ON results BEGIN SELECT raise(ABORT, 'full'); END"
        )
        for night in (two, replace(one, rows=(a_row("F"),))):
            with pytest.raises(NoHistory, match="full"):
                history.add(night)
    raw(path, "DROP TRIGGER x")
    assert dump(path) == before


def test_it_leaves_no_other_files(tmp_path: Path) -> None:
    with History(tmp_path / NAME) as history:
        history.add(nights(".")[0])
    assert {path.name for path in tmp_path.iterdir()} <= {NAME, *(NAME + side for side in SIDES)}


def test_what_the_module_set_held_is_kept(tmp_path: Path) -> None:
    with History(tmp_path / NAME) as history:
        history.add(a_night("a", replace(a_row("."), content="c0")))
        history.add(a_night("b", a_row(".")))
        assert [past.content for past in history.past("")[KEY]] == ["", "c0"]
