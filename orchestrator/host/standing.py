# SPDX-License-Identifier: GPL-2.0-only
"""Directories in which this process is at work: each has to stay what it was. Another one that has
come in its place meanwhile, or a link, is somebody else's, whatever it is called."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from orchestrator.errors import HarnessError

_begun: dict[Path, tuple[int, int]] = {}  # the directory as it is named -> device and inode


@contextlib.contextmanager
def at_work(directory: Path) -> Iterator[None]:
    """Until the block ends `check` looks after this directory. Raises OSError."""
    place = directory.absolute()
    with contextlib.ExitStack() as life:
        if place not in _begun:  # else whoever began there first ends it
            _begun[place] = _identity(place)
            life.callback(_begun.pop, place)
        yield


def check(path: Path) -> None:
    """Before something is written at `path`, or taken from there: is what it lies in still what it
    was? Raises HarnessError, OSError where it has gone."""
    place = path.absolute()
    for above in (place, *place.parents):
        if above in _begun and _identity(above) != _begun[above]:
            raise HarnessError(
                f"{above} is another directory now than when klp-e2e began to write there",
                hint="nothing is written into it; what was written lies where that was moved to",
            )


def _identity(directory: Path) -> tuple[int, int]:
    info = directory.stat()  # of what a link leads to: -o may be one
    return info.st_dev, info.st_ino
