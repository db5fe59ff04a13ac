# SPDX-License-Identifier: GPL-2.0-only
"""Crash titles and complaints from console texts as the two architectures print them."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

import pytest

from orchestrator import kernelreports, plain
from orchestrator.kernelreports import (
    LINES_TOLD,
    crash_title,
    death_title,
    dropped,
    refusals,
    reports,
    warning,
    without,
)
from orchestrator.vm import marks

X86_NULL = """\
[    9.018337] klp_target: loading out-of-tree module taints kernel.
[   12.301220] BUG: kernel NULL pointer dereference, address: 0000000000000008
[   12.301231] #PF: supervisor read access in kernel mode
[   12.301236] #PF: error_code(0x0000) - not-present page
[   12.301240] PGD 0 P4D 0
[   12.301251] Oops: 0000 [#1] PREEMPT SMP NOPTI
[   12.301258] CPU: 0 PID: 77 Comm: klp-agent Tainted: G           OE K    6.1.192 #1
[   12.301263] RIP: 0010:klp_patch_show.constprop.0+0x1f/0x40 [klp_patch]
[   12.301270] Code: c0 e8 f3 27 00 00 48 8b 05 6c 1f 00 00 <48> 8b 40 08 c3
[   12.301290] Call Trace:
[   12.301293]  <TASK>
[   12.301296]  seq_read_iter+0x11a/0x450
[   12.301330] ---[ end trace 0000000000000000 ]---
[   12.301340] Kernel panic - not syncing: Fatal exception
[   12.301350] Kernel Offset: 0x9a00000 from 0xffffffff81000000
"""

X86_WILD_CALL = """\
[   30.5] not a stamp
[   30.111111] BUG: unable to handle page fault for address: ffffffffc0a4b000
[   30.111120] Oops: 0010 [#1] SMP PTI
[   30.111130] RIP: 0010:0xffffffffc0a4b000
[   30.111140] Code: Unable to access opcode bytes at 0xffffffffc0a4afd6.
[   30.111150] Call Trace:
[   30.111151]  <TASK>
[   30.111152]  ? __die+0x1f/0x70
[   30.111153]  patched_caller+0x12/0x30 [klp_patch]
[   30.111154]  vfs_read+0x9c/0x2f0
[   30.111160] ---[ end trace 0000000000000000 ]---
"""

S390_OOPS = """\
[   14.226010] Unable to handle kernel pointer dereference in virtual kernel address space\r
[   14.226015] Failing address: 0000000000000000 TEID: 0000000000000483\r
[   14.226019] Fault in home space mode while using kernel ASCE.\r
[   14.226030] AS:0000000000c84007 R3:0000000000000024 \r
[   14.226050] Oops: 0004 ilc:2 [#1] SMP \r
[   14.226060] Modules linked in: klp_target(O) klp_patch(OK)\r
[   14.226070] CPU: 0 PID: 61 Comm: klp-agent Tainted: G           O  K    6.1.192 #1\r
[   14.226080] Hardware name: QEMU 8561 QEMU (KVM/Linux)\r
[   14.226090] Krnl PSW : 0704c00180000000 000003ff7ff020a6 (target_show+0x26/0x60 [klp_patch])\r
[   14.226100]            R:0 T:1 IO:1 EX:1 Key:0 M:1 W:0 P:0 AS:3 CC:0 PM:0 RI:0 EA:3\r
[   14.226110] Call Trace:\r
[   14.226120]  [<000003ff7ff020a6>] target_show+0x26/0x60 [klp_patch] \r
[   14.226130]  [<00000000002d6f4e>] seq_read_iter+0x1b6/0x4c8 \r
[   14.226140] Kernel panic - not syncing: Fatal exception: panic_on_oops\r
"""

S390_PROGRAM_CHECK = """\
[    3.111000] illegal operation: 0001 ilc:1 [#1] SMP
[    3.111001] Krnl PSW : 0704c00180000000 0000000000000002 (0x2)
[    3.111002] Krnl Code:#0000000000000000: 0000                illegal
[    3.111003] Call Trace:
[    3.111004]  [<0000000000000002>] 0x2
[    3.111005] ([<000003ff7ff02100>] call_original+0x28/0x58 [klp_patch])
[    3.111006] Last Breaking-Event-Address:
"""

S390_MONITOR_BUG = """\
[    3.200000] ------------[ cut here ]------------
[    3.200001] kernel BUG at kernel/livepatch/core.c:321!
[    3.200002] monitor event: 0040 ilc:2 [#1] SMP
[    3.200003] Krnl PSW : 0704c00180000000 00000000001d3c50 (klp_apply_section_relocs+0x118/0x280)
"""

WARN = """\
[    5.400000] ------------[ cut here ]------------
[    5.400001] WARNING: CPU: 0 PID: 52 at kernel/livepatch/core.c:1167 klp_module_coming+0x2a4/0x2d0
[    5.400002] Modules linked in: klp_patch(OK)
[    5.400003] ---[ end trace 0000000000000000 ]---
"""

LIST_CORRUPTION = """\
[    8.000000] list_del corruption. next->prev should be ffff9c1c81a3e008, but was dead000000000122
[    8.000001] ------------[ cut here ]------------
[    8.000002] kernel BUG at lib/list_debug.c:62!
[    8.000003] invalid opcode: 0000 [#1] SMP NOPTI
[    8.000004] RIP: 0010:__list_del_entry_valid.cold+0x4f/0x6f
"""

CFI = """\
[    9.000000] CFI failure at klp_patch_show+0x4c/0x1a0 [klp_patch] \
(target: klp_target_scale+0x0/0x40 [klp_target]; expected type: 0x00050794)
[    9.000001] Oops: invalid opcode: 0000 [#1] SMP NOPTI
[    9.000002] RIP: 0010:klp_patch_show+0x4c/0x1a0 [klp_patch]
"""

IBT = """\
[    9.000000] Missing ENDBR: klp_target_scale+0x0/0x40 [klp_target]
[    9.000001] ------------[ cut here ]------------
[    9.000002] kernel BUG at arch/x86/kernel/cet.c:132!
"""

LOCKDEP = """\
[    6.100000] ======================================================
[    6.100001] WARNING: possible circular locking dependency detected
[    6.100002] 6.1.192 #1 Tainted: G              K
[    6.100003] ------------------------------------------------------
[    6.100004] klp-agent/55 is trying to acquire lock:
"""

RCU_STALL = """\
[   66.000000] rcu: INFO: rcu_sched self-detected stall on CPU
[   66.000001] rcu: \t0-....: (5249 ticks this GP) idle=f34c/1/0x4000000000000000 softirq=88/88
[   66.000002] CPU: 0 PID: 60 Comm: klp-agent
[   66.000003] RIP: 0010:spin_here+0x5/0x10 [klp_target]
"""

SAMPLES = {
    X86_NULL: "BUG: kernel NULL pointer dereference in klp_patch_show",
    X86_WILD_CALL: "BUG: unable to handle page fault in patched_caller",
    S390_OOPS: "Unable to handle kernel pointer dereference in target_show",
    S390_PROGRAM_CHECK: "illegal operation in call_original",
    S390_MONITOR_BUG: "kernel BUG in klp_apply_section_relocs",
    WARN: "WARNING in klp_module_coming",
    LIST_CORRUPTION: "list_del corruption in __list_del_entry_valid",
    CFI: "CFI failure in klp_patch_show",
    IBT: "Missing ENDBR in klp_target_scale",
    LOCKDEP: "WARNING: possible circular locking dependency detected",
    RCU_STALL: "INFO: RCU stall in spin_here",
    "[  1.000000] Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b": (
        "Kernel panic - not syncing: Attempted to kill init"
    ),
    "[  1.000000] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)": (
        "Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block"
    ),
    "[  1.000000] Kernel panic - not syncing: No working init found.  Try passing init= option": (
        "Kernel panic - not syncing: No working init found"
    ),
    "[242.000000] INFO: task klp-agent:55 blocked for more than 120 seconds.": (
        "INFO: task hung: klp-agent"
    ),
    "[ 30.000000] watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [kworker/0:1:9]": (
        "BUG: soft lockup"
    ),
    "[  9.000000] BUG: KASAN: slab-out-of-bounds in klp_find_func+0x30/0x80": (
        "KASAN: slab-out-of-bounds in klp_find_func"
    ),
    "[  9.000000] general protection fault, probably for non-canonical address 0xdead0000: 0000": (
        "general protection fault"
    ),
    "[  9.000000] BUG: KFENCE: use-after-free read in klp_find_func+0x30/0x80": (
        "KFENCE: use-after-free read in klp_find_func"
    ),
    "[  9.000000] BUG: KCSAN: data-race in klp_try_switch_task / klp_start_transition": (
        "KCSAN: data-race in klp_try_switch_task"
    ),
    "[  9.000000] BUG: KMSAN: uninit-value in klp_write_object_relocs+0x1/0x2": (
        "KMSAN: uninit-value in klp_write_object_relocs"
    ),
    "[  9.000000] [ BUG: Invalid wait context ]": "BUG: Invalid wait context",
    "[  9.000000] Unable to handle kernel write to read-only memory at virtual address ffffd2d6": (
        "Unable to handle kernel write to read-only memory"
    ),
    "[  9.000000] Unable to handle kernel execute from non-executable memory at virtual addres": (
        "Unable to handle kernel execute from non-executable memory"
    ),
    "[  9.000000] BUG: Unable to handle kernel data access on read at 0xc008": (
        "BUG: Unable to handle kernel data access on read at"
    ),
    "[  9.000000] BUG: MAX_LOCKDEP_ENTRIES too low!": "BUG: MAX_LOCKDEP_ENTRIES too low",
    "[  9.000000] BUG kmalloc-64 (Not tainted): Redzone overwritten": "BUG in slab kmalloc-64",
    "[  9.000000] NMI watchdog: Watchdog detected hard LOCKUP on cpu 0": "BUG: hard lockup",
    "[  9.000000] BUG: sleeping function called from invalid context at kernel/mutex.c:5": (
        "BUG: sleeping function called from invalid context"
    ),
    "[  9.000000] BUG: scheduling while atomic: klp-agent/55/0x00000002": (
        "BUG: scheduling while atomic"
    ),
    "[  9.000000] refcount_t: underflow; use-after-free.": "refcount_t: underflow; use-after-free",
    "[  9.000000] refcount_t: addition on 0; use-after-free.": (
        "refcount_t: addition on 0; use-after-free"
    ),
    # Linux 7.3, whose files' names may begin with anything
    "[  9.000000] WARNING: kernel/module/main.c:12 at load+0x1/0x2, CPU#0: a/1": "WARNING in load",
    "[  9.000000] WARNING: ./inc/x.h:1 at show+0x12/0x30 [t], CPU#0: a/1": "WARNING in show",
    "[  9.000000] WARNING: /own/set/x.c:1 at show+0x12/0x30 [t], CPU#0: a/1": "WARNING in show",
    "[  9.000000] WARNING: [n > 1] ../x.h:1 at show+0x12/0x30, CPU#0: a/1": "WARNING in show",
}


@pytest.mark.parametrize(("text", "title"), SAMPLES.items(), ids=list(SAMPLES.values()))
def test_crash_has_a_title(text: str, title: str) -> None:
    assert crash_title(text) == title


@pytest.mark.parametrize(
    ("line", "where"),
    [
        ("WARNING: CPU: 0 PID: 51 at /a b/special/x.c:57 f+0x2c/0x80 [m]", "x.c:57 f [m]"),
        ("WARNING: CPU: 0 PID: 52 at kernel/livepatch/core.c:1167 g+0x2a4/0x2d0", "core.c:1167 g"),
        ("WARNING: CPU: 3 PID: 1 at x.c:57 f.constprop.0+0x2c/0x80 [m]", "x.c:57 f [m]"),
        ("WARNING: /own/set/x.c:57 at f+0x12/0x30 [m], CPU#0: a/1", "x.c:57 f [m]"),
        ("WARNING: [n & 1] ../x.c:57 at f+0x12/0x30 [m], CPU#0: a/1", "x.c:57 f [m]"),
        ("WARNING: at f+0x12/0x30 [m], CPU#0: a/1", ""),
        ("WARNING: possible circular locking dependency detected", ""),
        ("x.c:57 f+0x2c/0x80 [m]", ""),
    ],
)
def test_a_warning_says_where_it_comes_from(line: str, where: str) -> None:
    assert warning(line) == where


def test_promised_warnings_are_told_from_all_others() -> None:
    promised = "[    1.0] WARNING: CPU: 0 PID: 5 at /s/x.c:57 f+0x2c/0x80 [m]".replace(
        "1.0", "1.000"
    )
    moved, other = promised.replace(":57", ":58"), promised.replace("[m]", "[n]")
    oops = "[    2.000] Unable to handle kernel pointer dereference in virtual kernel address space"
    text = f"before\n{promised}\n{other}\nhalf a line{moved}\n{oops}\n"
    rest, found = without(text, {"x.c:57 f [m]"})
    assert found == ("x.c:57 f [m]", "x.c:58 f [m]")
    assert reports(rest) == (other.partition("] ")[2], oops.partition("] ")[2])
    assert "before\n" in rest and "half a line" in rest
    assert without(text, ()) == (text, ())
    assert reports(without(promised, {"x.c:57 f"})[0])  # of the kernel proper, not of m


# What guests print while all is well, on either architecture.
WELL = """\
[    0.000000] Command line: console=ttyS0 panic=-1 reboot=t tsc=reliable
[    0.004000] debug: unmapping init memory, WARNING level 4
[    0.020000] rcu: Hierarchical RCU implementation.
[    0.020000] rcu: RCU calculated value of scheduler-enlistment delay is 25 jiffies.
[    0.060000] Spectre V2 : WARNING: Unprivileged eBPF is enabled with eIBRS on
[    0.120000] KASLR disabled: CPU has no PRNG
[    1.017578] sclp_sd: Store Data request failed (eq=2, di=3, response=0x40f0, flags=0x00)
[    1.766604] clocksource: timekeeping watchdog on CPU0: Marking clocksource 'tsc' as unstable
[    2.300099] klp_patch: tainting kernel with TAINT_LIVEPATCH
[    2.336101] livepatch: enabling patch 'klp_patch'
[    2.348102] livepatch: 'klp_patch': starting patching transition
[    2.352102] livepatch: 'klp_patch': patching complete
[    3.000000] livepatch: pre-patch callback failed for object 'klp_target'
[    3.000001] livepatch: patch 'klp_patch' failed for module 'klp_target', refusing to load it
[    3.100000] x86/modules: Skipping invalid relocation target, existing value is nonzero for type 4
[    4.000000] callback: module klp_bug loaded, NOTE: no bug here
klp-e2e: guest is up
"""


def test_no_complaint_about_a_healthy_guest() -> None:
    assert reports(WELL) == ()
    assert crash_title(WELL) is None


def test_refusals_are_apart_from_what_livepatch_prints_anyway() -> None:
    assert refusals(WELL) == (
        "livepatch: pre-patch callback failed for object 'klp_target'",
        "livepatch: patch 'klp_patch' failed for module 'klp_target', refusing to load it",
        "x86/modules: Skipping invalid relocation target, existing value is nonzero for type 4",
    )


@pytest.mark.parametrize(
    "line",
    [
        "livepatch: failed to initialize patch 'klp_patch' for module 'klp_target' (-8)",
        "livepatch: failed to apply patch 'klp_patch' to module 'klp_target' (-22)",
        "livepatch: failed to enable patch 'klp_patch'",
        "livepatch: symbol 'hidden' not found in symbol table",
        "livepatch: unresolvable ambiguity for symbol 'twin' in object 'klp_target'",
        "livepatch: section .klp.rela. has an incorrectly formatted name",
        "livepatch: invalid access to vmlinux symbol 'jiffies' from module-specific livepatch",
        "livepatch: Livepatch patch (b) is not compatible with the already installed livepatches.",
        "module: x86/modules: Invalid relocation target, existing value is nonzero for type 2",
        "module: overflow in relocation type 10 val ffffffffc0271052",
        "module klp_patch: relocation error for symbol hidden (r_type 20, value 0x3ff7ff02010)",
        "module klp_patch: unknown relocation: 99",
        "module_64: klp_patch: Expected nop after call, got e8410018 at show+0x48/0xa0 [klp_patch]",
        "klp_patch: Unknown symbol hidden (err -2)",
        "klp_patch: disagrees about version of symbol module_layout",
        "klp_patch: version magic '6.1.0 SMP ' should be '6.1.1 SMP '",
        "klp_patch: exports duplicate symbol klp_show (owned by kernel)",
        "klp_patch: gave up waiting for init of module klp_target.",
        "module_64: klp_patch: REL24 -33554440 out of range!",
        "module: klp_patch: Unknown rela relocation: 99",
        "klp_patch: module contains bad GOT relocation",
        "klp_patch: module PLT.IDX section(s) missing",
        "klp_patch: no room for another GOT entry",
        "kmod: klp_patch: Unsupport relocation type 99, please add its support.",
        "kmod: klp_patch: Unknown relocation type 140",
        "kmod: module klp_patch: jump offset = 0x8000002 unaligned! dangerous R_LARCH_B26 (66)",
        "kmod: module klp_patch: opr1 = 0x1000 overflow! dangerous apply_r_larch_sop_imm_field",
        "Modules: module klp_patch: unsupported RELA relocation: 99",
        "Invalid ELF header magic: != \x7fELF",
    ],
)
def test_a_refusal_is_recognised(line: str) -> None:
    assert refusals(f"[    3.000000] {line}\r\n") == (line,)
    assert reports(line) == ()


def test_complaints_are_all_lines_that_open_a_report_without_stamps() -> None:
    assert reports(WELL + S390_OOPS) == (
        "Unable to handle kernel pointer dereference in virtual kernel address space",
        "Oops: 0004 ilc:2 [#1] SMP",
        "Kernel panic - not syncing: Fatal exception: panic_on_oops",
    )


def test_title_of_a_report_that_was_cut_off() -> None:
    assert crash_title("\n".join(X86_NULL.splitlines()[:3])) == (
        "BUG: kernel NULL pointer dereference"
    )


# --- what a module says is not what the kernel says -------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "debug WARNING: calibration missing, using defaults",
        "klp_own: WARNING: calibration missing",
        "klp_own: BUG: fixed by this patch",
        "klp_own: INFO: task foo:1 blocked for more than 120 seconds.",
        "klp_own: Oops: none",
        "klp_own: Kernel panic - not syncing: is what this avoids",
        "klp_own: UBSAN: off",
        "klp_own: refcount_t: counts",
        "klp_own: list_add corruption is gone",
        "klp_own: general protection fault handler patched",
        "klp_own: invalid opcode: 0000 [#1]",
        "klp_own: illegal operation: 0001 ilc:1 [#1]",
        "klp_own: no Unknown symbol any more",
        "klp_own: like livepatch: not failed",
        "debug overflow in relocation type none",
    ],
)
def test_words_behind_a_modules_own_open_no_report(line: str) -> None:
    text = f"[    3.000000] {line}\n[    3.000001][   T55] {line}\n<4>[    3.000002] {line}\n"
    assert reports(text) == refusals(text) == ()
    assert crash_title(text) is None


@pytest.mark.parametrize(
    "report",
    [
        "watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [klp-agent:55]",
        "rcu: INFO: rcu_sched detected stalls on CPUs/tasks:",
        "rcu: rcu_sched kthread starved for 5250 jiffies! g-1195 f0x0",
        "traps: PANIC: double fault, error_code: 0x0",
        "Oops: general protection fault, probably for non-canonical address: 0000 [#1] SMP",
        "Internal error: Oops: 0000000096000004 [#1] SMP",
        "illegal operation: 0001 ilc:1 [#1] SMP",
    ],
)
@pytest.mark.parametrize("prefix", ["", "[    3.000000] ", "<4>[    3.000000][   T55] "])
def test_the_kernels_own_prefixes_stand_before_a_report(prefix: str, report: str) -> None:
    assert reports(f"{prefix}{report}\r\n") == (report,)


def test_a_report_behind_half_a_line_of_a_programs_is_one() -> None:
    report = "INFO: task foo:1 blocked for more than 120 seconds."
    text = f"half a line[    3.000000] {report}\n"
    assert reports(text) == (report,)
    assert crash_title(text) == "INFO: task hung: foo"


def test_the_kernel_says_what_it_has_not_printed() -> None:
    text = "** 12 printk messages dropped **\n[    3.000000] a\n** 3 printk messages dropped **\n"
    assert dropped(text) == 15
    assert dropped("[    3.000000] klp_own: ** 12 printk messages dropped **\n") == 0


# --- whatever a guest says, in bounded time -----------------------------------------------------

MEGABYTE = 1 << 20
OPENINGS = [
    "", "BUG: ", "WARNING: ", "WARNING: possible ", "INFO: task ", "INFO: rcu", "rcu", "list_add",
    "refcount_t: ", "BUG: KASAN: ", "KASAN: ", "UBSAN: ", "Oops - ", "Oops: ", "RIP: 0010:",
    "Kernel panic - not syncing: ", "Kernel panic - not syncing: a", "livepatch: ", "Krnl PSW : ",
    "WARNING: CPU: 1 PID: 1 at ", "bad TOC16", "REL24 -", " [<0000000000000000>] ", "[", "[    1",
    "<4>[    1.000000]", "klp-e2e: mark ",
]  # fmt: skip
FILLINGS = ["a", " ", "a ", "[", "1", "[1", " a: ", "[    1.000000] ", "0000", "_", "-", "\r", "\n",
            ".isra.0", "klp-e2e: mark ", "NIP [", "** 1", "\N{REPLACEMENT CHARACTER}"]  # fmt: skip


PATTERNS: list[Callable[[str], object]] = [
    *(kind.pattern.match for kind in kernelreports._KINDS),
    *(
        kernelreports._ANY.match,
        kernelreports._FRAME.match,
        kernelreports._ANSWER.match,
        kernelreports._DUMPERS.match,
    ),
    *(
        kernelreports._DROPPED.match,
        kernelreports._REFUSAL.match,
        kernelreports._AT.search,
        kernelreports._BEGUN.split,
    ),
    *(functools.partial(each.sub, "") for each in (kernelreports._SUFFIX, marks._MARKS)),
    *(lambda text: list(kernelreports._LINE.finditer(text)), marks.without_marks),
]


@pytest.mark.parametrize("filling", FILLINGS)
def test_no_pattern_is_more_than_linear(filling: str) -> None:
    """All of this takes a tenth of a second; one quadratic pattern, on one line of this length,
    some ten."""
    began = time.process_time()
    for opening in OPENINGS:
        for suffix in ("", "\n", "!"):
            line = opening + filling * ((64 << 10) // len(filling)) + suffix
            for read in PATTERNS:
                read(line)
    assert time.process_time() - began < 10


@pytest.mark.parametrize("filling", FILLINGS)
def test_lines_of_a_megabyte_are_cut_before_anything_looks(filling: str) -> None:
    line = f"BUG: hostile {filling * (MEGABYTE // len(filling))}"
    text = f"[    1.000000] {line}\n[    1.000001] BUG: after that\n"
    found = reports(text)
    assert found[0].startswith("BUG: hostile") and found[-1] == "BUG: after that"
    assert all(len(each) <= kernelreports.LINE_CHARACTERS for each in found)
    assert len(crash_title(text) or "") <= kernelreports.LINE_CHARACTERS
    assert refusals(text) == ()


def test_of_many_complaints_the_first_are_told() -> None:
    text = "".join(
        f"BUG: number {number} is bad\nlivepatch: failed {number}\n" for number in range(10_000)
    )
    assert reports(text) == tuple(f"BUG: number {n} is bad" for n in range(LINES_TOLD))
    assert refusals(text) == tuple(f"livepatch: failed {n}" for n in range(LINES_TOLD))


# --- marks and excerpts -------------------------------------------------------------------------

TOKEN = "0123456789abcdef"


def test_marks_are_left_out_of_what_people_see() -> None:
    marked = f"[    1.000000] a\n[    1.000001][  T55] {marks.MARK}{TOKEN}\n[    1.000002] b\n"
    assert marks.without_marks(marked) == "[    1.000000] a\n[    1.000002] b\n"
    half = f"half[    1.000001] {marks.MARK}{TOKEN}\n[    1.000002] b\n"
    assert marks.without_marks(half) == "half\n[    1.000002] b\n"


def test_a_log_counts_from_its_mark_on() -> None:
    log = f"[    1.000000] old\n[    1.000001] {marks.MARK}{TOKEN}\n[    1.000002] new\n"
    assert marks.logged_since(TOKEN, log) == "[    1.000002] new\n"
    overwritten = "[    9.000000] new\n"
    assert marks.logged_since(TOKEN, overwritten) == overwritten


def test_an_excerpt_has_both_ends() -> None:
    assert plain.excerpt("a" * 200, 100) == "a" * 200
    text = plain.excerpt("a" * 1000 + "b" * 1000, 100)
    assert text == "a" * 100 + "\n[1800 characters are left out here]\n" + "b" * 100
    assert plain.excerpt(text, 100) == text


# --- what a guest may have ended by ---------------------------------------------------------------

ENDINGS = (
    "BUG: kernel NULL pointer dereference, address: 0",
    "BUG: unable to handle page fault for address: 0",
    "Unable to handle kernel pointer dereference in virtual kernel address space",
    "kernel BUG at lib/x.c:1!",
    "general protection fault, probably for non-canonical address 0x1: 0000 [#1] SMP",
    "Oops: general protection fault, 0000 [#1] SMP",
    "traps: PANIC: double fault, error_code: 0x0",
    "invalid opcode: 0000 [#1] SMP",
    "illegal operation: 0001 ilc:1 [#1] SMP",
    "Kernel stack overflow.",
    "Oops: 0000 [#1] SMP",
    "Oops: Kernel access of bad area, sig: 11 [#1]",
    "Kernel panic - not syncing: sysrq triggered crash",
    "Kernel panic - not syncing",
)
REPORTS = (
    "WARNING: CPU: 0 PID: 1 at kernel/x.c:1 foo+0x1/0x2",
    "WARNING: possible recursive locking detected",
    "WARNING: suspicious RCU usage",
    "UBSAN: shift-out-of-bounds in lib/x.c:1",
    "BUG: KASAN: slab-out-of-bounds in foo+0x1/0x2",
    "BUG: KFENCE: out-of-bounds read in foo+0x1/0x2",
    "watchdog: BUG: soft lockup - CPU#0 stuck for 22s!",
    "BUG: workqueue lockup - pool cpus=0",
    "BUG: sleeping function called from invalid context at x.c:1",
    "BUG: scheduling while atomic: init/1/0x0",
    "BUG: Bad page state in process init",
    "INFO: task foo:1 blocked for more than 120 seconds.",
    "rcu: INFO: rcu_sched self-detected stall on CPU",
    "list_add corruption. next->prev should be prev",
    "refcount_t: underflow; use-after-free.",
)


@pytest.mark.parametrize("line", ENDINGS)
def test_an_oops_or_a_panic_may_end_a_guest(line: str) -> None:
    assert death_title(f"[    1.000000] {line}\n") == crash_title(line) is not None


@pytest.mark.parametrize("line", REPORTS)
def test_no_other_report_ends_a_guest(line: str) -> None:
    assert crash_title(line) is not None and death_title(line) is None
    panic = "Kernel panic - not syncing: one"
    assert death_title(f"{line}\n{panic}\n") == panic


def test_the_frames_of_a_death_are_not_those_of_a_warning_before_it() -> None:
    text = WARN + S390_OOPS
    assert kernelreports.frames(text) == ()
    assert kernelreports.frames(text, ending=True)[0] == "target_show [klp_patch]"


@pytest.mark.parametrize(
    ("report", "fault"),
    [
        (
            "Unable to handle kernel pointer dereference in virtual kernel address space\n"
            "Failing address: 000003ff7ff16000 TEID: 000003ff7ff16403\n"
            "Krnl PSW : 0704c00180000000 000003ff7ff020f6 (klp_both_show_b+0x26/0xc0 [klp_both])",
            0x3FF7FF16000,
        ),
        (
            "illegal operation: 0001 ilc:1 [#1] SMP\n"
            "Krnl PSW : 0704c00180000000 000003ff7ff020f6 (0x3ff7ff020f6)",
            0x3FF7FF020F6,
        ),
        ("BUG: unable to handle page fault for address: ffffffffc0201000", 0xFFFFFFFFC0201000),
        ("BUG: kernel NULL pointer dereference, address: 0000000000000010", 0x10),
        (
            "BUG: Unable to handle kernel data access on read at 0xc008000000db0000",
            0xC008000000DB0000,
        ),
        (
            "Unable to handle kernel paging request at virtual address ffff80007a8f1000",
            0xFFFF80007A8F1000,
        ),
        ("Oops: 0000 [#1]\n---[ end trace 0 ]---\nFailing address: 000000000001", None),
        ("Failing address: 000003ff7ff16000", None),  # of no report
    ],
)
def test_the_address_that_was_not_to_be_accessed(report: str, fault: int | None) -> None:
    text = "".join(f"[    4.458303] {line}\r\n" for line in report.split("\n"))
    assert kernelreports.fault(text) == fault
