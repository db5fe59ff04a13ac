# SPDX-License-Identifier: GPL-2.0-only
"""The house rules of DESIGN.md, read from the code: floors, owners, no architecture in Python."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import orchestrator
from orchestrator.catalog import arches

PACKAGE = Path(orchestrator.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

# A module imports only from floors below it, or from its own floor where that makes no circle.
FLOORS = (
    "errors errnos nouns verdicts deadline",
    "orders state semantics races model memory manifest judge known suite walk minimise findings "
    "elf malformations kconfig qemu agent selftests alterations bisect patches mails",
    "tools pump process qmp ssh console lines workdir catalog doctor options modfiles prebuilt "
    "archfile archhost archnew",
    "sources gitbisect series worktree kbuild kernel modules testtree image machine archcheck",
    "guest observe prepare",
    "lab runner rig lanes explore triage survey signs reproducer bundle scriptrun",
    "report progress",
    "session shell exploration kselftest malformed experiment bisection eachpatch",
    "cli bench",
)
FLOOR = {name: floor for floor, names in enumerate(FLOORS) for name in names.split()}

# library -> the one module that imports it
OWNERS = {
    "subprocess": "process",
    "qemu": "qmp",
    "paramiko": "ssh",
    "elftools": "elf.reader",
    "tomllib": "catalog",
    "filelock": "workdir",
    "platformdirs": "workdir",
    "typer": "cli",
}
PURE = {*FLOORS[0].split(), *FLOORS[1].split()}  # no I/O
IO = {"os", "socket", "subprocess", "shutil", "tempfile", "threading", "psutil", "select"}


def dotted(path: Path) -> str:
    """orchestrator/elf/reader.py -> elf.reader"""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, by its full name, imports within functions included."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{path}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def ours(path: Path) -> set[str]:
    """Which of our own modules (top level names) a file imports."""
    found = {n.split(".")[1] for n in imports(path) if n.startswith("orchestrator.")}
    return {
        name for name in found if (PACKAGE / f"{name}.py").exists() or (PACKAGE / name).is_dir()
    }


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_a_module_imports_only_from_floors_below(path: Path) -> None:
    own = dotted(path).split(".")[0]
    if own in ("__init__", "__main__"):
        return
    assert own in FLOOR, f"{own} has no floor: give it one here and in DESIGN.md's table"
    above = {name for name in ours(path) if FLOOR[name] > FLOOR[own]}
    assert not above, f"{own} (floor {FLOOR[own]}) imports from above: {sorted(above)}"


def test_imports_make_no_circle() -> None:
    graph: dict[str, set[str]] = {}
    for path in MODULES:
        own = dotted(path).split(".")[0]
        graph.setdefault(own, set()).update(ours(path) - {own})
    while free := [name for name, wanted in graph.items() if not wanted & set(graph)]:
        for name in free:
            del graph[name]
    assert not graph, f"these import one another: {sorted(graph)}"


@pytest.mark.parametrize("library", OWNERS)
def test_each_outside_thing_has_one_owner(library: str) -> None:
    users = {
        dotted(path)
        for path in MODULES
        if any(name == library or name.startswith(f"{library}.") for name in imports(path))
    }
    owner = OWNERS[library]
    assert {user for user in users if user.split(".")[0] != owner} <= {owner}


def test_pure_modules_touch_nothing_outside() -> None:
    for path in MODULES:
        if dotted(path).split(".")[0] in PURE:
            touched = {name.split(".")[0] for name in imports(path)} & IO
            assert not touched, f"{dotted(path)} is to be pure and imports {sorted(touched)}"


def strings(path: Path) -> Iterator[tuple[int, str]]:
    """(line, text) of every string in the code, docstrings left out, names of things included."""
    tree = ast.parse(path.read_text())
    docs = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield node.lineno, node.value
        elif isinstance(node, ast.Name | ast.FunctionDef | ast.ClassDef):
            yield node.lineno, node.id if isinstance(node, ast.Name) else node.name


EXAMPLE = "klp-e2e "  # a command line that --help shows as an example


def architecture_names() -> set[str]:
    """Of ours: our names, the kernel's, tuxmake's, Debian's, their compilers' and emulators'."""
    return {
        name
        for arch in arches().values()
        for name in (arch.name, arch.kernel_arch, arch.tuxmake_arch, arch.debian_arch, arch.qemu)
    }


def test_no_architecture_is_named_in_code() -> None:
    word = "|".join(re.escape(name) for name in sorted(architecture_names(), key=len, reverse=True))
    named = re.compile(rf"(?<![A-Za-z0-9])(?:{word})(?![A-Za-z0-9])", re.IGNORECASE)
    found = [
        f"{path.name}:{line}: {text!r}"
        for path in MODULES
        for line, text in strings(path)
        if named.search(text) and not text.startswith(EXAMPLE)
    ]
    assert not found, "an architecture is data (arches/NAME.toml):\n" + "\n".join(found)


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_a_module_says_what_it_is_and_stays_readable(path: Path) -> None:
    text = path.read_text()
    assert text.startswith("# SPDX-License-Identifier: GPL-2.0-only\n")
    assert path.stem == "__init__" or ast.get_docstring(ast.parse(text)), "what is it for?"
    assert text.count("\n") <= 400, "long modules are split"
