# SPDX-License-Identifier: GPL-2.0-only
"""Nights in parts: a plan with lasting names, one job of it, and one night of what came of them."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import bundle_samples
import pytest
from history_samples import a_result, a_run, a_suite, an_exploration
from samples import klp, read_changes

from orchestrator.commands.merge import work as merging
from orchestrator.commands.nightly import content, inputs, plan, resources, work
from orchestrator.commands.nightly.config import Config, Exploring, Matrix
from orchestrator.commands.nightly.nightrun import Before, Limits, NightRun
from orchestrator.commands.nightly.plan import Reader, Target
from orchestrator.deadline import Deadline
from orchestrator.errors import Exit, HarnessError, UsageError
from orchestrator.history import files, parts
from orchestrator.history.nights import (
    Blame,
    Job,
    JobKind,
    JobRecord,
    KernelInput,
    Night,
    Part,
    Row,
    Skip,
    State,
    Verdict,
)
from orchestrator.history.parts import Given
from orchestrator.host import copying, ours, workdir
from orchestrator.report.progress import Reporter
from orchestrator.report.terminal import Terminal
from orchestrator.repro import bundle
from orchestrator.repro.record import load_record
from orchestrator.verdicts import Status

READ = Reader(
    lambda specs: [Target(name, name) for name in specs],
    lambda source: source,
    lambda series: () if series == ("none",) else tuple(series),
    lambda names: tuple(names),
    lambda text: 600.0,
)
PLAN = plan.expand(Config((Matrix(("debian:6.1",), ("fix",), ("one", "two"), ("core",)),)), READ)
ONE, TWO = ("debian-6.1+fix/one/*",), ("debian-6.1+fix/two/*",)
CORE_ONE, CORE_TWO = "debian-6.1+fix/one/core", "debian-6.1+fix/two/core"


# --- the plan ------------------------------------------------------------------------------------

NAMES = Path(__file__).with_name("nightly-names.txt")
BOTH = """
[[matrix]]
kernels = ["debian:6.1"]
series = ["none"]
arches = ["ARCH"]
kselftest = true
modules = ["basic", "./mine"]
suites = ["core"]
explore = { modules = ["basic"], budget = "1m" }

