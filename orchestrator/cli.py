# SPDX-License-Identifier: GPL-2.0-only
"""The command line: the only place that prints results and exits."""

from __future__ import annotations

import functools
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn, ParamSpec

import typer
from rich.console import Console

from orchestrator import catalog, model, modfiles, options, orders, session, workdir
from orchestrator import doctor as hosts
from orchestrator.errnos import describe
from orchestrator.errors import Exit, KlpError, UsageError
from orchestrator.nouns import Case, Order
from orchestrator.progress import Reporter
from orchestrator.report import directory, json, text, verdict
from orchestrator.verdicts import CaseResult, Run

P = ParamSpec("P")
DEBUG = "KLP_E2E_DEBUG"
INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
EXAMPLE = "\b\nExample:\n  "  # \b: click folds no line of this paragraph

app = typer.Typer(
    name="klp-e2e",
    help="Proves that Linux livepatch works, whatever the order of modules.",
    epilog="Exit codes: 0 good, 1 the kernel is wrong, 2 usage, 3 a build failed, "
    "4 harness or machine, 130 interrupted.",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,  # brackets are part of the notation: +M[param=value]
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def main() -> NoReturn:
    """Entry point of the `klp-e2e` program."""
    for number in INTERRUPTS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup, or a script's background job
            signal.signal(number, _interrupt)
    try:
        app()
    except KeyboardInterrupt:  # before or after a command's own body
        sys.exit(Exit.INTERRUPTED)
    sys.exit(Exit.GOOD)


def _interrupt(number: int, frame: FrameType | None) -> None:
    # Once is enough: what is being ended now takes bounded time, and is to be ended whole.
    for each in INTERRUPTS:
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


def guarded(body: Callable[P, Exit]) -> Callable[P, None]:
    """A command's body returns its exit code; what it raises becomes one message and a code."""

    @functools.wraps(body)
    def command(*args: P.args, **kwargs: P.kwargs) -> None:
        raise typer.Exit(int(outcome(functools.partial(body, *args, **kwargs))))

    return command


def outcome(body: Callable[[], Exit]) -> Exit:
    """Run it; print one clear message for whatever it raises."""
    try:
        return body()
    except KlpError as trouble:
        if os.environ.get(DEBUG):
            traceback.print_exc()
        complain(str(trouble), trouble.hint, getattr(trouble, "log", ""))
        return trouble.exit_code
    except KeyboardInterrupt:
        complain("interrupted")
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone; nothing may be written at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.HARNESS
    except Exception as trouble:
        if os.environ.get(DEBUG):
            traceback.print_exc()
        last = traceback.extract_tb(trouble.__traceback__)[-1]
        place = f"{Path(last.filename).name}:{last.lineno}"
        complain(
            f"a mistake of klp-e2e itself: {type(trouble).__name__}: {trouble} ({place})",
            "" if os.environ.get(DEBUG) else f"{DEBUG}=1 shows where; please report it",
        )
        return Exit.HARNESS


def complain(message: str, hint: str = "", log: str = "") -> None:
    """One clear message with what to do, on stderr."""
    print(f"klp-e2e: {message}", file=sys.stderr)
    for line in (*hint.splitlines(), *([f"the whole output: {log}"] if log else ())):
        print(f"    {line}", file=sys.stderr)


ArchOption = Annotated[
    list[str] | None, typer.Option("--arch", metavar="A", help="Architecture; default: all.")
]
KernelOption = Annotated[
    str,
    typer.Option(
        "--kernel",
        metavar="SOURCE",
        help="debian:6.1, debian:6.12, tar:PATH, dir:PATH or git:PATH_OR_URL#REF.",
    ),
]
SeriesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--series",
        metavar="S",
        help="A name under kernel-config/series, a quilt directory, an mbox or git:REPO#A..B; "
        f"several stack in the order given; 'none': the bare kernel. [default: {options.SERIES}]",
    ),
]
JobsOption = Annotated[
    int | None, typer.Option("--jobs", "-j", min=1, metavar="N", help="Default: one a core.")
]
SuiteOption = Annotated[
    str | None,
    typer.Option("--suite", metavar="NAME", help=f"Default: {options.SUITE}."),
]


