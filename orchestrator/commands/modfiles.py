# SPDX-License-Identifier: GPL-2.0-only
"""The converter and the inspection on files: `klp-e2e convert` and `klp-e2e inspect`."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from orchestrator import catalog
from orchestrator.commands import options
from orchestrator.elf import klp, reader, relocation
from orchestrator.elf.inspection import Inspection, inspect
from orchestrator.errors import UsageError
from orchestrator.host import files, ours
from orchestrator.host.workdir import disk_errors
from orchestrator.nouns import Arch


def read_file(path: Path) -> bytes:
    """Raises UsageError for a file that cannot be read."""
    try:
        return files.read(path, files.MODULE)
    except OSError as err:
        raise UsageError(f"cannot read {path}: {err.strerror}", hint="give a .ko file") from err


def arch_of(data: bytes, name: str, arch_files: Sequence[str] = ()) -> Arch:
    """The architecture a module was built for: of these files, else of ours. Raises UsageError when
    it is none of them."""
    elf = reader.read(data, name)
    known = [*map(catalog.arch, arch_files), *catalog.arches().values()]
    for arch in known:
        if (arch.elf_machine, arch.byte_order) == (elf.machine, elf.byte_order):
            return arch
    raise UsageError(
        f"{name} is for another architecture: ELF machine {elf.machine}, {elf.byte_order} endian",
        hint=f"known: {', '.join(arch.name for arch in known)}; --arch-file adds one",
    )


def convert(
    source: Path,
    goal: Path,
    object_name: str | None,
    symbols: Sequence[str],
    auto: Path | None,
    arch_files: Sequence[str] = (),
    *,
    force: bool = False,
) -> int:
    """Write `goal`, `source` with its relocations against the symbols deferred; their number.

    With `auto` every undefined symbol which that module defines is added, and the object's name is
    by default that of the file. force: also where a file is.
    """
    name = object_name or (auto.stem if auto else None)
    if name is None or not (symbols or auto):
        raise UsageError(
            "convert needs to know which symbols belong to which object",
            hint="--object M --symbol NAME[,SYMPOS]..., or --auto TARGET.ko",
        )
    data = read_file(source)
    arch = arch_of(data, str(source), arch_files)
    wanted = options.klp_symbols(name, symbols)
    if auto is not None:
        given = {symbol.name for symbol in wanted}
        wanted += klp.auto_symbols(data, read_file(auto), name, given=given)
    if not wanted:
        raise UsageError(
            f"{source} has no undefined symbol that {auto} defines",
            hint="nothing is to be deferred; is it the right target?",
        )
    table = relocation.table(arch.relocations)
    made = klp.convert(data, wanted, table=table, name=str(source))
    with disk_errors(f"cannot write {goal}"):
        write_atomically(goal, made, force=force)
    return len(wanted)


def write_atomically(path: Path, data: bytes, *, force: bool) -> None:
    """A module that is there is whole. Raises UsageError where a file is there and is not to be
    written over, OSError."""
    if not path.parent.is_dir():
        raise UsageError(f"{path.parent} is not a directory", hint="create it first")
    if os.path.lexists(path) and not force:
        raise UsageError(f"{path} is there already", hint="--force writes over it")
    with ours.replacing(path) as partial:
        partial.write_bytes(data)


def examine(path: Path, arch_files: Sequence[str] = ()) -> tuple[Inspection, Arch]:
    """Raises UsageError for what is no module of a known architecture."""
    data = read_file(path)
    arch = arch_of(data, str(path), arch_files)
    return inspect(data, table=relocation.table(arch.relocations), name=str(path)), arch


def as_json(inspection: Inspection) -> str:
    """Fields as in `Inspection`; bytes in hex."""
    plain = {**asdict(inspection), "well_formed": inspection.well_formed}
    return json.dumps(plain, indent=2, default=bytes.hex)


def as_text(inspection: Inspection, arch: Arch) -> str:
    """Sections, relocations, symbols, then each violation with its rule."""
    lines = [f"module {inspection.module or '(no name)'} for {arch.name}", "", "klp sections:"]
    lines += [f"  {s.name}: {s.entries} entries" for s in inspection.sections] or ["  none"]
    lines += ["", "klp relocations:"]
    for found in inspection.relocations:
        row = arch.relocation(found.type)
        lines.append(
            f"  {found.applies_to}+{found.offset:#x} {row.name if row else found.type} "
            f"{found.symbol or found.symbol_name} {found.addend:+#x}"
        )
    lines += [] if inspection.relocations else ["  none"]
    lines += ["", "klp symbols:"]
    lines += [f"  {s.name}: used {s.uses} times" for s in inspection.symbols] or ["  none"]
    lines += ["", "violations:"]
    lines += [
        f"  {'warning' if v.warning else 'ERROR'} [{v.rule}] {v.where}: {v.text}"
        for v in inspection.violations
    ] or ["  none"]
    return "\n".join(lines)
