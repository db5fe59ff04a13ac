# SPDX-License-Identifier: GPL-2.0-only
"""Whether somebody is at work: told by a lock that he holds, never by a process number, which means
nothing in another container. flock(2): the lock goes with its holder, however he ends."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from orchestrator.errors import HarnessError

POLL_SECONDS = 0.05  # not in the kernel: a thread that waits there cannot be interrupted


class Busy(HarnessError):
    """Somebody else holds the lock."""


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold the lock that is the file `path`, made where there is none, among all processes and
    threads. The file stays: somebody may wait on it.

    Raises Busy at once when somebody else holds it, OSError.
    """
    # NOFOLLOW: in a directory that others write to, a link would have us make a file elsewhere
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as err:
            if err.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
            raise Busy(f"{path} is held by another run", "wait until it has ended") from None
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def waited(path: Path, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
    """`held`, as soon as nobody else holds it; on_wait is called once if that is not at once."""
    with contextlib.ExitStack() as stack:
        while True:
            try:
                stack.enter_context(held(path))
                break
            except Busy:
                if on_wait is not None:
                    on_wait()
                on_wait = None
                time.sleep(POLL_SECONDS)
        yield
