# SPDX-License-Identifier: GPL-2.0-only
"""The commit that changes what a kernel does, by `git bisect` in a working copy of our own."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from orchestrator.commands.bisect import Seen, differ
from orchestrator.errors import UsageError
from orchestrator.host import process, workdir
from orchestrator.source.sources import resolve_commit

OLD, NEW = "old", "new"  # git bisect's words where it is not about good and bad
_FIRST = re.compile(rf"^[0-9a-f]{{40,}} is the first {NEW} commit$", re.MULTILINE)
# "The first new commit could be any of:", and the commits that were skipped
_ANY_OF = re.compile(r"could be any of:\n(?:[0-9a-f]{40,}\n)+")
_COMMIT = re.compile(r"[0-9a-f]{40,}")


@dataclass(frozen=True, slots=True)
class FirstNew:
    """culprits: `ID SUBJECT`, several where those between could not be told."""

    culprits: tuple[str, ...]
    before: Seen
    after: Seen
    log: str  # for `git bisect replay`


@contextlib.contextmanager
def working_copy(repository: str) -> Iterator[Path]:
    """A clone in which commits may be checked out; of a local one it shares the objects."""
    shared = ["--shared"] if Path(repository).is_dir() else []
    with workdir.run_dir("bisect") as scratch:
        tree = scratch / "linux"
        process.run(["git", "clone", "--quiet", "--no-checkout", *shared, repository, str(tree)])
        yield tree


def search(tree: Path, good: str, bad: str, look: Callable[[str, str], Seen]) -> FirstNew:
    """The first commit that differs from the older of the two.

    look(commit, name): what the commit says that is checked out in `tree`; name: `ID SUBJECT`.
    `good` may be the newer one: then it is the commit that mended it. Raises UsageError when the
    two are not on one line of history, or are not what they are called.
    """
    git = _Git(tree)
    good, bad = (resolve_commit(tree, ref, ref) for ref in (good, bad))
    if git.is_ancestor(good, bad):
        older, newer = good, bad
    elif git.is_ancestor(bad, good):
        older, newer = bad, good
    else:
        raise UsageError(
            "neither commit is an ancestor of the other",
            hint="git bisect needs one line of history: take their merge base as one of them",
        )
    seen: dict[str, Seen] = {}

    def looked(commit: str) -> Seen:
        git("checkout", "--quiet", "--force", "--detach", commit)
        seen[commit] = look(commit, git.name(commit))
        return seen[commit]

    first, last = looked(older), looked(newer)
    differ(first, last)
    _as_called(seen, good, bad)
    said = git("bisect", "start", f"--term-old={OLD}", f"--term-new={NEW}", newer, older)
    while not (found := _FIRST.search(said) or _ANY_OF.search(said)):
        one = looked(git("rev-parse", "HEAD").strip())
        word = "skip" if one.fails is None else OLD if one.fails == first.fails else NEW
        said = git("bisect", word, check=False)
    culprits = _COMMIT.findall(found[0])
    before = seen.get(git("rev-parse", f"{culprits[0]}^").strip(), first)
    after = seen.get(culprits[0], last) if len(culprits) == 1 else last
    return FirstNew(tuple(map(git.name, culprits)), before, after, git("bisect", "log"))


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
        self._command = ("git", "-C", str(tree), "-c", "advice.detachedHead=false")

    def __call__(self, *words: str, check: bool = True) -> str:
        done = process.run([*self._command, *words], check=check)
        return done.output + done.errors

    def is_ancestor(self, one: str, other: str) -> bool:
        command = [*self._command, "merge-base", "--is-ancestor", one, other]
        return process.run(command, check=False).code == 0

    def name(self, commit: str) -> str:
        """`ID SUBJECT`"""
        return self("log", "-1", "--format=%h %s", commit).strip()
