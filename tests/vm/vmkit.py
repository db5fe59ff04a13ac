# SPDX-License-Identifier: GPL-2.0-only
"""What the tests with real guests share."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
from samples import Told

from orchestrator import catalog
from orchestrator.build.prepare import Bootable
from orchestrator.catalog import module_set
from orchestrator.host import process
from orchestrator.model import orders
from orchestrator.nouns import Case
from orchestrator.run import slot, workers
from orchestrator.verdicts import CaseResult, GuestRecord

ARCHES = sorted(catalog.default_arches())
EVERY_ARCH = sorted(name for name, arch in catalog.arches().items() if not arch.since)
FRESH = "fresh"
TROUBLE = str(Path(__file__).with_name("trouble"))  # a module set of ours
HOSTILE = str(Path(__file__).with_name("hostile"))  # likewise
MARK = "KLP_E2E_TEST"  # in the environment of everything that a test starts
RUNS = f"klp-e2e-{os.geteuid()}"  # in the temporary directory: the place of run directories
BUILDS = 4 * 3600.0  # seconds for a test that builds kernels
PATIENCE = 600.0  # seconds for what is bound to happen, a build included; only a failure waits


def case(name: str, order: str, modules: str = "basic") -> Case:
    return Case(name, modules, orders.parse(order, module_set(modules)))


def klp_e2e(*arguments: str | Path) -> process.Completed:
    """The command as a user types it, to its end."""
    return process.run([Path(sys.executable).with_name("klp-e2e"), *arguments], check=False)


@dataclass
class Ran:
    results: list[CaseResult]
    guests: list[GuestRecord]

    def result(self, arch: str, name: str) -> CaseResult:
        (found,) = [r for r in self.results if (r.arch, r.case.name) == (arch, name)]
        return found


def run_cases(
    bootables: Sequence[Bootable], cases: Sequence[Case], options: slot.GuestOptions | None = None
) -> Ran:
    ran = Ran([], [])
    workers.run_cases(
        bootables, cases, options or slot.GuestOptions(), ran.results.append, ran.guests.append
    )
    return ran


def wait_for(what: str, found: Callable[[], Any]) -> Any:
    """The first true answer of `found`."""
    end = time.monotonic() + PATIENCE
    while not (answer := found()):
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.03)
    return answer


def in_namespace(mount: str, *, after: str = "true") -> list[str]:
    """argv prefix: run a command after `mount`, a shell line that ends with the mount point, seen
    by nobody else; then `after`."""
    who = ("-m", "--propagation", "unchanged") if os.getuid() == 0 else ("-rm",)
    script = f'{mount} && "$@"; code=$?; {after}; umount {mount.split()[-1]}; exit $code'
    return ["unshare", *who, "sh", "-c", script, "sh"]


def descendants(mark: str) -> list[psutil.Process]:
    """Every process that was started with this mark in its environment, zombies left out."""
    found = []
    for one in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if one.environ().get(MARK) == mark:
                found.append(one)
    return found


class Klp:
    """Runs `klp-e2e` in a directory of its own, which holds its temporary files as well."""

    def __init__(self, directory: Path) -> None:
        self.temporary = directory / "tmp"
        self.results = directory / "results"
        self.directory = directory
        self.mark = secrets.token_hex(8)
        self.temporary.mkdir()
        self._started: list[subprocess.Popen[str]] = []

    def start(
        self,
        *argv: str,
        env: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
    ) -> subprocess.Popen[str]:
        # A pytest in the background of a script has SIGINT ignored, and would hand that down.
        program = ("env", "--default-signal", sys.executable, "-m", "orchestrator")
        environment = {**os.environ, MARK: self.mark, "TMPDIR": str(self.temporary), **(env or {})}
        started = subprocess.Popen(
            [*prefix, *program, *argv],
            cwd=self.directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._started.append(started)
        return started

    def end(self, started: subprocess.Popen[str]) -> Told:
        """Wait for it; nothing of it may be left."""
        out, err = started.communicate(timeout=PATIENCE * 4)
        return Told(started.returncode, out, err)

    def run(
        self,
        *argv: str,
        env: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
    ) -> Told:
        told = self.end(self.start(*argv, env=env, prefix=prefix))
        self.assert_nothing_left()
        return told

    def run_argv(self, bootable: Bootable, *more: str) -> list[str]:
        """`run` on one architecture with results where `document` reads them."""
        return ["run", "--arch", bootable.arch.name, "-o", str(self.results), *more]

    def begun(self) -> bool:
        """Is there a document yet?"""
        return (self.results / "results.json").exists()

    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads((self.results / "results.json").read_text())
        return document

    def running(self, *words: str) -> list[psutil.Process]:
        """Those of its processes whose command line holds all these words."""
        found = []
        for one in descendants(self.mark):
            with contextlib.suppress(psutil.NoSuchProcess):
                if set(words) <= {Path(word).name for word in one.cmdline()}:
                    found.append(one)
        return found

    def emulators(self, bootable: Bootable) -> list[psutil.Process]:
        return self.running(bootable.arch.qemu, "-kernel")

    def assert_no_process_left(self) -> None:
        wait_for("all processes to end", lambda: not descendants(self.mark))

    def assert_nothing_left(self) -> None:
        """No process, no socket, no temporary file."""
        self.assert_no_process_left()
        assert self.run_directories() == []
        assert {path.name for path in self.temporary.iterdir()} <= {RUNS}

    def run_directories(self) -> list[Path]:
        """Those that are there now."""
        return [path for path in (self.temporary / RUNS).glob("*") if path.is_dir()]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        err: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for started in self._started:
            if started.poll() is None:  # else the number may be somebody else's by now
                os.killpg(started.pid, signal.SIGKILL)
            started.wait()
            for pipe in (started.stdout, started.stderr):
                assert pipe is not None
                pipe.close()
        wait_for("the watchdogs to do their work", lambda: not descendants(self.mark))
