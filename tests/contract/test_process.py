# SPDX-License-Identifier: GPL-2.0-only
"""Programs are run to their end, or ended with all their children. With real programs."""

from __future__ import annotations

import ast
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from orchestrator import build
from orchestrator.deadline import Deadline
from orchestrator.errors import HarnessError, MissingTool, OutOfTime
from orchestrator.host import process
from orchestrator.host.process import CommandFailed
from orchestrator.host.tools import BUILD, building, clean_env

# a shell whose child ignores SIGTERM, and a grandchild in a session of its own
FAMILY = "(trap '' TERM; sleep 1000) & setsid sleep 1000 & echo started; wait"


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_gone(pids: list[int], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while alive := [pid for pid in pids if not gone(pid)]:
        assert time.monotonic() < deadline, f"still there: {alive}"
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    yield
    assert psutil.Process().children(recursive=True) == []


def test_both_streams_code_and_cpu_time_come_back() -> None:
    done = process.run(["sh", "-c", "echo out; echo err >&2; exit 3"], check=False)
    assert (done.code, done.output, done.errors) == (3, "out\n", "err\n")
    busy = process.run(["sh", "-c", "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done"])
    assert 0.005 < busy.cpu_seconds < 60


def test_a_program_s_life_is_logged(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    caplog.set_level(logging.INFO, "orchestrator")
    process.run(["sh", "-c", "exit 3"], check=False, cwd=tmp_path, env={"TOKEN": "secret"})
    with process.start(["sleep", "1000"]) as running:
        pass
    process.attach(["true"])
    said = [record.getMessage() for record in caplog.records]
    assert [line.split()[0] for line in said] == ["started", "ended"] * 3
    assert said[0].endswith(f": cd {tmp_path} && sh -c 'exit 3'")
    assert re.fullmatch(r"ended \d+ with status 3 after \d+\.\d{3} s", said[1])
    assert said[2] == f"started {running.pid}: sleep 1000"
    assert said[3].startswith(f"ended {running.pid} with status -15 after ")
    assert said[4].endswith(": true") and " with status 0 after " in said[5]


def test_a_full_second_pipe_does_not_block_the_first() -> None:
    script = "head -c 3000000 /dev/zero >&2; head -c 3000000 /dev/zero; cat | wc -c"
    done = process.run(["sh", "-c", script], input=b"x" * 2_000_000, deadline=Deadline.after(60))
    assert len(done.errors) == 3_000_000 and done.output.endswith("2000000\n")


def test_input_that_nobody_reads_is_no_error() -> None:
    assert process.run(["true"], input=b"x" * 5_000_000).code == 0


def test_with_a_log_only_the_tail_stays_in_memory(tmp_path: Path) -> None:
    log = tmp_path / "log"
    done = process.run(["sh", "-c", "seq 1 100000; echo last >&2"], log=log)
    assert len(done.output) <= 64 * 1024 and done.output.endswith("\n100000\n")
    assert log.read_text().startswith("1\n2\n") and "last\n" in log.read_text()


def test_lines_come_while_the_program_runs() -> None:
    lines: list[str] = []
    process.run(["sh", "-c", "echo a; printf b"], on_line=lines.append)
    assert lines == ["a", "b"]


def test_a_failure_can_be_pasted(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match=r"sh ended with status 2\n    it's wrong") as caught:
        process.run(["sh", "-c", 'echo "it\'s wrong" >&2; exit 2'], cwd=tmp_path)
    line = caught.value.hint.removeprefix("to see it again: ")
    again = process.run(["sh", "-c", line], check=False)
    assert (again.code, again.errors) == (2, "it's wrong\n")
    with pytest.raises(CommandFailed, match="was killed by SIGKILL"):
        process.run(["sh", "-c", "kill -9 $$"])


def test_a_missing_program_or_directory_is_ours_to_tell(tmp_path: Path) -> None:
    with pytest.raises(MissingTool, match="nonesuch is not installed"):
        process.run(["nonesuch"])
    with pytest.raises(HarnessError, match="is not a directory"):
        process.run(["true"], cwd=tmp_path / "gone")


# name -> why a program of ours gets it, or why it does not
THROUGH = {
    "PATH": "how programs are found",
    "LD_LIBRARY_PATH": "how a QEMU of one's own is loaded",
    "LD_PRELOAD": "some containers know no user without it",
    "PYTHONPATH": "how klp-e2e itself may have been found",
    "PKG_CONFIG_PATH": "where libraries of the kernel's own tools are",
    "HOME": "git's and ssh's settings",
    "XDG_CONFIG_HOME": "the same",
    "TMPDIR": "where there is room",
    "KLP_E2E_CACHE": "ours, for nights' jobs",
    "https_proxy": "how the network is reached",
    "SSH_AUTH_SOCK": "how a repository is reached",
    "GIT_SSH_COMMAND": "the same",
    "GIT_ASKPASS": "the same",
    "GIT_SSL_CAINFO": "the same",
    "GIT_CONFIG_GLOBAL": "as ~/.gitconfig",
    "GIT_ALLOW_PROTOCOL": "what the user does not allow stays so",
    "TERM": "a terminal's, for `shell`",
}
STOPPED = {
    **dict.fromkeys(
        (
            *("MAKEFLAGS", "ARCH", "CROSS_COMPILE", "CC", "LLVM", "LLVM_IAS", "KCFLAGS", "V", "O"),
            *("KBUILD_OUTPUT", "KCONFIG_CONFIG", "CONFIG_LIVEPATCH", "CONFIG_SHELL", "PAHOLE"),
            *("CFLAGS_MODULE", "LDFLAGS_vmlinux", "HOSTLDLIBS", "RUSTC", "TARGETS", "KSFT_X"),
        ),
        "kbuild takes it for a variable of make's, and no key of a cache knows it",
    ),
    **dict.fromkeys(
        ("CPATH", "CPLUS_INCLUDE_PATH", "GCC_EXEC_PREFIX", "LDEMULATION", "SOURCE_DATE_EPOCH"),
        "another object from the same source",
    ),
    **dict.fromkeys(("CCACHE_DIR", "CCACHE_DISABLE"), "the cache is ours"),
    **dict.fromkeys(
        ("GIT_DIR", "GIT_WORK_TREE", "GIT_CONFIG", "GIT_EXTERNAL_DIFF", "GIT_TRACE", "GIT_PAGER"),
        "another repository, or other words",
    ),
    **dict.fromkeys(("QEMU_MODULE_DIR", "QEMU_AUDIO_DRV"), "another machine"),
    **dict.fromkeys(("LD_AUDIT", "LD_DEBUG"), "words of the loader's among a program's"),
    **dict.fromkeys(("LC_ALL", "LC_TIME", "LANGUAGE"), "messages are read"),
    **dict.fromkeys(("TAR_OPTIONS", "GREP_OPTIONS", "VERSION_CONTROL"), "other files"),
    **dict.fromkeys(("BASH_ENV", "BASH_FUNC_grep%%", "SHELLOPTS", "PERL5OPT"), "other programs"),
    **dict.fromkeys(("PYTHONINSPECT", "PYTHONWARNINGS"), "our own children would stop or complain"),
}


def test_what_of_the_environment_goes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*THROUGH, *STOPPED):
        monkeypatch.setenv(name, f"given {name}")
    seen = clean_env({"KBUILD_BUILD_USER": "me"})
    given = {name for name, value in seen.items() if value.startswith("given ")}
    assert given == {*THROUGH}
    assert seen["LC_ALL"] == "C" and seen["KBUILD_BUILD_USER"] == "me"


def test_the_environment_does_not_steer_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in STOPPED:
        monkeypatch.setenv(name, "wrong")
    monkeypatch.setenv("HOME", "/some/home")
    seen = process.run(["env"], env={"KBUILD_BUILD_USER": "me"}).output.splitlines()
    assert not [line for line in seen if "wrong" in line]
    assert {"LC_ALL=C", "HOME=/some/home", "KBUILD_BUILD_USER=me"} <= set(seen)


def test_a_build_sees_nothing_but_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a make that has exported all of its variables runs us."""
    for name in (*STOPPED, *THROUGH.keys() - {"PATH", "LD_PRELOAD", "LD_LIBRARY_PATH"}):
        monkeypatch.setenv(name, "given")
    for name in ("srctree", "objtree", "sub_make_done", "VERSION", "NOSTDINC_FLAGS"):
        monkeypatch.setenv(name, "wrong")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/none")
    seen = process.run(building(["env"], ["HOME"], {"CCACHE_DIR": "ours"})).output.splitlines()
    names = {line.partition("=")[0] for line in seen}
    assert names <= {*BUILD, "HOME", "CCACHE_DIR"}
    assert {"PATH", "LC_ALL", "HOME", "TMPDIR", "LD_LIBRARY_PATH"} <= names
    assert {"LC_ALL=C", "CCACHE_DIR=ours", "HOME=given", "LD_LIBRARY_PATH=/none"} <= set(seen)


def test_what_runs_make_is_such_a_build() -> None:
    """Every program that those modules of build/ begin which name make."""
    found = []
    for path in sorted(Path(build.__file__).parent.rglob("*.py")):
        tree = ast.parse(path.read_text())
        words = {str(node.value) for node in ast.walk(tree) if isinstance(node, ast.Constant)}
        if "make" not in words and not any("from tuxmake" in word for word in words):
            continue
        shown = ast.unparse(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("process."):
                given = ast.unparse(node.args[0])
                assert given.startswith("building(") or f"{given} = tools.building(" in shown
                found.append(path.stem)
    assert len({*found}) == 3, found


def test_a_deadline_ends_the_whole_family() -> None:
    pids: list[int] = []

    def on_line(_line: str) -> None:
        pids.extend(p.pid for p in psutil.Process().children(recursive=True))

    began = time.monotonic()
    with pytest.raises(OutOfTime, match="sh"):
        process.run(["sh", "-c", FAMILY], deadline=Deadline.after(0.5), on_line=on_line)
    assert time.monotonic() - began < process.GRACE_S + 3
    assert len(pids) >= 3
    wait_gone(pids)


def test_an_exception_in_on_line_ends_the_program() -> None:
    def on_line(line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        process.run(["sh", "-c", "echo x; exec sleep 1000"], on_line=on_line)


def test_what_a_program_leaves_in_its_group_goes_with_it() -> None:
    began = time.monotonic()
    done = process.run(["sh", "-c", "sleep 1000 & echo $!"])
    assert time.monotonic() - began < 10
    wait_gone([int(done.output)])


def test_a_started_program_writes_where_told_and_ends_with_the_context(tmp_path: Path) -> None:
    log = tmp_path / "log"
    script = "trap 'echo bye; exit 7' TERM; echo hi; while :; do sleep 0.01; done"
    with process.start(["sh", "-c", script], stdout=log, stderr=log) as running:
        while not log.exists() or not log.read_text():
            time.sleep(0.01)
        assert running.poll() is None
        with pytest.raises(OutOfTime):
            running.wait(Deadline.after(0.05))
    assert running.poll() == 7
    assert log.read_text().startswith("hi\n") and log.read_text().endswith("bye\n")


def test_end_all_frees_a_thread_that_waits() -> None:
    codes: list[int] = []
    thread = threading.Thread(
        target=lambda: codes.append(process.run(["sleep", "1000"], check=False).code)
    )
    thread.start()
    while not psutil.Process().children():
        time.sleep(0.01)
    process.end_all()
    thread.join(10)
    assert codes == [-signal.SIGTERM]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_everything_dies_with_us(number: signal.Signals) -> None:
    code = (
        "from orchestrator.host import process\n"
        "process.run(['sh', '-c', 'sleep 1000 & echo $! $$; wait'],"
        " on_line=lambda l: print(l, flush=True))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=Path.cwd()
    ) as harness:
        assert harness.stdout is not None
        pids = [int(word) for word in harness.stdout.readline().split()]
        assert len(pids) == 2 and not any(map(gone, pids))
        os.kill(harness.pid, number)
    wait_gone(pids)
