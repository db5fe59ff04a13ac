# SPDX-License-Identifier: GPL-2.0-only
"""Altered kernels: what their patches say, and what a trial of one comes to."""

from __future__ import annotations

import io
import itertools
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from samples import a_kernel

from orchestrator import catalog
from orchestrator.build.prepare import Bootable
from orchestrator.cli import options
from orchestrator.commands import malformed
from orchestrator.commands.mutate import work
from orchestrator.errors import UsageError
from orchestrator.host.workdir import file_digest
from orchestrator.nouns import Case, Load, Order
from orchestrator.report.progress import Reporter
from orchestrator.report.terminal import Terminal
from orchestrator.source import series
from orchestrator.source.alterations import Alteration, AlterationKind, fitting, parse
from orchestrator.trials import CONTROL, Trial, TrialOutcome, judged, score
from orchestrator.verdicts import CaseResult, Status

PATCH = """Piece: 3
Breaks: keeping GOT offsets
  beyond the load.
First: two-targets/b basic/a
Unseen: x86_64: it does not compile this file

--- a/file.c
+++ b/file.c
@@ -1 +1 @@
-Breaks: no field any more
+x
"""
CASES = tuple(
    Case(name, module_set, Order((Load("m"),)))
    for module_set, name in (("basic", "x"), ("basic", "a"), ("two-targets", "b"))
)


def results(*statuses: Status) -> list[CaseResult]:
    return [
        CaseResult(case, "s390x", status, reason=f"because of {case.name}", reproduce="line")
        for case, status in zip(CASES, statuses, strict=False)
    ]


def test_a_patch_says_what_it_breaks() -> None:
    found = parse("3-got", PATCH, "ablations/3-got")
    assert found == Alteration(
        name="3-got",
        breaks="keeping GOT offsets beyond the load.",
        series="ablations/3-got",
        piece="3",
        first=("two-targets/b", "basic/a"),
        unseen=(("x86_64", "it does not compile this file"),),
    )
    assert found.unseen_on("x86_64") and not found.unseen_on("s390x")
    assert [case.label for case in found.in_turn(CASES)] == ["two-targets/b", "basic/a", "basic/x"]


def test_unseen_anywhere() -> None:
    found = parse("n", "Breaks: it\nUnseen: all: a race\n\n--- a/f\n", "s")
    assert found.unseen_on("s390x") == found.unseen_on("x86_64") == "a race"


@pytest.mark.parametrize(
    ("header", "complaint"),
    [
        ("", "the field Breaks is missing"),
        ("Piece: 1", "the field Breaks is missing"),
        ("Breaks: it\nRisk: none", "unknown field risk"),
        ("Breaks: it\nUnseen: s390x", "Unseen: s390x: why?"),
        ("Breaks: it\nSince: 7", "Since: 7 is no X.Y of a kernel"),
    ],
)
def test_a_header_that_is_not_right(header: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint.replace("?", r"\?")):
        parse("n", f"{header}\n\n--- a/f\n", "s")


def test_ours_are_right_and_name_orders_that_there_are() -> None:
    cases = (*options.suite_cases(options.SUITE), *malformed.cases(()))
    known = {case.label for case in cases}
    for kind in AlterationKind:
        found = options.alterations(kind, ())
        assert found
        for each in found:
            assert set(each.first) <= known, each.name
    assert len({each.name for each in options.alterations(AlterationKind.MUTANT, ())}) >= 100
    pieces = {each.piece for each in options.alterations(AlterationKind.ABLATION, ())}
    assert pieces == {"1", "2", "3", "4", "5"}  # the sixth has no code: see elf/rules.py


