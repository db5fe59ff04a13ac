# SPDX-License-Identifier: GPL-2.0-only
"""Who uses the cache: each process holds the lock of a file of its own in CACHE/.users, as old as
its use. What was touched since the oldest of them began may be in use."""

from __future__ import annotations

import atexit
import contextlib
import math
import os
import tempfile
import threading
from pathlib import Path

from orchestrator.errors import KlpError
from orchestrator.host import locks, ours

PLACE = ".users"
_LOCK = "lock"
_PREFIX = "user."

_mutex = threading.Lock()
_begun: dict[Path, contextlib.ExitStack] = {}


def begin(place: Path) -> None:
    """From now on, until it ends, this process is one of the users. Raises OSError."""
    with _mutex:
        if place in _begun:
            return
        life = contextlib.ExitStack()
        with locks.waited(place / _LOCK):  # nobody sees the file before it is locked
            number, name = tempfile.mkstemp(prefix=_PREFIX, dir=place)
            os.close(number)
            life.callback(ours.remove, Path(name), within=place)
            life.enter_context(locks.held(Path(name)))
        _begun[place] = life


@atexit.register
def _end() -> None:
    for life in _begun.values():
        with contextlib.suppress(OSError, KlpError):  # the place may be gone
            life.close()


def since(place: Path) -> float:
    """When the longest-lived of the processes that live now began, in seconds since the epoch;
    inf when there is none. Raises OSError."""
    began = math.inf
    if not ours.marked(place):
        return began
    with locks.waited(place / _LOCK):
        for path in place.glob(f"{_PREFIX}*"):
            with contextlib.suppress(FileNotFoundError):
                try:
                    with locks.held(path):
                        ours.remove(path, within=place)  # its process was killed
                except locks.Busy:
                    began = min(began, path.stat().st_mtime)
    return began
