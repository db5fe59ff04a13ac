# SPDX-License-Identifier: GPL-2.0-only
"""A field's bytes <-> where they lead."""

from __future__ import annotations

import pytest

from orchestrator.elf.records import ByteOrder
from orchestrator.elf.relocation import decode, encode, field_bytes
from orchestrator.errors import HarnessError
from orchestrator.nouns import RelocationType

WORD = RelocationType("64", 1, 64)
PC32 = RelocationType("PC32", 2, 32, pc_relative=True)
PC64 = RelocationType("PC64", 3, 64, pc_relative=True)
ABS32 = RelocationType("32", 4, 32)
ABS32S = RelocationType("32S", 5, 32, signed=True)
PC32DBL = RelocationType("PC32DBL", 6, 32, shift=1, pc_relative=True)

CASES = [
    # x86_64: call at ...1000c to a module before it: the displacement is negative
    (PC32, "little", 0xFFFFFFFFC001000C, "f0 ef ff ff", -4, 0xFFFFFFFFC000F000),
    (ABS32S, "little", 0, "00 10 00 c0", 0, 0xFFFFFFFFC0001000),
    (ABS32, "little", 0, "00 10 00 c0", 0, 0xC0001000),
    (WORD, "little", 0, "08 10 00 c0 ff ff ff ff", 8, 0xFFFFFFFFC0001000),
    # s390x: larl's operand counts halfwords from the instruction, two bytes before the field
    (PC32DBL, "big", 0x3FF80001002, "00 00 0f ff", 2, 0x3FF80002FFE),
    (PC32DBL, "big", 0x3FF80001002, "ff ff ff ff", 2, 0x3FF80000FFE),
    (WORD, "big", 0, "00 00 03 ff 80 00 10 00", 0, 0x3FF80001000),
    # across the end of the address space, either way
    (PC64, "big", 0xFFFFFFFFFFFFFFF0, "00 00 00 00 00 00 00 20", 0, 0x10),
    (PC64, "big", 0x10, "ff ff ff ff ff ff ff e0", 0, 0xFFFFFFFFFFFFFFF0),
]


@pytest.mark.parametrize(("row", "order", "address", "raw", "addend", "target"), CASES)
def test_a_field_leads_where_the_kernel_meant_it_to(
    row: RelocationType, order: ByteOrder, address: int, raw: str, addend: int, target: int
) -> None:
    field = bytes.fromhex(raw)
    assert hex(decode(row, order, address, field, addend)) == hex(target)
    assert encode(row, order, address, target, addend) == field


def test_what_the_kernel_refuses_is_refused() -> None:
    with pytest.raises(HarnessError, match="out of reach"):
        encode(PC32, "little", 0, 1 << 31, 0)
    with pytest.raises(HarnessError, match="out of reach"):
        encode(ABS32, "little", 0, 1 << 32, 0)
    with pytest.raises(HarnessError, match="not aligned"):
        encode(PC32DBL, "big", 0, 3, 0)
    with pytest.raises(HarnessError, match="32 bits, not 8 bytes"):
        decode(PC32, "little", 0, bytes(8), 0)


def test_widths_come_from_the_table() -> None:
    width = field_bytes((PC32, WORD))
    assert (width(2), width(1), width(99)) == (4, 8, None)
