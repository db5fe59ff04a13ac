# SPDX-License-Identifier: GPL-2.0-only
"""Reading and writing modules: nothing lost, and one clear refusal for everything else."""

from __future__ import annotations

import random
import struct
from dataclasses import replace

import pytest
from elf_samples import (
    BSS,
    DATA,
    STRTAB,
    SYMTAB,
    TEXT,
    append,
    livepatch,
    symbol,
    target,
    with_symbol,
)

from orchestrator.elf.reader import definitions, expect_machine, read
from orchestrator.elf.records import SHT_PROGBITS, SHT_SYMTAB, ByteOrder, Section
from orchestrator.elf.writer import write
from orchestrator.errors import UsageError

ORDERS: tuple[ByteOrder, ...] = ("little", "big")


@pytest.mark.parametrize("order", ORDERS)
def test_every_number_survives_writing_and_reading(order: ByteOrder) -> None:
    elf = livepatch(order)
    back = read(write(elf))
    assert back.byte_order == order
    assert back.symbols == elf.symbols
    for seen, meant in zip(back.sections, elf.sections, strict=True):
        # the string tables were empty before the writer filled them
        assert replace(seen, data=meant.data) == meant
        assert seen.data == meant.data or seen.type == 3
    assert (back.machine, back.flags, back.section_names) == (elf.machine, 0, elf.section_names)


@pytest.mark.parametrize("order", ORDERS)
def test_an_unchanged_file_is_written_byte_for_byte(order: ByteOrder) -> None:
    data = write(livepatch(order)) + b"...~Module signature appended~\n"
    assert read(data).trailing.startswith(b"...~Module")
    assert write(read(data)) == data
    assert read(write(read(data))) == read(data)


def test_a_new_section_and_a_new_name_move_no_index() -> None:
    elf = read(write(livepatch()))
    renamed = with_symbol(elf, 4, lambda s: replace(s, name=".klp.sym.t.x,0", shndx=0xFF20))
    more = append(renamed, Section(".brand.new", SHT_PROGBITS, align=32, data=b"new"))
    back = read(write(more))
    assert [s.name for s in back.sections] == [s.name for s in elf.sections] + [".brand.new"]
    assert back.sections[-1].offset % 32 == 0
    assert (back.symbols[4].name, back.symbols[4].shndx) == (".klp.sym.t.x,0", 0xFF20)
    assert back.symbols[3] == elf.symbols[3]
    assert back.sections[STRTAB].data.startswith(elf.sections[STRTAB].data)


def test_names_that_are_not_utf8_survive() -> None:
    elf = with_symbol(livepatch(), 4, lambda s: replace(s, name="odd\udcff"))
    data = write(elf)
    assert b"odd\xff\0" in data
    assert read(data).symbols[4].name == "odd\udcff"


def test_the_memory_size_of_bss_is_kept() -> None:
    assert read(write(livepatch())).sections[BSS].size == 0x1000


GOOD = write(livepatch())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"#!/bin/sh\n", "not an ELF file"),
        (b"\xfd7zXZ\0" + bytes(80), "compressed with xz"),
        (GOOD[:40], "truncated"),
        (GOOD[:-1], "truncated"),
        (GOOD[:4] + b"\x01" + GOOD[5:], "not a 64-bit"),
        (GOOD[:5] + b"\x07" + GOOD[6:], "damaged ELF header"),
        (GOOD[:16] + b"\x02" + GOOD[17:], "not a relocatable object"),
        (GOOD[:56] + b"\x01" + GOOD[57:], "program headers"),
        (GOOD[:58] + b"\x41" + GOOD[59:], "wrong size"),
        (GOOD[:62] + b"\xff" + GOOD[63:], "no section name table"),
        (write(append(livepatch(), Section(".symtab2", SHT_SYMTAB, link=STRTAB))), "symbol tables"),
    ],
)
def test_what_is_no_module_is_refused_by_name(data: bytes, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        read(data, "x.ko")
    assert "x.ko" in str(caught.value)


def test_a_section_beyond_the_file_is_refused() -> None:
    at = int.from_bytes(GOOD[40:48], "little") + TEXT * 64 + 32  # sh_size
    with pytest.raises(UsageError, match="truncated: section 1 reaches to 0x7f"):
        read(GOOD[: at + 7] + b"\x7f" + GOOD[at + 8 :])


def test_symbols_without_strings_are_refused() -> None:
    at = int.from_bytes(GOOD[40:48], "little") + SYMTAB * 64 + 40  # sh_link
    with pytest.raises(UsageError, match="without a string table"):
        read(GOOD[:at] + b"\x63" + GOOD[at + 1 :])


@pytest.mark.parametrize("order", ORDERS)
def test_damaged_files_give_usage_errors_only(order: ByteOrder) -> None:
    good = write(livepatch(order))
    for length in range(0, len(good), 13):
        with pytest.raises(UsageError):
            read(good[:length])
    chance = random.Random(2)
    headers = [*range(64), *range(int.from_bytes(good[40:48], order), len(good))]
    for place in chance.sample(headers, 200):
        damaged = bytearray(good)
        damaged[place] ^= 1 << chance.randrange(8)
        try:
            write(read(bytes(damaged)))
        except UsageError as err:
            assert str(err)


def test_definitions_count_as_the_kernel_counts() -> None:
    found = definitions(target(twice="target_fn"))
    assert found == {
        "target_fn": ((".text", 0x10), (".text", 0x30)),
        "target_var": ((".data", 8),),
        "absolute": (("", 0x1234),),
    }


def test_a_module_of_another_architecture_is_named() -> None:
    expect_machine(livepatch("big"), 22, "big")
    with pytest.raises(UsageError, match=r"x\.ko is for EM_S390, big-endian; expected EM_X86_64"):
        expect_machine(livepatch("big"), 62, "little", "x.ko")


def test_records_that_do_not_fit_are_not_written() -> None:
    with pytest.raises(UsageError, match="symbol live_fn"):
        write(with_symbol(livepatch(), 3, lambda s: replace(s, value=-1)))
    elf = livepatch()
    without = tuple(s for s in elf.sections if s.type != SHT_SYMTAB)
    with pytest.raises(UsageError, match="SHT_SYMTAB"):
        write(replace(elf, sections=without, section_names=DATA))


def test_sections_that_lie_over_one_another_are_refused() -> None:
    """3000 of them in one range of 2 MB would take 6 GB."""
    elf = append(livepatch(), Section(".big", SHT_PROGBITS, data=bytes(2 << 20)))
    data = bytearray(write(elf))
    (at,) = struct.unpack_from("<Q", data, 40)
    count = len(elf.sections)
    big = data[at + (count - 1) * 64 : at + count * 64]
    data += big * 3000
    struct.pack_into("<H", data, 60, count + 3000)
    with pytest.raises(UsageError, match="its sections overlap"):
        read(bytes(data))


def test_symbols_that_mean_one_huge_name_are_refused() -> None:
    """40000 symbols with one name of 500 kB would take 20 GB; so would 40000 different ends."""
    named = replace(symbol("x" * 2048), name_at=-1)
    many = replace(livepatch(), symbols=(*livepatch().symbols, *(named,) * 5000))
    with pytest.raises(UsageError, match="much longer than the file"):
        read(write(many))
    assert len(read(write(replace(many, symbols=many.symbols[:12]))).symbols) == 12
    long = with_symbol(livepatch(), 4, lambda s: replace(s, name="x" * 500_000))
    with pytest.raises(UsageError, match="symbol 4 of the module is longer than 2048 bytes"):
        read(write(long))
