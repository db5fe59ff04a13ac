# SPDX-License-Identifier: GPL-2.0-only
"""An exploration's bookkeeping: totals add up, nothing is walked twice, nothing is lost on disk."""

from __future__ import annotations

import io
import json
import os
from dataclasses import replace
from pathlib import Path

import junitparser
import pytest
from samples import a_kernel, a_reading, a_result

from orchestrator import catalog
from orchestrator.build.prepare import Bootable
from orchestrator.cli import options
from orchestrator.commands import explore
from orchestrator.errors import Exit, UsageError
from orchestrator.explore import triage
from orchestrator.explore.campaign import Campaign, CampaignOptions, Strategy
from orchestrator.explore.walker import EventPath as Events
from orchestrator.explore.walker import Hit
from orchestrator.model import orders, words
from orchestrator.model.culprit import SUSPECT
from orchestrator.model.findings import Reproducer, added, rejudged, signature
from orchestrator.model.known import KnownIssue
from orchestrator.model.search import Branch, Choice
from orchestrator.nouns import BuiltSet, Case, Channel, Order
from orchestrator.report import explorejson, exploremachine, exploretext, resultstext
from orchestrator.report.explorejson import ExploreDirectory, ExploreDocument, Walked
from orchestrator.report.progress import Reporter
from orchestrator.report.terminal import Terminal
from orchestrator.verdicts import Answers, CaseResult, Check, CheckKind, Run, Status, Step

ABLE = frozenset({"clears-on-unload", "clears-on-refusal"})
BAD = orders.parse("+klp_patch +klp_target").events


def a_bench(*names: str) -> Bootable:
    arch = next(iter(catalog.arches().values()))
    here = Path("nowhere")
    kernel = a_kernel(arch.name, capabilities=ABLE)
    sets = {name: BuiltSet(catalog.module_set(name), {}) for name in names}
    return Bootable(arch, kernel, sets, here, ())


def walk(campaign: Campaign, bad: Events = (), most: int = 10**9, guests: int = 1) -> list[Events]:
    """Do what so many guests would; the order `bad` fails. Returns what was verified."""
    seen: list[Events] = []

    def below(before: Events, branch: Branch) -> None:
        for child in branch.children:
            path = (*before, child.event)
            if path == bad:
                campaign.failed(path, child.edges - 1)
                continue
            if campaign.verified(path, 7):
                seen.append(path)
            below(path, child)
        for event in branch.settled:
            if campaign.verified((*before, event), 0):
                seen.append((*before, event))

    while len(seen) < most and (item := campaign.next()) is not None:
        others = [campaign.next() for _ in range(guests - 1)]  # at the same time
        for each in (item, *filter(None, others)):
            below(each.before, each.branch)
    return seen


@pytest.mark.parametrize("bad", [(), BAD])
def test_totals_add_up(bad: Events) -> None:
    campaign = Campaign(a_bench("basic"), "basic", CampaignOptions(depth=5))
    seen = walk(campaign, bad)
    stats = campaign.stats
    assert len(seen) == len(set(seen)) == stats.verified
    assert stats.done == stats.planned
    assert (stats.failed, stats.blocked > 0) == ((1, True) if bad else (0, False))
    assert stats.depth == 5 and not stats.whole
    assert not any(path[: len(bad)] == bad for path in seen if bad)


def test_within_a_budget_it_goes_ever_deeper_and_walks_nothing_twice() -> None:
    wanted = CampaignOptions(budget=60.0, depth=5)
    campaign = Campaign(a_bench("basic"), "basic", wanted)
    seen = walk(campaign)
    assert len(seen) == len(set(seen)) == campaign.stats.verified == campaign.stats.planned
    lengths = [len(path) for path in seen]
    assert lengths.index(4) > lengths.index(3) > lengths.index(2)
    whole = Campaign(a_bench("basic"), "basic", CampaignOptions(depth=5))
    assert set(walk(whole)) == set(seen)