[[matrix]]
kernels = ["debian:6.1"]
series = ["none"]
arches = ["ARCH"]
suites = []
explore = { modules = ["basic"], budget = "2m", burst = 3 }
"""


def a_file(place: Path, text: str = BOTH) -> Path:
    shutil.copytree(Path(__file__).parents[1] / "vm" / "mine", place / "mine", dirs_exist_ok=True)
    file = place / "night.toml"
    file.write_text(text.replace("ARCH", "x86_64"))
    return file


def planned(*words: object) -> Any:
    told = klp("nightly", *words, "--dry-run", "--json")
    assert told.code == Exit.GOOD, told.err
    return json.loads(told.out)


def test_names_are_what_they_were_yesterday(tmp_path: Path) -> None:
    """A change here ends the history of a job: the list is a promise."""
    found = planned("-o", tmp_path / "nights")
    names = sorted(job["name"] for job in found["jobs"])
    own = sorted(job["name"] for job in planned(a_file(tmp_path), "-o", tmp_path)["jobs"])
    assert [*names, "", *own] == NAMES.read_text().splitlines()


def test_the_plan_is_the_same_on_another_machine_but_for_where_things_lie(tmp_path: Path) -> None:
    one, other = tmp_path / "a", tmp_path / "b" / "c"
    for place in (one, other):
        place.mkdir(parents=True)
    mine, theirs = (planned(a_file(place), "-o", place / "nights") for place in (one, other))
    assert [job["name"] for job in mine["jobs"]] == [job["name"] for job in theirs["jobs"]]
    assert mine["digest"] == theirs["digest"] and mine["tool"] == theirs["tool"]
    more = planned(a_file(other, f"{BOTH}\nsuites = ['smoke']".replace("suites = []\n", "", 1)))
    assert more["digest"] != mine["digest"]


def test_lines_above_that_make_other_jobs_leave_a_name_as_it_is(tmp_path: Path) -> None:
    walk = Exploring(budget="10m")
    one = Matrix(("k",), ("none",), ("x",), explore=walk)
    second = replace(one, explore=replace(walk, budget="20m"))
    between = replace(one, explore=replace(walk, burst=2))
    names = [job.name for job in plan.expand(Config((one, second)), READ)]
    longer = [job.name for job in plan.expand(Config((one, between, second)), READ)]
    assert len(names) == 4 and names[-1].startswith("k/x/explore-all-")
    assert set(names) < set(longer) and len(longer) == 5


def test_what_a_job_needs_is_told(tmp_path: Path) -> None:
    found = planned(a_file(tmp_path), "-o", tmp_path / "nights")
    assert found["schema"] == 1
    jobs = {job["name"]: job for job in found["jobs"]}
    build, core = jobs["debian-6.1/x86_64/build"], jobs["debian-6.1/x86_64/core-basic"]
    assert (build["after"], core["after"]) == ([], [build["name"]])
    assert (build["kind"], core["kind"]) == ("build", "run")
    assert core["needs"]["memory"] > build["needs"]["memory"] == 0
    assert core["needs"]["compilers"] and core["needs"]["accel"] == "auto"
    assert [core["cell"]] == [build["cell"]] == found["cells"] == ["debian-6.1/x86_64"]
    assert core["command"][:3] == ["run", "--arch", "x86_64"] and core["seconds"] > 0


def test_json_is_of_the_plan_alone(tmp_path: Path) -> None:
    told = klp("nightly", a_file(tmp_path), "--json", "-o", tmp_path / "nights")
    assert told.code == Exit.USAGE and "--dry-run" in told.err
    assert not (tmp_path / "nights").exists()


# --- a part --------------------------------------------------------------------------------------


def test_a_job_comes_with_its_build_and_nothing_else() -> None:
    names = [job.name for job in plan.chosen(PLAN, [CORE_TWO])]
    assert names == ["debian-6.1+fix/two/build", CORE_TWO]
    assert plan.chosen(PLAN, ["*/build", CORE_ONE]) == tuple(
        job for job in PLAN if job.kind is JobKind.BUILD or job.name == CORE_ONE
    )
    assert plan.chosen(PLAN, [*ONE, *TWO]) == PLAN


def test_a_job_that_is_not_in_the_plan_is_told_with_the_nearest(tmp_path: Path) -> None:
    words = ("nightly", a_file(tmp_path), "-o", tmp_path / "nights", "--only")
    told = klp(*words, "debian-6.1/x86_64/cor-basic", "--dry-run")
    assert told.code == Exit.USAGE and "cor-basic" in told.err
    assert "did you mean debian-6.1/x86_64/core-basic" in told.err
    assert klp(*words, "*/vax/*").code == Exit.USAGE
    assert not (tmp_path / "nights").exists()
    told = klp(*words, "*/kselftest", "--dry-run")
    assert told.code == Exit.GOOD and "2 jobs" in told.out


def test_a_part_goes_on_with_what_it_was_begun_with(tmp_path: Path) -> None:
    ours.make(tmp_path / "nights", ours.MarkKind.NIGHTS, "")
    place = a_part(tmp_path / "nights", a_night(), ONE)
    told = klp("nightly", "--resume", place, "--only", "*/core")
    assert told.code == Exit.USAGE and "--only exclude each other" in told.err
    file = a_file(tmp_path)
    told = klp("nightly", file, "--resume", place)
    assert told.code == Exit.USAGE and "has ended" in told.err
    files.write(place, replace(files.document(place), finished=None))
    told = klp("nightly", file, "--resume", place)
    assert told.code == Exit.USAGE and "is not what" in told.err


def test_a_part_says_that_it_is_one_and_is_in_no_history(tmp_path: Path) -> None:
    nights = tmp_path / "nights"
    ours.make(nights, ours.MarkKind.NIGHTS, "")
    place = a_part(nights, a_night(), ONE)
    ended = work.report_night(nights, files.read(place), [])
    assert ended.digest.exit_code == Exit.TEST_FAILURE
    assert ended.digest.headline.startswith("a part of a night, 2 of 4 jobs: ")
    assert not (nights / "history.sqlite").exists() and not (nights / "index.html").exists()
    page = (place / "index.html").read_text()
    assert "part of a night, 2 of 4 jobs" in page
    # not even under the name of a night
    named = nights / "2026-01-02-020000"
    shutil.copytree(place, named)
    files.write(named, replace(files.document(place), name=named.name))
    told = klp("history", "rebuild", "-o", nights)
    assert "is a part of a night" in told.err and "0 nights read" in told.out
    assert work.known_before(nights, "2026-01-03-020000").last is None


def test_a_part_misses_nothing_that_another_part_has(tmp_path: Path) -> None:
    nights = tmp_path / "nights"
    before(nights)
    place = a_part(nights, a_night(), ONE)
    ended = work.report_night(nights, files.read(place), [])
    assert {each.row.job for each in ended.changes.changed} == {CORE_ONE}
    assert not any(each.what == "kernel" for each in ended.changes.inputs)


def test_a_part_holds_the_machine_and_not_the_place(tmp_path: Path) -> None:
    """Several machines may have theirs in one place; a night there may be at its end."""
    nights = tmp_path / "nights"
    nights.mkdir()
    with workdir.locked(nights / resources.LOCK):
        with pytest.raises(HarnessError, match="another night runs in"):
            resources.alone(nights, False, print).__enter__()
        there = pytest.raises(HarnessError, match="another night runs on this machine")
        with resources.alone(nights, False, print, part=True), there:
            resources.alone(nights, False, print, part=True).__enter__()


def test_a_part_removes_no_night_to_make_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "make", lambda *_: pytest.fail("it removes old nights"))
    nights = tmp_path / "nights"
    before(nights)
    place = a_part(nights, a_night(), ONE)
    limits = Limits(Deadline.after(3600), 0.0, Config((), keep_free=1e9))
    reporter = Reporter(Terminal(quiet=True))
    night = files.document(place)
    waiting = replace(night, jobs=tuple(replace(r, state=State.WAITING) for r in night.jobs))
    running = NightRun(place, replace(waiting, rows=()), {}, Before(nights, {}), limits, reporter)
    running.run_jobs(1)
    skips = [(record.skip, "are to stay free" in record.reason) for record in running.night.jobs]
    assert skips == [(Skip.DISK, True)] * 2
    assert (nights / "2026-01-01-020000").is_dir()


# --- nights and parts of a few words -------------------------------------------------------------


def a_row(job: str, case: str, status: Status = Status.PASS, **more: Any) -> Row:
    failed = int(status in (Status.FAIL, Status.FLAKY))
    reason = "" if status is Status.PASS else "wrong"
    row = Row(job, case, status, reason, reason, 1.0, failed=failed, runs=1 + 2 * failed)
    return replace(row, **more)


def a_night(name: str = "2026-02-01-020000", **more: Any) -> Night:
    """A whole one, that found something on one architecture, and blames a patch for it."""
    rows = [a_row(job.name, "build") for job in PLAN if job.kind is JobKind.BUILD]
    directory = f"jobs/{CORE_ONE}/one/basic.reload"
    rows += [
        a_row(CORE_ONE, "basic/reload", Status.FAIL, directory=directory),
        a_row(CORE_ONE, "basic/other", Status.FLAKY),
        a_row(CORE_TWO, "basic/reload"),
        a_row(CORE_TWO, "basic/other", Status.KNOWN),
    ]
    made = Night(
        name,
        *(1000.0, 2000.0, "1", "a host", "night.toml", 3600.0),
        jobs=tuple(JobRecord(job, State.ENDED, "", 0, 1000.0, 1100.0, host="h") for job in PLAN),
        kernels=tuple(a_kernel(arch) for arch in ("one", "two")),
        rows=tuple(rows),
        blames=(Blame(CORE_ONE, "basic/reload", "fix.patch", "seen", "bisects/01-ours"),),
    )
    return replace(made, **more)


def a_kernel(arch: str, **more: Any) -> KernelInput:
    made = KernelInput(
        *("debian:6.1 + fix", arch, "6.1.1", "6.1.1", {"fix.patch": "aa"}),
        *(f"inputs/debian-6.1+fix.{arch}.config", "gcc 12", "QEMU 7.2", "0123456789ab"),
    )
    return replace(made, **more)


def fill(place: Path, night: Night) -> Path:
    """The files of a night's jobs and kernels."""
    for record in night.jobs:
        job = record.job
        directory = place / "jobs" / job.name
        directory.parent.mkdir(parents=True, exist_ok=True)
        directory.with_name(f"{directory.name}.log").write_text(f"log of {job.name}\n")
        if job.kind is not JobKind.BUILD:
            failed = Status.FAIL if job.name == CORE_ONE else Status.PASS
            a_suite(directory, a_run(job.arch), a_result(job.arch, failed))
    for kernel in night.kernels:
        (place / kernel.config).parent.mkdir(exist_ok=True)
        (place / kernel.config).write_text("CONFIG_LIVEPATCH=y\n")
    for blame in night.blames:
        (place / blame.directory).mkdir(parents=True)
        (place / blame.directory / "bisect.log").write_text("tried\n")
    files.write(place, night)
    return place


