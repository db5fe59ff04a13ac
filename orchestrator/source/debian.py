# SPDX-License-Identifier: GPL-2.0-only
"""Packages linux-source-X.Y: of the host's own apt, else of any release that Debian's mirror has.

The latter with package lists of our own in the cache. Nothing of the host's apt is changed, no root
is needed, and apt checks the signatures as ever.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import pwd
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from orchestrator import catalog
from orchestrator.deadline import Deadline
from orchestrator.errors import HarnessError, OutOfTime, UsageError
from orchestrator.host import process, tools, workdir
from orchestrator.host.process import CommandFailed

Say = Callable[[str], None]
NEWEST = "newest"
APT_LISTS = Path("/var/lib/apt/lists")  # changes with every `apt-get update`
# apt waits for ever for a mirror that leads on and on, or sends a byte now and then; they are 50 MB
_UPDATE_SECONDS = 1200.0
_PACKAGE = "linux-source-"
_VERSION = re.compile(r"\d+\.\d+")
_FIELDS = re.compile(r"^(Version|SHA256): (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Releases:
    """kernel-config/debian.toml"""

    suites: tuple[str, ...]
    keyring: str
    mirror: str
    fresh_hours: int


class Package(NamedTuple):
    """One that apt can download. options: apt's, which make it know the package."""

    name: str
    version: str  # Debian's
    sha256: str  # of the .deb
    options: tuple[str, ...] = ()

    @property
    def kernel(self) -> str:
        """X.Y"""
        return self.name.removeprefix(_PACKAGE)


class NoDownload(HarnessError):
    """apt could not download a package that it knows."""


def name(version: str, spec: str) -> str:
    """The package of a kernel X.Y. Raises UsageError for anything else."""
    if not _VERSION.fullmatch(version):
        raise UsageError(f"{spec}: the version is to look like 6.1, or be '{NEWEST}'")
    return f"{_PACKAGE}{version}"


def find(package: str, say: Say) -> Package | None:
    """What apt would download: by the host's own lists, else the newest of any release. None when
    no list that can be had knows it, or there is no apt."""
    if tools.which("apt-cache") is None:
        return None
    return _candidate(package) or _newest_of(package, _lists(say))


def newest(say: Say) -> Package:
    """The newest kernel's, of all releases. Raises HarnessError when no list can be had."""
    options = _lists(say) if tools.which("apt-cache") is not None else None
    for found in _known(options):
        if (package := _newest_of(found, options)) is not None:
            return package
    raise HarnessError(
        "nobody knows which kernel is Debian's newest: its package lists cannot be had",
        hint="is the network there? --kernel debian:6.1 takes what the host's own apt knows",
    )


def known(say: Say) -> list[str]:
    """`debian:X.Y` of every package there is, newest first, for messages."""
    return [f"debian:{found.removeprefix(_PACKAGE)}" for found in _known(_lists(say))]


def download(package: Package, into: Path, deadline: Deadline | None) -> Path:
    """The .deb, as apt downloads and checks it. Neither root nor dpkg's lock is needed. Raises
    NoDownload."""
    command = ["apt-get", *package.options, "-o", "Acquire::Retries=2"]
    command += ["-o", "Acquire::http::Timeout=30", *_as_ourselves()]
    wanted = f"{package.name}={package.version}"
    try:
        process.run([*command, "download", wanted], cwd=into, deadline=deadline)
    except CommandFailed as failed:
        raise NoDownload(
            f"{package.name} {package.version} cannot be downloaded ({_last(failed)})",
            hint="is the network there? apt's lists may be old: sudo apt-get update",
        ) from failed
    return next(into.glob("*.deb"))


def _as_ourselves() -> list[str]:
    # without it, apt warns that its sandbox user cannot write here, and downloads as root
    try:
        return ["-o", f"APT::Sandbox::User={pwd.getpwuid(os.getuid()).pw_name}"]
    except KeyError:  # a container's user without a name: apt has no sandbox where it is not root
        return []


def _last(failed: CommandFailed) -> str:
    return (failed.tail.strip().splitlines() or ["no reason given"])[-1]


# --- the host's own lists ----------------------------------------------------------------------