def test_a_small_set_is_walked_whole() -> None:
    campaign = Campaign(a_bench("vmlinux"), "vmlinux", CampaignOptions(budget=60.0))
    walk(campaign)
    assert campaign.stats.whole
    assert campaign.next() is None


@pytest.mark.parametrize("strategy", [Strategy.RANDOM, Strategy.PAIRS])
def test_sampled_orders_share_beginnings(strategy: Strategy) -> None:
    wanted = CampaignOptions(
        strategy, depth=6, orders=30, seed=2, choice=Choice(races=True, burst=2)
    )
    campaign = Campaign(a_bench("basic"), "basic", wanted)
    seen = walk(campaign)
    assert len(seen) == len(set(seen)) == campaign.stats.verified == campaign.stats.planned
    again = Campaign(a_bench("basic"), "basic", wanted)
    assert walk(again) == seen


@pytest.mark.parametrize("strategy", [*Strategy])
@pytest.mark.parametrize("budget", [None, 60.0])
def test_what_two_guests_have_both_before_them_is_planned_once(
    strategy: Strategy, budget: float | None
) -> None:
    """Else something would be still to come when all has been walked."""
    depth = 8 if strategy is Strategy.PAIRS else 4
    wanted = CampaignOptions(strategy, depth=depth, orders=30, budget=budget)
    campaign = Campaign(a_bench("basic"), "basic", wanted)
    walk(campaign, most=60 if strategy is Strategy.RANDOM else 10**9, guests=2)
    assert campaign.stats.planned == campaign.stats.verified


@pytest.mark.parametrize("strategy", [*Strategy])
def test_what_is_given_up_is_counted_once(strategy: Strategy) -> None:
    """A guest is lost at every third event: what it verified before and after adds up."""
    depth = 6 if strategy is Strategy.PAIRS else 4
    options = CampaignOptions(strategy, depth=depth, orders=20, budget=60.0)
    campaign = Campaign(a_bench("basic"), "basic", options)
    tried = 0

    def below(before: Events, branch: Branch) -> None:
        nonlocal tried
        for child in branch.children:
            tried += 1
            path = (*before, child.event)
            if tried % 3 == 0:
                campaign.not_run(path, child.edges, "the guest is lost")
                continue
            campaign.verified(path, 0)
            below(path, child)
        for event in branch.settled:
            campaign.verified((*before, event), 0)

    for _ in range(60):  # random walks have no end
        item = campaign.next()
        if item is not None:
            below(item.before, item.branch)
    stats = campaign.stats
    assert stats.not_run and stats.planned == stats.verified + stats.not_run


# --- on disk -----------------------------------------------------------------------------------

RUN = Run(("klp-e2e", "explore"), 1.0, "debian:6.1", (), 0, finished=61.0)


def head(wanted: CampaignOptions) -> ExploreDocument:
    return ExploreDocument(explorejson.SCHEMA, RUN, wanted, ("basic",), Channel.AGENT)


def failed(status: Status, issue: str = "") -> CaseResult:
    good = Check(CheckKind.ANSWER, "answer", "success", "success", True)
    bad = Check(CheckKind.ANSWER, "answer", "success", "ENOEXEC (8)", False)
    steps = (Step("+klp_patch", (good,), 0, 0, 0), Step("+klp_target", (bad,), 0, 0, 0))
    arch = next(iter(catalog.arches()))
    case = Case("found", "basic", Order(BAD))
    return a_result(
        case=case, arch=arch, status=status, reason="why", steps=steps, known_issue=issue
    )


def found(campaign: Campaign, status: Status = Status.FAIL, issue: str = "") -> None:
    result = failed(status, issue)
    like = signature(result)
    assert like is not None
    reproducer = Reproducer(result, repeated=3, tries=10, bundle="findings/one")
    campaign.findings = added(campaign.findings, like, reproducer)


