# SPDX-License-Identifier: GPL-2.0-only
"""Series on a tree, by the real patch(1), git and mboxes; and a working tree that follows them."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from orchestrator.errors import PatchError, UsageError
from orchestrator.host import process
from orchestrator.source import patches, series, worktree
from orchestrator.source.patches import Patch
from orchestrator.source.series import Patched, Series
from orchestrator.source.sources import SourceTree

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


def apply(tree: Path, *texts: str) -> dict[str, Patched]:
    patches = tuple(Patch(f"{n}.patch", text) for n, text in enumerate(texts, 1))
    return dict(series.apply(tree, [Series("mine", patches)]))


def test_patches_stack_and_the_tree_is_left_alone(tree: Path) -> None:
    once = TEN.replace("line 5\n", "five\n")
    twice = once.replace("five\n", "FIVE\n")
    result = apply(
        tree,
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


def test_a_series_that_undoes_itself_changes_nothing(tree: Path) -> None:
    other = TEN.replace("5", "five")
    there, back = diff(TEN, other, "fs/ten.c"), diff(other, TEN, "fs/ten.c")
    assert apply(tree, there, back) == {}


def test_an_offset_is_taken_and_fuzz_is_not(tree: Path) -> None:
    moved = "".join(f"new {n}\n" for n in range(5)) + TEN
    patch = diff(TEN, TEN.replace("line 5\n", "five\n"), "fs/ten.c")
    (tree / "fs/ten.c").write_text(moved)
    assert apply(tree, patch)["fs/ten.c"].content == (moved.replace("line 5\n", "five\n").encode())
    (tree / "fs/ten.c").write_text(TEN.replace("line 2\n", "line two\n"))
    with pytest.raises(PatchError, match="hunk #1"):
        apply(tree, patch)


def test_patch_file_and_hunk_are_named(tree: Path) -> None:
    long = "".join(f"line {n}\n" for n in range(1, 41))
    (tree / "fs/ten.c").write_text(long)
    new = long.replace("line 5\n", "five\n").replace("line 33\n", "x\n")
    bad = diff(long, new, "fs/ten.c").replace("-line 33\n", "-line thirty\n")
    with pytest.raises(PatchError) as caught:
        apply(tree, diff("old\n", "newer\n", "fs/gone.h"), bad)
    assert str(caught.value) == ("mine: 2.patch does not apply: fs/ten.c: hunk #2 at line 30")
    assert "series-X.Y" in caught.value.hint


MOVED = "diff --git a/fs/ten.c b/lib/ten.c\nsimilarity index 100%\n"
GONE = "diff --git a/a.c b/b.c\nsimilarity index 100%\nrename from a.c\nrename to b.c\n"


@pytest.mark.parametrize(
    ("patch", "result"),
    [
        (
            MOVED + "rename from fs/ten.c\nrename to lib/ten.c\n",
            {"fs/ten.c": Patched(None), "lib/ten.c": Patched(TEN.encode())},
        ),
        (
            MOVED + "copy from fs/ten.c\ncopy to lib/ten.c\n",
            {"lib/ten.c": Patched(TEN.encode())},
        ),
        (
            "diff --git a/tool.sh b/tool.sh\nold mode 100755\nnew mode 100644\n",
            {"tool.sh": Patched(b"#!/bin/sh\n", executable=False)},
        ),
        (
            "diff --git a/new b/new\nnew file mode 100755\nindex 0000000..e69de29\n"
            "diff --git a/empty b/empty\ndeleted file mode 100644\nindex e69de29..0000000\n",
            {"new": Patched(b"", executable=True), "empty": Patched(None)},
        ),
        (
            "Index: linux/fs/gone.h\n====\n--- linux.orig/fs/gone.h\n+++ linux/fs/gone.h\n"
            "@@ -1 +1 @@\n-old\n+new\n",
            {"fs/gone.h": Patched(b"new\n")},
        ),
        (
            "It used to be:\n\n" + diff("x\n", "y\n", "fs/ten.c").replace("", "  ", 1)
            + "  --- a/fs/gone.h\n  +++ b/fs/gone.h\n  @@ -1 +1 @@\n  -old\n  +shown\n---\n"
            + diff("old\n", "new\n", "fs/gone.h"),
            {"fs/gone.h": Patched(b"new\n")},
        ),
    ],
)  # fmt: skip
def test_every_kind_of_change(tree: Path, patch: str, result: dict[str, Patched]) -> None:
    (tree / "empty").write_text("")
    assert apply(tree, patch) == result


@pytest.mark.parametrize(
    ("patch", "told", "hint"),
    [
        (diff("x\n", "y\n", "fs/none.c"), "there is no file fs/none.c", "another tree"),
        (GONE, r"does not apply: there is no file a\.c$", "another tree"),
        (diff("neu\n", "old\n", "fs/gone.h"), "fs/gone.h: it is applied already", "has it"),
        (diff("", "old\n", "fs/gone.h"), "fs/gone.h: it is there already", "has it"),
        (diff("old\n", "", "fs/none.h"), "fs/none.h: it is gone already", "has it"),
        (diff("x\n", "", "fs/gone.h"), "gone.h: it is to be deleted, and holds", "another tree"),
        (diff("1\n", "2\n", "crlf"), "crlf: hunk #1 at line 1, by its line ends", "another tree"),
        (diff("x\n", "y\n", "../../etc/passwd"), "1.patch touches ../../etc/passwd, which", ""),
        (diff("x\n", "y\n", "away/passwd"), "but away is a symbolic link in the tree", ""),
        (diff("x\n", "y\n", "link"), "touches link, but link is a symbolic link", ""),
        ("no diff at all\n", "1.patch holds no diff", ""),
    ],
)
def test_refusals_say_why(tree: Path, patch: str, told: str, hint: str) -> None:
    (tree / "away").symlink_to("/etc")
    (tree / "link").symlink_to("fs/gone.h")
    (tree / "crlf").write_bytes(b"1\r\n")
    with pytest.raises(PatchError) as caught:
        apply(tree, patch)
    assert re.search(told, str(caught.value)) and hint in caught.value.hint


class Repository:
    """A git repository of `tree`, whose owner has set what can be set about diffs."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.git("init", "--quiet")
        for name in ("diff.noprefix", "diff.mnemonicPrefix"):
            self.git("config", name, "true")
        self.git("config", "color.ui", "always")
        self.git("config", "format.subjectPrefix", "OURS")
        self.git("add", ".")
        self.commit("base")

    def git(self, *words: str) -> None:
        who = ["-c", "user.name=A", "-c", "user.email=a@b"]
        process.run(["git", "-C", str(self.place), *who, *words])

    def commit(self, message: str) -> None:
        self.git("commit", "--quiet", "--all", "--allow-empty", f"--message={message}")

    def resolve(self, span: str) -> Series:
        return series.resolve(f"git:{self.place}#{span}", (6, 1))


