# SPDX-License-Identifier: GPL-2.0-only
"""An exploration's directory, written as it goes, so that a killed one can be taken up again.

DIR/explore.json      what was asked for, totals, findings; replaced whole
DIR/junit.xml  results.ktap    the same for other programs
DIR/walk.jsonl        one line for each verified or failed order; appended
DIR/findings/NAME/    one bundle for each reproducer of a finding
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal, TextIO

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config

from orchestrator.errors import Exit, UsageError
from orchestrator.explore.campaign import Campaign, CampaignOptions, Stats, also
from orchestrator.host import files, ours
from orchestrator.model import orders
from orchestrator.model.findings import Finding, Reproducer, Signature
from orchestrator.nouns import ArchName, Channel
from orchestrator.report import store
from orchestrator.report.resultsjson import (
    CaseRecord,
    as_result,
    record,
    refuse_contradictions,
    refuse_names,
)
from orchestrator.report.same import refuse_other
from orchestrator.report.store import Store, write, write_errors
from orchestrator.report.verdict import ended
from orchestrator.repro.record import Count, RelativePath, foreign
from orchestrator.verdicts import Run, Status

SCHEMA: Literal[2] = 2
DOCUMENT = "explore.json"
JOURNAL = "walk.jsonl"
MACHINES = ("junit.xml", "results.ktap")  # beside it
FINDINGS = "findings"
MOST_LINE = 1 << 20  # bytes of the journal that are looked at at once


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True, slots=True)
class ReproducerRecord:
    case: CaseRecord
    hits: int
    repeated: int
    tries: int
    bundle: RelativePath | Literal[""]  # from the exploration's directory; "": it has none


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True, slots=True)
class FindingRecord:
    signature: Signature
    reproducers: Annotated[
        tuple[ReproducerRecord, ...], Field(min_length=1), also("reproducers", "ways")
    ]


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True, slots=True)
class CampaignRecord:
    arch: ArchName
    module_set: str
    stats: Annotated[Stats, also("stats", "tally")]
    findings: tuple[FindingRecord, ...]


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True, slots=True)
class ExploreDocument:
    """explore.json as a whole."""

    schema: Literal[1, 2]
    run: Run
    options: Annotated[CampaignOptions, also("options", "wanted")]
    module_sets: tuple[str, ...]
    channel: Channel
    campaigns: Annotated[tuple[CampaignRecord, ...], also("campaigns", "grounds")] = ()
    exit_code: int = int(Exit.HARNESS)  # of what is known so far, as written
    counts: Mapping[Status, Count] = field(default_factory=dict)  # of findings, likewise


Machines = Mapping[str, Callable[[ExploreDocument], str]]


@dataclass(frozen=True, slots=True)
class Walked:
    """One line of the journal."""

    arch: str
    set: str
    order: str
    good: bool
    relocations: Count = 0  # read back after it, where it is good
    blocked: Annotated[Count, also("blocked", "beyond")] = (
        0  # events behind it that nobody can verify, where it is not
    )
    seconds: float = 0.0  # of a guest, getting there included


_DOCUMENT = TypeAdapter(ExploreDocument)
_WALKED = TypeAdapter(Walked)


class ExploreDirectory(Store):
    """A context manager, made for a new exploration, or by `resumed` for one that was
    interrupted."""

    DOCUMENTS = (DOCUMENT, *MACHINES)

    def __init__(
        self, path: Path, head: ExploreDocument | None, machines: Machines | None = None
    ) -> None:
        """head: what is asked for; None: what was begun there is gone on with. machines: what is
        written beside DOCUMENT, of MACHINES."""
        self._machines = machines or {}
        self._asked = head
        self._journal: TextIO | None = None
        super().__init__(path, resume=head is None)

    @classmethod
    def resumed(cls, path: Path, machines: Machines | None = None) -> ExploreDirectory:
        """Raises UsageError when nothing was begun there."""
        load_exploration(path)  # before anything is written
        return cls(path, None, machines)

    def _open(self) -> None:
        self.head = self._asked or load_exploration(self.path)
        if self._begun:
            self.head = replace(self.head, run=replace(self.head.run, resumed=time.time()))
            with write_errors(self.path / FINDINGS):
                ours.sweep(self.path / FINDINGS, ours.MarkKind.BUNDLE, foreign)
        if not self._begun:
            self.save(())

    def _end(self, err: BaseException | None) -> None:
        journal, self._journal = self._journal, None
        try:
            self.update(store.ended_by(self.head.run, err))
            self.save(())
        finally:
            with write_errors(self.path / JOURNAL):
                if journal is not None:
                    journal.close()

    @property
    def _idle(self) -> bool:
        return not self.head.run.kernels

    def save(self, campaigns: Sequence[Campaign]) -> None:
        """Replace the documents. Campaigns that are not given stay as they were."""
        old = {(g.arch, g.module_set): g for g in self.head.campaigns}
        new = {(g.bootable.arch.name, g.name): _ground(g) for g in campaigns}
        self.head = replace(self.head, campaigns=tuple({**old, **new}.values()))
        found = [each.status for campaign in self.head.campaigns for each in findings(campaign)]
        self.head = replace(
            self.head,
            exit_code=int(exploration_exit_code(self.head)),
            counts={status: found.count(status) for status in Status},
        )
        write(self.path / DOCUMENT, _DOCUMENT.dump_json(self.head, indent=2).decode() + "\n")
        for name, render in self._machines.items():
            write(self.path / name, render(self.head))

    def update(self, run: Run) -> None:
        """More is known of the run: kernels are built, a guest has ended. Raises UsageError when it
        is not the one that was begun."""
        refuse_other(self.path, self.head.run, run)
        self.head = replace(self.head, run=run)

    def walked(self, line: Walked) -> None:
        """Append to the journal."""
        with write_errors(self.path / JOURNAL):
            if self._journal is None:
                self._journal = ours.appending(self.path / JOURNAL)
            self._journal.write(json.dumps(asdict(line)) + "\n")

    def bundle(self, name: str) -> Path:
        """A place for a bundle that is not taken yet. Raises NotOurs where links lead elsewhere."""
        findings = self.path / FINDINGS
        with write_errors(findings):
            ours.folder(findings, within=self.path)
        place = findings / name
        number = 1
        while os.path.lexists(place):
            number += 1
            place = findings / f"{name}-{number}"
        return place

    def restore(self, campaigns: Sequence[Campaign]) -> None:
        """Tell the grounds what was done before they were made."""
        by_name = {(g.bootable.arch.name, g.name): g for g in campaigns}
        for found in self.head.campaigns:
            campaign = by_name.get((found.arch, found.module_set))
            if campaign is not None:
                campaign.findings = tuple(_finding(found, each) for each in found.findings)
                campaign.stats.seconds = found.stats.seconds
        for line in journal(self.path):
            campaign = by_name.get((line.arch, line.set))
            if campaign is None:
                continue
            try:
                path = orders.parse(line.order, campaign.bootable.sets[campaign.name].set).events
            except UsageError:
                continue  # no order of this set: it counts for nothing
            if line.good:
                campaign.verified(path, line.relocations)
            else:
                campaign.failed(path, line.blocked)


def journal(path: Path) -> Iterator[Walked]:
    """What was walked, as far as it was written down. Raises UsageError for a file without end."""
    file = path / JOURNAL
    if not file.is_file():
        return
    try:
        for text in files.lines(file, files.TEXT, MOST_LINE):
            try:
                yield _WALKED.validate_json(text)
            except ValidationError:
                continue  # cut short when the exploration was killed: that order is walked again
    except OSError as err:
        raise UsageError(
            f"cannot read {file}: {err.strerror}",
            hint="move it away: what it says was walked is walked again",
        ) from err


def load_exploration(path: Path) -> ExploreDocument:
    """explore.json of a directory. Raises UsageError."""
    file = path / DOCUMENT
    read = store.load_document(file, _DOCUMENT, "klp-e2e explore")
    refuse_names(read.run, (campaign.arch for campaign in read.campaigns), str(file))
    found = (each for campaign in read.campaigns for each in campaign.findings)
    refuse_contradictions((way.case for each in found for way in each.reproducers), str(file))
    return replace(read, schema=SCHEMA)


def exploration_exit_code(document: ExploreDocument) -> Exit:
    """1 when anything was found that is not known (--strict: anything), else that of what ended it
    early, else 4 when not all was walked, a module set proved nothing or is itself to blame, else
    0. A budget may leave something to come."""
    found = [each for campaign in document.campaigns for each in findings(campaign)]
    if any(not each.blamed and (document.run.strict or not each.known) for each in found):
        return Exit.TEST_FAILURE
    if early := ended(document.run):
        return early
    left = any(unwalked(document, campaign) for campaign in document.campaigns)
    if left or not document.campaigns or any(each.blamed for each in found):
        return Exit.HARNESS
    return Exit.GOOD


def unwalked(document: ExploreDocument, campaign: CampaignRecord) -> str:
    """What of one walk is missing, in words; "" where nothing is, or only what a budget leaves."""
    stats = campaign.stats
    if not stats.verified:
        return "no order was verified"
    if stats.not_run:
        return f"{stats.not_run} orders were not walked: {'; '.join(stats.errors)}"
    if document.options.budget is None and stats.done < stats.planned:
        return f"{stats.planned - stats.done} of {stats.planned} orders are still to come"
    return ""


def incomplete(document: ExploreDocument) -> str:
    """Why it is not all there, in words; "" where it is: as verdict.incomplete()."""
    if document.run.trouble:
        return f"stopped early: {document.run.trouble}"
    if document.run.finished is None:
        return "it has not come to its end"
    return "" if document.campaigns else "nothing was walked"


def findings(campaign: CampaignRecord) -> tuple[Finding, ...]:
    """The findings of a ground as values."""
    return tuple(_finding(campaign, each) for each in campaign.findings)


def _finding(campaign: CampaignRecord, found: FindingRecord) -> Finding:
    reproducers = tuple(
        Reproducer(as_result(w.case), w.hits, w.repeated, w.tries, w.bundle)
        for w in found.reproducers
    )
    return Finding(campaign.arch, campaign.module_set, found.signature, reproducers)


def _ground(campaign: Campaign) -> CampaignRecord:
    return CampaignRecord(
        campaign.bootable.arch.name,
        campaign.name,
        campaign.stats,
        tuple(
            FindingRecord(
                found.signature,
                tuple(
                    ReproducerRecord(record(w.result), w.hits, w.repeated, w.tries, w.bundle)
                    for w in found.reproducers
                ),
            )
            for found in campaign.findings
        ),
    )
