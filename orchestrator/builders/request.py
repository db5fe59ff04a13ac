# SPDX-License-Identifier: GPL-2.0-only
"""What a builder is asked for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePath

from orchestrator.nouns import Arch, Kernel
from orchestrator.source.series import Series

_PREFIX = "livepatch-"
_LONGEST = 55  # characters: MODULE_NAME_LEN less the NUL (include/linux/module.h)


@dataclass(frozen=True, slots=True)
class Request:
    """A livepatch that makes of a kernel what a patch makes of its source.

    fix: the patch, or several in their order. replace: it is to replace all livepatches before it.
    """

    kernel: Kernel
    arch: Arch
    fix: Series
    replace: bool

    @property
    def name(self) -> str:
        """Of the .ko, without that: livepatch-NAME, after the patch."""
        stem = PurePath(self.fix.name.partition("#")[0]).stem
        return f"{_PREFIX}{re.sub(r'[^a-zA-Z0-9_-]', '-', stem)}"[:_LONGEST]

    @property
    def patch_files(self) -> tuple[str, ...]:
        """What the patches are called beside the livepatch: NAME.patch, or NAME-1.patch and on."""
        stem = self.name.removeprefix(_PREFIX).lstrip("-") or "source"
        several = len(self.fix.patches) > 1
        numbers = (f"-{n}" * several for n in range(1, len(self.fix.patches) + 1))
        return tuple(f"{stem}{number}.patch" for number in numbers)

    @property
    def files(self) -> tuple[str, ...]:
        """The relative paths that the patches touch."""
        return tuple(sorted({name for one in self.fix.patches for name in one.diff.files()}))