def test_a_git_range_gives_its_commits_in_order(tree: Path) -> None:
    repository = Repository(tree)
    repository.commit("EDITME: the cover letter that b4 prep keeps")
    for number in (b"one", b"tw\xf6"):
        (tree / "fs/ten.c").write_bytes(number + b"\n" + TEN.encode())
        name = "one" if number == b"one" else "two"
        repository.commit(f"livepatch: {name}\n\nFrom 1 Mon Sep 17 00:00:00 2001\n{TEN}")
    found = repository.resolve("HEAD~3..HEAD")
    names = ["0001-livepatch-one.patch", "0002-livepatch-two.patch"]
    assert [patch.name for patch in found.patches] == names
    assert repository.resolve("HEAD~3..HEAD@1").patches == found.patches[:1]
    repository.git("checkout", "--quiet", "HEAD~3")
    result = series.apply(tree, [found])
    assert result["fs/ten.c"].content == b"tw\xf6\n" + TEN.encode()


def test_a_git_range_that_is_no_series_is_refused(tree: Path) -> None:
    repository = Repository(tree)
    with pytest.raises(UsageError, match=r"has no commit nonesuch"):
        repository.resolve("nonesuch..HEAD")
    with pytest.raises(UsageError, match=r"a range like A\.\.B is missing"):
        repository.resolve("HEAD")
    with pytest.raises(UsageError, match=r"holds no commit that changes anything"):
        repository.resolve("HEAD..HEAD")
    repository.commit("nothing")
    with pytest.raises(UsageError, match=r"holds no commit that changes anything"):
        repository.resolve("HEAD~..HEAD")
    repository.git("checkout", "--quiet", "-b", "side", "HEAD~")
    repository.commit("side")
    repository.git("merge", "--quiet", "--no-ff", "--message=the merge", "-")
    with pytest.raises(UsageError, match=r"there is a merge: [0-9a-f]+ the merge"):
        repository.resolve("HEAD~2..HEAD")


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


