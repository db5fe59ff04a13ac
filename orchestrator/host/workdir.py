# SPDX-License-Identifier: GPL-2.0-only
"""Directories: the cache and its entries, what is in use of it; the state.

The cache is `ROOT/KIND/NAME/`. An entry comes into being whole: it is filled as `.tmp-NAME.RANDOM`
beside its final place, gets `digests.json`, is flushed to disk and renamed. What a killed run left
behind is a `.tmp-` directory and never looks finished. Root and entries say that they are ours
(see `ours`): what does not is never removed.

An entry is in use while a process lives that has touched it (see `inuse`).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import glob
import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import platformdirs

from orchestrator.errors import HarnessError, UsageError
from orchestrator.host import inuse, locks, ours, walk

log = logging.getLogger(__name__)

APP = "klp-e2e"
DIGESTS = "digests.json"
CCACHE = "ccache"  # a kind that is one entry: what is in it is ccache's own business
GIB = 1 << 30
LOGS = "logs"  # another one
DEBIAN = "debian"  # and another: what apt's lists said
KINDS = (
    *(
        "builders",
        "ccache",
        "clones",
        "configured",
        "debian",
        "emulators",
        "fleet",
        "git",
        "guest",
        "kernels",
        "layouts",
        "livepatch-trees",
        "livepatches",
        "logs",
        "modules",
    ),
    *("no-config", "selftests", "sources", "trees"),
)
WHOLE = (CCACHE, LOGS, DEBIAN)
_FILLED_IN_PLACE = {
    "clones": "tree",
    "git": "HEAD",
    "livepatch-trees": "tree",
    "trees": "src",
}  # kind -> what is in an entry
STAGED = re.compile(r"\.tmp-(?P<name>.+)\.[a-z0-9_]{8}")  # tempfile's eight characters

_HINTS = {
    errno.ENOSPC: "free some space, run `klp-e2e cache prune`, or set KLP_E2E_CACHE, or TMPDIR, "
    "elsewhere",
    errno.EDQUOT: "your disk quota is used up: run `klp-e2e cache prune`, or set KLP_E2E_CACHE",
    errno.EACCES: "set KLP_E2E_CACHE to a directory you may write to",
    errno.EPERM: "set KLP_E2E_CACHE to a directory you may write to",
    errno.ENOENT: "somebody has removed it meanwhile: run again, what is missing is made anew",
    **dict.fromkeys((errno.ELOOP, errno.EISDIR), "a file of klp-e2e belongs there: move it away"),
    errno.EROFS: "the file system is read-only: set KLP_E2E_CACHE to a directory on another",
    errno.EIO: "the disk fails: dmesg tells more; set KLP_E2E_CACHE, or TMPDIR, to another",
    errno.EFBIG: "a file may not be so large here: `ulimit -f` shows the limit",
}


@contextlib.contextmanager
def disk_errors(doing: str) -> Iterator[None]:
    """Turn a full disk, a missing permission, a file that has gone and their like into
    HarnessError with a hint."""
    try:
        yield
    except OSError as err:
        if err.errno not in _HINTS:
            raise
        where = f": {err.filename}" if err.filename else ""
        raise HarnessError(f"{doing}: {err.strerror}{where}", hint=_HINTS[err.errno]) from err


def cache_root(*, using: bool = True) -> Path:
    """$KLP_E2E_CACHE, else the user's cache directory; made if need be, mode 0700.

    using: from now on this process uses what it touches there. Raises NotOurs for a directory that
    klp-e2e did not make, UsageError for one in which kbuild does not build, HarnessError when it
    cannot be written to.
    """
    named = os.environ.get("KLP_E2E_CACHE")
    root = _root("KLP_E2E_CACHE", platformdirs.user_cache_path)
    # the top Makefile of a kernel's source; and tuxmake, which hands on make's words
    if re.search(r"[\s:\ud800-\udfff]", str(root)):
        raise UsageError(
            f"kbuild builds in no directory with a blank or a colon in its path, and in none whose "
            f"path is not UTF-8: {root}",
            hint="set KLP_E2E_CACHE to another directory",
        )
    if not named:
        _adopt(root, ours.MarkKind.CACHE, frozenset({*KINDS, inuse.PLACE}))
    _claim(root, ours.MarkKind.CACHE, "set KLP_E2E_CACHE to a directory that is new or empty")
    if using:
        with disk_errors(f"the cache {root} cannot be used"):
            inuse.begin(own(root / inuse.PLACE))
    return root


def state_dir() -> Path:
    """What outlives the cache (history): $KLP_E2E_STATE, else the user's state directory."""
    named = os.environ.get("KLP_E2E_STATE")
    root = _root("KLP_E2E_STATE", platformdirs.user_state_path)
    if not named:
        _adopt(root, ours.MarkKind.STATE, frozenset({"nightly"}))
    _claim(root, ours.MarkKind.STATE, "set KLP_E2E_STATE to a directory that is new or empty")
    return root


