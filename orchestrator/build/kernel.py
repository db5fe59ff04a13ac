# SPDX-License-Identifier: GPL-2.0-only
"""Kernels: looked up by the hash of what they are made of, built if they are not there yet.

Of a series that counts which it makes of the tree, not what it is called or how it comes: the same
change as a mailbox, a quilt directory or a range of git is the kernel that there is already.

CACHE/kernels/NAME-KEY/   a finished kernel, which never changes
CACHE/trees/NAME-KEY/     a working tree for one (lineage of sources, architecture, config); the
                          series put on it come and go, so that a build compiles what changed
"""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator import catalog
from orchestrator.build import configs, kbuild, kconfig, toolchain
from orchestrator.build.kbuild import Progress, Site
from orchestrator.deadline import Deadline
from orchestrator.errors import BuildError, ConfigError, HarnessError
from orchestrator.host import files, process, pruning, tools, workdir
from orchestrator.model import known
from orchestrator.nouns import Arch, Kernel, merged
from orchestrator.source import series, sources, worktree
from orchestrator.source.series import Patched, Series
from orchestrator.source.sources import SourceTree

LAYOUT = 1  # of a finished kernel's directory: another number makes all of them anew
TREE_GIB = 3.0  # a working tree with its build directory and ccache's share
CONFIG = "config"
MODULE_TREE = "build"  # the directory that modules are built against


def build(
    arch: Arch,
    source: str,
    series_specs: Sequence[str] = (),
    *,
    jobs: int | None = None,
    progress: Progress = lambda _done, _total, _text: None,
    say: Callable[[str], None] = lambda _line: None,
    deadline: Deadline | None = None,
    without: Collection[str] = (),
) -> Kernel:
    """The kernel of a source with the series stacked on it, from the cache or built now.

    jobs: parallel compilers, all cores by default. progress: see `kbuild.Progress`. say: one line
    for anything else that takes time. without: see `configuration`. Two runs that want the same
    kernel share one build.
    Raises UsageError, PatchError, ConfigError, BuildError, HarnessError.
    """
    tree = sources.fetch(source, deadline, say)
    configs.check_kernel(arch, tree.kernel)
    asked = _resolved(tree, series_specs)
    recipe = _recipe(arch, tree, asked, without)
    final = recipe.place
    name = final.name
    with workdir.locked(final, say), workdir.disk_errors(f"{name} cannot be built"):
        problem = workdir.verify(final, trusting=f"{MODULE_TREE}/")
        if problem and final.exists():
            say(f"the cached kernel {name} is damaged ({problem}); building it again")
        if problem:
            _build(recipe, final, jobs, progress, say, deadline)
        workdir.touch(final)
        on_it = tuple(one.name for one in asked if one.patches or merged(one.name))
        return load_kernel(final, arch, tree, on_it)


def is_built(arch: Arch, tree: SourceTree, series_specs: Sequence[str]) -> bool:
    """Would `build` find the kernel in the cache? Whether it is damaged there is not looked at.
    Raises UsageError, PatchError, ConfigError, HarnessError."""
    recipe = _recipe(arch, tree, _resolved(tree, series_specs))
    return (recipe.place / workdir.DIGESTS).is_file()


def is_of(kernel: Kernel, arch: Arch, tree: SourceTree) -> bool:
    """Is a finished kernel the one that `build` would make of this tree, with the series that it
    has? Raises as `is_built` does."""
    return _recipe(arch, tree, _resolved(tree, kernel.series)).key == kernel.key


def final_config(
    arch: Arch,
    source: str,
    series_specs: Sequence[str] = (),
    *,
    jobs: int,
    say: Callable[[str], None],
    deadline: Deadline | None = None,
) -> str:
    """The .config of the kernel that `build` would make of the same, without compiling it. Raises
    as `build` does."""
    tree = sources.fetch(source, deadline, say)
    configs.check_kernel(arch, tree.kernel)
    recipe = _recipe(arch, tree, _resolved(tree, series_specs))
    if (recipe.place / workdir.DIGESTS).is_file():
        return (recipe.place / CONFIG).read_text()
    final = workdir.cache_root() / "configured" / f"{arch.name}-{recipe.key[:32]}"
    with workdir.locked(final, say):
        if workdir.verify(final):
            with _prepared(recipe, say, deadline):
                say(f"configuring the {arch.name} kernel of {tree.version}")
                needed, asked = kconfig.required(_fragments(arch)), recipe.fragment
                text = kbuild.configure(
                    arch, recipe.site, recipe.label, asked, jobs, deadline, needed
                )
            with workdir.staging(final) as tmp:
                (tmp / CONFIG).write_text(text)
                workdir.publish(tmp, final)
        workdir.touch(final)
        return (final / CONFIG).read_text()


