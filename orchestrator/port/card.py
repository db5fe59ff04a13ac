# SPDX-License-Identifier: GPL-2.0-only
"""A port's report card: what of livepatch works on an architecture, and what stands in the way of
the rest. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from orchestrator.build import kconfigtree
from orchestrator.build.kconfigtree import Config, KconfigTree
from orchestrator.errors import Exit, KlpError
from orchestrator.model.findings import is_death
from orchestrator.port.coverage import Coverage
from orchestrator.verdicts import CaseResult, CheckKind, Status


class Part(StrEnum):
    """What a line is about; in this order they stand on the card."""

    FILES = "architecture files"
    HOST = "host tools"
    COMPILER = "cross-compiler"
    KCONFIG = "Kconfig"
    BUILD = "kernel builds"
    BOOT = "boots"
    LOG = "clean boot log"
    MODULES = "ordinary modules load"
    VMLINUX = "livepatch of vmlinux works"
    DEFERRED = "deferred relocation works"
    RELOAD = "reload works"
    CORE = "core suite"
    EXPLORE = "exploration"
    KSELFTEST = "upstream's kselftests"
    MALFORMED = "malformed modules are refused"


class Verdict(StrEnum):
    PASS = "PASS"
    KNOWN = "KNOWN"  # wrong exactly as listed, or not checked by this kernel
    FAIL = "FAIL"  # the kernel is wrong, or lacks it
    WRONG = "WRONG"  # the architecture's files are
    UNBUILT = "UNBUILT"
    ERROR = "ERROR"  # our own trouble, or the machine's
    SKIP = "SKIP"  # not done, with a reason


# The first that a card has is its exit code's reason: nothing that follows from wrong files is
# the kernel's fault.
_EXITS: Mapping[Verdict, Exit] = {
    Verdict.WRONG: Exit.USAGE,
    Verdict.FAIL: Exit.TEST_FAILURE,
    Verdict.UNBUILT: Exit.BUILD,
    Verdict.ERROR: Exit.HARNESS,
    Verdict.SKIP: Exit.HARNESS,
}
_OF_TROUBLE: Mapping[Exit, Verdict] = {
    Exit.USAGE: Verdict.WRONG,
    Exit.BUILD: Verdict.UNBUILT,
}
NOT_YET = "not done"
SHOWN = 3  # of failures of one kind


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the card. Every text is plain, one line each."""

    part: Part
    verdict: Verdict = Verdict.SKIP
    evidence: tuple[str, ...] = (NOT_YET,)
    obstacles: tuple[str, ...] = ()  # what stands in the way
    advice: tuple[str, ...] = ()  # what to do: a command, or words
    files: tuple[str, ...] = ()  # evidence, relative to the card
    detail: str = ""  # which of the part's lines

    @property
    def name(self) -> str:
        return f"{self.part}: {self.detail}" if self.detail else str(self.part)


@dataclass(frozen=True, slots=True)
class ReportCard:
    """The whole. What is not known (yet) is empty."""

    arch: str
    source: str  # as asked for: debian:6.1
    series: tuple[str, ...]
    command: tuple[str, ...]
    started: float  # seconds since the epoch
    host: str
    lines: tuple[Line, ...] = tuple(Line(part) for part in Part)
    coverage: tuple[Coverage, ...] = ()
    coverage_note: str = ""  # why it says less than it could
    kernel: str = ""  # release, and the source's version
    finished: float | None = None
    trouble: str = ""  # why it ended before everything was done
    configs: tuple[str, ...] = ()  # as asked for

    def put(self, *lines: Line) -> ReportCard:
        """The card with these in place of what it says of their parts."""
        parts = {line.part for line in lines}
        kept = [line for line in self.lines if line.part not in parts]
        order = list(Part)
        ordered = sorted([*kept, *lines], key=lambda line: order.index(line.part))
        return replace(self, lines=tuple(ordered))

    def skip(self, parts: Sequence[Part], why: str) -> ReportCard:
        """The card with the reason why nothing is known of these parts."""
        return self.put(*(Line(part, evidence=(f"{NOT_YET}: {why}",)) for part in parts))

    def ended(self, when: float, why: str) -> ReportCard:
        """The card at its end; why: what kept the rest from being done, "" for nothing."""
        ended = tuple(
            replace(line, evidence=(f"{NOT_YET}: {why}",))
            if why and line.evidence == (NOT_YET,)
            else line
            for line in self.lines
        )
        return replace(self, finished=when, trouble=why, lines=ended)

    def bad(self, *parts: Part) -> bool:
        """Does anything of these parts keep us from what needs it?"""
        fine = (Verdict.PASS, Verdict.KNOWN)
        return any(line.verdict not in fine for line in self.lines if line.part in parts)


