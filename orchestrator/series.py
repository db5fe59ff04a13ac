# SPDX-License-Identifier: GPL-2.0-only
"""Patch series: where they come from, and what they make of a kernel tree.

    NAME           kernel-config/series/NAME, a quilt directory
    DIRECTORY      any quilt directory: `series`, or `series-X.Y` for kernels from X.Y on
    FILE           an mbox (b4 am, git format-patch --stdout) or a single patch
    git:REPO#A..B  the commits of a range
    none           nothing: the bare kernel

Patches are applied by patch(1) with --fuzz=0: a hunk whose context does not match exactly may land
in the wrong place, and the verdict would then be about a patch that nobody wrote. patch(1) and not
quilt, because only the files that a series touches are copied and patched, beside the tree; the
tree itself is never half-patched. Moved lines (an offset) are accepted, as git and quilt do.
"""

from __future__ import annotations

import hashlib
import mailbox
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.message import Message
from pathlib import Path, PurePosixPath

from orchestrator import catalog, process
from orchestrator.errors import PatchError, UsageError
from orchestrator.sources import resolve_commit

NONE = "none"
_VERSIONED = re.compile(r"^series-(\d+)\.(\d+)$")
_DIFF = re.compile(r"^(?:diff --git |--- |Index: )", re.MULTILINE)
_OLD_NEW = re.compile(r"^(?:---|\+\+\+) (?:[ab]/)?(\S+)", re.MULTILINE)
_GIT = re.compile(r"^diff --git a/(\S+) b/(\S+)$", re.MULTILINE)
_HUNK = re.compile(r"^Hunk #(\d+) (?:FAILED|NOT MERGED) at (\d+)")


@dataclass(frozen=True, slots=True)
class Patch:
    """`text`: the diff with whatever message stands before it."""

    name: str
    text: str  # bytes that are no UTF-8 are kept as surrogates

    @property
    def raw(self) -> bytes:
        return self.text.encode(errors="surrogateescape")

    def files(self) -> tuple[str, ...]:
        """Relative paths that the patch may touch; never one too few."""
        named = _OLD_NEW.findall(self.text)
        named += [path for pair in _GIT.findall(self.text) for path in pair]
        return tuple(sorted({path for path in named if path != "/dev/null"}))


