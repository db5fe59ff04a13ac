# SPDX-License-Identifier: GPL-2.0-only
"""What is known of kernels: the capabilities they are declared to have (capabilities.toml) and what
they are known to get wrong (known-issues.toml). Both files lie in kernel-config/.

`CapabilitiesFile` and `KnownIssuesFile` are their contents, for `catalog.load_toml`.
"""

from __future__ import annotations

import fnmatch
import itertools
import operator
import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence, Set
from dataclasses import dataclass, replace
from typing import Literal

from orchestrator import errnos, kernelreports
from orchestrator.errors import UsageError
from orchestrator.model import model, orders, refused, words
from orchestrator.model.movers import has_moved
from orchestrator.model.refused import Refusals
from orchestrator.nouns import (
    Arch,
    BuiltSet,
    Burst,
    Case,
    Event,
    Kernel,
    ModuleSet,
    Order,
    Plain,
    Probe,
    Race,
    series_prefix,
)
from orchestrator.verdicts import (
    Answers,
    CaseResult,
    Check,
    CheckKind,
    Detail,
    Health,
    Modules,
    Patched,
    Reading,
    Shown,
    Sign,
    Status,
    Step,
    Unread,
)
from orchestrator.verdicts import RelocationState as _State

Version = tuple[int, int]
Hop = tuple[str, str, str]  # livepatch, object, what a relocation of its leads through: "got"


@dataclass(frozen=True, slots=True)
class Capability:
    """A kernel has it when all that is said here holds; an empty field says nothing."""

    name: str
    kernels: str = ""  # range: ">=6.3", ">=6.1,<6.3"
    architectures: tuple[str, ...] = ()
    series: str = ""  # name of a series on the kernel
    patches: int = 0  # the first so many of that series are enough; 0: all of it is needed
    reference: str = ""  # commit or patch that brought it


@dataclass(frozen=True, slots=True)
class CapabilitiesFile:
    capability: tuple[Capability, ...] = ()


@dataclass(frozen=True, slots=True)
class Fails:
    """[[issue.fails]]: which cases of one module set fail, and at which event."""

    modules: str  # module set
    event: str  # in notation; "+M#2" is its second occurrence
    cases: tuple[str, ...] = ()  # case names, or globs of them
    orders: tuple[str, ...] = ()  # in notation, for cases that go by another name
    perhaps: bool = False  # they may also pass: it depends on what no order decides


@dataclass(frozen=True, slots=True)
class KnownIssue:
    """[[issue]]: a wrong that is known, and exactly how it shows.

    At which events: `lacks` speaks of every order there is, `fails` of single cases.
    """

    id: str
    title: str
    reference: str  # commit, report, or file and function
    kernels: str  # range
    architectures: tuple[str, ...]
    kind: CheckKind  # of the first failed check: answer, relocation, value (of a record of
    # callbacks, where the target is refused and nothing else can tell) or health
    errno: str = ""  # of an answer: what each wrong one is, of a load
    says: tuple[str, ...] = ()  # of an answer: what stands in a line in which the kernel refuses it
    differs: str = ""  # of a value: what stands before the number that is wrong; nothing else is
    via: Literal["", "got", "plt"] = ""  # of a relocation: which each wrong one leads through; of
    # health: which one of those concerned leads through
    unwritten: int = 0  # of a relocation, instead of `via`: each wrong one is as in the .ko, and
    # its address no multiple of this
    stale: bool = False  # of a relocation, and of a value: it leads to where its symbol was at an
    # earlier load of its module; of health: that is what could not be accessed
    reports: tuple[str, ...] = ()  # of health, beside wrong relocations, and of an answer where
    # the kernel warns as it refuses: how its first report begins
    inside: Literal["", "livepatch", "target", "plain"] = ""  # of which kind the module is that the
    # report's inmost frame lies in; a livepatch must be one whose relocations are concerned.
    # "": any module of the set is among its frames
    at: str = ""  # instead of `inside`: the kernel's function that the inmost frame is of
    lacks: str = ""  # a capability: it fails where klp relocations are written over others that a
    # kernel with this capability would have cleared
    surely: tuple[str, ...] = ()  # "SET/CASE", or globs: those that reach such an event and cannot
    # pass. The others may: it depends on what no order decides, such as an address.
    fails: tuple[Fails, ...] = ()  # these cannot pass either, if it says no `perhaps`
    without_series: tuple[str, ...] = ()  # the issue is gone where one of these is applied whole


