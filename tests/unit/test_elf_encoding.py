# SPDX-License-Identifier: GPL-2.0-only
"""The bits of a field <-> the address that they say, against what linkers write."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest

from orchestrator import catalog
from orchestrator.elf import encoding, following, relocation
from orchestrator.elf.encoding import decode, encode
from orchestrator.nouns import (
    Arch,
    Encoding,
    RelocationType,
    Stub,
    StubField,
    Value,
)
from orchestrator.run import signs

ALL = (1 << 64) - 1


def row(
    value: Value, *field: str, bits: int = 32, signed: bool = False, part: bool = False
) -> Encoding:
    return Encoding(bits=bits, value=value, field=field, signed=signed, part=part)


PAGE = row("Page(S + A) - Page(P)", "30..29 = 13..12", "23..5 = 32..14")
ADR = row("S + A - P", "30..29 = 1..0", "23..5 = 20..2")
LO12 = row("S + A", "21..10 = 11..0", part=True)
CALL26 = row("L(S + A) - P", "25..0 = 27..2")
BRANCH19 = row("S + A - P", "23..5 = 20..2")
BRANCH14 = row("S + A - P", "18..5 = 15..2")
WORD, WORD_P, HALF_P = row("S + A", bits=64), row("S + A - P", bits=64), row("S + A - P")


def low(shift: int) -> Encoding:
    """Of a load or store of 1 << shift bytes."""
    return row("S + A", f"{21 - shift}..10 = 11..{shift}", part=True)


def move(shift: int) -> Encoding:
    """16 bits of an address."""
    return row("S + A", f"20..5 = {shift + 15}..{shift}", part=True)


# GNU ld 2.40 of aarch64, -Ttext=0xffff80007a3e1ffc: little-endian, in turn
ARM = 0xFFFF80007A3E1FFC
TARGET, NEAR, BELOW = 0xFFFF80007B1234F0, 0xFFFF80007A3E1F04, 0xFFFF800078000EE0
OF_ARM: Sequence[tuple[Encoding, int, int, str]] = [
    (PAGE, TARGET, 0, "006a00d0"),
    (LO12, TARGET, 0, "00c01391"),
    (low(0), TARGET, 0, "01c05339"),
    (low(1), TARGET, 0, "01e04979"),
    (low(2), TARGET, 0, "01f044b9"),
    (low(3), TARGET, 0, "017842f9"),
    (low(4), TARGET, 0, "013cc13d"),
    (CALL26, TARGET, 0, "36053594"),
    (CALL26, TARGET, 0, "35053514"),
    (ADR, NEAR, 0, "20f7ff10"),
    (BRANCH19, NEAR, 0, "03f7ff58"),
    (BRANCH14, NEAR, 0, "e0f61f36"),
    (BRANCH19, NEAR, 0, "c0f6ffb4"),
    (BRANCH19, NEAR, 0, "a0f6ff54"),
    (HALF_P, TARGET, 0, "bc14d400"),
    (WORD, TARGET, 0, "f034127b0080ffff"),
    (WORD_P, TARGET, 0, "b014d40000000000"),
    (move(0), TARGET, 0, "009e86d2"),
    (move(16), TARGET, 0, "4062aff2"),
    (move(32), TARGET, 0, "0000d0f2"),
    (move(48), TARGET, 0, "e0fffff2"),
    (PAGE, BELOW, 0x10, "e9e0fed0"),
    (CALL26, BELOW, 0, "a17b7097"),
]

HI20 = row("Page(S + A + 0x800) - Page(P)", "24..5 = 31..12")
LOW = row("S + A", "21..10 = 11..0", part=True)
B26 = row("L(S + A) - P", "25..10 = 17..2", "9..0 = 27..18")
GOT_HI20 = row("Page(G(S + A) + 0x800) - Page(P)", "24..5 = 31..12")
GOT_LOW = row("G(S + A)", "21..10 = 11..0", part=True)
ABS_HI20 = row("S + A", "24..5 = 31..12", part=True)
ABS_LO20 = row("S + A", "24..5 = 51..32", part=True)
ABS_HI12 = row("S + A", "21..10 = 63..52", part=True)
REST_LO20 = row("S + A - Near(S + A, P)", "24..5 = 51..32", part=True)
REST_HI12 = row("S + A - Near(S + A, P)", "21..10 = 63..52", part=True)

# LLVM's ld.lld 19 of loongarch64, -Ttext=0xffff800002104ffc
LARCH = 0xFFFF800002104FFC
FAR, UP, BACK, SLOT = (
    *(0xFFFF800003123AF0, 0xFFFF800002999800),
    *(0xFFFF8000008F1220, 0xFFFF80000214BFF8),
)
OF_LARCH: Sequence[tuple[Encoding, int, int, str]] = [
    (HI20, FAR, 0, "0404021a"),  # rounded up: its low part is negative
    (LOW, FAR, 0, "84c0eb02"),
    (HI20, UP, 0, "a412011a"),
    (LOW, UP, 0, "8400a028"),
    (B26, FAR, 0, "40e4ea55"),
    (B26, BACK, 0, "9f13c256"),
]
OF_LARCH_BEHIND: Sequence[tuple[Encoding, int, int, str]] = [
    (ABS_HI20, FAR, 0, "6d240614"),
    (ABS_LO20, FAR, 0, "0d00f017"),
    (ABS_HI12, FAR, 0, "adfd3f03"),
    (LOW, FAR, 0, "adc1ab03"),
    (GOT_HI20, SLOT, 0, "e408001a"),
    (GOT_LOW, SLOT, 0, "84e0ff28"),
    (HALF_P, FAR, 0, "bcea0101"),
    (WORD, FAR, 0, "f03a12030080ffff"),
]


def in_turn(
    start: int, rows: Sequence[tuple[Encoding, int, int, str]]
) -> list[tuple[Encoding, int, int, int, str]]:
    """With the place of each."""
    made, place = [], start
    for encoded, target, addend, raw in rows:
        made.append((encoded, place, target, addend, raw))
        place += len(raw) // 2
    return made


LINKED = [
    *in_turn(ARM, OF_ARM),
    *in_turn(LARCH, OF_LARCH),
    *in_turn(LARCH + 0x20, OF_LARCH_BEHIND),
]


@pytest.mark.parametrize(("encoded", "place", "target", "addend", "raw"), LINKED)
def test_a_linkers_fields_are_read_and_written_alike(
    encoded: Encoding, place: int, target: int, addend: int, raw: str
) -> None:
    stored = int.from_bytes(bytes.fromhex(raw), "little")
    assert decode(encoded, place, stored, target, addend) == target
    empty = stored & ~encoding.mask(encoded)
    assert encode(encoded, place, empty, target, addend) == stored
    elsewhere = target ^ 0x1FF07FF0  # the page and the low part of another address
    assert decode(encoded, place, stored, elsewhere, addend) != elsewhere or not said_of(encoded)


def said_of(encoded: Encoding) -> bool:
    """Does it say any of the bits that are changed above?"""
    return any(run.of < 29 for run in encoding.runs(encoded)) or "Page" in encoded.value


EVERY = [
    *dict.fromkeys(each for each, *_ in (*OF_ARM, *OF_LARCH, *OF_LARCH_BEHIND)),
    *(row("G(S) + A - P", "31..0 = 32..1"), row("L(S) + A - P", "31..0 = 32..1")),
    *(row("S + A", signed=True), row("S + A"), REST_LO20, REST_HI12),
]


@pytest.mark.parametrize("encoded", EVERY)
def test_what_is_encoded_is_decoded(encoded: Encoding) -> None:
    rng = random.Random(repr(encoded))
    written = 0
    for _ in range(2000):
        place = rng.getrandbits(64) & ~7
        target = (place + (rng.getrandbits(64) >> rng.randrange(64)) * rng.choice((-1, 1))) & ALL
        target = rng.choice((target, target & 0xFFFFFFFF, target | 0xFFFFFFFF << 32)) & ~7
        addend = rng.choice((0, 2, -4)) * ("L(S) +" in encoded.value or "G(S) +" in encoded.value)
        initial = rng.getrandbits(encoded.bits)
        made = encode(encoded, place, initial, target, addend)
        if made is None:
            assert not encoded.part
            continue
        written += 1
        assert (made ^ initial) & ~encoding.mask(encoded) == 0
        assert decode(encoded, place, made, target, addend) == target
        somewhere = rng.getrandbits(64)
        told = decode(encoded, place, made, somewhere, addend)
        assert encoding.is_whole(encoded) <= (told == target)
        assert encode(encoded, place, initial, told, addend) == made
    assert written > 100


def test_an_address_out_of_reach_is_never_said() -> None:
    """A kernel that leaves bits out without a word has written what leads elsewhere."""
    place = 0xFFFF800002104000
    for encoded in (HI20, PAGE, CALL26, HALF_P):
        assert encode(encoded, place, 0, place + (1 << 40)) is None
        assert decode(encoded, place, 0, place + (1 << 40)) != place + (1 << 40)
    assert encode(row("S + A"), 0, 0, 0xFFFFFFFF80000000) is None
    assert encode(row("S + A", signed=True), 0, 0, 0xFFFFFFFF80000000) == 0x80000000


def test_four_instructions_reach_any_address() -> None:
    """pcalau12i, addi.d of zero, lu32i.d, lu52i.d, add.d, as the LoongArch manual has them."""
    rng = random.Random(18)
    for _ in range(1000):
        target, page = rng.getrandbits(64), rng.getrandbits(64) & ~0xFFF
        place = page + rng.choice((0, 4, 0x800, 0xFF0))
        rows = (HI20, LOW, REST_LO20, REST_HI12)
        # out of reach of the first alone: what it says is what the others go by
        first = (((target + 0x800) & ~0xFFF) - page) >> 12 & 0xFFFFF
        low_part, middle, high = (encode(each, place, 0, target) or 0 for each in rows[1:])
        base = page + encoding.sign_extended(first << 12, 32)
        added = encoding.sign_extended(low_part >> 10, 12) & 0xFFFFFFFF
        added |= (middle >> 5) << 32 | (high >> 10) << 52
        assert (base + added) & ALL == target


def test_what_a_field_says_is_told() -> None:
    assert [encoding.said(each) for each in (WORD, CALL26, PAGE, LO12, low(2), ABS_HI20)] == [
        *("", "", "the page", "bits 11..0", "bits 11..2", "bits 31..12"),
    ]


def test_a_shell_calculates_alike() -> None:
    """The arithmetic of shells is, in these operators, Python's."""
    rng = random.Random(18)
    assert signs.ARITHMETIC.keys() == encoding.FORMULAS.keys()
    for name, text in signs.ARITHMETIC.items():
        for _ in range(100):
            x, p = rng.getrandbits(64), rng.getrandbits(64)
            assert (eval(text) - encoding.FORMULAS[name](x, p)) & ALL == 0  # ours


