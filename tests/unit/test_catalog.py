# SPDX-License-Identifier: GPL-2.0-only
"""A TOML file is right in every key, or refused by file and key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import pytest

from orchestrator import catalog
from orchestrator.errors import UsageError


@dataclass(frozen=True, slots=True)
class Row:
    number: int
    kind: Literal["a", "b"] = "a"


@dataclass(frozen=True, slots=True)
class File:
    name: str
    scale: float = 1.0
    words: tuple[str, ...] = ()
    row: tuple[Row, ...] = ()
    table: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def load(tmp_path: Path, text: str) -> File:
    path = tmp_path / "f.toml"
    path.write_text(text)
    return catalog.load_toml(path, File, name="f")


def test_a_file_becomes_its_dataclass(tmp_path: Path) -> None:
    text = 'scale = 2\nwords = ["x"]\ntable.k = ["v"]\n[[row]]\nnumber = 3\nkind = "b"\n'
    assert load(tmp_path, text) == File("f", 2.0, ("x",), (Row(3, "b"),), {"k": ("v",)})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nonsense = 1", r"f\.toml: nonsense: unknown key"),
        ("[[row]]\nnumber = 1\nmore = 2", r"row\[0\]\.more: unknown key"),
        ("[[row]]\n", r"row\[0\]\.number: missing"),
        ('[[row]]\nnumber = "1"', r"row\[0\]\.number: .*integer, not '1'"),
        ('[[row]]\nnumber = 1\nkind = "c"', r"row\[0\]\.kind: .*'a' or 'b', not 'c'"),
        ('words = "x"', r"words: .*array"),
        ("table.k = [1]", r"table\.k\[0\]: .*string, not 1"),
        ("words = = 1", r"f\.toml: .*line 1"),
        ('name = "g"', r"name: must be 'f'"),
    ],
)
def test_what_is_wrong_is_named_with_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load(tmp_path, text)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"gone\.toml: No such file"):
        catalog.load_toml(tmp_path / "gone.toml", File)


def test_every_architecture_and_module_set_of_ours_loads() -> None:
    for name, arch in catalog.arches().items():
        assert arch.name == name
        numbers = [row.number for row in arch.relocations]
        assert len(set(numbers)) == len(numbers)
    for name, module_set in catalog.module_sets().items():
        assert module_set.name == name and module_set.directory.is_dir()


def test_unknown_names_list_the_known() -> None:
    known = sorted(catalog.arches())
    with pytest.raises(UsageError, match="unknown architecture: vax") as caught:
        catalog.arch("vax")
    assert all(name in caught.value.hint for name in known)
    with pytest.raises(UsageError, match="unknown module set: basik") as caught:
        catalog.module_set("basik")
    assert "did you mean basic?" in caught.value.hint


def test_an_architecture_may_be_a_file_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, arch = next(iter(catalog.arches().items()))
    (tmp_path / "mine.toml").write_text(catalog.arch_file(name).read_text())
    monkeypatch.chdir(tmp_path)
    mine = catalog.arch("mine.toml")
    assert mine == replace(arch, name="mine", file=tmp_path / "mine.toml")
    assert catalog.arch("./mine.toml") == mine
    assert catalog.fragment(tmp_path / "mine.toml") == tmp_path / "mine.config"
    assert catalog.arch(str(catalog.arch_file(name))) == arch, "ours by its path is ours"
    with pytest.raises(UsageError, match="unknown architecture: mine") as caught:
        catalog.arch("mine")
    assert "a file is given as mine.toml" in caught.value.hint
    with pytest.raises(UsageError, match=r"other\.toml: No such file"):
        catalog.arch("other.toml")
    with pytest.raises(UsageError, match="no name of an architecture's file"):
        catalog.arch("./my arch.toml")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a = nan", "nan is no number"),
        ("a = -inf", "-inf is no number"),
        ("a = 1e999", "1e999 is no number"),
        (f"a = {'9' * 5000}", "5000 digits"),
        (f"a = {'[' * 5000}", "too deep in one another"),
        (f"{'a.' * 10000}a = 1", "more than 100 dots"),
        ("a = '\udcff'", "invalid start byte"),
    ],
)
def test_what_a_toml_file_cannot_say(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(UsageError, match=told):
        catalog.read_toml(path)
