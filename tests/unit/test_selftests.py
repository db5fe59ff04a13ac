# SPDX-License-Identifier: GPL-2.0-only
"""What the kernel's own scripts say, as verdicts and in every kind of report. No guest."""

from __future__ import annotations

import stat
from pathlib import Path

import junitparser
import pytest
from samples import load_results

from orchestrator.build.testtree import SelftestTree
from orchestrator.commands.kselftest import cases
from orchestrator.errors import HarnessError, UsageError
from orchestrator.initramfs import Entry
from orchestrator.nouns import Case, CaseKind, Order
from orchestrator.report import reproduce, resultsjson, resultstext
from orchestrator.report.junit import junit
from orchestrator.report.ktap import ktap
from orchestrator.run import selftests
from orchestrator.verdicts import CaseResult, CheckKind, Run, Status, Step

SCRIPT = "test-state.sh"
OUTPUT = """\
TAP version 13
1..1
# timeout set to 0
# selftests: livepatch: test-state.sh
# TEST: system state modification ... ok
# TEST: taking over ... ok
ok 1 selftests: livepatch: test-state.sh
"""
# functions.sh, check_result() of a test whose log lacks a line
DIFFERENT = OUTPUT.replace(
    "over ... ok\nok 1 selftests: livepatch: test-state.sh",
    """\
over ... not ok
#
# --- expected
# +++ result
# @@ -1,3 +1,2 @@
#  % modprobe test_klp_state
# -livepatch: 'test_klp_state': patching complete
#  % rmmod test_klp_state
#
# ERROR: livepatch kselftest(s) failed
not ok 1 selftests: livepatch: test-state.sh # exit=1""",
)
LOG = """\
[    1.000000] Linux version 6.1.192
[   10.000000] ===== TEST: system state modification =====
[   10.500000] % modprobe test_klp_state
[   12.000000] ===== TEST: taking over =====
[   12.750000] % rmmod test_klp_state
"""


def judged(
    output: str, taint: int = 0x9000, reports: tuple[str, ...] = ()
) -> tuple[Status, str, tuple[Step, ...]]:
    told = selftests.parse(output, SCRIPT)
    steps = selftests.steps(told, LOG, taint, reports, 5.0)
    return *selftests.verdict(told, steps), steps


def test_a_script_passes_when_each_of_its_tests_and_its_end_are_good() -> None:
    status, reason, steps = judged(OUTPUT)
    assert (status, reason) == (Status.PASS, "")
    assert [step.event for step in steps] == ["system state modification", "taking over", "end"]
    assert all(step.good for step in steps)
    assert [step.seconds for step in steps] == [2.0, 0.75, 2.25]


def test_a_difference_is_the_reason_and_is_kept_whole() -> None:
    status, reason, steps = judged(DIFFERENT)
    assert status is Status.FAIL
    assert reason == "taking over: -livepatch: 'test_klp_state': patching complete"
    assert [step.good for step in steps] == [True, False, False]
    (check,) = steps[1].checks
    assert (check.kind, check.expected) == (CheckKind.ANSWER, "ok")
    for line in ("not ok", "@@ -1,3 +1,2 @@", " % rmmod test_klp_state", "ERROR: livepatch"):
        assert line in check.seen


CALLER = "the script does not know the prefix of CONFIG_PRINTK_CALLER"
BUSY = "a transition stood still for 15 s: is the host busy?"


def differing(*lines: str) -> str:
    diff = "\n".join(f"# {line}" for line in lines)
    return DIFFERENT.replace(
        """\
#  % modprobe test_klp_state
# -livepatch: 'test_klp_state': patching complete
#  % rmmod test_klp_state""",
        diff,
    )


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ((" a", "+livepatch: signaling remaining tasks", " b"), BUSY),
        (("-a", "+[    T1] a", "-b", "+[  C0] b"), CALLER),
        (("-a", "-b", "+[    1.234567][    T1] a", "+[   12.345678][  T123] b"), CALLER),
        (("-a", "+[  T1] a", "+[  C1] livepatch: signaling remaining tasks"), f"{CALLER}; {BUSY}"),
        ((" a", "+livepatch: signaling remaining tasks", "@@ -9,2 +10,2 @@", " b", "-c"), ""),
        ((" a", "-livepatch: signaling remaining tasks", " b"), ""),
        (("-a", "+[    T1] b"), ""),
        (("-a", "+b"), ""),
        ((" a",), ""),
    ],
)
def test_a_difference_that_is_not_the_kernels_is_no_failure(
    lines: tuple[str, ...], reason: str
) -> None:
    status, told, _ = judged(differing(*lines))
    assert status is (Status.ERROR if reason else Status.FAIL)
    assert not reason or told == f"taking over: {reason}"
    assert judged(differing(*lines), reports=("WARNING: x",))[0] is Status.FAIL


