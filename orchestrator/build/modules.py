# SPDX-License-Identifier: GPL-2.0-only
"""Module sets: C sources -> .ko files as the guest loads them, and what is needed to check those.

A set is built out of tree against a finished kernel, then its livepatches are converted: the
symbols that set.toml names become klp symbols. Modules that others built are taken as they are.
The result is a cache entry of its own, named by the digest of kernel, sources, relocation table and
converter.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from orchestrator import catalog
from orchestrator.build import declared, delivery, filler, outoftree, outside, prebuilt
from orchestrator.deadline import Deadline
from orchestrator.elf import klp, klpformat, reader, relocation, room, writer
from orchestrator.elf.records import SHN_UNDEF, STB_WEAK, Elf
from orchestrator.errors import BuildError, UsageError
from orchestrator.host import walk, workdir
from orchestrator.host.rundir import run_dir
from orchestrator.model.movers import FILLER
from orchestrator.nouns import (
    VMLINUX,
    Arch,
    BuiltModule,
    BuiltSet,
    Kernel,
    KlpSymbol,
    ModuleSet,
    ModuleSpec,
    Room,
)

AUTO = "auto"
COMPARED = "compared"  # names the livepatches of which `declared.check` is true
# What an earlier build left beside the sources; kbuild would take it for its own.
_PRODUCTS = (".a", ".ko", ".mod", ".mod.c", ".o", "Module.symvers", "modules.order")
SOURCE_MAX = 64 << 20  # bytes of a file beside a set's sources
_NAME_MAX = 120  # bytes of a set's name in a file's
# Undefined in a module, and no export provides it (ignore_undef_symbol() in scripts/mod/modpost.c).
_NOT_NEEDED = frozenset({"", "_GLOBAL_OFFSET_TABLE_", ".TOC."})


def build(
    kernel: Kernel,
    arch: Arch,
    module_set: ModuleSet,
    *,
    jobs: int,
    deadline: Deadline,
) -> BuiltSet:
    """The set built against `kernel`, from the cache where it has been built before.

    jobs: for make.
    Raises BuildError naming the first line the compiler objects to and the log; UsageError for a
    livepatch that cannot be converted, and for a module that set.toml or kernel do not fit.
    """
    final = workdir.cache_root() / "modules" / _key(kernel, arch, module_set)
    with workdir.locked(final):
        if workdir.verify(final) != "" or outside.changed(final):
            with workdir.staging(final) as tmp:
                _fill(tmp, kernel, arch, module_set, jobs, deadline)
                if final.name != _key(kernel, arch, module_set):
                    raise BuildError(
                        f"{module_set.directory} was written to while it was built",
                        hint="the same line again builds what is there now",
                    )
                workdir.publish(tmp, final)
        workdir.touch(final)
    built = read(module_set, final, arch)
    prebuilt.check_memory(built, arch)
    return built


def read(module_set: ModuleSet, directory: Path, arch: Arch) -> BuiltSet:
    """The set from its .ko files in `directory`. Raises UsageError for one that is none.

    What they defer is added to what set.toml says: of a livepatch that others built it need not say
    anything.
    """
    modules = {spec.name: _built(spec, directory, arch) for spec in module_set.modules}
    specs = tuple(module.spec for module in modules.values())
    return BuiltSet(replace(module_set, modules=specs), modules)


# --- what the result depends on ----------------------------------------------------------------


def _sources(module_set: ModuleSet) -> Mapping[str, Path]:
    """Name below the build directory -> file. Sets include the common headers as "../NAME.h"."""
    ours = {p.name: p for p in sorted(catalog.data_dir("images/modules").glob("*.h"))}
    return ours | _beside(module_set)


def _beside(module_set: ModuleSet) -> dict[str, Path]:
    """The same of what lies in the set's own directory."""
    files = {}
    for path in sorted(walk.below(module_set.directory)):
        inside = path.relative_to(module_set.directory)
        hidden = any(part.startswith(".") for part in inside.parts)
        if not hidden and not path.name.endswith(_PRODUCTS) and path.is_file():
            files[f"set/{inside}"] = path
            if path.stat().st_size > SOURCE_MAX:
                raise UsageError(
                    f"{path} is larger than {SOURCE_MAX >> 20} MiB",
                    hint="what the modules are not built from belongs elsewhere",
                )
    return files


