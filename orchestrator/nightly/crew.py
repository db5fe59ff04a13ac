# SPDX-License-Identifier: GPL-2.0-only
"""Tasks side by side: one lane for builds, which take every core, and some for guests.

Builds and guests overlap; a task waits until it is ready.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum, auto

LOOK_AGAIN = 0.2  # seconds between looks at what may have become ready


class Lane(Enum):
    BUILD = auto()
    GUEST = auto()


@dataclass(frozen=True, slots=True)
class Task:
    lane: Lane
    do: Callable[[], None]
    ready: Callable[[], bool] = lambda: True


class Crew:
    """Takes tasks in the order they were added; `add` may be called by a task."""

    def __init__(self, guests: int) -> None:
        self.stop = threading.Event()
        self._guests = guests
        self._tasks: list[Task] = []
        self._busy = 0
        self._changed = threading.Condition()

    def add(self, task: Task, *, first: bool = False) -> None:
        """`first`: before all that wait."""
        with self._changed:
            self._tasks.insert(0 if first else len(self._tasks), task)
            self._changed.notify_all()

    def run(self) -> None:
        """Until nothing is left to do. On Ctrl-C, and on whatever a task raises, `stop` is set,
        what is under way is waited for, and it comes through."""
        lanes = [Lane.BUILD, *[Lane.GUEST] * self._guests]
        with ThreadPoolExecutor(max_workers=len(lanes)) as pool:
            try:
                for future in [pool.submit(self._work, lane) for lane in lanes]:
                    future.result()
            except BaseException:
                self.stop.set()
                raise

    def _work(self, lane: Lane) -> None:
        try:
            while (task := self._next(lane)) is not None:
                try:
                    task.do()
                finally:
                    with self._changed:
                        self._busy -= 1
                        self._changed.notify_all()
        except BaseException:
            self.stop.set()  # the other lanes end what they do
            raise

    def _next(self, lane: Lane) -> Task | None:
        """The first task of this lane that is ready; None when nobody has anything to do."""
        with self._changed:
            while not self.stop.is_set():
                for task in self._tasks:
                    if task.lane is lane and task.ready():
                        self._tasks.remove(task)
                        self._busy += 1
                        return task
                if not self._tasks and not self._busy:
                    return None
                self._changed.wait(LOOK_AGAIN)
            return None
