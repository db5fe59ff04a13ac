# SPDX-License-Identifier: GPL-2.0-only
"""Kernel source trees, fetched into the cache, unpacked once, and named by a digest.

    debian:6.1          the package linux-source-6.1, of the host's own apt or of any release that
                        kernel-config/debian.toml names, without root
    debian:newest       the newest kernel of those releases
    tar:PATH            a tarball with one kernel tree in it
    tar:URL#sha256=HEX  one of the web, downloaded once
    git:REPO#REF        REF of a local repository or a URL; without #REF its HEAD
    dir:PATH            a tree as it lies there, changes included

What is cached is used without the network. A `dir:` tree is read where it lies and never copied.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator.deadline import Deadline
from orchestrator.errors import HarnessError, UsageError
from orchestrator.host import ours, process, workdir
from orchestrator.host.process import CommandFailed
from orchestrator.source import archive, debian, download, git

Say = Callable[[str], None]
CLONES = "clones"  # in the cache: what `bisect` checks commits out in
UNPACKED_GIB = 2.5  # a kernel tree, and its package beside it while it is unpacked
_HEAD_FILES = ("Makefile", "Kconfig", "Kbuild")  # every kernel tree has these, as tuxmake knows too


@dataclass(frozen=True, slots=True)
class SourceTree:
    """A kernel tree ready to be read.

    version: as recorded, 6.1.192-2 for a package. kernel: (6, 1). digest: names the content.
    lineage: trees of one lineage follow one another, and share incremental builds.
    commit: of a git repository, in full; "" of what is none. revision: the commit whose content
    the tree is, that of an unchanged checkout too; "" where there is none.
    """

    spec: str
    version: str
    directory: Path
    digest: str
    kernel: tuple[int, int]
    lineage: str
    commit: str = ""
    revision: str = ""

    @property
    def exact(self) -> str:
        """A spec that means this very tree when its branch has moved on, as far as there is one."""
        place, _, _ = self.spec.partition("#")
        return f"{place}#{self.commit}" if self.commit else self.spec

    @property
    def frozen(self) -> bool:
        """Whether the tree lies in the cache and never changes."""
        return not self.spec.startswith("dir:")


def fetch(spec: str, deadline: Deadline | None = None, say: Say = lambda _line: None) -> SourceTree:
    """The tree that `spec` names; `say` gets a line where it takes long.

    Raises UsageError for a spec that is none or names nothing, HarnessError when it cannot be had.
    """
    kind, _, rest = spec.partition(":")
    fetchers = {"debian": _debian, "tar": _tar, "git": _git, "dir": _dir}
    if kind not in fetchers or not rest:
        raise UsageError(
            f"{spec} is no kernel source",
            hint="debian:6.1, debian:newest, tar:PATH, tar:URL#sha256=HEX, git:PATH_OR_URL#REF or "
            "dir:PATH",
        )
    with workdir.disk_errors(f"{spec} cannot be fetched"):
        return fetchers[kind](rest, spec, deadline, say)


def at_hand(spec: str) -> SourceTree | None:
    """The tree that `fetch` would give where nothing has to be looked up elsewhere, fetched or
    unpacked; of debian:X.Y the one fetched last. None where there is none, or a branch of a URL may
    have moved on. Raises UsageError as `fetch` does."""
    kind, _, rest = spec.partition(":")
    where, _, ref = rest.partition("#")
    if kind == "dir":
        return _dir(rest, spec, None, lambda _line: None)
    if kind == "debian":
        package = "" if rest == debian.NEWEST else debian.name(rest, spec)
        entry = _newest(f"debian-{package}_*") if package else None
        return None if entry is None else _read(entry, spec, package)
    if kind == "tar":
        name, lineage, commit = f"tar-{_tar_digest(rest, spec)[:24]}", "tarballs", ""
    else:
        local = Path(where).expanduser().absolute()
        local_ref = local.is_dir() and not ref.startswith("-")
        commit = resolve_commit(local, ref or "HEAD", spec) if local_ref else ref
        if not _COMMIT.fullmatch(commit):
            return None
        name, lineage = f"git-{commit[:24]}", where
    entry = _entry(name)
    if not (entry / workdir.DIGESTS).is_file():
        return None
    return replace(_read(entry, spec, lineage), commit=commit, revision=commit)


def check_unchanged(tree: SourceTree) -> None:
    """Raises HarnessError where the tree is no longer what its digest says: what was made of it
    meanwhile, and is kept by that, would be of something else."""
    if not tree.frozen and fetch(tree.spec).digest != tree.digest:
        raise HarnessError(
            f"{tree.spec} was changed while it was copied",
            hint="run again, and leave it alone until the build has begun",
        )


def listing(tree: SourceTree) -> Iterator[str]:
    """The relative path of every file of the tree; of a git checkout, what git would list."""
    if not tree.frozen and (tree.directory / ".git").exists():
        return git.listing(tree.directory)
    return (name for name, _ in _walk(str(tree.directory)))


def _walk(top: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Relative path of every file and link. By scandir: a kernel tree has 80,000 of them, and
    somebody waits for this before each run."""
    left = [""]
    while left:
        below = left.pop()
        with os.scandir(f"{top}/{below}") as entries:
            found = list(entries)
        for entry in found:
            if entry.is_dir(follow_symlinks=False):
                left.append(f"{below}{entry.name}/")
            else:
                yield f"{below}{entry.name}", entry


