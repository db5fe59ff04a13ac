# SPDX-License-Identifier: GPL-2.0-only
"""Texts of a guest, a module, a stranger's results, in every format that we write: each keeps the
format's grammar, and commands nobody who reads it."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import junitparser
import kcidb_io  # type: ignore[import-untyped]  # it has no stubs
import pytest
from announce_samples import CHANGES, CORE, NIGHT, ROWS, a_record
from ktap_grammar import parse_ktap
from test_announce_people import unescaped
from test_report import BAD, a_result, a_run, a_step

from orchestrator.announce import nightjunit as night_junit
from orchestrator.announce import nightktap as night_ktap
from orchestrator.announce.kcidb import kcidb
from orchestrator.announce.mail import WIDTH, mail
from orchestrator.announce.summary import night_markdown
from orchestrator.history import text as history_text
from orchestrator.history.nights import Blame, Change, Changed, Changes, InputChange, Night
from orchestrator.report import reproduce, resultstext
from orchestrator.report.junit import junit
from orchestrator.report.ktap import ktap
from orchestrator.verdicts import CaseResult, Run, Status

BIDI = "".join(map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F)))
SEPARATORS = "\u2028\u2029\x0b\x0c\x1c\x1d\x1e\x85"
HARM = {
    "escape": "\x1b]0;PWNED\x07\x1b[2J\x9b31m",
    "bidi": f"a{BIDI}b",
    "separators": f"one{SEPARATORS}::error::two{SEPARATORS}not ok 1 x",
    "carriage return": "ok\r::error::x\rnot ok 1 y\r\n::warning::z",
    "nul": "a\x00b\ud800\ufffe",
    "github": "::error file=x::pwn",
    "github, far": f"{'word ' * 10}{'x' * 3} ::error::pwn {'word ' * 9}::error::pwn",
    "github, cut": f"{'x' * 66}::error::{'y' * 57}::error::",
    "github, old": "##[error]pwn",
    "azure": "x ##vso[task.setvariable variable=a]b ###vso[x]",
    "html": "<script>alert(1)</script><img src=x onerror=y>&lt;!--",
    "cdata": "]]><failure/>",
    "backticks": "``` `a` ````\n```\n# x",
    "pipes": "a | b || c |",
    "heading": "# heading",
    "ktap": "not ok 1 - x",
    "ktap, lines": "x\nnot ok 1 y\nok 2 z # SKIP\n1..7\nKTAP version 1\nBail out!",
    "skip": "# SKIP not needed",
    "skip, bare": "SKIP not needed",
    "skip, within": "it failed # SKIP as ever #xfail # TODO",
    "xfail": "XFAIL it is meant to",
    "blank": "   ",
    "shell": "'; touch pwned; $(touch pwned) `touch pwned` \\\ntouch pwned",
}
EVERY = pytest.mark.parametrize("harm", HARM.values(), ids=HARM)

# what commands a terminal, or turns a line around
OBEYED = re.compile(f"[\x00-\x08\x0b-\x1f\x7f-\x9f{BIDI}\ud800-\udfff]")
# what a CI carries out in what a job prints: lines end in \n or \r
CARRIED_OUT = re.compile(r"(?:^|[\r\n])[^\S\r\n]*::|##\w*\[")

# --- one run -------------------------------------------------------------------------------------

Change_ = Callable[[Run, CaseResult, str], tuple[Run, CaseResult]]


def _check(result: CaseResult, **changed: str) -> CaseResult:
    bad = replace(BAD, **changed)  # type: ignore[arg-type]  # texts by name
    return replace(result, steps=(*result.steps[:-1], a_step("+klp_target", bad)))


def _event(result: CaseResult, harm: str) -> CaseResult:
    return replace(result, steps=(*result.steps[:-1], a_step(harm, BAD)))


def _script(result: CaseResult, harm: str) -> CaseResult:
    case = replace(result.case, module_set="kselftest", name=harm)
    return replace(_event(result, harm), case=case)


OF_A_RUN: Mapping[str, Change_] = {
    "case": lambda run, r, harm: (run, replace(r, case=replace(r.case, name=harm))),
    "module set": lambda run, r, harm: (run, replace(r, case=replace(r.case, module_set=harm))),
    "why": lambda run, r, harm: (run, replace(r, case=replace(r.case, why=harm))),
    "reason": lambda run, r, harm: (run, replace(r, reason=harm)),
    "console": lambda run, r, harm: (run, replace(r, console=f"BUG: {harm}\n{harm}")),
    "dmesg": lambda run, r, harm: (run, replace(r, dmesg=harm)),
    "known issue": lambda run, r, harm: (run, replace(r, known_issue=harm)),
    "reproduce": lambda run, r, harm: (run, replace(r, reproduce=harm)),
    "event": lambda run, r, harm: (run, _event(r, harm)),
    "script": lambda run, r, harm: (run, _script(r, harm)),
    "subject": lambda run, r, harm: (run, _check(r, subject=harm)),
    "expected": lambda run, r, harm: (run, _check(r, expected=harm)),
    "seen": lambda run, r, harm: (run, _check(r, seen=harm)),
    "trouble": lambda run, r, harm: (replace(run, trouble=harm), r),
    "unbuilt": lambda run, r, harm: (replace(run, unbuilt={"x86_64": harm}), r),
    "command": lambda run, r, harm: (replace(run, command=("klp-e2e", harm)), r),
    "compiler": lambda run, r, harm: (
        replace(run, kernels=tuple(replace(k, compiler=harm, release=harm) for k in run.kernels)),
        r,
    ),
}
FAILING = (Status.FAIL, Status.KNOWN, Status.ERROR, Status.FIXED)
RUN_FIELDS = pytest.mark.parametrize("field", OF_A_RUN)


def harmed(field: str, harm: str, status: Status) -> tuple[Run, CaseResult]:
    result = replace(a_result(status), reproduce="klp-e2e run")
    return OF_A_RUN[field](a_run(1), result, harm)


@EVERY
@RUN_FIELDS
def test_ktap_of_a_run(field: str, harm: str) -> None:
    for status in FAILING:
        run, result = harmed(field, harm, status)
        keeps_ktap(ktap(run, [result]), status)


@EVERY
@RUN_FIELDS
def test_junit_of_a_run(field: str, harm: str) -> None:
    for status in FAILING:
        run, result = harmed(field, harm, status)
        keeps_junit(junit(run, [result]), status)


@EVERY
@RUN_FIELDS
def test_text_of_a_run(field: str, harm: str) -> None:
    for status in FAILING:
        run, result = harmed(field, harm, status)
        commands_nobody(resultstext.plain(resultstext.results_report(run, [result])))


@EVERY
@RUN_FIELDS
def test_script_of_a_case(field: str, harm: str, tmp_path: Path) -> None:
    """reproduce.sh: comments stay comments, and nothing runs but the program. Its arguments are
    those of the user, whatever they are."""
    run, result = harmed(field, harm, Status.FAIL)
    script = reproduce.script(run, result)
    comments, _, rest = script.partition("set -eu\n")
    assert rest and not OBEYED.search(comments)
    assert all(line.startswith("#") for line in comments.splitlines())
    if "\0" in rest:
        return  # no argument ever had one
    (tmp_path / "run").write_text(script, encoding="utf-8", errors="backslashreplace")
    done = subprocess.run(["sh", "run"], cwd=tmp_path, env={"KLP_E2E": "/bin/true"}, check=False)
    assert done.returncode == 0 and [path.name for path in tmp_path.iterdir()] == ["run"]


def keeps_ktap(written: str, status: Status) -> None:
    found = parse_ktap(written)
    (answer, directive) = [value for name, value in found.items() if name.startswith("0:")][-1]
    expected = {
        Status.FAIL: ("not ok", None),
        Status.FIXED: ("not ok", None),
        Status.FLAKY: ("not ok", None),
        Status.KNOWN: ("ok", "XFAIL"),
        Status.ERROR: ("not ok", "ERROR"),
    }
    assert (answer, directive) == expected[status]
    skipped = re.compile(r"^\s*(?:ok|not ok) \d+ .*# ?SKIP", re.IGNORECASE | re.MULTILINE)
    assert not skipped.search(written), "kunit.py would take it for skipped"
    commands_nobody(written)
    assert written.splitlines() == written.removesuffix("\n").split("\n")


def keeps_junit(written: str, status: Status) -> None:
    loaded = junitparser.JUnitXml.fromstring(written.encode())
    suite, *others = loaded  # the run itself, where it stopped early
    errors = [result for more in others for case in more for result in case.result]
    assert all(isinstance(each, junitparser.Error) for each in errors)
    (case,) = suite
    (found,) = case.result
    kinds = {Status.KNOWN: junitparser.Skipped, Status.ERROR: junitparser.Error}
    assert type(found) is kinds.get(status, junitparser.Failure)
    assert not re.search(f"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f{BIDI}]", written)


def commands_nobody(shown: str) -> None:
    assert not OBEYED.search(shown)
    assert not CARRIED_OUT.search(shown)


# --- one night -----------------------------------------------------------------------------------

OF_A_NIGHT: Mapping[str, Callable[[Night, Changes, str], tuple[Night, Changes]]] = {
    **{
        name: lambda night, changes, harm, name=name: (  # type: ignore[misc]
            _row(night, changes, **{name: harm})
        )
        for name in ("case", "reason", "order", "why", "reproduce", "directory")
    },
    "note": lambda night, changes, harm: (
        night,
        replace(changes, changed=tuple(replace(each, note=harm) for each in changes.changed)),
    ),
    "trouble": lambda night, changes, harm: (replace(night, trouble=harm), changes),
    "host": lambda night, changes, harm: (replace(night, host=harm, config=harm), changes),
    "blame": lambda night, changes, harm: (
        replace(night, blames=(Blame(CORE.name, "basic/one", harm, harm, harm),)),
        changes,
    ),
    "input": lambda night, changes, harm: (
        night,
        replace(changes, inputs=(InputChange(harm, "one", harm, harm, harm),)),
    ),
    "kernel": lambda night, changes, harm: (
        replace(
            night,
            kernels=tuple(
                replace(each, source_version=harm, release=harm, compiler=harm, qemu=harm)
                for each in night.kernels
            ),
        ),
        changes,
    ),
    "job": lambda night, changes, harm: (
        replace(
            night,
            jobs=tuple(
                replace(each, job=replace(each.job, kernel=harm, what=harm, command=("run", harm)))
                for each in night.jobs
            ),
        ),
        changes,
    ),
    "job's reason": lambda night, changes, harm: (
        replace(night, jobs=(*night.jobs, a_record(replace(CORE, name="j"), 4, reason=harm))),
        changes,
    ),
}


def _row(night: Night, changes: Changes, **changed: str) -> tuple[Night, Changes]:
    row = replace(night.rows[0], **changed)  # type: ignore[arg-type]  # texts by name
    told = tuple(replace(each, row=row) for each in changes.changed)
    return replace(night, rows=(row,)), replace(changes, changed=told)


def a_bad_night(field: str, harm: str, status: Status = Status.FAIL) -> tuple[Night, Changes]:
    row = replace(ROWS[0], case="basic/one", status=status)
    code = {Status.KNOWN: 0, Status.ERROR: 4}.get(status, 1)
    night = replace(NIGHT, jobs=(a_record(CORE, code),), rows=(row,))
    changed = tuple(
        Changed(change, row, NIGHT.name)
        for change in (Change.NEW_FAILURE, Change.STILL_FAILING, Change.NEWLY_SKIPPED)
    )
    return OF_A_NIGHT[field](night, replace(CHANGES, changed=changed, inputs=()), harm)


NIGHT_FIELDS = pytest.mark.parametrize("field", OF_A_NIGHT)


@EVERY
@NIGHT_FIELDS
def test_mail_of_a_night(field: str, harm: str) -> None:
    written = mail(*a_bad_night(field, harm))
    head, _, body = written.partition("\n\n")
    assert re.fullmatch(r"Subject: [ -~]+", head) and len(head) <= WIDTH
    commands_nobody(written)
    assert written.splitlines() == written.removesuffix("\n").split("\n")
    pasted = {after for before, after in lines_after_blank(body) if before == "  reproduce:"}
    for line in body.splitlines():
        assert line in pasted or (len(line) <= WIDTH and line.isascii())


def lines_after_blank(body: str) -> list[tuple[str, str]]:
    lines = body.splitlines()
    return [(lines[n], lines[n + 2]) for n in range(len(lines) - 2) if not lines[n + 1]]


@EVERY
@NIGHT_FIELDS
def test_summary_of_a_night(field: str, harm: str) -> None:
    written = night_markdown(*a_bad_night(field, harm))
    commands_nobody(written)
    assert written.splitlines() == written.removesuffix("\n").split("\n")
    prose = re.sub(r"(?ms)^(`{3,})sh\n[^\n]*\n\1$", "", written)
    assert not re.search(r"[<>`*_~$\[\]]", unescaped(prose))
    for block in prose.split("\n\n"):
        lines = block.splitlines()
        if block.startswith("|"):
            assert len({line.count("|") for line in lines}) == 1, block
        else:
            assert len(lines) <= 1 and re.match(r"## klp-e2e|### [A-Z]|Night |It |$", block)


@EVERY
@NIGHT_FIELDS
def test_ktap_and_junit_of_a_night(field: str, harm: str) -> None:
    for status in FAILING:
        night, _ = a_bad_night(field, harm, status)
        night = replace(night, jobs=night.jobs[:1])
        found = parse_ktap(night_ktap.ktap(night))
        (answer, directive) = next(value for key, value in found.items() if key.startswith("0:"))
        assert (answer == "ok", directive == "SKIP") == (status is Status.KNOWN, False)
        commands_nobody(night_ktap.ktap(night))
        keeps_junit(night_junit.junit(night), status)


@EVERY
@NIGHT_FIELDS
def test_kcidb_of_a_night(field: str, harm: str) -> None:
    written = kcidb(*a_bad_night(field, harm))
    kcidb_io.schema.LATEST.validate(json.loads(written))
    assert not OBEYED.search("".join(texts(json.loads(written))).replace("\n", ""))


def texts(value: object) -> list[str]:
    match value:
        case dict():
            return [text for each in value.items() for part in each for text in texts(part)]
        case list():
            return [text for each in value for text in texts(each)]
    return [value] if isinstance(value, str) else []


@EVERY
@NIGHT_FIELDS
def test_a_comparison_of_nights(field: str, harm: str) -> None:
    night, changes = a_bad_night(field, harm)
    commands_nobody(resultstext.plain(history_text.compared(night, night, changes)))


def test_the_samples_are_what_they_are_taken_for() -> None:
    for name in ("escape", "bidi", "nul", "carriage return"):
        assert OBEYED.search(HARM[name])
    for name in ("github", "github, old", "azure", "carriage return"):
        assert CARRIED_OUT.search(HARM[name])
