# SPDX-License-Identifier: GPL-2.0-only
"""What has to be loaded before a module, and what can take the memory that it left, so that it
comes back at another address. Pure.

A target that always comes back where it was proves little: a GOT slot or a stub of its old address
is right by luck.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from orchestrator.model.state import owners
from orchestrator.nouns import VMLINUX, ModuleSet, ModuleSpec

FILLER = "klp_e2e_filler"  # images/filler: of the harness's own, for sets that have nothing to move
# their targets with


def needed(module_set: ModuleSet, names: Iterable[str]) -> list[str]:
    """What these modules need, without themselves, in a sequence in which it can be loaded: whose
    exports they use, and whose symbols a livepatch's klp relocations name."""
    found: list[str] = []
    seen = set(names)

    def add(name: str) -> None:
        spec = module_set.module(name)
        for each in _needs(spec) if spec is not None else ():
            if each not in seen:
                seen.add(each)
                add(each)
                found.append(each)

    for name in tuple(seen):
        add(name)
    return found


def _needs(spec: ModuleSpec) -> Iterator[str]:
    yield from spec.depends
    for name in spec.patches:
        for section in owners(spec, name):
            yield from (owner for owner in section if owner != name)


def movers(module_set: ModuleSet, target: str, livepatch: str) -> list[str]:
    """The modules that can be loaded where `target` was: the set's plain ones, else other targets.
    None of them needs the target, or is needed by it or the livepatch."""
    bound = {target, *needed(module_set, (target, livepatch))}
    free = [
        spec
        for spec in module_set.modules
        if spec.kind != "livepatch"
        and spec.name not in bound
        and target not in needed(module_set, (spec.name,))
    ]
    plain = [spec.name for spec in free if spec.kind == "plain"]
    return plain or [spec.name for spec in free]


def with_filler(module_set: ModuleSet) -> ModuleSet:
    """The set, with a filler of ours where a target of a livepatch has nothing to move it."""
    fixed = any(
        not movers(module_set, target, spec.name)
        for spec in module_set.modules
        for target in spec.patches
        if target != VMLINUX and module_set.module(target) is not None
    )
    if not fixed or module_set.module(FILLER) is not None:
        return module_set
    return replace(module_set, modules=(*module_set.modules, ModuleSpec(FILLER, "plain")))
