# SPDX-License-Identifier: GPL-2.0-only
"""Room on this machine: for guests side by side, on the disk, and for one night at a time."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from orchestrator.commands.nightly import content
from orchestrator.errors import HarnessError, KlpError, UsageError
from orchestrator.history import files
from orchestrator.history.checked import is_night
from orchestrator.host import ours, pruning, workdir
from orchestrator.nouns import Arch

LOCK = ".night"  # in the place of nights; the file's name ends in .lock
BESIDE = 400 << 20  # bytes that a guest takes besides its memory: QEMU, our own process, its files


def guests(arches: Sequence[Arch]) -> int:
    """How many may run side by side: one a core, as far as free memory goes; at least one."""
    largest = max((arch.memory_mb << 20 for arch in arches), default=0) + BESIDE
    cores = len(os.sched_getaffinity(0))
    return max(1, min(cores, psutil.virtual_memory().available // largest))


def possible(nights: Path, gib: float) -> None:
    """Raises UsageError where no disk that a night writes to is as large as what is to stay free:
    no removal could ever make such room."""
    for path in (nights, workdir.cache_root()):
        here = next(each for each in (path, *path.parents) if each.exists())
        total = shutil.disk_usage(here).total / workdir.GIB
        if gib >= total:
            raise UsageError(
                f"keep_free = {gib:g}: the disk of {path} has {total:.0f} GiB in all",
                hint="keep_free is in GiB",
            )


def disk(path: Path) -> int:
    """By which file systems are told apart."""
    return path.stat().st_dev


@dataclass(frozen=True, slots=True)
class Short:
    """A disk that has too little room."""

    disk: int  # st_dev
    missing: float  # bytes
    told: str


NONE_GIB = 1 / 1024  # less than this: what was written last was not written whole


def lacks(nights: Path, gib: float) -> Short | None:
    """Why nothing more should be begun; None where so many GiB are free: of the nights' disk, and
    of the cache's, into which kernels are built. The cache's first, where they are two."""
    for path in (workdir.cache_root(), nights):
        free = shutil.disk_usage(path).free / workdir.GIB
        if free < gib:
            told = f"{path} has {free:.1f} GiB free, and {gib:g} are to stay free"
            return Short(disk(path), (gib - free) * workdir.GIB, told)
    return None


@dataclass(frozen=True, slots=True)
class Pruned:
    removed: tuple[str, ...]  # names
    troubles: tuple[str, ...]  # a line for each reason why some stay, though their time has come


def prune(nights: Path, keep: int, current: str) -> Pruned:
    """Remove the files of all but the newest nights, and never those of `current`. The history
    keeps what they were. A night that is not wholly ours, or cannot be removed, stays."""
    others = [path for path in files.nights(nights) if path.name != current]
    old = others[: max(0, len(others) - max(0, keep - 1))]
    removed: list[str] = []
    kept: dict[str, list[Path]] = {}  # by the reason
    for path in (*_unbegun(nights, current), *old):
        try:
            why = _remove(path)
            if not why:
                removed.append(path.name)
        except (OSError, KlpError) as err:
            why = str(err)
        if why:
            kept.setdefault(why, []).append(path)
    return Pruned(tuple(removed), tuple(_kept_words(paths, why) for why, paths in kept.items()))


def _kept_words(paths: Sequence[Path], why: str) -> str:
    if len(paths) == 1:
        return f"{paths[0]} is not removed: {why}"
    return f"{paths[0]} and {len(paths) - 1} more are not removed, each since {why}"


def make(nights: Path, gib: float, current: str) -> str:
    """Like `lacks`, in words, after the oldest nights have made room. None is removed where that
    is of no use: where another disk is short, or all of them together are too little."""
    old: list[tuple[Path, int]] | None = None
    while short := lacks(nights, gib):
        if short.disk != disk(nights):
            return short.told
        if old is None:
            others = (path for path in files.nights(nights) if path.name != current)
            old = [(path, pruning.size(path)) for path in others]
            if _room(old) >= short.missing:  # else there is no need to look closer
                old = [(path, size) for path, size in old if not content.foreign(path)]
        if not old or _room(old) < short.missing:
            return f"{short.told}; older nights take too little to be of use"
        path, _ = old.pop(0)
        try:
            why = _remove(path)
        except (OSError, KlpError) as err:
            why = str(err)
        if why:
            return f"{short.told}; {path} cannot be removed: {why}"
    return ""


def _room(nights: Sequence[tuple[Path, int]]) -> int:
    return sum(size for _, size in nights)


def _unbegun(nights: Path, current: str) -> list[Path]:
    """Nights of ours that were killed before their plan was written."""
    found = (path for path in nights.iterdir() if is_night(path.name) and path.name != current)
    kind = ours.MarkKind.NIGHT
    return sorted(p for p in found if ours.marked(p, kind) and not (p / files.NIGHT).exists())


def _remove(night: Path) -> str:
    """Why it is not removed, in words; "" when it is. What tells that it is ours goes last, so that
    one that was half removed goes another time."""
    why = ""
    if not ours.marked(night, ours.MarkKind.NIGHT):
        return content.foreign(night)

    def foreign(place: Path) -> str:
        nonlocal why
        why = content.foreign(place)
        return why

    gone = ours.removed(night, night, foreign)
    return why if gone else why or "somebody has written to it meanwhile"


@contextlib.contextmanager
def alone(
    nights: Path, wait: bool, say: Callable[[str], None], *, part: bool = False
) -> Iterator[None]:
    """Hold this machine for one night, and the place of nights, where another machine, user or
    container may hold one, too. Raises HarnessError when another one runs, unless `wait`.

    part: of a night, which writes nothing there but itself: several machines may have theirs there.
    """
    locks = [(workdir.state_dir() / "nightly", "on this machine")]
    locks += [] if part else [(nights / LOCK, f"in {nights}")]
    with contextlib.ExitStack() as stack:
        for lock, where in locks:

            def busy(_line: str, where: str = where) -> None:
                if not wait:
                    raise HarnessError(
                        f"another night runs {where}",
                        hint="--wait waits until it has ended",
                    )
                say(f"another night runs {where}; waiting for it")

            stack.enter_context(workdir.locked(lock, busy))
        yield