def card_exit_code(card: ReportCard) -> Exit:
    """2 for wrong files; else 1 when the kernel is wrong or lacks something; else 3 when something
    does not build; else 4 when anything was not done; else 0."""
    found = {line.verdict for line in card.lines}
    for verdict, code in _EXITS.items():
        if verdict in found:
            return code
    return Exit.HARNESS if card.trouble else Exit.GOOD


def card_summary(card: ReportCard) -> str:
    """`14 PASS, 1 KNOWN, 2 SKIP`"""
    counts = {v: sum(line.verdict is v for line in card.lines) for v in Verdict}
    text = ", ".join(f"{number} {verdict}" for verdict, number in counts.items() if number)
    return f"{text}; {card.trouble}" if card.trouble else text


# --- what becomes a line -----------------------------------------------------------------------


def one_line(*texts: str) -> tuple[str, ...]:
    """Each in one line."""
    return tuple(" ".join(text.split()) for text in texts)


def troubled(part: Part, err: KlpError, *files: str) -> Line:
    """What was raised, as that part's line: whose fault it is, is in its exit code."""
    verdict = _OF_TROUBLE.get(err.exit_code, Verdict.ERROR)
    first, *more = one_line(*str(err).splitlines()) or ("",)
    return Line(part, verdict, (first,), tuple(more), tuple(err.hint.splitlines()), files)


def judged(
    part: Part, results: Sequence[CaseResult], what: str, *files: str, planned: int = 0
) -> Line:
    """Case results as one line: `orders: 88 PASS, 1 KNOWN`. Without results SKIP, and where fewer
    ran than planned at best ERROR."""
    if not results:
        return Line(part, evidence=(f"{NOT_YET}: no {what} ran",), files=files)
    counts = {s: sum(r.status is s for r in results) for s in Status}
    counted = ", ".join(f"{number} {status}" for status, number in counts.items() if number)
    verdict = next(
        verdict
        for statuses, verdict in (
            ((Status.FAIL, Status.FIXED), Verdict.FAIL),
            ((Status.ERROR,), Verdict.ERROR),
            ((Status.KNOWN,), Verdict.KNOWN),
            ((Status.PASS,), Verdict.PASS),
            ((Status.SKIP,), Verdict.SKIP),
        )
        if any(counts[status] for status in statuses)
    )
    short = len(results) < planned
    if short and verdict is not Verdict.FAIL:
        verdict = Verdict.ERROR
    bad = [r for r in results if r.status not in (Status.PASS, Status.SKIP)]
    bad.sort(key=lambda r: r.status is Status.KNOWN)
    obstacles = _obstacles(bad)
    if short:
        obstacles.append(f"only {len(results)} of {planned} ran")
    wrong = [r for r in bad if r.status is not Status.KNOWN and r.reproduce]
    advice = (f"see it again: {wrong[0].reproduce}",) if wrong else ()
    return Line(part, verdict, (f"{what}: {counted}",), tuple(obstacles), advice, files)


def _obstacles(bad: Sequence[CaseResult]) -> list[str]:
    """A line for each kind: what is known under one name, or went wrong with the same words."""
    kinds: dict[str, list[CaseResult]] = {}
    for result in bad:
        kinds.setdefault(result.known_issue or result.reason, []).append(result)
    lines = []
    for name, (first, *others) in kinds.items():
        text = f"{first.status} {first.case.label}: {first.reason}"
        text += f" ({name})" if first.known_issue else ""
        text += f", and {len(others)} more of the kind" if others else ""
        lines.append(text)
    if len(lines) > SHOWN:
        lines[SHOWN:] = [f"… and {len(lines) - SHOWN} kinds more"]
    return list(one_line(*lines))


