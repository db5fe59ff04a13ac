# SPDX-License-Identifier: GPL-2.0-only
"""A night's files, and every command's results directory as rows."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from history_samples import (
    JOB,
    a_job,
    a_kernel_input,
    a_night,
    a_result,
    a_row,
    a_run,
    a_suite,
    an_ablation,
    an_exploration,
)
from samples import read_changes

from orchestrator.cli import session
from orchestrator.errors import HarnessError, UsageError
from orchestrator.history import files
from orchestrator.history.changes import changes
from orchestrator.history.nights import Blame, Change, JobKind, Night, Row, Skip, State
from orchestrator.report import trialsjson
from orchestrator.report.directory import ResultsDirectory
from orchestrator.trials import CONTROL, DOCUMENT, Trial, TrialOutcome, contradiction
from orchestrator.verdicts import GuestRecord, Status

NIGHT = replace(
    a_night(
        "2026-01-31-020000", a_row("."), replace(a_row("F", "basic/x"), reason="<b>\u2028\x00 & ü")
    ),
    blames=(Blame(JOB, "case", "3.patch", "it is 3.patch", "bisect/1"),),
    kernels=(replace(a_kernel_input(), patches={"2.patch": "bb", "1.patch": "aa"}),),
    budget=3600.0,
)


def rows(place: Path) -> list[Row]:
    return list(files.rows(place, "job", "jobs/job"))


# --- night.json, changes.json --------------------------------------------------------------------


def test_a_night_is_read_as_it_was_written(tmp_path: Path) -> None:
    place = tmp_path / NIGHT.name
    place.mkdir()
    files.write(place, NIGHT)
    assert files.read(place) == NIGHT
    assert list(files.read(place).kernels[0].patches) == ["2.patch", "1.patch"]
    assert [path.name for path in place.iterdir()] == [files.NIGHT]


def test_a_night_goes_by_the_name_of_its_directory(tmp_path: Path) -> None:
    (tmp_path / "put-aside").mkdir()
    files.write(tmp_path / "put-aside", NIGHT)
    assert files.read(tmp_path / "put-aside") == replace(NIGHT, name="put-aside")
    assert files.document(tmp_path / "put-aside") == NIGHT


JOB_RECORD = NIGHT.jobs[0]


def with_first(**changed: Any) -> Night:
    """The night with its first row so."""
    return replace(NIGHT, rows=(replace(NIGHT.rows[0], **changed), *NIGHT.rows[1:]))


@pytest.mark.parametrize(
    ("night", "message"),
    [
        (replace(NIGHT, name="../victim"), "'../victim' is no name of a night"),
        (replace(NIGHT, name=".."), "'..' is no name of a night"),
        (replace(NIGHT, name="/etc"), "is no name of a night"),
        (replace(NIGHT, name=""), "'' is no name of a night"),
        (replace(NIGHT, name="a\x1b[2J"), r"'a\\x1b\[2J' is no name of a night"),
        (replace(NIGHT, jobs=(a_job("../../victim"),)), "is no name of a job"),
        (replace(NIGHT, jobs=(a_job("/victim"),)), "is no name of a job"),
        (replace(NIGHT, jobs=(a_job("a//b"),)), "is no name of a job"),
        (replace(NIGHT, jobs=(a_job("a\nb"),)), "is no name of a job"),
        (replace(NIGHT, jobs=(JOB_RECORD, JOB_RECORD)), "two of its jobs have one name"),
        (replace(NIGHT, jobs=()), "belongs to a job that it does not have"),
        (replace(NIGHT, rows=(replace(NIGHT.rows[0], directory="../x"),)), "is no directory"),
        (replace(NIGHT, blames=(Blame("job", "case", "", "", ""),)), "does not have, 'job'"),
        (replace(NIGHT, blames=(Blame(JOB, "case", "", "", "/x"),)), "is no directory"),
        (replace(NIGHT, kernels=(replace(a_kernel_input(), config="../../c"),)), "is no file in a"),
        (with_first(failed=1), "is PASS, and failed 1 of 1 times"),
        (with_first(status=Status.SKIP, failed=1), "is SKIP, and failed 1 of 1 times"),
        (with_first(status=Status.FAIL, failed=2), "is FAIL, and failed 2 of 1 times"),
        (with_first(status=Status.FLAKY, failed=1), "is FLAKY, and failed 1 of 1 times"),
        (with_first(status=Status.FLAKY, runs=2), "is FLAKY, and failed 0 of 2 times"),
        (with_first(runs=0, failed=-1), "failed -1 of 0 times"),
        (with_first(case="basic/x"), "it has 'basic/x' of .* twice"),
        (replace(NIGHT, jobs=(a_job(state=State.WAITING),)), "is PASS, and .* was not begun"),
        (replace(NIGHT, jobs=(a_job(state=State.SKIPPED),)), "is PASS, and .* was not begun"),
        (replace(NIGHT, started=1e300), "1e.300 is no number"),
        (replace(NIGHT, rows=(replace(NIGHT.rows[0], relocations=10**30),)), "is no number"),
    ],
)
def test_what_klp_e2e_never_writes_is_refused(night: Night, message: str, tmp_path: Path) -> None:
    files.write(tmp_path, night)
    for read in (files.read, files.document):
        with pytest.raises(UsageError, match=message):
            read(tmp_path)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_are_none(number: str, tmp_path: Path) -> None:
    files.write(tmp_path, NIGHT)
    file = tmp_path / files.NIGHT
    file.write_text(file.read_text().replace('"started": 1000.0', f'"started": {number}'))
    with pytest.raises(UsageError, match="is no number"):
        files.read(tmp_path)


def test_a_night_that_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / NIGHT.name).mkdir()
    os.mkfifo(tmp_path / NIGHT.name / files.NIGHT)
    assert not [*files.nights(tmp_path)]
    with pytest.raises(UsageError, match="is no file"):
        files.read(tmp_path / NIGHT.name)


def test_links_and_strangers_are_no_nights(tmp_path: Path) -> None:
    nights = tmp_path / "nights"
    for name in ("2026-01-30-020000", "2026-01-30-020000.1", "a-x", "2026-01-30-0200000", "mine"):
        (nights / name).mkdir(parents=True)
        files.write(nights / name, NIGHT)
    (nights / "2026-01-29-020000").symlink_to(nights / "2026-01-30-020000")
    (nights / "2026-01-28-020000").mkdir()
    names = [path.name for path in files.nights(nights)]
    assert names == ["2026-01-30-020000", "2026-01-30-020000.1"]


def test_changes_are_read_as_they_were_written(tmp_path: Path) -> None:
    found = changes(NIGHT, replace(a_night("a"), host="another", rows=()), {})
    assert found.changed and found.inputs
    files.write_changes(tmp_path, found)
    assert read_changes(tmp_path) == found


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"schema": 1', '"schema": 2', "malformed at schema: Input should be 1"),
        ('"status": "FAIL"', '"status": "SPLENDID"', "malformed at night.rows.1.status"),
        ('"name": "2026', '"nome": "2026', "malformed at night.name"),
        ('"budget": 3600.0', '"budget": 36', ""),
        ("{", "", "malformed at its top"),
        ("2.patch", "\udcff.patch", "malformed at its top"),
    ],
)
def test_a_malformed_night_is_told(old: str, new: str, message: str, tmp_path: Path) -> None:
    files.write(tmp_path, NIGHT)
    file = tmp_path / files.NIGHT
    file.write_text(file.read_text().replace(old, new, 1), errors="surrogateescape")
    if not message:
        assert files.read(tmp_path).budget == 36
        return
    with pytest.raises(UsageError, match=f"night.json is {message}"):
        files.read(tmp_path)


def test_nights_lie_side_by_side(tmp_path: Path) -> None:
    two = ["2026-01-30-020000", "2026-01-31-020000"]
    for name in (*reversed(two), "no-night"):
        (tmp_path / name).mkdir()
    for name in two:
        files.write(tmp_path / name, NIGHT)
    assert [path.name for path in files.nights(tmp_path)] == two
    assert not [*files.nights(tmp_path / "nowhere")]


# --- results directories -------------------------------------------------------------------------


def test_a_suite_s_rows(tmp_path: Path) -> None:
    results = [a_result("one", name="first"), a_result("one", Status.FAIL), a_result("one")]
    first, failed, again = rows(a_suite(tmp_path / "r", a_run("one", planned=3), *results))
    assert (first.case, first.status, first.timed) == ("basic/first", Status.PASS, False)
    assert (first.symptom, first.seconds, first.relocations) == ("", 1.5, 7)
    assert (failed.status, failed.timed, failed.failed) == (Status.FAIL, True, 1)
    assert failed.reason == "+klp_target: bytes ff 9a resolve to 0x3ff7ff0e010"
    assert failed.symptom == "+klp_target: bytes N resolve to N"
    assert failed.directory == "jobs/job/one/basic.reload"
    assert (tmp_path / "r/one/basic.reload/console.log").exists()
    assert failed.order.startswith("+klp_patch ") and "--order" in failed.reproduce
    assert failed.why == "the slot must be filled again"
    assert (again.case, again.directory) == ("basic/reload (2)", "jobs/job/one/basic.reload-2")


ORDER = "+klp_patch +klp_target -klp_target +klp_target"


@pytest.mark.parametrize(
    ("place", "called"),
    [
        ("/home/me/mine", "mine"),
        ("/builds/42/mine", "mine"),
        ("/home/me/basic", "./basic"),  # not ours, though it has the name of one of ours
    ],
)
def test_a_set_of_ones_own_goes_by_its_name_wherever_it_lies(
    place: str, called: str, tmp_path: Path
) -> None:
    """And its orders, which have only numbers, by what they are."""
    run = replace(a_run("one"), own_sets={"one": {place: "c0"}})
    results = (
        a_result("one", name="named", module_set=place),
        a_result("one", name="order-7", module_set=place),
        a_result("one"),
    )
    a_suite(tmp_path / "r", run, *results)
    assert [(row.case, row.module_set, row.content) for row in rows(tmp_path / "r")] == [
        (f"{called}/named", place, "c0"),
        (f"{called}/{ORDER}", place, "c0"),
        ("basic/reload", "basic", ""),
    ]


def test_so_does_what_an_exploration_found_in_it(tmp_path: Path) -> None:
    made = an_exploration(tmp_path / "r", found=Status.FAIL, verified=14)
    file = made / "explore.json"
    told = json.loads(file.read_text())
    told["campaigns"][0]["module_set"] = "/builds/42/mine"
    told["run"]["own_sets"] = {"one": {"/builds/42/mine": "c0"}}
    file.write_text(json.dumps(told))
    assert [(row.case, row.within, row.content) for row in rows(made)] == [
        ("mine/walk", "", "c0"),
        ("mine/+klp_target: answer: ENOEXEC (8)", "mine/walk", "c0"),
    ]


def test_several_architectures_are_told_apart(tmp_path: Path) -> None:
    place = a_suite(tmp_path / "r", a_run("one", "two"), a_result("one"), a_result("two"))
    assert [row.case for row in rows(place)] == ["one basic/reload", "two basic/reload"]


def test_what_did_not_run_is_trouble(tmp_path: Path) -> None:
    unbuilt = replace(a_run("one"), unbuilt={"one": "no compiler"})
    [row] = rows(a_suite(tmp_path / "unbuilt", unbuilt))
    assert (row.case, row.status) == ("kernel", Status.ERROR)
    assert row.reason == "no kernel: no compiler"
    [row] = rows(a_suite(tmp_path / "empty", a_run("one")))
    assert (row.case, row.status, row.reason) == ("results", Status.ERROR, "nothing ran")


@pytest.mark.parametrize("ran", [True, False])
def test_what_ended_a_run_early_is_its_trouble(ran: bool, tmp_path: Path) -> None:
    place = tmp_path / "r"
    with pytest.raises(HarnessError), ResultsDirectory(place, a_run("one", planned=9)) as writer:
        if ran:
            writer.add(a_result("one"))
        raise HarnessError("no space left")
    [row] = rows(place)
    assert row.status is (Status.PASS if ran else Status.ERROR)
    night = files.read(place)
    assert night.trouble == "no space left"
    assert [record.reason for record in night.jobs] == ["no space left"]


@pytest.mark.parametrize(
    ("found", "verified", "not_run", "statuses"),
    [
        (None, 40, 0, [Status.PASS]),
        (None, 40, 3, [Status.ERROR]),
        (None, 0, 0, [Status.ERROR]),
        (None, 12, 0, [Status.PASS]),
        (Status.KNOWN, 14, 0, [Status.KNOWN, Status.KNOWN]),
        (Status.KNOWN, 14, 3, [Status.ERROR, Status.KNOWN]),
        (Status.FAIL, 14, 3, [Status.FAIL, Status.FAIL]),
        (Status.ERROR, 14, 0, [Status.ERROR, Status.ERROR]),  # the set itself is to blame
    ],
)
def test_an_exploration_s_rows(
    found: Status | None, verified: int, not_run: int, statuses: list[Status], tmp_path: Path
) -> None:
    place = an_exploration(tmp_path / "r", found=found, verified=verified, not_run=not_run)
    walk, *others = rows(place)
    assert [walk.status, *(row.status for row in others)] == statuses
    assert walk.case == "basic/walk" and walk.relocations == 900 and not walk.timed
    assert f"{verified} of {40 + not_run} orders verified" in walk.reason
    assert ("3 not walked: the guest is lost" in walk.reason) is bool(not_run)
    for row in others:
        assert row.case == "basic/+klp_target: answer: ENOEXEC (8)"
        assert (row.within, row.runs, row.failed) == ("basic/walk", 10, 9)
        assert row.directory == "jobs/job/findings/one-basic"
        assert row.reproduce.startswith("klp-e2e run --arch one")
        assert row.order and row.reason


def test_an_exploration_that_is_not_done_has_earned_nothing(tmp_path: Path) -> None:
    place = an_exploration(tmp_path / "r")
    file = place / "explore.json"
    told = json.loads(file.read_text())
    told["campaigns"][0]["stats"]["planned"] = 50
    file.write_text(json.dumps(told))
    assert [row.status for row in rows(place)] == [Status.ERROR]
    told["options"]["budget"] = 60.0
    file.write_text(json.dumps(told))
    assert [row.status for row in rows(place)] == [Status.PASS]


@pytest.mark.parametrize(
    ("name", "outcome", "unseen", "status", "reason"),
    [
        (
            "1-x",
            TrialOutcome.CAUGHT,
            "",
            Status.PASS,
            "1 of 89 orders fail, first basic/reload: an oops",
        ),
        ("1-x", TrialOutcome.CAUGHT, "why", Status.FAIL, "an oops, though declared: why"),
        ("1-x", TrialOutcome.SURVIVED, "", Status.FAIL, "no order of 89 fails"),
        ("1-x", TrialOutcome.SURVIVED, "why", Status.PASS, "cannot be seen: why"),
        ("1-x", TrialOutcome.SAME, "", Status.PASS, "byte for byte"),
        ("1-x", TrialOutcome.UNBUILT, "", Status.ERROR, "not built: no compiler"),
        ("1-x", TrialOutcome.ERROR, "", Status.ERROR, "no compiler"),
        (CONTROL, TrialOutcome.SURVIVED, "", Status.PASS, "no order of 89 fails"),
        (CONTROL, TrialOutcome.CAUGHT, "", Status.FAIL, "1 of 89 orders fail"),
    ],
)
def test_an_ablation_s_rows(
    name: str, outcome: TrialOutcome, unseen: str, status: Status, reason: str, tmp_path: Path
) -> None:
    [row] = rows(an_ablation(tmp_path / "r", (name, outcome, unseen)))
    assert (row.case, row.status) == (name, status)
    assert reason in row.reason
    assert (row.directory, bool(row.symptom)) == ("", status is not Status.PASS)


@pytest.mark.parametrize("name", ["results.json", "explore.json", "trials.json"])
@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe\x00", b"[]", b'{"schema": 9}', b"[" * 100_000]
)
def test_malformed_results_are_one_row(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    [row] = rows(tmp_path)
    assert (row.job, row.case, row.status) == ("job", "results", Status.ERROR)
    assert name in row.reason
    with pytest.raises(UsageError):
        files.read(tmp_path)


def test_a_directory_without_results_is_one_row(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "nowhere"):
        [row] = rows(place)
        assert row.status is Status.ERROR and "holds no results" in row.reason


# --- other directories as nights -----------------------------------------------------------------


@pytest.mark.parametrize("command", ["run", "kselftest", "malformed"])
def test_a_run_as_a_night(command: str, tmp_path: Path) -> None:
    run = a_run("one", "two", command=command)
    night = files.read(a_suite(tmp_path / "r", run, a_result("two"), a_result("one")))
    assert [(each.job.name, each.state) for each in night.jobs] == [
        ("one", State.ENDED),
        ("two", State.ENDED),
    ]
    assert {each.job.kind for each in night.jobs} == {JobKind(command)}
    assert [(row.job, row.case) for row in night.rows] == [
        ("two", "basic/reload"),
        ("one", "basic/reload"),
    ]
    assert night.rows[0].directory == "two/basic.reload"
    assert [kernel.source_version for kernel in night.kernels] == ["6.1.190-1"] * 2


def test_any_two_runs_compare(tmp_path: Path) -> None:
    old = files.read(a_suite(tmp_path / "a", a_run("one"), a_result("one")))
    bare = replace(a_run("one"), series=(), source="debian:6.12")
    bare = replace(bare, kernels=(replace(bare.kernels[0], series=(), source_version="6.12"),))
    new = files.read(a_suite(tmp_path / "b", bare, a_result("one", Status.FAIL)))
    found = changes(new, old, {})
    assert [each.change for each in found.changed] == [Change.NEW_FAILURE]
    assert [(each.what, each.before, each.after) for each in found.inputs] == [
        ("source version", "6.1.190-1", "6.12"),
        ("patch livepatch-reload", "applied", ""),
    ]


def test_explorations_and_ablations_as_nights(tmp_path: Path) -> None:
    walked = files.read(an_exploration(tmp_path / "e"))
    tried = files.read(an_ablation(tmp_path / "a", ("1-x", TrialOutcome.CAUGHT, "")))
    assert [each.job.kind for each in (*walked.jobs, *tried.jobs)] == [
        JobKind.EXPLORE,
        JobKind.ABLATE,
    ]


def test_options_are_compared_where_both_are_kept(tmp_path: Path) -> None:
    night = replace(a_night("a"), kernels=tuple(
        replace(a_kernel_input(kernel=name), config=f"inputs/{name}.config")
        for name in ("both", "one", "torn", "none")
    ))  # fmt: skip
    for place, value in (("old", "100"), ("new", "250")):
        kept = tmp_path / place / "inputs"
        kept.mkdir(parents=True)
        (kept / "both.config").write_text(f"CONFIG_HZ={value}\n# CONFIG_X is not set\n")
        (kept / "torn.config").write_text("CONFIG_HZ=1" if place == "old" else "no config\n")
    (tmp_path / "old/inputs/one.config").write_text("CONFIG_HZ=1\n")
    assert files.configs(tmp_path / "new", night, tmp_path / "old", night) == {
        ("both", "one"): ({"HZ": "100", "X": "n"}, {"HZ": "250", "X": "n"})
    }


def test_options_that_nobody_may_read_are_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The .config of a run that another user did lies in his cache: `compare` of two such runs was
    a mistake of klp-e2e itself."""

    def forbidden(path: Path, *_: object, **_follow: object) -> object:
        raise PermissionError(13, "Permission denied", str(path))

    night = replace(NIGHT, kernels=(replace(a_kernel_input(), config=str(tmp_path / "config")),))
    monkeypatch.setattr(Path, "stat", forbidden)
    monkeypatch.setattr(os, "open", forbidden)
    assert files.configs(tmp_path, night, tmp_path, night) == {}


