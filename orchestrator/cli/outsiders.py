# SPDX-License-Identifier: GPL-2.0-only
"""What a document of an earlier run names that is not klp-e2e's own: a source, a series, a module
set, an architecture's file. To build any of them is to run what its author wrote into a Makefile,
or to fetch what he names, so it is done only when the command line names it again: the document may
be somebody else's. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from orchestrator import catalog
from orchestrator.build import configs
from orchestrator.errors import UsageError
from orchestrator.nouns import merged, series_prefix
from orchestrator.plain import one_line, shell
from orchestrator.source import series
from orchestrator.verdicts import Run

OPTIONS = (
    *("--arch", "--arch-file", "--kernel", "--series", "--config"),
    *("--modules", "--suite", "--patches"),
)
_OURS = "debian:"  # Debian's archive answers for what is in it
_KINDS = ("debian", "tar", "dir", "git")
_URL = re.compile(r"\w+://|[\w.-]+@[\w.-]+:")


@dataclass(frozen=True, slots=True)
class Given:
    """The same things as the command line names them, each as it serves in any directory."""

    words: frozenset[tuple[str, str]] = frozenset()  # (option, value)

    @classmethod
    def of(
        cls,
        *,
        arch: Iterable[str] | None = None,
        kernel: str = "",
        series: Iterable[str] | None = None,
        config: Iterable[str] | None = None,
        modules: Iterable[str] | None = None,
        suite: str | None = None,
        patches: Path | None = None,
    ) -> Given:
        """What was typed, None where it was not. Raises UsageError for what names nothing."""
        words = [*(("--arch-file", spec) for spec in arch or ()), ("--kernel", kernel)]
        words += [("--series", spec) for spec in series or ()]
        words += [("--config", spec) for spec in config or ()]
        words += [("--modules", name) for name in modules or ()]
        words += [("--suite", suite or ""), ("--patches", str(patches or ""))]
        return cls(frozenset((option, _placed(value)) for option, value in words if value))

    def has(self, option: str, value: str) -> bool:
        return (option, _placed(value)) in self.words


def _placed(value: str) -> str:
    """The value as it serves in any directory: what is a path on this host, whole."""
    kind, colon, rest = value.partition(":")
    if not colon or kind not in _KINDS:
        return str(Path(value).resolve())
    path, sharp, ref = rest.partition("#")
    return value if _URL.match(path) else f"{kind}:{Path(path).resolve()}{sharp}{ref}"


NOTHING = Given()


def refuse(
    place: Path,
    run: Run,
    given: Given,
    *,
    arches: Iterable[str] = (),
    module_sets: Iterable[str] = (),
    suite: str = "",
    patches: Path | None = None,
) -> None:
    """Raises UsageError where the document at `place` names what is not ours and was not typed.

    arches: those that are to be built, by name.
    """
    named = dict.fromkeys(_named(run, arches, module_sets, suite, patches))
    if missing := [word for word in named if not given.has(*word)]:
        what = ", ".join(one_line(value) for _, value in missing)
        words = " ".join(f"{option} {shell(value)}" for option, value in missing)
        raise UsageError(
            f"{place} names what is not klp-e2e's own, and building it runs its Makefiles: {what}",
            hint=f"if you trust it, name it yourself: add {words}",
        )


def _named(
    run: Run,
    arches: Iterable[str],
    module_sets: Iterable[str],
    suite: str,
    patches: Path | None,
) -> Iterator[tuple[str, str]]:
    yield from (("--arch-file", run.arch_files[name]) for name in arches if name in run.arch_files)
    if not run.exact_source.startswith(_OURS):
        yield "--kernel", run.exact_source
    ours = series.known()
    yield from (("--series", spec) for spec in run.series if not _is_ours(spec, ours))
    yield from (("--config", spec) for spec in run.configs if configs.is_file(spec))
    yield from (("--modules", name) for name in module_sets if catalog.is_place(name))
    if "/" in suite or suite.endswith(".toml"):
        yield "--suite", suite
    if patches is not None:
        yield "--patches", str(patches)


def _is_ours(spec: str, known: Collection[str]) -> bool:
    """A series of ours, a prefix of it, or an alteration of ours."""
    name, _ = series_prefix(merged(spec) or spec)
    altered = name.startswith(series.ALTERED) and ".." not in name.split("/")
    return name in known or altered or name == series.NONE
