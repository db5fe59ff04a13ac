# SPDX-License-Identifier: GPL-2.0-only
"""junit.xml for CI systems: one suite an architecture, one test case a case."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime

import junitparser

from orchestrator.model import orders
from orchestrator.report import verdict
from orchestrator.run import selftests
from orchestrator.verdicts import CaseResult, Run, Status

# Characters that XML 1.0 cannot carry, not even escaped; a guest's console is full of them.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(run: Run, results: Sequence[CaseResult]) -> str:
    """The file's text. KNOWN is "skipped" unless the run is strict, FIXED a failure."""
    document = junitparser.JUnitXml("klp-e2e")
    for arch in sorted({r.arch for r in results}):
        suite = junitparser.TestSuite(arch)
        suite.timestamp = datetime.fromtimestamp(run.started, UTC).isoformat(timespec="seconds")
        kernel = next((k for k in run.kernels if k.arch == arch), None)
        if kernel is not None:
            suite.add_property("kernel", kernel.release)
            suite.add_property("source", kernel.source_version)
            suite.add_property("series", " ".join(kernel.series) or "none")
        for result in (r for r in results if r.arch == arch):
            suite.add_testcase(_testcase(run, result))
        document.add_testsuite(suite)
    document.update_statistics()  # type: ignore[no-untyped-call]  # junitparser left it so
    return str(document.tostring().decode())  # type: ignore[no-untyped-call]  # likewise


def _testcase(run: Run, result: CaseResult) -> junitparser.TestCase:
    case = junitparser.TestCase(
        _xml(result.case.name),
        classname=_xml(f"{result.arch}.{result.case.module_set}"),
        time=round(result.seconds, 3),
    )
    outcome = _outcome(run, result)
    if outcome is not None:
        case.result = [outcome]
        case.system_out = _xml(f"{result.reproduce}\n")
        if result.console:
            case.system_err = _xml(result.console)
    return case


Outcome = junitparser.Failure | junitparser.Error | junitparser.Skipped


def _outcome(run: Run, result: CaseResult) -> Outcome | None:
    if result.status is Status.PASS:
        return None
    if verdict.counts_as_failure(result.status, run.strict):
        element: Outcome = junitparser.Failure(_xml(result.reason))
    elif result.status is Status.ERROR:
        element = junitparser.Error(_xml(result.reason))
    elif result.status is Status.KNOWN:
        element = junitparser.Skipped(_xml(f"known issue {result.known_issue}: {result.reason}"))
    else:
        element = junitparser.Skipped(_xml(result.reason))
    element.type = str(result.status)
    element.text = _xml(_details(result))
    return element


def _details(result: CaseResult) -> str:
    script = selftests.is_script(result.case)
    lines = [] if script else [f"order: {orders.format(result.case.order)}"]
    failure = result.first_failure()
    if failure is not None:
        index, step, check = failure
        lines += [
            f"{'test' if script else 'event'} {index + 1}: {step.event}",
            f"{check.kind} {check.subject}",
            f"expected: {check.expected}",
            f"seen: {check.seen}",
        ]
    return "\n".join(lines)


def _xml(text: str) -> str:
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)
