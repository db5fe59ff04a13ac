# SPDX-License-Identifier: GPL-2.0-only
"""What is in the cache, whose it is, and what of it goes."""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from orchestrator.host import inuse, locks, ours, walk, workdir

# kind -> a kernel's tree, the record of what was put there last, and what is there while a build
# goes on in it, and after a kill, when the record tells nothing
_TREES = {
    "trees": ("src", "src.json", None),
    "livepatch-trees": ("tree", "tree.json", "unfinished"),
}

# kind of what has no digests -> the names that klp-e2e, git, apt and ccache give at its top
_TOPS = {
    name: re.compile(rf"{pattern}|{re.escape(ours.MARK)}|\..*\.partial|.*\.lock")
    for name, pattern in {
        "ccache": r"[0-9a-f]|tmp|lock|stats|ccache\.conf.*|CACHEDIR\.TAG",
        "clones": r"tree",
        "debian": r"cache|fetched|lists|sources\.list|.*\.json",
        "git": r"HEAD|[A-Z]+_HEAD|config|description|info|hooks|objects|refs|packed-refs|branches"
        r"|shallow|gc\.(?:log|pid)|logs|worktrees|index",
        "livepatch-trees": r"tree|tree\.json|made|build\.log|unfinished",
        "logs": r".*\.log",
        "trees": r"src|src\.json|build|objects|output|requested\.config|tuxmake\.log",
    }.items()
}


@dataclass(frozen=True, slots=True)
class Entry:
    """`size`: bytes on disk; `used`: seconds since the epoch of the last `touch` or change;
    `ours`: whether it is what klp-e2e has made, and nothing else."""

    kind: str
    name: str
    path: Path
    size: int
    used: float
    ours: bool


def entries(root: Path, touched: Callable[[Path], bool] = lambda _: False) -> tuple[Entry, ...]:
    """Every entry of the cache, leftovers of killed runs (named `.tmp-…`) included.

    touched: has somebody worked in this entry? It is asked of those that nothing else tells of.
    """
    root = root.resolve()  # a link to another disk is as good a cache
    kinds = [root / name for name in workdir.KINDS if (root / name).is_dir()]
    paths = [
        p for kind in kinds for p in ([kind] if kind.name in workdir.WHOLE else kind.iterdir())
    ]
    found = []
    for path in sorted(path for path in paths if path.suffix != ".lock"):
        with contextlib.suppress(FileNotFoundError):  # another prune has just taken it
            used = path.lstat().st_mtime
            kind = path.relative_to(root).parts[0]
            mine = _is_ours(path, root, touched)
            found.append(Entry(kind, path.name, path, size(path), used, mine))
    return tuple(found)


def prune(
    root: Path, older_than_days: float, touched: Callable[[Path], bool] = lambda _: False
) -> tuple[Entry, ...]:
    """Remove the entries not used for that many days, and leftovers of killed runs; returns them.

    What klp-e2e did not make stays, and so does what somebody is at work on (its lock is held) or
    uses: whatever was touched since the oldest of the processes that use the cache began.
    """
    removed = []
    oldest = min(inuse.since(root / inuse.PLACE), time.time() - older_than_days * 86400)
    for entry in entries(root, touched):
        staged = workdir.STAGED.fullmatch(entry.name)
        final = entry.path.with_name(staged["name"]) if staged else entry.path
        if not entry.ours:
            continue
        gone = FileNotFoundError  # by another prune
        with contextlib.suppress(locks.Busy, gone), locks.held(Path(f"{final}.lock")):
            old = staged or entry.path.lstat().st_mtime < oldest
            if old and _is_ours(entry.path, root.resolve(), touched):  # a look at all takes a while
                going = _going(entry)
                ours.remove(going, within=going)
                removed.append(entry)
    return tuple(removed)


def size(path: Path) -> int:
    """Bytes on disk below a path; a file with several hard links counts once."""
    blocks = {}
    for each in (path, *walk.below(path)):
        with contextlib.suppress(FileNotFoundError):  # somebody else's temporary file has gone
            info = each.lstat()
            blocks[info.st_dev, info.st_ino] = info.st_blocks
    return 512 * sum(blocks.values())


def _is_ours(path: Path, root: Path, touched: Callable[[Path], bool]) -> bool:
    mine = ours.proven(path, root) and ours.marked(path, ours.MarkKind.ENTRY)
    going = workdir.STAGED.fullmatch(path.name) is not None
    whole = mine and not walk.mounted(path) and not _has_others(path)
    return whole and (going or not touched(path))


def _going(entry: Entry) -> Path:
    """It gets the name of a leftover: half removed it would look like one somebody works in."""
    if entry.kind in workdir.WHOLE or workdir.STAGED.fullmatch(entry.name):
        return entry.path
    other = entry.path.with_name(f".tmp-{entry.name}.{secrets.token_hex(4)}")
    return entry.path.rename(other)


def _has_others(entry: Path) -> bool:
    """Does an entry hold what klp-e2e has not put there? Of one that is published, files that were
    not published with it, or not so; of one that is filled where it lies, another name at its
    top; of a kernel's tree, what was written to it since it was brought to what it should be."""
    tops = _TOPS.get(entry.name if entry.name in workdir.WHOLE else entry.parent.name)
    if tops is not None and workdir.STAGED.fullmatch(entry.name) is None:
        if any(tops.fullmatch(path.name) is None for path in entry.iterdir()):
            return True
        return bool(_worked_in(entry))
    return workdir.altered(entry)


def keep_work(entry: Path, say: Callable[[str], None]) -> None:
    """Put a kernel's tree aside in which somebody has worked, before a build there: what is built
    would have his changes in it, or lose them. The caller holds its lock. Raises OSError."""
    if tree := _worked_in(entry):
        kept = ours.put_aside(entry, "worked-in")
        say(f"{kept / tree} was worked in: it is kept, and the kernel's tree made anew")


def _worked_in(entry: Path) -> str:
    """The name of the entry's tree where somebody has worked in it, "" where nobody has."""
    if entry.parent.name not in _TREES:
        return ""
    tree, record, busy = _TREES[entry.parent.name]
    if not (entry / record).is_file() or (busy and (entry / busy).exists()):
        return ""
    return tree if worked_in(entry / tree, entry / record) else ""


def worked_in(tree: Path, record: Path) -> bool:
    """Is anything in a kernel's tree newer than the record of what was put there, or at its top not
    in it?

    The top's own time tells nothing: kbuild makes files there, and removes them. Raises OSError.
    """
    then = record.lstat().st_mtime_ns
    try:
        said = json.loads(record.read_text())
        there = {path.name for path in tree.iterdir()}
        if not there <= set(said.get("top", there)):
            return True
    except (ValueError, TypeError, AttributeError):
        return True  # it is none of ours
    return any(_newer(path, then) for path in walk.below(tree))


def _newer(path: Path, then: int) -> bool:
    with contextlib.suppress(FileNotFoundError):  # of a build that goes on
        # a time to come is none at which somebody has worked: the source's files have it
        return then < path.lstat().st_mtime_ns <= time.time_ns()
    return False
