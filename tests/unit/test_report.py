# SPDX-License-Identifier: GPL-2.0-only
"""Reports: what a machine reads must be valid, what a person reads must name the trouble."""

from __future__ import annotations

import errno
import json as stdjson
import os
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import jsonschema
import junitparser
import pytest
import samples
from ktap_grammar import parse_ktap
from samples import a_reading, load_results

from orchestrator.errors import Exit, HarnessError, UsageError
from orchestrator.model import orders
from orchestrator.nouns import Case, CaseKind, Kernel
from orchestrator.report import directory, reproduce, resultsjson, resultstext, store, verdict
from orchestrator.report.directory import ResultsDirectory
from orchestrator.report.junit import junit
from orchestrator.report.ktap import ktap
from orchestrator.verdicts import (
    CaseResult,
    Check,
    CheckKind,
    Reading,
    RelocationState,
    Run,
    Status,
    Step,
)

RELOAD = "+klp_patch +klp_target -klp_target +filler +klp_target"
GOOD = Check(CheckKind.ANSWER, "+klp_patch", "success", "success", True)
BAD = Check(
    CheckKind.RELOCATION,
    "klp_patch .text+0x1c R_390_GOTENT klp_target:klp_target_value,0",
    "resolves to 0x3ff7fc1a010",
    "resolves to 0x3ff7fc0a010, got 0x3ff7fc02018",
    False,
)
CONSOLE = "[    3.1] \x1b[1mBUG: unable to handle page fault\x00\ud800\n]]> & <"


def a_case(name: str = "reload", order: str = RELOAD) -> Case:
    return Case(name, "basic", orders.parse(order, None), "the GOT slot must be filled again")


def a_step(event: str, *checks: Check) -> Step:
    return Step(event, checks, seconds=0.1, readback_seconds=0.02, relocations_read=3)


def a_result(status: Status, arch: str = "s390x", case: Case | None = None) -> CaseResult:
    steps = tuple(a_step(event, GOOD) for event in RELOAD.split()[:4])
    return CaseResult(
        case=case or a_case(),
        arch=arch,
        status=status,
        reason="wrong # relocation" if status is Status.FAIL else "as promised",
        steps=(*steps, a_step("+klp_target", BAD if status is Status.FAIL else GOOD)),
        known_issue="s390-reload" if status is Status.KNOWN else "",
        console=CONSOLE if status is Status.FAIL else "",
        dmesg="[0.0] Linux",
        qemu_argv=("qemu-system-s390x", "-append", "console=ttysclp0 panic=-1"),
        seconds=1.25,
    )


def patched_kernel(arch: str) -> Kernel:
    able = frozenset({"clears-on-unload"})
    return samples.a_kernel(arch, series=("livepatch-reload",), capabilities=able)


def a_run(planned: int, **changed: object) -> Run:
    made = Run(
        command=("/opt/klp e2e/klp-e2e", "run"),
        started=1_700_000_000.0,
        finished=1_700_000_247.0,
        source="debian:6.1",
        series=("livepatch-reload",),
        planned=planned,
        kernels=(patched_kernel("s390x"), patched_kernel("x86_64")),
        qemu={"s390x": "QEMU emulator version 7.2.22"},
    )
    return replace(made, **changed)  # type: ignore[arg-type]  # fields by name, from tests only


EVERY = tuple(
    a_result(status, arch, a_case(f"case {status}"))
    for arch in ("s390x", "x86_64")
    for status in Status
)


@pytest.mark.parametrize(
    ("statuses", "strict", "code"),
    [
        ("PASS", False, Exit.GOOD),
        ("PASS SKIP KNOWN", False, Exit.GOOD),
        ("PASS KNOWN", True, Exit.TEST_FAILURE),
        ("PASS FIXED", False, Exit.TEST_FAILURE),
        ("ERROR FAIL PASS", False, Exit.TEST_FAILURE),
        ("ERROR PASS", False, Exit.HARNESS),
        ("SKIP SKIP", False, Exit.HARNESS),
        ("", False, Exit.HARNESS),
    ],
)
def test_exit_code(statuses: str, strict: bool, code: Exit) -> None:
    results = [a_result(Status(word)) for word in statuses.split()]
    assert verdict.results_exit_code(a_run(len(results), strict=strict), results) is code


