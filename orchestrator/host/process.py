# SPDX-License-Identifier: GPL-2.0-only
"""The only module that starts programs.

Whatever is started here ends with us. Each program runs in a session of its own, and a watchdog (a
shell that reads a pipe only we hold open) kills that process group when we vanish, however we
vanish. PR_SET_PDEATHSIG (setpriv --pdeathsig) was not chosen: it reaches the direct child only, so
the compilers under a killed `make` would go on, and it fires when the *thread* that forked ends,
which would kill a guest started by a worker thread that has finished.

On a deadline, Ctrl-C or any other exception the whole tree gets SIGTERM (make then removes what is
half-written), and SIGKILL `GRACE_S` later.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import selectors
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psutil

from orchestrator.deadline import Deadline
from orchestrator.errors import HarnessError, OutOfTime
from orchestrator.host import pump
from orchestrator.host.tools import clean_env, need

log = logging.getLogger(__name__)

GRACE_S = 3.0  # between SIGTERM and SIGKILL


class CommandFailed(HarnessError):
    """A program ended with a status other than 0; `code` is negative for a signal."""

    def __init__(self, argv: Sequence[str], code: int, tail: str, cwd: Path | None = None) -> None:
        self.argv = tuple(argv)
        self.code = code
        self.tail = tail
        how = f"was killed by {_signal_name(-code)}" if code < 0 else f"ended with status {code}"
        lines = "".join(f"\n    {line}" for line in tail.splitlines()[-15:])
        super().__init__(
            f"{Path(argv[0]).name} {how}{lines}", hint=f"to see it again: {pasteable(argv, cwd)}"
        )


@dataclass(frozen=True, slots=True)
class Completed:
    """`output` and `errors`: stdout and stderr, their last 64 KiB when a log took the whole.
    `cpu_seconds`: of the program and of the children it waited for."""

    argv: tuple[str, ...]
    code: int
    output: str
    errors: str
    cpu_seconds: float


def pasteable(argv: Sequence[str], cwd: Path | None = None) -> str:
    """The command as one line for a shell."""
    line = shlex.join(argv)
    return f"cd {shlex.quote(str(cwd))} && {line}" if cwd is not None else line


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


# --- the life of one program -------------------------------------------------------------------

_alive: set[Running] = set()
_alive_lock = threading.Lock()


@dataclass(eq=False)
class Running:
    """A started program, in a process group of its own. Made by `start` and `run`."""

    argv: tuple[str, ...]
    popen: subprocess.Popen[bytes]
    _watchdog: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        return self.popen.pid

    def poll(self) -> int | None:
        """Exit status, negative for a signal; None while it runs."""
        return self.popen.poll()

    def wait(self, deadline: Deadline | None = None) -> int:
        """Exit status. Raises OutOfTime at the deadline and leaves the program running."""
        try:
            return self.popen.wait(deadline.left() if deadline else None)
        except subprocess.TimeoutExpired:
            raise OutOfTime(f"time ran out while waiting for {self.argv[0]} to end") from None

    def terminate(self) -> None:
        """SIGTERM to the whole group; a program that has ended is no error."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL to the whole tree, and wait until it is gone."""
        for process in self._tree():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._signal(signal.SIGKILL)
        self.popen.wait()

    def end(self, grace: float = GRACE_S) -> None:
        """SIGTERM, `grace` seconds, SIGKILL; returns once nothing of the tree is left."""
        tree = self._tree()
        self.terminate()
        deadline = Deadline.after(grace)
        # psutil.wait_procs would reap our child and lose its status
        while any(map(_lives, tree)) and not deadline.passed:
            time.sleep(0.01)
        for process in tree:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._signal(signal.SIGKILL)
        self.popen.wait()

    def _tree(self) -> list[psutil.Process]:
        """The program and its descendants, those that left the process group included."""
        if self.popen.returncode is not None:
            return []
        try:
            leader = psutil.Process(self.pid)
            return [leader, *leader.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def _signal(self, number: signal.Signals) -> None:
        if self.popen.returncode is None:  # not reaped: the group's number is still ours
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    def _has_exited(self) -> bool:
        """True once the program itself has ended; it is not reaped by asking."""
        if self.popen.returncode is not None:
            return True
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        try:
            return os.waitid(os.P_PID, self.pid, flags) is not None
        except ChildProcessError:  # whoever waits for it, in another thread, has just reaped it
            return True

    def _dismiss(self) -> None:
        """Tell the watchdog that there is nothing left to watch."""
        pipe = self._watchdog.stdin
        assert pipe is not None
        with contextlib.suppress(BrokenPipeError):
            pipe.write(b"done\n")
            pipe.flush()
        pipe.close()
        self._watchdog.wait()


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def end_all() -> None:
    """End every program that is running now; for Ctrl-C with work in other threads, whose calls
    then return or raise by themselves."""
    with _alive_lock:
        running = list(_alive)
    for program in running:
        program.terminate()
    deadline = Deadline.after(GRACE_S)
    for program in running:
        while not program._has_exited() and not deadline.passed:
            time.sleep(0.02)
        program._signal(signal.SIGKILL)


def _launch(
    words: tuple[str, ...],
    path: str,
    cwd: Path | None,
    env: Mapping[str, str],
    popen: Mapping[str, Any],
) -> Running:
    """The program and its watchdog, started."""
    try:
        process = subprocess.Popen(
            [path, *words[1:]], cwd=cwd, env=env, start_new_session=True, **popen
        )
    except OSError as err:
        if err.errno == errno.E2BIG:
            raise HarnessError(f"{words[0]}: its arguments are too long") from err
        raise HarnessError(f"{words[0]} cannot be started: {err.strerror}") from err
    try:
        watchdog = subprocess.Popen(
            ["/bin/sh", "-c", 'read -r _ || kill -s KILL -- "-$0"', str(process.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except BaseException:
        process.kill()
        process.wait()
        raise
    return Running(words, process, watchdog)


@contextlib.contextmanager
def _started(
    argv: Sequence[str | Path],
    cwd: Path | None,
    env: Mapping[str, str] | None,
    **popen: Any,
) -> Iterator[Running]:
    words = tuple(str(word) for word in argv)
    path = need(words[0])
    if cwd is not None and not cwd.is_dir():
        raise HarnessError(f"{cwd} is not a directory; {words[0]} was to run there")
    with _alive_lock:  # `end_all` finds it, or comes before it is started
        running = _launch(words, path, cwd, clean_env(env), popen)
        _alive.add(running)
    began = time.monotonic()
    log.info("started %d: %s", running.pid, pasteable(words, cwd))
    try:
        yield running
    finally:
        try:
            running.end()
        finally:
            with _alive_lock:
                _alive.discard(running)
            running._dismiss()
            _log_end(running.popen, began)


def _log_end(program: subprocess.Popen[bytes], began: float) -> None:
    seconds = time.monotonic() - began
    log.info("ended %d with status %s after %.3f s", program.pid, program.returncode, seconds)


@contextlib.contextmanager
def start(
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    stdout: Path | None = None,
    stderr: Path | None = None,
) -> Iterator[Running]:
    """Run a program beside us; leaving the context ends it (see `Running.end`).

    stdout, stderr: files to append to, None for /dev/null; the same path twice gives one stream.
    Raises MissingTool or HarnessError when it cannot be started.
    """
    with contextlib.ExitStack() as stack:
        streams: dict[str, IO[bytes] | int] = {}
        for name, path in (("stdout", stdout), ("stderr", stderr)):
            if path is None:
                streams[name] = subprocess.DEVNULL
            else:
                streams[name] = stack.enter_context(path.open("ab"))
        yield stack.enter_context(_started(argv, None, env, stdin=subprocess.DEVNULL, **streams))


def attach(argv: Sequence[str | Path]) -> int:
    """Run a program on our own terminal, in our own session, until it ends; its exit status.

    It is the person's program now: Ctrl-C goes to it, not to us. Raises MissingTool.
    """
    words = [str(word) for word in argv]
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    began = time.monotonic()
    try:
        with subprocess.Popen([need(words[0]), *words[1:]], env=clean_env()) as program:
            log.info("started %d: %s", program.pid, pasteable(words))
            try:
                return program.wait()
            except BaseException:
                program.kill()
                raise
            finally:
                _log_end(program, began)
    finally:
        signal.signal(signal.SIGINT, before)


# --- a program run to its end ------------------------------------------------------------------


def run(
    argv: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    deadline: Deadline | None = None,
    input: bytes | None = None,
    log: Path | None = None,
    check: bool = True,
    on_line: Callable[[str], None] | None = None,
) -> Completed:
    """Run a program to its end.

    env: added to `clean_env()`. log: a file that both streams are appended to as they come; what is
    returned is then each stream's tail only. on_line: called with each line of either stream.
    Raises CommandFailed (only with `check`), MissingTool, OutOfTime (the tree is ended first);
    what on_line raises ends the tree and comes through.
    """
    with contextlib.ExitStack() as stack:
        sink = stack.enter_context(log.open("ab")) if log is not None else None
        running = stack.enter_context(
            _started(
                argv,
                cwd,
                env,
                stdin=subprocess.PIPE if input else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        )
        stdin, stdout, stderr = running.popen.stdin, running.popen.stdout, running.popen.stderr
        assert stdout is not None and stderr is not None
        out, err = pump.Stream(log is not None, on_line), pump.Stream(log is not None, on_line)
        selector = stack.enter_context(selectors.DefaultSelector())
        for pipe, stream in ((stdout, out), (stderr, err)):
            stack.callback(pipe.close)
            selector.register(pipe, selectors.EVENT_READ, stream)
        if stdin is not None:
            stack.callback(pump.close_quietly, stdin)
            os.set_blocking(stdin.fileno(), False)
            selector.register(stdin, selectors.EVENT_WRITE, memoryview(input or b""))
        pump.until_end(running.argv[0], running._has_exited, selector, sink, deadline)
        running._signal(signal.SIGKILL)  # what the program left behind in its group
        _, status, usage = os.wait4(running.pid, 0)  # Popen.wait() would not tell the CPU time
        code = running.popen.returncode = os.waitstatus_to_exitcode(status)
        seconds = usage.ru_utime + usage.ru_stime
        completed = Completed(running.argv, code, out.text(), err.text(), seconds)
    if check and code != 0:
        raise CommandFailed(completed.argv, code, completed.errors or completed.output, cwd)
    return completed
