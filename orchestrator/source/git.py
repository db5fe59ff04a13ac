# SPDX-License-Identifier: GPL-2.0-only
"""git in repositories of others. Reading one must start nothing that its configuration names, and
give nothing but what its commits say.

So: no hook, no fsmonitor, no filter, no external diff, no fetching of what a partial clone lacks,
no replacement of objects, no lock; and files are checked out by a repository of our own that has no
configuration at all, and only reads the other's objects.

What remains: git itself, which parses the repository; on a git before 2.45 a partial clone may
fetch, by the ssh of its configuration; and the tree's own .gitattributes, by which git may bring
line ends to LF when it compares.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path

from orchestrator.deadline import Deadline
from orchestrator.errors import HarnessError, UsageError
from orchestrator.host import process
from orchestrator.host.process import Completed
from orchestrator.plain import one_line
from orchestrator.source.download import LEAST, STALL_SECONDS

STALLS = (
    *("-c", f"http.lowSpeedTime={STALL_SECONDS:.0f}"),
    *("-c", f"http.lowSpeedLimit={LEAST}"),
)

_SETTINGS = {
    "core.fsmonitor": "false",
    "core.hooksPath": "/dev/null",
    "core.untrackedCache": "false",
    # what a checkout is compared by: all that lstat(2) tells, and no conversion
    "core.checkStat": "default",
    "core.trustctime": "true",
    "core.fileMode": "true",
    "core.symlinks": "true",
    "core.autocrlf": "false",
    "core.attributesFile": "/dev/null",
    "gc.auto": "0",
}
_ENVIRONMENT = {
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
}
_FILTER = re.compile(r"filter\.(.+)\.[a-z]+", re.DOTALL | re.IGNORECASE)


def run_git(
    repository: Path,
    *words: str | Path,
    check: bool = True,
    input: bytes | None = None,
    deadline: Deadline | None = None,
) -> Completed:
    """`git WORDS` there. Raises UsageError for another user's repository, which git does not read;
    with `check`, CommandFailed."""
    env = _environment(_filters(repository))
    command = ["git", "-C", str(repository), *words]
    done = process.run(command, env=env, check=False, input=input, deadline=deadline)
    if done.code != 0 and "dubious ownership" in done.errors:
        raise UsageError(
            f"{repository} belongs to another user, and git does not read it",
            hint=f"git config --global --add safe.directory {shlex.quote(str(repository))}",
        )
    if check and done.code != 0:
        raise process.CommandFailed(done.argv, done.code, done.errors or done.output)
    return done


def listing(checkout: Path) -> Iterator[str]:
    """Relative path of each file there that git knows or would add.

    Raises UsageError for a name that is not UTF-8: its file would be missing from the kernel.
    """
    ran = run_git(checkout, f"--work-tree={checkout}", *_LISTING, "-co", "--exclude-standard")
    for name in filter(None, ran.output.split("\0")):
        if os.path.lexists(f"{checkout}/{name}"):
            yield name
        elif "\ufffd" in name:
            raise UsageError(f"{checkout}: {name}: a file's name has to be UTF-8")


def ignored(checkout: Path, names: Iterable[str]) -> list[str]:
    """Those of the names that `listing` leaves out; of what is no repository none."""
    if not (checkout / ".git").exists():
        return []
    asked = ("-co", "--exclude-standard", "--", *names)
    ran = run_git(checkout, f"--work-tree={checkout}", *_LISTING, *asked)
    return [name for name in names if name not in ran.output.split("\0")]


def checked_out(directory: Path) -> str:
    """The commit that `directory` is a checkout of, nothing changed or added; else "".

    Where git was told not to look it cannot tell: at files that are assumed to be unchanged, at
    those outside a sparse checkout, at submodules; and where attributes of the repository's own
    have it convert what it compares.
    """
    if not (directory / ".git").exists():
        return ""
    here = f"--work-tree={directory}"  # not where core.worktree says
    asked = ("--porcelain", "--untracked-files=all", "--ignore-submodules=all", "--no-renames")
    ran = run_git(directory, here, "status", *asked, check=False)
    if ran.code != 0 or ran.output:
        return ""
    known = run_git(directory, here, *_LISTING, "-v", "-s").output.split("\0")
    if any(_left_alone(line) for line in known if line):
        return ""
    where = ("rev-parse", "--path-format=absolute", "--git-path", "info/attributes")
    place = Path(run_git(directory, *where).output.removesuffix("\n"))
    if place.is_file() and place.stat().st_size:
        return ""
    # there may be no commit yet
    return run_git(
        directory, "rev-parse", "--verify", "--quiet", "HEAD", check=False
    ).output.strip()


NO_REFLOG = ("-c", "core.logAllRefUpdates=false")
ORIGINS = "refs/klp-e2e"  # below it what the owner of a clone has fetched, or has bisected


def work(tree: Path) -> str:
    """What is in this clone, and in nothing that was fetched: in words; "" where there is nothing.

    Files, ignored ones too; commits, on a branch, a tag, in the stash, checked out, or left behind;
    other working trees. What git cannot tell is work as well.
    """
    place = tree / ".git"
    if tree.is_symlink() or place.is_symlink():
        return "it is a link"
    if not os.path.lexists(place):
        return "files" if tree.is_dir() and any(tree.iterdir()) else ""
    try:
        return _work(tree, place)
    except UsageError:  # another user's
        return "what git does not read"


def _work(tree: Path, place: Path) -> str:
    if (place / "worktrees").is_dir() and any((place / "worktrees").iterdir()):
        return "another working tree"
    here = (f"--git-dir={place}", f"--work-tree={tree}")  # not that of a directory above
    if (place / "index").exists():
        ran = run_git(tree, *here, "status", "--porcelain", *_ALL_FILES, check=False)
        known = run_git(tree, *here, *_LISTING, "-v", check=False)
        if ran.code != 0 or known.code != 0:
            return "what git cannot read"
        if ran.output:
            return f"{one_line(ran.output.splitlines()[0][3:])}, changed or added"
        if any(line[0] == "S" or line[0].islower() for line in known.output.split("\0") if line):
            return "files that git was told not to look at"
    elif any(path != place for path in tree.iterdir()):
        return "files"
    fetched = ("--not", "--remotes=origin", f"--glob={ORIGINS}/*")
    everything = ("--all", "--reflog")  # what we do ourselves is in no reflog: `NO_REFLOG`
    ran = run_git(tree, *here, "rev-list", "--max-count=1", *everything, *fetched, check=False)
    if ran.code != 0:
        return "what git cannot read"
    return f"commit {ran.output[:12]}" if ran.output else ""


_ALL_FILES = ("--untracked-files=all", "--ignored", "--ignore-submodules=none")


_LISTING = ("ls-files", "-z")


def _left_alone(line: str) -> bool:
    """`H 100644 OBJECT 0<tab>NAME` is compared by git; `h` and `S` are not, nor is a submodule."""
    return not line.startswith("H ") or line.startswith("H 160000 ")


def check_out(repository: Path, commit: str, into: Path, deadline: Deadline | None) -> None:
    """Put the files of a commit into the empty directory `into`. Uses `into`.git beside it."""
    ran = run_git(
        repository, "rev-parse", "--path-format=absolute", "--git-path", "objects"
    ).output.splitlines()
    form = "sha256" if len(commit) == 64 else "sha1"
    own = into.with_name(f"{into.name}.git")
    process.run(["git", "init", "--quiet", "--bare", f"--object-format={form}", "--template=", own])
    env = _environment(())
    env |= {
        "GIT_OBJECT_DIRECTORY": ran[0],
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_NOSYSTEM": "1",
    }
    git = ["git", f"--git-dir={own}", f"--work-tree={into}"]
    done = process.run([*git, "read-tree", commit], env=env, deadline=deadline, check=False)
    if done.code == 0:
        command = [*git, "checkout-index", "--all"]
        done = process.run(command, env=env, cwd=into, deadline=deadline, check=False)
    if done.code != 0:
        raise HarnessError(
            f"{repository}: commit {commit[:12]} cannot be checked out: {done.errors.strip()}",
            hint="a partial clone lacks files: git fetch --refetch --no-filter gets them"
            if "sha1 file" in done.errors or "read object" in done.errors
            else "git fsck says what is damaged",
        )


def _filters(repository: Path) -> frozenset[str]:
    """Names of the filters that some configuration defines."""
    asked = ["git", "-C", str(repository), "config", "--null", "--name-only"]
    ran = process.run([*asked, "--get-regexp", r"^filter\."], env=_environment(()), check=False)
    return frozenset(
        found[1] for name in ran.output.split("\0") if (found := _FILTER.fullmatch(name))
    )


def _environment(filters: Iterable[str]) -> dict[str, str]:
    """Settings as environment, not as -c: a filter's name may have any character in it."""
    settings = dict(_SETTINGS)
    for name in sorted(filters):
        settings |= {f"filter.{name}.{key}": "" for key in ("clean", "smudge", "process")}
        settings[f"filter.{name}.required"] = "false"
    given = {"GIT_CONFIG_COUNT": str(len(settings))}
    for number, (key, value) in enumerate(settings.items()):
        given |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    return {**_ENVIRONMENT, **given}
