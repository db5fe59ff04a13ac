# SPDX-License-Identifier: GPL-2.0-only
"""RAM in which no image lies, of what QEMU says; and what is asked of it."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from orchestrator.deadline import Deadline
from orchestrator.errors import HarnessError
from orchestrator.vm import ram

MIB = 1 << 20
ROMS = """\
QEMU 10.0.2 monitor - type 'help' for more information
(qemu) info roms
addr=0000000000000000 size=0x100000 mem=ram name="boot_info"
addr=0000000000200000 size=0x9e4c40 mem=ram name="/a/kernel ELF program header segment 0"
addr=0000000003380000 size=0x358ab7 mem=ram name="initrd"
addr=000000001c000000 size=0x1000000 mem=ram name="boot_code"
/rom@etc/acpi/tables size=0x200000 name="etc/acpi/tables"
"""


def test_gaps_and_images_are_all_of_ram() -> None:
    found = list(ram.gaps(ROMS, 0, 256 * MIB))
    assert found == [
        (0x100000, 0x100000),
        (0xBE4C40, 0x3380000 - 0xBE4C40),
        (0x36D8AB7, 256 * MIB - 0x36D8AB7),
    ]
    images = 0x100000 + 0x9E4C40 + 0x358AB7
    assert images + sum(size for _, size in found) == 256 * MIB


def test_images_that_touch_or_reach_beyond_leave_no_gap() -> None:
    told = "addr=0 size=0x10 mem=ram n\naddr=10 size=0x20 mem=ram n\naddr=8 size=0x4 mem=ram n\n"
    assert list(ram.gaps(told, 0, 0x30)) == []
    assert list(ram.gaps(told, 0, 0x20)) == []
    assert list(ram.gaps("", 0x40, 0x50)) == [(0x40, 0x10)]


def program(place: Path, script: str) -> list[str]:
    path = place / "qemu"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return [str(path)]


def test_each_gap_is_a_file_of_zeros_that_takes_no_room(tmp_path: Path) -> None:
    place = tmp_path / "a,b"
    place.mkdir()
    (tmp_path / "said").write_text(ROMS)
    argv = program(tmp_path, f"cat {tmp_path}/said")
    more = ram.written_anew(argv, 0, 64 * MIB, place, Deadline.after(10))
    assert more[::2] == ["-device"] * 3
    assert more[1] == (
        f"loader,file={str(place).replace(',', ',,')}/zeros-0,addr=0x100000,force-raw=on"
    )
    files = sorted(place.iterdir())
    assert [file.stat().st_size for file in files] == [
        0x100000,
        0x3380000 - 0xBE4C40,
        64 * MIB - 0x36D8AB7,
    ]
    assert sum(file.stat().st_blocks for file in files) < 1000


def test_a_qemu_that_says_nothing_is_trouble_with_its_own_words(tmp_path: Path) -> None:
    argv = program(tmp_path, "echo no such machine >&2; exit 1")
    with pytest.raises(HarnessError, match="no such machine"):
        ram.written_anew(argv, 0, MIB, tmp_path, Deadline.after(10))
