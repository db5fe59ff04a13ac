# SPDX-License-Identifier: GPL-2.0-only
"""Turn references of a livepatch module to symbols of other objects into klp relocations.

    python3 klp-rela.py CHANGES IN.ko OUT.ko

As Documentation/livepatch/module-elf-format.rst has it: each relocation against a symbol that
CHANGES names moves from .rela.SECTION to .klp.rela.OBJECT.SECTION, and the undefined symbol becomes
.klp.sym.OBJECT.NAME,SYMPOS of the section index SHN_LIVEPATCH. A line of CHANGES is

    OBJECT.NAME,SYMPOS   such a symbol; where IN.ko has none of that name, it changes nothing
    HOME:OBJECT....      one whose relocations are written when HOME is loaded, not OBJECT
    +SECTION FLAGS SIZE  makes the module so many bytes larger, by a section without content

ELF64 of either byte order. Nothing in the file moves: what is new is put behind what is there.
"""

# A file of each bundle (by-hand/klp-rela.py), where nothing of klp-e2e is at hand.

from __future__ import annotations

import struct
import sys
from pathlib import Path

SHT_SYMTAB, SHT_RELA, SHT_NOBITS = 2, 4, 8
SHF_ALLOC, SHF_INFO_LINK, SHF_RELA_LIVEPATCH = 0x2, 0x40, 0x100000
SHN_UNDEF, SHN_LIVEPATCH = 0, 0xFF20
NAME, TYPE, FLAGS, OFFSET, SIZE, LINK, INFO = 0, 1, 2, 4, 5, 6, 7  # of a section header

Symbol = tuple[str, str, str]  # object in whose sections, name, .klp.sym. name
Room = tuple[str, int, int]  # section, flags, bytes


def wanted(text: str) -> tuple[list[Symbol], list[Room]]:
    """What CHANGES says."""
    symbols, rooms = [], []
    for line in text.splitlines():
        if line.startswith("+"):
            section, flags, size = line[1:].split()
            rooms.append((section, int(flags, 0), int(size, 0)))
        else:
            home, _, symbol = line.rpartition(":")
            owner, _, rest = symbol.partition(".")
            symbols.append((home or owner, rest.rpartition(",")[0], f".klp.sym.{symbol}"))
    return symbols, rooms


def convert(data: bytes, symbols: list[Symbol], rooms: list[Room]) -> tuple[bytes, int]:
    """(the module with klp relocations, how many)."""
    if data[:5] != b"\x7fELF\x02":
        sys.exit("it is no ELF64 file")
    out, order = bytearray(data), "<" if data[5] == 1 else ">"
    header, symbol_of, entry = (
        struct.Struct(order + each) for each in ("IIQQQQIIQQ", "IBBHQQ", "QQq")
    )
    (table,) = struct.unpack_from(order + "Q", data, 40)
    count, names_at = struct.unpack_from(order + "HH", data, 60)
    sections = [list(header.unpack_from(data, table + 64 * i)) for i in range(count)]

    def strings(section: int) -> bytearray:
        at, size = sections[section][OFFSET], sections[section][SIZE]
        return bytearray(data[at : at + size])

    def text(table: bytearray, at: int) -> str:
        return table[at : table.index(0, at)].decode()

    def add(table: bytearray, name: str) -> int:
        table.extend(name.encode() + b"\0")
        return len(table) - len(name) - 1

    def append(section: list[int], content: bytes) -> None:
        out.extend(bytes(-len(out) % 8))
        section[OFFSET], section[SIZE] = len(out), len(content)
        out.extend(content)

    symbol_table = next(i for i, each in enumerate(sections) if each[TYPE] == SHT_SYMTAB)
    symbol_names, section_names = strings(sections[symbol_table][LINK]), strings(names_at)
    homes = {}  # index in the symbol table -> object
    for index in range(sections[symbol_table][SIZE] // 24):
        at = sections[symbol_table][OFFSET] + 24 * index
        name_at, info, other, shndx, value, size = symbol_of.unpack_from(data, at)
        for home, name, klp_name in symbols:
            if shndx == SHN_UNDEF and name == text(symbol_names, name_at):
                new = (add(symbol_names, klp_name), info, other, SHN_LIVEPATCH, value, size)
                symbol_of.pack_into(out, at, *new)
                homes[index] = home

    moved = 0
    for section in list(sections):
        target = sections[section[INFO]] if section[TYPE] == SHT_RELA else section
        if section[TYPE] != SHT_RELA or not target[FLAGS] & SHF_ALLOC:
            continue  # what is no rela section, or debugs
        kept, late = b"", dict[str, bytes]()
        for at in range(section[OFFSET], section[OFFSET] + section[SIZE], 24):
            rela = data[at : at + 24]
            home = homes.get(entry.unpack(rela)[1] >> 32, "")
            if home:
                late[home] = late.get(home, b"") + rela
                moved += 1
            else:
                kept += rela
        if late:
            out[section[OFFSET] : section[OFFSET] + len(kept)] = kept
            section[SIZE] = len(kept)
        for home, relas in late.items():
            name = f".klp.rela.{home}.{text(section_names, target[NAME])}"
            flags = SHF_ALLOC | SHF_INFO_LINK | SHF_RELA_LIVEPATCH
            place = (0, 0, 0, symbol_table, section[INFO], 8, 24)
            sections.append([add(section_names, name), SHT_RELA, flags, *place])
            append(sections[-1], relas)

    for name, flags, size in rooms:
        place = (0, 0, size, 0, 0, 8, 0)
        sections.append([add(section_names, name), SHT_NOBITS, flags, *place])
    objects = {klp_name.split(".")[3] for _, _, klp_name in symbols}
    without_dependencies(out, sections, section_names, objects)
    append(sections[sections[symbol_table][LINK]], bytes(symbol_names))
    append(sections[names_at], bytes(section_names))
    append([0] * 10, b"")  # for the alignment of what follows
    struct.pack_into(order + "Q", out, 40, len(out))
    struct.pack_into(order + "H", out, 60, len(sections))
    out.extend(b"".join(header.pack(*section) for section in sections))
    return bytes(out), moved


def without_dependencies(
    out: bytearray, sections: list[list[int]], names: bytearray, objects: set[str]
) -> None:
    """Take them out of depends=, by which modprobe would load them first."""
    for section in sections:
        if names.startswith(b".modinfo\0", section[NAME]):
            at, end = section[OFFSET], section[OFFSET] + section[SIZE]
            lines = bytes(out[at:end]).split(b"\0")
            for index, line in enumerate(lines):
                if line.startswith(b"depends="):
                    every = line[8:].decode().split(",")
                    kept = [each for each in every if each.replace("-", "_") not in objects]
                    lines[index] = f"depends={','.join(kept)}".encode().ljust(len(line), b"\0")
            out[at:end] = b"\0".join(lines)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    changes, module, changed = map(Path, sys.argv[1:])
    made, number = convert(module.read_bytes(), *wanted(changes.read_text()))
    changed.write_bytes(made)
    print(f"{changed}: {number} klp relocations")