def content(module_set: ModuleSet, arch: Arch) -> str:
    """A digest of what a set holds, sources and .ko files of others, the same wherever it lies and
    whatever it is built against. Raises UsageError where a file cannot be read."""
    files = _beside(module_set) if _of_sources(module_set) else {}
    text = hashlib.sha256(catalog.set_text(module_set.directory)).hexdigest()
    parts = [f"{name} {workdir.file_digest(path)}" for name, path in files.items()]
    parts.append(f"set/{catalog.SET_FILE} {text}")
    for name, data in prebuilt.files(module_set, arch).items():
        parts.append(f"{name} {hashlib.sha256(data).hexdigest()}")
    return hashlib.sha256("\0".join(sorted({*parts})).encode()).hexdigest()


def has_sources(module_set: ModuleSet) -> bool:
    """Is anything of its directory compiled? Else nothing there but set.toml and the .ko files that
    it names is the set's: the directory may be anybody's."""
    return not module_set.in_tree and bool(_of_sources(module_set))


def _of_sources(module_set: ModuleSet) -> tuple[ModuleSpec, ...]:
    """The modules that the set's own sources, or the kernel's tree, make."""
    return tuple(spec for spec in module_set.modules if not spec.ko and not spec.ours)


def _key(kernel: Kernel, arch: Arch, module_set: ModuleSet) -> str:
    digest = hashlib.sha256()
    converter = [*sorted(Path(klp.__file__).parent.glob("*.py")), Path(__file__)]
    converter += map(Path, (prebuilt.__file__, declared.__file__, delivery.__file__))
    sources = dict(_sources(module_set)) if _of_sources(module_set) else {}
    if any(spec.ours for spec in module_set.modules):
        sources |= {f"{FILLER}/{path.name}": path for path in filler.sources().iterdir()}
    given = prebuilt.files(module_set, arch)
    for part in (
        *_built_against(kernel, whole=bool(module_set.in_tree or given)),
        module_set.name,
        repr((module_set.modules, module_set.in_tree)),
        repr(arch.relocations),
        *(f"{name} {workdir.file_digest(path)}" for name, path in sources.items()),
        *(f"{name} {hashlib.sha256(data).hexdigest()}" for name, data in given.items()),
        *(f"{path.name} {workdir.file_digest(path)}" for path in converter),
    ):
        digest.update(part.encode() + b"\0")
    return f"{_short(module_set.name)}-{arch.name}-{digest.hexdigest()[:32]}"


def _short(name: str) -> str:
    """A set's name as a part of a file's, of which the whole may have 255 bytes. It need not tell
    one set from another."""
    return name if len(os.fsencode(name)) <= _NAME_MAX else f"{name[: _NAME_MAX // 4]}..."


def _built_against(kernel: Kernel, whole: bool) -> Iterator[str]:
    """What of a kernel the modules depend on. Not all of it, unless `whole`: kernels that differ in
    a few lines of code have the same headers, symbols and configuration, and share modules."""
    tree = kernel.build_tree.relative_to(kernel.directory)
    keys = {f"{tree}/{name}" for name in delivery.KEYS}  # each build makes its own
    if whole:
        yield kernel.key
    for name, digest in sorted(workdir.digests(kernel.directory).items()):
        if whole and name not in keys:
            continue
        if name.startswith(f"{tree}/") and not name.endswith(".ko"):
            yield f"{name} {digest}"


# --- building ----------------------------------------------------------------------------------


def _fill(
    tmp: Path, kernel: Kernel, arch: Arch, module_set: ModuleSet, jobs: int, deadline: Deadline
) -> None:
    """Put every module of the set into `tmp`, as NAME.ko, the livepatches converted."""
    exported = _exported(kernel.build_tree / "Module.symvers")
    given = prebuilt.files(module_set, arch)
    prebuilt.check_kernel(given, module_set, kernel, arch)
    prebuilt.check_versions(given, module_set, kernel.build_tree / "Module.symvers", arch)
    prebuilt.check_relocations(given, module_set, arch)
    files = {**_made(tmp / outside.RECORD, kernel, arch, module_set, jobs, deadline), **given}
    targets = {s.name: files[s.name] for s in module_set.modules if s.kind == "target"}
    files |= filler.build(kernel, arch, module_set, targets or files, jobs=jobs, deadline=deadline)
    prebuilt.check_traceable(module_set, files)
    prebuilt.check_untraced(module_set, kernel.system_map)
    prebuilt.check_unloadable(files)
    for name, data in files.items():
        exported |= prebuilt.exports(data, f"{name}.ko")
    table = relocation.table(arch.relocations)
    layout, compared = None, []
    if any(spec.kind == "livepatch" for spec in module_set.modules):
        layout = declared.layout(kernel, arch, jobs=jobs, deadline=deadline)
    for spec in module_set.modules:
        data = files[spec.name]
        elf = reader.read(data, f"{spec.name}.ko")
        reader.expect_machine(elf, arch.elf_machine, arch.byte_order, f"{spec.name}.ko")
        prebuilt.check_kind(elf, spec, f"{spec.name}.ko")
        prebuilt.check_enables(elf, spec, f"{spec.name}.ko")
        if spec.klp_symbols:
            symbols, elsewhere = _klp_symbols(spec, files)
            place = module_set.directory / "set.toml"
            name = f"{place}: klp_symbols of {spec.name}: {spec.name}.ko"
            bound = _bound(elf, symbols, files)
            data = klp.convert(
                data, symbols, elsewhere=elsewhere, table=table, bound=bound, name=name
            )
        _refuse_unresolved(spec, data, exported)
        if (
            spec.kind == "livepatch"
            and layout is not None
            and declared.check(spec, data, layout, module_set.directory / "set.toml")
        ):
            compared.append(spec.name)
        prebuilt.check_depends(data, spec, f"{spec.name}.ko")
        data = _laid_out(spec, data, table)
        data = delivery.signed(kernel, data, f"{spec.name}.ko")
        (tmp / f"{spec.name}.ko").write_bytes(data)
    (tmp / COMPARED).write_text("".join(f"{name}\n" for name in compared))
    made = read(module_set, tmp, arch)
    prebuilt.check_symbols(made, kernel.system_map)
    prebuilt.check_steps(made, kernel.system_map, arch)


