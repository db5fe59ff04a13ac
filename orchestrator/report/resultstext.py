# SPDX-License-Identifier: GPL-2.0-only
"""Results for a terminal: one line an order, one column an architecture; then every failure in
full: the order with the failing event marked, what was expected, what was seen, how to reproduce.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from orchestrator import catalog
from orchestrator.kernelreports import crash_title
from orchestrator.model import movers, orders, words
from orchestrator.nouns import Case
from orchestrator.plain import printable, short
from orchestrator.report import verdict
from orchestrator.report.terminal import Terminal
from orchestrator.run import selftests
from orchestrator.verdicts import CaseResult, Health, Run, Shown, Status, Step

STYLES: Mapping[Status, str] = {
    Status.PASS: "green",
    Status.FAIL: "bold red",
    Status.FLAKY: "bold red",
    Status.KNOWN: "yellow",
    Status.FIXED: "bold magenta",
    Status.ERROR: "bold cyan",
    Status.SKIP: "dim",
}

FRAMES = 6  # of a report, shown
CONSOLE_LINES = 3  # of a failure without a crash: what the kernel said last


def results_report(run: Run, results: Sequence[CaseResult]) -> RenderableType:
    """Table, failures, kernels and summary, in this order."""
    parts: list[RenderableType] = [table(results)] if results else []
    parts += [failure(r) for r in worst_first(results)]
    parts.append(Text("\n".join([*kernel_lines(run), *verdict.test_lines(results)])))
    if still := movers.unmoved(results):
        text = "came back to their old place each time, where what is stale works by luck: "
        parts.append(Text(text + "; ".join(still)))
    parts.append(Text(verdict.results_summary(run, results), style="bold"))
    return Group(*parts)


def table(results: Sequence[CaseResult]) -> Table:
    """One row for each (module set, case, order) in the order first seen."""
    arches = sorted({r.arch for r in results})
    rows: dict[Case, dict[str, CaseResult]] = {}
    for result in results:
        rows.setdefault(result.case, {})[result.arch] = result
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    made.add_column("case", overflow="fold")
    made.add_column("order", overflow="fold")
    for arch in arches:
        made.add_column(arch, no_wrap=True)
    for case, by_arch in rows.items():
        cells = [_cell(by_arch.get(arch)) for arch in arches]
        name = Text(case.title)
        ran = max(len(selftests.tests(result)) for result in by_arch.values())
        what = orders.format(case.order) or f"{ran} test{'s' * (ran != 1)}"
        made.add_row(name, Text(what), *cells)
    return made


def _cell(result: CaseResult | None) -> Text:
    if result is None:
        return Text("-", style="dim")
    return Text.assemble(
        (f"{result.status:<5}", STYLES[result.status]), f" {result.seconds:5.1f} s"
    )


def worst_first(results: Sequence[CaseResult]) -> list[CaseResult]:
    """Everything that is neither PASS nor SKIP, worst first, else as it was run."""
    bad = [r for r in results if r.status not in (Status.PASS, Status.SKIP)]
    return sorted(bad, key=lambda r: r.status.rank)


def failure(result: CaseResult) -> RenderableType:
    """One failure in full. The failing event stands between `>>` and `<<`."""
    head = Text.assemble(
        (str(result.status), STYLES[result.status]),
        (f" {result.arch} {result.case.title}", "bold"),
        f": {result.reason}",
    )
    events = len(result.case.order.events)
    lines = [("order", marked_order(result))] if events else []
    found = result.first_failure()
    if found is not None:
        index, step, check = found
        total = sum(not c.good for s in result.steps for c in s.checks)
        more = f" (the first of {total} failed checks)" if total > 1 else ""
        event = f"{step.event}, event {index + 1} of {events}" if events else step.event
        lines += [
            (selftests.step_word(result.case), Text(event)),
            ("check", Text(f"{check.kind}: {check.subject}{more}")),
            ("expected", Text(check.expected)),
            ("seen", Text(short(check.seen))),
        ]
    title = crash_title(words.complaints(result.steps, result.console))
    last_words = "\n".join(result.console.splitlines()[-CONSOLE_LINES:])
    if title or last_words:
        lines.append(("console", Text(title or last_words)))
    if found is not None and (frames := reported_in(found[1])):
        lines.append(("in", Text(" < ".join(frames))))
    if result.status is Status.FAIL and catalog.is_place(result.case.module_set):
        suspects = "the kernel; or the modules, or set.toml, of this set"
        if found is not None and isinstance(found[2].detail, Shown):
            suspects += " (is the function inlined into its callers? it wants noipa)"
        lines.append(("suspects", Text(suspects)))
    if result.known_issue:
        lines.append(("listed as", Text(result.known_issue)))
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True, min_width=len("reproduce"))
    grid.add_column(overflow="fold")
    for label, text in lines:
        grid.add_row(label, text)
    # Never folded: a line that is to be pasted must stay one (print it with crop=False).
    again = Text.assemble(("  reproduce  ", "dim"), f"{result.reproduce}\n")
    again.no_wrap, again.overflow = True, "ignore"
    return Group(head, Padding(grid, (0, 0, 0, 2)), again)


def reported_in(step: Step) -> tuple[str, ...]:
    """Where the kernel's first report of this step says that the CPU was, inmost first: a few, each
    FUNCTION or FUNCTION [MODULE]."""
    for check in step.checks:
        if isinstance(check.detail, Health) and check.detail.frames and not check.good:
            return tuple(dict.fromkeys(check.detail.frames))[:FRAMES]
    return ()


def marked_order(result: CaseResult) -> Text:
    """The order in its notation, the event at which it went wrong marked."""
    events = result.case.order.events
    found = result.first_failure()
    # Without a failed check it went wrong in the event after the last one that was checked.
    wrong = found[0] if found is not None else len(result.steps)
    if result.status in (Status.PASS, Status.FIXED, Status.SKIP):
        wrong = len(events)
    words = [orders.format_event(event) for event in events]
    pieces: list[Text] = [
        Text(f">>{word}<<", style="bold reverse") if index == wrong else Text(word)
        for index, word in enumerate(words)
    ]
    return Text(" ").join(pieces)


def kernel_lines(run: Run) -> list[str]:
    """One line a kernel: what ran, so that a table pasted into a mail is of use; and what did not
    build."""
    return [f"{arch}: no kernel: {why}" for arch, why in run.unbuilt.items()] + [
        f"{k.arch}: Linux {k.release}, {k.source} {k.source_version}, "
        f"series {' '.join(k.series) or 'none'}, "
        + "".join(f"config {spec}, " for spec in k.configs)
        + (f"{k.toolchain}, " if k.toolchain not in ("", "gcc") else "")
        + run.qemu.get(k.arch, "QEMU not started")
        + "".join(f", no CONFIG_{name}" for name in k.absent)
        for k in run.kernels
    ]


def plain(shown: RenderableType) -> str:
    """For a file or a pipe: no colour, no line folded."""
    wide = Terminal(file=io.StringIO(), width=10_000, color_system=None, force_terminal=False)
    with wide.capture() as captured:
        wide.print(shown)
    return printable("\n".join(line.rstrip() for line in captured.get().splitlines()) + "\n")