@dataclass(frozen=True, slots=True)
class KnownIssuesFile:
    issue: tuple[KnownIssue, ...] = ()
    suites: tuple[str, ...] = ()  # whose cases it names: files, relative to it; ours are known


def in_range(version: Version, range_text: str) -> bool:
    """Is a kernel version in a range such as ">=6.1,<6.3"? "" is every version.

    Raises UsageError on a malformed range.
    """
    return all(_holds(version, part) for part in range_text.split(",") if range_text)


def capabilities(
    declared: Sequence[Capability], version: Version, arch: str, series: Collection[str]
) -> frozenset[str]:
    """The capabilities of a kernel: its version, its architecture's name, the series on it.

    A prefix of a series (`S@2`) has what its patches bring, as far as it is declared.
    """
    return frozenset(
        entry.name
        for entry in declared
        if in_range(version, entry.kernels)
        and (not entry.architectures or arch in entry.architectures)
        and (not entry.series or any(_brings(entry, name) for name in series))
    )


def _brings(entry: Capability, applied: str) -> bool:
    name, count = series_prefix(applied)
    if count is None:
        return name == entry.series
    return 0 < entry.patches <= count and _brings(entry, name)


def hops(built: BuiltSet, arch: Arch) -> Set[Hop]:
    """What the klp relocations of a set lead through, by their types."""
    return {
        (name, each.object, row.leads_to)
        for name, module in built.modules.items()
        for each in module.klp_relocations
        if (row := arch.relocation(each.type)) is not None
    }


def judge_known(
    result: CaseResult,
    module_set: ModuleSet,
    kernel: Kernel,
    issues: Sequence[KnownIssue],
    hops: Set[Hop] = frozenset(),
) -> CaseResult:
    """FAIL becomes KNOWN when it fails exactly as an issue says; PASS becomes FIXED when an issue
    says that it cannot. Everything else stays as it is.

    hops: see there; a crash is known by none where nothing is known of them."""
    if result.status is Status.FAIL:
        for issue in issues:
            if _applies(issue, result.arch, kernel) and _fails_so(
                result, module_set, kernel, issue, hops
            ):
                return replace(result, status=Status.KNOWN, known_issue=issue.id)
    if result.status is Status.PASS:
        for issue in issues:
            if _applies(issue, result.arch, kernel) and _must_fail(
                result, module_set, kernel, issue
            ):
                reason = f"passes, though known issue '{issue.id}' lists it"
                return replace(result, status=Status.FIXED, known_issue=issue.id, reason=reason)
    return result


def lacking(
    module_set: ModuleSet, order: Order, capabilities: Set[str], capability: str
) -> tuple[Set[model.Pair], ...]:
    """For each event: whose klp relocations are written over others that were left there only
    because this kernel lacks `capability`? None anywhere when it has it."""
    rounds = [_unrolled(event) for event in order.events]
    events = tuple(itertools.chain.from_iterable(rounds))
    ours = _written_over(module_set, events, capabilities)
    theirs = _written_over(module_set, events, {*capabilities, capability})
    only_ours = [mine - its for mine, its in zip(ours, theirs, strict=True)]
    ends = list(itertools.accumulate(len(parts) for parts in rounds))
    starts = (0, *ends)
    return tuple(
        frozenset(itertools.chain.from_iterable(only_ours[start:end]))
        for start, end in zip(starts, ends, strict=False)
    )


def _unrolled(event: Event) -> tuple[Plain, ...]:
    """A burst or a race as the plain events it is made of; two rounds of a burst show all."""
    match event:
        case Burst(inner, times):
            return inner * min(times, 2)
        case Race(inner):
            return inner
        case _:
            return (event,)


def _written_over(
    module_set: ModuleSet, events: tuple[Plain, ...], capabilities: Set[str]
) -> list[Set[model.Pair]]:
    """For each event the relocations that are written while an earlier load's are still there."""
    found: list[Set[model.Pair]] = []
    left: Set[model.Pair] = frozenset()
    for expected in model.expectations(module_set, Order(events), capabilities):
        now = expected.relocations
        found.append({p for p in left if now.get(p) in (_State.APPLIED, _State.INDETERMINATE)})
        left = {p for p, state in now.items() if state in (_State.STALE, _State.INDETERMINATE)}
    return found


