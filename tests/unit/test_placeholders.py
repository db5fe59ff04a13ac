# SPDX-License-Identifier: GPL-2.0-only
"""What stands in code for a constant that only vmlinux gets at boot."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.cli import options
from orchestrator.commands.livepatch import work
from orchestrator.elf import placeholders, reader, writer
from orchestrator.elf.records import SHF_EXECINSTR, Elf

GENUINE = sorted((Path(__file__).parent / "genuine").glob("*.ko"))
SET = """
description = "a livepatch"
[[modules]]
name = "livepatch_fix"
kind = "livepatch"
ko = "livepatch_fix.ko"
patches.klp_target = ["patched_one"]
"""
MOVABS = b"\x48\xb8\xef\xcd\xab\x89\x67\x45\x23\x01"  # $0x0123456789abcdef, %rax


def read(path: Path) -> Elf:
    return reader.read(path.read_bytes(), path.name)


def with_behind(elf: Elf, code: bool, more: bytes) -> tuple[Elf, str]:
    """With `more` behind the first section that is code, or is not; and where it lies."""
    sections = list(elf.sections)
    fits = (bool(s.flags & SHF_EXECINSTR) is code and bool(s.data) for s in sections)
    index = list(fits).index(True)
    where = f"{sections[index].name}+{len(sections[index].data) + 2:#x}"
    sections[index] = replace(sections[index], data=sections[index].data + more)
    return replace(elf, sections=tuple(sections)), where


@pytest.mark.parametrize("path", GENUINE, ids=lambda path: path.name)
def test_a_placeholder_is_told_in_code_alone(path: Path) -> None:
    elf = read(path)
    assert list(placeholders.left(elf)) == []
    spoilt, where = with_behind(elf, True, MOVABS)
    assert list(placeholders.left(spoilt)) == [where]
    assert list(placeholders.left(with_behind(elf, False, MOVABS)[0])) == []
    twice, _ = with_behind(elf, True, MOVABS * 2)
    assert len(list(placeholders.left(twice))) == 2


def test_the_other_byte_order_is_another_number() -> None:
    elf = read(GENUINE[0])
    assert elf.byte_order == "little"
    spoilt, _ = with_behind(elf, True, bytes(reversed(MOVABS)))
    assert list(placeholders.left(spoilt)) == []


def test_the_command_says_where_before_an_order_runs(tmp_path: Path) -> None:
    """What fails then is not taken for the kernel's."""
    path = next(path for path in GENUINE if path.name.startswith("objtool"))
    spoilt, where = with_behind(read(path), True, MOVABS)
    (tmp_path / "livepatch_fix.ko").write_bytes(writer.write(spoilt))
    (tmp_path / "set.toml").write_text(SET)
    built = options.build_options(("x86_64",), options.SOURCE, (), 1)
    lines = list(work.described(work.Made(tmp_path, built)))
    assert [line for line in lines if where in line and "0x0123456789abcdef" in line]
