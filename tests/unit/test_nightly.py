# SPDX-License-Identifier: GPL-2.0-only
"""A night without guests: its plan, its lanes, what is tried again, what is blamed."""

from __future__ import annotations

import re
import shutil
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from history_samples import a_run
from samples import klp

from orchestrator import catalog
from orchestrator.build import kernel
from orchestrator.cli import options
from orchestrator.commands.bisect.halving import Seen
from orchestrator.commands.bisect.work import Found
from orchestrator.commands.nightly import bisects, inputs, jobs, nightrun, plan, retry, work
from orchestrator.commands.nightly.bisects import BisectKind
from orchestrator.commands.nightly.config import Config, Exploring, Matrix
from orchestrator.commands.nightly.jobs import JobEnd
from orchestrator.commands.nightly.plan import Reader, Target
from orchestrator.commands.nightly.scheduler import Pool, Scheduler, Task
from orchestrator.errors import Exit, HarnessError, UsageError
from orchestrator.history import files
from orchestrator.history.digest import digest
from orchestrator.history.nights import (
    Blame,
    Changes,
    Job,
    JobKind,
    JobRecord,
    KernelInput,
    Night,
    PastResult,
    Row,
    Skip,
    State,
)
from orchestrator.host import ours
from orchestrator.nouns import Arch, CaseKind
from orchestrator.report import directory
from orchestrator.report.progress import Reporter
from orchestrator.report.terminal import Terminal
from orchestrator.source import sources
from orchestrator.source.sources import SourceTree
from orchestrator.verdicts import Status

READ = Reader(
    lambda specs: [Target(name, name) for name in specs],
    lambda source: source,
    lambda series: () if series == ("none",) else tuple(series),
    lambda files: tuple(f"/night/{file}" for file in files),
    options.seconds,
)
MATRIX = Matrix(
    kernels=("debian:6.1",),
    series=("fix", "none", ("base", "fix")),
    arches=("one", "two"),
    explore=Exploring(budget="10m"),
)


def names(found: Sequence[Job]) -> list[str]:
    return [job.name for job in found]


# --- the plan ------------------------------------------------------------------------------------


def test_every_job_of_the_matrix_once() -> None:
    found = plan.expand(Config((MATRIX, replace(MATRIX, kselftest=True))), READ)
    assert len(set(names(found))) == len(found) == 3 * 2 * 4
    assert names(found)[:3] == [
        *("debian-6.1+fix/one/build", "debian-6.1+fix/one/core", "debian-6.1+fix/one/explore-all")
    ]
    by_name = {job.name: job for job in found}
    assert by_name["debian-6.1/two/core"].command == (
        *("run", "--arch", "two", "--kernel", "debian:6.1", "--series", "none", "--suite", "core"),
    )
    stacked = by_name["debian-6.1+base+fix/one/build"]
    assert stacked.command[-4:] == ("--series", "base", "--series", "fix")
    assert (stacked.kernel, stacked.series) == ("debian:6.1 + base + fix", ("base", "fix"))
    assert by_name["debian-6.1/one/explore-all"].estimate == 600


def test_names_that_would_be_one_are_told_apart() -> None:
    twice = replace(MATRIX, kernels=("dir:a/b", "dir:a-b"), series=("none",), arches=("../x",))
    found = names(plan.expand(Config((twice,)), READ))
    assert found[0] == "dir-a-b/x/build" and re.fullmatch(r"dir-a-b/x/build-[0-9a-f]{6}", found[3])


def a_nights_file(place: Path, **sets: str) -> Path:
    """With these keys of a matrix, in a directory with two sets called mine, and one like ours."""
    for name in ("mine", "other/mine", "basic"):
        shutil.copytree(Path(__file__).parents[1] / "vm" / "mine", place / name)
    keys = "".join(f"{key} = {value}\n" for key, value in sets.items())
    file = place / "night.toml"
    file.write_text(f'[[matrix]]\nkernels = ["debian:6.1"]\nseries = ["none"]\n{keys}')
    return file


