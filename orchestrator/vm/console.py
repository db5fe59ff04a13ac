# SPDX-License-Identifier: GPL-2.0-only
"""A guest's console: reading it piece by piece, and recognising what the kernel complains of.

A crash has a title, after syzkaller's pkg/report: what happened and where, without addresses,
numbers and compiler suffixes, so that the same crash has the same title on the next boot.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

LAST_LINES = 25


@dataclass(frozen=True, slots=True)
class Console:
    """The file that QEMU appends the console to."""

    path: Path

    def mark(self) -> int:
        """Where the console ends now, for `since`."""
        return self.path.stat().st_size if self.path.exists() else 0

    def since(self, mark: int) -> str:
        """What was printed after `mark`."""
        if not self.path.exists():
            return ""
        with self.path.open("rb") as file:
            file.seek(mark)
            return file.read().decode(errors="replace").replace("\r", "")

    def last_lines(self, count: int = LAST_LINES) -> str:
        return "\n".join(self.since(0).splitlines()[-count:])


# --- crashes and complaints (pure) -------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Kind:
    """A line that opens a kernel's report. `title` is expanded with the match; "{function}" stands
    for the function found in the line, or else in the report's registers or call trace."""

    pattern: re.Pattern[str]
    title: str


_FUNCTION = r"(?P<function>[A-Za-z_][\w.]*)"


def _kinds(*rows: tuple[str, str]) -> tuple[_Kind, ...]:
    return tuple(_Kind(re.compile(pattern), title) for pattern, title in rows)


# The first row that matches a line counts. Sources: arch/x86/mm/fault.c, arch/x86/kernel/traps.c,
# arch/s390/mm/fault.c, arch/s390/kernel/traps.c, arch/s390/kernel/dumpstack.c, kernel/panic.c,
# kernel/locking/lockdep.c, kernel/hung_task.c, kernel/watchdog.c, kernel/rcu/tree_stall.h,
# lib/list_debug.c, lib/ubsan.c, mm/kasan/report.c.
_KINDS = _kinds(
    (rf"BUG: KASAN: (?P<what>[\w-]+) in {_FUNCTION}", r"KASAN: \g<what>{function}"),
    (r"BUG: KASAN: (?P<what>[\w-]+)", r"KASAN: \g<what>{function}"),
    (r"KASAN: (?P<what>[\w-]+) in range", r"KASAN: \g<what>{function}"),
    (r"UBSAN: (?P<what>[\w-]+)", r"UBSAN: \g<what>{function}"),
    (
        r"BUG: kernel NULL pointer dereference",
        "BUG: kernel NULL pointer dereference{function}",
    ),
    (
        r"BUG: unable to handle (?:kernel )?(?P<what>page fault|paging request|NULL pointer)",
        r"BUG: unable to handle \g<what>{function}",
    ),
    (
        r"Unable to handle kernel (?P<what>pointer dereference|NULL pointer dereference"
        r"|paging request|access)",
        r"Unable to handle kernel \g<what>{function}",
    ),
    (r"kernel BUG at ", "kernel BUG{function}"),
    (r"watchdog: BUG: soft lockup", "BUG: soft lockup{function}"),
    (r"BUG: workqueue lockup", "BUG: workqueue lockup"),
    (
        r"BUG: sleeping function called from invalid context",
        "BUG: sleeping function called from invalid context{function}",
    ),
    (r"BUG: scheduling while atomic", "BUG: scheduling while atomic{function}"),
    (r"BUG: Bad (?P<what>page \w+|rss-counter)", r"BUG: bad \g<what>"),
    (r"BUG: (?P<what>[a-z][^:,0-9]*[a-z])", r"BUG: \g<what>{function}"),
    (
        r"WARNING: (?P<what>possible [a-z ]+ detected|suspicious RCU usage|[a-z -]+ detected)",
        r"WARNING: \g<what>",
    ),
    (rf"WARNING: CPU: \d+ PID: \d+ at \S+ {_FUNCTION}\+0x", "WARNING{function}"),
    (r"WARNING: CPU: \d+ PID: \d+ at (?P<what>[\w./-]+):\d+", r"WARNING at \g<what>"),
    (r"WARNING: (?P<what>[a-z][^:,0-9]*[a-z])", r"WARNING: \g<what>"),
    (r"INFO: task (?P<what>[^\s:]+)(?::\d+)? blocked for more than", r"INFO: task hung: \g<what>"),
    (r"INFO: (?:rcu\w* )?(?:self-)?detected (?:expedited )?stall", "INFO: RCU stall{function}"),
    (r"INFO: rcu\w* self-detected stall", "INFO: RCU stall{function}"),
    (r"INFO: rcu\w* detected (?:expedited )?stalls", "INFO: RCU stall{function}"),
    (r"rcu\w* kthread (?:timer wakeup|starved)", "INFO: RCU kthread starved"),
    (r"INFO: trying to register non-static key", "INFO: trying to register non-static key"),
    (r"(?P<what>list_(?:add|del)) corruption", r"\g<what> corruption{function}"),
    (r"(?P<what>refcount_t: [a-z -]+[a-z])", r"\g<what>{function}"),
    (r"general protection fault", "general protection fault{function}"),
    (r"(?:traps: )?PANIC: double fault", "double fault{function}"),
    (
        r"(?P<what>invalid opcode|divide error|stack segment|int3|double fault|bounds"
        r"|invalid TSS|segment not present|alignment check|control protection fault)"
        r": [0-9a-f]{4} \[#\d+\]",
        r"\g<what>{function}",
    ),
    (
        r"(?P<what>[a-z][a-z/ -]+[a-z]): [0-9a-f]{4} ilc:\d \[#\d+\]",
        r"\g<what>{function}",
    ),
    (r"Kernel stack overflow", "Kernel stack overflow{function}"),
    # before there is a kernel: arch/s390/boot/pgm_check_info.c
    (r"^Kernel fault: interruption code", "Kernel fault in its decompressor{function}"),
    (r"(?:Internal error: )?Oops(?: - (?P<what>[a-z ]+))?: ", "Oops{function}"),
    (
        r"Kernel panic - not syncing: (?P<what>[A-Za-z][A-Za-z_ :'-]*?[A-Za-z])"
        r"(?= in: |[_ :'-]*(?:[^A-Za-z_ :'-]|$))",
        r"Kernel panic - not syncing: \g<what>",
    ),
    (r"Kernel panic - not syncing", "Kernel panic - not syncing"),
    (r"^(?:sysrq: )?(?P<what>unregister_netdevice: waiting)", r"\g<what>"),
)

