# SPDX-License-Identifier: GPL-2.0-only
"""What is missing on this host, and the one line that installs it.

Sources: `host-packages.toml` for every run, and each architecture's `packages`, `qemu` and
`cross_compile`. A program counts wherever it is on PATH, so that a self-built QEMU will do; of
other packages of an architecture (a cross libc) dpkg is asked, through the files it keeps. Where
there is no dpkg, those cannot be checked and are taken as present.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.host.tools import which
from orchestrator.nouns import Arch

PYTHON = (3, 11)
DPKG_INFO = Path("/var/lib/dpkg/info")


@dataclass(frozen=True, slots=True)
class HostPackages:
    """host-packages.toml"""

    programs: Mapping[str, str]  # program -> Debian package
    files: Mapping[str, str]  # Debian package -> glob of a file of it
    toolchains: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    # gcc or llvm -> program -> Debian package, of a numbered one; N, CROSS, OF: see the file


@dataclass(frozen=True, slots=True)
class Need:
    """One thing the host should have."""

    what: str  # "program make", "file /usr/include/libelf.h", "package libc6-dev-s390x-cross"
    package: str  # the Debian package that brings it
    present: bool


def _on_path(program: str) -> bool:
    return which(program) is not None


def _any_file(pattern: str) -> bool:
    path = Path(pattern)
    return next(Path(path.anchor).glob(str(path.relative_to(path.anchor))), None) is not None


def _installed(package: str) -> bool:
    """dpkg keeps PACKAGE.md5sums or PACKAGE:ARCH.md5sums exactly while a package is unpacked."""
    if not DPKG_INFO.is_dir():
        return True
    plain = DPKG_INFO / f"{package}.md5sums"
    return plain.exists() or next(DPKG_INFO.glob(f"{package}:*.md5sums"), None) is not None


@dataclass(frozen=True, slots=True)
class Host:
    """How to look at a machine; the default looks at this one."""

    program: Callable[[str], bool] = _on_path
    file: Callable[[str], bool] = _any_file
    package: Callable[[str], bool] = _installed
    python: tuple[int, int] = (sys.version_info.major, sys.version_info.minor)


def examine(common: HostPackages, arches: Iterable[Arch], host: Host | None = None) -> list[Need]:
    """Every need of these architectures, each once, those of every run first."""
    look = host or Host()
    found = [Need(f"program {p}", d, look.program(p)) for p, d in common.programs.items()]
    found += [Need(f"file {f}", d, look.file(f)) for d, f in common.files.items()]
    wanted = ".".join(str(part) for part in PYTHON)
    found.append(Need(f"Python {wanted} or later", "python3", look.python >= PYTHON))
    for arch in arches:
        found += of_arch(arch.qemu, arch.cross_compile, arch.packages, look)
        for toolchain in (arch.toolchain, arch.userland.toolchain):
            found += _of_toolchain(common, arch.cross_compile, toolchain, look)
    return list(dict.fromkeys(found))


def _of_toolchain(
    common: HostPackages, cross_compile: str, toolchain: str, look: Host
) -> list[Need]:
    """What a numbered toolchain is there for; `gcc` is among an architecture's packages."""
    family, _, number = toolchain.partition("-")
    told = common.toolchains.get(family, {}) if number else {}
    target = f"-{cross_compile.removesuffix('-')}" if cross_compile else ""

    def filled(text: str) -> str:
        return text.replace("{N}", number).replace("{CROSS}", cross_compile).replace("{OF}", target)

    return [
        Need(f"program {filled(program)}", filled(package), look.program(filled(program)))
        for program, package in told.items()
    ]


def missing(needs: Iterable[Need]) -> list[Need]:
    return [need for need in needs if not need.present]


def install_line(needs: Iterable[Need]) -> str:
    """One line for a shell that installs what is missing; empty when nothing is."""
    packages = sorted({need.package for need in missing(needs)})
    return f"sudo apt-get install --no-install-recommends {' '.join(packages)}" if packages else ""


def of_arch(qemu: str, cross_compile: str, packages: Iterable[str], look: Host) -> list[Need]:
    """What each of an architecture's packages is there for."""
    compiler = f"{cross_compile}gcc"
    found = []
    for package in packages:
        # Debian names both after what they hold: qemu-system-*, gcc-*.
        if package.startswith("qemu-"):
            found.append(Need(f"program {qemu}", package, look.program(qemu)))
        elif package == "gcc" or package.startswith("gcc-"):
            found.append(Need(f"program {compiler}", package, look.program(compiler)))
        else:
            found.append(Need(f"package {package}", package, look.package(package)))
    return found
