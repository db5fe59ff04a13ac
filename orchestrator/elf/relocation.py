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

FieldBytes = Callable[[int], int | None]
"""ELF64_R_TYPE -> bytes of the field, None for a type the architecture's table lacks."""

_WRAP = 1 << 64


def field_bytes(table: Sequence[RelocationType]) -> FieldBytes:
    """Looks up the width of a field in an architecture's table."""
    widths = {row.number: row.bits // 8 for row in table}
    return widths.get


def decode(
    row: RelocationType, byte_order: ByteOrder, address: int, raw: bytes, addend: int
) -> int:
    """The address that the field at `address` leads to, minus `addend`, as unsigned 64 bits.

    Where the row says leads_to "got" or "plt" that may be the slot or the stub, not yet the
    symbol. Raises HarnessError if `raw` is not exactly the field.
    """
    if len(raw) * 8 != row.bits:
        raise HarnessError(f"{row.name} has a field of {row.bits} bits, not {len(raw)} bytes")
    stored = int.from_bytes(raw, byte_order, signed=row.signed or row.pc_relative)
    base = address if row.pc_relative else 0
    return ((stored << row.shift) + base - addend) % _WRAP


def encode(
    row: RelocationType, byte_order: ByteOrder, address: int, target: int, addend: int
) -> bytes:
    """The field's bytes that make `decode` give `target`, as the kernel would write them.

    Raises HarnessError where apply_relocate_add() refuses: the value does not fit, or loses bits
    by the shift.
    """
    signed = row.signed or row.pc_relative
    value = (target + addend - (address if row.pc_relative else 0)) % _WRAP
    if signed and value >= _WRAP // 2:
        value -= _WRAP
    if value & ((1 << row.shift) - 1):
        raise HarnessError(f"{row.name} at {address:#x}: {target:#x} is not aligned")
    try:
        return (value >> row.shift).to_bytes(row.bits // 8, byte_order, signed=signed)
    except OverflowError as error:
        raise HarnessError(f"{row.name} at {address:#x}: {target:#x} is out of reach") from error
