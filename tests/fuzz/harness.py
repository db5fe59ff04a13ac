# SPDX-License-Identifier: GPL-2.0-only
"""One input for one reader, within limits: it may return, or raise a KlpError; nothing else."""

from __future__ import annotations

import faulthandler
import resource
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from mutate import Way

from orchestrator.errors import KlpError

SECONDS = 5.0  # of the processor, an input: on a busy machine the clock says nothing
WAITING = 60.0  # seconds after which a reader that does nothing waits for ever
MEMORY = 768 << 20  # bytes beyond what the process has
HOPELESS = 120  # seconds after which it is in C code that no signal ends: the process goes


@dataclass(frozen=True)
class Reader:
    """read: gets an input and a directory of its own for it. big: what would take long or much if
    it could, made by code."""

    name: str
    samples: Callable[[], Sequence[bytes]]
    ways: Sequence[Way]
    read: Callable[[bytes, Path], object]
    big: Callable[[], Sequence[bytes]] = tuple


class TookTooLong(BaseException):
    pass


_TIMERS = (
    (signal.SIGPROF, signal.ITIMER_PROF, SECONDS),
    (signal.SIGALRM, signal.ITIMER_REAL, WAITING),
)


@contextmanager
def limits() -> Iterator[None]:
    """Of memory, for as many inputs as come; and of time in C code."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, hard))
    before = [signal.signal(number, _late) for number, _timer, _seconds in _TIMERS]
    try:
        yield
    finally:
        _stop()
        faulthandler.cancel_dump_traceback_later()
        for (number, _timer, _seconds), handler in zip(_TIMERS, before, strict=True):
            signal.signal(number, handler)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _late(number: int, frame: FrameType | None) -> None:
    raise TookTooLong(f"{SECONDS:g} s" if number == signal.SIGPROF else f"{WAITING:g} s of waiting")


def _stop() -> None:
    for _number, timer, _seconds in _TIMERS:
        signal.setitimer(timer, 0)


def fault(reader: Reader, data: bytes, place: Path) -> str:
    """What went wrong, "" if nothing did. Within `limits`."""
    faulthandler.dump_traceback_later(HOPELESS, exit=True)
    for _number, timer, seconds in _TIMERS:
        signal.setitimer(timer, seconds)
    try:
        reader.read(data, place)
    except KlpError as refused:
        return "" if str(refused).strip() else "it was refused without a word"
    except TookTooLong as late:
        return f"it took more than {late}\n{traceback.format_exc(limit=-6)}"
    except Exception:
        return traceback.format_exc(limit=-8)
    finally:
        _stop()
    return ""