def test_what_was_walked_is_known_again(tmp_path: Path) -> None:
    wanted = CampaignOptions(depth=5)
    campaign = Campaign(a_bench("basic"), "basic", wanted)
    writer = ExploreDirectory(tmp_path / "walk", head(wanted))
    arch = campaign.bootable.arch.name
    for path in walk(campaign, BAD, most=150):
        writer.walked(Walked(arch, "basic", orders.format(Order(path)), True, 7))
    for path in campaign.dead:
        order = orders.format(Order(path))
        writer.walked(Walked(arch, "basic", order, False, blocked=campaign.stats.blocked))
    found(campaign)
    writer.save([campaign])
    with writer:
        pass
    with (writer.path / "walk.jsonl").open("a") as file:
        file.write('{"arch": "cut sho')

    again = ExploreDirectory.resumed(writer.path)
    later = Campaign(a_bench("basic"), "basic", again.head.options)
    again.restore([later])
    assert later.done == campaign.done and later.dead == campaign.dead
    assert later.findings == campaign.findings
    assert (later.stats.verified, later.stats.blocked) == (
        campaign.stats.verified,
        campaign.stats.blocked,
    )
    walk(later, BAD)
    assert later.stats.done == later.stats.planned


def test_a_directory_that_is_none_is_told_from_a_damaged_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read"):
        explorejson.load_exploration(tmp_path)
    (tmp_path / "explore.json").write_text("{")
    with pytest.raises(UsageError, match="malformed at its top"):
        explorejson.load_exploration(tmp_path)


@pytest.mark.parametrize(
    ("where", "value", "told"),
    [
        (("campaigns", 0, "findings", 0, "reproducers", 0, "bundle"), "../../x", "bundle"),
        (("campaigns", 0, "findings", 0, "reproducers", 0, "bundle"), "/home/x", "bundle"),
        (("campaigns", 0, "findings", 0, "reproducers", 0, "bundle"), "a\x1b[2J", "bundle"),
        (("campaigns", 0, "findings", 0, "reproducers"), [], "reproducers"),
        (("campaigns", 0, "arch"), "../x", "arch"),
        (("options", "guests"), -3, "guests"),
        (("options", "guests"), 10**9, "guests"),
        (("options", "depth"), 0, "depth"),
        (("options", "budget"), float("nan"), "budget"),
    ],
)
def test_what_names_things_is_checked_where_it_is_read(
    tmp_path: Path, where: tuple[str | int, ...], value: object, told: str
) -> None:
    campaign = Campaign(a_bench("basic"), "basic", CampaignOptions(depth=3))
    found(campaign)
    writer = ExploreDirectory(tmp_path / "walk", head(CampaignOptions(depth=3)))
    writer.save([campaign])
    file = writer.path / "explore.json"
    at = whole = json.loads(file.read_text())
    for key in where[:-1]:
        at = at[key]
    at[where[-1]] = value
    file.write_text(json.dumps(whole))
    with pytest.raises(UsageError, match=rf"explore\.json is malformed at .*\b{told}"):
        explorejson.load_exploration(writer.path)


def test_a_journal_counts_for_what_its_set_can_do(tmp_path: Path) -> None:
    wanted = CampaignOptions(depth=3)
    campaign = Campaign(a_bench("basic"), "basic", wanted)
    writer = ExploreDirectory(tmp_path / "walk", head(wanted))
    arch = campaign.bootable.arch.name
    for order in ("+klp_patch", "+no_such_module", "nonsense!", "+klp_patch[x=\x00]", ""):
        writer.walked(Walked(arch, "basic", order, True, 7))
    writer.walked(Walked(arch, "basic", "+klp_patch +klp_target", False, blocked=-5))
    with writer:
        pass
    with (writer.path / "walk.jsonl").open("ab") as file:
        file.write(b"\xff\xfe\n" + b"[" * 100_000 + b"\n")
    writer.restore([campaign])
    assert campaign.done == {orders.parse("+klp_patch").events}
    assert not campaign.dead and campaign.stats.blocked == 0
    os.truncate(writer.path / "walk.jsonl", 1 << 42)
    with pytest.raises(UsageError, match="larger than") as caught:
        writer.restore([campaign])
    assert "move it away" in caught.value.hint
    (writer.path / "walk.jsonl").unlink()
    os.mkfifo(writer.path / "walk.jsonl")
    assert list(explorejson.journal(writer.path)) == []


