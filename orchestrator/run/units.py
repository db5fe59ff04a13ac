# SPDX-License-Identifier: GPL-2.0-only
"""Units of work: values that say what is to be done on guests, whoever does it, and where.

A unit is done at a `Site`; what comes of it is told as messages, values as well. Those of one
command come from a `Queue` and what is told goes back to it, so that it alone knows what is done:
a unit that is done twice, or half, does no harm.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from orchestrator.build.prepare import Bootable
from orchestrator.nouns import Case, CaseKind
from orchestrator.run import scriptrun
from orchestrator.run.site import Site
from orchestrator.run.slot import GuestOptions, GuestSlot
from orchestrator.verdicts import CaseResult, GuestRecord

Tell = Callable[[Any], None]


class Unit(Protocol):
    @property
    def bootable(self) -> Bootable: ...

    def do(self, site: Site, tell: Tell) -> None:
        """Tell each message as soon as it is known. Trouble with guests is part of what is told;
        raised is Ctrl-C, and what was not foreseen. Where the site is stopped, what is not known by
        then is not told."""

    def given_up(self, why: str) -> Iterable[Any]:
        """What is told of it where it cannot be done anywhere: ERROR, never a verdict."""


class Queue(Protocol):
    """A command's units, handed out to several sites at once."""

    @property
    def width(self) -> int:
        """At how many sites of one machine its units are done at once."""

    def next(self) -> Unit | None:
        """The next one; None when there is none for whoever asks, now or later: more may come of
        what is told, and then it is for who told it. Called from one thread at a time, which may be
        while something is told."""

    def told(self, unit: Any, message: Any) -> None:
        """What has come of a unit so far. Called from one thread at a time, of all queues."""

    def guest(self, record: GuestRecord) -> None:
        """A guest of it has ended; called likewise."""


@dataclass(frozen=True, slots=True)
class Cases:
    """Cases in turn, each on a fresh guest; tells a CaseResult each."""

    bootable: Bootable
    options: GuestOptions
    cases: tuple[Case, ...]

    def do(self, site: Site, tell: Tell) -> None:
        for case in self.cases:
            if site.stopped:
                return
            result = of_case(site.slot(self.bootable, self.options), case)
            if not site.stopped:  # an interrupted case has no result
                tell(result)

    def given_up(self, why: str) -> Iterable[CaseResult]:
        arch = self.bootable.arch.name
        return [CaseResult(case=case, arch=arch, reason=why) for case in self.cases]


def of_case(slot: GuestSlot, case: Case) -> CaseResult:
    """One case on a fresh guest; nothing is raised but Ctrl-C."""
    if case.kind is CaseKind.SELFTEST:
        return slot.use(case, scriptrun.run_script)
    return slot.run_case(case)


class CaseQueue:
    """Cases of one bootable, so many a unit."""

    def __init__(
        self,
        bootable: Bootable,
        cases: Sequence[Case],
        options: GuestOptions,
        on_result: Callable[[CaseResult], None],
        on_guest: Callable[[GuestRecord], None],
        grain: int = 1,
    ) -> None:
        self._bootable = bootable
        self._options = options
        self._left: Iterator[Case] = iter(cases)
        self._on_result = on_result
        self._on_guest = on_guest
        self._grain = grain

    @property
    def width(self) -> int:
        return self._options.guests

    def next(self) -> Cases | None:
        cases = tuple(itertools.islice(self._left, self._grain))
        return Cases(self._bootable, self._options, cases) if cases else None

    def told(self, unit: Unit, message: CaseResult) -> None:
        self._on_result(message)

    def guest(self, record: GuestRecord) -> None:
        self._on_guest(record)
