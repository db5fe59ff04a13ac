# SPDX-License-Identifier: GPL-2.0-only
"""Files that were given to us: read whole, and no more of them than was expected.

A name may lead to a device that never ends, a pipe that nobody writes to, or a sparse file of
terabytes.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from orchestrator.errors import UsageError


def read(path: Path, most: int, *, links: bool = True) -> bytes:
    """An ordinary file of at most so many bytes. Raises UsageError for any other, OSError.

    links: whether its name may be one; where not, it is OSError.
    """
    # non-blocking: opening a pipe would wait for its other end
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if links else os.O_NOFOLLOW)
    number = os.open(path, flags)
    with os.fdopen(number, "rb") as file:
        if not stat.S_ISREG(os.fstat(number).st_mode):
            raise UsageError(f"{path} is no ordinary file")
        content = file.read(most + 1)
    if len(content) > most:
        raise UsageError(f"{path} is larger than any such file: more than {most} bytes")
    return content
