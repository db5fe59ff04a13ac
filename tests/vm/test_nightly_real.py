# SPDX-License-Identifier: GPL-2.0-only
"""Nights with real guests: what changed, and whatever happens to a night on the way."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import time
from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest
from samples import Told, read_changes
from vmkit import BUILDS, Klp, in_namespace, wait_for

from orchestrator import catalog
from orchestrator.build.prepare import Bootable
from orchestrator.cli import options
from orchestrator.commands.nightly import content
from orchestrator.errors import Exit
from orchestrator.history import files
from orchestrator.history.digest import digest
from orchestrator.history.nights import Change, Changes, Night, State
from orchestrator.source.alterations import AlterationKind
from orchestrator.verdicts import Status

pytestmark = [pytest.mark.xdist_group("nights"), pytest.mark.timeout(BUILDS)]

KILLS = 20
BOTH = 'kernels = ["debian:6.1"]\nseries = ["none"]\nsuites = ["smoke"]\n'
SHORT = BOTH + 'arches = ["s390x"]\n'


@pytest.fixture
def nights(klp: Klp) -> Path:
    return klp.directory / "nights"


def nightly(
    klp: Klp, *more: str, matrix: str = SHORT, head: str = "", resume: bool = False
) -> list[str]:
    """The words of a short night, or of the rest of the last one; a state directory of its own
    keeps it from waiting for others."""
    nights = klp.directory / "nights"
    place = ("--resume", str(nights / last(nights).name)) if resume else ("-o", str(nights))
    config = klp.directory / "short.toml"
    config.write_text(f"keep_free = 0.0\n{head}\n[[matrix]]\n{matrix}")
    return ["nightly", str(config), *place, *more]


def own_state(klp: Klp) -> Mapping[str, str]:
    return {"KLP_E2E_STATE": str(klp.directory / "state")}


def last(nights: Path) -> Night:
    *_, newest = files.nights(nights)
    return files.read(newest)


def outcome(night: Night) -> list[tuple[str, str, Status]]:
    return sorted((row.job, row.case, row.status) for row in night.rows)


# --- what changed --------------------------------------------------------------------------------


@pytest.fixture
def series(klp: Klp) -> Path:
    """A quilt directory with a patch that changes nothing."""
    place = klp.directory / "mine"
    place.mkdir()
    (place / "harmless.patch").write_text(
        "--- a/kernel/livepatch/core.c\n+++ b/kernel/livepatch/core.c\n"
        "@@ -1,3 +1,4 @@\n+/* klp-e2e was here */\n // SPDX-License-Identifier: GPL-2.0-or-later\n"
        " /*\n  * core.c - Kernel Live Patching Core\n"
    )
    (place / "series").write_text("harmless.patch\n")
    return place


def test_three_nights(klp: Klp, nights: Path, series: Path) -> None:
    """One that is good, one with a patch more that breaks it, one that is mended."""
    matrix = SHORT.replace('"none"', '"mine"')

    def night() -> Told:
        return klp.run(*nightly(klp, matrix=matrix), env=own_state(klp))

    assert night().code == Exit.GOOD
    assert {row.status for row in last(nights).rows} == {Status.PASS, Status.KNOWN}

    (ours,) = options.alterations(AlterationKind.MUTANT, ("*-alive-not-set",))
    bad = catalog.data_dir("kernel-config") / f"{ours.series}.patch"
    (series / "bad.patch").write_bytes(bad.read_bytes())
    (series / "series").write_text("harmless.patch\nbad.patch\n")
    told = night()
    assert told.code == Exit.TEST_FAILURE, told.err
    found = last(nights)
    failed = [row for row in found.rows if row.status is Status.FAIL]
    assert [row.case for row in failed] == ["basic/target-first"]
    assert [(row.failed, row.runs) for row in failed] == [(3, 3)]
    assert {blame.patch for blame in found.blames} == {"bad.patch"}
    news = read_changes(nights / found.name)
    new = [each.row.case for each in news.changed if each.change is Change.NEW_FAILURE]
    assert new == [row.case for row in failed]
    assert [each.what for each in news.inputs] == ["patch bad.patch"]
    # the first screen of everything that is read first
    mail = (nights / found.name / "mail.txt").read_text()
    assert mail.startswith("Subject: ") and "bad.patch" in mail
    assert failed[0].reproduce in mail and failed[0].reproduce in told.out
    page = (nights / found.name / "index.html").read_text()
    first_screen = re.sub("<[^>]+>", "", page[: page.index("<table")])
    assert "bad.patch" in first_screen
    assert "klp-e2e run --arch s390x" in first_screen

    (series / "series").write_text("harmless.patch\n")
    assert night().code == Exit.GOOD
    news = read_changes(nights / last(nights).name)
    assert [e.row.case for e in news.changed if e.change is Change.FIXED] == ["basic/target-first"]
    shown = klp.run("history", "target-first", "-o", str(nights), env=own_state(klp))
    assert shown.code == Exit.GOOD and "basic/target-first" in shown.out
    for place in files.nights(nights):
        assert content.foreign(place) == "", "all of it may go when its time has come"
    compared = klp.run("compare", *map(str, list(files.nights(nights))[:2]), env=own_state(klp))
    assert compared.code == Exit.TEST_FAILURE and "bad.patch" in compared.out


def test_parts_that_were_run_apart_make_the_night(klp: Klp, nights: Path) -> None:
    """Each in a place of its own, as on machines of their own; the rest is of the unit tests."""
    assert klp.run(*nightly(klp, matrix=BOTH), env=own_state(klp)).code == Exit.GOOD
    whole = last(nights)
    config = klp.directory / "short.toml"
    made: list[str] = []
    plan = klp.run("nightly", str(config), "--dry-run", "--json", env=own_state(klp))
    for cell in json.loads(plan.out)["cells"]:
        place = klp.directory / f"machine-{len(made)}"
        words = ["nightly", str(config), "-o", str(place), "--only", f"{cell}/*"]
        told = klp.run(*words, env=own_state(klp))
        assert told.code == Exit.GOOD and "a part of a night" in told.out
        made += [str(path) for path in place.glob("part-*")]
    assert len(made) == 2
    merged = klp.directory / "merged"
    told = klp.run("merge", made[0], "-o", str(merged), env=own_state(klp))
    assert told.code == Exit.HARNESS and "2 jobs not run" in told.out
    told = klp.run("merge", *made, "-o", str(merged), env=own_state(klp))
    assert told.code == Exit.GOOD, told.out + told.err
    found = last(merged)
    assert outcome(found) == outcome(whole)
    assert digest(found, Changes("")) == digest(whole, Changes(""))
    assert [kernel.release for kernel in found.kernels] != []
    place = merged / found.name
    pages = [len([*(each / "cases").glob("*.html")]) for each in (place, nights / whole.name)]
    assert pages[0] == pages[1] > 0
    assert content.foreign(place) == "", "all of it may go when its time has come"
    compared = klp.run("compare", str(nights / whole.name), str(place), env=own_state(klp))
    assert compared.code == Exit.GOOD, compared.out


# --- whatever happens on the way -----------------------------------------------------------------


def test_killed_at_random_moments_it_ends_as_an_undisturbed_one(klp: Klp, nights: Path) -> None:
    """kill -9; each time it is gone on with, and a case that has its result does not run again."""
    assert klp.run(*nightly(klp, matrix=BOTH), env=own_state(klp)).code == Exit.GOOD
    undisturbed = last(nights)
    moments = random.Random(7)
    killed = 0

    def begun_too() -> bool:
        """On a busy machine a night may not have begun when it is killed."""
        return last(nights).name != undisturbed.name

    for _ in range(KILLS):
        resume = begun_too()
        begun = klp.start(*nightly(klp, resume=resume, matrix=BOTH), env=own_state(klp))
        with contextlib.suppress(Exception):
            begun.wait(moments.uniform(0.5, 3.5))
        if begun.poll() is not None:
            break
        os.kill(begun.pid, signal.SIGKILL)
        begun.wait()
        klp.assert_no_process_left()
        killed += 1
    else:
        klp.run(*nightly(klp, resume=begun_too(), matrix=BOTH), env=own_state(klp))
    assert killed >= 3
    disturbed = last(nights)
    assert disturbed.name != undisturbed.name and disturbed.finished is not None
    assert outcome(disturbed) == outcome(undisturbed)
    assert {record.state for record in disturbed.jobs} == {State.ENDED}


def test_a_killed_emulator_is_error_and_no_failure(
    klp: Klp, nights: Path, bootables: Mapping[str, Bootable]
) -> None:
    begun = klp.start(*nightly(klp), env=own_state(klp))
    bootable = bootables["s390x"]
    victim: psutil.Process = wait_for("an emulator", lambda: klp.emulators(bootable))[0]
    time.sleep(0.5)
    victim.kill()
    told = klp.end(begun)
    klp.assert_nothing_left()
    statuses = {row.status for row in last(nights).rows}
    assert Status.FAIL not in statuses and Status.FLAKY not in statuses
    assert (told.code == Exit.HARNESS) == (Status.ERROR in statuses), told.out
    assert (nights / last(nights).name / "index.html").exists()


def test_a_full_disk_ends_the_night_which_goes_on_later(klp: Klp, nights: Path) -> None:
    """Results are what there is room for; no kernel is blamed for it."""
    nights.mkdir()
    more_room = klp.directory / "more-room"
    small = in_namespace(
        f"mount -t tmpfs -o size=240k none {nights}", after=f"cp -a {nights} {more_room}"
    )
    told = klp.run(*nightly(klp), env=own_state(klp), prefix=small)
    assert told.code == Exit.HARNESS, told.out + told.err
    assert "No space left" in told.err and "Traceback" not in told.err
    stopped = last(more_room)
    assert stopped.finished is None
    assert {row.status for row in stopped.rows} <= {Status.PASS, Status.KNOWN, Status.ERROR}
    words = ["nightly", str(klp.directory / "short.toml")]
    words += ["--resume", str(more_room / stopped.name)]
    assert klp.run(*words, env=own_state(klp)).code in (Exit.GOOD, Exit.HARNESS)
    whole = last(more_room)
    assert whole.name == stopped.name and whole.finished is not None
    assert Status.FAIL not in {row.status for row in whole.rows}


def test_two_nights_at_once(klp: Klp, nights: Path) -> None:
    first = klp.start(*nightly(klp), env=own_state(klp))
    wait_for("the first night", lambda: list(files.nights(nights)))
    second = klp.end(klp.start(*nightly(klp), env=own_state(klp)))
    assert second.code == Exit.HARNESS
    assert "another night runs" in second.err and "--wait" in second.err
    patient = klp.start(*nightly(klp, "--wait"), env=own_state(klp))
    assert klp.end(first).code == Exit.GOOD
    told = klp.end(patient)
    assert told.code == Exit.GOOD and "waiting for it" in told.err
    assert len(list(files.nights(nights))) == 2


def test_ctrl_c_and_resume_and_no_time(klp: Klp, nights: Path) -> None:
    begun = klp.start(*nightly(klp), env=own_state(klp))
    wait_for("a result", lambda: list(nights.glob("*/jobs/*/*/smoke/*/*/result.json")))
    begun.send_signal(signal.SIGINT)
    told = klp.end(begun)
    assert told.code == Exit.INTERRUPTED and told.err.rstrip().endswith("klp-e2e: interrupted")
    klp.assert_nothing_left()
    assert last(nights).trouble == "interrupted"
    assert klp.run(*nightly(klp, resume=True), env=own_state(klp)).code == Exit.GOOD
    assert last(nights).trouble == "" and len(list(files.nights(nights))) == 1
    page = nights / last(nights).name / "index.html"
    page.unlink()
    told = klp.run("report", str(page.parent), env=own_state(klp))
    assert told.code == Exit.GOOD and str(page) in told.out and page.exists()
    refused = klp.run(*nightly(klp, resume=True), env=own_state(klp))
    assert refused.code == Exit.USAGE and "has ended" in refused.err
    # estimates come from the night before: there is time for builds, and for nothing else
    short = klp.run(*nightly(klp, head='budget = "2s"'), env=own_state(klp))
    assert short.code == Exit.HARNESS
    skipped = [r.reason for r in last(nights).jobs if r.state is State.SKIPPED]
    ended = [r.reason for r in last(nights).jobs if "time was up" in r.reason]
    assert ended or all("time is up" in why for why in skipped)
    assert skipped or ended
