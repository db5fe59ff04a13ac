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

MOST = 64  # files: as many as a set may have modules


def set_text(files: Mapping[str, bytes]) -> str:
    """set.toml of these modules, by file name: which is a livepatch and what it patches, which of
    the others that is, and what depends on what. There are no probes.

    Whether a livepatch replaces others only its code says (--no-replace of klp-build). That is no
    matter to one that is alone, and a guess where there are more: a right kernel would fail by it.

    Raises UsageError for a file that is no module, for several livepatches, and for one that does
    not say what it patches: all but those of klp-build and kpatch-build.
    """
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


def _table(elf: Elf, name: str) -> PatchTable:
    found = patchtable.prepared(elf, name)
    if found is None:
        raise UsageError(
            f"{name} does not say what it patches where that can be read before it is loaded",
            hint="write a set.toml beside it, with [modules.patches]: docs/howto/own-modules.md",
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
    return f"[{', '.join(map(_text, texts))}]"


def _text(text: str) -> str:
    return json.dumps(text)
