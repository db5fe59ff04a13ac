# SPDX-License-Identifier: GPL-2.0-only
"""What a kernel and its modules are compiled with: gcc, gcc-N or llvm-N, as an architecture has it.

`gcc` is the host's own of that name. The guest's agent is a program of the guest and always gcc's.
What Debian calls the packages stands in host-packages.toml.
"""

from __future__ import annotations

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
    if family(arch) == GCC:
        return f"{arch.cross_compile}{arch.toolchain}"
    return f"clang-{number(arch)}"


def variables(arch: Arch) -> tuple[str, ...]:
    """What kbuild is told besides CROSS_COMPILE, for a kernel and for its modules alike
    (Documentation/kbuild/llvm.rst)."""
    if family(arch) != GCC:
        return (f"LLVM=-{number(arch)}",)
    return (f"CC={compiler(arch)}",) if number(arch) else ()