def test_a_run_that_stopped_early_is_not_good() -> None:
    results = [a_result(Status.PASS)]
    assert verdict.results_exit_code(a_run(2), results) is Exit.HARNESS
    assert verdict.results_exit_code(a_run(1, trouble="interrupted"), results) is Exit.HARNESS


def test_an_architecture_that_was_not_built() -> None:
    """What the others say comes first."""
    run = a_run(2, unbuilt={"s390x": "no compiler"})
    assert verdict.results_exit_code(run, [a_result(Status.PASS, "x86_64")]) is Exit.BUILD
    assert verdict.results_exit_code(run, [a_result(Status.FAIL, "x86_64")]) is Exit.TEST_FAILURE
    shown = resultstext.plain(resultstext.results_report(run, [a_result(Status.PASS, "x86_64")]))
    assert "s390x: no kernel: no compiler" in shown and "not built: s390x" in shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(3.21, "3.2 s"), (247.4, "4 min 07 s"), (3725, "1 h 02 min"), (-9.0, "0.0 s")],
)
def test_duration(seconds: float, shown: str) -> None:
    assert verdict.duration(seconds) == shown


# --- results.json --------------------------------------------------------------------------------


def document(run: Run, results: tuple[CaseResult, ...]) -> str:
    return resultsjson.document_text(
        run, results, [resultsjson.case_text(resultsjson.record(r)) for r in results]
    )


@pytest.mark.parametrize("results", [(), EVERY])
def test_results_json_follows_the_published_schema(results: tuple[CaseResult, ...]) -> None:
    published = stdjson.loads(
        Path(resultsjson.__file__).with_name("results.schema.json").read_text()
    )
    assert published == resultsjson.schema(), (
        "schema changed: write it anew, raise SCHEMA if it breaks"
    )
    checker = jsonschema.Draft202012Validator(published)
    checker.check_schema(published)
    made = stdjson.loads(document(a_run(len(results)), results))
    checker.validate(made)
    made["run"]["planned"] = "many"
    assert not checker.is_valid(made)


def test_results_json_loads_back() -> None:
    run, results = load_results(document(a_run(len(EVERY)), EVERY))
    assert run == a_run(len(EVERY))
    assert results == tuple(replace(r, console="", dmesg="") for r in EVERY)


@pytest.mark.parametrize(
    ("broken", "complaint"),
    [
        (lambda text: text[:-20], "is not JSON"),
        (lambda text: "[]", "has schema None, this klp-e2e reads 1 and 2 and 3"),
        (lambda text: text.replace('"schema": 3', '"schema": 4'), "has schema 4"),
        (
            lambda text: text.replace('"status":', '"state":', 1),
            r"malformed at cases\.0\.status",
        ),
        (
            lambda text: text.replace('"status":"PASS"', '"status":"MAYBE"', 1),
            r"cases\.0\.status: .*'PASS'",
        ),
        (lambda text: text.replace('"+klp_patch ', '"?klp_patch ', 1), "klp_patch"),
    ],
)
def test_malformed_results_are_refused_by_name(broken: object, complaint: str) -> None:
    assert callable(broken)
    with pytest.raises(UsageError, match=complaint) as told:
        load_results(broken(document(a_run(1), EVERY[:1])), "night/results.json")
    assert told.value.hint


def test_results_that_contradict_themselves_are_refused() -> None:
    """Whoever reads only the verdicts would believe a PASS that its own checks deny."""
    wrong = a_result(Status.FAIL)
    for status in (Status.PASS, Status.FIXED):
        text = document(a_run(1), (replace(wrong, status=status),))
        with pytest.raises(UsageError, match=f"s390x/basic/reload is {status}, yet 'klp_patch"):
            load_results(text)
    told = stdjson.loads(document(a_run(1), (a_result(Status.PASS),)))
    load_results(stdjson.dumps({**told, "counts": {"PASS": 1}}))  # one that knows fewer of them
    told["cases"][0]["status"] = "FAIL"
    with pytest.raises(UsageError, match="it counts 1 PASS, and has 0"):
        load_results(stdjson.dumps(told))


