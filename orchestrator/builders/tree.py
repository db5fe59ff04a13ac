# SPDX-License-Identifier: GPL-2.0-only
"""A kernel's tree that is built in where it lies: what a builder wants that knows no O=.

CACHE/livepatch-trees/ARCH-KEY/tree/   one for each kernel: what was compiled in it serves the next
                                       patch; with .config as the kernel's own
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import BuildError, UsageError
from orchestrator.host import ours, workdir
from orchestrator.nouns import Arch, Kernel
from orchestrator.source import series, sources, worktree
from orchestrator.source.series import Patched
from orchestrator.source.sources import SourceTree

GIB = 4.0  # with what two builds leave in it


@dataclass(frozen=True, slots=True)
class BuildTree:
    """What belongs together, in one entry of the cache."""

    root: Path

    @property
    def source(self) -> Path:
        return self.root / "tree"

    @property
    def made(self) -> Path:
        """Where a builder is to put what it makes."""
        return self.root / "made"

    @property
    def log(self) -> Path:
        return self.root / "build.log"

    @property
    def unfinished(self) -> Path:
        """Is there while somebody builds."""
        return self.root / "unfinished"


@contextlib.contextmanager
def opened(
    kernel: Kernel,
    arch: Arch,
    written: Collection[str],
    *,
    say: Callable[[str], None],
) -> Iterator[BuildTree]:
    """The tree of a finished kernel, its series on it, locked.

    written: the relative paths that a builder writes to. They are files of the tree's own, no links
    to those of the source, and are again as they were when the block has ended. Of a build that was
    killed nothing is kept. Raises UsageError, PatchError, HarnessError.
    """
    origin = sources.fetch(kernel.source, None, say)
    patched = series.apply(
        origin.directory, [series.resolve(name, origin.kernel) for name in kernel.series]
    )
    kept = {**_as_they_are(origin, written), **patched}
    found = BuildTree(workdir.cache_root() / "livepatch-trees" / f"{arch.name}-{kernel.key[:16]}")
    with workdir.locked(found.root, say), workdir.disk_errors(f"{found.root} cannot be used"):
        workdir.require_space(workdir.cache_root(), GIB, "building a livepatch")
        workdir.own(found.root)
        if found.unfinished.exists():
            say("the last build of a livepatch for this kernel was killed: starting afresh")
            for each in (found.source, found.made):
                ours.remove(each, within=found.root)
        found.unfinished.touch()
        ours.remove(found.made, within=found.root)
        found.made.mkdir()
        worktree.sync(origin, kept, found.source)
        for name in kept:
            _unlink(found.source / name)
        _configure(found.source / ".config", kernel.config)
        found.log.write_text("")
        try:
            yield found
        except (BuildError, UsageError):  # no builder was killed: what it compiled is whole
            _settle(found, origin, kept)
            raise
        _settle(found, origin, kept)


def _settle(tree: BuildTree, origin: SourceTree, kept: Mapping[str, Patched]) -> None:
    worktree.sync(origin, kept, tree.source)
    ours.scrap(tree.unfinished)
    workdir.touch(tree.root)


def _as_they_are(origin: SourceTree, names: Collection[str]) -> Mapping[str, Patched]:
    """What is there, and what is not, under these names in the source."""
    found = {}
    for name in names:
        path = origin.directory / name
        there = path.is_file() and not path.is_symlink()
        executable = there and bool(path.stat().st_mode & 0o100)
        found[name] = Patched(path.read_bytes() if there else None, executable)
    return found


def _unlink(path: Path) -> None:
    """Make a file one of its own, of the same content and time."""
    if path.is_file() and not path.is_symlink() and path.stat().st_nlink > 1:
        with ours.replacing(path, path.stat().st_mode & 0o777) as partial:
            shutil.copy2(path, partial)


def _configure(config: Path, wanted: Path) -> None:
    """The kernel's .config, not written where it is the same: kbuild goes by its time."""
    text = wanted.read_text()
    if not config.is_file() or config.read_text() != text:
        ours.scrap(config)
        config.write_text(text)