_COMPARISONS: dict[str, Callable[[Version, Version], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    ">": operator.gt,
    "<": operator.lt,
}


def _holds(version: Version, comparison: str) -> bool:
    found = re.fullmatch(r"\s*(>=|<=|==|>|<)\s*(\d{1,9})\.(\d{1,9})\s*", comparison)
    if found is None:
        raise UsageError(
            f"'{comparison}' is no comparison of kernel versions",
            hint='a range is written like ">=6.1,<6.3"',
        )
    return _COMPARISONS[found[1]](version, (int(found[2]), int(found[3])))


def _applies(issue: KnownIssue, arch: str, kernel: Kernel) -> bool:
    on_it = set(map(series_prefix, kernel.series))
    return (
        in_range(kernel.version, issue.kernels)
        and arch in issue.architectures
        and not any((name, None) in on_it for name in issue.without_series)
    )


def _must_fail(
    result: CaseResult, module_set: ModuleSet, kernel: Kernel, issue: KnownIssue
) -> bool:
    case = result.case
    name = case.label
    if any(_lists(fails, case) and not fails.perhaps for fails in issue.fails):
        return True
    if any(isinstance(event, Race) for event in case.order.events):
        return False  # {-M +M}: who was first, and so whether it came to that, no order tells
    if issue.via and not has_moved([result]):
        return False  # where its target came back to its place, what is stale is right by luck
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in issue.surely) and any(
        _lacking(module_set, case.order, kernel, issue)
    )


def _lacking(
    module_set: ModuleSet, order: Order, kernel: Kernel, issue: KnownIssue
) -> tuple[Set[model.Pair], ...]:
    return lacking(module_set, order, kernel.capabilities, issue.lacks) if issue.lacks else ()


def _lists(fails: Fails, case: Case) -> bool:
    return case.module_set == fails.modules and (
        any(fnmatch.fnmatchcase(case.name, pattern) for pattern in fails.cases)
        or any(orders.parse(text) == case.order for text in fails.orders)
    )


def _fails_so(
    result: CaseResult,
    module_set: ModuleSet,
    kernel: Kernel,
    issue: KnownIssue,
    hops: Set[Hop],
) -> bool:
    """Only the first event that fails counts: after it, kernel and model are apart."""
    failure = result.first_failure()
    if failure is None:
        return False
    index, step, first = failure
    if first.kind is not issue.kind:
        return False
    went = _as_it_went(result, module_set, kernel, issue)
    lacks = _lacking(module_set, went, kernel, issue)
    pairs = lacks[index] if lacks else frozenset()
    listed = any(
        _lists(fails, result.case) and _is_event(result.steps, index, fails.event)
        for fails in issue.fails
    )
    if not listed and not pairs:
        return False
    if issue.kind is CheckKind.HEALTH and issue.via:
        led = frozenset((livepatch, name) for livepatch, name, hop in hops if hop == issue.via)
        pairs = led & pairs if pairs else led
        if not pairs:
            return False
    event = result.case.order.events[index]
    ways = _refusals(issue, module_set, kernel, went.events[:index], event, first, pairs) or (None,)
    places = _places(result.steps[:index], issue.via, pairs) if issue.stale else frozenset()
    wrongs = (_Wrong(issue, module_set, pairs or None, way, places) for way in ways)
    return any(each.is_seen(step) and all(map(each.explains, _bad(step))) for each in wrongs)


def _places(steps: Sequence[Step], via: str, pairs: Set[model.Pair]) -> frozenset[int]:
    """Where the symbols of such relocations were seen to be after those events."""
    readings = (c.detail for s in steps for c in s.checks if isinstance(c.detail, Reading))
    ours = (r for r in readings if r.hop == via and (r.livepatch, r.object) in pairs)
    return frozenset(
        place for r in ours for place in (*r.earlier, r.symbol_address) if place is not None
    )


def _bad(step: Step) -> list[Check]:
    return [check for check in step.checks if not check.good]


def _as_it_went(
    result: CaseResult, module_set: ModuleSet, kernel: Kernel, issue: KnownIssue
) -> Order:
    """The order, of its races what came of them: that decides which loads write over others."""
    answers = []
    for step in result.steps:
        details = [check.detail for check in step.checks if isinstance(check.detail, Answers)]
        if not details:
            break
        answers.append(details[0].seen_errnos)
    errno = errnos.number(issue.errno) if issue.errno else 0
    able, events = kernel.capabilities, result.case.order.events
    return Order(refused.as_it_went(module_set, able, events, answers, errno))


def _refusals(
    issue: KnownIssue,
    module_set: ModuleSet,
    kernel: Kernel,
    so_far: Sequence[Event],
    event: Event,
    first: Check,
    pairs: Set[model.Pair],
) -> tuple[Refusals, ...]:
    """Which loads of this event the issue may have refused, none where it did not, or not alone."""
    if issue.kind is not CheckKind.ANSWER or not isinstance(first.detail, Answers):
        return ()
    state = refused.before(module_set, so_far, kernel.capabilities)
    answers, errno = first.detail.seen_errnos, errnos.number(issue.errno)
    return refused.after(module_set, kernel.capabilities, state, event, answers, errno, pairs)


