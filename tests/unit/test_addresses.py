# SPDX-License-Identifier: GPL-2.0-only
"""Where the kernel's own symbols are in a boot."""

from __future__ import annotations

from orchestrator.run import booting


def test_kaslr_moves_the_image_and_no_per_cpu_offset() -> None:
    text = "16590 D counts\n81000000 T _text\n81000010 t twin\n81000030 t twin\n"
    linked = booting.parse_system_map(text, {"counts", "twin", booting.ANCHOR})
    assert booting.moved(linked, 0x91800000) == {
        booting.ANCHOR: (0x91800000,),
        "counts": (0x16590,),
        "twin": (0x91800010, 0x91800030),
    }
