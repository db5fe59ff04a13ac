# SPDX-License-Identifier: GPL-2.0-only
"""Repositories of others: none of their programs runs, and nothing but a commit counts as one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.errors import UsageError
from orchestrator.host import process
from orchestrator.source import git, series, sources

MAKEFILE = "VERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 192\nEXTRAVERSION =\n"


class Repository:
    def __init__(self, place: Path) -> None:
        self.place = place
        (place / "kernel").mkdir(parents=True)
        files = {"Makefile": MAKEFILE, "Kconfig": "", "Kbuild": "", "kernel/a.c": "1\n"}
        for name, text in files.items():
            (place / name).write_text(text)
        self.git("init", "--quiet")
        self.commit("one")

    def git(self, *words: str) -> str:
        who = ["-c", "user.name=A", "-c", "user.email=a@b", "-c", "commit.gpgSign=false"]
        return process.run(["git", "-C", str(self.place), *who, *words]).output.strip()

    def commit(self, message: str) -> str:
        self.git("add", ".")
        self.git("commit", "--quiet", "--allow-empty", f"--message={message}")
        return self.git("rev-parse", "HEAD")

    @property
    def digest(self) -> str:
        return sources.fetch(f"dir:{self.place}").digest


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    monkeypatch.setenv("KLP_E2E_CACHE", str(tmp_path / "cache"))
    return Repository(tmp_path / "linux")


def _flagged(flag: str) -> Callable[[Repository], None]:
    def change(repository: Repository) -> None:
        repository.git("update-index", flag, "kernel/a.c")
        (repository.place / "kernel/a.c").write_text("2\n")

    return change


def _untracked(repository: Repository) -> None:
    repository.git("config", "status.showUntrackedFiles", "no")
    (repository.place / "localversion-x").write_text("-x\n")


def _same_times(repository: Repository) -> None:
    """As many bytes, the same time, and a configuration in which git looks at no more."""
    for name, value in {"core.trustctime": "false", "core.checkStat": "minimal"}.items():
        repository.git("config", name, value)
    path = repository.place / "kernel/a.c"
    os.utime(path, (10**9, 10**9))
    repository.git("status")
    new = path.with_name("new")
    new.write_text("2\n")
    os.utime(new, (10**9, 10**9))
    new.rename(path)


def _mode(repository: Repository) -> None:
    repository.git("config", "core.fileMode", "false")
    (repository.place / "kernel/a.c").chmod(0o755)


def _elsewhere(repository: Repository) -> None:
    other = repository.place.with_name("other")
    repository.git("worktree", "add", "--quiet", str(other))
    repository.git("config", "core.worktree", str(other))
    (repository.place / "kernel/a.c").write_text("2\n")


def _replaced(repository: Repository) -> None:
    head = repository.git("rev-parse", "HEAD")
    (repository.place / "kernel/a.c").write_text("2\n")
    other = repository.commit("two")
    repository.git("update-ref", "HEAD", head)
    repository.git("replace", head, other)


def _converted(repository: Repository) -> None:
    (repository.place / ".git/info/attributes").write_text("*.c text eol=lf\n")
    (repository.place / "kernel/a.c").write_bytes(b"1\r\n")


def _clean_filter(repository: Repository) -> None:
    """A filter that makes of any content the one that was committed."""
    (repository.place / ".git/info/attributes").write_text("*.c filter=x\n")
    repository.git("config", "filter.x.clean", "echo 1")
    (repository.place / "kernel/a.c").write_text("2\n")


@pytest.mark.parametrize(
    "change",
    [
        _flagged("--assume-unchanged"),
        _flagged("--skip-worktree"),
        *(_untracked, _same_times, _mode, _elsewhere, _replaced, _converted, _clean_filter),
    ],
    ids=lambda change: change.__name__,
)
def test_a_checkout_that_git_calls_clean_is_not_its_commit(
    repository: Repository, change: Callable[[Repository], None]
) -> None:
    commit = repository.git("rev-parse", "HEAD")
    assert repository.digest == commit
    change(repository)
    assert repository.digest != commit


def test_a_repository_to_which_the_tree_does_not_belong_is_told(repository: Repository) -> None:
    """Debian's tree has a .gitignore that leaves everything out: to git it is clean and empty."""
    place = repository.place
    shutil.rmtree(place / ".git")
    (place / ".gitignore").write_text("/*\n")
    repository.git("init", "--quiet")
    with pytest.raises(UsageError, match="to which its Makefile does not belong") as caught:
        sources.fetch(f"dir:{place}")
    assert "add -f" in caught.value.hint
    repository.git("add", "-f", ".")
    assert len(repository.digest) == 64, "there is no commit yet"
    repository.git("commit", "--quiet", "--message=all of it")
    assert repository.digest == repository.git("rev-parse", "HEAD")
    (place / "kernel/a.c").write_text("2\n")
    assert len(repository.digest) == 64


def test_a_submodule_is_not_in_a_commit(repository: Repository) -> None:
    Repository(repository.place / "sub")
    commit = repository.commit("with a submodule")
    (repository.place / "sub/kernel/a.c").write_text("2\n")
    assert repository.digest != commit


def test_a_file_of_the_same_size_and_time_is_another(tmp_path: Path) -> None:
    tree = Repository(tmp_path / "linux").place
    (tree / ".git").rename(tmp_path / "away")
    path = tree / "kernel/a.c"
    os.utime(path, (10**9, 10**9))
    first = sources.fetch(f"dir:{tree}").digest
    assert sources.fetch(f"dir:{tree}").digest == first
    path.write_text("2\n")
    os.utime(path, (10**9, 10**9))
    assert sources.fetch(f"dir:{tree}").digest != first


