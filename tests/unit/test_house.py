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

# What imports only from floors below it, or from its own floor where that makes no circle:
# a folder, or a module beside the folders.
FLOORS = (
    "errors errnos nouns verdicts deadline plain kernelreports initramfs",
    "host model elf",
    "catalog doctor templating trials",
    "source",
    "build port",
    "builders vm",
    "run",
    "explore repro fleet",
    "report",
    "history",
    "pages announce",
    "cli",
    "commands bench",
)
FLOOR = {name: floor for floor, names in enumerate(FLOORS) for name in names.split()}

# library -> the one module, or folder, that imports it, or the two
OWNERS = {
    "subprocess": "host.process",
    "qemu": "vm.qmp",
    "paramiko": "vm.ssh",
    "elftools": "elf.reader",
    "tomllib": "catalog",
    "fcntl": "host.locks",
    "platformdirs": "host.workdir",
    "typer": "cli commands",
    "sqlite3": "history.store",
    "jinja2": "templating",
    "urllib": "source.download",
    "distributed": "fleet",
    "dask": "fleet.service",
    "fsspec": "fleet.store",
}
# no I/O: folders and modules
PURE = (
    *FLOORS[0].split(),
    *("model", "elf", "trials", "source.patches", "source.mails", "source.alterations"),
    *(
        "build.kconfig",
        "build.kconfigtree",
        "vm.qemu",
        "vm.agent",
        "kernelreports",
        "run.selftests",
        "commands.bisect.halving",
    ),
    *("builders.touched", "builders.sympos", "builders.request"),
    *("port.relocsource", "port.coverage", "port.card"),
    *(
        "history.nights",
        "history.alike",
        "history.changes",
        "history.inputs",
        "history.checked",
        "history.digest",
    ),
    *(f"pages.{name}" for name in ("plain", "timeline", "svg", "compare", "logs", "front")),
    *("announce.nightjunit", "announce.kcidb", "announce.nightktap", "announce.mail"),
    "announce.summary",
)
IO = {"os", "socket", "subprocess", "shutil", "tempfile", "threading", "psutil", "select"}


def dotted(path: Path) -> str:
    """orchestrator/elf/reader.py -> elf.reader; orchestrator/elf/__init__.py -> elf"""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def within(module: str, place: str) -> bool:
    """Is it this module, or one of this folder's?"""
    return f"{module}.".startswith(f"{place}.")


NAMES = {dotted(path) for path in MODULES}


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
    """Which of our own modules a file imports; a folder's own file only where it is named alone."""
    found = {name.removeprefix("orchestrator.") for name in imports(path)} & NAMES
    return {name for name in found if not any(n != name and within(n, name) for n in found)}


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_a_module_imports_only_from_floors_below(path: Path) -> None:
    own = dotted(path).split(".")[0]
    if own in ("", "__main__"):
        return
    assert own in FLOOR, f"{own} has no floor: give it one here and in docs/explanation/house.md"
    above = {name for name in ours(path) if FLOOR[name.split(".")[0]] > FLOOR[own]}
    assert not above, f"{own} (floor {FLOOR[own]}) imports from above: {sorted(above)}"


def test_the_documented_table_has_every_floor_in_its_order() -> None:
    page = (PACKAGE.parent / "docs" / "explanation" / "house.md").read_text()
    rows = [
        re.findall(r"`([a-z]+)/?`", row.split("|")[2 if row.startswith("| beside") else 1])
        for row in page.splitlines()
        if row.startswith(("| `", "| beside"))
    ]
    named = [name for row in rows for name in row]
    assert sorted(named) == sorted(FLOOR)
    assert [FLOOR[name] for name in named] == sorted(FLOOR[name] for name in named)


def picture() -> str:
    """Which folder imports from which, as Mermaid has it; without what follows from other lines."""
    graph: dict[str, set[str]] = {}
    for path in MODULES:
        if (own := dotted(path).split(".")[0]) in FLOOR:
            graph.setdefault(own, set()).update({name.split(".")[0] for name in ours(path)} - {own})
    below: dict[str, set[str]] = {}
    for name in FLOOR:  # the lowest first; within a floor whichever the other imports from
        _reach(name, graph, below)
    lines = [
        f"    {name} --> {goal}"
        for name in reversed(FLOOR)
        for goal in sorted(graph[name])
        if not any(goal in below[other] for other in graph[name])
    ]
    return "\n".join(["```mermaid", "flowchart TD", *lines, "```"])


def _reach(name: str, graph: dict[str, set[str]], below: dict[str, set[str]]) -> set[str]:
    if name not in below:
        below[name] = set(graph[name]).union(*(_reach(n, graph, below) for n in graph[name]))
    return below[name]


def test_the_documented_picture_is_the_code_s() -> None:
    page = (PACKAGE.parent / "docs" / "explanation" / "house.md").read_text()
    assert picture() in page, "print it anew: .venv/bin/python tests/unit/test_house.py"


@pytest.mark.parametrize("size", ["modules", "folders"])
def test_imports_make_no_circle(size: str) -> None:
    graph: dict[str, set[str]] = {}
    for path in MODULES:
        own, wanted = dotted(path), ours(path)
        if size == "folders":
            own, wanted = own.split(".")[0], {name.split(".")[0] for name in wanted}
        graph.setdefault(own, set()).update(wanted - {own})
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
    assert users and all(
        any(within(user, own) for own in OWNERS[library].split()) for user in users
    )


def test_pure_modules_touch_nothing_outside() -> None:
    for path in MODULES:
        if any(within(dotted(path), place) for place in PURE):
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
    assert text.count("\n") <= 600, "long modules are split"


# What takes a file away, or writes over it. `replace` with one argument: str.replace takes two.
TAKING = {"rmtree", "unlink", "rmdir", "removedirs", "rename", "truncate"}
# Within an entry of the cache that is locked, files of their own making.
MAY_TAKE = {"source.worktree", "source.sources"}


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_nothing_is_removed_but_by_who_looks_whose_it_is(path: Path) -> None:
    if dotted(path).split(".")[0] == "host" or dotted(path) in MAY_TAKE:
        return
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    taken = [
        f"{node.func.attr}, line {node.lineno}"
        for node in calls
        if isinstance(node.func, ast.Attribute)
        and (
            node.func.attr in TAKING
            or (node.func.attr == "replace" and len(node.args) == 1 and not node.keywords)
        )
    ]
    assert not taken, f"see orchestrator/host/ours.py: {taken}"


if __name__ == "__main__":
    print(picture())
