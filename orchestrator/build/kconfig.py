# SPDX-License-Identifier: GPL-2.0-only
"""Kconfig fragments: merging them, and what the final `.config` lost of them. Pure.

Why this is checked at all: `make olddefconfig` drops an option whose dependency is not met without
a word, and the kernel then boots and simply lacks what the test is about.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from orchestrator.build import kconfigtree
from orchestrator.build.kconfigtree import KconfigTree

_SET = re.compile(r"^CONFIG_(\w+)=(.*)$")
_SHELL = re.compile(r"[`;&|<>]")
_OPTIONS = re.compile(r"""CONFIG_INITRAMFS_SOURCE=(?:.*[\s"'\\])?-""")
_UNSET = re.compile(r"^# CONFIG_(\w+) is not set$")


@dataclass(frozen=True, slots=True)
class LostOption:
    """A requested option that came out otherwise. Values as in `.config`; "n" for "is not set"."""

    name: str  # without CONFIG_
    requested: str
    final: str

    def __str__(self) -> str:
        return f"CONFIG_{self.name}={self.requested} became {self.final}"


def parse(text: str) -> dict[str, str]:
    """Option -> value of a fragment or a `.config`, a later line winning; "n" for "is not set".

    Raises ValueError naming the line that is neither an option nor a comment nor blank.
    """
    if wrong := unreadable(text):
        raise ValueError(wrong[0])
    values = {}
    for line in map(str.strip, text.splitlines()):
        if match := _SET.match(line):
            values[match[1]] = match[2]
        elif match := _UNSET.match(line):
            values[match[1]] = "n"
    return values


def unreadable(text: str) -> tuple[str, ...]:
    """`line 3 is not a Kconfig option: CONFIG_X`, for each line that is none and no comment; and
    for one that kbuild's make would carry out (include/config/auto.conf is a makefile), or the
    shell of a recipe that has a value in it (cmd_initfs in usr/Makefile)."""
    wrong = []
    for number, line in enumerate(map(str.strip, text.splitlines()), 1):
        if line and not line.startswith("#") and not _SET.match(line):
            wrong.append(f"line {number} is not a Kconfig option: {line}")
        elif "$" in line and not line.startswith("#"):
            wrong.append(f"line {number} has a $ in it, which make would expand: {line}")
        elif not line.startswith("#") and (found := _SHELL.search(line)):
            wrong.append(f"line {number} has a {found[0]} in it, for a shell to see: {line}")
        elif _OPTIONS.match(line):
            wrong.append(f"line {number} names options of gen_initramfs.sh, no files: {line}")
    return tuple(wrong)


def merge(fragments: Sequence[str], without: Collection[str] = ()) -> str:
    """One fragment of all; where they disagree the later one wins, and its line stands once.
    Options of `without` are left out."""
    values: dict[str, str] = {}
    for fragment in fragments:
        values.update(parse(fragment))
    return "".join(_line(name, value) for name, value in values.items() if name not in without)


def _line(name: str, value: str) -> str:
    return f"# CONFIG_{name} is not set\n" if value == "n" else f"CONFIG_{name}={value}\n"


def lost(requested: str, final: str) -> tuple[LostOption, ...]:
    """Each option of `requested` that has another value in `final`.

    An option asked to be off counts as lost when it is on; one that `final` does not know is off.
    """
    have = parse(final)
    return tuple(
        LostOption(name, value, have.get(name, "n"))
        for name, value in parse(requested).items()
        if have.get(name, "n") != value
    )


_REQUIRED = re.compile(r"^# required: (.+)$", re.MULTILINE)


Needed = frozenset[frozenset[str]]
"""Options of which there have to be one of each group: an option that was renamed has two names."""


def required(fragments: Iterable[str]) -> Needed:
    """The options without which a kernel would not be what it is taken for: `# required: A B|C` in
    a fragment."""
    found = (match.split() for text in fragments for match in _REQUIRED.findall(text))
    return frozenset(frozenset(each.split("|")) for groups in found for each in groups)


_ONLY = re.compile(r"^# (gcc|llvm) only: (.+)$", re.MULTILINE)


def foreign(fragments: Iterable[str], compiler: str) -> frozenset[str]:
    """The options that are requested only of what another compiler builds: `# gcc only: A B` in a
    fragment. compiler: `gcc` or `llvm`."""
    found = (match for text in fragments for match in _ONLY.findall(text))
    return frozenset(name for whose, names in found if whose != compiler for name in names.split())


@dataclass(frozen=True, slots=True)
class Come:
    """What became of the options that were requested. lost: those that stop the build. absent: this
    kernel does not define them, others do, and it can do without. unknown: no kernel defines them.
    """

    lost: tuple[LostOption, ...]
    absent: tuple[str, ...]
    unknown: tuple[str, ...]


def become(
    requested: str,
    final: str,
    known: Collection[str],
    needed: Needed,
    defined: Callable[[], Collection[str]],
) -> Come:
    """known: options of all kernels that we know. needed: `required`. defined: those of this
    tree, which is read only where they are to decide."""
    wrong = lost(requested, final)
    strange = [name for name in parse(requested) if name not in known]
    if not wrong and not strange:
        return Come((), (), ())
    here = defined()
    unknown = tuple(name for name in strange if name not in here)
    gone = {each.name for each in wrong}
    missed = {name for group in needed if group <= gone for name in group}
    absent = tuple(
        each.name
        for each in wrong
        if each.name not in here and each.name not in missed and each.name not in unknown
    )
    left = tuple(each for each in wrong if each.name not in {*absent, *unknown})
    return Come(left, absent, unknown)


def explain(options: Sequence[LostOption], tree: KconfigTree, final: str) -> str:
    """Lines for each lost option: what stands in its way in the kernel's Kconfig files, and behind
    that; or what keeps it on."""
    config, lines = parse(final), []
    for option in options:
        if option.requested == "n":
            origin = kconfigtree.origin(tree, option.name, config)
            why = [origin or "it cannot be turned off"]
        else:
            why = list(kconfigtree.reasons(tree, option.name, config, asked=True))
            why = why or ["no dependency of its own is unmet"]
        lines += [f"{option}: {why[0]}", *(f"    {each}" for each in why[1:])]
    return "\n".join(lines)
