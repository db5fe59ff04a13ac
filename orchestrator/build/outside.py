# SPDX-License-Identifier: GPL-2.0-only
"""What a built module set depends on beside its own directory and the kernel, and whether that is
what it was: its cache entry answers only for exactly what it was made of.

The compiler tells which files it read, and kbuild keeps that beside each object (`.NAME.o.cmd`);
where it would have looked as well stands there, too. What a Makefile does by other means nobody
tells: such a set is built anew each time, which takes seconds. The environment is no part of it,
for make gets none of ours.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from orchestrator.host import workdir

RECORD = "outside.json"
_TREE_FILES = 1000  # of a directory in which headers are looked for
_MOMENT_NS = 20_000_000  # by which a file's time may lag behind the clock

_MAKEFILE = re.compile(r"(?:Kbuild|Makefile|GNUmakefile).*|.*\.mk")
_CONTINUED = re.compile(r"\\\n\s*")
_COMMENT = re.compile(r"(?m)(?:^|(?<=\s))#.*$")
_TOLD = re.compile(
    r"(?<=\S[ \t])-(?:I|isystem|iquote|include)\s*\S+"
)  # the compiler tells of these
# another makefile, a program, a function that looks at files, a recipe, a path that leads away
_UNTOLD_MAKE = re.compile(
    r"(?m)^[ ]*(?:-|s)?include\b|!=|\$[({](?:shell|file|wildcard|eval|realpath)\b|^\t|@|\.\./|"
    r"(?:^|[\s=,:]|-[A-Za-z])/"
)
_UNTOLD_SOURCE = re.compile(r"\.inc(?:bin|lude)\b|__has_include|#\s*embed\b")
_SEARCHED = re.compile(r"(?<=\s)-(?:I|isystem|iquote)\s*(\S+)")


def write(record: Path, made: Path, within: Iterable[Path], cwd: Path, since_ns: int) -> None:
    """Note what the build in `made` read from elsewhere than `within`.

    cwd: where the compiler was started. since_ns: when; what was written to later counts as
    changed, for nobody can tell which content was read.
    """
    inside = tuple(str(place.resolve()) for place in within)

    def outside(words: Iterable[str]) -> dict[str, Path]:
        found = {word: Path(os.path.normpath(cwd / word)) for word in words}
        away = {word: path for word, path in found.items() if not _below(path, inside)}
        return {str(path): path for path in away.values()}

    commands = "\n".join(
        path.read_text(errors="replace") for path in sorted(made.rglob(".*.cmd")) if path.is_file()
    )
    files = {
        name: _digest(path) if path.stat().st_ctime_ns < since_ns - _MOMENT_NS else ""
        for name, path in outside(re.findall(r"(?m)^  (?!\$)(\S+)(?: \\)?$", commands)).items()
        if _is_file(path)
    }
    trees = {name: _tree(path) for name, path in outside(_SEARCHED.findall(commands)).items()}
    listed = all(_is_listed(path) for path in (*made.rglob("*"), *map(Path, files)))
    record.write_text(json.dumps({"told": listed, "files": files, "trees": trees}))


def changed(entry: Path) -> bool:
    """Is a built set made of something else now, as far as its directory does not show? Where
    nobody can tell: True."""
    record = entry / RECORD
    if not record.is_file():  # nothing was compiled for it
        return False
    then: Mapping[str, Mapping[str, str]] = json.loads(record.read_text())
    now = {"files": _digest, "trees": _tree}
    return not then["told"] or any(
        digest == "" or look(Path(name)) != digest
        for kind, look in now.items()
        for name, digest in then[kind].items()
    )


def _below(path: Path, places: tuple[str, ...]) -> bool:
    try:
        real = os.path.realpath(path)
    except ValueError:  # a NUL in it: that is nowhere
        return True
    return any(real == place or real.startswith(f"{place}/") for place in places)


def _is_listed(path: Path) -> bool:
    """Does the compiler tell of all that this file may draw in?"""
    if not _is_file(path) or path.suffix in (".o", ".ko", ".cmd", ".a"):
        return True
    text = path.read_text(errors="replace")
    if _MAKEFILE.fullmatch(path.name):
        text = _TOLD.sub("", _COMMENT.sub("", _CONTINUED.sub(" ", text)))
        return not _UNTOLD_MAKE.search(text)
    return not _UNTOLD_SOURCE.search(text)


def _digest(path: Path) -> str:
    return workdir.file_digest(path) if _is_file(path) else "none"


def _is_file(path: Path) -> bool:
    """False also for what cannot be the name of one."""
    with contextlib.suppress(OSError, ValueError):
        return path.is_file()
    return False


def _tree(path: Path) -> str:
    """Of a directory in which headers were looked for: one that comes there may be found before
    another. "" where it has too many files."""
    found = []
    for name in _files(path):
        found.append(name)
        if len(found) > _TREE_FILES:
            return ""
    return " ".join(sorted(found)) or "none"


def _files(directory: Path) -> Iterator[str]:
    for base, _, names in os.walk(directory, followlinks=False):
        for name in names:
            yield os.path.relpath(Path(base) / name, directory)
