# SPDX-License-Identifier: GPL-2.0-only
"""What -v and -vv say: where, in which form, and that nothing of it is on standard output."""

from __future__ import annotations

import io
import logging
import os
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestrator import cli
from orchestrator.report import log
from orchestrator.report.progress import Reporter
from orchestrator.report.terminal import Terminal

OURS = logging.getLogger("orchestrator")
HERE = logging.getLogger("orchestrator.vm.machine")


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    yield
    OURS.removeHandler(log._HANDLER)
    OURS.setLevel(logging.NOTSET)


@pytest.mark.parametrize(
    ("verbosity", "said"), [(0, []), (1, ["info"]), (2, ["info", "debug"]), (9, ["info", "debug"])]
)
def test_more_is_said_the_oftener_it_is_asked_for(
    verbosity: int, said: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    log.show(verbosity)
    HERE.info("%s", "info")
    HERE.debug("debug")
    logging.getLogger("paramiko").debug("others say nothing")
    told = capsys.readouterr()
    assert told.out == ""
    assert [line.split()[-1] for line in told.err.splitlines()] == said


def test_a_line_has_time_module_and_thread(capsys: pytest.CaptureFixture[str]) -> None:
    log.show(1)
    HERE.info("booting")
    thread = threading.Thread(target=HERE.info, args=("answers",), name="guest_0")
    thread.start()
    thread.join()
    first, second = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r" *\d+\.\d{3} vm\.machine booting", first)
    assert re.fullmatch(r" *\d+\.\d{3} vm\.machine\[guest_0\] answers", second)


def test_it_is_one_line_that_commands_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    log.show(2)
    HERE.debug("%s", "\x1b[2J\n::error::x\r")
    HERE.info("git fetch https://me:secret@example.org/linux.git ssh://git@example.org a@b")
    first, second = capsys.readouterr().err.splitlines()
    assert first.endswith(r" \x1b[2J\x0a::error::x\x0d")
    assert "secret" not in second
    assert second.endswith("https://***@example.org/linux.git ssh://***@example.org a@b")


def test_only_what_is_said_to_and_by_others_is_shortened(
    capsys: pytest.CaptureFixture[str],
) -> None:
    log.show(2)
    text = "x" * (log.SHOWN + 1)
    HERE.info("%s", text)
    HERE.debug("%s", text)
    info, debug = capsys.readouterr().err.splitlines()
    assert info.endswith(f" {text}")
    assert debug.endswith(f" {text[:-1]}... ({len(text)} characters)")


def test_that_nobody_reads_it_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.FileIO):
        def write(self, text: object) -> int:
            raise OSError(28, os.strerror(28))

    with Full(tmp_path / "full", "w") as full:
        monkeypatch.setattr(sys, "stderr", full)
        log.show(1)
        HERE.info("booting")
        HERE.info("and on")
        assert Path(f"/proc/self/fd/{full.fileno()}").readlink() == Path(os.devnull)


def test_it_stands_above_the_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(sys, "stderr", screen)
    log.show(1)
    with Reporter(Terminal(stderr=True, force_terminal=True, width=120)) as reporter:
        reporter.advance("cases", 1, 2)
        HERE.info("booting")
    lines = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", screen.getvalue()).splitlines()
    (line,) = [each for each in lines if "booting" in each]
    assert line.endswith("vm.machine booting")
    assert lines.index(line) < max(i for i, each in enumerate(lines) if "cases" in each)


def test_the_option_stands_before_the_command() -> None:
    plain = CliRunner().invoke(cli.app, ["orders", "--suite", "smoke"])
    assert (plain.exit_code, plain.stderr) == (0, "")
    told = CliRunner().invoke(cli.app, ["-vv", "orders", "--suite", "smoke"])
    assert (told.exit_code, told.stdout) == (0, plain.stdout)
    assert OURS.level == logging.DEBUG
    assert CliRunner().invoke(cli.app, ["-v", "orders", "--why"]).exit_code == 0
    assert OURS.level == logging.INFO
