# SPDX-License-Identifier: GPL-2.0-only
"""Exploration of real kernels: it finds what is there, nothing else, and its totals add up whatever
happens to its guests."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from vmkit import ARCHES, TROUBLE, Klp, wait_for

from orchestrator.build.prepare import Bootable
from orchestrator.deadline import Deadline
from orchestrator.errors import HarnessError
from orchestrator.explore import exploration
from orchestrator.explore.campaign import Campaign, CampaignOptions, Strategy
from orchestrator.explore.exploration import Listener
from orchestrator.explore.walker import EventPath as Events
from orchestrator.model import orders, search
from orchestrator.model.findings import Reproducer
from orchestrator.nouns import Load
from orchestrator.run import observe
from orchestrator.run.observe import Done
from orchestrator.run.slot import GuestOptions
from orchestrator.verdicts import CheckKind, Step
from orchestrator.vm.guest import Guest

MakeBenches = Callable[[tuple[str, ...]], Mapping[str, Bootable]]


def explored(
    bootable: Bootable,
    module_set: str,
    wanted: CampaignOptions,
    on_verified: Callable[[Campaign], None] = lambda campaign: None,
) -> Campaign:
    campaign = Campaign(bootable, module_set, wanted)
    seen: list[Events] = []

    def verified(_: Campaign, path: Events, step: Step, seconds: float) -> None:
        assert step.good and seconds > 0
        seen.append(path)
        on_verified(campaign)

    def found(_: Campaign, reproducer: Reproducer) -> Reproducer:
        return reproducer

    listener = Listener(
        verified=verified,
        failed=lambda *_: None,
        change=lambda _: None,
        found=found,
        guest=lambda _: None,
        say=lambda _: None,
    )
    exploration.explore([campaign], wanted, GuestOptions(), listener)
    stats = campaign.stats
    assert len(seen) == len(set(seen)) == stats.verified
    assert stats.done == stats.planned
    return campaign


def planned(bootable: Bootable, module_set: str, depth: int) -> search.Plan:
    return search.exhaustive(bootable.sets[module_set].set, bootable.kernel.capabilities, depth)


def test_a_good_kernel_differs_from_the_model_nowhere(bootable: Bootable) -> None:
    campaign = explored(bootable, "callbacks", CampaignOptions(depth=3, guests=2))
    plan = planned(bootable, "callbacks", 3)
    assert campaign.findings == ()
    assert (campaign.stats.verified, campaign.stats.states) == (plan.edges, plan.states)
    assert campaign.stats.relocations > plan.edges


def has_got(bootable: Bootable) -> bool:
    """Then the bug shows only when the target moves, one event later."""
    return any(r.leads_to == "got" for r in bootable.arch.relocations)


@pytest.mark.parametrize("arch", ARCHES)
def test_the_reload_bugs_are_found_and_minimised(make_benches: MakeBenches, arch: str) -> None:
    """Nobody says where to look."""
    bootable = make_benches(())[arch]
    got = has_got(bootable)
    campaign = explored(bootable, "basic", CampaignOptions(depth=5 if got else 4, confirm=1))
    assert campaign.findings
    shortest = [orders.format(found.reproducers[0].order) for found in campaign.findings]
    moved = ["+klp_patch +klp_target -klp_target +filler +klp_target"]
    same = ["+klp_patch +klp_target -klp_target +klp_target"]
    first = "+klp_target +klp_patch "
    told = {text.replace(first, "+klp_patch +klp_target ") for text in shortest}
    assert told == {*(moved if got else same)}
    kind = CheckKind.RELOCATION if got else CheckKind.ANSWER
    for found in campaign.findings:
        assert found.signature.kind == kind
        assert found.known
        assert [(reproducer.repeated, reproducer.tries) for reproducer in found.reproducers] == [
            (1, 1)
        ] * len(found.reproducers)


def test_random_walks_with_races_and_bursts_on_a_good_kernel(bootable: Bootable) -> None:
    choice = search.Choice(races=True, burst=3)
    wanted = CampaignOptions(Strategy.RANDOM, depth=8, orders=4, seed=3, choice=choice)
    campaign = explored(bootable, "basic", wanted)
    assert campaign.findings == ()
    assert campaign.stats.verified == campaign.stats.planned


def test_a_crash_is_a_finding_and_no_error(
    bootable: Bootable, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = [
        "+trouble -trouble",
        "+trouble -trouble +trouble trouble.what=panic -trouble",
        "+trouble",
    ]
    given = [orders.parse(text) for text in told]
    monkeypatch.setattr(search, "random_orders", lambda *_: iter(given))
    campaign = explored(bootable, TROUBLE, CampaignOptions(Strategy.RANDOM, confirm=1))
    (found,) = campaign.findings
    assert found.signature.detail.startswith("guest: Kernel panic - not syncing")
    assert orders.format(found.reproducers[0].order) == "+trouble trouble.what=panic"
    assert found.reproducers[0].repeated == 1
    stats = campaign.stats
    assert (stats.verified, stats.failed, stats.blocked, stats.not_run) == (3, 1, 1, 0)


# --- robustness --------------------------------------------------------------------------------


def test_guests_that_are_killed_cost_nothing_but_time(
    any_bootable: Bootable, monkeypatch: pytest.MonkeyPatch
) -> None:
    guests: list[Guest] = []
    save = Guest.save

    def saved(self: Guest, name: str, deadline: Deadline) -> None:
        guests.append(self)
        save(self, name, deadline)

    monkeypatch.setattr(Guest, "save", saved)

    def kill(campaign: Campaign) -> None:
        if campaign.stats.verified in (5, 20, 40):
            guests[-1].machine.kill()

    campaign = explored(any_bootable, "basic", CampaignOptions(depth=3), kill)
    # one more where a state that was kept unproven did not wake: `Guest.save_unproven`
    assert len(guests) in (4, 5)
    assert campaign.findings == ()
    assert campaign.stats.verified == planned(any_bootable, "basic", 3).edges


def test_snapshots_that_do_not_load_cost_nothing_but_time(
    any_bootable: Bootable, monkeypatch: pytest.MonkeyPatch
) -> None:
    restore = Guest.restore
    refused = []

    def restored(self: Guest, name: str, deadline: Deadline) -> None:
        if name.startswith("depth-"):
            refused.append(name)
            raise HarnessError("it does not load")
        restore(self, name, deadline)

    monkeypatch.setattr(Guest, "restore", restored)
    monkeypatch.setattr(
        "orchestrator.explore.walker.returns", lambda branch: 1000
    )  # keep every state
    campaign = explored(any_bootable, "basic", CampaignOptions(depth=2))
    assert refused
    assert campaign.stats.verified == planned(any_bootable, "basic", 2).edges


def test_a_way_that_answers_otherwise_is_not_gone_on_with(
    any_bootable: Bootable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event that was good once, and is not when it is done again to get somewhere."""

    def perform(*arguments: Any) -> Done:
        done = observe.perform(*arguments)
        return Done((5,)) if isinstance(arguments[2], Load) else done

    monkeypatch.setattr("orchestrator.explore.walker.perform", perform)
    monkeypatch.setattr("orchestrator.explore.walker.returns", lambda branch: 0)  # keep no state
    campaign = explored(any_bootable, "vmlinux", CampaignOptions(depth=2))
    assert campaign.findings == ()
    assert campaign.stats.not_run
    assert all("answered EIO (5)" in why for why in campaign.stats.errors)


