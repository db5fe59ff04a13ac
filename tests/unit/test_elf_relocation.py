# SPDX-License-Identifier: GPL-2.0-only
"""A field's bytes <-> where they lead."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator import catalog
from orchestrator.elf import relocation
from orchestrator.elf.records import ByteOrder
from orchestrator.elf.relocation import beside, cleared, decode, field, refusal, unwanted
from orchestrator.errors import HarnessError
from orchestrator.nouns import Behind, RelocationType

WORD = RelocationType(name="64", number=1, bits=64, value="S + A")
PC32 = RelocationType(name="PC32", number=2, bits=32, value="S + A - P")
PC64 = RelocationType(name="PC64", number=3, bits=64, value="S + A - P")
ABS32 = RelocationType(name="32", number=4, bits=32, value="S + A")
ABS32S = RelocationType(name="32S", number=5, bits=32, value="S + A", signed=True)
PC32DBL = RelocationType(
    name="PC32DBL", number=6, bits=32, value="S + A - P", field=("31..0 = 32..1",)
)
GOTENT = RelocationType(
    name="GOTENT", number=7, bits=32, value="G(S) + A - P", field=("31..0 = 32..1",)
)
# a call whose 24 bits lie within an instruction of 32, with a nop behind it for the kernel
CALL = RelocationType(
    name="REL24",
    number=10,
    bits=32,
    value="L(S + A) - P",
    field=("25..2 = 25..2",),
    behind=Behind("00000060", "180041e8", where=1),
)

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
    (CALL, "little", 0xC00800000010, "f1 ff ff 4b", 0, 0xC00800000000),
    (CALL, "little", 0xC00800000010, "01 00 00 4a 00 00 00 60", 0, 0xC007FE000010),
    # across the end of the address space, either way
    (PC64, "big", 0xFFFFFFFFFFFFFFF0, "00 00 00 00 00 00 00 20", 0, 0x10),
    (PC64, "big", 0x10, "ff ff ff ff ff ff ff e0", 0, 0xFFFFFFFFFFFFFFF0),
]


@pytest.mark.parametrize(("row", "order", "address", "raw", "addend", "target"), CASES)
def test_a_field_leads_where_the_kernel_meant_it_to(
    row: RelocationType, order: ByteOrder, address: int, raw: str, addend: int, target: int
) -> None:
    assert hex(decode(row, order, address, bytes.fromhex(raw), addend, 0)) == hex(target)


def test_a_field_of_another_size_is_not_decoded() -> None:
    with pytest.raises(HarnessError, match="32 bits, not 8 bytes"):
        decode(PC32, "little", 0, bytes(8), 0, 0)


def test_rows_come_by_number() -> None:
    row = relocation.table((PC32, WORD))
    assert (row(2), row(1), row(99)) == (PC32, WORD, None)


BL, B, NOP, LD = "010000 48", "000000 48", "00000060", "180041e8"


@pytest.mark.parametrize(
    ("row", "raw", "offset", "found"),
    [
        (PC32, "00 11 22 33 44", 1, "11 22 33 44"),
        (PC32, "00 11 22 33", 1, None),
        (CALL, BL + NOP + BL, 0, BL + NOP),
        (CALL, BL, 0, None),
        (CALL, B, 0, B),  # a jump comes not back: nothing behind it matters
    ],
)
def test_a_field_is_what_the_kernel_writes(
    row: RelocationType, raw: str, offset: int, found: str | None
) -> None:
    wanted = None if found is None else bytes.fromhex(found)
    assert field(row, "little", bytes.fromhex(raw), offset) == wanted


def test_what_is_cleared_is_the_value_alone() -> None:
    assert cleared(PC32DBL, "big", bytes.fromhex("12345678")) == bytes(4)
    assert cleared(CALL, "little", bytes.fromhex("f1ffff4b" + LD)) == bytes.fromhex(BL + NOP)
    assert cleared(CALL, "little", bytes.fromhex("f0ffff4b")) == bytes.fromhex(B)


@pytest.mark.parametrize(
    ("raw", "wrong"),
    [
        ("f1ffff4b" + LD, ""),
        ("f1ffff4b" + NOP, "behind it not 18 00 41 e8"),
        ("f0ffff4b" + LD, "other bits of the field have changed"),
        ("f1ffff40" + LD, "other bits of the field have changed"),
    ],
)
def test_what_lies_beside_the_value_is_looked_at(raw: str, wrong: str) -> None:
    assert beside(CALL, "little", bytes.fromhex(BL + NOP), bytes.fromhex(raw)) == wrong


def test_a_call_without_its_nop_is_named() -> None:
    assert unwanted(CALL, "little", bytes.fromhex(BL + NOP)) == ""
    assert unwanted(CALL, "little", bytes.fromhex(B)) == ""
    assert unwanted(CALL, "little", bytes.fromhex(BL + BL)) == (
        "behind the field is 01 00 00 48; the kernel wants 00 00 00 60 there"
    )


EMPTY = replace(PC32, empty=True)


@pytest.mark.parametrize(
    ("row", "order", "raw", "offset", "addend", "why"),
    [
        # arch/x86/kernel/module.c: memcmp(loc, &zero, size)
        (EMPTY, "little", "00 00 00 00", 5, -4, ""),
        (EMPTY, "little", "00 00 e8 00", 5, -4, "the field holds 00 00 e8 00, and the kernel ref"),
        (PC32, "little", "00 00 e8 00", 5, -4, ""),
        # arch/powerpc/kernel/module_64.c: restore_r2()
        (CALL, "little", BL + NOP, 4, 0, ""),
        (CALL, "little", BL + LD, 4, 0, ""),
        (CALL, "little", B, 4, 0, ""),
        (CALL, "little", BL + B, 4, 0, "behind the field is 00 00 00 48; the kernel wants 00 00"),
        # the same: (value & 3) != 0
        (
            CALL,
            "little",
            BL + NOP,
            6,
            0,
            "the addend and where symbol and field lie come to no multiple of 4, and REL24",
        ),
        # arch/s390/kernel/module.c, apply_rela_bits(): val & ((1UL << shift) - 1)
        (PC32DBL, "big", "00 00 00 00", 2, 2, ""),
        (
            GOTENT,
            "big",
            "00 00 00 00",
            3,
            2,
            "the addend and where symbol and field lie come to no",
        ),
        (
            GOTENT,
            "big",
            "00 00 00 00",
            2,
            3,
            "the addend and where symbol and field lie come to no",
        ),
        (GOTENT, "big", "00 00 00 00", 3, 3, ""),
        # a symbol may be odd, too
        (PC32DBL, "big", "00 00 00 00", 3, 2, ""),
        (PC32DBL, "big", "00 00 00 00", 2, 3, ""),
        # cut short by x86, refused by s390
        (PC32, "little", "00 00 00 00", 5, -(1 << 31), ""),
        (
            PC32,
            "little",
            "00 00 00 00",
            5,
            1 << 32,
            "the addend 0x100000000 is out of PC32'",
        ),
        (PC32DBL, "big", "00 00 00 00", 2, 1 << 32, ""),
        (PC32DBL, "big", "00 00 00 00", 2, -(1 << 33), "the addend -0x200000000 is out of PC32DBL"),
        # of what a stub jumps to any will do
        (CALL, "little", B, 4, 1 << 40, ""),
        (WORD, "little", "00 00 00 00 00 00 00 00", 1, -(1 << 63), ""),
        (PC64, "little", "00 00 00 00 00 00 00 00", 1, -(1 << 63), ""),
    ],
)
def test_what_no_kernel_can_apply_is_told(
    row: RelocationType, order: ByteOrder, raw: str, offset: int, addend: int, why: str
) -> None:
    told = refusal(row, order, bytes.fromhex(raw), offset, addend)
    assert told.startswith(why) if why else not told


@pytest.mark.parametrize(
    ("offset", "addend", "symbol", "fits"),
    [(2, 2, 4, True), (2, 3, 5, True), (3, 2, 5, True), (2, 3, 4, False), (2, 2, 5, False)],
)
def test_an_odd_addend_is_right_of_an_odd_symbol(
    offset: int, addend: int, symbol: int, fits: bool
) -> None:
    told = refusal(PC32DBL, "big", bytes(4), offset, addend, symbol)
    assert (told == "") is fits


def test_a_field_of_one_architecture_has_to_be_empty() -> None:
    """The kernel's own words are in the capability that malformed goes by."""
    checks = [row.empty for row in catalog.arch("x86_64").relocations]
    assert checks and all(checks)
    others = [a for a in catalog.arches().values() if a.name != "x86_64"]
    assert not any(row.empty for arch in others for row in arch.relocations)