def test_nothing_that_a_repository_names_is_started(repository: Repository, tmp_path: Path) -> None:
    place, trap = repository.place, tmp_path / "trap"
    (place / ".gitattributes").write_text("*.c filter=we.ird=x diff=x\n")
    base = repository.commit("attributes")
    (place / "kernel/a.c").write_text("3\n")
    head = repository.commit("three")
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/sprung\ncat\n")
    trap.chmod(0o755)
    for key in ("clean", "smudge", "process"):
        repository.git("config", f"filter.we.ird=x.{key}", str(trap))
    repository.git("config", "filter.we.ird=x.required", "true")
    for key in ("core.fsmonitor", "core.pager", "diff.external", "diff.x.command"):
        repository.git("config", key, str(trap))
    repository.git("config", "diff.x.textconv", str(trap))
    for hook in ("post-checkout", "post-index-change", "fsmonitor-watchman"):
        (place / f".git/hooks/{hook}").write_text(trap.read_text())
        (place / f".git/hooks/{hook}").chmod(0o755)
    os.utime(place / "kernel/a.c", (1, 1))  # git has to look into it
    assert repository.digest == head
    found = sources.fetch(f"git:{place}#{head}")
    assert (found.directory / "kernel/a.c").read_text() == "3\n"
    assert sorted(path.name for path in found.directory.parent.iterdir()) == sorted(
        [".klp-e2e", "digests.json", "linux", "source.json"]
    )
    assert set(sources.listing(sources.fetch(f"dir:{place}"))) == {
        *(".gitattributes", "Makefile", "Kconfig", "Kbuild", "kernel/a.c")
    }
    (patch,) = series.resolve(f"git:{place}#{base}..{head}", (6, 1)).patches
    assert patch.diff.files() == ("kernel/a.c",)
    assert not (tmp_path / "sprung").exists()
    process.run(["git", "-C", str(place), "status"], check=False)
    assert (tmp_path / "sprung").exists(), "the trap is none"


def test_a_commit_is_what_it_says_whatever_replaces_it(repository: Repository) -> None:
    head = repository.git("rev-parse", "HEAD")
    _replaced(repository)
    (repository.place / ".git/info/attributes").write_text("*.c text eol=crlf\n")
    repository.git("config", "core.autocrlf", "true")
    found = sources.fetch(f"git:{repository.place}#{head}")
    assert (found.directory / "kernel/a.c").read_bytes() == b"1\n"


def test_what_a_partial_clone_lacks_is_named(repository: Repository, tmp_path: Path) -> None:
    repository.git("config", "uploadpack.allowFilter", "true")
    lacking = tmp_path / "lacking"
    url = f"file://{repository.place}"
    process.run(["git", "clone", "--quiet", "--no-checkout", "--filter=blob:none", url, lacking])
    with pytest.raises(Exception, match="cannot be checked out") as caught:
        sources.fetch(f"git:{lacking}#HEAD")
    assert "partial clone" in getattr(caught.value, "hint", "")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("kind", ["dir", "git"])
def test_another_users_repository_is_named_with_what_to_do(
    repository: Repository, kind: str
) -> None:
    os.chown(repository.place / ".git", 65534, 65534)
    os.chown(repository.place, 65534, 65534)
    with pytest.raises(UsageError, match="belongs to another user") as caught:
        sources.fetch(f"{kind}:{repository.place}")
    advice = f"git config --global --add safe.directory {repository.place}"
    assert caught.value.hint == advice


def test_a_name_that_cannot_be_told_is_no_reason_to_leave_a_file_out(
    repository: Repository,
) -> None:
    place = os.fsencode(repository.place) + b"/kernel/\xe4.c"
    Path(os.fsdecode(place)).write_text("1\n")
    with pytest.raises(UsageError, match="has to be UTF-8"):
        sources.fetch(f"dir:{repository.place}")


def test_a_diff_in_a_message_is_no_part_of_the_commit(repository: Repository) -> None:
    (repository.place / "kernel/a.c").write_text("4\n")
    evil = "--- /dev/null\n+++ b/kernel/evil.c\n@@ -0,0 +1 @@\n+evil\n"
    quoted = (
        f"livepatch: \xe4 title\n\nSee this:\n\ndiff --git a/kernel/evil.c b/kernel/evil.c\n{evil}"
    )
    repository.commit(quoted)
    repository.commit("EDITME: the cover letter that b4 prep keeps")
    (repository.place / "kernel/b.c").write_text("b\n")
    repository.commit("b\n\n" + repository.git("rev-parse", "HEAD~") + "\n")
    found = series.resolve(f"git:{repository.place}#HEAD~3..HEAD", (6, 1)).patches
    names = ["0001-livepatch-title.patch", "0002-b.patch"]
    assert [patch.name for patch in found] == names
    assert [patch.diff.files() for patch in found] == [("kernel/a.c",), ("kernel/b.c",)]
    assert all(patch.text.startswith("diff --git ") for patch in found)


def test_a_directory_in_a_repository_is_no_checkout(repository: Repository) -> None:
    assert git.checked_out(repository.place) == repository.git("rev-parse", "HEAD")
    assert git.checked_out(repository.place / "kernel") == ""
