# SPDX-License-Identifier: GPL-2.0-only
"""Broken livepatch modules, and what the kernel's source says becomes of each. Pure.

Each is made from a good module with klp relocations, and said to be refused, by whom and with which
errno; or to be as good as the good one; or to be broken in a way that the kernel does not look for,
so that anything may happen. All were read in Linux 6.1 and hold for 6.12 and 7.3; what differs
between architectures and kernels is a capability (capabilities.toml).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from enum import StrEnum
from errno import EEXIST, EINVAL, ENOENT, ENOEXEC

from orchestrator.elf import malformed, writer
from orchestrator.elf.breakage import (
    BREAKAGES,
    MODINFO,
    NO_TYPE,
    Breakage,
    klp_section,
    of_entry,
    of_named,
    of_section,
    of_symbol,
    onto,
)
from orchestrator.elf.klpformat import (
    NAME_MAX,
    OBJECT_MAX,
    SECTION_PREFIX,
    SYMPOS_MAX,
    section_name,
)
from orchestrator.elf.records import SHF_ALLOC, SHN_ABS, Elf

PREFIX = "malformed/"  # of what stands in a case for the module set
# capabilities
CHECKS_FIELD = "checks-field"  # a field that is not zero is not relocated
REFUSES_APPLIED = "refuses-applied"  # a field that was relocated is not relocated again
TYPES_EINVAL = "types-einval"  # an unknown relocation type is EINVAL, and not ENOEXEC
REFUSES_NONE = "refuses-none"  # R_*_NONE, which does nothing, is not known
CHECKS_SECTION_NAMES = "checks-section-names"  # no two loaded sections may have one name
SATURATES = "saturates-numbers"  # too large a number in a name is the largest, and not its low bits
CHECKS_FUNCTION_NAMES = "checks-function-names"  # of functions, before anybody compares them

Spoil = Callable[[bytes, int], bytes]  # a module's bytes, index of the klp section -> broken bytes


class Refused(StrEnum):
    """By whom, of those who load the livepatch or its target."""

    LOADER = "loader"  # the livepatch's load fails, whether the target is there or not
    OBJECT = "object"  # livepatch and target do not come together: the load of the second fails
    NOT = "not"  # all is as with the good module


@dataclass(frozen=True, slots=True)
class Ground:
    """The module set of a good livepatch that is broken, and what is loaded with it."""

    module_set: str
    target: str
    livepatch: str
    enabled: str = ""  # another livepatch of the target, enabled before the broken one comes


ALONE = Ground("basic", "klp_target", "klp_patch")
REPLACING = Ground("replace", "klp_replaced", "klp_second", enabled="klp_first")
GROUNDS = (ALONE, REPLACING)


@dataclass(frozen=True, slots=True)
class Malformation:
    """One way to break a module, and what is to become of it.

    unchecked: that it is to be refused is what the format's rules say, and the kernel does not
    look: it crashes, works with what it should not, or refuses for another reason. needs: a
    capability, and what is said holds for kernels that have it; others take the module as good, or
    do not look.
    """

    text: str
    where: str  # in the kernel: what refuses it, ignores it, or does not look
    refused: Refused
    breaks: Breakage
    errno: int = 0
    einval: str = ""  # a capability: kernels that have it answer EINVAL instead
    unchecked: bool = False
    needs: str = ""
    spoil: Spoil | None = None  # what no record can express
    ground: Ground = ALONE

    def checked(self, capabilities: AbstractSet[str]) -> bool:
        """Whether a kernel of these capabilities looks for what is wrong."""
        return not self.unchecked or self.needs in capabilities

    def answer(self, capabilities: AbstractSet[str]) -> int:
        """The errno of a refusal by a kernel of these capabilities."""
        return EINVAL if self.einval in capabilities else self.errno

    def file(self, good: Elf) -> bytes:
        """The broken module."""
        data = writer.write(self.breaks(good))
        return data if self.spoil is None else self.spoil(data, klp_section(good))


def broken_how(module_set: str) -> str:
    """The malformation that stands in a case for a module set: X of `malformed/X`."""
    return module_set.removeprefix(PREFIX)


_CORE, _MAIN = "kernel/livepatch/core.c", "kernel/module/main.c"
_SECTION = f"{_CORE}, klp_apply_section_relocs()"
_RESOLVE = f"{_CORE}, klp_resolve_symbols()"
_FIND = f"{_CORE}, klp_find_object_symbol()"
_OBJECT = f"{_CORE}, klp_apply_object_relocs()"
_SIMPLIFY = f"{_MAIN}, simplify_symbols()"
_SETUP = f"{_MAIN}, setup_load_info()"
_VALIDITY = f"{_MAIN}, elf_validity_check()"
_APPLY = "arch/*/kernel/module.c, apply_relocate_add()"
_WRITE = f"{_APPLY} and clear_relocate_add()"


def _loader(text: str, where: str, errno: int, breaks: Breakage) -> Malformation:
    return Malformation(text, where, Refused.LOADER, breaks, errno)


def _object(
    text: str, where: str, errno: int, breaks: Breakage, needs: str = "", einval: str = ""
) -> Malformation:
    return Malformation(text, where, Refused.OBJECT, breaks, errno, einval, needs=needs)


def _harmless(text: str, where: str, breaks: Breakage) -> Malformation:
    return Malformation(text, where, Refused.NOT, breaks)


def _unchecked(text: str, where: str, breaks: Breakage) -> Malformation:
    return Malformation(text, where, Refused.OBJECT, breaks, ENOEXEC, unchecked=True)


NONE = 0  # R_*_NONE of every architecture
FAR = 1 << 40  # bytes
NO_SYMBOL = 0xFFFFFF  # an index
WRAPPED = SYMPOS_MAX + 2  # 1, in 64 bits

MALFORMATIONS: Mapping[str, Malformation] = {
    # the file as a whole
    "file-truncated": replace(
        _loader("the second half of the file is missing", _VALIDITY, ENOEXEC, malformed.same),
        spoil=lambda data, _: data[: len(data) // 2],
    ),
    "section-beyond-file": replace(
        _loader("a klp section reaches beyond the file", _VALIDITY, ENOEXEC, malformed.same),
        spoil=malformed.beyond_file,
    ),
    "modinfo-missing": _loader(
        "it has no .modinfo",
        f"{_MAIN}, check_modinfo()",
        ENOEXEC,
        of_named(MODINFO, lambda s: replace(s, name=".gone", name_at=-1)),
    ),
    "modinfo-livepatch": _loader(
        "it is not marked as a livepatch",
        f"{_CORE}, klp_enable_patch()",
        EINVAL,
        BREAKAGES["modinfo-livepatch"],
    ),
    "this-module": _loader("it has no struct module", _SETUP, ENOEXEC, BREAKAGES["this-module"]),
    "symbol-table": _loader("it has no symbol table", _SETUP, ENOEXEC, BREAKAGES["symbol-table"]),
    "symbol-common": _loader("a symbol is COMMON", _SIMPLIFY, ENOEXEC, BREAKAGES["symbol-common"]),
    "symbol-section": _loader(
        "a symbol's section does not exist", _SIMPLIFY, ENOEXEC, BREAKAGES["symbol-section"]
    ),
    "depends": _harmless(
        "it depends on its target by its own account",
        "nobody reads depends= in the kernel",
        BREAKAGES["depends"],
    ),
    # the functions to replace
    "function-name-null": _loader(
        "the name of the first function to replace is NULL",
        f"{_CORE}, klp_init_func()",
        EINVAL,
        malformed.without_old_name,
    ),
    "function-name-null-replacing": replace(
        _loader(
            "the name of the first function is NULL, and another livepatch is to be replaced",
            f"{_CORE}, klp_find_func() compares the names before klp_init_func() looks",
            EINVAL,
            malformed.without_old_name,
        ),
        unchecked=True,
        needs=CHECKS_FUNCTION_NAMES,
        ground=REPLACING,
    ),
    # names of klp sections
    "section-name-empty": _loader(
        "a klp section's name ends behind the prefix",
        _SECTION,
        EINVAL,
        malformed.section_called(SECTION_PREFIX),
    ),
    "section-name-object": _loader(
        "a klp section's name has no object",
        _SECTION,
        EINVAL,
        malformed.section_called(".klp.rela..text"),
    ),
    "section-name-prefix": _loader(
        "a klp section's name has another prefix",
        _SECTION,
        EINVAL,
        malformed.section_called(".klp.rel.{}.text"),
    ),
    "section-name-section": _harmless(
        "a klp section's name has no section",
        f"{_SECTION} does not read so far",
        malformed.section_called(SECTION_PREFIX + "{}"),
    ),
    "section-name-long": _harmless(
        "one more klp section, for an object with too long a name",
        f"{_SECTION} skips it: {OBJECT_MAX} bytes of it are no object's name",
        malformed.section_copied(section_name("o" * (OBJECT_MAX + 1), ".text")),
    ),
    "section-name-nobody": _harmless(
        "one more klp section, for an object that never comes",
        f"{_SECTION} skips it",
        malformed.section_copied(section_name("nobody", ".text")),
    ),
    # headers of klp sections
    "section-flag": _unchecked(
        "a klp section without SHF_RELA_LIVEPATCH",
        f"{_MAIN}, apply_relocations() applies it at once, with symbols that are still 0",
        BREAKAGES["section-flag"],
    ),
    "section-type": _unchecked(
        "a klp section of type SHT_PROGBITS",
        f"{_OBJECT} does not look at sh_type; room in GOT and PLT is reserved by SHT_RELA only",
        malformed.as_data,
    ),
    "section-nobits": _object(
        "a klp section of type SHT_NOBITS", _RESOLVE, EINVAL, of_section(malformed.without_bytes)
    ),
    "section-alloc": _unchecked(
        "a klp section without SHF_ALLOC",
        f"{_OBJECT} reads it where load_module() has freed it",
        BREAKAGES["section-alloc"],
    ),
    "section-size": _harmless(
        "three bytes behind the last entry of a klp section",
        f"{_RESOLVE} counts whole entries",
        BREAKAGES["section-size"],
    ),
    "section-truncated": _unchecked(
        "half of a klp section's last entry is missing",
        f"{_RESOLVE} counts whole entries: the last field is never relocated",
        malformed.half_an_entry,
    ),
    "section-target": _unchecked(
        "sh_info of a klp section is out of range",
        f"{_WRITE} read a section header there",
        BREAKAGES["section-target"],
    ),
    "section-target-null": _unchecked(
        "sh_info of a klp section is 0",
        f"{_WRITE} write at address 0",
        of_section(lambda s: replace(s, info=0)),
    ),
    "section-target-alloc": _unchecked(
        "sh_info of a klp section leads to a section that is not loaded",
        f"{_WRITE} write where load_module() has freed it",
        BREAKAGES["section-target-alloc"],
    ),
    "section-target-early": _unchecked(
        "sh_info of a klp section leads to what is freed after the load",
        f"{_WRITE} write where do_init_module() frees it",
        onto(".init.late", SHF_ALLOC),
    ),
    "section-duplicate": replace(
        _loader(
            "two klp sections of one name",
            "kernel/module/sysfs.c, mod_sysfs_setup(): /sys/module/*/sections cannot be made",
            EEXIST,
            BREAKAGES["section-duplicate"],
        ),
        unchecked=True,
        needs=CHECKS_SECTION_NAMES,
    ),
    "section-twice": _object(
        "two klp sections with the same entries",
        _APPLY,
        ENOEXEC,
        malformed.section_copied(".klp.rela.{}.again"),
        needs=REFUSES_APPLIED,
    ),
    "section-link": _harmless(
        "sh_link of a klp section is 0", f"{_OBJECT} does not look", BREAKAGES["section-link"]
    ),
    "section-info-link": _harmless(
        "a klp section without SHF_INFO_LINK",
        f"{_OBJECT} does not look",
        BREAKAGES["section-info-link"],
    ),
    # entries
    "relocation-symbol": _object(
        "an entry uses a symbol of the module's own",
        _RESOLVE,
        EINVAL,
        BREAKAGES["relocation-symbol"],
    ),
    "relocation-symbol-range": _unchecked(
        "an entry uses a symbol beyond the symbol table",
        f"{_RESOLVE}, and module_frob_arch_sections() where slots are counted",
        of_entry(lambda rela: replace(rela, symbol=NO_SYMBOL)),
    ),
    "relocation-vmlinux": _object(
        "an entry uses a symbol of vmlinux in a module's klp section",
        _RESOLVE,
        EINVAL,
        BREAKAGES["relocation-vmlinux"],
    ),
    "relocation-type": _object(
        "the first entry is of an unknown type",
        _APPLY,
        ENOEXEC,
        BREAKAGES["relocation-type"],
        einval=TYPES_EINVAL,
    ),
    "relocation-type-last": _object(
        "the last entry is of an unknown type, the others are relocated",
        _APPLY,
        ENOEXEC,
        malformed.of_last_entry(lambda rela: replace(rela, type=NO_TYPE)),
        einval=TYPES_EINVAL,
    ),
    "relocation-none": _object(
        "one more entry, of the type that does nothing",
        _APPLY,
        ENOEXEC,
        malformed.with_entry(lambda rela, target: replace(rela, type=NONE)),
        needs=REFUSES_NONE,
    ),
    "relocation-offset": _unchecked(
        "one more entry, right behind the end of its section",
        f"{_WRITE} do not look at the section's size",
        malformed.with_entry(lambda rela, target: replace(rela, offset=target.size)),
    ),
    "relocation-offset-far": _unchecked(
        "one more entry, a terabyte behind its section",
        f"{_WRITE} do not look at the section's size",
        malformed.with_entry(lambda rela, target: replace(rela, offset=FAR)),
    ),
    "relocation-field": _object(
        "a field is not zero", _APPLY, ENOEXEC, BREAKAGES["relocation-field"], CHECKS_FIELD
    ),
    "relocation-ordinary": _unchecked(
        "an entry stands among the ordinary relocations too",
        f"{_MAIN}, apply_relocations() applies it at once, with a symbol that is still 0",
        BREAKAGES["relocation-ordinary"],
    ),
    # klp symbols
    "symbol-mark": _loader(
        "a klp symbol is marked as undefined", _SIMPLIFY, ENOENT, BREAKAGES["symbol-mark"]
    ),
    "symbol-mark-absolute": _object(
        "a klp symbol is marked as absolute",
        _RESOLVE,
        EINVAL,
        of_symbol(lambda symbol: replace(symbol, shndx=SHN_ABS)),
    ),
    "symbol-unused": _harmless(
        "a klp symbol that no entry uses", f"{_RESOLVE} does not see it", BREAKAGES["symbol-unused"]
    ),
    "symbol-name": _object(
        "the sympos of a klp symbol is a word", _RESOLVE, EINVAL, BREAKAGES["symbol-name"]
    ),
    "symbol-name-prefix": _object(
        "a klp symbol has its plain name", _RESOLVE, EINVAL, malformed.symbol_called("{name}")
    ),
    "symbol-name-object": _object(
        "a klp symbol's name has no object",
        _RESOLVE,
        EINVAL,
        malformed.symbol_called(".klp.sym..{name},{sympos}"),
    ),
    "symbol-name-long": _object(
        "a klp symbol's name is too long",
        _RESOLVE,
        EINVAL,
        malformed.symbol_called(".klp.sym.{object}." + "n" * (NAME_MAX + 1) + ",{sympos}"),
    ),
    "symbol-object-long": _object(
        "the name of a klp symbol's object is too long",
        _RESOLVE,
        EINVAL,
        malformed.symbol_called(".klp.sym." + "o" * (OBJECT_MAX + 1) + ".{name},{sympos}"),
    ),
    "symbol-object-away": _object(
        "a klp symbol is that of an object which is not loaded",
        _FIND,
        EINVAL,
        malformed.symbol_called(".klp.sym.nobody.{name},{sympos}"),
    ),
    "symbol-missing": _object(
        "the object has no such symbol",
        _FIND,
        EINVAL,
        malformed.symbol_called(".klp.sym.{object}.nobody,0"),
    ),
    "symbol-ambiguous": _object(
        "the object has two such symbols, and sympos is 0", _FIND, EINVAL, malformed.ambiguous
    ),
    "symbol-sympos-missing": _object(
        "a klp symbol has no sympos",
        _RESOLVE,
        EINVAL,
        malformed.symbol_called(".klp.sym.{object}.{name}"),
    ),
    "symbol-sympos-negative": _object(
        "the sympos of a klp symbol is -1",
        _RESOLVE,
        EINVAL,
        malformed.symbol_called(".klp.sym.{object}.{name},-1"),
    ),
    "symbol-sympos-beyond": _object(
        "the object has not so many symbols of that name",
        _FIND,
        EINVAL,
        malformed.symbol_called(".klp.sym.{object}.{name},9"),
    ),
    "symbol-sympos-wraps": _object(
        "the sympos of a klp symbol is 1 and 2^64",
        f"lib/kstrtox.c, _parse_integer_limit() keeps 64 bits, or the largest number; {_FIND}",
        EINVAL,
        malformed.symbol_called(".klp.sym.{object}.{name}," + str(WRAPPED)),
        needs=SATURATES,
    ),
}
