# SPDX-License-Identifier: GPL-2.0-only
"""Are .ko files what set.toml says, and do they fit the kernel and one another? Asked before a
guest is booted, of those that others built above all.

Whoever built it: nothing here knows of a converter's layout.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from orchestrator.elf import encoding, klp, klpformat, reader, relocation, traced
from orchestrator.elf.records import SHN_UNDEF, Elf, Symbol
from orchestrator.elf.rules import FATAL
from orchestrator.errors import BuildError, UsageError
from orchestrator.host import files as given
from orchestrator.nouns import (
    VMLINUX,
    Arch,
    BuiltModule,
    BuiltSet,
    Kernel,
    KlpSymbol,
    ModuleSet,
    ModuleSpec,
)
from orchestrator.plain import one_line

EXPORT = "__ksymtab_"
ENABLE = "klp_enable_patch"
# struct modversion_info, include/linux/module.h; the other is CONFIG_EXTENDED_MODVERSIONS
_VERSIONS, _VERSION, _EXTENDED = "__versions", 64, "__version_ext_crcs"
_LAYOUT = "module_layout"  # check_modstruct_version(), kernel/module/version.c
_NEVER_TRACED = (  # of include/asm-generic/vmlinux.lds.h, and x86's entry code
    ("__init, and gone once the kernel has booted", "_sinittext", "_einittext"),
    ("noinstr", "__noinstr_text_start", "__noinstr_text_end"),
    ("entry code", "__entry_text_start", "__entry_text_end"),
)
MIB = 1 << 20
_FOR_MODULES = 0.7  # of a guest's memory: kernel and userland live with 58 MiB of 192
INIT = ".init"  # module_init_section(), kernel/module/main.c


def path(module_set: ModuleSet, spec: ModuleSpec, arch: Arch) -> Path:
    """Where a module that others built lies, for this architecture."""
    return module_set.directory / spec.ko.replace("{arch}", arch.name)


def files(module_set: ModuleSet, arch: Arch) -> Mapping[str, bytes]:
    """Module name -> its .ko, of the modules that have a `ko`.

    Raises UsageError for a file that is not there, is no module of this architecture, or is another
    module than set.toml says; and for a module that has neither a file nor sources.
    """
    _need_sources(module_set)
    found, together = {}, given.Together(given.MODULES)
    for spec in module_set.modules:
        if spec.ko:
            place = path(module_set, spec, arch)
            try:
                found[spec.name] = together.read(place, given.MODULE)
            except OSError as err:
                raise UsageError(
                    f"{place}: {err.strerror}; it should be {spec.name} for {arch.name}",
                    hint=f"`ko` in {module_set.directory}/set.toml says so; "
                    "--arch leaves an architecture out",
                ) from err
            elf = reader.read(found[spec.name], str(place))
            reader.expect_machine(elf, arch.elf_machine, arch.byte_order, str(place))
            _is_that(elf, spec, place)
    return found


def _need_sources(module_set: ModuleSet) -> None:
    place = module_set.directory
    bare = [s.name for s in module_set.modules if not s.ko and not s.ours]
    there = module_set.in_tree or any((place / n).is_file() for n in ("Kbuild", "Makefile"))
    if bare and not there:
        raise UsageError(
            f"{place / 'set.toml'}: {', '.join(bare)}: no `ko`, and nothing to build one from",
            hint=f"give each a `ko`, or put its sources and a Kbuild into {place}",
        )


def _is_that(elf: Elf, spec: ModuleSpec, place: Path) -> None:
    name = dict(klpformat.modinfo(elf)).get("name", "")
    if name != spec.name:
        raise UsageError(
            f"{place} is module '{name}', set.toml calls it '{spec.name}'",
            hint=f'write name = "{name}"' if name else "a .ko has name= in its .modinfo",
        )
    check_kind(elf, spec, str(place))


def check_kind(elf: Elf, spec: ModuleSpec, name: str) -> None:
    """Raises UsageError when the .ko is a livepatch and set.toml says otherwise, or the reverse."""
    if klpformat.is_livepatch(elf) != (spec.kind == "livepatch"):
        has = "has" if klpformat.is_livepatch(elf) else "has no"
        raise UsageError(
            f'{name} {has} MODULE_INFO(livepatch, "Y"), and set.toml calls it a {spec.kind}',
            hint="without it the kernel applies no klp relocation; with it, it is a livepatch",
        )


def check_kernel(
    found: Mapping[str, bytes], module_set: ModuleSet, kernel: Kernel, arch: Arch
) -> None:
    """Raises UsageError for a module of `files` that was built for another kernel: the loader
    compares the whole vermagic where CONFIG_MODVERSIONS is off (kernel/module/version.c). That is
    the same from either compiler, and ftrace's calls are not: the kernel would warn of them."""
    if not found:
        return
    ours = next(iter(sorted(kernel.build_tree.rglob("*.ko"))), None)
    if ours is None:
        raise BuildError(
            f"{kernel.build_tree} has no module whose vermagic others could be compared with",
            hint="kernel-config/base.config asks for samples/livepatch",
        )
    sample = ours.read_bytes()
    wanted, compiler = _vermagic(sample, ours), _compiler(sample, ours)
    for name, data in found.items():
        spec = module_set.module(name)
        assert spec is not None
        place = path(module_set, spec, arch)
        if (seen := _vermagic(data, place)) != wanted:
            raise UsageError(
                f"{place} was built for another kernel: its vermagic is '{seen}', that of "
                f"{kernel.source} with series {' '.join(kernel.series) or 'none'} is '{wanted}'",
                hint="build it for this kernel (`klp-e2e build` prints where it is kept), or name "
                "the one it was built for with --kernel and --series",
            )
        if (by := _compiler(data, place)) and compiler and by != compiler:
            raise UsageError(
                f"{place} was compiled by {by}, and the kernel by {compiler}",
                hint="compile it as the kernel is, or the kernel as it is, with --toolchain",
            )


