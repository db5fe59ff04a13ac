# SPDX-License-Identifier: GPL-2.0-only
"""What is in a directory, as deep as it may be: a patch of one line makes directories a thousand
deep, and Path.rglob(), os.walk() and shutil.rmtree() of Python 3.11 call themselves for each."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

_ESCAPED = re.compile(r"\\([0-7]{3})")  # a blank, a tab, an end of line, a backslash


def below(top: Path) -> Iterator[Path]:
    """All that is in a directory and in those below it, each directory before what is in it; links
    are not followed. Nothing of a directory that may not be read, has gone, or is none. Raises
    OSError."""
    if not top.is_dir():
        return
    left = [str(top)]
    while left:
        with contextlib.suppress(PermissionError, FileNotFoundError):
            with os.scandir(left.pop()) as entries:
                found = list(entries)
            for entry in found:
                yield Path(entry.path)
                if entry.is_dir(follow_symlinks=False):
                    left.append(entry.path)


def mounted(top: Path) -> list[Path]:
    """What is mounted in a directory, or on it (proc(5), mountinfo): another's, whatever it lies
    in, and one of the same disk has the same device."""
    with contextlib.suppress(OSError):
        real = os.path.realpath(top)
        lines = Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines()
        places = (Path(_ESCAPED.sub(_meant, line.split(" ")[4])) for line in lines)
        return [place for place in places if place.is_relative_to(real)]
    return []


def _meant(escaped: re.Match[str]) -> str:
    return chr(int(escaped[1], 8))


def remove(top: Path) -> None:
    """Remove a directory with all that is in it, however deep, and longer than a path may be: what
    is two below is moved up, until nothing is. Raises OSError."""
    number = 0
    while directories := list(_emptied(top)):
        for directory in directories:
            for inner in _emptied(directory):
                while os.path.lexists(goal := top / f"{number}"):
                    number += 1
                inner.rename(goal)
            directory.rmdir()
    top.rmdir()


def _emptied(directory: Path) -> Iterator[Path]:
    """The directories in it; whatever else is there goes."""
    directory.chmod(directory.stat().st_mode | stat.S_IRWXU)
    with os.scandir(directory) as entries:
        found = list(entries)
    for entry in found:
        if entry.is_dir(follow_symlinks=False):
            inner = Path(entry.path)
            inner.chmod(entry.stat(follow_symlinks=False).st_mode | stat.S_IRWXU)  # to move it
            yield inner
        else:
            Path(entry.path).unlink()
