# SPDX-License-Identifier: GPL-2.0-only
"""What starts nights by itself: systemd's units by systemd's own check, and what CI jobs make of
our nightly.toml. No timer is ever started here: systemctl is a fake."""

from __future__ import annotations

import json
import secrets
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner

from orchestrator.catalog import load_toml
from orchestrator.commands.nightly import plan, timer, work
from orchestrator.commands.nightly.config import Config
from orchestrator.errors import Exit
from orchestrator.host import process

ROOT = Path(__file__).parents[2]
HOSTILE = "mail -s \"$KLP_E2E_SUBJECT\" 'a%h' \\ | cat\n; echo ${HOME} %% é"


@pytest.fixture
def systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Makes a systemctl of a shell script, which logs what it is called with; the log."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("KLP_E2E_CACHE", raising=False)

    def make(body: str) -> Path:
        programs = tmp_path / "bin"
        programs.mkdir(exist_ok=True)
        fake = programs / "systemctl"
        fake.write_text(f'#!/bin/sh\necho "$*" >>{tmp_path}/log\n{body}\n')
        fake.chmod(0o755)
        monkeypatch.setenv("PATH", str(programs), prepend=":")
        return tmp_path / "log"

    return make


def verified(place: Path, tmp_path: Path) -> str:
    """What systemd finds wrong with the units that lie there."""
    # sockets of other packages' units lie below it, and a socket's path has at most 107 bytes
    (tmp_path / "run").mkdir(exist_ok=True)
    short = Path(f"/tmp/{secrets.token_hex(4)}")
    short.symlink_to(tmp_path / "run")
    runtime = {"XDG_RUNTIME_DIR": str(short)}
    units = sorted(place.iterdir())
    try:
        done = process.run(
            ["systemd-analyze", "--user", "verify", *units], env=runtime, check=False
        )
    finally:
        short.unlink()
    return done.output + done.errors


def test_systemd_takes_the_units_whatever_is_in_them(tmp_path: Path) -> None:
    program = str(Path(sys.executable).with_name("klp-e2e"))
    command = [program, "nightly", "/a b/%n.toml", "--notify-command", HOSTILE]
    for name, text in timer.units(command, tmp_path, {"KLP_E2E_CACHE": "/x y%"}).items():
        (tmp_path / "units").mkdir(exist_ok=True)
        (tmp_path / "units" / name).write_text(text)
    assert verified(tmp_path / "units", tmp_path) == ""
    service = tmp_path / "units" / "klp-e2e-nightly.service"
    service.write_text(service.read_text().replace("KillMode=mixed", "KillMode=some"))
    assert "some" in verified(tmp_path / "units", tmp_path)


def test_installing_says_what_it_did_and_is_done_twice_without_harm(
    tmp_path: Path, systemctl: Callable[[str], Path]
) -> None:
    log = systemctl("exit 0")
    words = [str(ROOT / "kernel-config/nightly.toml"), "-o", str(tmp_path / "nights")]
    place = tmp_path / "config" / "systemd" / "user"
    for done in ("written", "as it was"):
        told = CliRunner().invoke(timer.app, words)
        assert told.exit_code == Exit.GOOD, told.output
        assert f"{place}/klp-e2e-nightly.timer: {done}\n" in told.stdout
        assert f"&& rm {place}/klp-e2e-nightly.service {place}/klp-e2e-nightly.timer" in told.stdout
    assert log.read_text().splitlines()[3:] == [
        "--user daemon-reload",
        "--user enable klp-e2e-nightly.timer",
        "--user restart klp-e2e-nightly.timer",
    ]
    service = (place / "klp-e2e-nightly.service").read_text()
    assert f'nightly.toml" "-o" "{tmp_path}/nights" "--wait"\n' in service
    assert verified(place, tmp_path) == ""


