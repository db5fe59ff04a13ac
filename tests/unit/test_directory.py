# SPDX-License-Identifier: GPL-2.0-only
"""Directories of results: nothing of anybody else's is removed, written over or written through,
and only what asks the very same goes on in one."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import bundle_samples
import pytest
from samples import klp
from test_report import RELOAD, a_case, a_result, a_run

from orchestrator import catalog
from orchestrator.cli import options
from orchestrator.commands.mutate import work
from orchestrator.commands.run import work as run_work
from orchestrator.errors import Exit, UsageError
from orchestrator.history import results
from orchestrator.host import locks, ours
from orchestrator.model import orders
from orchestrator.model.culprit import SUSPECT
from orchestrator.nouns import BuiltModule, BuiltSet, ModuleSpec
from orchestrator.plain import excerpt
from orchestrator.port.card import ReportCard
from orchestrator.report import (
    cardjson,
    directory,
    prefixes,
    store,
    trialsjson,
    trialstext,
    verdict,
)
from orchestrator.report.cardjson import CardDirectory
from orchestrator.report.directory import ResultsDirectory
from orchestrator.report.explorejson import ExploreDirectory
from orchestrator.report.progress import Reporter
from orchestrator.report.terminal import Terminal
from orchestrator.report.trialsjson import TriedDirectory
from orchestrator.source.alterations import AlterationKind
from orchestrator.trials import Trial
from orchestrator.verdicts import CaseResult, GuestRecord, Run, Status


def snapshot(place: Path) -> dict[str, str]:
    """Everything below a directory: links as they are, of files what is in them."""
    found = {}
    for path in sorted(place.rglob("*")):
        name = path.relative_to(place).as_posix()
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        elif path.is_file():
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            found[name] = "directory"
    return found


RUN = a_run(2, finished=None)


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """Results of one case of two, interrupted."""
    place = tmp_path / "r"
    with ResultsDirectory(place, RUN) as writer:
        writer.add(a_result(Status.PASS))
    return place


def gone_on(place: Path, run: Run = RUN) -> ResultsDirectory:
    return ResultsDirectory(place, run, resume=True)


def test_a_case_without_a_verdict_runs_again_in_its_old_place(tmp_path: Path) -> None:
    """Its QEMU was killed, or the disk full: that said nothing."""
    place = tmp_path / "r"
    namesakes = [replace(a_result(Status.ERROR), console="killed"), a_result(Status.PASS)]
    with ResultsDirectory(place, RUN) as writer:
        for result in namesakes:  # of one name, in two directories
            writer.add(result)
    with gone_on(place) as writer:
        assert [each.status for each in writer.results] == [Status.PASS]
        writer.add(replace(a_result(Status.FAIL), console="seen"))
    assert (place / "s390x" / "basic.reload" / "console.log").read_text() == "seen"
    _, found = directory.read(place)
    assert [each.status for each in found] == [Status.PASS, Status.FAIL]


def test_a_case_that_is_judged_again_is_written_anew_everywhere(tmp_path: Path) -> None:
    place = tmp_path / "r"
    with ResultsDirectory(place, replace(RUN, planned=2)) as writer:
        bad = writer.add(a_result(Status.FAIL))
        good = writer.add(a_result(Status.PASS, case=a_case("other", "+klp_patch")))
        why = "probe 'show' never showed it"
        writer.judge_again([replace(bad, status=Status.ERROR, culprit=why, reason=why), good])
    run, results = directory.read(place)
    assert [(r.status, r.culprit) for r in results] == [(Status.ERROR, why), (Status.PASS, "")]
    assert verdict.results_exit_code(run, results) is Exit.HARNESS
    summary = f"{SUSPECT}: 1 case"
    assert summary in verdict.results_summary(run, results)
    assert summary in (place / "results.ktap").read_text()
    junit = (place / "junit.xml").read_text()
    assert '<property name="culprit" value="probe \'show\' never showed it"' in junit
    case = json.loads((place / "s390x" / "basic.reload" / "result.json").read_text())
    assert (case["status"], case["culprit"]) == ("ERROR", why)


@pytest.mark.parametrize("name", ["note", "klp_mended.ko"])
def test_what_somebody_put_beside_a_case_that_runs_again_stays(tmp_path: Path, name: str) -> None:
    place = tmp_path / "r"
    with ResultsDirectory(place, RUN) as writer:
        writer.add(a_result(Status.ERROR))
    note = place / "s390x" / "basic.reload" / name
    note.write_text("thesis")
    assert directory.strangers(place) == [note]
    with pytest.raises(UsageError), gone_on(place) as writer:
        writer.add(a_result(Status.FAIL))
    assert note.read_text() == "thesis"


# --- what is not its own --------------------------------------------------------------------------


def notes(case: Path) -> None:
    (case.parent / "my-notes").mkdir()
    (case.parent / "my-notes" / "thesis.txt").write_text("thesis")


def empty_notes(case: Path) -> None:
    (case.parent / "basic.half").mkdir()
    (case.parent / "basic.half" / "dmesg").touch()
    (case.parent / "basic.half" / "notes.txt").touch()


def saved(case: Path) -> None:
    shutil.copytree(case, case.with_name(f"{case.name}.saved"))


def linked_case(case: Path) -> None:
    elsewhere = case.parents[2] / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "dmesg").touch()
    (case.parent / "basic.half").symlink_to(elsewhere)


def linked_file(case: Path) -> None:
    (case.parents[2] / "theirs").write_text("thesis")
    (case.parent / "basic.half").mkdir()
    (case.parent / "basic.half" / "dmesg").symlink_to(case.parents[2] / "theirs")


def linked_arch(case: Path) -> None:
    elsewhere = case.parents[2] / "elsewhere"
    case.parent.rename(elsewhere)
    (elsewhere / "basic.half").mkdir()
    case.parent.symlink_to(elsewhere)


@pytest.mark.parametrize("put", [notes, empty_notes, saved, linked_case, linked_file, linked_arch])
def test_going_on_removes_nothing_of_others(
    begun: Path, tmp_path: Path, put: Callable[[Path], None]
) -> None:
    put(begun / "s390x" / "basic.reload")
    before = snapshot(tmp_path)
    with pytest.raises(UsageError):
        gone_on(begun)
    assert snapshot(tmp_path) == before


CHANGES: dict[str, Callable[[Any, str], object]] = {
    "kernel": lambda told, name: told["run"]["kernels"][0].update(arch=name),
    "case": lambda told, name: told["cases"][0].update(arch=name),
    "file": lambda told, name: told["run"]["arch_files"].update({name: "x"}),
    "directory": lambda told, name: told["cases"][0].update(directory=f"{name}/../../beside"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "/etc", "a b", "-x"])
def test_a_name_that_no_architecture_has_is_refused_where_it_is_read(
    begun: Path, tmp_path: Path, name: str, change: str
) -> None:
    told = json.loads((begun / "results.json").read_text())
    CHANGES[change](told, name)
    (begun / "results.json").write_text(json.dumps(told))
    (tmp_path / "beside").mkdir()
    before = snapshot(tmp_path)
    for use in (directory.read, gone_on):
        with pytest.raises(UsageError, match=r"results\.json is malformed"):
            use(begun)
    assert snapshot(tmp_path) == before


def test_an_older_directory_without_mark_is_gone_on_with(begun: Path) -> None:
    (begun / ours.MARK).unlink()
    (begun / store.LOCK).unlink()
    half = begun / "s390x" / "basic.second"
    half.mkdir()
    left = ("console.log", ".dmesg.partial", ".reproduce.sh.ab_c.partial")
    for name in left:
        (half / name).write_text("half of it")
    mine = shutil.copytree(half, half.with_name("interesting"))
    with gone_on(begun) as writer:
        assert len(writer.results) == 1
        writer.add(a_result(Status.PASS, case=a_case("second")))
    assert len(directory.read(begun)[1]) == 2
    assert not (half / left[1]).exists() and (half / "result.json").exists()
    assert sorted(path.name for path in mine.iterdir()) == sorted(left)


def test_a_case_that_was_killed_before_it_was_listed_has_its_result(begun: Path) -> None:
    listed = (begun / "results.json").read_text()
    with gone_on(begun) as writer:
        writer.add(a_result(Status.FAIL, case=a_case("second")))
    (begun / "results.json").write_text(listed)
    with gone_on(begun) as writer:
        assert [result.status for result in writer.results] == [Status.PASS, Status.FAIL]
    assert len(directory.read(begun)[1]) == 2


@pytest.mark.parametrize("name", ["results.json", "junit.xml", "results.ktap"])
def test_nothing_is_written_through_a_link(begun: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "theirs").write_bytes((begun / name).read_bytes())
    (begun / name).unlink()
    (begun / name).symlink_to(tmp_path / "theirs")
    before = snapshot(tmp_path)
    with pytest.raises(UsageError, match="no ordinary file"), gone_on(begun):
        pytest.fail("it has not begun")
    after = snapshot(tmp_path)
    assert after["theirs"] == before["theirs"] and after[f"r/{name}"] == before[f"r/{name}"]


def test_a_directory_that_is_not_ours_is_left_as_it_is(tmp_path: Path) -> None:
    for name in ("klp-mine", ".results.json.abc.partial", "s390x/basic.reload/dmesg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "results.json").write_text('{"of": "another program"}')
    before = snapshot(tmp_path)
    for make in (
        lambda: ResultsDirectory(tmp_path, RUN),
        lambda: gone_on(tmp_path),
        lambda: store.prepare(tmp_path),
        lambda: store.claimed(tmp_path).__enter__(),
        lambda: ExploreDirectory.resumed(tmp_path),
        lambda: TriedDirectory.resumed(tmp_path),
    ):
        with pytest.raises(UsageError):
            make()
    assert snapshot(tmp_path) == before


def test_a_journal_is_not_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_text("thesis")
    (tmp_path / "walk.jsonl").symlink_to(tmp_path / "theirs")
    with pytest.raises(ours.NotOurs, match="is a link"):
        ours.appending(tmp_path / "walk.jsonl")
    assert (tmp_path / "theirs").read_text() == "thesis"


def test_a_trials_place_is_removed_only_where_it_is_ours(tmp_path: Path) -> None:
    writer = _tried(tmp_path / "t", RUN)
    place = writer.place("a", "s390x")
    with ResultsDirectory(place, RUN):
        pass
    assert writer.place("a", "s390x") == place and not place.exists()
    place.mkdir()
    (place / "thesis").touch()
    (tmp_path / "elsewhere").mkdir()
    (writer.path / "b").symlink_to(tmp_path / "elsewhere")
    before = snapshot(tmp_path)
    for name in ("a", "b"):
        with pytest.raises(ours.NotOurs):
            writer.place(name, "s390x")
    assert snapshot(tmp_path) == before


def test_clear_takes_all_or_nothing(tmp_path: Path) -> None:
    place = tmp_path / "x"
    place.mkdir()
    (place / "dmesg").touch()
    (place / "sub").mkdir()
    with pytest.raises(ours.NotOurs, match="sub was not made by klp-e2e"):
        ours.clear(place, lambda name: True)
    assert sorted(path.name for path in place.iterdir()) == ["dmesg", "sub"]
    (place / "sub").rmdir()
    ours.clear(place, lambda name: name == "dmesg")
    assert not place.exists()


# --- the result of something else -----------------------------------------------------------------


DIGESTS = {"choice of cases": "1", "build of module set basic for s390x": "2"}


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"strict": True}, "without --strict"),
        ({"source": "debian:6.12"}, "--kernel debian:6.1,"),
        ({"series": ()}, "--series livepatch-reload"),
        ({"options": {"jobs": "4", "cold": "True", "channel": "agent"}}, "cold False, and not"),
        ({"options": {"jobs": "2", "cold": "False", "channel": "ssh"}}, "channel agent, and not"),
        ({"inputs": {**DIGESTS, "choice of cases": "x"}}, "another choice of cases"),
        ({"inputs": {"build of module set basic for s390x": "x"}}, "another build of module set"),
    ],
)
def test_only_the_same_goes_on(tmp_path: Path, changed: dict[str, object], told: str) -> None:
    asked = {"jobs": "2", "cold": "False", "channel": "agent"}
    run = replace(RUN, options=asked, inputs=DIGESTS)
    place = tmp_path / "r"
    with ResultsDirectory(place, run) as writer:
        writer.add(a_result(Status.PASS))
    known = directory.read(place)
    other = replace(run, **changed)  # type: ignore[arg-type]  # fields by name
    with pytest.raises(UsageError, match=told):
        gone_on(place, other)
    # or once it is built
    with pytest.raises(UsageError, match=told), gone_on(place, run) as writer:
        writer.update(other)
    assert writer.results == () and directory.read(place) == known
    with gone_on(place, replace(run, options={**asked, "jobs": "9"})):
        pass


def test_what_ends_before_it_is_built_forgets_nothing(tmp_path: Path) -> None:
    run = replace(RUN, inputs=DIGESTS)
    with ResultsDirectory(tmp_path / "r", run):
        pass
    unbuilt = replace(run, kernels=(), inputs={"choice of cases": "1"})
    with pytest.raises(KeyboardInterrupt), gone_on(tmp_path / "r", unbuilt):
        raise KeyboardInterrupt
    known, _ = directory.read(tmp_path / "r")
    assert known.kernels == RUN.kernels and known.inputs == DIGESTS


def test_a_case_is_done_when_its_order_is(begun: Path) -> None:
    with gone_on(begun) as writer:
        assert writer.done == {("s390x", "basic/reload", RELOAD)}


# --- nobody else ----------------------------------------------------------------------------------


def test_two_in_one_directory_are_told_apart(begun: Path, tmp_path: Path) -> None:
    at_work = gone_on(begun)
    with pytest.raises(UsageError, match="another klp-e2e is at work"):
        gone_on(begun)
    with at_work:
        pass
    with gone_on(begun):
        pass
    for make in (ResultsDirectory, _tried):
        place = tmp_path / make.__name__
        store.prepare(place)
        with locks.held(place / store.LOCK), pytest.raises(UsageError, match="at work"):
            make(place, RUN)


def _tried(place: Path, run: Run) -> TriedDirectory:
    return TriedDirectory(
        place, trialsjson.TrialsDocument(1, run, AlterationKind.MUTANT, ("a",), True, 1)
    )


def test_notes_in_an_interrupted_trial_stay(tmp_path: Path) -> None:
    with _tried(tmp_path / "t", RUN) as tried_directory:
        place = tried_directory.place("a", "s390x")
        with ResultsDirectory(place, RUN) as writer:
            writer.add(a_result(Status.PASS))
        assert directory.strangers(place) == []
        assert tried_directory.place("a", "s390x") == place
        assert not place.exists()  # it was nothing but ours
        with ResultsDirectory(place, RUN) as writer:
            writer.add(a_result(Status.PASS))
        (note,) = [next(place.glob("s390x/*")) / "why.txt"]
        note.write_text("important")
        assert directory.strangers(place) == [note]
        tried_directory.place("a", "s390x")
        (aside,) = place.parent.glob("s390x.interrupted-*")
        assert (aside / note.relative_to(place)).read_text() == "important"
        assert (aside / "results.json").is_file() and not place.exists()


def test_a_long_console_is_not_read_whole_by_resume(tmp_path: Path) -> None:
    place = tmp_path / "r"
    with ResultsDirectory(place, RUN) as writer:
        writer.add(a_result(Status.PASS))
    console = next(place.glob("s390x/*/console.log"))
    console.write_text("begin\n")
    os.truncate(console, 200 << 20)  # holes
    with console.open("r+") as file:
        file.seek(0, os.SEEK_END)
        file.write("end\n")
    with ResultsDirectory(place, RUN, resume=True) as writer:
        (result,) = writer.results
    assert result.console.startswith("begin\n") and result.console.endswith("end\n")
    assert len(result.console) < 1 << 20 and "bytes are left out here" in result.console
    assert excerpt(result.console) == result.console


COPIES = [
    "{case}/copies/console.log",
    "{case}/dmesg/dmesg",
    "{case}.copy/console.log",
    "{case}.copy/result.json",
    "saved/x/console.log",
    "saved/x/y/result.json",
]


@pytest.mark.parametrize("copy", COPIES)
def test_copies_of_ours_are_a_stranger_s(tmp_path: Path, copy: str) -> None:
    with ResultsDirectory(tmp_path / "r", RUN) as writer:
        writer.add(a_result(Status.PASS))
    case = next((tmp_path / "r").glob("s390x/*"))
    assert directory.strangers(case.parents[1]) == []
    made = Path(copy.format(case=case))
    made = made if made.is_absolute() else tmp_path / "r" / made
    if made.parent.name == "dmesg":
        made.parent.unlink()
    made.parent.mkdir(parents=True)
    here = case / made.name
    made.write_bytes(here.read_bytes() if here.is_file() else b"mine")
    assert made in directory.strangers(case.parents[1])
    place = tmp_path / "file"
    place.write_text("x")
    assert directory.strangers(place) == [place]


def test_two_begun_in_one_second_have_a_directory_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(time, "strftime", lambda form: "2026-01-31-020000")
    made = [options.results(None) for _ in range(3)]
    names = [f"2026-01-31-020000{more}" for more in ("", ".2", ".3")]
    assert made == [tmp_path / "results" / name for name in names]
    for place in made:
        with ResultsDirectory(place, RUN):
            pass
    assert ours.marked(made[2], ours.MarkKind.RESULTS)
    assert [path.name for path in tmp_path.iterdir()] == ["results"]


# --- numbers that are none ------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999", '"NaN"', "-1", "1e300"])
def test_a_time_that_is_none_is_refused(begun: Path, value: str) -> None:
    text = (begun / "results.json").read_text()
    (begun / "results.json").write_text(
        text.replace('"started": 1700000000.0', f'"started": {value}')
    )
    assert (begun / "results.json").read_text() != text
    with pytest.raises(UsageError, match=r"results\.json is"):
        directory.read(begun)


def test_of_a_card_and_of_trials_the_same_is_asked(tmp_path: Path) -> None:
    with CardDirectory(
        tmp_path / "c", ReportCard("s390x", "debian:6.1", (), ("klp-e2e",), 1.0, "")
    ):
        pass
    with _tried(tmp_path / "t", RUN) as writer:
        writer.add("a", Trial("a", "s390x"))
    for file, load in (
        (tmp_path / "c" / "card.json", cardjson.load_card),
        (tmp_path / "t", trialsjson.load_trials),
    ):
        place = file.parent if file.suffix else file
        document = file if file.suffix else file / trialsjson.DOCUMENT
        text = document.read_text()
        load(place)
        for value in ("1e999", "Infinity", "-1"):
            document.write_text(re.sub(r'"finished": ?[\d.e+]+', f'"finished": {value}', text))
            with pytest.raises(UsageError):
                load(place)
        document.write_text(text)
    # what does not say for which architectures it was planned is not whole
    assert trialstext.trials_exit_code(trialsjson.load_trials(tmp_path / "t")) == Exit.HARNESS
    with pytest.raises(UsageError, match="for which architectures"):
        work.resumed(tmp_path / "t", 1)
    trials = json.loads((tmp_path / "t" / trialsjson.DOCUMENT).read_text())
    trials["trials"][0]["trial"]["arch"] = "../x"
    (tmp_path / "t" / trialsjson.DOCUMENT).write_text(json.dumps(trials))
    with pytest.raises(UsageError, match="no name of an architecture"):
        trialsjson.load_trials(tmp_path / "t")


def test_a_run_of_every_prefix_is_told_again(tmp_path: Path) -> None:
    done = []
    for number, status in enumerate((Status.FAIL, Status.PASS)):
        with ResultsDirectory(tmp_path / f"{number:02}", RUN) as writer:
            writer.add(a_result(status))
        patch = "0001-x.patch" if number else ""
        run, results = writer.run, writer.results
        code = verdict.results_exit_code(run, results)
        done.append(prefixes.Prefix(patch, f"s@{number}", writer.path, run, results, code))
        prefixes.save(tmp_path, done)
    done.append(prefixes.Prefix("0002-y.patch", "s", tmp_path / "02", RUN, (), Exit.BUILD))
    prefixes.save(tmp_path, done)
    told = klp("report", tmp_path)
    assert told.code == Exit.TEST_FAILURE
    first, second, third = told.out.splitlines()
    assert first.startswith("before the first patch: ") and "1 FAIL" in first
    assert second.startswith("0001-x.patch: ") and "1 PASS" in second
    assert third == "0002-y.patch: nothing was built"
    file = tmp_path / prefixes.DOCUMENT
    file.write_text(re.sub(r'"exit_code": \d', '"exit_code": 0', file.read_text()))
    assert klp("report", tmp_path).code == Exit.TEST_FAILURE, "what lies there counts"
    shutil.rmtree(tmp_path / "00")
    assert klp("report", tmp_path).code == Exit.HARNESS, "and what does not"
    file.write_text(file.read_text().replace('"01"', '"../01"'))
    assert "malformed" in klp("report", tmp_path).err


def test_the_modules_of_a_case_are_kept_and_are_ours(tmp_path: Path) -> None:
    ko = tmp_path / "klp_patch.ko"
    ko.write_bytes(b"\x7fELF")
    place = tmp_path / "r"
    with ResultsDirectory(place, replace(RUN, planned=1)) as writer:
        writer.add(a_result(Status.ERROR), [ko])
    kept = place / "s390x" / "basic.reload" / ko.name
    assert kept.read_bytes() == ko.read_bytes()
    assert directory.strangers(place) == []
    with gone_on(place, replace(RUN, planned=1)) as writer:  # ERROR runs again
        writer.add(a_result(Status.PASS))
    assert not kept.exists()


def test_what_is_kept_of_a_case_that_failed_is_what_it_loaded() -> None:
    order = orders.parse("+klp_patch {+klp_target -klp_patch} (-klp_target +klp_target)*2")
    built = BuiltSet(
        catalog.module_set("basic"),
        {
            name: BuiltModule(ModuleSpec(name, "plain"), Path(f"/k/{name}.ko"), (), {})
            for name in ("klp_patch", "klp_target", "filler")
        },
    )
    failed = replace(a_result(Status.FAIL), case=replace(a_case(), order=order))
    assert run_work._to_keep(failed, built) == [Path("/k/klp_patch.ko"), Path("/k/klp_target.ko")]
    assert run_work._to_keep(a_result(Status.PASS), built) == []


def test_trials_say_which_guests_they_were_run_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each its own, and the experiment all: its times compare among machines of a kind."""
    bench = bundle_samples.a_bench(tmp_path / "bench")
    result = bundle_samples.a_result(bundle_samples.SUCCESS)
    arch = bench.arch.name

    class Slot:
        """A guest that is ended with the trial."""

        def __init__(self, bootable: object, options: object, stop: object, on_guest: Any) -> None:
            self._on_guest = on_guest

        def __enter__(self) -> Slot:
            return self

        def __exit__(self, *_: object) -> None:
            self._on_guest(GuestRecord(arch, "tcg", 1.0, 2.0, "poweroff", 3.0))

        def run_case(self, case: object) -> CaseResult:
            return result

    monkeypatch.setattr(work, "GuestSlot", Slot)
    build = options.build_options(["x86_64"], "debian:6.1", ["none"], 1)
    asked = work.ExperimentOptions(
        build, AlterationKind.MUTANT, (), None, "core", False, 1, tmp_path / "t"
    )
    with _tried(tmp_path / "t", RUN) as writer:
        worker = work._Worker(
            *(asked, (result.case,), bench, writer, Reporter(Terminal(quiet=True))),
            *(threading.Event(), threading.Lock()),
        )
        for name in ("one", "two"):
            worker._orders(name, bench, Trial(name, arch), [result.case], whole=True)
    found = trialsjson.load_trials(tmp_path / "t").run
    assert [guest.accel for guest in found.guests] == ["tcg", "tcg"]
    for name in ("one", "two"):
        assert len(directory.read(tmp_path / "t" / name / arch)[0].guests) == 1
    assert results.machine(replace(found, host_kind="CPU"), arch) == "CPU, tcg"
