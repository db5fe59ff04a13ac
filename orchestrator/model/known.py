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
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace

from orchestrator.errors import UsageError
from orchestrator.model import model, orders
from orchestrator.nouns import (
    Burst,
    Case,
    Event,
    Kernel,
    ModuleSet,
    Order,
    Plain,
    Race,
    series_prefix,
)
from orchestrator.verdicts import CaseResult, Check, CheckKind, Status, Step
from orchestrator.verdicts import RelocationState as _State

Version = tuple[int, int]


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
    kind: CheckKind  # of the first failed check
    seen: str  # regular expression, found in `seen` of every failed check of that kind
    lacks: str = ""  # a capability: it fails where klp relocations are written over others that a
    # kernel with this capability would have cleared
    surely: tuple[str, ...] = ()  # "SET/CASE", or globs: those that reach such an event and cannot
    # pass. The others may: it depends on what no order decides, such as an address.
    fails: tuple[Fails, ...] = ()  # these cannot pass either
    also: Mapping[CheckKind, str] = field(default_factory=dict)
    # further checks that fail with it at that event: their kind, and what they see
    without_series: tuple[str, ...] = ()  # the issue is gone where one of these is applied whole


@dataclass(frozen=True, slots=True)
class KnownIssuesFile:
    issue: tuple[KnownIssue, ...] = ()


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


def judge_known(
    result: CaseResult, module_set: ModuleSet, kernel: Kernel, issues: Sequence[KnownIssue]
) -> CaseResult:
    """FAIL becomes KNOWN when it fails exactly as an issue says; PASS becomes FIXED when an issue
    says that it cannot. Everything else stays as it is."""
    if result.status is Status.FAIL:
        for issue in issues:
            if _applies(issue, result.arch, kernel) and _fails_so(
                result, module_set, kernel, issue
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
) -> tuple[bool, ...]:
    """For each event: are klp relocations written over others that were left there only because
    this kernel lacks `capability`? False everywhere when it has it."""
    rounds = [_unrolled(event) for event in order.events]
    events = tuple(itertools.chain.from_iterable(rounds))
    ours = _written_over(module_set, events, capabilities)
    theirs = _written_over(module_set, events, {*capabilities, capability})
    only_ours = [bool(mine - its) for mine, its in zip(ours, theirs, strict=True)]
    ends = list(itertools.accumulate(len(parts) for parts in rounds))
    starts = (0, *ends)
    return tuple(any(only_ours[start:end]) for start, end in zip(starts, ends, strict=False))


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
        found.append({p for p in left if now.get(p) in (_State.APPLIED, _State.WRITTEN)})
        left = {p for p, state in now.items() if state in (_State.LEFT, _State.WRITTEN)}
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
    if any(_lists(fails, case) for fails in issue.fails):
        return True
    if any(isinstance(event, Race) for event in case.order.events):
        return False  # {-M +M}: who was first, and so whether it came to that, no order tells
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in issue.surely) and any(
        _lacking(module_set, case.order, kernel, issue)
    )


def _lacking(
    module_set: ModuleSet, order: Order, kernel: Kernel, issue: KnownIssue
) -> tuple[bool, ...]:
    return lacking(module_set, order, kernel.capabilities, issue.lacks) if issue.lacks else ()


def _lists(fails: Fails, case: Case) -> bool:
    return case.module_set == fails.modules and (
        any(fnmatch.fnmatchcase(case.name, pattern) for pattern in fails.cases)
        or any(orders.parse(text) == case.order for text in fails.orders)
    )


def _fails_so(result: CaseResult, module_set: ModuleSet, kernel: Kernel, issue: KnownIssue) -> bool:
    """Only the first event that fails counts: after it, kernel and model are apart."""
    failure = result.first_failure()
    if failure is None:
        return False
    index, step, first = failure
    if first.kind is not issue.kind:
        return False
    if not all(check.good or _listed(check, issue) for check in step.checks):
        return False
    if any(
        _lists(fails, result.case) and _is_event(result.steps, index, fails.event)
        for fails in issue.fails
    ):
        return True
    lacks = _lacking(module_set, result.case.order, kernel, issue)
    return bool(lacks) and lacks[index]


def _listed(check: Check, issue: KnownIssue) -> bool:
    seen = issue.seen if check.kind is issue.kind else issue.also.get(check.kind)
    return seen is not None and re.search(seen, check.seen) is not None


def _is_event(steps: Sequence[Step], index: int, wanted: str) -> bool:
    event, _, occurrence = wanted.partition("#")
    so_far = sum(step.event == event for step in steps[: index + 1])
    return steps[index].event == event and (not occurrence or so_far == int(occurrence))