def test_states_of_relocations_by_the_names_of_schema_2() -> None:
    """`pristine`, `left`, `written`, as results of an older klp-e2e have them."""
    checks = tuple(a_reading(state=state) for state in RelocationState)
    result = replace(a_result(Status.FAIL), steps=(Step("+klp_patch", checks, 1.0, 0.1, 4),))
    text = document(a_run(1), (result,)).replace('"schema": 3', '"schema": 2')
    for now, before in (
        ("unrelocated", "pristine"),
        ("stale", "left"),
        ("indeterminate", "written"),
    ):
        assert f'"state":"{now}"' in text
        text = text.replace(f'"state":"{now}"', f'"state":"{before}"')
    (read,) = load_results(text)[1]
    assert [c.detail.state for c in read.steps[0].checks if isinstance(c.detail, Reading)] == [
        *RelocationState
    ]


# --- KTAP and JUnit ------------------------------------------------------------------------------


def test_ktap_is_well_formed_and_says_what_happened() -> None:
    found = parse_ktap(ktap(a_run(len(EVERY)), EVERY))
    assert {name: v for name, v in found.items() if name.startswith("0:")} == {
        "0:basic.case PASS": ("ok", None),
        "0:basic.case FAIL": ("not ok", None),
        "0:basic.case KNOWN": ("ok", "XFAIL"),
        "0:basic.case FLAKY": ("not ok", None),
        "0:basic.case FIXED": ("not ok", None),
        "0:basic.case ERROR": ("not ok", "ERROR"),
        "0:basic.case SKIP": ("ok", "SKIP"),
    }
    assert found["1:s390x"] == ("not ok", None)
    assert found["2:x86_64"] == ("not ok", None)
    assert f"  # seen: {BAD.seen}\n" in ktap(a_run(len(EVERY)), EVERY)


def test_a_probe_that_prints_for_ever_fills_no_terminal() -> None:
    """All of it is in results.json."""
    long = replace(BAD, seen="x" * 300_000)
    result = replace(a_result(Status.FAIL), steps=(Step("+klp_patch", (long,), 1.0, 0.1, 0),))
    run = a_run(1)
    shown = resultstext.plain(resultstext.results_report(run, (result,)))
    for text in (shown, ktap(run, (result,))):
        assert len(text) < 20_000 and "(300000 characters, the rest is in results.json)" in text
    assert long.seen in document(run, (result,))


def test_ktap_of_strict_empty_and_hostile_runs() -> None:
    known = (a_result(Status.KNOWN),)
    assert parse_ktap(ktap(a_run(1, strict=True), known))["1:s390x"] == ("not ok", None)
    assert parse_ktap(ktap(a_run(0), ())) == {}
    hostile = replace(a_result(Status.ERROR), reason="lost\nok 1 all good\x00", case=a_case("a#b"))
    assert parse_ktap(ktap(a_run(1), (hostile,)))["0:basic.a_b"] == ("not ok", "ERROR")


def test_junit_loads_and_counts() -> None:
    loaded = junitparser.JUnitXml.fromstring(junit(a_run(len(EVERY)), EVERY).encode())
    assert (loaded.tests, loaded.failures, loaded.errors, loaded.skipped) == (14, 6, 2, 4)
    suites = {suite.name: suite for suite in loaded}
    assert set(suites) == {"s390x", "x86_64"}
    failed = next(case for case in suites["s390x"] if case.name == "case FAIL")
    assert failed.classname == "s390x.basic"
    assert BAD.seen in failed.result[0].text
    assert "unable to handle page fault" in failed.system_err
    strict = junitparser.JUnitXml.fromstring(junit(a_run(14, strict=True), EVERY).encode())
    assert strict.failures == 8