def test_names_of_schema_1_are_read(tmp_path: Path) -> None:
    """So that nights of an older klp-e2e stay readable, and its explorations are gone on with."""
    campaign = Campaign(a_bench("basic"), "basic", CampaignOptions(depth=3))
    campaign.stats.blocked, campaign.stats.not_run = 7, 8
    campaign.stats.errors["no guest"] = 8
    now = document(campaign, tmp_path)
    file = tmp_path / "walk" / "explore.json"
    old = json.loads(file.read_text())
    old["schema"] = 1
    old["wanted"], old["grounds"] = old.pop("options"), old.pop("campaigns")
    (record,) = old["grounds"]
    record["tally"] = tally = record.pop("stats")
    for name, before in (("blocked", "beyond"), ("not_run", "unwalked"), ("errors", "troubles")):
        tally[before] = tally.pop(name)
    for finding in record["findings"]:
        finding["ways"] = finding.pop("reproducers")
    file.write_text(json.dumps(old))
    assert explorejson.load_exploration(file.parent) == now
    (file.parent / "walk.jsonl").write_text(
        json.dumps({"arch": "x", "set": "basic", "order": "+klp_patch", "good": False, "beyond": 4})
    )
    assert [line.blocked for line in explorejson.journal(file.parent)] == [4]


def test_an_exploration_of_no_architecture_is_not_resumed(tmp_path: Path) -> None:
    ExploreDirectory(tmp_path / "walk", head(CampaignOptions(depth=3)))
    with pytest.raises(UsageError, match="names no architecture"):
        explore.resumed(tmp_path / "walk", 1)


# --- what is said ------------------------------------------------------------------------------


def document(campaign: Campaign, tmp_path: Path, strict: bool = False) -> ExploreDocument:
    asked = replace(head(CampaignOptions(depth=3)), run=replace(RUN, strict=strict))
    writer = ExploreDirectory(tmp_path / "walk", asked)
    writer.save([campaign])
    assert json.loads((writer.path / "explore.json").read_text())["schema"] == explorejson.SCHEMA
    return explorejson.load_exploration(writer.path)


def test_the_report_names_the_finding_its_order_and_its_reliability(tmp_path: Path) -> None:
    campaign = Campaign(a_bench("basic"), "basic", CampaignOptions(depth=3))
    walk(campaign, BAD)
    found(campaign)
    shown = resultstext.plain(exploretext.exploration_report(document(campaign, tmp_path)))
    assert "basic +klp_target: answer: ENOEXEC (8) (1 order)" in shown
    assert "order      +klp_patch +klp_target\n" in shown
    assert "reliable   3 of 10 cold boots, 1 in the walk" in shown
    assert "findings/one" in shown
    assert f"{campaign.stats.verified} orders verified" in shown
    assert "1 finding, in 1 min 00 s" in shown


