# SPDX-License-Identifier: GPL-2.0-only
"""Packages linux-source-X.Y: of the host's own apt, else of any release that Debian's mirror has.

The latter with package lists of our own in the cache, see `archive`.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from orchestrator.errors import HarnessError, UsageError
from orchestrator.host import process, tools, workdir
from orchestrator.source import archive
from orchestrator.source.archive import Package

Say = Callable[[str], None]
NEWEST = "newest"
APT_LISTS = Path("/var/lib/apt/lists")  # changes with every `apt-get update`
_PACKAGE = "linux-source-"
_VERSION = re.compile(r"\d+\.\d+")


def name(version: str, spec: str) -> str:
    """The package of a kernel X.Y. Raises UsageError for anything else."""
    if not _VERSION.fullmatch(version):
        raise UsageError(f"{spec}: the version is to look like 6.1, or be '{NEWEST}'")
    return f"{_PACKAGE}{version}"


def kernel(package: Package) -> str:
    """X.Y"""
    return package.name.removeprefix(_PACKAGE)


def find(package: str, say: Say) -> Package | None:
    """What apt would download: by the host's own lists, else the newest of any release. None when
    no list that can be had knows it, or there is no apt."""
    if tools.which("apt-cache") is None:
        return None
    return _candidate(package) or archive.newest_of(package, archive.lists(say))


def newest(say: Say) -> Package:
    """The newest kernel's, of all releases. Raises HarnessError when no list can be had."""
    options = archive.lists(say) if tools.which("apt-cache") is not None else None
    for found in _known(options):
        if (package := archive.newest_of(found, options)) is not None:
            return package
    raise HarnessError(
        "nobody knows which kernel is Debian's newest: its package lists cannot be had",
        hint="is the network there? --kernel debian:6.1 takes what the host's own apt knows",
    )


def known(say: Say) -> list[str]:
    """`debian:X.Y` of every package there is, newest first, for messages."""
    return [f"debian:{found.removeprefix(_PACKAGE)}" for found in _known(archive.lists(say))]


def _known(options: Sequence[str] | None) -> list[str]:
    """The packages of every kernel in these lists, newest kernel first."""
    if options is None:
        return []
    ran = process.run(["apt-cache", *options, "pkgnames", _PACKAGE], check=False)
    found = [n for n in ran.output.split() if _VERSION.fullmatch(n.removeprefix(_PACKAGE))]
    return sorted(found, key=_number, reverse=True)


def _number(package: str) -> tuple[int, ...]:
    return tuple(map(int, package.removeprefix(_PACKAGE).split(".")))


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
    fields = dict(archive.FIELDS.findall(shown.output))
    if len(fields) != 2:
        return None
    found = Package(package, fields["Version"], fields["SHA256"])
    record = {"stamp": stamp, "version": found.version, "sha256": found.sha256}
    workdir.write_atomically(kept, json.dumps(record))
    return found