@dataclass(frozen=True, slots=True)
class _Wrong:
    """An issue at one event of one case: what shows it there, and nothing else."""

    issue: KnownIssue
    module_set: ModuleSet
    pairs: Set[model.Pair] | None  # whose relocations are concerned; None: the issue does not say
    refusals: Refusals | None
    places: Set[int]  # of what is stale: where its symbols were before

    def is_seen(self, step: Step) -> bool:
        """Is there, beside what is wrong, what has to be there to tell the issue from others?"""
        details = [check.detail for check in step.checks]
        if self.issue.kind is CheckKind.VALUE:
            if not _was_refused(step):
                return False  # else the relocations could be read back, and would tell
            if self.issue.stale and not any(self._is_left_over(found) for found in details):
                return False
        crashes = [found for found in details if isinstance(found, Health)]
        if self.issue.kind is CheckKind.ANSWER and self.issue.reports:
            return any(map(self._is_report, crashes))
        ended = any(found.sign is Sign.QMP and found.reports for found in crashes)
        return not ended or any(map(self._is_report, crashes))

    def explains(self, check: Check) -> bool:
        """Does a failed check show nothing but the issue, or what follows from it?

        A load that is refused leaves everything as the model says of the answers that there were. A
        relocation that was applied and leads astray makes the functions that read through it show
        something else, or crash; nothing else. What shows the original was never patched, and
        what shows another livepatch's text runs its version.
        """
        found = check.detail
        match self.issue.kind, found:
            case CheckKind.ANSWER, Answers(said=said):
                return self.refusals is not None and _says(self.issue, said)
            case CheckKind.ANSWER, Health(sign=Sign.TAINT):  # `is_seen` wants to see the warning
                return bool(self.issue.reports) and words.taints(check) == {"W"}
            case CheckKind.ANSWER, Health(sign=Sign.WARNINGS):
                return not found.warned  # a target that is not there
            case CheckKind.ANSWER, Health():
                return self._is_report(found)
            case CheckKind.ANSWER, _:
                return self.refusals is not None and _follows(found, self.refusals)
            case CheckKind.RELOCATION, Reading():
                return self._concerns(found) and _is_astray(found, self.issue)
            case CheckKind.RELOCATION, Shown(probe=name, seen_text=text):
                probe = self._probe(name)
                return (
                    probe is not None
                    and text is not None
                    and self._reads_through(probe)
                    and not any(
                        _same_text(t, text) for t in (probe.original, *probe.patched.values())
                    )
                )
            case CheckKind.RELOCATION, Health(sign=Sign.WARNINGS):  # whether to warn was read, too
                reading = (p for p in self.module_set.probes if self._reads_through(p))
                less = not Counter(found.warned) - Counter(found.promised)
                return less and any(probe.warns for probe in reading)
            case CheckKind.VALUE, Shown(probe=name):
                probe = self._probe(name)
                return (
                    probe is not None
                    and probe.at == "callbacks"
                    and self._reads_through(probe)
                    and _differs_so(found, self.issue)
                )
            case ((CheckKind.RELOCATION | CheckKind.HEALTH), Health(sign=Sign.QMP)):
                return bool(self.issue.reports)  # how every crash ends; `is_seen` wants to see it
            case ((CheckKind.RELOCATION | CheckKind.HEALTH), Health()):
                return self._is_report(found)
        return False

    def _probe(self, name: str) -> Probe | None:
        return next((p for p in self.module_set.probes if p.name == name), None)

    def _concerns(self, found: Reading) -> bool:
        return self.pairs is None or (found.livepatch, found.object) in self.pairs

    def _livepatches(self) -> set[str]:
        """Those whose code reads through what is wrong."""
        if self.pairs is not None:
            return {livepatch for livepatch, _ in self.pairs}
        return {spec.name for spec in self.module_set.modules if spec.kind == "livepatch"}

    def _reads_through(self, probe: Probe) -> bool:
        """Does it show what such a livepatch's function, or its callback, has read?"""
        if probe.at == "callbacks":
            return probe.object in self._livepatches()
        return bool(self._livepatches() & probe.patched.keys())

    def _is_left_over(self, found: Detail | None) -> bool:
        """Does it still lead, while its object is away, to where an earlier load had it?"""
        return (
            isinstance(found, Reading)
            and self._concerns(found)
            and bool(found.hop)
            and found.hop == self.issue.via
            and found.resolves_to in found.earlier
        )

    def _is_report(self, found: Health) -> bool:
        """Is the first report the issue's, and from where the issue has it? What follows a crash is
        its doing; what follows a warning is not, unless it warns again."""
        titles = [report for report in found.reports if not report.startswith(_ENDS)]
        counted = titles if self.issue.kind is CheckKind.ANSWER else titles[:1]
        return (
            bool(titles)
            and titles[0].startswith(self.issue.reports)
            and all(
                (kernelreports.crash_title(each) or each).startswith(self.issue.reports)
                for each in counted
            )
            and self._is_inside(found)
            and (self.issue.kind is not CheckKind.HEALTH or self._is_at_place(found))
        )

    def _is_at_place(self, found: Health) -> bool:
        """Was it accessed where the symbol had been, if that is what the issue says? Beside a
        relocation that was read to be stale nobody has to ask."""
        if not self.issue.stale:
            return True
        # s390 tells the page only; an object that begins near its end goes on in the next
        pages = (place & -_PAGE for place in self.places)
        fault = found.fault
        return fault is not None and any(page <= fault < page + 2 * _PAGE for page in pages)

    def _is_inside(self, found: Health) -> bool:
        modules = [frame.partition(" ")[2] for frame in found.frames]  # "[NAME]", or ""
        if self.issue.at:
            return found.frames[:1] == (self.issue.at,)
        if not self.issue.inside:
            return any(f"[{spec.name}]" in modules for spec in self.module_set.modules)
        named = {s.name for s in self.module_set.modules if s.kind == self.issue.inside}
        if self.issue.inside == "livepatch":
            named &= self._livepatches()
        return bool(modules) and modules[0] in {f"[{name}]" for name in named}


