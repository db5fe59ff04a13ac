# SPDX-License-Identifier: GPL-2.0-only
"""What went into a night and is not what went into the one before. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from orchestrator.history.nights import InputChange, KernelInput, Night
from orchestrator.nouns import set_title

# (kernel, architecture) -> options of its final .config, before and now
Configs = Mapping[tuple[str, str], tuple[Mapping[str, str], Mapping[str, str]]]

DIGEST = 12  # digits of a patch's digest, enough to tell two apart
UNREAD = "applied"  # instead, of a patch whose digest was not recorded


def inputs(now: Night, before: Night, configs: Configs) -> tuple[InputChange, ...]:
    """What holds for all first, then module sets that are not ours, then kernel by kernel. Where
    one of two values was not recorded nothing is said of it; of options only where both nights kept
    their .config."""
    changes = [
        InputChange("", "", what, old, new)
        for what, old, new in (
            ("klp-e2e", before.tool, now.tool),
            ("host", before.host, now.host),
        )
        if old and new and old != new
    ]
    changes += _sets(before, now)
    old_kernels = {(k.kernel, k.arch): k for k in before.kernels}
    new_kernels = {(k.kernel, k.arch): k for k in now.kernels}
    for kernel, arch in dict.fromkeys([*old_kernels, *new_kernels]):
        old_one, new_one = old_kernels.get((kernel, arch)), new_kernels.get((kernel, arch))
        if old_one is None or new_one is None:
            versions = (one.source_version if one else "" for one in (old_one, new_one))
            changes.append(InputChange(kernel, arch, "kernel", *versions))
            continue
        lines = [*_kernel(old_one, new_one), *_options(*configs.get((kernel, arch), ({}, {})))]
        changes += [InputChange(kernel, arch, *line) for line in lines]
    return tuple(changes)


def _sets(before: Night, now: Night) -> Iterator[InputChange]:
    """A set goes by its name, so that the same one in another place is the same; a set that holds
    something else is told."""
    old, new = _contents(before), _contents(now)
    for arch, name in new:
        if (one := old.get((arch, name), "")) and one != (other := new[arch, name]):
            yield InputChange("", arch, f"module set {name}", one, other)


def _contents(night: Night) -> Mapping[tuple[str, str], str]:
    """(architecture, module set that is not ours) -> digest of what it holds; several, where it was
    written to in that night."""
    arches = {record.job.name: record.job.arch for record in night.jobs}
    found: dict[tuple[str, str], dict[str, None]] = {}
    for row in night.rows:
        if row.content:
            key = arches.get(row.job, ""), set_title(row.module_set)
            found.setdefault(key, {})[row.content[:DIGEST]] = None
    return {key: " ".join(sorted(contents)) for key, contents in found.items()}


def _kernel(old: KernelInput, new: KernelInput) -> Iterator[tuple[str, str, str]]:
    """(what, before, now) of sources and tools."""
    for what, one, other in (
        ("source version", old.source_version, new.source_version),
        ("compiler", old.compiler, new.compiler),
        ("QEMU", old.qemu, new.qemu),
    ):
        if one and other and one != other:
            yield what, one, other
    if old.configs != new.configs:
        yield "configuration", " ".join(old.configs), " ".join(new.configs)
    for name in dict.fromkeys([*old.patches, *new.patches]):
        one, other = (_digest(each.patches, name) for each in (old, new))
        if one != other and (UNREAD not in (one, other) or not (one and other)):
            yield f"patch {name}", one, other
    were = [name for name in old.patches if name in new.patches]
    are = [name for name in new.patches if name in old.patches]
    if were != are:
        yield "order of patches", " ".join(were), " ".join(are)


def _digest(patches: Mapping[str, str], name: str) -> str:
    """How a patch is shown; "": it is not there."""
    return (patches[name][:DIGEST] or UNREAD) if name in patches else ""


def _options(old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Options without a value are off."""
    for name in sorted({*old, *new}):
        one, other = old.get(name, "n"), new.get(name, "n")
        if one != other:
            yield f"CONFIG_{name}", one, other