def test_a_working_tree_follows_a_directory_that_is_worked_on(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what was written to, and what the series changes, is looked into."""
    work = tmp_path / "work" / "src"
    looked: list[str] = []
    put = worktree._put

    def counted(
        source: SourceTree, patched: Patched | None, work: Path, name: str, fresh: bool
    ) -> bool:
        looked.append(name)
        return put(source, patched, work, name, fresh)

    monkeypatch.setattr(worktree, "_put", counted)

    def sync(digest: str, **patched: Patched) -> set[str]:
        looked.clear()
        source = SourceTree(f"dir:{tree}", "6.1", tree, digest, (6, 1), "x")
        named = {name.replace("_", "/"): content for name, content in patched.items()}
        return set(worktree.sync(source, named, work))

    everything = {"fs/ten.c", "fs/gone.h", "tool.sh"}
    assert sync("1") == everything
    (tree / "fs/ten.c").write_text("other\n")
    assert sync("2") == {"fs/ten.c"} == set(looked)
    (tree / "fs/ten.c").write_text("OTHER\n")  # of the same size
    (tree / "new.c").write_text("1\n")
    (tree / "fs/gone.h").unlink()
    assert sync("3", fs_ten=Patched(b"p")) == {"fs/ten.c", "new.c", "fs/gone.h", "fs/ten"}
    assert "tool.sh" not in looked
    assert sync("4") == {"fs/ten"} == set(looked)  # what was patched is what it was
    assert sync("4", **{"tool.sh": Patched(b"p", True)}) == {"tool.sh"}
    assert sync("5") == {"tool.sh"}
    (work / "new.c").unlink()
    assert sync("6") == {"new.c"}
    (tree / "tool.sh").chmod(0o644)
    assert sync("7") == {"tool.sh"}
    work.with_name("src.json").unlink()  # a kill: everything is looked into
    assert sync("8") == set() and set(looked) == {"fs/ten.c", "new.c", "tool.sh"}


@pytest.mark.parametrize("kind", ["link", "dangling", "file"])
@pytest.mark.parametrize("patched", [False, True])
def test_a_directory_in_place_of_a_link_is_not_written_through_it(
    tree: Path, tmp_path: Path, kind: str, patched: bool
) -> None:
    """Somebody has his driver in the tree as a link, and takes a copy of it; or the reverse."""
    work, his = tmp_path / "work" / "src", tmp_path / "his"
    his.mkdir()
    (his / "driver.c").write_text("his\n")
    place = tree / "driver"

    def sync(digest: str, **changed: Patched) -> None:
        source = SourceTree(f"dir:{tree}", "6.1", tree, digest, (6, 1), "x")
        worktree.sync(source, {n.replace("_", "/") + ".c": p for n, p in changed.items()}, work)

    def linked() -> None:
        if kind == "file":
            place.write_text("1\n")
        else:
            place.symlink_to(his if kind == "link" else "nowhere")

    linked()
    sync("1")
    place.unlink()
    place.mkdir()
    (place / "driver.c").write_text("copy\n")
    sync("2", **{"driver_driver": Patched(b"patched\n")} if patched else {})
    assert (work / "driver/driver.c").read_text() == ("patched\n" if patched else "copy\n")
    assert not (work / "driver").is_symlink()
    (place / "driver.c").unlink()
    place.rmdir()
    linked()
    sync("3")
    assert kind == "file" or (work / "driver").readlink() == place.readlink()
    place.unlink()
    sync("4")
    assert not os.path.lexists(work / "driver")
    assert [path.read_text() for path in his.iterdir()] == ["his\n"]


def test_what_lies_behind_a_link_of_the_tree_is_none_of_it(tree: Path, tmp_path: Path) -> None:
    """A directory of which the series deletes a file, and in whose place there is a link then."""
    work, his = tmp_path / "work" / "src", tmp_path / "his"
    his.mkdir()
    (his / "driver.c").write_text("his\n")
    (tree / "driver").symlink_to(his)
    for patched in ({}, {"driver/driver.c": Patched(None)}, {"driver/driver.c": Patched(b"1\n")}):
        source = SourceTree(f"dir:{tree}", "6.1", tree, "digest", (6, 1), "x")
        worktree.sync(source, patched, work)
    assert (his / "driver.c").read_text() == "his\n"


def test_what_a_patch_makes_and_no_header_of_it_names_is_no_part_of_a_kernel(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patches.Diff, "files", lambda _diff: ("fs/ten.c",))
    with pytest.raises(PatchError, match=r"1\.patch makes new\.c, which no header of it names"):
        apply(tree, diff("", "new\n", "new.c"))


@pytest.mark.parametrize("name", ['"b/kernel/\\303\\244.c"', '"b/kernel/a\\tb.c"'])
def test_a_name_that_git_quotes_is_refused(tree: Path, name: str) -> None:
    old = name.replace("b/", "a/", 1)
    text = f"diff --git {old} {name}\nnew file mode 100644\n--- /dev/null\n+++ {name}\n"
    with pytest.raises(PatchError, match="names a file that git quotes"):
        apply(tree, text + "@@ -0,0 +1 @@\n+1\n")
