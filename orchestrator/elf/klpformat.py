# SPDX-License-Identifier: GPL-2.0-only
"""The names and marks of a livepatch module, as the kernel reads them. Pure.

Sources: kernel/livepatch/core.c (klp_resolve_symbols, klp_apply_section_relocs),
Documentation/livepatch/module-elf-format.rst, kernel/module/main.c.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from orchestrator.elf.records import SHF_RELA_LIVEPATCH, Elf, Section
from orchestrator.errors import UsageError
from orchestrator.nouns import KlpSymbol

SECTION_PREFIX = ".klp.rela."
SYMBOL_PREFIX = ".klp.sym."
# What objtool's `klp post-link` leaves behind (tools/objtool/klp-post-link.c, since 6.19): what was
# named before, in relocations of no type; and a section of its own, which nothing reads.
TOMBSTONE_PREFIX = ".klp.tombstone."
LEFT_OVER_PREFIX = "__klp_relocs."
OBJECT_MAX = 55  # bytes; "%55[^.]" in both formats, from MODULE_NAME_LEN
NAME_MAX = 511  # bytes; "%511[^,]", from KSYM_NAME_LEN
SYMPOS_MAX = (1 << 64) - 1  # "%lu"
SIGNATURE = b"~Module signature appended~\n"  # MODULE_SIG_STRING, the file's last bytes

_SECTION = re.compile(r"\.klp\.rela\.([^.]+)\.(.+)", re.DOTALL)
_SYMBOL = re.compile(r"\.klp\.sym\.([^.]+)\.([^,]+),([0-9]+)", re.DOTALL)

# Sections whose content the module loader reads, runs, copies away or throws away while the
# livepatch loads (find_module_sections(), module_finalize(), percpu_modcopy()). A relocation that
# is applied there later, when a target module comes, comes too late.
_READ_AT_LOAD: Mapping[str, str] = {
    ".altinstructions": "alternatives are patched in while the livepatch loads",
    ".altinstr_replacement": "it is copied into the code while the livepatch loads",
    ".parainstructions": "paravirt calls are patched while the livepatch loads",
    ".smp_locks": "lock prefixes are patched while the livepatch loads",
    ".retpoline_sites": "retpolines are patched while the livepatch loads",
    ".return_sites": "return thunks are patched while the livepatch loads",
    ".call_sites": "calls are patched while the livepatch loads",
    ".cfi_sites": "types in front of functions are rewritten while the livepatch loads",
    ".ibt_endbr_seal": "it is read while the livepatch loads",
    ".orc_unwind_ip": "it is sorted while the livepatch loads",
    ".static_call_sites": "static calls are initialised while the livepatch loads",
    "__jump_table": "jump labels are initialised while the livepatch loads",
    "__ex_table": "it is sorted while the livepatch loads",
    "__mcount_loc": "ftrace reads it while the livepatch loads",
    "__patchable_function_entries": "ftrace reads it while the livepatch loads",
    "__param": "module parameters are parsed while the livepatch loads",
    "__tracepoints_ptrs": "tracepoints are registered while the livepatch loads",
    "___srcu_struct_ptrs": "it is read while the livepatch loads",
    "__bpf_raw_tp_map": "it is read while the livepatch loads",
    "_ftrace_events": "trace events are registered while the livepatch loads",
    "_ftrace_eval_map": "it is read while the livepatch loads",
    "_error_injection_whitelist": "it is read while the livepatch loads",
    "_kprobe_blacklist": "it is read while the livepatch loads",
    "__dyndbg": "it is read while the livepatch loads",
    ".ctors": "constructors run while the livepatch loads",
    ".init_array": "constructors run while the livepatch loads",
    ".gnu.linkonce.this_module": "it is struct module itself",
    ".modinfo": "the loader does not keep it",
    "__versions": "the loader does not keep it",
}
_READ_AT_LOAD_PREFIXES: Mapping[str, str] = {
    ".init": "the memory is freed once the livepatch has loaded",
    "__ksymtab": "exports are checked while the livepatch loads",
    "__kcrctab": "exports are checked while the livepatch loads",
}


PER_CPU = ".data..percpu"  # include/linux/percpu-defs.h
# apply_relocations() skips it before: layout_and_allocate() has taken SHF_ALLOC off it. "module:
# Make sure relocations are applied to the per-CPU section", of 6.16.
_PER_CPU_SINCE = (6, 16)
_VERMAGIC = re.compile(r"(\d{1,4})\.(\d{1,4})[.\s-]")


def why_not(section: str, late: bool, kernel: tuple[int, int] | None) -> str:
    """Why no klp relocation can, or may, apply to a section of that name; "" if one may.

    late: it is a module's; vmlinux's are applied before the loader looks at any of these sections.
    kernel: the one that the livepatch is for; None: not known, and every one counts.
    """
    if section == PER_CPU and late:
        return "per-CPU data is copied for each CPU while the livepatch loads"
    if section == PER_CPU and (kernel is None or kernel < _PER_CPU_SINCE):
        since = ".".join(map(str, _PER_CPU_SINCE))
        return f"per-CPU data is copied for each CPU and never relocated (before Linux {since})"
    if not late:
        return ""
    if section in _READ_AT_LOAD:
        return _READ_AT_LOAD[section]
    return next((w for p, w in _READ_AT_LOAD_PREFIXES.items() if section.startswith(p)), "")


def object_name(text: str) -> str:
    """A module's name as the kernel has it (KBUILD_MODNAME): "_" for "-"."""
    return text.replace("-", "_")


