# SPDX-License-Identifier: GPL-2.0-only
"""A bundle of a real failure: seen again by `klp-e2e replay`, and by its script alone."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from conftest import MakeBenches
from vmkit import ARCHES, MARK, PATIENCE, TROUBLE, Klp, Told, case, run_cases, wait_for

from orchestrator.build.prepare import Bootable
from orchestrator.repro import bundle, record
from orchestrator.run.slot import GuestOptions
from orchestrator.verdicts import CaseResult, CheckKind, Status

RELOAD = "+klp_patch +klp_target -klp_target +filler +klp_target"
SYSTEM = "/usr/bin:/bin"  # nothing of ours


@dataclass(frozen=True)
class Failure:
    """The reload order on a bare kernel, and its bundle."""

    bootable: Bootable
    result: CaseResult
    place: Path


@pytest.fixture(scope="module", params=ARCHES)
def failure(
    request: pytest.FixtureRequest,
    make_benches: MakeBenches,
    tmp_path_factory: pytest.TempPathFactory,
) -> Failure:
    bootable = make_benches(())[request.param]
    ran = run_cases([bootable], [case("reload", RELOAD)], GuestOptions(cold=True))
    (result,) = ran.results
    assert result.status is Status.KNOWN
    place = tmp_path_factory.mktemp("bundles") / "b"
    bundle.write(place, bootable, result, (1, 1))
    return Failure(bootable, result, place)


def started(klp: Klp, place: Path, *arguments: str) -> subprocess.Popen[str]:
    """./reproduce.sh of a host that has nothing but its system's programs."""
    return subprocess.Popen(
        ["./reproduce.sh", *arguments],
        cwd=place,
        env={"PATH": SYSTEM, "HOME": os.devnull, "TMPDIR": str(klp.temporary), MARK: klp.mark},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def reproduce(klp: Klp, place: Path) -> Told:
    with started(klp, place) as script:
        out, _ = script.communicate(timeout=PATIENCE * 2)
    klp.assert_nothing_left()
    return Told(script.returncode, out, "")


def only(result: CaseResult, kind: CheckKind) -> CaseResult:
    """As if nothing else had been checked after the last event."""
    *before, last = result.steps
    checks = tuple(check for check in last.checks if check.kind is kind)
    return replace(result, steps=(*before, replace(last, checks=checks)))


def test_replay_sees_it_again(failure: Failure, klp: Klp) -> None:
    told = klp.run("replay", str(failure.place))
    assert told.code == 1, told.err
    assert f"order     {RELOAD}\n" in told.out
    assert "1 of 1  REPRODUCED  +klp_target: " in told.out
    assert told.out.endswith("reproduced 1 of 1\n")


def test_the_script_sees_it_again_in_a_directory_with_a_blank(
    failure: Failure, klp: Klp, tmp_path: Path
) -> None:
    place = tmp_path / "a, b & c"
    shutil.copytree(failure.place, place)
    told = reproduce(klp, place)
    assert told.code == 1, told.out
    assert "  4. +filler                          success\n" in told.out
    assert "\nREPRODUCED: " in told.out
    shown = [line.split()[0] for line in told.out.splitlines() if line.startswith("  5. ")]
    assert shown == ["5."]


def test_the_script_reads_relocations_as_we_do(
    failure: Failure, bootables: Mapping[str, Bootable], klp: Klp, tmp_path: Path
) -> None:
    """Judged by nothing but the bytes: wrong on the bare kernel, right on the good one."""
    result = only(failure.result, CheckKind.RELOCATION)
    bundle.write(tmp_path / "bare", failure.bootable, result, (1, 1))
    told = reproduce(klp, tmp_path / "bare")
    assert told.code == 1, told.out
    assert "\nREPRODUCED: bytes " in told.out
    good = bootables[failure.bootable.arch.name]
    bundle.write(tmp_path / "good", good, result, (1, 1))
    told = reproduce(klp, tmp_path / "good")
    assert told.code == 0, told.out
    assert "\nNOT REPRODUCED: bytes " in told.out


def test_another_kernel_in_its_place_is_tried(
    failure: Failure, bootables: Mapping[str, Bootable], klp: Klp, tmp_path: Path
) -> None:
    """What a developer does with a fix; both say that it is one."""
    good = bootables[failure.bootable.arch.name].kernel
    place = tmp_path / "b"
    shutil.copytree(failure.place, place)
    shutil.copyfile(good.image, place / "kernel")
    told = klp.run("replay", str(place))
    assert told.code == 2
    assert "kernel is not what was written" in told.err and "sha256" in told.err
    shutil.copyfile(good.system_map, place / "System.map")
    text = (place / "bundle.json").read_text()
    for name, digest in record.load_record(failure.place).files.items():
        text = text.replace(digest, record.digests(place)[name])
    (place / "bundle.json").write_text(text)
    told = klp.run("replay", str(place))
    assert told.code == 0, told.out + told.err
    assert told.out.endswith("reproduced 0 of 1\n")
    told = reproduce(klp, place)
    assert told.code == 0, told.out
    assert "\nNOT REPRODUCED: " in told.out


def test_a_crash_is_seen_again(bootable: Bootable, klp: Klp, tmp_path: Path) -> None:
    """What the guest can still say of its end is all there is to judge by."""
    place = tmp_path / "b"
    ran = run_cases([bootable], [case("panic", "+trouble trouble.what=panic", TROUBLE)])
    bundle.write(place, bootable, ran.results[0], (1, 1))
    told = reproduce(klp, place)
    assert told.code == 1, told.out
    assert "REPRODUCED: health: guest: expected lives, seen Kernel panic" in told.out
    script = place / "reproduce.sh"
    script.write_text(script.read_text().replace("/what panic'", "/what calm'"))
    assert reproduce(klp, place).code == 0


def test_a_script_that_is_ended_leaves_nothing(failure: Failure, klp: Klp) -> None:
    with started(klp, failure.place) as script:
        wait_for("QEMU and ssh", lambda: klp.emulators(failure.bootable) and klp.running("ssh"))
        script.send_signal(signal.SIGTERM)
        script.communicate(timeout=PATIENCE)
    assert script.returncode == 128 + signal.SIGTERM
    klp.assert_nothing_left()


def test_a_guest_that_does_not_boot_is_trouble(failure: Failure, klp: Klp, tmp_path: Path) -> None:
    place = tmp_path / "b"
    shutil.copytree(failure.place, place)
    (place / "kernel").write_bytes(b"")
    told = reproduce(klp, place)
    assert told.code == 4
    assert "trouble: QEMU has ended: " in told.out
