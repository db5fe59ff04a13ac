# SPDX-License-Identifier: GPL-2.0-only
"""A guest's console as QEMU writes it: kept whole, in memory, and within bounds.

QEMU's file backend drops without a word what it cannot write, so its file is none on a disk, which
may be full, nor one that somebody can take away, but memory of ours (memfd_create(2)) behind a link
in the run directory. A socket was not chosen: where its reader is late, QEMU's 16550 overwrites
what it has not sent yet (hw/char/serial.c), so a busy host would leave holes.

That what is here is all that was printed is proved by `vm.guest.Guest.printed`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from orchestrator.deadline import Deadline
from orchestrator.errors import HarnessError
from orchestrator.vm.marks import without_marks

log = logging.getLogger(__name__)

# What a guest may print from its boot, or its last restore, to the next. A case prints some kB.
LIMIT_BYTES = 16 << 20
WATCH_SECONDS = 0.1
POLL_SECONDS = 0.001
LAST_LINES = 25
LAST_BYTES = 64 << 10
CHUNK_BYTES = 1 << 20


class Console:
    """All that a guest has printed since it booted or since `forget`. Made by `kept`."""

    def __init__(self, fd: int) -> None:
        self.flooded = False  # the guest has printed more than it may
        self._fd = fd
        self._start = 0  # what came before is forgotten

    def mark(self) -> int:
        """Where the console ends now, for `since`: bytes since the boot."""
        return os.fstat(self._fd).st_size

    def since(self, mark: int) -> str:
        """What was printed after `mark` and is not forgotten; marks of ours are left out."""
        start = max(mark, self._start)
        read = b"".join(self._chunks(start))
        return without_marks(read.decode(errors="replace").replace("\r", ""))

    def last_lines(self) -> str:
        lines = self.since(self.mark() - LAST_BYTES).split("\n")
        return "\n".join(lines[-LAST_LINES - 1 :]).rstrip()

    def wait_for(self, words: bytes, mark: int, deadline: Deadline) -> bool:
        """Whether `words` are printed after `mark`, up to the deadline."""
        at = max(mark, self._start)
        tail = b""  # words may come in pieces
        while True:
            late = deadline.passed
            for chunk in self._chunks(at):
                if words in tail + chunk:
                    return True
                tail = (tail + chunk)[1 - len(words) :]
                at += len(chunk)
            if late:
                return False
            time.sleep(POLL_SECONDS)

    def forget(self) -> None:
        """Give back the memory of all that was printed so far. What comes while this is being done
        is lost: it is for a guest whose life is about to be another one."""
        end = self.mark()
        os.ftruncate(self._fd, 0)
        os.ftruncate(self._fd, end)  # a hole; QEMU goes on behind it
        self._start = end

    @contextlib.contextmanager
    def watched(self, limit: int, end: Callable[[], None]) -> Iterator[None]:
        """Call `end`, from another thread, as soon as more than `limit` bytes are kept."""
        leave = threading.Event()

        def watch() -> None:
            logged = 0
            while not leave.wait(WATCH_SECONDS):
                logged = self._log_since(logged)
                if self.mark() - self._start > limit:
                    self.flooded = True
                    end()
                    break
            self._log_since(logged)

        watcher = threading.Thread(target=watch, name="console", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            leave.set()
            watcher.join()

    def _log_since(self, mark: int) -> int:
        """Log the whole lines after `mark`, where anybody looks; where they end."""
        if not log.isEnabledFor(logging.DEBUG):
            return mark
        start = max(mark, self._start)
        whole, end, _ = b"".join(self._chunks(start)).rpartition(b"\n")
        for line in without_marks(whole.decode(errors="replace")).splitlines():
            log.debug("%s", line)
        return start + len(whole) + len(end)

    def _chunks(self, at: int) -> Iterator[bytes]:
        while chunk := os.pread(self._fd, CHUNK_BYTES, at):
            yield chunk
            at += len(chunk)


@contextlib.contextmanager
def kept(link: Path) -> Iterator[Console]:
    """A console for whoever writes to `link`, which is made. Raises HarnessError."""
    with contextlib.ExitStack() as stack:
        try:
            fd = os.memfd_create("console", os.MFD_CLOEXEC)
            stack.callback(os.close, fd)
            # not os.getpid(), which may be another where /proc is of another PID namespace
            link.symlink_to(f"/proc/{Path('/proc/self').readlink()}/fd/{fd}")
        except OSError as err:
            raise HarnessError(f"the guest's console cannot be kept: {err}") from err
        yield Console(fd)
