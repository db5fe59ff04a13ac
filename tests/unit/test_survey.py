# SPDX-License-Identifier: GPL-2.0-only
"""An exploration's bookkeeping: totals add up, nothing is walked twice, nothing is lost on disk."""

from __future__ import annotations

import io
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator import catalog
from orchestrator.build.prepare import Bench
from orchestrator.commands import exploration, options
from orchestrator.errors import Exit, UsageError
from orchestrator.explore.explore import Path as Events
from orchestrator.explore.survey import Ground, Strategy, Wanted
from orchestrator.model import orders
from orchestrator.model.findings import Way, added, signature
from orchestrator.model.walk import Branch, Choice
from orchestrator.nouns import BuiltSet, Case, Channel, Kernel, Order
from orchestrator.report import explored, explored_text, text
from orchestrator.report.explored import Document, ExploreDirectory, Walked
from orchestrator.report.progress import Reporter
from orchestrator.report.terminal import Terminal
from orchestrator.verdicts import CaseResult, Check, CheckKind, Run, Status, Step

ABLE = frozenset({"clears-on-unload", "clears-on-refusal"})
BAD = orders.parse("+klp_patch +klp_target").events


def a_bench(*names: str) -> Bench:
    arch = next(iter(catalog.arches().values()))
    here = Path("nowhere")
    kernel = Kernel(
        "k", arch.name, "debian:6.1", "6.1.1", (), "6.1.1", (6, 1), "gcc",
        here, here, here, here, here, here, ABLE,
    )  # fmt: skip
    sets = {name: BuiltSet(catalog.module_set(name), {}) for name in names}
    return Bench(arch, kernel, sets, here, ())


def walk(ground: Ground, bad: Events = (), most: int = 10**9, guests: int = 1) -> list[Events]:
    """Do what so many guests would; the order `bad` fails. Returns what was verified."""
    seen: list[Events] = []

    def below(before: Events, branch: Branch) -> None:
        for child in branch.children:
            path = (*before, child.event)
            if path == bad:
                ground.failed(path, child.edges - 1)
                continue
            if ground.verified(path, 7):
                seen.append(path)
            below(path, child)
        for event in branch.settled:
            if ground.verified((*before, event), 0):
                seen.append((*before, event))

    while len(seen) < most and (errand := ground.next()) is not None:
        others = [ground.next() for _ in range(guests - 1)]  # at the same time
        for each in (errand, *filter(None, others)):
            below(each.before, each.branch)
    return seen


@pytest.mark.parametrize("bad", [(), BAD])
def test_totals_add_up(bad: Events) -> None:
    ground = Ground(a_bench("basic"), "basic", Wanted(depth=5))
    seen = walk(ground, bad)
    tally = ground.tally
    assert len(seen) == len(set(seen)) == tally.verified
    assert tally.done == tally.planned
    assert (tally.failed, tally.beyond > 0) == ((1, True) if bad else (0, False))
    assert tally.depth == 5 and not tally.whole
    assert not any(path[: len(bad)] == bad for path in seen if bad)


def test_within_a_budget_it_goes_ever_deeper_and_walks_nothing_twice() -> None:
    wanted = Wanted(budget=60.0, depth=5)
    ground = Ground(a_bench("basic"), "basic", wanted)
    seen = walk(ground)
    assert len(seen) == len(set(seen)) == ground.tally.verified == ground.tally.planned
    lengths = [len(path) for path in seen]
    assert lengths.index(4) > lengths.index(3) > lengths.index(2)
    whole = Ground(a_bench("basic"), "basic", Wanted(depth=5))
    assert set(walk(whole)) == set(seen)


def test_a_small_set_is_walked_whole() -> None:
    ground = Ground(a_bench("vmlinux"), "vmlinux", Wanted(budget=60.0))
    walk(ground)
    assert ground.tally.whole
    assert ground.next() is None


