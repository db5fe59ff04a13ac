# SPDX-License-Identifier: GPL-2.0-only
"""A built module set is taken from the cache only while all that it was made of is what it was."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from orchestrator import catalog
from orchestrator.build import modules, outside
from orchestrator.errors import UsageError
from orchestrator.nouns import ModuleSet

NOW = "now"
LATER = 10**12  # ns, by which all files here are old


class Built:
    """A build as kbuild leaves it, whose object was made of a header and looked into a directory,
    both elsewhere."""

    def __init__(self, root: Path) -> None:
        self.entry = root / "entry"
        self.kernel = root / "kernel"
        self.set = root / "scratch/set"
        self.elsewhere = root / "elsewhere"
        self.header = root / "val.h"
        for place in (self.entry, self.kernel / "include", self.set, self.elsewhere):
            place.mkdir(parents=True)
        self.header.write_text("#define VAL 1\n")
        (self.kernel / "include/k.h").write_text("")
        (self.set / "own.c").write_text("int x = VAL;\n")
        self.makefile("obj-m := own.o\nccflags-y += -I/elsewhere -I ../x -include /y.h  # ../z\n")
        (self.set / ".own.o.cmd").write_text(
            f"cmd_x/own.o := gcc -I./include -I {self.elsewhere} -I../elsewhere -c -o x/own.o\n\n"
            f"source_x/own.o := {self.set}/own.c\n\ndeps_x/own.o := \\\n"
            f"    $(wildcard include/config/X) \\\n  include/k.h \\\n  ../val.h \\\n"
            f"  {self.set}/own.c \\\n\nx/own.o: $(deps_x/own.o)\n"
        )

    def makefile(self, text: str) -> None:
        (self.set / "Kbuild").write_text(text)

    def write(self, since: int = 0) -> dict[str, object]:
        within = (self.set.parent, self.kernel)
        since = since or time.time_ns() + LATER
        outside.write(self.entry / outside.RECORD, self.set, within, self.kernel, since)
        found: dict[str, object] = json.loads((self.entry / outside.RECORD).read_text())
        return found


@pytest.fixture
def built(tmp_path: Path) -> Built:
    return Built(tmp_path)


def test_what_was_read_elsewhere_is_noted_and_nothing_else(built: Built) -> None:
    noted = built.write()
    assert noted["told"] is True
    assert list(noted["files"]) == [str(built.header)]  # type: ignore[call-overload]
    assert list(noted["trees"]) == [str(built.elsewhere)]  # type: ignore[call-overload]
    assert not outside.changed(built.entry)
    assert not outside.changed(built.kernel)  # an entry for which nothing was compiled


def test_a_header_that_changed_or_went_is_noticed(built: Built) -> None:
    built.write()
    built.header.write_text("#define VAL 2\n")
    assert outside.changed(built.entry)
    built.header.write_text("#define VAL 1\n")
    assert not outside.changed(built.entry)
    built.header.unlink()
    assert outside.changed(built.entry)


def test_a_header_that_would_be_found_first_is_noticed(built: Built) -> None:
    built.write()
    (built.elsewhere / "sub").mkdir()
    (built.elsewhere / "sub/val.h").write_text("")
    assert outside.changed(built.entry)


def test_of_a_directory_with_very_many_files_nobody_can_tell(
    built: Built, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outside, "_TREE_FILES", 2)
    for name in "abc":
        (built.elsewhere / f"{name}.h").touch()
    built.write()
    assert outside.changed(built.entry)


def test_a_header_that_was_written_to_while_it_was_read_counts_as_changed(built: Built) -> None:
    built.write(since=time.time_ns() - LATER)
    assert outside.changed(built.entry)


@pytest.mark.parametrize(
    "text",
    [
        *("include /x.mk", "-include x.mk", "sinclude $(src)/x.mk", "X != cat /x"),
        *("X := $(shell cat x)", "X := ${file <x}", "Y := $(wildcard $(X)/*.c)", "$(eval $(X))"),
        *("own-y := ../a.o", "own-y := /x/a.o", "ldflags-y := -T/x.lds", "ldflags-y := -T \\\n /x"),
        *("own.c:\n\tcat x >own.c", "ccflags-y := @x", "ccflags-y := -specs=/x"),
    ],
)
def test_what_a_makefile_does_by_other_means_nobody_can_tell(built: Built, text: str) -> None:
    built.makefile(f"obj-m := own.o\n{text}\n")
    assert built.write()["told"] is False
    assert outside.changed(built.entry)


@pytest.mark.parametrize(
    "text", ['asm(".incbin \\"/x\\"");', "#if __has_include(<x.h>)", "# embed </x>"]
)
@pytest.mark.parametrize("where", ["own.c", "val.h"])
def test_what_a_source_draws_in_by_other_means_nobody_can_tell(
    built: Built, text: str, where: str
) -> None:
    (built.header if where == "val.h" else built.set / where).write_text(text)
    assert built.write()["told"] is False


def test_our_own_sets_tell_everything() -> None:
    for module_set in catalog.module_sets().values():
        assert all(map(outside._is_listed, module_set.directory.rglob("*"))), module_set.name


def test_a_set_with_a_long_name_has_an_entry_of_a_name_that_can_be() -> None:
    for name in ("n" * 230, "\u00e4" * 115):
        assert (
            len(f".tmp-{modules._short(name)}-some_architecture-{'0' * 32}.123.lock".encode()) < 255
        )
    assert modules._short("basic") == "basic"


def test_a_huge_file_among_the_sources_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    os.truncate(tmp_path / "data", 1 << 40)
    with pytest.raises(UsageError, match="data is larger than 64 MiB"):
        modules._sources(ModuleSet("mine", tmp_path, ()))