def check_versions(
    found: Mapping[str, bytes], module_set: ModuleSet, symvers: Path, arch: Arch
) -> None:
    """Raises UsageError for a module of `files` whose symbol versions are not the kernel's, where
    that has some (CONFIG_MODVERSIONS; check_version(), kernel/module/version.c): it would be
    refused. symvers: the kernel's Module.symvers."""
    lines = (line.split("\t") for line in symvers.read_text().splitlines())
    kernel = {name: number for crc, name, *_ in lines if (number := int(crc, 16))}
    for name, data in found.items():
        spec = module_set.module(name)
        assert spec is not None
        place = path(module_set, spec, arch)
        elf = reader.read(data, str(place))
        asked = {_LAYOUT, *(s.name for s in elf.symbols if s.shndx == SHN_UNDEF)} & kernel.keys()
        table = elf.section(_VERSIONS)
        if table is None:
            if asked and elf.section(_EXTENDED) is None:
                raise UsageError(
                    f"{place} has no versions of symbols, and the kernel asks for them",
                    hint="build it against this kernel's build directory (CONFIG_MODVERSIONS)",
                )
            continue
        for at in range(0, len(table.data), _VERSION):
            entry = table.data[at : at + _VERSION]
            symbol = entry[8:].split(b"\0")[0].decode("utf-8", "replace")
            crc = int.from_bytes(entry[:8], arch.byte_order)
            if symbol in asked and crc != kernel[symbol]:
                raise UsageError(
                    f"{place} was built for another kernel: its version of {symbol} is {crc:#x}, "
                    f"the kernel's is {kernel[symbol]:#x}",
                    hint="build it for this kernel (`klp-e2e build` prints where it is kept)",
                )


def _vermagic(data: bytes, place: Path) -> str:
    return dict(klpformat.modinfo(reader.read(data, str(place)))).get("vermagic", "").strip()


def _compiler(data: bytes, place: Path) -> str:
    """By what compilers leave in a module; "" where they have left nothing."""
    comment = reader.read(data, str(place)).section(".comment")
    names = {b"GCC: ": "gcc", b"clang version ": "clang"}
    return next((name for mark, name in names.items() if comment and mark in comment.data), "")


