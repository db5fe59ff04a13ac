# SPDX-License-Identifier: GPL-2.0-only
"""argv -> options: what was typed becomes a frozen value in which everything exists and fits.

Every function raises UsageError with what is known instead. Relative paths become absolute, so that
the line that reproduces a case works from any directory.
"""

from __future__ import annotations

import difflib
import fnmatch
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator import catalog
from orchestrator.build import configs
from orchestrator.cli import issues
from orchestrator.errors import UsageError
from orchestrator.host import files
from orchestrator.model import orders
from orchestrator.model import suite as suites
from orchestrator.model.known import KnownIssue
from orchestrator.nouns import (
    MERGED,
    Accel,
    Arch,
    Case,
    Channel,
    Order,
    Toolchain,
    merged,
    series_prefix,
)
from orchestrator.report.directory import RESULTS
from orchestrator.report.store import fresh
from orchestrator.source import series
from orchestrator.source.alterations import Alteration, AlterationKind
from orchestrator.source.alterations import parse as parse_alteration

SOURCE = "debian:6.1"
SERIES = "livepatch-reload"
BARE = "none"  # --series none: the bare kernel
SUITE = "core"
MODULE_SET = "basic"
ALL = "all"  # --modules all: every module set


@dataclass(frozen=True, slots=True)
class BuildOptions:
    arches: tuple[Arch, ...]
    source: str
    series: tuple[str, ...]  # empty: the bare kernel
    jobs: int
    configs: tuple[str, ...] = ()  # those of the architectures
    toolchain: str = ""  # likewise; "": each has its own
    known_issues: tuple[Path, ...] = ()  # files beside our own list


@dataclass(frozen=True, slots=True)
class RunOptions:
    build: BuildOptions
    cases: tuple[Case, ...]
    directory: Path
    strict: bool
    cold: bool
    channel: Channel
    guests: int = 1  # of each architecture
    resumed: bool = False  # `directory` may hold what the same command left there
    accel: Accel = Accel.AUTO


def arches(specs: Sequence[str]) -> tuple[Arch, ...]:
    """The architectures, by name or by file, each once; when none is given, those of ours that say
    `by_default`.

    A file's counts for its name, too: `--arch-file mine.toml --arch mine` is one architecture.
    """
    files: dict[str, Arch] = {}
    for spec in filter(catalog.is_arch_file, specs):
        found = catalog.arch(spec)
        if files.setdefault(found.name, found) != found:
            raise UsageError(
                f"{spec} and {files[found.name].file} are both architecture {found.name}",
                hint="rename one: an architecture is called after its file",
            )
    chosen = [_name(spec) for spec in specs] or list(catalog.default_arches())
    return tuple(files.get(name) or catalog.arch(name) for name in dict.fromkeys(chosen))


def _name(spec: str) -> str:
    return Path(spec).stem if catalog.is_arch_file(spec) else spec


def build_options(
    arch: Sequence[str] | None,
    kernel: str,
    series: Sequence[str] | None,
    jobs: int | None,
    config: Sequence[str] | None = None,
    toolchain: str | None = None,
    known: Sequence[Path] | None = None,
) -> BuildOptions:
    """What is typed, None where it was not; `jobs`: one each core this process may use. known:
    files of known issues. Raises UsageError."""
    chosen = configurations(config or ())
    compiled = [with_toolchain(each, toolchain) for each in arches(arch or ())]
    found = BuildOptions(
        arches=tuple(configs.configured(each, chosen) for each in compiled),
        source=source(kernel),
        series=stack(series or ()),
        jobs=compilers(jobs),
        configs=chosen,
        toolchain=toolchain or "",
        known_issues=issue_files(known or ()),
    )
    if known:
        known_issues(found.known_issues, found.arches)  # before anything is built
    return found


def issue_files(files: Sequence[Path]) -> tuple[Path, ...]:
    """Files of known issues as they serve in any directory, each once."""
    return tuple(dict.fromkeys(file.absolute() for file in files))


def known_issues(files: Sequence[Path], arches: Sequence[Arch]) -> tuple[KnownIssue, ...]:
    """Our list and what these files add to it. Raises UsageError."""
    return issues.load(files, [arch.name for arch in arches], our_suites(), suite_cases)


def with_toolchain(arch: Arch, toolchain: str | None) -> Arch:
    """The architecture, compiled with this; None, "": as it is."""
    if not toolchain:
        return arch
    if catalog.problems(toolchain, Toolchain):
        raise UsageError(
            f"'{toolchain}' is no toolchain", hint="gcc, gcc-N or llvm-N, as in gcc-12, llvm-19"
        )
    return replace(arch, toolchain=toolchain)


