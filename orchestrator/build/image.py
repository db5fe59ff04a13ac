# SPDX-License-Identifier: GPL-2.0-only
"""The guest's userland: Debian packages, our agent and our /init, packed as a cpio archive.

Nothing foreign is run on the host: mmdebstrap only extracts, the recipe says which files stay, the
agent is compiled statically: by the (cross) gcc, or by clang with a C library of the packages. Keys
and modules come in a second archive behind it (`initramfs.stack`), so that the first can be cached.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import stat
import tarfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from orchestrator import catalog, initramfs
from orchestrator.build import toolchain
from orchestrator.deadline import Deadline
from orchestrator.errors import BuildError, HarnessError, OutOfTime
from orchestrator.host import process, tools, workdir
from orchestrator.host.rundir import run_dir
from orchestrator.initramfs import Entry
from orchestrator.nouns import Arch
from orchestrator.source import archive

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

    packages: tuple[str, ...]
    keep: tuple[str, ...]  # patterns of files, relative to the root; each must match. What a Debian
    # with a merged /usr has below usr/ is kept where the pattern says
    applets: tuple[str, ...]  # links in bin/ to busybox
    links: Mapping[str, str] = field(default_factory=dict)  # other links: path -> target
    sysroot: tuple[str, ...] = ()  # packages with a static C library, for an agent by clang


def base(arch: Arch) -> Path:
    """The userland for `arch`, from the cache or built now.

    Raises BuildError, MissingTool, OutOfTime.
    """
    deadline = Deadline.after(SECONDS)
    source = catalog.data_dir("images/guest")

    def entries(scratch: Path) -> dict[str, Entry]:
        recipe = catalog.load_toml(source / "recipe.toml", Recipe)
        agents_gcc = toolchain.family(toolchain.agents(arch)) == toolchain.GCC
        libraries = () if agents_gcc else recipe.sysroot
        root = _extract(arch, (*recipe.packages, *libraries), scratch, deadline)
        return _userland(root, recipe) | _own(arch, source, root, scratch, deadline)

    return _kept(_name(arch, source, deadline), entries)


def told(arch: Arch) -> str:
    """Whence an architecture's userland is."""
    origin = f"userland of Debian {arch.userland.suite}"
    try:
        name = _name(arch, catalog.data_dir("images/guest"), Deadline.after(SECONDS))
    except HarnessError:  # which needs a compiler
        name = ""
    if name and (_place(name) / workdir.DIGESTS).is_file():
        return f"{origin}: in the cache"
    return f"{origin}: fetched when it is first needed"


def addition(arch: Arch, name: str) -> Path:
    """The packages of images/guest/NAME.toml, to be stacked on `base`; cached as it is.

    Raises BuildError, MissingTool, OutOfTime.
    """
    deadline = Deadline.after(SECONDS)
    source = catalog.data_dir("images/guest") / f"{name}.toml"
    digest = hashlib.sha256(_origin(arch).encode() + source.read_bytes())

    def entries(scratch: Path) -> dict[str, Entry]:
        recipe = catalog.load_toml(source, Recipe)
        return _userland(_extract(arch, recipe.packages, scratch, deadline), recipe)

    return _kept(f"{arch.name}-{name}-{digest.hexdigest()[:24]}", entries)


def _kept(name: str, entries: Callable[[Path], Mapping[str, Entry]]) -> Path:
    """A compressed archive in the cache; `entries` makes its members, given a scratch directory."""
    final = _place(name)
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


def _place(name: str) -> Path:
    return workdir.cache_root() / "guest" / name


def _name(arch: Arch, source: Path, deadline: Deadline) -> str:
    """What the userland is called in the cache, by all that it is made of. Raises MissingTool."""
    agents = toolchain.agents(arch)
    compiler = tools.need(toolchain.compiler(agents), toolchain.package(agents))
    said = process.run([compiler, "--version"], deadline=deadline).output
    digest = hashlib.sha256(f"{_origin(arch)} {arch.cross_compile}".encode())
    digest.update(said.splitlines()[0].encode())
    for name in ("recipe.toml", "agent.c", "init"):
        digest.update((source / name).read_bytes())
    return f"{arch.name}-{digest.hexdigest()[:24]}"


def _origin(arch: Arch) -> str:
    """What tells the same recipe's images apart."""
    return f"{FORMAT} {arch.debian_arch} {arch.userland.suite} {arch.userland.component}"


# How the host reaches a mirror, and whether one that is behind its time serves.
_HOSTS_SETTING = re.compile(r'Acquire::(\S*Proxy\S*|Check-Valid-Until) ".')


