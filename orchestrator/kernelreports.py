# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's own reports in a guest's console: oopses, warnings, lockdep's, refusals. Pure.

A crash has a title, after syzkaller's pkg/report: what happened and where, without addresses,
numbers and compiler suffixes, so that the same crash has the same title on the next boot.

Whatever a guest prints may come here. So lines are cut before any pattern sees them, and a pattern
looks at a line's start only: that is where the kernel's reports open, and what a module says behind
words of its own is no report.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

LINE_CHARACTERS = 4096  # of a line that are looked at; the kernel's own have 1024 at most
FRAMES = 16  # of a report, that are kept
LINES_TOLD = 50  # of reports, and of refusals: the first tells what happened

# printk's prefix: level, time stamp, caller (CONFIG_PRINTK_CALLER)
PREFIX = r"(?:<\d{1,3}>)?\[ {0,5}\d{1,10}\.\d{3,9}\](?:\[ {0,6}[TC]\d{1,10}\])? ?"
_BEGUN = re.compile(PREFIX)

# --- crashes and other reports --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Kind:
    """How a line that opens a kernel's report begins. `title` is expanded with the match;
    "{function}" stands for the function found in the line, or else in the report's registers or
    call trace. `ends`: a guest may end by it, a warning ends none."""

    pattern: re.Pattern[str]
    title: str
    ends: bool


_FUNCTION = r"(?P<function>[A-Za-z_][\w.]*)"


_ENDS = True  # panics, and what ends the task it happens in


def _kinds(*rows: tuple[str, str] | tuple[str, str, bool]) -> tuple[_Kind, ...]:
    return tuple(_Kind(re.compile(row[0]), row[1], len(row) > 2) for row in rows)