def test_without_any_guest_everything_is_unwalked_and_says_why(
    bootable: Bootable, monkeypatch: pytest.MonkeyPatch
) -> None:
    def boot(*_: object, **__: object) -> None:
        raise HarnessError("no guest today")

    monkeypatch.setattr("orchestrator.run.booting.booted", boot)
    campaign = explored(bootable, "basic", CampaignOptions(depth=4))
    plan = planned(bootable, "basic", 4)
    assert campaign.stats.not_run == plan.edges
    assert dict(campaign.stats.errors) == {"no guest today": plan.edges}


# --- the command -------------------------------------------------------------------------------


def arguments(bootable: Bootable, *more: str) -> Sequence[str]:
    return ("explore", "--arch", bootable.arch.name, "--modules", "basic", *more)


def journal(directory: Path) -> list[str]:
    lines = (directory / "walk.jsonl").read_text().splitlines()
    return [json.loads(line)["order"] for line in lines]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_exploration_is_taken_up_again(
    klp: Klp, bootables: Mapping[str, Bootable], how: signal.Signals
) -> None:
    bootable = next(iter(bootables.values()))
    place = klp.directory / "walk"
    started = klp.start(*arguments(bootable, "--depth", "3", "-o", str(place)))
    wait_for("some orders", lambda: (place / "walk.jsonl").exists() and len(journal(place)) > 9)
    started.send_signal(how)
    told = klp.end(started)
    assert told.code == (130 if how is signal.SIGINT else -how)
    wait_for("everything of it to end", lambda: not klp.running())
    for left in klp.run_directories():  # a SIGKILL cannot tidy up; the next run does
        assert how is signal.SIGKILL, left
    before = journal(place)
    again = klp.end(klp.start("explore", "--resume", str(place)))
    assert again.code == 0, again.err
    walked = journal(place)
    assert walked[: len(before)] == before
    assert len(walked) == len(set(walked)) == planned(bootable, "basic", 3).edges
    document = json.loads((place / "explore.json").read_text())
    assert document["run"]["trouble"] == ""
    assert document["campaigns"][0]["stats"]["verified"] == len(walked)


