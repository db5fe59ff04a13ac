# SPDX-License-Identifier: GPL-2.0-only
"""git bisect, the real one, over small repositories."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.commands.bisect import commits
from orchestrator.commands.bisect.halving import Seen
from orchestrator.commands.cache import touched
from orchestrator.errors import HarnessError, OutOfTime, UsageError
from orchestrator.host import process
from orchestrator.source import download, sources

MAKEFILE = "VERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 192\nEXTRAVERSION =\n"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KLP_E2E_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def repository(tmp_path: Path) -> Callable[[str], Path]:
    """A repository with a commit for each word: what the kernel there does, "." "x" "?" or "b"."""

    def make(words: str) -> Path:
        place = tmp_path / "repository"
        git("init", "--quiet", "--initial-branch=main", str(place), at=tmp_path)
        for number, word in enumerate(words):
            (place / "kernel").write_text(f"{number} {word}\n")
            git("add", "kernel", at=place)
            git("commit", "--quiet", "-m", f"commit {number}", at=place)
            git("tag", f"v{number}", at=place)
        return place

    return make


def test_a_server_that_never_answers_does_not_hold_a_bisect(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(download, "FETCH_SECONDS", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/linux"
        with pytest.raises(OutOfTime), commits.working_copy(url):
            pytest.fail("it was cloned")


def git(*words: str, at: Path) -> str:
    who = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    return process.run(["git", *who, "-C", str(at), *words]).output.strip()


def searched(repository: Path, good: str, bad: str) -> tuple[commits.FirstNew, list[str]]:
    looked: list[str] = []
    with commits.working_copy(str(repository)) as tree:

        def look(commit: str, name: str) -> Seen:
            looked.append(name)
            number, word = (tree / "kernel").read_text().split()  # it is checked out
            assert name.endswith(f"commit {number}")
            assert commit == git("rev-parse", f"v{number}", at=repository)
            fails = {".": False, "x": True, "?": None, "b": True}[word]
            return Seen(name, fails, "why", booted=word != "b")

        found = commits.search(tree, good, bad, look)
    return found, looked


def subjects(found: commits.FirstNew) -> list[str]:
    return [name.partition(" ")[2] for name in found.culprits]


def test_the_commit_that_broke_it(repository: Callable[[str], Path]) -> None:
    found, looked = searched(repository("......xxx"), "v0", "v8")
    assert subjects(found) == ["commit 6"]
    assert found.before.name.endswith("commit 5") and not found.before.fails
    assert found.after.name.endswith("commit 6") and found.after.fails
    assert len(looked) < 7


def test_the_commit_that_mended_it(repository: Callable[[str], Path]) -> None:
    found, _ = searched(repository("xx......."), "v8", "v0")
    assert subjects(found) == ["commit 2"]
    assert found.before.fails and not found.after.fails


def test_what_cannot_be_told_is_skipped(repository: Callable[[str], Path]) -> None:
    found, _ = searched(repository("..?.?.xxx"), "v0", "v8")
    assert subjects(found) == ["commit 6"]


@pytest.mark.parametrize(("words", "bad"), [("..b.b.xxx", 6), ("...bbbbbb", 3)])
def test_what_does_not_boot_is_skipped_unless_that_is_the_failure(
    words: str, bad: int, repository: Callable[[str], Path]
) -> None:
    found, _ = searched(repository(words), "v0", "v8")
    assert subjects(found) == [f"commit {bad}"]


def test_a_change_among_those_that_cannot_be_told(repository: Callable[[str], Path]) -> None:
    found, _ = searched(repository("...??xxxx"), "v0", "v8")
    assert sorted(subjects(found)) == ["commit 3", "commit 4", "commit 5"]


def test_the_log_can_be_replayed(repository: Callable[[str], Path]) -> None:
    place = repository("....xx")
    found, _ = searched(place, "v0", "v5")
    (place.parent / "log").write_text(found.log)
    said = git("bisect", "replay", str(place.parent / "log"), at=place)
    assert f"{git('rev-parse', 'v4', at=place)} is the first new commit" in said


@pytest.mark.parametrize(
    ("words", "good", "bad", "complaint"),
    [
        ("...", "v0", "v2", "nothing changes between"),
        ("?.x", "v0", "v2", "cannot be told"),
        ("x..", "v0", "v2", "commit 0 fails"),
        ("..x", "v0", "v9", "has no commit v9"),
    ],
)
def test_ends_that_will_not_do(
    repository: Callable[[str], Path], words: str, good: str, bad: str, complaint: str
) -> None:
    with pytest.raises(HarnessError if "told" in complaint else UsageError, match=complaint):
        searched(repository(words), good, bad)


def test_two_lines_of_history(repository: Callable[[str], Path]) -> None:
    place = repository("..x")
    git("checkout", "--quiet", "v1", at=place)
    git("commit", "--quiet", "--allow-empty", "-m", "aside", at=place)
    git("tag", "aside", at=place)
    with pytest.raises(UsageError, match="neither commit is an ancestor"):
        searched(place, "aside", "v2")


def test_the_clone_is_kept_and_follows_its_repository(
    repository: Callable[[str], Path], cache: Path
) -> None:
    place = repository("..xx")
    searched(place, "v0", "v3")
    (clone,) = (cache / "clones").glob("*/tree")
    mark = clone / ".git/mark"
    mark.touch()
    git("checkout", "--quiet", "--detach", at=clone)
    (clone / ".git/index.lock").touch()  # as a kill leaves it
    (place / "kernel").write_text("4 .\n")
    git("commit", "--quiet", "--all", "-m", "commit 4", at=place)
    git("tag", "v4", at=place)
    for name, text in {"Makefile": MAKEFILE, "Kconfig": "", "Kbuild": ""}.items():
        (clone / name).write_text(text)
    assert sources.fetch(f"dir:{clone}").lineage == str(place)  # as of git:REPOSITORY
    for name in ("Makefile", "Kconfig", "Kbuild"):
        (clone / name).unlink()
    found, _ = searched(place, "main", "v2")  # the branch has moved on
    assert subjects(found) == ["commit 4"] and mark.exists()
    git("checkout", "--quiet", "--orphan", "new", at=place)
    git("commit", "--quiet", "-m", "rewritten", at=place)
    git("branch", "-D", "main", at=place)
    git("tag", "-d", "v0", "v1", "v2", "v3", "v4", at=place)
    git("reflog", "expire", "--expire=now", "--all", at=place)
    git("gc", "--quiet", "--prune=now", at=place)
    with commits.working_copy(str(place)) as tree:
        assert tree == clone and not mark.exists()  # what it shared has gone
        assert git("rev-parse", "new", at=tree) == git("rev-parse", "new", at=place)


def test_a_clone_in_which_somebody_has_worked_is_told(
    cache: Path, repository: Callable[[str], Path]
) -> None:
    with commits.working_copy(str(repository("..x"))) as tree:
        git("checkout", "--quiet", "v1", at=tree)
        entry = tree.parent
    assert not touched(entry)
    (tree / "mywork.c").write_text("a day's work")
    assert touched(entry)
    (tree / "mywork.c").unlink()
    (tree / "kernel").write_text("changed")
    assert touched(entry)
    git("checkout", "--quiet", "--", "kernel", at=tree)
    assert not touched(entry)
    (tree / ".git" / "HEAD").unlink()  # nobody can tell
    assert touched(entry)


def _ignored(tree: Path) -> None:
    (tree / ".git/info/exclude").write_text("*.o\n")
    (tree / "mine.o").write_text("a day's work")


def _hidden(tree: Path) -> None:
    git("update-index", "--assume-unchanged", "kernel", at=tree)
    (tree / "kernel").write_text("a day's work")


def _committed(tree: Path) -> None:
    (tree / "kernel").write_text("a day's work")
    git("commit", "--quiet", "--all", "-m", "mine", at=tree)


def _on_a_branch(tree: Path) -> None:
    git("checkout", "--quiet", "main", at=tree)
    _committed(tree)
    git("checkout", "--quiet", "--detach", "v2", at=tree)


def _left_behind(tree: Path) -> None:
    _committed(tree)
    git("checkout", "--quiet", "--detach", "v2", at=tree)


def _tagged(tree: Path) -> None:
    _committed(tree)
    git("tag", "mine", at=tree)
    git("checkout", "--quiet", "--detach", "v2", at=tree)


def _stashed(tree: Path) -> None:
    (tree / "kernel").write_text("a day's work")
    git("stash", "--quiet", at=tree)


def _staged(tree: Path) -> None:
    (tree / "kernel").write_text("a day's work")
    git("add", "kernel", at=tree)
    (tree / "kernel").unlink()


def _elsewhere(tree: Path) -> None:
    other = tree.parents[3] / "other"
    git("worktree", "add", "--quiet", "--detach", str(other), at=tree)
    (other / "kernel").write_text("a day's work")


def _moved(tree: Path) -> None:
    tree.rename(tree.parents[3] / "moved")
    tree.symlink_to(tree.parents[3] / "moved")


def _unreadable(tree: Path) -> None:
    (tree / "kernel").write_text("a day's work")
    (tree / ".git/HEAD").write_text("")


WORK = [
    *(_ignored, _hidden, _committed, _on_a_branch, _tagged, _stashed, _staged, _elsewhere),
    *(_moved, _unreadable, _left_behind),
]


@pytest.mark.parametrize("work", WORK)
def test_work_in_a_clone_is_lost_neither_by_prune_nor_by_the_next_bisect(
    cache: Path, repository: Callable[[str], Path], work: Callable[[Path], None]
) -> None:
    place = repository("..x")
    git("tag", "-a", "-m", "annotated", "signed", "v1", at=place)
    searched(place, "v0", "v2")
    (tree,) = (cache / "clones").glob("*/tree")
    assert not touched(tree.parent)
    work(tree)
    assert touched(tree.parent)
    said: list[str] = []
    with commits.working_copy(str(place), said.append) as again:
        assert again == tree and not touched(tree.parent)
    (kept,) = (cache / "clones").glob("*.worked-in-*/tree")
    assert said[0].startswith(f"{kept} was worked in (") and touched(kept.parent)
    if work is _elsewhere:
        assert "kernel" in git("status", "--porcelain", at=tree.parents[3] / "other")
    searched(place, "v0", "v2")  # and goes on


def test_a_rewritten_branch_is_no_work(repository: Callable[[str], Path], cache: Path) -> None:
    place = repository("..xx")
    for number in range(3):
        searched(place, "v1", "main")
        git("tag", "-d", "v3", at=place) if not number else None
        (place / "kernel").write_text(f"3 x{' ' * number}\n")
        git("commit", "--quiet", "--all", "--amend", "-m", "commit 3", at=place)
        git("tag", "-f", "v3", at=place)
        with commits.working_copy(str(place)):
            pass  # refused before anything was checked out
    assert [path.name for path in (cache / "clones").glob("*.worked-in-*")] == []


def test_who_works_in_a_clone_that_is_bisected_loses_nothing(
    repository: Callable[[str], Path],
) -> None:
    place = repository("....xx")
    with commits.working_copy(str(place)) as tree:

        def look(commit: str, name: str) -> Seen:
            number, word = (tree / "kernel").read_text().split()
            if number not in "05":
                (tree / "kernel").write_text("a day's work")
            return Seen(name, word == "x", "why", booted=True)

        with pytest.raises(UsageError, match=r"somebody works in .*: kernel, changed or added"):
            commits.search(tree, "v0", "v5", look)
        assert (tree / "kernel").read_text() == "a day's work"
