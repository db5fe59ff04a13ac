# SPDX-License-Identifier: GPL-2.0-only
"""How commands show what they have come to."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from rich.console import RenderableType

from orchestrator.errors import Exit, HarnessError
from orchestrator.report import resultstext, verdict
from orchestrator.report.directory import ResultsDirectory
from orchestrator.report.progress import Reporter
from orchestrator.report.store import Store
from orchestrator.report.terminal import Terminal, silence, tell
from orchestrator.verdicts import CaseResult


def run_and_show(
    writer: ResultsDirectory,
    work: Callable[[Reporter], None],
    lines: Callable[[Sequence[CaseResult]], Sequence[str]] = lambda _: (),
) -> Exit:
    """Do it, and show what there is of its results, however it ends. lines: what else there is to
    say of them. Returns the exit code that they have earned."""
    try:
        with writer, Reporter(Terminal(stderr=True)) as reporter:
            work(reporter)
    finally:
        if writer.results:
            show(resultstext.results_report(writer.run, writer.results))
            for text in lines(writer.results):
                tell(text)
        tell_place(writer)
    return verdict.results_exit_code(writer.run, writer.results)


def tell_place(writer: Store) -> None:
    """Where the results are, if there are any."""
    if writer.kept:
        tell(f"results: {writer.path}")


def show(shown: RenderableType) -> None:
    """Fitted to a terminal, whole lines elsewhere. Raises HarnessError, BrokenPipeError."""
    console = Terminal()
    if not console.is_terminal:
        tell(resultstext.plain(shown).removesuffix("\n"))
        return
    try:
        console.print(shown, crop=False)
    except OSError as err:  # the terminal was closed
        silence(sys.stdout)
        raise HarnessError(f"cannot write what there is to say: {err.strerror}") from err
