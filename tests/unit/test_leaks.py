# SPDX-License-Identifier: GPL-2.0-only
"""What kmemleak lists, as two kernels write it, and what of it an order has lost."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from orchestrator.build.prepare import Bootable
from orchestrator.deadline import Deadline
from orchestrator.errors import HarnessError
from orchestrator.model import leaks
from orchestrator.model.leaks import Leak
from orchestrator.run import leaking
from orchestrator.verdicts import Health, Sign
from orchestrator.vm.guest import Guest

NEW = """unreferenced object (percpu) 0x607c0f2038c8 (size 16):
  comm "insmod", pid 51, jiffies 4294671001
  hex dump (first 16 bytes on cpu 0):
    20 62 c0 ff 88 88 ff ff 01 00 00 00 00 00 00 00   b..............
  backtrace (crc 7a4c3f11):
    pcpu_alloc_noprof+0x2f4/0x8a0
    init_module+0x1c/0xff0 [klp_target]
    do_one_initcall+0x4d/0x1f0
unreferenced object 0xffff888002a0c000 (size 64):
  comm "klp-agent", pid 41, jiffies 4294670000
  hex dump (first 32 bytes):
    6b 6c 70 00 00 00 00 00 01 00 00 00 00 00 00 00  klp.............
    00 00 00 00 00 00 00 00 01 00 00 00 00 00 00 00  ................
  backtrace (crc 1):
    kmemleak_alloc+0x40/0x60
    __kmalloc_cache_noprof+0x1d4/0x2c0
    klp_init_object.constprop.0+0x10/0x60
    0xffffffffc0200021
    klp_enable_patch+0x10/0x60
"""
OLD = """unreferenced object 0x0000000002a0c000 (size 96):
  comm "klp-agent", pid 41, jiffies 4294937296 (age 7.060s)
  hex dump (first 32 bytes):
    68 65 6c 6c 6f 00 00 00 01 00 00 00 00 00 00 00  hello...........
  backtrace:
    [<00000000a1b2c3d4>] kmem_cache_alloc_trace+0x12a/0x2e0
    [<(____ptrval____)>] load_module+0x10/0x20
    [<00000000a1b2c3d5>] do_syscall_64+0x10/0x20
"""


def test_what_is_listed_is_told_by_who_asked_for_it() -> None:
    percpu, klp = leaks.read(NEW)
    assert percpu == Leak(16, ("init_module [klp_target]", "do_one_initcall"))
    assert klp == Leak(64, ("klp_init_object.constprop.0", "klp_enable_patch"))
    assert (percpu.owner, klp.owner) == ("klp_target", "")
    assert leaks.read(OLD) == (Leak(96, ("load_module", "do_syscall_64")),)
    assert leaks.read("") == ()


@pytest.mark.parametrize(
    ("callers", "owner"),
    [
        (("kobject_create", "init_module [m]", "do_one_initcall"), "m"),
        (("klp_init_patch", "klp_enable_patch", "init_module [m]"), ""),
        (("klp_show [m]", "seq_read_iter"), "m"),
        (("pre_patch [m]", "klp_pre_patch_callback", "klp_module_coming"), "m"),
        (("load_module", "__do_sys_finit_module"), ""),
        ((), ""),
    ],
)
def test_whose_it_is_follows_from_who_called(callers: tuple[str, ...], owner: str) -> None:
    assert Leak(8, callers).owner == owner


@pytest.mark.parametrize(
    "text",
    ["cat: read error", "  comm x\n", NEW + "Killed\n", "unreferenced object at 0x1 (size 1):\n"],
)
def test_what_is_no_such_list_is_no_answer(text: str) -> None:
    with pytest.raises(HarnessError, match="not as agreed"):
        leaks.read(text)


def test_an_order_has_lost_what_is_neither_usual_nor_the_set_s_own() -> None:
    found = leaks.read(NEW + OLD + OLD)
    seen = leaks.check(found, (), {"klp_target"})
    assert not seen.good and seen.subject == "kmemleak"
    assert seen.seen == (
        "2 times 96 bytes from load_module < do_syscall_64; "
        "64 bytes from klp_init_object.constprop.0 < klp_enable_patch"
    )
    assert isinstance(seen.detail, Health) and seen.detail.sign is Sign.LEAKS
    assert seen.detail.frames[0] == "load_module"
    assert leaks.check(found, leaks.read(NEW + OLD), ()).good
    assert leaks.check((), (), ()).good
    assert not leaks.check(found, leaks.read(OLD), ()).good


def test_many_kinds_are_not_all_told() -> None:
    found = [Leak(8, (f"f{number}",)) for number in range(leaks.TOLD + 3)]
    detail = leaks.check(found, (), ()).detail
    assert isinstance(detail, Health)
    assert len(detail.reports) == leaks.TOLD + 1 and detail.reports[-1] == "and 3 others"


class Looked:
    """A guest that loses something while it is looked at."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def observe(self, *_: object) -> None:
        self.asked.append("observe")

    def read_memory(self, *_: object) -> None:
        self.asked.append("memory")

    def mark(self, *_: object) -> None:
        self.asked.append("mark")

    def run_command(self, command: str, deadline: Deadline) -> str:
        self.asked.append(command)
        return NEW if command == leaks.SCAN else ""


def test_a_guest_is_looked_at_before_its_first_order_where_its_kernel_tells(tmp_path: Path) -> None:
    guest, config = Looked(), tmp_path / "config"
    bootable = SimpleNamespace(
        arch=SimpleNamespace(time_scale=1.0), kernel=SimpleNamespace(config=config)
    )

    def rehearsed(text: str) -> tuple[Leak, ...] | None:
        config.write_text(text)
        return leaking.rehearse(cast(Guest, guest), cast(Bootable, bootable))

    assert rehearsed("# CONFIG_DEBUG_KMEMLEAK is not set\n") is None and guest.asked == []
    assert rehearsed("CONFIG_DEBUG_KMEMLEAK=y\n") == leaks.read(NEW)
    assert set(guest.asked[:-2]) == {"observe", "memory", "mark", "dmesg"}
    assert guest.asked[-2:] == [leaks.SCAN, leaks.FORGET], "what is usual is not told again"
