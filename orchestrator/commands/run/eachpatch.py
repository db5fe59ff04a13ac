# SPDX-License-Identifier: GPL-2.0-only
"""What `klp-e2e run --each-patch` does: every prefix of a series has to build and to pass, as
maintainers ask of a series that is to be bisected. Prints nothing itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from orchestrator.cli import options
from orchestrator.cli.options import RunOptions
from orchestrator.commands.run import work
from orchestrator.errors import BuildError, UsageError
from orchestrator.report import prefixes, store, verdict
from orchestrator.report.prefixes import Prefix
from orchestrator.report.progress import Reporter
from orchestrator.source import series
from orchestrator.source.sources import fetch


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
    done: list[Prefix] = []
    with store.claimed(wanted.directory):
        for number in range(len(patches) + 1):
            patch = patches[number - 1].name if number else ""
            # the whole series goes by its own name: it may be built already
            spec = last if number == len(patches) else f"{last}@{number}"
            reporter.say(f"{number} of {len(patches)}: {patch or 'before the first patch'}")
            done.append(
                _prefix(
                    replace(
                        wanted,
                        build=replace(
                            wanted.build, series=(*below, spec) if number else tuple(below)
                        ),
                        directory=wanted.directory / f"{number:02}",
                    ),
                    patch,
                    spec,
                    command,
                    reporter,
                )
            )
            prefixes.save(wanted.directory, done)
            yield done[-1]


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
