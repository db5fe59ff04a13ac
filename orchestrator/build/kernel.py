# SPDX-License-Identifier: GPL-2.0-only
"""Kernels: looked up by the hash of what they are made of, built if they are not there yet.

Of patches the text counts and not what their series is called: a prefix, or a copy that a night has
kept, is the kernel that there is already.

CACHE/kernels/NAME-KEY/   a finished kernel, which never changes
CACHE/trees/NAME-KEY/     a working tree for one (lineage of sources, architecture, config); the
                          series put on it come and go, so that a build compiles what changed
"""

from __future__ import annotations

import dataclasses
import glob
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from orchestrator import catalog
from orchestrator.build import configs, kbuild, kconfig, toolchain
from orchestrator.build.kbuild import Progress, Site
from orchestrator.deadline import Deadline
from orchestrator.errors import BuildError, ConfigError
from orchestrator.host import files, process, tools, workdir
from orchestrator.host.rundir import run_dir
from orchestrator.model import known
from orchestrator.nouns import Arch, Kernel, merged
from orchestrator.source import series, sources, worktree
from orchestrator.source.series import Series
from orchestrator.source.sources import SourceTree

LAYOUT = 1  # of a finished kernel's directory: another number makes all of them anew
TREE_GIB = 3.0  # a working tree with its build directory and ccache's share
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
    stack = [one for one in asked if one.patches]
    fragment = configuration(arch, without)
    compiler = compiler_version(arch)
    key = _key(arch, tree, stack, fragment, compiler)
    final = _place(arch, tree, stack, key)
    name = final.name
    with workdir.locked(final, say), workdir.disk_errors(f"{name} cannot be built"):
        problem = workdir.verify(final, trusting=f"{MODULE_TREE}/")
        if problem and final.exists():
            say(f"the cached kernel {name} is damaged ({problem}); building it again")
        if problem:
            _build(arch, tree, stack, fragment, compiler, key, final, jobs, progress, say, deadline)
        workdir.touch(final)
        on_it = tuple(one.name for one in asked if one.patches or merged(one.name))
        return load_kernel(final, arch, tree, on_it)


def is_built(arch: Arch, tree: SourceTree, series_specs: Sequence[str]) -> bool:
    """Would `build` find the kernel in the cache? Whether it is damaged there is not looked at.
    Raises UsageError, PatchError, ConfigError, HarnessError."""
    stack = [one for one in _resolved(tree, series_specs) if one.patches]
    key = _key(arch, tree, stack, configuration(arch), compiler_version(arch))
    return (_place(arch, tree, stack, key) / workdir.DIGESTS).is_file()


def _resolved(tree: SourceTree, specs: Sequence[str]) -> list[Series]:
    return [series.resolve(spec, tree.kernel) for spec in specs]


def _place(arch: Arch, tree: SourceTree, stack: Sequence[Series], key: str) -> Path:
    """Where the kernel is, or is to be; its key counts, the rest of the name is for people."""
    kernels = workdir.cache_root() / "kernels"
    there = sorted(kernels.glob(f"{glob.escape(arch.name)}-*-{key[:16]}"))
    compiled = [arch.toolchain] if arch.toolchain != toolchain.GCC else []
    words = "+".join((_label(stack), *(Path(spec).stem for spec in arch.configs), *compiled))
    name = f"{arch.name}-{_plain(tree.version)}-{_plain(words)}-{key[:16]}"
    return there[0] if there else kernels / name


def _label(stack: Sequence[Series]) -> str:
    """`livepatch-reload+fix.mbx`"""
    return "+".join(Path(one.name).name for one in stack) or series.NONE


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
    """The first line of what the compiler says to --version. Raises MissingTool."""
    compiler = toolchain.compiler(arch)
    tools.need(compiler, _package_of(arch))
    return process.run([compiler, "--version"]).output.splitlines()[0]


def _package_of(arch: Arch) -> str:
    """The Debian package of the architecture's compiler; "": `klp-e2e doctor` knows."""
    if arch.toolchain != toolchain.GCC:
        return ""
    return next((name for name in arch.packages if name.startswith("gcc")), "gcc")


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.+~_-]+", "_", text)[:60]


def _key(
    arch: Arch, tree: SourceTree, stack: Sequence[Series], fragment: str, compiler: str
) -> str:
    parts = [
        *(str(LAYOUT), tree.digest, fragment, compiler),
        *(arch.kernel_arch, arch.tuxmake_arch, arch.cross_compile),
        *(arch.image_target, arch.image_path),
        *(patch.digest for one in stack for patch in one.patches),
    ]
    return _hash(*parts)


def _hash(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _build(
    arch: Arch,
    tree: SourceTree,
    stack: Sequence[Series],
    fragment: str,
    compiler: str,
    key: str,
    final: Path,
    jobs: int | None,
    progress: Progress,
    say: Callable[[str], None],
    deadline: Deadline | None,
) -> None:
    root = workdir.cache_root() / "trees"
    site = Site(root / f"{arch.name}-{_hash(tree.lineage, arch.name, fragment, compiler)[:16]}")
    with workdir.locked(site.root, say):
        workdir.require_space(workdir.cache_root(), TREE_GIB, f"building the {arch.name} kernel")
        workdir.own(site.root)
        workdir.whole(workdir.CCACHE)
        with run_dir("patch") as scratch:
            patched = series.apply(tree.directory, stack, scratch)
        if not site.source.exists() and not sources.repair(tree, say):
            tree = sources.fetch(tree.spec, deadline, say)
        say(f"preparing the {arch.name} source tree of {tree.version}")
        changed = worktree.sync(tree, patched, site.source)
        jobs = jobs or os.cpu_count() or 1
        needed = kconfig.required(_fragments(arch))
        done = kbuild.make(
            arch, site, _label(stack), fragment, changed, jobs, progress, deadline, needed
        )
        if done.absent:
            options = ", ".join(f"CONFIG_{name}" for name in done.absent)
            say(f"the {arch.name} kernel {tree.version} has no {options}")
        say(f"keeping the {arch.name} kernel")
        with workdir.staging(final) as tmp:
            _collect(arch, site, tmp)
            record = {
                "key": key,
                "arch": arch.name,
                "source": tree.spec,
                "source_version": tree.version,
                "series": [one.name for one in stack],
                "release": (site.build / "include/config/kernel.release").read_text().strip(),
                "version": tree.kernel,
                "compiler": compiler,
                "configs": arch.configs,
                **dataclasses.asdict(done),
            }
            (tmp / "kernel.json").write_text(json.dumps(record, indent=1))
            workdir.publish(tmp, final)
    workdir.touch(site.root)
    workdir.whole(workdir.CCACHE)


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
        (site.build / ".config", "config"),
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
        config=directory / "config",
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
