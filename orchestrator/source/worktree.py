# SPDX-License-Identifier: GPL-2.0-only
"""A working copy of a kernel tree that follows from one series to the next.

make(1) compiles what is newer than its object. So a file is written only if its content is to
change, and then its time is now; everything else keeps the time it had, and its object.

A tree has links to directories, of itself or of anybody. Nothing is read, written or removed
through one: what lies behind it is no part of the tree, and a link may have come, or may go, where
a directory is.
"""

from __future__ import annotations

import contextlib
import filecmp
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from orchestrator.host import ours, walk, workdir
from orchestrator.source import sources
from orchestrator.source.series import Patched
from orchestrator.source.sources import SourceTree


def sync(
    source: SourceTree,
    patched: Mapping[str, Patched],
    work: Path,
    check: Callable[[], None] = lambda: None,
) -> frozenset[str]:
    """Make `work` hold the source tree with `patched` in place of its own files.

    Returns the relative paths that changed; of a fresh copy all of them. Files of a frozen source
    are hard-linked: nothing may write to them in place, and nothing does, for a file to be changed
    is replaced. Of others those are compared whose size or times are not what they were last time.
    After a kill the next call puts things right: the record of what was done is removed first and
    written last. What `check` raises, when all is copied, is as a kill.
    """
    record = work.with_name(work.name + ".json")
    fresh = not work.exists()
    before = json.loads(record.read_text()) if record.is_file() and not fresh else None
    ours.scrap(record)
    work.mkdir(parents=True, exist_ok=True)
    if before is not None and before["digest"] == source.digest:
        names = {*before["patched"], *patched}
        states = before.get("states", {})
    else:
        listed = set(sources.listing(source))
        states = {} if source.frozen else _states(source.directory, listed)
        names = {*listed, *patched}
        if not fresh:
            there = _present(work)
            names |= there
            if before is not None:
                touched = {*before["patched"], *patched}
                same = _same_states(states, before.get("states", {}))
                names -= (same & there) - touched
    changed = {name for name in names if _put(source, patched.get(name), work, name, fresh)}
    check()
    done: dict[str, object] = {"digest": source.digest, "patched": sorted(patched)}
    done["states"] = states
    done["top"] = sorted(path.name for path in work.iterdir())
    workdir.write_atomically(record, json.dumps(done))
    return frozenset(changed)


def _states(directory: Path, names: Iterable[str]) -> dict[str, list[int]]:
    """What tells of each file whether somebody wrote to it."""
    found = {}
    for name in names:
        with contextlib.suppress(FileNotFoundError):  # git knows it, and it was deleted
            info = (directory / name).lstat()
            found[name] = [info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns]
    return found


def _same_states(now: Mapping[str, list[int]], before: Mapping[str, list[int]]) -> set[str]:
    return {name for name, state in now.items() if before.get(name) == state}


def _present(work: Path) -> set[str]:
    return {
        os.path.relpath(path, work)
        for path in walk.below(work)
        if path.is_symlink() or not path.is_dir()
    }


def _put(source: SourceTree, patched: Patched | None, work: Path, name: str, fresh: bool) -> bool:
    """Bring one file to what it should be; whether that took a change."""
    origin, target = source.directory / name, work / name
    here = not fresh and _lies(work, name)
    if patched is not None:
        if patched.content is None:
            return here and _delete(target)
        if here and target.is_file() and not target.is_symlink():
            same_mode = bool(target.stat().st_mode & 0o100) == patched.executable
            if same_mode and target.read_bytes() == patched.content:
                return False
        _replace(work, name, patched.content, patched.executable)
        return True
    if not _lies(source.directory, name) or _is_directory(origin):
        return here and _delete(target)
    if fresh:
        _make_way(work, name)
        if source.frozen:
            os.link(origin, target, follow_symlinks=False)
        else:
            shutil.copy2(origin, target, follow_symlinks=False)
        return True
    if here and _same(origin, target):
        return False
    if origin.is_symlink():
        _make_way(work, name)
        ours.scrap(target)
        target.symlink_to(origin.readlink())
    else:
        _replace(work, name, origin.read_bytes(), bool(origin.stat().st_mode & 0o100))
    return True


def _lies(top: Path, name: str) -> bool:
    """Is anything of that name there, and nothing but directories on its way?"""
    at = str(top)
    above, _, last = name.rpartition("/")
    try:
        for part in above.split("/") if above else ():
            at = f"{at}/{part}"
            if not stat.S_ISDIR(os.lstat(at).st_mode):
                return False
        os.lstat(f"{at}/{last}")
    except FileNotFoundError:
        return False
    return True


def _make_way(work: Path, name: str) -> None:
    """Directories down to that name, in place of whatever else is there."""
    for above in reversed((work / name).parents[: name.count("/")]):
        if not _is_directory(above):
            ours.scrap(above)
            above.mkdir()


def _is_directory(path: Path) -> bool:
    """And no link to one?"""
    return path.is_dir() and not path.is_symlink()


def _same(origin: Path, target: Path) -> bool:
    if origin.is_symlink() or target.is_symlink():
        both = origin.is_symlink() and target.is_symlink()
        return both and origin.readlink() == target.readlink()
    old, new = origin.stat(), target.stat()
    if (old.st_ino, old.st_dev) == (new.st_ino, new.st_dev):
        return True
    executable = (old.st_mode & 0o100) == (new.st_mode & 0o100)
    return executable and target.is_file() and filecmp.cmp(origin, target, shallow=False)


def _delete(target: Path) -> bool:
    """A directory stays: what is in it has names of its own."""
    if _is_directory(target):
        return False
    ours.scrap(target)
    return True


def _replace(work: Path, name: str, content: bytes, executable: bool) -> None:
    """Put a new file in the place; the old one may be a hard link that others read."""
    _make_way(work, name)
    target = work / name
    if target.is_symlink() or target.is_dir():
        ours.scrap(target)
    with ours.replacing(target, 0o755 if executable else 0o644) as partial:
        partial.write_bytes(content)