def test_a_log_that_names_callers_tells_as_much() -> None:
    log = LOG.replace("] =====", "][  T123] =====").replace("] %", "][    C0] %")
    assert selftests.running(log) == "taking over"
    told = selftests.parse(OUTPUT, SCRIPT)
    assert [s.seconds for s in selftests.steps(told, log, 0, (), 5.0)] == [2.0, 0.75, 2.25]


@pytest.mark.parametrize(
    ("last_lines", "status", "reason"),
    [
        # die() in the middle of a test: the line has no end of its own
        (
            "# TEST: taking over ... ERROR: failed to load module x (sysfs)\n"
            "not ok 1 selftests: livepatch: test-state.sh # exit=1\n",
            Status.FAIL,
            "taking over: ERROR: failed to load module x (sysfs)",
        ),
        # every test is fine, the script is not
        (
            "not ok 1 selftests: livepatch: test-state.sh # exit=127\n",
            Status.FAIL,
            "script: not ok # exit=127",
        ),
        (
            "# TEST: taking over ... SKIP: unable to load module x\n"
            "ok 1 selftests: livepatch: test-state.sh # SKIP\n",
            Status.SKIP,
            "unable to load module x",
        ),
        # the script is fine, its test is not
        (
            "# TEST: taking over ... not ok\nok 1 selftests: livepatch: test-state.sh\n",
            Status.FAIL,
            "taking over: not ok",
        ),
    ],
)
def test_what_a_script_ends_with_is_its_verdict(
    last_lines: str, status: Status, reason: str
) -> None:
    first_lines = "".join(OUTPUT.splitlines(keepends=True)[:5])
    assert judged(first_lines + last_lines)[:2] == (status, reason)


SKIPPED = "ok 1 selftests: livepatch: test-state.sh # SKIP\n"


@pytest.mark.parametrize(
    "said",
    [
        "not ok\n# \n# --- expected\n# +++ result\n# +[1] x\n# SKIP: unable to load module x\n",
        "not ok\n",
        "ERROR: failed to load module x\n",
    ],
)
def test_a_skip_does_not_outweigh_a_wrong_test(said: str) -> None:
    first_lines = "".join(OUTPUT.splitlines(keepends=True)[:5])
    wrong = f"# TEST: taking over ... {said}"
    assert judged(f"{first_lines}{wrong}{SKIPPED}")[0] is Status.FAIL
    later = "# TEST: another ... SKIP: unable to load module x\n"
    status, reason, _ = judged(f"{first_lines}{wrong}{later}{SKIPPED}")
    assert status is Status.FAIL and reason.startswith("taking over: ")


@pytest.mark.parametrize("skips", ["# TEST: last ... SKIP: no module x\n", "# SKIP: no x\n", ""])
def test_a_skip_does_not_outweigh_what_the_kernel_reports(skips: str) -> None:
    head = "TAP version 13\n1..1\n# selftests: livepatch: test-state.sh\n"
    output = f"{head}{skips}{SKIPPED}"
    assert judged(output)[0] is Status.SKIP
    complaint = judged(output, reports=("WARNING: CPU: 0",))
    assert complaint[0] is Status.FAIL and complaint[1].startswith("console: WARNING: CPU: 0")
    tainted = judged(output, taint=0x9200)
    assert tainted[0] is Status.FAIL and tainted[1].startswith("taint: 0x9200")


def test_a_script_that_ran_no_test_proves_nothing() -> None:
    head = "depmod: WARNING\nTAP version 13\n1..1\n# selftests: livepatch: test-state.sh\n"
    result = "ok 1 selftests: livepatch: test-state.sh"
    assert judged(f"{head}{result}\n")[0] is Status.ERROR
    skipped = f"{head}# skip all tests: must be run as root\n{result} # SKIP\n"
    assert judged(skipped)[:2] == (Status.SKIP, "must be run as root")
    broken = f"{head}# ./functions.sh: 9: not found\nnot {result} # exit=2\n"
    status, reason, _ = judged(broken)
    assert status is Status.FAIL
    assert "exit=2" in reason
    assert "9: not found" in reason


@pytest.mark.parametrize(
    "output", ["", "No such test 'x'", OUTPUT.rpartition("ok 1")[0], OUTPUT.replace("state", "x")]
)
def test_a_runner_that_tells_no_result_is_our_trouble(output: str) -> None:
    with pytest.raises(HarnessError, match=r"does not tell the result of test-state\.sh"):
        selftests.parse(output, SCRIPT)


def test_a_kernel_that_complains_fails_though_the_script_is_content() -> None:
    assert judged(OUTPUT, reports=("WARNING: bad",))[:2] == (
        Status.FAIL,
        "console: WARNING: bad",
    )
    assert judged(OUTPUT, taint=0x9200)[:2] == (Status.FAIL, "taint: 0x9200")


def test_the_test_that_was_running_is_read_from_the_kernels_log() -> None:
    assert selftests.running(LOG) == "taking over"
    assert selftests.running("") == ""


