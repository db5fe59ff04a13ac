# SPDX-License-Identifier: GPL-2.0-only
"""bundle.json: what a bundle says of itself, checked where it is read.

A bundle comes from anybody. Every name and path in it is checked here, once, by its type; every
file that it lists is an ordinary one, on a way without links, of a size that can be had, and what
was written. What it does not list is never opened.
"""

from __future__ import annotations

import itertools
import json
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError, with_config

from orchestrator.errors import UsageError
from orchestrator.host import files, ours, walk, workdir
from orchestrator.model.findings import Signature
from orchestrator.model.known import KnownIssue
from orchestrator.nouns import ArchName
from orchestrator.plain import one_line
from orchestrator.verdicts import Check

FORMAT: Literal[1] = 1
RECORD = "bundle.json"
KERNEL, SYSTEM_MAP, CONFIG = "kernel", "System.map", "config"
USERLAND, OVERLAY = "userland.cpio.gz", "overlay.cpio"
MODULES, SET = "modules", "set"
SET_FILE = f"{SET}/set.toml"
HINT = "get it again from where it was made; what was changed on purpose needs its sha256 changed"

MOST_RECORD = 16 << 20  # bytes of bundle.json
MOST_FILES = 10_000
MOST_BYTES: Mapping[str, int] = {KERNEL: 1 << 30}  # it may be a vmlinux with all it knows
MOST_OTHERS = 256 << 20  # bytes of any other file
MOST_TOTAL = 4 << 30  # bytes of all
_NAME_BYTES = 255


def _inside(path: str) -> str:
    """A relative path that stays where it is."""
    for part in path.split("/"):
        if part in ("", ".", "..") or len(part.encode(errors="replace")) > _NAME_BYTES:
            raise ValueError("it is no path in the bundle")
    return _line(path)


def _name(name: str) -> str:
    if "/" in name:
        raise ValueError("there is a / in it")
    return _inside(name)


def _line(text: str) -> str:
    if one_line(text) != text:
        raise ValueError("there are control characters in it")
    return text


def _scale(found: float) -> float:
    """As of an architecture's file: with less a right kernel is not waited for."""
    if 0 < found < 1:
        raise ValueError("it is less than 1")
    return found


RelativePath = Annotated[str, Field(max_length=4096), AfterValidator(_inside)]
Name = Annotated[str, AfterValidator(_name)]
Line = Annotated[str, Field(max_length=10_000), AfterValidator(_line)]
Hex = Annotated[str, Field(pattern="^[0-9a-f]{1,64}$")]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0)]


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True, slots=True)
class KernelRecord:
    """The kernel, without its places on the machine that built it."""

    key: Hex
    source: Line
    source_version: Line
    series: tuple[Line, ...]
    release: Line
    version: tuple[Count, Count]
    compiler: Line
    capabilities: tuple[Line, ...]
    configs: tuple[Line, ...] = ()


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True, slots=True)
class Record:
    """bundle.json"""

    format: Literal[1]
    arch: ArchName
    kernel: KernelRecord
    name: Line  # of the case
    module_set: Name
    order: Annotated[str, Field(max_length=100_000), AfterValidator(_line)]  # in notation
    why: Line
    failed_event: Count  # index from 0
    signature: Signature
    first: Check  # the first check that failed; in the guest's words, as is all of a Check
    failed: tuple[Check, ...]  # all that failed after the same event
    known_issue: Line  # id of the known issue that it fails as, or empty
    repeated: Count  # of `tries` cold boots, how many failed alike
    tries: Count
    qemu_version: Line
    qemu_argv: tuple[str, ...]  # as it was started; nobody starts it again by this
    files: Annotated[Mapping[RelativePath, Sha256], Field(max_length=MOST_FILES)]
    # relative path -> sha256, of every other file
    memory_mb: Annotated[int, Field(ge=0, le=4096)] = 0  # of the guest; 0: as its architecture has
    time_scale: Annotated[float, Field(ge=0, le=60), AfterValidator(_scale)] = (
        0.0  # likewise; its kernel may be slow
    )
    known_issues: tuple[KnownIssue, ...] = ()  # of its architecture: by what it was judged


_RECORD = TypeAdapter(Record)


def text(record: Record) -> bytes:
    """What stands in bundle.json."""
    return _RECORD.dump_json(record, indent=2) + b"\n"


