# SPDX-License-Identifier: GPL-2.0-only
"""results.ktap of a night: KTAP version 1, one subtest a job; KNOWN is XFAIL."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.history import digest
from orchestrator.history.nights import Night, Row
from orchestrator.report.ktap import document, plain, subtest
from orchestrator.verdicts import Status


def ktap(night: Night) -> str:
    """The file's text."""
    jobs = [
        subtest(
            record.job.name,
            [([*_diagnostics(row)], row.case, row.status, row.reason) for row in rows],
        )
        for record, rows in digest.by_job(night)
    ]
    return document(jobs, digest.totals(night))


def _diagnostics(row: Row) -> Iterator[str]:
    if row.status in (Status.PASS, Status.SKIP):
        return
    if row.order:
        yield f"# order: {plain(row.order)}"
    if row.failed:
        yield f"# failed: {row.failed} of {row.runs}"
    yield f"# reproduce: {plain(row.reproduce)}"
