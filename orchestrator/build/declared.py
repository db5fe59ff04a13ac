# SPDX-License-Identifier: GPL-2.0-only
"""Does a livepatch say of itself what set.toml says of it? Asked before anything is booted: a
difference would look like a fault of the kernel's."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from orchestrator import catalog
from orchestrator.build import outoftree
from orchestrator.deadline import Deadline
from orchestrator.elf import patchtable, reader
from orchestrator.elf.patchtable import Layout, PatchTable
from orchestrator.errors import UsageError
from orchestrator.model.state import sysfs_name
from orchestrator.nouns import Arch, Kernel, ModuleSpec

_NAME = "klp_e2e_layout.ko"


def layout(kernel: Kernel, arch: Arch, *, jobs: int, deadline: Deadline) -> Layout:
    """Where this kernel's livepatch structures have what; compiled once. Raises BuildError."""
    source = catalog.data_dir("images/layout")
    what = "what tells of struct klp_patch"
    made = outoftree.once(kernel, arch, source, what=what, jobs=jobs, deadline=deadline)
    return patchtable.layout(reader.read(made, _NAME), _NAME)


def check(spec: ModuleSpec, data: bytes, layout: Layout, toml: Path) -> bool:
    """Whether a livepatch's own tables say what set.toml says; False where they are made while it
    loads: it is taken as it is then. Raises UsageError for the first difference, naming both."""
    ko = f"{spec.name}.ko"
    elf = reader.read(data, ko)
    ready = patchtable.prepared(elf, ko)
    found = patchtable.tables(elf, layout, ko) if ready is None else (ready,)
    # the first of each alone: to find them all takes the square of their number
    firsts = [next(_differences(spec, table, toml), None) for table in found]
    wrong_ones = [first for first in firsts if first is not None]
    if found and len(wrong_ones) == len(found):
        wrong, hint = wrong_ones[0]
        raise UsageError(f"{spec.name}.ko {wrong}", hint=hint)
    if not found and any(
        next(_differences(spec, table, toml), None) is None
        for table in patchtable.ownerless(elf, layout, ko)
    ):
        raise UsageError(
            f"{ko} has a struct klp_patch whose .mod is NULL: no kernel enables it",
            hint="write .mod = THIS_MODULE",
        )
    return len(found) == 1  # of several it may be another one that it gives to the kernel


def _differences(spec: ModuleSpec, table: PatchTable, toml: Path) -> Iterator[tuple[str, str]]:
    """(what, hint) of each."""
    if table.unended:
        yield (
            f"has an array {table.unended} that no empty entry ends: the kernel reads what lies "
            "behind it",
            "end each array of struct klp_func and struct klp_object with { }",
        )
    for name, times in Counter(name for name, _ in table.objects).items():
        if times > 1:
            yield (
                f"has {times} entries of struct klp_object for {name}",
                "put their functions into one: sysfs has one directory for each object",
            )
    theirs = {
        name: [sysfs_name(f"{f.name},{f.sympos}") for f in functions]
        for name, functions in table.objects
    }
    ours = {name: [sysfs_name(f) for f in functions] for name, functions in spec.patches.items()}
    for name in theirs.keys() - ours.keys():
        close = _close(name, ours)
        yield (
            f"patches {name}, and {toml} says it patches {_list(ours)}",
            f"is {close} meant? correct `.name` of its struct klp_object, or set.toml"
            if close
            else f"add `{name} = [{_quoted(theirs[name])}]` to [modules.patches] of {spec.name}",
        )
    for name in ours.keys() - theirs.keys():
        yield (
            f"patches {_list(theirs)}, and {toml} says it patches {name}",
            f"take {name} out of [modules.patches] of {spec.name}, or give it a struct klp_object",
        )
    for name in ours.keys() & theirs.keys():
        yield from _functions(name, theirs[name], ours[name], spec, toml)
    for name, functions in table.objects:
        for function in functions:
            if not function.new:
                yield (
                    f"has no .new_func for {function.name or 'a function without a name'} of "
                    f"{name}: no kernel enables it",
                    "say what is called in its place",
                )
    if table.replace is not None and table.replace != spec.replace:
        yield (
            f"has .replace = {str(table.replace).lower()}, and {toml} says "
            f"{str(spec.replace).lower()}",
            f"write replace = {str(table.replace).lower()} for {spec.name}, or correct the code",
        )
    yield from _states(table, spec, toml)


def _states(table: PatchTable, spec: ModuleSpec, toml: Path) -> Iterator[tuple[str, str]]:
    """By them the kernel enables a livepatch over others or not (klp_is_patch_compatible())."""
    if table.replace is None:
        return  # klp-build's livepatches have none (scripts/livepatch/init.c)
    if table.states is None:
        yield (
            "has .states that cannot be read from it",
            "make them a table of struct klp_state beside its struct klp_patch, filled where it is "
            "defined and ended by an empty one",
        )
        return
    for number, times in Counter(number for number, _ in table.states).items():
        if times > 1:
            yield f"has {times} entries of struct klp_state for {number}", "give each id one"
    theirs = {str(number): version for number, version in table.states}
    if theirs != dict(spec.states):
        ours = ", ".join(f'"{number}" = {version}' for number, version in theirs.items())
        yield (
            f"has .states {_versions(theirs)}, and {toml} says {_versions(spec.states)}",
            f"write states = {{ {ours} }} for {spec.name}, or correct the code",
        )


def _functions(
    name: str, theirs: list[str], ours: list[str], spec: ModuleSpec, toml: Path
) -> Iterator[tuple[str, str]]:
    for function, times in Counter(theirs).items():
        if times > 1:
            yield (
                f"replaces {function} of {name} {times} times",
                "name each function once: sysfs has one directory for each",
            )
    for function in (f for f in theirs if f not in ours):
        close = _close(function, (f for f in ours if f not in theirs))
        yield (
            f"replaces {function} of {name}, and {toml} says it replaces {_list(ours)}",
            f"is {close} meant? correct `.old_name` or `.old_sympos` of its struct klp_func, "
            "or set.toml"
            if close
            else f'add "{function.removesuffix(",1")}" to patches.{name} of {spec.name}',
        )
    for function in (f for f in ours if f not in theirs):
        yield (
            f"replaces {_list(theirs)} of {name}, and {toml} says it replaces {function}",
            f"take it out of patches.{name} of {spec.name}, or give it a struct klp_func",
        )


def _close(name: str, known: Iterable[str]) -> str:
    return next(iter(difflib.get_close_matches(name, list(known), n=1)), "")


def _versions(states: Mapping[str, int]) -> str:
    return _list(f"{number} of version {version}" for number, version in sorted(states.items()))


def _list(names: Iterable[str]) -> str:
    return ", ".join(names) or "nothing"


def _quoted(functions: Iterable[str]) -> str:
    return ", ".join(f'"{function.removesuffix(",1")}"' for function in functions)
