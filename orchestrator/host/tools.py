# SPDX-License-Identifier: GPL-2.0-only
"""Programs of the host: where they lie, and the environment they are started in."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from orchestrator.errors import MissingTool

# What a shell of a kernel developer may carry, and what would change what a program of ours does
# behind our back. What goes through: how programs are found and loaded (PATH, LD_LIBRARY_PATH, and
# LD_PRELOAD, without which some containers know no user), how the network is reached (proxies, ssh,
# git's credentials), where things lie (HOME, TMPDIR, XDG_*, KLP_E2E_*).
FOREIGN_PREFIXES = (
    *("CONFIG_", "KBUILD_", "KCONFIG_", "KSFT_", "LLVM", "RUST", "TUXMAKE", "CCACHE_"),
    *("QUILT_", "LC_", "BASH_FUNC_", "QEMU_", "GIT_"),
)
_FOREIGN_WORDS = (
    # make and kbuild
    "MAKEFLAGS MFLAGS GNUMAKEFLAGS MAKELEVEL MAKEFILES MAKEOVERRIDES ARCH SUBARCH SRCARCH"
    " CROSS_COMPILE CROSS_COMPILE_COMPAT CC HOSTCC HOSTCXX LD HOSTLD AR HOSTAR NM AS CPP OBJCOPY"
    " OBJDUMP STRIP READELF PAHOLE DEPMOD AWK PERL PYTHON3 LEX YACC CHECK CHECKFLAGS CF"
    " CFLAGS CPPFLAGS CXXFLAGS LDFLAGS HOSTCFLAGS HOSTCXXFLAGS HOSTLDFLAGS HOSTLDLIBS USERCFLAGS"
    " USERLDFLAGS KCFLAGS KAFLAGS KCPPFLAGS KRUSTFLAGS EXTRA_CFLAGS EXTRA_AFLAGS EXTRA_LDFLAGS"
    " CFLAGS_KERNEL AFLAGS_KERNEL CFLAGS_MODULE AFLAGS_MODULE LDFLAGS_MODULE LDFLAGS_vmlinux"
    " LOCALVERSION KERNELRELEASE KERNELVERSION INSTALL_PATH INSTALL_MOD_PATH INSTALL_HDR_PATH"
    " OUTPUT TARGETS SKIP_TARGETS FORCE_TARGETS W V C O M"
    # compilers and binutils
    " GCC_EXEC_PREFIX COMPILER_PATH CPATH C_INCLUDE_PATH CPLUS_INCLUDE_PATH OBJC_INCLUDE_PATH"
    " LIBRARY_PATH LD_RUN_PATH LDEMULATION GNUTARGET DEPENDENCIES_OUTPUT SUNPRO_DEPENDENCIES"
    " SOURCE_DATE_EPOCH"
    # shells, and programs that take options from there
    " LANGUAGE POSIXLY_CORRECT CDPATH ENV BASH_ENV BASHOPTS SHELLOPTS GLOBIGNORE GREP_OPTIONS"
    " TAR_OPTIONS GZIP XZ_OPT XZ_DEFAULTS PATCH_GET PATCH_VERSION_CONTROL VERSION_CONTROL"
    " SIMPLE_BACKUP_SUFFIX PERL5OPT"
    # python, whose programs would stop, or say something else
    " PYTHONINSPECT PYTHONSTARTUP PYTHONWARNINGS PYTHONDEBUG PYTHONVERBOSE PYTHONOPTIMIZE"
    " PYTHONPROFILEIMPORTTIME PYTHONDUMPREFS"
    # the loader's words between those of a program
    " LD_AUDIT LD_DEBUG LD_DEBUG_OUTPUT LD_PROFILE LD_SHOW_AUXV LD_TRACE_LOADED_OBJECTS"
)
FOREIGN = frozenset(_FOREIGN_WORDS.split())
# Of git's, how it gets to a repository, and what the user has set for all of them.
_GITS_OWN = ("GIT_SSH", "GIT_ASKPASS", "GIT_SSL_", "GIT_PROXY_", "GIT_HTTP_", "GIT_CONFIG_")
_GITS_LIMITS = frozenset({"GIT_ALLOW_PROTOCOL", "GIT_PROTOCOL_FROM_USER", "GIT_TERMINAL_PROMPT"})

# All that a build gets of our environment. Kbuild takes any variable for one of make's, those that
# a make has exported that runs us included: no list of those to leave out could be whole.
BUILD = (
    *("PATH", "TMPDIR", "LC_ALL"),
    *("LD_LIBRARY_PATH", "LD_PRELOAD"),  # how its programs are loaded
    "PKG_CONFIG_PATH",  # where the libraries of its own tools are
    "KLP_E2E_TEST",  # by which a test knows what it has started
)


def clean_env(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Our environment without what would steer a program, LC_ALL=C, then `extra`."""
    env = {name: value for name, value in os.environ.items() if not is_foreign(name)}
    return {**env, "LC_ALL": "C", **(extra or {})}


def is_foreign(name: str) -> bool:
    """Does no program of ours get this variable of our environment?"""
    if name.startswith(_GITS_OWN) or name in _GITS_LIMITS:
        return False
    return name in FOREIGN or name.startswith(FOREIGN_PREFIXES)


def building(
    argv: Sequence[str], also: Sequence[str] = (), extra: Mapping[str, str] | None = None
) -> list[str]:
    """The command with nothing of our environment but what `BUILD` and `also` name; and `extra`."""
    names = {*BUILD, *also}
    env = {name: value for name, value in clean_env().items() if name in names}
    return ["env", "-i", *(f"{k}={v}" for k, v in {**env, **(extra or {})}.items()), *argv]


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
