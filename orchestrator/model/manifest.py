# SPDX-License-Identifier: GPL-2.0-only
"""Whether a set.toml makes sense in itself: what its types cannot say. Pure."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from orchestrator.elf.room import is_size
from orchestrator.errors import UsageError
from orchestrator.model.movers import FILLER, copies
from orchestrator.model.state import COMES, GOES, replaces, sysfs_name
from orchestrator.nouns import VMLINUX, ModuleSet, ModuleSpec, Probe

CALLS = (*COMES, *GOES)
_NAME = re.compile(r"[A-Za-z0-9_]{1,55}")  # MODULE_NAME_LEN is 56
_WARNING = re.compile(r"[^\s/:]{1,255}:[1-9][0-9]{0,6} [A-Za-z_]\w{0,511}( \[\w{1,55}\])?")
COPIES = 16  # of one module
_MODULES = 64  # of a set: its usual orders are as many as the third power of that


def check(module_set: ModuleSet) -> None:
    """Raises UsageError for the first thing that is wrong, with file, place and what to do."""
    for place, wrong, hint in _problems(module_set):
        raise UsageError(f"{module_set.directory / 'set.toml'}: {place}{wrong}", hint)


_Problems = Iterator[tuple[str, str, str]]  # (place, what is wrong, what to do)


def _problems(module_set: ModuleSet) -> _Problems:
    if not module_set.modules:
        yield "", "it names no module", "give each module a [[modules]] with `name` and `kind`"
    if len(module_set.modules) > _MODULES:
        yield "", f"it has {len(module_set.modules)} modules, more than {_MODULES}", "part it"
    if module_set.in_tree.startswith("/") or ".." in module_set.in_tree.split("/"):
        yield (
            "in_tree: ",
            f"'{module_set.in_tree}' leads out of the kernel's tree",
            "name one in it",
        )
    for what, text in _words(module_set):
        if not text.isprintable():
            yield "", f"{what} {text!r} has control characters in it", "write it without"
    modules = [name for spec in module_set.modules for name in copies(spec)[:COPIES]]
    for what, named in (("module", modules), ("probe", [one.name for one in module_set.probes])):
        for name, times in Counter(named).items():
            if times > 1:
                yield "", f"{times} {what}s are named '{name}'", "rename all but one"
    if module_set.module(FILLER) is not None:
        yield f"module '{FILLER}': ", "the harness's own filler is called that", "rename it"
    for spec in module_set.modules:
        for wrong, hint in _of_module(spec, module_set):
            yield f"module '{spec.name}': ", wrong, hint
    if circle := _circle({spec.name: spec.depends for spec in module_set.modules}):
        yield (
            "depends: ",
            f"{' -> '.join(circle)}: none of them can be loaded first",
            "take one of them out: the kernel loads a module only after those it depends on",
        )
    for probe in module_set.probes:
        for wrong, hint in _of_probe(probe, module_set):
            yield f"probe '{probe.name}': ", wrong, hint


def _words(module_set: ModuleSet) -> Iterator[tuple[str, str]]:
    """(what it is, text) of all that stands on one line wherever it is shown: everything but the
    description, a probe's command, and what probes show."""
    yield "the directory's name", module_set.name
    yield "in_tree", module_set.in_tree
    if module_set.origin is not None:
        origin = module_set.origin
        yield from (("origin", text) for text in (origin.builder, origin.version, *origin.warned))
    for spec in module_set.modules:
        yield "name", spec.name
        yield "ko", spec.ko
        for key, table in (("patches", spec.patches), ("klp_symbols", spec.klp_symbols)):
            for name, entries in table.items():
                yield from ((key, text) for text in (name, *entries))
        yield from (("parameters", text) for text in spec.parameters)
        yield from (("depends", text) for text in spec.depends)
        for failure in spec.failures:
            yield from (("failures", text) for text in (failure.parameter, failure.object))
        yield from (("defects", defect.object) for defect in spec.defects)
    for probe in module_set.probes:
        for text in (
            probe.name,
            probe.object,
            probe.function,
            probe.file,
            *probe.patched,
            *probe.warns,
            *probe.warns.values(),
        ):
            yield "probe", text


