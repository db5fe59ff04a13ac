# SPDX-License-Identifier: GPL-2.0-only
"""Everything a guest needs, built or taken from the cache: kernel, module sets, userland."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator import catalog
from orchestrator.build import emulator, image, kernel, modules, prebuilt
from orchestrator.deadline import Deadline
from orchestrator.errors import UsageError
from orchestrator.model.known import KnownIssue
from orchestrator.nouns import Arch, BuiltSet, Kernel, ModuleSet

Say = Callable[[str], None]
Advance = Callable[[str, int, int], None]

BUILD_SECONDS = 4 * 3600.0  # a cold kernel build on a slow, busy machine
SET_SECONDS = 900.0


@dataclass(frozen=True, slots=True)
class Bootable:
    """One architecture, ready to boot."""

    arch: Arch
    kernel: Kernel
    sets: Mapping[str, BuiltSet]  # by the name cases use
    userland: Path  # image.base()
    known_issues: tuple[KnownIssue, ...]


def kernels(
    arches: Sequence[Arch],
    *,
    source: str,
    series: Sequence[str],
    jobs: int,
    say: Say,
    advance: Advance,
    without: Collection[str] = (),
) -> tuple[Kernel, ...]:
    """One kernel an architecture, in turn: each build uses all jobs by itself.

    without: options that are not asked for.
    """
    return tuple(
        kernel.build(
            arch,
            source,
            series,
            jobs=jobs,
            deadline=Deadline.after(BUILD_SECONDS),
            say=say,
            progress=_onto(advance, f"building {arch.name} kernel"),
            without=without,
        )
        for arch in arches
    )


def _onto(advance: Advance, task: str) -> Callable[[int, int, str], None]:
    return lambda done, total, _file: advance(task, done, total)


def bootables(
    arches: Sequence[Arch],
    *,
    source: str,
    series: Sequence[str],
    module_sets: Sequence[str],
    known_issues: tuple[KnownIssue, ...],
    jobs: int,
    say: Say,
    advance: Advance,
) -> tuple[Bootable, ...]:
    """Raises UsageError, BuildError, MissingTool, OutOfTime; the cache keeps what is finished."""
    sets = {name: catalog.module_set(name) for name in module_sets}
    _refuse_namesakes(sets)
    for arch in arches:
        for module_set in sets.values():
            prebuilt.files(module_set, arch)  # before ten minutes of building, not after them
    # what comes from elsewhere: likewise
    userlands = [image.base(arch) for arch in arches]
    made = kernels(arches, source=source, series=series, jobs=jobs, say=say, advance=advance)
    result = []
    for arch, built, userland in zip(arches, made, userlands, strict=True):
        task = f"building {arch.name} modules"
        built_sets = {}
        for number, (name, module_set) in enumerate(sets.items()):
            advance(task, number, len(sets))
            deadline = Deadline.after(SET_SECONDS)
            built_sets[name] = modules.build(built, arch, module_set, jobs=jobs, deadline=deadline)
        advance(task, len(sets), len(sets))
        result.append(Bootable(arch, built, built_sets, userland, known_issues))
    return tuple(result)


def _refuse_namesakes(sets: Mapping[str, ModuleSet]) -> None:
    """A guest keeps the modules of each set in a directory that is named after it."""
    for module_set in sets.values():
        same = [name for name, found in sets.items() if found.name == module_set.name]
        if len(same) > 1:
            raise UsageError(
                f"{' and '.join(same)}: both module sets are named '{module_set.name}'",
                hint="run them one after the other, or rename a directory",
            )


def qemu_version(arch: Arch) -> str:
    """`QEMU emulator version 7.2.22 (Debian ...)`"""
    return emulator.version(arch)
