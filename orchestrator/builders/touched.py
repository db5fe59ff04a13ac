# SPDX-License-Identifier: GPL-2.0-only
"""Which objects of a kernel a source file is linked into, and by which option that is decided, from
the Makefiles alone (Documentation/kbuild/makefiles.rst). Pure.

Read is what they say of `obj-`, `lib-` and of composite objects. A name that make would have to
compute is passed over: then a file has no owner that we know, and its builder will tell.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

Read = Callable[[str], str | None]  # the text of a file of the tree, None where it is not there

_ASSIGNED = re.compile(r"^\s*([\w.$()/-]+)\s*(?:\+|:|::|\?)?=\s*(.*)$")
_PREFIXED = re.compile(r"\$\(addprefix\s+([^,$()\s]+)\s*,([^()$]*)\)")
_OPTION = re.compile(r"\$[({]CONFIG_(\w+)[)}]")
_OBJECT = re.compile(r"(?:obj|lib)-(y|m|\$[({]CONFIG_\w+[)}])")
_PART = re.compile(r"([\w.+-]+)-(y|m|objs|\$[({]CONFIG_\w+[)}])")
_MAKEFILES = ("Kbuild", "Makefile")  # scripts/Makefile.build takes the first that is there
_DEPTH = 4  # of an object in an object


@dataclass(frozen=True, slots=True)
class Owner:
    """An object of the kernel: of vmlinux, or a module of its own.

    module: what that is called where it is one. options: all of these decide whether it is there;
    the first one, whether it is a module. None: it always belongs to vmlinux.
    """

    module: str
    options: tuple[str, ...]


def owners(file: str, read: Read) -> tuple[Owner, ...]:
    """What a C or assembler file of the tree, by its relative path, is linked into: several, where
    several objects share it, and none where no Makefile says."""
    path = PurePosixPath(file)
    if path.suffix not in (".c", ".S"):
        return ()
    found: dict[Owner, None] = {}
    for directory in path.parents:  # a directory's Makefile may name what lies deeper
        inside = str(path.with_suffix(".o").relative_to(directory))
        for said in _assignments(str(directory), read):
            found |= dict.fromkeys(_of(inside, said, (), _DEPTH))
        if found:
            break
    return tuple(found)


def missing(
    found: Iterable[Owner], config: Mapping[str, str], can_be_module: Callable[[str], bool]
) -> Mapping[str, str]:
    """Option -> value, of what a configuration lacks for one of these objects to be there, as a
    module where it can be one; none, where one of them is there."""
    for owner in (several := tuple(found)):
        if all(config.get(option, "n") != "n" for option in owner.options):
            return {}
    wanted = {}
    for owner in several[:1]:
        for option in owner.options:
            if config.get(option, "n") == "n":
                module = option == owner.options[0] and can_be_module(option)
                wanted[option] = "m" if module else "y"
    return wanted


def _of(
    name: str, said: Mapping[str, list[str]], options: tuple[str, ...], depth: int
) -> Iterator[Owner]:
    """The owners of an object that a Makefile's assignments name."""
    for left, words in said.items():
        if name not in words or not depth:
            continue
        if match := _OBJECT.fullmatch(left):
            module = PurePosixPath(name).stem.replace("-", "_")
            yield Owner(module, (*_option(match[1]), *options))
        elif match := _PART.fullmatch(left):
            yield from _of(f"{match[1]}.o", said, (*options, *_option(match[2])), depth - 1)


def _option(text: str) -> tuple[str, ...]:
    match = _OPTION.fullmatch(text)
    return (match[1],) if match else ()


def _assignments(directory: str, read: Read) -> Iterator[Mapping[str, list[str]]]:
    """Left side -> words, of a directory's Makefile."""
    for name in _MAKEFILES:
        text = read(name if directory == "." else f"{directory}/{name}")
        if text is not None:
            found: dict[str, list[str]] = {}
            for line in re.sub(r"\\\n", " ", text).splitlines():
                if match := _ASSIGNED.match(line.partition("#")[0]):
                    right = _PREFIXED.sub(_with_prefix, match[2])
                    found.setdefault(match[1], []).extend(right.split())
            yield found
            return


def _with_prefix(match: re.Match[str]) -> str:
    return " ".join(match[1] + word for word in match[2].split())
