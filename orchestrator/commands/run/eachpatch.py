# SPDX-License-Identifier: GPL-2.0-only
"""What `klp-e2e run --each-patch` does: every prefix of a series has to build and to pass, as
maintainers ask of a series that is to be bisected. Prints nothing itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator.cli import options
from orchestrator.cli.options import RunOptions
from orchestrator.commands.run import work
from orchestrator.errors import BuildError, Exit, UsageError
from orchestrator.report import store, verdict
from orchestrator.report.progress import Reporter
from orchestrator.source import series
from orchestrator.source.sources import fetch
from orchestrator.verdicts import CaseResult, Run, Status

WORST_FIRST = (Exit.TEST_FAILURE, Exit.BUILD, Exit.HARNESS, Exit.GOOD)


@dataclass(frozen=True, slots=True)
class Prefix:
    """The kernel with the patches up to this one, and what its run came to."""

    patch: str  # its name; "" before the first
    spec: str  # the prefix, as --series names it
    path: Path  # its results directory
    run: Run
    results: tuple[CaseResult, ...]
    exit: Exit

    @property
    def counts(self) -> Mapping[str, Mapping[Status, int]]:
        """Architecture -> status -> number of cases."""
        arches = sorted({kernel.arch for kernel in self.run.kernels})
        return {a: verdict.counts([r for r in self.results if r.arch == a]) for a in arches}

    @property
    def line(self) -> str:
        """`0002-x86...: s390x 65 PASS, 10 KNOWN; x86_64 75 PASS`"""
        parts = [
            f"{arch} {', '.join(f'{n} {status}' for status, n in counts.items()) or 'nothing ran'}"
            for arch, counts in self.counts.items()
        ]
        parts += [f"{arch} {why}" for arch, why in self.run.unbuilt.items()]
        parts += [self.run.trouble] if self.run.trouble else []
        return f"{self.patch or 'before the first patch'}: {'; '.join(parts)}"


def run_each_patch(
    wanted: RunOptions, command: Sequence[str], reporter: Reporter
) -> Iterator[Prefix]:
    """Every prefix of the last series, on top of the others; one that does not build does not
    keep the next from running."""
    *below, last = wanted.build.series or (options.BARE,)
    tree = fetch(wanted.build.source, say=reporter.say)
    patches = series.resolve(last, tree.kernel).patches
    if not patches:
        raise UsageError(f"--each-patch: series {last} has no patch for {wanted.build.source}")
    with store.claimed(wanted.directory):
        for number in range(len(patches) + 1):
            patch = patches[number - 1].name if number else ""
            # the whole series goes by its own name: it may be built already
            spec = last if number == len(patches) else f"{last}@{number}"
            reporter.say(f"{number} of {len(patches)}: {patch or 'before the first patch'}")
            yield _prefix(
                replace(
                    wanted,
                    build=replace(wanted.build, series=(*below, spec) if number else tuple(below)),
                    directory=wanted.directory / f"{number:02}",
                ),
                patch,
                spec,
                command,
                reporter,
            )


def _prefix(
    wanted: RunOptions, patch: str, spec: str, command: Sequence[str], reporter: Reporter
) -> Prefix:
    writer = work.results_directory(wanted, command)
    try:
        with writer:
            work.run_orders(wanted, writer, reporter)
    except BuildError as err:  # no architecture builds; the directory says why
        code = err.exit_code
    else:
        code = verdict.results_exit_code(writer.run, writer.results)
    return Prefix(patch, spec, writer.path, writer.run, writer.results, code)


def prefixes_exit_code(prefixes: Sequence[Prefix]) -> Exit:
    """The worst of them."""
    return min((prefix.exit for prefix in prefixes), key=WORST_FIRST.index, default=Exit.HARNESS)