# --- stubs and slots -----------------------------------------------------------------------------


def part(at: int, of: Encoding) -> StubField:
    return StubField(
        at=at, bits=of.bits, value=of.value, field=of.field, signed=of.signed, part=of.part
    )


ADRP_STUB = Stub(12, (part(0, PAGE), part(4, LO12)), "10000090 10020091 00021fd6")
LU12_STUB = Stub(
    16,
    (
        *(part(0, ABS_HI20), part(4, ABS_LO20), part(8, ABS_HI12)),
        part(12, row("S + A", "25..10 = 17..2", part=True, bits=32)),
    ),
)


def test_a_stub_is_read_as_the_kernel_writes_it() -> None:
    """adrp x16, ...; add x16, x16, ...; br x16 (get_plt_entry(), arch/arm64/kernel/module-plts.c):
    by GNU as and ld."""
    place = 0xFFFF80007A3E2000
    raw = bytes.fromhex("106a00b0 10c21391 00021fd6")
    assert encoding.a_stub(ADRP_STUB, "little", place, TARGET) == raw
    for near in (0, TARGET, TARGET ^ 0xFFF):
        assert encoding.of_stub(ADRP_STUB, "little", place, raw, near) == TARGET
    assert encoding.is_stub(ADRP_STUB, "little", raw)
    assert not encoding.is_stub(ADRP_STUB, "little", bytes(12))


