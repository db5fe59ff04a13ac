# SPDX-License-Identifier: GPL-2.0-only
"""A kernel's tree that is built in where it lies: what a builder wants that knows no O=.

CACHE/livepatch-trees/ARCH-KEY/tree/   one for each kernel: what was compiled in it serves the next
                                       patch; with .config as the kernel's own
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import BuildError, UsageError
from orchestrator.host import ours, pruning, workdir
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
    origin: SourceTree,
    written: Collection[str],
    *,
    say: Callable[[str], None],
) -> Iterator[BuildTree]:
    """The tree of a finished kernel, its series on it, locked.

    origin: the source of that kernel, as it was when the kernel was built. written: the relative
    paths that a builder writes to. They are files of the tree's own, no links to those of the
    source, and are again as they were when the block has ended. Of a build that was killed nothing
    is kept. A tree in which somebody has worked since the last build is put aside. Raises
    UsageError, PatchError, HarnessError.
    """
    patched = series.apply(
        origin.directory, [series.resolve(name, origin.kernel) for name in kernel.series]
    )
    kept = {**_as_they_are(origin, written), **patched}
    found = BuildTree(workdir.cache_root() / "livepatch-trees" / f"{arch.name}-{kernel.key[:16]}")
    with workdir.locked(found.root, say), workdir.disk_errors(f"{found.root} cannot be used"):
        workdir.require_space(workdir.cache_root(), GIB, "building a livepatch")
        pruning.keep_work(found.root, say)
        workdir.own(found.root)
        if found.unfinished.exists():
            say("the last build of a livepatch for this kernel was killed: starting afresh")
            for each in (found.source, found.made):
                ours.remove(each, within=found.root)
        found.unfinished.touch()
        ours.remove(found.made, within=found.root)
        found.made.mkdir()
        worktree.sync(origin, kept, found.source, lambda: sources.check_unchanged(origin))
        _stays_inside(origin, found.source)
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
    """What is there, and what is not, under these names in the source: of a link what it leads to,
    for nothing is to be written through it."""
    found = {}
    for name in names:
        path = origin.directory / name
        for above in path.parents[: name.count("/")]:
            if above.is_symlink():
                raise _leads_out(origin, above.relative_to(origin.directory), path.resolve())
        there = path.is_file()
        executable = there and bool(path.stat().st_mode & 0o100)
        found[name] = Patched(path.read_bytes() if there else None, executable)
    return found


def _stays_inside(origin: SourceTree, tree: Path) -> None:
    """Raises UsageError where a build in the tree would write elsewhere, through a link of the
    source's; what only is read there, a file, may lie anywhere."""
    top = os.path.realpath(tree)
    for name in sources.listing(origin):
        if (tree / name).is_symlink():
            goal = Path(os.path.realpath(tree / name))
            if not goal.is_relative_to(top) and not goal.is_file():
                raise _leads_out(origin, Path(name), goal)


def _leads_out(origin: SourceTree, link: Path, goal: Path) -> UsageError:
    return UsageError(
        f"{link} of {origin.spec} is a link to {goal}: what is built in a tree would be written "
        "there",
        hint="have a copy there in the place of the link",
    )


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