def _resolved(tree: SourceTree, specs: Sequence[str]) -> list[Series]:
    return [series.resolve(spec, tree.kernel) for spec in specs]


@dataclass(frozen=True, slots=True)
class _Recipe:
    """What a kernel is made of.

    patched: the files that the series change, as they leave them. label: `livepatch-reload+x.mbx`.
    fragment: what is requested on top of tinyconfig. compiler: what it says of its version.
    """

    arch: Arch
    tree: SourceTree
    stack: tuple[Series, ...]
    patched: Mapping[str, Patched]
    fragment: str
    compiler: str

    @property
    def label(self) -> str:
        return "+".join(Path(one.name).name for one in self.stack) or series.NONE

    @property
    def key(self) -> str:
        arch = self.arch
        parts = [
            *(str(LAYOUT), self.tree.digest, self.fragment, self.compiler),
            *(arch.kernel_arch, arch.tuxmake_arch, arch.cross_compile),
            *(arch.image_target, arch.image_path),
        ]
        for name, file in sorted(self.patched.items()):
            parts += [name, str(file.executable), _content_digest(file)]
        return _hash(*parts)

    @property
    def place(self) -> Path:
        """Where the kernel is, or is to be; its key counts, the rest of the name is for people."""
        arch, key = self.arch, self.key[:16]
        kernels = workdir.cache_root() / "kernels"
        there = sorted(kernels.glob(f"{glob.escape(arch.name)}-*-{key}"))
        compiled = [arch.toolchain] if arch.toolchain != toolchain.GCC else []
        words = "+".join((self.label, *(Path(spec).stem for spec in arch.configs), *compiled))
        name = f"{arch.name}-{_plain(self.tree.version)}-{_plain(words)}-{key}"
        return there[0] if there else kernels / name

    @property
    def site(self) -> Site:
        """The working tree that it is built in."""
        arch = self.arch
        key = _hash(self.tree.lineage, arch.name, self.fragment, self.compiler)[:16]
        return Site(workdir.cache_root() / "trees" / f"{arch.name}-{key}")


def _recipe(
    arch: Arch, tree: SourceTree, asked: Sequence[Series], without: Collection[str] = ()
) -> _Recipe:
    stack = tuple(one for one in asked if one.patches)
    compiler = compiler_version(arch)
    patched = series.apply(tree.directory, stack)
    return _Recipe(arch, tree, stack, patched, configuration(arch, without), compiler)


def _content_digest(file: Patched) -> str:
    return "" if file.content is None else hashlib.sha256(file.content).hexdigest()


def configuration(arch: Arch, without: Collection[str] = ()) -> str:
    """What is requested on top of tinyconfig: base.config, the architecture's fragment, and its
    further configurations, as far as it is for the architecture's compiler.

    without: options of which nothing is requested, for a kernel that cannot have them.
    """
    texts = _fragments(arch)
    return kconfig.merge(texts, {*without, *kconfig.foreign(texts, toolchain.family(arch))})


def _fragments(arch: Arch) -> list[str]:
    """The texts of base.config, of the architecture's fragment and of its configurations, each
    readable. Raises ConfigError, and UsageError for a configuration that is none."""
    own = catalog.fragment(arch.file or catalog.arch_file(arch.name))
    texts = []
    for path in (catalog.data_dir("kernel-config") / "base.config", own):
        if not path.is_file():
            raise ConfigError(f"{path} is missing", hint="every architecture has its fragment")
        try:
            texts.append(files.read(path, files.TEXT).decode())
        except (OSError, UnicodeDecodeError) as err:
            raise ConfigError(f"{path}: {err}", hint="it is to be a Kconfig fragment") from err
        if wrong := kconfig.unreadable(texts[-1]):
            raise ConfigError(f"{path}: {wrong[0]}")
    return [*texts, *(configs.read(spec).text for spec in arch.configs)]


def compiler_version(arch: Arch) -> str:
    """The first line of what the compiler says to --version. Raises MissingTool, HarnessError."""
    compiler = toolchain.compiler(arch)
    tools.need(compiler, toolchain.package(arch))
    said = process.run([compiler, "--version"]).output.strip()
    if not said:  # a kernel is told from others by it
        raise HarnessError(
            f"{compiler} --version says nothing", hint=f"is {tools.which(compiler)} a compiler?"
        )
    return said.splitlines()[0]


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.+~_-]+", "_", text)[:60]


