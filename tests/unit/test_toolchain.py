# SPDX-License-Identifier: GPL-2.0-only
"""What kernels and modules are compiled with, and where that turns up again."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from history_samples import a_result
from samples import a_kernel

from orchestrator import catalog, doctor
from orchestrator.build import kbuild, kernel, outoftree, toolchain
from orchestrator.build.kbuild import Site, _command
from orchestrator.cli import options, session
from orchestrator.commands.nightly import plan
from orchestrator.commands.nightly.config import Config, Matrix
from orchestrator.deadline import Deadline
from orchestrator.errors import BuildError, HarnessError, UsageError
from orchestrator.host import process
from orchestrator.report import reproduce, same
from orchestrator.verdicts import Run

ARCHES = catalog.arches()
NATIVE = next(arch for arch in ARCHES.values() if not arch.cross_compile)
CROSS = next(arch for arch in ARCHES.values() if arch.cross_compile)
RUN = Run(("klp-e2e", "run"), 0.0, "debian:6.1", (), 1)


def by(arch: Any, name: str) -> Any:
    return options.with_toolchain(arch, name)


@pytest.mark.parametrize("said", ["", "\n \n"])
def test_a_compiler_that_says_nothing_of_itself_is_none(
    said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / toolchain.compiler(NATIVE)
    program.write_text(f"#!/bin/sh\nprintf '{said}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(HarnessError, match="says nothing"):
        kernel.compiler_version(NATIVE)


@pytest.mark.parametrize(
    ("name", "compiler", "words"),
    [
        ("gcc", "{cross}gcc", ()),
        ("gcc-12", "{cross}gcc-12", ("CC={cross}gcc-12",)),
        ("llvm-19", "clang-19", ("LLVM=-19",)),
    ],
)
@pytest.mark.parametrize("arch", [NATIVE, CROSS], ids=lambda arch: arch.name)
def test_kernel_and_modules_are_compiled_alike(
    arch: Any, name: str, compiler: str, words: Sequence[str], monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:  # fmt: skip
    cross = arch.cross_compile
    expected = [word.format(cross=cross) for word in words]
    arch = by(arch, name)
    assert toolchain.compiler(arch) == compiler.format(cross=cross)
    llvms = name.startswith("llvm")
    assert toolchain.objdump(arch) == ("llvm-objdump-19" if llvms else f"{cross}objdump")
    targets = toolchain.command(name, cross)[1:]
    assert targets == ((f"--target={cross[:-1]}",) if llvms and cross else ())
    kernel = _command(arch, Site(tmp_path), 1)
    assert kernel[kernel.index(f"CROSS_COMPILE={cross}") + 1 :] == expected
    assert not any(word.startswith("--toolchain") for word in kernel)
    ran: list[Sequence[str]] = []
    monkeypatch.setattr(process, "run", lambda argv, **_: ran.append(argv))
    outoftree.make(
        a_kernel(arch.name, tmp_path),
        arch,
        tmp_path,
        what="x",
        jobs=1,
        deadline=Deadline.after(1),
        log=tmp_path / "log",
    )
    assert [word for word in ran[0] if word.startswith(("CC=", "LLVM="))] == expected


@pytest.mark.parametrize("name", ["clang-19", "llvm", "gcc-", "gcc-12 X=1", "llvm-19\n", "gcc-0"])
def test_what_is_none_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="is no toolchain"):
        by(NATIVE, name)


def test_an_architecture_s_file_names_its_own(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    text = catalog.arch_file(NATIVE.name).read_text()
    file.write_text(f'toolchain = "llvm-19"\n{text}')
    mine = str(file)
    assert options.build_options([mine], "debian:6.1", [], 1).arches[0].toolchain == "llvm-19"
    (arch,) = options.build_options([mine], "debian:6.1", [], 1, (), "gcc-12").arches
    assert arch.toolchain == "gcc-12"
    file.write_text(f'toolchain = "tcc"\n{text}')
    with pytest.raises(UsageError, match="toolchain"):
        catalog.arch(mine)


def test_doctor_knows_what_it_takes() -> None:
    nothing = doctor.Host(
        program=lambda name: False, file=lambda name: True, package=lambda name: True
    )
    file = Path(session.__file__).parents[1] / "host-packages.toml"
    common = doctor.HostPackages({}, {}, tomllib.loads(file.read_text())["toolchains"])

    def lacking(arch: Any) -> set[str]:
        return {n.package for n in doctor.missing(doctor.examine(common, [arch], nothing))}

    own = {name: lacking(ARCHES[name]) for name in (NATIVE.name, CROSS.name)}
    assert lacking(by(NATIVE, "llvm-19")) - own[NATIVE.name] == {"clang-19", "lld-19", "llvm-19"}
    assert lacking(by(NATIVE, "gcc-11")) - own[NATIVE.name] == {"gcc-11"}
    triplet = CROSS.cross_compile.removesuffix("-")
    assert lacking(by(CROSS, "gcc-12")) - own[CROSS.name] == {f"gcc-12-{triplet}"}


def test_the_line_that_reproduces_a_case_names_it() -> None:
    line = reproduce.line(replace(RUN, toolchain="llvm-19"), a_result("one"))
    assert "--series none --toolchain llvm-19 " in line
    assert "--toolchain" not in reproduce.line(RUN, a_result("one"))


def test_what_was_begun_with_another_is_not_gone_on_with() -> None:
    with pytest.raises(UsageError, match="begun with --toolchain llvm-19"):
        same.refuse_other(Path("r"), replace(RUN, toolchain="llvm-19"), RUN)


def test_a_night_has_each_as_a_kernel_of_its_own() -> None:
    read = plan.Reader(
        targets=lambda names: [plan.Target("x", "x")],
        source=str,
        stack=tuple,
        known_issues=tuple,
        seconds=options.seconds,
    )
    matrix = Matrix(("k",), ("s",), toolchains=("", "llvm-19"))
    found = [j for j in plan.expand(Config((matrix,)), read) if j.name.endswith("/build")]
    assert [job.kernel for job in found] == ["k + s", "k + s + llvm-19"]
    assert found[1].command[-2:] == ("--toolchain", "llvm-19") and found[1].toolchain == "llvm-19"


@pytest.mark.parametrize(
    "said",
    [
        "drivers/a.c:1: fatal error: error writing to /tmp/ccX.s: Disk quota exceeded",
        "/tmp/ccX.s: Fatal error: can't close fs/b.o: Input/output error",
        "cc1: fatal error: cannot open 'x.s' for writing: Read-only file system",
        "ld: final link failed: File too large",
        "gcc: fatal error: cannot execute 'cc1': vfork: Cannot allocate memory",
        "cc1: out of memory allocating 65536 bytes after a total of 90 bytes",
        "virtual memory exhausted: Cannot allocate memory",
        "s390x-linux-gnu-gcc: fatal error: Killed signal terminated program cc1",
        "clang: error: unable to execute command: Killed",
        "make[2]: *** [../Makefile:1250: vmlinux] Killed",
        "ld: final link failed: No space left on device",
    ],
)
def test_what_this_machine_does_to_a_build_is_not_the_kernels_fault(
    said: str, tmp_path: Path
) -> None:
    """A quota, or a compiler that was killed for memory, made a night's build FAIL."""
    text = f"  CC      a.o\n{said}\nmake: *** [x: y] Error 1\n"
    told = kbuild.why_unbuilt(text, "s390x", "none", tmp_path / "log")
    assert isinstance(told, HarnessError)


@pytest.mark.parametrize(
    "said",
    [
        "a.c:3:5: error: 'Killed' undeclared (first use in this function)",
        "cc1: internal compiler error: Segmentation fault signal terminated program cc1",
        'a.c:3: error: #error "Input/output error: no such bus"',
    ],
)
def test_what_the_source_says_is(said: str, tmp_path: Path) -> None:
    told = kbuild.why_unbuilt(f"{said}\n", "s390x", "none", tmp_path / "log")
    assert isinstance(told, BuildError) and said in str(told)
