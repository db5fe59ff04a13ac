# SPDX-License-Identifier: GPL-2.0-only
"""What is ours: directories that we made say so, and nothing else is ever removed.

In this field half of all files are called klp-something, so a name proves nothing. A directory of
ours holds a file `.klp-e2e`, written by us when we made it, that says what it is. `remove` takes
what lies in such a directory, on a way without links, and is the only one here that removes trees.
A file is replaced by a new one of a name that nobody else can have had.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TextIO

from orchestrator.errors import UsageError
from orchestrator.host import locks, standing, walk

MARK = ".klp-e2e"
PARTIAL = ".partial"
_MARK_BYTES = 4096  # at most, of a mark that is read
_TRIES, _TRY_SECONDS = 20, 0.02
_HALF = re.compile(r"\..*\.[0-9a-f]{16}\.partial")
BEFORE = ".before"
_REPLACED = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{16}\.before")
NAME_KEPT = 100  # characters of a name in what `appearing` makes
_OCCUPIED = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.EBUSY)


class MarkKind(StrEnum):
    """What a directory of ours is for; it stands in its mark."""

    CACHE = "cache"
    STATE = "state"
    ENTRY = "cache entry"
    RUNS = "run directories"
    RESULTS = "results"  # of any command that takes -o, a night's jobs included
    NIGHTS = "nights"
    NIGHT = "night"
    BUNDLE = "bundle"
    SET = "module set"


# What is executed, or talked to, lies in these: nobody else may write there.
PRIVATE = frozenset({MarkKind.CACHE, MarkKind.STATE, MarkKind.RUNS})


# What is in these goes in its time, whoever made it.
_PASSING = (MarkKind.ENTRY, MarkKind.RUNS)


class NotOurs(UsageError):
    """A directory is not provably ours: it stays as it is."""


def mark(directory: Path, kind: MarkKind) -> None:
    """Say that a directory, which we have just made, is ours. Raises OSError."""
    path = directory / MARK
    with path.open("x", encoding="utf-8") as file:
        try:
            file.write(json.dumps({"klp-e2e": str(kind)}) + "\n")
            file.flush()
        except BaseException:  # a full disk
            path.unlink()
            raise


def marked(directory: Path, kind: MarkKind | None = None) -> bool:
    """Is it a directory, no link, and has this user written there that it is ours (this kind)?"""
    try:
        place, said = directory.lstat(), (directory / MARK).lstat()
        if not stat.S_ISDIR(place.st_mode) or not stat.S_ISREG(said.st_mode):
            return False
        if said.st_uid != os.geteuid():
            return False
    except OSError:
        return False
    found = says(directory / MARK)
    return found == kind if kind else found in set(MarkKind)


def says(path: Path) -> object:
    """What a file called as a mark says that its directory is, whoever wrote it; None: nothing."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return None
        with path.open("rb") as file:
            read = json.loads(file.read(_MARK_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
    return read.get("klp-e2e") if isinstance(read, dict) else None


def make(directory: Path, kind: MarkKind, hint: str, *, mode: int = 0o777) -> None:
    """A directory of ours: made and marked if it is not there or is empty, else it must be marked.

    hint: what to do where it is somebody else's. mode: of one that is made here. Raises NotOurs
    before anything is written, OSError.
    """
    if directory.is_symlink() and not directory.exists():
        raise NotOurs(f"{directory} is a link that leads nowhere", hint)
    if kind is MarkKind.RUNS and directory.is_symlink():  # it lies where others may make links
        raise NotOurs(f"{directory} is a link", hint)
    real = Path(os.path.realpath(directory))  # of links in a circle mkdir complains
    lasting(real, hint)
    real.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        real.mkdir(mode=mode)
    if not real.is_dir():
        raise NotOurs(f"{directory} is not a directory", hint)
    if kind in PRIVATE:
        _private(real, kind, hint)
    for _ in range(_TRIES):
        if marked(real, kind):
            return
        there = [path.name for path in real.iterdir()]
        if not there:
            with contextlib.suppress(FileExistsError):
                mark(real, kind)
        elif there == [MARK]:
            time.sleep(_TRY_SECONDS)  # another of us is as quick, and writes it now
        else:
            break
    else:
        if _begun(real / MARK):  # he was killed over it
            scrap(real / MARK)
            mark(real, kind)
            return
    raise NotOurs(f"{directory} was not made by klp-e2e for its {kind}, and is not empty", hint)


def lasting(directory: Path, hint: str) -> None:
    """Raises NotOurs for a place in a directory of ours whose content goes in its time."""
    for above in directory.parents:
        if any(marked(above, kind) for kind in _PASSING):
            raise NotOurs(f"{above} is klp-e2e's own, and what is in it does not last", hint)


def _begun(path: Path) -> bool:
    """A mark that was made, and not written?"""
    info = path.lstat()
    return stat.S_ISREG(info.st_mode) and info.st_uid == os.geteuid() and info.st_size == 0


def _private(directory: Path, kind: MarkKind, hint: str) -> None:
    info = directory.stat()
    if info.st_uid != os.geteuid():
        raise NotOurs(f"{directory}, for klp-e2e's {kind}, belongs to another user", hint)
    if info.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise NotOurs(
            f"others may write to {directory}, klp-e2e's {kind}: what they put there would be run",
            hint=f"chmod go-w {directory}, when you trust what is in it; or {hint}",
        )


def proven(path: Path, within: Path) -> bool:
    """Does `path` lie in (or is it) the marked directory `within`, on a way without links?"""
    if not marked(within):
        return False
    try:
        parts = path.relative_to(within).parts
    except ValueError:
        return False
    at = within
    for part in parts[:-1]:
        at /= part
        if part == ".." or at.is_symlink() or not at.is_dir():
            return False
    return parts[-1:] != ("..",)


def below(path: Path, within: Path) -> Path:
    """`path`, which is to lie in `within`, with the directories on its way made; itself it may be
    there or not. Raises NotOurs where it is a link, or there is one on the way; OSError."""
    if path == within:
        raise NotOurs(f"{path} does not lie in itself", "it was written by something else")
    folder(path.parent, within)
    if path.is_symlink() or path.name == "..":
        raise NotOurs(f"{path} is a link, and klp-e2e makes none there", "move it out of the way")
    return path


def remove(path: Path, within: Path) -> None:
    """Remove a file, a link or a tree (read-only directories included) that lies in `within`, a
    directory of ours, or is it. Nothing there is no error. Raises NotOurs, OSError."""
    if not os.path.lexists(path):
        return
    if not proven(path, within):
        raise NotOurs(
            f"{path} is not removed: {within} does not say that klp-e2e made it",
            hint="look at it, and move or remove it yourself",
        )
    scrap(path)


def removed(path: Path, within: Path, foreign: Callable[[Path], object]) -> bool:
    """`remove`, where `foreign` finds nothing in it; False: it is there, or what of it is not ours.

    What comes to lie there while `foreign` looks, or is written to, stays, and so does what it lies
    in. Raises NotOurs, OSError.
    """
    if not os.path.lexists(path):
        return True
    if not proven(path, within):
        raise NotOurs(
            f"{path} is not removed: {within} does not say that klp-e2e made it",
            hint="look at it, and move or remove it yourself",
        )
    _unmounted(path)
    seen = _seen(path)
    if foreign(path):
        return False
    _take(path, seen)
    return not os.path.lexists(path)


def _seen(path: Path) -> dict[Path, tuple[int, ...]]:
    """What is there, and in it, and how it was last written to."""
    return {each: _state(each) for each in (path, *walk.below(path))}


def _state(path: Path) -> tuple[int, ...]:
    try:
        info = path.lstat()
    except FileNotFoundError:
        return ()
    if stat.S_ISDIR(info.st_mode):
        return (info.st_ino,)
    return (info.st_ino, info.st_size, info.st_mtime_ns)


def _take(top: Path, seen: Mapping[Path, tuple[int, ...]]) -> None:
    """Remove what is as it was seen. In each directory documents and the mark go last, and those at
    the top only when nothing else is left: they tell whose the rest is. Raises OSError."""
    last = {each for each in seen if each.parent == top and _tells(each)} | {top}
    in_turn = sorted(seen, key=lambda each: (-len(each.parts), _tells(each)))
    for path in (each for each in in_turn if each not in last):
        _take_one(path, seen[path])
    if not _seen(top).keys() - last:
        for path in (each for each in in_turn if each in last):
            _take_one(path, seen[path])


def _tells(path: Path) -> int:
    return 2 * (path.name == MARK) + (path.suffix == ".json")


def _take_one(path: Path, seen: tuple[int, ...]) -> None:
    if not seen or _state(path) != seen:
        return
    take = path.unlink if path.is_symlink() or not path.is_dir() else path.rmdir
    try:
        try:
            take()
        except PermissionError:  # the directory is read-only
            path.parent.chmod(path.parent.stat().st_mode | stat.S_IRWXU)
            take()
    except OSError as err:
        if err.errno not in _OCCUPIED:
            raise


def retire(path: Path, within: Path, word: str) -> None:
    """Put a directory aside that lies in `within`, a directory of ours. Raises NotOurs, OSError."""
    if not proven(path, within):
        raise NotOurs(
            f"{path} is not moved: {within} does not say that klp-e2e made it",
            hint="look at it, and move or remove it yourself",
        )
    put_aside(path, word)


def scrap(path: Path) -> None:
    """Remove what this very process has made under a name of its own, or what lies in an entry of
    the cache that it holds the lock of. Everything else goes by `remove`. Raises NotOurs where
    anything is mounted in it, OSError."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif os.path.lexists(path):
        _unmounted(path)
        try:
            shutil.rmtree(path, onerror=_unlock)
        except RecursionError:
            walk.remove(path)


def _unmounted(path: Path) -> None:
    for place in walk.mounted(path):
        raise NotOurs(
            f"{path} is not removed: {place} is mounted, and what is in it is not klp-e2e's",
            hint=f"umount {place}",
        )


def _unlock(_function: object, name: str, info: tuple[object, BaseException, object]) -> None:
    if not isinstance(info[1], PermissionError):
        raise info[1]
    parent = Path(name).parent
    parent.chmod(parent.stat().st_mode | stat.S_IRWXU)
    Path(name).unlink() if not Path(name).is_dir() else shutil.rmtree(name)


@contextlib.contextmanager
def replacing(
    path: Path, mode: int = 0o644, *, sync: bool = False, new: bool = False
) -> Iterator[Path]:
    """A new file to write, beside `path`, that takes its place when the block ends well: a reader,
    or a crash, sees the old content or the new, never a part.

    sync: it is on the disk before the old one goes. What stands at `path` may be a file, or
    nothing: a link or a directory is not replaced. new: nothing is, and what has come there
    meanwhile neither (FileExistsError). Raises NotOurs, OSError.
    """
    _replaceable(path)
    number, name = tempfile.mkstemp(prefix=f".{path.name[:100]}.", suffix=PARTIAL, dir=path.parent)
    os.close(number)
    partial = Path(name)
    try:
        yield partial
        partial.chmod(mode)
        if sync:
            with partial.open("rb") as written:
                os.fsync(written.fileno())
        if new:
            _link(partial, path)
            partial.unlink(missing_ok=True)
        else:
            _replaceable(path)  # still
            partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _replaceable(path: Path) -> None:
    standing.check(path)
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise NotOurs(f"{path} is no ordinary file, and is not replaced", "move it out of the way")


def _link(partial: Path, path: Path) -> None:
    """Give it its name where nothing has it. Raises FileExistsError, OSError."""
    try:
        os.link(partial, path)
    except OSError as err:
        if err.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        if os.path.lexists(path):  # a file system without hard links has nothing better
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        partial.replace(path)


def aside(path: Path, word: str, sides: Sequence[str] = ()) -> Path:
    """Give a file of ours a name beside, NAME.WORD-SOMETHING, that nothing has; with it go those
    whose names are its own with one of `sides` behind. Raises OSError."""
    number, name = tempfile.mkstemp(prefix=f"{path.name}.{word}-", dir=path.parent)
    os.close(number)
    path.replace(name)
    for side in sides:
        with contextlib.suppress(FileNotFoundError):
            Path(f"{path}{side}").replace(f"{name}{side}")
    return Path(name)


def arrive(made: Path, place: Path) -> None:
    """Give what this process has made under a name of its own that for which it was made. Raises
    FileExistsError where anything has it, OSError."""
    if os.path.lexists(place):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(place))
    made.rename(place)


def put_aside(place: Path, word: str) -> Path:
    """Give a directory a name beside, NAME.WORD-SOMETHING, that nothing has. Raises OSError."""
    other = place.with_name(f"{place.name}.{word}-{secrets.token_hex(4)}")
    place.rename(other)
    return other


@contextlib.contextmanager
def appearing(
    place: Path, kind: MarkKind, foreign: Callable[[Path], object] = lambda _: False
) -> Iterator[Path]:
    """A new directory of ours to fill, beside `place`, that takes its place when the block ends
    well: whole or not at all.

    What stands at `place` may be nothing, an empty directory, or one that is marked with this kind
    and in which `foreign` finds nothing, which goes, if it still is as it was then when nobody can
    find it by its name any more. What comes to lie in it even then is put aside, as
    NAME.added-to-SOMETHING. Raises NotOurs, OSError.
    """
    lasting(Path(os.path.realpath(place)), "choose another place")
    standing.check(place)
    place.parent.mkdir(parents=True, exist_ok=True)
    begun, partial, before = (
        place.with_name(f".{place.name[:NAME_KEPT]}.{secrets.token_hex(8)}{suffix}")
        for suffix in (".begun", PARTIAL, BEFORE)
    )
    sweep(place.parent, kind, foreign)
    begun.mkdir()
    with contextlib.ExitStack() as stack:
        stack.callback(scrap, begun)
        stack.callback(scrap, partial)
        mark(begun, kind)
        stack.enter_context(locks.held(begun / MARK))  # whoever is killed leaves it unheld
        begun.rename(partial)  # only now does `sweep` look at it
        yield partial
        if place.is_dir():
            partial.chmod(stat.S_IMODE(place.stat().st_mode))  # it may have been made private
        if not marked(place, kind):
            try:
                partial.rename(place)  # onto nothing, or an empty directory: the kernel sees to it
            except OSError as err:
                if err.errno not in _OCCUPIED:
                    raise
                raise NotOurs(
                    f"{place} is no {kind} of klp-e2e, and is not replaced: {err.strerror}",
                    hint="choose another place, or move it out of the way",
                ) from err
            return
        stack.enter_context(locks.held(place / MARK))  # or `sweep` would bring it back
        looked_at = _seen(place)
        known = not foreign(place)
        seen = {before / each.relative_to(place): looked_at[each] for each in looked_at}
        place.rename(before)
        try:
            if not known or _seen(before) != seen:
                raise NotOurs(
                    f"{place} was written to just now, and is not replaced",
                    hint="choose another place, or move it out of the way",
                )
            partial.rename(place)
        except BaseException:
            before.rename(place)
            raise
        _take(before, seen)
        if os.path.lexists(before):
            before.rename(_added_to(place))


def _added_to(place: Path) -> Path:
    return place.with_name(f"{place.name[:NAME_KEPT]}.added-to-{secrets.token_hex(4)}")


def sweep(
    directory: Path, kind: MarkKind, foreign: Callable[[Path], object] = lambda _: False
) -> None:
    """Remove what `appearing` has left of this kind in a directory, where its process was killed,
    and bring back what it was about to replace; in which `foreign` finds something is put aside, if
    something else is there now. Raises OSError."""
    if directory.is_symlink() or not directory.is_dir():
        return
    for path in directory.glob(f".*{BEFORE}"):
        # of a removal that was killed at its end an empty directory stays: nothing says whose it is
        if (match := _REPLACED.fullmatch(path.name)) and marked(path, kind):
            with contextlib.suppress(locks.Busy, FileNotFoundError), locks.held(path / MARK):
                _settle(path, directory / match["name"], foreign)
    for path in directory.glob(f".*{PARTIAL}"):
        if _HALF.fullmatch(path.name) and marked(path, kind):
            with contextlib.suppress(locks.Busy, FileNotFoundError), locks.held(path / MARK):
                removed(path, path, lambda _: False)  # the mark last, if we are killed over it


def _settle(before: Path, place: Path, foreign: Callable[[Path], object]) -> None:
    """What stood at `place` while it was being replaced: it comes back, if the other one has not
    got there. Of a long name it is not known where that was: then it stays."""
    if os.path.lexists(place):
        if not removed(before, before, foreign):
            before.rename(_added_to(place))
    elif len(place.name) < NAME_KEPT:
        before.rename(place)


def create(path: Path, text: str) -> None:
    """A new file with this text, whole or not at all. Raises FileExistsError where anything is, a
    link too, OSError."""
    with path.open("x", encoding="utf-8") as file:
        try:
            file.write(text)
            file.flush()
        except BaseException:
            path.unlink()
            raise


def folder(path: Path, within: Path) -> Path:
    """The directory `path` below the directory `within`, made with those between where they are
    not there; none of them is a link, which would lead elsewhere. Raises NotOurs, OSError."""
    if not path.is_relative_to(within):
        raise NotOurs(f"{path} does not lie in {within}", "it was written by something else")
    standing.check(within)
    at = within
    for part in path.relative_to(within).parts:
        at /= part
        if part != "..":
            with contextlib.suppress(FileExistsError):
                at.mkdir()
        if part == ".." or at.is_symlink() or not at.is_dir():
            raise NotOurs(f"{at} leads elsewhere, where nothing is written", "move it away")
    return at


def appending(path: Path) -> TextIO:
    """The file, made where it is not there, to append lines to; no link, which would have us write
    elsewhere, and no FIFO, which would have us wait. Raises NotOurs, OSError."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        return os.fdopen(os.open(path, flags, 0o666), "a", encoding="utf-8", buffering=1)
    except OSError as err:
        if err.errno != errno.ELOOP:
            raise
        raise NotOurs(f"{path} is a link, and is not written through", "move it away") from err


def clear(directory: Path, known: Callable[[str], bool]) -> None:
    """Remove a directory in which there is what `only` finds. Raises as that, and then removes
    nothing."""
    for path in only(directory, known):
        path.unlink()
    directory.rmdir()


def only(directory: Path, known: Callable[[str], bool]) -> Sequence[Path]:
    """What is in a directory, ordinary files of ours by their names, whoever says that it is ours.
    Raises NotOurs when there is anything else; OSError."""
    standing.check(directory)
    found = [*directory.iterdir()] if not directory.is_symlink() else []
    strange = [p for p in found if not known(p.name) or p.is_symlink() or not p.is_file()]
    if directory.is_symlink() or strange:
        raise NotOurs(
            f"{(strange or [directory])[0]} was not made by klp-e2e, and stays",
            hint="move it elsewhere, or begin anew with -o DIR",
        )
    return found
