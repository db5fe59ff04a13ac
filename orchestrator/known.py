# SPDX-License-Identifier: GPL-2.0-only
"""What is known of kernels: the capabilities they are declared to have (capabilities.toml) and what
they are known to get wrong (known-issues.toml). Both files lie in kernel-config/.

`CapabilitiesFile` and `KnownIssuesFile` are their contents, for `catalog.load_toml`.
"""

from __future__ import annotations

import fnmatch
import operator
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from orchestrator import orders
from orchestrator.errors import UsageError
from orchestrator.nouns import Case, Kernel
from orchestrator.verdicts import CaseResult, Check, CheckKind, Status, Step

Version = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Capability:
    """A kernel has it when all that is said here holds; an empty field says nothing."""

    name: str
    kernels: str = ""  # range: ">=6.3", ">=6.1,<6.3"
    architectures: tuple[str, ...] = ()
    series: str = ""  # name of a series on the kernel
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
    sometimes: bool = False  # it depends on what no order decides, such as an address: passing is
    # no news, and failing so is still known


@dataclass(frozen=True, slots=True)
class KnownIssue:
    """[[issue]]: a wrong that is known, and exactly how it shows."""

    id: str
    title: str
    reference: str  # commit, report, or file and function
    kernels: str  # range
    architectures: tuple[str, ...]
    kind: CheckKind  # of the first failed check
    seen: str  # regular expression, found in `seen` of every failed check of that kind
    fails: tuple[Fails, ...]
    also: tuple[CheckKind, ...] = ()  # kinds of further checks that fail with it at that event
    without_series: tuple[str, ...] = ()  # the issue is gone where one of these is applied


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
    """The capabilities of a kernel: its version, its architecture's name, the series on it."""
    return frozenset(
        entry.name
        for entry in declared
        if in_range(version, entry.kernels)
        and (not entry.architectures or arch in entry.architectures)
        and (not entry.series or entry.series in series)
    )


def judge_known(result: CaseResult, kernel: Kernel, issues: Sequence[KnownIssue]) -> CaseResult:
    """FAIL becomes KNOWN when it fails exactly as an issue says; PASS becomes FIXED when an issue
    says that it fails. Everything else stays as it is."""
    listed = [
        (issue, fails)
        for issue in issues
        if _applies(issue, result.arch, kernel)
        for fails in issue.fails
        if _lists(fails, result.case)
    ]
    if result.status is Status.FAIL:
        for issue, fails in listed:
            if _fails_so(result, issue, fails):
                return replace(result, status=Status.KNOWN, known_issue=issue.id)
    if result.status is Status.PASS:
        for issue, fails in listed:
            if not fails.sometimes:
                reason = f"passes, though known issue '{issue.id}' lists it"
                return replace(result, status=Status.FIXED, known_issue=issue.id, reason=reason)
    return result


_COMPARISONS: dict[str, Callable[[Version, Version], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    ">": operator.gt,
    "<": operator.lt,
}


def _holds(version: Version, comparison: str) -> bool:
    found = re.fullmatch(r"\s*(>=|<=|==|>|<)\s*(\d+)\.(\d+)\s*", comparison)
    if found is None:
        raise UsageError(
            f"'{comparison}' is no comparison of kernel versions",
            hint='a range is written like ">=6.1,<6.3"',
        )
    return _COMPARISONS[found[1]](version, (int(found[2]), int(found[3])))


def _applies(issue: KnownIssue, arch: str, kernel: Kernel) -> bool:
    return (
        in_range(kernel.version, issue.kernels)
        and arch in issue.architectures
        and not set(issue.without_series) & set(kernel.series)
    )


def _lists(fails: Fails, case: Case) -> bool:
    return case.module_set == fails.modules and (
        any(fnmatch.fnmatchcase(case.name, pattern) for pattern in fails.cases)
        or any(orders.parse(text) == case.order for text in fails.orders)
    )


def _fails_so(result: CaseResult, issue: KnownIssue, fails: Fails) -> bool:
    """Only the first event that fails counts: after it, kernel and model are apart."""
    failure = result.first_failure()
    if failure is None:
        return False
    index, step, first = failure
    return (
        _is_event(result.steps, index, fails.event)
        and first.kind is issue.kind
        and all(check.good or _listed(check, issue) for check in step.checks)
    )


def _listed(check: Check, issue: KnownIssue) -> bool:
    if check.kind is issue.kind:
        return re.search(issue.seen, check.seen) is not None
    return check.kind in issue.also


def _is_event(steps: Sequence[Step], index: int, wanted: str) -> bool:
    event, _, occurrence = wanted.partition("#")
    so_far = sum(step.event == event for step in steps[: index + 1])
    return steps[index].event == event and (not occurrence or so_far == int(occurrence))