# --- for people ----------------------------------------------------------------------------------


def test_junit_has_the_ends_of_a_long_console() -> None:
    long = replace(a_result(Status.FAIL), console="a" * (10 << 20) + "\nthe end\n")
    text_ = junit(a_run(1), [long])
    assert len(text_) < 600 << 10
    assert "the end" in text_ and "characters are left out" in text_


def test_the_report_names_order_event_expected_seen_and_reproducer() -> None:
    failed = replace(a_result(Status.FAIL), reproduce="klp-e2e run --arch s390x")
    shown = resultstext.plain(
        resultstext.results_report(a_run(2), (failed, a_result(Status.PASS, "x86_64")))
    )
    row = next(line for line in shown.splitlines() if line.lstrip().startswith("basic/reload"))
    assert RELOAD in row
    assert row.index("FAIL") < row.index("PASS"), "columns are sorted by architecture"
    for wanted in (
        "+klp_patch +klp_target -klp_target +filler >>+klp_target<<",
        "event 5 of 5",
        BAD.expected,
        BAD.seen,
        "BUG: unable to handle page fault",
        "klp-e2e run --arch s390x",
        "2 of 2 cases: 1 FAIL, 1 PASS, in 4 min 07 s",
    ):
        assert wanted in shown


def test_a_lost_guest_is_marked_at_the_event_it_did_not_answer() -> None:
    lost = replace(a_result(Status.ERROR), steps=(a_step("+klp_patch", GOOD),), reason="guest lost")
    assert ">>+klp_target<< -klp_target" in resultstext.marked_order(lost).plain
    assert ">>" not in resultstext.marked_order(a_result(Status.PASS)).plain


def test_a_case_that_one_architecture_lacks_is_a_dash() -> None:
    some = (a_result(Status.PASS), a_result(Status.SKIP, "x86_64", a_case("other")))
    rows = [
        line.split()
        for line in resultstext.plain(resultstext.results_report(a_run(3), some)).splitlines()
    ]
    assert [row[-4:] for row in rows if row[:1] == ["basic/other"]] == [["-", "SKIP", "1.2", "s"]]


def test_a_line_that_shows_a_known_issue_ends_with_1() -> None:
    """As its bundle, minimise and replay do: it is seen again."""
    for status, strict in ((Status.KNOWN, True), (Status.FAIL, False), (Status.ERROR, False)):
        assert ("--strict" in reproduce.words(a_run(1), a_result(status))) == strict


def test_reproduce_line_can_be_pasted() -> None:
    result = replace(a_result(Status.FAIL), cold=True)
    said = shlex.split(reproduce.line(a_run(1, series=(), strict=True), result))
    assert said == [
        *("klp-e2e", "run", "--arch", "s390x", "--kernel", "debian:6.1", "--series", "none"),
        *("--modules", "basic", "--order", RELOAD, "--cold", "--strict"),
    ]
    mine = a_run(1, arch_files={"s390x": "/my arches/s390x.toml"})
    assert shlex.split(reproduce.line(mine, result))[2:4] == [
        "--arch-file",
        "/my arches/s390x.toml",
    ]
    branch, commit = "git:/linux#main", "git:/linux#0123456789"
    for built, source in (
        ((), branch),
        ((replace(patched_kernel("s390x"), source=commit),), commit),
    ):
        told = shlex.split(reproduce.line(a_run(1, source=branch, kernels=built), result))
        assert told[4:6] == ["--kernel", source]
    under = a_run(1, options={"accel": "tcg"})
    assert shlex.split(reproduce.line(under, result))[8:10] == ["--accel", "tcg"]
    assert "--accel" not in reproduce.line(a_run(1, options={"accel": "auto"}), result)
    script = reproduce.script(a_run(1), replace(result, reason="two\nlines"))
    assert script.startswith("#!/bin/sh\n")
    assert "# two\n# lines\n" in script
    assert "'/opt/klp e2e/klp-e2e'" in script


