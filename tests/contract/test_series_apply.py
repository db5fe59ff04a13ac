# SPDX-License-Identifier: GPL-2.0-only
"""Series on a tree, by the real patch(1), git and mboxes; and a working tree that follows them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator import process, series, worktree
from orchestrator.errors import PatchError, UsageError
from orchestrator.series import Patch, Patched, Series
from orchestrator.sources import SourceTree

TEN = "".join(f"line {n}\n" for n in range(1, 11))


def diff(old: str, new: str, name: str) -> str:
    """A unified diff as git makes it; "" for a file that is not there."""
    import difflib

    one = f"a/{name}" if old else "/dev/null"
    two = f"b/{name}" if new else "/dev/null"
    return "".join(difflib.unified_diff(old.splitlines(True), new.splitlines(True), one, two))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    (tree / "fs").mkdir(parents=True)
    (tree / "fs/ten.c").write_text(TEN)
    (tree / "fs/gone.h").write_text("old\n")
    (tree / "tool.sh").write_text("#!/bin/sh\n")
    (tree / "tool.sh").chmod(0o755)
    return tree


def apply(tree: Path, tmp_path: Path, *texts: str) -> dict[str, Patched]:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    patches = tuple(Patch(f"{n}.patch", text) for n, text in enumerate(texts, 1))
    return dict(series.apply(tree, [Series("mine", patches)], scratch))


def test_patches_stack_and_the_tree_is_left_alone(tree: Path, tmp_path: Path) -> None:
    once = TEN.replace("line 5\n", "five\n")
    twice = once.replace("five\n", "FIVE\n")
    result = apply(
        tree,
        tmp_path,
        "a message\n---\n" + diff(TEN, once, "fs/ten.c"),
        diff(once, twice, "fs/ten.c") + diff("", "new\n", "fs/sub/new.c"),
        diff("old\n", "", "fs/gone.h"),
    )
    assert result == {
        "fs/ten.c": Patched(twice.encode()),
        "fs/sub/new.c": Patched(b"new\n"),
        "fs/gone.h": Patched(None),
    }
    assert (tree / "fs/ten.c").read_text() == TEN and (tree / "fs/gone.h").exists()


def test_a_series_that_undoes_itself_changes_nothing(tree: Path, tmp_path: Path) -> None:
    other = TEN.replace("5", "five")
    there, back = diff(TEN, other, "fs/ten.c"), diff(other, TEN, "fs/ten.c")
    assert apply(tree, tmp_path, there, back) == {}


def test_an_offset_is_taken_and_fuzz_is_not(tree: Path, tmp_path: Path) -> None:
    moved = "".join(f"new {n}\n" for n in range(5)) + TEN
    patch = diff(TEN, TEN.replace("line 5\n", "five\n"), "fs/ten.c")
    (tree / "fs/ten.c").write_text(moved)
    assert apply(tree, tmp_path, patch)["fs/ten.c"].content == (
        moved.replace("line 5\n", "five\n").encode()
    )
    (tmp_path / "scratch").rename(tmp_path / "used")
    (tree / "fs/ten.c").write_text(TEN.replace("line 2\n", "line two\n"))
    with pytest.raises(PatchError, match="hunk #1"):
        apply(tree, tmp_path, patch)


def test_patch_file_and_hunk_are_named(tree: Path, tmp_path: Path) -> None:
    long = "".join(f"line {n}\n" for n in range(1, 41))
    (tree / "fs/ten.c").write_text(long)
    new = long.replace("line 5\n", "five\n").replace("line 33\n", "x\n")
    bad = diff(long, new, "fs/ten.c").replace("-line 33\n", "-line thirty\n")
    with pytest.raises(PatchError) as caught:
        apply(tree, tmp_path, diff("old\n", "newer\n", "fs/gone.h"), bad)
    assert str(caught.value) == ("mine: 2.patch does not apply: fs/ten.c: hunk #2 at line 30")
    assert "series-X.Y" in caught.value.hint


@pytest.mark.parametrize(
    ("patch", "told"),
    [
        (diff("x\n", "y\n", "fs/none.c"), "there is no file fs/none.c"),
        (diff("neu\n", "old\n", "fs/gone.h"), "fs/gone.h: it is applied already"),
        (diff("x\n", "y\n", "../../etc/passwd"), "lies outside the tree"),
        ("no diff at all\n", "garbage"),
        ("diff --git a/x b/x\nGIT binary patch\nliteral 1\n", "binary patch"),
    ],
)
def test_other_refusals_say_why(tree: Path, tmp_path: Path, patch: str, told: str) -> None:
    with pytest.raises(PatchError, match=told):
        apply(tree, tmp_path, patch)


def test_a_git_range_gives_its_commits_in_order(tree: Path, tmp_path: Path) -> None:
    def git(*words: str) -> None:
        who = ["-c", "user.name=A", "-c", "user.email=a@b"]
        process.run(["git", "-C", str(tree), *who, *words])

    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "--message=base")
    for number in ("one", "two"):
        (tree / "fs/ten.c").write_text(f"{number}\n" + TEN)
        git("commit", "--quiet", "--all", f"--message=livepatch: {number}")
    found = series.resolve(f"git:{tree}#HEAD~2..HEAD", (6, 1))
    names = ["0001-livepatch-one.patch", "0002-livepatch-two.patch"]
    assert [patch.name for patch in found.patches] == names
    git("checkout", "--quiet", "HEAD~2")
    (tmp_path / "scratch").mkdir()
    result = series.apply(tree, [found], tmp_path / "scratch")
    assert result["fs/ten.c"].content == ("two\n" + TEN).encode()
    with pytest.raises(UsageError, match=r"has no commit nonesuch"):
        series.resolve(f"git:{tree}#nonesuch..HEAD", (6, 1))


def test_a_working_tree_changes_only_what_is_to_change(tree: Path, tmp_path: Path) -> None:
    source = SourceTree("tar:x", "6.1", tree, "digest", (6, 1), "x")
    work = tmp_path / "work" / "src"

    def times() -> dict[str, int]:
        files = (p for p in work.rglob("*") if p.is_file())
        return {str(p.relative_to(work)): p.stat().st_mtime_ns for p in files}

    old = 1_000_000_000
    for path in tree.rglob("*"):
        os.utime(path, (old, old))
    assert worktree.sync(source, {}, work) == {"fs/ten.c", "fs/gone.h", "tool.sh"}
    assert set(times().values()) == {old * 10**9}

    put = {"fs/ten.c": Patched(b"other\n"), "new.c": Patched(b"1\n"), "fs/gone.h": Patched(None)}
    assert worktree.sync(source, put, work) == {"fs/ten.c", "new.c", "fs/gone.h"}
    first = times()
    assert first["tool.sh"] == old * 10**9 < first["fs/ten.c"] and "fs/gone.h" not in first
    assert (tree / "fs/ten.c").read_text() == TEN  # the hard link was replaced, not written to

    assert worktree.sync(source, put, work) == frozenset() and times() == first
    put["new.c"] = Patched(b"2\n")
    assert worktree.sync(source, put, work) == {"new.c"}

    record = work.with_name("src.json")
    record.unlink()  # as a kill leaves it
    (work / "stray.c").write_text("")
    assert worktree.sync(source, {}, work) == {"fs/ten.c", "new.c", "fs/gone.h", "stray.c"}
    assert (work / "fs/ten.c").stat().st_mtime_ns > first["tool.sh"]  # undone, so newer too
    assert not (work / "new.c").exists() and (work / "fs/gone.h").read_text() == "old\n"
