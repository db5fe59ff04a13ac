# SPDX-License-Identifier: GPL-2.0-only
"""by-hand/klp-rela.py makes of a module what our converter makes of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from elf_samples import CALL, DATA, FN, RELA_DATA, VAR, livepatch, table, target, with_section

from orchestrator.elf import klp, reader, room
from orchestrator.elf.footprint import Footprint
from orchestrator.elf.records import ByteOrder, Elf, Rela, Section
from orchestrator.elf.writer import write
from orchestrator.nouns import KlpSymbol
from orchestrator.repro import klprela

SYMBOLS = (
    KlpSymbol("the_target", "target_fn", 0),
    KlpSymbol("the_target", "target_var", 2),
    KlpSymbol("other", "hidden", 1),
)
LINES = "the_target.target_fn,0\nthe_target.target_var,2\nother.hidden,1\n"


def pointed(section: Section) -> Section:
    """With a pointer to the target's function beside the one to its variable."""
    return replace(section, relas=(*section.relas, Rela(24, CALL, FN, 7), Rela(0, CALL, VAR, -1)))


def both(elf: Elf) -> tuple[bytes, bytes]:
    """What each makes of it: (our converter, the script of the bundle)."""
    data = write(elf)
    return klp.convert(data, SYMBOLS), klprela.convert(data, *klprela.wanted(LINES))[0]


def facts(elf: Elf) -> list[object]:
    """All that a module loader goes by, wherever in the file it stands."""
    return [
        *((s.name, s.type, s.flags, s.link, s.info, s.align, s.entsize) for s in elf.sections),
        *(s.relas for s in elf.sections),
        *(s.data for s in elf.sections if s.name not in (".strtab", ".shstrtab")),
        *((s.name, s.info, s.other, s.shndx, s.value, s.size) for s in elf.symbols),
    ]


@pytest.mark.parametrize("order", ["little", "big"])
def test_both_make_the_same_of_a_module(order: ByteOrder) -> None:
    ours, theirs = both(with_section(livepatch(order), RELA_DATA, pointed))
    read = reader.read(theirs)
    assert klp.klp_relocations(read, table) == klp.klp_relocations(reader.read(ours), table)
    assert len(klp.klp_relocations(read, table)) == 6
    assert facts(read) == facts(reader.read(ours))
    assert klp.inspect(theirs).violations == klp.inspect(ours).violations


def test_what_is_no_klp_symbol_stays() -> None:
    data = write(livepatch())
    made, number = klprela.convert(data, *klprela.wanted("nobody.nowhere,0"))
    assert number == 0
    assert facts(reader.read(made)) == facts(reader.read(data))


def test_what_debugs_stays_where_it_is() -> None:
    """Nobody applies it, and there is no klp section of what is not loaded."""
    bare = with_section(livepatch(), DATA, lambda section: replace(section, flags=0))
    made, number = klprela.convert(write(bare), *klprela.wanted(LINES))
    assert number == 3
    names = [section.name for section in reader.read(made).sections]
    assert ".klp.rela.the_target.text" in [n.replace("..", ".") for n in names]
    assert not [name for name in names if name.endswith(".data") and "klp" in name]


def test_a_relocation_may_be_written_when_another_object_comes() -> None:
    made, _ = klprela.convert(write(livepatch()), *klprela.wanted("home:other.hidden,1"))
    (found,) = klp.klp_relocations(reader.read(made), table)
    assert (found.object, found.symbol) == ("home", KlpSymbol("other", "hidden", 1))


def test_a_module_is_made_larger_as_we_do_it() -> None:
    ours = room.enlarged(target(), Footprint(8192, 0, 0, 64))
    made, _ = klprela.convert(
        write(target()), *klprela.wanted("+.klp_e2e.text 0x6 8192\n+.klp_e2e.data 3 64\n")
    )
    assert facts(reader.read(made)) == facts(reader.read(write(ours)))
