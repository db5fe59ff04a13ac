# SPDX-License-Identifier: GPL-2.0-only
"""Modules of the harness's own, which take memory and do nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from orchestrator import catalog
from orchestrator.build import outoftree
from orchestrator.deadline import Deadline
from orchestrator.elf import reader, room, writer
from orchestrator.elf.footprint import footprint, smallest
from orchestrator.host.rundir import run_dir
from orchestrator.model.movers import FILLER
from orchestrator.nouns import Arch, Kernel, ModuleSet


def sources() -> Mapping[str, Path]:
    """What it is built from, by name."""
    return {path.name: path for path in sorted(catalog.data_dir("images/filler").iterdir())}


def build(
    kernel: Kernel,
    arch: Arch,
    module_set: ModuleSet,
    targets: Mapping[str, bytes],
    *,
    jobs: int,
    deadline: Deadline,
    log: Path,
) -> Mapping[str, bytes]:
    """Name -> .ko of each that the set has: of the sizes that set.toml says, or where it says none
    as large as the smallest of `targets`: it fits where any of them was. Raises BuildError."""
    ours = [spec for spec in module_set.modules if spec.ours]
    if not ours:
        return {}
    own = reader.read(_made(kernel, arch, module_set, jobs, deadline, log), f"{FILLER}.ko")
    place = smallest([footprint(reader.read(ko, f"{n}.ko")) for n, ko in targets.items()])
    found = {}
    for spec in ours:
        asked = room.said(spec.room) if spec.room is not None else None
        more = asked if asked and any(asked) else room.to_fill(place, footprint(own))
        made = room.renamed(room.enlarged(own, more), FILLER, spec.name)
        found[spec.name] = writer.write(made)
    return found


def _made(
    kernel: Kernel, arch: Arch, module_set: ModuleSet, jobs: int, deadline: Deadline, log: Path
) -> bytes:
    """The filler as it is built: with next to nothing in it."""
    with run_dir("filler") as scratch:
        for name, path in sources().items():
            shutil.copyfile(path, scratch / name)
        what = f"the filler of module set {module_set.name}"
        outoftree.make(kernel, arch, scratch, what=what, jobs=jobs, deadline=deadline, log=log)
        return (scratch / f"{FILLER}.ko").read_bytes()