@pytest.mark.parametrize(
    ("there", "given", "used"),
    [(True, "", "cache"), (True, "/mine", "/mine"), (False, "", "")],
)
def test_a_script_takes_the_kernel_from_where_it_was(
    there: bool, given: str, used: str, tmp_path: Path
) -> None:
    cache = tmp_path / "a cache"
    if there:
        cache.mkdir()
    kernels = (replace(patched_kernel("s390x"), directory=cache / "kernels" / "0123"),)
    script = tmp_path / "reproduce.sh"
    script.write_text(reproduce.script(a_run(1, kernels=kernels), a_result(Status.FAIL)))
    shows = tmp_path / "shows"
    shows.write_text('#!/bin/sh\nprintf %s "${KLP_E2E_CACHE:-}"\n')
    shows.chmod(0o755)
    env = {"KLP_E2E": str(shows)} | ({"KLP_E2E_CACHE": given} if given else {})
    done = subprocess.run(["sh", script], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == (str(cache) if used == "cache" else used)


# --- the directory -------------------------------------------------------------------------------


def test_the_directory_is_valid_after_every_case(tmp_path: Path) -> None:
    place = tmp_path / "new" / "results"
    writer = ResultsDirectory(place, a_run(3, finished=None)).__enter__()
    assert directory.read(place) == (a_run(3, finished=None), ())
    for number, status in enumerate((Status.FAIL, Status.FAIL, Status.PASS), 1):
        told = writer.add(a_result(status, case=a_case("reload / again")))
        assert told.reproduce.startswith("klp-e2e run --arch s390x")
        _, known = directory.read(place)
        assert len(known) == number
        parse_ktap((place / "results.ktap").read_text())
        junitparser.JUnitXml.fromfile(str(place / "junit.xml"))
    writer.update(a_run(3))
    assert directory.read(place / "results.json")[0].finished is not None
    first = place / "s390x" / "basic.reload_again"
    assert sorted(p.name for p in first.iterdir()) == [
        *("console.log", "dmesg", "qemu-command", "reproduce.sh", "result.json"),
    ]
    assert (place / "s390x" / "basic.reload_again-3").is_dir()
    assert os.access(first / "reproduce.sh", os.X_OK)
    assert "'console=ttysclp0 panic=-1'" in (first / "qemu-command").read_text()
    assert stdjson.loads((first / "result.json").read_text())["status"] == "FAIL"


def test_what_a_kill_left_is_gone_on_with(tmp_path: Path) -> None:
    """Every case that has its result stays as it is; of the one under way nothing does."""
    place, run = tmp_path / "r", a_run(3, finished=None)
    killed = ResultsDirectory(place, run).__enter__()
    first = killed.add(a_result(Status.FAIL))
    killed.add(a_result(Status.PASS))
    killed._claim.close()  # as the kernel does for whoever is killed
    half = place / "x86_64" / "basic.reload"
    half.mkdir(parents=True)
    (half / ".dmesg.partial").touch()
    before = (place / "s390x" / "basic.reload" / "result.json").read_text()
    with ResultsDirectory(place, replace(run, started=2e9), resume=True) as writer:
        assert writer.done == {("s390x", "basic/reload", RELOAD)}
        console = first.console.replace("\ud800", r"\ud800")  # as it was written
        assert writer.results[0] == replace(first, console=console)
        writer.add(a_result(Status.PASS, arch="x86_64"))
    assert not (half / ".dmesg.partial").exists()
    told, results = directory.read(place)
    assert len(results) == 3 and told.started == run.started and told.finished is not None
    assert (place / "s390x" / "basic.reload" / "result.json").read_text() == before
    with pytest.raises(UsageError, match=r"begun with --kernel debian:6\.1,"):
        ResultsDirectory(place, replace(run, source="debian:6.12"), resume=True)
    again = ResultsDirectory(place, run, resume=True)
    other = tuple(replace(kernel, key="other") for kernel in run.kernels)
    with pytest.raises(UsageError, match="another kernel"):
        again.update(replace(run, kernels=other))


def test_killed_before_there_was_anything(tmp_path: Path) -> None:
    store.prepare(tmp_path)
    for resume in (True, False):
        (tmp_path / ".results.json.a_b1cd2e.partial").touch()
        writer = ResultsDirectory(tmp_path, a_run(1), resume=resume)
        assert writer.done == frozenset() and not list(tmp_path.glob("*.partial"))
        writer._claim.close()
    (tmp_path / ".results.json.mine").touch()
    with pytest.raises(UsageError, match="not empty"):
        ResultsDirectory(tmp_path, a_run(1), resume=True)


def test_interrupted_while_the_first_documents_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first of them may be there already, for everybody to see."""

    def interrupted(*_: object) -> NoReturn:
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(directory, "junit", interrupted)
    with pytest.raises(KeyboardInterrupt), ResultsDirectory(tmp_path, a_run(3, finished=None)):
        pytest.fail("it has not begun")
    assert directory.read(tmp_path)[0].trouble == "interrupted"


def test_a_directory_in_use_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UsageError, match="not empty"):
        ResultsDirectory(tmp_path, a_run(1))
    with pytest.raises(UsageError, match="cannot write results"):
        ResultsDirectory(tmp_path / "thesis.tex", a_run(1))
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(UsageError, match="cannot write results"):
        ResultsDirectory(tmp_path / "circle" / "r", a_run(1))
    with pytest.raises(UsageError, match="cannot read"):
        directory.read(tmp_path)


def test_a_full_disk_leaves_the_last_valid_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = ResultsDirectory(tmp_path / "r", a_run(1)).__enter__()
    before = (tmp_path / "r" / "results.json").read_text()

    def full(*_: object, **__: object) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", full)
        with pytest.raises(HarnessError, match="No space left") as told:
            writer.update(a_run(2))
    assert "disk is full" in told.value.hint
    assert (tmp_path / "r" / "results.json").read_text() == before
    assert not list((tmp_path / "r").glob("*.partial"))


@pytest.mark.parametrize(
    ("module_set", "kind"),
    [
        ("basic", CaseKind.ORDER),
        ("malformed/symbol-missing", CaseKind.MALFORMED),
        ("kselftest", CaseKind.SELFTEST),
    ],
)
def test_what_a_case_is_was_not_always_written_down(module_set: str, kind: CaseKind) -> None:
    case = replace(a_result(Status.PASS).case, module_set=module_set, kind=kind)
    result = replace(a_result(Status.PASS), case=case)
    record = resultsjson.record(result)
    assert record.kind is kind
    assert resultsjson.as_result(replace(record, kind=None)).case == case


def test_a_set_of_ones_own_is_shown_by_its_directorys_name(tmp_path: Path) -> None:
    case = replace(a_case(), module_set="/home/me/mine")
    result = a_result(Status.FAIL, case=case)
    run = a_run(1)
    shown = resultstext.plain(resultstext.results_report(run, (result,)))
    assert "FAIL s390x mine/reload: " in shown and " mine/reload " in shown
    assert 'classname="s390x.mine"' in junit(run, (result,))
    assert " mine.reload" in ktap(run, (result,)) and "/home" not in ktap(run, (result,)).replace(
        result.reproduce, ""
    )
    with ResultsDirectory(tmp_path / "r", replace(run, finished=None)) as writer:
        writer.add(result)
    assert (tmp_path / "r" / "s390x" / "mine.reload" / "result.json").is_file()
    assert (case.title, case.label) == ("mine/reload", "/home/me/mine/reload")


def test_results_say_which_klp_e2e_wrote_them_and_what_was_asked() -> None:
    run = a_run(1, tool="0.1.0 (abc)", options={"cold": False, "jobs": 2, "accel": "tcg"})
    read = resultsjson.read_document(document(run, EVERY[:1]))
    assert (read.run.tool, dict(read.run.options)) == (run.tool, dict(run.options))
    assert set(read.counts) == {*Status} and 0 in read.counts.values()
