# SPDX-License-Identifier: GPL-2.0-only
"""The program itself: which commands there are, what becomes of exceptions. It imports little, so
that `--help` is there at once; a command's module comes when it is called (see `table`)."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
import threading
import traceback
from collections import UserDict
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NoReturn, ParamSpec

import typer
from typer.completion import (  # type: ignore[attr-defined]  # it has them from modules of its own
    completion_init,
    get_completion_script,
)
from typer.core import TyperCommand, TyperGroup

from orchestrator.cli.table import COMMANDS, GROUPS
from orchestrator.errors import Exit, HarnessError, KlpError
from orchestrator.report import log
from orchestrator.report.terminal import flush, open_streams, silence, tell

P = ParamSpec("P")
NAME = "klp-e2e"
DEBUG = "KLP_E2E_DEBUG"
COMPLETE = "_KLP_E2E_COMPLETE"  # how typer's scripts ask us
INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
READERS = ("compare", "convert", "inspect", "report")  # any name of a file will do for them
AGAIN_SECONDS = 0.05  # after an interrupt that got lost; the next place is one that can pass it on
COMMANDS_FOLDER = "orchestrator.commands"
ONCE = {"--modules", "--suite", "--kernel"}
EXAMPLE = "\b\nExample:\n  "  # \b: click folds no line of this paragraph


def refuse_empty(words: Sequence[str]) -> None:
    """No word is empty: a variable of the shell that holds nothing would choose a default."""
    for before, word in pairwise(["", *words]):
        option = word.removesuffix("=")
        if not word or (word != option and option.startswith("--")):
            name = option or (before if before.startswith("-") else "a word")
            complain(f"{name} is empty", "does a variable of the shell hold nothing?")
            raise typer.Exit(Exit.USAGE)


def refuse_old(words: Sequence[str]) -> None:
    """Older spellings, which somebody may have in a script."""
    for word, behind in pairwise([*words, "-"]):
        if word == "--continue":
            complain("--continue is --resume DIR now", "DIR is the results directory: leave out -o")
            raise typer.Exit(Exit.USAGE)
        if word == "--resume" and behind.startswith("-"):
            complain("--resume names no directory", "--resume DIR: what is to be gone on with")
            raise typer.Exit(Exit.USAGE)


def refuse_other_than_utf8(words: Sequence[str]) -> None:
    """A command's words stand in the documents that it writes."""
    command = next((word for word in words if not word.startswith("-")), "")
    for word in words if command not in READERS else ():
        if any("\ud800" <= character <= "\udfff" for character in word):
            complain(f"{word} is not UTF-8", "rename what it names, or give it by a link")
            raise typer.Exit(Exit.USAGE)


def refuse_twice(command: Any, words: Sequence[str]) -> None:
    """What says what is looked at is said once, where a command takes one: the first would be left
    out without a word, and what ran would pass for both."""
    for option in command.params:
        names = {*option.opts} & ONCE
        given = [word for word in words if word.partition("=")[0] in names]
        if len(given) > 1 and not option.multiple:
            complain(f"{min(names)} is given {len(given)} times, and is one", "run them in turn")
            raise typer.Exit(Exit.USAGE)


