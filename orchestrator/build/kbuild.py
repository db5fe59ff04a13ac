# SPDX-License-Identifier: GPL-2.0-only
"""One kernel build by tuxmake in a working tree: configuration, compilation, what to keep of it.

Facts of tuxmake 1.45 this relies on: an existing build directory is built on incrementally; its
`config` target does nothing where a `.config` lies, so that the old one is removed first (kbuild
compares option by option, and compiles nothing again for a new time stamp); `default` is `make`
with no target; `--verbose` is make without --silent, whose lines make the progress; metadata.json
is written before the build starts, atomically, with the line that reproduces it.
"""

from __future__ import annotations

import difflib
import logging
import os
import re
import shutil
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.build import delivery, kconfig, kconfigtree, knownoptions, toolchain
from orchestrator.build.kconfigtree import KconfigTree
from orchestrator.deadline import Deadline
from orchestrator.errors import BuildError, ConfigError, HarnessError, KlpError
from orchestrator.host import ours, process, tools, workdir
from orchestrator.nouns import Arch

log = logging.getLogger(__name__)

Progress = Callable[[int, int, str], None]  # (compiled so far, expected in all, the last file)

# an absolute path is a tool of the host's (objtool)
_COMPILED = re.compile(r"^\s+(?:CC|AS)(?: \[M\])?\s+([^/\s]\S*\.o)$")
_ERROR = re.compile(
    r"(?::\d+: (?:fatal )?error: |: undefined reference to |^ERROR: modpost: |^error: "
    r"|No space left on device|\*\*\* .*(?:Error \d|No rule|Stop\.))"
)
# What a limit, a disk or the kernel of this machine has done to a compiler, or to make.
_MACHINES = re.compile(
    r"(?:: |\] )(?:Disk quota exceeded|Input/output error|Read-only file system|File too large"
    r"|Cannot allocate memory|Too many open files|Resource temporarily unavailable)\.?$"
    r"|virtual memory exhausted|out of memory allocating \d"
    r"|(?:Killed|Terminated) signal terminated program "
    r"|unable to execute command: Killed|\*\*\* \[.+\] (?:Killed|Terminated|Bus error)\b"
)
_SOURCE = re.compile(r"^source_\S+ := ", re.MULTILINE)  # fixdep writes it for each compilation
_UNFINISHED = "klp-e2e-unfinished"  # lies in a build directory while make is at work there
LINE = 2000  # characters of a line of make that are looked at
CCACHE_SIZE = "5G"
_TUXMAKE = ("HOME", "PYTHONPATH", "PYTHONHOME")  # how this python, as which it runs, was found
_WRAPPERS = Path("/usr/lib/ccache")  # Debian's: compilers by their names
# of the environment: the same sources give the same kernel
SAME = {
    "KBUILD_BUILD_TIMESTAMP": "@0",
    "KBUILD_BUILD_VERSION": "1",
    "KBUILD_BUILD_USER": "klp-e2e",
    "KBUILD_BUILD_HOST": "klp-e2e",
}
USUAL_OBJECTS = 730  # of a kernel with our configuration, before one has been built


@dataclass(frozen=True, slots=True)
class Site:
    """A working tree and what belongs to it, in one directory of the cache."""

    root: Path

    @property
    def source(self) -> Path:
        return self.root / "src"

    @property
    def build(self) -> Path:
        return self.root / "build"

    @property
    def requested(self) -> Path:
        """What is asked for on top of tinyconfig."""
        return self.root / "requested.config"

    @property
    def output(self) -> Path:
        """Where tuxmake puts build.log, metadata.json and reproducer.sh."""
        return self.root / "output"

    @property
    def last_count(self) -> Path:
        """How many objects the last finished build had."""
        return self.root / "objects"

    @property
    def log(self) -> Path:
        return self.output / "build.log"


@dataclass(frozen=True, slots=True)
class Done:
    """`objects`: files that a cold build compiles; `compiled`: what this one compiled."""

    objects: int
    compiled: int
    cpu_seconds: float
    absent: tuple[str, ...] = ()  # requested options that this kernel does not define


