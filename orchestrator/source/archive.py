# SPDX-License-Identifier: GPL-2.0-only
"""Packages of any release that Debian's mirror has, by apt's own code.

With package lists of our own in the cache: nothing of the host's apt is changed, no root is needed,
and apt checks the signatures as ever.
"""

from __future__ import annotations

import functools
import os
import pwd
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from orchestrator import catalog
from orchestrator.deadline import Deadline
from orchestrator.errors import HarnessError, OutOfTime
from orchestrator.host import process, workdir
from orchestrator.host.process import CommandFailed

Say = Callable[[str], None]
# apt waits for ever for a mirror that leads on and on, or sends a byte now and then; they are 50 MB
_UPDATE_SECONDS = 1200.0
FIELDS = re.compile(r"^(Version|SHA256): (\S+)$", re.MULTILINE)
_URI = re.compile(
    r"^'[^']+' (?P<name>[^_\s]+)_(?P<version>[^_\s]+)_\S+ \d+ SHA256:(?P<sha256>\w+)$"
)
_WORDS = "$(ORIGIN) $(LABEL) $(REPO_URI) $(CODENAME) $(COMPONENT)"
_TARGETS = ("apt-get", "indextargets", "--format", _WORDS, "Created-By: Packages")
_BACKPORTS = "-backports"
MAIN = "main"


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


class NoDownload(HarnessError):
    """apt could not download a package that it knows."""


def releases() -> Releases:
    """Those that are looked in."""
    return catalog.load_toml(catalog.data_dir("kernel-config") / "debian.toml", Releases)


# --- lists of our own --------------------------------------------------------------------------


def lists(say: Say) -> tuple[str, ...] | None:
    """apt's options for lists of every release, fetched again where they are old; None where there
    are none. One that cannot be had is told, and does not keep the others from being used."""
    wanted = releases()
    place = workdir.whole(workdir.DEBIAN)
    sources = place / "sources.list"
    mirror = _mirror(wanted)
    text = "".join(f"{_source(wanted, mirror, suite, MAIN)}\n" for suite in wanted.suites)
    options = _options(place, sources)
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


def _options(place: Path, sources: Path) -> tuple[str, ...]:
    settings = {
        "Dir::Etc::SourceList": sources,
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State::Lists": place / "lists",
        "Dir::Cache": place / "cache",
    }
    return tuple(word for key, value in settings.items() for word in ("-o", f"{key}={value}"))


def source_line(suite: str, component: str) -> str:
    """What a list of sources says of a release: on the host's own mirror, checked by Debian's
    keys."""
    wanted = releases()
    return _source(wanted, _mirror(wanted), suite, component)


def _source(wanted: Releases, mirror: str, suite: str, component: str) -> str:
    return f"deb [signed-by={wanted.keyring}] {mirror} {suite} {component}"


def _mirror(wanted: Releases) -> str:
    """The host's own, else Debian's."""
    return mirror(targets(check=False)) or wanted.mirror.rstrip("/")


def targets(deadline: Deadline | None = None, *, check: bool = True) -> str:
    """What the host's apt knows, a line for each list of packages: "ORIGIN LABEL URI CODENAME
    COMPONENT". Raises CommandFailed (only with `check`), MissingTool, OutOfTime."""
    return process.run(_TARGETS, deadline=deadline, check=check).output


def mirror(targets: str, suite: str = "", component: str = "") -> str:
    """The first mirror of Debian there that has this suite, any where none is named; "" when there
    is none. The label keeps security and update archives out."""
    for line in targets.splitlines():
        match line.split():
            case ["Debian", "Debian", uri, *has] if not suite or has == [suite, component]:
                return uri.rstrip("/")
    return ""


def newest_of(package: str, options: tuple[str, ...] | None) -> Package | None:
    """The newest version of it in these lists."""
    if options is None:
        return None
    ran = process.run(["apt-cache", *options, "show", package], check=False)
    blocks = (dict(FIELDS.findall(block)) for block in ran.output.split("\n\n"))
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