@pytest.mark.parametrize("name", ["klp-e2e-nightly.service", "klp-e2e-nightly.timer"])
@pytest.mark.parametrize("linked", [False, True])
def test_a_unit_of_somebody_elses_stays(
    tmp_path: Path, systemctl: Callable[[str], Path], name: str, linked: bool
) -> None:
    systemctl("exit 0")
    place, theirs = tmp_path / "config/systemd/user", "[Service]\nExecStart=/bin/mine\n"
    place.mkdir(parents=True)
    real = tmp_path / "dotfile" if linked else place / name
    real.write_text(theirs)
    if linked:
        (place / name).symlink_to(real)
    told = CliRunner().invoke(timer.app, [str(ROOT / "kernel-config/nightly.toml")])
    assert told.exit_code == Exit.USAGE and f"{place / name} is there" in told.stderr
    assert real.read_text() == theirs and [path.name for path in place.iterdir()] == [name]


@pytest.mark.parametrize("name", ["a\nExecStartPre=touch x", "a\\", "a "])
def test_a_directory_that_a_unit_cannot_name_is_refused(
    name: str, tmp_path: Path, systemctl: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    systemctl("exit 0")
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / name)
    told = CliRunner().invoke(timer.app, [str(ROOT / "kernel-config/nightly.toml")])
    assert told.exit_code == Exit.USAGE and "systemd cannot be told" in told.stderr
    assert not (tmp_path / "config").exists()


def test_without_a_session_the_units_are_written_all_the_same(
    tmp_path: Path, systemctl: Callable[[str], Path]
) -> None:
    systemctl("echo 'Failed to connect to bus: No medium found' >&2; exit 1")
    told = CliRunner().invoke(timer.app, [str(ROOT / "kernel-config/nightly.toml")])
    assert told.exit_code == Exit.HARNESS
    assert told.stderr.splitlines() == [
        "klp-e2e: the units are written, but no systemd of yours takes them: "
        "Failed to connect to bus: No medium found",
        f"    once you are logged in, outside of containers: {timer.START}",
    ]
    assert len(list((tmp_path / "config/systemd/user").iterdir())) == 2


def test_a_night_that_nobody_described_is_not_installed(
    tmp_path: Path, systemctl: Callable[[str], Path]
) -> None:
    systemctl("exit 0")
    told = CliRunner().invoke(timer.app, [str(tmp_path / "none.toml")])
    assert told.exit_code == Exit.USAGE
    assert not (tmp_path / "config").exists()


def planning(place: str) -> list[str]:
    """The lines of the job that plans, from the matrix on."""
    shown = YAML().load((ROOT / ".ci" / place / "nightly.yml").read_text())
    lines = (
        [step.get("run", "") for step in shown["jobs"]["plan"]["steps"]]
        if place == "github"
        else [*shown["klp-e2e-plan"]["script"]]
    )
    first = next(number for number, line in enumerate(lines) if line.startswith("sed "))
    return lines[first:]


@pytest.mark.parametrize("place", ["github", "gitlab"])
def test_ci_jobs_run_every_job_of_the_matrix_once(place: str, tmp_path: Path) -> None:
    """What the job that plans hands on names all of it, and each a part of its own."""
    for name in ("kernel-config", ".ci"):
        shutil.copytree(ROOT / name, tmp_path / name)
    (tmp_path / ".venv").symlink_to(Path(sys.executable).parents[1])
    output = tmp_path / "output"
    script = "\n".join(planning(place))
    process.run(["bash", "-euc", script], cwd=tmp_path, env={"GITHUB_OUTPUT": str(output)})

    if place == "github":
        cells = json.loads(output.read_text().removeprefix("cells="))
    else:
        jobs = YAML().load((tmp_path / "child.yml").read_text())
        made = [job for job in jobs.values() if "extends" in job and job["extends"] == ".cell"]
        cells = [job["variables"]["CELL"] for job in made]
    file = tmp_path / "nightly.toml"
    whole = work.jobs(work.night_options(file, tmp_path / "nights", None, False, None))
    assert whole and load_toml(file, Config).budget == "4h"
    parts = [job.name for cell in cells for job in plan.chosen(whole, [f"{cell}/*"])]
    assert sorted(parts) == sorted(job.name for job in whole)