# The first row that matches a line's start counts. Sources: arch/x86/mm/fault.c,
# arch/x86/kernel/traps.c, arch/s390/mm/fault.c, arch/s390/kernel/traps.c,
# arch/s390/kernel/dumpstack.c, kernel/panic.c,
# kernel/locking/lockdep.c, kernel/hung_task.c, kernel/watchdog.c, kernel/rcu/tree_stall.h,
# lib/list_debug.c, lib/ubsan.c, mm/kasan/report.c, mm/kfence/report.c, kernel/kcsan/report.c,
# mm/slub.c, kernel/watchdog_hld.c, kernel/cfi.c, arch/x86/kernel/cet.c.
_KINDS = _kinds(
    (rf"BUG: KASAN: (?P<what>[\w-]+) in {_FUNCTION}", r"KASAN: \g<what>{function}"),
    (r"BUG: KASAN: (?P<what>[\w-]+)", r"KASAN: \g<what>{function}"),
    (r"KASAN: (?P<what>[\w-]+) in range", r"KASAN: \g<what>{function}"),
    (r"UBSAN: (?P<what>[\w-]+)", r"UBSAN: \g<what>{function}"),
    (
        r"BUG: kernel NULL pointer dereference",
        "BUG: kernel NULL pointer dereference{function}",
        _ENDS,
    ),
    (
        r"BUG: unable to handle (?:kernel )?(?P<what>page fault|paging request|NULL pointer)",
        r"BUG: unable to handle \g<what>{function}",
        _ENDS,
    ),
    (
        r"Unable to handle kernel (?P<what>pointer dereference|NULL pointer dereference"
        r"|paging request|access|write to read-only memory|read from unreadable memory"
        r"|execute from non-executable memory|execution of user memory)",
        r"Unable to handle kernel \g<what>{function}",
        _ENDS,
    ),
    (r"kernel BUG at ", "kernel BUG{function}", _ENDS),
    (r"(?:watchdog: )?BUG: soft lockup", "BUG: soft lockup{function}"),
    (r"BUG: workqueue lockup", "BUG: workqueue lockup"),
    (
        r"BUG: sleeping function called from invalid context",
        "BUG: sleeping function called from invalid context{function}",
    ),
    (r"BUG: scheduling while atomic", "BUG: scheduling while atomic{function}"),
    (r"BUG: Bad (?P<what>page \w+|rss-counter)", r"BUG: bad \g<what>"),
    (
        rf"BUG: (?P<what>K[A-Z]{{3,9}}): (?P<how>[a-z -]{{1,60}}) in {_FUNCTION}",
        r"\g<what>: \g<how>{function}",
    ),
    (r"(?:\[ )?BUG: (?P<what>[A-Za-z][^:,0-9\]]*[A-Za-z])", r"BUG: \g<what>{function}"),
    (r"BUG (?P<what>[\w:-]+) \((?:Not tainted|Tainted: )", r"BUG in slab \g<what>"),
    (r"(?:NMI )?watchdog: Watchdog detected hard LOCKUP", "BUG: hard lockup{function}"),
    (
        r"WARNING: (?P<what>possible [a-z ]+ detected|suspicious RCU usage|[a-z -]+ detected)",
        r"WARNING: \g<what>",
    ),
    (rf"WARNING: CPU: \d+ PID: \d+ at \S+ {_FUNCTION}\+0x", "WARNING{function}"),
    (r"WARNING: CPU: \d+ PID: \d+ at (?P<what>[\w./-]+):\d+", r"WARNING at \g<what>"),
    # Linux 6.18 and later: FILE:LINE at FUNCTION, and before that the condition, where it is kept
    (
        rf"WARNING: (?:\[.{{1,200}}\] )?\S{{1,200}}:\d{{1,7}} at {_FUNCTION}\+0x",
        "WARNING{function}",
    ),
    (r"WARNING: (?P<what>[a-z][^:,0-9]*[a-z])", r"WARNING: \g<what>"),
    (r"INFO: task (?P<what>[^\s:]+)(?::\d+)? blocked for more than", r"INFO: task hung: \g<what>"),
    (
        r"(?:rcu: )?INFO: (?:rcu\w* )?(?:self-)?detected (?:expedited )?stall",
        "INFO: RCU stall{function}",
    ),
    (r"(?:rcu: )?INFO: rcu\w* self-detected stall", "INFO: RCU stall{function}"),
    (r"(?:rcu: )?INFO: rcu\w* detected (?:expedited )?stalls", "INFO: RCU stall{function}"),
    (r"(?:rcu: )?rcu\w* kthread (?:timer wakeup|starved)", "INFO: RCU kthread starved"),
    (r"INFO: trying to register non-static key", "INFO: trying to register non-static key"),
    (r"(?P<what>list_(?:add|del)) corruption", r"\g<what> corruption{function}"),
    (r"(?P<what>refcount_t: [a-z][a-z0-9; -]*[a-z])", r"\g<what>{function}"),
    # of a kernel built with CFI or IBT, before the oops
    (rf"CFI failure at {_FUNCTION}\+0x", "CFI failure{function}"),
    (rf"(?:traps: )?Missing ENDBR: {_FUNCTION}\+0x", "Missing ENDBR{function}"),
    (r"(?:Oops: )?general protection fault", "general protection fault{function}", _ENDS),
    (r"(?:traps: )?PANIC: double fault", "double fault{function}", _ENDS),
    (
        r"(?:Oops: )?(?P<what>invalid opcode|divide error|stack segment|int3|double fault|bounds"
        r"|invalid TSS|segment not present|alignment check|control protection fault)"
        r": [0-9a-f]{4} \[#\d+\]",
        r"\g<what>{function}",
        _ENDS,
    ),
    (
        r"(?P<what>[a-z][a-z/ -]+[a-z]): [0-9a-f]{4} ilc:\d \[#\d+\]",
        r"\g<what>{function}",
        _ENDS,
    ),
    (r"Kernel stack overflow", "Kernel stack overflow{function}", _ENDS),
    # before there is a kernel: arch/s390/boot/pgm_check_info.c
    (r"Kernel fault: interruption code", "Kernel fault in its decompressor{function}", _ENDS),
    (r"(?:Internal error: )?Oops(?: - (?P<what>[a-z ]+))?: ", "Oops{function}", _ENDS),
    (
        r"Kernel panic - not syncing: (?P<what>[A-Za-z][A-Za-z_ :'-]*?[A-Za-z])"
        r"(?= in: |[_ :'-]*(?:[^A-Za-z_ :'-]|$))",
        r"Kernel panic - not syncing: \g<what>",
        _ENDS,
    ),
    (r"Kernel panic - not syncing", "Kernel panic - not syncing", _ENDS),
    (r"(?:sysrq: )?(?P<what>unregister_netdevice: waiting)", r"\g<what>"),
)

