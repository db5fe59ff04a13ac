# SPDX-License-Identifier: GPL-2.0-only
"""The console as it is kept: read piece by piece, forgotten, watched."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from orchestrator.deadline import Deadline
from orchestrator.errors import HarnessError
from orchestrator.vm import serial
from orchestrator.vm.marks import MARK
from orchestrator.vm.serial import Console


@pytest.fixture
def link(tmp_path: Path) -> Path:
    return tmp_path / "console.log"


@pytest.fixture
def console(link: Path) -> Iterator[Console]:
    with serial.kept(link) as made:
        yield made


@pytest.fixture
def printer(console: Console, link: Path) -> Iterator[BinaryIO]:
    """As QEMU opens it."""
    with os.fdopen(os.open(link, os.O_WRONLY | os.O_TRUNC | os.O_CREAT), "wb", 0) as opened:
        yield opened


def test_it_is_read_piece_by_piece(console: Console, printer: BinaryIO) -> None:
    assert (console.mark(), console.since(0), console.last_lines()) == (0, "", "")
    printer.write(b"one\r\ntwo\r\n")
    mark = console.mark()
    printer.write(b"thr\xffee\r\n")
    assert console.since(mark) == "thr\N{REPLACEMENT CHARACTER}ee\n"
    printer.write(b"more\n" * (serial.LAST_LINES - 2))
    assert console.last_lines().startswith("two\nthr\N{REPLACEMENT CHARACTER}ee\nmore\n")


def test_it_is_no_file_that_could_be_taken_away(
    console: Console, printer: BinaryIO, link: Path
) -> None:
    link.unlink()
    printer.write(b"one\n")
    assert console.since(0) == "one\n"


def test_last_lines_of_much(console: Console, printer: BinaryIO) -> None:
    printer.write(b"a" * 1_000_000 + b"\nthe end\n")
    first, last = console.last_lines().split("\n")
    assert last == "the end"
    assert set(first) == {"a"} and len(first) <= serial.LAST_BYTES


def test_marks_are_not_shown(console: Console, printer: BinaryIO) -> None:
    printer.write(f"[    1.000000] {MARK}0123456789abcdef\r\none\n".encode())
    assert console.since(0) == "one\n"


def test_what_is_forgotten_is_gone_and_marks_go_on(console: Console, printer: BinaryIO) -> None:
    printer.write(b"old" * 100_000)
    console.forget()
    end = console.mark()
    assert (end, console.since(0), console.last_lines()) == (300_000, "", "")
    assert os.fstat(console._fd).st_blocks == 0
    printer.write(b"new\n")
    assert console.since(0) == console.since(end) == "new\n"
    assert console.mark() == end + 4


def test_words_are_waited_for_in_whatever_pieces(
    console: Console, printer: BinaryIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serial, "CHUNK_BYTES", 3)
    printer.write(b"the words, and others")
    assert console.wait_for(b"words", 0, Deadline.after(60))
    assert console.wait_for(b"words", 4, Deadline.after(60))
    assert not console.wait_for(b"words", 5, Deadline.after(0.01))
    later = threading.Timer(0.05, printer.write, (b" more words",))
    later.start()
    assert console.wait_for(b"words", 5, Deadline.after(60))
    later.join()


def test_a_flood_ends_its_guest(console: Console, printer: BinaryIO) -> None:
    ended = threading.Event()
    with console.watched(1000, ended.set):
        printer.write(b"a" * 1000)
        assert not ended.wait(3 * serial.WATCH_SECONDS)
        console.forget()
        printer.write(b"a" * 1000)
        assert not ended.wait(3 * serial.WATCH_SECONDS) and not console.flooded
        printer.write(b"a")
        assert ended.wait(60) and console.flooded


def test_a_console_that_cannot_be_kept_is_harness_error(link: Path) -> None:
    link.touch()
    with pytest.raises(HarnessError, match="cannot be kept"), serial.kept(link):
        pytest.fail("it is there already")


def test_lines_are_logged_whole_for_who_looks(
    console: Console, printer: BinaryIO, caplog: pytest.LogCaptureFixture
) -> None:
    def wait_for(count: int) -> list[str]:
        until = Deadline.after(20)
        while len(caplog.records) < count and not until.passed:
            time.sleep(0.01)
        return [record.getMessage() for record in caplog.records]

    caplog.set_level(logging.DEBUG, "orchestrator.vm.serial")
    printer.write(b"one\r\ntw")
    with console.watched(serial.LIMIT_BYTES, lambda: None):
        assert wait_for(1) == ["one"]
        printer.write(b"o\n\xff\n")
        assert wait_for(3) == ["one", "two", "\ufffd"]
        console.forget()
        printer.write(b"of another life\n")
        assert wait_for(4)[3:] == ["of another life"]
        printer.write(b"its last words\n")
    assert wait_for(5)[4:] == ["its last words"]