def configurations(specs: Sequence[str]) -> tuple[str, ...]:
    """By name, or by file made absolute, each once."""
    return tuple(dict.fromkeys(map(configs.placed, specs)))


def compilers(jobs: int | None) -> int:
    """As many as asked for, else one each core this process may use."""
    return jobs or len(os.sched_getaffinity(0))


def source(spec: str) -> str:
    """A kernel source, its path made absolute; `sources` says whether it exists."""
    kind, colon, place = spec.partition(":")
    if not colon or not place:
        raise UsageError(
            f"'{spec}' is no kernel source",
            hint="debian:6.1, tar:PATH, dir:PATH or git:PATH_OR_URL#REF",
        )
    path, hash_sign, ref = place.partition("#")
    if kind in ("tar", "dir", "git") and "://" not in path and Path(path).exists():
        return f"{kind}:{Path(path).absolute()}{hash_sign}{ref}"
    return spec


def stack(names: Sequence[str]) -> tuple[str, ...]:
    """The series in the order given: the default one when none is, none for `--series none`."""
    if not names:
        return (SERIES,)
    if "" in names:
        raise UsageError("--series: no name", hint=f"--series {BARE} is the bare kernel")
    if BARE in names:
        if len(names) > 1:
            raise UsageError(
                f"--series {BARE} means the bare kernel and goes with no other series",
                hint=f"leave out --series {BARE}, or the others",
            )
        return ()
    return tuple(map(_series, names))


def _series(spec: str) -> str:
    """A series, its path made absolute; `series` says whether it exists."""
    if spec.startswith("git:"):
        return source(spec)
    if (there := merged(spec)) and not series.is_there(spec):
        return f"{_series(there)}{MERGED}"
    name, count = series_prefix(spec)
    if count is not None and not series.is_there(spec):
        return f"{_series(name)}@{count}"
    ours = catalog.data_dir("kernel-config") / "series" / spec
    return spec if ours.is_dir() or not Path(spec).exists() else str(Path(spec).absolute())


def chosen_cases(modules: str | None, order: Sequence[str], suite: str | None) -> tuple[Case, ...]:
    """The given orders on a module set, else a suite's cases, those of the set if one is given; of
    a set that is not in the default suite, its usual orders."""
    if order:
        if suite is not None:
            raise UsageError(
                "--order and --suite exclude each other",
                hint="--order runs the given orders, --suite those of a file",
            )
        name = anywhere(MODULE_SET if modules is None else modules)
        module_set = catalog.module_set(name)
        return tuple(
            Case(f"order-{number}", name, orders.parse(text, module_set))
            for number, text in enumerate(dict.fromkeys(order), 1)
        )
    chosen = SUITE if suite is None else suite
    found = suite_cases(chosen)
    if modules is None:
        return found
    module_set = catalog.module_set(modules)
    mine = tuple(case for case in found if case.module_set == anywhere(modules))
    if not mine and suite is None:
        mine = suites.usual(anywhere(modules), module_set)
    if not mine:
        raise UsageError(
            f"suite {chosen} has no order of module set {modules}",
            hint="give orders with --order '+module ...'",
        )
    return mine


def only_cases(cases: Sequence[Case], patterns: Sequence[str]) -> tuple[Case, ...]:
    """Those of which SET/NAME, or NAME, is one of the patterns or fits it; all, where there are no
    patterns. Raises UsageError for a pattern that nothing fits."""
    for pattern in patterns:
        if not any(_fits(case, pattern) for case in cases):
            close = difflib.get_close_matches(pattern, [c.title for c in cases], n=1, cutoff=0.5)
            raise UsageError(
                f"no case is called {pattern}",
                hint=f"did you mean {close[0]}?" if close else "klp-e2e orders lists them",
            )
    return tuple(c for c in cases if not patterns or any(_fits(c, p) for p in patterns))


def _fits(case: Case, pattern: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for name in (case.title, case.label, case.name))


def suite_cases(spec: str) -> tuple[Case, ...]:
    """A suite's cases, from suites/NAME.toml, or from a file in which the place of a module set is
    relative to the file."""
    path = Path(suite(spec)) if _is_file(spec) else our_suite(spec)

    def where(name: str) -> str:
        return str((path.parent / name).resolve()) if catalog.is_place(name) else name

    file = suites.placed(catalog.load_toml(path, suites.SuiteFile), where)
    others = filter(catalog.is_place, suites.module_sets(file))
    sets = {**catalog.module_sets(), **{name: catalog.module_set(name) for name in others}}
    try:
        found = suites.expand(file, sets)
    except UsageError as err:
        raise UsageError(f"{path}: {err}", err.hint) from err
    if not found:
        raise UsageError(f"suite {spec} has no order", hint="[[case]] or [[interleave]] gives one")
    return found


