# SPDX-License-Identifier: GPL-2.0-only
"""Commands that run orders, list them, and show what became of them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from orchestrator import catalog
from orchestrator.cli import complete
from orchestrator.cli.program import EXAMPLE, app, complain, guarded
from orchestrator.cli.shared import (
    AccelOption,
    ArchOption,
    ChannelOption,
    JobsOption,
    KernelOption,
    OutputOption,
    ResumeOption,
    SeriesOption,
    StrictOption,
    SuiteOption,
    show,
    tell_place,
)
from orchestrator.commands import eachpatch, options, session
from orchestrator.errnos import describe_all
from orchestrator.errors import Exit, UsageError
from orchestrator.history import files
from orchestrator.model import model, orders
from orchestrator.nightly import text as night_text
from orchestrator.nightly import work
from orchestrator.nouns import Accel, Case, Channel, Order
from orchestrator.report import documents, resultsjson, resultstext, verdict
from orchestrator.report.progress import Reporter
from orchestrator.report.terminal import Terminal, tell
from orchestrator.verdicts import Expectation


@app.command(
    epilog=EXAMPLE + "klp-e2e run --arch s390x --series none --modules basic \\\n"
    "      --order '+klp_patch +klp_target -klp_target +filler +klp_target'"
)
@guarded
def run(
    arch: ArchOption = None,
    kernel: KernelOption = options.SOURCE,
    series: SeriesOption = None,
    modules: Annotated[
        str | None,
        typer.Option(
            "--modules",
            metavar="SET|DIR",
            autocompletion=complete.module_sets,
            help="Name of a module set, or a directory with a set.toml: the modules of --order "
            f"({options.MODULE_SET} if not given). Without --order: run only this set's cases of "
            "the suite, or its usual orders.",
        ),
    ] = None,
    order: Annotated[
        list[str] | None,
        typer.Option(
            "--order",
            metavar="'EVENTS'",
            help="Run this order instead of a suite; may be given again.",
        ),
    ] = None,
    suite: SuiteOption = None,
    strict: StrictOption = False,
    cold: Annotated[
        bool, typer.Option("--cold", help="Boot for each order instead of restoring a snapshot.")
    ] = False,
    each_patch: Annotated[
        bool,
        typer.Option(
            "--each-patch", help="Run with the first patch of the last series, with two, ..."
        ),
    ] = False,
    channel: ChannelOption = Channel.AGENT,
    accel: AccelOption = Accel.AUTO,
    output: OutputOption = None,
    resume: ResumeOption = None,
    jobs: JobsOption = None,
) -> Exit:
    """Run orders on guests. Builds what is not in the cache, boots, prints a line an order."""
    cases = options.chosen_cases(modules, order or (), suite)
    built = options.build_options(arch or (), kernel, series or (), jobs)
    wanted = options.run_options(built, cases, output, strict, cold, channel, resume, accel)
    if each_patch:
        if wanted.resumed:
            raise UsageError("--each-patch begins anew", hint="leave out --resume")
        return run_each_patch(wanted)
    writer = session.results_directory(wanted, tuple(sys.argv))
    try:
        with writer, Reporter(Terminal(stderr=True)) as reporter:
            session.run_orders(wanted, writer, reporter)
    finally:
        if writer.results:
            show(resultstext.results_report(writer.run, writer.results))
        tell_place(writer)
    return verdict.results_exit_code(writer.run, writer.results)


def run_each_patch(wanted: options.RunOptions) -> Exit:
    """Prefix by prefix: what is wrong with it in full, then all of them, a line each."""
    done = []
    try:
        with Reporter(Terminal(stderr=True)) as reporter:
            for prefix in eachpatch.run_each_patch(wanted, tuple(sys.argv), reporter):
                done.append(prefix)
                for result in resultstext.worst_first(prefix.results):
                    if verdict.counts_as_failure(result.status, wanted.strict):
                        show(resultstext.failure(result))
    finally:
        for prefix in done:
            tell(prefix.line)
        tell(f"results: {wanted.directory}")
    return eachpatch.prefixes_exit_code(done)


@app.command("orders", epilog=EXAMPLE + "klp-e2e orders --suite core --why")
@guarded
def list_orders(
    suite: SuiteOption = None,
    modules: Annotated[
        str | None,
        typer.Option(
            "--modules",
            metavar="SET|DIR",
            autocompletion=complete.module_sets,
            help="Name of a module set, or a directory with a set.toml: list only its orders.",
        ),
    ] = None,
    order: Annotated[
        list[str] | None,
        typer.Option(
            "--order",
            metavar="'EVENTS'",
            help="Show this order instead of a suite's; may be given again.",
        ),
    ] = None,
    why: Annotated[
        bool, typer.Option("--why", "-v", help="Say of each event why the model expects that.")
    ] = False,
) -> Exit:
    """List a suite's orders. Each with what the model expects of every event."""
    for case in options.chosen_cases(modules, order or (), suite):
        steps = expected(case)
        answers = (
            f"{event} {describe_all(step.answers) if any(step.answers) else 'ok'}"
            for event, step in steps
        )
        tell(f"{case.label}: {', '.join(answers)}")
        for event, step in steps if why else ():
            tell(f"    {event}: {step.why}")
    return Exit.GOOD


