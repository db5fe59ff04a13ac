# SPDX-License-Identifier: GPL-2.0-only
"""What klp-e2e writes into a night's directory, and so what may go with it. Only reads.

People put their notes beside what they are about: a night that holds anything which klp-e2e never
writes there is not removed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from orchestrator.announce import files as announcements
from orchestrator.commands import bisection, malformed
from orchestrator.errors import UsageError
from orchestrator.explore import record
from orchestrator.history import files
from orchestrator.host import ours
from orchestrator.nightly import inputs
from orchestrator.nightly.again import AGAIN
from orchestrator.nightly.blame import BISECTS, Way
from orchestrator.nightly.jobs import JOBS
from orchestrator.pages import site
from orchestrator.report import directory, explored, store, tried

Known = Callable[[Path], bool]


@dataclass(frozen=True, slots=True)
class _Bundle:
    """Of bundle.json, what counts here."""

    files: Mapping[str, str]  # by relative path


_BUNDLE = TypeAdapter(_Bundle)
_PARTIAL = re.compile(r"\..+\.partial")  # of a file, where we were killed while it was written
# Of a bundle, where we were killed while it was written, or put in the place of an older one.
_PARTIAL_BUNDLE = re.compile(r"\..+\.[0-9a-f]{16}\.(partial|before)")
_PAGE = re.compile(r"[A-Za-z0-9_-]*-[0-9a-f]{10}\.html")
_AGAIN_LOG = re.compile(r"\d+\.log")
_BISECT_LOG = re.compile(rf"\d+-({'|'.join(Way)})\.log")
_TOP = frozenset({ours.MARK, files.NIGHT, files.CHANGES, site.INDEX, *announcements.NAMES})
_RESULT = "result.json"
# In the results directory of any command that a night begins, and below it.
_RESULTS = frozenset(
    {
        *(ours.MARK, ".lock", directory.RESULTS, "junit.xml", "results.ktap"),
        *(_RESULT, "console.log", "dmesg", "qemu-command", "reproduce.sh", "disassembly"),
        *(explored.DOCUMENT, explored.JOURNAL, tried.DOCUMENT),
        *(bisection.FOUND, "bisect.log", "git-bisect.log"),
    }
)


def foreign(place: Path) -> str:
    """Why a night is not ours to remove, in words; "" when it is."""
    if not ours.marked(place, ours.Kind.NIGHT):
        return "it has no mark of klp-e2e (an older one made it, or it was copied here)"
    jobs: tuple[str, ...] = ()
    if (place / files.NIGHT).exists():  # else it was killed before it had begun
        try:
            night = files.document(place)
        except UsageError as malformed_:
            return str(malformed_)
        if night.name != place.name:
            return f"its {files.NIGHT} is that of night {night.name}"
        jobs = tuple(record.job.name for record in night.jobs)
    try:
        first = next(strangers(place, jobs), None)
    except OSError as trouble:
        return f"it cannot be looked through: {trouble}"
    return "" if first is None else f"it holds {first}, which klp-e2e did not write"


def strangers(place: Path, jobs: Collection[str]) -> Iterator[str]:
    """What lies in a night and was not written by klp-e2e, by its path in the night: files, links,
    and whatever else is no directory. `jobs`: their names."""
    logs = {place / JOBS / f"{name}.log" for name in jobs}
    areas: dict[Path, Callable[[Path], Iterator[Path]]] = {
        place / site.CASES: lambda at: _all_but(at, lambda file: _is(_PAGE, file)),
        place / inputs.INPUTS: lambda at: _all_but(at, lambda file: inputs.is_kept(place, file)),
        place / JOBS: lambda at: _in_results(at, logs.__contains__),
        place / AGAIN: lambda at: _in_results(at, lambda file: _is(_AGAIN_LOG, file)),
        place / BISECTS: lambda at: _in_results(at, lambda file: _is(_BISECT_LOG, file)),
    }
    for path in sorted(place.iterdir()):
        if not _is_directory(path):
            known = path.name in _TOP or _is(_PARTIAL, path)
            found = iter(() if _is_file(path) and known else (path,))
        elif path in areas:
            found = areas[path](path)
        else:
            found = _all_but(path, lambda _file: False)
        yield from (str(each.relative_to(place)) for each in found)


def _is(form: re.Pattern[str], path: Path) -> bool:
    return form.fullmatch(path.name) is not None


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _is_directory(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _all_but(place: Path, known: Known) -> Iterator[Path]:
    """Everything in it, but directories and what is known."""
    for path in sorted(place.iterdir()):
        if _is_directory(path):
            yield from _all_but(path, known)
        elif not (_is_file(path) and (known(path) or _is(_PARTIAL, path))):
            yield path


def _in_results(place: Path, log: Known, cases: Collection[Path] = ()) -> Iterator[Path]:
    """Of results directories, and of what they lie in. `cases`: the directories that the
    results.json above them lists; a copy that somebody has made of one is in none."""
    paths = sorted(place.iterdir())
    names = {path.name for path in paths}
    if record.RECORD in names:
        yield from _in_bundle(place)
        return
    if directory.RESULTS in names:
        cases = _listed(place)
    copied = _RESULT in names and place not in cases
    for path in paths:
        if _is_directory(path):
            half = _is(_PARTIAL_BUNDLE, path) and ours.marked(path, ours.Kind.BUNDLE)
            yield from () if half else _in_results(path, log, cases)
            continue
        broken = path.suffix == ".ko" and path.parents[2].name == malformed.MODULES
        known = path.name in _RESULTS or broken or log(path) or _is(_PARTIAL, path)
        if copied or not _is_file(path) or not known:
            yield path


def _in_bundle(place: Path) -> Iterator[Path]:
    try:
        listed = store.load(place / record.RECORD, _BUNDLE, "klp-e2e explore").files
    except UsageError:
        listed = {}
    own = {place / name for name in (*listed, record.RECORD, ours.MARK)}
    yield from _all_but(place, own.__contains__)


def _listed(place: Path) -> frozenset[Path]:
    try:
        return frozenset(place / case.directory for case in directory.document(place).cases)
    except UsageError:
        return frozenset()
