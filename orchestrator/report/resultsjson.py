# SPDX-License-Identifier: GPL-2.0-only
"""results.json: everything a run found out, for machines. Schema version 2; a document of version
1, whose checks are words and nothing else, is still read.

The shape is that of the dataclasses below; `schema()` publishes it as JSON Schema (2020-12), and
the copy beside this file, `results.schema.json`, is what other programs may rely on: a change that
breaks them raises SCHEMA. Orders are written in their notation. What is long and has a file of its
own in the results directory (console, dmesg) is not in here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

from orchestrator import catalog
from orchestrator.errors import UsageError
from orchestrator.model import malformations, orders
from orchestrator.nouns import Case, CaseKind, Order
from orchestrator.report import verdict
from orchestrator.run import selftests
from orchestrator.verdicts import NO_PROOF, CaseResult, Proof, Run, Status, Step, by_status, proofs

SCHEMA: Literal[3] = 3
READ = (1, 2, SCHEMA)  # 2 has other words for what is promised of a relocation
END_OF_TIME = 253402300800  # the year 10000, in seconds since the epoch


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True, slots=True)
class CaseRecord:
    """One case on one architecture."""

    name: str
    arch: str
    module_set: str
    order: str  # in order notation
    why: str  # what this order is there to catch
    status: Status
    reason: str
    steps: tuple[Step, ...]  # one for each event that was done
    known_issue: str  # id in known-issues.toml, or empty
    reproduce: str  # one line for a shell
    qemu_argv: tuple[str, ...]
    seconds: float
    cold: bool  # booted for this case, not restored from a snapshot
    directory: str  # the case's files, relative to results.json; empty: none were written
    kind: CaseKind | None = None  # None: an older klp-e2e did not write it down
    culprit: str = ""  # what of the module set is likelier wrong than the kernel; then it is ERROR


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True, slots=True)
class ResultsDocument:
    """results.json as a whole."""

    schema: Literal[1, 2, 3]
    exit_code: int  # 0 good, 1 kernel wrong, 4 harness; of what is known so far
    counts: Mapping[Status, int]
    run: Run
    cases: tuple[CaseRecord, ...]
    proof: Proof = NO_PROOF  # how much was seen to work


_DOCUMENT = TypeAdapter(ResultsDocument)
CASE = TypeAdapter(CaseRecord)
_RUN = TypeAdapter(Run)


def record(result: CaseResult, directory: str = "") -> CaseRecord:
    """What of a result goes into results.json."""
    return CaseRecord(
        name=result.case.name,
        arch=result.arch,
        module_set=result.case.module_set,
        order=orders.format(result.case.order),
        why=result.case.why,
        status=result.status,
        reason=result.reason,
        steps=result.steps,
        known_issue=result.known_issue,
        reproduce=result.reproduce,
        qemu_argv=result.qemu_argv,
        seconds=result.seconds,
        cold=result.cold,
        directory=directory,
        kind=result.case.kind,
        culprit=result.culprit,
    )


def case_text(case: CaseRecord) -> str:
    """result.json of one case, on one line; also a fragment for `document_text`."""
    return CASE.dump_json(case).decode()


def document_text(run: Run, results: Sequence[CaseResult], fragments: Sequence[str]) -> str:
    """results.json. `fragments`: `case_text` of each result, in their order.

    A run writes this file after every case; fragments keep that from costing the square of cases.
    """
    found = verdict.counts(results)
    counts = {str(status): found.get(status, 0) for status in Status}
    head = {
        "schema": SCHEMA,
        "exit_code": int(verdict.results_exit_code(run, results)),
        "counts": counts,
    }
    head["proof"] = asdict(proofs(results))
    opened = json.dumps(head, indent=2).removesuffix("\n}")
    body = ",\n".join(fragments)
    return (
        f'{opened},\n"run": {_RUN.dump_json(run, indent=2).decode()},\n"cases": [\n{body}\n]\n}}\n'
    )


def read_document(text: str, name: str = "results.json") -> ResultsDocument:
    """The inverse. Raises UsageError, naming `name` and the first thing that is wrong with it."""
    head = parsed(text, name)
    found = head.get("schema") if isinstance(head, dict) else None
    if found not in READ:
        raise UsageError(
            f"{name} has schema {found!r}, this klp-e2e reads {' and '.join(map(str, READ))}",
            hint="read it with the klp-e2e that wrote it",
        )
    try:
        read = _DOCUMENT.validate_json(text, strict=True)
    except ValidationError as err:
        hint = "orchestrator/report/results.schema.json describes the file"
        raise misshapen(err, name, hint) from err
    refuse_names(read.run, (case.arch for case in read.cases), name)
    for case in read.cases:
        arch, _, own = case.directory.partition("/")
        if case.directory and (arch != case.arch or "/" in own or own in ("", ".", "..")):
            raise malformed(name, f"'{case.directory}' is no directory of a case")
    refuse_contradictions(read.cases, name)
    found = by_status(case.status for case in read.cases)
    for status in Status:
        told, there = read.counts.get(status, 0), found.get(status, 0)
        if told != there:
            raise malformed(name, f"it counts {told} {status}, and has {there}")
    return read


def refuse_contradictions(cases: Iterable[CaseRecord], name: str) -> None:
    """Raises UsageError for a case, read from the file `name`, whose status is not what its own
    checks say: it would be believed wherever the checks are not shown."""
    for case in cases:
        bad = [check for step in case.steps for check in step.checks if not check.good]
        if bad and case.status in (Status.PASS, Status.FIXED):
            label = f"{case.arch}/{case.module_set}/{case.name}"
            raise malformed(name, f"{label} is {case.status}, yet '{bad[0].subject}' failed")


def misshapen(err: ValidationError, name: str, hint: str) -> UsageError:
    """Where a document is not what it should be: the first such place."""
    first = err.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    return UsageError(f"{name} is malformed at {place or 'its top'}: {first['msg']}", hint=hint)


def parsed(text: str | bytes, name: str) -> object:
    """What JSON says, if it says it in numbers that are some. Raises UsageError."""
    try:
        return json.loads(text, parse_constant=_finite, parse_float=_finite)
    except (ValueError, RecursionError) as err:
        raise UsageError(f"{name} is not JSON: {err}", hint="was it cut short?") from err


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no number")
    return number


def refuse_names(run: Run, arches: Iterable[str], name: str) -> None:
    """Raises UsageError for a run, read from the file `name`, with an architecture whose name can
    be none, for it names directories; or with a time that is none. arches: others in the file."""
    named = {kernel.arch for kernel in run.kernels} | {guest.arch for guest in run.guests}
    for arch in sorted({*arches, *named, *run.qemu, *run.unbuilt, *run.arch_files}):
        if not catalog.is_arch_name(arch):
            raise malformed(name, f"'{arch}' is no name of an architecture")
    refuse_times((run.started, run.finished), name)


def refuse_times(times: Iterable[float | None], name: str) -> None:
    """Raises UsageError for what is no time since the epoch, in seconds."""
    for time in times:
        if time is not None and not 0 <= time < END_OF_TIME:
            raise malformed(name, f"{time} is no time")


def malformed(name: str, what: str) -> UsageError:
    """Of a document that says what klp-e2e never writes."""
    return UsageError(f"{name} is malformed: {what}", hint="did klp-e2e write it?")


def kind_of(case: CaseRecord) -> CaseKind:
    """What a case is."""
    return kind_by_set(case.module_set) if case.kind is None else case.kind


def kind_by_set(module_set: str) -> CaseKind:
    """What a case is of which the kind is not written down: by what stands for the module set."""
    if module_set.startswith(malformations.PREFIX):
        return CaseKind.MALFORMED
    return CaseKind.SELFTEST if module_set == selftests.MODULE_SET else CaseKind.ORDER


def order_of(case: CaseRecord) -> Order:
    """The order that a case ran; a script has none."""
    return orders.parse(case.order, None) if case.order else Order(())


def as_result(case: CaseRecord) -> CaseResult:
    """The inverse of `record`; consoles and kernel logs are not in it."""
    order = order_of(case)
    return CaseResult(
        case=Case(case.name, case.module_set, order, case.why, kind_of(case)),
        arch=case.arch,
        status=case.status,
        reason=case.reason,
        steps=case.steps,
        known_issue=case.known_issue,
        reproduce=case.reproduce,
        qemu_argv=case.qemu_argv,
        seconds=case.seconds,
        cold=case.cold,
        culprit=case.culprit,
    )


def schema() -> Mapping[str, Any]:
    """JSON Schema of results.json."""
    described = _DOCUMENT.json_schema(mode="serialization")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"klp-e2e results, schema {SCHEMA}",
        **{key: value for key, value in described.items() if key != "title"},
    }


def schema_text() -> str:
    """results.schema.json"""
    return json.dumps(schema(), indent=2, sort_keys=True) + "\n"
