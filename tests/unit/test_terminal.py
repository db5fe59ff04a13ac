# SPDX-License-Identifier: GPL-2.0-only
"""What is printed: nothing of it is a command to a terminal or a CI, and that nobody reads it is no
verdict."""

from __future__ import annotations

import errno
import io
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest
from elf_samples import livepatch, table
from rich.text import Text
from test_report import a_result, a_run
from typer.testing import CliRunner

from orchestrator import cli
from orchestrator.cli import options, program
from orchestrator.commands.nightly import timer
from orchestrator.elf.klp import convert
from orchestrator.elf.writer import write
from orchestrator.errors import Exit, HarnessError, UsageError
from orchestrator.model.malformations import ALONE
from orchestrator.nouns import KlpSymbol
from orchestrator.plain import printable
from orchestrator.report import terminal
from orchestrator.report.directory import ResultsDirectory
from orchestrator.report.progress import Reporter
from orchestrator.report.terminal import Terminal
from orchestrator.verdicts import Status

HOSTILE = (
    "\x1b]0;PWNED\x07\x1b[2J\n::error file=x::pwn\n  ::add-mask::x\n##[error]x ##vso[y]\r\udcff"
)


def commands_in(text: str) -> list[str]:
    """What a terminal or a CI would carry out."""
    lines = text.split("\n")
    return [
        line
        for line in lines
        if line.lstrip().startswith("::")
        or any(word in line for word in ("##[", "##vso[", "\x1b", "\x07", "\r", "\udcff"))
    ]


def test_what_is_printed_commands_nothing() -> None:
    assert len(commands_in(HOSTILE)) == 4
    shown = printable(HOSTILE)
    assert not commands_in(shown)
    assert printable(shown) == shown
    for harmless in ("a::b", "#[x]", "## heading", "one: two\n\tthree", "é → 東"):
        assert printable(harmless) == harmless


def test_a_terminal_gets_our_colours_and_nobody_elses() -> None:
    written = io.StringIO()
    console = Terminal(file=written, force_terminal=True, width=40, color_system="standard")
    console.print(Text(HOSTILE, style="red"))
    assert "\x1b[31m" in written.getvalue()
    assert "\x1b]0;" not in written.getvalue() and "\x1b[2J" not in written.getvalue()
    assert "\n::" not in written.getvalue()


def test_results_of_a_guest_that_lies_are_shown_printable(tmp_path: Path) -> None:
    with ResultsDirectory(tmp_path / "r", a_run(1)) as writer:
        result = replace(
            a_result(Status.FAIL), console=HOSTILE, reason=HOSTILE.replace("\udcff", "")
        )
        writer.add(result)
    told = CliRunner().invoke(cli.app, ["report", str(tmp_path / "r")])
    assert told.exit_code == Exit.TEST_FAILURE
    assert "PWNED" in told.stdout and not commands_in(told.stdout)


def test_names_in_a_module_are_shown_printable(tmp_path: Path) -> None:
    """One of them is not even UTF-8."""
    symbol = KlpSymbol(ALONE.target, "target_fn", 0)
    good = convert(write(livepatch()), [symbol], table=table)
    hostile = good.replace(b"target_fn", b"t\x1b[2J\xff\xfe\xffx")
    (tmp_path / "x.ko").write_bytes(hostile)
    told = CliRunner().invoke(cli.app, ["inspect", str(tmp_path / "x.ko")])
    assert "klp symbols:" in told.stdout and "t\ufffd[2J" in told.stdout, told.stderr
    assert not commands_in(told.stdout)


def test_progress_and_complaints_are_printable(capsys: pytest.CaptureFixture[str]) -> None:
    with Reporter(Terminal(stderr=True)) as reporter:
        reporter.say(HOSTILE)
        reporter.advance(HOSTILE, 3, 3, HOSTILE)
    program.complain(HOSTILE, HOSTILE)
    said = capsys.readouterr().err
    assert said.count("PWNED") == 5 and not commands_in(said)


