# SPDX-License-Identifier: GPL-2.0-only
"""The filler that the harness adds to a module set which has nothing to move its targets with."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from orchestrator import catalog
from orchestrator.build import outoftree
from orchestrator.deadline import Deadline
from orchestrator.elf import reader
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
) -> bytes:
    """The .ko, with as many pages of each kind of memory as the smallest of `targets` takes: it
    fits where any of them was, and none of them fits there beside it. Raises BuildError."""
    sizes = smallest([footprint(reader.read(ko, f"{n}.ko")) for n, ko in targets.items()])
    variables = [f"{kind.upper()}={size}" for kind, size in sizes._asdict().items()]
    with run_dir("filler") as scratch:
        for name, path in sources().items():
            shutil.copyfile(path, scratch / name)
        what = f"the filler of module set {module_set.name}"
        outoftree.make(
            kernel, arch, scratch, *variables, what=what, jobs=jobs, deadline=deadline, log=log
        )
        return (scratch / f"{FILLER}.ko").read_bytes()