def before(nights: Path) -> None:
    """A place of nights with one in which all passed."""
    ours.make(nights, ours.MarkKind.NIGHTS, "")
    good = [replace(row, status=Status.PASS, failed=0, runs=1) for row in a_night().rows]
    rows = [replace(row, reason="", symptom="", directory="") for row in good]
    night = a_night("2026-01-01-020000", rows=tuple(rows), blames=())
    ours.make(nights / night.name, ours.MarkKind.NIGHT, "")
    fill(nights / night.name, night)
    work.report_night(nights, night, [])


def a_part(within: Path, whole: Night, only: Sequence[str], **more: Any) -> Path:
    """What a machine has left that ran these jobs of the night."""
    jobs = plan.chosen(PLAN, only)
    names = tuple(job.name for job in jobs)
    part = Part(names, PLAN, "0" * 64)
    night = replace(
        whole,
        name=work.name_of(within, part),
        jobs=tuple(record for record in whole.jobs if record.job.name in names),
        rows=tuple(row for row in whole.rows if row.job in names),
        blames=tuple(blame for blame in whole.blames if blame.job in names),
        kernels=tuple(k for k in whole.kernels if k.arch in {job.arch for job in jobs}),
        part=part,
    )
    night = replace(night, **more)
    ours.make(within / night.name, ours.MarkKind.NIGHT, "")
    return fill(within / night.name, night)


