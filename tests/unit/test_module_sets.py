# SPDX-License-Identifier: GPL-2.0-only
"""The module sets: set.toml and C sources say the same, and modules.py's pure parts."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from orchestrator import catalog
from orchestrator.build import modules, outoftree
from orchestrator.model.state import COMES, GOES, replaces
from orchestrator.nouns import (
    ModuleSet,
)

# as set.toml says, without the harness's own filler
SETS = {
    path.name: catalog.module_set_in(path, path.name)
    for path in sorted(catalog.data_dir("images/modules").iterdir())
    if path.is_dir()
}
OWN = [s for s in SETS.values() if not s.in_tree]
VMLINUX = "vmlinux"

each_set = pytest.mark.parametrize("module_set", SETS.values(), ids=list(SETS))
own_sets = pytest.mark.parametrize("module_set", OWN, ids=[s.name for s in OWN])


def kbuild(module_set: ModuleSet) -> dict[str, list[str]]:
    """Left side of each `:=` in the set's Kbuild -> its words, ".o" taken off."""
    text = (module_set.directory / "Kbuild").read_text()
    lines = re.findall(r"^(\S+) := (.+)$", text, re.MULTILINE)
    return {name: [w.removesuffix(".o") for w in words.split()] for name, words in lines}


def parts(module_set: ModuleSet, module: str) -> list[str]:
    """Text of each C file of a module, in the order in which it is linked."""
    names = kbuild(module_set).get(f"{module}-y", [module])
    return [(module_set.directory / f"{name}.c").read_text() for name in names]


def source(module_set: ModuleSet, module: str) -> str:
    """What the preprocessor makes of them as far as strings go: the set's headers, its macros."""
    text = "\n".join(parts(module_set, module))
    for header in module_set.directory.glob("*.h"):
        text = text.replace(f'#include "{header.name}"', header.read_text())
    for name, value in re.findall(r"^#define (KLP_REFUSED_\w+) (.+)$", text, re.MULTILINE):
        text = text.replace(name, value)
    return text


def definitions(text: str, name: str) -> int:
    """How many functions or variables of this name a C file defines, declarations left out."""
    pattern = (
        rf"^(?!extern)\w[\w\s*]*\b{name}(?:\([^;]*\)\n\{{|(?:\[\w*\])?(?: __used)?(?: =.*|;)$)"
    )
    return len(re.findall(pattern, text, re.MULTILINE))


def test_all_sets_are_there() -> None:
    issue = (
        "basic two-targets stacked replace vmlinux callbacks init-fails refusing refused depends "
        "held sympos no-functions states samples far page-end packed special keys"
    )
    assert set(SETS) == set(issue.split())
    basic = SETS["basic"]
    kinds = {"klp_target": "target", "klp_patch": "livepatch", "filler": "plain"}
    assert {m.name: m.kind for m in basic.modules} == kinds


def test_a_module_name_belongs_to_one_set() -> None:
    names = Counter(m.name for s in SETS.values() for m in s.modules)
    assert [name for name, count in names.items() if count > 1] == []
    assert all(re.fullmatch(r"[a-z0-9_]{1,55}", name) for name in names)


@each_set
def test_livepatches_know_their_objects(module_set: ModuleSet) -> None:
    objects = {m.name for m in module_set.modules if m.kind == "target"} | {VMLINUX}
    for spec in module_set.modules:
        assert bool(spec.patches) == (spec.kind == "livepatch"), spec.name
        assert spec.patches.keys() <= objects
        assert spec.klp_symbols.keys() <= {*spec.patches, VMLINUX}  # written as it loads
        assert {f.parameter for f in spec.failures} <= set(spec.parameters)
        assert {f.object for f in spec.failures} <= {"", *spec.patches}
        assert {d.object for d in spec.defects} <= spec.patches.keys()
        assert set(spec.depends) <= objects - {VMLINUX}


@each_set
def test_probes_cover_every_livepatch(module_set: ModuleSet) -> None:
    """A probe knows the text of exactly those livepatches that replace its function, refused ones
    left out, or of exactly the callbacks."""
    for probe in module_set.probes:
        if probe.at == "callbacks":
            assert set(probe.patched) == {*COMES, *GOES}
            spec = module_set.module(probe.object)
            assert spec is not None and probe.function in spec.patches
            continue
        patching = {m.name for m in module_set.modules if replaces(m, probe.object, probe.function)}
        refused = {m.name for m in module_set.modules if m.defects}
        assert set(probe.patched) == patching - refused and patching, probe.name
        texts = [probe.original, *probe.patched.values()]
        assert len(set(texts)) == len(texts)
        assert all(text == text.rstrip() and "\n" not in text for text in texts)
        if not module_set.in_tree:
            assert all(f"version={m} " in text for m, text in probe.patched.items())