@pytest.mark.parametrize("strategy", [Strategy.RANDOM, Strategy.PAIRS])
def test_sampled_orders_share_beginnings(strategy: Strategy) -> None:
    wanted = Wanted(strategy, depth=6, orders=30, seed=2, choice=Choice(races=True, burst=2))
    ground = Ground(a_bench("basic"), "basic", wanted)
    seen = walk(ground)
    assert len(seen) == len(set(seen)) == ground.tally.verified == ground.tally.planned
    again = Ground(a_bench("basic"), "basic", wanted)
    assert walk(again) == seen


@pytest.mark.parametrize("strategy", [*Strategy])
@pytest.mark.parametrize("budget", [None, 60.0])
def test_what_two_guests_have_both_before_them_is_planned_once(
    strategy: Strategy, budget: float | None
) -> None:
    """Else something would be still to come when all has been walked."""
    depth = 8 if strategy is Strategy.PAIRS else 4
    wanted = Wanted(strategy, depth=depth, orders=30, budget=budget)
    ground = Ground(a_bench("basic"), "basic", wanted)
    walk(ground, most=60 if strategy is Strategy.RANDOM else 10**9, guests=2)
    assert ground.tally.planned == ground.tally.verified


# --- on disk -----------------------------------------------------------------------------------

RUN = Run(("klp-e2e", "explore"), 1.0, "debian:6.1", (), 0, finished=61.0)


def head(wanted: Wanted) -> Document:
    return Document(explored.SCHEMA, RUN, wanted, ("basic",), Channel.AGENT)


def failed(status: Status, issue: str = "") -> CaseResult:
    good = Check(CheckKind.ANSWER, "answer", "success", "success", True)
    bad = Check(CheckKind.ANSWER, "answer", "success", "ENOEXEC (8)", False)
    steps = (Step("+klp_patch", (good,), 0, 0, 0), Step("+klp_target", (bad,), 0, 0, 0))
    arch = next(iter(catalog.arches()))
    return CaseResult(
        Case("found", "basic", Order(BAD)), arch, status, "why", steps, known_issue=issue
    )


def found(ground: Ground, status: Status = Status.FAIL, issue: str = "") -> None:
    result = failed(status, issue)
    like = signature(result)
    assert like is not None
    way = Way(result, repeated=3, tries=10, bundle="findings/one")
    ground.findings = added(ground.findings, like, way)


def test_what_was_walked_is_known_again(tmp_path: Path) -> None:
    wanted = Wanted(depth=5)
    ground = Ground(a_bench("basic"), "basic", wanted)
    writer = ExploreDirectory(tmp_path / "walk", head(wanted))
    arch = ground.bench.arch.name
    for path in walk(ground, BAD, most=150):
        writer.walked(Walked(arch, "basic", orders.format(Order(path)), True, 7))
    for path in ground.dead:
        order = orders.format(Order(path))
        writer.walked(Walked(arch, "basic", order, False, beyond=ground.tally.beyond))
    found(ground)
    writer.save([ground])
    with writer:
        pass
    with (writer.path / "walk.jsonl").open("a") as file:
        file.write('{"arch": "cut sho')

    again = ExploreDirectory.resumed(writer.path)
    later = Ground(a_bench("basic"), "basic", again.head.wanted)
    again.restore([later])
    assert later.done == ground.done and later.dead == ground.dead
    assert later.findings == ground.findings
    assert (later.tally.verified, later.tally.beyond) == (
        ground.tally.verified,
        ground.tally.beyond,
    )
    walk(later, BAD)
    assert later.tally.done == later.tally.planned


def test_a_directory_that_is_none_is_told_from_a_damaged_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read"):
        explored.load(tmp_path)
    (tmp_path / "explore.json").write_text("{")
    with pytest.raises(UsageError, match="malformed at its top"):
        explored.load(tmp_path)