def make(
    arch: Arch,
    site: Site,
    series: str,
    fragment: str,
    changed: Collection[str],
    jobs: int,
    progress: Progress,
    deadline: Deadline | None,
    needed: kconfig.Needed = frozenset(),
) -> Done:
    """Configure and compile what `changed` (relative paths) makes necessary.

    series: how messages call it. fragment: the requested options, on top of tinyconfig. needed:
    those that the kernel cannot do without (`kconfig.required`). Raises
    ConfigError before anything is compiled when the kernel drops one; BuildError naming
    architecture, series, the compiler's first error and the log.
    """
    mark = _begin(site, progress)
    expected = _expected(site, changed)
    progress(0, expected, "configuring")
    seconds, absent = _configure(arch, site, series, fragment, jobs, deadline, needed)

    log.info("compiling the %s kernel, about %d files", arch.name, expected)
    compiled = 0

    def on_line(line: str) -> None:
        nonlocal compiled
        if match := _COMPILED.match(line):
            compiled += 1
            progress(compiled, max(expected, compiled + 1), match[1])

    try:
        seconds += _run(
            [*_command(arch, site, jobs), "kernel"], arch, site, series, on_line, deadline
        )
    except BuildError:
        ours.scrap(mark)  # make ended by itself, and has removed what it could not finish
        raise
    ours.scrap(mark)
    objects = sum(1 for _ in _compiled_objects(site.build))
    site.last_count.write_text(str(objects))
    log.info("compiled %d of the %s kernel's %d files", compiled, arch.name, objects)
    return Done(objects, compiled, seconds, absent)


def configure(
    arch: Arch,
    site: Site,
    series: str,
    fragment: str,
    jobs: int,
    deadline: Deadline | None,
    needed: kconfig.Needed = frozenset(),
) -> str:
    """The .config that `make` would compile with, and nothing compiled. Raises as `make` does."""
    mark = _begin(site, lambda _done, _total, _text: None)
    _configure(arch, site, series, fragment, jobs, deadline, needed)
    ours.scrap(mark)
    return (site.build / ".config").read_text()


def _begin(site: Site, progress: Progress) -> Path:
    """A build directory to work in, and the mark that lies there meanwhile."""
    mark = site.build / _UNFINISHED
    if mark.exists():
        # A compiler that was killed may have left part of an object, newer than its source. ccache
        # gives back what was finished.
        progress(0, 0, "the last build here was killed: starting afresh")
        ours.remove(site.build, within=site.root)
    site.build.mkdir(parents=True, exist_ok=True)
    mark.touch()
    ours.remove(site.output, within=site.root)
    site.output.mkdir()
    return mark


def _configure(
    arch: Arch,
    site: Site,
    series: str,
    fragment: str,
    jobs: int,
    deadline: Deadline | None,
    needed: kconfig.Needed,
) -> tuple[float, tuple[str, ...]]:
    """(CPU seconds, the requested options that this kernel does not define)."""
    site.requested.write_text(fragment)
    ours.scrap(site.build / ".config")
    log.info("configuring the %s kernel in %s", arch.name, site.root)
    command = [*_command(arch, site, jobs), "config"]
    seconds = _run(command, arch, site, series, lambda _line: None, deadline)
    return seconds, _check_config(arch, site, fragment, needed)


# For a compiler with a number, the first argument: tuxmake refuses CC=, by which a gcc is named;
# what it hands to ccache is CC all the same (Wrapper.wrap()). And it goes no further without a gcc
# of CROSS_COMPILE's, which LLVM does not need: Debian may have none.
_NUMBERED = """\
import sys
from tuxmake.build import Build
from tuxmake.cli import main
from tuxmake.toolchain import Toolchain
Build.MAKE_VARIABLES_REJECTLIST = [n for n in Build.MAKE_VARIABLES_REJECTLIST if n != "CC"]
Toolchain.compiler = lambda *_args, **_named: sys.argv[1]
main(*sys.argv[2:])
"""


def _command(arch: Arch, site: Site, jobs: int) -> list[str]:
    numbered = ("-c", _NUMBERED, toolchain.compiler(arch))
    return [
        *(sys.executable, *(numbered if toolchain.number(arch) else ("-m", "tuxmake"))),
        f"--directory={site.source}",
        f"--build-dir={site.build}",
        f"--output-dir={site.output}",
        f"--target-arch={arch.tuxmake_arch}",
        f"--kernel-image={arch.image_target}",
        f"--kconfig-add={site.requested}",
        f"--jobs={jobs}",
        *("--kconfig=tinyconfig", "--wrapper=ccache", "--runtime=null"),
        *("--compression-type=none", "--fail-fast", "--verbose"),
        *(f"--environment={name}={value}" for name, value in SAME.items()),
        # The same program that modules will be compiled with, or kbuild warns of two compilers.
        # No --toolchain: with it tuxmake insists on a `clang` without number.
        f"CROSS_COMPILE={arch.cross_compile}",
        *toolchain.variables(arch),
    ]


