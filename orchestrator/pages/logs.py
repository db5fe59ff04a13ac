# SPDX-License-Identifier: GPL-2.0-only
"""A console or a kernel log as a page shows it: crashes and refusals marked, not too long. Pure."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby

from orchestrator.kernelreports import crash_title, refusals, reports

MOST = 200_000  # characters of a log that stand in a page
_BEFORE = MOST // 4  # of them, so many before the first mark
_CONTEXT = 12  # lines that a crash is shown with, of those before it
_LONGEST = 2_000  # of one line


class Mark(StrEnum):
    NONE = ""
    CRASH = "report"  # a line that opens a kernel's report
    REFUSAL = "refusal"  # in which livepatch or the module loader refuses something


@dataclass(frozen=True, slots=True)
class Chunk:
    """Lines in a row that are marked alike; of those that are marked, one alone."""

    mark: Mark
    text: str
    number: int = 0  # of the mark in this log, from 1


@dataclass(frozen=True, slots=True)
class Log:
    title: str  # of the first crash; empty: there is none
    head: tuple[Chunk, ...]  # what comes well before the first crash
    chunks: tuple[Chunk, ...]
    before: int  # lines left out above
    after: int  # and below

    @property
    def marked(self) -> list[Chunk]:
        return [chunk for chunk in (*self.head, *self.chunks) if chunk.mark]

    @property
    def head_lines(self) -> int:
        return sum(chunk.text.count("\n") + 1 for chunk in self.head)


def log(text: str) -> Log:
    """What of a log is shown: all of it, or what is around the first crash, or its end."""
    lines = [line[:_LONGEST] for line in text.splitlines()]
    crash = next((i for i, line in enumerate(lines) if _mark(line) is Mark.CRASH), len(lines))
    first, end = _window(lines, crash)
    start = max(first, crash - _CONTEXT) if crash < len(lines) else first
    head = tuple(_chunks(lines[first:start]))
    numbered = sum(chunk.number > 0 for chunk in head)
    chunks = tuple(_chunks(lines[start:end], numbered))
    title = crash_title("\n".join(lines[crash:end])) or ""
    return Log(title, head, chunks, first, len(lines) - end)


def _window(lines: Sequence[str], crash: int) -> tuple[int, int]:
    """[first, end) of the lines that are shown; crash: of the first one, or how many there are."""
    if sum(len(line) + 1 for line in lines) <= MOST:
        return 0, len(lines)
    first, end = crash, crash
    room = _BEFORE if crash < len(lines) else MOST
    while first > 0 and (room := room - len(lines[first - 1]) - 1) >= 0:
        first -= 1
    room = MOST - _BEFORE
    while end < len(lines) and (room := room - len(lines[end]) - 1) >= 0:
        end += 1
    return first, end


def _chunks(lines: Sequence[str], number: int = 0) -> Iterator[Chunk]:
    for mark, group in groupby(lines, _mark):
        if mark is Mark.NONE:
            yield Chunk(mark, "\n".join(group))
            continue
        for line in group:
            number += 1
            yield Chunk(mark, line, number)


@functools.lru_cache(maxsize=1 << 14)
def _mark(line: str) -> Mark:
    """Guests that are restored from one snapshot say the same again and again."""
    if reports(line):
        return Mark.CRASH
    return Mark.REFUSAL if refusals(line) else Mark.NONE
