# SPDX-License-Identifier: GPL-2.0-only
"""Run directories: private, short, and nobody else's temporary files are touched."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.host import locks, ours, rundir
from orchestrator.host.rundir import run_dir


@pytest.fixture(autouse=True)
def base(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The place of run directories, in a temporary directory that is short enough."""
    with tempfile.TemporaryDirectory(prefix="k", dir="/tmp") as short:
        monkeypatch.setattr(tempfile, "tempdir", short)
        yield Path(short) / f"klp-e2e-{os.geteuid()}"


def test_a_run_directory_is_private_short_and_goes(base: Path) -> None:
    with run_dir("guest") as path:
        assert base.stat().st_mode & 0o777 == path.stat().st_mode & 0o777 == 0o700
        assert len(os.fsencode(path / ("s" * rundir.SOCKET_NAME_ROOM))) < rundir.SUN_PATH
        assert not list(path.iterdir())
        (path / "sub").mkdir()
        with run_dir("guest") as other:
            assert other != path and path.exists()
    assert {p.name for p in base.iterdir()} == {ours.MARK, rundir.LOCK}


def test_what_is_not_ours_in_the_temporary_directory_stays(base: Path) -> None:
    patch, bisect = base.parent / "klp-fix.patch", base.parent / "klp-build.99999999-x"
    patch.write_text("x")
    bisect.mkdir()
    with run_dir():
        pass
    assert patch.exists() and bisect.exists()


def test_a_killed_run_s_directory_goes_and_a_living_one_s_stays(base: Path) -> None:
    with run_dir("living") as living:
        for name in ("killed", "killed-at-birth", "mine"):
            (base / name).mkdir()
        for name in ("killed", "mine"):
            (base / name / "half").touch()
        rundir.lock_of(base / "killed").touch()
        (base / "link").symlink_to(living)
        with run_dir():
            assert living.exists() and not (base / "killed").exists()
            assert not (base / "killed-at-birth").exists() and (base / "link").is_symlink()
            assert (base / "mine" / "half").exists()


def test_a_place_of_somebody_else_s_is_refused_untouched(base: Path) -> None:
    base.mkdir()
    (base / "thesis").write_text("x")
    with pytest.raises(ours.NotOurs, match="not made by klp-e2e") as caught, run_dir():
        pass
    assert "TMPDIR" in caught.value.hint
    assert [p.name for p in base.iterdir()] == ["thesis"]


@pytest.mark.parametrize("mode", [0o777, 0o770])
def test_a_place_that_others_write_to_is_refused(base: Path, mode: int) -> None:
    base.mkdir()
    base.chmod(mode)
    with pytest.raises(ours.NotOurs, match="others may write"), run_dir():
        pass
    assert not list(base.iterdir())


def test_a_lock_is_told_from_one_that_nobody_holds(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with locks.held(path), pytest.raises(locks.Busy), locks.held(path):
        pass
    with locks.held(path):
        pass


def test_a_lock_is_made_through_no_link(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"), locks.held(tmp_path / "lock"):
        pass
    assert not (tmp_path / "elsewhere").exists()
