# SPDX-License-Identifier: GPL-2.0-only
"""The one way to a terminal, a pipe or a CI's log: whatever is printed goes through here and is
made printable, for nobody knows what of it a guest, a module's file or a bundle has said.

That nobody can read it is never a verdict: it is HarnessError, or BrokenPipeError where the reader
has gone.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator
from typing import IO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from orchestrator.errors import HarnessError
from orchestrator.plain import printable

STREAMS = (0, 1, 2)


class Terminal(Console):
    """Rich's console. Of what it renders only its own colours and movements stay as they are."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield Segment(printable(segment.text), segment.style)

    def on_broken_pipe(self) -> None:
        """Rich would end the program with 1, which here says that the kernel is wrong."""
        raise BrokenPipeError


def tell(text: str, stream: IO[str] | None = None) -> None:
    """Print it, whole lines, on standard output if no stream is given; it has gone out, or been
    refused, when this returns. Raises HarnessError, BrokenPipeError."""
    out = sys.stdout if stream is None else stream
    with _heard(out):
        print(printable(text), file=out, flush=True)


def flush() -> None:
    """What was printed in any other way has gone out. Raises HarnessError, BrokenPipeError."""
    with _heard(sys.stdout):
        sys.stdout.flush()


@contextlib.contextmanager
def _heard(out: IO[str]) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        silence(out)
        raise
    except OSError as err:
        silence(out)
        raise HarnessError(
            f"cannot write what there is to say: {err.strerror}",
            hint="is standard output a file on a full disk? files of results are complete",
        ) from err


def silence(stream: IO[str]) -> None:
    """Whoever read it has gone: Python is not to fail at writing the rest at exit either."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def open_streams() -> None:
    """Where whoever began us has closed one of the three streams, it leads nowhere: a file of ours
    would get its number, and with it what others print. Nothing that is said fails for its
    characters."""
    for number in STREAMS:
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest that is free
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115  # as long as we live
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