# --- the whole of its parts ----------------------------------------------------------------------


def page(file: Path, name: str) -> str:
    return re.sub(
        r" · merged of \d parts| · on h\b|(?<=<h3>)(The|This) machines?",
        "",
        (file.read_text().replace(name, "NIGHT")),
    )


def test_parts_make_what_one_machine_would_have_made(tmp_path: Path) -> None:
    """Verdict, news, pages and files; the parts come from machines of their own."""
    alone, merged = tmp_path / "alone", tmp_path / "merged"
    before(alone)
    before(merged)
    known = work.known_before(alone, "2026-02-01-020000")
    ordered = plan.ordered(PLAN, known.last, {}, known.seconds)
    whole = a_night()
    records = {record.job.name: record for record in whole.jobs}
    whole = replace(whole, jobs=tuple(replace(records[j.name], job=j) for j in ordered))
    ours.make(alone / whole.name, ours.MarkKind.NIGHT, "")
    fill(alone / whole.name, whole)
    one = work.report_night(alone, whole, [])

    made = [a_part(tmp_path / "a", whole, ONE), a_part(tmp_path / "b", whole, TWO)]
    other = merging.merge(made, merged)
    assert other.digest == one.digest and one.digest.verdict is Verdict.NEW_FAILURES
    assert other.troubles == ()
    assert sorted(map(repr, other.night.rows)) == sorted(map(repr, whole.rows))
    assert other.night.jobs == whole.jobs and other.night.kernels == whole.kernels
    assert other.night.blames == whole.blames and other.night.part is None
    mine, theirs = alone / whole.name, merged / other.night.name
    assert files.read(theirs) == other.night and read_changes(theirs) == other.changes
    named = [replace(each, since="") for each in one.changes.changed]
    assert [replace(each, since="") for each in other.changes.changed] == named
    listed = [sorted(str(p.relative_to(top)) for p in top.rglob("*")) for top in (mine, theirs)]
    own = (f"{CORE_ONE}/", f"{CORE_TWO}/")  # marks and locks of commands are not of copies
    names = [f"jobs/{job}{name}" for job in own for name in (ours.MARK, ".lock")]
    assert [name for name in listed[0] if name not in names] == listed[1]
    for name in ("index.html", *(p for p in listed[0] if p.startswith("cases/"))):
        assert page(theirs / name, other.night.name) == page(mine / name, whole.name)
    assert content.foreign(theirs) == "", "it may go when its time has come"
    told = klp("compare", mine, theirs)
    assert told.code == Exit.GOOD and "new failure" not in told.out and "gone" not in told.out
    assert klp("history", "-o", merged).out.count("\n 2026") == 2


def both(place: Path, whole: Night | None = None) -> list[Path]:
    return [
        a_part(place / name, whole or a_night(), only)
        for name, only in zip("ab", (ONE, TWO), strict=True)
    ]


