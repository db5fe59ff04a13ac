# SPDX-License-Identifier: GPL-2.0-only
"""A directory of ours appears whole or not at all, and in the place of nothing but its own kind."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.host import ours
from orchestrator.host.ours import MarkKind, NotOurs


def make(place: Path, text: str, kind: MarkKind = MarkKind.BUNDLE) -> None:
    with ours.appearing(place, kind) as partial:
        assert partial.parent == place.parent and ours.marked(partial, kind)
        (partial / "text").write_text(text)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_it_takes_the_place_of_nothing_an_empty_directory_or_its_own_kind(tmp_path: Path) -> None:
    place = tmp_path / "new" / "place"
    make(place, "one")
    make(place, "two")
    (tmp_path / "empty").mkdir()
    make(tmp_path / "empty", "three")
    assert ((place / "text").read_text(), names(place)) == ("two", [ours.MARK, "text"])
    assert (tmp_path / "empty" / "text").read_text() == "three"
    assert (names(tmp_path), names(place.parent)) == (["empty", "new"], ["place"])


@pytest.mark.parametrize("what", ["full", "file", "link", "other kind"])
def test_anything_else_stays(tmp_path: Path, what: str) -> None:
    place = tmp_path / "place"
    match what:
        case "full":
            place.mkdir()
            (place / "thesis").write_text("years")
        case "file":
            place.write_text("years")
        case "link":
            (tmp_path / "theirs").mkdir()
            place.symlink_to(tmp_path / "theirs")
        case "other kind":
            make(place, "years", MarkKind.NIGHT)
    before = names(tmp_path)
    with pytest.raises(NotOurs, match="is not replaced"):
        make(place, "mine")
    assert names(tmp_path) == before
    assert (
        place.is_symlink()
        or not place.is_dir()
        or "mine" not in (path.read_text() for path in place.iterdir())
    )


@pytest.mark.parametrize("kind", [MarkKind.ENTRY, MarkKind.RUNS])
def test_nothing_appears_where_it_would_not_last(tmp_path: Path, kind: MarkKind) -> None:
    entry = tmp_path / "entry"
    entry.mkdir()
    ours.mark(entry, kind)
    (tmp_path / "link").symlink_to(entry)
    for place in (entry / "new", entry / "below/new", tmp_path / "link/new"):
        with (
            pytest.raises(NotOurs, match="does not last"),
            ours.appearing(place, MarkKind.BUNDLE),
        ):
            pass
    assert [path.name for path in entry.iterdir()] == [ours.MARK]


def test_what_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "place"
    make(place, "one")

    def fails() -> None:
        with ours.appearing(place, MarkKind.BUNDLE) as partial:
            (partial / "half").write_text("")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fails()
    rename, done = Path.rename, list[str]()

    def last_fails(self: Path, target: Path) -> Path:
        done.append(self.suffix)
        if self.suffix == ours.PARTIAL:
            raise OSError("the disk is gone")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", last_fails)
    with pytest.raises(OSError, match="the disk is gone"):
        make(place, "two")
    assert done == [".begun", "", ours.PARTIAL, ours.BEFORE], "the one that was there came back"
    assert (names(tmp_path), (place / "text").read_text()) == (["place"], "one")


KILLED = """
import os, pathlib, sys
from orchestrator.host import ours
place, when = pathlib.Path(sys.argv[1]), sys.argv[2]
rename = pathlib.Path.rename
def killed(self, target):
    if when == "between" and self.suffix == ours.PARTIAL:
        os._exit(9)
    done = rename(self, target)
    if when == "after" and self.suffix == ours.PARTIAL:
        os._exit(9)
    return done
pathlib.Path.rename = killed
with ours.appearing(place, ours.MarkKind.BUNDLE) as partial:
    (partial / "text").write_text("two")