def compiler_cache() -> Mapping[str, str]:
    """The environment in which a make of others finds its compilers behind our ccache."""
    path = os.environ.get("PATH", os.defpath)
    return {**_ccache(), "PATH": f"{_WRAPPERS}:{path}" if _WRAPPERS.is_dir() else path}


def _ccache() -> Mapping[str, str]:
    root = workdir.cache_root()
    return {
        "CCACHE_DIR": str(root / workdir.CCACHE),
        "CCACHE_BASEDIR": str(root),
        "CCACHE_NOHASHDIR": "1",
        "CCACHE_MAXSIZE": CCACHE_SIZE,
    }


def _environment() -> Mapping[str, str]:
    root = workdir.cache_root()
    return {
        **_ccache(),
        # tuxmake hands on make's lines as they come, not by blocks of them: they are our progress
        "PYTHONUNBUFFERED": "1",
        # neither the user's tuxmake nor the user's ccache settings
        "XDG_CONFIG_HOME": str(root / "no-config"),
    }


def _run(
    command: Sequence[str],
    arch: Arch,
    site: Site,
    series: str,
    on_line: Callable[[str], None],
    deadline: Deadline | None,
) -> float:
    """CPU seconds taken. Raises BuildError with the first error."""
    tools.need("ccache", "ccache")
    log = site.root / "tuxmake.log"
    ours.scrap(log)
    command = tools.building(command, _TUXMAKE, _environment())
    done = process.run(command, log=log, check=False, on_line=on_line, deadline=deadline)
    if done.code == 0:
        return done.cpu_seconds
    raise why_unbuilt(log.read_text(errors="replace"), arch.name, series, log)


def why_unbuilt(text: str, arch: str, series: str, log: Path) -> KlpError:
    """What a build that failed comes to, by what it said: HarnessError where this machine is to
    blame, BuildError with the first error where the source is. log: where it was said."""
    lines = text.splitlines()
    if "No space left on device" in text:
        return HarnessError(
            f"the disk is full, the {arch} kernel could not be built",
            hint="free some space, or run `klp-e2e cache prune`",
        )
    if fault := fault_of_machine(text):
        return HarnessError(
            f"the {arch} kernel could not be built here: {fault}",
            hint=f"that is this machine's, and says nothing of the source; the whole log: {log}",
        )
    first = next((line for line in lines if _ERROR.search(line[:LINE])), "")
    first = first or (text.strip().splitlines() or ["tuxmake said nothing"])[-1]
    return BuildError(
        f"the {arch} kernel does not build with series {series}: {first.strip()}",
        hint=f"the whole log: {log}",
        log=str(log),
    )


def fault_of_machine(text: str) -> str:
    """The line of a build's output by which this machine is to blame, "" where there is none."""
    if "No space left on device" in text:
        return "No space left on device"
    lines = (_MACHINES.search(line[:LINE]) for line in text.splitlines())
    found = next(filter(None, lines), None)
    return found.string.strip() if found is not None else ""


def _check_config(arch: Arch, site: Site, fragment: str, needed: kconfig.Needed) -> tuple[str, ...]:
    """The requested options that this kernel does not define, and can do without. Raises
    ConfigError for any other that is not what was requested."""
    final = (site.build / ".config").read_text()
    known = knownoptions.known()
    found = kconfig.become(
        fragment, final, known, needed, lambda: knownoptions.defined(site.source)
    )
    if not found.lost and not found.unknown:
        return found.absent
    ours.scrap(site.build / _UNFINISHED)  # nothing was compiled
    wrong = [_unknown(name, known) for name in found.unknown]
    if found.lost:
        wrong.append(kconfig.explain(found.lost, _kconfig_tree(arch, site.source), final))
    raise ConfigError(
        f"the {arch.name} kernel does not take the configuration:\n" + "\n".join(wrong),
        hint=f"{arch.name} has livepatch from Linux {arch.since} on: take such a kernel"
        if arch.since and any(option.name == "LIVEPATCH" for option in found.lost)
        else "request what the option depends on as well, or leave the option out",
        final=final,
    )


