# SPDX-License-Identifier: GPL-2.0-only
"""What every results directory does alike: how it says why it ended, what a refusal leaves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from test_campaign import head
from test_report import a_case, a_result, a_run

from orchestrator.errors import BuildError, HarnessError, MissingTool, UsageError
from orchestrator.explore.campaign import CampaignOptions
from orchestrator.host import ours
from orchestrator.port.card import ReportCard
from orchestrator.report import cardjson, directory, explorejson, store, trialsjson
from orchestrator.report.cardjson import CardDirectory
from orchestrator.report.directory import ResultsDirectory
from orchestrator.report.explorejson import ExploreDirectory
from orchestrator.report.store import Store
from orchestrator.report.trialsjson import TriedDirectory
from orchestrator.source.alterations import AlterationKind
from orchestrator.verdicts import Status

RUN = replace(a_run(2, finished=None), kernels=())
Made = tuple[Callable[[Path], Store], Callable[[Path], str]]
MADE: dict[str, Made] = {
    "run": (
        lambda place: ResultsDirectory(place, RUN),
        lambda place: directory.read(place)[0].trouble,
    ),
    "explore": (
        lambda place: ExploreDirectory(place, replace(head(CampaignOptions(depth=3)), run=RUN)),
        lambda place: explorejson.load_exploration(place).run.trouble,
    ),
    "ablate": (
        lambda place: TriedDirectory(
            place,
            trialsjson.TrialsDocument(1, RUN, AlterationKind.ABLATION, ("a",), True, controls=1),
        ),
        lambda place: trialsjson.load_trials(place).run.trouble,
    ),
    "port": (
        lambda place: CardDirectory(
            place, ReportCard("s390x", "debian:6.1", (), ("klp-e2e",), 1.0, "")
        ),
        lambda place: cardjson.load_card(place).trouble,
    ),
}


@pytest.fixture(params=MADE)
def made(request: pytest.FixtureRequest) -> Made:
    return MADE[request.param]


@pytest.mark.parametrize(
    ("err", "told"),
    [
        (HarnessError("no space left"), "no space left"),
        (BuildError("it does not compile"), "it does not compile"),
        (KeyboardInterrupt(), "interrupted"),
        (ZeroDivisionError(), "ZeroDivisionError"),
    ],
)
def test_why_it_ended_is_the_message(
    made: Made, err: BaseException, told: str, tmp_path: Path
) -> None:
    make, why = made
    with pytest.raises(type(err)), make(tmp_path / "r"):
        raise err
    assert why(tmp_path / "r") == told


@pytest.mark.parametrize("err", [UsageError("no such kernel"), MissingTool("no QEMU")])
@pytest.mark.parametrize("there", [False, True])
def test_what_is_refused_leaves_the_place_free(
    made: Made, err: Exception, there: bool, tmp_path: Path
) -> None:
    make, _ = made
    place = tmp_path / "r"
    if there:
        place.mkdir()
    with pytest.raises(type(err)), make(place) as writer:
        raise err
    assert not writer.kept and place.exists() is there
    with make(place) as writer:
        pass
    assert writer.kept and (place / writer.DOCUMENTS[0]).exists()


def test_a_place_that_was_made_for_what_is_refused_goes(made: Made, tmp_path: Path) -> None:
    """Also one that nobody has named."""
    make, _ = made
    place = store.fresh(tmp_path)
    (place.parent / "2026-01-31-020000").symlink_to(tmp_path)
    with pytest.raises(UsageError), make(place):
        raise UsageError("no such kernel")
    assert not place.exists()
    assert not store.is_fresh(tmp_path) and not store.is_fresh(tmp_path / "2026-01-31-020000")
    other = store.fresh(tmp_path)
    (other / "thesis").touch()
    assert not store.is_fresh(other)


def test_a_place_that_a_link_leads_to_is_left_free_too(made: Made, tmp_path: Path) -> None:
    make, _ = made
    (tmp_path / "disk").mkdir()
    (tmp_path / "r").symlink_to("disk")
    with pytest.raises(UsageError, match="no such kernel"), make(tmp_path / "r"):
        raise UsageError("no such kernel")
    with make(tmp_path / "r") as writer:
        pass
    assert (tmp_path / "disk" / writer.DOCUMENTS[0]).exists()


def test_in_an_entry_of_the_cache_nothing_is_begun(made: Made, tmp_path: Path) -> None:
    make, _ = made
    ours.mark(tmp_path, ours.MarkKind.ENTRY)
    with pytest.raises(ours.NotOurs, match="does not last"):
        make(tmp_path / "sub" / "r")
    assert [path.name for path in tmp_path.iterdir()] == [ours.MARK]


def test_what_somebody_put_there_meanwhile_stays(made: Made, tmp_path: Path) -> None:
    make, _ = made
    with pytest.raises(UsageError), make(tmp_path / "r"):
        (tmp_path / "r" / "thesis").write_text("mine")
        raise UsageError("no such kernel")
    assert (tmp_path / "r" / "thesis").read_text() == "mine"


def test_a_refusal_takes_no_result_away(tmp_path: Path) -> None:
    place = tmp_path / "r"
    with pytest.raises(UsageError), ResultsDirectory(place, RUN) as writer:
        writer.add(a_result(Status.PASS))
        raise UsageError("too late")
    run, results = directory.read(place)
    assert run.trouble == "too late" and len(results) == 1


def test_what_was_begun_before_stays_when_it_cannot_go_on(tmp_path: Path) -> None:
    place = tmp_path / "r"
    with pytest.raises(KeyboardInterrupt), ResultsDirectory(place, RUN):
        raise KeyboardInterrupt
    with pytest.raises(UsageError), ResultsDirectory(place, RUN, resume=True):
        raise UsageError("no such kernel")
    assert directory.read(place)[0].trouble == "no such kernel"


def test_of_no_trouble_there_is_nothing_to_say() -> None:
    assert store.why_ended(None) == ""


@pytest.mark.parametrize("other", ["link", "directory", "ours"])
def test_what_has_come_in_its_place_meanwhile_is_not_written_to(
    tmp_path: Path, made: Made, other: str
) -> None:
    """A note in it was removed, and its documents written over."""
    place, theirs = tmp_path / "results", tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "results.json").write_text("precious")
    (theirs / "x86_64").mkdir()
    (theirs / "x86_64/console.log").write_text("a note")
    if other == "ours":
        ours.mark(theirs, ours.MarkKind.RESULTS)
    before = {path: path.read_bytes() for path in theirs.rglob("*") if path.is_file()}
    with pytest.raises(HarnessError, match="another directory now"), made[0](place):
        place.rename(tmp_path / "moved")
        if other == "link":
            place.symlink_to(theirs)
        else:
            theirs = theirs.rename(place)
    names = {path.relative_to(theirs) for path in theirs.rglob("*") if path.is_file()}
    assert names == {path.relative_to(tmp_path / "theirs") for path in before}
    assert (theirs / "results.json").read_text() == "precious"


def test_a_case_is_not_written_where_another_directory_has_come(tmp_path: Path) -> None:
    place, theirs = tmp_path / "results", tmp_path / "theirs"
    first, second = (a_result(Status.PASS, case=a_case(name)) for name in ("life", "other"))
    with (
        pytest.raises(HarnessError, match="another directory now"),
        ResultsDirectory(place, RUN) as results,
    ):
        results.add(first)
        note = theirs / "s390x/basic.other/console.log"
        note.parent.mkdir(parents=True)
        note.write_text("a note")
        place.rename(tmp_path / "moved")
        place.symlink_to(theirs)
        results.add(second)
    assert [path for path in theirs.rglob("*") if path.is_file()] == [note]
    assert note.read_text() == "a note"
