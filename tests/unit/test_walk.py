# SPDX-License-Identifier: GPL-2.0-only
"""Directories deeper than Python's own functions go, and whose paths are longer than the kernel's
calls take."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator.host import ours, pruning, rundir, walk, workdir

DEEP = 1500


def dug(top: Path, levels: int, name: str = "d") -> None:
    """Make so many directories, one in the other, with a file in each tenth and a link."""
    top.mkdir(parents=True, exist_ok=True)
    at = os.open(top, os.O_RDONLY)
    for level in range(levels):
        os.mkdir(name, dir_fd=at)
        if level % 10 == 0:
            os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=at))
            os.symlink("/", "link", dir_fd=at)
        inner = os.open(name, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = inner
    os.close(at)


def test_all_is_found_each_directory_before_what_is_in_it(tmp_path: Path) -> None:
    dug(tmp_path / "a", DEEP)
    found = list(walk.below(tmp_path))
    assert len(found) == 1 + DEEP + 2 * DEEP // 10
    seen = {tmp_path}
    for path in found:
        assert path.parent in seen
        seen.add(path)
    walk.remove(tmp_path / "a")  # pytest could not
    (tmp_path / "file").touch()
    assert list(walk.below(tmp_path / "no")) == list(walk.below(tmp_path / "file")) == []


@pytest.mark.parametrize(("levels", "name"), [(3, "d"), (DEEP, "d"), (DEEP, "d" * 200)])
def test_what_is_deep_is_removed_and_nothing_behind_a_link(
    tmp_path: Path, levels: int, name: str
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "document").write_text("mine")
    dug(tmp_path / "a", levels, name)
    dug(tmp_path / "a/0", levels, name)  # a name that a remover might give
    (tmp_path / "a/link to mine").symlink_to(mine)
    (tmp_path / "a/d").mkdir(exist_ok=True)
    (tmp_path / "a/d/read-only").mkdir(mode=0o500)
    (tmp_path / "a/d/read-only/of mine").symlink_to(mine)
    ours.scrap(tmp_path / "a")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    assert (mine / "document").read_text() == "mine"


@pytest.mark.parametrize("levels", [3, 40])
def test_the_slow_way_removes_the_same(tmp_path: Path, levels: int) -> None:
    dug(tmp_path / "a", levels)
    dug(tmp_path / "a/0/1", levels)
    dug(tmp_path / "a/1/0", levels)
    walk.remove(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_a_killed_run_that_was_deep_in_its_directory_is_in_nobodys_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with rundir.run_dir() as place:
        base = place.parent
    left = base / "patch.abcdefgh"
    dug(left, DEEP)
    rundir.lock_of(left).touch()
    with rundir.run_dir():
        assert not left.exists()


def test_a_cache_in_which_an_entry_is_deep_is_listed_and_pruned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KLP_E2E_CACHE", str(tmp_path / "cache"))
    root = workdir.cache_root(using=False)
    final = root / "sources/tar-1"
    with workdir.staging(final) as tmp:
        dug(tmp / "linux", DEEP)
        workdir.publish(tmp, final)
    assert workdir.verify(final) == ""
    os.utime(final, (0, 0))
    assert [entry.name for entry in pruning.entries(root)] == ["tar-1"]
    assert [entry.name for entry in pruning.prune(root, 0)] == ["tar-1"]
    assert [path.suffix for path in final.parent.iterdir()] == [".lock"]
