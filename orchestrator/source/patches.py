# SPDX-License-Identifier: GPL-2.0-only
"""Patches as texts: what of a patch is its diff, which files that may touch, why no tree at all can
take it. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

# Where a diff begins. What stands before it is a message, which may show a diff of its own,
# indented: patch(1) would apply that too.
_START = re.compile(r"^(?:diff --git \S|Index: \S|--- \S.*\n\+\+\+ \S)", re.MULTILINE)
_HEADER = re.compile(
    r"diff |Index: |--- \S|\+\+\+ \S|index [0-9a-f]+\.\.|(?:old|new|deleted file|new file) mode \d|"
    r"(?:rename|copy) (?:from|to) |(?:dis)?similarity index |"
    r"GIT binary patch$|Binary files .* differ$"
)
# no file has lines whose number has more digits
_HUNK = re.compile(r"@@ -\d{1,9}(?:,(\d{1,9}))? \+\d{1,9}(?:,(\d{1,9}))? @@")
# What would be lost with what it belongs to, did it count as text: a signature begins with two.
_NO_TEXT = re.compile(r"\+|-(?!-)|@@")
_FILE = re.compile(r"(?:---|\+\+\+|Index:) ([^\t]+)")
_MOVE = re.compile(r"(?:rename|copy) (from|to) (.+)")
_GIT = re.compile(r"diff --git (\S.*) ([^/ ]+/.+)")
_NO_PREFIX = re.compile(r"diff --git (\S+) \1$")
# modes 120000 and 160000: a symbolic link, a submodule
_LINK = re.compile(r"(?:[a-z]+(?: file)? mode|index [0-9a-f]+\.\.[0-9a-f]+) 1[26]0000$")
# git puts a name into quotes that has a blank's like, a quote or a byte beyond ASCII in it
_QUOTED = re.compile(
    r'(?:diff --git (?:.* )?|(?:---|\+\+\+|Index:|(?:rename|copy) (?:from|to)) )("[^"]*"?)'
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NAME_MAX, _PATH_MAX = 255, 2048  # bytes; trees lie in directories with names of their own
_DEEPEST = 100  # directories; the kernel's tree has ten
_NULL = "/dev/null"
_BY_MAIL = " (a mail program may have wrapped or cut it)"


@dataclass(frozen=True, slots=True)
class Diff:
    """What patch(1) is to get of a patch.

    text: headers and hunks, and nothing of the message around them. headers: its lines that belong
    to no hunk. damage: where a hunk is not what its head promises; "" when all are.
    """

    text: str
    headers: tuple[str, ...]
    damage: str

    @property
    def raw(self) -> bytes:
        return self.text.encode(errors="surrogateescape")

    def files(self) -> tuple[str, ...]:
        """Relative paths that it may touch, as `patch -p1` finds them; never one too few."""
        names = set()
        for line in self.headers:
            if match := _MOVE.match(line):
                names.add(match[2])
            elif match := _GIT.match(line):
                names |= {_stripped(match[1]), _stripped(match[2])}
            elif match := _FILE.match(line):
                # a date stands behind a tab, or, by some tools, behind a blank
                names |= {_stripped(match[1]), _stripped(match[1].split()[0])}
        return tuple(sorted(names - {"", _stripped(_NULL)}))

    def deleted(self) -> frozenset[str]:
        """Of those, the ones that it takes away."""
        return frozenset(old for old, new in self._pairs() if new == _NULL)

    def made(self) -> frozenset[str]:
        """Of those, the ones that are new: added, or the goal of a renaming or copying."""
        moved = (_MOVE.match(line) for line in self.headers)
        added = {new for old, new in self._pairs() if old == _NULL}
        return frozenset(added | {match[2] for match in moved if match and match[1] == "to"})

    def _pairs(self) -> Iterator[tuple[str, str]]:
        """The names of each `---` and `+++`; /dev/null as it is."""
        for old, new in zip(self.headers, self.headers[1:], strict=False):
            if old.startswith("--- ") and new.startswith("+++ "):
                one, two = (line[4:].split()[0] for line in (old, new))
                yield (
                    one if one == _NULL else _stripped(one),
                    two if two == _NULL else _stripped(two),
                )

    def refusal(self) -> str:
        """Why no tree can take it; "" when there is no such reason."""
        if not self.text:
            return "holds no diff"
        file = ""
        for line in self.headers:
            if match := _QUOTED.match(line):
                return f"names a file that git quotes, which is not supported: {match[1]}"
            if match := _NO_PREFIX.match(line):
                return f"names {match[1]} without a/ and b/ before it (git's diff.noprefix)"
            if match := _GIT.match(line):
                file = _stripped(match[2])
            if line == "GIT binary patch" or line.startswith("Binary files "):
                return f"is a binary patch ({file or line}), which is not supported"
            if _LINK.match(line):
                return f"makes or changes {file}, a symbolic link or a submodule: not supported"
        for name in self.files():
            if name.startswith("/") or ".." in name.split("/"):
                return f"touches {name}, which lies outside the tree"
            if max(map(len, map(_raw, name.split("/")))) > _NAME_MAX or len(_raw(name)) > _PATH_MAX:
                return f"touches {name[:40]}..., a longer name than a file can have"
            if name.count("/") > _DEEPEST:
                return f"touches {name[:40]}..., deeper than any tree has files"
            if _CONTROL.search(name):
                return f"touches {name!r}, which has control characters in its name"
        return self.damage


@dataclass(frozen=True, slots=True)
class Patch:
    """name: unlike that of any other of the series, and fit for a file.
    text: the diff with whatever message stands before it; bytes that are no UTF-8 as surrogates."""

    name: str
    text: str

    @property
    def raw(self) -> bytes:
        return self.text.encode(errors="surrogateescape")

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.raw).hexdigest()

    @property
    def diff(self) -> Diff:
        return _diff(self.text)


def decoded(data: bytes) -> str:
    """The text of a patch file. One that has CRLF in its headers has it everywhere, from a mail
    program or an editor: it is brought to LF. In hunks alone CRLF is what the file holds."""
    text = data.decode(errors="surrogateescape")
    return text.replace("\r\n", "\n") if re.search(r"^\+\+\+ .*\r$", text, re.MULTILINE) else text


def named(patches: Iterable[tuple[str, str]]) -> tuple[Patch, ...]:
    """(title, text) of each -> patches, with names as git format-patch makes them."""
    return tuple(
        Patch(f"{number:04}-{_plain(title)[:52].strip('-.')}.patch", text)
        for number, (title, text) in enumerate(patches, 1)
    )


def distinct(paths: Iterable[str]) -> tuple[str, ...]:
    """Each path's last part, with a number before it where another has the same."""
    names: list[str] = []
    for number, path in enumerate(paths, 1):
        name = _plain(path.rpartition("/")[2])[-100:]
        names.append(f"{number:04}-{name}" if name in names else name)
    return tuple(names)


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._]+", "-", text)


