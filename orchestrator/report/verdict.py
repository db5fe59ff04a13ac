# SPDX-License-Identifier: GPL-2.0-only
"""What many case results mean together: counts, exit code, one summary line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestrator.errors import Exit
from orchestrator.model.culprit import SUSPECT
from orchestrator.nouns import CaseKind
from orchestrator.run import selftests
from orchestrator.verdicts import CaseResult, Run, Status, by_status, proofs


def counts(results: Sequence[CaseResult]) -> Mapping[Status, int]:
    """Status -> number of results; statuses that do not occur are left out; worst first."""
    return by_status(result.status for result in results)


def counts_as_failure(status: Status, strict: bool) -> bool:
    """Does this status say that the kernel, or the list of known issues, is wrong?"""
    return status.wrong or (strict and status is Status.KNOWN)


def ended(run: Run) -> Exit:
    """What ended the run early, as an exit code: 0 where nothing did."""
    if not run.trouble:
        return Exit.GOOD
    known = (Exit.USAGE, Exit.BUILD, Exit.INTERRUPTED)
    return next((code for code in known if code == run.trouble_exit), Exit.HARNESS)


def incomplete(run: Run, results: Sequence[CaseResult]) -> str:
    """Why these results are not all, in words; "" when they are. For formats whose readers would
    take them for good: what is not there fails nothing."""
    if run.trouble:
        return f"stopped early: {run.trouble}"
    if run.unbuilt:
        return "; ".join(f"no kernel for {arch}: {why}" for arch, why in run.unbuilt.items())
    if run.finished is None:
        return "it has not come to its end"
    if len(results) < run.planned:
        return f"{run.planned - len(results)} of {run.planned} cases did not run"
    return "nothing ran" if all(r.status is Status.SKIP for r in results) else ""


def results_exit_code(run: Run, results: Sequence[CaseResult]) -> Exit:
    """1 when the kernel is wrong anywhere, else that of what ended the run early, else 3 when a
    kernel was not built, else 4 when anything did not get its verdict, else 0.

    A run in which nothing ran (no results, or only skipped ones) proved nothing: it is not good.
    """
    if any(counts_as_failure(r.status, run.strict) for r in results):
        return Exit.TEST_FAILURE
    if early := ended(run):
        return early
    if run.unbuilt:
        return Exit.BUILD
    nothing_ran = all(r.status is Status.SKIP for r in results)
    unfinished = len(results) < run.planned
    if nothing_ran or unfinished or any(r.status is Status.ERROR for r in results):
        return Exit.HARNESS
    return Exit.GOOD


def duration(seconds: float) -> str:
    """`3.2 s`, `4 min 07 s`, `1 h 02 min`; `0.0 s` where a clock was set back meanwhile."""
    seconds = max(0.0, seconds)
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def took(run: Run) -> str:
    """`, in 4 min 07 s`: since it was begun, or gone on with; "" while it runs."""
    if run.finished is None:
        return ""
    return f", in {duration(run.finished - (run.resumed or run.started))}"


def _tell_what_they_compared(results: Sequence[CaseResult]) -> bool:
    """Not those of the kernel's own scripts, nor of an older klp-e2e, of which nothing is known."""
    return any(check.detail for r in results for step in r.steps for check in step.checks)


def results_summary(run: Run, results: Sequence[CaseResult]) -> str:
    """One line: how many cases ended how, in what time; and what kept the rest from running."""
    parts = [f"{number} {status}" for status, number in counts(results).items()]
    line = f"{len(results)} of {run.planned} cases: {', '.join(parts) or 'nothing ran'}"
    line += took(run)
    if _tell_what_they_compared(results):
        line += f"; {proofs(results)}"
    if blamed := sum(bool(result.culprit) for result in results):
        line += f"; {SUSPECT}: {blamed} {'case' if blamed == 1 else 'cases'}"
    if run.unbuilt:
        line += f"; not built: {', '.join(run.unbuilt)}"
    if run.trouble:
        line += f"; stopped early: {run.trouble}"
    return line


def test_lines(results: Sequence[CaseResult]) -> list[str]:
    """Of the kernel's own tests, one line an architecture: `s390x: 26 of 26 tests ok, scripts: 7`.

    A script ends at its first test that fails: those behind it did not run and do not count.
    """
    scripts = [result for result in results if result.case.kind is CaseKind.SELFTEST]
    lines = []
    for arch in sorted({result.arch for result in scripts}):
        mine = [result for result in scripts if result.arch == arch]
        ran = [step for result in mine for step in selftests.tests(result)]
        good = sum(step.good for step in ran)
        lines.append(f"{arch}: {good} of {len(ran)} tests ok, scripts: {len(mine)}")
    return lines
