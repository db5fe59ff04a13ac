# SPDX-License-Identifier: GPL-2.0-only
"""From the bytes of a relocated field to where they lead, through a GOT slot or a stub. Pure.

First `hop` says what more there is to read, then `follow` tells. Which slot a field leads to cannot
be told from a part of its address: there any slot that agrees with the field may be meant, and
one that holds the symbol's address is.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.elf import encoding, relocation
from orchestrator.nouns import Arch, RelocationType

SLOT = 8  # bytes of a GOT slot, on every 64-bit architecture
SLOTS_MAX = 4096  # bytes of slots that are looked through: as far as a low part of 12 bits tells
_WRAP = 1 << encoding.WORD


@dataclass(frozen=True, slots=True)
class Field:
    """A field as it was read."""

    row: RelocationType
    address: int
    raw: bytes
    addend: int
    symbol: int | None  # where the symbol is now

    @property
    def wanted(self) -> int | None:
        """What slot or stub should lead to."""
        if self.symbol is None:
            return None
        return (self.symbol + encoding.inner(self.row, self.addend)) % _WRAP


@dataclass(frozen=True, slots=True)
class Hop:
    """Memory to read: a slot, a stub, or all slots."""

    address: int
    size: int


@dataclass(frozen=True, slots=True)
class Led:
    """Where a field leads."""

    to: int | None  # the address less the addend; None: by what cannot be read
    via: str = ""  # "got 0x...", "plt 0x..."
    beside: str = ""  # what is wrong with what it leads through


def hop(arch: Arch, field: Field, slots: Hop | None) -> Hop | None:
    """What to read to follow it; None: nothing. slots: all of the module's."""
    row = field.row
    if row.leads_to == "symbol":
        return None
    if not encoding.is_whole(row):
        return slots
    target = _decode(arch, field, 0)
    if row.leads_to == "got":
        return Hop(target, SLOT)
    stub = row.stub or arch.stub
    if stub is None or target == field.wanted:
        return None
    return Hop(target, stub.size)


def follow(arch: Arch, field: Field, hop: Hop | None, content: bytes | None) -> Led:
    """Where it leads. content: what is at `hop`, None: it cannot be read."""
    row, stub = field.row, field.row.stub or arch.stub
    inner = encoding.inner(row, field.addend)
    if hop is None:
        return Led((_decode(arch, field, field.wanted or 0) - inner) % _WRAP)
    via, beside = hop.address, ""
    if content is None:
        to = None
    elif row.leads_to == "plt" and stub is not None:
        to = encoding.of_stub(stub, arch.byte_order, via, content, field.wanted or 0)
        if not encoding.is_stub(stub, arch.byte_order, content):
            beside = f"there is no stub: {content.hex(' ')}"
    elif encoding.is_whole(row):
        to = int.from_bytes(content, arch.byte_order)
    else:
        via, to = _slot(arch, field, hop.address, content)
    return Led(None if to is None else (to - inner) % _WRAP, f"{row.leads_to} {via:#x}", beside)


def _slot(arch: Arch, field: Field, start: int, content: bytes) -> tuple[int, int | None]:
    """(address of the slot, what it holds) of those that agree with the field; (address that it
    says at best, None) where none does."""
    held = {
        start + at: int.from_bytes(content[at : at + SLOT], arch.byte_order)
        for at in range(0, len(content) - SLOT + 1, SLOT)
    }
    agreeing = [slot for slot in held if _decode(arch, field, slot) == slot]
    right = [slot for slot in agreeing if held[slot] == field.wanted]
    for slot in (*right, *agreeing):
        return slot, held[slot]
    return _decode(arch, field, start), None


def _decode(arch: Arch, field: Field, near: int) -> int:
    return relocation.decode(
        field.row, arch.byte_order, field.address, field.raw, field.addend, near
    )