# --- reports -----------------------------------------------------------------------------------


def a_result(output: str, arch: str = "s390x") -> CaseResult:
    status, reason, steps = judged(output)
    case = Case(SCRIPT, selftests.MODULE_SET, Order(()), kind=CaseKind.SELFTEST)
    result = CaseResult(case, arch, status, reason, steps, seconds=5.0)
    return CaseResult(
        case, arch, status, reason, steps, reproduce=reproduce.line(RUN, result), seconds=5.0
    )


RUN = Run(("/bin/klp-e2e",), 1.0, "debian:6.1", ("livepatch-reload",), 2, finished=7.0)
BOTH = (a_result(DIFFERENT), a_result(OUTPUT, "x86_64"))


def test_a_script_reproduces_with_its_own_command() -> None:
    line = "kselftest --arch s390x --kernel debian:6.1 --series livepatch-reload --test"
    assert BOTH[0].reproduce == f"klp-e2e {line} {SCRIPT}"
    script = reproduce.script(RUN, BOTH[0])
    assert f'exec "$program" {line} {SCRIPT} "$@"' in script


def test_ktap_has_the_scripts_tests_as_subtests() -> None:
    written = ktap(RUN, BOTH)
    assert "    1..2\n    ok 1 system state modification\n    not ok 2 taking over\n" in written
    assert "  not ok 1 kselftest.test-state.sh # taking over: -livepatch" in written
    assert "  # seen: -livepatch: 'test_klp_state': patching complete\n" in written
    assert "order" not in written
    skipped = a_result(OUTPUT.replace("over ... ok", "over ... SKIP: x").rstrip() + " # SKIP\n")
    assert "    ok 2 taking over # SKIP\n" in ktap(RUN, (skipped,))


def test_results_load_back() -> None:
    fragments = [resultsjson.case_text(resultsjson.record(result)) for result in BOTH]
    run, results = load_results(resultsjson.document_text(RUN, BOTH, fragments))
    assert (run, results) == (RUN, BOTH)


def test_junit_tells_the_test_and_the_difference() -> None:
    document = junitparser.JUnitXml.fromstring(junit(RUN, BOTH).encode())
    failed, passed = (case for suite in document for case in suite)
    assert failed.classname == "s390x.kselftest"
    assert "test 2: taking over" in failed.result[0].text
    assert "@@ -1,3 +1,2 @@" in failed.result[0].text
    assert passed.is_passed


def test_the_table_counts_tests_and_shows_the_difference() -> None:
    shown = resultstext.plain(resultstext.results_report(RUN, BOTH))
    assert "2 tests" in next(line for line in shown.splitlines() if "FAIL" in line)
    for wanted in (
        "test       taking over",
        "-livepatch: 'test_klp_state': patching complete",
        "s390x: 1 of 2 tests ok, scripts: 1",
        "x86_64: 2 of 2 tests ok, scripts: 1",
    ):
        assert wanted in shown


# --- the tree ----------------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path: Path) -> SelftestTree:
    for name, mode in {
        "kselftest/run_kselftest.sh": 0o755,
        "kselftest/livepatch/test-b.sh": 0o700,
        "kselftest/livepatch/settings": 0o600,
        "modules/test_klp_state.ko": 0o644,
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
        path.chmod(mode)
    listed = "livepatch:test-b.sh\nlivepatch:test-a.sh\n"
    (tmp_path / "kselftest/kselftest-list.txt").write_text(listed)
    return SelftestTree(tmp_path, "6.1.192")


def test_scripts_run_in_the_order_of_the_list(tree: SelftestTree) -> None:
    assert [case.name for case in cases(tree)] == ["test-b.sh", "test-a.sh"]
    assert [case.name for case in cases(tree, ["test-a.sh", "test-b.sh"])] == [*tree.tests]
    with pytest.raises(UsageError, match=r"no test test-c\.sh") as caught:
        cases(tree, ["test-c.sh"])
    assert "test-b.sh, test-a.sh" in caught.value.hint


def test_modprobe_finds_the_modules_and_the_scripts_can_be_run(
    tree: SelftestTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed: dict[str, Entry] = {}
    monkeypatch.setattr("orchestrator.initramfs.cpio", lambda given: packed.update(given) or b"")
    tree.archive()
    run, plain = stat.S_IFREG | 0o755, stat.S_IFREG | 0o644
    assert {name: entry.mode for name, entry in packed.items()} == {
        "bin/run-kselftest": run,
        "kselftest/kselftest-list.txt": plain,
        "kselftest/livepatch/settings": plain,
        "kselftest/livepatch/test-b.sh": run,
        "kselftest/run_kselftest.sh": run,
        "lib/modules/6.1.192": stat.S_IFDIR | 0o755,
        "lib/modules/6.1.192/extra/test_klp_state.ko": plain,
    }