# any of them, for most lines are none
_ANY = re.compile("|".join(re.sub(r"\?P<\w+>", "?:", kind.pattern.pattern) for kind in _KINDS))
_LINE = re.compile(r"[^\n]+")

# where a register dump says the CPU was
_AT = re.compile(
    r"(?:RIP: [0-9a-f]{4}:|Krnl PSW : \S+ \S+ \(|NIP \[\S+\] |pc : |epc : )" + _FUNCTION + r"\+0x"
)
# a frame of a call trace; one with "?" before it is a guess of the unwinder
_FRAME = re.compile(r"^\s*\(?\[?<?(?:[0-9a-f]{8,}>\]\s+)?" + _FUNCTION + r"\+0x[0-9a-f]+/0x")
# either, with its module behind it
_IN = re.compile(_FUNCTION + r"\+0x[0-9a-f]+/0x[0-9a-f]+(?P<module> \[\w+\])?")
# the address that was not to be accessed, or else the one at which the CPU was. Sources:
# arch/x86/mm/fault.c show_fault_oops(); arch/s390/mm/fault.c, dump_fault_info() (of its page),
# arch/s390/kernel/dumpstack.c, show_registers(); arch/powerpc/mm/fault.c, bad_page_fault();
# arch/arm64/mm/fault.c, die_kernel_fault(); arch/loongarch/mm/fault.c, no_context()
_FAULT = re.compile(
    r"(?:Failing address: |BUG: .{1,40} address: "
    r"|(?:CPU \d{1,5} |BUG: )?Unable to handle kernel .{1,60} at (?:virtual address )?(?:0x)?)"
    r"(?P<address>[0-9a-f]{8,16})\b"
)
_CPU_AT = re.compile(r"Krnl PSW : [0-9a-f]{16} (?P<address>[0-9a-f]{16})\b")
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
    return _first_title(text, ending=False)


def death_title(text: str) -> str | None:
    """The title of the first report that may be why a guest has ended: an oops or a panic. A guest
    that has warned, of whatever kind, and is gone then may have been ended by its host."""
    return _first_title(text, ending=True)


def _first_title(text: str, ending: bool) -> str | None:
    lines = _plain(text)
    for line in lines:
        found = _opening(line)
        if found is not None and (found[0].ends or not ending):
            return _title(*found, [line, *itertools.islice(lines, _REPORT_LINES - 1)])
    return None


def frames(text: str, ending: bool = False) -> tuple[str, ...]:
    """FUNCTION, or FUNCTION [MODULE], where the first kernel report in a console's text says that
    the CPU was, inmost first: its registers' and its call trace's.

    ending: the first of which `death_title` is the title."""
    found = (_IN.search(line) for line in _first_report(text, ending)[1:])
    return tuple(f"{each['function']}{each['module'] or ''}" for each in found if each)[:FRAMES]


def fault(text: str, ending: bool = False) -> int | None:
    """The address that the CPU was not to access, as far as the first kernel report in a console's
    text tells it (on some architectures its page's only), or the one at which it was; None: neither
    is told. ending: as in `frames`."""
    report = _first_report(text, ending)
    for pattern in (_FAULT, _CPU_AT):
        if found := next(filter(None, map(pattern.match, report)), None):
            return int(found["address"], 16)
    return None


def _first_report(text: str, ending: bool) -> list[str]:
    """The lines of the first report, or of the first that may be why a guest has ended."""
    lines = _plain(text)
    for line in lines:
        opened = _opening(line)
        if opened is not None and (opened[0].ends or not ending):
            later = itertools.islice(lines, _REPORT_LINES - 1)
            return [line, *itertools.takewhile(lambda each: not _ANSWER.match(each), later)]
    return []


def reports(text: str) -> tuple[str, ...]:
    """The first lines that open a kernel report, in order, without time stamps.

    One crash may well be several lines: its cause, "Oops", the panic that followed.
    """
    found = (line for line in _plain(text) if _ANY.match(line))
    return tuple(itertools.islice(found, LINES_TOLD))