def _of_module(spec: ModuleSpec, module_set: ModuleSet) -> Iterator[tuple[str, str]]:
    if _NAME.fullmatch(spec.name) is None:
        good = re.sub("[^A-Za-z0-9_]", "_", spec.name.removesuffix(".ko"))[:55]
        yield "that is no module's name", f'as `lsmod` shows it: "{good}"?'
    if spec.kind == "livepatch" and not spec.patches:
        yield (
            "a livepatch has to say what it patches",
            '[modules.patches] with a line `OBJECT = ["FUNCTION", ...]` for each object, '
            f'"{VMLINUX}" or a module',
        )
    given = ("patches", "replace", "states", "klp_symbols")
    if spec.kind != "livepatch" and (keys := ", ".join(k for k in given if getattr(spec, k))):
        yield f"{keys}: only a livepatch has that", 'kind = "livepatch"?'
    if spec.klp_sections:
        yield "klp_sections: the .ko says that, not set.toml", "leave it out"
    patching = [each.name for each in module_set.modules if spec.name in each.patches]
    if spec.kind == "plain" and patching:
        yield f"kind: it is plain, and {patching[0]} patches it", 'kind = "target"?'
    if spec.name in spec.patches:
        yield "it patches itself", "name the module that it patches"
    for number, version in spec.states.items():
        if re.fullmatch(r"[1-9][0-9]{0,19}", number) is None or int(number) >= 1 << 64:
            yield f"states: '{number}' is no id", "a number of an unsigned long, in decimal, not 0"
        if not 0 <= version < 1 << 32:
            yield f"states: {number}: {version} is no version", "a number of an unsigned int"
    for key, table in (("patches", spec.patches), ("klp_symbols", spec.klp_symbols)):
        for entry in (entry for entries in table.values() for entry in entries):
            if re.fullmatch(r"[^,\s]+(,[0-9]{1,9})?", entry) is None:
                yield (
                    f"{key}: '{entry}' is no symbol",
                    "NAME, or NAME,1 for the first of several of that name",
                )
    for name, entries in spec.patches.items():
        for function, times in Counter(map(sysfs_name, entries)).items():
            if times > 1:
                yield (
                    f"patches: {name} has '{function}' {times} times",
                    "name each function once, NAME being NAME,1 where there is one of that name",
                )
    for name, entries in spec.klp_symbols.items():
        yield from _of_symbols(name, entries, spec, module_set)
    yield from _of_layout(spec)
    for name in spec.depends:
        if name == spec.name or module_set.module(name) is None:
            yield f"depends: '{name}' is no other module of the set", _known(module_set)


def _of_layout(spec: ModuleSpec) -> Iterator[tuple[str, str]]:
    """What is wrong with where a module is to lie, as (what, hint)."""
    wanted = {"room": spec.room is not None, "page_end": spec.page_end}
    if spec.ko and (keys := ", ".join(key for key, asked in wanted.items() if asked)):
        yield f"{keys}: its .ko is used as others built it", "leave that out, or build it here"
    for kind in ("text", "rodata", "data") if spec.room is not None else ():
        if not is_size(size := getattr(spec.room, kind)):
            yield f"room: {kind}: '{size}' is no size", 'as in "64K" and "130M"'
    used = ("depends", "failures", "defects", "parameters")
    if spec.ours and (keys := ", ".join(key for key in used if getattr(spec, key))):
        yield f"{keys}: with `room` a plain module has nothing but memory", "leave one of them out"
    if not 1 <= spec.copies <= COPIES:
        yield f"copies: {spec.copies} is no number of them", f"a number from 1 to {COPIES}"
    if spec.copies != 1 and not spec.ours:
        yield "copies: only a plain module with `room` has that", 'kind = "plain", room = {}'
    if spec.copy_of:
        yield "copy_of: `copies` says that", "leave it out"
    if spec.page_end and (spec.kind != "livepatch" or not spec.klp_symbols):
        yield "page_end: only a livepatch with klp_symbols has that", "leave it out"