@app.command(epilog=EXAMPLE + "klp-e2e doctor --arch s390x")
@guarded
def doctor(arch: ArchOption = None) -> Exit:
    """Say what this host lacks. One line installs it."""
    needs = session.host_needs(options.arches(arch or ()))
    lacking = hosts.missing(needs)
    for need in lacking:
        print(f"missing: {need.what} ({need.package})")
    if lacking:
        print(f"\n{hosts.install_line(needs)}")
        return Exit.HARNESS
    print(f"nothing is missing ({len(needs)} things looked for)")
    return Exit.GOOD


@app.command(epilog=EXAMPLE + "klp-e2e build --arch s390x --kernel debian:6.12 --series none")
@guarded
def build(
    arch: ArchOption = None,
    kernel: KernelOption = options.SOURCE,
    series: SeriesOption = None,
    jobs: JobsOption = None,
) -> Exit:
    """Build the kernels. Those that are built are only named."""
    wanted = options.build(arch or (), kernel, series or (), jobs)
    with Reporter(Console(stderr=True)) as reporter:
        kernels = session.build(wanted, reporter)
    for made in kernels:
        print(f"{made.arch} {made.release} {made.directory}")
    return Exit.GOOD


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
            metavar="SET",
            help=f"Module set of the orders, default {options.MODULE_SET}; "
            "without --order: only this set's cases of the suite.",
        ),
    ] = None,
    order: Annotated[
        list[str] | None,
        typer.Option("--order", metavar="'EVENTS'", help="Run this order instead of a suite."),
    ] = None,
    suite: SuiteOption = None,
    strict: Annotated[bool, typer.Option("--strict", help="KNOWN counts as FAIL.")] = False,
    cold: Annotated[
        bool, typer.Option("--cold", help="Boot for each order instead of restoring a snapshot.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option("-o", metavar="DIR", help="Results directory; default: a new one, results/…"),
    ] = None,
    jobs: JobsOption = None,
) -> Exit:
    """Run orders on guests. Builds what is not built, boots, prints one line an order."""
    cases = options.cases(modules, order or (), suite)
    built = options.build(arch or (), kernel, series or (), jobs)
    wanted = options.run(built, cases, output, strict, cold)
    writer = session.results_directory(wanted, tuple(sys.argv))
    try:
        with writer, Reporter(Console(stderr=True)) as reporter:
            session.run(wanted, writer, reporter)
    finally:
        if writer.results:
            show(writer.run, writer.results)
        print(f"results: {writer.path}")
    return verdict.exit_code(writer.run, writer.results)


def show(run: Run, results: Sequence[CaseResult]) -> None:
    """Table, failures and summary: fitted to a terminal, whole lines elsewhere."""
    console = Console()
    if console.is_terminal:
        console.print(text.report(run, results), crop=False)
    else:
        print(text.plain(run, results), end="")


@app.command("orders", epilog=EXAMPLE + "klp-e2e orders --suite core")
@guarded
def list_orders(suite: SuiteOption = None) -> Exit:
    """List a suite's orders. Each with what the model expects of every event."""
    for case in options.suite_cases(suite or options.SUITE):
        print(f"{case.module_set}/{case.name}: {expected(case)}")
    return Exit.GOOD


def expected(case: Case) -> str:
    """`+livepatch ok, +target ENODEV (19)`: each event with the answer the model expects."""
    module_set = catalog.module_set(case.module_set)
    answers = model.expectations(module_set, case.order, frozenset())
    return ", ".join(
        f"{orders.format_event(event)} {describe(answer.errno) if answer.errno else 'ok'}"
        for event, answer in zip(case.order.events, answers, strict=True)
    )


@app.command(
    epilog=EXAMPLE + "klp-e2e convert patch.ko klp_patch.ko --object klp_target \\\n"
    "      --symbol hidden --symbol twice,2"
)
@guarded
def convert(
    source: Annotated[Path, typer.Argument(metavar="IN.ko")],
    goal: Annotated[Path, typer.Argument(metavar="OUT.ko")],
    object_name: Annotated[
        str | None,
        typer.Option("--object", metavar="M", help="Module that defines the symbols, or vmlinux."),
    ] = None,
    symbol: Annotated[
        list[str] | None,
        typer.Option("--symbol", metavar="NAME[,N]", help="N: the N-th of that name, from 1."),
    ] = None,
    auto: Annotated[
        Path | None,
        typer.Option(metavar="TARGET.ko", help="Every undefined symbol that this module defines."),
    ] = None,
) -> Exit:
    """Defer a module's relocations. Makes a livepatch module of an ordinary one."""
    number = modfiles.convert(source, goal, object_name, symbol or (), auto)
    print(f"{goal}: {number} klp symbol{'s' * (number != 1)}")
    return Exit.GOOD