# --- a program of another release, with all that it stands on ------------------------------------


def suites_with(package: str, options: Sequence[str]) -> list[tuple[str, str]]:
    """(suite, version) of each release that has the package, in the order of our lists."""
    ran = process.run(["apt-cache", *options, "madison", package], check=False)
    rows = [line.split("|") for line in ran.output.splitlines() if line.count("|") == 2]
    found = {row[2].split()[1].partition("/")[0]: row[1].strip() for row in rows}
    return [(suite, found[suite]) for suite in releases().suites if suite in found]


def lacking(package: str, suite: str) -> list[Package]:
    """The package as the release has it, and what of all that it depends on the host has not, or
    has of another version of the same source. Raises NoDownload where apt finds no way."""
    place = workdir.whole(workdir.DEBIAN)
    sources, nothing = place / f"sources-{suite}.list", place / "nothing-installed"
    with workdir.locked(place / "apt"):
        lines = [source_line(s, MAIN) for s in (suite.removesuffix(_BACKPORTS), suite)]
        workdir.write_atomically(sources, "".join(f"{line}\n" for line in dict.fromkeys(lines)))
        workdir.write_atomically(nothing, "")
        options = _options(place, sources)
        command = ["apt-get", *options, "-o", f"Dir::State::status={nothing}"]
        command += ["-o", "Debug::NoLocking=1", "-o", "Acquire::ForceHash=SHA256", "-t", suite]
        command += ["--no-install-recommends", "--yes", "--print-uris", "install", package]
        ran = process.run(command, check=False)
    rows = [row for line in ran.output.splitlines() if (row := _URI.match(line))]
    found = {
        row["name"]: Package(
            row["name"], row["version"].replace("%3a", ":"), row["sha256"], options
        )
        for row in rows
    }
    if package not in found:
        raise NoDownload(
            f"{package} of Debian {suite} cannot be had ({_last(ran.output + ran.errors)})",
            hint="apt finds no way to install it from there",
        )
    mine, installed = found[package].version, _installed()
    return [p for p in found.values() if p.name not in installed or p.version == mine]


def _installed() -> frozenset[str]:
    """The host's packages."""
    query = ["dpkg-query", "--show", "--showformat", "${db:Status-Status} ${Package}\\n"]
    rows = (line.split() for line in process.run(query, check=False).output.splitlines())
    return frozenset(row[1] for row in rows if row[0] == "installed")


# --- downloads -----------------------------------------------------------------------------------


def download(package: Package, into: Path, deadline: Deadline | None) -> Path:
    """The .deb, as apt downloads and checks it. Neither root nor dpkg's lock is needed. Raises
    NoDownload."""
    return downloaded([package], into, deadline)[0]


def downloaded(packages: Sequence[Package], into: Path, deadline: Deadline | None) -> list[Path]:
    """As `download`, of packages that are known by the same lists."""
    command = ["apt-get", *packages[0].options, "-o", "Acquire::Retries=2"]
    command += ["-o", "Acquire::http::Timeout=30", *_as_ourselves()]
    wanted = [f"{package.name}={package.version}" for package in packages]
    what = f"{packages[0].name} {packages[0].version}"
    try:
        process.run([*command, "download", *wanted], cwd=into, deadline=deadline)
    except CommandFailed as failed:
        raise NoDownload(
            f"{what} cannot be downloaded ({_last(failed.tail)})",
            hint="is the network there? apt's lists may be old: sudo apt-get update",
        ) from failed
    return sorted(into.glob("*.deb"))


def _as_ourselves() -> list[str]:
    # without it, apt warns that its sandbox user cannot write here, and downloads as root
    try:
        return ["-o", f"APT::Sandbox::User={pwd.getpwuid(os.getuid()).pw_name}"]
    except KeyError:  # a container's user without a name: apt has no sandbox where it is not root
        return []


def _last(said: str) -> str:
    return (said.strip().splitlines() or ["no reason given"])[-1]