def _made(
    record: Path, kernel: Kernel, arch: Arch, module_set: ModuleSet, jobs: int, deadline: Deadline
) -> Mapping[str, bytes]:
    """Module name -> .ko, of those that are built here or came with the kernel's own build.

    record: where what was drawn in from elsewhere is noted.
    """
    if not _of_sources(module_set):
        return {}
    if module_set.in_tree:
        return _in_tree(kernel, module_set)
    with run_dir("modules") as scratch:
        began = time.time_ns()
        made = _make(scratch, kernel, arch, module_set, jobs, deadline)
        kernels = (kernel.build_tree, kernel.source_tree)
        outside.write(record, scratch / "set", (scratch, *kernels), kernel.build_tree, began)
    return made


def _make(
    scratch: Path,
    kernel: Kernel,
    arch: Arch,
    module_set: ModuleSet,
    jobs: int,
    deadline: Deadline,
) -> Mapping[str, bytes]:
    """Module name -> the .ko file that kbuild made of our sources."""
    for name, path in _sources(module_set).items():
        (scratch / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, scratch / name)
    outoftree.make(
        kernel,
        arch,
        scratch / "set",
        what=f"module set {module_set.name}",
        jobs=jobs,
        deadline=deadline,
        log=workdir.whole(workdir.LOGS) / f"modules-{_short(module_set.name)}-{arch.name}.log",
    )
    wanted = _of_sources(module_set)
    return _collect(wanted, scratch / "set", f"{module_set.directory}/Kbuild builds no")


def _in_tree(kernel: Kernel, module_set: ModuleSet) -> Mapping[str, bytes]:
    """Module name -> the .ko file that came with the kernel's own build."""
    directory = kernel.build_tree / module_set.in_tree
    return _collect(
        _of_sources(module_set),
        directory,
        f"the kernel's {module_set.in_tree} has no",
        "the kernel's .config must ask for it as a module",
    )


def _collect(
    wanted: Sequence[ModuleSpec], directory: Path, complaint: str, hint: str = ""
) -> Mapping[str, bytes]:
    # A file may be called a-b.ko; its module's name is a_b (scripts/Makefile.lib, modname).
    found = {path.stem.replace("-", "_"): path for path in directory.glob("*.ko")}
    for spec in wanted:
        if spec.name not in found:
            raise BuildError(
                f"{complaint} {spec.name}.ko", hint=hint or f"add {spec.name}.o to obj-m"
            )
    return {spec.name: found[spec.name].read_bytes() for spec in wanted}


def _laid_out(spec: ModuleSpec, data: bytes, table: relocation.Table) -> bytes:
    """The module with the room that set.toml asks for, its code where that says."""
    if spec.ours or not (spec.room or spec.page_end):
        return data
    elf = reader.read(data, f"{spec.name}.ko")
    if spec.page_end:
        elf = room.at_page_end(elf, table, f"{spec.name}.ko")
    return writer.write(room.enlarged(elf, room.said(spec.room or Room())))


# --- converting --------------------------------------------------------------------------------