def _hash(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _build(
    recipe: _Recipe,
    final: Path,
    jobs: int | None,
    progress: Progress,
    say: Callable[[str], None],
    deadline: Deadline | None,
) -> None:
    arch, tree, site = recipe.arch, recipe.tree, recipe.site
    with _prepared(recipe, say, deadline) as changed:
        jobs = jobs or os.cpu_count() or 1
        needed = kconfig.required(_fragments(arch))
        done = kbuild.make(
            arch, site, recipe.label, recipe.fragment, changed, jobs, progress, deadline, needed
        )
        if done.absent:
            options = ", ".join(f"CONFIG_{name}" for name in done.absent)
            say(f"the {arch.name} kernel {tree.version} has no {options}")
        say(f"keeping the {arch.name} kernel")
        with workdir.staging(final) as tmp:
            _collect(arch, site, tmp)
            record = {
                "key": recipe.key,
                "arch": arch.name,
                "source": tree.spec,
                "source_version": tree.version,
                "series": [one.name for one in recipe.stack],
                "release": (site.build / "include/config/kernel.release").read_text().strip(),
                "version": tree.kernel,
                "compiler": recipe.compiler,
                "configs": arch.configs,
                **dataclasses.asdict(done),
            }
            (tmp / "kernel.json").write_text(json.dumps(record, indent=1))
            workdir.publish(tmp, final)
    workdir.touch(site.root)
    workdir.whole(workdir.CCACHE)


@contextlib.contextmanager
def _prepared(
    recipe: _Recipe, say: Callable[[str], None], deadline: Deadline | None
) -> Iterator[frozenset[str]]:
    """The working tree of a kernel, locked, with its series on it; the relative paths of what had
    to be changed for that."""
    arch, tree, site = recipe.arch, recipe.tree, recipe.site
    with workdir.locked(site.root, say):
        workdir.require_space(workdir.cache_root(), TREE_GIB, f"building the {arch.name} kernel")
        pruning.keep_work(site.root, say)
        workdir.own(site.root)
        workdir.whole(workdir.CCACHE)
        if not site.source.exists() and not sources.repair(tree, say):
            tree = sources.fetch(tree.spec, deadline, say)
        say(f"preparing the {arch.name} source tree of {tree.version}")
        yield worktree.sync(
            tree, recipe.patched, site.source, lambda: sources.check_unchanged(tree)
        )


def _collect(arch: Arch, site: Site, into: Path) -> None:
    """Copy what is kept of a build."""
    image = site.build / arch.image_path
    if not image.is_file():
        raise BuildError(
            f"the {arch.name} build left no {arch.image_path}",
            hint=f"image_target and image_path of the architecture file; the log: {site.log}",
            log=str(site.log),
        )
    for origin, name in (
        (image, "image"),
        (site.build / "System.map", "System.map"),
        (site.build / ".config", CONFIG),
        (site.build / "vmlinux", "vmlinux"),
        (site.log, "build.log"),
        (site.output / "metadata.json", "metadata.json"),
        (site.output / "reproducer.sh", "reproducer.sh"),
    ):
        shutil.copy2(origin, into / name)
    kbuild.module_tree(arch, site, into / MODULE_TREE)


def load_kernel(directory: Path, arch: Arch, tree: SourceTree, on_it: tuple[str, ...]) -> Kernel:
    """A finished kernel from its directory. It may have been built for somebody who called its
    source, and the series on it, by other names."""
    record = json.loads((directory / "kernel.json").read_text())
    return Kernel(
        key=record["key"],
        arch=record["arch"],
        source=tree.exact,
        source_version=tree.version,
        series=on_it,
        release=record["release"],
        version=tree.kernel,
        compiler=record["compiler"],
        directory=directory,
        image=directory / "image",
        system_map=directory / "System.map",
        config=directory / CONFIG,
        build_tree=directory / MODULE_TREE,
        source_tree=directory / MODULE_TREE,
        capabilities=promised(tree.kernel, arch.name, on_it),
        objects=record["objects"],
        absent=tuple(record.get("absent", ())),
        configs=arch.configs,
        toolchain=arch.toolchain,
    )


def promised(version: tuple[int, int], arch: str, series: Sequence[str]) -> frozenset[str]:
    """The capabilities that kernel-config/capabilities.toml declares of such a kernel."""
    file = catalog.data_dir("kernel-config") / "capabilities.toml"
    declared = catalog.load_toml(file, known.CapabilitiesFile)
    return known.capabilities(declared.capability, version, arch, series)
