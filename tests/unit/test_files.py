# SPDX-License-Identifier: GPL-2.0-only
"""Only regular files of a limited size are read, whoever names them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator import catalog
from orchestrator.commands import modfiles
from orchestrator.errors import UsageError
from orchestrator.host import files
from orchestrator.source import series


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
        modfiles.examine(odd)
    with pytest.raises(UsageError):
        series.resolve(str(odd), (6, 1))
    quilt = tmp_path / "quilt"
    quilt.mkdir()
    (quilt / "series").write_text("../odd.toml\n")
    with pytest.raises(UsageError, match=r"series:1: \.\./odd\.toml: "):
        series.resolve(str(quilt), (6, 1))
