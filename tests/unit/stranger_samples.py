# SPDX-License-Identifier: GPL-2.0-only
"""A directory full of a stranger's files: named as ours would be, older than any limit, with links
in and out."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Mapping
from pathlib import Path

TEXT = "three years of work\n"
NAMES = (
    # temporary files of this field
    *("klp-fix.patch", "klp-build.99999999-abc/thesis", "klp-tmp/thesis", ".tmp-x.99999999/thesis"),
    # as in a cache
    *("kernels/x86_64-6.1-none-0123456789abcdef/image", "kernels/.tmp-k.abcdefgh/half"),
    *("trees/x86_64-0123456789abcdef/src/Makefile", "sources/debian-x/linux/Makefile"),
    *("modules/basic/klp_target.ko", "guest/base/base.cpio.gz", "ccache/0/object", "logs/old.log"),
    *("clones/linux/.git/HEAD", "git/0123/HEAD", "selftests/x/list", "nightly.lock"),
    # as in a directory of results
    *("junit.xml", "results.ktap", "x86_64/basic.order-1/console.log", "x86_64/my-notes/thesis"),
    *("explore.json", "walk.jsonl", "trials.json", "card.json", "card.html", "bisect.log"),
    *("findings/x86_64-basic-1/bundle.json", "01-x/x86_64/thesis", ".results.json.partial"),
    # as where nights lie
    *("index.html", "summary.md", "2020-01-01-020000/notes.txt", "00-release/night.json"),
    *("jobs/build/thesis", "results/2020-01-01-020000/thesis", "nights/2020-01-01-020000/thesis"),
    *("order.ko", "patch.ko", "my.toml", "my.config"),
)


def make(place: Path) -> Path:
    """Fill `place`, and a `victim` beside it that a link leads to; returns `place`."""
    victim = place.with_name("victim")
    for path in (*(place / name for name in NAMES), victim / "thesis"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(TEXT)
    (place / "results.json").write_text(json.dumps({"schema": 1, "mine": TEXT}))
    (place / "night.json").write_text(json.dumps({"schema": 1, "night": {"name": "../victim"}}))
    night = place / "2020-01-02-020000"
    night.mkdir()
    (night / "night.json").write_text(json.dumps({"schema": 1, "night": {"name": "x"}}))
    with sqlite3.connect(place / "history.sqlite") as database:
        database.execute("CREATE TABLE sessions (line TEXT)")
    database.close()
    (place / "out").symlink_to(victim)
    (place / "2020-01-03-020000").symlink_to(victim)
    (place / "thesis").symlink_to(victim / "thesis")
    (place / "dangling").symlink_to(place / "nothing")
    (victim / "in").symlink_to(place / "klp-fix.patch")
    (place / "klp-fix.patch").chmod(0o444)
    for path in (*place.rglob("*"), *victim.rglob("*"), place, victim):
        os.utime(path, (0, 0), follow_symlinks=False)
    return place


def inventory(place: Path) -> Mapping[str, tuple[object, ...]]:
    """Everything there, byte for byte: relative path -> type, mode, time of change, content."""
    return {str(path.relative_to(place.parent)): _state(path) for path in _all(place)}


def _all(place: Path) -> list[Path]:
    victim = place.with_name("victim")
    return sorted([*place.rglob("*"), *victim.rglob("*")])


def _state(path: Path) -> tuple[object, ...]:
    info = path.lstat()
    if path.is_symlink():
        return "link", path.readlink()
    if path.is_dir():  # its time changes when something is made beside a stranger's files
        return "directory", info.st_mode
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return "file", info.st_mode, info.st_mtime_ns, digest