def _candidate(package: str) -> Package | None:
    """The host's own apt takes a second to answer, so its answer is kept until its lists change."""
    kept = workdir.whole(workdir.DEBIAN) / f"{package}.json"
    stamp = APT_LISTS.stat().st_mtime_ns if APT_LISTS.is_dir() else 0
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError):  # none, or a damaged one
        record = json.loads(kept.read_text())
        if record["stamp"] == stamp:
            return Package(package, record["version"], record["sha256"])
    shown = process.run(["apt-cache", "show", "--no-all-versions", package], check=False)
    fields = dict(_FIELDS.findall(shown.output))
    if len(fields) != 2:
        return None
    found = Package(package, fields["Version"], fields["SHA256"])
    record = {"stamp": stamp, "version": found.version, "sha256": found.sha256}
    workdir.write_atomically(kept, json.dumps(record))
    return found


# --- lists of our own --------------------------------------------------------------------------


def _lists(say: Say) -> tuple[str, ...] | None:
    """apt's options for lists of every release, fetched again where they are old; None where there
    are none. One that cannot be had is told, and does not keep the others from being used."""
    wanted = catalog.load_toml(catalog.data_dir("kernel-config") / "debian.toml", Releases)
    place = workdir.whole(workdir.DEBIAN)
    sources = place / "sources.list"
    mirror = _mirror(wanted)
    text = "".join(
        f"deb [signed-by={wanted.keyring}] {mirror} {suite} main\n" for suite in wanted.suites
    )
    options = _options(
        {
            "Dir::Etc::SourceList": sources,
            "Dir::Etc::SourceParts": "/dev/null",
            "Dir::State::Lists": place / "lists",
            "Dir::Cache": place / "cache",
        }
    )
    fetched = place / "fetched"
    with workdir.locked(place / "apt", say):
        same = sources.is_file() and sources.read_text() == text
        age = time.time() - fetched.stat().st_mtime if fetched.is_file() and same else None
        if age is None or not 0 <= age < wanted.fresh_hours * 3600:
            for part in ("lists/partial", "cache/archives/partial"):
                (place / part).mkdir(parents=True, exist_ok=True)
            workdir.write_atomically(sources, text)
            say(f"fetching the package lists of Debian's {', '.join(wanted.suites)}")
            update = ["apt-get", *options, "-o", "Acquire::Languages=none", *_as_ourselves()]
            update += ["-o", "Acquire::Retries=2", "update"]
            try:
                done = process.run(update, check=False, deadline=Deadline.after(_UPDATE_SECONDS))
            except OutOfTime:
                say(f"{mirror} does not give its package lists within {_UPDATE_SECONDS:.0f} s")
            else:
                for line in (done.output + done.errors).splitlines():
                    if line.startswith(("E:", "W:")):
                        say(line)
                if done.code == 0:
                    workdir.write_atomically(fetched, "")
    has_any = any((place / "lists").glob("*_Packages*"))
    return options if has_any else None


def _options(settings: Mapping[str, object]) -> tuple[str, ...]:
    return tuple(word for key, value in settings.items() for word in ("-o", f"{key}={value}"))


def _mirror(wanted: Releases) -> str:
    """The host's own, of which apt tells."""
    ran = process.run(
        ["apt-get", "indextargets", "--format", "$(ORIGIN) $(LABEL) $(REPO_URI)"], check=False
    )
    uris = re.findall(r"^Debian Debian (\S+)$", ran.output, re.MULTILINE)
    return next(iter(uris), wanted.mirror).rstrip("/")


def _known(options: Sequence[str] | None) -> list[str]:
    """The packages of every kernel in these lists, newest kernel first."""
    if options is None:
        return []
    ran = process.run(["apt-cache", *options, "pkgnames", _PACKAGE], check=False)
    found = [n for n in ran.output.split() if _VERSION.fullmatch(n.removeprefix(_PACKAGE))]
    return sorted(found, key=_number, reverse=True)


def _number(package: str) -> tuple[int, ...]:
    return tuple(map(int, package.removeprefix(_PACKAGE).split(".")))


def _newest_of(package: str, options: tuple[str, ...] | None) -> Package | None:
    """The newest version of it in these lists."""
    if options is None:
        return None
    ran = process.run(["apt-cache", *options, "show", package], check=False)
    blocks = (dict(_FIELDS.findall(block)) for block in ran.output.split("\n\n"))
    found = [(each["Version"], each["SHA256"]) for each in blocks if len(each) == 2]
    if not found:
        return None
    version, sha256 = max(found, key=functools.cmp_to_key(_compared))
    return Package(package, version, sha256, options)


def _compared(one: tuple[str, str], other: tuple[str, str]) -> int:
    """As dpkg orders versions."""
    return _is(one[0], "gt", other[0]) - _is(one[0], "lt", other[0])


def _is(one: str, how: str, other: str) -> bool:
    return process.run(["dpkg", "--compare-versions", one, how, other], check=False).code == 0
