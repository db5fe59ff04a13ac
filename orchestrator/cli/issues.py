# SPDX-License-Identifier: GPL-2.0-only
"""The lists of known issues: ours, and files of the user's own beside it. Each entry is checked
against what there is, and no two have one id.

What a file of the user's names by a path is relative to the file: a module set, a suite, the file
of an architecture, a series.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from orchestrator import catalog
from orchestrator.errors import UsageError
from orchestrator.model import issuecheck
from orchestrator.model import suite as suites
from orchestrator.model.known import CapabilitiesFile, KnownIssue, KnownIssuesFile
from orchestrator.nouns import Case, ModuleSet
from orchestrator.source import series

ReadSuite = Callable[[str], Iterable[Case]]


def load(
    files: Sequence[Path], arches: Iterable[str], our_suites: Iterable[str], read_suite: ReadSuite
) -> tuple[KnownIssue, ...]:
    """Ours, then those of each file.

    arches: names that are known besides those of ours. our_suites: names; read_suite: the cases of
    one, by its name or its file. Raises UsageError, naming file, issue and key.
    """
    names = _ours(tuple(our_suites), read_suite)
    names = replace(names, arches={*names.arches, *arches})
    found: dict[str, tuple[KnownIssue, Path]] = {}
    for file in (catalog.data_dir("kernel-config") / "known-issues.toml", *files):
        for issue in _checked(file, names, read_suite):
            if issue.id in found:
                place = found[issue.id][1]
                also = f", and in {place}" if place != file else ""
                raise UsageError(
                    f"{file}: issue '{issue.id}': there is another of this id{also}",
                    hint="reports tell issues by their ids: call one otherwise",
                )
            found[issue.id] = issue, file
    return tuple(issue for issue, _ in found.values())


@functools.cache  # it takes as long as all the rest
def _ours(our_suites: tuple[str, ...], read_suite: ReadSuite) -> issuecheck.Names:
    """What comes with us."""
    file = catalog.data_dir("kernel-config") / "capabilities.toml"
    return issuecheck.Names(
        arches=catalog.arch_files(),
        capabilities={entry.name for entry in catalog.load_toml(file, CapabilitiesFile).capability},
        series=series.known(),
        sets=catalog.module_sets(),
        cases=tuple(case for name in our_suites for case in read_suite(name)),
    )


def _checked(file: Path, names: issuecheck.Names, read_suite: ReadSuite) -> Iterable[KnownIssue]:
    listed = catalog.load_toml(file, KnownIssuesFile)
    own = [case for spec in listed.suites for case in read_suite(str(_at(file, spec)))]
    for issue in listed.issue:
        where = f"{file}: issue '{issue.id}'"
        placed = _placed(issue, file, where)
        sets = {name: _set(name, where) for name in _own_sets(placed)}
        usual = [case for name, found in sets.items() for case in suites.usual(name, found)]
        by_file = zip(issue.architectures, placed.architectures, strict=True)
        there = replace(
            names,
            arches={*names.arches, *(name for spec, name in by_file if catalog.is_arch_file(spec))},
            sets={**names.sets, **sets},
            cases=(*names.cases, *own, *usual),
        )
        issuecheck.check(placed, there, where)
        yield placed


# --- places --------------------------------------------------------------------------------------


def _at(file: Path, spec: str) -> Path:
    return Path(os.path.normpath(file.parent / spec))


def _placed(issue: KnownIssue, file: Path, where: str) -> KnownIssue:
    """The issue with its paths as cases, kernels and results have them."""

    def set_(name: str) -> str:
        return str(_at(file, name).resolve()) if catalog.is_place(name) else name

    def arch(name: str) -> str:
        if not catalog.is_arch_file(name):
            return name
        try:
            return catalog.arch(str(_at(file, name))).name
        except UsageError as err:
            raise UsageError(f"{where}: architectures: {err}", err.hint) from None

    def sure(pattern: str) -> str:
        name, slash, case = pattern.rpartition("/")
        return f"{set_(name)}{slash}{case}"

    return replace(
        issue,
        architectures=tuple(map(arch, issue.architectures)),
        without_series=tuple(str(_at(file, s)) if "/" in s else s for s in issue.without_series),
        surely=tuple(map(sure, issue.surely)),
        fails=tuple(replace(fails, modules=set_(fails.modules)) for fails in issue.fails),
    )


def _own_sets(issue: KnownIssue) -> Collection[str]:
    named = [pattern.rpartition("/")[0] for pattern in issue.surely]
    return {*filter(catalog.is_place, (*named, *(fails.modules for fails in issue.fails)))}


def _set(name: str, where: str) -> ModuleSet:
    try:
        return catalog.module_set(name)
    except UsageError as err:
        raise UsageError(f"{where}: {err}", err.hint) from None