# printk's prefix: level, time stamp, caller (CONFIG_PRINTK_CALLER)
_PREFIX = re.compile(r"^(?:<\d+>)?\[\s*\d+\.\d{3,}\](?:\[\s*[TC]\d+\])? ?")
# where a register dump says the CPU was
_AT = re.compile(
    r"(?:RIP: [0-9a-f]{4}:|Krnl PSW : \S+ \S+ \(|NIP \[\S+\] |pc : |epc : )" + _FUNCTION + r"\+0x"
)
# a frame of a call trace; one with "?" before it is a guess of the unwinder
_FRAME = re.compile(r"^\s*\(?\[?<?(?:[0-9a-f]{8,}>\]\s+)?" + _FUNCTION + r"\+0x[0-9a-f]+/0x")
_ANSWER = re.compile(r"^(?:---\[ end |Kernel panic - not syncing)")
# how deep the dumping functions themselves stand in a call trace
_DUMPERS = re.compile(
    r"^(?:dump_stack|show_stack|show_trace|__warn|warn_slowpath|report_bug|panic|die|oops_|"
    r"__die|exc_|asm_exc|do_trap|handle_bug|__report_bad|rcu_|print_|lockdep_|lock_acquire|"
    r"__lock_acquire|validate_chain|check_|__might_|___might|__schedule|schedule)"
)
_SUFFIX = re.compile(r"\.(?:isra|constprop|part|cold|llvm|lto_priv)(?:\.\d+)*|\.\d+$")
_REPORT_LINES = 80


def crash_title(text: str) -> str | None:
    """The title of the first kernel report in a console's text, None when there is none."""
    lines = _plain(text)
    for index, line in enumerate(lines):
        found = _opening(line)
        if found is not None:
            return _title(*found, lines[index : index + _REPORT_LINES])
    return None


def complaints(text: str) -> tuple[str, ...]:
    """Every line that opens a kernel report, in order, without time stamps.

    One crash may well be several lines: its cause, "Oops", the panic that followed.
    """
    return tuple(line for line in _plain(text) if _opening(line) is not None)


# A refusal in the kernel's words: all that livepatch prints above KERN_NOTICE, and what the module
# loader says of a module it will not have. Sources: kernel/livepatch/core.c and patch.c,
# kernel/module/main.c, arch/{x86,s390}/kernel/module.c, arch/powerpc/kernel/module_64.c.
_REFUSAL = re.compile(
    r"^livepatch: .*\b(?:failed|not|invalid|incorrectly|unresolvable)\b"
    r"|[Ii]nvalid relocation target|[Uu]nknown (?:rela )?relocation|relocation error for symbol"
    r"|overflow in relocation|bad TOC16\w* relocation|REL\d\d -?\d+ out of range"
    r"|Expected nop after call|: Unknown symbol |: disagrees about version of symbol "
    r"|: version magic |: exports duplicate symbol |^Invalid ELF |: gave up waiting for init"
)


def refusals(text: str) -> tuple[str, ...]:
    """Every line in which livepatch or the module loader refuses something, without time stamps.

    A matter of course where an event fails, so none of `complaints`; and wrong where all succeed.
    """
    return tuple(line for line in _plain(text) if _REFUSAL.search(line))


def _plain(text: str) -> list[str]:
    return [_PREFIX.sub("", line).rstrip() for line in text.splitlines()]


def _opening(line: str) -> tuple[_Kind, re.Match[str]] | None:
    for kind in _KINDS:
        match = kind.pattern.search(line)
        if match:
            return kind, match
    return None


def _title(kind: _Kind, match: re.Match[str], report: Sequence[str]) -> str:
    groups = match.groupdict()
    function = groups.get("function") or _function(report)
    where = f" in {_SUFFIX.sub('', function)}" if function else ""
    head, _, tail = kind.title.partition("{function}")
    placed = where if head != kind.title else ""
    return match.expand(head) + placed + tail


def _function(report: Sequence[str]) -> str:
    """Where it happened: the register dump's function, else the first frame that is not a dumper's.

    The register dump of a call through a wild pointer shows no function, its caller is a frame.
    """
    for line in report[1:]:
        found = _AT.search(line)
        if found:
            return found["function"]
        if _ANSWER.match(line):
            break
    for line in report[1:]:
        frame = _FRAME.match(line)
        if frame and not _DUMPERS.match(frame["function"]):
            return frame["function"]
        if _ANSWER.match(line):
            break
    return ""
