# SPDX-License-Identifier: GPL-2.0-only
"""Room on this machine: for guests side by side, on the disk, and for one night at a time."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil

from orchestrator.errors import HarnessError
from orchestrator.history import files
from orchestrator.host import workdir
from orchestrator.nouns import Arch
from orchestrator.report.directory import told

BESIDE = 400 << 20  # bytes that a guest takes besides its memory: QEMU, our own process, its files


def guests(arches: Sequence[Arch]) -> int:
    """How many may run side by side: one a core, as far as free memory goes; at least one."""
    largest = max((arch.memory_mb << 20 for arch in arches), default=0) + BESIDE
    cores = len(os.sched_getaffinity(0))
    return max(1, min(cores, psutil.virtual_memory().available // largest))


def lacks(place: Path, gib: float) -> str:
    """Why nothing more should be begun, "" where so many GiB are free: of the night's directory,
    and of the cache, into which kernels are built."""
    for path in (place, workdir.cache_root()):
        free = shutil.disk_usage(path).free / workdir.GIB
        if free < gib:
            return f"{path} has {free:.1f} GiB free, and {gib:g} are to stay free"
    return ""


def prune(place: Path, keep: int, current: str) -> tuple[str, ...]:
    """Remove the files of all but the newest nights, and never those of `current`; their names.
    The history keeps what they were. Raises HarnessError."""
    nights = [path for path in files.nights(place) if path.name != current]
    old = nights[: max(0, len(nights) - max(0, keep - 1))]
    for path in old:
        with told(path):
            shutil.rmtree(path)
    return tuple(path.name for path in old)


def make(place: Path, gib: float, current: str) -> str:
    """Like `lacks`, after the oldest nights have made room for this one as far as they can."""
    while why := lacks(place, gib):
        if not prune(place, len(list(files.nights(place))) - 1, current):
            return why
    return ""


@contextlib.contextmanager
def alone(wait: bool, say: Callable[[str], None]) -> Iterator[None]:
    """Hold this machine for one night. Raises HarnessError when another one runs, unless `wait`."""
    mine = workdir.state_dir() / "nightly"

    def busy(_line: str) -> None:
        if not wait:
            raise HarnessError(
                "another night runs on this machine",
                hint="--wait waits until it has ended",
            )
        say("another night runs on this machine; waiting for it")

    with workdir.locked(mine, busy):
        yield