# __warn() of kernel/panic.c, before Linux 6.18 and since
_WARNING = re.compile(
    r"WARNING: (?:CPU: \d{1,5} PID: \d{1,10} at |\[.{1,200}\] )?"
    rf"(?P<file>.{{1,1000}}):(?P<line>\d{{1,7}}) (?:at )?{_FUNCTION}\+0x[0-9a-f]+/0x[0-9a-f]+"
    r"(?P<module> \[\w+\])?"
)


def warning(line: str) -> str:
    """Where a warning comes from, FILE:LINE FUNCTION [MODULE] with the file's name alone, by the
    line that opens its report; "" of any other line, and of a warning that does not say."""
    found = _WARNING.match(line)
    if found is None:
        return ""
    file = found["file"].rpartition("/")[2]
    function = _SUFFIX.sub("", found["function"])
    return f"{file}:{found['line']} {function}{found['module'] or ''}"


def without(text: str, promised: Collection[str]) -> tuple[str, tuple[str, ...]]:
    """The text without the lines that open a warning of the functions of which such are promised,
    and these warnings in order; promised and found: as `warning` has them. A warning of the same
    function from another line is among them."""
    functions = {each.partition(" ")[2] for each in promised}
    if not functions:
        return text, ()
    kept, found = [], []
    for line in text.splitlines(keepends=True):
        parts = [(part, warning(part)) for part in _plain(line)]
        these = [where for _, where in parts if where.partition(" ")[2] in functions and where]
        found += these
        rest = (part for part, where in parts if where not in these)
        kept.append("\n".join((*rest, "")) if these else line)
    return "".join(kept), tuple(found)


# kernel/printk/printk.c, console_emit_next_record()
_DROPPED = re.compile(r"\*\* (\d+) printk messages dropped \*\*")


def dropped(text: str) -> int:
    """How many messages the kernel itself says that it has not printed."""
    return sum(int(found[1][:9]) for line in _plain(text) if (found := _DROPPED.match(line)))


# A refusal in the kernel's words: all that livepatch prints above KERN_NOTICE, and what the module
# loader says of a module it will not have. Sources: kernel/livepatch/core.c and patch.c,
# kernel/module/main.c, arch/{x86,s390,arm64}/kernel/module.c, arch/powerpc/kernel/module_64.c,
# arch/loongarch/kernel/module{,-sections}.c.
# At a line's start, behind the words that these put there: "module: ", "module_64: NAME: ".
_REFUSAL = re.compile(
    r"livepatch: .*\b(?:failed|not|invalid|incorrectly|unresolvable)\b|Invalid ELF "
    r"|(?:module \S+: |\S+: ){0,2}(?:"
    r"(?:Skipping i|I)nvalid relocation target, |[Uu]nknown (?:rela )?relocation: "
    r"|relocation error for symbol |overflow in relocation type |bad TOC16\w* relocation"
    r"|REL\d\d -?\d+ out of range|Expected nop after call, |Unknown symbol \S+ \(err "
    r"|disagrees about version of symbol |version magic '|exports duplicate symbol "
    r"|gave up waiting for init of module |unsupported RELA relocation: "
    r"|module contains bad GOT relocation|Unsupport relocation type |Unknown relocation type "
    r"|(?:opr1|jump offset) = 0x[0-9a-f]+ (?:overflow|unaligned)! |Can not find HI20 relocation"
    r"|module (?:GOT|PLT|PLT\.IDX|symtab) sections?(?:\(s\))? missing"
    r"|no room for another )"
)


def refusals(text: str) -> tuple[str, ...]:
    """The first lines in which livepatch or the module loader refuses something, without time
    stamps.

    A matter of course where an event fails, so none of `reports`; and wrong where all succeed.
    """
    found = (line for line in _plain(text) if _REFUSAL.match(line))
    return tuple(itertools.islice(found, LINES_TOLD))


def _plain(text: str) -> Iterator[str]:
    """Its lines without time stamps, empty ones left out. What the kernel prints behind half a line
    of some program's begins a line as well."""
    for line in _LINE.finditer(text):
        for part in _BEGUN.split(line[0]):
            if plain := part[:LINE_CHARACTERS].rstrip():
                yield plain


def _opening(line: str) -> tuple[_Kind, re.Match[str]] | None:
    for kind in _KINDS if _ANY.match(line) else ():
        match = kind.pattern.match(line)
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
