# SPDX-License-Identifier: GPL-2.0-only
"""A set of .ko files and nothing else: what each says of itself."""

from __future__ import annotations

import os
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from elf_samples import MODINFO, target, with_section

from orchestrator import catalog
from orchestrator.build import declared, prebuilt
from orchestrator.elf import patchtable, reader, writer
from orchestrator.elf.patchtable import Function, Layout, PatchTable
from orchestrator.errors import UsageError
from orchestrator.host import files
from orchestrator.model import kofiles
from orchestrator.nouns import ModuleSpec, Origin, SourcePatch

ORIGIN = Origin(
    "kpatch-build",
    "0.9.10-1",
    (SourcePatch("a-1.patch", "0" * 64), SourcePatch("a-2.patch", "1" * 64)),
    ('f: "quoted" \\ \x1b[2J', "two\nlines"),
    replace=False,
)
GENUINE = Path(__file__).parent / "genuine/objtool-7.3.4.ko"
# of tests/corpus/6.1/both.patch; what is in its debug sections was taken out
KPATCH = Path(__file__).parent / "genuine/kpatch-build-0.9.10.ko"
NO_LAYOUT = Layout(*[0] * 14)
PATCHES = {"klp_target": ("patched_one", "other")}


def module(name: str, *lines: str) -> bytes:
    text = "\0".join((f"name={name}", "license=GPL", *lines)).encode() + b"\0"
    return writer.write(with_section(target(), MODINFO, lambda s: replace(s, data=text)))


def a_directory(place: Path) -> Path:
    (place / "livepatch-fix.ko").write_bytes(GENUINE.read_bytes())
    (place / "klp-target.ko").write_bytes(module("klp_target", "depends=base"))
    (place / "base.ko").write_bytes(module("base", "depends=of-the-kernel"))
    return place


def test_the_tables_of_klp_build_are_read() -> None:
    found = patchtable.prepared(reader.read(GENUINE.read_bytes(), "p.ko"), "p.ko")
    assert found is not None and found.replace is None
    functions = (Function("patched_one", 0), Function("other", 0))
    assert found.objects == (("klp_target", functions),)
    assert patchtable.prepared(reader.read(module("t"), "t.ko"), "t.ko") is None


@pytest.mark.parametrize(
    ("name", "objects"),
    [
        (
            "two-objects",
            (
                ("klp_target", (Function("target_patched", 0),)),
                ("vmlinux", (Function("core_patched", 0),)),
            ),
        ),
        ("namesake", (("vmlinux", (Function("twin", 2),)),)),
        ("tables", (("vmlinux", (Function("core_tables", 0),)),)),
        ("alternative", (("vmlinux", (Function("core_chosen", 0),)),)),
    ],
)
def test_the_objects_of_klp_build_are_read(
    name: str, objects: tuple[tuple[str, tuple[Function, ...]], ...]
) -> None:
    """As many as there are; a function that the patch adds, a callback, is none that it patches."""
    data = GENUINE.with_name(f"{name}-7.3.4.ko").read_bytes()
    found = patchtable.prepared(reader.read(data, "p.ko"), "p.ko")
    assert found is not None and found.objects == objects
    text = tomllib.loads(kofiles.set_text({"p.ko": data, "t.ko": module("klp_target")}))
    kinds = {spec["name"]: spec["kind"] for spec in text["modules"]}
    assert kinds["klp_target"] == ("target" if name == "two-objects" else "plain")
    (livepatch,) = (spec for spec in text["modules"] if spec["kind"] == "livepatch")
    assert livepatch["patches"] == {
        target: [f"{f.name},{f.sympos}" if f.sympos else f.name for f in functions]
        for target, functions in objects
    }


def test_the_tables_of_kpatch_build_are_read() -> None:
    found = patchtable.prepared(reader.read(KPATCH.read_bytes(), "p.ko"), "p.ko")
    assert found is not None and found.replace is None and found.states is None
    assert found.objects == (
        ("vmlinux", (Function("cmdline_proc_show", 1),)),
        ("dummy", (Function("dummy_xmit", 1),)),
    )
    text = kofiles.set_text({"p.ko": KPATCH.read_bytes(), "d.ko": module("dummy")})
    assert '"vmlinux" = [\n    "cmdline_proc_show,1",\n]' in text
    assert 'name = "dummy"\nkind = "target"' in text


def test_a_directory_of_modules_is_a_set(tmp_path: Path) -> None:
    found = catalog.module_set(str(a_directory(tmp_path)))
    assert [(spec.name, spec.kind, spec.ko, spec.depends) for spec in found.modules[:3]] == [
        ("base", "plain", "base.ko", ()),
        ("klp_target", "target", "klp-target.ko", ("base",)),
        ("livepatch_fix", "livepatch", "livepatch-fix.ko", ()),
    ]
    assert found.modules[2].patches == PATCHES and found.modules[2].replace
    # what there is besides is said by a set.toml, which is then taken alone
    (tmp_path / "set.toml").write_text(
        catalog.set_text(tmp_path).decode().replace("replace = true", "replace = false")
    )
    assert not catalog.module_set(str(tmp_path)).modules[2].replace