def _of_symbols(
    object_name: str, entries: tuple[str, ...], spec: ModuleSpec, module_set: ModuleSet
) -> Iterator[tuple[str, str]]:
    """What is wrong with the klp symbols of one object, as (what, hint)."""
    if object_name != VMLINUX and object_name not in spec.patches:
        close = difflib.get_close_matches(object_name, spec.patches, n=1)
        yield (
            f"klp_symbols: it does not patch '{object_name}', so the kernel never writes these",
            f"did you mean '{close[0]}'?"
            if close
            else f"put them under what it patches ({', '.join(spec.patches)}), as "
            f'"{object_name}:NAME" where that is another module\'s symbol; an object whose '
            "functions stay needs a line of its own in patches, with an empty list",
        )
    for entry in entries:
        owner = entry.rpartition(":")[0]
        if owner and object_name == VMLINUX and owner != VMLINUX:
            yield (
                f"klp_symbols: vmlinux: '{entry}' would be written once, when the livepatch loads, "
                f"and leads nowhere when {owner} has gone",
                "put it under a module that it patches",
            )
        elif owner and owner != VMLINUX and module_set.module(owner) is None:
            yield f"klp_symbols: '{entry}': the set has no module '{owner}'", _known(module_set)


def _circle(needs: Mapping[str, Sequence[str]]) -> list[str]:
    """The first way from a module back to it along what modules need; [] where there is none."""
    done: set[str] = set()

    def follow(name: str, way: list[str]) -> list[str]:
        if name in way:
            return [*way[way.index(name) :], name]
        if name in done:
            return []
        done.add(name)
        found = (follow(each, [*way, name]) for each in needs.get(name, ()))
        return next(filter(None, found), [])

    return next(filter(None, (follow(name, []) for name in needs)), [])


def _of_probe(probe: Probe, module_set: ModuleSet) -> Iterator[tuple[str, str]]:
    if bool(probe.file) == bool(probe.command):
        yield (
            "it has to have one of `file` and `command`",
            "a file of the guest that is read, or a line for its shell",
        )
    if probe.file and not probe.file.startswith("/"):
        yield f"file: '{probe.file}' is no path in the guest", "a path begins with a /"
    if probe.object != VMLINUX and module_set.module(probe.object) is None:
        yield f"object: the set has no module '{probe.object}'", _known(module_set)
    for name, text in probe.warns.items():
        if name not in probe.patched or probe.at != "now":
            yield (
                f"warns: there is no text that it shows now under {name}",
                "a warning is that of a patched function that is called when the probe is asked",
            )
        if _WARNING.fullmatch(text) is None:
            yield f"warns: '{text}' is no place", 'as in "patch.c:42 my_show [my_livepatch]"'
    if probe.at == "callbacks":
        if missing := [call for call in CALLS if call not in probe.patched]:
            yield (
                f"it does not say what it shows of {', '.join(missing)}",
                f'add `{missing[0]} = "..."` to its table `patched`',
            )
        return
    above = [
        spec.name for spec in module_set.modules if replaces(spec, probe.object, probe.function)
    ]
    for name in probe.patched:
        if name not in above:
            other = module_set.module(name)
            its = other.patches.get(probe.object, ()) if other is not None else ()
            close = difflib.get_close_matches(probe.function, its, n=1)
            yield (
                f"patched: {name} does not replace {probe.function} of {probe.object}",
                (f"did you mean '{close[0]}'? " if close else "")
                + (
                    f"it replaces {', '.join(its) or 'nothing'} of it"
                    if other
                    else _known(module_set)
                ),
            )
    never = {s.name for s in module_set.modules for d in s.defects if d.object == probe.object}
    for name in above:
        if name not in probe.patched and name not in never:
            yield (
                f"it does not say what it shows under {name}",
                f'add `{name} = "..."` to its table `patched`',
            )


def _known(module_set: ModuleSet) -> str:
    return f"known modules: {', '.join(spec.name for spec in module_set.modules)}"
