# SPDX-License-Identifier: GPL-2.0-only
"""The modules as they were really built: every relocation type is there, every livepatch is
well-formed, reader and writer agree on every .ko, and the command does what the build does."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from samples import klp as klp_e2e
from vmkit import TROUBLE

from orchestrator import catalog
from orchestrator.build import declared, modules
from orchestrator.build.prepare import Bootable
from orchestrator.deadline import Deadline
from orchestrator.elf import klp, patchtable, reader, relocation, writer
from orchestrator.errors import Exit, UsageError
from orchestrator.host.rundir import run_dir
from orchestrator.nouns import KlpSymbol

CUTS = 97  # a prime: cuts fall anywhere in a structure


def all_modules(bootable: Bootable) -> Iterator[Path]:
    """Every .ko of the build: the kernel's own, and those of the sets."""
    yield from sorted(bootable.kernel.build_tree.rglob("*.ko"))
    for built in bootable.sets.values():
        yield from (module.path for module in built.modules.values())


def test_every_relocation_type_that_gcc_emits_is_in_some_livepatch(bootable: Bootable) -> None:
    ours = [built for name, built in bootable.sets.items() if name != TROUBLE]
    assert len(ours) == len(catalog.module_sets())
    carried = {
        entry.type
        for built in ours
        for module in built.modules.values()
        for entry in module.klp_relocations
    }
    emitted = [row for row in bootable.arch.relocations if row.emitted_for]
    assert emitted and [row.name for row in emitted if row.number not in carried] == []


def test_every_livepatch_is_well_formed(bootable: Bootable) -> None:
    """But for one that the kernel has to refuse."""
    seen = 0
    table = relocation.table(bootable.arch.relocations)
    for built in bootable.sets.values():
        for module in built.modules.values():
            if module.spec.kind != "livepatch":
                continue
            found = klp.inspect(module.path.read_bytes(), table=table, name=module.path.name)
            wrong = {"relocation-vmlinux"} if module.spec.name == "klp_kernel_symbol" else set()
            # one that uses what its target exports, too, comes after it: to tell that is right
            bound = set(module.spec.depends) & set(module.spec.klp_symbols)
            wrong |= {"depends"} if bound else set()
            assert {violation.rule for violation in found.violations} == wrong, module.path
            assert len(found.relocations) == len(module.klp_relocations)
            assert bool(found.relocations) == bool(module.spec.klp_symbols)
            seen += 1
    assert seen >= 8


def test_every_livepatch_says_of_itself_what_set_toml_says(bootable: Bootable) -> None:
    """The build compares what it can read; here it must have read something."""
    layout = declared.layout(bootable.kernel, bootable.arch, jobs=2, deadline=Deadline.after(300))
    for built in bootable.sets.values():
        for module in built.modules.values():
            found = patchtable.tables(reader.read(module.path.read_bytes()), layout, "x.ko")
            assert len(found) == (module.spec.kind == "livepatch"), module.path
            for table in found:
                assert table.replace == module.spec.replace
                assert dict(table.states or ()) == {
                    int(n): v for n, v in module.spec.states.items()
                }
                assert {name for name, _ in table.objects} == set(module.spec.patches)


def test_inspect_says_so_on_the_command_line(bootable: Bootable) -> None:
    path = bootable.sets["basic"].modules["klp_patch"].path
    told = klp_e2e("inspect", path, "--json")
    assert told.code == Exit.GOOD
    document = json.loads(told.out)
    assert document["well_formed"] and document["module"] == "klp_patch"
    assert "klp_target" in klp_e2e("inspect", path).out


def test_reader_and_writer_agree_on_every_module(bootable: Bootable) -> None:
    paths = list(all_modules(bootable))
    assert len(paths) >= 25
    for path in paths:
        elf = reader.read(path.read_bytes(), path.name)
        written = writer.write(elf)
        again = reader.read(written, path.name)
        assert again == elf, path
        assert writer.write(again) == written, path


def test_convert_gives_what_the_build_gives(bootable: Bootable, tmp_path: Path) -> None:
    """By the command, from the modules as kbuild leaves them, byte by byte."""
    module_set = catalog.module_set("basic")
    until = Deadline.after(300)
    with run_dir("test") as scratch:
        files = modules._make(scratch, bootable.kernel, bootable.arch, module_set, 2, until)
    for name, data in files.items():
        (tmp_path / f"{name}.ko").write_bytes(data)
    built = bootable.sets["basic"].modules["klp_patch"]
    (entries,) = built.spec.klp_symbols.values()
    named = [word for entry in entries if entry != "auto" for word in ("--symbol", entry)]
    goal = tmp_path / "out.ko"
    target = tmp_path / "klp_target.ko"
    told = klp_e2e("convert", tmp_path / "klp_patch.ko", goal, "--auto", target, *named)
    assert told.code == Exit.GOOD, told.err
    assert goal.read_bytes() == built.path.read_bytes()


