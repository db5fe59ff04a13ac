# SPDX-License-Identifier: GPL-2.0-only
"""Patch series: where they come from, and what they make of a kernel tree.

    NAME           kernel-config/series/NAME, a quilt directory
    DIRECTORY      any quilt directory: `series`, or `series-X.Y` for kernels from X.Y on
    FILE           a mailbox (b4 am, git format-patch --stdout), a message, or a single patch
    git:REPO#A..B  the commits of a range, oldest first
    none           nothing: the bare kernel
    SPEC@N         the first N patches of any of these
    SPEC@merged    nothing either: the source has it already, and is judged by what it promises

Patches are applied by patch(1) with --fuzz=0: a hunk whose context does not match exactly may land
in the wrong place, and the verdict would then be about a patch that nobody wrote. patch(1) and not
quilt, because only the files that a series touches are copied and patched, beside the tree; the
tree itself is never half-patched. Moved lines (an offset) are accepted, as git and quilt do.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator import catalog
from orchestrator.errors import PatchError, UsageError
from orchestrator.host import files, process, walk
from orchestrator.host.rundir import run_dir
from orchestrator.nouns import merged, series_prefix
from orchestrator.source import git, mails, patches
from orchestrator.source.patches import Diff, Patch
from orchestrator.source.sources import resolve_commit

NONE = "none"
ALTERED = ("ablations/", "mutants/")  # kernel-config/mutants/NAME.patch is the series mutants/NAME
_VERSION = re.compile(r"(\d+)\.(\d+)")
_HUNK = re.compile(r"^Hunk #(\d+) (?:FAILED|NOT MERGED) at (\d+)( \(different line endings\))?")


@dataclass(frozen=True, slots=True)
class Series:
    """name: "none", a name of ours, or the path or range, each as given, with its @N or @merged."""

    name: str
    patches: tuple[Patch, ...]


@dataclass(frozen=True, slots=True)
class Patched:
    """A file as the series leave it. content: None when it is deleted."""

    content: bytes | None
    executable: bool = False


def known() -> tuple[str, ...]:
    """The names of our own series."""
    directory = catalog.data_dir("kernel-config") / "series"
    return tuple(sorted(path.name for path in directory.glob("*/") if path.is_dir()))


def is_there(spec: str) -> bool:
    """Is it a file or a directory? What has a name of ours before its `@` never is: a document of
    somebody's may name it, and lie in a directory with one of that name in it."""
    name, _ = series_prefix(merged(spec) or spec)
    return name not in (*known(), NONE) and Path(spec).expanduser().exists()


def resolve(spec: str, version: tuple[int, int]) -> Series:
    """The series that `spec` names, for a kernel (6, 1).

    Raises UsageError when there is none of that name, or its patches cannot be read.
    """
    if (there := merged(spec)) and not is_there(spec):
        resolve(there, version)
        return Series(spec, ())
    name, count = series_prefix(spec)
    if count is None or is_there(spec):
        return Series(spec, _patches(spec, version))
    found = resolve(name, version).patches
    if count > len(found):
        raise UsageError(
            f"{spec}: {name} has only {len(found)} patches for {version[0]}.{version[1]}",
            hint=f"{name}@0 to {name}@{len(found)}; without @N: all of them",
        )
    return Series(spec, found[:count])


# --- where patches come from -------------------------------------------------------------------


def _patches(spec: str, version: tuple[int, int]) -> tuple[Patch, ...]:
    if spec == NONE:
        return ()
    if spec.startswith("git:"):
        return _git(spec)
    ours = catalog.data_dir("kernel-config")
    if spec in known():
        return _quilt(ours / "series" / spec, version)
    path = Path(spec).expanduser()
    if spec.startswith(ALTERED):
        kind, _, name = spec.partition("/")
        path = _newest(altered(ours / kind).get(name, {}), version, ours / f"{spec}.patch")
    if path.is_dir():
        return _quilt(path, version)
    if os.path.lexists(path):
        return mails.series(_bytes(path, str(path)), str(path))
    raise UsageError(
        f"no such series: {spec}",
        hint=f"{', '.join((*known(), NONE))}, a directory, an mbox, or git:REPO#A..B; "
        "@N behind it for its first N patches, @merged where the source has it already",
    )