def check_relocations(found: Mapping[str, bytes], module_set: ModuleSet, arch: Arch) -> None:
    """Raises UsageError for a klp relocation of `files` that no kernel can apply: it would be told
    of the module that is loaded, and this is the file that it comes from. So for a livepatch that
    breaks a rule of the format by which kernels go, unless set.toml declares a defect."""
    table = relocation.table(arch.relocations)
    for name, data in found.items():
        spec = module_set.module(name)
        assert spec is not None
        place = str(path(module_set, spec, arch))
        klp.klp_relocations(reader.read(data, place), table, place)
        if spec.kind != "livepatch" or spec.defects:
            continue
        told = klp.inspect(data, table=table, none=arch.none, name=place)
        for broken in told.violations:
            if broken.rule in FATAL:
                raise UsageError(
                    f"{place}: {one_line(broken.where)}: {broken.text}",
                    hint=f"klp-e2e inspect {place} names each rule that it breaks",
                )


def exports(data: bytes, name: str) -> frozenset[str]:
    """The symbols that a module exports (EXPORT_SYMBOL() in include/linux/export.h)."""
    symbols = reader.read(data, name).symbols
    return frozenset(
        symbol.name.removeprefix(EXPORT)
        for symbol in symbols
        if symbol.name.startswith(EXPORT) and symbol.shndx != SHN_UNDEF
    )


def check_depends(data: bytes, spec: ModuleSpec, name: str) -> None:
    """Raises UsageError when the .ko wants other modules loaded first than set.toml says."""
    wants = set(klpformat.dependencies(reader.read(data, name)))
    if wants != set(spec.depends):
        listed = ", ".join(f'"{each}"' for each in sorted(wants))
        raise UsageError(
            f"{name} uses exported symbols of {', '.join(sorted(wants)) or 'no module'}, "
            f"set.toml says {', '.join(sorted(spec.depends)) or 'no module'}",
            hint=f"write depends = [{listed}] for {spec.name}, each of them a module of the set",
        )


def check_symbols(built: BuiltSet, system_map: Path) -> None:
    """Raises UsageError for a livepatch that names what kernel and modules do not have: a function
    to replace, or the symbol of a klp relocation. An object that is not in the set is never there,
    and not asked. Where set.toml declares a defect, the kernel itself is to say so."""
    names = (line.split()[2] for line in system_map.read_text().splitlines())
    kernel = Counter(names)
    for module in built.modules.values():
        spec = module.spec
        broken = {defect.object for defect in spec.defects}
        asked = [
            (object_name, _function(object_name, entry), "set.toml has it replace")
            for object_name, entries in spec.patches.items()
            for entry in entries
        ]
        asked += [(r.object, r.symbol, "it refers to") for r in module.klp_relocations]
        for when, symbol, what in dict.fromkeys(asked):
            _check_object(module, when, symbol)
            if when in broken or (when != VMLINUX and when not in built.modules):
                continue
            where = built.modules.get(symbol.object)
            if symbol.object == VMLINUX:
                count = kernel[symbol.name]
            elif where is not None:
                count = len(where.symbols.get(symbol.name, ()))
            else:
                raise UsageError(
                    f"{module.path.name}: {what} {symbol} when {when} is loaded, and the set has "
                    f"no {symbol.object}",
                    hint=f"give {symbol.object} a [[modules]] of its own in set.toml",
                )
            if where is not None and _is_per_cpu(where, symbol):
                raise UsageError(
                    f"{module.path.name}: {what} {symbol}, a per-CPU variable, and klp-e2e cannot "
                    "read back where a module's have their place",
                    hint=f"reach it through a function or a pointer of {symbol.object}",
                )
            if where is not None and _is_init(where, symbol):
                raise UsageError(
                    f"{module.path.name}: {what} {symbol}, and what is __init is known to the "
                    f"kernel only while {symbol.object} loads",
                    hint=f"a livepatch that comes later is refused: leave it out, or take __init "
                    f"from it in {symbol.object}",
                )
            if count < symbol.sympos or (symbol.sympos == 0 and count != 1):
                raise UsageError(
                    f"{module.path.name}: {what} {symbol}, and {symbol.object} has "
                    f"{count or 'no'} symbol{'s' * (count > 1)} of that name",
                    hint="was it built for this very target? NAME,0 has to be unique, NAME,N is "
                    "the N-th of that name",
                )


