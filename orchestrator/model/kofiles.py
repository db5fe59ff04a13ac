# SPDX-License-Identifier: GPL-2.0-only
"""A set.toml for .ko files that others built, from what each says of itself. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import PurePath

from orchestrator.elf import klpformat, patchtable, reader
from orchestrator.elf.patchtable import Function, PatchTable
from orchestrator.elf.records import Elf
from orchestrator.errors import UsageError
from orchestrator.nouns import Origin
from orchestrator.plain import one_line

_ARCH = "{arch}"  # what `ko` of a set.toml has for the architecture's name
MOST = 64  # files: as many as a set may have modules


_HINT = "write a set.toml beside it, with [modules.patches]: docs/howto/own-modules.md"


def set_text(files: Mapping[str, bytes]) -> str:
    """set.toml of these modules, by file name: which is a livepatch and what it patches, which of
    the others that is, and what depends on what. There are no probes.

    Whether a livepatch replaces others only its code says (--no-replace of klp-build). That is no
    matter to one that is alone, and a guess where there are more: a right kernel would fail by it.

    Raises UsageError for a file that is no module, or has a name that cannot stand there; for
    several livepatches, and for one that does not say what it patches: all but those of klp-build
    and kpatch-build.
    """
    for name in files:
        if not name.isprintable() or _ARCH in name:
            raise UsageError(
                f"{one_line(name)}: no set.toml can have a file of that name", hint="rename it"
            )
    modules = {name: reader.read(data, name) for name, data in sorted(files.items())}
    tables = {
        name: _table(elf, name) for name, elf in modules.items() if klpformat.is_livepatch(elf)
    }
    if len(tables) > 1:
        raise UsageError(
            f"{' and '.join(tables)}: whether they replace one another cannot be read from them",
            hint="write a set.toml beside them that says `replace`: docs/howto/own-modules.md",
        )
    patched = {target for table in tables.values() for target, _ in table.objects}
    names = {name: _name(elf, name) for name, elf in modules.items()}
    lines = ["# SPDX-License-Identifier: GPL-2.0-only", "# By klp-e2e, of what the .ko files say."]
    for file, elf in modules.items():
        name = names[file]
        depends = [n for n in klpformat.dependencies(elf) if n in names.values()]
        kind = "livepatch" if file in tables else "target" if name in patched else "plain"
        lines += ["", "[[modules]]", f"name = {_text(name)}", f"kind = {_text(kind)}"]
        lines += [f"ko = {_text(file)}"]
        if depends:
            lines += [f"depends = {_list(depends)}"]
        if file in tables:
            lines += ["replace = true", "[modules.patches]", *_patches(tables[file])]
    return "\n".join(lines) + "\n"


def origin_text(origin: Origin) -> str:
    """What follows in a set.toml of ours, where a builder made its livepatch. Raises UsageError."""
    warned = [one_line(each) for each in origin.warned]
    lines = ["", "[origin]", f"builder = {_text(origin.builder)}"]
    lines += [f"version = {_text(origin.version)}", f"warned = {_list(warned)}"]
    lines += [] if origin.replace else ["replace = false"]
    for patch in origin.patches:
        lines += ["[[origin.patches]]", f"file = {_text(patch.file)}"]
        lines += [f"sha256 = {_text(patch.sha256)}"]
    return "\n".join(lines) + "\n"


def _table(elf: Elf, name: str) -> PatchTable:
    found = patchtable.prepared(elf, name)
    if found is None:
        raise UsageError(
            f"{name} does not say what it patches where that can be read before it is loaded",
            hint=_HINT,
        )
    return found


def _name(elf: Elf, file: str) -> str:
    said = dict(klpformat.modinfo(elf)).get("name", "")
    return said or klpformat.object_name(PurePath(file).stem)


def _patches(table: PatchTable) -> Iterator[str]:
    for name, functions in table.objects:
        yield f"{_text(name)} = {_list(map(_function, functions))}"


def _function(function: Function) -> str:
    return f"{function.name},{function.sympos}" if function.sympos else function.name


def _list(texts: Iterator[str] | list[str]) -> str:
    """A line each: a livepatch may have hundreds of functions, with dots in their names, and of
    those `catalog` takes so many in a line."""
    return "[\n" + "".join(f"    {_text(each)},\n" for each in texts) + "]"


def _text(text: str) -> str:
    """A TOML string. JSON's is none where it has pairs of surrogates, or lets a DEL stand."""
    if not text.isprintable():
        raise UsageError(f"{one_line(text)!r} of a .ko file is no name", hint=_HINT)
    return json.dumps(text, ensure_ascii=False)
