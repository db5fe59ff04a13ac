# SPDX-License-Identifier: GPL-2.0-only
"""Nights among strangers' files, and nights that strangers have written: nothing that is not ours
is removed, written over, begun or shown."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import threading
from collections import namedtuple
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import bundle_samples
import pytest
from history_samples import a_result, a_run, a_suite, an_ablation, an_exploration
from samples import klp

from orchestrator.build import prepare
from orchestrator.cli.outsiders import OPTIONS
from orchestrator.commands.nightly import (
    bisects,
    content,
    inputs,
    jobs,
    place,
    plan,
    resources,
    retry,
    text,
    work,
)
from orchestrator.commands.nightly.config import Config, Matrix
from orchestrator.commands.nightly.inputs import Facts
from orchestrator.commands.nightly.work import NightOptions
from orchestrator.errors import Exit, HarnessError, NoHistory, UsageError
from orchestrator.explore.campaign import CampaignOptions
from orchestrator.history import files
from orchestrator.history.database import NAME, History
from orchestrator.history.nights import Job, JobKind, JobRecord, Night, Row, Skip, State
from orchestrator.host import ours, pruning, workdir
from orchestrator.nouns import CaseKind, Channel
from orchestrator.pages import site
from orchestrator.report import explorejson, store
from orchestrator.report.progress import Reporter
from orchestrator.report.resultstext import plain
from orchestrator.report.terminal import Terminal
from orchestrator.repro import bundle, record
from orchestrator.source.patches import Patch
from orchestrator.trials import CONTROL, TrialOutcome
from orchestrator.verdicts import Status

NIGHTS = [f"2026-01-0{day}-020000" for day in range(1, 6)]
WORDS = ("run", "--arch", "x", "--kernel", "k", "--series", "a", "--suite", "core")
JOB = Job("k+a/x/core", JobKind.SUITE, "k + a", "k", ("a",), "x", "core", WORDS, 60.0, "", "x")
ROW = Row(
    *(JOB.name, "basic/one", Status.FAIL, "bad", "bad"),
    order="+klp_patch",
    kind=CaseKind.ORDER,
    module_set="basic",
    name="one",
)
HOME = "<html><title>my home page</title></html>"


@pytest.fixture(autouse=True)
def no_emulator_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "qemu_version", lambda arch: "QEMU 7.2")


def a_night(name: str, rows: Sequence[Row] = (ROW,), **more: object) -> Night:
    made = Night(
        name,
        1000.0,
        2000.0,
        "1",
        "h",
        "c",
        None,
        (JobRecord(JOB, State.ENDED, "", 1),),
        (),
        (*rows,),
    )
    return replace(made, **more)  # type: ignore[arg-type]  # fields by name, from tests only


def keep(nights: Path, name: str, night: Night | None = None, *, mark: bool = True) -> Path:
    """A night's directory, marked as ours or not."""
    made = nights / name
    made.mkdir(parents=True)
    if mark:
        ours.mark(made, ours.MarkKind.NIGHT)
    files.write(made, night or a_night(name))
    return made


def a_place(path: Path) -> Path:
    path.mkdir()
    ours.mark(path, ours.MarkKind.NIGHTS)
    return path


def tree(top: Path) -> dict[str, bytes | str]:
    """Everything below: content, goal of a link, "" of a directory."""
    return {
        str(path.relative_to(top)): str(path.readlink())
        if path.is_symlink()
        else (path.read_bytes() if path.is_file() else "")
        for path in top.rglob("*")
    }


# --- what is removed -----------------------------------------------------------------------------


def notes(night: Path) -> None:
    (night / "notes.txt").write_text("thesis")


def notes_in_a_job(night: Path) -> None:
    (night / "jobs" / JOB.name).mkdir(parents=True)
    (night / "jobs" / JOB.name / "notes.txt").write_text("thesis")


def a_copied_case(night: Path) -> None:
    saved = night / "jobs" / JOB.name / "x" / "basic.one.saved"
    saved.mkdir(parents=True)
    (saved / "result.json").write_text("{}")


def a_console_of_mine(night: Path) -> None:
    """As a user keeps it beside a job's results: no document lists it."""
    job = a_suite(night / "jobs" / JOB.name, a_run("x"), a_result("x", Status.FAIL))
    (job / "keep").mkdir()
    shutil.copyfile(job / "x" / "basic.reload" / "console.log", job / "keep" / "console.log")


def a_copied_job(night: Path) -> None:
    job = a_suite(night / "jobs" / JOB.name, a_run("x"), a_result("x", Status.FAIL))
    shutil.copytree(job, job.with_name("core-saved"))


def a_copied_job_s_own(night: Path) -> None:
    job = a_suite(night / "jobs" / JOB.name, a_run("x"), a_result("x", Status.FAIL))
    shutil.copytree(job, job / "saved")


def a_log_of_mine(night: Path) -> None:
    (night / "again").mkdir()
    (night / "again" / "7.log").write_text("thesis")


def a_half_thesis(night: Path) -> None:
    (night / ".thesis.partial").write_text("thesis")


def a_module_of_mine(night: Path) -> None:
    a_suite(night / "jobs" / JOB.name, a_run("x"), a_result("x"))
    mine = night / "jobs" / JOB.name / "modules" / "x" / "mine"
    mine.mkdir(parents=True)
    (mine / "klp_patch.ko").write_text("thesis")


def a_kernel_of_mine(night: Path) -> None:
    """Put into a bundle, as its README invites to."""
    bundle = a_found_bundle(night / "jobs" / JOB.name)
    (bundle / "kernel").write_text("mine")


def a_copied_bundle(night: Path) -> None:
    bundle = a_found_bundle(night / "jobs" / JOB.name)
    shutil.copytree(bundle, bundle.with_name("one-basic-saved"))


def a_found_bundle(job: Path) -> Path:
    an_exploration(job, found=Status.FAIL)
    bootable = bundle_samples.a_bench(job.parents[5] / "bench")
    place = job / "findings" / "one-basic"
    bundle.write(place, bootable, bundle_samples.a_result(bundle_samples.ANSWER), (1, 1))
    return place


def a_page_of_mine(night: Path) -> None:
    (night / "cases").mkdir()
    (night / "cases" / "index.html").write_text(HOME)


def another_directory(night: Path) -> None:
    (night / "papers" / "2026").mkdir(parents=True)
    (night / "papers" / "2026" / "thesis").write_text("thesis")


