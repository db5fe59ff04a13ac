# SPDX-License-Identifier: GPL-2.0-only
"""The one way in which a command keeps its results: a directory that it holds while it is at work,
with documents that are replaced whole. What is in the documents is its own: `directory`,
`explored`, `tried`, `card`."""

from __future__ import annotations

import abc
import contextlib
import errno
import itertools
import os
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self, TypeVar

from pydantic import TypeAdapter, ValidationError

from orchestrator.errors import HarnessError, MissingTool, UsageError, exit_of
from orchestrator.host import files, locks, ours, standing
from orchestrator.report import resultsjson
from orchestrator.verdicts import Run

T = TypeVar("T")

LOCK = ".lock"
INTERRUPTED = "interrupted"
_CHOOSE = "choose another with -o DIR"
# Of the documents, what a kill leaves.
_FRESH = re.compile(r"\d{4}-\d\d-\d\d-\d{6}(\.\d+)?", re.ASCII)
_HALF = re.compile(
    r"\.(?:(?:results|explore|trials|prefixes)\.json|junit\.xml|results\.ktap)\.\w+\.partial"
)


class Store(abc.ABC):
    """A results directory while its command is at work: nobody else writes to it from the moment it
    is made until its block ends. How the block ended is written down then.

    A command that is refused before anything ran leaves nothing: the same command, once it can be
    carried out, finds the place free.
    """

    DOCUMENTS: ClassVar[tuple[str, ...]]  # what it writes; by the first it is known

    def __init__(self, path: Path, *, resume: bool = False) -> None:
        """resume: the directory may hold what was begun before. Raises UsageError when it has
        something else in it or cannot be made, HarnessError when a file cannot be written."""
        self.path = path.absolute()
        self.kept = True  # False: nothing was left
        self._made = not os.path.lexists(self.path) or is_fresh(self.path)
        with contextlib.ExitStack() as claim:
            document = self.DOCUMENTS[0] if resume else ""
            self._begun = claim.enter_context(claimed(self.path, document))
            self._open()
            self._claim = claim.pop_all()

    @abc.abstractmethod
    def _open(self) -> None:
        """The directory is ours: take up what was `_begun`, or begin."""

    @abc.abstractmethod
    def _end(self, err: BaseException | None) -> None:
        """Write that it has ended; trouble: what ended it early."""

    @property
    @abc.abstractmethod
    def _idle(self) -> bool:
        """Has nothing run yet?"""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        err: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._claim:
            refused = isinstance(err, UsageError | MissingTool)
            if refused and self._idle and not self._begun:
                self._withdraw()
            else:
                self._end(err)

    def _withdraw(self) -> None:
        """Take the documents away, and the directory if it was made for them; whatever else came to
        lie there stays, and so does what it lies in."""
        self.kept = False
        real = self.path.resolve()  # -o may be a link to the directory
        with write_errors(self.path):
            for name in self.DOCUMENTS:
                ours.remove(real / name, within=real)
            if self._made:
                ours.removed(self.path, self.path, lambda place: not is_blank(place))


def why_ended(err: BaseException | None) -> str:
    """What ended a command early, in words; "" where nothing did."""
    if err is None:
        return ""
    if isinstance(err, KeyboardInterrupt):
        return INTERRUPTED
    return str(err) or type(err).__name__


def ended_by(run: Run, err: BaseException | None) -> Run:
    """The run as it ends now; None: at its end."""
    code = 0 if err is None else int(exit_of(err))
    why = why_ended(err)
    return replace(run, finished=time.time(), trouble=why, trouble_exit=code)


def write(path: Path, text: str, mode: int = 0o644, *, sync: bool = False) -> None:
    """Replace a file atomically; characters that UTF-8 cannot carry are escaped.

    sync: it is on the disk before the old one goes, for what cannot be had again after power loss.
    Raises HarnessError, NotOurs where a link or a directory is.
    """
    with write_errors(path), ours.replacing(path, mode, sync=sync) as partial:
        partial.write_text(text, encoding="utf-8", errors="backslashreplace", newline="")


