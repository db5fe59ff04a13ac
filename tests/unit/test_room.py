# SPDX-License-Identifier: GPL-2.0-only
"""More memory in a module, copies of it under other names, fields at the end of a page."""

from __future__ import annotations

from dataclasses import replace

import pytest
from elf_samples import CALL, MODULE, ROWS, TEXT, livepatch, table, with_section

from orchestrator.elf import relocation, room
from orchestrator.elf.footprint import Footprint, footprint
from orchestrator.elf.klp import convert
from orchestrator.elf.klpformat import is_klp_section, modinfo
from orchestrator.elf.reader import read
from orchestrator.elf.records import (
    STT_SECTION,
    ByteOrder,
    Elf,
    Rela,
)
from orchestrator.elf.writer import write
from orchestrator.errors import UsageError
from orchestrator.nouns import KlpSymbol, RelocationType, Room

ORDERS: tuple[ByteOrder, ...] = ("little", "big")
CALLED = KlpSymbol("the_target", "target_fn", 0)


def test_sizes() -> None:
    assert all(map(room.is_size, ("", "1K", "64K", "130M", "9999M")))
    assert not any(map(room.is_size, ("0K", "1", "1G", "-1K", "10000M", "1.5M", "1k", " 1K")))
    assert room.said(Room(text="64K", data="2M")) == Footprint(64 << 10, 0, 0, 2 << 20)


def test_a_module_takes_more_memory_and_its_file_does_not_grow_with_it() -> None:
    before = livepatch()
    more = Footprint(text=5000, rodata=3 << 20, ro_after_init=8, data=130 << 20)
    after = read(write(room.enlarged(before, more)))
    for kind, had, has in zip(more._fields, footprint(before), footprint(after), strict=True):
        assert 0 <= has - had - getattr(more, kind) < 64, kind
    assert len(write(after)) < len(write(before)) + 1000
    # what was there is where it was
    assert [s.name for s in after.sections][: len(before.sections)] == [
        s.name for s in before.sections
    ]
    assert room.enlarged(before, Footprint(0, 0, 0, 0)) == before


def test_a_filler_fits_where_another_was_and_not_beside_it() -> None:
    own = Footprint(100, 60, 0, 900)
    place = Footprint(9000, 70, 40, 5000)
    more = room.to_fill(place, own)
    there = [a + b for a, b in zip(own, more, strict=True)]
    assert all(here <= had for here, had in zip(there, place, strict=True))
    assert more.rodata == 0 and more.ro_after_init == 40
    assert place.text - there[0] <= room.SPARE


def named(name: bytes) -> Elf:
    """The sample, with its name where struct module has it: 56 bytes."""
    data = b"\0" * 24 + name.ljust(56, b"\0") + b"\xff" * 48
    return with_section(livepatch(), MODULE, lambda section: replace(section, data=data))


def test_a_copy_has_another_name_and_nothing_else() -> None:
    before = named(b"my_patch")
    after = room.renamed(before, "my_patch", "a_longer_name_12")
    assert dict(modinfo(after))["name"] == "a_longer_name_12"
    data = after.sections[MODULE].data
    assert data[24:80] == b"a_longer_name_12".ljust(56, b"\0")
    assert (data[:24], data[80:]) == (bytes(24), b"\xff" * 48)
    assert room.renamed(after, "a_longer_name_12", "my_patch") == before
    with pytest.raises(UsageError, match="too long"):
        room.renamed(before, "my_patch", "x" * 56)


# --- the end of a page -------------------------------------------------------------------------


def fields(elf: Elf) -> list[int]:
    """Where in a page the klp relocations of its code are, which begins with one."""
    assert elf.sections[TEXT].align == room.PAGE
    relas = [r for s in elf.sections if is_klp_section(s) and s.info == TEXT for r in s.relas]
    assert relas
    return [rela.offset % room.PAGE for rela in relas]


def deferred(elf: Elf) -> Elf:
    return read(convert(write(elf), [CALLED], table=table))


@pytest.mark.parametrize("order", ORDERS)
def test_a_klp_relocation_lies_across_the_end_of_a_page(order: ByteOrder) -> None:
    elf = livepatch(order)
    odd = tuple(replace(r, offset=r.offset + 2 * (r.offset == 0x1C)) for r in elf.sections[2].relas)
    elf = with_section(elf, 2, lambda section: replace(section, relas=odd))
    before = deferred(elf)
    after = read(write(room.at_page_end(before, table, "p.ko")))
    assert 4094 in fields(after)
    pad = after.sections[TEXT].size - before.sections[TEXT].size
    assert after.sections[TEXT].data == bytes(pad) + before.sections[TEXT].data
    for was, now in zip(before.sections, after.sections, strict=True):
        assert (was.name, was.link, was.info) == (now.name, now.link, now.info)
        assert was.data == now.data or was.name == ".text"
        for one, other in zip(was.relas, now.relas, strict=True):
            assert other.offset - one.offset == (pad if was.info == TEXT else 0)
            its_own = one.symbol == 1  # of the section itself
            assert other.addend - one.addend == (pad if its_own else 0)
            assert (one.type, one.symbol) == (other.type, other.symbol)
    for symbol, there in zip(before.symbols, after.symbols, strict=True):
        inside = symbol.shndx == TEXT and symbol.type != STT_SECTION
        assert there == replace(symbol, value=symbol.value + pad * inside)


def test_in_the_last_word_where_none_can_lie_across() -> None:
    after = room.at_page_end(deferred(livepatch()), table, "p.ko")
    assert 4092 in fields(after)  # 0xc and 0x1c, of code that is aligned to 16 bytes


def test_one_that_is_relative_to_a_page_comes_first() -> None:
    page = RelocationType(name="page", number=7, bits=32, value="Page(S + A) - Page(P)")
    rows = relocation.table((*ROWS, page))
    elf = livepatch()
    relas = (*elf.sections[2].relas, Rela(0x38, 7, 4, 0), Rela(0x3C, CALL, 4, 0))
    elf = with_section(elf, 2, lambda section: replace(section, relas=relas))
    before = read(convert(write(elf), [CALLED], table=rows))
    after = room.at_page_end(before, rows, "p.ko")
    assert 4088 in fields(after)


def test_code_without_a_klp_relocation_is_told() -> None:
    with pytest.raises(UsageError, match=r"p.ko: no klp relocation of its code"):
        room.at_page_end(livepatch(), table, "p.ko")