def test_interrupted_while_it_minimises_it_finds_the_same_again(
    klp: Klp, make_benches: MakeBenches
) -> None:
    bootable = min(make_benches(()).values(), key=has_got)
    place = klp.directory / "walk"
    depth = "5" if has_got(bootable) else "4"
    bare = ("--series", "none", "--depth", depth, "--confirm", "1", "-o", str(place))
    started = klp.start(*arguments(bootable, *bare))
    assert started.stderr is not None
    for line in started.stderr:
        if "minimising" in line:
            break
    began = time.monotonic()
    started.send_signal(signal.SIGINT)
    assert klp.end(started).code == 130
    assert time.monotonic() - began < 15, "nobody boots guests any more"
    klp.assert_nothing_left()
    assert json.loads((place / "explore.json").read_text())["campaigns"][0]["findings"] == []
    again = klp.run("explore", "--resume", str(place))
    assert "KNOWN" in again.out
    assert len(journal(place)) == len(set(journal(place)))


def test_a_budget_bounds_the_walk(klp: Klp, any_bootable: Bootable) -> None:
    began = time.monotonic()
    more = ("--modules", "callbacks", "--budget", "12s", "-o", str(klp.directory / "walk"))
    told = klp.run(*arguments(any_bootable, *more))
    assert told.code == 0, told.err
    assert time.monotonic() - began < 60
    campaigns = json.loads((klp.directory / "walk/explore.json").read_text())["campaigns"]
    assert [g["module_set"] for g in campaigns] == ["basic", "callbacks"]
    assert all(campaign["stats"]["verified"] > 0 for campaign in campaigns), "it is for all of them"
    assert "orders verified" in told.out


def test_a_failure_of_a_run_is_shortened(klp: Klp, make_benches: MakeBenches) -> None:
    """With events that do nothing to it before, between and behind."""
    bootable = next(iter(make_benches(()).values()))
    order = "+filler -filler +klp_patch +klp_patch +klp_target -klp_target +filler +klp_target"
    bare = ("--series", "none", "--modules", "basic", "--order", order)
    ran = klp.run("run", "--arch", bootable.arch.name, *bare, "-o", str(klp.results))
    assert ran.code == 0, "it is known, by whatever order it is reached"
    assert "KNOWN" in ran.out
    name = f"{bootable.arch.name}/basic/order-1"
    told = klp.run("minimise", str(klp.results), name, "--confirm", "1")
    assert told.code == 1, told.err
    (shortest,) = [line for line in told.out.splitlines() if line.startswith("order ")]
    events = shortest.removeprefix("order").split()
    assert events[-1] == "+klp_target" and 4 <= len(events) <= 5
    assert "1 of 1 cold boots" in told.out
    assert (klp.results / "findings" / name.replace("/", "-") / "reproduce.sh").exists()
    nothing = klp.run("minimise", str(klp.results), "no/such/case")
    assert nothing.code == 2
    assert f"that failed: {name}" in nothing.err


def test_ones_own_known_issues(klp: Klp, any_bootable: Bootable) -> None:
    """KNOWN where it is as listed, also in a bundle that nobody has the list of."""
    arch = any_bootable.arch.name
    short = "+trouble trouble.what=oops"
    order = f"+trouble -trouble {short}"
    listed = klp.directory / "mine.toml"

    def run(inside: str) -> tuple[int, str]:
        listed.write_text(
            f"""
            [[issue]]
            id = "mine"
            title = "it dies when it is told to"
            reference = "its own source"
            kernels = ""
            architectures = ["{arch}"]
            kind = "health"
            reports = ["BUG: ", "Unable to handle kernel "]
            inside = "{inside}"
            [[issue.fails]]
            modules = "{TROUBLE}"
            event = "trouble.what=oops"
            orders = ["{order}", "{short}"]
            """
        )
        what = ("--arch", arch, "--modules", TROUBLE, "--order", order)
        place = str(klp.directory / inside)
        told = klp.run("run", *what, "--known-issues", str(listed), "-o", place)
        return told.code, told.out

    code, out = run("target")
    assert code == 4 and "1 ERROR" in out, "it lies in a module of another kind, of the set's own"
    code, out = run("plain")
    assert code == 0 and "1 KNOWN" in out and "listed as  mine" in out
    assert f"--known-issues {listed}" in out
    name = f"{arch}/{TROUBLE}/order-1"
    words = ("--modules", TROUBLE, "--known-issues", str(listed), "--confirm", "0")
    told = klp.run("minimise", str(klp.directory / "plain"), name, *words)
    assert told.code == 1 and "listed as  mine" in told.out, told.err
    listed.unlink()
    (bundle,) = (klp.directory / "plain/findings").iterdir()
    told = klp.run("replay", str(bundle))
    assert told.code == 1, "that it is known makes it no less wrong"
    assert "REPRODUCED" in told.out and "(known issue mine)" in told.out