def altered(directory: Path) -> Mapping[str, Mapping[tuple[int, int], Path]]:
    """Name -> its texts, oldest first, each by the first kernel that it is for: NAME.patch is for
    all, X.Y/NAME.patch for those from X.Y on. Raises UsageError where only the latter is there."""
    places = {(0, 0): directory}
    for place in directory.glob("*.*"):
        if place.is_dir() and (match := _VERSION.fullmatch(place.name)):
            places[int(match[1]), int(match[2])] = place
    found: dict[str, dict[tuple[int, int], Path]] = {}
    for since, place in sorted(places.items()):
        for path in sorted(place.glob("*.patch")):
            found.setdefault(path.stem, {})[since] = path
    if alone := next((texts for texts in found.values() if (0, 0) not in texts), None):
        path = min(alone.values())
        raise UsageError(
            f"{path} is another text of {directory / path.name}, and there is no such file",
            hint="older kernels would be without it, and nobody would be told",
        )
    return found


def _newest(
    texts: Mapping[tuple[int, int], Path], version: tuple[int, int], otherwise: Path
) -> Path:
    """The one of the greatest X.Y not above the kernel's version."""
    fitting = [since for since in texts if since <= version]
    return texts[max(fitting)] if fitting else otherwise


def _quilt(directory: Path, version: tuple[int, int]) -> tuple[Patch, ...]:
    listed = _series_file(directory, version)
    texts: dict[str, str] = {}
    lines = _bytes(listed, str(listed)).decode(errors="replace").splitlines()
    for number, line in enumerate(lines, 1):
        words = re.sub(r"(?:^|\s)#.*", "", line).split()
        if not words:
            continue
        name, *options = words
        where = f"{listed}:{number}"
        if options not in ([], ["-p1"]):
            raise UsageError(f"{where}: only -p1 is understood, not {options[0]}")
        if name in texts:
            raise UsageError(f"{where}: {name} is listed a second time")
        texts[name] = patches.decoded(_bytes(directory / name, f"{where}: {name}"))
    if not texts:
        raise UsageError(f"{listed} lists no patch", hint=f"--series {NONE} is the bare kernel")
    names = patches.distinct(texts)
    return tuple(Patch(name, text) for name, text in zip(names, texts.values(), strict=True))


def _bytes(path: Path, label: str) -> bytes:
    try:
        return files.read(path, files.TEXT)
    except OSError as err:
        raise UsageError(f"{label}: {err.strerror}") from err


def _series_file(directory: Path, version: tuple[int, int]) -> Path:
    """`series-X.Y` with the greatest X.Y not above the kernel's version, else `series`."""
    versioned = {
        (int(match[1]), int(match[2])): path
        for path in directory.glob("series-*")
        if (match := _VERSION.fullmatch(path.name.removeprefix("series-")))
    }
    path = _newest(versioned, version, directory / "series")
    if not path.is_file():
        raise UsageError(
            f"{directory} is no quilt series for {version[0]}.{version[1]}: "
            "it has neither a file `series` nor a `series-X.Y` that is old enough"
        )
    return path


def _git(spec: str) -> tuple[Patch, ...]:
    where, _, span = spec.removeprefix("git:").partition("#")
    repository = Path(where).expanduser().absolute()
    first, dots, last = span.partition("..")
    if not repository.is_dir():
        raise UsageError(f"{spec}: {repository} is not a directory")
    if not (first and dots and last):
        raise UsageError(f"{spec}: a range like A..B is missing after #")
    span = f"{resolve_commit(repository, first, spec)}..{resolve_commit(repository, last, spec)}"
    merge = git.run_git(
        repository, "rev-list", "--merges", "--max-count=1", "--oneline", span
    ).output
    if merge:
        raise UsageError(
            f"{spec}: a series is a straight line, and there is a merge: {merge.strip()}",
            hint=f"rebase it, or build its end: --kernel git:{where}#{last} --series {NONE}",
        )
    lines = git.run_git(
        repository, *("rev-list", "--reverse", "--encoding=UTF-8", "--format=%s", span)
    ).output.split("\n")
    titles = {
        line.removeprefix("commit "): title
        for line, title in zip(lines[::2], lines[1::2], strict=False)
    }
    found = tuple(_commits(repository, tuple(titles)))
    if not found:
        raise UsageError(f"{spec} holds no commit that changes anything")
    return patches.named((titles[commit], text) for commit, text in found)