def passed() -> Night:
    """A whole one in which all is well."""
    rows = tuple(a_row(row.job, row.case) for row in a_night().rows)
    return a_night(rows=rows, blames=())


def test_the_exit_code_is_that_of_the_night(tmp_path: Path) -> None:
    told = klp("merge", *both(tmp_path / "bad"), "-o", tmp_path / "nights")
    assert told.code == Exit.TEST_FAILURE and "basic/reload" in told.out
    good = both(tmp_path / "good", passed())
    told = klp("merge", *good, "-o", tmp_path / "others")
    assert told.code == Exit.GOOD and "All good" in told.out


def test_what_no_part_has_is_not_run_and_the_night_not_good(tmp_path: Path) -> None:
    one, _ = both(tmp_path, passed())
    told = klp("merge", one, "-o", tmp_path / "nights")
    assert told.code == Exit.HARNESS and "2 jobs not run" in told.out
    (place,) = files.nights(tmp_path / "nights")
    lost = [record for record in files.read(place).jobs if record.state is State.SKIPPED]
    assert {record.job.name for record in lost} == {j.name for j in plan.chosen(PLAN, TWO)}
    assert {(r.skip, r.reason) for r in lost} == {(Skip.PART, parts.NOT_RUN)}
    assert klp("report", place).code == Exit.HARNESS


@pytest.mark.parametrize(
    "more", [{"finished": None}, {"finished": None, "trouble": "interrupted"}, {"trouble": "full"}]
)
def test_a_part_that_did_not_end_is_no_part_of_a_good_night(
    more: Mapping[str, Any], tmp_path: Path
) -> None:
    one = a_part(tmp_path / "a", passed(), ONE)
    two = a_part(tmp_path / "b", passed(), TWO, **more)
    ended = merging.merge([one, two], tmp_path / "nights")
    assert ended.digest.exit_code == Exit.HARNESS
    assert two.name in ended.night.trouble


def test_a_merged_night_is_not_gone_on_with(tmp_path: Path) -> None:
    """Its states and its jobs' directories are a stranger's: only what was begun here goes on."""
    one = a_part(tmp_path / "a", passed(), ONE, finished=None)
    ended = merging.merge([one], tmp_path / "nights")
    assert ended.night.finished is None
    told = klp("nightly", a_file(tmp_path), "--resume", tmp_path / "nights" / ended.night.name)
    assert told.code == Exit.USAGE and "it was merged of parts" in told.err


def test_a_job_counts_where_it_ran(tmp_path: Path) -> None:
    """It was planned in two parts, and there was no time for it in one."""
    left = [
        replace(r, state=State.SKIPPED, skip=Skip.TIME, exit_code=None)
        if r.job.name == CORE_TWO
        else r
        for r in passed().jobs
    ]
    short = replace(passed(), jobs=tuple(left))
    short = replace(short, rows=tuple(row for row in short.rows if row.job != CORE_TWO))
    one = a_part(tmp_path / "a", short, (*ONE, *TWO))
    two = a_part(tmp_path / "b", passed(), TWO)
    for order in ([one, two], [two, one]):
        ended = merging.merge(order, tmp_path / "nights")
        assert ended.digest.exit_code == Exit.GOOD
        assert {row.job for row in ended.night.rows} == {job.name for job in PLAN}
    assert merging.merge([one], tmp_path / "nights").digest.exit_code == Exit.GOOD


def test_of_builds_the_worst_counts(tmp_path: Path) -> None:
    build = PLAN[0].name
    failed = passed()
    records = [
        replace(r, exit_code=3) if r.job.name == build else r
        for r in failed.jobs
        if r.job.name != CORE_ONE
    ]
    rows = [replace(row, status=Status.FAIL, failed=1) for row in failed.rows if row.job == build]
    bad = a_part(tmp_path / "a", replace(failed, jobs=tuple(records), rows=tuple(rows)), [build])
    good = both(tmp_path / "good", passed())
    for order in ([bad, *good], [*good, bad]):
        ended = merging.merge(order, tmp_path / "nights")
        assert ended.digest.exit_code == Exit.BUILD


