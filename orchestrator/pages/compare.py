# SPDX-License-Identifier: GPL-2.0-only
"""Expected beside seen, with what differs marked; and a field's bytes over the events. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from orchestrator.verdicts import Check, Reading, RelocationState, Step

MOST_WORDS = 400  # of a text that is compared word by word: the time is the square of it

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
class After:
    """A relocation's bytes after one event."""

    number: int  # of the event, from 1
    event: str
    raw: Pieces  # those differ that were others after the event before
    good: bool
    words: str


@dataclass(frozen=True, slots=True)
class Failed:
    """A check that failed, for people."""

    number: int  # of the event, from 1
    event: str
    check: Check
    pairs: tuple[Pair, ...]
    readings: tuple[After, ...]  # of a relocation


def failed(steps: Sequence[Step]) -> Iterator[Failed]:
    """Every check that failed, in the order in which they were made."""
    for number, step in enumerate(steps, start=1):
        for check in step.checks:
            if not check.good:
                readings = tuple(_readings(check, steps))
                yield Failed(number, step.event, check, pairs(check), readings)


def pairs(check: Check) -> tuple[Pair, ...]:
    """Bytes and addresses of a relocation for themselves; else the words that differ."""
    if isinstance(check.detail, Reading):
        found = tuple(_relocation(check.detail))
        return (*found, Pair("in words", (Piece(check.expected),), (Piece(check.seen),)))
    return (Pair("in words", *_differing(check.expected, check.seen)),)


def _relocation(read: Reading) -> Iterator[Pair]:
    applied = read.state is RelocationState.APPLIED
    wanted = "" if applied else read.before or read.initial
    if wanted:
        one, other = wanted.split(" "), read.raw.split(" ")
        yield Pair("bytes", beside(one, other, " "), beside(other, one, " "))
    if applied and read.symbol_address is not None and read.resolves_to is not None:
        expected, seen = f"{read.symbol_address:x}", f"{read.resolves_to:x}"
        width = max(len(expected), len(seen))  # digit beside digit
        one, other = (list(f"0x{text.zfill(width)}") for text in (expected, seen))
        yield Pair("resolves to", beside(one, other), beside(other, one))


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


def _readings(failed: Check, steps: Sequence[Step]) -> Iterator[After]:
    """Of the relocation that a check is of, after each event."""
    before: list[str] | None = None
    of = failed.detail
    if not isinstance(of, Reading):
        return
    for number, step in enumerate(steps, start=1):
        for check in step.checks:
            read = check.detail
            if isinstance(read, Reading) and _place(read) == _place(of):
                now = read.raw.split(" ")
                rest = check.seen.removeprefix(f"bytes {read.raw}").removeprefix(",").strip()
                yield After(number, step.event, beside(now, before or now, " "), check.good, rest)
                before = now


def _place(read: Reading) -> tuple[str, str, str, int]:
    return read.livepatch, read.object, read.section, read.offset