def test_a_stub_of_absolute_parts() -> None:
    raw = encoding.a_stub(LU12_STUB, "little", 0, TARGET)
    assert raw is not None
    assert encoding.of_stub(LU12_STUB, "little", 0, raw, 0) == TARGET
    assert encoding.is_stub(LU12_STUB, "little", raw)  # its code is not told


def arch(stub: Stub | None = ADRP_STUB, got: str | None = None) -> Arch:
    return replace(catalog.arch("x86_64"), stub=stub, got=got)


def field_of(encoded: Encoding, place: int, target: int, symbol: int | None) -> following.Field:
    made = encode(encoded, place, 0, target)
    assert made is not None
    kind = RelocationType(
        name="R", number=1, bits=32, value=encoded.value, field=encoded.field, part=encoded.part
    )
    return following.Field(kind, place, made.to_bytes(4, "little"), 0, symbol)


def test_a_call_is_right_straight_and_by_a_stub() -> None:
    place, stub = ARM, ARM + 0x104
    straight = field_of(CALL26, place, TARGET, TARGET)
    assert following.hop(arch(), straight, None) is None
    assert following.follow(arch(), straight, None, None) == following.Led(TARGET)
    far = TARGET + (1 << 30)
    by_stub = field_of(CALL26, place, stub, far)
    hop = following.hop(arch(), by_stub, None)
    assert hop == following.Hop(stub, 12)
    content = encoding.a_stub(ADRP_STUB, "little", stub, far)
    assert following.follow(arch(), by_stub, hop, content) == following.Led(far, f"plt {stub:#x}")
    spoilt = following.follow(arch(), by_stub, hop, bytes(12))
    assert spoilt.to != far and "there is no stub" in spoilt.beside
    assert following.follow(arch(), by_stub, hop, None).to is None


