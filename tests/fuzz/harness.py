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

SECONDS = 5.0  # of an input; a machine that is busy is slower than any of ours
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


@contextmanager
def limits() -> Iterator[None]:
    """Of memory, for as many inputs as come; and of time in C code."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, hard))
    before = signal.signal(signal.SIGALRM, _late)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _late(number: int, frame: FrameType | None) -> None:
    raise TookTooLong


def fault(reader: Reader, data: bytes, place: Path) -> str:
    """What went wrong, "" if nothing did. Within `limits`."""
    faulthandler.dump_traceback_later(HOPELESS, exit=True)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        reader.read(data, place)
    except KlpError as refused:
        return "" if str(refused).strip() else "it was refused without a word"
    except TookTooLong:
        return f"it took more than {SECONDS:g} s\n{traceback.format_exc(limit=-6)}"
    except Exception:
        return traceback.format_exc(limit=-8)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return ""