@own_sets
def test_targets_define_what_is_patched(module_set: ModuleSet) -> None:
    for spec in module_set.modules:
        for target, functions in spec.patches.items():
            for entry in functions:
                function, _, sympos = entry.partition(",")
                said = f'.old_name = "{function}", ' + f".old_sympos = {sympos}, " * bool(sympos)
                assert f"{said}.new_func = " in source(module_set, spec.name)
                if target != VMLINUX:
                    found = definitions(source(module_set, target), function)
                    assert int(sympos or 1) <= found if sympos else found == 1 or spec.defects
                    assert f'.name = "{target}"' in source(module_set, spec.name)
    for probe in module_set.probes:
        assert probe.at == "now" or probe.object != VMLINUX  # the kernel has no init to look from
        if probe.object != VMLINUX:
            parameters = f"/sys/module/{probe.object}/parameters/"
            [parameter] = re.findall(rf"{parameters}(\w+)", probe.file or probe.command)
            text = source(module_set, probe.object)
            if probe.at == "callbacks":
                [prefix] = re.findall(rf"KLP_E2E_CALLBACKS\((\w+), {parameter},\s", text)
                callbacks = rf"KLP_E2E_CALLBACKS_OF\({prefix}\)"
                named = rf'\.name = "{probe.function}",\n\s+\.funcs = \w+,\n\s+\.callbacks = '
                assert re.search(named + callbacks, text)
                continue
            macro = "KLP_E2E_INIT_PROBE" if probe.at == "init" else "KLP_E2E_PROBE"
            name = parameter.removesuffix("_at_init") if probe.at == "init" else parameter
            assert f"{macro}({name}, {probe.function.partition(',')[0]});" in text


@own_sets
def test_sympos_counts_definitions(module_set: ModuleSet) -> None:
    """A position is given where the name is ambiguous, and only there; but for what is refused."""
    for spec in module_set.modules:
        for target, entries in spec.klp_symbols.items():
            if target == VMLINUX or spec.defects:
                continue
            for entry in set(entries) - {modules.AUTO}:
                owner, _, symbol = entry.rpartition(":")
                name, _, sympos = symbol.partition(",")
                found = definitions(source(module_set, owner or target), name)
                named = owner or modules.AUTO not in entries
                assert 1 <= int(sympos) <= found > 1 if sympos else named and found == 1, entry


@own_sets
def test_what_is_refused_names_what_its_object_has_not(module_set: ModuleSet) -> None:
    """Relocations are written before functions are looked for, and not one of a section in which a
    symbol is wrong."""
    for spec in module_set.modules:
        for defect in spec.defects:
            text = source(module_set, defect.object)
            wrong = []
            for entry in set(spec.klp_symbols[defect.object]) - {modules.AUTO}:
                name, _, sympos = entry.partition(",")
                found = definitions(text, name)
                good = int(sympos) <= found if sympos else found == 1
                wrong += [] if good else [entry]
            lacking = [f for f in spec.patches[defect.object] if definitions(text, f) != 1]
            assert (bool(wrong), bool(lacking)) == (not defect.written, defect.written), spec.name


@own_sets
def test_livepatches_declare_what_set_toml_says(module_set: ModuleSet) -> None:
    for spec in (spec for spec in module_set.modules if not spec.ours):
        text = source(module_set, spec.name)
        assert ('MODULE_INFO(livepatch, "Y")' in text) == (spec.kind == "livepatch")
        assert (".replace = true" in text) == spec.replace
        states = re.findall(r"\{ \.id = (\d+), \.version = (\d+) \},", text)
        assert {number: int(version) for number, version in states} == spec.states
        assert bool(states) == (".states = klp_states" in text)
        for failure in spec.failures:
            assert f"module_param({failure.parameter}, int, " in text
            ends = f"(return |, )-{failure.parameter}" + r"\)?;"
            assert re.search(ends, text)


