# SPDX-License-Identifier: GPL-2.0-only
"""The parts of a report card that take minutes: core suite, exploration, the kernel's own tests,
malformed modules. Each is the command of that name, in a results directory of its own, with as many
guests side by side as there are cores."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from orchestrator import catalog
from orchestrator.cli import options
from orchestrator.cli.options import BuildOptions, RunOptions
from orchestrator.commands import explore, kselftest, malformed
from orchestrator.commands.explore import ExploreOptions
from orchestrator.commands.kselftest import KselftestOptions
from orchestrator.commands.malformed import MalformedOptions
from orchestrator.commands.run import work as orders_work
from orchestrator.errors import Exit, KlpError
from orchestrator.explore.campaign import CampaignOptions
from orchestrator.model import search
from orchestrator.model.search import Choice
from orchestrator.nouns import Accel, Burst, Case, Channel, Load, Race
from orchestrator.port import card
from orchestrator.port.card import Line, Part, Verdict
from orchestrator.port.coverage import Coverage
from orchestrator.report import explorejson, exploretext, verdict
from orchestrator.report.progress import Reporter
from orchestrator.verdicts import CaseResult

DEPTH = 4
ORDERS = 1000  # of a module set at that depth; sets with more are left to `klp-e2e explore`
CONFIRM = 3  # cold boots of an order that fails
VMLINUX_SETS = ("vmlinux", "samples")
RESULTS = "results.json"


@dataclass(frozen=True, slots=True)
class Scope:
    """How much is done of each part; a part with nothing is left out."""

    core: tuple[Case, ...] = ()
    explored: tuple[str, ...] = ()  # module sets
    unexplored: Mapping[str, int] = field(default_factory=dict)  # too big: set -> its orders
    kselftest: bool = False
    malformed: tuple[Case, ...] = ()


def whole() -> Scope:
    """Everything."""
    sizes = {name: _orders(name) for name in catalog.module_sets()}
    return Scope(
        core=options.suite_cases(options.SUITE),
        explored=tuple(name for name, orders in sizes.items() if orders <= ORDERS),
        unexplored={name: orders for name, orders in sizes.items() if orders > ORDERS},
        kselftest=True,
        malformed=malformed.cases(()),
    )


def _orders(module_set: str) -> int:
    """How many orders there are to that depth, on a kernel with no capability."""
    found = catalog.module_set(module_set)
    return search.exhaustive(found, frozenset(), DEPTH, Choice(), merge=True).edges


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of one card."""

    built: BuildOptions
    scope: Scope
    path: Path
    command: tuple[str, ...]
    reporter: Reporter
    put: Callable[[Iterable[Line]], None]  # on the card
    covered: Callable[[Sequence[CaseResult]], Sequence[Coverage]]  # coverage with these results
    accel: Accel = Accel.AUTO

    def run_parts(self) -> None:
        """One after the other; a line on the card as soon as it is known, also when interrupted."""
        self._core()
        self._explore()
        self._kselftest()
        self._malformed()

    @property
    def _guests(self) -> int:
        return explore.guests_of(self.built)

    def _core(self) -> None:
        parts = (Part.VMLINUX, Part.DEFERRED, Part.RELOAD, Part.CORE)
        cases = self.scope.core
        if not self._wanted(parts, bool(cases)):
            return
        asked = RunOptions(
            self.built,
            cases,
            self.path / "core",
            strict=False,
            cold=False,
            channel=Channel.AGENT,
            guests=self._guests,
            accel=self.accel,
        )
        writer = orders_work.results_directory(asked, self.command)

        def lines() -> Iterator[Line]:
            file = f"core/{RESULTS}"
            results = writer.results
            of_vmlinux = [case for case in cases if case.module_set in VMLINUX_SETS]
            reloads = [case for case in cases if reloaded(case)]
            yield _judged(Part.VMLINUX, results, of_vmlinux, file)
            yield card.deferred(results, self.covered(results), file, planned=len(cases))
            yield _judged(Part.RELOAD, results, reloads, file)
            yield _judged(Part.CORE, results, cases, file)

        with self._told(parts, lines), writer:
            orders_work.run_orders(asked, writer, self.reporter)

    def _explore(self) -> None:
        if not self._wanted((Part.EXPLORE,), bool(self.scope.explored)):
            return
        asked = ExploreOptions(
            self.built,
            self.scope.explored,
            CampaignOptions(depth=DEPTH, confirm=CONFIRM, guests=self._guests),
            Channel.AGENT,
            False,
            self.path / "explore",
            self.accel,
        )
        writer = explore.begin(asked, self.command)
        with self._told((Part.EXPLORE,), lambda: iter([self._explored(writer.head)])), writer:
            explore.run_exploration(asked, writer, self.reporter)

    def _explored(self, document: explorejson.ExploreDocument) -> Line:
        found = [each for campaign in document.campaigns for each in explorejson.findings(campaign)]
        verdicts = {
            Exit.GOOD: Verdict.KNOWN if found else Verdict.PASS,
            Exit.TEST_FAILURE: Verdict.FAIL,
        }
        evidence = [
            f"to depth {DEPTH}: {', '.join(document.module_sets)}",
            exploretext.exploration_summary(document),
        ]
        if self.scope.unexplored:
            left = ", ".join(f"{name} ({n} orders)" for name, n in self.scope.unexplored.items())
            evidence.append(f"left to klp-e2e explore: {left}")
        bad = sorted(found, key=lambda each: each.known)
        obstacles = [
            f"{each.status} {each.module_set} {each.signature} ({each.hits} orders)"
            for each in bad[: card.SHOWN]
        ]
        obstacles += [f"… and {len(bad) - card.SHOWN} more"] if len(bad) > card.SHOWN else []
        bundles = [
            reproducer.bundle
            for each in bad
            if not each.known
            for reproducer in each.reproducers
            if reproducer.bundle
        ]
        advice = [
            f"klp-e2e replay {shlex.quote(str(self.path / 'explore' / bundle))}"
            for bundle in bundles[:1]
        ]
        return Line(
            Part.EXPLORE,
            verdicts.get(explorejson.exploration_exit_code(document), Verdict.ERROR),
            tuple(evidence),
            tuple(obstacles),
            tuple(advice),
            (f"explore/{explorejson.DOCUMENT}",),
        )

    def _kselftest(self) -> None:
        if not self._wanted((Part.KSELFTEST,), self.scope.kselftest):
            return
        place = self.path / "kselftest"
        asked = KselftestOptions(self.built, (), place, self._guests, accel=self.accel)
        writer = kselftest.begin(asked, self.command)

        def lines() -> Iterator[Line]:
            file = f"kselftest/{RESULTS}"
            line = card.judged(
                Part.KSELFTEST, writer.results, "scripts", file, planned=writer.run.planned
            )
            told = tuple(verdict.test_lines(writer.results))
            yield replace(line, evidence=(*line.evidence, *told))

        with self._told((Part.KSELFTEST,), lines), writer:
            kselftest.run_scripts(asked, writer, self.reporter)

    def _malformed(self) -> None:
        cases = self.scope.malformed
        if not self._wanted((Part.MALFORMED,), bool(cases)):
            return
        place = self.path / "malformed"
        asked = MalformedOptions(self.built, cases, place, self._guests, accel=self.accel)
        writer = malformed.begin(asked, self.command)

        def lines() -> Iterator[Line]:
            yield card.malformed(writer.results, f"malformed/{RESULTS}", planned=len(cases))

        with self._told((Part.MALFORMED,), lines), writer:
            malformed.run_malformed(asked, writer, self.reporter)

    # --- the card ------------------------------------------------------------------------------

    def _wanted(self, parts: Sequence[Part], asked_for: bool) -> bool:
        """Say that a part begins, or on the card that it is left out."""
        if asked_for:
            self.reporter.say(f"--- {parts[-1]}")
        else:
            self.put(Line(part, evidence=(f"{card.NOT_YET}: not asked for",)) for part in parts)
        return asked_for

    @contextmanager
    def _told(self, parts: Sequence[Part], lines: Callable[[], Iterator[Line]]) -> Iterator[None]:
        """Whatever ends it, what is known of these parts is on the card then; trouble of ours ends
        nothing else."""
        try:
            yield
        except KlpError as err:
            known = {line.part: line for line in lines() if line.verdict is not Verdict.SKIP}
            ends = [card.troubled(part, err) for part in parts]
            self.put(_ended(known[end.part], end) if end.part in known else end for end in ends)
        except BaseException:
            self.put(lines())
            raise
        else:
            self.put(lines())


def _ended(known: Line, end: Line) -> Line:
    """What was known of a part before trouble of ours ended it."""
    return replace(
        known,
        verdict=Verdict.FAIL if known.verdict is Verdict.FAIL else end.verdict,
        obstacles=(*known.obstacles, *end.evidence, *end.obstacles),
        advice=(*known.advice, *end.advice),
    )


def _judged(part: Part, results: Sequence[CaseResult], cases: Sequence[Case], file: str) -> Line:
    """Those results that are of these cases."""
    names = {(case.module_set, case.name) for case in cases}
    mine = [r for r in results if (r.case.module_set, r.case.name) in names]
    return card.judged(part, mine, "orders", file, planned=len(cases))


def reloaded(case: Case) -> bool:
    """Does a module that is patched come a second time? A burst is there for nothing else."""
    module_set = catalog.module_set(case.module_set)
    targets = {spec.name for spec in module_set.modules if spec.kind == "target"}
    loads: list[str] = []
    for event in case.order.events:
        plain = event.events if isinstance(event, Race | Burst) else (event,)
        times = 2 if isinstance(event, Burst) else 1
        loads += [each.module for each in plain if isinstance(each, Load)] * times
    return any(loads.count(target) > 1 for target in targets)
