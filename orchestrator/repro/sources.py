# SPDX-License-Identifier: GPL-2.0-only
"""Of a module set's sources, those that some of its modules are made of. Pure."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Iterator, Mapping

_LIST = re.compile(r"(?:(obj-m)|([\w-]+)-(?:y|objs))\s*[:+]?=((?:\s+[\w.-]+\.o)*)")
_NOTHING = re.compile(r"(?:#.*|ifdef CONFIG_\w+|endif|)")
_INCLUDE = re.compile(r'(?m)^\s*#\s*include\s*"([^"]+)"')


def objects(kbuild: str) -> Mapping[str, tuple[str, ...]] | None:
    """Module -> the objects that a Kbuild links it of, "NAME.o". None where a line says something
    else than that, which nobody could tell of."""
    modules: list[str] = []
    parts: dict[str, tuple[str, ...]] = {}
    for line in kbuild.replace("\\\n", " ").splitlines():
        found = _LIST.fullmatch(line.strip())
        if found is None:
            if not _NOTHING.fullmatch(line.strip()):
                return None
        elif found[1]:
            modules += found[3].split()
        else:
            parts[found[2]] = (*parts.get(found[2], ()), *found[3].split())
    stems = (name.removesuffix(".o") for name in modules)
    return {stem.replace("-", "_"): parts.get(stem, (f"{stem}.o",)) for stem in stems}


def closure(files: Mapping[str, str], wanted: Collection[str]) -> frozenset[str]:
    """Those of `files`, path -> text, that are wanted, with what they include of them by name."""
    found: set[str] = set()
    left = [path for path in wanted if path in files]
    while left:
        path = left.pop()
        if path not in found:
            found.add(path)
            left += (each for each in _included(path, files[path]) if each in files)
    return frozenset(found)


def _included(path: str, text: str) -> Iterator[str]:
    for name in _INCLUDE.findall(text):
        yield posixpath.normpath(posixpath.join(posixpath.dirname(path), name))