def _looked_at(tree: SourceTree) -> Iterator[tuple[str, os.stat_result]]:
    """Relative path of every file of the tree, and what lstat(2) says of it."""
    if (tree.directory / ".git").exists():
        top = str(tree.directory)
        return ((name, os.lstat(f"{top}/{name}")) for name in git.listing(tree.directory))
    walked = _walk(str(tree.directory))
    return ((name, entry.stat(follow_symlinks=False)) for name, entry in walked)


def kernel_version(directory: Path) -> tuple[str, tuple[int, int]]:
    """("6.1.192", (6, 1)) from the head of a tree's Makefile. Raises UsageError if it is none."""
    missing = [name for name in _HEAD_FILES if not (directory / name).is_file()]
    if missing:
        raise UsageError(f"{directory} is not a kernel tree: it has no {missing[0]}")
    with (directory / "Makefile").open(errors="replace") as file:
        head = file.read(2000)
    found = dict(re.findall(r"^(VERSION|PATCHLEVEL|SUBLEVEL|EXTRAVERSION) *= *(\S*)", head, re.M))
    try:
        major, minor = int(found["VERSION"]), int(found["PATCHLEVEL"])
    except (KeyError, ValueError):
        raise UsageError(f"{directory}/Makefile does not tell the kernel's version") from None
    text = f"{major}.{minor}.{found.get('SUBLEVEL') or 0}{found.get('EXTRAVERSION', '')}"
    return text, (major, minor)


# --- entries of the cache ----------------------------------------------------------------------


def _entry(name: str) -> Path:
    return workdir.cache_root() / "sources" / name


def _cached(
    entry: Path, spec: str, lineage: str, fill: Callable[[Path], dict[str, str]], say: Say
) -> SourceTree:
    """The tree of a cache entry, made by `fill` if it is not there yet.

    fill(directory): puts the tree at directory/linux and returns {"version": ..., "digest": ...}.
    """
    with workdir.locked(entry, say):
        if not (entry / workdir.DIGESTS).is_file():
            workdir.require_space(workdir.cache_root(), UNPACKED_GIB, f"unpacking {spec}")
            say(f"unpacking {spec}")
            with workdir.staging(entry) as tmp:
                record = fill(tmp)
                kernel_version(tmp / "linux")
                (tmp / "source.json").write_text(json.dumps(record))
                workdir.publish(tmp, entry)
        return _read(entry, spec, lineage)


def _read(entry: Path, spec: str, lineage: str) -> SourceTree:
    workdir.touch(entry)
    record = json.loads((entry / "source.json").read_text())
    tree = entry / "linux"
    _, kernel = kernel_version(tree)
    return SourceTree(spec, record["version"], tree, record["digest"], kernel, lineage)


def repair(tree: SourceTree, say: Say) -> bool:
    """Check a cached tree file by file; a damaged one goes, to be fetched again: False."""
    if not tree.frozen:
        return True
    entry = tree.directory.parent
    with workdir.locked(entry, say):
        if problem := workdir.verify(entry, trusting="linux/"):
            say(f"the cached {tree.spec} is damaged ({problem}); fetching it again")
            workdir.discard(entry)
            return False
    return True


def _unpack(archive: Path, into: Path, deadline: Deadline | None) -> None:
    """Unpack a tarball with one kernel tree in it to `into`/linux."""
    raw = into / "raw"
    raw.mkdir()
    threads = ["--use-compress-program", "xz -T0"] if archive.name.endswith("xz") else []
    command = ["tar", "--no-same-owner", *threads, "-xf", str(archive), "-C", str(raw)]
    process.run(command, deadline=deadline)
    # a link would lead to a tree that is not in the tarball
    tops = [raw, *sorted(p for p in raw.iterdir() if p.is_dir() and not p.is_symlink())]
    top = next((t for t in tops if all((t / n).is_file() for n in _HEAD_FILES)), None)
    if top is None:
        raise UsageError(f"{archive} holds no kernel tree")
    top.rename(into / "linux")
    ours.scrap(raw)


