# SPDX-License-Identifier: GPL-2.0-only
"""Streams that are closed, full, or read by nobody: never exit code 1, which speaks of a kernel."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys

import pytest

KLP = (sys.executable, "-m", "orchestrator")


def in_shell(line: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("orders --suite smoke > /dev/full", 4),
        ("--help > /dev/full", 4),
        ("orders --suite smoke 2>&-", 0),
        ("run --arch bogus 2>&-", 2),
        ("run --arch bogus <&- >&- 2>&-", 2),
        ("run --arch bogus 2> /dev/full", 2),
    ],
)
def test_a_stream_that_is_closed_or_full(line: str, code: int) -> None:
    done = in_shell(f"{shlex.join(KLP)} {line}")
    assert done.returncode == code
    assert "mistake" not in done.stderr and "Traceback" not in done.stderr
    assert done.stderr.count("klp-e2e:") == (code == 4)


@pytest.mark.parametrize(
    ("words", "both", "code"),
    [
        (("orders", "--suite", "smoke"), False, 4),
        (("orders", "--suite", "smoke"), True, 4),
        (("run", "--help"), True, 4),
        (("run", "--arch", "bogus"), True, 2),
    ],
)
def test_a_pipe_that_nobody_reads(words: tuple[str, ...], both: bool, code: int) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        err = write if both else subprocess.PIPE
        done = subprocess.run([*KLP, *words], stdout=write, stderr=err, timeout=120)
    finally:
        os.close(write)
    assert done.returncode == code and not done.stderr


def test_files_of_ours_get_no_number_of_a_closed_stream() -> None:
    script = (
        "from orchestrator.report.terminal import open_streams; open_streams()\n"
        "import os, sys; print(os.open('/dev/null', os.O_RDONLY)); print('x', file=sys.stderr)"
    )
    done = in_shell(f"{shlex.join([sys.executable, '-c', script])} <&- 2>&-")
    assert done.returncode == 0 and int(done.stdout) > 2