# --- nobody reads it ------------------------------------------------------------------------------


class Gone(io.StringIO):
    """A stream that takes nothing."""

    def __init__(self, err: OSError) -> None:
        super().__init__()
        self.trouble = err

    def write(self, text: object) -> NoReturn:
        raise self.trouble


def test_no_command_prints_or_shows_progress_in_another_way() -> None:
    """The cache's commands print names of our own making."""
    for path in Path(program.__file__).parent.glob("*.py"):
        text = path.read_text()
        assert "rich.console import Console" not in text, path
        assert not re.search(r"(?<![\w.])print\(", text), path


@pytest.mark.parametrize("number", [errno.EPIPE, errno.ENOSPC, errno.EIO])
def test_progress_that_nobody_reads_ends_no_run(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    silenced: list[object] = []
    monkeypatch.setattr("orchestrator.report.progress.silence", silenced.append)
    gone = Gone(OSError(number, os.strerror(number)))
    for force in (True, False):
        with Reporter(Terminal(file=gone, force_terminal=force)) as reporter:
            reporter.say("x")
            reporter.advance("building", 1, 2)
            reporter.result(a_result(Status.PASS), 1, 1)
    assert silenced


def test_a_result_that_nobody_gets_is_trouble_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "silence", lambda stream: None)
    with pytest.raises(HarnessError, match="No space left"):
        terminal.tell("x", Gone(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))))
    with pytest.raises(BrokenPipeError):
        terminal.tell("x", Gone(BrokenPipeError(errno.EPIPE, "")))


def test_what_goes_wrong_beside_the_commands_is_not_the_kernels_fault(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def ends(err: BaseException) -> Callable[[], NoReturn]:
        def program() -> NoReturn:
            raise err

        return program

    assert program.carried_out(ends(RecursionError("x"))) == Exit.HARNESS
    assert program.carried_out(ends(KeyboardInterrupt())) == Exit.INTERRUPTED
    assert program.carried_out(ends(SystemExit(1))) == Exit.TEST_FAILURE
    assert program.carried_out(ends(SystemExit())) == Exit.GOOD
    assert capsys.readouterr().err.count("a mistake of klp-e2e itself: RecursionError") == 1


# --- nothing was typed ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("orders", "--suite", ""), "--suite"),
        (("run", "--suite="), "--suite"),
        (("run", "--kernel", ""), "--kernel"),
        (("run", "--series", "none", "--series", ""), "--series"),
        (("run", "--modules", ""), "--modules"),
        (("run", "--order", ""), "--order"),
        (("run", "-o", ""), "-o"),
        (("malformed", "--only", ""), "--only"),
        (("kselftest", "--test", ""), "--test"),
        (("explore", "--resume", ""), "--resume"),
        (("nightly", ""), "a word"),
        (("report", ""), "a word"),
    ],
)
def test_an_empty_word_chooses_no_default(
    words: tuple[str, ...], named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told = CliRunner().invoke(cli.app, words)
    assert told.exit_code == Exit.USAGE
    assert told.stderr.startswith(f"klp-e2e: {named} is empty\n")
    assert not list(tmp_path.iterdir())


def test_an_empty_word_chooses_none_for_the_timer_either(tmp_path: Path) -> None:
    told = CliRunner().invoke(timer.app, ["-o", ""])
    assert told.exit_code == Exit.USAGE and "-o is empty" in told.stderr


def test_options_take_nothing_for_a_default_either() -> None:
    for asked in (
        lambda: options.chosen_cases(None, (), ""),
        lambda: options.chosen_cases("", (), None),
        lambda: options.chosen_cases("", ("+klp_target",), None),
        lambda: options.stack([""]),
        lambda: options.source(""),
        lambda: options.module_sets([""]),
        lambda: options.arches([""]),
    ):
        with pytest.raises(UsageError):
            asked()
