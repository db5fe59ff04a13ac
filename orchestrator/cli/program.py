# SPDX-License-Identifier: GPL-2.0-only
"""The program itself: options that commands share, what becomes of exceptions, how results are
shown."""

from __future__ import annotations

import functools
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn, ParamSpec, TextIO

import typer
from rich.console import Console, RenderableType

from orchestrator.commands import options
from orchestrator.errors import Exit, KlpError
from orchestrator.nouns import Channel
from orchestrator.report import text

P = ParamSpec("P")
DEBUG = "KLP_E2E_DEBUG"
INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
AGAIN_SECONDS = 0.05  # after an interrupt that got lost; the next place is one that can pass it on
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
    listen()
    try:
        app()
    except KeyboardInterrupt:  # before or after a command's own body
        sys.exit(Exit.INTERRUPTED)
    sys.exit(Exit.GOOD)


def listen() -> None:
    """From now on an interrupt is KeyboardInterrupt, wherever the main thread is."""
    for number in INTERRUPTS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup, or a script's background job
            signal.signal(number, _interrupt)
    sys.unraisablehook = _unraisable


def _unraisable(told: sys.UnraisableHookArgs) -> None:
    """A destructor, or Python that C has called, cannot pass an interrupt on: it comes again."""
    if told.exc_type is not KeyboardInterrupt:
        sys.__unraisablehook__(told)
        return
    signal.signal(signal.SIGALRM, _interrupt)
    signal.setitimer(signal.ITIMER_REAL, AGAIN_SECONDS)


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
        silence(sys.stdout)
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
    try:
        print(f"klp-e2e: {message}", file=sys.stderr)
        for line in (*hint.splitlines(), *([f"the whole output: {log}"] if log else ())):
            print(f"    {line}", file=sys.stderr)
    except OSError:  # EIO: the terminal was closed, which is why we end. The exit code tells.
        silence(sys.stderr)


def silence(stream: TextIO) -> None:
    """Whoever read it has gone: Python is not to fail at writing the rest at exit either."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


# One option with two spellings: an architecture is given by name or by file, as a module set is.
ArchOption = Annotated[
    list[str] | None,
    typer.Option(
        "--arch",
        "--arch-file",
        metavar="A|FILE",
        help="Architecture, or its file A.toml with A.config beside it; may be given again. "
        "[default: all of ours]",
    ),
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
        "S@N: its first N patches; S@merged: the source has it already; several stack in the "
        "order given; 'none': the bare kernel. "
        f"[default: {options.SERIES}]",
    ),
]
JobsOption = Annotated[
    int | None, typer.Option("--jobs", "-j", min=1, metavar="N", help="Default: one a core.")
]
SuiteOption = Annotated[
    str | None,
    typer.Option("--suite", metavar="NAME", help=f"Default: {options.SUITE}."),
]
OutputOption = Annotated[
    Path | None,
    typer.Option("-o", metavar="DIR", help="Results directory; default: a new one, results/…"),
]
ContinueOption = Annotated[
    bool,
    typer.Option("--continue", help="What has a result in the directory of -o does not run again."),
]
StrictOption = Annotated[bool, typer.Option("--strict", help="KNOWN counts as FAIL.")]
ChannelOption = Annotated[
    Channel,
    typer.Option("--channel", help="How to talk to guests while events run."),
]


def show(shown: RenderableType) -> None:
    """Fitted to a terminal, whole lines elsewhere."""
    console = Console()
    if console.is_terminal:
        console.print(shown, crop=False)
    else:
        print(text.plain(shown), end="")
