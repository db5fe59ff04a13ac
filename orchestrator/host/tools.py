# SPDX-License-Identifier: GPL-2.0-only
"""Programs of the host: where they lie, and the environment they are started in."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from orchestrator.errors import MissingTool

# What a shell of a kernel developer may carry, and what would change a build behind our back.
FOREIGN_PREFIXES = ("KBUILD_", "KCONFIG_", "QUILT_", "LC_", "TUXMAKE", "CCACHE_")
_FOREIGN_WORDS = (
    "MAKEFLAGS MFLAGS GNUMAKEFLAGS MAKELEVEL MAKEFILES MAKEOVERRIDES ARCH SUBARCH SRCARCH"
    " CROSS_COMPILE CROSS_COMPILE_COMPAT CC HOSTCC LD AR NM AS CPP OBJCOPY OBJDUMP STRIP READELF"
    " CFLAGS CPPFLAGS CXXFLAGS LDFLAGS HOSTCFLAGS HOSTLDFLAGS KCFLAGS KAFLAGS KCPPFLAGS LLVM"
    " LLVM_IAS LOCALVERSION KERNELRELEASE KERNELVERSION INSTALL_PATH INSTALL_MOD_PATH"
    " INSTALL_HDR_PATH W V C O M LANGUAGE POSIXLY_CORRECT GREP_OPTIONS CDPATH ENV BASH_ENV"
    " GCC_EXEC_PREFIX COMPILER_PATH CPATH C_INCLUDE_PATH LIBRARY_PATH SOURCE_DATE_EPOCH"
    " GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE GIT_OBJECT_DIRECTORY GIT_NAMESPACE"
)
FOREIGN = frozenset(_FOREIGN_WORDS.split())


def clean_env(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Our environment without what would steer a build, LC_ALL=C, then `extra`."""
    env = {
        name: value
        for name, value in os.environ.items()
        if name not in FOREIGN and not name.startswith(FOREIGN_PREFIXES)
    }
    return {**env, "LC_ALL": "C", **(extra or {})}


def which(program: str) -> Path | None:
    """Where a program lies, None when it is not installed. /sbin counts, as for root."""
    path = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
    found = shutil.which(program, path=path)
    return Path(found) if found else None


def need(program: str, package: str = "") -> str:
    """The program's full path. Raises MissingTool, whose hint installs `package` if it is given."""
    found = which(program)
    if found is None:
        raise MissingTool(
            f"{program} is not installed",
            hint=f"sudo apt-get install {package}"
            if package
            else "`klp-e2e doctor` prints the line that installs it",
        )
    return str(found)
