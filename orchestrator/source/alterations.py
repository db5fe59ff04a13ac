# SPDX-License-Identifier: GPL-2.0-only
"""Kernels made wrong on purpose, to see whether anybody notices. Pure.

An alteration is a patch: an ablation takes one piece out of livepatch, a mutant makes one small
mistake in it. Kernels from X.Y on may need another text, header and all: it lies in the directory
X.Y beside it, under the same name. What it breaks stands in a header of fields above the diff:

    Breaks: every klp section belongs to whatever object is asked for
    Piece: 3                 the ablation's, of the six of the original series
    First: basic/reload-moved          orders to be tried before the others, malformed/NAME/TIME too
    Unseen: s390x: the same value is written twice     why nobody can see it there ("all": anywhere)
    Since: 7.3               the first kernel that has what it breaks; older ones go without
"""

from __future__ import annotations

import email.parser
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from orchestrator.errors import UsageError
from orchestrator.nouns import Case

CONTROL = "unaltered"  # the kernel as it is: what it fails, no alteration can be caught by
_EVERYWHERE = "all"
_FIELDS = frozenset({"breaks", "piece", "first", "unseen", "since"})
_SINCE = re.compile(r"(\d+)\.(\d+)")


class AlterationKind(StrEnum):
    ABLATION = "ablation"
    MUTANT = "mutant"


@dataclass(frozen=True, slots=True)
class Alteration:
    """One of kernel-config/ablations or kernel-config/mutants."""

    name: str  # 3-s390-mod-arch-specific
    breaks: str
    series: str  # how it is given as a series
    since: tuple[int, int] = (0, 0)  # the first kernel that this text is for
    begins: tuple[int, int] = (0, 0)  # the first kernel that has what it breaks
    piece: str = ""
    first: tuple[str, ...] = ()  # orders to be tried before the others, as SET/NAME
    unseen: tuple[tuple[str, str], ...] = ()  # (architecture or "all", why)

    def unseen_on(self, arch: str) -> str:
        """Why nobody can see it there; "" where it has to be seen."""
        found = dict(self.unseen)
        return found.get(arch) or found.get(_EVERYWHERE, "")

    def in_turn(self, cases: Sequence[Case]) -> tuple[Case, ...]:
        """The cases, `first` before the others."""
        rank = {name: number for number, name in enumerate(self.first)}
        return tuple(sorted(cases, key=lambda case: rank.get(case.label, len(rank))))


def fitting(texts: Iterable[Alteration], version: tuple[int, int]) -> tuple[Alteration, ...]:
    """Of each name the newest text that a kernel (7, 3) takes, of those that break what it has.
    texts: each name's, oldest first."""
    newest = {each.name: each for each in texts if each.since <= version}
    return tuple(each for each in newest.values() if each.begins <= version)


def parse(name: str, text: str, series: str, since: tuple[int, int] = (0, 0)) -> Alteration:
    """From a patch with its header. Raises UsageError."""
    header = text.partition("\n--- ")[0]
    fields = email.parser.HeaderParser().parsestr(header)
    found = {key.lower(): " ".join(value.split()) for key, value in fields.items()}
    unknown = set(found) - _FIELDS
    if unknown or not found.get("breaks"):
        raise UsageError(
            f"{name}: "
            + (f"unknown field {min(unknown)}" if unknown else "the field Breaks is missing"),
            hint=f"above the diff: {', '.join(sorted(field.capitalize() for field in _FIELDS))}",
        )
    where, colon, why = found.get("unseen", "").partition(": ")
    if where and not colon:
        raise UsageError(f"{name}: Unseen: {where}: why?", hint="Unseen: ARCHITECTURE or all: why")
    first = found.get("since", "0.0")
    if (release := _SINCE.fullmatch(first)) is None:
        raise UsageError(f"{name}: Since: {first} is no X.Y of a kernel")
    return Alteration(
        name=name,
        breaks=found["breaks"],
        series=series,
        since=since,
        begins=(int(release[1]), int(release[2])),
        piece=found.get("piece", ""),
        first=tuple(found.get("first", "").split()),
        unseen=((where, why),) if where else (),
    )