def _was_refused(step: Step) -> bool:
    """Was the load refused, as it had to be?"""
    answers = [check for check in step.checks if isinstance(check.detail, Answers)]
    return any(
        check.good and isinstance(check.detail, Answers) and any(check.detail.seen_errnos)
        for check in answers
    )


def _differs_so(found: Shown, issue: KnownIssue) -> bool:
    """Is nothing else in it than was promised, but numbers behind what the issue names?"""
    if not issue.differs or found.expected_text is None or found.seen_text is None:
        return False
    number = re.compile(rf"{re.escape(issue.differs)}-?\d+")
    one, other = (
        number.sub(f"{issue.differs}N", t) for t in (found.expected_text, found.seen_text)
    )
    return _same_text(one, other)


def _is_astray(found: Reading, issue: KnownIssue) -> bool:
    """Does it lead through what the issue says, and is nothing wrong but where that leads?"""
    if issue.unwritten:
        astray = found.state is _State.APPLIED and found.raw == found.initial
        return astray and found.address is not None and found.address % issue.unwritten != 0
    return (
        found.state is _State.APPLIED
        and found.raw != found.initial
        and not found.beside
        and bool(found.hop)
        and found.hop == issue.via
        and None not in (found.resolves_to, found.symbol_address)
        and found.resolves_to != found.symbol_address
        and (not issue.stale or found.resolves_to in found.earlier)
    )


def _says(issue: KnownIssue, said: Sequence[str]) -> bool:
    return not issue.says or any(part in line for line in said for part in issue.says)


def _follows(found: Detail | None, refusals: Refusals) -> bool:
    """Is it as it must be after those refusals?"""
    expected = refusals.expectation
    match found:
        case Reading(livepatch=livepatch, object=name) | Unread(livepatch=livepatch, object=name):
            return bool({livepatch, name} & refusals.modules)
        case Shown(probe=name, seen_text=text):
            return name not in expected.probes or _same_text(expected.probes[name], text)
        case Modules(seen_modules=seen):
            return set(seen) == expected.modules
        case Patched(livepatch=livepatch, seen_state=seen):
            return expected.patches.get(livepatch) == seen
    return False


def _same_text(one: str | None, other: str | None) -> bool:
    return (one is None) == (other is None) and (one or "").split() == (other or "").split()


_PAGE = 4096
_ENDS = ("SHUTDOWN ", "GUEST_PANICKED", "RESET ")  # of QMP


def _is_event(steps: Sequence[Step], index: int, wanted: str) -> bool:
    event, _, occurrence = wanted.partition("#")
    so_far = sum(step.event == event for step in steps[: index + 1])
    return steps[index].event == event and (not occurrence or so_far == int(occurrence))
