# SPDX-License-Identifier: GPL-2.0-only
"""Files of a directory that somebody else has made, copied into a new one of ours. Links are not
followed, not even one that takes a directory's place meanwhile; what is no file stays behind."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from orchestrator.host import ours, walk

_BLOCK = 1 << 20
_LEFT = (ours.MARK, ".lock")  # say whose a directory is, and who is at work there: not of a copy


def copy(top: Path, inner: str, goal: Path) -> list[str]:
    """What is at `inner` in `top`, a file or a directory with all in it, at `goal`, where nothing
    may be; of nothing there nothing. A directory that its mark calls a bundle is marked as one of
    ours, for its copy is, and the sums in its record tell what belongs to it. No other mark is
    taken over: it would make more of a stranger's files than a copy.

    inner: a path that leads down from `top`. Returns what was left behind, by its path in `top`:
    links, devices, and what may not be read. Raises OSError: the goal cannot be written, or there
    is something.
    """
    source, root = top / inner, Path(os.path.realpath(top))
    if not os.path.lexists(source):
        return []
    if {*Path(inner).parts} & {*_LEFT}:
        return [inner]
    left: list[str] = []
    if not stat.S_ISDIR(source.lstat().st_mode):
        return [inner] * (not _copy_file(source, root, goal))
    if Path(os.path.realpath(source)) != root / inner:
        return [inner]
    _directory(source, goal)
    for path in walk.below(source):
        place = goal / path.relative_to(source)
        if path.is_dir() and not path.is_symlink():
            _directory(path, place)
        elif path.name not in _LEFT and not _copy_file(path, root, place):
            left.append(str(path.relative_to(top)))
    return left


def _directory(source: Path, goal: Path) -> None:
    goal.mkdir(parents=True, exist_ok=True)
    bundle = ours.MarkKind.BUNDLE
    if ours.says(source / ours.MARK) == bundle and not os.path.lexists(goal / ours.MARK):
        ours.mark(goal, bundle)


def _copy_file(source: Path, root: Path, goal: Path) -> bool:
    """False: it is none, or may not be read."""
    with contextlib.ExitStack() as life:
        try:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
            descriptor = os.open(source, flags)
        except OSError:
            return False
        life.callback(os.close, descriptor)
        info = os.fstat(descriptor)
        real = Path(f"/proc/self/fd/{descriptor}").readlink()
        if not (stat.S_ISREG(info.st_mode) and real.is_relative_to(root)):
            return False
        goal.parent.mkdir(parents=True, exist_ok=True)
        if info.st_size > shutil.disk_usage(goal.parent).free:  # a hole costs its maker nothing
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(goal))
        with goal.open("xb") as file:
            for block in _blocks(descriptor, info.st_size):
                file.write(block)
        goal.chmod(0o755 if info.st_mode & stat.S_IXUSR else 0o644)
        return True


def _blocks(descriptor: int, size: int) -> Iterator[bytes]:
    """As much as there was when it was opened: what is written to has no end."""
    while size > 0 and (block := os.read(descriptor, min(size, _BLOCK))):
        size -= len(block)
        yield block