@pytest.mark.parametrize(
    ("where", "value", "told"),
    [
        (("grounds", 0, "findings", 0, "ways", 0, "bundle"), "../../x", "bundle"),
        (("grounds", 0, "findings", 0, "ways", 0, "bundle"), "/home/x", "bundle"),
        (("grounds", 0, "findings", 0, "ways", 0, "bundle"), "a\x1b[2J", "bundle"),
        (("grounds", 0, "findings", 0, "ways"), [], "ways"),
        (("grounds", 0, "arch"), "../x", "arch"),
        (("wanted", "guests"), -3, "guests"),
        (("wanted", "guests"), 10**9, "guests"),
        (("wanted", "depth"), 0, "depth"),
        (("wanted", "budget"), float("nan"), "budget"),
    ],
)
def test_what_names_things_is_checked_where_it_is_read(
    tmp_path: Path, where: tuple[str | int, ...], value: object, told: str
) -> None:
    ground = Ground(a_bench("basic"), "basic", Wanted(depth=3))
    found(ground)
    writer = ExploreDirectory(tmp_path / "walk", head(Wanted(depth=3)))
    writer.save([ground])
    file = writer.path / "explore.json"
    at = whole = json.loads(file.read_text())
    for key in where[:-1]:
        at = at[key]
    at[where[-1]] = value
    file.write_text(json.dumps(whole))
    with pytest.raises(UsageError, match=rf"explore\.json is malformed at .*\b{told}"):
        explored.load(writer.path)


def test_a_journal_counts_for_what_its_set_can_do(tmp_path: Path) -> None:
    wanted = Wanted(depth=3)
    ground = Ground(a_bench("basic"), "basic", wanted)
    writer = ExploreDirectory(tmp_path / "walk", head(wanted))
    arch = ground.bench.arch.name
    for order in ("+klp_patch", "+no_such_module", "nonsense!", "+klp_patch[x=\x00]", ""):
        writer.walked(Walked(arch, "basic", order, True, 7))
    writer.walked(Walked(arch, "basic", "+klp_patch +klp_target", False, beyond=-5))
    with writer:
        pass
    with (writer.path / "walk.jsonl").open("ab") as file:
        file.write(b"\xff\xfe\n" + b"[" * 100_000 + b"\n")
    writer.restore([ground])
    assert ground.done == {orders.parse("+klp_patch").events}
    assert not ground.dead and ground.tally.beyond == 0
    (writer.path / "walk.jsonl").unlink()
    os.mkfifo(writer.path / "walk.jsonl")
    assert list(explored.journal(writer.path)) == []


def test_an_exploration_of_no_architecture_is_not_resumed(tmp_path: Path) -> None:
    ExploreDirectory(tmp_path / "walk", head(Wanted(depth=3)))
    with pytest.raises(UsageError, match="names no architecture"):
        exploration.resumed(tmp_path / "walk", 1)


# --- what is said ------------------------------------------------------------------------------


def document(ground: Ground, tmp_path: Path, strict: bool = False) -> Document:
    asked = replace(head(Wanted(depth=3)), run=replace(RUN, strict=strict))
    writer = ExploreDirectory(tmp_path / "walk", asked)
    writer.save([ground])
    assert json.loads((writer.path / "explore.json").read_text())["schema"] == explored.SCHEMA
    return explored.load(writer.path)


def test_the_report_names_the_finding_its_order_and_its_reliability(tmp_path: Path) -> None:
    ground = Ground(a_bench("basic"), "basic", Wanted(depth=3))
    walk(ground, BAD)
    found(ground)
    shown = text.plain(explored_text.report(document(ground, tmp_path)))
    assert "basic +klp_target: answer: ENOEXEC (8) (1 order)" in shown
    assert "order      +klp_patch +klp_target\n" in shown
    assert "reliable   3 of 10 cold boots, 1 in the walk" in shown
    assert "findings/one" in shown
    assert f"{ground.tally.verified} orders verified" in shown
    assert "1 finding, in 1 min 00 s" in shown