def _klp_symbols(
    spec: ModuleSpec, files: Mapping[str, bytes]
) -> tuple[tuple[KlpSymbol, ...], Mapping[KlpSymbol, str]]:
    """What set.toml asks for, "auto" resolved against the object's own .ko; and of the symbols of
    other modules, "MODULE:NAME", the object that asks for them."""
    symbols, elsewhere = [], {}
    for object_name, entries in spec.klp_symbols.items():
        for entry in entries:
            name, _, sympos = entry.rpartition(":")[2].partition(",")
            owner = entry.rpartition(":")[0] or object_name
            if entry == AUTO:
                continue
            if sympos and not sympos.isdecimal():
                raise UsageError(
                    f"{spec.name}: klp_symbols of {object_name}: {entry!r} is no symbol",
                    hint='write "NAME", or "NAME,1" for the first of several of that name',
                )
            symbols.append(KlpSymbol(owner, name, int(sympos or 0)))
            if owner != object_name:
                elsewhere[symbols[-1]] = object_name
    given = {symbol.name for symbol in symbols}
    for object_name, entries in spec.klp_symbols.items():
        if AUTO in entries:
            if object_name not in files:
                raise BuildError(
                    f'{spec.name}: "{AUTO}" needs a module, and the set has no {object_name}',
                    hint="name the symbols one by one in klp_symbols",
                )
            symbols += klp.auto_symbols(
                files[spec.name], files[object_name], object_name, given=given
            )
    return tuple(symbols), elsewhere


def _bound(elf: Elf, symbols: Collection[KlpSymbol], files: Mapping[str, bytes]) -> frozenset[str]:
    """The objects that the livepatch needs first all the same: they export what it leaves undefined
    and what is to be no klp symbol."""
    deferred = {symbol.name for symbol in symbols}
    needed = {s.name for s in elf.symbols if s.shndx == SHN_UNDEF and s.name not in deferred}
    objects = {symbol.object for symbol in symbols} & files.keys()
    return frozenset(o for o in objects if needed & prebuilt.exports(files[o], f"{o}.ko"))


def _exported(symvers: Path) -> frozenset[str]:
    """Names in a Module.symvers: CRC, symbol, module, kind of export, namespace, tab-separated."""
    return frozenset(line.split("\t")[1] for line in symvers.read_text().splitlines())


def _refuse_unresolved(spec: ModuleSpec, data: bytes, exported: frozenset[str]) -> None:
    """What modpost would have refused, and the guest would: a symbol that nobody provides."""
    for symbol in reader.read(data, f"{spec.name}.ko").symbols:
        if (
            symbol.shndx == SHN_UNDEF
            and symbol.binding != STB_WEAK
            and symbol.name not in exported
            and symbol.name not in _NOT_NEEDED
        ):
            raise BuildError(
                f"{spec.name}.ko needs {symbol.name}, which nothing exports",
                hint=_where_from(spec),
            )


def _where_from(spec: ModuleSpec) -> str:
    """What to do about a symbol that a module needs and nobody has."""
    if spec.kind == "livepatch" and any(AUTO in entries for entries in spec.klp_symbols.values()):
        names = " and ".join(f"{name}.ko" for name, e in spec.klp_symbols.items() if AUTO in e)
        return f'"{AUTO}" takes what {names} defines: has the compiler dropped or renamed it?'
    if spec.ko:
        unconverted = " or name it in klp_symbols of set.toml" * (spec.kind == "livepatch")
        return f"was it built for this kernel, and is what exports it in the set?{unconverted}"
    return "name it, under its object, in klp_symbols of set.toml"


def _compared(directory: Path) -> Collection[str]:
    """The livepatches whose tables were compared with set.toml; of a bundle that is not known."""
    record = directory / COMPARED
    return record.read_text().split() if record.is_file() else ()


def _built(spec: ModuleSpec, directory: Path, arch: Arch) -> BuiltModule:
    path = directory / f"{spec.name}.ko"
    elf = reader.read(path.read_bytes(), path.name)
    relocations = klp.klp_relocations(elf, relocation.table(arch.relocations), path.name)
    deferred: dict[str, tuple[str, ...]] = {r.object: () for r in relocations}
    sections: dict[str, dict[str, set[str]]] = {}
    for found in relocations:
        owner = found.symbol.object
        elsewhere = f"{owner}:" if owner != found.object else ""
        entry = f"{elsewhere}{found.symbol.name},{found.symbol.sympos}"
        if entry not in deferred[found.object]:
            deferred[found.object] += (entry,)
        of_object = sections.setdefault(found.object, {})
        of_object.setdefault(found.section, set()).add(owner)
    named = {
        name: tuple(tuple(sorted(owners - {VMLINUX})) for owners in each.values())
        for name, each in sections.items()
    }
    symbols = {**deferred, **spec.klp_symbols}
    return BuiltModule(
        spec=replace(spec, klp_symbols=symbols, klp_sections=named),
        path=path,
        klp_relocations=relocations,
        symbols=reader.definitions(elf),
        taint=klpformat.own_taint(elf),
        compared=spec.name in _compared(directory),
    )
