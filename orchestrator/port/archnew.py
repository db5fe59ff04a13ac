# SPDX-License-Identifier: GPL-2.0-only
"""`klp-e2e arch new`: an architecture's two files as commented templates.

What is known of it is filled in: the usual value, what dpkg says of its name, the machine that its
compiler compiles for; or everything, from an architecture that it is like. A key that nobody knows
keeps its #, so that the file is refused until it is filled in.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator import catalog
from orchestrator.elf import reader
from orchestrator.errors import UsageError
from orchestrator.host import ours
from orchestrator.host.workdir import disk_errors
from orchestrator.port.archfile import fields
from orchestrator.port.archhost import ArchHost
from orchestrator.templating import text_templates

TABLES = ("got", "relocations", "stub")  # written below the other keys, as TOML wants it

_TEMPLATES = text_templates()


def write(
    name: str,
    directory: Path | None,
    *,
    kernel_arch: str | None = None,
    like: str | None = None,
    host: ArchHost | None = None,
) -> tuple[Path, Path]:
    """The architecture's file and its Kconfig fragment, in `directory` or beside ours.

    like: an architecture of which every value is taken. Raises UsageError when one of the two is
    there already.
    """
    file = catalog.new_arch(name, directory)
    fragment = catalog.fragment(file)
    for path in (file, fragment):
        if os.path.lexists(path):
            raise _there(path)
    model = None if like is None else catalog.arch_file(like)
    values = _known(name, host or ArchHost()) if model is None else catalog.read_toml(model)
    if kernel_arch is not None:  # tuxmake calls them as the kernel does
        values |= {"kernel_arch": kernel_arch, "tuxmake_arch": kernel_arch}
    options = _TEMPLATES.get_template("arch.config.j2").render(name=name)
    if model is not None and (theirs := catalog.fragment(model)).is_file():
        options = theirs.read_text()
    with disk_errors(f"{file.parent} cannot be written to"):
        file.parent.mkdir(parents=True, exist_ok=True)
        for path, text in ((file, _text(name, directory is None, values)), (fragment, options)):
            try:
                ours.create(path, text)
            except FileExistsError as err:  # since we looked
                raise _there(path) from err
    return file, fragment


def _there(path: Path) -> UsageError:
    return UsageError(f"{path} is there already", hint="nothing is ever written over")


def _known(name: str, host: ArchHost) -> dict[str, Any]:
    """What can be told of an architecture by its name, which is GNU's or Debian's."""
    values: dict[str, Any] = {f.name: f.usual for f in fields().values() if f.usual is not None}
    cpu = next((cpu for cpu in host.cpus() if name in (cpu.gnu, cpu.debian)), None)
    program = f"qemu-system-{cpu.gnu if cpu else name}"
    if host.packages.program(program):
        values["qemu"] = program
    if cpu is None:
        return values
    own = cpu.gnu == host.machine
    triplet = f"{cpu.gnu.replace('_', '-')}-linux-gnu"  # in a package's name there is no _
    values |= {
        "debian_arch": cpu.debian,
        "byte_order": cpu.byte_order,
        "cross_compile": "" if own else f"{cpu.gnu}-linux-gnu-",
        "packages": ["gcc", "libc6-dev"]
        if own
        else [f"gcc-{triplet}", f"libc6-dev-{cpu.debian}-cross"],
    }
    compiler = f"{values['cross_compile']}gcc"
    if host.packages.program(compiler):
        values["elf_machine"] = reader.read(host.object(compiler), compiler).machine
    return values


def _text(name: str, ours: bool, values: Mapping[str, Any]) -> str:
    return _TEMPLATES.get_template("arch.toml.j2").render(
        name=name,
        check=name if ours else f"{name}.toml",
        fields=[
            {"name": f.name, "what": f.what, "where": f.where, "value": _literal(values, f.name)}
            for f in fields().values()
            if f.name not in TABLES
        ],
        tables=[_pairs(row) for row in values.get("relocations", ())],
        got=_literal(values, "got"),
        stub=_pairs(values.get("stub", {})),
    )


def _literal(values: Mapping[str, Any], name: str) -> str | None:
    return _value(values[name]) if name in values else None


def _pairs(table: Mapping[str, Any]) -> list[str]:
    return [f"{key} = {_value(value)}" for key, value in table.items()]


def _value(value: object) -> str:
    """What JSON writes of strings, numbers, lists and truth is TOML, too."""
    if isinstance(value, Mapping):
        return f"{{ {', '.join(_pairs(value))} }}"
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    return json.dumps(value)
