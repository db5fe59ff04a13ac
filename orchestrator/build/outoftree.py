# SPDX-License-Identifier: GPL-2.0-only
"""kbuild for modules that lie outside the kernel's tree."""

from __future__ import annotations

import hashlib
import re
import shutil
from pathlib import Path

from orchestrator.build import toolchain
from orchestrator.deadline import Deadline
from orchestrator.errors import BuildError
from orchestrator.host import process, workdir
from orchestrator.host.rundir import run_dir
from orchestrator.host.tools import building
from orchestrator.nouns import Arch, Kernel

_COMPILER = re.compile(r"^\S+:\d+(?::\d+)?: (?:fatal )?error: .+$", re.MULTILINE)
_MODPOST = re.compile(r"^WARNING: modpost: .+: section mismatch in .+$", re.MULTILINE)
_ONLY = "module.ko"
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


def once(
    kernel: Kernel, arch: Arch, directory: Path, *, what: str, jobs: int, deadline: Deadline
) -> bytes:
    """The only module of ours that `directory` has the sources of, compiled once for a kernel.

    what: what it is, for messages. Raises BuildError.
    """
    files = sorted(directory.iterdir())
    digest = hashlib.sha256(kernel.key.encode())
    for path in files:
        digest.update(path.read_bytes())
    name = f"{directory.name}-{arch.name}"
    final = workdir.cache_root() / "layouts" / f"{name}-{digest.hexdigest()[:32]}"
    with workdir.locked(final):
        if workdir.verify(final) != "":
            with workdir.staging(final) as tmp, run_dir(directory.name) as scratch:
                for path in files:
                    shutil.copyfile(path, scratch / path.name)
                log = workdir.whole(workdir.LOGS) / f"{name}.log"
                make(kernel, arch, scratch, what=what, jobs=jobs, deadline=deadline, log=log)
                (made,) = scratch.glob("*.ko")
                shutil.copyfile(made, tmp / _ONLY)
                workdir.publish(tmp, final)
        workdir.touch(final)
        return (final / _ONLY).read_bytes()


def first_error(log: str, root: Path) -> str:
    """The first line of a build's output that says what is wrong, "" when none does.

    Names of files below `root`, where the sources were copied to, become relative to it.
    """
    found = _COMPILER.search(log) or _KBUILD.search(log)
    if found and "Section mismatches" in found[0]:  # which, the warnings before it tell
        found = _MODPOST.search(log) or found
    return found[0].replace(f"{root}/", "") if found else ""
