# SPDX-License-Identifier: GPL-2.0-only
"""Nothing is removed or replaced that does not say it is ours."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.host import ours
from orchestrator.host.ours import MarkKind, NotOurs


def place(directory: Path, kind: MarkKind = MarkKind.RESULTS) -> Path:
    ours.make(directory, kind, "choose another")
    return directory


def test_a_new_and_an_empty_directory_become_ours_a_full_one_does_not(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis").write_text("x")
    for name in ("new", "empty"):
        assert ours.marked(place(tmp_path / name), MarkKind.RESULTS)
        place(tmp_path / name)  # it is ours already
    with pytest.raises(NotOurs, match="is not empty") as caught:
        place(tmp_path / "full")
    assert caught.value.hint == "choose another" and caught.value.exit_code == 2
    assert [p.name for p in (tmp_path / "full").iterdir()] == ["thesis"]
    with pytest.raises(NotOurs):
        place(tmp_path / "new", MarkKind.NIGHTS)


@pytest.mark.parametrize("text", ["", "{", "[]", '"results"', '{"klp-e2e": 1}', "[" * 5000, "\xff"])
def test_a_mark_of_others_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / ours.MARK).write_bytes(text.encode("latin-1"))
    assert not ours.marked(tmp_path)
    with pytest.raises(NotOurs):
        ours.remove(tmp_path, within=tmp_path)


def test_a_mark_that_is_a_link_or_no_file_is_none(tmp_path: Path) -> None:
    place(tmp_path / "ours")
    for name in ("link", "pipe"):
        (tmp_path / name).mkdir()
    (tmp_path / "link" / ours.MARK).symlink_to(tmp_path / "ours" / ours.MARK)
    os.mkfifo(tmp_path / "pipe" / ours.MARK)
    (tmp_path / "linked").symlink_to(tmp_path / "ours")
    assert not any(ours.marked(tmp_path / name) for name in ("link", "pipe", "linked", "none"))


@pytest.mark.parametrize(
    "way",
    [
        lambda top: top / "victim",
        lambda top: top / "ours" / ".." / "victim",
        lambda top: top / "ours" / "a" / ".." / ".." / "victim",
        lambda top: top / "ours" / "out" / "thesis",
        lambda top: top / "ours" / "..",
        lambda top: top,
    ],
)
def test_no_way_leads_out(tmp_path: Path, way: Callable[[Path], Path]) -> None:
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "thesis").write_text("x")
    inside = place(tmp_path / "ours")
    (inside / "a").mkdir()
    (inside / "out").symlink_to(tmp_path / "victim")
    with pytest.raises(NotOurs):
        ours.remove(way(tmp_path), within=inside)
    assert (tmp_path / "victim" / "thesis").exists() and ours.marked(inside)


def test_what_is_ours_goes_and_a_link_goes_alone(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("x")
    inside = place(tmp_path / "ours")
    (inside / "link").symlink_to(tmp_path / "victim")
    (inside / "tree" / "read-only").mkdir(parents=True)
    (inside / "tree" / "read-only" / "file").touch()
    (inside / "tree" / "read-only").chmod(0o500)
    (inside / "tree" / "link").symlink_to(tmp_path)
    for name in ("link", "tree", "nothing"):
        ours.remove(inside / name, within=inside)
    assert [p.name for p in inside.iterdir()] == [ours.MARK]
    ours.remove(inside, within=inside)
    assert (tmp_path / "victim").read_text() == "x" and not inside.exists()


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    (tmp_path / f".file{ours.PARTIAL}").write_text("a stranger's")
    with pytest.raises(RuntimeError), ours.replacing(path) as partial:
        partial.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    with ours.replacing(path, 0o755, sync=True) as partial:
        partial.write_text("new")
    assert path.read_text() == "new" and path.stat().st_mode & 0o777 == 0o755
    assert {p.name for p in tmp_path.iterdir()} == {"file", f".file{ours.PARTIAL}"}


def test_a_link_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "victim")
    for name in ("link", "."):
        with pytest.raises(NotOurs), ours.replacing(tmp_path / name):
            pass
    assert (tmp_path / "link").is_symlink() and (tmp_path / "victim").read_text() == "x"


def test_a_mark_that_a_kill_left_half_written_is_written(tmp_path: Path) -> None:
    (tmp_path / ours.MARK).touch()
    assert ours.marked(place(tmp_path), MarkKind.RESULTS)


def test_nobody_waits_for_the_reader_of_a_fifo(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "journal")
    with pytest.raises(OSError, match="No such device"):
        ours.appending(tmp_path / "journal")


@pytest.mark.parametrize("kind", [MarkKind.ENTRY, MarkKind.RUNS])
def test_nothing_that_is_to_last_is_made_where_things_go(tmp_path: Path, kind: MarkKind) -> None:
    (tmp_path / "entry").mkdir()
    ours.mark(tmp_path / "entry", kind)
    with pytest.raises(NotOurs, match="does not last"):
        ours.make(tmp_path / "entry" / "sub" / "r", MarkKind.RESULTS, "")
    assert [path.name for path in (tmp_path / "entry").iterdir()] == [ours.MARK]


def test_several_processes_may_claim_one_place_at_once(tmp_path: Path) -> None:
    script = "import sys, pathlib; from orchestrator.host import ours\n"
    script += "ours.make(pathlib.Path(sys.argv[1]), ours.MarkKind.CACHE, 'x', mode=0o700)"
    argv = [sys.executable, "-c", script, str(tmp_path / "cache")]
    assert [one.wait() for one in [subprocess.Popen(argv) for _ in range(6)]] == [0] * 6


def test_only_what_was_looked_at_is_removed(tmp_path: Path) -> None:
    place = tmp_path / "r"
    ours.make(place, MarkKind.RESULTS, "")
    (place / "sub").mkdir()
    for name in ("a", "b", "sub/c", "doc.json"):
        (place / name).write_text("x")

    def meanwhile(_: Path) -> bool:
        (place / "sub/note").write_text("x")
        (place / "a").write_text("a day's work")
        return False

    assert not ours.removed(place, place, meanwhile)
    left = sorted(str(path.relative_to(place)) for path in place.rglob("*"))
    assert left == [ours.MARK, "a", "doc.json", "sub", "sub/note"]
    assert not ours.removed(place, place, lambda _: True)
    (place / "sub").chmod(0o500)
    assert ours.removed(place, place, lambda _: False) and not place.exists()
    assert ours.removed(place, place, lambda _: False)
    with pytest.raises(ours.NotOurs):
        ours.removed(tmp_path, tmp_path, lambda _: False)
