# SPDX-License-Identifier: GPL-2.0-only
"""kbuild for modules that lie outside the kernel's tree."""

from __future__ import annotations

import re
from pathlib import Path

from orchestrator.build import toolchain
from orchestrator.deadline import Deadline
from orchestrator.errors import BuildError
from orchestrator.host import process
from orchestrator.host.tools import building
from orchestrator.nouns import Arch, Kernel

_COMPILER = re.compile(r"^\S+:\d+(?::\d+)?: (?:fatal )?error: .+$", re.MULTILINE)
_MODPOST = re.compile(r"^WARNING: modpost: .+: section mismatch in .+$", re.MULTILINE)
_KBUILD = re.compile(r"^(?:ERROR: .+|make(?:\[\d+\])?: \*\*\* .+|ld: .+)$", re.MULTILINE)


def make(
    kernel: Kernel,
    arch: Arch,
    place: Path,
    *variables: str,
    what: str,
    jobs: int,
    deadline: Deadline,
    log: Path,
) -> None:
    """Build all modules of `place` there, with everything that is said in `log`.

    what: what it is that is built, for messages. variables: NAME=VALUE for its Makefile. Raises
    BuildError naming the first line that the compiler objects to.
    """
    log.write_text("")
    argv = [
        *("make", "-C", str(kernel.source_tree), f"-j{jobs}", f"O={kernel.build_tree}"),
        *(f"ARCH={arch.kernel_arch}", f"CROSS_COMPILE={arch.cross_compile}"),
        *toolchain.variables(arch),  # those of the kernel
        # The targets' symbols stay undefined until the livepatches are converted.
        "KBUILD_MODPOST_WARN=1",
        *variables,
        *(f"M={place}", "modules"),
    ]
    try:
        process.run(building(argv), deadline=deadline, log=log)
    except process.CommandFailed as err:
        line = first_error(log.read_text(errors="replace"), place) or str(err)
        raise BuildError(
            f"{what} does not build for {arch.name}: {line}",
            hint=f"the whole output is in {log}",
            log=str(log),
        ) from err


def first_error(log: str, root: Path) -> str:
    """The first line of a build's output that says what is wrong, "" when none does.

    Names of files below `root`, where the sources were copied to, become relative to it.
    """
    found = _COMPILER.search(log) or _KBUILD.search(log)
    if found and "Section mismatches" in found[0]:  # which, the warnings before it tell
        found = _MODPOST.search(log) or found
    return found[0].replace(f"{root}/", "") if found else ""
