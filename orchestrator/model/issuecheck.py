# SPDX-License-Identifier: GPL-2.0-only
"""Whether a known issue can ever be met: what it names is there, and what it says has a meaning. A
name that nothing has would silently match nothing. Pure.
"""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from orchestrator import errnos
from orchestrator.errors import UsageError
from orchestrator.model import orders
from orchestrator.model.known import Fails, KnownIssue, in_range
from orchestrator.nouns import Case, ModuleSet, Order, series_prefix
from orchestrator.verdicts import CheckKind

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_BY_NUMBER = re.compile(r"order-(?:\d+|\*)")  # what --order, and a set without a suite, call theirs
_SUITES = 'of a suite of your own? name its file at the top: suites = ["FILE.toml"]'


@dataclass(frozen=True, slots=True)
class Names:
    """What there is."""

    arches: Collection[str]
    capabilities: Collection[str]
    series: Collection[str]
    sets: Mapping[str, ModuleSet]  # by the name cases use
    cases: Collection[Case]


def check(issue: KnownIssue, names: Names, where: str) -> None:
    """Raises UsageError with `where`, the key and what is wrong with it."""
    well_formed(issue, where)
    for key, there, wanted in (
        ("architectures", names.arches, issue.architectures),
        ("lacks", names.capabilities, filter(None, (issue.lacks,))),
        ("without_series", names.series, (series_prefix(n)[0] for n in issue.without_series)),
    ):
        for name in wanted:
            if "/" not in name:
                _known(name, there, f"{where}: {key}", _WHAT[key])
    for pattern in issue.surely:
        _surely(pattern, names, f"{where}: surely")
    for fails in issue.fails:
        _fails(fails, names, f"{where}: fails")


_WHAT = {
    "architectures": "architecture",
    "lacks": "capability",
    "without_series": "series",
}


def well_formed(issue: KnownIssue, where: str) -> None:
    """What can be told without knowing what there is. Raises UsageError."""
    if not _ID.fullmatch(issue.id):
        raise UsageError(f"{where}: id: '{issue.id}': letters, digits and ._- make one")
    for key, wrong in _wrong(issue):
        raise UsageError(f"{where}: {key}: {wrong}")
    try:
        for part in issue.kernels.split(","):
            in_range((0, 0), part)
    except UsageError as err:
        raise UsageError(f"{where}: kernels: {err}", err.hint) from None
    try:
        errnos.number(issue.errno) if issue.errno else 0
    except UsageError as err:
        raise UsageError(f"{where}: errno: {err}", err.hint) from None
    for fails in issue.fails:
        _event(fails, None, f"{where}: fails")
        for text in fails.orders:
            _order(text, None, f"{where}: fails: orders")


def _wrong(issue: KnownIssue) -> Iterator[tuple[str, str]]:
    needs = {
        CheckKind.ANSWER: ("errno", issue.errno),
        CheckKind.RELOCATION: ("via", issue.via or issue.unwritten),
        CheckKind.VALUE: ("differs", issue.differs),
        CheckKind.HEALTH: ("reports", issue.reports),
    }
    if issue.kind not in needs:
        yield "kind", f"{issue.kind}: known are {', '.join(needs)}"
    else:
        key, value = needs[issue.kind]
        if not value:
            yield key, f"missing, which an issue of kind {issue.kind} needs"
    if not issue.architectures:
        yield "architectures", "names none"
    if not issue.lacks and not issue.fails:
        yield "lacks", "missing, and so is fails: at which events?"
    if issue.at and issue.inside:
        yield "at", "instead of inside, not beside it"
    if issue.unwritten < 0 or (issue.unwritten and issue.via):
        yield "unwritten", "a number of bytes, and instead of via"
    if issue.stale and not issue.via:
        yield "via", "missing, which what is stale leads through"
    for each in (*issue.reports, *issue.says):
        if not each:
            yield "reports" if each in issue.reports else "says", "an empty text is in every line"


def _surely(pattern: str, names: Names, where: str) -> None:
    if any(fnmatch.fnmatchcase(case.label, pattern) for case in names.cases):
        return
    set_, _, case = pattern.rpartition("/")
    if set_ and not any(fnmatch.fnmatchcase(name, set_) for name in names.sets):
        _known(set_, names.sets, where, "module set")
    if not _BY_NUMBER.fullmatch(case):
        labels = (case.label for case in names.cases)
        raise _none(f"{where}: no case fits '{pattern}'", pattern, labels, _SUITES)


def _fails(fails: Fails, names: Names, where: str) -> None:
    _known(fails.modules, names.sets, f"{where}: modules", "module set")
    module_set = names.sets[fails.modules]
    mine = {case.name: case.order for case in names.cases if case.module_set == fails.modules}
    meant = [_order(text, module_set, f"{where}: orders") for text in fails.orders]
    open_ended = False  # somebody's own orders: nobody knows their events
    for pattern in fails.cases:
        fitting = fnmatch.filter(mine, pattern)
        open_ended = open_ended or bool(_BY_NUMBER.fullmatch(pattern))
        if not fitting and not _BY_NUMBER.fullmatch(pattern):
            wrong = f"{where}: cases: no case of {fails.modules} fits '{pattern}'"
            raise _none(wrong, pattern, mine, _SUITES)
        meant += [mine[name] for name in fitting]
    if not meant and not open_ended:
        raise UsageError(f"{where}: names no case", hint="`cases` or `orders` does")
    event, times = _event(fails, module_set, where)
    if not open_ended and not any(_count(order, event) >= times for order in meant):
        raise UsageError(f"{where}: event: '{fails.event}' is in none of its orders")


def _event(fails: Fails, module_set: ModuleSet | None, where: str) -> tuple[str, int]:
    """Its notation and which time of it is meant."""
    event, sharp, number = fails.event.partition("#")
    if sharp and not re.fullmatch(r"[1-9][0-9]{0,5}", number):
        raise UsageError(f"{where}: event: '{fails.event}': after # stands a number from 1")
    found = _order(event, module_set, f"{where}: event").events
    if len(found) != 1:
        raise UsageError(f"{where}: event: '{event}' is not one event")
    if (written := orders.format_event(found[0])) != event:
        raise UsageError(f"{where}: event: '{event}' is written '{written}'")
    return event, int(number or 1)


def _order(text: str, module_set: ModuleSet | None, where: str) -> Order:
    try:
        return orders.parse(text, module_set)
    except UsageError as err:
        raise UsageError(f"{where}: {err}", err.hint) from None


def _count(order: Order, event: str) -> int:
    return sum(orders.format_event(each) == event for each in order.events)


def _known(name: str, there: Iterable[str], where: str, what: str) -> None:
    there = list(there)
    if name not in there:
        raise _none(f"{where}: unknown {what}: {name}", name, there)


def _none(text: str, name: str, there: Iterable[str], more: str = "") -> UsageError:
    """more: a line more of the hint."""
    there = sorted(set(there))
    close = difflib.get_close_matches(name, there, n=1)
    hint = f"did you mean {close[0]}?" if close else f"known: {_some(there)}"
    return UsageError(text, f"{more}\n{hint}" if more else hint)


def _some(names: Collection[str]) -> str:
    few = list(names)[:20]
    return ", ".join(few) + ", ..." * (len(names) > len(few)) or "none"
