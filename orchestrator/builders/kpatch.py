# SPDX-License-Identifier: GPL-2.0-only
"""kpatch-build, for kernels that have no builder of their own: Debian's package, unpacked into the
cache and run from there, whatever the host has.

Facts of 0.9.10 this relies on: with -s it works in the kernel's directory and puts its own changes
of it back; it counts the symbols of one name in the vmlinux of -v, and reads sizes of structures in
its debug information, so that it wants CONFIG_DEBUG_INFO; what it keeps lies in CACHEDIR; where it
refuses, a line begins with `ERROR: `; -d -d shows what make says.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from orchestrator.build import kbuild
from orchestrator.build.kbuild import Progress
from orchestrator.builders import running
from orchestrator.builders.request import Request
from orchestrator.builders.tree import BuildTree
from orchestrator.deadline import Deadline
from orchestrator.errors import BuildError, HarnessError, UsageError
from orchestrator.host import ours, process, tools, unpacked, workdir
from orchestrator.source import archive

NAME = "kpatch-build"
# what it changes with sed, as far as the configuration makes it
WRITES: tuple[str, ...] = ("Makefile", "scripts/link-vmlinux.sh", "scripts/Makefile.modfinal")
OPTIONS: Mapping[str, str] = {"DEBUG_INFO_DWARF_TOOLCHAIN_DEFAULT": "y"}
_PROGRAMS = {"gawk": "gawk", "lsdiff": "patchutils", "readelf": "binutils", "strings": "binutils"}
_ROOT = "root"
_BINARY = f"{_ROOT}/usr/bin/{NAME}"
_COMPILED = re.compile(r"^\s+(?:CC|AS)(?: \[M\])?\s+(\S+\.o)$")
_REFUSED = re.compile(r"^(?:ERROR: |.*\bERROR: )(.+?)(?:\. Check \S+ for more details)?\.?$", re.M)
_SECTION = re.compile(r"^\S+: changed section \S+ not selected for inclusion$", re.MULTILINE)

_WARNED = re.compile(r"^\S+\.o: WARNING: (.+)$", re.MULTILINE)


def check(request: Request, source: Path) -> None:
    """As that of klp-build."""
    del source
    if request.arch.kvm_host != platform.machine():
        raise UsageError(
            f"{NAME} builds for the machine that it runs on, and not for {request.arch.name}",
            hint="run klp-e2e on such a machine",
        )
    for program, package in _PROGRAMS.items():
        tools.need(program, package)


def make(
    request: Request,
    tree: BuildTree,
    patches: Sequence[Path],
    *,
    jobs: int,
    progress: Progress,
    deadline: Deadline,
    say: Callable[[str], None],
) -> Path:
    """As that of klp-build."""
    program = _program(say, deadline)
    kept = tree.made / "kpatch"
    kept.mkdir()
    environment = {
        **kbuild.SAME,
        **kbuild.compiler_cache(),
        "CACHEDIR": str(kept),
        "HOME": str(kept),
    }
    vmlinux = request.kernel.directory / "vmlinux"
    command = [str(program), "--sourcedir", str(tree.source), "--vmlinux", str(vmlinux)]
    command += ["--config", str(request.kernel.config), "--jobs", str(jobs)]
    command += ["--name", request.name, "--output", str(tree.made), "--debug", "--debug"]
    command += [] if request.replace else ["--non-replace"]
    say(f"{NAME} builds {request.name}.ko")
    made = running.run(
        NAME,
        tools.building(command, (), environment),
        request,
        tree,
        patches,
        compiled=_COMPILED,
        expected=request.kernel.objects,
        progress=progress,
        deadline=deadline,
        why_unbuilt=why_unbuilt,
    )
    ours.scrap(kept)
    return made


def original(tree: BuildTree, name: str) -> Path | None:
    """None: it counts in the vmlinux that boots."""
    del tree, name
    return None


def why_unbuilt(text: str, request: Request, log: Path) -> BuildError | HarnessError:
    """As that of klp-build."""
    said = [match[0] for match in running.COMPILER.finditer(text)][:1]
    said += [match[0] for match in _SECTION.finditer(text)]
    said += [match[1] for match in _REFUSED.finditer(text)]
    return running.failure(NAME, text, request, log, said)


def warnings(text: str) -> tuple[str, ...]:
    """Those of its create-diff-object, as `FILE.o: WARNING: ...`."""
    return tuple(dict.fromkeys(match[1] for match in _WARNED.finditer(text)))


def identity(say: Callable[[str], None]) -> str:
    """The version that Debian has now, or that is in the cache."""
    return _chosen(say)[1].name


def _chosen(say: Callable[[str], None]) -> tuple[str, Path]:
    """(release, "" where none can be looked in; where it is in the cache, or is to be). Of several
    releases the oldest one's, which asks least of the host's libraries."""
    options = archive.lists(say)
    releases = archive.suites_with(NAME, options) if options is not None else []
    place = workdir.cache_root() / "builders"
    if releases:
        suite, version = releases[0]
        return suite, place / f"{NAME}_{version.rpartition(':')[2]}"
    known = (each / workdir.DIGESTS for each in place.glob(f"{NAME}_*") if _is_entry(each.name))
    kept = [each for each in known if each.is_file()]
    if not kept:
        raise HarnessError(
            f"no Debian release that can be looked in has {NAME}", hint="is the network there?"
        )
    return "", max(kept, key=lambda each: each.stat().st_mtime).parent


def _is_entry(name: str) -> bool:
    """And none that was put aside, because somebody has changed it?"""
    return ".damaged-" not in name


def _program(say: Callable[[str], None], deadline: Deadline) -> Path:
    """Debian's, in the cache."""
    suite, final = _chosen(say)
    with workdir.locked(final, say):
        if damage := workdir.verify(final):
            if not suite:
                raise HarnessError(
                    f"the cached {final.name} is damaged ({damage})", hint="is the network there?"
                )
            say(f"downloading {final.name} of Debian {suite}")
            (package,) = (p for p in archive.lacking(NAME, suite) if p.name == NAME)
            with workdir.staging(final) as tmp:
                debs = tmp / "debs"
                debs.mkdir()
                (deb,) = archive.downloaded([package], debs, deadline)
                process.run(["dpkg-deb", "-x", deb, tmp / _ROOT], deadline=deadline)
                unpacked.tame(tmp / _ROOT)
                ours.scrap(debs)
                workdir.publish(tmp, final)
        workdir.touch(final)
    return final / _BINARY
