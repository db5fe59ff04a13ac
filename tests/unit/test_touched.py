# SPDX-License-Identifier: GPL-2.0-only
"""Which object of a kernel a source file belongs to, by Makefiles alone."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from orchestrator.builders.touched import Owner, missing, owners

TREE = {
    "fs/Makefile": "obj-y := open.o \\\n\tread_write.o  # and more\nobj-$(CONFIG_XFS_FS) += xfs/\n",
    "fs/xfs/Makefile": "obj-$(CONFIG_XFS_FS)\t\t+= xfs.o\n"
    "xfs-y += xfs_trace.o\nxfs-y += $(addprefix libxfs/, \\\n  xfs_bmap.o \\\n  xfs_ag.o)\n"
    "xfs-$(CONFIG_XFS_QUOTA) += xfs_dquot.o\n",
    "fs/proc/Makefile": "obj-y += proc.o\nproc-y := nommu.o\nproc-y += cmdline.o\n",
    "drivers/net/Makefile": "obj-$(CONFIG_DUMMY) += dummy.o\nobj-$(CONFIG_A_B) += a-b.o\n"
    "obj-$(CONFIG_ONE) += shared.o\nobj-$(CONFIG_TWO) += shared.o\n",
    "drivers/net/Kconfig": "",
    "lib/Makefile": "lib-y := string.o\n",
    "both/Makefile": "obj-y += of-makefile.o\n",
    "both/Kbuild": "obj-y += of-kbuild.o\n",
    "round/Makefile": "obj-y += a.o\na-y := b.o\nb-y := a.o c.o\n",
    "computed/Makefile": "obj-y += $(patsubst %.c,%.o,$(wildcard *.c))\n",
}


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("fs/open.c", [Owner("open", ())]),
        ("fs/read_write.c", [Owner("read_write", ())]),
        ("fs/more.c", []),
        ("fs/proc/cmdline.c", [Owner("proc", ())]),
        ("fs/xfs/libxfs/xfs_ag.c", [Owner("xfs", ("XFS_FS",))]),
        ("fs/xfs/xfs_dquot.c", [Owner("xfs", ("XFS_FS", "XFS_QUOTA"))]),
        ("drivers/net/dummy.c", [Owner("dummy", ("DUMMY",))]),
        ("drivers/net/a-b.c", [Owner("a_b", ("A_B",))]),
        ("drivers/net/shared.c", [Owner("shared", ("ONE",)), Owner("shared", ("TWO",))]),
        ("lib/string.c", [Owner("string", ())]),
        ("both/of-kbuild.c", [Owner("of_kbuild", ())]),
        ("both/of-makefile.c", []),  # where there is a Kbuild, make reads no other
        ("round/c.c", [Owner("a", ())]),
        ("computed/x.c", []),
        ("include/linux/fs.h", []),
        ("nowhere/x.c", []),
    ],
)
def test_owner(file: str, expected: list[Owner]) -> None:
    assert list(owners(file, TREE.get)) == expected


@pytest.mark.parametrize(
    ("found", "config", "expected"),
    [
        ([Owner("proc", ())], {}, {}),
        ([Owner("dummy", ("DUMMY",))], {"DUMMY": "m"}, {}),
        ([Owner("dummy", ("DUMMY",))], {"DUMMY": "y"}, {}),
        ([Owner("dummy", ("DUMMY",))], {"DUMMY": "n"}, {"DUMMY": "m"}),
        ([Owner("dummy", ("DUMMY",))], {}, {"DUMMY": "m"}),
        ([Owner("flag", ("FLAG",))], {}, {"FLAG": "y"}),
        ([Owner("x", ("DUMMY", "FLAG"))], {"DUMMY": "m"}, {"FLAG": "y"}),
        ([Owner("x", ("DUMMY", "FLAG"))], {}, {"DUMMY": "m", "FLAG": "y"}),
        # a part that could be a module by itself is a part all the same
        ([Owner("x", ("FLAG", "DUMMY"))], {}, {"FLAG": "y", "DUMMY": "y"}),
        ([Owner("x", ("ONE",)), Owner("x", ("DUMMY",))], {"DUMMY": "y"}, {}),
        ([Owner("x", ("DUMMY",)), Owner("x", ("FLAG",))], {}, {"DUMMY": "m"}),
        ([], {}, {}),
    ],
)
def test_what_a_configuration_lacks(
    found: list[Owner], config: Mapping[str, str], expected: Mapping[str, str]
) -> None:
    assert missing(found, config, lambda option: option == "DUMMY") == expected