def test_what_an_older_night_says_in_words_only_is_read(tmp_path: Path) -> None:
    words = {"the night's time is up: 3 s are left": Skip.TIME, "no such branch": Skip.SOURCE}
    (first, *_) = NIGHT.jobs
    records = tuple(
        replace(
            first,
            job=replace(first.job, name=f"k/x/{number}"),
            state=State.SKIPPED,
            reason=reason,
        )
        for number, reason in enumerate(words)
    )
    kernel = a_kernel_input("6.1.0 (0123456789ab)")
    night = replace(NIGHT, jobs=records, rows=(), blames=(), kernels=(kernel,))
    files.write(tmp_path, night)
    read = files.document(tmp_path)
    assert [record.skip for record in read.jobs] == [*words.values()]
    assert [kernel.commit for kernel in read.kernels] == ["0123456789ab"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"orders": 89', '"orders": 0', "a on one is 1 orders caught it, and 0 ran"),
        (
            '"caught_by": [\n          "basic/reload"\n        ]',
            '"caught_by": []',
            "CAUGHT, and no o",
        ),
        ('"outcome": "CAUGHT"', '"outcome": "SURVIVED"', "a on one is SURVIVED, and basic/reload"),
        (
            '"outcome": "CAUGHT"',
            '"outcome": "UNBUILT"',
            "a on one is UNBUILT, and basic/reload cau",
        ),
        ('"outcome": "SURVIVED"', '"outcome": "SAME"', "b on one is SAME, and 89 orders ran"),
        ('"orders": 89,\n        "caught_by": []', '"orders": 0, "caught_by": []', "no order ran"),
        ('"name": "a"', '"name": "b"', "b on one is a trial of a"),
        ('"name": "a"', '"name": "c"', "c on one was not asked for"),
        ('"orders": 89', '"orders": 90', "a on one ran 90 orders, and the unaltered kernel fewer"),
        ('"alterations"', '"altered"', "malformed at "),
        ('"controls": 1', '"controls": 2', "unaltered on one was not asked for"),
    ],
)
def test_trials_that_contradict_themselves_are_refused(
    old: str, new: str, message: str, tmp_path: Path
) -> None:
    """A score is counted from them, and so is an exit code."""
    place = an_ablation(
        tmp_path / "t",
        ("a", TrialOutcome.CAUGHT, ""),
        ("b", TrialOutcome.SURVIVED, ""),
        (CONTROL, TrialOutcome.SURVIVED, ""),
    )
    file = place / trialsjson.DOCUMENT
    text = file.read_text()
    head = trialsjson.load_trials(place)
    assert old in text
    file.write_text(text.replace(old, new, 1))
    with pytest.raises(UsageError, match=message):
        trialsjson.load_trials(place)
    file.write_text(text)
    twice = [each for each in json.loads(text)["trials"] for _ in range(2)]
    file.write_text(json.dumps({**json.loads(text), "trials": twice}))
    with pytest.raises(UsageError, match="it has a on one twice"):
        trialsjson.load_trials(place)
    options = {"options": {"arches": "another"}}
    run = {**json.loads(text)["run"], **options}
    file.write_text(json.dumps({**json.loads(text), "run": run}))
    with pytest.raises(UsageError, match="a on one was not asked for"):
        trialsjson.load_trials(place)
    assert head.planned == 4  # with the documentation


