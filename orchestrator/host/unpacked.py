# SPDX-License-Identifier: GPL-2.0-only
"""What was unpacked of packages, before anything else is written, removed or run there."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from orchestrator.host import walk


def tame(root: Path) -> None:
    """Leave of a tree only files, directories and links that stay within it: through any other the
    next package would write, and we would remove, what is not ours. Nothing keeps rights that its
    caller has not. Raises OSError."""
    within = Path(os.path.realpath(root))
    for path in walk.below(root):
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            if not Path(os.path.realpath(path)).is_relative_to(within):
                path.unlink()
        elif not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # a device, a pipe
            path.unlink()
        elif mode & (stat.S_ISUID | stat.S_ISGID):
            path.chmod(stat.S_IMODE(mode) & 0o777)