def a_link(night: Path) -> None:
    (night / "jobs").symlink_to(night.parent.parent / "elsewhere")


def a_patch_of_mine(night: Path) -> None:
    kept = night / inputs.SERIES / "k.x"
    kept.mkdir(parents=True)
    (kept / "series").write_text("1.patch\n")
    (kept / "2.patch").write_text("thesis")


def another_name(night: Path) -> None:
    files.write(night, a_night("2020-01-01-000000"))


def no_mark(night: Path) -> None:
    (night / ours.MARK).unlink()


def no_sense(night: Path) -> None:
    (night / files.NIGHT).write_text("{")


def in_a_bundle(night: Path) -> None:
    bundle = night / "jobs" / JOB.name / "findings" / "x"
    bundle.mkdir(parents=True)
    (bundle / "bundle.json").write_text('{"files": {"kernel": "00"}}')
    (bundle / "kernel").write_text("")
    (bundle / "thesis").write_text("")


STRANGE = [
    *(notes, notes_in_a_job, a_copied_case, a_page_of_mine, another_directory, a_link),
    *(a_patch_of_mine, another_name, no_mark, no_sense, in_a_bundle),
    *(a_console_of_mine, a_copied_job, a_copied_job_s_own, a_log_of_mine, a_half_thesis),
    *(a_module_of_mine, a_kernel_of_mine, a_copied_bundle),
]


@pytest.mark.parametrize("put", STRANGE)
def test_a_night_that_is_not_wholly_ours_stays_and_the_others_go(
    put: Callable[[Path], None], tmp_path: Path
) -> None:
    nights = a_place(tmp_path / "nights")
    for name in NIGHTS:
        keep(nights, name)
    put(nights / NIGHTS[0])
    before = tree(nights / NIGHTS[0])
    found = resources.prune(nights, 1, NIGHTS[-1])
    assert found.removed == tuple(NIGHTS[1:-1])
    [told] = found.troubles
    assert told.startswith(f"{nights / NIGHTS[0]} is not removed: ")
    assert tree(nights / NIGHTS[0]) == before
    assert {path.name for path in nights.iterdir()} == {ours.MARK, NIGHTS[0], NIGHTS[-1]}


def test_many_that_stay_for_one_reason_are_one_line(tmp_path: Path) -> None:
    nights = a_place(tmp_path / "nights")
    for name in NIGHTS:
        keep(nights, name, mark=False)
    [told] = resources.prune(nights, 1, NIGHTS[-1]).troubles
    assert told.startswith(f"{nights / NIGHTS[0]} and 3 more are not removed, each since it has no")


def test_links_and_other_names_are_not_counted(tmp_path: Path) -> None:
    nights = a_place(tmp_path / "nights")
    archive = keep(tmp_path, NIGHTS[0])
    (nights / NIGHTS[0]).symlink_to(archive)
    keep(nights, "2026-01-02-0200000", a_night(NIGHTS[1]))
    keep(nights, "00-release-6.1-reference", a_night(NIGHTS[1]))
    (nights / NIGHTS[2]).mkdir()  # of somebody else
    for name in NIGHTS[3:]:
        keep(nights, name)
    before = tree(tmp_path)
    assert resources.prune(nights, 2, NIGHTS[-1]) == resources.Pruned((), ())
    assert tree(tmp_path) == before
    assert resources.prune(nights, 1, NIGHTS[-1]) == resources.Pruned((NIGHTS[3],), ())


def test_a_night_that_was_killed_before_it_began_goes(tmp_path: Path) -> None:
    nights = a_place(tmp_path / "nights")
    for name in NIGHTS[:2]:
        (nights / name).mkdir()
    ours.mark(nights / NIGHTS[0], ours.MarkKind.NIGHT)
    assert resources.prune(nights, 9, NIGHTS[2]) == resources.Pruned((NIGHTS[0],), ())
    assert (nights / NIGHTS[1]).exists(), "which nobody has marked"


def test_a_night_that_was_half_removed_goes_another_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nights = a_place(tmp_path / "nights")
    unlinked = Path.unlink
    for left in itertools.count():
        made = keep(nights, NIGHTS[0])
        a_suite(made / "jobs" / JOB.name, a_run("one"), a_result("one"))
        work.report_again(made)
        gone: list[str] = []

        def unlink(path: Path, *, left: int = left, gone: list[str] = gone) -> None:
            if len(gone) == left:
                raise KeyboardInterrupt
            gone.append(path.name)
            unlinked(path)

        with monkeypatch.context() as killed:
            killed.setattr(Path, "unlink", unlink)
            try:
                resources.prune(nights, 1, "")
                break
            except KeyboardInterrupt:
                pass
        if made.exists():
            assert resources.prune(nights, 1, "") == resources.Pruned((NIGHTS[0],), ())
    assert gone[-1] == ours.MARK and "night.json" in gone[-3:]


def test_what_comes_to_a_night_while_it_is_looked_through_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nights = a_place(tmp_path / "nights")
    made = keep(nights, NIGHTS[0])
    a_suite(made / "jobs" / JOB.name, a_run("one"), a_result("one"))
    look = content.foreign

    def meanwhile(place: Path) -> str:
        found = look(place)
        (place / "jobs" / JOB.name / "notes").write_text("a day's work")
        return found

    monkeypatch.setattr(content, "foreign", meanwhile)
    [told] = resources.prune(nights, 1, "").troubles
    assert told == f"{made} is not removed: somebody has written to it meanwhile"
    assert (made / "jobs" / JOB.name / "notes").exists() and (made / "night.json").exists()


