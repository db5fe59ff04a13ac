# SPDX-License-Identifier: GPL-2.0-only
"""How far we are, for the person who waits: bars with an ETA on a terminal, plain lines elsewhere.

Goes to stderr, so that stdout carries results only. May be called from several threads. When nobody
can read it any more, a run goes on without.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column

from orchestrator.report.resultstext import STYLES
from orchestrator.report.terminal import Terminal, silence
from orchestrator.report.verdict import duration
from orchestrator.verdicts import CaseResult

WIDE = 100  # columns of a terminal that has room for all there is to say
LINE_EVERY = 10.0  # seconds between plain lines of one task


class Reporter:
    """A context manager; `advance` moves a bar, `say` leaves a line behind."""

    def __init__(self, console: Terminal) -> None:
        self._console = console
        self._mutex = threading.Lock()
        self._tasks: dict[str, TaskID] = {}
        self._began: dict[str, tuple[float, int]] = {}  # when, and how much was done by then
        self._told: dict[str, float] = {}
        self._gone = False  # whoever looked at it
        self._bars = Progress(
            *_columns(console.width),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> Self:
        self._try(self._bars.start)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        err: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._try(self._bars.stop)

    def say(self, text: str) -> None:
        """One line that stays."""
        self._print(text, markup=False)

    def _print(self, text: str, *, markup: bool) -> None:
        self._try(
            functools.partial(
                self._console.print, text, markup=markup, highlight=False, soft_wrap=True
            )
        )

    def _try(self, show: Callable[[], object]) -> None:
        """A pipe that is closed, a disk that is full, a terminal that is gone end no run."""
        if not self._gone:
            try:
                show()
            except OSError:
                self._gone = True
                silence(self._console.file)

    def begin(self, task: str, done: int, total: int) -> None:
        """From now on its time is taken, of which the first step is a part."""
        with self._mutex:
            if done >= total:
                return
            self._began[task] = time.monotonic(), done
            if self._console.is_terminal:
                if task in self._tasks:
                    self._bars.reset(self._tasks[task])
                self._try(functools.partial(self._bar, task, done, total, ""))

    def advance(self, task: str, done: int, total: int, note: str = "") -> None:
        """`task` has done so many of so many steps; `note`: what else there is to say of it now."""
        with self._mutex:
            now = time.monotonic()
            began, before = self._began.setdefault(task, (now, done))
            if self._console.is_terminal:
                if task in self._tasks and began == now:
                    self._bars.reset(self._tasks[task])
                self._try(functools.partial(self._bar, task, done, total, note))
            elif now - self._told.get(task, began) >= LINE_EVERY or done >= total > 0:
                self._told[task] = now
                line = plain_line(task, done, total, now - began, before)
                self.say(f"{line}; {note}" if note else line)
            if done >= total > 0:  # another kernel's build, for one, begins anew
                self._began.pop(task)
                self._told.pop(task, None)

    def result(self, result: CaseResult, done: int, total: int) -> None:
        """A case has its verdict."""
        name = result.case.title
        style = STYLES[result.status]
        self._print(
            f"[{style}]{result.status:<5}[/] {escape(f'{result.arch} {name}')} "
            f"{result.seconds:.1f} s",
            markup=True,
        )
        self.advance("cases", done, total)

    def _bar(self, task: str, done: int, total: int, note: str) -> None:
        if task not in self._tasks:
            self._tasks[task] = self._bars.add_task(escape(task), total=total, note="")
        self._bars.update(self._tasks[task], completed=done, total=total, note=escape(note))


def _columns(width: int) -> list[ProgressColumn]:
    """Those that fit: where there is little room words are wrapped, and no number is cut."""
    words = TextColumn("{task.description}", table_column=Column(no_wrap=False))
    numbers: list[ProgressColumn] = [
        MofNCompleteColumn(table_column=Column(no_wrap=True)),
        TimeRemainingColumn(table_column=Column(no_wrap=True)),
    ]
    if width < WIDE:
        return [words, *numbers]
    note = TextColumn("{task.fields[note]}", table_column=Column(no_wrap=True))
    return [words, BarColumn(), numbers[0], TimeElapsedColumn(), numbers[1], note]


def plain_line(task: str, done: int, total: int, elapsed: float, before: int = 0) -> str:
    """`building s390x: 120 of 700, about 4 min 10 s left`; `elapsed` in seconds, since
    `before` so many were done."""
    line = f"{task}: {done} of {total}"
    if done >= total:
        return f"{line}, took {duration(elapsed)}"
    here = done - before
    if here > 0.03 * total and elapsed > 0:  # before that it would say more of luck than of time
        line += f", about {duration(elapsed / here * (total - done))} left"
    return line
