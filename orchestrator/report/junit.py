# SPDX-License-Identifier: GPL-2.0-only
"""junit.xml for CI systems: one suite an architecture, one test case a case."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime

import junitparser

from orchestrator.model import orders
from orchestrator.nouns import set_title
from orchestrator.plain import clean, excerpt
from orchestrator.report import verdict
from orchestrator.run import selftests
from orchestrator.verdicts import CaseResult, Run, Status, proofs

THE_RUN = "run"  # of the case that stands for those that are not there


def junit(run: Run, results: Sequence[CaseResult]) -> str:
    """The file's text. KNOWN is "skipped" unless the run is strict, FIXED a failure."""
    suites = [_suite(run, results, arch) for arch in sorted({r.arch for r in results})]
    return written([*suites, *_unfinished(run, results)])


def _unfinished(run: Run, results: Sequence[CaseResult]) -> Iterator[junitparser.TestSuite]:
    """A suite that is an error, where there is less than there should be: what did not run would
    look good."""
    if why := verdict.incomplete(run, results):
        suite = begun(THE_RUN, run.started)
        case = junitparser.TestCase(THE_RUN, classname=THE_RUN)
        error = junitparser.Error(xml(why))
        error.type = str(Status.ERROR)
        case.result = [error]
        suite.add_testcase(case)
        yield suite


def written(suites: Iterable[junitparser.TestSuite]) -> str:
    """The text of a file with these suites."""
    document = junitparser.JUnitXml("klp-e2e")
    for suite in suites:
        document.add_testsuite(suite)
    document.update_statistics()  # type: ignore[no-untyped-call]  # junitparser left it so
    return str(document.tostring().decode())  # type: ignore[no-untyped-call]  # likewise


def begun(name: str, started: float) -> junitparser.TestSuite:
    """An empty suite. `started`: seconds since the epoch."""
    suite = junitparser.TestSuite(xml(name))
    suite.timestamp = datetime.fromtimestamp(started, UTC).isoformat(timespec="seconds")
    return suite


def _suite(run: Run, results: Sequence[CaseResult], arch: str) -> junitparser.TestSuite:
    suite = begun(arch, run.started)
    kernel = next((k for k in run.kernels if k.arch == arch), None)
    if kernel is not None:
        suite.add_property("kernel", xml(kernel.release))
        suite.add_property("source", xml(kernel.source_version))
        suite.add_property("series", xml(" ".join(kernel.series)) or "none")
        suite.add_property("compiler", xml(kernel.compiler))
        suite.add_property("config", xml(" ".join(kernel.configs)) or "none")
    suite.add_property("proof", str(proofs(r for r in results if r.arch == arch)))
    for why in dict.fromkeys(r.culprit for r in results if r.arch == arch and r.culprit):
        suite.add_property("culprit", xml(why))
    for result in (r for r in results if r.arch == arch):
        suite.add_testcase(_testcase(run, result))
    return suite


def _testcase(run: Run, result: CaseResult) -> junitparser.TestCase:
    case = junitparser.TestCase(
        xml(result.case.name),
        classname=xml(f"{result.arch}.{set_title(result.case.module_set)}"),
        time=round(result.seconds, 3),
    )
    outcome = _outcome(run, result)
    if outcome is not None:
        case.result = [outcome]
        case.system_out = xml(f"{result.reproduce}\n")
        if result.console:
            case.system_err = xml(excerpt(result.console))
    return case


Outcome = junitparser.Failure | junitparser.Error | junitparser.Skipped


def _outcome(run: Run, result: CaseResult) -> Outcome | None:
    reason = result.reason
    if result.status is Status.KNOWN and not run.strict:
        reason = f"known issue {result.known_issue}: {reason}"
    return outcome(result.status, reason, _details(result), run.strict)


def outcome(status: Status, reason: str, details: str, strict: bool = False) -> Outcome | None:
    """What a test case that did not simply pass contains."""
    if status is Status.PASS:
        return None
    if verdict.counts_as_failure(status, strict):
        element: Outcome = junitparser.Failure(xml(reason))
    elif status is Status.ERROR:
        element = junitparser.Error(xml(reason))
    else:
        element = junitparser.Skipped(xml(reason))
    element.type = str(status)
    element.text = xml(details)
    return element


def _details(result: CaseResult) -> str:
    order = orders.format(result.case.order)
    lines = [f"order: {order}"] if order else []
    failure = result.first_failure()
    if failure is not None:
        index, step, check = failure
        lines += [
            f"{selftests.step_word(result.case)} {index + 1}: {step.event}",
            f"{check.kind} {check.subject}",
            f"expected: {check.expected}",
            f"seen: {check.seen}",
        ]
    return "\n".join(lines)


def xml(text: str) -> str:
    """Text that XML 1.0 can carry, which is not all that a guest's console has, and that shows in
    the order that it has."""
    return clean(text)
