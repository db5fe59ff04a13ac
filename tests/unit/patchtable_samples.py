# SPDX-License-Identifier: GPL-2.0-only
"""Livepatches with the tables of struct klp_patch, as records of a module."""

from __future__ import annotations

from orchestrator.elf.patchtable import Layout
from orchestrator.elf.records import (
    SHF_ALLOC,
    SHF_WRITE,
    SHN_UNDEF,
    SHT_NULL,
    SHT_PROGBITS,
    SHT_RELA,
    SHT_STRTAB,
    SHT_SYMTAB,
    STB_GLOBAL,
    STB_LOCAL,
    STT_OBJECT,
    STT_SECTION,
    ByteOrder,
    Elf,
    Rela,
    Section,
    Symbol,
)

CODE, TEXTS, DATA, THIS_MODULE = 1, 2, 3, 4

# Other than on any real kernel: nothing but the layout may say where what is.
LAYOUT = Layout(
    patch_mod=8,
    patch_objs=24,
    patch_replace=40,
    patch_states=32,
    object_name=8,
    object_funcs=0,
    object_size=32,
    func_old_name=16,
    func_new_func=0,
    func_old_sympos=8,
    func_size=40,
    state_id=8,
    state_version=4,
    state_size=24,
)
States = list[tuple[int, int]]
Objects = dict[str | None, list[tuple[str | None, int]]]


def a_module(
    objects: Objects,
    replace: bool = False,
    byte_order: ByteOrder = "little",
    states: States | None = None,
    states_at: int = DATA,
    *,
    owned: bool = True,
    new: bool = True,
    ended: bool = True,
    sized: int | None = None,
) -> Elf:
    """A module whose .data holds struct klp_patch and its tables, after eight bytes of another.

    states: (id, version) of each, and of what ends them; None: it has no table of them. states_at:
    the symbol that `.states` leads to. owned: `.mod` is set; new: each `.new_func` is. ended: the
    last array of functions has an empty entry at its end; sized: how many entries its own symbol,
    `funcs`, says that it has, None for no symbol."""
    texts, data, relas = bytearray(b"\0"), bytearray(64), []

    def pointer(at: int, symbol: int, addend: int) -> None:
        relas.append(Rela(at, 1, symbol, addend))

    def text(at: int, words: str | None) -> None:
        if words is not None:
            pointer(at, TEXTS, len(texts))
            texts.extend(words.encode() + b"\0")

    pointer(8, THIS_MODULE, 0)  # the owner of something else, whose neighbour leads nowhere
    start = 16
    if owned:
        pointer(start + LAYOUT.patch_mod, THIS_MODULE, 0)
    last = 0
    pointer(start + LAYOUT.patch_objs, DATA, len(data))
    data[start + LAYOUT.patch_replace] = replace
    table = len(data)
    data.extend(bytes((len(objects) + 1) * LAYOUT.object_size))
    for number, (name, functions) in enumerate(objects.items()):
        place = table + number * LAYOUT.object_size
        text(place + LAYOUT.object_name, name)
        pointer(place + LAYOUT.object_funcs, DATA, len(data))
        last = len(data)
        for function, sympos in functions:
            at = len(data)
            data.extend(bytes(LAYOUT.func_size))
            text(at + LAYOUT.func_old_name, function)
            if new:
                pointer(at + LAYOUT.func_new_func, CODE, 0)
            data[at + LAYOUT.func_old_sympos : at + LAYOUT.func_old_sympos + 8] = sympos.to_bytes(
                8, byte_order
            )
        data.extend(bytes(LAYOUT.func_size))
    if not ended:
        del data[-LAYOUT.func_size :]
    if states is not None:
        pointer(start + LAYOUT.patch_states, states_at, len(data) if states_at == DATA else 0)
        for number, version in states:
            data.extend(bytes(4) + version.to_bytes(4, byte_order))
            data.extend(number.to_bytes(8, byte_order) + bytes(8))
    little = byte_order == "little"
    sections = (
        Section("", SHT_NULL),
        Section(".text", SHT_PROGBITS, SHF_ALLOC, data=bytes(8)),
        Section(".rodata.str", SHT_PROGBITS, SHF_ALLOC, data=bytes(texts)),
        Section(".data", SHT_PROGBITS, SHF_ALLOC | SHF_WRITE, data=bytes(data)),
        Section(".rela.data", SHT_RELA, link=5, info=3, entsize=24, relas=tuple(relas)),
        Section(".symtab", SHT_SYMTAB, link=6, info=4, entsize=24),
        Section(".strtab", SHT_STRTAB, data=b"\0"),
        Section(".shstrtab", SHT_STRTAB, data=b"\0"),
    )
    ident = b"\x7fELF\x02" + (b"\x01" if little else b"\x02") + b"\x01" + bytes(9)
    symbols = (
        Symbol("", 0, 0, SHN_UNDEF, 0, 0),
        *(Symbol("", STB_LOCAL << 4 | STT_SECTION, 0, index, 0, 0) for index in (1, 2, 3)),
        Symbol("__this_module", STB_GLOBAL << 4, 0, SHN_UNDEF, 0, 0),
    )
    if sized is not None:
        size = sized * LAYOUT.func_size
        symbols = (*symbols, Symbol("funcs", STB_LOCAL << 4 | STT_OBJECT, 0, DATA, last, size))
    return Elf(ident, 62 if little else 22, 1, 0, 0, 7, sections, symbols)
