# SPDX-License-Identifier: GPL-2.0-only
"""Does a livepatch mean, by the N-th symbol of a name, the one that its builder meant? Pure.

A builder counts in a kernel that it has compiled itself, with options of its own
(-ffunction-sections); the kernel that boots counts in its own (kallsyms_on_each_match_symbol(),
kernel/kallsyms.c: by address; module_kallsyms_on_each_symbol(), kernel/module/kallsyms.c: as they
stand). Which of several is meant is told by the source file that a local symbol belongs to.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from orchestrator.elf.records import STB_LOCAL, STT_FILE, STT_SECTION, Symbol
from orchestrator.nouns import KlpSymbol

_GLOBAL = "no file of its own"  # a global symbol


def places(
    symbols: Iterable[Symbol], names: Iterable[str], *, by_address: bool
) -> Mapping[str, tuple[str, ...]]:
    """Name -> the source file of each symbol of it, in the order in which the kernel counts.

    symbols: of an object, in the order of its table, where the name of a file stands before what is
    local to it."""
    wanted = set(names)
    found: dict[str, list[tuple[int, str]]] = {name: [] for name in wanted}
    file = _GLOBAL
    for symbol in symbols:
        if symbol.type == STT_FILE:
            file = symbol.name
        elif symbol.name in wanted and symbol.shndx and symbol.type != STT_SECTION:
            owner = file if symbol.binding == STB_LOCAL else _GLOBAL
            found[symbol.name].append((symbol.value, owner))
    if by_address:
        found = {name: sorted(each, key=lambda one: one[0]) for name, each in found.items()}
    return {name: tuple(owner for _, owner in each) for name, each in found.items()}


def differing(
    asked: Iterable[KlpSymbol],
    theirs: Mapping[str, tuple[str, ...]],
    ours: Mapping[str, tuple[str, ...]],
) -> Iterator[str]:
    """A line for each symbol that is another one in the kernel that boots. theirs: where its
    builder counted."""
    for symbol in dict.fromkeys(asked):
        meant, there = (which.get(symbol.name, ()) for which in (theirs, ours))
        at = max(symbol.sympos, 1) - 1
        if symbol.sympos == 0 and len(there) > 1:
            yield f"{symbol}: it was unique where it was built, and the kernel has {len(there)}"
        elif at >= len(there):
            yield f"{symbol}: the kernel has {len(there) or 'none'} of that name"
        elif at < len(meant) and meant[at] != there[at]:
            yield f"{symbol}: meant is that of {meant[at]}, and the kernel has that of {there[at]}"