def _check_object(module: BuiltModule, when: str, symbol: KlpSymbol) -> None:
    """Raises UsageError for a klp relocation that is never written, or led astray by time alone."""
    spec, file = module.spec, module.path.name
    if any(defect.object in ("", when) for defect in spec.defects):
        return
    if when != VMLINUX and when not in spec.patches:
        raise UsageError(
            f"{file}: it refers to {symbol} when {when} is loaded, which it does not patch: the "
            "kernel never writes that",
            hint=f"does it patch {when}? Then set.toml has to say so, be it with an empty list",
        )
    if when == VMLINUX and symbol.object != VMLINUX:
        raise UsageError(
            f"{file}: {symbol} is written when the livepatch loads, and never again: it is in a "
            f"klp section of vmlinux, and leads nowhere once {symbol.object} has gone",
            hint=f"let it be written with {symbol.object}, as a symbol of a module that it patches",
        )


def check_steps(built: BuiltSet, system_map: Path, arch: Arch) -> None:
    """Raises UsageError for a klp relocation that cannot say where its symbol lies, as far as the
    modules of the set tell that: of what is in none of them, or not aligned, nobody knows."""
    kernel = _addresses(system_map)
    aligned: dict[str, Mapping[str, int]] = {}
    for name, module in built.modules.items():
        elf = reader.read(module.path.read_bytes(), name)
        aligned[name] = {s.name: max(s.align, 1) for s in elf.sections if s.allocated}
    for name, module in built.modules.items():
        for rela in module.klp_relocations:
            row, owner = arch.relocation(rela.type), built.modules.get(rela.symbol.object)
            assert row is not None  # `klp.klp_relocations`
            step, at = encoding.granule(row), max(rela.symbol.sympos, 1) - 1
            places = owner.symbols.get(rela.symbol.name, ()) if owner else ()
            found: int | None = None
            if rela.symbol.object == VMLINUX:
                found = next(iter(kernel.get(rela.symbol.name, [])[at:]), None)
            elif owner and at < len(places):
                section, offset = places[at]
                unknown = section and aligned[owner.spec.name].get(section, 1) % step
                found = None if unknown else offset
            if aligned[name].get(rela.section, 1) % step:
                found = None
            why = relocation.refusal(
                row, arch.byte_order, rela.initial, rela.offset, rela.addend, found
            )
            if why:
                raise UsageError(
                    f"{module.path.name}: {rela.section}+{rela.offset:#x} to {rela.symbol}: {why}",
                    hint="was it built for this very target?",
                )


def check_memory(built: BuiltSet, arch: Arch) -> None:
    """Raises UsageError for modules that a guest has not the memory for: it would refuse one with
    ENOMEM, and no kernel were to blame."""
    sizes = {
        name: sum(
            s.size for s in reader.read(module.path.read_bytes(), name).sections if s.allocated
        )
        for name, module in built.modules.items()
    }
    needed, most = sum(sizes.values()), arch.memory_mb * _FOR_MODULES
    if needed > most * MIB:
        largest = max(sizes, key=sizes.__getitem__)
        raise UsageError(
            f"the modules of {built.set.name} take {needed // MIB} MiB, and of the "
            f"{arch.memory_mb} MiB of a {arch.name} guest {int(most)} are for them",
            hint=f"the largest is {largest}, with {sizes[largest] // MIB} MiB: let it have less "
            "(`room` in set.toml, its .bss), or raise memory_mb in an architecture file",
        )


def check_enables(elf: Elf, spec: ModuleSpec, name: str) -> None:
    """Raises UsageError for a livepatch that cannot enable itself: it refers to no
    klp_enable_patch(), so that the kernel hears nothing of it."""
    if spec.kind == "livepatch" and not any(
        symbol.name == ENABLE and symbol.shndx == SHN_UNDEF for symbol in elf.symbols
    ):
        raise UsageError(
            f"{name} is a livepatch and never calls {ENABLE}(): loaded, it replaces nothing",
            hint=f"its init function is to return {ENABLE}(&patch)",
        )
    if spec.kind == "livepatch" and not klpformat.is_gpl(elf):
        raise UsageError(
            f"{name} has no licence that is compatible with the GPL: the kernel does not let it "
            f"have {ENABLE}()",
            hint='MODULE_LICENSE("GPL") in its source',
        )