def _root(variable: str, users: Callable[[str], Path]) -> Path:
    if named := os.environ.get(variable):
        return Path(named).absolute()
    try:
        return users(APP)
    except RuntimeError as nowhere:  # a user without a name, in a container
        raise HarnessError(
            "this user has no home directory", f"set HOME or {variable}"
        ) from nowhere


def _claim(root: Path, kind: ours.MarkKind, hint: str) -> None:
    what = f"the {kind} directory {root}"
    with disk_errors(f"{what} cannot be used"):
        try:
            ours.make(root, kind, hint, mode=0o700)
        except (FileExistsError, NotADirectoryError):
            raise ours.NotOurs(f"{root} is not a directory", hint) from None
    if not os.access(root, os.W_OK | os.X_OK):
        raise HarnessError(f"{what} cannot be written to", hint=_HINTS[errno.EACCES])


def _adopt(root: Path, kind: ours.MarkKind, names: frozenset[str]) -> None:
    """Mark what a klp-e2e that knew no marks has made where it always is, when nothing is there but
    what it would have made."""
    if not root.is_dir() or root.is_symlink() or (root / ours.MARK).exists():
        return
    there = list(root.iterdir())
    if not there or any(p.stem not in names and not p.name.startswith("kvm-") for p in there):
        return
    if root.stat().st_uid != os.geteuid():
        return
    entries = [
        e for k in there if k.is_dir() and k.name not in WHOLE for e in k.iterdir() if e.is_dir()
    ]
    if kind is ours.MarkKind.CACHE and not all(map(_looks_ours, entries)):
        return
    for entry in (*entries, *(root / name for name in WHOLE)):
        if entry.is_dir() and not entry.is_symlink() and not ours.marked(entry):
            ours.mark(entry, ours.MarkKind.ENTRY)
    root.chmod(0o700)
    ours.mark(root, kind)


def _looks_ours(entry: Path) -> bool:
    """Is in it what there is in an entry of its kind?"""
    if entry.is_symlink():
        return False
    known = _FILLED_IN_PLACE.get(entry.parent.name, DIGESTS)
    staged = STAGED.fullmatch(entry.name) is not None
    return staged or (entry / known).exists() or not any(entry.iterdir())


def require_space(path: Path, gib: float, what: str) -> None:
    """Raises HarnessError when the file system of `path` has less than `gib` GiB free."""
    free = shutil.disk_usage(path).free
    if free < gib * GIB:
        raise HarnessError(
            f"{what} needs {gib:g} GiB, and {path} has {free / GIB:.1f} GiB free",
            hint=_HINTS[errno.ENOSPC],
        )


@contextlib.contextmanager
def locked(path: Path, on_wait: Callable[[str], None] | None = None) -> Iterator[None]:
    """Hold the lock of `path` (the file PATH.lock) among all processes and threads.

    on_wait gets one line when somebody else holds it. The lock goes with its holder, however it
    ends; the file stays.
    """

    def waiting() -> None:
        if on_wait is not None:
            on_wait(f"another run is busy with {path.name}; waiting for it")

    life = contextlib.ExitStack()
    with disk_errors(f"{path} cannot be locked"):
        path.parent.mkdir(parents=True, exist_ok=True)
        life.enter_context(locks.waited(Path(f"{path}.lock"), waiting))
    with life:
        yield


# --- finished entries --------------------------------------------------------------------------


def own(entry: Path) -> Path:
    """An entry that is filled where it lies (a working tree, a repository), made if need be."""
    with disk_errors(f"{entry} cannot be made"):
        ours.make(entry, ours.MarkKind.ENTRY, "move it away: it lies where klp-e2e keeps its own")
    return entry


def whole(kind: str) -> Path:
    """A kind that is one entry as a whole, used now."""
    place = own(cache_root() / kind)
    touch(place)
    return place


@contextlib.contextmanager
def staging(final: Path) -> Iterator[Path]:
    """An empty directory to fill and then `publish` as `final`; removed if that does not happen.

    The caller holds `locked(final)`, so that what an earlier, killed run left is removed here.
    """
    with disk_errors(f"{final} cannot be filled"):
        final.parent.mkdir(parents=True, exist_ok=True)
        for stale in final.parent.glob(f".tmp-{glob.escape(final.name)}.*"):
            staged = STAGED.fullmatch(stale.name)
            if staged and staged["name"] == final.name and ours.marked(stale):
                ours.remove(stale, within=stale)
        tmp = Path(tempfile.mkdtemp(prefix=f".tmp-{final.name}.", dir=final.parent))
        log.info("making %s", final)
        try:
            ours.mark(tmp, ours.MarkKind.ENTRY)
            yield tmp
        finally:
            ours.scrap(tmp)


