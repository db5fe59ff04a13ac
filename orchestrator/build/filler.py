# SPDX-License-Identifier: GPL-2.0-only
"""Modules of the harness's own, which take memory and do nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from orchestrator import catalog
from orchestrator.build import outoftree
from orchestrator.deadline import Deadline
from orchestrator.elf import reader, room, writer
from orchestrator.elf.footprint import footprint, smallest
from orchestrator.model.movers import FILLER
from orchestrator.nouns import Arch, Kernel, ModuleSet


def sources() -> Path:
    """The directory of what it is built from."""
    return catalog.data_dir("images/filler")


def build(
    kernel: Kernel,
    arch: Arch,
    module_set: ModuleSet,
    targets: Mapping[str, bytes],
    *,
    jobs: int,
    deadline: Deadline,
) -> Mapping[str, bytes]:
    """Name -> .ko of each that the set has: of the sizes that set.toml says, or where it says none
    as large as the smallest of `targets`: it fits where any of them was. Raises BuildError."""
    ours = [spec for spec in module_set.modules if spec.ours]
    if not ours:
        return {}
    made = outoftree.once(kernel, arch, sources(), what="the filler", jobs=jobs, deadline=deadline)
    own = reader.read(made, f"{FILLER}.ko")
    place = smallest([footprint(reader.read(ko, f"{n}.ko")) for n, ko in targets.items()])
    found = {}
    for spec in ours:
        asked = room.said(spec.room) if spec.room is not None else None
        more = asked if asked and any(asked) else room.to_fill(place, footprint(own))
        larger = room.renamed(room.enlarged(own, more), FILLER, spec.name)
        found[spec.name] = writer.write(larger)
    return found