@pytest.mark.parametrize(
    ("trial", "right"),
    [
        (Trial(DOCUMENT, "one", TrialOutcome.CAUGHT, orders=2, caught_by=("i/a", "i/b")), True),
        (Trial(DOCUMENT, "one", TrialOutcome.SURVIVED, orders=2, caught_by=("i/a",)), True),
        (Trial(DOCUMENT, "one", TrialOutcome.CAUGHT, orders=2, caught_by=("i/a",)), False),
        (Trial("a", "one", TrialOutcome.ERROR, orders=2, reason="lost"), True),
    ],
)
def test_what_is_right_of_a_trial(trial: Trial, right: bool) -> None:
    """The documentation is caught only by every rule."""
    assert (not contradiction(trial)) is right


def test_a_run_says_on_which_kind_of_machine_it_ran(tmp_path: Path) -> None:
    """Of each architecture, for its guests may have another accelerator."""
    guests = [
        GuestRecord(*pair, 1.0, 2.0, "poweroff", 3.0) for pair in (("a", "tcg"), ("b", "kvm"))
    ]
    run = replace(a_run("a", "b"), guests=tuple(guests), host_name="me", host_kind="CPU, 2 cores")
    a_suite(tmp_path / "run", run, a_result("a"), a_result("b"))
    found = files.read(tmp_path / "run").jobs
    assert [(job.host, job.machine) for job in found] == [
        *(("me", "CPU, 2 cores, tcg"), ("me", "CPU, 2 cores, kvm")),
    ]
    a_suite(tmp_path / "older", replace(run, host_kind="", host_name=""), a_result("a"))
    assert {(job.host, job.machine) for job in files.read(tmp_path / "older").jobs} == {("", "")}


@pytest.mark.parametrize(
    ("cpuinfo", "model"),
    [
        (
            "processor\t: 0\nmodel name\t: A CPU @ 2.00GHz\n\nmodel name\t: another",
            "A CPU @ 2.00GHz",
        ),
        ("processor\t: 0\ncpu\t\t: POWER9, altivec supported\n", "POWER9, altivec supported"),
        ("processor 0: version = FF,  identification = 1,  machine = 3906\n", "3906"),
        ("processor\t: 0\nBogoMIPS\t: 50.00\nCPU part\t: 0xd0c\n", "0xd0c"),
        ("", ""),
    ],
)
def test_a_cpu_s_model_is_found_whatever_it_is_called(cpuinfo: str, model: str) -> None:
    assert session.cpu_model(cpuinfo) == model
