# SPDX-License-Identifier: GPL-2.0-only
"""The bytes between us and a program's three pipes, moved by one loop so that none can block
another (reading one stream to its end before the other deadlocks)."""

from __future__ import annotations

import contextlib
import os
import selectors
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO

from orchestrator.deadline import Deadline

TAIL_BYTES = 64 * 1024  # kept in memory of each stream when a log takes the whole
LINE_BYTES = 1 << 20  # a longer line is handed to on_line in pieces
CHUNK_BYTES = 1 << 16


@dataclass
class Stream:
    """One output pipe being read: what is kept in memory, and lines on their way to on_line."""

    bounded: bool
    on_line: Callable[[str], None] | None
    kept: bytearray = field(default_factory=bytearray)
    line: bytearray = field(default_factory=bytearray)

    def feed(self, data: bytes) -> None:
        self.kept += data
        if self.bounded and len(self.kept) > 2 * TAIL_BYTES:
            del self.kept[:-TAIL_BYTES]
        if self.on_line is not None:
            self.line += data
            *lines, rest = self.line.split(b"\n")
            self.line = bytearray(rest)
            if len(rest) > LINE_BYTES:
                lines, self.line = [*lines, rest], bytearray()
            for line in lines:
                self.on_line(line.decode(errors="replace"))

    def text(self) -> str:
        if self.line and self.on_line is not None:
            self.on_line(self.line.decode(errors="replace"))
            self.line.clear()
        kept = self.kept[-TAIL_BYTES:] if self.bounded else self.kept
        return kept.decode(errors="replace")


def close_quietly(pipe: IO[bytes]) -> None:
    with contextlib.suppress(BrokenPipeError):
        pipe.close()


def until_end(
    program: str,
    has_exited: Callable[[], bool],
    selector: selectors.BaseSelector,
    sink: IO[bytes] | None,
    deadline: Deadline | None,
) -> None:
    """Move bytes until the program has ended and its pipes are at their end, or silent though a
    process left behind holds them open."""
    silent_since = time.monotonic()
    while True:
        if deadline is not None:
            deadline.check(f"{program} to end")
        if not selector.get_map():
            if has_exited():
                return
            time.sleep(0.01)
            continue
        ready = selector.select(min(0.2, deadline.left()) if deadline else 0.2)
        for key, _ in ready:
            if isinstance(key.data, memoryview):
                _write(selector, key)
                continue
            data = os.read(key.fd, CHUNK_BYTES)
            if not data:
                selector.unregister(key.fileobj)
                continue
            if sink is not None:
                sink.write(data)
                sink.flush()
            key.data.feed(data)
        if ready:
            silent_since = time.monotonic()
        elif has_exited() and time.monotonic() - silent_since > 1.0:
            return


def _write(selector: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
    """Give the program more of its input; close the pipe after the last byte."""
    pipe = key.fileobj
    assert not isinstance(pipe, int)
    try:
        left = key.data[os.write(key.fd, key.data[:CHUNK_BYTES]) :]
    except BrokenPipeError:  # it does not want the rest, which is its right
        left = key.data[:0]
    if left:
        selector.modify(pipe, selectors.EVENT_WRITE, left)
    else:
        selector.unregister(pipe)
        close_quietly(pipe)  # type: ignore[arg-type]  # the stub says HasFileno
