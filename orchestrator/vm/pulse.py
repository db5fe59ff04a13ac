# SPDX-License-Identifier: GPL-2.0-only
"""Whether a guest was let stand still: its QEMU was stopped by a signal, or this whole host, or
container, was.

The guest's clock goes on meanwhile. When it is let go its kernel sees stalls and hung tasks, and a
transition has not ended in its time: what is wrong then need not be the kernel's fault.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

STILL_SECONDS = 5.0  # less is no matter: RCU waits for 21 s (CONFIG_RCU_CPU_STALL_TIMEOUT)
BEAT_SECONDS = 0.1
_STOPPED = ("T", "t")  # proc(5), of /proc/PID/stat: by a signal, by a tracer


class Pulse:
    """Of one process. Made by `felt`."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._moved = time.monotonic()  # when it was last seen not to stand still
        self._stood: list[tuple[float, float]] = []  # (until when, seconds)

    def stood_still(self, since: float) -> float:
        """For how many seconds it did, at times that had not ended at `since` (monotonic)."""
        now = time.monotonic()
        times = [*self._stood, (now, now - self._moved)]
        return sum(long for end, long in times if end >= since and long > STILL_SECONDS)

    def feel(self) -> None:
        """To be called often: nobody who stands still himself calls it meanwhile."""
        if self._stopped():
            return
        now = time.monotonic()
        if now - self._moved > STILL_SECONDS:
            self._stood.append((now, now - self._moved))
        self._moved = now

    def _stopped(self) -> bool:
        try:
            stat = Path(f"/proc/{self._pid}/stat").read_text(errors="replace")
        except OSError:
            return False  # it has ended
        return stat.rpartition(") ")[2].startswith(_STOPPED)


@contextlib.contextmanager
def felt(pid: int) -> Iterator[Pulse]:
    """The pulse of a process, felt until the block ends."""
    pulse, leave = Pulse(pid), threading.Event()

    def feel() -> None:
        while not leave.wait(BEAT_SECONDS):
            pulse.feel()

    feeler = threading.Thread(target=feel, name="pulse", daemon=True)
    feeler.start()
    try:
        yield pulse
    finally:
        leave.set()
        feeler.join()
