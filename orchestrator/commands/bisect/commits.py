# SPDX-License-Identifier: GPL-2.0-only
"""The commit that changes what a kernel does, by `git bisect` in a working copy of our own."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from orchestrator.commands.bisect.halving import Seen, compared, differ
from orchestrator.deadline import Deadline
from orchestrator.errors import OutOfTime, UsageError
from orchestrator.host import ours, process, workdir
from orchestrator.source import download, git
from orchestrator.source.sources import CLONES, resolve_commit

OLD, NEW = "old", "new"  # git bisect's words where it is not about good and bad
_FIRST = re.compile(rf"^[0-9a-f]{{40,}} is the first {NEW} commit$", re.MULTILINE)
# "The first new commit could be any of:", and the commits that were skipped
_ANY_OF = re.compile(r"could be any of:\n(?:[0-9a-f]{40,}\n)+")
# however they have moved, and whatever is checked out here
_EVERYTHING = (
    *("--quiet", "--force", "--update-head-ok", "origin"),
    *("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"),
    f"+refs/tags/*:{git.ORIGINS}/tags/*",
)
_COMMIT = re.compile(r"[0-9a-f]{40,}")
_PARTIAL = ".tree.partial"  # a clone that is not whole yet


@dataclass(frozen=True, slots=True)
class FirstNew:
    """culprits: `ID SUBJECT`, several where those between could not be told."""

    culprits: tuple[str, ...]
    before: Seen
    after: Seen
    log: str  # for `git bisect replay`


@contextlib.contextmanager
def working_copy(repository: str, say: Callable[[str], None] = lambda _: None) -> Iterator[Path]:
    """The clone of a repository in which commits may be checked out, for one at a time; its
    branches and tags are those of the repository. It is kept: what the next bisect does not change
    is not compiled again. Of a local repository it shares the objects. One in which somebody has
    worked is put aside first, which is said."""
    digest = hashlib.sha256(repository.encode()).hexdigest()[:16]
    entry = workdir.cache_root() / CLONES / f"{Path(repository).name}-{digest}"
    tree = entry / "tree"
    with workdir.locked(entry, say):
        workdir.own(entry)
        if work := git.work(tree):
            say(f"{_put_aside(entry)} was worked in ({work}): it is kept, and cloned anew")
            workdir.own(entry)
        if tree.exists() and not _usable(tree):
            ours.remove(tree, within=entry)
        if not tree.exists():
            say(f"cloning {repository}")
            shared = ["--shared"] if Path(repository).is_dir() else []
            partial = entry / _PARTIAL
            ours.remove(partial, within=entry)
            clone = [
                "git",
                *git.STALLS,
                *git.NO_REFLOG,
                "clone",
                "--quiet",
                "--no-checkout",
                *shared,
            ]
            deadline = Deadline.after(download.FETCH_SECONDS)
            process.run([*clone, repository, str(partial)], deadline=deadline)
            ours.arrive(partial, tree)
        workdir.touch(entry)
        with contextlib.suppress(OutOfTime):  # as without a network: what was there last time
            _Git(tree)(
                *git.STALLS,
                "fetch",
                *_EVERYTHING,
                check=False,
                deadline=Deadline.after(download.FETCH_SECONDS),
            )
        yield tree


def _put_aside(entry: Path) -> Path:
    """A clone that somebody has worked in, where it lies from now on; his other working trees are
    told."""
    tree = ours.put_aside(entry, "worked-in") / "tree"
    _Git(tree)("worktree", "repair", check=False)
    return tree


def _usable(tree: Path) -> bool:
    """Put right what a kill may have left, where nobody has worked. A clone is of no use when its
    repository, whose objects it shares, has lost the commit that is checked out here."""
    run = _Git(tree)
    ours.scrap(tree / ".git/index.lock")
    run("bisect", "reset", "HEAD", check=False)
    run("update-ref", f"{git.ORIGINS}/left", "HEAD", check=False)  # wherever its branch goes
    return run.has("HEAD^{tree}")


def search(tree: Path, good: str, bad: str, look: Callable[[str, str], Seen]) -> FirstNew:
    """The first commit that differs from the older of the two.

    look(commit, name): what the commit says that is checked out in `tree`; name: `ID SUBJECT`.
    `good` may be the newer one: then it is the commit that mended it. Raises UsageError when the
    two are not on one line of history, or are not what they are called.
    """
    run = _Git(tree)
    good, bad = (resolve_commit(tree, ref, ref) for ref in (good, bad))
    if run.is_ancestor(good, bad):
        older, newer = good, bad
    elif run.is_ancestor(bad, good):
        older, newer = bad, good
    else:
        raise UsageError(
            "neither commit is an ancestor of the other",
            hint="git bisect needs one line of history: take their merge base as one of them",
        )
    run("update-ref", f"{git.ORIGINS}/newer", newer)
    seen: dict[str, Seen] = {}

    def looked(commit: str) -> Seen:
        _check_out(tree, commit)
        seen[commit] = look(commit, run.name(commit))
        return seen[commit]

    first, last = looked(older), looked(newer)
    differ(first, last)
    _as_called(seen, good, bad)
    said = run("bisect", "start", f"--term-old={OLD}", f"--term-new={NEW}", newer, older)
    while not (found := _FIRST.search(said) or _ANY_OF.search(said)):
        here = run("rev-parse", "HEAD").strip()
        one = seen[here] = compared(looked(here), first, last)
        word = "skip" if one.fails is None else OLD if one.fails == first.fails else NEW
        said = run("bisect", word, check=False)
    culprits = _COMMIT.findall(found[0])
    before = seen.get(run("rev-parse", f"{culprits[0]}^").strip(), first)
    after = seen.get(culprits[0], last) if len(culprits) == 1 else last
    return FirstNew(tuple(map(run.name, culprits)), before, after, run("bisect", "log"))


def _check_out(tree: Path, commit: str) -> None:
    """Raises UsageError where somebody works there just now, and would lose it."""
    first = not (tree / ".git/index").exists()
    work = git.work(tree)
    if work:
        raise UsageError(
            f"somebody works in {tree}, which is being bisected: {work}",
            hint="take it elsewhere, and begin again",
        )
    _Git(tree)("checkout", "--quiet", *["--force"] * first, "--detach", commit)


def _as_called(seen: Mapping[str, Seen], good: str, bad: str) -> None:
    for commit, fails in ((good, False), (bad, True)):
        if seen[commit].fails != fails:
            raise UsageError(
                f"{seen[commit].name} {seen[commit].word}",
                hint="are --good and --bad the wrong way round?",
            )


class _Git:
    """git in one working copy."""

    def __init__(self, tree: Path) -> None:
        told = ("-c", "advice.detachedHead=false", *git.NO_REFLOG)
        self._command = ("git", "-C", str(tree), *told)

    def __call__(self, *words: str, check: bool = True, deadline: Deadline | None = None) -> str:
        done = process.run([*self._command, *words], check=check, deadline=deadline)
        return done.output + done.errors

    def has(self, what: str) -> bool:
        command = [*self._command, "rev-parse", "--verify", "--quiet", what]
        return process.run(command, check=False).code == 0

    def is_ancestor(self, one: str, other: str) -> bool:
        command = [*self._command, "merge-base", "--is-ancestor", one, other]
        return process.run(command, check=False).code == 0

    def name(self, commit: str) -> str:
        """`ID SUBJECT`"""
        return self("log", "-1", "--format=%h %s", commit).strip()
