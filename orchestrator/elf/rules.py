# SPDX-License-Identifier: GPL-2.0-only
"""The rules of the livepatch module format, each with the kernel file that says or enforces it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of the format. A warning is what the kernel puts up with."""

    text: str
    warning: bool = False


_CORE = "kernel/livepatch/core.c"
_MAIN = "kernel/module/main.c"
_DOC = "Documentation/livepatch/module-elf-format.rst"

RULES: Mapping[str, Rule] = {
    "modinfo-livepatch": Rule(
        f'MODULE_INFO(livepatch, "Y") marks a livepatch module ({_MAIN}, check_modinfo_livepatch)'
    ),
    "this-module": Rule(f"a module has .gnu.linkonce.this_module ({_MAIN}, setup_load_info)"),
    "symbol-table": Rule(f"a module has a symbol table ({_MAIN}, setup_load_info)"),
    "symbol-common": Rule(f"the loader refuses COMMON symbols ({_MAIN}, simplify_symbols)"),
    "symbol-section": Rule(
        f"a symbol's section exists or is SHN_ABS or SHN_LIVEPATCH ({_MAIN}, simplify_symbols)"
    ),
    "section-flag": Rule(
        "a .klp.rela section carries SHF_RELA_LIVEPATCH, or it is applied as an ordinary one "
        f"({_MAIN}, apply_relocations)"
    ),
    "section-name": Rule(
        "a klp section is named .klp.rela.OBJECT.SECTION, OBJECT of at most 55 bytes without "
        f"'.' ({_CORE}, klp_apply_section_relocs; {_DOC})"
    ),
    "section-type": Rule(f"a klp section is of type SHT_RELA ({_DOC}, 3.1)"),
    "section-alloc": Rule(
        f"a klp section carries SHF_ALLOC, or its entries are freed after the load ({_DOC}, 3.1)"
    ),
    "section-size": Rule("a klp section's size is a multiple of 24 and so is its sh_entsize"),
    "section-target": Rule(
        "sh_info of a klp section is the index of an existing section; the kernel does not check "
        f"it ({_CORE}, klp_apply_object_relocs)"
    ),
    "section-target-alloc": Rule(
        f"a klp section applies to a section with SHF_ALLOC ({_MAIN}, apply_relocations)"
    ),
    "section-target-early": Rule(
        "a module's klp relocations do not apply to what the loader reads while the livepatch "
        f"loads ({_CORE}, klp_resolve_symbols)"
    ),
    "section-duplicate": Rule(
        f"one klp section for an object and the section it applies to ({_DOC}, 3)"
    ),
    "section-link": Rule("sh_link of a klp section is the symbol table, for tools", True),
    "section-info-link": Rule("a klp section carries SHF_INFO_LINK, for tools", True),
    "relocation-symbol": Rule(
        f"an entry of a klp section uses a SHN_LIVEPATCH symbol ({_CORE}, klp_resolve_symbols)"
    ),
    "relocation-vmlinux": Rule(
        "a module's klp section uses no symbol of vmlinux (use an ordinary relocation against an "
        f"exported one) ({_CORE}, klp_resolve_symbols)"
    ),
    "relocation-offset": Rule("a field lies within the section it belongs to"),
    "relocation-type": Rule("the architecture knows the relocation type (apply_relocate_add)"),
    "relocation-field": Rule(
        "a field holds no value before it is relocated, and behind it stands what the kernel wants "
        "there (apply_relocate_add; where it does not look, by custom)"
    ),
    "relocation-ordinary": Rule(
        "no ordinary relocation uses a klp symbol: it would be applied before the symbol has a "
        f"value ({_MAIN}, apply_relocations)"
    ),
    "symbol-name": Rule(
        "a klp symbol is named .klp.sym.OBJECT.NAME,SYMPOS: OBJECT of at most 55 bytes without "
        f"'.', NAME of at most 511 without ',', SYMPOS a number ({_CORE}, klp_resolve_symbols)"
    ),
    "symbol-mark": Rule(
        f"a .klp.sym symbol has st_shndx SHN_LIVEPATCH, 0xff20 ({_MAIN}, simplify_symbols)"
    ),
    "symbol-unused": Rule("a klp symbol is used by a klp section", True),
    "object-module": Rule(
        f"an object is called as its module is, without '/': no other is ever found ({_CORE}, "
        "klp_find_object_module)"
    ),
    "object-patched": Rule(
        "a klp section is of an object that the livepatch patches, or it is never applied, where "
        f"its tables can be read ({_CORE}, klp_init_object_loaded)"
    ),
    "depends": Rule(
        "depends= does not name an object of the klp sections: it would have to be loaded first",
        True,
    ),
}

FATAL = frozenset(
    {
        *("this-module", "symbol-table", "symbol-common", "symbol-section", "symbol-mark"),
        *("section-flag", "section-alloc", "section-target-alloc", "section-target-early"),
        *("relocation-symbol", "relocation-vmlinux", "relocation-offset", "relocation-ordinary"),
        *("object-module", "object-patched"),
    }
)
"""Rules without which a kernel refuses the livepatch, or writes its relocations astray, or never.
The others are custom, or are told by whoever reads the relocations."""