@pytest.mark.parametrize("width", [40, 80, 120, 200])
def test_no_number_is_cut_where_the_terminal_is_narrow(tmp_path: Path, width: int) -> None:
    ground = Ground(a_bench("basic"), "basic", Wanted(depth=3))
    walk(ground, BAD)
    found(ground)
    ground.tally.relocations = 2737273
    ground.tally.planned = 12345
    console = Terminal(file=io.StringIO(), width=width)
    console.print(explored_text.report(document(ground, tmp_path)))
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    assert all(len(line) <= width for line in shown.splitlines())
    for word in (*explored_text.COLUMNS, "2737273", "12345"):
        assert word in " ".join(shown.split()), (width, word)
    bars = Terminal(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    with Reporter(bars) as reporter:
        reporter.advance("exploring s390x two-targets", 12345, 67890, "3 findings")
    assert isinstance(bars.file, io.StringIO)
    assert "12345/67890" in bars.file.getvalue()


@pytest.mark.parametrize(
    ("status", "strict", "unwalked", "expected"),
    [
        (None, False, 0, Exit.GOOD),
        (Status.FAIL, False, 0, Exit.KERNEL_WRONG),
        (Status.FAIL, False, 3, Exit.KERNEL_WRONG),
        (Status.KNOWN, False, 0, Exit.GOOD),
        (Status.KNOWN, True, 0, Exit.KERNEL_WRONG),
        (None, False, 3, Exit.HARNESS),
    ],
)
def test_exit_codes(
    tmp_path: Path, status: Status | None, strict: bool, unwalked: int, expected: Exit
) -> None:
    ground = Ground(a_bench("basic"), "basic", Wanted(depth=3))
    walk(ground)
    if status is not None:
        found(ground, status, "an-issue" if status is Status.KNOWN else "")
    if unwalked:
        ground.unwalked(BAD, unwalked, "no guest")
    made = document(ground, tmp_path, strict)
    assert explored_text.exit_code(made) is expected
    if unwalked:
        assert "3 orders not walked: no guest" in text.plain(explored_text.report(made))


def test_an_exploration_that_verified_nothing_proved_nothing(tmp_path: Path) -> None:
    ground = Ground(a_bench("basic"), "basic", Wanted(depth=3))
    assert explored_text.exit_code(document(ground, tmp_path)) is Exit.HARNESS


def test_what_is_left_to_come_without_a_budget_is_no_success(tmp_path: Path) -> None:
    ground = Ground(a_bench("basic"), "basic", Wanted(depth=5))
    walk(ground, most=100)
    made = document(ground, tmp_path)
    assert ground.tally.verified and ground.tally.done < ground.tally.planned
    assert explored_text.exit_code(made) is Exit.HARNESS
    bounded = replace(made, wanted=replace(made.wanted, budget=60.0))
    assert explored_text.exit_code(bounded) is Exit.GOOD
    untouched = replace(made.grounds[0], tally=Ground(a_bench("basic"), "basic", Wanted()).tally)
    also = replace(bounded, grounds=(*bounded.grounds, untouched))
    assert explored_text.exit_code(also) is Exit.HARNESS


@pytest.mark.parametrize(("given", "expected"), [("30s", 30), ("10m", 600), ("1.5h", 5400)])
def test_times(given: str, expected: float) -> None:
    assert options.seconds(given) == expected


@pytest.mark.parametrize("given", ["10", "m", "-3s", "0s", "1d"])
def test_what_is_no_time_is_refused(given: str) -> None:
    with pytest.raises(UsageError, match="is no time"):
        options.seconds(given)


def test_module_sets_by_name_each_once_or_all() -> None:
    assert options.module_sets(()) == ("basic",)
    assert options.module_sets(("stacked", "basic", "stacked")) == ("stacked", "basic")
    assert set(options.module_sets(("all",))) == set(catalog.module_sets())
    with pytest.raises(UsageError, match="no-such"):
        options.module_sets(("basic", "no-such"))
