# SPDX-License-Identifier: GPL-2.0-only
"""What tuxmake makes of the words that we start it with: the compiler that make is told."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator import catalog
from orchestrator.build.kbuild import Site, _command
from orchestrator.cli import options
from orchestrator.host import process

ARCHES = catalog.arches().values()
NATIVE = next(arch.name for arch in ARCHES if not arch.cross_compile)
CROSS = next(arch.name for arch in ARCHES if arch.cross_compile)
GCCS = ("x86_64-linux-gnu-gcc", f"{catalog.arch(CROSS).cross_compile}gcc-12")


@pytest.mark.parametrize(
    ("name", "toolchain", "compiler", "hosts"),
    [
        (NATIVE, "gcc", "gcc", "gcc"),
        (NATIVE, "llvm-19", "clang-19", "clang-19"),
        (CROSS, "gcc-12", "{cross}gcc-12", "gcc"),
        (CROSS, "llvm-19", "clang-19", "clang-19"),
    ],
)
def test_make_is_told_the_compiler_that_was_asked_for(
    name: str, toolchain: str, compiler: str, hosts: str, tmp_path: Path
) -> None:
    """No program of these names need be here: a `clang` without number is none of them, nor
    is a gcc for what LLVM compiles."""
    arch = options.with_toolchain(catalog.arch(name), toolchain)
    if toolchain.startswith("llvm") and arch.cross_compile:
        arch = replace(arch, cross_compile="nobodys-linux-gnu-")
    site, programs = Site(tmp_path), tmp_path / "bin"
    for place in (site.source, site.build, site.output, programs):
        place.mkdir()
    for wanted in ("Makefile", "Kconfig", "Kbuild"):
        (site.source / wanted).touch()
    told = tmp_path / "told"
    for program in ("make", "clang-19", *GCCS):
        stub = programs / program
        stub.write_text(f'#!/bin/sh\nfor word; do echo "$word"; done >> {told}\nexit 1\n')
        stub.chmod(0o755)
    site.requested.touch()
    done = process.run(
        [*_command(arch, site, 1), "config"],
        env={"PATH": f"{programs}:{os.environ['PATH']}", "XDG_CONFIG_HOME": str(tmp_path)},
        check=False,
    )
    assert told.is_file(), done.output
    words = told.read_text().splitlines()
    asked = compiler.format(cross=arch.cross_compile)
    assert f"CC=ccache {asked}" in words and f"HOSTCC=ccache {hosts}" in words
    assert ("LLVM=-19" in words) == (toolchain == "llvm-19")
