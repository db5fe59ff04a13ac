# SPDX-License-Identifier: GPL-2.0-only
"""Relocation coverage: of each type that the kernel can apply, whether a compiler emits it
into livepatches, whether we can read it back, and whether it was seen applied late. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.elf.records import SHF_ALLOC, SHF_RELA_LIVEPATCH, SHT_RELA, Elf
from orchestrator.nouns import BuiltModule, RelocationType
from orchestrator.port.relocsource import Handled
from orchestrator.verdicts import CaseResult, Reading, RelocationState


@dataclass(frozen=True, slots=True)
class Coverage:
    """One relocation type."""

    name: str  # as our table has it, else as the kernel has it
    number: int
    place: str  # where apply_relocate_add() takes it; "": it does not
    idle: bool  # the kernel writes nothing for it
    readable: bool  # our table has it
    livepatches: int  # entries of klp sections in the livepatches built
    modules: int  # ordinary entries in the modules built, livepatches included
    late: int  # times it was read back, and right, after its target had come to a livepatch

    @property
    def gap(self) -> str:
        """What is wrong about it; "" for nothing."""
        used = self.livepatches or self.modules
        if not self.place:
            return "a compiler emits it, and apply_relocate_add() does not take it" if used else ""
        if self.livepatches and not self.readable:
            return "it is emitted into livepatches, and the architecture's file does not have it"
        if self.livepatches and not self.late:
            return "it was not seen applied late"
        return ""


def coverage(
    table: Sequence[RelocationType],
    handled: Iterable[Handled],
    livepatches: Mapping[int, int],
    modules: Mapping[int, int],
    late: Mapping[str, int],
) -> tuple[Coverage, ...]:
    """A row for each type that the kernel takes or a module has, by number.

    livepatches, modules: type -> entries. late: type's name in our table -> times.
    """
    ours = {row.number: row.name for row in table}
    kernels = {each.number: each for each in handled}
    rows = []
    for number in sorted({*kernels, *livepatches, *modules}):
        known = kernels.get(number)
        name = ours.get(number) or (known.name if known else f"type {number}")
        rows.append(
            Coverage(
                name=name,
                number=number,
                place=known.place if known else "",
                idle=known is not None and known.idle,
                readable=number in ours,
                livepatches=livepatches.get(number, 0),
                modules=modules.get(number, 0),
                late=late.get(name, 0),
            )
        )
    return tuple(rows)


def deferred(modules: Iterable[BuiltModule]) -> Counter[int]:
    """Type -> entries of klp sections."""
    return Counter(entry.type for module in modules for entry in module.klp_relocations)


def ordinary(modules: Iterable[Elf]) -> Counter[int]:
    """Type -> entries that are applied while the module itself loads; those of sections that are
    not loaded are nobody's."""
    found: Counter[int] = Counter()
    for elf in modules:
        for section in elf.sections:
            plain = section.type == SHT_RELA and not section.flags & SHF_RELA_LIVEPATCH
            if plain and elf.sections[section.info].flags & SHF_ALLOC:
                found.update(rela.type for rela in section.relas)
    return found


_LOAD = re.compile(r"\+(\w+)(?:\[.*\])?")


def late(results: Iterable[CaseResult]) -> Counter[str]:
    """Type's name -> how often a relocation of it led to its symbol right after the module had come
    whose symbol it is, to a livepatch that was there already."""
    found: Counter[str] = Counter()
    for step in (step for result in results for step in result.steps):
        loaded = _LOAD.fullmatch(step.event)
        for check in step.checks if loaded else ():
            read = check.detail
            if isinstance(read, Reading) and check.good and loaded:
                came = read.symbol.object == loaded[1] != read.livepatch
                if came and read.state is RelocationState.APPLIED:
                    found[read.type] += 1
    return found
