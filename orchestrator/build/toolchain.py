# SPDX-License-Identifier: GPL-2.0-only
"""What a kernel and its modules are compiled with: gcc, gcc-N or llvm-N, as an architecture has it.

`gcc` is the host's own of that name. The guest's agent is a program of the guest and has a
toolchain of its own. What Debian calls the packages stands in host-packages.toml.
"""

from __future__ import annotations

from dataclasses import replace

from orchestrator.nouns import Arch

GCC = "gcc"
FAMILIES = {GCC: GCC, "llvm": "llvm-19"}  # -> one of it


def family(arch: Arch) -> str:
    """`gcc` or `llvm`."""
    return arch.toolchain.partition("-")[0]


def number(arch: Arch) -> str:
    """`12` of gcc-12, "" of gcc."""
    return arch.toolchain.partition("-")[2]


def compiler(arch: Arch) -> str:
    """The C compiler's program."""
    return command(arch.toolchain, arch.cross_compile)[0]


def command(toolchain: str, cross_compile: str) -> tuple[str, ...]:
    """The C compiler's program, and what makes it compile for the architecture."""
    family, _, number = toolchain.partition("-")
    if family == GCC:
        return (f"{cross_compile}{toolchain}",)
    target = cross_compile.rpartition("/")[2].removesuffix("-")
    return (f"clang-{number}", *([f"--target={target}"] if target else []))


def objdump(arch: Arch) -> str:
    """The disassembler's program, of the compiler's own binutils."""
    if family(arch) == GCC:
        return f"{arch.cross_compile}objdump"
    return f"llvm-objdump-{number(arch)}"


def agents(arch: Arch) -> Arch:
    """The architecture, compiled as the guest's agent is."""
    return replace(arch, toolchain=arch.userland.toolchain)


def package(arch: Arch) -> str:
    """The Debian package of the compiler; "": `klp-e2e doctor` knows."""
    if arch.toolchain != GCC:
        return ""
    return next((name for name in arch.packages if name.startswith("gcc")), GCC)


def variables(arch: Arch) -> tuple[str, ...]:
    """What kbuild is told besides CROSS_COMPILE, for a kernel and for its modules alike
    (Documentation/kbuild/llvm.rst)."""
    if family(arch) != GCC:
        return (f"LLVM=-{number(arch)}",)
    return (f"CC={compiler(arch)}",) if number(arch) else ()
