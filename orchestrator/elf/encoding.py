# SPDX-License-Identifier: GPL-2.0-only
"""The bits of a field <-> the address that they say, by an architecture's table. Pure.

A field may say less than an address: its page, or its low part. What it does not say is taken from
an address that is given, so each field is held against the symbol by itself, and none needs the
other half of a pair.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.elf.records import ByteOrder
from orchestrator.nouns import Encoding, RelocationType, Stub

WORD = 64  # bits of an address
PAGE_BITS = 12  # of the pages of instructions that are relative to one, whatever the kernel's are
MOST_ALIGNED = 3  # bits that are zero in an address: instructions are aligned to 8 bytes at most

_ALL = (1 << WORD) - 1
_NO_PAGE = ~((1 << PAGE_BITS) - 1)


def _near(x: int, p: int) -> int:
    """What an instruction with the high half of 32 bits reaches, sign-extended."""
    return (p & _NO_PAGE) + sign_extended(((x + 0x800) & _NO_PAGE) - (p & _NO_PAGE), 32)


FORMULAS: Mapping[str, Callable[[int, int], int]] = {
    "X": lambda x, p: x,
    "X - P": lambda x, p: x - p,
    "Page(X) - Page(P)": lambda x, p: (x & _NO_PAGE) - (p & _NO_PAGE),
    "Page(X) - P": lambda x, p: (x & _NO_PAGE) - p,
    "Page(X + 0x800) - Page(P)": lambda x, p: ((x + 0x800) & _NO_PAGE) - (p & _NO_PAGE),
    "X - Near(X, P)": lambda x, p: x - _near(x, p),
}
"""X: what the field leads to, an addend outside of G() and L() included."""

_TARGET = re.compile(r"[GL]\(S\) \+ A|[GL]\(S \+ A\)|S \+ A")


def formula(row: Encoding) -> str:
    """Which of FORMULAS the value is: "X - P" of "L(S) + A - P"."""
    return _TARGET.sub("X", row.value)


def outer(row: Encoding, addend: int) -> int:
    """What is added to the address of slot, stub or symbol: the addend, where it is not theirs."""
    return 0 if "(S + A)" in row.value and row.leads_to != "symbol" else addend


def inner(row: Encoding, addend: int) -> int:
    """What is added to the symbol's address in slot or stub: the addend, where it is theirs."""
    return addend - outer(row, addend)


@dataclass(frozen=True, slots=True)
class Run:
    """Bits of a field that are bits of the value, as many of each."""

    at: int  # the lowest, in the field
    of: int  # the lowest, of the value
    width: int

    @property
    def ones(self) -> int:
        """As many bits, at the bottom."""
        return (1 << self.width) - 1


def runs(row: Encoding) -> tuple[Run, ...]:
    """The field's runs of bits, in the file's order."""
    if not row.field:
        return (Run(0, 0, row.bits),)
    return tuple(Run(low, of, high - low + 1) for high, low, _, of in map(numbers, row.field))


def numbers(text: str) -> Sequence[int]:
    """[30, 29, 13, 12] of "30..29 = 13..12"."""
    return [int(number) for number in re.findall("[0-9]+", text)]


def mask(row: Encoding) -> int:
    """The bits of the field that hold the value."""
    return sum(run.ones << run.at for run in runs(row))


def granule(row: Encoding) -> int:
    """What the value is a multiple of, for the field does not say its lowest bits: 2 of
    "31..0 = 32..1"."""
    return 1 << min(run.of for run in runs(row))


def reach(row: Encoding) -> int:
    """One more than the largest value, were it without a sign: 1 << 33 of "31..0 = 32..1"."""
    return 1 << max(run.of + run.width for run in runs(row))


def is_whole(row: Encoding) -> bool:
    """Does the field say the whole address?"""
    return not row.part and formula(row) in ("X", "X - P")


def said(row: Encoding) -> str:
    """What of an address a field says, in words: "" of all."""
    if row.part:
        covered = sum(run.ones << run.of for run in runs(row))
        return f"bits {covered.bit_length() - 1}..{low_bit(covered)}"
    return "" if is_whole(row) else "the page"


def decode(row: Encoding, place: int, stored: int, near: int, addend: int = 0) -> int:
    """The address that the field at `place`, whose bits are `stored`, leads to: of the symbol, or
    of a slot or stub where the value has G() or L(). Unsigned, 64 bits.

    What the field does not say of it is as in `near`, so it leads to `near` exactly when this is
    `near` again.
    """
    value = formula_of(row, place, near, addend)
    return (near + _replaced(row, value, stored) - value) & _ALL


def encode(row: Encoding, place: int, stored: int, target: int, addend: int = 0) -> int | None:
    """`stored` with the value's bits for `target`, None where they cannot say it: out of range."""
    value = formula_of(row, place, target, addend)
    made = stored & ~mask(row)
    for run in runs(row):
        made |= (value >> run.of & run.ones) << run.at
    return made if (_replaced(row, value, made) - value) & _ALL == 0 else None


def formula_of(row: Encoding, place: int, target: int, addend: int) -> int:
    """The value for that target."""
    return FORMULAS[formula(row)](target + outer(row, addend) & _ALL, place)