def _kconfig_tree(arch: Arch, source: Path) -> KconfigTree:
    def read(name: str) -> str | None:
        path = source / name
        return path.read_text(errors="replace") if path.is_file() else None

    return kconfigtree.read(read, source_arch(source, arch.kernel_arch))


def _unknown(name: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    guess = f": did you mean CONFIG_{close[0]}?" if close else ""
    return f"CONFIG_{name}: no kernel that we know has such an option{guess}"


def _compiled_objects(build: Path) -> Iterator[Path]:
    """The .cmd file of each object compiled for the kernel; the host's own tools left out."""
    for base, subdirs, names in os.walk(build):
        subdirs[:] = [name for name in subdirs if name not in ("scripts", "tools")]
        for name in names:
            if name.endswith(".o.cmd"):
                path = Path(base) / name
                if _SOURCE.search(path.read_text(errors="replace")):
                    yield path


def _expected(site: Site, changed: Collection[str]) -> int:
    """How many files will be compiled, by the dependencies that the last build noted."""
    if not site.last_count.exists():
        return USUAL_OBJECTS
    if not (site.build / ".config").exists():
        return int(site.last_count.read_text())
    needles = [
        f"{site.source.name}/{name}" for name in changed if name.endswith((".c", ".h", ".S"))
    ]
    texts = (path.read_text(errors="replace") for path in _compiled_objects(site.build))
    return sum(1 for text in texts if any(needle in text for needle in needles))


# --- what is kept ------------------------------------------------------------------------------


def module_tree(arch: Arch, site: Site, into: Path) -> None:
    """What modules are built against, self-contained: `make -C INTO ARCH=... M=... modules`.

    The list is that of the kernel's own linux-headers package (scripts/package/builddeb of 6.1,
    scripts/package/install-extmod-build of 6.12), and the built modules in their directories.
    """
    place = Path("arch") / source_arch(site.source, arch.kernel_arch)
    for name in _source_files(site.source, place):
        # never written to in place: see worktree.sync
        _place(site.source / name, into / name, link=True)
    for name in _build_files(site.build, place):
        _place(site.build / name, into / name, link=False)


def source_arch(source: Path, kernel_arch: str) -> str:
    """SRCARCH, the directory below arch/, of a value of ARCH: the source's top Makefile derives the
    one from the other."""
    head = (source / "Makefile").read_text(errors="replace")
    derived: dict[str, str] = dict(
        re.findall(r"^ifeq \(\$\(ARCH\),(\w+)\)\n\s+SRCARCH := (\w+)$", head, re.M)
    )
    return derived.get(kernel_arch, kernel_arch)


def _source_files(source: Path, arch: Path) -> Iterator[Path]:
    for top in (Path(), arch):
        yield from (path.relative_to(source) for path in (source / top).glob("Makefile*"))
    for top in (Path("include"), Path("scripts")):
        yield from _tree(source, top)
    for base, _, names in os.walk(source / arch):
        here = Path(base).relative_to(source)
        if {"include", "scripts"} & set(here.parts):
            yield from (here / name for name in names)
        else:
            yield from (here / name for name in names if name in ("Kbuild.platforms", "Platform"))


def _build_files(build: Path, arch: Path) -> Iterator[Path]:
    for top in (arch / "include", Path("include"), Path("scripts")):
        yield from (p for p in _tree(build, top) if p.suffix not in (".o", ".a", ".cmd"))
    for name in ("Module.symvers", ".config", "tools/objtool/objtool", *delivery.KEYS):
        if (build / name).exists():
            yield Path(name)
    yield from (path.relative_to(build) for path in sorted(build.rglob("*.ko")))


def _tree(base: Path, top: Path) -> Iterator[Path]:
    """Every file and link under base/top, relative to base."""
    for directory, subdirs, names in os.walk(base / top):
        here = Path(directory).relative_to(base)
        for name in names + [s for s in subdirs if (Path(directory) / s).is_symlink()]:
            yield here / name


def _place(origin: Path, target: Path, link: bool) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if os.path.lexists(target):
        ours.scrap(target)  # a generated file has the same name: the build's own wins
    if link:
        os.link(origin, target, follow_symlinks=False)
    else:
        shutil.copy2(origin, target, follow_symlinks=False)