def expected(case: Case) -> list[tuple[str, Expectation]]:
    """Each event of a case as it is written, with what the model expects of any kernel."""
    module_set = catalog.module_set(case.module_set)
    steps = model.expectations(module_set, case.order, frozenset())
    return list(zip(map(orders.format_event, case.order.events), steps, strict=True))


@app.command(epilog=EXAMPLE + "klp-e2e shell s390x --order '+klp_patch +klp_target'")
@guarded
def shell(
    arch: Annotated[
        str,
        typer.Argument(
            metavar="ARCH|FILE",
            autocompletion=complete.arches,
            help="Name of a built-in architecture, or a file A.toml with A.config beside it.",
        ),
    ],
    kernel: KernelOption = options.SOURCE,
    series: SeriesOption = None,
    modules: Annotated[
        str,
        typer.Option(
            "--modules",
            metavar="SET|DIR",
            autocompletion=complete.module_sets,
            help="Name of a module set, or a directory with a set.toml: what the guest gets.",
        ),
    ] = options.MODULE_SET,
    order: Annotated[
        str | None, typer.Option("--order", metavar="'EVENTS'", help="Run these events first.")
    ] = None,
    accel: AccelOption = Accel.AUTO,
    jobs: JobsOption = None,
) -> Exit:
    """Work in a guest. Boots it, runs the events, hands over a shell; Ctrl-D ends the guest."""
    events = Order(()) if order is None else options.order(modules, order)
    wanted = options.build_options((arch,), kernel, series or (), jobs)
    return session.shell(wanted, modules, events, Reporter(Terminal(stderr=True)), accel)


@app.command(epilog=EXAMPLE + "klp-e2e report results/2026-01-31-020000")
@guarded
def report(
    place: Annotated[
        Path | None,
        typer.Argument(metavar="DIR", help="What run, explore, port, nightly, ... have left."),
    ] = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of results.json.")
    ] = False,
) -> Exit:
    """Print an earlier run's table. The exit code is that run's. Writes a night's report anew."""
    if schema:
        tell(resultsjson.schema_text().removesuffix("\n"))
        return Exit.GOOD
    if place is None:
        raise UsageError("report needs a directory", hint="klp-e2e report DIR, or --schema")
    found = documents.kind_in(place, (NIGHT, *documents.KINDS))
    shown, code = found.shown(place)
    show(shown)
    return code


def night_again(place: Path) -> work.NightEnd:
    """A night, its report written anew; what that lacks is told."""
    night = work.report_again(place)
    for trouble in night.troubles:
        complain(trouble)
    return night


NIGHT = documents.kind(
    files.NIGHT, night_again, night_text.night, lambda night: night.digest.exit_code
)