def publish(tmp: Path, final: Path) -> None:
    """Give a finished directory its final name, atomically and on disk.

    Writes `digests.json`. An entry that stands there already (a damaged one) is replaced; one in
    which somebody else has left or changed files is put aside as NAME.damaged-RANDOM. Raises
    NotOurs when what stands there is no entry of ours.
    """
    with disk_errors(f"{final} cannot be published"):
        digests = {name: [_digest(path), *_state(path)] for name, path in published(tmp)}
        write_atomically(tmp / DIGESTS, json.dumps(digests, indent=0, sort_keys=True))
        _flush(tmp)
        if os.path.lexists(final):
            if not ours.marked(final, ours.MarkKind.ENTRY):
                raise ours.NotOurs(
                    f"{final} is in the way, and klp-e2e did not make it", hint="move it away"
                )
            kind = ".damaged-" if altered(final) else ".tmp-"
            old = Path(tempfile.mkdtemp(prefix=f"{final.name}{kind}", dir=final.parent))
            final.rename(old)
            tmp.rename(final)
            if not altered(old):
                ours.remove(old, within=old)
        else:
            tmp.rename(final)
        _fsync(final.parent)
    log.info("made %s", final)


def discard(entry: Path) -> None:
    """Take a damaged entry, whose lock the caller holds, out of the way: removed; put aside as
    NAME.damaged-RANDOM where somebody else has left or changed files. Raises NotOurs, OSError."""
    if altered(entry):
        ours.put_aside(entry, "damaged")
    else:
        ours.remove(entry, within=entry)


def altered(entry: Path) -> bool:
    """Has somebody added files to a published entry, or written to those it has? The latter is told
    by their sizes and times: what a disk has spoilt keeps both. Where there is nothing to tell it
    by: True, but for what a killed run has left, which never had it."""
    try:
        wanted: dict[str, list[str | int]] = json.loads((entry / DIGESTS).read_text())
        return any(wanted.get(name, [])[1:] != _state(path) for name, path in published(entry))
    except (OSError, ValueError, TypeError, AttributeError):
        return STAGED.fullmatch(entry.name) is None and any(published(entry))


def verify(directory: Path, trusting: str = "") -> str:
    """What is wrong with a published directory, "" when every file is as it was published.

    Looks at each file's content; a missing, added or changed file is named. Files whose relative
    path starts with `trusting` count as unchanged when their size and time of change are: for the
    thousands that would take seconds to read.
    """
    try:
        wanted: dict[str, list[str | int]] = json.loads((directory / DIGESTS).read_text())
    except FileNotFoundError:
        return f"{directory} is not there" if not directory.exists() else f"{DIGESTS} is missing"
    except ValueError:
        return f"{DIGESTS} is damaged"
    found = dict(published(directory))
    for name in sorted({*wanted, *found}):
        if name not in found:
            return f"{name} is missing"
        if name not in wanted:
            return f"{name} does not belong there"
        digest, *state = wanted[name]
        if trusting and name.startswith(trusting) and _state(found[name]) == state:
            continue
        if digest != _digest(found[name]):
            return f"{name} is damaged"
    return ""


def digests(directory: Path) -> Mapping[str, str]:
    """Relative path -> sha256 in hex, or the goal of a link, of a published directory's files."""
    recorded = json.loads((directory / DIGESTS).read_text())
    return {name: digest for name, (digest, *_) in recorded.items()}


def published(directory: Path) -> Iterator[tuple[str, Path]]:
    """(relative path, path) of every file and link, without digests.json and our mark."""
    for path in walk.below(directory):
        if path.is_symlink() or not path.is_dir():
            relative = os.path.relpath(path, directory)
            if relative not in (DIGESTS, ours.MARK):
                yield relative, path


def _state(path: Path) -> list[str | int]:
    info = path.lstat()
    return [info.st_size, info.st_mtime_ns]


def _digest(path: Path) -> str:
    return f"-> {path.readlink()}" if path.is_symlink() else file_digest(path)


def file_digest(path: Path) -> str:
    """sha256 of a file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomically(path: Path, text: str) -> None:
    """Write a file so that a reader, or a crash, sees the old content or the new, never a part."""
    with ours.replacing(path, sync=True) as partial:
        partial.write_text(text, encoding="utf-8")


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _flush(directory: Path) -> None:
    """Bring everything on the directory's file system to the disk.

    syncfs(2), because an fsync for each of ten thousand headers takes half a minute.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        if libc.syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(directory))
    finally:
        os.close(descriptor)


def touch(entry: Path) -> None:
    """This process uses the entry, from now on; `prune` removes what was not used for long."""
    os.utime(entry)
    log.info("using %s", entry)