def test_a_set_of_ones_own_is_found_from_anywhere_and_called_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job is a process that begins where the night was begun, not where its file lies."""
    own = '["./mine", "basic", "./basic"]'
    file = a_nights_file(
        tmp_path, arches='["x86_64"]', modules=own, explore="{ modules = ['./mine'] }"
    )
    monkeypatch.chdir("/")
    wanted = work.night_options(file, tmp_path / "nights", None, False, None)
    found = {job.name.rpartition("/")[2]: job for job in work.jobs(wanted)}
    assert [*found] == [*("build", "orders-mine", "core-basic", "orders-.-basic", "explore-mine")]
    for name in ("orders-mine", "explore-mine"):
        assert found[name].module_sets == (f"{tmp_path}/mine",)
        words = found[name].command
        assert words[words.index("--modules") + 1] == f"{tmp_path}/mine"
    assert "--suite" not in found["orders-mine"].command  # core has none of it: its usual ones
    assert found["core-basic"].command[-4:] == ("--suite", "core", "--modules", "basic")


@pytest.mark.parametrize(
    ("sets", "told"),
    [
        (
            {"modules": '["./mine"]', "explore": "{ modules = ['./other/mine'] }"},
            "both module sets are named 'mine'",
        ),
        ({"modules": '["./mine"]', "suites": '["smoke"]'}, "suite smoke has no order of"),
        ({"modules": '["./mien"]'}, "/mien is not a module set"),
    ],
)
def test_a_night_that_cannot_be_is_refused_before_it_begins(
    sets: Mapping[str, str], told: str, tmp_path: Path
) -> None:
    file = a_nights_file(tmp_path, **sets)
    said = klp("nightly", file, "--dry-run", "-o", tmp_path / "nights")
    assert said.code == Exit.USAGE and told in said.err
    assert not (tmp_path / "nights").exists()


def a_night(rows: Sequence[Row] = (), ended: Sequence[Job] = (), **more: object) -> Night:
    records = tuple(JobRecord(job, State.ENDED, exit_code=0) for job in ended)
    made = Night("2026-01-01-020000", 0.0, 1.0, "1", "h", "c", None, records, rows=tuple(rows))
    return replace(made, **more)  # type: ignore[arg-type]  # fields by name, from tests only


def test_the_most_valuable_first() -> None:
    """What failed, what has changed, what did not run, the rest; builds before their users."""
    small = Matrix(("k",), ("a", "b", "c", "d"), ("x",), kselftest=True)
    all_jobs = plan.expand(Config((small,)), READ)
    last = a_night(
        [Row("k+c/x/kselftest", "test.sh", Status.ERROR)],
        [job for job in all_jobs if job.name != "k+d/x/core"],
    )
    found = plan.ordered(
        all_jobs, last, {("k + b", "x"): "new.patch is new"}, lambda name: [5.0, 7.0, 900.0]
    )
    assert [(job.name, job.why) for job in found][:6] == [
        ("k+c/x/build", "as last night"),
        ("k+c/x/kselftest", "failed last night"),
        ("k+b/x/build", "changed since: new.patch is new"),
        ("k+b/x/core", "changed since: new.patch is new"),
        ("k+b/x/kselftest", "changed since: new.patch is new"),
        ("k+d/x/build", "as last night"),
    ]
    assert found[6].why == "did not run last night" and found[6].estimate == 7.0
    for position, job in enumerate(found):
        if job.kind is not JobKind.BUILD:
            assert job.name.rpartition("/")[0] + "/build" in names(found[:position])


def test_a_build_that_finds_its_kernel_in_the_cache_takes_no_time() -> None:
    found = plan.expand(Config((Matrix(("k",), ("a",), ("x", "y"), kselftest=True),)), READ)
    timed = plan.ordered(found, None, {}, lambda name: [900.0], {"k+a/x/build"})
    times = {job.name: job.estimate for job in timed}
    assert {name for name, seconds in times.items() if not seconds} == {"k+a/x/build"}
    timed = plan.ordered(found, None, {}, lambda name: (), {"k+a/x/build"})
    lost = names(plan.left_out(timed, 899, 4))
    assert lost and all(name.startswith("k+a/y/") for name in lost)


def test_what_is_in_the_cache_is_asked_for_builds_only(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = Matrix(("debian:6.1", "tar:gone.tar"), ("none",), ("x", "y"), kselftest=True)
    found = plan.expand(Config((matrix,)), READ)
    asked = []

    def at_hand(source: str) -> SourceTree | None:
        if source.startswith("tar:"):
            raise UsageError("there is no such file")
        return SourceTree(source, "6.1-1", Path("linux"), "d", (6, 1), "l")

    def is_built(arch: Arch, tree: SourceTree, series: Sequence[str]) -> bool:
        asked.append((arch.name, tree.spec, series))
        return arch.name == "x"

    ours = next(iter(catalog.arches().values()))
    monkeypatch.setattr(options, "arches", lambda specs: [replace(ours, name=specs[0])])
    monkeypatch.setattr(sources, "at_hand", at_hand)
    monkeypatch.setattr(kernel, "is_built", is_built)
    (there,) = work.built(found)
    assert there.endswith("x/build") and "debian" in there
    assert len(asked) == 2


def test_what_will_not_fit() -> None:
    found = plan.expand(Config((Matrix(("k",), ("a",), ("x", "y"), kselftest=True),)), READ)
    timed = [
        replace(j, estimate={JobKind.BUILD: 10, JobKind.SUITE: 60}.get(j.kind, 30)) for j in found
    ]
    assert plan.left_out(timed, 1000, 1) == ()
    # builds end at 10 and 20; x/core takes 10-70, x/kselftest 10-40, y/core 40-100
    assert plan.left_out(timed, 100, 2) == ()
    assert names(plan.left_out(timed, 99, 2)) == ["k+a/y/core"]
    assert names(plan.left_out(timed, 15, 2)) == [n for n in names(found) if n != "k+a/x/build"]


# --- the lanes -----------------------------------------------------------------------------------


def test_tasks_side_by_side_and_each_when_it_is_ready() -> None:
    scheduler, done, built = Scheduler(2), [], threading.Event()
    both = threading.Barrier(2, timeout=10)

    def build() -> None:
        done.append("build")
        built.set()

    def guest(name: str) -> None:
        both.wait()  # two at a time, or it breaks
        done.append(name)
        if name == "a":
            scheduler.add(Task(Pool.GUEST, lambda: guest("c")))
            scheduler.add(Task(Pool.GUEST, lambda: guest("d")), first=True)

    for name in ("a", "b"):
        scheduler.add(Task(Pool.GUEST, lambda name=name: guest(name), built.is_set))  # type: ignore[misc]
    scheduler.add(Task(Pool.BUILD, build))
    scheduler.run_tasks()
    assert done[0] == "build" and sorted(done[1:3]) == ["a", "b"] and sorted(done[3:]) == ["c", "d"]


def test_what_a_task_raises_ends_the_others() -> None:
    scheduler = Scheduler(2)

    def waits() -> None:
        assert scheduler.stop.wait(10)

    def fails() -> None:
        raise HarnessError("the disk is full")

    scheduler.add(Task(Pool.GUEST, waits))
    scheduler.add(Task(Pool.GUEST, fails))
    scheduler.add(Task(Pool.GUEST, lambda: pytest.fail("it was to end")))
    with pytest.raises(HarnessError, match="full"):
        scheduler.run_tasks()


# --- tried again ---------------------------------------------------------------------------------

JOB = Job(
    *("k+a/x/core", JobKind.SUITE, "k + a", "k", ("a",), "x", "core"),
    *(("run", "--arch", "x", "--kernel", "k", "--series", "a", "--suite", "core"), 60.0, "", "x"),
)
FAILED = Row(
    *("k+a/x/core", "basic/one", Status.FAIL, "wrong", "wrong"),
    order="+m",
    kind=CaseKind.ORDER,
    module_set="basic",
    name="one",
)


def test_only_what_is_new_is_tried_again_and_little_of_what_fails_alike() -> None:
    rows = [replace(FAILED, case=f"basic/{number}") for number in range(5)]
    other = replace(FAILED, case="basic/other", symptom="other")
    assert retry.to_try([*rows, other], {}, 2) == (*rows[: retry.OF_A_KIND], other)
    many = [replace(FAILED, case=f"basic/{number}", symptom=str(number)) for number in range(20)]
    assert retry.to_try(many, {}, 2) == tuple(many[: retry.OF_A_JOB])
    known = {
        (FAILED.job, "basic/other"): (
            PastResult("n", Status.SKIP),
            PastResult("m", Status.FAIL, 1, "wr"),
        )
    }
    assert retry.to_try([other], known, 2) == (other,)
    known = {
        (FAILED.job, "basic/other"): (
            PastResult("n", Status.SKIP),
            PastResult("m", Status.FAIL, 1, "other"),
        )
    }
    assert retry.to_try([other], known, 2) == ()
    assert retry.to_try([replace(other, runs=3)], {}, 2) == ()
    for spared in (
        replace(other, status=Status.ERROR),
        replace(other, kind=None),
    ):
        assert retry.to_try([spared], {}, 2) == ()


def test_one_of_three_is_flaky(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = iter([Status.ERROR, Status.PASS])
    commands = []

    class Result:
        def __init__(self, status: Status) -> None:
            self.status = status

    monkeypatch.setattr(directory, "read", lambda place: (None, [Result(next(seen))]))

    def carry_out(words: Sequence[str], log: Path) -> bool:
        commands.append(words)
        return True

    ours.mark(tmp_path, ours.MarkKind.NIGHT)
    found = list(retry.tries(tmp_path, JOB, FAILED, 2, carry_out))
    assert [(row.status, row.failed, row.runs) for row in found] == [
        (Status.FAIL, 0, 1),  # the harness spoiled it: it says nothing
        (Status.FLAKY, 1, 2),
    ]
    assert commands[0][:1] == ["run"] and "--cold" in commands[0]
    assert len({tuple(words) for words in commands}) == 2, "each into a directory of its own"


def test_failing_every_time_is_no_flake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ours.mark(tmp_path, ours.MarkKind.NIGHT)
    monkeypatch.setattr(directory, "read", lambda place: (None, [FAILED]))
    *_, last = retry.tries(tmp_path, JOB, FAILED, 2, lambda words, log: True)
    assert (last.status, last.failed, last.runs) == (Status.FAIL, 3, 3)


# --- blamed --------------------------------------------------------------------------------------

NOW = KernelInput("k + a", "x", "6.1.1", "6.1.1", {"1": "aa", "2": "bb"}, "", "gcc", "qemu")
FAILS, PASSES = Seen("with", True, "wrong"), Seen("without", False)


@pytest.mark.parametrize(
    ("patches", "version", "ways"),
    [
        ({"1": "aa", "2": "bb"}, "6.1.1", ()),
        ({"1": "aa", "2": "bb"}, "6.1.0", ()),
        ({"1": "aa"}, "6.1.1", (BisectKind.OURS,)),
        ({"1": "aa", "2": "bb", "3": "cc"}, "6.1.1", (BisectKind.THEIRS,)),
        ({"1": "aa", "2": "b0"}, "6.1.1", (BisectKind.OURS, BisectKind.THEIRS)),
    ],
)
def test_where_to_look(patches: dict[str, str], version: str, ways: tuple[BisectKind, ...]) -> None:
    assert bisects.bisect_kinds(NOW, replace(NOW, patches=patches, source_version=version)) == ways


def test_where_to_look_without_a_good_night_and_over_commits() -> None:
    assert bisects.bisect_kinds(NOW, None) == (BisectKind.OURS,)
    assert bisects.bisect_kinds(replace(NOW, patches={}), None) == ()
    good = replace(NOW, commit="0123456789ab")
    bad = replace(NOW, commit="ba9876543210")
    assert bisects.bisect_kinds(bad, good) == (BisectKind.COMMITS,)
    job = plan.expand(Config((Matrix(("git:url#main",), ("a",), ("x",)),)), READ)[1]
    words = " ".join(bisects.command(BisectKind.COMMITS, job, FAILED, "", bad, good))
    assert words == (
        "bisect --arch x --kernel git:url#main --modules basic --order +m --series a "
        "--good 0123456789ab --bad ba9876543210"
    )
    words = " ".join(bisects.command(BisectKind.THEIRS, job, FAILED, "kept", bad, good))
    assert words.endswith(" --series a@merged --series kept")  # by what tonight's series promises


def test_a_branch_that_moves_in_the_night_is_left_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = Config((Matrix(("git:url#main", "debian:gone"), ("a",), ("x", "y")),))
    commits = iter(("c1", "c2"))

    def look(job: Job, say: object) -> inputs.Facts:
        if job.source != "git:url#main":
            raise HarnessError("cannot be had")
        return inputs.Facts(f"git:url#{next(commits)}", "6.1.0", ())

    monkeypatch.setattr(inputs, "look", look)
    found, facts, missing = nightrun.look(plan.expand(moved, READ), Reporter(Terminal(quiet=True)))
    here = [job for job in found if job.kernel == "git:url#main + a"]
    assert len(here) == 4 and {job.source for job in here} == {"git:url#c1"}
    assert all("git:url#c1" in job.command and "git:url#main" not in job.command for job in here)
    assert {nightrun.key(job) for job in here} == set(facts)
    assert set(missing.values()) == {"cannot be had"} and len(found) == 8


def test_what_a_bisect_tells() -> None:
    begins = Found(("2",), PASSES, FAILS)
    assert bisects.verdict(BisectKind.OURS, begins, NOW, NOW) == ("2", "it begins to fail with it")
    assert bisects.verdict(BisectKind.OURS, Found(("2",), FAILS, PASSES), NOW, NOW) is None
    good = replace(NOW, patches={"1": "aa", "2": "b0", "3": "cc"})
    mends = Found(("3",), FAILS, PASSES)
    assert bisects.verdict(BisectKind.THEIRS, mends, NOW, good) == (
        "3",
        "it passed with it, which is gone",
    )
    changed = bisects.verdict(BisectKind.THEIRS, replace(mends, culprits=("2",)), NOW, good)
    assert changed == ("2", "it passed with it, which has changed")
    assert bisects.verdict(BisectKind.THEIRS, replace(mends, culprits=("1",)), NOW, good) is None
    assert bisects.verdict(BisectKind.THEIRS, begins, NOW, good) is None


def test_an_interrupted_bisect_is_not_written_over(tmp_path: Path) -> None:
    assert nightrun.free_number(tmp_path / "none") == 1
    (tmp_path / "01-commits.log").touch()
    (tmp_path / "07-ours").mkdir()
    assert nightrun.free_number(tmp_path) == 8


def test_one_bisect_for_all_that_fail_alike() -> None:
    job = plan.expand(Config((Matrix(("k",), ("a",), ("x",)),)), READ)[1]
    by_name, kernels = {job.name: job}, {(job.kernel, job.arch): NOW}
    long = replace(FAILED, case="basic/long", order="+m +m")
    script = replace(FAILED, case="test.sh", order="", kind=CaseKind.SELFTEST)
    rows = (long, FAILED, script)
    assert bisects.worth(rows, kernels, by_name) == (FAILED,)
    assert bisects.worth(rows, {}, by_name) == ()
    found = Blame(job.name, FAILED.case, "2", "told", "bisects/01")
    ways_ = [
        replace(FAILED, case=f"basic/{n}", symptom=str(n), order="+m " * n) for n in range(1, 9)
    ]
    assert bisects.worth(ways_[::-1], kernels, by_name) == tuple(ways_[: bisects.OF_A_KERNEL])
    (likely,) = bisects.likely([FAILED, long], [found], by_name)
    assert (likely.case, likely.patch, likely.directory) == ("basic/long", "2", "")
    assert bisects.likely([long], [found, replace(found, patch="1")], by_name) == ()
    both = bisects.shared(found, FAILED, (long, FAILED), by_name)
    assert {(each.case, each.patch) for each in both} == {("basic/long", "2"), ("basic/one", "2")}


# --- the night -----------------------------------------------------------------------------------


def test_a_job_that_left_nothing_tells_why(tmp_path: Path) -> None:
    (job,) = plan.expand(Config((Matrix(("k",), ("a",), ("x",)),)), READ)[1:]
    record = JobRecord(job)
    log = jobs.log_of(tmp_path, record)
    log.parent.mkdir(parents=True)
    log.write_text("$ klp-e2e run\nstarting\nklp-e2e: QEMU is gone\n    install it again\n")
    (row,) = jobs.rows(tmp_path, record, JobEnd(4))
    assert (row.status, row.reason) == (Status.ERROR, "run ended with 4: QEMU is gone")
    (row,) = jobs.rows(tmp_path, record, JobEnd(3))
    assert row.status is Status.ERROR, "modules that do not build say nothing of the kernel"
    (row,) = jobs.rows(tmp_path, record, JobEnd(0))
    assert row.status is Status.ERROR, "it found out nothing"
    (row,) = jobs.rows(tmp_path, record, JobEnd(None, "the night's time was up"))
    assert (row.status, row.case) == (Status.SKIP, jobs.LEFT)
    (row,) = jobs.rows(tmp_path, replace(record, job=replace(job, kind=JobKind.BUILD)), JobEnd(3))
    assert (row.status, row.case) == (Status.FAIL, "build")


def test_a_directory_that_cannot_be_read_is_begun_anew(tmp_path: Path) -> None:
    (job,) = plan.expand(Config((Matrix(("k",), ("a",), ("x",)),)), READ)[1:]
    place = jobs.directory_of(tmp_path, JobRecord(job))
    place.mkdir(parents=True)
    ours.mark(tmp_path, ours.MarkKind.NIGHT)
    (place / "results.json").write_text('{"schema": 1, "ex')  # power was lost
    assert jobs.command(tmp_path, JobRecord(job)) == (*job.command, "-o", str(place))
    assert not place.exists()


def test_a_job_that_was_begun_is_gone_on_with(tmp_path: Path) -> None:
    (job,) = plan.expand(Config((Matrix(("k",), ("a",), ("x",)),)), READ)[1:]
    place = jobs.directory_of(tmp_path, JobRecord(job))
    ours.mark(tmp_path, ours.MarkKind.NIGHT)
    with directory.ResultsDirectory(place, a_run("one")):
        pass
    assert jobs.command(tmp_path, JobRecord(job)) == (*job.command, "--resume", str(place))
    assert place.exists()


@pytest.mark.parametrize(
    ("statuses", "trouble", "code"),
    [
        ("PASS KNOWN SKIP", "", Exit.GOOD),
        ("KNOWN KNOWN", "", Exit.GOOD),
        ("KNOWN SKIP", "", Exit.GOOD),
        ("PASS FAIL ERROR", "", Exit.TEST_FAILURE),
        ("PASS FLAKY", "", Exit.TEST_FAILURE),
        ("PASS ERROR", "", Exit.HARNESS),
        ("PASS", "the disk is full", Exit.HARNESS),
        ("SKIP", "", Exit.HARNESS),
        ("", "", Exit.HARNESS),
    ],
)
def test_exit_code(statuses: str, trouble: str, code: Exit) -> None:
    rows = [Row("k/x/core", str(n), Status(s)) for n, s in enumerate(statuses.split())]
    assert digest(a_night(rows, trouble=trouble), Changes("")).exit_code == code


@pytest.mark.parametrize(
    ("skip", "code"),
    [
        (Skip.TIME, Exit.GOOD),
        (Skip.DISK, Exit.HARNESS),
        (Skip.SOURCE, Exit.HARNESS),
        (Skip.KERNEL, Exit.HARNESS),
    ],
)
def test_what_was_skipped_for_want_of_time_is_as_planned(skip: Skip, code: Exit) -> None:
    (_, job) = plan.expand(Config((Matrix(("k",), ("a",), ("x",)),)), READ)
    night = a_night([Row("k/x/other", "basic/one", Status.PASS)])
    night = replace(night, jobs=(JobRecord(job, State.SKIPPED, "in words", skip=skip),))
    assert digest(night, Changes("")).exit_code == code


def test_exit_code_of_a_night_without_a_kernel() -> None:
    (build, _) = plan.expand(Config((Matrix(("k",), ("a",), ("x",)),)), READ)
    night = a_night([Row(build.name, "build", Status.FAIL)], [build])
    assert digest(night, Changes("")).exit_code == Exit.BUILD


def test_a_new_night_comes_after_every_other_whatever_the_clock_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for expected in ("2099-01-01-000000.1", "2099-01-01-000000.1.1"):
        for name in ("2099-01-01-000000", expected.removesuffix(".1")):
            (tmp_path / name).mkdir(exist_ok=True)
            files.write(tmp_path / name, a_night(name=name))
        (tmp_path / "a-x").mkdir(exist_ok=True)
        files.write(tmp_path / "a-x", a_night())
        assert work.name_of(tmp_path) == expected
    monkeypatch.setattr(time, "strftime", lambda form: "2100-01-01-000000")
    assert work.name_of(tmp_path) == "2100-01-01-000000"


def test_ours_is_a_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "built", lambda found: frozenset(j.name for j in found))
    wanted = work.night_options(None, tmp_path, None, False, None)
    found = work.planned(wanted)
    assert {job.kind for job in found.jobs} == set(JobKind)
    for job in found.jobs:
        assert job.estimate == 0
    assert not found.left_out


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "matrix: missing"),
        ("matrix = []", "has no"),
        ('[[matrix]]\nkernels = ["x"]\nseries = ["none"]', "'x' is no kernel source"),
        ('[[matrix]]\nkernels = ["debian:6.1"]\nseries = []\nsuits = []', "suits"),
        ('[[matrix]]\nkernels = ["debian:6.1"]\nseries = ["none"]\narches = ["vax"]', "vax"),
        ('[[matrix]]\nkernels = ["debian:6.1"]\nseries = ["none"]\nsuites = ["x"]', "suite: x"),
        (
            '[[matrix]]\nkernels = ["debian:6.1"]\nseries = ["none"]\nsuites = ["./x.toml"]',
            "unknown suite: ./x",
        ),
        ('budget = "soon"\n[[matrix]]\nkernels = []\nseries = []', "'soon' is no time"),
        ("[[matrix]]\nkernels = []\nseries = []", "no job"),
        ("guests = -3\nmatrix = []", "guests: .* greater than or equal to 0"),
        ("guests = 100000\nmatrix = []", "guests: .* less than or equal to 1000"),
        ("keep_nights = -5\nmatrix = []", "keep_nights: "),
        ("retries = -1\nmatrix = []", "retries: "),
        ("keep_free = nan\nmatrix = []", "nan is no number"),
        ("keep_free = inf\nmatrix = []", "inf is no number"),
        ("keep_free = -0.1\nmatrix = []", "keep_free: "),
        ("[[matrix]]\nkernels = []\nseries = []\nexplore = { burst = -1 }", "burst"),
        (f'budget = "{"9" * 400}h"\nmatrix = []', "budget: .* at most 8"),
        (f'bisect = "{"9" * 400}s"\nmatrix = []', "bisect: .* at most 8"),
    ],
)
def test_a_file_that_cannot_be(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(UsageError, match=complaint):
        work.night_options(tmp_path / "mine.toml", tmp_path, None, False, None)


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    text = '[[matrix]]\nkernels = ["debian:6.1"]\nseries = ["mine"]\n'
    (tmp_path / "mine.toml").write_text(text)
    wanted = work.night_options(tmp_path / "mine.toml", tmp_path, None, False, None)
    first = work.jobs(wanted)[0]
    assert first.series == (str(tmp_path / "mine"),) and first.kernel == "debian:6.1 + mine"
    assert first.arch in catalog.default_arches()


def test_known_issues_of_the_file_go_with_every_job_that_judges_by_them() -> None:
    matrix = Matrix(
        ("k",), ("a",), ("x",), explore=Exploring(), kselftest=True, malformed=True, ablate=True
    )
    found = plan.expand(Config((matrix,), known_issues=("mine.toml", "b.toml")), READ)
    words = ("--known-issues", "/night/mine.toml", "--known-issues", "/night/b.toml")
    for job in found:
        listed = job.kind in (JobKind.SUITE, JobKind.MALFORMED, JobKind.EXPLORE)
        assert plan.known_words(job) == (words if listed else ())
        assert job.command[-4:] == words or not listed


def test_a_further_try_is_judged_by_the_same_known_issues() -> None:
    job = replace(JOB, command=(*JOB.command, "--known-issues", "/night/mine.toml"))
    assert retry.words(job, FAILED)[-2:] == ("--known-issues", "/night/mine.toml")
    assert "--known-issues" not in retry.words(JOB, FAILED)


def test_a_mistake_in_known_issues_is_told_before_the_night(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("[[issue]]\nid = 'x'\nkin = 'health'\n")
    (tmp_path / "night.toml").write_text(
        'known_issues = ["mine.toml"]\n[[matrix]]\nkernels = ["debian:6.1"]\nseries = ["none"]\n'
    )
    told = klp("nightly", str(tmp_path / "night.toml"), "--dry-run", "-o", str(tmp_path / "n"))
    assert told.code == Exit.USAGE
    assert f"{tmp_path}/mine.toml: issue" in told.err
    assert "kin of 'x': unknown key, did you mean 'kind'?" in told.err