def test_some_of_ours() -> None:
    found = options.alterations(AlterationKind.ABLATION, ("3-*",))
    assert [(each.name, each.piece) for each in found] == [("3-s390-mod-arch-specific", "3")]
    with pytest.raises(UsageError, match=r"has no mutant nothing-\*"):
        options.alterations(AlterationKind.MUTANT, ("nothing-*",))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Patches a and b; a has another text from 6.12 and from 7.3 on."""
    for name in ("a", "b", "6.12/a", "7.3/a"):
        path = tmp_path / f"{name}.patch"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"Breaks: {name}\n\n--- a/f\n+++ b/f\n@@ -1 +1 @@\n-{name}\n+\n")
    (tmp_path / "7.3/notes").write_text("")
    (tmp_path / "notes.old").mkdir()
    (tmp_path / "notes.old/c.patch").write_text("no patch of ours")
    return tmp_path


@pytest.mark.parametrize(
    ("version", "text"),
    [
        ((6, 1), "a"),
        ((6, 11), "a"),
        ((6, 12), "6.12/a"),
        ((7, 2), "6.12/a"),
        ((7, 3), "7.3/a"),
        ((10, 0), "7.3/a"),
    ],
)
def test_a_kernel_takes_the_newest_text_that_is_for_it(
    place: Path, version: tuple[int, int], text: str
) -> None:
    every = options.alterations(AlterationKind.MUTANT, (), place)
    found = fitting(every, version)
    assert [(each.name, each.breaks) for each in found] == [("a", text), ("b", "b")]
    assert [each.series for each in found] == [f"{place}/{text}.patch", f"{place}/b.patch"]
    assert {each.name for each in options.alterations(AlterationKind.MUTANT, ("a",), place)} == {
        "a"
    }


def test_a_kernel_goes_without_what_breaks_something_newer(place: Path) -> None:
    text = (place / "b.patch").read_text()
    (place / "b.patch").write_text(f"Since: 6.17\n{text}")
    every = options.alterations(AlterationKind.MUTANT, (), place)
    assert [each.name for each in fitting(every, (6, 16))] == ["a"]
    assert [each.name for each in fitting(every, (6, 17))] == ["a", "b"]


def test_an_experiment_names_each_once_and_tells_the_text_that_was_tried(place: Path) -> None:
    asked = work.ExperimentOptions(
        options.build_options([], "debian:6.1", ["none"], 1),
        AlterationKind.MUTANT,
        options.alterations(AlterationKind.MUTANT, (), place),
        place,
        options.SUITE,
        whole=False,
        controls=1,
        directory=place / "tried",
    )
    assert work.begin(asked, ("klp-e2e",)).head.alterations == ("a", "b")
    tried = replace(asked, alterations=fitting(asked.alterations, (6, 12)))
    assert work.patches(tried) == {
        "patch a": file_digest(place / "6.12/a.patch"),
        "patch b": file_digest(place / "b.patch"),
    }


def test_every_text_has_its_header_before_anything_is_built(place: Path) -> None:
    (place / "7.3/b.patch").write_text("--- a/f\n")
    with pytest.raises(UsageError, match="b: the field Breaks is missing"):
        options.alterations(AlterationKind.MUTANT, (), place)


def test_a_text_for_newer_kernels_only_is_refused(place: Path) -> None:
    (place / "7.3/c.patch").write_text("Breaks: it\n\n--- a/f\n")
    with pytest.raises(UsageError, match=r"7\.3/c\.patch is another text of .*/c\.patch, and"):
        options.alterations(AlterationKind.MUTANT, (), place)


def test_a_series_of_ours_is_the_text_that_its_header_was_read_from() -> None:
    for kind, version in itertools.product(AlterationKind, ((6, 1), (6, 12), (7, 3))):
        every = options.alterations(kind, ())
        texts = series.altered(options.patches_of(kind, None))
        for each in fitting(every, version):
            (patch,) = series.resolve(each.series, version).patches
            assert texts[each.name][each.since].read_text().endswith(patch.diff.raw.decode())


def test_an_interrupted_trial_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor one of the unaltered kernel: what it fails catches nobody, so it is to run whole. The
    orders that had run by then counted as all, also for --resume."""
    arch = next(iter(catalog.default_arches().values()))
    stop = threading.Event()

    def interrupted(worker: work._Worker, name: str, *_: object, **_named: object) -> Trial:
        stop.set()
        return Trial(name, arch.name, TrialOutcome.SURVIVED, orders=1)

    asked = work.ExperimentOptions(
        options.build_options([arch.name], "debian:6.1", ["none"], 1),
        AlterationKind.MUTANT,
        options.alterations(AlterationKind.MUTANT, ("38-*",)),
        None,
        options.SUITE,
        whole=False,
        controls=2,
        directory=tmp_path / "tried",
    )
    monkeypatch.setattr(work._Worker, "_orders", interrupted)
    bootable = Bootable(arch, a_kernel(arch.name), {}, Path("nowhere"), ())
    reporter = Reporter(Terminal(file=io.StringIO()))
    with work.begin(asked, ("klp-e2e",)) as writer:
        worker = work._Worker(asked, CASES, bootable, writer, reporter, stop, threading.Lock())
        worker.work()
        assert stop.is_set() and writer.head.trials == ()