def _raw(name: str) -> bytes:
    return name.encode(errors="surrogateescape")


def _stripped(path: str) -> str:
    """Without its first component, as with -p1; "" when there is only one."""
    return path.partition("/")[2]


def _diff(text: str) -> Diff:
    start = _START.search(text)
    lines: list[str] = []
    headers: list[str] = []
    file, hunk, damage = "", 0, ""
    old = new = 0  # lines that the hunk is still to have
    follows = False  # is the line before this one of the diff?
    for line in text[start.start() :].split("\n") if start else ():
        if old != new and max(old, new) <= 0:  # patch(1) refuses that as well
            damage = damage or f"{file}: hunk #{hunk} has one line too many{_BY_MAIL}"
            old = new = 0
        if old > 0 or new > 0:
            # an empty line is a context line whose blank got lost; patch(1) takes it for one, too
            if line[:1] not in ("", " ", "\t", "+", "-", "\\") or min(old, new) < 0:
                damage = damage or f"{file}: hunk #{hunk} is damaged at {line[:40]!r}{_BY_MAIL}"
                old = new = 0
            elif line[:1] != "\\":
                old -= line[:1] != "+"
                new -= line[:1] != "-"
        elif counts := _counts(line):
            hunk += 1
            old, new = counts
        elif _HEADER.match(line):
            if match := _FILE.match(line):
                file, hunk = _stripped(match[1]), 0
            headers.append(line)
        elif follows and _NO_TEXT.match(line):
            damage = damage or f"{file}: {line[:40]!r} belongs to no hunk{_BY_MAIL}"
        elif not line.startswith("\\ "):  # No newline at end of file
            follows = False
            continue
        follows = True
        lines.append(line)
    if old != new or old > 2:  # blank lines at the end may have been chopped: patch(1) knows that
        damage = damage or f"{file}: hunk #{hunk} is cut short{_BY_MAIL}"
    return Diff("".join(f"{line}\n" for line in lines), tuple(headers), damage)


def _counts(head: str) -> tuple[int, int] | None:
    """Lines that the hunk has, old and new; None where it is no head of a hunk."""
    match = _HUNK.match(head)
    return (int(match[1] or 1), int(match[2] or 1)) if match else None
