# SPDX-License-Identifier: GPL-2.0-only
"""The file of the nights' database: whose it is, opened to write, or copied to read. The only
importer of sqlite3.

Many programs call theirs history.sqlite. Ours says so in its header (PRAGMA application_id), older
ones by their tables; any other is not touched. Who only reads works on a copy in memory, and leaves
nothing beside the file.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sqlite3
import time
from collections.abc import Iterator
from enum import Enum, auto
from pathlib import Path

from orchestrator.errors import NoHistory
from orchestrator.history.schema import ACTING, MIGRATIONS, ODD, OURS, TABLES, VERSION
from orchestrator.host import files, ours

Connection = sqlite3.Connection

SIDES = ("-wal", "-shm", "-journal")  # the other files of a database
_MAGIC = b"SQLite format 3\0"
# At the end of a journal that names another: SQLite, which finds it, removes the file of that name,
# wherever it lies (https://sqlite.org/fileformat2.html#the_rollback_journal). Ours names none.
_JOURNAL = bytes.fromhex("d9d505f920a163d7")
_HEADER = 100  # bytes; https://sqlite.org/fileformat2.html#the_database_header
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class Owner(Enum):
    NOBODY = auto()  # there is no file, or an empty one
    OURS = auto()
    UNCLEAR = auto()  # it is no database, or a damaged one that says nothing of itself
    ANOTHER = auto()


class _Damaged(sqlite3.DatabaseError):
    """What the checks of the content say."""


def whose(path: Path) -> Owner:
    """Who made what lies there. Raises OSError."""
    if _odd_beside(path):
        return Owner.ANOTHER
    if not os.path.lexists(path):
        return Owner.NOBODY
    if not files.is_ordinary(path):
        return Owner.ANOTHER
    with path.open("rb") as file:
        header = file.read(_HEADER)
    if not header:
        return Owner.NOBODY
    if not header.startswith(_MAGIC) or len(header) < _HEADER:
        return Owner.UNCLEAR
    version, signed = (int.from_bytes(header[at : at + 4]) for at in (60, 68))
    if signed or version not in TABLES:
        return Owner.OURS if signed == OURS else Owner.ANOTHER
    try:
        with contextlib.closing(_reading(path)) as connection:
            rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            found = {name for (name,) in rows}
    except sqlite3.Error:
        return Owner.UNCLEAR
    return Owner.OURS if found == TABLES[version] else Owner.ANOTHER


def _odd_beside(path: Path) -> Path | None:
    """Of the files that SQLite would use beside it, one that it must not find. Raises OSError."""
    for side in map(Path, (f"{path}{suffix}" for suffix in SIDES)):
        if not os.path.lexists(side):
            continue
        if not files.is_ordinary(side):
            return side
        if side.name.endswith("-journal") and side.stat().st_size >= len(_JOURNAL):
            with side.open("rb") as file:
                file.seek(-len(_JOURNAL), os.SEEK_END)
                if file.read() == _JOURNAL:
                    return side
    return None


def opened(path: Path, patience: float) -> tuple[Connection, str]:
    """(checked, and with the tables of today; what had to be done for that, or "").

    One that is damaged gets another name. Raises NoHistory where it is not ours, and what sqlite3
    raises.
    """
    if _usable(path):
        try:
            return _opened(path, patience), ""
        except sqlite3.DatabaseError as err:
            if not is_damage(err):
                raise
            why = str(err)
    else:
        why = "it is no database"
    kept = ours.aside(path, f"damaged-{time.strftime('%Y-%m-%d-%H%M%S')}", SIDES)
    return _opened(path, patience), f"{path} was damaged ({why}): it is now {kept.name}"


def copied(path: Path) -> tuple[Connection, str]:
    """(a copy in memory, as `opened` would have it; what is wrong with the file, or ""). Without a
    file, or with a damaged one, it is empty. Raises as `opened`."""
    why = "" if _usable(path) else "it is no database"
    if not why and whose(path) is Owner.OURS:
        memory = sqlite3.connect(":memory:", isolation_level=None)
        try:
            with contextlib.closing(_reading(path)) as connection:
                connection.backup(memory)
            _check(path, memory)
            return memory, ""
        except sqlite3.DatabaseError as err:
            memory.close()
            if not is_damage(err):
                raise
            why = str(err)
    memory = sqlite3.connect(":memory:", isolation_level=None)
    _migrate(path, memory)
    return memory, f"{path} is damaged ({why})" if why else ""


def _usable(path: Path) -> bool:
    """Is it ours to open, or none? False: ours and damaged, since the place is. Raises NoHistory:
    it is another's."""
    match whose(path):
        case Owner.NOBODY | Owner.OURS:
            return True
        case Owner.UNCLEAR if ours.marked(path.parent.resolve(), ours.MarkKind.NIGHTS):
            return False
    strange = _odd_beside(path) or path
    raise NoHistory(
        f"{path} is not a history of klp-e2e, and stays as it is",
        hint=f"move {strange} out of the way, or name another place with -o DIR",
    )


def _reading(path: Path) -> Connection:
    """Read-only. Where nobody has it open, by a way that makes no files beside it."""
    wal = Path(f"{path}-wal")
    alone = not wal.exists() or not wal.stat().st_size
    more = "&immutable=1" if alone else ""
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro{more}", uri=True)


def _opened(path: Path, patience: float) -> Connection:
    connection = sqlite3.connect(path, timeout=patience, isolation_level=None)
    try:
        _check(path, connection)
        # After the first tables: so the signature is in the file, and not in the log beside it.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        return connection
    except BaseException:
        connection.close()
        raise


def _check(path: Path, connection: Connection) -> None:
    """Raises _Damaged where the content cannot be ours; NoHistory where a question would begin what
    somebody else has put there, which may never end."""
    for (name,) in connection.execute(ACTING):
        raise NoHistory(
            f"{path} holds {name!r}, which klp-e2e did not make, and stays as it is",
            hint="drop that view or trigger, or move the file out of the way",
        )
    [said] = connection.execute("PRAGMA quick_check(1)").fetchone()
    if said != "ok":
        raise _Damaged(said)
    _migrate(path, connection)
    if any(connection.execute(statement).fetchone() for statement in ODD):
        raise _Damaged("it has what klp-e2e never writes")


def _migrate(path: Path, connection: Connection) -> None:
    version = _version(connection)
    if version > VERSION:
        raise NoHistory(
            f"{path} has version {version}, this klp-e2e knows {VERSION}",
            hint="use the newer klp-e2e that wrote it",
        )
    if version < VERSION:
        with transaction(connection):
            version = _version(connection)  # another may have done it just now
            for statement in itertools.chain(*MIGRATIONS[version:]):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {VERSION}")


def _version(connection: Connection) -> int:
    """Of the tables in it; 0: it has none."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


@contextlib.contextmanager
def transaction(connection: Connection) -> Iterator[None]:
    """All or nothing; others may read meanwhile, and none may write."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # a full disk has ended it already
            connection.execute("ROLLBACK")
        raise


@contextlib.contextmanager
def mapped(path: Path) -> Iterator[None]:
    """What sqlite3 raises is NoHistory."""
    try:
        yield
    except (sqlite3.Error, OSError) as err:
        raise NoHistory(
            f"cannot use {path}: {err}",
            hint="remove it: it is made anew from the nights' files"
            if is_damage(err)
            else "does another program hold it? may this one write there?",
        ) from err


def is_damage(err: Exception) -> bool:
    code = getattr(err, "sqlite_errorcode", 0)
    return isinstance(err, _Damaged) or code & 0xFF in _DAMAGE