def _replaced(row: Encoding, value: int, stored: int) -> int:
    """The value with those bits that the field says."""
    covered = found = 0
    for run in runs(row):
        covered |= run.ones << run.of
        found |= (stored >> run.at & run.ones) << run.of
    if row.part:
        return value & ~covered | found
    return sign_extended(found, covered.bit_length()) if is_signed(row) else found


def is_signed(row: Encoding) -> bool:
    """Is the field's topmost bit that of a negative number?"""
    return row.signed or " - " in row.value


def sign_extended(number: int, width: int) -> int:
    """The low `width` bits, as two's complement."""
    number &= (1 << width) - 1
    return number - (1 << width) if number >> (width - 1) else number


def low_bit(bits: int) -> int:
    """The lowest bit that is set: 2 of 0b1100."""
    return (bits & -bits).bit_length() - 1


def of_stub(stub: Stub, order: ByteOrder, address: int, raw: bytes, near: int) -> int:
    """What the stub at `address` jumps to; bits that its fields do not say are those of `near`."""
    target = near
    for row in stub.fields:
        stored = int.from_bytes(raw[row.at : row.at + row.bits // 8], order)
        target = decode(row, address + row.at, stored, target)
    return target


def a_stub(stub: Stub, order: ByteOrder, address: int, target: int) -> bytes | None:
    """A stub at `address` that jumps to `target`; None where its fields cannot say so."""
    raw = bytearray(bytes.fromhex(stub.code) or bytes(stub.size))
    for row in stub.fields:
        place = slice(row.at, row.at + row.bits // 8)
        made = encode(row, address + row.at, int.from_bytes(raw[place], order), target)
        if made is None:
            return None
        raw[place] = made.to_bytes(row.bits // 8, order)
    return bytes(raw)


def is_stub(stub: Stub, order: ByteOrder, raw: bytes) -> bool:
    """Is it the stub's code, whatever its fields say?"""
    code = bytearray(raw)
    for row in stub.fields:
        place = slice(row.at, row.at + row.bits // 8)
        stored = int.from_bytes(raw[place], order) & ~mask(row)
        code[place] = stored.to_bytes(row.bits // 8, order)
    return not stub.code or code == bytes.fromhex(stub.code)


def unusable(rows: Iterable[Encoding], stub: Stub | None) -> str:
    """What in a table no field or stub can be read by, in words; "" where all can be."""
    for row in (*rows, *(stub.fields if stub else ())):
        name = row.name if isinstance(row, RelocationType) else "a field"
        if row.bits % 8:
            return f"{name} has {row.bits} bits, and a field has bytes"
        if why := next(contradictions(row), ""):
            return f"{name}: {why}"
        if isinstance(row, RelocationType) and row.behind is not None:
            before, after = len(row.behind.before), len(row.behind.after)
            if before != after or before % 2 or not before:
                return f"{name}: behind it {before} hexadecimal digits, and {after} afterwards"
        if isinstance(row, RelocationType):
            for form in row.instead:
                if form.bits != row.bits:
                    return f"{name}: instead of it a field of {form.bits} bits"
                if why := unusable((form,), form.stub):
                    return f"{name}: instead of it {why}"
            if why := unusable((), row.stub):
                return f"{name}: {why}"
    if stub is None:
        return ""
    digits = len(stub.code.replace(" ", ""))
    if digits and digits != 2 * stub.size:
        return f"the stub's code has {digits} hexadecimal digits, and it has {stub.size} bytes"
    beyond = [row.at for row in stub.fields if row.at + row.bits // 8 > stub.size]
    return f"the stub's field at {beyond[0]} lies beyond its {stub.size} bytes" if beyond else ""


def contradictions(row: Encoding) -> Iterator[str]:
    """What in a row cannot be, in words."""
    bad = [text for text in row.field if _not_a_run(text, row)]
    yield from (f"'{text}': {_not_a_run(text, row)}" for text in bad)
    if row.signed and row.part:
        yield "signed and part: the bits above the field's are its sign, or no matter"
    if not bad:
        yield from _together(row)


def _not_a_run(text: str, row: Encoding) -> str:
    high, low, top, bottom = numbers(text)
    if high < low or high - low != top - bottom:
        return "not as many bits on either side"
    return "" if high < row.bits and top < WORD else f"beyond {row.bits} bits, or {WORD} of a value"


def _together(row: Encoding) -> Iterator[str]:
    """Of runs that are right each by itself: what they cannot be together."""
    in_field = in_value = 0
    for run in runs(row):
        if in_field & run.ones << run.at or in_value & run.ones << run.of:
            yield "the same bits stand in two runs"
            return
        in_field |= run.ones << run.at
        in_value |= run.ones << run.of
    low = low_bit(in_value)
    above = in_value >> low
    lost = PAGE_BITS if "Page" in row.value else MOST_ALIGNED
    if row.part and in_value == _ALL:
        yield "part, and no bit of the value is left out"
    elif not row.part and above & (above + 1):
        yield "bits in the midst of the value are left out, and it is no part"
    elif not row.part and low > lost:
        yield f"the low {low} bits of the value are left out, and it is no part"
    if row.part and row.leads_to == "plt":
        yield "a part does not tell which stub it leads to"