def trial(said: Sequence[CaseResult], unseen: str = "") -> Trial:
    return judged(Trial("n", "s390x", unseen=unseen), said)


def test_one_failure_catches_it() -> None:
    found = trial(results(Status.PASS, Status.FAIL, Status.ERROR))
    assert found.outcome is TrialOutcome.CAUGHT and not found.hole
    assert found.caught_by == ("basic/a",) and found.symptom == "because of a"
    assert found.order == "+m" and found.reproduce == "line" and found.orders == 3


def test_an_error_says_nothing_unless_something_failed() -> None:
    found = trial(results(Status.PASS, Status.ERROR))
    assert found.outcome is TrialOutcome.ERROR and found.hole and found.reason == "because of a"
    assert trial([]).outcome is TrialOutcome.ERROR


def test_a_mutant_that_does_not_boot_is_caught_only_by_what_its_kernel_said() -> None:
    """FAIL without steps: it crashed while booting. A boot that fails otherwise is ERROR
    (test_lost.py), however often."""
    panic = replace(results(Status.FAIL)[0], reason="Kernel panic - not syncing, while booting")
    assert trial([panic]).outcome is TrialOutcome.CAUGHT
    assert trial(results(Status.ERROR, Status.ERROR)).outcome is TrialOutcome.ERROR


def test_what_survives_is_a_hole_unless_nobody_can_see_it() -> None:
    assert trial(results(Status.PASS, Status.PASS)).hole
    assert not trial(results(Status.PASS), unseen="a race").hole
    assert trial(results(Status.FAIL), unseen="a race").hole  # then the claim is wrong


def test_the_unaltered_kernel_is_to_survive() -> None:
    assert not judged(Trial(CONTROL, "s390x"), results(Status.PASS)).hole
    assert judged(Trial(CONTROL, "s390x"), results(Status.FAIL)).hole


def test_score() -> None:
    def one(outcome: TrialOutcome, unseen: str = "", arch: str = "s390x") -> Trial:
        return Trial("n", arch, outcome, unseen=unseen)

    trials = [
        Trial(CONTROL, "s390x", TrialOutcome.SURVIVED),
        *(one(TrialOutcome.CAUGHT), one(TrialOutcome.CAUGHT), one(TrialOutcome.SURVIVED)),
        *(one(TrialOutcome.SAME), one(TrialOutcome.SURVIVED, "a race")),
        *(
            one(TrialOutcome.ERROR),
            one(TrialOutcome.UNBUILT),
            one(TrialOutcome.CAUGHT, arch="x86_64"),
        ),
    ]
    assert str(score(trials, "s390x")) == (
        "s390x: 2 of 3 that can be seen are caught (67%), 2 cannot be seen, 2 untried"
    )
    assert score(trials, "x86_64").caught == 1