def suite(spec: str) -> str:
    """A suite as it serves in any directory: its name, or its file, which has a "/" or ends in
    ".toml", made absolute."""
    return str(Path(spec).absolute()) if _is_file(spec) else spec


def our_suite(name: str) -> Path:
    """The file of a suite of ours."""
    known = our_suites()
    if name not in known:
        hint = f"a file is given as {name}.toml\n" if Path(f"{name}.toml").is_file() else ""
        names = f"known: {', '.join(known) or 'none'}"
        raise UsageError(f"unknown suite: {name}", hint=f"{hint}{names}")
    return known[name]


def our_suites() -> Mapping[str, Path]:
    """Name -> file, of the suites of ours."""
    return {p.stem: p for p in sorted((Path(__file__).parents[1] / "suites").glob("*.toml"))}


def _is_file(spec: str) -> bool:
    """Is it a suite's file, and not the name of one of ours?"""
    return "/" in spec or spec.endswith(".toml")


def order(modules: str, text: str) -> Order:
    """One order, checked against its module set."""
    return orders.parse(text, catalog.module_set(modules))


def run_options(
    build: BuildOptions,
    chosen: tuple[Case, ...],
    directory: Path | None,
    strict: bool,
    cold: bool,
    channel: Channel = Channel.AGENT,
    resume: Path | None = None,
    accel: Accel = Accel.AUTO,
) -> RunOptions:
    """What `klp-e2e run` is to do; for `directory` see `results`."""
    place, resumed = results(directory, resume), resume is not None
    return RunOptions(build, chosen, place, strict, cold, channel, resumed=resumed, accel=accel)


def results(directory: Path | None, resume: Path | None = None) -> Path:
    """Where results go: None for a new directory under results/, named after the time and made at
    once, so that nobody else gets the same. resume: they are there already."""
    if resume is not None:
        resumed_only(directory)
        if not os.path.lexists(resume / RESULTS):
            raise UsageError(f"{resume} has no {RESULTS} to go on with", hint="-o DIR begins anew")
        return resume.absolute()
    named = fresh(Path("results")) if directory is None else directory
    return named.absolute()


def resumed_only(directory: Path | None) -> None:
    """Raises UsageError where --resume has a `directory` of -o beside it."""
    if directory is not None:
        raise UsageError(
            "--resume and -o exclude each other", hint="leave out -o: it goes on where it began"
        )


def module_sets(names: Sequence[str]) -> tuple[str, ...]:
    """The named module sets, each once; `all` for every one of ours."""
    if ALL in names:
        return tuple(catalog.module_sets())
    chosen = tuple(dict.fromkeys(names)) or (MODULE_SET,)
    for name in chosen:
        catalog.module_set(name)
    return tuple(map(anywhere, chosen))


def anywhere(name: str) -> str:
    """A module set's name as it serves in any directory."""
    return str(Path(name).resolve()) if catalog.is_place(name) else name


def seconds(text: str) -> float:
    """`30s`, `10m`, `1.5h` as seconds."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)
    if found is None or not float(found[1]):
        raise UsageError(f"'{text}' is no time", hint="a time is written 30s, 10m or 2h")
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]]


def patches_of(kind: AlterationKind, directory: Path | None) -> Path:
    """Where the patches of alterations lie: in the directory that is given, or with us."""
    return (directory or catalog.data_dir("kernel-config") / f"{kind}s").absolute()


def alterations(
    kind: AlterationKind, patterns: Sequence[str], directory: Path | None = None
) -> tuple[Alteration, ...]:
    """Those of a directory of patches, by default of kernel-config/ablations or /mutants, that a
    pattern fits; all when none is given. Each in all its texts, oldest first: which of them a
    kernel takes is known when its source is (`source.alterations.fitting`)."""
    place = patches_of(kind, directory)
    found = series.altered(place)
    for pattern in patterns or ("*",):
        if not fnmatch.filter(found, pattern):
            raise UsageError(
                f"{place} has no {kind} {pattern}", hint=f"it has {', '.join(found) or 'none'}"
            )
    chosen = [
        (name, since, path)
        for name, texts in found.items()
        for since, path in texts.items()
        if not patterns or any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
    ]
    return tuple(
        parse_alteration(
            name,
            _patch(path),
            f"{kind}s/{name}" if directory is None else str(path),
            since,
        )
        for name, since, path in chosen
    )


def _patch(path: Path) -> str:
    try:
        return files.read(path, files.TEXT).decode(errors="surrogateescape")
    except OSError as err:
        raise UsageError(f"{path}: {err.strerror}") from err