@pytest.mark.parametrize("width", [40, 80, 120, 200])
def test_no_number_is_cut_where_the_terminal_is_narrow(tmp_path: Path, width: int) -> None:
    campaign = Campaign(a_bench("basic"), "basic", CampaignOptions(depth=3))
    walk(campaign, BAD)
    found(campaign)
    campaign.stats.relocations = 2737273
    campaign.stats.planned = 12345
    console = Terminal(file=io.StringIO(), width=width)
    console.print(exploretext.exploration_report(document(campaign, tmp_path)))
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    assert all(len(line) <= width for line in shown.splitlines())
    for word in (*exploretext.COLUMNS, "2737273", "12345"):
        assert word in " ".join(shown.split()), (width, word)
    bars = Terminal(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    with Reporter(bars) as reporter:
        reporter.advance("exploring s390x two-targets", 12345, 67890, "3 findings")
    assert isinstance(bars.file, io.StringIO)
    assert "12345/67890" in bars.file.getvalue()


@pytest.mark.parametrize(
    ("status", "strict", "not_run", "expected"),
    [
        (None, False, 0, Exit.GOOD),
        (Status.FAIL, False, 0, Exit.TEST_FAILURE),
        (Status.FAIL, False, 3, Exit.TEST_FAILURE),
        (Status.KNOWN, False, 0, Exit.GOOD),
        (Status.KNOWN, True, 0, Exit.TEST_FAILURE),
        (None, False, 3, Exit.HARNESS),
        (Status.ERROR, False, 0, Exit.HARNESS),
        (Status.ERROR, True, 0, Exit.HARNESS),
    ],
)
def test_exit_codes(
    tmp_path: Path, status: Status | None, strict: bool, not_run: int, expected: Exit
) -> None:
    campaign = Campaign(a_bench("basic"), "basic", CampaignOptions(depth=3))
    walk(campaign)
    if status is not None:
        found(campaign, status, "an-issue" if status is Status.KNOWN else "")
    if status is Status.ERROR:  # the set itself is to blame
        results = [way.result for each in campaign.findings for way in each.reproducers]
        blamed = [replace(each, culprit="probe 'x' never showed it") for each in results]
        campaign.findings = rejudged(campaign.findings, blamed)
    if not_run:
        campaign.not_run(BAD, not_run, "no guest")
    made = document(campaign, tmp_path, strict)
    assert explorejson.exploration_exit_code(made) is expected
    shown = resultstext.plain(exploretext.exploration_report(made))
    blamed_lines = (
        f"ERROR {campaign} +klp_target",
        "culprit    probe 'x' never showed it",
        f"{SUSPECT}: 1 of",
    )
    assert [line in shown for line in blamed_lines] == [status is Status.ERROR] * 3
    if not_run:
        assert "3 orders not walked: no guest" in resultstext.plain(
            exploretext.exploration_report(made)
        )


def test_an_exploration_that_verified_nothing_proved_nothing(tmp_path: Path) -> None:
    campaign = Campaign(a_bench("basic"), "basic", CampaignOptions(depth=3))
    assert explorejson.exploration_exit_code(document(campaign, tmp_path)) is Exit.HARNESS


def test_what_is_left_to_come_without_a_budget_is_no_success(tmp_path: Path) -> None:
    campaign = Campaign(a_bench("basic"), "basic", CampaignOptions(depth=5))
    walk(campaign, most=100)
    made = document(campaign, tmp_path)
    assert campaign.stats.verified and campaign.stats.done < campaign.stats.planned
    assert explorejson.exploration_exit_code(made) is Exit.HARNESS
    bounded = replace(made, options=replace(made.options, budget=60.0))
    assert explorejson.exploration_exit_code(bounded) is Exit.GOOD
    untouched = replace(
        made.campaigns[0], stats=Campaign(a_bench("basic"), "basic", CampaignOptions()).stats
    )
    also = replace(bounded, campaigns=(*bounded.campaigns, untouched))
    assert explorejson.exploration_exit_code(also) is Exit.HARNESS


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


STALE = KnownIssue(
    "stale",
    "t",
    "r",
    "",
    ("s390x",),
    CheckKind.RELOCATION,
    via="got",
    stale=True,
    lacks="clears-on-unload",
)


def test_what_the_walk_saw_is_judged_by_itself() -> None:
    """And shortened to what fails alike: an order that is known explains none that is not."""
    text = "+klp_patch +klp_target -klp_target +filler +klp_target"
    bench = replace(
        a_bench("basic"),
        arch=catalog.arch("s390x"),
        kernel=a_kernel("s390x"),
        known_issues=(STALE,),
    )

    def hit(order: str, *earlier: int) -> Hit:
        bad = a_reading(
            "12 34", livepatch="klp_patch", object="klp_target", hop="got", hop_address=1,
            earlier=earlier,
        )  # fmt: skip
        return Hit(orders.parse(order), Step("+klp_target", (bad,), 0.0, 0.0, 1), "")

    def seen(order: str, *earlier: int) -> CaseResult:
        return triage.seen_once(bench, "basic", hit(order, *earlier))

    stale, news = seen(text, 0x8), seen(text, 0x4)
    assert (stale.status, news.status) == (Status.KNOWN, Status.FAIL)

    def run(case: Case) -> CaseResult:  # a kernel on which it is stale, whenever it is run alone
        return replace(seen(orders.format(case.order), 0x8), case=case)

    assert triage.reproducer(stale, run, run, 2).repeated == 2
    once = triage.reproducer(news, run, run, 2)
    assert (once.result, once.repeated) == (news, 0)


def test_a_race_on_the_way_counts_as_it_went() -> None:
    """{+t -t} that was refused and unloaded leaves no t: the next load writes over what is left."""
    bench = replace(
        a_bench("basic"),
        arch=catalog.arch("s390x"),
        kernel=a_kernel("s390x"),
        known_issues=(STALE,),
    )
    answers = ((0,), (0,), (17, 0), (0,))
    text = "+klp_patch +klp_target {+klp_target -klp_target} +filler +klp_target"
    events = orders.parse(text).events
    before = tuple(
        Step(orders.format_event(e), (words.answers(Answers(a, a)),), 0.0, 0.0, 0)
        for e, a in zip(events, answers, strict=False)
    )
    bad = a_reading(
        "12 34", livepatch="klp_patch", object="klp_target", hop="got", hop_address=1, earlier=(8,)
    )
    hit = Hit(Order(events), Step("+klp_target", (bad,), 0.0, 0.0, 1), "", before)
    assert triage.seen_once(bench, "basic", hit).status is Status.KNOWN
    steps = triage.seen_once(bench, "basic", hit).steps
    assert [len(step.checks) for step in steps] == [1] * 5


@pytest.mark.parametrize("strict", [False, True])
def test_other_programs_read_an_exploration_too(tmp_path: Path, strict: bool) -> None:
    campaign = Campaign(a_bench("basic"), "basic", CampaignOptions(depth=3))
    walk(campaign, BAD)
    found(campaign, Status.KNOWN, "an-issue")
    asked = replace(head(CampaignOptions(depth=3)), run=replace(RUN, strict=strict))
    with ExploreDirectory(tmp_path / "walk", asked, exploremachine.MACHINES) as writer:
        writer.update(replace(writer.head.run, kernels=(a_bench("basic").kernel,)))
        writer.save([campaign])
    (suite,) = junitparser.JUnitXml.fromfile(str(writer.path / "junit.xml"))
    assert [case.name for case in suite] == ["walk", "+klp_target: answer: ENOEXEC (8)"]
    assert (suite.failures, suite.errors, suite.skipped) == ((1, 0, 0) if strict else (0, 0, 1))
    told = json.loads((writer.path / "explore.json").read_text())
    assert told["exit_code"] == explorejson.exploration_exit_code(writer.head)
    assert {status: n for status, n in told["counts"].items() if n} == {"KNOWN": 1}
    ktap = (writer.path / "results.ktap").read_text()
    directive = "not ok 2" if strict else "ok 2"
    assert "ok 1 walk\n" in ktap and f"  {directive} +klp_target: answer: ENOEXEC (8) # " in ktap
    assert "reliable   3 of 10 cold boots" in ktap and "Bail out!" not in ktap


def test_an_exploration_that_is_not_whole_says_so_to_other_programs(tmp_path: Path) -> None:
    campaign = Campaign(a_bench("basic"), "basic", CampaignOptions(depth=5))
    walk(campaign, most=100)
    made = replace(document(campaign, tmp_path), run=replace(RUN, trouble="no memory"))
    assert "not ok 1 walk # ERROR" in exploremachine.text(made)
    assert "orders are still to come" in exploremachine.text(made)
    assert "Bail out! stopped early: no memory" in exploremachine.text(made)
    assert exploremachine.junit(made).count("<error") == 2
