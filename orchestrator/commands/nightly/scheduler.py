# SPDX-License-Identifier: GPL-2.0-only
"""Tasks side by side: one pool for builds, which take every core, and some for guests.

Builds and guests overlap; a task waits until it is ready.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum, auto

from orchestrator.run.workers import wait_for

LOOK_AGAIN = 0.2  # seconds between looks at what may have become ready


class Pool(Enum):
    BUILD = auto()
    GUEST = auto()


@dataclass(frozen=True, slots=True)
class Task:
    pool: Pool
    do: Callable[[], None]
    ready: Callable[[], bool] = lambda: True


class Scheduler:
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

    def run_tasks(self) -> None:
        """Until nothing is left to do. On Ctrl-C, and on whatever a task raises, `stop` is set,
        what is under way is waited for, and it comes through."""
        pools = [Pool.BUILD, *[Pool.GUEST] * self._guests]
        with ThreadPoolExecutor(max_workers=len(pools)) as executor:
            try:
                wait_for([executor.submit(self._work, pool) for pool in pools])
            except BaseException:
                self.stop.set()
                raise

    def _work(self, pool: Pool) -> None:
        try:
            while (task := self._next(pool)) is not None:
                try:
                    task.do()
                finally:
                    with self._changed:
                        self._busy -= 1
                        self._changed.notify_all()
        except BaseException:
            self.stop.set()  # the other pools end what they do
            raise

    def _next(self, pool: Pool) -> Task | None:
        """The first task of this pool that is ready; None when nobody has anything to do."""
        with self._changed:
            while not self.stop.is_set():
                for task in self._tasks:
                    if task.pool is pool and task.ready():
                        self._tasks.remove(task)
                        self._busy += 1
                        return task
                if not self._tasks and not self._busy:
                    return None
                self._changed.wait(LOOK_AGAIN)
            return None
