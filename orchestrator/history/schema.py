# SPDX-License-Identifier: GPL-2.0-only
"""The tables of history.sqlite, and how older ones become these.

Durations are whole milliseconds. `sequence` is the order of nights: their names come from a clock
that may jump.
"""

from __future__ import annotations

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
)
VERSION = len(MIGRATIONS)
