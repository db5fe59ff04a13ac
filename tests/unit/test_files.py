# SPDX-License-Identifier: GPL-2.0-only
"""Only regular files of a limited size are read, whoever names them."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from history_samples import a_kernel_input, a_night
from test_report import a_result, a_run

from orchestrator import catalog
from orchestrator.commands import convert, inspect
from orchestrator.commands.nightly import inputs, timer
from orchestrator.errors import KlpError, UsageError
from orchestrator.history.files import configs
from orchestrator.host import files
from orchestrator.report import cardjson, directory, explorejson, trialsjson
from orchestrator.source import series
from orchestrator.verdicts import Status

RUN = a_run(2, finished=None)


def a_begun_one(place: Path) -> Path:
    """Results of one case; its directory."""
    with directory.ResultsDirectory(place, RUN) as writer:
        writer.add(a_result(Status.PASS))
    return place / "s390x" / "basic.reload"


def test_a_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"12345")
    assert files.read(path, 5) == b"12345"
    with pytest.raises(OSError, match="larger than 0 KiB"):
        files.read(path, 4)
    (tmp_path / "link").symlink_to(path)
    assert files.read(tmp_path / "link", 5) == b"12345"


@pytest.fixture(params=["device", "fifo", "directory", "sparse", "loop"])
def odd(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """What would take all memory, wait for ever, or is no file."""
    path = tmp_path / "odd.toml"
    match request.param:
        case "device":
            path.symlink_to("/dev/zero")
        case "fifo":
            os.mkfifo(path)
        case "directory":
            path.mkdir()
        case "sparse":
            path.touch()
            os.truncate(path, 1 << 40)
        case "loop":
            path.symlink_to(path)
    return path


def test_what_is_no_file_of_a_sane_size_is_refused_by_each_reader(
    odd: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError):
        catalog.read_toml(odd)
    with pytest.raises(UsageError):
        inspect.examine(odd)
    with pytest.raises(UsageError):
        series.resolve(str(odd), (6, 1))
    quilt = tmp_path / "quilt"
    quilt.mkdir()
    (quilt / "series").write_text("../odd.toml\n")
    with pytest.raises(UsageError, match=r"series:1: \.\./odd\.toml: "):
        series.resolve(str(quilt), (6, 1))


def test_nor_is_it_read_where_a_document_of_ours_is_to_be(
    odd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, load in (
        ("results.json", directory.read),
        ("explore.json", explorejson.load_exploration),
        ("trials.json", trialsjson.load_trials),
        ("card.json", cardjson.load_card),
    ):
        odd.rename(tmp_path / name)
        with pytest.raises(UsageError, match="cannot read"):
            load(tmp_path)
        (tmp_path / name).rename(odd)
    console = a_begun_one(tmp_path / "r") / "console.log"
    console.unlink()
    odd.rename(console)
    with pytest.raises(KlpError, match=r"console\.log"):
        directory.ResultsDirectory(tmp_path / "r", RUN, resume=True)
    console.rename(odd)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    unit = tmp_path / "systemd" / "user" / timer.TIMER
    unit.parent.mkdir(parents=True)
    odd.rename(unit)
    with pytest.raises(UsageError, match="stays as it is"):
        timer._write({timer.TIMER: ""})
    unit.rename(odd)
    kept = tmp_path / inputs.SERIES / "k"
    kept.mkdir(parents=True)
    odd.rename(kept / inputs.LIST)
    assert not inputs.is_kept(tmp_path, kept / "1.patch")


def test_a_configuration_that_is_none_is_not_waited_for(tmp_path: Path) -> None:
    """What a results.json says of a kernel's files may name any of this machine."""
    night = a_night("2026-01-01-020000")
    for config in ("/proc/kmsg", "/dev/zero", "/proc/self/mem"):
        told = replace(night, kernels=(replace(a_kernel_input("6.1"), config=config),))
        assert configs(tmp_path, told, tmp_path, told) == {}


def test_a_file_that_came_meanwhile_is_not_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    goal, write = tmp_path / "out.ko", Path.write_bytes

    def slow(self: Path, data: bytes) -> int:
        goal.write_text("a neighbour's")
        return write(self, data)

    monkeypatch.setattr(Path, "write_bytes", slow)
    with pytest.raises(UsageError, match="is there already"):
        convert.write_atomically(goal, b"ELF", force=False)
    assert goal.read_text() == "a neighbour's"
    monkeypatch.undo()
    convert.write_atomically(goal, b"ELF", force=True)
    assert goal.read_bytes() == b"ELF" and [*tmp_path.iterdir()] == [goal]
