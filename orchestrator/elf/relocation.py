# SPDX-License-Identifier: GPL-2.0-only
"""A relocated field as bytes, and what apply_relocate_add() writes with it. Pure.

The arithmetic is that of apply_relocate_add() (arch/*/kernel/module*.c), in `elf.encoding`; what
differs between architectures is in the rows of `Arch.relocations`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from orchestrator.elf import encoding
from orchestrator.elf.records import ByteOrder
from orchestrator.errors import HarnessError
from orchestrator.nouns import RelocationType

Table = Callable[[int], RelocationType | None]
"""ELF64_R_TYPE -> its row, None for a type the architecture's table lacks."""


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
    return (value & ~encoding.mask(row)).to_bytes(row.bits // 8, byte_order) + wanted


def unwanted(row: RelocationType, byte_order: ByteOrder, raw: bytes) -> str:
    """Why apply_relocate_add() refuses the field for what stands behind it, "" if it does not."""
    _, behind = _parts(row, byte_order, raw)
    wanted = bytes.fromhex(row.behind.before) if row.behind and behind else b""
    found, wants = behind.hex(" "), wanted.hex(" ")
    return (
        "" if behind == wanted else f"behind the field is {found}; the kernel wants {wants} there"
    )


def written(row: RelocationType, byte_order: ByteOrder, raw: bytes) -> RelocationType:
    """The row by which such a field is read: that of the instruction which the loader has put in
    its place, if it has."""
    value, _ = _parts(row, byte_order, raw)
    for form in row.instead:
        if value & form.opcode_bits == form.opcode:
            return replace(
                row,
                value=form.value,
                field=form.field,
                signed=form.signed,
                part=form.part,
                stub=form.stub,
                instead=(form,),
            )
    return row


def refusal(
    row: RelocationType,
    byte_order: ByteOrder,
    raw: bytes,
    offset: int,
    addend: int,
    symbol: int | None = None,
) -> str:
    """Why a right kernel cannot apply a relocation, wherever its symbol lies, "" if it can: what
    apply_relocate_add() refuses, or writes cut short.

    symbol: its address, as far as that is known: its place in a section that is aligned. Without
    it nobody knows what an odd addend comes to; slots, stubs and code are aligned anyway.
    raw: as `field` gives it, of the file. What the kernel puts behind a field may stand there
    before: since Linux 6.3 powerpc takes it (restore_r2(), arch/powerpc/kernel/module_64.c).
    """
    _, behind = _parts(row, byte_order, raw)
    if row.empty and any(raw):
        return f"the field holds {raw.hex(' ')}, and the kernel refuses one that is not zero"
    is_done = row.behind is not None and behind == bytes.fromhex(row.behind.after)
    if not is_done and (why := unwanted(row, byte_order, raw)):
        return why
    if row.part or encoding.formula(row) != "X - P":
        return ""
    step, reach = encoding.granule(row), encoding.reach(row)
    leads_to = symbol if row.leads_to == "symbol" else 0
    if leads_to is not None and (leads_to + addend - offset) % step:
        return (
            f"the addend and where symbol and field lie come to no multiple of {step}, and "
            f"{row.name} counts in such steps"
        )
    outer = encoding.outer(row, addend)
    return "" if abs(outer) < reach else f"the addend {outer:#x} is out of {row.name}'s reach"


def decode(
    row: RelocationType, byte_order: ByteOrder, address: int, raw: bytes, addend: int, near: int
) -> int:
    """The address that the field at `address` leads to, as `encoding.decode` has it.

    Raises HarnessError if `raw` is not as `field` gives it.
    """
    value, _ = _parts(row, byte_order, raw)
    return encoding.decode(row, address, value, near, addend)


def beside(row: RelocationType, byte_order: ByteOrder, initial: bytes, raw: bytes) -> str:
    """What is not as an applied relocation has it besides the value, "" when all is right: the
    other bits of the field as they were, and behind it what belongs there. row: as `written`."""
    before, _ = _parts(row, byte_order, initial)
    now, behind = _parts(row, byte_order, raw)
    others = ~encoding.mask(row)
    for form in row.instead:
        if now & form.opcode_bits == form.opcode:
            others &= ~form.opcode_bits
    if (before ^ now) & others:
        return "other bits of the field have changed"
    wanted = bytes.fromhex(row.behind.after) if row.behind and behind else b""
    return "" if behind == wanted else f"behind it not {wanted.hex(' ')}"


def _parts(row: RelocationType, byte_order: ByteOrder, raw: bytes) -> tuple[int, bytes]:
    """(the field as a number, the bytes behind it). Raises HarnessError if there are too few."""
    size = row.bits // 8
    if len(raw) not in (size, size + (len(bytes.fromhex(row.behind.before)) if row.behind else 0)):
        raise HarnessError(f"{row.name} has a field of {row.bits} bits, not {len(raw)} bytes")
    return int.from_bytes(raw[:size], byte_order), raw[size:]
