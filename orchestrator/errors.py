# SPDX-License-Identifier: GPL-2.0-only
"""Every exception this project raises on purpose, its exit code and its hint.

    KlpError
    ├── UsageError        2    the caller asked for something that cannot be
    ├── BuildError        3    kernel, modules or guest image could not be built
    │   ├── PatchError    3    a patch does not apply
    │   └── ConfigError   3    the kernel dropped a requested option
    └── HarnessError      4    the machine we run on, or our own harness
        ├── MissingTool   4    a host program is not installed
        ├── GuestLost     4    QEMU died, or the guest stopped answering
        ├── NoHistory     4    the nights' database cannot be used now
        └── OutOfTime     4    a deadline passed

What the *kernel* does wrong is never an exception: it is a `Check` that failed (exit code 1).
"""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path


class Exit(IntEnum):
    """Process exit codes, documented in README.md and docs/reference/exit-codes.md."""

    GOOD = 0
    TEST_FAILURE = 1
    USAGE = 2
    BUILD = 3
    HARNESS = 4
    INTERRUPTED = 130


def exit_of(err: BaseException) -> Exit:
    """The exit code of a command that this ends."""
    if isinstance(err, KlpError):
        return err.exit_code
    return Exit.INTERRUPTED if isinstance(err, KeyboardInterrupt) else Exit.HARNESS


class KlpError(Exception):
    """One clear message and, in `hint`, what to do about it."""

    exit_code = Exit.HARNESS

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    @property
    def full_message(self) -> str:
        """Message and hint, for where only one text goes."""
        return f"{self}; {self.hint}" if self.hint else str(self)


class UsageError(KlpError):
    """Wrong input from the person at the terminal."""

    exit_code = Exit.USAGE


class BuildError(KlpError):
    """Something could not be built; `log` names the file with the compiler's output, if any."""

    exit_code = Exit.BUILD

    def __init__(self, message: str, hint: str = "", log: str = "") -> None:
        super().__init__(message, hint)
        self.log = log


class PatchError(BuildError):
    """A patch of a series does not apply; the message names patch, file and hunk."""


class ConfigError(BuildError):
    """The final `.config` lacks what was requested; the message names option and dependency.

    `final`: that `.config`, where it came so far.
    """

    def __init__(self, message: str, hint: str = "", log: str = "", final: str = "") -> None:
        super().__init__(message, hint, log)
        self.final = final


class HarnessError(KlpError):
    """The machine, or our own code; never the kernel under test.

    `argv`: the command line of the QEMU whose boot or life this ended, if any.
    """

    exit_code = Exit.HARNESS
    argv: tuple[str, ...] = ()


class MissingTool(HarnessError):
    """A host program is missing; the hint is the line that installs it."""


class NoHistory(HarnessError):
    """The nights' database is locked, read-only, or of a newer klp-e2e. It stops nothing: results
    are files first, and what is said of them then goes without the nights before."""


class GuestLost(HarnessError):
    """QEMU ended, or guest or channel went silent. `console`: its last lines; `crash`: the title of
    the oops or panic that the kernel reported there, if any. `silent`: QEMU lives, the guest does
    not answer. `ended`: QEMU has ended, other than by us for a console that was flooded.

    Whether a lost guest is the kernel's fault is decided by `judge`, from console and QMP events.
    """

    def __init__(
        self,
        message: str,
        hint: str = "",
        console: str = "",
        crash: str | None = None,
        silent: bool = False,
        ended: bool = False,
    ) -> None:
        super().__init__(message, hint)
        self.silent = silent
        self.ended = ended
        self.console = console
        self.crash = crash


class OutOfTime(HarnessError):
    """A deadline passed while waiting for what the message names."""


@contextlib.contextmanager
def foreseen() -> Iterator[None]:
    """Around what looks at a guest: whatever else goes wrong in there is HarnessError, too. Nothing
    that a guest says may end more than its own case."""
    try:
        yield
    except KlpError:
        raise
    except Exception as err:
        last = traceback.extract_tb(err.__traceback__)[-1]
        raise HarnessError(
            f"a mistake of klp-e2e itself: {type(err).__name__}: {str(err)[:200]} "
            f"({Path(last.filename).name}:{last.lineno})",
            hint="please report it",
        ) from err
