# SPDX-License-Identifier: GPL-2.0-only
"""What the files of one case tell: its steps, its time line, its logs. Only reads.

A file that is missing or damaged is told on the page and keeps nothing else from being shown.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import TypeAdapter

from orchestrator import catalog
from orchestrator.errors import UsageError
from orchestrator.history.nights import Row
from orchestrator.model import orders
from orchestrator.nouns import CaseKind
from orchestrator.pages import logs, timeline
from orchestrator.pages.logs import Log
from orchestrator.pages.timeline import TimeLine
from orchestrator.report import directory, store
from orchestrator.report.resultsjson import CaseRecord, kind_by_set, kind_of
from orchestrator.repro import record
from orchestrator.verdicts import Run, Status, Step

RESULT = "result.json"
DISASSEMBLY = "disassembly"
LOGS = ("console.log", "dmesg")
_READ = 4_000_000  # bytes of a log's end that are looked at
# Files that people open first come first.
_FIRST = ("reproduce.sh", *LOGS, DISASSEMBLY, RESULT, "qemu-command")


@dataclass(frozen=True, slots=True)
class _Head:
    """Of results.json, what a page needs beside the case's own entry."""

    run: Run


_HEAD = TypeAdapter(_Head)
_CASE = TypeAdapter(CaseRecord)
_BUNDLE = TypeAdapter(record.Record)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of a case; what is not known is empty."""

    line: TimeLine
    steps: tuple[Step, ...] = ()
    known_issue: str = ""
    cold: bool | None = None
    logs: tuple[tuple[str, Log], ...] = ()  # file name, content
    disassembly: str = ""
    files: tuple[str, ...] = ()  # names in the case's directory
    notes: tuple[str, ...] = ()  # what could not be shown, and why


@dataclass(frozen=True, slots=True)
class _BundleFacts:
    """What a case's own document says."""

    kind: CaseKind
    module_set: str
    order: str
    steps: tuple[Step, ...]
    known_issue: str
    cold: bool | None
    capabilities: frozenset[str]


class Archive:
    """The files of one night, each that serves many cases read once."""

    def __init__(self, night: Path) -> None:
        self._night = night
        self._run = functools.cache(self._read_run)
        self._ours = functools.cache(catalog.module_sets)

    def evidence(self, row: Row) -> Evidence:
        """What there is; a bad file is a note."""
        place = self.place(row.directory)
        if place is None:
            return Evidence(_events(row.order, ()))
        notes: list[str] = []
        inside = (p.name for p in place.iterdir() if p.is_file() and not p.is_symlink())
        files = tuple(sorted(inside, key=_rank))  # what a link leads to is not the night's
        facts = None
        try:
            facts = self._told(place, files)
        except UsageError as err:
            notes.append(str(err))
        steps = facts.steps if facts else ()
        line = _events(row.order, steps)
        if facts and facts.order:
            try:
                line = self._lanes(facts)
            except UsageError as err:
                notes.append(f"no lifelines: {err}")
        found = Evidence(line=line, steps=steps, files=files, notes=tuple(notes))
        if facts:
            found = replace(found, known_issue=facts.known_issue, cold=facts.cold)
        if row.status in (Status.PASS, Status.SKIP):
            return found  # its logs are a click away: nobody looks at them on 500 pages
        shown = [(n, logs.log(_tail(place / n))) for n in LOGS if n in files]
        return replace(
            found,
            logs=tuple(each for each in shown if each[1].chunks),
            disassembly=_tail(place / DISASSEMBLY) if DISASSEMBLY in files else "",
        )

    def place(self, name: str) -> Path | None:
        """A case's directory, None where it has none, or one that is not the night's."""
        place = (self._night / name).resolve()
        inside = place.is_relative_to(self._night.resolve()) and place.is_dir()
        return place if name and inside else None

    def _told(self, place: Path, files: tuple[str, ...]) -> _BundleFacts | None:
        if record.RECORD in files:
            return _of_bundle(
                store.load_document(place / record.RECORD, _BUNDLE, "klp-e2e explore")
            )
        if RESULT not in files:
            return None
        case = store.load_document(place / RESULT, _CASE, "klp-e2e run")
        # it names its directory as it is seen from results.json
        named = Path(case.directory).parts
        if not named or place.parts[-len(named) :] != named:
            raise UsageError(f"{place / RESULT} is of {case.directory}, another directory")
        results = place.parents[len(named) - 1] / directory.RESULTS
        if results.is_symlink() or not results.resolve().is_relative_to(self._night.resolve()):
            raise UsageError(f"{results} is not the night's")
        run = self._run(results)
        capabilities = {kernel.arch: kernel.capabilities for kernel in run.kernels}
        return _BundleFacts(
            kind=kind_of(case),
            module_set=case.module_set,
            order=case.order,
            steps=case.steps,
            known_issue=case.known_issue,
            cold=case.cold,
            capabilities=capabilities.get(case.arch, frozenset()),
        )

    def _read_run(self, file: Path) -> Run:
        return store.load_document(file, _HEAD, "klp-e2e run").run

    def _lanes(self, facts: _BundleFacts) -> TimeLine:
        name = facts.module_set
        module_set = self._ours().get(name)
        if facts.kind is CaseKind.MALFORMED:
            raise UsageError("its modules are broken on purpose, and the model is of good ones")
        if module_set is None:
            module_set = catalog.module_set(name)
        order = orders.parse(facts.order)
        return timeline.time_line(module_set, order, facts.capabilities, facts.steps)


def _of_bundle(facts: record.Record) -> _BundleFacts:
    """What failed, and that the events before it did not."""
    events = [orders.format_event(e) for e in orders.parse(facts.order).events]
    if facts.failed_event >= len(events):
        raise UsageError(f"its order has no event {facts.failed_event + 1}")
    good = [Step(event, (), 0.0, 0.0, 0) for event in events[: facts.failed_event]]
    wrong = Step(events[facts.failed_event], facts.failed, 0.0, 0.0, 0)
    return _BundleFacts(
        kind=kind_by_set(facts.module_set),
        module_set=facts.module_set,
        order=facts.order,
        steps=(*good, wrong),
        known_issue=facts.known_issue,
        cold=True,
        capabilities=frozenset(facts.kernel.capabilities),
    )


def _events(order: str, steps: tuple[Step, ...]) -> TimeLine:
    """Without lifelines: of an order its events, of a script its tests."""
    try:
        events = [orders.format_event(e) for e in orders.parse(order).events] if order else []
    except UsageError:
        events = []  # it is no order, whatever it is: the page shows it as it is
    return timeline.bare(events or [step.event for step in steps], steps)


def _rank(name: str) -> tuple[int, str]:
    return (_FIRST.index(name) if name in _FIRST else len(_FIRST), name)


def _tail(file: Path) -> str:
    """The end of a text file."""
    with file.open("rb") as opened:
        size = opened.seek(0, 2)
        opened.seek(max(0, size - _READ))
        return opened.read().decode(errors="replace")