def test_each_bisect_keeps_its_directory(tmp_path: Path) -> None:
    """Each part has numbered its own from one."""
    whole = a_night()
    blames = (
        *whole.blames,
        replace(whole.blames[0], case="basic/other"),
        Blame(CORE_TWO, "basic/other", "fix.patch", "seen", "bisects/01-theirs"),
        Blame(CORE_TWO, "basic/reload", "", "no time", "jobs/elsewhere"),
    )
    made = [
        Given(name, files.document(place)) for name, place in zip("ab", both(tmp_path), strict=True)
    ]
    given = [
        each._replace(night=replace(each.night, blames=tuple(b for b in blames if a in b.job)))
        for each, a in zip(made, ("/one/", "/two/"), strict=True)
    ]
    found = parts.merged(given, "2026-02-01-020000")
    assert [blame.directory for blame in found.night.blames] == [
        *("bisects/01-ours", "bisects/01-ours", "bisects/02-theirs", ""),
    ]
    goals = [copy.goal for copy in found.copies if copy.goal.startswith("bisects")]
    assert goals == [f"bisects/{n}{end}" for n in ("01-ours", "02-theirs") for end in ("", ".log")]
    assert (1, "bisects/01-theirs", "bisects/02-theirs") in found.copies


def test_emulators_may_differ_and_are_all_named(tmp_path: Path) -> None:
    build = [PLAN[0].name]
    newer = a_night(kernels=(a_kernel("one", qemu="QEMU 9.0"),), blames=())
    made = [*both(tmp_path), a_part(tmp_path / "c", newer, build)]
    ended = merging.merge(made, tmp_path / "nights")
    assert [kernel.qemu for kernel in ended.night.kernels] == ["QEMU 7.2; QEMU 9.0", "QEMU 7.2"]


# --- what is refused -----------------------------------------------------------------------------

Change = Callable[[Night], Night]


def with_plan(change: Callable[[Sequence[Job]], Sequence[Job]]) -> Change:
    def changed(night: Night) -> Night:
        assert night.part is not None
        return replace(night, part=replace(night.part, plan=tuple(change(night.part.plan))))

    return changed


def with_kernel(**more: Any) -> Change:
    return lambda night: replace(night, kernels=(a_kernel("two", **more), a_kernel("one")))


def with_digest(night: Night) -> Night:
    assert night.part is not None
    return replace(night, part=replace(night.part, digest="1" * 64))


