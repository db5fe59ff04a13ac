# SPDX-License-Identifier: GPL-2.0-only
"""The tables of history.sqlite, and how older ones become these.

Durations are whole milliseconds. `sequence` is the order of nights: their names come from a clock
that may jump.
"""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.history.nights import Verdict
from orchestrator.verdicts import Status

OURS = 0x6B6C7065  # "klpe", PRAGMA application_id since version 3: by it a file is told to be ours
# By version: what makes it of the one before. What is there is never changed: others have it.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE nights (
            id INTEGER PRIMARY KEY,
            name TEXT NOT NULL UNIQUE,
            sequence INTEGER NOT NULL,
            started REAL NOT NULL,
            finished REAL,
            tool TEXT NOT NULL,
            host TEXT NOT NULL)""",
        """CREATE TABLE counts (
            night INTEGER NOT NULL REFERENCES nights,
            status TEXT NOT NULL,
            number INTEGER NOT NULL,
            PRIMARY KEY (night, status)) WITHOUT ROWID""",
        """CREATE TABLE kernels (
            night INTEGER NOT NULL REFERENCES nights,
            kernel TEXT NOT NULL,
            arch TEXT NOT NULL,
            source_version TEXT NOT NULL,
            release TEXT NOT NULL,
            compiler TEXT NOT NULL,
            qemu TEXT NOT NULL,
            config TEXT NOT NULL,
            PRIMARY KEY (night, kernel, arch)) WITHOUT ROWID""",
        """CREATE TABLE jobs (
            id INTEGER PRIMARY KEY,
            name TEXT NOT NULL UNIQUE,
            kernel TEXT NOT NULL,
            arch TEXT NOT NULL)""",
        """CREATE TABLE durations (
            job INTEGER NOT NULL REFERENCES jobs,
            night INTEGER NOT NULL REFERENCES nights,
            ms INTEGER NOT NULL,
            PRIMARY KEY (job, night)) WITHOUT ROWID""",
        """CREATE TABLE cases (
            id INTEGER PRIMARY KEY,
            job INTEGER NOT NULL REFERENCES jobs,
            name TEXT NOT NULL,
            UNIQUE (job, name))""",
        # By case first: every look-up is of a few nights of some cases, and it needs no index.
        """CREATE TABLE results (
            "case" INTEGER NOT NULL REFERENCES cases,
            night INTEGER NOT NULL REFERENCES nights,
            status TEXT NOT NULL,
            ms INTEGER NOT NULL,
            PRIMARY KEY ("case", night)) WITHOUT ROWID""",
    ),
    (
        "ALTER TABLE nights ADD COLUMN relocations INTEGER NOT NULL DEFAULT 0",
        "CREATE TABLE symptoms (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE)",
        "ALTER TABLE results ADD COLUMN symptom INTEGER REFERENCES symptoms",
        "ALTER TABLE results ADD COLUMN timed INTEGER NOT NULL DEFAULT 1",
    ),
    (f"PRAGMA application_id = {OURS}",),
    ("ALTER TABLE nights ADD COLUMN verdict TEXT",),
    ("ALTER TABLE results ADD COLUMN content TEXT NOT NULL DEFAULT ''",),
    (
        """CREATE TABLE machines (
            job INTEGER NOT NULL REFERENCES jobs,
            night INTEGER NOT NULL REFERENCES nights,
            kind TEXT NOT NULL,
            PRIMARY KEY (job, night)) WITHOUT ROWID""",
    ),
)
VERSION = len(MIGRATIONS)

# Of the versions that were not signed: their tables, by which they are told.
TABLES: Mapping[int, frozenset[str]] = {
    1: frozenset({"nights", "counts", "kernels", "jobs", "durations", "cases", "results"}),
    2: frozenset(
        {"nights", "counts", "kernels", "jobs", "durations", "cases", "results", "symptoms"}
    ),
}
# Finds what does something of its own when a table of this name is read or written.
ACTING = (
    "SELECT name FROM sqlite_master WHERE type IN ('view', 'trigger')"
    " OR sql LIKE 'CREATE VIRTUAL %' LIMIT 1"
)
# Each finds a row that klp-e2e never writes: the file is damaged, or somebody made it up.
ODD = (
    "SELECT 1 FROM nights WHERE typeof(name) <> 'text' OR typeof(started) <> 'real'"
    " OR typeof(finished) NOT IN ('real', 'null') OR typeof(relocations) <> 'integer'"
    " OR abs(started) > 1e11 OR abs(finished) > 1e11",
    "SELECT 1 FROM results WHERE typeof(ms) <> 'integer' OR typeof(content) <> 'text'"
    f" OR status NOT IN ({', '.join(repr(str(status)) for status in Status)})",
    "SELECT 1 FROM counts WHERE typeof(number) <> 'integer'"
    f" OR status NOT IN ({', '.join(repr(str(status)) for status in Status)})",
    "SELECT 1 FROM nights WHERE verdict NOT IN"
    f" ({', '.join(repr(str(verdict)) for verdict in Verdict)})",
    "SELECT 1 FROM durations WHERE typeof(ms) <> 'integer'",
    "SELECT 1 FROM machines WHERE typeof(kind) <> 'text'",
)
