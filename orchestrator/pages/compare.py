# SPDX-License-Identifier: GPL-2.0-only
"""Expected beside seen, with what differs marked; and a field's bytes over the events. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from orchestrator.verdicts import Check, CheckKind, Step

MOST_WORDS = 400  # of a text that is compared word by word: the time is the square of it

_BYTES = re.compile(r"\bbytes ((?:[0-9a-f]{2} )*[0-9a-f]{2})\b")
_PLACE = re.compile(r"\b(?:at|to) (0x[0-9a-f]+)")
_WORDS = re.compile(r"\s+|[^\s]+")


@dataclass(frozen=True, slots=True)
class Piece:
    text: str
    differs: bool = False


Pieces = tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """One thing that was expected, beside what was seen of it."""

    name: str
    expected: Pieces
    seen: Pieces


@dataclass(frozen=True, slots=True)
class Reading:
    """A relocation's bytes after one event."""

    number: int  # of the event, from 1
    event: str
    raw: Pieces  # those differ that were others after the event before
    good: bool
    told: str


@dataclass(frozen=True, slots=True)
class Failed:
    """A check that failed, for people."""

    number: int  # of the event, from 1
    event: str
    check: Check
    pairs: tuple[Pair, ...]
    readings: tuple[Reading, ...]  # of a relocation


def failed(steps: Sequence[Step]) -> Iterator[Failed]:
    """Every check that failed, in the order in which they were made."""
    for number, step in enumerate(steps, start=1):
        for check in step.checks:
            if not check.good:
                relocation = check.kind is CheckKind.RELOCATION
                readings = tuple(_readings(check.subject, steps)) if relocation else ()
                yield Failed(number, step.event, check, pairs(check), readings)


def pairs(check: Check) -> tuple[Pair, ...]:
    """Bytes and addresses of a relocation for themselves; else the words that differ."""
    if check.kind is CheckKind.RELOCATION:
        found = tuple(_relocation(check))
        return (*found, Pair("in words", (Piece(check.expected),), (Piece(check.seen),)))
    return (Pair("in words", *_differing(check.expected, check.seen)),)


def _relocation(check: Check) -> Iterator[Pair]:
    for name, pattern, join in (("bytes", _BYTES, " "), ("leads to", _PLACE, "")):
        expected, seen = (_last(pattern, text) for text in (check.expected, check.seen))
        if expected and seen:
            if not join:  # addresses: digit beside digit
                width = max(len(expected), len(seen)) - 2
                expected, seen = (f"0x{text[2:].zfill(width)}" for text in (expected, seen))
            one, other = (text.split(join) if join else list(text) for text in (expected, seen))
            yield Pair(name, beside(one, other, join), beside(other, one, join))


def _last(pattern: re.Pattern[str], text: str) -> str:
    """An address through a slot comes after the slot's own."""
    found = pattern.findall(text)
    return str(found[-1]) if found else ""


def beside(shown: Sequence[str], other: Sequence[str], join: str = "") -> Pieces:
    """`shown`, place by place; those differ that are not in the same place of `other`."""
    marks = [i >= len(other) or text != other[i] for i, text in enumerate(shown)]
    pieces: list[Piece] = []
    for index, (text, differs) in enumerate(zip(shown, marks, strict=True)):
        if index and pieces[-1].differs == differs:
            pieces[-1] = Piece(f"{pieces[-1].text}{join}{text}", differs)
        else:
            if index and join:
                pieces.append(Piece(join))
            pieces.append(Piece(text, differs))
    return tuple(pieces)


def _differing(expected: str, seen: str) -> tuple[Pieces, Pieces]:
    one, other = (_WORDS.findall(text) for text in (expected, seen))
    if max(len(one), len(other)) > MOST_WORDS:
        return (Piece(expected),), (Piece(seen),)
    left: list[Piece] = []
    right: list[Piece] = []
    for tag, a, b, c, d in SequenceMatcher(None, one, other, autojunk=False).get_opcodes():
        for pieces, words in ((left, one[a:b]), (right, other[c:d])):
            if words:
                pieces.append(Piece("".join(words), tag != "equal"))
    return tuple(left), tuple(right)


def _readings(subject: str, steps: Sequence[Step]) -> Iterator[Reading]:
    before: list[str] | None = None
    for number, step in enumerate(steps, start=1):
        check = next((c for c in step.checks if c.subject == subject), None)
        raw = _BYTES.search(check.seen) if check else None
        if check is None or raw is None:
            continue
        now = raw[1].split(" ")
        told = check.seen.removeprefix(raw[0]).removeprefix(",").strip()
        yield Reading(number, step.event, beside(now, before or now, " "), check.good, told)
        before = now
