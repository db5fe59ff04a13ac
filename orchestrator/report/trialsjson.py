# SPDX-License-Identifier: GPL-2.0-only
"""The directory of `klp-e2e ablate` or `mutate`, written as it goes.

DIR/trials.json          what was asked for, and every trial so far; replaced whole
DIR/NAME/ARCH/           the results directory of one trial, see report/directory.py
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, TypeAdapter, with_config

from orchestrator.host import ours
from orchestrator.report import directory, resultsjson, store
from orchestrator.report.same import refuse_other
from orchestrator.report.store import Store, write, write_errors
from orchestrator.source.alterations import AlterationKind
from orchestrator.trials import CONTROL, Trial, contradiction
from orchestrator.trials import DOCUMENT as DOCUMENTATION
from orchestrator.verdicts import Run

SCHEMA: Literal[1] = 1
DOCUMENT = "trials.json"


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True, slots=True)
class Tried:
    """A trial and where its results are: name and architecture name the directory."""

    name: str
    trial: Trial


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True, slots=True)
class TrialsDocument:
    """trials.json as a whole."""

    schema: Literal[1]
    run: Run
    kind: AlterationKind
    alterations: tuple[str, ...]
    whole: bool
    controls: Annotated[int, Field(ge=0, le=1000)]
    trials: tuple[Tried, ...] = ()

    @property
    def planned(self) -> int:
        """Trials on each architecture; the sixth ablation is no patch."""
        return len(self.names)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the trials on each architecture."""
        controls = (self.control(number) for number in range(self.controls))
        document = (DOCUMENTATION,) * (self.kind is AlterationKind.ABLATION)
        return (*controls, *self.alterations, *document)

    def control(self, number: int) -> str:
        """What a trial of the unaltered kernel is called, the first of them 0."""
        return CONTROL if self.controls == 1 else f"{CONTROL}-{number + 1}"


_DOCUMENT = TypeAdapter(TrialsDocument)


class TriedDirectory(Store):
    """A context manager, made for a new experiment, or by `resumed` for an interrupted one."""

    DOCUMENTS = (DOCUMENT,)

    def __init__(self, path: Path, head: TrialsDocument | None) -> None:
        """head: what is asked for; None: what was begun there is gone on with."""
        self._asked = head
        super().__init__(path, resume=head is None)

    @classmethod
    def resumed(cls, path: Path) -> TriedDirectory:
        """Raises UsageError when nothing was begun there."""
        load_trials(path)  # before anything is written
        return cls(path, None)

    def _open(self) -> None:
        self.head = self._asked or load_trials(self.path)
        if self._begun:
            self.head = replace(self.head, run=replace(self.head.run, resumed=time.time()))
        if not self._begun:
            self._save()

    def _end(self, err: BaseException | None) -> None:
        self.update(store.ended_by(self.head.run, err))

    @property
    def _idle(self) -> bool:
        return not (self.head.trials or self.head.run.kernels)

    def update(self, run: Run, alterations: tuple[str, ...] = ()) -> None:
        """More is known of the run, and which alterations its kernel takes, where some are named.
        Raises UsageError when it is not the one that was begun."""
        refuse_other(self.path, self.head.run, run)
        self.head = replace(self.head, run=run, alterations=alterations or self.head.alterations)
        self._save()

    def add(self, name: str, trial: Trial) -> None:
        self.head = replace(self.head, trials=(*self.head.trials, Tried(name, trial)))
        self._save()

    def trial(self, name: str, arch: str) -> Trial | None:
        """What was found out before."""
        found = (t.trial for t in self.head.trials if (t.name, t.trial.arch) == (name, arch))
        return next(found, None)

    def done(self, arch: str) -> int:
        return sum(each.trial.arch == arch for each in self.head.trials)

    def place(self, name: str, arch: str) -> Path:
        """An empty place for a trial's results. What an interrupted one left there goes; where
        there is anything else, all of it is put aside.

        Raises NotOurs for what is not the results directory of a trial.
        """
        place = self.path / name / arch
        with write_errors(place):
            ours.folder(place.parent, within=self.path)
            if os.path.lexists(place) and not ours.marked(place, ours.MarkKind.RESULTS):
                raise ours.NotOurs(
                    f"{place} is not removed: klp-e2e did not make it", hint="move it elsewhere"
                )
            real = self.path.resolve() / name / arch
            if os.path.lexists(place) and not ours.removed(real, real, directory.strangers):
                ours.put_aside(place, "interrupted")
        return place

    def _save(self) -> None:
        write(self.path / DOCUMENT, _DOCUMENT.dump_json(self.head, indent=2).decode() + "\n")


def load_trials(path: Path) -> TrialsDocument:
    """trials.json of a directory. Raises UsageError, also where it contradicts itself: scores and
    exit code are counted from it."""
    file = path / DOCUMENT
    read = store.load_document(file, _DOCUMENT, "klp-e2e ablate` or `klp-e2e mutate")
    resultsjson.refuse_names(read.run, (each.trial.arch for each in read.trials), str(file))
    if why := _wrong(read):
        raise resultsjson.malformed(str(file), why)
    return read


def _wrong(read: TrialsDocument) -> str:
    """What klp-e2e never writes, in words; "" when nothing is."""
    controls = {read.control(number) for number in range(read.controls)}
    names, arches = set(read.names), set(read.run.option("arches").split())
    whole = {t.trial.arch: t.trial.orders for t in read.trials if t.name in controls}
    seen: set[tuple[str, str]] = set()
    for name, trial in ((each.name, each.trial) for each in read.trials):
        label = f"{name} on {trial.arch}"
        if name not in names or (arches and trial.arch not in arches):
            return f"{label} was not asked for"
        if (name, trial.arch) in seen:
            return f"it has {label} twice"
        if trial.alteration != (CONTROL if name in controls else name):
            return f"{label} is a trial of {trial.alteration}"
        if why := contradiction(trial):
            return f"{label} is {why}"
        if name != DOCUMENTATION and trial.orders > whole.get(trial.arch, trial.orders):
            return f"{label} ran {trial.orders} orders, and the {CONTROL} kernel fewer"
        seen.add((name, trial.arch))
    return ""