"""


@pytest.mark.parametrize(("when", "there"), [("between", "one"), ("after", "two")])
def test_a_process_that_is_killed_while_it_replaces_loses_neither(
    tmp_path: Path, when: str, there: str
) -> None:
    place = tmp_path / "place"
    make(place, "one")
    argv = [sys.executable, "-c", KILLED, str(place), when]
    assert subprocess.run(argv, check=False).returncode == 9
    make(tmp_path / "other", "three")  # whoever comes next
    assert names(tmp_path) == ["other", "place"] and (place / "text").read_text() == there


def test_what_is_being_replaced_is_left_to_whoever_does_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "place"
    make(place, "one")
    rename = Path.rename

    def swept(self: Path, target: Path) -> Path:
        if self.suffix in (ours.PARTIAL, ".begun"):
            ours.sweep(tmp_path, MarkKind.BUNDLE)  # another process
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", swept)
    make(place, "two")
    assert (names(tmp_path), (place / "text").read_text()) == (["place"], "two")


def alien(place: Path) -> bool:
    return (place / "note").exists()


@pytest.mark.parametrize("by", ["name", "working directory"])
def test_a_note_that_comes_while_it_is_replaced_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    place = tmp_path / "place"
    make(place, "one")
    rename = Path.rename

    def meanwhile(self: Path, target: Path) -> Path:
        if by == "name" and target.suffix == ours.BEFORE:
            (self / "note").write_text("a day's work")
        done = rename(self, target)
        if by != "name" and target == place:
            (hidden,) = tmp_path.glob(f".*{ours.BEFORE}")
            (hidden / "note").write_text("a day's work")
        return done

    monkeypatch.setattr(Path, "rename", meanwhile)
    with contextlib.ExitStack() as stack:
        if by == "name":
            stack.enter_context(pytest.raises(NotOurs, match="was written to just now"))
        with ours.appearing(place, MarkKind.BUNDLE, alien) as partial:
            (partial / "text").write_text("two")
    kept = place
    if by != "name":
        assert (place / "text").read_text() == "two"
        (kept,) = tmp_path.glob("place.added-to-*")
    assert (kept / "note").read_text() == "a day's work"
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_what_does_not_say_that_it_is_ours_stays_whatever_it_is_called(tmp_path: Path) -> None:
    hidden = tmp_path / f".one.{'0' * 16}{ours.BEFORE}"
    other = tmp_path / f".two.{'0' * 16}{ours.BEFORE}"
    hidden.mkdir()
    other.mkdir()
    (other / "note").write_text("a day's work")
    ours.sweep(tmp_path, MarkKind.BUNDLE)
    assert (names(tmp_path), names(other)) == ([hidden.name, other.name], ["note"])


def test_a_note_in_what_a_kill_has_left_stays(tmp_path: Path) -> None:
    for name in ("one", "two"):
        make(tmp_path / name, name)
    hidden = tmp_path / f".one.{'0' * 16}{ours.BEFORE}"
    (tmp_path / "one").rename(hidden)
    (tmp_path / "two").rename(tmp_path / "one")
    (hidden / "note").write_text("a day's work")
    ours.sweep(tmp_path, MarkKind.BUNDLE, alien)
    (kept,) = tmp_path.glob("one.added-to-*")
    assert (kept / "note").exists() and not hidden.exists()


MAKES = """
import pathlib, sys
from orchestrator.host import ours
with ours.appearing(pathlib.Path(sys.argv[1]), ours.MarkKind.BUNDLE):
    print("begun", flush=True)
    sys.stdin.read()
"""


def test_what_a_killed_process_has_left_goes_and_nothing_else(tmp_path: Path) -> None:
    def begin(name: str) -> subprocess.Popen[bytes]:
        argv = [sys.executable, "-c", MAKES, str(tmp_path / name)]
        begun = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert begun.stdout is not None and begun.stdout.readline() == b"begun\n"
        return begun

    killed = begin("killed")
    killed.kill()
    killed.communicate()
    theirs = tmp_path / ".mine.0123456789abcdef.partial"  # a name proves nothing
    (theirs / "thesis").mkdir(parents=True)
    other = tmp_path / ".other.0123456789abcdef.partial"
    other.mkdir()
    ours.mark(other, MarkKind.NIGHT)
    living = begin("living")
    alive = [name for name in names(tmp_path) if name.startswith(".living.")]
    assert len(alive) == 1
    assert not [name for name in names(tmp_path) if name.startswith(".killed.")]  # living swept
    ours.sweep(tmp_path, MarkKind.BUNDLE)
    assert names(tmp_path) == sorted([*alive, theirs.name, other.name])
    living.communicate()
    assert (living.returncode, ours.marked(tmp_path / "living", MarkKind.BUNDLE)) == (0, True)
    (tmp_path / "link").symlink_to(tmp_path)
    ours.sweep(tmp_path / "link", MarkKind.BUNDLE)
    ours.sweep(tmp_path / "nowhere", MarkKind.BUNDLE)
