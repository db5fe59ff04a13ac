# SPDX-License-Identifier: GPL-2.0-only
"""Where a relocated field leads, by the architecture's table. Pure.

The arithmetic is that of apply_relocate_add() (arch/*/kernel/module*.c) read backwards; what
differs between architectures is in the rows of `Arch.relocations`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from orchestrator.elf.records import ByteOrder
from orchestrator.errors import HarnessError
from orchestrator.nouns import RelocationType

Table = Callable[[int], RelocationType | None]
"""ELF64_R_TYPE -> its row, None for a type the architecture's table lacks."""

_WRAP = 1 << 64


def table(rows: Sequence[RelocationType]) -> Table:
    """Looks up a relocation type in an architecture's table."""
    return {row.number: row for row in rows}.get


def field(row: RelocationType, byte_order: ByteOrder, data: bytes, offset: int) -> bytes | None:
    """The field at `offset` of a section's bytes, and those behind it that apply_relocate_add()
    writes as well. None where they lie outside of the section."""
    end = offset + row.bits // 8
    found = data[offset:end]
    if row.behind and not row.behind.where & ~int.from_bytes(found, byte_order):
        end += len(bytes.fromhex(row.behind.before))
    return data[offset:end] if end <= len(data) else None


def cleared(row: RelocationType, byte_order: ByteOrder, raw: bytes) -> bytes:
    """The bytes that `field` gives, as they should be before it is relocated."""
    value, behind = _parts(row, byte_order, raw)
    wanted = bytes.fromhex(row.behind.before) if row.behind and behind else b""
    return (value & ~mask(row)).to_bytes(row.bits // 8, byte_order) + wanted


def unwanted(row: RelocationType, byte_order: ByteOrder, raw: bytes) -> str:
    """Why apply_relocate_add() refuses the field for what stands behind it, "" if it does not."""
    _, behind = _parts(row, byte_order, raw)
    wanted = bytes.fromhex(row.behind.before) if row.behind and behind else b""
    found, wants = behind.hex(" "), wanted.hex(" ")
    return (
        "" if behind == wanted else f"behind the field is {found}; the kernel wants {wants} there"
    )


def decode(
    row: RelocationType, byte_order: ByteOrder, address: int, raw: bytes, addend: int
) -> int:
    """The address that the field at `address` leads to, minus `addend`, as unsigned 64 bits.

    Where the row says leads_to "got" or "plt" that may be the slot or the stub, not yet the
    symbol. Raises HarnessError if `raw` is not as `field` gives it.
    """
    value, _ = _parts(row, byte_order, raw)
    bits = mask(row)
    stored = (value & bits) >> low_bit(bits)
    width = bits.bit_count()
    if (row.signed or row.pc_relative) and stored >> (width - 1):
        stored -= 1 << width
    base = address if row.pc_relative else 0
    return ((stored << row.shift) + base - addend) % _WRAP


def beside(row: RelocationType, byte_order: ByteOrder, initial: bytes, raw: bytes) -> str:
    """What is not as an applied relocation has it besides the value, "" when all is right: the
    other bits of the field as they were, and behind it what belongs there."""
    before, _ = _parts(row, byte_order, initial)
    now, behind = _parts(row, byte_order, raw)
    if (before ^ now) & ~mask(row):
        return "other bits of the field have changed"
    wanted = bytes.fromhex(row.behind.after) if row.behind and behind else b""
    return "" if behind == wanted else f"behind it not {wanted.hex(' ')}"


def _parts(row: RelocationType, byte_order: ByteOrder, raw: bytes) -> tuple[int, bytes]:
    """(the field as a number, the bytes behind it). Raises HarnessError if there are too few."""
    size = row.bits // 8
    if len(raw) not in (size, size + (len(bytes.fromhex(row.behind.before)) if row.behind else 0)):
        raise HarnessError(f"{row.name} has a field of {row.bits} bits, not {len(raw)} bytes")
    return int.from_bytes(raw[:size], byte_order), raw[size:]


def mask(row: RelocationType) -> int:
    """The bits of the field that hold the value."""
    return row.mask or (1 << row.bits) - 1


def low_bit(bits: int) -> int:
    """The lowest bit that is set: 2 of 0b1100."""
    return (bits & -bits).bit_length() - 1
