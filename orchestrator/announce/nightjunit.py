# SPDX-License-Identifier: GPL-2.0-only
"""junit.xml of a night: one suite a job, one test case a row."""

from __future__ import annotations

import junitparser

from orchestrator.history import digest
from orchestrator.history.nights import JobRecord, Night, Row
from orchestrator.report.junit import begun, outcome, written, xml


def junit(night: Night) -> str:
    """The file's text. KNOWN and SKIP are "skipped", FLAKY and FIXED are failures."""
    return written(_suite(night, record, rows) for record, rows in digest.by_job(night))


def _suite(night: Night, record: JobRecord, rows: tuple[Row, ...]) -> junitparser.TestSuite:
    job = record.job
    suite = begun(job.name, record.started if record.started is not None else night.started)
    properties = {"kernel": job.kernel, "architecture": job.arch, "command": " ".join(job.command)}
    for made in night.kernels:
        if (made.kernel, made.arch) == (job.kernel, job.arch):
            properties |= {"source": made.source_version, "release": made.release}
            properties |= {"compiler": made.compiler, "qemu": made.qemu}
    for name, value in properties.items():
        suite.add_property(name, xml(value))
    for row in rows:
        suite.add_testcase(_testcase(row))
    return suite


def _testcase(row: Row) -> junitparser.TestCase:
    case = junitparser.TestCase(
        xml(row.case), classname=xml(row.job.replace("/", ".")), time=round(row.seconds, 3)
    )
    inside = outcome(row.status, row.reason, "\n".join(_details(row)))
    if inside is not None:
        case.result = [inside]
        case.system_out = xml(f"{row.reproduce}\n")
    return case


def _details(row: Row) -> list[str]:
    properties = {"order": row.order, "it is there to catch": row.why, "files": row.directory}
    lines = [f"{name}: {value}" for name, value in properties.items() if value]
    return [*lines, f"failed: {row.failed} of {row.runs}"] if row.failed else lines