def _commits(repository: Path, commits: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(commit, its diff) of each that changes anything (b4 prep keeps its cover letter in one that
    does not). Without messages: a diff that one of them quotes is no part of the series."""
    with run_dir("series") as place:
        # diff-tree, because it cares about nobody's settings (diff.noprefix), begins each diff with
        # a line that is the commit's id, and writes bytes to a file
        show = ["--stdin", "--root", "-p", "--binary", "--full-index", "--no-ext-diff"]
        output = f"--output={place / 'diffs'}"
        words = ["diff-tree", *show, "--no-textconv", output]
        git.run_git(repository, *words, input="".join(f"{c}\n" for c in commits).encode())
        text = (place / "diffs").read_bytes().decode(errors="surrogateescape")
    known = set(commits)
    now = ""
    lines: list[str] = []
    for line in text.split("\n"):
        if line not in known:
            lines.append(line)
            continue
        if now:
            yield now, "\n".join([*lines, ""])
        now, lines = line, []
    if now:
        yield now, "\n".join(lines)


# --- what they make of a tree ------------------------------------------------------------------


def apply(tree: Path, series: Sequence[Series]) -> Mapping[str, Patched]:
    """Each file that the stacked series change, as they leave it. `tree` is only read.

    Raises PatchError naming patch, file and hunk.
    """
    with run_dir("patch") as scratch:
        return _applied(tree, series, scratch)


def _applied(tree: Path, series: Sequence[Series], scratch: Path) -> Mapping[str, Patched]:
    copied: set[str] = set()
    for one in series:
        for patch in one.patches:
            label = f"{one.name}: {patch.name}"
            if refusal := patch.diff.refusal():
                raise PatchError(f"{label} {refusal}")
            for name in patch.diff.files():
                if name not in copied:
                    _copy(tree, scratch, name, label)
                    copied.add(name)
            _run_patch(scratch, patch, label)
            if unnamed := sorted(_inside(scratch) - copied):
                raise PatchError(f"{label} makes {unnamed[0]}, which no header of it names")
    result = {}
    for name in sorted(copied):
        found = _read(scratch / name)
        if found != _read(tree / name):
            result[name] = found
    return result


def _copy(tree: Path, scratch: Path, name: str, label: str) -> None:
    for path in (tree / name, *(tree / name).parents):
        if path == tree:
            break
        if path.is_symlink():  # what is written there lands elsewhere
            link = path.relative_to(tree)
            raise PatchError(f"{label} touches {name}, but {link} is a symbolic link in the tree")
    if (tree / name).is_file():
        (scratch / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(tree / name, scratch / name)


def _inside(directory: Path) -> set[str]:
    paths = (path for path in walk.below(directory) if path.is_symlink() or not path.is_dir())
    return {str(path.relative_to(directory)) for path in paths}


def _read(path: Path) -> Patched:
    if not path.is_file():
        return Patched(None)
    return Patched(path.read_bytes(), bool(path.stat().st_mode & 0o100))


def _run_patch(scratch: Path, patch: Patch, label: str) -> None:
    command = ["patch", "-p1", "--fuzz=0", "--no-backup-if-mismatch", "--forward", "--batch"]
    command += ["--reject-file=-"]
    done = process.run(command, cwd=scratch, input=patch.diff.raw, check=False)
    if done.code != 0:
        reason, hint = _failure(done.output + done.errors, patch.diff, scratch)
        raise PatchError(f"{label} does not apply: {reason}", hint=hint)


_OTHER_TREE = (
    "it may be for another tree: name that one with --kernel (base-commit: in a cover letter tells "
    "which), or refresh the patch; a quilt directory may hold variants, in series-X.Y"
)
_APPLIED = "this tree has it: leave the patch out, or take an older tree with --kernel"


def _failure(output: str, diff: Diff, scratch: Path) -> tuple[str, str]:
    """(file and hunk, what to do), from what patch(1) said."""
    file = ""
    hunks: list[str] = []
    for line in output.splitlines():
        if line.startswith(("patching file ", "checking file ")):
            if hunks:
                break
            name = line[len("patching file ") :]
            file = (name.rpartition(" (")[0] if name.endswith(")") else name).strip("'")
        elif match := _HUNK.match(line):
            ends = ", by its line ends (LF or CRLF)" if match[3] else ""
            hunks.append(f"hunk #{match[1]} at line {match[2]}{ends}")
        elif line.startswith(("can't find file to patch", "Cannot rename file")):
            old = set(diff.files()) - diff.made()
            missing = sorted(name for name in old if not (scratch / name).exists())
            return f"there is no file {', '.join(missing)}", _OTHER_TREE
        elif match := re.match(r"The next patch would (create|delete) the file (.+),$", line):
            now = "there" if match[1] == "create" else "gone"
            return f"{match[2]}: it is {now} already", _APPLIED
        elif line.startswith(("Reversed (or previously applied)", "Not deleting file")):
            if file in diff.deleted():
                return f"{file}: it is to be deleted, and holds something else", _OTHER_TREE
            return f"{file}: it is applied already", _APPLIED
    if hunks:
        return f"{file}: {', '.join(hunks)}", _OTHER_TREE
    return " ".join(output.split())[-300:] or "patch(1) gave no reason", _OTHER_TREE
