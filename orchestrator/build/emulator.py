# SPDX-License-Identifier: GPL-2.0-only
"""The QEMU of an architecture: the host's own, or a newer one of Debian's where that is too old.

The latter is unpacked into the cache, with those of its libraries that the host has not, and run
from there: nothing is installed, and nothing of the host's is changed. What is in the cache is used
without the network.
"""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from orchestrator.deadline import Deadline
from orchestrator.errors import HarnessError, MissingTool
from orchestrator.host import ours, process, tools, unpacked, workdir
from orchestrator.nouns import Arch
from orchestrator.source import archive
from orchestrator.source.archive import Package

log = logging.getLogger(__name__)

Say = Callable[[str], None]
SECONDS = 1200.0  # for some 60 MB
_SAYS = re.compile(r"^QEMU emulator version (\d+)\.(\d+)", re.MULTILINE)
_DEBIANS = re.compile(r"(?:\d+:)?(\d+)\.(\d+)")
_LIBRARY = re.compile(r"\.so(\.|$)")
_ROOT = "root"  # in an entry: the packages, unpacked
_UNUSED = ("usr/share/doc", "usr/share/man", "usr/share/lintian", "usr/share/icons", "etc")
# $0 is a path, for nobody looks for it on PATH. What the host has of a library comes later.
_STARTER = """\
#!/bin/sh
# klp-e2e: a QEMU of Debian's, run where it was unpacked
root=${{0%/*}}/{root}
LD_LIBRARY_PATH={libraries}${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}
QEMU_MODULE_DIR=$root/{modules}
export LD_LIBRARY_PATH QEMU_MODULE_DIR
exec "$root/usr/bin/{program}" -L "$root/usr/share/qemu" "$@"
"""


def program(arch: Arch) -> str:
    """What is started: the host's QEMU, by its name, or the path of one in the cache. Raises
    MissingTool, and HarnessError where the host's is too old and `ready` has brought no other."""
    if _hosts_serves(arch):
        return arch.qemu
    if (kept := _kept(arch)) is not None:
        return str(kept)
    raise HarnessError(f"{_too_old(arch)}, and the cache has no other", hint=_hint(arch))


def ready(arch: Arch, say: Say) -> None:
    """Bring what `program` names into the cache, if need be: before a build, not after it.

    Raises MissingTool where the host has none, HarnessError where a newer one cannot be had.
    """
    if _hosts_serves(arch) or _kept(arch) is not None:
        return
    try:
        _fetch(arch, say, Deadline.after(SECONDS))
    except HarnessError as err:
        raise HarnessError(f"{_too_old(arch)}, and no newer one: {err}", hint=_hint(arch)) from err


def told(arch: Arch) -> str:
    """Which QEMU an architecture with demands gets, and whence."""
    wanted = f"QEMU {arch.qemu_version} or later"
    if _hosts_serves(arch):
        return f"{wanted}: this host's"
    if (kept := _kept(arch)) is not None:
        return f"{wanted}: {kept.parent.name.removeprefix(f'{arch.qemu}_')}, in the cache"
    return f"{wanted}: one of Debian's, unpacked into the cache when it is first needed"


def version(arch: Arch) -> str:
    """`QEMU emulator version 7.2.22 (Debian ...)`"""
    return _first_line(program(arch))


def _first_line(started: str) -> str:
    return process.run([started, "--version"]).output.partition("\n")[0]


def _number(found: re.Match[str] | None) -> tuple[int, int]:
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _wanted(arch: Arch) -> tuple[int, int]:
    return _number(_DEBIANS.match(arch.qemu_version))


@functools.cache
def _hosts(qemu: str) -> str:
    """What the host's own says of its version, "" where there is none."""
    return "" if tools.which(qemu) is None else _first_line(qemu)


def _hosts_serves(arch: Arch) -> bool:
    """Raises MissingTool where the architecture takes any, and the host has none."""
    if not arch.qemu_version:
        tools.need(arch.qemu, next((p for p in arch.packages if p.startswith("qemu-")), ""))
        return True
    return _number(_SAYS.search(_hosts(arch.qemu))) >= _wanted(arch)