def test_all_that_a_night_writes_may_go_with_it(tmp_path: Path) -> None:
    """Every file that is written into a night by those who write it."""
    names = (JOB.name, *(f"k+a/x/{name}" for name in ("explore", "ablate", "malformed")))
    planned = tuple(JobRecord(replace(JOB, name=name), State.ENDED, "", 1) for name in names)
    night = a_night(NIGHTS[0], jobs=planned)
    made = keep(a_place(tmp_path / "nights"), NIGHTS[0], night)
    config = tmp_path / "config"
    config.write_text("CONFIG_X=y\n")
    kept = made / "inputs" / "k.x.config"
    with ours.replacing(ours.below(kept, made)) as file:
        shutil.copyfile(config, file)
    inputs.keep_series(made, JOB, Facts("k", "6.1", (a_patch("a/1.patch"), a_patch("series"))))
    log = jobs.log_of(made, JobRecord(JOB))
    ours.below(log, made).write_text("$ klp-e2e run\n")
    several = [a_result("one", Status.FAIL), a_result("one", Status.FAIL), a_result("two")]
    a_suite(log.with_suffix(""), a_run("one", "two"), *several)
    found = a_found_bundle(log.with_name("explore"))
    an_ablation(log.with_name("ablate"), ("x", TrialOutcome.CAUGHT, ""))
    a_suite(log.with_name("ablate") / "x" / "one", a_run("one"), a_result("one"))
    # an interrupted trial is in no list of trials, but in that of what was asked for
    a_suite(log.with_name("ablate") / CONTROL / "one", a_run("one"), a_result("one"))
    broken = log.with_name("malformed")
    failed = a_result("one", Status.FAIL, "target-first", "malformed/section-flag")
    a_suite(broken, a_run("one", command="malformed"), failed, failed)
    (broken / "modules/one/section-flag").mkdir(parents=True)
    (broken / "modules/one/section-flag/klp_patch.ko").write_text("")
    called = bundle.name("one", failed.case.module_set, failed.case.name)
    for _ in range(2):
        place = broken / "findings" / called
        shutil.copytree(found, place if not place.exists() else place.with_name(f"{called}-2"))
    tries = made / retry.RETRIES / JOB.name / retry.directory_name(ROW.case)
    ours.below(tries / "1.log", made).write_text("")
    a_suite(tries / "1", a_run("x"), a_result("x"))
    bisect = made / bisects.BISECTS / "01-ours"
    ours.below(bisect.with_name("01-ours.log"), made).write_text("")
    with store.claimed(bisect):
        a_suite(bisect / "00", a_run("x"), a_result("x"))
        a_suite(bisect / "0123456789ab", a_run("x"), a_result("x"))
        store.write(bisect / "bisect.log", "")
    work.report_again(made)
    (made / ".junit.xml.x1y2.partial").write_text("<")
    with ours.appearing(tmp_path / "a", ours.MarkKind.BUNDLE) as half:
        (half / "kernel").write_text("")
        shutil.copytree(half, log.with_name("explore") / "findings" / half.name)  # a kill leaves it
    assert content.foreign(made) == ""
    assert len(tree(made)) > 150
    assert inputs.known(made, JOB) == made / inputs.SERIES / "k+a.x"


def a_patch(name: str) -> Patch:
    return Patch(name, f"--- a/{name}\n+++ b/{name}\n@@ -1 +1 @@\n-a\n+b\n")


def test_the_patches_of_another_s_night_are_not_built(tmp_path: Path) -> None:
    made = keep(tmp_path, NIGHTS[0])
    inputs.keep_series(made, JOB, Facts("k", "6.1", (a_patch("1.patch"),)))
    kept = made / inputs.SERIES / "k+a.x"
    assert inputs.known(made, JOB) == kept
    shutil.move(kept, tmp_path / "mine")
    kept.symlink_to(tmp_path / "mine")
    assert inputs.known(made, JOB) is None
    kept.unlink()
    shutil.move(tmp_path / "mine", kept)
    no_mark(made)
    assert inputs.known(made, JOB) is None


# --- room on the disk ----------------------------------------------------------------------------

Usage = namedtuple("Usage", "total used free")
NIGHT_SIZE = 2 * workdir.GIB


class Disks:
    """The cache's and the nights', as far as `room` looks: bytes free on each, or on both."""

    def __init__(self, nights: Path, cache_free: float, free: float, same: bool) -> None:
        self.nights, self.cache_free, self.free, self.same = nights, cache_free, free, same

    def usage(self, path: Path) -> Usage:
        nights = sum(name.name in NIGHTS for name in self.nights.iterdir())
        free = self.free + (len(NIGHTS) - nights) * NIGHT_SIZE / workdir.GIB
        if path != self.nights and not self.same:
            free = self.cache_free
        return Usage(252 * workdir.GIB, 0, free * workdir.GIB)