@own_sets
def test_a_warning_is_where_set_toml_says(module_set: ModuleSet) -> None:
    """A line further up moves it, and the kernel tells the line."""
    for probe in module_set.probes:
        for livepatch, text in probe.warns.items():
            file, line, function, module = re.split("[: ]", text)
            assert module == f"[{livepatch}]"
            before = (module_set.directory / file).read_text().splitlines()[: int(line)]
            assert "WARN_ON" in before[-1]
            assert re.search(rf"\b{function}\(void\)$", [x for x in before if x.endswith(")")][-1])


@own_sets
def test_kbuild_builds_every_module_and_no_other(module_set: ModuleSet) -> None:
    assert set(kbuild(module_set)["obj-m"]) == {m.name for m in module_set.modules if not m.ours}
    for path in module_set.directory.glob("*.[ch]"):
        assert "SPDX-License-Identifier: GPL-2.0-only" in path.read_text().splitlines()[0], path


@own_sets
def test_fillers_are_the_target_with_other_values(module_set: ModuleSet) -> None:
    """Same sections, same size, so that it lands where the target was; see klp_target.h."""
    for spec in (m for m in module_set.modules if m.kind == "plain" and not m.ours):
        [target] = (m.name for m in module_set.modules if m.kind == "target")
        names = kbuild(module_set).get(f"{target}-y", [target])
        for text, name in zip(parts(module_set, spec.name), names, strict=True):
            assert re.search(r"^#define \w+_SALT [1-9]\d+$", text, re.MULTILINE)
            assert f'#include "{name}.c"' in text


def test_first_error_is_the_compilers() -> None:
    root = Path("/scratch/set")
    log = (
        "  CC [M]  /scratch/set/patch.o\n"
        "/scratch/set/patch.c:9:2: warning: unused variable 'x' [-Wunused-variable]\n"
        "/scratch/set/patch.c:12:5: error: 'y' undeclared (first use in this function)\n"
        "/scratch/set/patch.c:13:5: error: 'z' undeclared (first use in this function)\n"
        "make[2]: *** [scripts/Makefile.build:250: /scratch/set/patch.o] Error 1\n"
    )
    expected = "patch.c:12:5: error: 'y' undeclared (first use in this function)"
    assert outoftree.first_error(log, root) == expected
    only_make = "make[1]: *** No rule to make target '/scratch/set/gone.o'.  Stop.\n"
    assert outoftree.first_error(only_make, root).endswith(
        "No rule to make target 'gone.o'.  Stop."
    )
    mismatch = (
        "WARNING: modpost: /scratch/set/t.o: section mismatch in reference: f (section: .text)"
        " -> g (section: .init.text)\n"
        'WARNING: modpost: "x" [/scratch/set/p.ko] undefined!\n'
        "ERROR: modpost: Section mismatches detected.\n"
    )
    assert outoftree.first_error(mismatch, root) == (
        "WARNING: modpost: t.o: section mismatch in reference: f (section: .text)"
        " -> g (section: .init.text)"
    )
    assert outoftree.first_error("  CC [M]  patch.o\n", root) == ""


def test_no_opaque_function_returns_a_constant_that_clang_would_tell_its_callers() -> None:
    constant = re.compile(r"klp_e2e_opaque [^;{]*\n\{\n\treturn -?\d+;\n\}")
    assert constant.search("klp_e2e_opaque int f(void)\n{\n\treturn 0;\n}")
    files = sorted(catalog.data_dir("images/modules").rglob("*.c"))
    assert [path.name for path in files if constant.search(path.read_text())] == []


def test_functions_that_livepatches_call_through_a_pointer_have_what_such_a_call_finds() -> None:
    for module_set in OWN:
        texts = [path.read_text() for path in sorted(module_set.directory.glob("*.c"))]
        code = [re.sub(r'/\*.*?\*/|"[^"\n]*"', "", text, flags=re.DOTALL) for text in texts]
        for text in code:
            for name in re.findall(r"klp_e2e_opaque [\w *]*?\b(\w+)\([^;{]*\n\{", text):
                patches = (other for other in code if "MODULE_INFO(livepatch" in other)
                pointed = any(re.search(rf"\b{name}\b(?!\()", other) for other in patches)
                assert (f"\n}}\nKLP_E2E_POINTED_TO({name});\n" in text) == pointed, name
