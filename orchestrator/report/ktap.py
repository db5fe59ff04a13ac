# SPDX-License-Identifier: GPL-2.0-only
"""results.ktap: KTAP version 1 (Documentation/dev-tools/ktap.rst), one subtest an architecture.

KNOWN is `ok ... # XFAIL`, as kselftest prints it; with --strict it is `not ok`. The kernel's own
scripts have a subtest for each of their tests.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from orchestrator.model import orders
from orchestrator.report import verdict
from orchestrator.run import selftests
from orchestrator.verdicts import CaseResult, Run, Status

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


def ktap(run: Run, results: Sequence[CaseResult]) -> str:
    """The whole file; valid at any moment of a run, with a plan for the results known so far."""
    arches = sorted({r.arch for r in results})
    lines = ["KTAP version 1", f"1..{len(arches)}"]
    for number, arch in enumerate(arches, 1):
        mine = [r for r in results if r.arch == arch]
        lines += [f"  {line}" for line in _subtest(run, arch, mine)]
        good = all(_ok(run, r) for r in mine)
        skip = " # SKIP" if all(r.status is Status.SKIP for r in mine) else ""
        lines.append(f"{'ok' if good else 'not ok'} {number} {_name(arch)}{skip}")
    lines.append(f"# {_plain(verdict.summary(run, results))}")
    return "\n".join(lines) + "\n"


def _subtest(run: Run, arch: str, results: Sequence[CaseResult]) -> Iterator[str]:
    yield "KTAP version 1"
    yield f"# Subtest: {_name(arch)}"
    yield f"1..{len(results)}"
    for number, result in enumerate(results, 1):
        yield from _tests(result)
        yield from _diagnostics(result)
        answer = "ok" if _ok(run, result) else "not ok"
        case = f"{result.case.module_set}.{result.case.name}"
        yield f"{answer} {number} {_name(case)}{_directive(run, result)}"


def _tests(result: CaseResult) -> Iterator[str]:
    ran = selftests.tests(result)
    if not (selftests.is_script(result.case) and ran):
        return
    yield "  KTAP version 1"
    yield f"  # Subtest: {_name(result.case.name)}"
    yield f"  1..{len(ran)}"
    for number, step in enumerate(ran, 1):
        skipped = result.status is Status.SKIP and not step.good
        answer = "ok" if step.good or skipped else "not ok"
        yield f"  {answer} {number} {_name(step.event)}{' # SKIP' * skipped}"


def _diagnostics(result: CaseResult) -> Iterator[str]:
    if result.status in (Status.PASS, Status.SKIP):
        return
    script = selftests.is_script(result.case)
    if not script:
        yield f"# order: {_plain(orders.format(result.case.order))}"
    failure = result.first_failure()
    if failure is not None:
        index, step, check = failure
        yield f"# {'test' if script else 'event'} {index + 1}: {_plain(step.event)}"
        yield f"# {check.kind} {_plain(check.subject)}"
        yield f"# expected: {_plain(check.expected)}"
        yield from (f"# seen: {_plain(line)}" for line in check.seen.splitlines())
    yield f"# reproduce: {_plain(result.reproduce)}"


def _ok(run: Run, result: CaseResult) -> bool:
    failed = verdict.counts_as_failure(result.status, run.strict)
    return not failed and result.status is not Status.ERROR


def _directive(run: Run, result: CaseResult) -> str:
    reason = _plain(result.reason)
    match result.status:
        case Status.SKIP:
            return f" # SKIP {reason}"
        case Status.ERROR:
            return f" # ERROR {reason}"
        case Status.KNOWN if not run.strict:
            return f" # XFAIL {_plain(result.known_issue)}"
        case Status.PASS:
            return ""
        case _:
            return f" # {reason}"


def _plain(text: str) -> str:
    """One line without control characters."""
    return _CONTROL.sub(" ", text).strip()


def _name(text: str) -> str:
    """A description: one line, without the "#" that would begin a directive."""
    return _plain(text).replace("#", "_")
