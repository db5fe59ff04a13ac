# SPDX-License-Identifier: GPL-2.0-only
"""prefixes.json of `run --each-patch`: a line for each prefix of a series, whose results lie in
directories of their own beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field, TypeAdapter, with_config
from rich.console import RenderableType
from rich.text import Text

from orchestrator.errors import Exit
from orchestrator.report import directory, store, verdict
from orchestrator.verdicts import CaseResult, Run, Status

DOCUMENT = "prefixes.json"
WORST_FIRST = (Exit.TEST_FAILURE, Exit.BUILD, Exit.HARNESS, Exit.GOOD)


@dataclass(frozen=True, slots=True)
class Prefix:
    """The kernel with the patches up to this one, and what its run came to."""

    patch: str  # its name; "" before the first
    spec: str  # the prefix, as --series names it
    path: Path  # its results directory
    run: Run
    results: tuple[CaseResult, ...]
    exit: Exit

    @property
    def counts(self) -> Mapping[str, Mapping[Status, int]]:
        """Architecture -> status -> number of cases."""
        arches = sorted({kernel.arch for kernel in self.run.kernels})
        return {a: verdict.counts([r for r in self.results if r.arch == a]) for a in arches}

    @property
    def line(self) -> str:
        """`0002-x86...: s390x 65 PASS, 10 KNOWN; x86_64 75 PASS`"""
        parts = [
            f"{arch} {', '.join(f'{n} {status}' for status, n in counts.items()) or 'nothing ran'}"
            for arch, counts in self.counts.items()
        ]
        parts += [f"{arch} {why}" for arch, why in self.run.unbuilt.items()]
        parts += [self.run.trouble] if self.run.trouble else []
        return f"{self.patch or 'before the first patch'}: {'; '.join(parts)}"


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True, slots=True)
class PrefixRecord:
    """One of prefixes.json."""

    patch: str
    spec: str
    directory: Annotated[str, Field(pattern="^[0-9]{2,4}$")]
    exit_code: Exit  # where there is a directory, it is that of what lies in it


_DOCUMENT = TypeAdapter(tuple[PrefixRecord, ...])


def save(place: Path, prefixes: Sequence[Prefix]) -> None:
    """Replace prefixes.json. Raises HarnessError."""
    records = tuple(PrefixRecord(p.patch, p.spec, p.path.name, p.exit) for p in prefixes)
    text = _DOCUMENT.dump_json(records, indent=2).decode()
    store.write(place / DOCUMENT, f"{text}\n")


def load(place: Path) -> tuple[Prefix, ...]:
    """What a run with --each-patch has left. Raises UsageError."""
    records = store.load_document(place / DOCUMENT, _DOCUMENT, "klp-e2e run --each-patch")
    return tuple(_read(place, record) for record in records)


def _read(place: Path, record: PrefixRecord) -> Prefix:
    path = place / record.directory
    if not (path / directory.RESULTS).exists():  # nothing of it was built, or it has gone
        run = Run((), 0.0, "", (), 0, trouble="nothing was built")
        return Prefix(record.patch, record.spec, path, run, (), record.exit_code or Exit.HARNESS)
    run, results = directory.read(path)
    code = verdict.results_exit_code(run, results)
    return Prefix(record.patch, record.spec, path, run, results, code)


def report(prefixes: Sequence[Prefix]) -> RenderableType:
    """A line each."""
    return Text("\n".join(prefix.line for prefix in prefixes) or "nothing ran")


def exit_code(prefixes: Sequence[Prefix]) -> Exit:
    """The worst of them."""
    return min((prefix.exit for prefix in prefixes), key=WORST_FIRST.index, default=Exit.HARNESS)
