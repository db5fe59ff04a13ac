# SPDX-License-Identifier: GPL-2.0-only
"""Directories: the cache, its locks and its finished entries, run directories, state.

The cache is `ROOT/KIND/NAME/`. An entry comes into being whole: it is filled as `.tmp-NAME.PID`
beside its final place, gets `digests.json`, is flushed to disk and renamed. What a killed run left
behind is a `.tmp-` directory and never looks finished.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import filelock
import platformdirs
import psutil

from orchestrator.errors import HarnessError

APP = "klp-e2e"
DIGESTS = "digests.json"
CCACHE = "ccache"  # a kind that is one entry: what is in it is ccache's own business
GIB = 1 << 30
RUN_PREFIX = "klp-"
# Longest name that people put into a run directory; with it a path must fit sockaddr_un.sun_path
# (108 bytes with the final NUL, include/uapi/linux/un.h).
SOCKET_NAME_ROOM = 32
SUN_PATH = 108

_HINTS = {
    errno.ENOSPC: "free some space, run `klp-e2e cache prune`, or set KLP_E2E_CACHE elsewhere",
    errno.EDQUOT: "your disk quota is used up: run `klp-e2e cache prune`, or set KLP_E2E_CACHE",
    errno.EACCES: "set KLP_E2E_CACHE to a directory you may write to",
    errno.EPERM: "set KLP_E2E_CACHE to a directory you may write to",
    errno.EROFS: "the file system is read-only: set KLP_E2E_CACHE to a directory on another",
}


@contextlib.contextmanager
def disk_errors(doing: str) -> Iterator[None]:
    """Turn a full disk, a missing permission and their like into HarnessError with a hint."""
    try:
        yield
    except OSError as error:
        if error.errno not in _HINTS:
            raise
        where = f": {error.filename}" if error.filename else ""
        raise HarnessError(f"{doing}: {error.strerror}{where}", hint=_HINTS[error.errno]) from error


def cache_root() -> Path:
    """$KLP_E2E_CACHE, else the user's cache directory; created if need be.

    Raises HarnessError when it cannot be written to.
    """
    named = os.environ.get("KLP_E2E_CACHE")
    root = Path(named).absolute() if named else platformdirs.user_cache_path(APP)
    return _writable(root, "the cache")


def state_dir() -> Path:
    """What outlives the cache (history): $KLP_E2E_STATE, else the user's state directory."""
    named = os.environ.get("KLP_E2E_STATE")
    root = Path(named).absolute() if named else platformdirs.user_state_path(APP)
    return _writable(root, "the state directory")


def _writable(root: Path, what: str) -> Path:
    with disk_errors(f"{what} {root} cannot be created"):
        try:
            root.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise HarnessError(f"{what} {root} is not a directory") from None
    if not os.access(root, os.W_OK | os.X_OK):
        raise HarnessError(f"{what} {root} cannot be written to", hint=_HINTS[errno.EACCES])
    return root


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
    with disk_errors(f"{path} cannot be locked"):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(f"{path}.lock", thread_local=False)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            if on_wait is not None:
                on_wait(f"another run is busy with {path.name}; waiting for it")
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


# --- finished entries --------------------------------------------------------------------------


@contextlib.contextmanager
def staging(final: Path) -> Iterator[Path]:
    """An empty directory to fill and then `publish` as `final`; removed if that does not happen.

    The caller holds `locked(final)`, so that what an earlier, killed run left is removed here.
    """
    with disk_errors(f"{final} cannot be filled"):
        final.parent.mkdir(parents=True, exist_ok=True)
        for stale in final.parent.glob(f".tmp-{final.name}.*"):
            remove(stale)
        tmp = final.parent / f".tmp-{final.name}.{os.getpid()}"
        tmp.mkdir()
        try:
            yield tmp
        finally:
            remove(tmp)


def publish(tmp: Path, final: Path) -> None:
    """Give a finished directory its final name, atomically and on disk.

    Writes `digests.json`. An entry that stands there already (a damaged one) is replaced.
    """
    with disk_errors(f"{final} cannot be published"):
        digests = {name: [_digest(path), *_state(path)] for name, path in _files(tmp)}
        write_atomically(tmp / DIGESTS, json.dumps(digests, indent=0, sort_keys=True))
        _flush(tmp)
        if final.exists():
            old = final.parent / f".tmp-{final.name}.old-{os.getpid()}"
            final.rename(old)
            tmp.rename(final)
            remove(old)
        else:
            tmp.rename(final)
        _fsync(final.parent)


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
    found = dict(_files(directory))
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


