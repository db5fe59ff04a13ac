# SPDX-License-Identifier: GPL-2.0-only
"""Run directories: a fresh private place for sockets, consoles and snapshots while a run lasts.

They lie in one directory of ours in the temporary directory, `klp-e2e-UID`, mode 0700. NAME.lock
is held for as long as NAME is used; what somebody else can lock is a killed run's, and goes.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from orchestrator.errors import HarnessError
from orchestrator.host import locks, ours, workdir

LOCK = "lock"  # of the place, held while a directory is made or removed
SUFFIX = ".lock"
# Longest name that people put into a run directory; with it a path must fit sockaddr_un.sun_path
# (108 bytes with the final NUL, include/uapi/linux/un.h).
SOCKET_NAME_ROOM = 32
SUN_PATH = 108


@contextlib.contextmanager
def run_dir(label: str = "run") -> Iterator[Path]:
    """A fresh private directory (mode 0700), short enough for unix sockets; removed at the end.

    Directories of our killed runs are removed on the way. Raises HarnessError, NotOurs when the
    place of run directories is somebody else's.
    """
    base = _base()
    with contextlib.ExitStack() as life, workdir.disk_errors(f"{base} has no run directory"):
        ours.make(base, ours.MarkKind.RUNS, "set TMPDIR to a directory of your own", mode=0o700)
        with locks.waited(base / LOCK):  # nobody sees a directory before it is locked
            _remove_stale(base)
            path = Path(tempfile.mkdtemp(prefix=f"{label}.", dir=base))
            life.enter_context(locks.held(lock_of(path)))
            lock_of(path).write_text(f"{os.getpid()}\n")  # for people who wonder whose it is
        try:
            yield path
        finally:
            with locks.waited(base / LOCK):  # half of it gone, it would look like a dead one's
                _remove(path)


def lock_of(path: Path) -> Path:
    """Of a run directory."""
    return path.with_name(path.name + SUFFIX)


def _remove(path: Path) -> None:
    for each in (path, lock_of(path)):
        ours.remove(each, within=path.parent)


def _remove_stale(base: Path) -> None:
    """The directories that nobody holds. One without a lock is somebody's own, or was killed at
    birth, and then is empty."""
    os.utime(base / ours.MARK)  # whatever cleans the temporary directory is to see that it is used
    for path in base.iterdir():
        if path.is_symlink() or not path.is_dir():
            continue
        if not os.path.lexists(lock_of(path)):
            with contextlib.suppress(OSError):
                path.rmdir()
            continue
        with contextlib.suppress(locks.Busy), locks.held(lock_of(path)):
            _remove(path)


def _base() -> Path:
    """In the temporary directory, or in /tmp, whichever leaves room for a socket's name.

    Not $XDG_RUNTIME_DIR: it is small, and guests' snapshots lie in run directories.
    """
    name = f"klp-e2e-{os.geteuid()}"
    for parent in (Path(tempfile.gettempdir()).absolute(), Path("/tmp")):
        room = SUN_PATH - 1 - SOCKET_NAME_ROOM - len(f"/{name}/some-label.abcdefgh/")
        fits = len(os.fsencode(parent)) <= room
        if fits and parent.is_dir() and os.access(parent, os.W_OK | os.X_OK):
            return parent / name
    raise HarnessError(
        "no directory for sockets: neither $TMPDIR nor /tmp will do",
        hint="set TMPDIR to a writable directory with a short name",
    )