def check_unloadable(found: Mapping[str, bytes]) -> None:
    """Raises UsageError for a module that the kernel never unloads: one with an init and no exit
    function (delete_module(), kernel/module/main.c)."""
    for name, data in found.items():
        there = reader.definitions(reader.read(data, f"{name}.ko"))
        if "init_module" in there and "cleanup_module" not in there:
            raise UsageError(
                f"{name}.ko has an init function and no exit function: the kernel never unloads it",
                hint="give it a module_exit(), an empty one will do",
            )


def check_traceable(module_set: ModuleSet, found: Mapping[str, bytes]) -> None:
    """Raises UsageError for a function of a module that ftrace cannot trace, so that no livepatch
    replaces it (klp_patch_func(), kernel/livepatch/patch.c): __exit, notrace, of an assembler.
    Where a module tells of none that it can trace, nobody knows."""
    for spec in module_set.modules:
        broken = {defect.object for defect in spec.defects}
        for object_name, entries in spec.patches.items():
            if object_name in found and object_name not in broken:
                elf = reader.read(found[object_name], f"{object_name}.ko")
                asked = [_function(object_name, entry) for entry in entries]
                for function in _untraced(elf, asked):
                    raise UsageError(
                        f"{spec.name}.ko: set.toml has it replace {function}, and "
                        f"{object_name}.ko has no place there that ftrace could trace",
                        hint="is it notrace, or __exit, or built without -pg? The kernel replaces "
                        "no such function",
                    )


def check_untraced(module_set: ModuleSet, system_map: Path) -> None:
    """Raises UsageError for a function of the kernel that no livepatch replaces, for ftrace knows
    nothing of where it lies: it would be refused with EINVAL. Of one that is notrace by itself
    nobody is told here."""
    kernel = _addresses(system_map)
    places = [
        (what, range(kernel[start][0], kernel[end][0]))
        for what, start, end in _NEVER_TRACED
        if start in kernel and end in kernel
    ]
    for spec in module_set.modules:
        broken = {defect.object for defect in spec.defects}
        for entry in spec.patches.get(VMLINUX, ()) if VMLINUX not in broken else ():
            function = _function(VMLINUX, entry)
            for at in kernel.get(function.name, [])[max(function.sympos, 1) - 1 :][:1]:
                if what := next((what for what, place in places if at in place), ""):
                    raise UsageError(
                        f"{spec.name}.ko: set.toml has it replace {function}, which is {what}",
                        hint="ftrace does not trace it, and the kernel replaces no such function",
                    )


def _addresses(system_map: Path) -> Mapping[str, Sequence[int]]:
    """Name -> addresses, in the sequence of kallsyms."""
    found: dict[str, list[int]] = {}
    for line in system_map.read_text().splitlines():
        address, _, name = line.split()[:3]
        found.setdefault(name, []).append(int(address, 16))
    return found


def _untraced(elf: Elf, asked: Iterable[KlpSymbol]) -> Iterator[KlpSymbol]:
    """Those of a module's functions that ftrace cannot trace."""
    places = traced.functions(elf)
    if places is None:
        return
    named: dict[str, list[Symbol]] = {}
    for symbol in reader.defined(elf):
        named.setdefault(symbol.name, []).append(symbol)
    for function in asked:
        for symbol in named.get(function.name, [])[max(function.sympos, 1) - 1 :][:1]:
            if (symbol.shndx, symbol.value) not in places:
                yield function


def _is_per_cpu(module: BuiltModule, symbol: KlpSymbol) -> bool:
    """Their section is copied for each CPU, and not where sysfs says that a section is."""
    found = module.symbols.get(symbol.name, ())
    at = max(symbol.sympos, 1) - 1
    return at < len(found) and found[at][0] == klpformat.PER_CPU


def _is_init(module: BuiltModule, symbol: KlpSymbol) -> bool:
    """Is it, or one of that name before it, gone once the module has loaded? Then another one is
    the N-th of that name, or none is (add_kallsyms(), kernel/module/kallsyms.c)."""
    found = module.symbols.get(symbol.name, ())
    return any(section.startswith(INIT) for section, _ in found[: max(symbol.sympos, 1)])


def _function(object_name: str, entry: str) -> KlpSymbol:
    name, _, position = entry.partition(",")
    return KlpSymbol(object_name, name, int(position or 0))