@dataclass(frozen=True, slots=True)
class Series:
    """name: "none", a name of ours, or the path or range as given."""

    name: str
    patches: tuple[Patch, ...]

    @property
    def digest(self) -> str:
        """Of the patches' texts, in order."""
        hashes = [hashlib.sha256(patch.raw).hexdigest() for patch in self.patches]
        return hashlib.sha256("\n".join(hashes).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Patched:
    """A file as the series leave it. content: None when it is deleted."""

    content: bytes | None
    executable: bool = False


def known() -> tuple[str, ...]:
    """The names of our own series."""
    directory = catalog.data_dir("kernel-config") / "series"
    return tuple(sorted(path.name for path in directory.glob("*/") if path.is_dir()))


def resolve(spec: str, version: tuple[int, int]) -> Series:
    """The series that `spec` names, for a kernel (6, 1).

    Raises UsageError when there is none of that name, or its patches cannot be read.
    """
    if spec == NONE:
        return Series(NONE, ())
    if spec.startswith("git:"):
        return _git(spec)
    if spec in known():
        return Series(spec, _quilt(catalog.data_dir("kernel-config") / "series" / spec, version))
    path = Path(spec).expanduser()
    if path.is_dir():
        return Series(spec, _quilt(path, version))
    if path.is_file():
        return Series(spec, _mail(path))
    raise UsageError(
        f"no such series: {spec}",
        hint=f"{', '.join((*known(), NONE))}, a directory, an mbox, or git:REPO#A..B",
    )


# --- where patches come from -------------------------------------------------------------------


def _quilt(directory: Path, version: tuple[int, int]) -> tuple[Patch, ...]:
    listed = _series_file(directory, version)
    patches = []
    for number, line in enumerate(listed.read_text().splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        name, *options = words
        if options not in ([], ["-p1"]):
            raise UsageError(f"{listed}:{number}: only -p1 is understood, not {options[0]}")
        try:
            text = (directory / name).read_text(errors="surrogateescape")
        except OSError as error:
            raise UsageError(f"{listed}:{number}: {name}: {error.strerror}") from error
        patches.append(Patch(name, text))
    return tuple(patches)


def _series_file(directory: Path, version: tuple[int, int]) -> Path:
    """`series-X.Y` with the greatest X.Y not above the kernel's version, else `series`."""
    candidates = [
        ((int(match[1]), int(match[2])), path)
        for path in directory.glob("series-*")
        if (match := _VERSIONED.match(path.name))
    ]
    fitting = [candidate for candidate in candidates if candidate[0] <= version]
    path = max(fitting)[1] if fitting else directory / "series"
    if not path.is_file():
        raise UsageError(
            f"{directory} is no quilt series for {version[0]}.{version[1]}: "
            "it has neither a file `series` nor a `series-X.Y` that is old enough"
        )
    return path


def _mail(path: Path) -> tuple[Patch, ...]:
    """The messages of an mbox that carry a diff, in the file's order; or the one patch it is."""
    if not path.read_bytes().startswith(b"From "):
        text = path.read_text(errors="surrogateescape")
        if not _DIFF.search(text):
            raise UsageError(f"{path} holds no patch")
        return (Patch(path.name, text),)
    box = mailbox.mbox(path, create=False)
    try:
        texts = [(str(message["Subject"] or ""), _text(message)) for message in box]
    finally:
        box.close()
    patches = [
        Patch(_slug(subject, number), text)
        for number, (subject, text) in enumerate(texts, 1)
        if _DIFF.search(text)
    ]
    if not patches:
        raise UsageError(f"{path} holds no patch")
    return tuple(patches)


def _text(message: Message) -> str:
    """The plain text of a message, attached patches included, decoded and with \\n line ends."""
    parts = []
    for part in message.walk():
        payload = part.get_payload(decode=True)
        if isinstance(payload, bytes):
            charset = part.get_content_charset() or "utf-8"
            parts.append(payload.decode(charset, errors="replace").replace("\r\n", "\n"))
    return "\n".join(parts)


def _slug(subject: str, number: int) -> str:
    """A file name from a subject, as git format-patch makes it."""
    words = re.sub(r"^(\[[^]]*\]\s*)+", "", " ".join(subject.split()))
    return f"{number:04}-{re.sub(r'[^A-Za-z0-9._]+', '-', words).strip('-.')[:52]}.patch"


def _git(spec: str) -> Series:
    where, _, span = spec.removeprefix("git:").partition("#")
    repository = Path(where).expanduser().absolute()
    first, dots, last = span.partition("..")
    if not repository.is_dir():
        raise UsageError(f"{spec}: {repository} is not a directory")
    if not (first and dots and last):
        raise UsageError(f"{spec}: a range like A..B is missing after #")
    span = f"{resolve_commit(repository, first, spec)}..{resolve_commit(repository, last, spec)}"
    command = ["git", "-C", str(repository), "rev-list", "--reverse", "--no-merges", span]
    commits = process.run(command).output.split()
    if not commits:
        raise UsageError(f"{spec} holds no commit")
    patches = []
    for number, commit in enumerate(commits, 1):
        # what the user's git configuration says about diffs does not count
        show = ["-c", "diff.noprefix=false", "-c", "diff.mnemonicPrefix=false", "format-patch"]
        show += ["-1", "--stdout", "--no-signature", "--full-index", "--zero-commit", commit]
        text = process.run(["git", "-C", str(repository), *show]).output
        subject = re.search(r"^Subject: (.*(?:\n .*)*)$", text, re.MULTILINE)
        patches.append(Patch(_slug(subject[1] if subject else commit, number), text))
    return Series(spec, tuple(patches))


# --- what they make of a tree ------------------------------------------------------------------


def apply(tree: Path, series: Sequence[Series], scratch: Path) -> Mapping[str, Patched]:
    """Each file that the stacked series change, as they leave it. `tree` is only read.

    scratch: an empty directory, used up. Raises PatchError naming patch, file and hunk.
    """
    copied: set[str] = set()
    for one in series:
        for patch in one.patches:
            label = f"{one.name}: {patch.name}"
            for name in patch.files():
                if name not in copied:
                    _copy(tree, scratch, name, label)
                    copied.add(name)
            _run_patch(scratch, patch, label)
    result = {}
    for name in sorted(copied):
        found = _read(scratch / name)
        if found != _read(tree / name):
            result[name] = found
    return result


def _copy(tree: Path, scratch: Path, name: str, label: str) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise PatchError(f"{label} touches {name}, which lies outside the tree")
    if (tree / name).is_file():
        (scratch / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(tree / name, scratch / name)


def _read(path: Path) -> Patched:
    if not path.is_file():
        return Patched(None)
    return Patched(path.read_bytes(), bool(path.stat().st_mode & 0o100))


def _run_patch(scratch: Path, patch: Patch, label: str) -> None:
    if "\nGIT binary patch\n" in patch.text:
        raise PatchError(f"{label} is a binary patch, which is not supported")
    command = ["patch", "-p1", "--fuzz=0", "--no-backup-if-mismatch", "--forward", "--batch"]
    command += ["--reject-file=-"]
    done = process.run(command, cwd=scratch, input=patch.raw or b"\n", check=False)
    if done.code != 0:
        raise PatchError(
            f"{label} does not apply: {_failure(done.output + done.errors)}",
            hint="it may be for another kernel version: refresh it, or put a variant of the series "
            "into a file series-X.Y beside `series`",
        )


def _failure(output: str) -> str:
    """File and hunk, from what patch(1) said."""
    file = ""
    hunks: list[str] = []
    for line in output.splitlines():
        if match := re.match(r"^(?:patching|checking) file '?([^']+?)'?(?: \(.*\))?$", line):
            if hunks:
                break
            file = match[1]
        elif match := _HUNK.match(line):
            hunks.append(f"hunk #{match[1]} at line {match[2]}")
        elif "can't find file to patch" in line:
            text = re.search(r"^\|\+\+\+ (?:b/)?(\S+)", output, re.MULTILINE)
            return f"there is no file {text[1] if text else '(see the patch)'}"
        elif line.startswith(("Reversed (or previously applied)", "The next patch would")):
            return f"{file or line.split()[-1]}: it is applied already"
    if hunks:
        return f"{file}: {', '.join(hunks)}"
    return " ".join(output.split())[-300:] or "patch(1) gave no reason"