def section_name(object: str, section: str) -> str:
    """The name of the klp section of `object` that applies to `section`."""
    return f"{SECTION_PREFIX}{object}.{section}"


def symbol_name(symbol: KlpSymbol) -> str:
    return f"{SYMBOL_PREFIX}{symbol.object}.{symbol.name},{symbol.sympos}"


def parse_section_name(name: str) -> tuple[str, str] | None:
    """(object, section) of ".klp.rela.OBJECT.SECTION", None if it is not such a name.

    SECTION is only text: what the entries apply to is sh_info.
    """
    match = _SECTION.fullmatch(name)
    if match is None or len(match[1].encode("utf-8", "surrogateescape")) > OBJECT_MAX:
        return None
    return match[1], match[2]


def parse_symbol_name(name: str) -> KlpSymbol | None:
    """What ".klp.sym.OBJECT.NAME,SYMPOS" says, None if it is not such a name."""
    match = _SYMBOL.fullmatch(name)
    if match is None:
        return None
    symbol = KlpSymbol(match[1], match[2], int(match[3]))
    return symbol if not _fault(symbol) else None


def checked(symbol: KlpSymbol) -> KlpSymbol:
    """The symbol with its object's name as the kernel has it.

    Raises UsageError if the kernel could not read it back from the name we would write.
    """
    symbol = KlpSymbol(object_name(symbol.object), symbol.name, symbol.sympos)
    if fault := _fault(symbol):
        raise UsageError(f"{symbol} cannot be a klp symbol: {fault}")
    return symbol


def _fault(symbol: KlpSymbol) -> str:
    """What is wrong with the parts of a klp symbol; "" if nothing."""
    for what, text, limit, forbidden in (
        ("object", symbol.object, OBJECT_MAX, "."),
        ("symbol", symbol.name, NAME_MAX, ","),
    ):
        length = len(text.encode("utf-8", "surrogateescape"))
        if not text:
            return f"the {what} has no name"
        if length > limit:
            return f"the {what}'s name has {length} bytes; the kernel reads {limit}"
        if forbidden in text or "\0" in text:
            return f"the {what}'s name must not contain {forbidden!r}"
    if not 0 <= symbol.sympos <= SYMPOS_MAX:
        return f"sympos {symbol.sympos} is out of range"
    return ""


def is_klp_section(section: Section) -> bool:
    """Whether the kernel takes it for a livepatch relocation section: by the flag, not the name."""
    return bool(section.flags & SHF_RELA_LIVEPATCH)


def modinfo(elf: Elf) -> tuple[tuple[str, str], ...]:
    """(tag, value) of each MODULE_INFO(), in order; () without a .modinfo section."""
    section = elf.section(".modinfo")
    if section is None or not section.allocated:  # find_sec() looks at SHF_ALLOC sections only
        return ()
    lines = section.data.decode("utf-8", "surrogateescape").split("\0")
    pairs = (line.partition("=") for line in lines if line)
    return tuple((tag, value) for tag, equals, value in pairs if equals)


def built_for(elf: Elf) -> tuple[int, int] | None:
    """The kernel, (6, 1), that a module's vermagic names; None where there is none."""
    found = _VERMAGIC.match(dict(modinfo(elf)).get("vermagic", ""))
    return (int(found[1]), int(found[2])) if found else None


def is_livepatch(elf: Elf) -> bool:
    """Whether the loader takes it for a livepatch: check_modinfo_livepatch() takes any value."""
    return any(tag == "livepatch" for tag, _ in modinfo(elf))


# include/linux/license.h, license_is_gpl_compatible()
_GPL = (
    "GPL",
    "GPL v2",
    "GPL and additional rights",
    "Dual BSD/GPL",
    "Dual MIT/GPL",
    "Dual MPL/GPL",
)


def is_gpl(elf: Elf) -> bool:
    """May it use what is exported to GPL modules only? One that does not say its licence may not
    (set_license(), kernel/module/main.c)."""
    return dict(modinfo(elf)).get("license") in _GPL


def own_taint(elf: Elf) -> int:
    """What the loader taints the kernel with for what a module says of itself, besides what each of
    ours does: P, C and N (module_license_taint_check(), module_augment_kernel_taints())."""
    told = dict(modinfo(elf))
    signs = ((not is_gpl(elf), 0), ("staging" in told, 10))
    return sum(1 << bit for said, bit in (*signs, ("test" in told, 18)) if said)


def dependencies(elf: Elf) -> tuple[str, ...]:
    """Names in MODULE_INFO(depends, ...), as the kernel spells modules."""
    values = (value for tag, value in modinfo(elf) if tag == "depends")
    return tuple(object_name(name) for value in values for name in value.split(",") if name)