def test_another_instruction_in_its_place() -> None:
    """arm64: an ADRP in the last two words of a page is an ADR, or a branch to a veneer."""
    arm = catalog.arch("arm64")
    [kind] = [each for each in arm.relocations if each.name == "R_AARCH64_ADR_PREL_PG_HI21"]
    place, page, initial = 0xFFFF80007A3E1FFC, TARGET & ~0xFFF, (0x90000003).to_bytes(4, "little")
    near = place + 0x4ABC

    def follow(insn: int, symbol: int, content: bytes | None = None) -> following.Led:
        raw = insn.to_bytes(4, "little")
        row = relocation.written(kind, "little", raw)
        field = following.Field(row, place, raw, 0, symbol)
        hop = following.hop(arm, field, None)
        assert (hop is None) == (content is None)
        led = following.follow(arm, field, hop, content)
        return replace(led, beside=relocation.beside(row, "little", initial, raw) or led.beside)

    as_it_is = encode(PAGE, place, 0x90000003, TARGET)
    assert as_it_is is not None and follow(as_it_is, TARGET) == following.Led(TARGET)
    assert follow(as_it_is, TARGET + 0x1000).to != TARGET + 0x1000
    assert follow(as_it_is ^ 4, TARGET).beside == "other bits of the field have changed"
    # adr x3, PAGE
    adr = encode(ADR, place, 0x10000003, near & ~0xFFF)
    assert adr is not None and follow(adr, near) == following.Led(near)
    assert follow(adr, near + 0x1000).to != near + 0x1000
    assert follow(adr ^ 0x20, near).to != near  # in the midst of a page
    assert follow(adr ^ 1, near).beside == "other bits of the field have changed"
    # b VENEER; there adrp x3, PAGE; add x3, x3, #0; b back
    veneer = place + 0x204
    branch = encode(CALL26, place, 0x14000000, veneer)
    adrp = encode(PAGE, veneer, 0x90000003, page)
    assert branch is not None and adrp is not None
    content = adrp.to_bytes(4, "little") + bytes(8)
    assert follow(branch, TARGET, content) == following.Led(TARGET, f"plt {veneer:#x}")
    assert follow(branch, TARGET + 0x1000, content).to != TARGET + 0x1000
    assert follow(branch | 1 << 31, TARGET).beside  # bl


@pytest.mark.parametrize("encoded", [GOT_HI20, GOT_LOW])
def test_each_half_of_a_pair_is_held_against_the_slots(encoded: Encoding) -> None:
    start = 0xFFFF80000214BFF0
    slots = following.Hop(start, 32)
    held = [UP, FAR, UP, BACK]
    content = b"".join(word.to_bytes(8, "little") for word in held)
    place, larch = LARCH, arch(got=".got")
    right = field_of(encoded, place, start + 8, FAR)
    assert following.hop(larch, right, slots) == slots
    led = following.follow(larch, right, slots, content)
    assert (led.to, led.via) == (FAR, f"got {start + 8:#x}")
    # at a slot of its own whose content is another's, and nowhere near a slot
    stale = content.replace(FAR.to_bytes(8, "little"), BACK.to_bytes(8, "little"))
    assert following.follow(larch, right, slots, stale).to != FAR
    away = field_of(encoded, place, start + 0x13800, FAR)
    assert following.follow(larch, away, slots, content).to is None
    assert following.follow(larch, right, slots, None).to is None


def test_a_wrong_part_differs_by_that_part() -> None:
    """What is shown is the symbol's address with the page, or the low part, that was found."""
    place = ARM
    page = field_of(PAGE, place, TARGET + 0x3000, TARGET)
    assert following.follow(arch(), page, None, None).to == TARGET + 0x3000
    low_part = field_of(LO12, place, TARGET + 8, TARGET)
    assert following.follow(arch(), low_part, None, None).to == TARGET + 8
    unknown = field_of(LO12, place, TARGET, None)
    assert following.follow(arch(), unknown, None, None).to == TARGET & 0xFFF
