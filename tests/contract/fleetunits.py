# SPDX-License-Identifier: GPL-2.0-only
"""Units of work for a fleet's tests; workers import them from here. No guest is booted."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.build.prepare import Bootable
from orchestrator.run.site import Site
from orchestrator.run.units import Tell


@dataclass(frozen=True, slots=True)
class Piece:
    """Tells its number, what its kernel's image holds, and by whom it was done."""

    bootable: Bootable
    number: int
    seconds: float = 0.0
    fatal: bool = False  # it kills whoever does it
    mark: Path | None = None  # is there while it is done

    def do(self, site: Site, tell: Tell) -> None:
        if self.fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.mark is not None:
            self.mark.touch()
        end = time.monotonic() + self.seconds
        while time.monotonic() < end and not site.stopped:
            time.sleep(0.01)
        if self.mark is not None:
            self.mark.unlink()
        if not site.stopped:
            tell((self.number, self.bootable.kernel.image.read_text(), os.getpid()))

    def given_up(self, why: str) -> Iterable[Any]:
        return [(self.number, "given up", why)]
