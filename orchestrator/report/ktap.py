# SPDX-License-Identifier: GPL-2.0-only
"""results.ktap: KTAP version 1 (Documentation/dev-tools/ktap.rst), one subtest an architecture.

KNOWN is `ok ... # XFAIL`, as kselftest prints it; with --strict it is `not ok`. The kernel's own
scripts have a subtest for each of their tests.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from orchestrator.model import orders
from orchestrator.nouns import set_title
from orchestrator.plain import one_line, printable, short
from orchestrator.report import verdict
from orchestrator.run import selftests
from orchestrator.verdicts import CaseResult, Run, Status

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
# What readers of KTAP take for a directive, wherever in a line: "not ok ... # SKIP" is no failure.
_WORDS = r"(?:SKIP|XFAIL|TODO|TIMEOUT|ERROR)"
_HIDDEN = re.compile(rf"#(?=\s*{_WORDS})", re.IGNORECASE)
_OPENING = re.compile(rf"\W*{_WORDS}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Subtest:
    name: str
    lines: tuple[str, ...]  # version, plan and tests, as `tests` gives them
    good: bool
    skipped: bool


def ktap(run: Run, results: Sequence[CaseResult]) -> str:
    """The whole file; valid at any moment of a run, with a plan for the results known so far."""
    arches = sorted({r.arch for r in results})
    return document(
        [_subtest(run, arch, [r for r in results if r.arch == arch]) for arch in arches],
        verdict.results_summary(run, results),
        verdict.incomplete(run, results),
    )


def document(subtests: Sequence[Subtest], summary: str, incomplete: str = "") -> str:
    """The text of a file with these subtests, and one line of comment at its end. incomplete: why
    there should be more of them; a plan of what there is would look good."""
    lines = ["KTAP version 1", f"1..{len(subtests)}"]
    for number, subtest in enumerate(subtests, 1):
        skip = " # SKIP" if subtest.skipped else ""
        lines += [f"  {line}" for line in subtest.lines]
        lines.append(f"{'ok' if subtest.good else 'not ok'} {number} {name(subtest.name)}{skip}")
    lines += [f"Bail out! {plain(incomplete)}"] if incomplete else []
    lines.append(f"# {plain(summary)}")
    return "\n".join(lines) + "\n"


def subtest(
    called: str,
    tests: Sequence[tuple[Sequence[str], str, Status, str]],
    strict: bool = False,
) -> Subtest:
    """`tests`: (the lines that come before its result, its name, status, reason) of each."""
    lines = ["KTAP version 1", f"# Subtest: {name(called)}", f"1..{len(tests)}"]
    for number, (before, test, status, reason) in enumerate(tests, 1):
        answer = "ok" if _ok(status, strict) else "not ok"
        lines += [*before, f"{answer} {number} {name(test)}{_directive(status, reason, strict)}"]
    statuses = [status for _, _, status, _ in tests]
    return Subtest(
        name=called,
        lines=tuple(lines),
        good=all(_ok(status, strict) for status in statuses),
        skipped=all(status is Status.SKIP for status in statuses),
    )


def _subtest(run: Run, arch: str, results: Sequence[CaseResult]) -> Subtest:
    return subtest(
        arch,
        [
            (
                [*_tests(result), *_diagnostics(result)],
                f"{set_title(result.case.module_set)}.{result.case.name}",
                result.status,
                _message(run, result),
            )
            for result in results
        ],
        run.strict,
    )


def _message(run: Run, result: CaseResult) -> str:
    known = result.status is Status.KNOWN and not run.strict
    return result.known_issue if known else result.reason


def _tests(result: CaseResult) -> Iterator[str]:
    ran = selftests.tests(result)
    if not ran:
        return
    yield "  KTAP version 1"
    yield f"  # Subtest: {name(result.case.name)}"
    yield f"  1..{len(ran)}"
    for number, step in enumerate(ran, 1):
        skipped = result.status is Status.SKIP and not step.good
        answer = "ok" if step.good or skipped else "not ok"
        yield f"  {answer} {number} {name(step.event)}{' # SKIP' * skipped}"


def _diagnostics(result: CaseResult) -> Iterator[str]:
    if result.status in (Status.PASS, Status.SKIP):
        return
    if order := orders.format(result.case.order):
        yield f"# order: {plain(order)}"
    failure = result.first_failure()
    if failure is not None:
        index, step, check = failure
        yield f"# {selftests.step_word(result.case)} {index + 1}: {plain(step.event)}"
        yield f"# {check.kind} {plain(check.subject)}"
        yield f"# expected: {plain(check.expected)}"
        yield from (f"# seen: {plain(line)}" for line in short(check.seen).splitlines())
    yield f"# reproduce: {plain(result.reproduce)}"


def _ok(status: Status, strict: bool) -> bool:
    return not (status.bad or (strict and status is Status.KNOWN))


def _directive(status: Status, reason: str, strict: bool) -> str:
    match status:
        case Status.PASS:
            return ""
        case Status.SKIP | Status.ERROR:
            return f" # {status} {_reason(reason)}"
        case Status.KNOWN if not strict:
            return f" # XFAIL {_reason(reason)}"
        case _:
            message = _reason(reason)
            return f" # said: {message}" if _OPENING.match(message) else f" # {message}"


def _reason(text: str) -> str:
    """Behind the "#" of a result line: no directive of its own."""
    return _HIDDEN.sub("_", plain(text))


def plain(text: str) -> str:
    """One line without control characters, that commands neither a terminal nor a CI."""
    return printable(one_line(_CONTROL.sub(" ", text)).strip())


def name(text: str) -> str:
    """A description: one line, without the "#" that would begin a directive."""
    return plain(text).replace("#", "_") or "_"