# --- debian:X.Y --------------------------------------------------------------------------------


def _debian(version: str, spec: str, deadline: Deadline | None, say: Say) -> SourceTree:
    if version == debian.NEWEST:
        known: archive.Package | None = debian.newest(say)
        assert known is not None
        spec = f"debian:{debian.kernel(known)}"
        say(f"Debian's newest kernel is {spec}, {known.name} {known.version}")
        package = known.name
    else:
        package = debian.name(version, spec)
        known = debian.find(package, say)
    cached = _newest(f"debian-{package}_*")
    if known is None:
        if cached is not None:
            return _read(cached, spec, package)
        there = debian.known(say)
        raise HarnessError(
            f"no Debian release that is looked in has {package}",
            hint=f"there are {', '.join(there)}"
            if there
            else "is the network there? sudo apt-get update; `apt-cache search linux-source`",
        )
    entry = _entry(f"debian-{package}_{known.version.replace(':', '%3a')}")

    def fill(tmp: Path) -> dict[str, str]:
        say(f"downloading {package} {known.version}")
        deb = archive.download(known, tmp, deadline)
        process.run(["dpkg-deb", "-x", str(deb), str(tmp / "deb")], deadline=deadline)
        archives = sorted((tmp / "deb/usr/src").glob("linux-source-*.tar.*"))
        if not archives:
            raise HarnessError(f"{package} {known.version} holds no tarball of the kernel")
        _unpack(archives[0], tmp, deadline)
        ours.scrap(tmp / "deb")
        ours.scrap(deb)
        return {"version": known.version, "digest": known.sha256}

    try:
        return _cached(entry, spec, package, fill, say)
    except archive.NoDownload as err:
        if cached is None:
            raise
        say(f"{err}; using the cached {cached.name}")
        return _read(cached, spec, package)


def _newest(pattern: str) -> Path | None:
    """The finished cache entry of that name which was made last; none that was put aside."""
    whole = (p for p in _entry("").glob(pattern) if (p / workdir.DIGESTS).is_file())
    entries = (p for p in whole if ".damaged-" not in p.name)
    return max(entries, key=lambda p: (p / workdir.DIGESTS).stat().st_mtime, default=None)


# --- tar:, dir: --------------------------------------------------------------------------------


def _place(text: str, spec: str) -> Path:
    """Raises UsageError for what can be no path here: of a user who is none, of too long a name."""
    try:
        path = Path(text).expanduser().absolute()
        path.exists()
    except (RuntimeError, OSError) as err:
        raise UsageError(f"{spec}: {getattr(err, 'strerror', err)}") from err
    return path


def _tar(text: str, spec: str, deadline: Deadline | None, say: Say) -> SourceTree:
    digest = _tar_digest(text, spec)

    def fill(tmp: Path) -> dict[str, str]:
        there = download.is_url(text)
        packed = ".xz" if text.partition("#")[0].endswith("xz") else ""
        path = tmp / f"archive{packed}" if there else _place(text, spec)
        if there:
            say(f"downloading {spec}")
            download.fetch(download.remote(text, spec), path, deadline)
        try:
            _unpack(path, tmp, deadline)
        except CommandFailed as failed:
            what = spec if there else path
            raise UsageError(f"{what} cannot be unpacked: {failed.tail.strip()}") from failed
        if there:
            ours.scrap(path)
        return {"version": kernel_version(tmp / "linux")[0], "digest": digest}

    return _cached(_entry(f"tar-{digest[:24]}"), spec, "tarballs", fill, say)


def _tar_digest(text: str, spec: str) -> str:
    """Of a file's content; of one of the web as it is to be, so that it is downloaded once."""
    if download.is_url(text):
        return download.remote(text, spec).sha256
    path = _place(text, spec)
    if not path.is_file():
        raise UsageError(f"{spec}: there is no such file")
    return workdir.file_digest(path)


