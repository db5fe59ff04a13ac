# SPDX-License-Identifier: GPL-2.0-only
"""Files that somebody else has written or named. A device has no end, a FIFO never begins."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

MIB = 1 << 20
MODULE = 256 * MIB
TEXT = 256 * MIB  # patches, mails, documents of ours: the patch of a whole release has 100
TABLE = MIB // 4  # TOML
CONFIG = 16 * MIB  # of a kernel: one of everything has 1/4


def is_ordinary(path: Path) -> bool:
    """Is it a regular file, and no link to one? What is not there is none."""
    return path.is_file() and not path.is_symlink()


def read(path: Path, limit: int) -> bytes:
    """The content of a regular file of at most `limit` bytes. Raises OSError, whose `strerror` says
    what is wrong, for anything else as well."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    with os.fdopen(descriptor, "rb") as file:
        info = os.fstat(descriptor)
        if stat.S_ISDIR(info.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(info.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        if info.st_size <= limit:
            # it may grow while it is read; None is what /proc has where another would wait
            data = file.read(limit + 1) or b""
            if len(data) <= limit:
                return data
        raise OSError(errno.EFBIG, f"it is larger than {limit // 1024} KiB", str(path))
