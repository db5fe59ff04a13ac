# SPDX-License-Identifier: GPL-2.0-only
"""What has to be loaded before a module, and what can take the memory that it left, so that it
comes back at another address. Pure.

A target that always comes back where it was proves little: a GOT slot or a stub of its old address
is right by luck.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace

from orchestrator.model.state import owners
from orchestrator.nouns import (
    VMLINUX,
    Burst,
    ModuleSet,
    ModuleSpec,
    Race,
    Room,
    Unload,
    set_title,
)
from orchestrator.verdicts import Answers, CaseResult, Reading

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


def unmoved(results: Iterable[CaseResult]) -> tuple[str, ...]:
    """`ARCH SET: TARGET` of each target that was loaded again in some order, and in every one came
    back to the very address that it had: what a stale slot or stub does then was not seen."""
    moved: dict[str, bool] = {}
    for result in results:
        for target, places in _places(result).items():
            if len(places) > 1:
                name = f"{result.arch} {set_title(result.case.module_set)}: {target}"
                moved[name] = moved.get(name, False) or _differ(places.values())
    return tuple(name for name, has in moved.items() if not has)


def has_moved(results: Iterable[CaseResult]) -> bool:
    """Did a target come back to another address than it had?"""
    return any(
        _differ(places.values()) for result in results for places in _places(result).values()
    )


def _places(result: CaseResult) -> dict[str, dict[int, dict[str, int]]]:
    """Target -> which time it was loaded -> where its symbols were, by what was read back."""
    unloaded: Counter[str] = Counter()
    found: dict[str, dict[int, dict[str, int]]] = {}
    for event, step in zip(result.case.order.events, result.steps, strict=False):
        for check in step.checks:
            match check.detail:
                case Reading(object=name, symbol=symbol, symbol_address=int(address)):
                    if symbol.object == name and name != VMLINUX:
                        here = found.setdefault(name, {}).setdefault(unloaded[name], {})
                        here[str(symbol)] = address
        answers = [c.detail for c in step.checks if isinstance(c.detail, Answers)]
        if not any(any(each.seen_errnos) for each in answers):  # it went
            several = event.events if isinstance(event, Race | Burst) else (event,)
            unloaded.update(each.module for each in several if isinstance(each, Unload))
    return found


def _differ(places: Iterable[dict[str, int]]) -> bool:
    """Was a symbol at more than one address?"""
    seen: dict[str, int] = {}
    return any(
        seen.setdefault(name, address) != address
        for place in places
        for name, address in place.items()
    )


def completed(module_set: ModuleSet) -> ModuleSet:
    """The set with each module as often as it says, and with a filler of ours where a target of a
    livepatch has nothing to move it."""
    modules = tuple(copy for spec in module_set.modules for copy in _copies(spec))
    module_set = replace(module_set, modules=modules)
    fixed = any(
        not movers(module_set, target, spec.name)
        for spec in module_set.modules
        for target in spec.patches
        if target != VMLINUX and module_set.module(target) is not None
    )
    if not fixed or module_set.module(FILLER) is not None:
        return module_set
    return replace(module_set, modules=(*modules, ModuleSpec(FILLER, "plain", room=Room())))


def _copies(spec: ModuleSpec) -> Iterator[ModuleSpec]:
    for name in copies(spec):
        yield spec if name == spec.name else replace(spec, name=name, copies=1, copy_of=spec.name)


def copies(spec: ModuleSpec) -> tuple[str, ...]:
    """What the modules are called that one of a set.toml stands for: `NAME_1`, ... of several."""
    if spec.copies == 1:
        return (spec.name,)
    return tuple(f"{spec.name}_{number}" for number in range(1, spec.copies + 1))