def load_record(place: Path) -> Record:
    """bundle.json alone. Raises UsageError."""
    file = place / RECORD
    try:
        if file.is_symlink():
            raise UsageError(f"{file} is a link", hint=HINT)
        content = files.read(file, MOST_RECORD)
        head = json.loads(content)
    except OSError as err:
        raise UsageError(
            f"{place} is no bundle: {RECORD}: {err.strerror}",
            hint="give the directory that holds reproduce.sh",
        ) from err
    except (ValueError, RecursionError) as err:
        raise UsageError(f"{file} is damaged: {one_line(str(err))}", hint=HINT) from err
    found = head.get("format") if isinstance(head, dict) else None
    if found != FORMAT:
        raise UsageError(
            f"{place} is a bundle of format {found!r:.100}, this klp-e2e reads {FORMAT}",
            hint="its reproduce.sh runs without klp-e2e; or take the klp-e2e that wrote it",
        )
    try:
        return _RECORD.validate_json(content)
    except ValidationError as err:
        first = err.errors()[0]
        where = one_line(".".join(str(part) for part in first["loc"]))
        why = first["msg"].removeprefix("Value error, ")
        raise UsageError(f"{file} is damaged at {where}: {why}", hint=HINT) from err


def digests(directory: Path) -> dict[str, str]:
    """sha256 of every file by its relative path, without bundle.json and the mark."""
    return {
        str(path.relative_to(directory)): workdir.file_digest(path)
        for path in sorted(walk.below(directory))
        if path.is_file() and path not in (directory / RECORD, directory / ours.MARK)
    }


def check_files(place: Path, record: Record, wanted: tuple[str, ...]) -> None:
    """That they are there, fit to be read, and as they were written; `wanted` among them. Raises
    UsageError."""
    for name in wanted:
        if name not in record.files:
            raise UsageError(f"{place / RECORD} is damaged: it does not list {name}", hint=HINT)
    for wrong in itertools.chain(_unfit(place, record), _changed(place, record)):
        raise UsageError(f"the bundle {place} is damaged: {wrong}", hint=HINT)


def as_written(place: Path) -> bool:
    """Is it a whole bundle of ours, and nothing else: no file changed, none that somebody added?"""
    if not ours.marked(place, ours.MarkKind.BUNDLE):
        return False
    try:
        record = load_record(place)
        if any(itertools.chain(_unfit(place, record), _changed(place, record))):
            return False
    except UsageError:
        return False
    return _knows_all(place, record)


def foreign(place: Path) -> bool:
    """Is in a bundle of ours, of which files may be missing, one that somebody changed or added?"""
    try:
        record = load_record(place)
    except UsageError:
        return any(path.name != ours.MARK for path in place.iterdir())
    there = {name: each for name, each in record.files.items() if os.path.lexists(place / name)}
    left = replace(record, files=there)
    wrong = any(itertools.chain(_unfit(place, left), _changed(place, left)))
    return wrong or not _knows_all(place, record)


def _knows_all(place: Path, record: Record) -> bool:
    known = {place / name for name in (*record.files, RECORD, ours.MARK)}
    known |= {parent for path in known for parent in path.parents}
    return all(path in known for path in walk.below(place))


def written(place: Path, record: Record) -> Iterator[str]:
    """Of the files that it lists, those that are there as they were written."""
    if not _too_much(place, record):
        for name, digest in record.files.items():
            if not _misfit(place, name) and workdir.file_digest(place / name) == digest:
                yield name


def _unfit(place: Path, record: Record) -> Iterator[str]:
    yield from filter(None, (_misfit(place, name) for name in record.files))
    if _too_much(place, record):
        yield f"its files are more than {MOST_TOTAL} bytes"


def _too_much(place: Path, record: Record) -> bool:
    """Would it take for ever to read them? Holes in files cost whoever made them nothing."""
    there = (place / name for name in record.files)
    return sum(path.lstat().st_size for path in there if os.path.lexists(path)) > MOST_TOTAL


def _misfit(place: Path, name: str) -> str:
    """Why a file that is listed is not to be read; "" for one that is."""
    *above, last = (place.joinpath(*name.split("/")[:n]) for n in range(1, name.count("/") + 2))
    try:
        if not all(stat.S_ISDIR(path.lstat().st_mode) for path in above):
            return f"a link leads to {name}"
        found = last.lstat()
    except OSError:
        return f"{name} is missing"
    most = MOST_BYTES.get(name, MOST_OTHERS)
    if not stat.S_ISREG(found.st_mode):
        return f"{name} is no ordinary file"
    if found.st_size > most:
        return f"{name} is larger than any such file: more than {most} bytes"
    return ""


def _changed(place: Path, record: Record) -> Iterator[str]:
    for name, digest in record.files.items():
        if workdir.file_digest(place / name) != digest:
            yield f"{name} is not what was written"
