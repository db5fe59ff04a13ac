# SPDX-License-Identifier: GPL-2.0-only
"""The guest's userland: Debian packages, our agent and our /init, packed as a cpio archive.

Nothing foreign is run on the host: mmdebstrap only extracts, the recipe says which files stay, the
agent is compiled statically by the (cross) compiler that builds the kernel. Keys and modules come
in a second archive behind it (`initramfs.stack`), so that the first can be cached.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import stat
import tarfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from orchestrator import catalog, initramfs
from orchestrator.deadline import Deadline
from orchestrator.errors import BuildError, OutOfTime
from orchestrator.host import process, workdir
from orchestrator.host.rundir import run_dir
from orchestrator.initramfs import Entry
from orchestrator.nouns import Arch

FORMAT = 1  # raise it when the same inputs shall give another image
ARCHIVE = "base.cpio.gz"
DIRECTORIES = ("dev", "proc", "sys", "tmp", "root", "run", "modules")
# root must have a home and a shell, or dropbear refuses the login
TEXTS = {
    "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\n",
    "etc/group": b"root:x:0:\n",
    "etc/shells": b"/bin/sh\n",
}
TRIES = 3  # a Debian mirror may be half-synced for some minutes
RETRY_SECONDS = 5.0
SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Recipe:
    """images/guest/recipe.toml, and its like for what some guests have on top."""

    suite: str
    component: str
    packages: tuple[str, ...]
    keep: tuple[str, ...]  # patterns of files, relative to the root; each must match
    applets: tuple[str, ...]  # links in bin/ to busybox
    links: Mapping[str, str] = field(default_factory=dict)  # other links: path -> target


def base(arch: Arch) -> Path:
    """The userland for `arch`, from the cache or built now.

    Raises BuildError, MissingTool, OutOfTime.
    """
    deadline = Deadline.after(SECONDS)
    source = catalog.data_dir("images/guest")
    compiler = f"{arch.cross_compile}gcc"
    key = _key(arch, source, process.run([compiler, "--version"], deadline=deadline).output)

    def entries(scratch: Path) -> dict[str, Entry]:
        recipe = catalog.load_toml(source / "recipe.toml", Recipe)
        root = _extract(arch, recipe, scratch, deadline)
        return _userland(root, recipe) | _own(arch, source, scratch, deadline)

    return _kept(f"{arch.name}-{key[:24]}", entries)


def addition(arch: Arch, name: str) -> Path:
    """The packages of images/guest/NAME.toml, to be stacked on `base`; cached as it is.

    Raises BuildError, MissingTool, OutOfTime.
    """
    deadline = Deadline.after(SECONDS)
    source = catalog.data_dir("images/guest") / f"{name}.toml"
    digest = hashlib.sha256(f"{FORMAT} {arch.debian_arch}".encode() + source.read_bytes())

    def entries(scratch: Path) -> dict[str, Entry]:
        recipe = catalog.load_toml(source, Recipe)
        return _userland(_extract(arch, recipe, scratch, deadline), recipe)

    return _kept(f"{arch.name}-{name}-{digest.hexdigest()[:24]}", entries)


def _kept(name: str, entries: Callable[[Path], Mapping[str, Entry]]) -> Path:
    """A compressed archive in the cache; `entries` makes its members, given a scratch directory."""
    final = workdir.cache_root() / "guest" / name
    with workdir.locked(final):
        if not workdir.verify(final):
            workdir.touch(final)
            return final / ARCHIVE
        with workdir.staging(final) as tmp:
            with run_dir("guest") as scratch:
                archive = initramfs.cpio(entries(scratch))
            packed = gzip.compress(archive, compresslevel=9, mtime=0)
            (tmp / ARCHIVE).write_bytes(packed)
            workdir.publish(tmp, final)
    return final / ARCHIVE


def _key(arch: Arch, source: Path, compiler: str) -> str:
    digest = hashlib.sha256(f"{FORMAT} {arch.debian_arch} {arch.cross_compile}".encode())
    digest.update(compiler.splitlines()[0].encode())
    for name in ("recipe.toml", "agent.c", "init"):
        digest.update((source / name).read_bytes())
    return digest.hexdigest()


def mirror(targets: str, suite: str, component: str) -> str:
    """The mirror of `suite` in what `_TARGETS` printed: lines of "URI CODENAME COMPONENT LABEL".

    The label keeps security and update archives out. Raises BuildError when there is none.
    """
    for line in targets.splitlines():
        fields = line.split()
        if fields[1:] == [suite, component, "Debian"]:
            return fields[0]
    raise BuildError(
        f"this host's apt knows no mirror of Debian {suite} {component}",
        hint=f"add a source of {suite} to /etc/apt/sources.list and run apt-get update",
    )


_TARGETS = ("apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME) $(COMPONENT) $(LABEL)")


def _extract(arch: Arch, recipe: Recipe, scratch: Path, deadline: Deadline) -> Path:
    """A tar archive of the unpacked packages.

    chrootless: nothing is run inside (an extraction has no scripts to run) and nothing is mounted,
    so that root, a plain user and a user in a container are all the same. Only the one suite is
    named, and it is tried again: a mirror can be half-synced for one foreign architecture.
    """
    targets = process.run([*_TARGETS, "Created-By: Packages"], deadline=deadline).output
    uri = mirror(targets, recipe.suite, recipe.component)
    settings = process.run(
        ["apt-config", "dump", "--format", '%F "%v";%n', "Acquire"], deadline=deadline
    ).output
    proxies = [line for line in settings.splitlines() if re.match(r'Acquire::\S*Proxy\S* ".', line)]
    for attempt in range(1, TRIES + 1):
        root = scratch / f"root{attempt}.tar"
        argv = [
            "mmdebstrap",
            "--mode=chrootless",
            "--skip=check/chrootless",  # which warns root of scripts run on the host
            "--variant=extract",
            "--format=tar",
            f"--architectures={arch.debian_arch}",
            f"--include={','.join(recipe.packages)}",
            *(f"--aptopt={line}" for line in proxies),
            recipe.suite,
            str(root),
            f"deb {uri} {recipe.suite} {recipe.component}",
        ]
        try:
            # its own temporary directory goes with ours, however it ends
            process.run(argv, env={"TMPDIR": str(scratch)}, deadline=deadline)
            return root
        except process.CommandFailed as failed:
            if attempt == TRIES:
                raise BuildError(
                    f"the guest's packages for {arch.debian_arch} cannot be had: {failed}",
                    hint=f"is the mirror {uri} reachable and complete? {failed.hint}",
                ) from failed
        if deadline.left() < RETRY_SECONDS:
            raise OutOfTime(f"time ran out while waiting for packages from {uri}")
        time.sleep(RETRY_SECONDS)
    raise AssertionError("unreachable")


def _userland(root: Path, recipe: Recipe) -> dict[str, Entry]:
    """The files that the recipe keeps, with modes of our own."""
    entries: dict[str, Entry] = {}
    unmatched = set(recipe.keep)
    with tarfile.open(root) as archive:
        for member in archive:
            path = PurePosixPath("/", member.name)
            matching = {p for p in recipe.keep if path.match(f"/{p}")}
            if not matching:
                continue
            if member.issym():
                entry = Entry(stat.S_IFLNK | 0o777, member.linkname.encode())
            else:
                content = archive.extractfile(member)  # follows a hard link
                if content is None:
                    continue
                mode = 0o755 if member.mode & stat.S_IXUSR else 0o644
                entry = Entry(stat.S_IFREG | mode, content.read())
            entries[str(path).lstrip("/")] = entry
            unmatched -= matching
    if unmatched:
        raise BuildError(
            f"no file of the guest's packages matches {' or '.join(sorted(unmatched))}",
            hint="correct `keep` in images/guest",
        )
    links = {**{f"bin/{applet}": "busybox" for applet in recipe.applets}, **recipe.links}
    linked = {name: Entry(stat.S_IFLNK | 0o777, to.encode()) for name, to in links.items()}
    return entries | linked


def _own(arch: Arch, source: Path, scratch: Path, deadline: Deadline) -> dict[str, Entry]:
    """What is ours: agent, /init, a few texts and directories, and the console that the kernel
    opens before anything is mounted (init/main.c, console_on_rootfs())."""
    agent = scratch / "klp-agent"
    compiler = f"{arch.cross_compile}gcc"
    try:
        process.run(
            [
                *(compiler, "-static", "-Os", "-std=gnu11", "-s", "-Wl,--build-id=none"),
                *("-o", agent, source / "agent.c"),
            ],
            deadline=deadline,
        )
    except process.CommandFailed as failed:
        raise BuildError(
            f"the guest's agent does not compile for {arch.name}: {failed}",
            hint=f"is a static C library there? Packages: {' '.join(arch.packages)}",
        ) from failed
    program = stat.S_IFREG | 0o755
    return {
        "init": Entry(program, (source / "init").read_bytes()),
        "bin/klp-agent": Entry(program, agent.read_bytes()),
        "dev/console": Entry(stat.S_IFCHR | 0o600, device=(5, 1)),
        **{name: Entry(stat.S_IFREG | 0o644, text) for name, text in TEXTS.items()},
        **{name: Entry(stat.S_IFDIR | 0o755) for name in DIRECTORIES},
    }