def _too_old(arch: Arch) -> str:
    has = _SAYS.search(_hosts(arch.qemu))
    own = f"this host has {'.'.join(has.groups())}" if has else "this host has none"
    return f"{arch.name} needs QEMU {arch.qemu_version} or later, {own}"


def _hint(arch: Arch) -> str:
    return f"put a {arch.qemu} of {arch.qemu_version} or later on PATH, or look to the network"


# --- in the cache ------------------------------------------------------------------------------


def _place() -> Path:
    return workdir.cache_root() / "emulators"


def _kept(arch: Arch) -> Path | None:
    """What starts the newest in the cache that will do."""
    fits = [
        (number, entry)
        for entry in _place().glob(f"{arch.qemu}_*")
        if (number := _number(_DEBIANS.match(entry.name.removeprefix(f"{arch.qemu}_"))))
        and (number >= _wanted(arch) and _whole(entry))
    ]
    if not fits:
        return None
    _, entry = max(fits)
    workdir.touch(entry)
    return entry / arch.qemu


@functools.cache
def _whole(entry: Path) -> bool:
    return (entry / workdir.DIGESTS).is_file() and not workdir.verify(entry)


def _fetch(arch: Arch, say: Say, deadline: Deadline) -> None:
    package = arch.qemu_package
    if tools.which("apt-get") is None or tools.which("dpkg-deb") is None:
        raise MissingTool("apt-get and dpkg-deb are needed to unpack Debian's")
    options = archive.lists(say)
    releases = archive.suites_with(package, options) if options is not None else []
    suites = [s for s, v in releases if _number(_DEBIANS.match(v)) >= _wanted(arch)]
    if not suites:
        raise HarnessError(f"no Debian release that can be looked in has a {package} so new")
    packages = archive.lacking(package, suites[0])
    made = next(p for p in packages if p.name == package)
    final = _place() / f"{arch.qemu}_{made.version.rpartition(':')[2]}"
    with workdir.locked(final, say):
        if not workdir.verify(final):
            return
        say(f"downloading {package} {made.version} of Debian {suites[0]}, for {arch.name}")
        with workdir.staging(final) as tmp:
            _unpack(arch, packages, tmp, deadline)
            workdir.publish(tmp, final)
    _whole.cache_clear()


def _unpack(arch: Arch, packages: list[Package], tmp: Path, deadline: Deadline) -> None:
    """Raises HarnessError where it does not run here."""
    root = tmp / _ROOT
    debs = tmp / "debs"
    debs.mkdir()
    for deb in archive.downloaded(packages, debs, deadline):
        process.run(["dpkg-deb", "-x", deb, root], deadline=deadline)
        unpacked.tame(root)
    ours.scrap(debs)
    for unused in (*(root / name for name in _UNUSED), *_others(root, arch.qemu)):
        if unused.exists() or unused.is_symlink():
            ours.scrap(unused)
    libraries = {path.parent for path in root.rglob("*") if _LIBRARY.search(path.name)}
    modules = next((place for place in libraries if place.name == "qemu"), root)
    libraries = {root / "usr/lib", *libraries} - {modules}
    starter = tmp / arch.qemu
    starter.write_text(
        _STARTER.format(
            root=_ROOT,
            libraries=":".join(f"$root/{path.relative_to(root)}" for path in sorted(libraries)),
            modules=modules.relative_to(root),
            program=arch.qemu,
        )
    )
    starter.chmod(0o755)
    ran = process.run([starter, "--version"], deadline=deadline, check=False)
    if _number(_SAYS.search(ran.output)) < _wanted(arch):
        said = (ran.errors.strip() or ran.output.strip() or "it says nothing").splitlines()[0]
        raise HarnessError(f"Debian's does not run on this host: {said}")


def _others(root: Path, qemu: str) -> Iterator[Path]:
    """Programs for other machines."""
    return (path for path in (root / "usr/bin").glob("*") if path.name != qemu)