def test_more_files_than_a_set_has_modules_are_not_left_out(tmp_path: Path) -> None:
    """A set of the first 64 would pass, and the others were never loaded."""
    for number in range(kofiles.MOST):
        (tmp_path / f"m{number:02}.ko").write_bytes(module(f"m{number:02}"))
    assert len(catalog.set_text(tmp_path).split(b"[[modules]]")) == kofiles.MOST + 1
    (tmp_path / "p.ko").write_bytes(GENUINE.read_bytes())
    with pytest.raises(UsageError, match=r"65 \.ko files"):
        catalog.module_set(str(tmp_path))


def test_a_set_toml_that_leads_nowhere_is_not_passed_over(tmp_path: Path) -> None:
    (a_directory(tmp_path) / "set.toml").symlink_to("gone.toml")
    with pytest.raises(UsageError, match=r"set\.toml"):
        catalog.module_set(str(tmp_path))


@pytest.mark.parametrize(
    "name", ["x-{arch}.ko", "two\nlines.ko", os.fsdecode(b"\xff.ko"), "\x7f.ko"]
)
def test_a_file_name_that_a_set_toml_cannot_have_is_told(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(module("m"))
    with pytest.raises(UsageError, match=r"no set\.toml can have a file of that name") as caught:
        catalog.module_set(str(tmp_path))
    caught.value.full_message.encode()


def test_names_of_others_are_names(tmp_path: Path) -> None:
    """As TOML has them, which has no surrogates; and hundreds of functions, each with a dot."""
    (tmp_path / "schlüssel-\U0001f511.ko").write_bytes(module("t"))
    (spec,) = catalog.module_set(str(tmp_path)).modules
    assert spec.ko == "schlüssel-\U0001f511.ko"
    functions = tuple(Function(f"f{number}.isra.0", 0) for number in range(300))
    lines = list(kofiles._patches(PatchTable(None, (("klp_target", functions),), None)))
    patches = catalog._toml("\n".join(lines).encode(), Path("set.toml"))
    assert patches == {"klp_target": [function.name for function in functions]}
    with pytest.raises(UsageError, match="is no name"):
        list(kofiles._patches(PatchTable(None, (("t", (Function("a\udcff", 0),)),), None)))


def test_files_that_are_small_enough_each_are_not_all_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """64 of 256 MiB are holes that cost nothing, and would take 16 GiB of memory."""
    a_directory(tmp_path)
    module_set = catalog.module_set(str(tmp_path))
    larger = sum(path.stat().st_size for path in tmp_path.iterdir()) - 1
    monkeypatch.setattr(files, "MODULES", larger)
    with pytest.raises(UsageError, match="with the files before it it is more than 0 MiB"):
        catalog.module_set(str(tmp_path))
    with pytest.raises(UsageError, match="with the files before it it is more than 0 MiB"):
        prebuilt.files(module_set, catalog.arch("x86_64"))


def test_several_livepatches_need_somebody_who_says_what_replaces_what(tmp_path: Path) -> None:
    """One of --no-replace that is taken to replace the other would be a FAIL of a right kernel."""
    for name in ("one.ko", "other.ko"):
        (tmp_path / name).write_bytes(GENUINE.read_bytes())
    with pytest.raises(UsageError, match=r"one\.ko and other\.ko: whether they replace") as caught:
        catalog.module_set(str(tmp_path))
    assert "set.toml" in caught.value.hint


def test_a_livepatch_that_does_not_say_it_is_told(tmp_path: Path) -> None:
    (tmp_path / "p.ko").write_bytes(module("p", "livepatch=Y"))
    with pytest.raises(UsageError, match=r"p.ko does not say what it patches") as caught:
        catalog.module_set(str(tmp_path))
    assert "set.toml" in caught.value.hint


@pytest.mark.parametrize(
    ("patches", "wrong"),
    [
        (PATCHES, ""),
        ({"klp_target": ("patched_one,1", "other,1")}, ""),
        ({"klp_target": ("patched_one",)}, "replaces other,1 of klp_target"),
        ({"klp_target": ("patched_one,2", "other")}, "replaces patched_one,1 of klp_target"),
        ({"klp_other": ("patched_one", "other")}, "patches klp_target"),
    ],
)
@pytest.mark.parametrize("replaces", [True, False])
def test_what_a_set_toml_says_is_held_against_them(
    patches: dict[str, tuple[str, ...]], wrong: str, replaces: bool
) -> None:
    spec = ModuleSpec("livepatch_fix", "livepatch", patches, replace=replaces)
    data = GENUINE.read_bytes()
    if not wrong:
        assert declared.check(spec, data, NO_LAYOUT, Path("set.toml"))
        return
    with pytest.raises(UsageError, match=wrong):
        declared.check(spec, data, NO_LAYOUT, Path("set.toml"))


def test_of_what_a_builder_made_it(tmp_path: Path) -> None:
    """What a builder says may hold anything; what was written is read."""
    (tmp_path / "livepatch.ko").write_bytes(GENUINE.read_bytes())
    text = kofiles.set_text({"livepatch.ko": GENUINE.read_bytes()})
    (tmp_path / "set.toml").write_text(text + kofiles.origin_text(ORIGIN))
    origin = catalog.module_set(f"{tmp_path}/").origin
    assert origin is not None and origin.patches == ORIGIN.patches
    assert (origin.builder, origin.version) == (ORIGIN.builder, ORIGIN.version)
    assert not origin.replace
    assert len(origin.warned) == 2 and all(each.isprintable() for each in origin.warned)
