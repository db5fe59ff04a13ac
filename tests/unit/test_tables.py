# SPDX-License-Identifier: GPL-2.0-only
"""A table that the kernel has sorted is read back where its entries are by now."""

from __future__ import annotations

import pytest

from orchestrator import catalog
from orchestrator.elf import following, tables
from orchestrator.nouns import Arch

START, KEYS = 0x40000, {"a": 0x1000, "b": 0x2000, "c": 0x9000}
JUMP, KEY_AT = "__jump_table", 8
ROWS = {"x86_64": "R_X86_64_PC64", "s390x": "R_390_PC64", "ppc64le": "R_PPC64_REL64"}


def table(arch: Arch, keys: str, flags: int = 0) -> bytes:
    """Its entries' keys in the order in which they lie, as struct jump_entry has them."""
    content = b""
    for number, key in enumerate(keys):
        place = START + 16 * number + KEY_AT
        value = (KEYS[key] + flags - place) % (1 << 64)
        content += bytes(8) + value.to_bytes(8, arch.byte_order)
    return content


def read_back(
    name: str, klp: str, keys: str, flags: int = 0, addend: int = 0
) -> list[tuple[int, int | None]]:
    """(entry, where it leads) of each klp relocation. klp: the keys of the .ko's entries, "-" of
    one without a klp relocation; keys: what lies there now."""
    arch = catalog.arch(name)
    [row] = [row for row in arch.relocations if row.name == ROWS[name]]
    content = table(arch, keys, flags)
    fields = [
        following.Field(row, START + at, content[at : at + 8], addend, KEYS[key])
        for at, key in zip(range(KEY_AT, len(content), 16), klp, strict=True)
        if key != "-"
    ]
    now = tables.found(arch, JUMP, START, content, fields)
    return [((f.address - START) // 16, tables.leads_to(arch, f)) for f in now]


@pytest.mark.parametrize("arch", ROWS)
@pytest.mark.parametrize(
    ("klp", "now", "entries"),
    [
        ("a", "a", [0]),
        ("ba", "ab", [1, 0]),
        ("-a", "ac", [0]),
        ("bab", "abb", [1, 0, 2]),
        ("aa", "aa", [0, 1]),
    ],
)
def test_an_entry_is_found_where_it_was_sorted_to(
    arch: str, klp: str, now: str, entries: list[int]
) -> None:
    wanted = [KEYS[key] for key in klp if key != "-"]
    assert read_back(arch, klp, now) == list(zip(entries, wanted, strict=True))


def test_an_entry_for_init_code_says_so_in_its_key() -> None:
    assert read_back("x86_64", "ba", "ab", tables.IN_INIT) == [(1, 0x2000), (0, 0x1000)]


@pytest.mark.parametrize(
    ("addend", "flags"), [(2, 0), (2, 2), (3, 1), (3, 3), (1, 3), (0x28 + 2, 0x28)]
)
def test_what_objtool_goes_by_is_cleared_by_the_kernel(addend: int, flags: int) -> None:
    """As klp-build of 7.3 has it for x86: a right kernel was FAIL. addend: of the relocation, for
    the key and its bits; flags: what is there, with the place within the key's structure."""
    assert read_back("x86_64", "ba", "ab", flags, addend) == [(1, 0x2000), (0, 0x1000)]


@pytest.mark.parametrize(("addend", "flags"), [(2, 4), (2, -2), (3, 0), (0, 1), (0x2A, 0)])
def test_nothing_but_that_bit_may_differ(addend: int, flags: int) -> None:
    assert [to for _, to in read_back("x86_64", "a", "a", flags, addend)] != [0x1000]


@pytest.mark.parametrize(("klp", "now"), [("a", "c"), ("ab", "cb"), ("aa", "ac"), ("ba", "ac")])
def test_what_was_not_written_is_not_found_elsewhere(klp: str, now: str) -> None:
    wanted = [KEYS[key] for key in klp]
    assert [to for _, to in read_back("x86_64", klp, now)] != wanted