def _files(directory: Path) -> Iterator[tuple[str, Path]]:
    """(relative path, path) of every file and symbolic link, without digests.json."""
    for base, subdirs, names in os.walk(directory):
        at = Path(base)
        links = [name for name in subdirs if (at / name).is_symlink()]
        for name in names + links:
            path = at / name
            relative = os.path.relpath(path, directory)
            if relative != DIGESTS:
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
    tmp = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with tmp.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        tmp.replace(path)
    finally:
        tmp.unlink(missing_ok=True)


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


def remove(path: Path) -> None:
    """Remove a file or a tree, read-only directories included; nothing there is no error."""

    def unlock(_function: object, name: str, info: tuple[object, BaseException, object]) -> None:
        if not isinstance(info[1], PermissionError):
            raise info[1]
        parent = Path(name).parent
        parent.chmod(parent.stat().st_mode | stat.S_IRWXU)
        Path(name).unlink() if not Path(name).is_dir() else shutil.rmtree(name)

    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path, onerror=unlock)


# --- the cache as a whole, for `klp-e2e cache` ---------------------------------------------------


@dataclass(frozen=True, slots=True)
class Entry:
    """`size`: bytes on disk; `used`: seconds since the epoch of the last `touch` or change."""

    kind: str
    name: str
    path: Path
    size: int
    used: float


def touch(entry: Path) -> None:
    """Remember that an entry was used now; `prune` removes what was not used for long."""
    os.utime(entry)


def entries(root: Path) -> tuple[Entry, ...]:
    """Every entry of the cache, leftovers of killed runs (named `.tmp-…`) included."""
    kinds = [kind for kind in root.iterdir() if kind.is_dir()]
    paths = [p for kind in kinds for p in ([kind] if kind.name == CCACHE else kind.iterdir())]
    return tuple(
        Entry(path.relative_to(root).parts[0], path.name, path, size(path), path.lstat().st_mtime)
        for path in sorted(paths)
        if path.suffix != ".lock"
    )


def prune(root: Path, older_than_days: float) -> tuple[Entry, ...]:
    """Remove the entries not used for that many days, and leftovers of dead processes.

    An entry that somebody is at work on (its lock is held) stays. Returns what was removed.
    """
    removed = []
    for entry in entries(root):
        leftover = entry.name.startswith(".tmp-")
        if leftover:
            if _process_lives(entry.name):
                continue
        elif time.time() - entry.used < older_than_days * 86400:
            continue
        lock = filelock.FileLock(f"{entry.path}.lock")
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            continue
        try:
            remove(entry.path)
        finally:
            lock.release()  # the lock's file stays: somebody may be waiting on it
        removed.append(entry)
    return tuple(removed)


def size(path: Path) -> int:
    """Bytes on disk below a path; a file with several hard links counts once."""
    blocks = {}
    for each in (path, *path.rglob("*")):
        with contextlib.suppress(FileNotFoundError):  # somebody else's temporary file has gone
            info = each.lstat()
            blocks[info.st_dev, info.st_ino] = info.st_blocks
    return 512 * sum(blocks.values())


def _process_lives(name: str) -> bool:
    """Whether the process whose number ends a leftover's name still runs."""
    number = name.rpartition(".")[2].removeprefix("old-").partition("-")[0]
    return number.isdigit() and psutil.pid_exists(int(number))


# --- run directories ---------------------------------------------------------------------------


@contextlib.contextmanager
def run_dir(label: str = "run") -> Iterator[Path]:
    """A fresh private directory (mode 0700), short enough for unix sockets; removed at the end.

    Directories of our killed runs are removed on the way.
    """
    base = _run_base()
    with disk_errors(f"no run directory can be made in {base}"):
        for stale in base.glob(f"{RUN_PREFIX}*"):
            with contextlib.suppress(FileNotFoundError):  # it has ended, or another run cleans up
                if stale.lstat().st_uid == os.getuid() and not _process_lives(_pid_of(stale.name)):
                    remove(stale)
        path = Path(tempfile.mkdtemp(prefix=f"{RUN_PREFIX}{label}.{os.getpid()}-", dir=base))
    try:
        yield path
    finally:
        remove(path)


def _pid_of(name: str) -> str:
    """The part of a run directory's name that `_process_lives` reads."""
    return "." + name.rpartition(".")[2]


def _run_base() -> Path:
    """The temporary directory, or /tmp, whichever leaves room for a socket's name.

    Not $XDG_RUNTIME_DIR: it is small, and guests' snapshots lie in run directories.
    """
    for base in (Path(tempfile.gettempdir()).absolute(), Path("/tmp")):
        room = SUN_PATH - 1 - SOCKET_NAME_ROOM - len(f"/{RUN_PREFIX}some-label.1234567-abcdefgh/")
        if base.is_dir() and os.access(base, os.W_OK | os.X_OK) and len(os.fsencode(base)) <= room:
            return base
    raise HarnessError(
        "no directory for sockets: neither $TMPDIR nor /tmp will do",
        hint="set TMPDIR to a writable directory with a short name",
    )