class Called(UserDict[str, Any]):
    """Name -> command. One that is asked for is imported, which may take a second."""

    def __missing__(self, name: str) -> Any:
        try:
            if name not in COMMANDS:
                raise KeyError(name)
            import_module(f"{COMMANDS_FOLDER}.{name}")
        except KeyboardInterrupt:  # nobody's own code, where typer may make 1 of it
            raise typer.Exit(Exit.INTERRUPTED) from None
        whole: Any = typer.main.get_command(app)
        self[name] = whole.commands[name]
        return self[name]

    def __contains__(self, name: object) -> bool:
        return name in COMMANDS

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class Commands(TyperGroup):
    """All commands."""

    def __init__(self, **attrs: Any) -> None:
        super().__init__(**attrs)
        self.commands = Called(self.commands)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        widest = max(map(len, COMMANDS))  # so that all groups' lines begin in one column
        for title, group in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl([(f"{name:{widest}}", line) for name, line in group.items()])

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not ctx.resilient_parsing:  # a line that is being completed
            refuse_empty(args)
            refuse_old(args)
            refuse_other_than_utf8(args)
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[Any, Any, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        if not ctx.resilient_parsing and command is not None:
            refuse_twice(command, rest)
        return name, command, rest

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """As ever, by the table: to offer a command is no reason to import it."""
        self.commands = {
            name: TyperCommand(name, short_help=line) for name, line in COMMANDS.items()
        }
        return super().shell_complete(ctx, incomplete)


class Alone(TyperCommand):
    """A command that is a program of its own."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        refuse_empty(args)
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=Commands,
    name=NAME,
    help="Proves that Linux livepatch works, whatever the order of modules.",
    epilog="Exit codes: 0 good, 1 the kernel is wrong, 2 usage, 3 a build failed, "
    "4 harness or machine, 130 interrupted.",
    add_completion=False,  # typer's own would write ~/.bashrc and ~/.zshrc anew
    no_args_is_help=True,
    rich_markup_mode=None,  # brackets are part of the notation: +M[param=value]
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


class Shell(StrEnum):
    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def say_version(ctx: typer.Context, wanted: bool) -> None:
    """For `--version`. Raises typer.Exit."""
    if wanted and not ctx.resilient_parsing:
        version = import_module("orchestrator.cli.version")  # with all that runs git
        raise typer.Exit(int(outcome(lambda: _say(f"{NAME} {version.version()}"))))


def say_completion(ctx: typer.Context, shell: Shell | None) -> None:
    """For `--show-completion`. Raises typer.Exit."""
    if shell is not None and not ctx.resilient_parsing:
        script = get_completion_script(prog_name=NAME, complete_var=COMPLETE, shell=shell)
        raise typer.Exit(int(outcome(lambda: _say(script))))


def _say(text: str) -> Exit:
    tell(text)
    return Exit.GOOD


@app.callback()
def top(
    version: Annotated[
        bool,
        typer.Option("--version", callback=say_version, is_eager=True, help="Print the version."),
    ] = False,
    completion: Annotated[
        Shell | None,
        typer.Option(
            "--show-completion",
            callback=say_completion,
            is_eager=True,
            help="Print the script by which a shell completes klp-e2e's commands and options.",
        ),
    ] = None,
    verbose: Annotated[
        int,
        typer.Option(
            "-v",
            count=True,
            show_default=False,
            help="Say on stderr what is being done: programs, build steps, stages of a boot. "
            "-vv: also all that is said to QEMU and guest, and what they answer.",
        ),
    ] = 0,
) -> None:
    """What is given before a command."""
    if verbose:
        log.show(verbose)


def main() -> NoReturn:
    """Entry point of the `klp-e2e` program."""
    open_streams()
    listen()
    completion_init()
    sys.exit(carried_out(app))


def carried_out(program: Callable[[], object]) -> int:
    """The exit code of a whole program: its commands have their own (see `outcome`), and what goes
    wrong beside them, as with `--help`, is none that speaks of a kernel."""
    try:
        program()
    except KeyboardInterrupt:  # before or after a command's own body
        return Exit.INTERRUPTED
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # click makes 1 of it
            for stream in filter(None, (sys.__stdout__, sys.__stderr__)):
                silence(stream)
            return Exit.HARNESS
        return end.code if isinstance(end.code, int) else Exit.HARNESS if end.code else Exit.GOOD
    except OSError as err:
        silence(sys.stdout)
        complain(f"cannot write what there is to say: {err.strerror}")
        return Exit.HARNESS
    except ImportError:  # of a command's module: see orchestrator/__main__.py
        raise
    except Exception as err:
        return unforeseen(err)
    return Exit.GOOD


_interrupted = threading.Event()  # and nobody has been told yet


def listen() -> None:
    """From now on an interrupt is KeyboardInterrupt, wherever the main thread is."""
    for number in INTERRUPTS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup, or a script's background job
            signal.signal(number, _interrupt)
    sys.unraisablehook = _unraisable


def _unraisable(raised: sys.UnraisableHookArgs) -> None:
    """A destructor, or Python that C has called, cannot pass an interrupt on: it comes again."""
    if raised.exc_type is not KeyboardInterrupt:
        sys.__unraisablehook__(raised)
        return
    signal.signal(signal.SIGALRM, _interrupt)
    signal.setitimer(signal.ITIMER_REAL, AGAIN_SECONDS)


def _interrupt(number: int, frame: FrameType | None) -> None:
    # Once is enough: what is being ended now takes bounded time, and is to be ended whole.
    _interrupted.set()
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
        code = body()
        flush()
        return code
    except KlpError as err:
        if os.environ.get(DEBUG):
            traceback.print_exc()
        complain(str(err), err.hint, getattr(err, "log", ""))
        return err.exit_code
    except KeyboardInterrupt:
        return ended()
    except BrokenPipeError:  # whoever reads it has enough
        return Exit.HARNESS
    except Exception as err:
        return unforeseen(err)


def ended() -> Exit:
    """By the user."""
    _interrupted.clear()
    complain("interrupted")
    return Exit.INTERRUPTED


def unforeseen(err: Exception) -> Exit:
    """What nobody has thought of is ours, never the kernel's; but a library may have made it of an
    interrupt, as pydantic does while it looks at a type."""
    if _interrupted.is_set():
        return ended()
    if os.environ.get(DEBUG):
        traceback.print_exc()
    last = traceback.extract_tb(err.__traceback__)[-1]
    place = f"{Path(last.filename).name}:{last.lineno}"
    complain(
        f"a mistake of klp-e2e itself: {type(err).__name__}: {err} ({place})",
        "" if os.environ.get(DEBUG) else f"{DEBUG}=1 shows where; please report it",
    )
    return Exit.HARNESS


def complain(message: str, hint: str = "", log: str = "") -> None:
    """One clear message with what to do, on stderr."""
    whole = [f"the whole output: {log}"] if log and log not in hint else []
    lines = [*hint.splitlines(), *whole]
    # EIO: the terminal was closed, which may be why we end. The exit code tells.
    with contextlib.suppress(HarnessError, BrokenPipeError):
        tell("\n".join([f"klp-e2e: {message}", *(f"    {line}" for line in lines)]), sys.stderr)
