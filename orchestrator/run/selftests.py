# SPDX-License-Identifier: GPL-2.0-only
"""What one of the kernel's own livepatch tests said, and what follows from it. Pure.

A script of tools/testing/selftests/livepatch runs several tests, and ends at the first that fails:
each says "TEST: NAME ... ok", or instead of "ok" why not, mostly the difference between the kernel
log that it expects and the one that it found (functions.sh, check_result() and die()). The kernel's
runner (kselftest/runner.sh) puts "# " before what the script says, and a TAP line after it:

    TAP version 13
    1..1
    # selftests: livepatch: test-state.sh
    # TEST: system state modification ... ok
    ok 1 selftests: livepatch: test-state.sh

So a script becomes a case and each of its tests a step: a case, too, ends at its first wrong step.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.errors import HarnessError
from orchestrator.model.judge import ALLOWED_TAINT
from orchestrator.nouns import Case, CaseKind
from orchestrator.verdicts import CaseResult, Check, CheckKind, Status, Step

MODULE_SET = "kselftest"  # what stands in a case for the module set
END = "end"  # the step after the last test: how the script ended, and in what state it left things
GOOD = "ok"

_TEST = re.compile(r"^TEST: (?P<name>.*?) \.\.\. ?(?P<said>.*)$")
# printk's prefix: time stamp, and who it was (CONFIG_PRINTK_CALLER)
_CALLER = r"\[ *[CT]\d+\] "
_PRINTK = rf"^\[\s*(?P<at>\d+\.\d+)\](?: |{_CALLER})"
# functions.sh, start_test()
_BEGUN = re.compile(rf"{_PRINTK}===== TEST: (?P<name>.*) =====\s*$", re.MULTILINE)
_STAMP = re.compile(_PRINTK, re.MULTILINE)
# what check_result() leaves of that prefix where it does not know the caller
_NOT_STRIPPED = re.compile(rf"^(?:\[[ 0-9.]*\])?{_CALLER}")
_SIGNALS = "livepatch: signaling remaining tasks"  # kernel/livepatch/transition.c, SIGNALS_TIMEOUT
_DIFFERS = re.compile(r"^[-+](?![-+]{2} ).*")
_SKIPS = re.compile(r"^(?:SKIP: |skip all tests: )(?P<why>.*)$", re.MULTILINE)
_LAST_LINES = 5


@dataclass(frozen=True, slots=True)
class Test:
    """`said`: "ok", or everything up to the next test."""

    __test__ = False  # it is nothing that pytest could run

    name: str
    said: str

    @property
    def gist(self) -> str:
        """One line of it: the first that differs, where it is a difference."""
        lines = [line.strip() for line in self.said.splitlines() if line.strip()]
        differing = [line for line in lines if _DIFFERS.match(line)]
        telling = [line for line in lines if line != "not ok"]
        return next(iter([*differing, *telling, *lines]), "said nothing")

    @property
    def not_the_kernels(self) -> str:
        """Why the log that it found differs, where that is no doing of the kernel's; else ""."""
        sides: dict[str, list[str]] = {"-": [], "+": []}
        for line in self.said.partition("\n@@ ")[2].splitlines()[1:]:
            if line[:1] in (" ", "-", "+"):
                for side in sides if line[0] == " " else line[0]:
                    sides[side].append(line[1:])
        expected, found = sides["-"], sides["+"]
        uncalled = [_NOT_STRIPPED.sub("", line) for line in found]
        unsignalled = [line for line in uncalled if line != _SIGNALS]
        if unsignalled != expected:
            return ""
        why = []
        if uncalled != found:
            why.append("the script does not know the prefix of CONFIG_PRINTK_CALLER")
        if unsignalled != uncalled:
            why.append("a transition stood still for 15 s: is the host busy?")
        return "; ".join(why)

    @property
    def skips(self) -> bool:
        """Does it say that it cannot be run here, and nothing that is wrong?"""
        return all(map(_SKIPS.match, self.said.splitlines())) and self.said != ""


@dataclass(frozen=True, slots=True)
class ScriptOutput:
    """What the runner and the script in it said.

    heading: of the script, before its first test. ok, directive: of the TAP line; directive: "",
    "SKIP", "exit=1".
    """

    heading: str
    tests: tuple[Test, ...]
    ok: bool
    directive: str

    @property
    def skipped(self) -> bool:
        return self.directive.upper().startswith("SKIP")