REFUSED: Mapping[str, tuple[Change, str]] = {
    "another klp-e2e": (lambda night: replace(night, tool="2"), "klp-e2e 1 made one, 2 the other"),
    "another file": (with_digest, "the file, a list of known issues"),
    "another plan": (with_plan(lambda jobs: jobs[1:]), "debian-6.1+fix/one/build is not in both"),
    "another order": (with_plan(lambda jobs: jobs[::-1]), "the order of jobs"),
    "a whole night": (lambda night: replace(night, part=None), "is no part of a night"),
    "another job of the name": (
        with_plan(lambda jobs: [replace(job, kernel="mine") for job in jobs]),
        "is another job than in its plan",
    ),
    "jobs that it was not begun with": (
        lambda night: replace(night, jobs=night.jobs[:1], rows=()),
        "its jobs are not those",
    ),
    "a commit that is an option": (with_kernel(commit="--upload-pack=x"), "is no commit"),
    "a patch as its configuration": (
        with_kernel(config="inputs/series/x/a.patch"),
        "is no configuration",
    ),
    "a document as its configuration": (with_kernel(config="night.json"), "is no configuration"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_parts_that_do_not_belong_together(what: str, tmp_path: Path) -> None:
    change, told = REFUSED[what]
    one, two = both(tmp_path)
    files.write(two, change(files.document(two)))
    said = klp("merge", one, two, "-o", tmp_path / "nights")
    assert said.code == Exit.USAGE and told in said.err and str(two) in said.err
    assert not (tmp_path / "nights").exists()


KINDS: Mapping[str, Mapping[str, Any]] = {
    "source version 6.1.1": {"source_version": "6.1.2"},
    "commit 0123456789ab": {"commit": "ba9876543210"},
    "compiler gcc 12": {"compiler": "gcc 13"},
    "patch fix.patch": {"patches": {"fix.patch": "bb"}},
    "configuration none": {"configs": ("kasan",)},
}


@pytest.mark.parametrize("what", KINDS)
def test_a_kernel_that_is_two_is_refused(what: str, tmp_path: Path) -> None:
    """The build alone in one part, what runs on it in the other."""
    other = a_night(kernels=(a_kernel("one", **KINDS[what]),), blames=())
    one, two = both(tmp_path)
    third = a_part(tmp_path / "c", other, [PLAN[0].name])
    said = klp("merge", one, two, third, "-o", tmp_path / "nights")
    assert said.code == Exit.USAGE and f"of two kinds: {what}" in said.err
    assert str(one) in said.err and str(third) in said.err
    assert not (tmp_path / "nights").exists()


@pytest.mark.parametrize("what", ["commit 0123456789ab", "patch fix.patch"])
def test_one_kernel_on_two_architectures_is_of_one_source(what: str, tmp_path: Path) -> None:
    """A branch, or a series of one's own, that moved between the parts."""
    moved = a_night(kernels=(a_kernel("one"), a_kernel("two", **KINDS[what])))
    one, two = both(tmp_path, moved)
    said = klp("merge", one, two, "-o", tmp_path / "nights")
    assert said.code == Exit.USAGE and f"of two kinds: {what}" in said.err
    other_tools = a_night(kernels=(a_kernel("one"), a_kernel("two", compiler="clang")))
    assert merging.merge(both(tmp_path / "other", other_tools), tmp_path / "nights").page


def test_a_configuration_that_is_two_is_refused(tmp_path: Path) -> None:
    one, two = both(tmp_path)
    third = a_part(tmp_path / "c", a_night(blames=()), [PLAN[0].name])
    (third / a_kernel("one").config).write_text("CONFIG_LIVEPATCH=y\nCONFIG_KASAN=y\n")
    said = klp("merge", one, two, third, "-o", tmp_path / "nights")
    assert said.code == Exit.USAGE and "of two kinds: KASAN" in said.err


def test_a_job_that_two_have_run_is_refused(tmp_path: Path) -> None:
    """Who could say which counts? The one that passed would be a PASS by accident."""
    one, two = both(tmp_path)
    again = a_part(tmp_path / "c", passed(), [CORE_ONE])
    said = klp("merge", one, two, again, "-o", tmp_path / "nights")
    assert said.code == Exit.USAGE and f"have both run {CORE_ONE}" in said.err
    said = klp("merge", one, two, one, "-o", tmp_path / "nights")
    assert said.code == Exit.USAGE and "is given twice" in said.err
    assert klp("merge", "-o", tmp_path / "nights").code == Exit.USAGE
    assert not (tmp_path / "nights").exists()


@pytest.mark.parametrize(
    ("key", "value", "told"), [("schema", 2, "schema"), ("night", {}, "night"), ("x", 1, "x")]
)
def test_another_schema_is_refused(key: str, value: object, told: str, tmp_path: Path) -> None:
    one, two = both(tmp_path)
    document = json.loads((two / "night.json").read_text())
    (two / "night.json").write_text(json.dumps({**document, key: value}))
    said = klp("merge", one, two, "-o", tmp_path / "nights")
    assert said.code == Exit.USAGE and told in said.err and str(two) in said.err


@pytest.mark.parametrize("name", ["../../x", "/etc/x", "a//b", "."])
def test_a_plan_whose_names_lead_elsewhere_is_refused(name: str, tmp_path: Path) -> None:
    one, two = both(tmp_path)
    for place in (one, two):
        change = with_plan(lambda jobs: [*jobs[:-1], replace(jobs[-1], name=name)])
        files.write(place, change(files.document(place)))
    with pytest.raises(UsageError, match="is no name of a job"):
        merging.merge([one, two], tmp_path / "nights")


def test_a_job_within_another_is_refused(tmp_path: Path) -> None:
    one, two = both(tmp_path)
    inner = with_plan(lambda jobs: [*jobs, replace(jobs[1], name=f"{jobs[1].name}/inner")])
    for place in (one, two):
        files.write(place, inner(files.document(place)))
    with pytest.raises(UsageError, match="which is one itself"):
        merging.merge([one, two], tmp_path / "nights")


def test_a_place_that_is_not_ours_stays_as_it_is(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis").write_text("x")
    said = klp("merge", *both(tmp_path), "-o", home)
    assert said.code == Exit.USAGE and [path.name for path in home.iterdir()] == ["thesis"]


# --- a stranger's part ---------------------------------------------------------------------------


def test_links_and_what_is_no_file_stay_behind(tmp_path: Path) -> None:
    one, two = both(tmp_path)
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("secret")
    job = one / "jobs" / CORE_ONE
    (job / "link").symlink_to(secret / "key")
    (job / "directory").symlink_to(secret)
    os.mkfifo(job / "fifo")
    shutil.rmtree(two / "jobs" / CORE_TWO)
    (two / "jobs" / CORE_TWO).symlink_to(secret)
    ended = merging.merge([one, two], tmp_path / "nights")
    (told,) = [line for line in ended.troubles if str(one) in line]
    assert all(f"jobs/{CORE_ONE}/{name}" in told for name in ("link", "directory", "fifo"))
    assert any(f"jobs/{CORE_TWO}" in line for line in ended.troubles if str(two) in line)
    place = tmp_path / "nights" / ended.night.name
    assert not [path for path in place.rglob("*") if path.is_symlink() or path.name == "key"]
    assert (place / "jobs" / CORE_ONE / "results.json").is_file()
    assert ended.digest.exit_code == Exit.TEST_FAILURE


def test_a_directory_above_that_is_a_link_leads_nowhere(tmp_path: Path) -> None:
    one, two = both(tmp_path)
    elsewhere = tmp_path / "elsewhere"
    (two / "jobs").rename(elsewhere)
    (two / "jobs").symlink_to(elsewhere)
    ended = merging.merge([one, two], tmp_path / "nights")
    place = tmp_path / "nights" / ended.night.name
    assert not (place / "jobs" / CORE_TWO).exists()
    assert not (place / "jobs" / f"{CORE_TWO}.log").exists()


def test_patches_of_others_are_not_there_to_be_built(tmp_path: Path) -> None:
    """What a night has kept, a later one builds and runs for a bisect."""
    one, two = both(tmp_path)
    for place in (one, two):
        kept = place / inputs.SERIES / inputs.slug(PLAN[1])
        kept.mkdir(parents=True)
        (kept / "fix.patch").write_text("theirs")
        (kept / "series").write_text("fix.patch\n")
    assert inputs.known(one, PLAN[1]) is not None, "of one's own it is"
    ended = merging.merge([one, two], tmp_path / "nights")
    place = tmp_path / "nights" / ended.night.name
    assert inputs.known(place, PLAN[1]) is None and not (place / inputs.SERIES).exists()


@pytest.mark.parametrize("whole", [True, False])
def test_a_merged_night_goes_in_its_time_with_its_bundles(whole: bool, tmp_path: Path) -> None:
    """A bundle in which somebody has changed a file stays, and so does the night."""
    one, two = both(tmp_path)
    job = two / "jobs" / CORE_TWO
    shutil.rmtree(job)
    an_exploration(job, found=Status.FAIL)
    place = job / "findings" / "one-basic"
    bootable = bundle_samples.a_bench(tmp_path / "bench")
    bundle.write(place, bootable, bundle_samples.a_result(bundle_samples.ANSWER), (1, 1))
    if not whole:
        (place / "kernel").write_text("mine")
    ended = merging.merge([one, two], tmp_path / "nights")
    made = tmp_path / "nights" / ended.night.name
    copied = made / place.relative_to(two)
    assert load_record(copied) == load_record(place)
    assert (content.foreign(made) == "") is whole


def test_a_copy_is_no_more_than_a_copy(tmp_path: Path) -> None:
    """A mark that a stranger wrote says nothing; but what it calls a bundle may go in its time."""
    top = tmp_path / "part"
    for name in ("bundle", "cache entry", "results", "nights", "night"):
        (top / "jobs" / name).mkdir(parents=True)
        ours.mark(top / "jobs" / name, ours.MarkKind(name))
        (top / "jobs" / name / "file").write_text("x")
    (top / "jobs" / "linked").mkdir()
    (top / "jobs" / "linked" / ours.MARK).symlink_to(top / "jobs" / "bundle" / ours.MARK)
    assert copying.copy(top, "jobs", tmp_path / "made") == []
    made = tmp_path / "made"
    assert [path.name for path in made.iterdir() if ours.marked(path)] == ["bundle"]
    assert len([*made.glob("*/file")]) == 5
    within = f"jobs/night/{ours.MARK}"
    assert copying.copy(top, within, made / "night" / ours.MARK) == [within]
    assert not ours.marked(made / "night")
    with pytest.raises(FileExistsError):
        copying.copy(top, "jobs", made)


def test_a_merge_that_cannot_be_written_leaves_no_night(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = both(tmp_path)

    class Full:
        free = 0

    monkeypatch.setattr(shutil, "disk_usage", lambda path: Full)
    said = klp("merge", *made, "-o", tmp_path / "nights")
    assert said.code == Exit.HARNESS and "No space left" in said.err
    assert not [path for path in (tmp_path / "nights").iterdir() if path.is_dir()]
