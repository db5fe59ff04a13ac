# SPDX-License-Identifier: GPL-2.0-only
"""What is being done, line by line, for who asks with `-v` or `-vv`: standard `logging` to stderr.

Each module logs by its own name. INFO: processes, build steps, the stages of a boot, the end of a
guest. DEBUG: what goes to QEMU, agent and SSH, and what comes back; what the guest prints.
"""

from __future__ import annotations

import contextlib
import logging
import re
import sys

from orchestrator.errors import HarnessError
from orchestrator.plain import one_line
from orchestrator.report.terminal import tell

LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)  # by how often -v was given
SHOWN = 500  # characters of a DEBUG line: an answer may have a million
_OURS = __name__.partition(".")[0]
_PASSWORD = re.compile(r"(?<=://)[^/@\s]+@")  # in a URL: what is logged goes into bug reports


class _Line(logging.Formatter):
    """`   12.345 vm.machine[guest_0] s390x: QEMU answers`; the time is in seconds since the
    start. One line, whatever others have said."""

    def format(self, record: logging.LogRecord) -> str:
        said = record.getMessage()
        if record.levelno <= logging.DEBUG and len(said) > SHOWN:
            said = f"{said[:SHOWN]}... ({len(said)} characters)"
        said = one_line(_PASSWORD.sub("***@", said))
        module = record.name.removeprefix(f"{_OURS}.")
        thread = "" if record.threadName == "MainThread" else f"[{record.threadName}]"
        return f"{record.relativeCreated / 1000:9.3f} {module}{thread} {said}"


class _Stderr(logging.Handler):
    """Lines on whatever stderr is at the time: above the bars of `progress` while they are there.
    That nobody can read them ends no run."""

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(HarnessError, BrokenPipeError):
            tell(self.format(record), sys.stderr)


_HANDLER = _Stderr()
_HANDLER.setFormatter(_Line())


def show(verbosity: int) -> None:
    """Show what is logged from now on: 1 INFO, 2 or more DEBUG as well, 0 nothing more."""
    ours = logging.getLogger(_OURS)
    ours.setLevel(LEVELS[min(verbosity, len(LEVELS) - 1)])
    ours.addHandler(_HANDLER)