def test_a_module_of_another_architecture_is_refused(
    bootables: Mapping[str, Bootable], tmp_path: Path
) -> None:
    one, other, *_ = (bootable.sets["basic"].modules for bootable in bootables.values())
    goal = tmp_path / "out.ko"
    target = other["klp_target"].path
    told = klp_e2e("convert", one["klp_target"].path, goal, "--auto", target)
    assert told.code == Exit.USAGE
    assert str(target) in told.err or "klp_target" in told.err
    assert list(tmp_path.iterdir()) == []


def test_a_truncated_module_is_refused_wherever_it_ends(bootable: Bootable, tmp_path: Path) -> None:
    data = bootable.sets["basic"].modules["klp_patch"].path.read_bytes()
    symbol = KlpSymbol("klp_target", "anything", 0)
    for end in range(0, len(data), max(1, len(data) // CUTS)):
        with pytest.raises(UsageError):
            klp.inspect(data[:end], name="cut.ko")
        with pytest.raises(UsageError):
            klp.convert(data[:end], [symbol], name="cut.ko")
    (tmp_path / "cut.ko").write_bytes(data[: len(data) // 2])
    told = klp_e2e("inspect", tmp_path / "cut.ko")
    assert (told.code, "truncated" in told.err) == (Exit.USAGE, True)


def test_a_garbled_module_is_refused_or_read_but_never_a_riddle(bootable: Bootable) -> None:
    """One byte of a header, of the section table or of the symbol table is wrong."""
    data = bootable.sets["basic"].modules["klp_patch"].path.read_bytes()
    table = relocation.table(bootable.arch.relocations)
    headers = len(data) - 64 * len(reader.read(data).sections)
    for at in (*range(64), *range(headers, len(data), 7)):
        for value in (0x00, 0x7F, 0xFF):
            garbled = data[:at] + bytes([value]) + data[at + 1 :]
            try:
                klp.inspect(garbled, table=table, name="garbled.ko")
            except UsageError as refusal:
                assert "garbled.ko" in str(refusal)


@pytest.mark.parametrize(
    ("kind", "mark", "has"),
    [("livepatch", "", "has no"), ("plain", 'MODULE_INFO(livepatch, "Y");', "has")],
)
def test_a_livepatch_of_sources_has_its_mark(
    any_bootable: Bootable, tmp_path: Path, kind: str, mark: str, has: str
) -> None:
    """Without it the kernel says EINVAL, which is right, and was told as its fault."""
    (tmp_path / "Kbuild").write_text("obj-m := klp_own_mark.o\n")
    source = f'#include <linux/module.h>\nMODULE_LICENSE("GPL");\n{mark}\n'
    (tmp_path / "klp_own_mark.c").write_text(source)
    patches = '[modules.patches]\nvmlinux = ["f"]\n' * (kind == "livepatch")
    toml = f'[[modules]]\nname = "klp_own_mark"\nkind = "{kind}"\n{patches}'
    (tmp_path / "set.toml").write_text(toml)
    found = catalog.module_set(str(tmp_path))
    with pytest.raises(UsageError, match=rf"klp_own_mark\.ko {has} MODULE_INFO\(livepatch"):
        modules.build(
            any_bootable.kernel, any_bootable.arch, found, jobs=2, deadline=Deadline.after(300)
        )


def test_a_set_is_built_again_when_something_outside_of_it_changes(
    any_bootable: Bootable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A header of another directory, one that is found before it, and a variable of ours."""
    place = tmp_path / ("own" * 70)
    first, second = tmp_path / "first", tmp_path / "second"
    for directory in (place, first, second):
        directory.mkdir()
    (second / "val.h").write_text('#define VAL "one"\n')
    (place / "Kbuild").write_text(
        f"obj-m := klp_own_val.o\nccflags-y += -I{first} -I{second} $(KLP_OWN_FLAGS)\n"
    )
    (place / "klp_own_val.c").write_text(
        "#include <linux/module.h>\n#include <val.h>\n"
        'MODULE_LICENSE("GPL");\nMODULE_INFO(val, "VAL" VAL);\n'
    )
    (place / "set.toml").write_text('[[modules]]\nname = "klp_own_val"\nkind = "plain"\n')
    monkeypatch.setenv("KLP_OWN_FLAGS", "-DNOT_FOR_US -Werror=nonsense")

    def value() -> str:
        time.sleep(0.1)  # what was written while it was read would be read again
        built = modules.build(
            any_bootable.kernel,
            any_bootable.arch,
            catalog.module_set(str(place)),
            jobs=2,
            deadline=Deadline.after(300),
        )
        path = built.modules["klp_own_val"].path
        return f"{path.read_bytes().partition(b'val=VAL')[2][:3].decode()} {path.stat().st_ino}"

    one = value()
    assert one.startswith("one ") and value() == one
    (second / "val.h").write_text('#define VAL "two"\n')
    two = value()
    assert two.startswith("two ") and value() == two
    (first / "val.h").write_text('#define VAL "six"\n')
    assert value().startswith("six ")