def _source(arch: Arch, deadline: Deadline) -> str:
    """The line that tells where the packages are: the host's own mirror of that suite, else that of
    a release that we look in. Raises BuildError."""
    suite, component = arch.userland.suite, arch.userland.component
    if found := archive.mirror(archive.targets(deadline), suite, component):
        return f"deb {found} {suite} {component}"
    if suite in archive.releases().suites:
        return archive.source_line(suite, component)
    raise BuildError(
        f"this host's apt knows no mirror of Debian {suite} {component}",
        hint=f"add a source of {suite} to /etc/apt/sources.list and run apt-get update",
    )


def _extract(arch: Arch, packages: Sequence[str], scratch: Path, deadline: Deadline) -> Path:
    """A tar archive of the unpacked packages.

    chrootless: nothing is run inside (an extraction has no scripts to run) and nothing is mounted,
    so that root, a plain user and a user in a container are all the same. Only the one suite is
    named, and it is tried again: a mirror can be half-synced for one foreign architecture.
    """
    origin = _source(arch, deadline)
    settings = process.run(
        ["apt-config", "dump", "--format", '%F "%v";%n', "Acquire"], deadline=deadline
    ).output
    ours = [line for line in settings.splitlines() if _HOSTS_SETTING.match(line)]
    for attempt in range(1, TRIES + 1):
        root = scratch / f"root{attempt}.tar"
        argv = [
            "mmdebstrap",
            "--mode=chrootless",
            "--skip=check/chrootless",  # which warns root of scripts run on the host
            "--variant=extract",
            "--format=tar",
            f"--architectures={arch.debian_arch}",
            f"--include={','.join(packages)}",
            *(f"--aptopt={line}" for line in ours),
            arch.userland.suite,
            str(root),
            origin,
        ]
        try:
            # its own temporary directory goes with ours, however it ends
            process.run(argv, env={"TMPDIR": str(scratch)}, deadline=deadline)
            return root
        except process.CommandFailed as failed:
            if attempt == TRIES:
                raise BuildError(
                    f"the guest's packages for {arch.debian_arch} cannot be had: {failed}",
                    hint=f"is its mirror reachable and complete ({origin})? {failed.hint}",
                ) from failed
        if deadline.left() < RETRY_SECONDS:
            raise OutOfTime(f"time ran out while waiting for packages by: {origin}")
        time.sleep(RETRY_SECONDS)
    raise AssertionError("unreachable")


def _userland(root: Path, recipe: Recipe) -> dict[str, Entry]:
    """The files that the recipe keeps, with modes of our own."""
    entries: dict[str, Entry] = {}
    merged: dict[str, Entry] = {}  # below usr/ where the recipe has them without
    unmatched = set(recipe.keep)
    with tarfile.open(root) as files:
        for member in files:
            path, kept = PurePosixPath("/", member.name), entries
            matching = {p for p in recipe.keep if path.match(f"/{p}")}
            if not matching and path.is_relative_to("/usr"):
                path, kept = PurePosixPath("/", path.relative_to("/usr")), merged
                matching = {p for p in recipe.keep if path.match(f"/{p}")}
            if not matching:
                continue
            if member.issym():
                entry = Entry(stat.S_IFLNK | 0o777, member.linkname.encode())
            else:
                content = files.extractfile(member)  # follows a hard link
                if content is None:
                    continue
                mode = 0o755 if member.mode & stat.S_IXUSR else 0o644
                entry = Entry(stat.S_IFREG | mode, content.read())
            kept[str(path).lstrip("/")] = entry
            unmatched -= matching
    if unmatched:
        raise BuildError(
            f"no file of the guest's packages matches {' or '.join(sorted(unmatched))}",
            hint="correct `keep` in images/guest",
        )
    links = {**{f"bin/{applet}": "busybox" for applet in recipe.applets}, **recipe.links}
    linked = {name: Entry(stat.S_IFLNK | 0o777, to.encode()) for name, to in links.items()}
    return merged | entries | linked


def _own(
    arch: Arch, source: Path, root: Path, scratch: Path, deadline: Deadline
) -> dict[str, Entry]:
    """What is ours: agent, /init, a few texts and directories, and the console that the kernel
    opens before anything is mounted (init/main.c, console_on_rootfs())."""
    agent = scratch / "klp-agent"
    agents = toolchain.agents(arch)
    words: list[str | Path] = [*toolchain.command(agents.toolchain, agents.cross_compile)]
    try:
        if toolchain.family(agents) != toolchain.GCC:
            sysroot = scratch / "sysroot"
            sysroot.mkdir()
            process.run(["tar", "-xf", root, "-C", sysroot, "./usr"], deadline=deadline)
            words += ["-fuse-ld=lld", f"--sysroot={sysroot}"]
        process.run(
            [
                *(*words, "-static", "-Os", "-std=gnu11", "-s", "-Wl,--build-id=none"),
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