def load_document(file: Path, shape: TypeAdapter[T], command: str) -> T:
    """A document that `command` wrote into its directory. Raises UsageError."""
    try:
        text = files.read(file, files.TEXT)
        read = shape.validate_json(text, strict=True)
    except OSError as err:
        raise UsageError(
            f"cannot read {file}: {err.strerror}", hint=f"give a directory of `{command}`"
        ) from err
    except ValidationError as err:
        hint = "was it written by another version of klp-e2e?"
        raise resultsjson.misshapen(err, str(file), hint) from err
    resultsjson.parsed(text, str(file))
    return read


@contextlib.contextmanager
def claimed(path: Path, document: str = "") -> Iterator[bool]:
    """A directory for results: ours, and nobody else writes to it until the block ends.

    document: it may hold what was begun before, if this file is among it; the block is told whether
    that is so. Else it is empty. Raises UsageError.
    """
    begun = bool(document) and os.path.lexists(path / document)
    if not begun:
        prepare(path)
    with contextlib.ExitStack() as stack:
        with place_errors(path):
            try:
                stack.enter_context(standing.at_work(path))
                stack.enter_context(locks.held(path / LOCK))
            except locks.Busy as busy:
                raise UsageError(
                    f"another klp-e2e is at work in {path}",
                    hint="wait until it has ended, or choose another with -o DIR",
                ) from busy
        if not begun:
            prepare(path)  # nobody was here between the two
        real = path.resolve()
        for partial in [*filter(is_half_written, real.iterdir())] * ours.marked(real):
            ours.remove(partial, within=real)
        yield begun


def prepare(path: Path) -> None:
    """Make an empty directory for results, which says that it is ours. Documents that a kill left
    half written do not count. Raises UsageError."""
    with place_errors(path):
        ours.lasting(Path(os.path.realpath(path)), _CHOOSE)  # links in a circle are told below
        path.mkdir(parents=True, exist_ok=True)
        ours.make(path, ours.MarkKind.RESULTS, hint=_CHOOSE)
        occupied = not is_blank(path)
        writable = os.access(path, os.W_OK | os.X_OK)
    if occupied:
        raise UsageError(
            f"the results directory {path} is not empty", hint=f"{_CHOOSE}, or remove it"
        )
    if not writable:
        raise UsageError(f"no permission to write to {path}", hint=_CHOOSE)


def is_blank(place: Path) -> bool:
    """Is there nothing in a results directory but what every one begins with? Raises OSError."""
    known = (ours.MARK, LOCK)
    return place.is_dir() and all(
        (each.name in known and files.is_ordinary(each)) or is_half_written(each)
        for each in place.iterdir()
    )


def fresh(within: Path) -> Path:
    """A new directory named after the time, and after those that were made in the same second.
    Raises UsageError."""
    first = within / time.strftime("%Y-%m-%d-%H%M%S")
    with place_errors(within):
        within.mkdir(parents=True, exist_ok=True)
        for number in itertools.count(1):
            place = first if number == 1 else first.with_name(f"{first.name}.{number}")
            with contextlib.suppress(FileExistsError):
                place.mkdir()
                return place
    raise AssertionError("numbers do not end")


def is_fresh(place: Path) -> bool:
    """Is it as `fresh` makes one, called so and empty?"""
    called = _FRESH.fullmatch(place.name) is not None and not place.is_symlink()
    return called and place.is_dir() and not any(place.iterdir())


def is_half_written(path: Path) -> bool:
    return _HALF.fullmatch(path.name) is not None and path.is_file() and not path.is_symlink()


@contextlib.contextmanager
def place_errors(path: Path) -> Iterator[None]:
    """A directory that cannot be used is UsageError."""
    try:
        yield
    except OSError as err:
        raise UsageError(f"cannot write results to {path}: {err.strerror}", hint=_CHOOSE) from err


@contextlib.contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """A file that cannot be written is HarnessError."""
    try:
        yield
    except OSError as err:
        full = "the disk is full: " * (err.errno in (errno.ENOSPC, errno.EDQUOT))
        raise HarnessError(
            f"cannot write {path}: {err.strerror}",
            hint=f"{full}what was written before is still valid",
        ) from err
