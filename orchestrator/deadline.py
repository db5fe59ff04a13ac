# SPDX-License-Identifier: GPL-2.0-only
"""One point in time, handed down, instead of nested time-outs (labgrid's habit)."""

from __future__ import annotations

import time
from dataclasses import dataclass

from orchestrator.errors import OutOfTime


@dataclass(frozen=True, slots=True)
class Deadline:
    """`at`: seconds on the monotonic clock."""

    at: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """The deadline `seconds` from now."""
        return cls(time.monotonic() + seconds)

    def left(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self.at - time.monotonic())

    @property
    def passed(self) -> bool:
        return time.monotonic() >= self.at

    def sooner(self, seconds: float) -> Deadline:
        """The earlier of this deadline and `seconds` from now."""
        return Deadline(min(self.at, time.monotonic() + seconds))

    def check(self, waiting_for: str) -> float:
        """Seconds left; raises OutOfTime, naming `waiting_for`, once there are none."""
        if self.passed:
            raise OutOfTime(f"time ran out while waiting for {waiting_for}")
        return self.left()
