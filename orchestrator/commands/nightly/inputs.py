# SPDX-License-Identifier: GPL-2.0-only
"""What the kernels of a night are made from: looked up before it begins, and kept with it.

NIGHT/inputs/KERNEL.config          the final configuration
NIGHT/inputs/series/KERNEL/         the patches, as one quilt directory
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import UsageError
from orchestrator.history.nights import Job, KernelInput
from orchestrator.host import files, ours
from orchestrator.report import documents, store
from orchestrator.report.store import write_errors
from orchestrator.source import series
from orchestrator.source.patches import Patch
from orchestrator.source.sources import fetch

INPUTS = Path("inputs")
SERIES = INPUTS / "series"
LIST = "series"  # of the patches' names, as quilt has it


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a kernel before it is built."""

    source: str  # which is the same in all of the night, though its branch may move
    source_version: str
    patches: tuple[Patch, ...]
    commit: str = ""  # in full; "" where the source is none of git's

    @property
    def digests(self) -> Mapping[str, str]:
        """File name -> digest, in the order applied; a name that two series have gets a number."""
        found: dict[str, str] = {}
        for name, patch in zip(names(self.patches), self.patches, strict=True):
            found[name] = patch.digest
        return found


def look(job: Job, say: Callable[[str], None]) -> Facts:
    """Raises UsageError and HarnessError: no such source or series, or it cannot be had."""
    tree = fetch(job.source, say=say)
    patches = [patch for name in job.series for patch in series.resolve(name, tree.kernel).patches]
    return Facts(tree.exact, tree.version, tuple(patches), tree.revision)


def names(patches: tuple[Patch, ...]) -> tuple[str, ...]:
    """File names, no two the same."""
    found: dict[str, None] = {}
    for patch in patches:
        name, number = Path(patch.name).name, 1
        while name in found or name == LIST:
            number += 1
            name = f"{number}-{Path(patch.name).name}"
        found[name] = None
    return tuple(found)


def slug(job: Job) -> str:
    """KERNEL and architecture as a file name."""
    return job.name.rpartition("/")[0].replace("/", ".")


def keep_series(place: Path, job: Job, facts: Facts) -> None:
    """The patches in the night's directory, to be bisected when they are no longer what they were.

    Raises HarnessError when they cannot be written, NotOurs where they would lie elsewhere.
    """
    kept = place / SERIES / slug(job)
    if not facts.patches or (kept / LIST).exists():
        return
    with write_errors(kept):
        for name, patch in zip(names(facts.patches), facts.patches, strict=True):
            with ours.replacing(ours.below(kept / name, place)) as file:
                file.write_bytes(patch.raw)
    store.write(kept / LIST, "".join(f"{name}\n" for name in facts.digests))


def is_kept(place: Path, file: Path) -> bool:
    """Is it one of the files that a night keeps of its kernels?"""
    if file.parent == place / INPUTS:
        return file.suffix == ".config"
    if file.parent.parent != place / SERIES:
        return False
    try:
        listed = files.read(file.parent / LIST, files.TABLE).decode().splitlines()
    except (OSError, ValueError):
        return False
    return file.name in (LIST, *listed)


def of_run(place: Path, job: Job, facts: Facts) -> KernelInput | None:
    """What the job's kernel was made from, with its configuration kept in the night's directory;
    None where the job got no kernel."""
    try:
        run = documents.run_in(place / "jobs" / job.name)
    except UsageError:  # its rows tell
        return None
    kernel = next((kernel for kernel in run.kernels if kernel.arch == job.arch), None)
    if kernel is None:
        return None
    config = INPUTS / f"{slug(job)}.config"
    with write_errors(place / config):
        if kernel.config.is_file() and ours.marked(kernel.config.parent, ours.MarkKind.ENTRY):
            with ours.replacing(ours.below(place / config, place)) as file:
                shutil.copyfile(kernel.config, file)
    return KernelInput(
        kernel=job.kernel,
        arch=job.arch,
        source_version=kernel.source_version,
        release=kernel.release,
        patches=facts.digests,
        config=str(config) if (place / config).exists() else "",
        compiler=kernel.compiler,
        qemu=run.qemu.get(job.arch, ""),
        commit=facts.commit[:12],
        configs=kernel.configs,
    )


def differences(version: str, now: Mapping[str, str], before: KernelInput) -> str:
    """What is not as it was, in words; "" when nothing is. version: the source's; now: digests of
    patches by name."""
    found = []
    if version != before.source_version:
        found.append(f"{before.source_version} is {version} now")
    found += [f"{name} is new" for name in now if name not in before.patches]
    found += [f"{name} is gone" for name in before.patches if name not in now]
    found += [f"{n} has changed" for n in now if before.patches.get(n, now[n]) != now[n]]
    return "; ".join(found)


def known(place: Path, job: Job) -> Path | None:
    """The patches that a night of ours kept of the job's kernel, a quilt directory, where it has
    them: they are built, and what is built runs, so that a copy of another's night will not do."""
    kept = place / SERIES / slug(job)
    mine = ours.marked(place, ours.MarkKind.NIGHT) and ours.proven(kept / LIST, place)
    return kept if mine and (kept / LIST).is_file() else None