def parse(output: str, script: str) -> ScriptOutput:
    """The runner's output for one script. Raises HarnessError when it does not tell the result."""
    _, _, body = output.partition("TAP version 13\n")
    result = re.compile(rf"^(not )?ok 1 selftests: \S+ {re.escape(script)}(?: # (.*))?$")
    heading: list[str] = []
    tests: list[tuple[str, list[str]]] = []
    for line in body.splitlines():
        if found := result.match(line):
            done = tuple(Test(name, "\n".join(said).strip()) for name, said in tests)
            title = "\n".join(heading).strip()
            return ScriptOutput(title, done, found[1] is None, (found[2] or "").strip())
        said = line.removeprefix("#").removeprefix(" ")
        if test := _TEST.match(said):
            tests.append((test["name"], [test["said"]]))
        else:
            (tests[-1][1] if tests else heading).append(said)
    last = "\n".join(output.splitlines()[-_LAST_LINES:])
    raise HarnessError(f"the kernel's test runner does not tell the result of {script}: {last}")


def running(log: str) -> str:
    """The test that began last by the kernel's log, "" when none has."""
    begun = list(_BEGUN.finditer(log))
    return begun[-1]["name"] if begun else ""


def steps(
    output: ScriptOutput, log: str, taint: int, reports: Sequence[str], seconds: float
) -> tuple[Step, ...]:
    """A step for each test, and one for the end.

    log: the kernel's, which tells how long each test took. taint: of the kernel at the end.
    reports: the kernel's on the console meanwhile (kernelreports.reports). seconds: of it all.
    """
    took = _durations(log)
    if len(took) != len(output.tests):  # the log's beginning was overwritten
        took = (0.0,) * len(output.tests)
    made = [
        _step(test.name, second, _answer("result", GOOD, test.said))
        for test, second in zip(output.tests, took, strict=True)
    ]
    ended = "ok" if output.ok else "not ok"
    checks = (
        _answer("script", GOOD, f"{ended} # {output.directive}" if output.directive else ended),
        _health("console", "no kernel report", "; ".join(reports) or "no kernel report"),
        Check(
            CheckKind.HEALTH,
            "taint",
            f"nothing beyond {ALLOWED_TAINT:#x}",
            f"{taint:#x}",
            taint & ~ALLOWED_TAINT == 0,
        ),
    )
    return (*made, _step(END, max(0.0, seconds - sum(took)), *checks))


def crashed(test: str, title: str) -> Step:
    """The step in which the kernel crashed."""
    return _step(test or END, 0.0, _health("guest", "lives", title))


def verdict(output: ScriptOutput, made: Sequence[Step]) -> tuple[Status, str]:
    """The status of a script and the reason for it. One that ran no test proved nothing; one that
    skips says nothing for a test that was wrong before, nor for what the kernel reported. One that
    ended at a difference which is not the kernel's doing proved nothing either."""
    skips = output.skipped and bool(output.tests) and output.tests[-1].skips
    judged = output.tests[:-1] if skips else output.tests
    checks = [check for check in made[-1].checks if not check.good]
    unhealthy = [check for check in checks if check.kind is CheckKind.HEALTH]
    wrong = next((test for test in judged if test.said != GOOD), None)
    if wrong is not None and not unhealthy and (other := wrong.not_the_kernels):
        return Status.ERROR, f"{wrong.name}: {other}"
    if wrong is not None:
        return Status.FAIL, f"{wrong.name}: {wrong.gist}"
    if output.skipped and not unhealthy:
        said = output.tests[-1].said if skips else output.heading
        why = _SKIPS.search(said)
        return Status.SKIP, why["why"] if why else said
    failed = next(iter([*unhealthy, *checks] if output.skipped else checks), None)
    if failed is not None:
        heading = f": {output.heading}" if output.heading and not output.tests else ""
        return Status.FAIL, f"{failed.subject}: {failed.seen}{heading}"
    if not output.tests:
        return Status.ERROR, "the script ran no test: nothing was proven"
    return Status.PASS, ""


def step_word(case: Case) -> str:
    """What one step of a case is called."""
    return "test" if case.kind is CaseKind.SELFTEST else "event"


def tests(result: CaseResult) -> tuple[Step, ...]:
    """The tests that a script of the kernel's ran; none of any other case."""
    if result.case.kind is not CaseKind.SELFTEST:
        return ()
    return tuple(step for step in result.steps if step.event != END)


def _durations(log: str) -> tuple[float, ...]:
    """Seconds from the beginning of each test to that of the next, or to the log's last line."""
    begun = [float(found["at"]) for found in _BEGUN.finditer(log)]
    stamps = _STAMP.findall(log)
    ends = [*begun[1:], *(float(stamp) for stamp in stamps[-1:])]
    return tuple(max(0.0, end - start) for start, end in zip(begun, ends, strict=False))


def _step(event: str, seconds: float, *checks: Check) -> Step:
    return Step(event, checks, seconds, 0.0, 0)


def _answer(subject: str, expected: str, seen: str) -> Check:
    return Check(CheckKind.ANSWER, subject, expected, seen, seen == expected)


def _health(subject: str, expected: str, seen: str) -> Check:
    return Check(CheckKind.HEALTH, subject, expected, seen, seen == expected)
