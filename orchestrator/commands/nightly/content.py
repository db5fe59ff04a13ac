# SPDX-License-Identifier: GPL-2.0-only
"""What klp-e2e writes into a night's directory, and so what may go with it. Only reads.

People put their notes beside what they are about, and copy what they want to keep: a night that
holds a file which no document of ours lists is not removed. night.json lists the jobs, a job's
document its cases, trials or findings, a bundle's its files.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from pathlib import Path

from orchestrator.announce import files as announcements
from orchestrator.commands import malformed
from orchestrator.commands.bisect import work
from orchestrator.commands.nightly import inputs
from orchestrator.commands.nightly.bisects import BISECTS, BisectKind
from orchestrator.commands.nightly.jobs import JOBS
from orchestrator.commands.nightly.retry import RETRIES, directory_name
from orchestrator.errors import UsageError
from orchestrator.history import files
from orchestrator.history.nights import Night
from orchestrator.host import ours
from orchestrator.model import orders
from orchestrator.model.malformations import MALFORMATIONS
from orchestrator.pages import site
from orchestrator.report import directory, explorejson, resultsjson, store, trialsjson
from orchestrator.repro import bundle, record
from orchestrator.trials import CONTROL

_TOP = (ours.MARK, files.NIGHT, files.CHANGES, site.INDEX, *announcements.NAMES)
_HEAD = (ours.MARK, store.LOCK)  # of a directory in which a command has begun
_DOCUMENTS = (directory.RESULTS, "junit.xml", "results.ktap")
_CASE = (
    *(directory.RESULT, "console.log", "dmesg"),
    *("qemu-command", "reproduce.sh", "disassembly"),
)
_FOUND = (work.FOUND, "bisect.log", "git-bisect.log")
_PAGE = re.compile(r"[A-Za-z0-9_-]*-[0-9a-f]{10}\.html")
_BISECT = re.compile(rf"\d+-({'|'.join(BisectKind)})(\.log)?")
_POINT = re.compile(r"\d{2,}|[0-9a-f]{12}")  # a kernel that a bisect has tried
_NUMBER = re.compile(r"-\d+$")  # of a bundle whose name was taken
# A file, where we were killed while it was written: of the file whose name is in it.
_PARTIAL = re.compile(r"\.(?P<name>.+?)(?P<more>\.\w+)?\.partial")
# Of a bundle, where we were killed while it was written, or put in the place of an older one.
_PARTIAL_BUNDLE = re.compile(r"\..+\.[0-9a-f]{16}\.(partial|before)")


def foreign(place: Path) -> str:
    """Why a night is not ours to remove, in words; "" when it is."""
    if not ours.marked(place, ours.MarkKind.NIGHT):
        return "it has no mark of klp-e2e (an older one made it, or it was copied here)"
    night: Night | None = None
    if (place / files.NIGHT).exists():  # else it was killed before it had begun
        try:
            night = files.document(place)
        except UsageError as malformed_:
            return str(malformed_)
        if night.name != place.name:
            return f"its {files.NIGHT} is that of night {night.name}"
    try:
        first = next(strangers(place, night), None)
    except OSError as err:
        return f"it cannot be looked through: {err}"
    return "" if first is None else f"it holds {first}, which klp-e2e did not write"


def strangers(place: Path, night: Night | None) -> Iterator[str]:
    """What lies in a night and was not written by klp-e2e, by its path in the night: files, links,
    and whatever else is no directory. `night`: None where it has no document."""
    listed = frozenset(_of_night(place, night))
    yield from (str(path.relative_to(place)) for path in _all_but(place, listed))


def _all_but(place: Path, listed: AbstractSet[Path]) -> Iterator[Path]:
    """Everything in it that is neither listed, in whole or in part, nor a directory."""
    for path in sorted(place.iterdir()):
        if not _is_directory(path):
            if not (_is_file(path) and any(each in listed for each in _wholes(path))):
                yield path
        elif not _is_half(path):
            yield from _all_but(path, listed)


def _wholes(path: Path) -> Iterator[Path]:
    """The file itself, or that which it may be a part of."""
    yield path
    if half := _PARTIAL.fullmatch(path.name):
        yield path.with_name(half["name"])
        yield path.with_name(half["name"] + (half["more"] or ""))


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _is_directory(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _is_half(path: Path) -> bool:
    return bool(_PARTIAL_BUNDLE.fullmatch(path.name)) and ours.marked(path, ours.MarkKind.BUNDLE)


def _inside(place: Path) -> list[Path]:
    """What is in it, if it is a directory and no link to one."""
    return [*place.iterdir()] if _is_directory(place) else []


# --- the files that are listed -------------------------------------------------------------------


def _of_night(place: Path, night: Night | None) -> Iterator[Path]:
    yield from (place / name for name in _TOP)
    yield from (path for path in _inside(place / site.CASES) if _PAGE.fullmatch(path.name))
    kept = itertools.chain.from_iterable(
        _inside(each) for each in (place / inputs.INPUTS, *_inside(place / inputs.SERIES))
    )
    yield from (path for path in kept if _is_file(path) and inputs.is_kept(place, path))
    for job in (each.job.name for each in night.jobs) if night else ():
        yield place / JOBS / f"{job}.log"
        yield from _of_command(place / JOBS / job)
    for row in night.rows if night else ():
        for path in _inside(place / RETRIES / row.job / directory_name(row.case)):
            if path.name.removesuffix(".log").isdecimal():
                yield from (path,) if _is_file(path) else _of_command(path)
    for path in _inside(place / BISECTS):
        if _BISECT.fullmatch(path.name):
            yield from (path,) if _is_file(path) else _of_bisect(path)


def _of_command(place: Path) -> Iterator[Path]:
    """A directory of any command that a night begins. One whose document cannot be read lists
    nothing."""
    yield from (place / name for name in _HEAD)
    try:
        if (place / explorejson.DOCUMENT).exists():
            yield from _of_exploration(place, explorejson.load_exploration(place))
        elif (place / trialsjson.DOCUMENT).exists():
            yield from _of_trials(place, trialsjson.load_trials(place))
        elif (place / directory.RESULTS).exists():
            yield from _of_results(place)
    except UsageError:
        return


def _of_exploration(place: Path, walked: explorejson.ExploreDocument) -> Iterator[Path]:
    names = (explorejson.DOCUMENT, *explorejson.MACHINES, explorejson.JOURNAL)
    yield from (place / name for name in names)
    for campaign in walked.campaigns:
        for finding in campaign.findings:
            for reproducer in finding.reproducers:
                yield from _of_bundle(place / reproducer.bundle) if reproducer.bundle else ()


def _of_trials(place: Path, head: trialsjson.TrialsDocument) -> Iterator[Path]:
    """Those that were interrupted are told by what was asked for."""
    yield place / trialsjson.DOCUMENT
    names = {*head.alterations, *(each.name for each in head.trials), CONTROL}
    names |= {f"{CONTROL}-{number + 1}" for number in range(head.controls)}
    arches = {*head.run.option("arches").split(), *(t.trial.arch for t in head.trials)}
    for name, arch in itertools.product(names, arches):
        yield from _of_command(place / name / arch)


def _of_results(place: Path) -> Iterator[Path]:
    ran = directory.document(place)
    yield from (place / name for name in _DOCUMENTS)
    for case in ran.cases:
        if case.directory:
            kept = (f"{name}.ko" for name in orders.loaded(resultsjson.order_of(case)))
            yield from (place / case.directory / name for name in (*_CASE, *kept))
    for kernel, (name, how) in itertools.product(ran.run.kernels, MALFORMATIONS.items()):
        yield place / malformed.MODULES / kernel.arch / name / f"{how.ground.livepatch}.ko"
    called = {bundle.name(case.arch, case.module_set, case.name) for case in ran.cases}
    for path in _inside(place / malformed.FINDINGS):
        if {path.name, _NUMBER.sub("", path.name)} & called:
            yield from _of_bundle(path)


def _of_bundle(place: Path) -> Iterator[Path]:
    """Files of a bundle that are as we wrote them."""
    if not ours.marked(place, ours.MarkKind.BUNDLE):
        return
    yield from (place / record.RECORD, place / ours.MARK)
    yield from (place / name for name in record.written(place, record.load_record(place)))


def _of_bisect(place: Path) -> Iterator[Path]:
    yield from (place / name for name in (*_HEAD, *_FOUND))
    for path in _inside(place):
        if _POINT.fullmatch(path.name):
            yield from _of_command(path)