def deferred(
    results: Sequence[CaseResult], rows: Sequence[Coverage], *files: str, planned: int
) -> Line:
    """Whether every type that our livepatches defer was seen applied late and right. results: of
    the core suite, of which so many were planned."""
    wanted = [row for row in rows if row.livepatches]
    if not results or not wanted:
        why = "no order ran" if not results else "no livepatch here defers a relocation"
        return Line(Part.DEFERRED, evidence=(f"{NOT_YET}: {why}",), files=files)
    seen = [f"{row.name} {row.late} times" for row in wanted if row.late]
    unseen = [row.name for row in wanted if not row.late]
    wrong = [
        result
        for result in results
        if any(
            check.kind is CheckKind.RELOCATION and not check.good
            for step in result.steps
            for check in step.checks
        )
    ]
    line = judged(Part.DEFERRED, wrong, "orders with a relocation that is not right", *files)
    verdict = line.verdict if wrong else Verdict.PASS
    if verdict is not Verdict.FAIL and (unseen or len(results) < planned):
        verdict = Verdict.ERROR
    obstacles = list(line.obstacles)
    if unseen:
        obstacles.append(f"not seen applied late: {', '.join(unseen)}")
    if len(results) < planned:
        obstacles.append(f"only {len(results)} of {planned} orders ran")
    summary = f"applied late, and read back: {', '.join(seen) or 'none'}"
    evidence = (summary, *(line.evidence if wrong else ()))
    return replace(line, verdict=verdict, evidence=evidence, obstacles=tuple(obstacles))


def malformed(results: Sequence[CaseResult], *files: str, planned: int) -> Line:
    """Broken livepatch modules: refused, not checked, crashing the kernel."""
    what = "broken modules, before and after their target"
    line = judged(Part.MALFORMED, results, what, *files, planned=planned)
    crashes = [
        result
        for result in results
        if any(is_death(check) and not check.good for s in result.steps for check in s.checks)
    ]
    unchecked = sum(result.status is Status.KNOWN for result in results)
    refused = sum(result.status is Status.PASS for result in results)
    summary = f"refused, or harmless: {refused}; not checked by this kernel: {unchecked}; "
    summary += f"of all, crashes: {len(crashes)}"
    return replace(line, evidence=(*line.evidence, summary)) if results else line


# --- Kconfig -----------------------------------------------------------------------------------

LIVEPATCH = "LIVEPATCH"
CONSISTENCY = "HAVE_RELIABLE_STACKTRACE"  # nothing depends on it, and transitions do
WHAT_TO_DO: Mapping[str, str] = {
    "HAVE_LIVEPATCH": "kernel/livepatch needs of an architecture: ftrace_instruction_pointer_set() "
    "(include/linux/ftrace.h), TIF_PATCH_PENDING, and apply_relocate_add() into modules that live",
    CONSISTENCY: "Documentation/livepatch/reliable-stacktrace.rst; without it a transition may "
    "never end (klp_enable_patch(), kernel/livepatch/core.c)",
}


def kconfig(tree: KconfigTree, config: Config, *files: str) -> list[Line]:
    """A line for livepatch, one for each thing that it depends on, one for stack traces."""
    wanted = dict.fromkeys((LIVEPATCH, *kconfigtree.demands(tree, LIVEPATCH), CONSISTENCY))
    first, *more = (_option(tree, each, config) for each in wanted)
    return [replace(first, files=files), *more]


def _option(tree: KconfigTree, wanted: str, config: Config) -> Line:
    """Whether an expression of options holds, and by what, or why not."""
    names = kconfigtree.symbols(wanted)
    evidence = []
    for name in names:
        origin = kconfigtree.origin(tree, name, config)
        evidence.append(f"{name}={config.get(name, 'n')}" + (f", {origin}" if origin else ""))
    good = kconfigtree.evaluate(wanted, config) is True
    obstacles = () if good else kconfigtree.obstacles(tree, wanted, config)
    advice = tuple(WHAT_TO_DO[name] for name in names if name in WHAT_TO_DO and not good)
    verdict = Verdict.PASS if good else Verdict.FAIL
    return Line(Part.KCONFIG, verdict, tuple(evidence), obstacles, advice, detail=wanted)