@app.command(epilog=EXAMPLE + "klp-e2e inspect klp_patch.ko --json")
@guarded
def inspect(
    module: Annotated[Path, typer.Argument(metavar="X.ko")],
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> Exit:
    """Check a livepatch module. Exit code 1 when it is not well-formed."""
    found, arch = modfiles.examine(module)
    print(modfiles.as_json(found) if as_json else modfiles.as_text(found, arch))
    return Exit.GOOD if found.well_formed else Exit.KERNEL_WRONG


@app.command(epilog=EXAMPLE + "klp-e2e shell s390x --order '+klp_patch +klp_target'")
@guarded
def shell(
    arch: Annotated[str, typer.Argument(metavar="ARCH")],
    kernel: KernelOption = options.SOURCE,
    series: SeriesOption = None,
    modules: Annotated[
        str, typer.Option("--modules", metavar="SET", help="Module set of the order.")
    ] = options.MODULE_SET,
    order: Annotated[
        str | None, typer.Option("--order", metavar="'EVENTS'", help="Replay these events first.")
    ] = None,
    jobs: JobsOption = None,
) -> Exit:
    """Work in a guest. Boots, replays the events, hands over; Ctrl-D ends it."""
    events = options.order(modules, order) if order else Order(())
    wanted = options.build((arch,), kernel, series or (), jobs)
    session.shell(wanted, modules, events, Reporter(Console(stderr=True)))
    return Exit.GOOD


cache = typer.Typer(no_args_is_help=True, help="Look after what is kept between runs.")
app.add_typer(cache, name="cache", epilog=EXAMPLE + "klp-e2e cache prune --older-than 30")


@cache.command("list", epilog=EXAMPLE + "klp-e2e cache list")
@guarded
def cache_list() -> Exit:
    """List the entries. Kind, size, days since last used, name."""
    for entry in workdir.entries(workdir.cache_root()):
        days = (time.time() - entry.used) / 86400
        print(f"{entry.kind:<10} {megabytes(entry.size)} {days:6.1f} d  {entry.name}")
    return Exit.GOOD


@cache.command("size", epilog=EXAMPLE + "klp-e2e cache size")
@guarded
def cache_size() -> Exit:
    """Say how big it is. And where it lies."""
    root = workdir.cache_root()
    print(f"{megabytes(workdir.size(root))}  {root}")
    return Exit.GOOD


@cache.command("prune", epilog=EXAMPLE + "klp-e2e cache prune --older-than 0")
@guarded
def cache_prune(
    older_than: Annotated[
        float, typer.Option("--older-than", min=0, metavar="DAYS", help="Not used for so long.")
    ] = 30,
) -> Exit:
    """Remove old entries. And what killed runs left; never what is in use."""
    removed = workdir.prune(workdir.cache_root(), older_than)
    freed = megabytes(sum(entry.size for entry in removed)).strip()
    print(f"removed {len(removed)} entries, {freed}")
    return Exit.GOOD


def megabytes(size: int) -> str:
    """Bytes as megabytes, in a column's width."""
    return f"{size / 1e6:10.1f} MB"


@app.command(epilog=EXAMPLE + "klp-e2e report results/2026-01-31-020000")
@guarded
def report(
    place: Annotated[Path | None, typer.Argument(metavar="DIR")] = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of results.json.")
    ] = False,
) -> Exit:
    """Print an earlier run's table. The exit code is that run's."""
    if schema:
        print(json.schema_text(), end="")
        return Exit.GOOD
    if place is None:
        raise UsageError("report of what?", hint="give a results directory, or --schema")
    run, results = directory.read(place)
    show(run, results)
    return verdict.exit_code(run, results)