@pytest.mark.parametrize(
    ("cache_free", "free", "same", "goal", "left", "why"),
    [
        (0.1, 61.0, False, 0.2, 5, "0.1 GiB free, and 0.2 are to stay free"),  # no help there
        (2000.0, 61.0, False, 1000.0, 5, "take too little to be of use"),  # nor anywhere
        (99.0, 0.0, False, 9.0, 5, "take too little to be of use"),  # four nights are 8 GiB
        (0.0, 0.0, True, 9.0, 5, "take too little to be of use"),
        (99.0, 0.0, False, 8.0, 1, ""),
        (0.0, 0.0, True, 3.0, 3, ""),
        (0.0, 5.0, False, 3.0, 5, "0.0 GiB free"),
        (99.0, 5.0, False, 3.0, 5, ""),
    ],
)
def test_nights_make_room_only_where_that_helps(
    cache_free: float,
    free: float,
    same: bool,
    goal: float,
    left: int,
    why: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nights = a_place(tmp_path / "nights")
    for name in NIGHTS:
        keep(nights, name)
    disks = Disks(nights, cache_free, free, same)
    monkeypatch.setenv("KLP_E2E_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(resources.shutil, "disk_usage", disks.usage)  # type: ignore[attr-defined]
    monkeypatch.setattr(pruning, "size", lambda path: NIGHT_SIZE)
    cache = workdir.cache_root()
    monkeypatch.setattr(resources, "disk", lambda path: 2 if path == cache and not same else 1)
    told = resources.make(nights, goal, NIGHTS[-1])
    assert (why in told) if why else told == ""
    assert [path.name for path in files.nights(nights)] == NIGHTS[5 - left :]


def test_strangers_do_not_count_as_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nights = a_place(tmp_path / "nights")
    for name in NIGHTS:
        notes(keep(nights, name))
    monkeypatch.setattr(
        resources, "lacks", lambda place, gib: resources.Short(resources.disk(place), 1.0, "no")
    )
    assert resources.make(nights, 1.0, "") == "no; older nights take too little to be of use"
    assert len(list(files.nights(nights))) == 5


def test_a_removal_that_frees_nothing_is_not_gone_on_with_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nights = a_place(tmp_path / "nights")
    for name in NIGHTS:
        keep(nights, name)
    monkeypatch.setattr(pruning, "size", lambda path: 10)
    monkeypatch.setattr(
        resources, "lacks", lambda place, gib: resources.Short(resources.disk(place), 25.0, "no")
    )
    assert "too little" in resources.make(nights, 1.0, NIGHTS[-1])
    assert [path.name for path in files.nights(nights)] == NIGHTS[2:], "two, and then 20 < 25"


def test_more_than_the_disk_has_cannot_stay_free(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"keep_free = 1e\+09: the disk of .* GiB in all"):
        resources.possible(tmp_path / "none" / "nights", 1e9)
    resources.possible(tmp_path, 0.0)


# --- the place of nights -------------------------------------------------------------------------


def options(nights: Path, file: Path, *, wait: bool = False) -> NightOptions:
    config = Config((Matrix(("debian:6.1",), ("none",), ("x",)),), keep_free=0.0)
    return NightOptions(file, config, (), nights, resume="", wait=wait, notify="")


@pytest.mark.parametrize(
    "fill",
    [
        lambda home: (home / "thesis").write_text("x"),
        lambda home: (home / "index.html").write_text(HOME),
        lambda home: (home / NAME).write_text("my history"),
        lambda home: keep(home, "a-x", a_night("a-x"), mark=False),
        lambda home: [keep(home, NIGHTS[0], mark=False), (home / "thesis").write_text("x")],
        lambda home: keep(home, NIGHTS[0], a_night(NIGHTS[1]), mark=False),
        lambda home: ours.mark(home, ours.MarkKind.RESULTS),
    ],
)
def test_a_full_directory_is_no_place_of_nights(
    fill: Callable[[Path], object], tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    fill(home)
    before = tree(home)
    with pytest.raises(ours.NotOurs) as told:
        work.run_night(options(home, tmp_path / "n.toml"), Reporter(Terminal(quiet=True)))
    assert told.value.exit_code == Exit.USAGE and "-o DIR" in told.value.hint
    assert tree(home) == before


TOML = '[[matrix]]\nkernels = ["debian:6.1"]\nseries = ["none"]\n'


@pytest.mark.parametrize(
    ("head", "more", "told"),
    [
        ("keep_free = 0.0\n", ["-o", "home"], "by klp-e2e for its nights, and is not empty"),
        (
            "keep_free = 0.0\n",
            ["--resume", f"home/{NIGHTS[0]}"],
            "was not made by klp-e2e for its nights",
        ),
        ("keep_free = 1e9\n", ["-o", "home"], "GiB in all"),
        ("keep_free = 1e9\n", ["-o", "home", "--dry-run"], "GiB in all"),
        ("", ["--resume", "home"], "home is no night: it has no night.json"),
        ("", ["--resume", "n.toml"], "n.toml is no night"),
        ("", ["--resume", "none/x"], "none/x is no night"),
        ("", ["-o", "home", "--resume", f"home/{NIGHTS[0]}"], "-o exclude each other"),
        ("", ["-o", "home", "--resume"], "--resume names no directory"),
        ("", ["--resume", "--wait"], "--resume names no directory"),
    ],
)
def test_a_night_that_cannot_be_touches_nothing(
    head: str, more: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    home = tmp_path / "home"
    home.mkdir()
    (home / "index.html").write_text(HOME)
    notes(keep(home, NIGHTS[0]))
    (tmp_path / "n.toml").write_text(head + TOML)
    before = tree(tmp_path)
    code, _, output = klp("nightly", tmp_path / "n.toml", *more)
    assert code == Exit.USAGE and told in output
    assert tree(tmp_path) == before


def test_a_plan_only_reads(tmp_path: Path) -> None:
    home = tmp_path / "home"
    keep(home, NIGHTS[0])
    (home / NAME).write_text("mine")
    (tmp_path / "n.toml").write_text(TOML)
    before = tree(tmp_path)
    for place_ in (home, tmp_path / "none"):
        code, *_ = klp("nightly", tmp_path / "n.toml", "-o", place_, "--dry-run")
        assert code == Exit.GOOD
    assert tree(tmp_path) == before


def test_two_nights_of_two_machines_are_not_held_in_one_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The retention of one would take the other, which has just begun."""
    nights = a_place(tmp_path / "nights")
    (tmp_path / "n.toml").write_text("keep_free = 0.0\n" + TOML)
    monkeypatch.setenv("KLP_E2E_STATE", str(tmp_path / "one"))
    with resources.alone(nights, False, print):
        monkeypatch.setenv("KLP_E2E_STATE", str(tmp_path / "another"))
        code, _, output = klp("nightly", tmp_path / "n.toml", "-o", nights)
    assert code == Exit.HARNESS and f"another night runs in {nights}" in output
    assert {path.name for path in nights.iterdir()} == {ours.MARK, f"{resources.LOCK}.lock"}


def test_a_job_that_leads_elsewhere_is_not_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KLP_E2E_STATE", str(tmp_path / "state"))
    (tmp_path / "victim2").mkdir()
    (tmp_path / "victim2" / "thesis").write_text("x")
    evil = JobRecord(replace(JOB, name="../../../victim2", command=EVIL))
    nights = a_place(tmp_path / "nights")
    keep(nights, NIGHTS[0], a_night(NIGHTS[0], (), finished=None, jobs=(evil,)))
    (nights / f"{resources.LOCK}.lock").touch()
    (tmp_path / "n.toml").write_text("keep_free = 0.0\n" + TOML)
    before = tree(nights), tree(tmp_path / "victim2")
    code, _, output = klp("nightly", tmp_path / "n.toml", "--resume", nights / NIGHTS[0])
    assert code == Exit.USAGE and "'../../../victim2' is no name of a job" in output
    assert (tree(nights), tree(tmp_path / "victim2")) == before


def test_a_new_or_empty_directory_is_taken(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for nights in (tmp_path / "empty", tmp_path / "a" / "new"):
        assert place.claim(nights) == ""
        assert ours.marked(nights, ours.MarkKind.NIGHTS)
        assert place.claim(nights) == "", "and again"


def older_nights(home: Path) -> None:
    keep(home, NIGHTS[0], mark=False)
    (home / "index.html").write_text(
        '<!DOCTYPE html><head><meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; base-uri 'none'\">\n<title>klp-e2e: 2 nights</title></head>"
    )


def a_history(home: Path) -> None:
    home.mkdir()
    (home / "thesis").write_text("x")
    with History(home / NAME):
        pass


@pytest.mark.parametrize("fill", [older_nights, a_history])
def test_what_an_older_one_made_is_adopted_and_said(
    fill: Callable[[Path], None], tmp_path: Path
) -> None:
    fill(tmp_path / "nights")
    assert "of an older klp-e2e" in place.claim(tmp_path / "nights")
    assert ours.marked(tmp_path / "nights", ours.MarkKind.NIGHTS)
    assert place.claim(tmp_path / "nights") == ""


def test_a_mail_is_sent_whatever_is_wrong_with_old_nights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nights = a_place(tmp_path / "nights")
    archive = keep(tmp_path, NIGHTS[0])
    (nights / NIGHTS[0]).symlink_to(archive)
    notes(keep(nights, NIGHTS[1]))
    keep(nights, NIGHTS[2])
    made = keep(nights, NIGHTS[3])
    monkeypatch.setenv("KLP_E2E_STATE", str(tmp_path / "state"))

    class Done:
        """A night without work."""

        place, night = made, a_night(NIGHTS[3])

        def run_jobs(self, guests: int) -> None: ...

        def end(self, trouble: str) -> None: ...

    monkeypatch.setattr(work, "_night_run", lambda *_: Done())
    wanted = options(nights, tmp_path / "n.toml")
    wanted = replace(
        wanted, config=replace(wanted.config, keep_nights=1), notify=f"cat >{tmp_path}/sent"
    )
    ended = work.run_night(wanted, Reporter(Terminal(quiet=True)))
    assert (tmp_path / "sent").read_text().startswith("Subject: ")
    why = "it holds notes.txt, which klp-e2e did not write"
    assert ended.troubles[-1] == f"{nights / NIGHTS[1]} is not removed: {why}"
    left = {path.name for path in nights.iterdir() if path.is_dir()}
    assert left == {NIGHTS[0], NIGHTS[1], NIGHTS[3]} and (archive / files.NIGHT).exists()


def test_a_part_removes_no_old_night(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a place that several machines share none of them knows what the others need."""
    nights = a_place(tmp_path / "nights")
    kept = [keep(nights, name) for name in NIGHTS[:3]]
    made = keep(nights, "part-x")
    monkeypatch.setenv("KLP_E2E_STATE", str(tmp_path / "state"))

    class Done:
        """A part without work."""

        place, night = made, a_night("part-x")

        def run_jobs(self, guests: int) -> None: ...

        def end(self, trouble: str) -> None: ...

    monkeypatch.setattr(work, "_night_run", lambda *_: Done())
    wanted = options(nights, tmp_path / "n.toml")
    wanted = replace(wanted, config=replace(wanted.config, keep_nights=1), only=("*",))
    work.run_night(wanted, Reporter(Terminal(quiet=True)))
    assert all(path.is_dir() for path in kept)
    work.run_night(replace(wanted, only=()), Reporter(Terminal(quiet=True)))
    assert not any(path.is_dir() for path in kept), "a whole night does"


# --- the report ----------------------------------------------------------------------------------


def test_a_night_s_name_leads_nowhere(tmp_path: Path) -> None:
    victim = keep(tmp_path / "trav", "victim", mark=False)
    keep(tmp_path / "trav" / "nights", "n1", a_night("../victim"), mark=False)
    (victim / "junit.xml").write_text("mine")
    before = tree(tmp_path)
    code, _, told = klp("report", tmp_path / "trav" / "nights" / "n1")
    assert code == Exit.USAGE and "'../victim' is no name of a night" in told
    assert tree(tmp_path) == before


def test_beside_a_home_page_only_the_night_is_written(tmp_path: Path) -> None:
    www = tmp_path / "www"
    made = keep(www, NIGHTS[0], mark=False)
    (www / "index.html").write_text(HOME)
    (www / "papers").mkdir()
    code, *_ = klp("report", made)
    assert code == Exit.TEST_FAILURE
    assert (www / "index.html").read_text() == HOME
    assert {path.name for path in www.iterdir()} == {"index.html", "papers", NIGHTS[0]}
    assert site.is_ours(made / "index.html")
    assert klp("report", made)[0] == Exit.TEST_FAILURE, "and once more"


def test_a_night_of_a_place_of_ours_is_listed(tmp_path: Path) -> None:
    nights = a_place(tmp_path / "nights")
    made = keep(nights, NIGHTS[0])
    assert klp("report", made)[0] == Exit.TEST_FAILURE
    assert NIGHTS[0] in (nights / "index.html").read_text()
    assert site.is_ours(nights / "index.html")
    with History(nights / NAME, reading=True) as history:
        assert history.names() == (NIGHTS[0],)
    (nights / "index.html").write_text(HOME)
    ended = work.report_again(made)
    assert "was not written by klp-e2e, and stays" in ended.troubles[0]
    assert (nights / "index.html").read_text() == HOME


def test_a_night_that_was_renamed_is_reported_where_it_lies(tmp_path: Path) -> None:
    nights = a_place(tmp_path / "nights")
    made = keep(nights, "before-the-rebase", a_night(NIGHTS[0]))
    assert klp("report", made)[0] == Exit.TEST_FAILURE
    assert "before-the-rebase" in (made / "index.html").read_text()
    assert {path.name for path in nights.iterdir()} == {ours.MARK, "before-the-rebase"}


@pytest.mark.parametrize("name", ["index.html", "junit.xml", "summary.md", "mail.txt"])
def test_files_in_an_unmarked_night_that_nobody_vouches_for_stay(name: str, tmp_path: Path) -> None:
    made = keep(tmp_path, NIGHTS[0], mark=False)
    (made / name).write_text("mine")
    before = tree(tmp_path)
    code, _, told = klp("report", made)
    assert code == Exit.USAGE and "nothing says that klp-e2e wrote it" in told
    assert tree(tmp_path) == before


def test_a_report_is_not_written_through_links(tmp_path: Path) -> None:
    made = keep(tmp_path / "nights", NIGHTS[0], mark=False)
    (tmp_path / "victim").mkdir()
    (made / "index.html").write_text(f"<head>{site.GENERATOR}</head>")
    (made / "cases").symlink_to(tmp_path / "victim")
    code, _, told = klp("report", made)
    assert code == Exit.USAGE and "leads elsewhere" in told
    assert not list((tmp_path / "victim").iterdir())


def test_the_history_of_another_program_stays_beside_a_report(tmp_path: Path) -> None:
    made = keep(tmp_path, NIGHTS[0])
    (tmp_path / NAME).write_text("not ours")
    assert klp("report", made)[0] == Exit.TEST_FAILURE
    assert (tmp_path / NAME).read_text() == "not ours"
    with pytest.raises(NoHistory), History(tmp_path / NAME):
        pass
    assert klp("history", "-o", tmp_path)[0] == Exit.HARNESS


# --- what is begun -------------------------------------------------------------------------------


def planned(*records: JobRecord) -> Night:
    return a_night(NIGHTS[0], (), finished=None, jobs=records)


EVIL = ("run", "--arch-file", "/evil.toml", "--kernel", "k")


def test_of_a_night_that_goes_on_only_states_are_taken() -> None:
    now = replace(JOB, estimate=9.0, why="new")
    held = planned(JobRecord(replace(JOB, estimate=1e9), State.ENDED, "", 1, 5.0, 6.0))
    held = replace(held, rows=(ROW,))
    found = work.resumed(planned(JobRecord(now)), held)
    assert found.jobs == (JobRecord(now, State.ENDED, "", 1, 5.0, 6.0),)
    assert found.rows == (ROW,) and found.finished is None


@pytest.mark.parametrize(
    "job",
    [
        replace(JOB, command=EVIL),
        replace(JOB, name="../../../victim2"),
        replace(JOB, source="dir:/evil", command=(*WORDS[:4], "dir:/evil", *WORDS[5:])),
        replace(JOB, kind=JobKind.BUILD),
        replace(JOB, series=("evil",)),
    ],
)
def test_a_night_with_other_jobs_than_the_plan_is_not_gone_on_with(job: Job) -> None:
    with pytest.raises(UsageError, match="is not what night 2026-01-01-020000 was begun with"):
        work.resumed(planned(JobRecord(JOB)), planned(JobRecord(job)))
    with pytest.raises(UsageError, match="begun with"):
        work.resumed(planned(JobRecord(JOB)), planned(JobRecord(JOB), JobRecord(job)))
    with pytest.raises(UsageError, match="begun with"):
        work.resumed(planned(JobRecord(JOB)), planned())


def test_of_a_source_only_the_commit_of_the_same_branch_is_taken() -> None:
    branch = plan.pinned(JOB, "git:url#main")
    commit = "0123456789" * 4
    assert plan.as_begun(branch, None) == branch
    assert plan.as_begun(branch, plan.pinned(JOB, f"git:url#{commit}")).source == (
        f"git:url#{commit}"
    )
    for source in (
        *(f"git:evil#{commit}", "git:url#evil", f"git:url#{commit}#x", f"git:url#{commit}\n"),
        *("git:url", "dir:url#x", f"dir:url#{commit}", "git:url#--upload-pack=evil"),
    ):
        assert plan.as_begun(branch, plan.pinned(JOB, source)) == branch
    local = plan.pinned(JOB, f"dir:a#{commit}")
    assert plan.as_begun(local, plan.pinned(JOB, f"dir:a#{commit[::-1]}")) == local


@pytest.mark.parametrize("mark", [True, False])
def test_only_a_night_that_was_begun_here_is_gone_on_with(mark: bool, tmp_path: Path) -> None:
    nights = a_place(tmp_path / "nights")
    keep(nights, NIGHTS[0], a_night(NIGHTS[0 if not mark else 1], finished=None), mark=mark)
    with pytest.raises(UsageError, match="was not begun here"):
        work._unfinished(nights, NIGHTS[0])


def test_only_the_newest_night_is_gone_on_with_and_only_once(tmp_path: Path) -> None:
    nights = a_place(tmp_path / "nights")
    with pytest.raises(UsageError, match="there is no night"):
        work._unfinished(nights, NIGHTS[0])
    for name in NIGHTS[:2]:
        keep(nights, name, a_night(name, finished=None))
    assert work._unfinished(nights, NIGHTS[1]).name == NIGHTS[1]
    with pytest.raises(UsageError, match=f"{NIGHTS[1]} is the newest night there"):
        work._unfinished(nights, NIGHTS[0])
    keep(nights, NIGHTS[2], a_night(NIGHTS[2]))
    with pytest.raises(UsageError, match="it has ended"):
        work._unfinished(nights, NIGHTS[2])


def test_a_job_s_place_is_the_night_s_or_nothing_is_removed(tmp_path: Path) -> None:
    made = keep(tmp_path / "nights", NIGHTS[0])
    victim = tmp_path / "victim"
    (victim / "core").mkdir(parents=True)
    (victim / "core" / "thesis").write_text("x")
    (made / "jobs" / "k+a").mkdir(parents=True)
    (made / "jobs" / "k+a" / "x").symlink_to(victim)
    before = tree(tmp_path)
    with pytest.raises(ours.NotOurs):
        jobs.command(made, JobRecord(JOB))
    with pytest.raises(ours.NotOurs):
        jobs.carry_out(made, ["--version"], jobs.log_of(made, JobRecord(JOB)), EVENT, None)
    assert tree(tmp_path) == before
    (made / "jobs" / "k+a" / "x").unlink()
    (made / "jobs" / "k+a" / "x").mkdir()
    (made / "jobs" / JOB.name).symlink_to(victim / "core")
    with pytest.raises(ours.NotOurs):
        jobs.command(made, JobRecord(JOB))
    assert (victim / "core" / "thesis").exists()


def test_a_job_s_log_that_is_a_fifo_hangs_nothing(tmp_path: Path) -> None:
    made = keep(tmp_path, NIGHTS[0])
    log = jobs.log_of(made, JobRecord(JOB))
    log.unlink(missing_ok=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(log)
    with pytest.raises(HarnessError, match="No such device"):
        jobs.carry_out(made, ["--version"], log, EVENT, None)


def test_a_disk_that_is_full_when_a_job_begins_is_no_mistake_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    made = keep(tmp_path, NIGHTS[0])
    monkeypatch.setattr("orchestrator.host.process.start", full)
    with pytest.raises(HarnessError, match="No space left"):
        jobs.carry_out(made, ["--version"], jobs.log_of(made, JobRecord(JOB)), EVENT, None)


def test_links_in_a_circle_are_no_place_of_nights(tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(ours.NotOurs, match="leads nowhere"):
        place.claim(tmp_path / "circle")
    with pytest.raises(OSError, match="exists"):
        place.claim(tmp_path / "circle" / "nights")


EVENT = threading.Event()


@pytest.mark.parametrize(
    ("changed", "sets", "goes_on"),
    [
        ({}, ("basic",), True),
        ({"kernels": a_run("one").kernels}, ("basic", "callbacks"), True),
        ({}, ("/evil/set",), False),
        ({"source": "dir:/evil"}, ("basic",), False),
        ({"kernels": (replace(a_run("one").kernels[0], source="dir:/evil"),)}, (), False),
        ({"series": ("/evil",)}, ("basic",), False),
        ({"options": {"arches": "two"}}, ("basic",), False),
        ({"options": {}}, ("basic",), False),
        ({"arch_files": {"one": "/evil.toml"}}, ("basic",), False),
        ({"options": {"arches": "one", "patches": "/evil"}}, ("basic",), False),
    ],
)
def test_an_exploration_is_gone_on_with_only_as_the_job_is(
    changed: dict[str, object], sets: tuple[str, ...], goes_on: bool, tmp_path: Path
) -> None:
    made = keep(tmp_path, NIGHTS[0])
    words = ("explore", "--arch", "one", "--kernel", "debian:6.1", "--series", "livepatch-reload")
    job = replace(
        JOB,
        kind=JobKind.EXPLORE,
        source="debian:6.1",
        series=("livepatch-reload",),
        command=(*words, "--modules", "all", "--budget", "20m"),
        arch_spec="one",
        module_sets=("all",),
    )
    place_ = jobs.directory_of(made, JobRecord(job))
    run = replace(a_run("one", command="explore"), kernels=(), options={"arches": "one"})
    run = replace(run, **changed)  # type: ignore[arg-type]  # fields by name, from tests only
    explorejson.ExploreDirectory(
        place_, explorejson.ExploreDocument(1, run, CampaignOptions(depth=4), sets, Channel.AGENT)
    )
    found = jobs.command(made, JobRecord(job))
    anew = (*job.command, "-o", str(place_))
    named = tuple(
        itertools.chain.from_iterable(p for p in pairwise(job.command) if p[0] in OPTIONS)
    )
    assert found == (("explore", *named, "--resume", str(place_)) if goes_on else anew)
    assert place_.exists() is goes_on


def test_a_job_repeats_what_its_matrix_has_from_outside(tmp_path: Path) -> None:
    made = keep(tmp_path, NIGHTS[0])
    outside = ("--kernel", "dir:/linux", "--series", "/fixes")
    job = replace(
        JOB,
        kind=JobKind.EXPLORE,
        source="dir:/linux",
        series=("/fixes",),
        command=("explore", "--arch", "one", *outside, "--depth", "4"),
        arch_spec="one",
        module_sets=("basic",),
    )
    place_ = jobs.directory_of(made, JobRecord(job))
    run = replace(a_run("one", command="explore"), kernels=(), options={"arches": "one"})
    run = replace(run, source=job.source, series=job.series)
    explorejson.ExploreDirectory(
        place_,
        explorejson.ExploreDocument(1, run, CampaignOptions(depth=4), ("basic",), Channel.AGENT),
    )
    expected = ("explore", "--arch", "one", *outside, "--resume", str(place_))
    assert jobs.command(made, JobRecord(job)) == expected


def test_what_is_begun_anew_takes_no_results_and_no_notes_away(tmp_path: Path) -> None:
    made = keep(tmp_path, NIGHTS[0])
    place_ = jobs.directory_of(made, JobRecord(JOB))
    case = retry.RETRIES / JOB.name / retry.directory_name(ROW.case)
    (place_ / "x").mkdir(parents=True, exist_ok=True)
    (place_ / "x" / "notes").write_text("a day's work")
    (place_ / "results.json").write_text('{"schema": 99}')  # of a newer klp-e2e
    jobs.command(made, JobRecord(JOB))
    (aside,) = place_.parent.glob(f"{place_.name}.unreadable-*")
    assert (aside / "x" / "notes").exists() and (aside / "results.json").exists()
    place_.mkdir()
    (place_ / store.LOCK).touch()
    jobs.command(made, JobRecord(JOB))
    assert not place_.exists() and len([*place_.parent.glob("*.unreadable-*")]) == 1
    (made / case / "1").mkdir(parents=True)
    (made / case / "1" / "notes").write_text("a day's work")
    assert not list(retry.tries(made, JOB, ROW, 2, lambda words, log: False))
    (aside,) = (made / case).glob("1.interrupted-*")
    assert (aside / "notes").exists() and not (made / case / "1").exists()
    (made / case / "1").write_text("a day's work")
    assert not list(retry.tries(made, JOB, ROW, 2, lambda words, log: False))
    assert [path.read_text() for path in (made / case).glob("1.*-*") if path.is_file()] == [
        "a day's work"
    ]
    place_.write_text("a day's work")
    jobs.command(made, JobRecord(JOB))
    assert "a day's work" in [p.read_text() for p in place_.parent.iterdir() if p.is_file()]


def test_what_was_left_in_a_night_without_mark_is_not_removed(tmp_path: Path) -> None:
    made = keep(tmp_path, NIGHTS[0], mark=False)
    (made / "jobs" / JOB.name).mkdir(parents=True)
    (made / "jobs" / JOB.name / "thesis").write_text("x")
    with pytest.raises(ours.NotOurs):
        jobs.command(made, JobRecord(JOB))
    left = made / retry.RETRIES / JOB.name / retry.directory_name(ROW.case) / "1"
    left.mkdir(parents=True)
    (left / "thesis").write_text("x")
    with pytest.raises(ours.NotOurs):
        list(retry.tries(made, JOB, ROW, 2, lambda words, log: True))
    assert (left / "thesis").exists()


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (ROW, "run --arch x --kernel k --series a --modules basic --order +klp_patch"),
        (
            replace(ROW, reproduce="evil --arch-file /evil.toml --kernel dir:/evil -o /victim"),
            "run --arch x --kernel k --series a --modules basic --order +klp_patch",
        ),
        (replace(ROW, module_set="/evil/"), ""),
        (replace(ROW, module_set="nobody-s"), ""),
        (replace(ROW, kind=CaseKind.SELFTEST), ""),
        (replace(ROW, kind=CaseKind.MALFORMED), ""),
        (replace(ROW, kind=None), ""),
    ],
)
def test_of_a_row_only_what_names_the_case_is_begun(row: Row, words: str) -> None:
    assert " ".join(retry.words(JOB, row)) == words


@pytest.mark.parametrize(
    ("kind", "of", "words"),
    [
        (CaseKind.SELFTEST, JobKind.KSELFTEST, ("kselftest", ("--test", "one"))),
        (CaseKind.MALFORMED, JobKind.MALFORMED, ("malformed", ("--only", "symbol-missing/one"))),
    ],
)
def test_each_kind_of_case_has_its_own_command(
    kind: CaseKind, of: JobKind, words: tuple[str, tuple[str, str]]
) -> None:
    row = replace(ROW, kind=kind, module_set="malformed/symbol-missing", order="")
    found = retry.words(replace(JOB, kind=of), row)
    assert (found[0], found[-2:]) == words


def test_a_module_set_of_the_matrix_itself_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    own = replace(JOB, module_sets=("in/own",))
    row = replace(ROW, module_set=f"{tmp_path}/in/own", order="+m")
    assert retry.words(own, row)[-4:] == ("--modules", f"{tmp_path}/in/own", "--order", "+m")
    assert retry.words(JOB, row) == ()


def test_cases_of_one_name_in_paths_are_tried_apart() -> None:
    names = {
        retry.directory_name(case) for case in ("a/b", "a b", "a-b", "..", "x" * 300, "x" * 301)
    }
    assert len(names) == 6 and all("/" not in name and len(name) < 100 for name in names)


# --- what is shown -------------------------------------------------------------------------------


def test_what_links_lead_to_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("the secret")
    case = "jobs/k+a/x/core/x/basic.one"
    made = keep(tmp_path / "nights", NIGHTS[0], a_night(NIGHTS[0], [replace(ROW, directory=case)]))
    (made / case).mkdir(parents=True)
    (made / case / "console.log").symlink_to(tmp_path / "secret")
    (made / case / "result.json").symlink_to(tmp_path / "secret")
    work.report_again(made)
    [page] = (made / "cases").iterdir()
    assert "the secret" not in page.read_text() and "console.log" not in page.read_text()


@pytest.mark.parametrize(
    "named", ["x/basic.one", "a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p/q/r/s", "", ".."]
)
def test_a_case_that_says_it_lies_elsewhere_is_told(
    named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = "jobs/k+a/x/core/x/basic.two"
    made = keep(tmp_path / "nights", NIGHTS[0], a_night(NIGHTS[0], [replace(ROW, directory=case)]))
    (made / case).mkdir(parents=True)
    (made / case / "result.json").write_text("{}")

    class Case:
        directory = named

    monkeypatch.setattr(store, "load_document", lambda *_: Case())
    monkeypatch.setattr(files, "document", lambda place: a_night(NIGHTS[0]))
    monkeypatch.setattr(
        files, "read", lambda place: a_night(NIGHTS[0], [replace(ROW, directory=case)])
    )
    work.report_again(made)
    [page] = (made / "cases").iterdir()
    assert "another directory" in page.read_text()


def test_a_directory_called_like_a_night_replaces_nothing_in_the_history(tmp_path: Path) -> None:
    nights = a_place(tmp_path / "nights")
    made = keep(nights, NIGHTS[0])
    work.report_again(made)
    good = (replace(ROW, status=Status.PASS),)
    for copy in ({"host": "another"}, {"started": 1.0}):
        shutil.rmtree(made)
        keep(nights, NIGHTS[0], a_night(NIGHTS[0], good, **copy), mark="started" in copy)
        [told] = work.report_again(made).troubles
        assert told.startswith(f"{nights / NAME} knows a night {NIGHTS[0]}, which stays there")
        with History(nights / NAME) as history:
            assert history.totals()[0].counts == {Status.FAIL: 1}
            assert "host" in copy or history.rebuild(nights).unreadable
    shutil.rmtree(made)
    keep(nights, NIGHTS[0], mark=False)  # of an older klp-e2e: the same
    (nights / NAME).unlink()
    assert not any("stays there" in told for told in work.report_again(made).troubles)


def test_a_bundle_of_holes_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, bench = tmp_path / "bundle", bundle_samples.a_bench(tmp_path / "bench")
    bundle.write(place, bench, bundle_samples.a_result(bundle_samples.ANSWER), (1, 1))
    assert not record.foreign(place)
    monkeypatch.setattr(record, "MOST_TOTAL", 1 << 20)
    os.truncate(place / "console.log", 2 << 20)

    def read(path: Path) -> str:
        raise AssertionError(path)

    monkeypatch.setattr(workdir, "file_digest", read)
    assert [*record.written(place, record.load_record(place))] == []
    with pytest.raises(UsageError, match="its files are more than"):
        record.check_files(place, record.load_record(place), ())
    assert not record.as_written(place) and record.foreign(place)


SKIPPED = JobRecord(replace(JOB, name="k/x/more"), State.SKIPPED, "it is gone", skip=Skip.SOURCE)


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"rows": (replace(ROW, status=Status.PASS),)}, Exit.GOOD),
        ({}, Exit.TEST_FAILURE),
        ({"rows": (replace(ROW, status=Status.ERROR),)}, Exit.HARNESS),
        ({"rows": ()}, Exit.TEST_FAILURE),  # its job ended so
        ({"rows": (replace(ROW, status=Status.PASS),), "trouble": "interrupted"}, Exit.INTERRUPTED),
        (
            {
                "jobs": (JobRecord(JOB, State.ENDED, "", 0), SKIPPED),
                "rows": (replace(ROW, status=Status.PASS),),
            },
            Exit.HARNESS,
        ),
    ],
)
def test_page_mail_terminal_and_exit_code_agree(
    changed: dict[str, object], code: Exit, tmp_path: Path
) -> None:
    ok = {"jobs": (JobRecord(JOB, State.ENDED, "", 0),)} if code != Exit.TEST_FAILURE else {}
    night = a_night(NIGHTS[0])
    night = replace(night, **{**ok, **changed})  # type: ignore[arg-type]  # fields by name
    made = keep(tmp_path, NIGHTS[0], night)
    ended = work.report_again(made)
    told = ended.digest
    assert told.exit_code is code
    assert (told.headline == "all good") is (code is Exit.GOOD)
    assert (made / "mail.txt").read_text().startswith(f"Subject: klp-e2e: {told.headline}")
    line = f"{told.headline[:1].upper()}{told.headline[1:]}"
    assert f"<h1>{line}</h1>" in (made / "index.html").read_text()
    assert f"Subject: klp-e2e: {told.headline}" in plain(text.night(ended))
    assert (made / "summary.md").read_text().startswith(f"## klp-e2e: {told.headline}")