def _dir(text: str, spec: str, deadline: Deadline | None, say: Say) -> SourceTree:
    path = _place(text, spec)
    version, kernel = kernel_version(path)
    if (path / ".config").exists() or (path / "include/config").exists():
        raise UsageError(
            f"{path} has been built in, and kbuild refuses such a tree for a build elsewhere",
            hint=f"make -C {path} mrproper",
        )
    tree = SourceTree(spec, version, path, "", kernel, _lineage(path))
    if unknown := git.ignored(path, _HEAD_FILES):
        raise UsageError(
            f"{path} is a git repository to which its {unknown[0]} does not belong",
            hint=f"a .gitignore leaves it out, as that of Debian's tree does: "
            f"git -C {path} add -f . puts it there; or take its .git away",
        )
    if commit := git.checked_out(path):  # the same kernel as git:PATH#COMMIT
        return replace(tree, version=_version(version, commit), digest=commit, revision=commit)
    digest = hashlib.sha256()
    for name, info in sorted(_looked_at(tree), key=lambda each: each[0]):
        # whoever writes to a file can give it its old time of change, but not this one
        times = f"{info.st_mtime_ns}\0{info.st_ctime_ns}"
        digest.update(
            f"{name}\0{info.st_mode}\0{info.st_size}\0{times}\n".encode(errors="surrogateescape")
        )
    return replace(tree, digest=digest.hexdigest())


def _lineage(path: Path) -> str:
    """The directory; of a clone that `bisect` has made, the repository, as of git:REPO#REF."""
    if path.parent.parent != workdir.cache_root() / CLONES:
        return str(path)
    origin = ["git", "-C", str(path), "config", "--get", "remote.origin.url"]
    return process.run(origin).output.strip()


# --- git:REPO#REF ------------------------------------------------------------------------------


def _git(text: str, spec: str, deadline: Deadline | None, say: Say) -> SourceTree:
    where, _, ref = text.partition("#")
    ref = ref or "HEAD"
    if ref.startswith("-"):
        raise UsageError(f"{spec}: {ref} is no git reference")
    local = _place(where, spec)
    if local.is_dir():
        repository, name = local, ref
    elif _URL.match(where):
        repository, name = _mirror(where, ref, deadline, say)
    else:
        raise UsageError(f"{spec}: {where} is neither a directory nor a URL")
    commit = resolve_commit(repository, name, spec)

    def fill(tmp: Path) -> dict[str, str]:
        (tmp / "linux").mkdir()
        git.check_out(repository, commit, tmp / "linux", deadline)
        ours.scrap(tmp / "linux.git")
        version = kernel_version(tmp / "linux")[0]
        return {"version": _version(version, commit), "digest": commit}

    tree = _cached(_entry(f"git-{commit[:24]}"), spec, where, fill, say)
    return replace(tree, commit=commit, revision=commit)


def _version(version: str, commit: str) -> str:
    return f"{version} ({commit[:12]})"


_URL = re.compile(r"^(\w+://|\w[\w.-]*@[\w.-]+:)")  # none begins like an option
_COMMIT = re.compile(r"[0-9a-f]{40}")


def resolve_commit(repository: Path, ref: str, spec: str) -> str:
    """The full commit id. Raises UsageError naming `spec` when there is no such commit."""
    done = git.run_git(
        repository, "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}", check=False
    )
    if done.code != 0:
        raise UsageError(f"{spec}: {repository} has no commit {ref}", hint=done.errors.strip())
    return done.output.strip()


def _mirror(url: str, ref: str, deadline: Deadline | None, say: Say) -> tuple[Path, str]:
    """(a bare repository in the cache with just that commit, the name it has there).

    A full commit id that is there is not fetched again, whatever it was fetched by; another
    reference is, and when the network fails, the commit it meant last time is used.
    """
    repository = workdir.cache_root() / "git" / hashlib.sha256(url.encode()).hexdigest()[:24]
    name = f"refs/klp-e2e/{ref}"
    with workdir.locked(repository, say):
        workdir.own(repository)
        if not (repository / "HEAD").is_file():
            process.run(["git", "init", "--quiet", "--bare", str(repository)])
        command = ["git", "-C", str(repository)]
        there = process.run([*command, "rev-parse", "--verify", "--quiet", name], check=False)
        if _COMMIT.fullmatch(ref):
            here = [*command, "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}"]
            if process.run(here, check=False).code == 0:
                return repository, ref
        say(f"fetching {ref} of {url}")
        fetch = [*command, "-c", "gc.auto=0", *git.STALLS, "fetch", "--quiet", "--depth=1", url]
        deadline = deadline or Deadline.after(download.FETCH_SECONDS)
        try:
            process.run([*fetch, f"+{ref}:{name}"], deadline=deadline)
        except CommandFailed as failed:
            if there.code != 0:
                raise HarnessError(
                    f"{ref} of {url} cannot be fetched: {failed.tail.strip()}",
                    hint="a commit has to be given by its full id, a branch or tag by its name",
                ) from failed
            say(f"{url} cannot be reached; using {there.output.strip()[:12]}, fetched earlier")
    return repository, name
