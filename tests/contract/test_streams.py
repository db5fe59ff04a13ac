# SPDX-License-Identifier: GPL-2.0-only
"""Streams that are closed, full, or read by nobody: never exit code 1, which speaks of a kernel."""

from __future__ import annotations

import json as stdjson
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from elf_samples import livepatch
from history_samples import a_result, a_run, a_suite

from orchestrator.elf.writer import write
from orchestrator.report import resultsjson
from orchestrator.verdicts import Status

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


@pytest.fixture
def module(tmp_path: Path) -> Path:
    (tmp_path / "in.ko").write_bytes(write(livepatch()))
    return tmp_path / "in.ko"


@pytest.mark.parametrize("status", [Status.PASS, Status.FAIL])
@pytest.mark.parametrize("lines", [0, 1, 2])
def test_a_report_that_nobody_reads_to_its_end(status: Status, lines: int, tmp_path: Path) -> None:
    """`klp-e2e report DIR 2>&1 | head -N`: 1 would speak of the kernel. What the results say stays
    in results.json."""
    many = [a_result("one", status, name=f"order-{n}") for n in range(2000)]
    place = tmp_path / "r"
    run = a_run("one", planned=len(many))
    place.mkdir()
    fragments = [resultsjson.case_text(resultsjson.record(each)) for each in many]
    (place / "results.json").write_text(resultsjson.document_text(run, many, fragments))
    piped = f"{shlex.join([*KLP, 'report', str(place)])} 2>&1 | head -n {lines} > /dev/null"
    done = in_shell(f"{piped}; exit ${{PIPESTATUS[0]}}")
    assert done.returncode == 4 and not done.stderr
    assert stdjson.loads((place / "results.json").read_text())["exit_code"] == (status != "PASS")


@pytest.mark.parametrize("command", ["report", "inspect", "inspect --json", "report --schema"])
def test_what_cannot_be_told_for_a_full_disk(command: str, module: Path, tmp_path: Path) -> None:
    place = module
    if command == "report":
        place = a_suite(tmp_path / "r", a_run("one"), a_result("one", Status.FAIL))
    words = command if "--schema" in command else f"{command} {shlex.quote(str(place))}"
    done = in_shell(f"{shlex.join(KLP)} {words} > /dev/full")
    assert done.returncode == 4
    assert "mistake" not in done.stderr and "Traceback" not in done.stderr
    assert "cannot write what there is to say: No space left" in done.stderr


@pytest.mark.parametrize("more", ["", " --force"])
@pytest.mark.parametrize("goal", ["directory", "link", "none/out.ko", "/dev/full"])
def test_a_place_where_no_module_can_be_written(
    goal: str, more: str, module: Path, tmp_path: Path
) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to("in.ko")
    before = module.read_bytes()
    words = f"convert {shlex.quote(str(module))} {goal} --object the_target --symbol hidden"
    done = in_shell(f"cd {shlex.quote(str(tmp_path))}; {shlex.join(KLP)} {words}{more}")
    assert done.returncode == 2, done.stderr
    assert "mistake" not in done.stderr and "Traceback" not in done.stderr
    assert done.stderr.count("klp-e2e:") == 1 and goal.split("/")[0] in done.stderr
    assert module.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["directory", "in.ko", "link"]


def test_files_of_ours_get_no_number_of_a_closed_stream() -> None:
    script = (
        "from orchestrator.report.terminal import open_streams; open_streams()\n"
        "import os, sys; print(os.open('/dev/null', os.O_RDONLY)); print('x', file=sys.stderr)"
    )
    done = in_shell(f"{shlex.join([sys.executable, '-c', script])} <&- 2>&-")
    assert done.returncode == 0 and int(done.stdout) > 2
