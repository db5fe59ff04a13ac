# SPDX-License-Identifier: GPL-2.0-only
"""Which fields of a module's sections are written by more than one relocation. Pure.

Whichever is applied later writes over the other, or is refused for what stands there
(apply_relocate_add(), arch/x86/kernel/module.c). Two that write different bits of one field are
fine.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from orchestrator.elf import encoding, relocation
from orchestrator.elf.klpformat import is_klp_section
from orchestrator.elf.records import SHT_RELA, Elf


class _Field(NamedTuple):
    start: int
    stop: int
    bits: int  # of it, that are written
    deferred: bool

    def clashes(self, other: _Field) -> bool:
        """Two that begin and end alike may share a field. Both are open at one place."""
        return self[:2] != other[:2] or bool(self.bits & other.bits)

    def __str__(self) -> str:
        return f"{'a klp' if self.deferred else 'an ordinary'} relocation at {self.start:#x}"


def shared(elf: Elf, table: relocation.Table) -> Mapping[tuple[int, int], str]:
    """(section, offset) of a field that a klp relocation writes -> what else writes it. Relocations
    of types that the table lacks are left out: some of them write nothing."""
    written: dict[int, list[_Field]] = {s.info: [] for s in elf.sections if is_klp_section(s)}
    for section in elf.sections:
        if section.type == SHT_RELA and section.info in written:
            for rela in section.relas:
                if row := table(rela.type):
                    stop = rela.offset + row.bits // 8
                    each = _Field(rela.offset, stop, encoding.mask(row), is_klp_section(section))
                    written[section.info].append(each)
    return {
        (index, one.start): str(other)
        for index, fields in written.items()
        for pair in _clashes(sorted(fields))
        for one, other in (pair, pair[::-1])
        if one.deferred
    }


def _clashes(fields: Iterable[_Field]) -> Iterator[tuple[_Field, _Field]]:
    """By where they start. Of those that clash the longer one stays open: few are at a time."""
    still: list[_Field] = []
    for field in fields:
        still = [each for each in still if each.stop > field.start]
        bad = next((each for each in still if each.clashes(field)), None)
        if bad is None:
            still.append(field)
            continue
        yield bad, field
        if field.stop > bad.stop:
            still[still.index(bad)] = field
