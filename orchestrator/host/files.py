# SPDX-License-Identifier: GPL-2.0-only
"""Files that somebody else has written or named. A device has no end, a FIFO never begins."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

MIB = 1 << 20
MODULE = 256 * MIB
MODULES = 1024 * MIB  # of a set, all together: they are in memory at once
TEXT = 256 * MIB  # patches, mails, documents of ours: the patch of a whole release has 100
TABLE = MIB // 4  # TOML
CONFIG = 16 * MIB  # of a kernel: one of everything has 1/4


def is_ordinary(path: Path) -> bool:
    """Is it a regular file, and no link to one? What is not there is none."""
    return path.is_file() and not path.is_symlink()


def read(path: Path, limit: int) -> bytes:
    """The content of a regular file of at most `limit` bytes. Raises OSError, whose `strerror` says
    what is wrong, for anything else as well."""
    with _opened(path, limit) as file:
        # it may grow while it is read; None is what /proc has where another would wait
        data = file.read(limit + 1) or b""
    if len(data) > limit:
        raise _too_large(path, limit)
    return data


class Together:
    """Several files, of which all together have an end, too: each may be a hole of that size, which
    costs nobody anything but us."""

    def __init__(self, limit: int) -> None:
        """limit: bytes of all."""
        self._limit = self._left = limit

    def read(self, path: Path, limit: int) -> bytes:
        """As `read`. Raises OSError also for the file with which they are too many bytes."""
        try:
            data = read(path, min(limit, self._left))
        except OSError as err:
            if err.errno != errno.EFBIG or self._left >= limit:
                raise
            why = f"with the files before it it is more than {self._limit // MIB} MiB"
            raise OSError(errno.EFBIG, why, str(path)) from err
        self._left -= len(data)
        return data


def ends(path: Path, limit: int, each: int) -> tuple[bytes, int, bytes]:
    """(beginning, how many bytes are left out, end) of a regular file of at most `limit` bytes: of
    one of at most twice `each` bytes all is the beginning. Raises OSError."""
    with _opened(path, limit) as file:
        size = os.fstat(file.fileno()).st_size
        if size <= 2 * each:
            return file.read(2 * each), 0, b""
        head = file.read(each)
        file.seek(size - each)
        return head, size - 2 * each, file.read(each)


def lines(path: Path, limit: int, longest: int) -> Iterator[bytes]:
    """The lines of a regular file of at most `limit` bytes, read one by one; one of more than
    `longest` bytes comes in parts. Raises OSError."""
    with _opened(path, limit) as file:
        left = limit
        while line := file.readline(longest):
            left -= len(line)
            if left < 0:
                raise _too_large(path, limit)
            yield line


def _opened(path: Path, limit: int) -> BinaryIO:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    with contextlib.ExitStack() as life:
        file = life.enter_context(os.fdopen(descriptor, "rb"))
        info = os.fstat(descriptor)
        if stat.S_ISDIR(info.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(info.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        if info.st_size > limit:
            raise _too_large(path, limit)
        life.pop_all()
        return file


def _too_large(path: Path, limit: int) -> OSError:
    return OSError(errno.EFBIG, f"it is larger than {limit // 1024} KiB", str(path))
