# SPDX-License-Identifier: GPL-2.0-only
"""The results directory, written as the run goes.

    DIR/results.json  junit.xml  results.ktap     rewritten after every case
    DIR/ARCH/SET.NAME/result.json                 this case's entry of results.json
                      console.log                 what the guest printed on its console
                      dmesg                       the guest's kernel log, empty when it was lost
                      qemu-command                one line for a shell
                      reproduce.sh                runs this case alone
                      disassembly                 around a relocation that was found wrong

Every file appears whole or not at all, so that a killed run leaves what it knew.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from pydantic import TypeAdapter, ValidationError

from orchestrator.errors import HarnessError, UsageError
from orchestrator.nouns import Kernel
from orchestrator.report import json, reproduce
from orchestrator.report.junit import junit
from orchestrator.report.ktap import ktap
from orchestrator.source.alterations import label
from orchestrator.verdicts import CaseResult, Run

T = TypeVar("T")

RESULTS = "results.json"
_PARTIAL = ".partial"
_WHY: Mapping[type[BaseException], str] = {KeyboardInterrupt: "interrupted"}
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._+=-]+")


class ResultsDirectory:
    """A context manager made with the run as it begins: `add` each result, `update` the run when
    more of it is known. At the end `finished` is written, and in `trouble` what ended it early.

    With `go_on` the directory may hold what the same command left there: see `done`.

    Raises UsageError when the directory has something in it or cannot be made, HarnessError when a
    file cannot be written (a full disk).
    """

    def __init__(self, path: Path, run: Run, *, go_on: bool = False) -> None:
        self.path = path.absolute()
        self.run = run
        self.results: tuple[CaseResult, ...] = ()
        self._fragments: tuple[str, ...] = ()
        self._names: set[str] = set()
        self._kernels: tuple[Kernel, ...] = ()  # of what was there before
        if go_on and (self.path / RESULTS).exists():
            self._go_on()
        else:
            for partial in self.path.glob(f".*{_PARTIAL}") if go_on else ():
                partial.unlink()  # killed before there was anything
            prepare(self.path)

    @property
    def done(self) -> frozenset[tuple[str, str]]:
        """(architecture, SET/NAME) of every case that has its result."""
        return frozenset((r.arch, label(r.case)) for r in self.results)

    def __enter__(self) -> Self:
        """The first documents; whoever is interrupted from then on leaves the reason in them."""
        try:
            self._write_documents()
        except BaseException as trouble:
            self.__exit__(type(trouble), trouble, trouble.__traceback__)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        trouble: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        why = "" if kind is None else str(trouble) or _WHY.get(kind, kind.__name__)
        self.update(replace(self.run, finished=time.time(), trouble=why))

    def add(self, result: CaseResult) -> CaseResult:
        """Write one case and the documents; returns the result with its `reproduce` line."""
        if not result.reproduce:
            result = replace(result, reproduce=reproduce.line(self.run, result))
        name = self._case_name(result)
        fragment = json.case_text(json.record(result, name))
        place = self.path / name
        with told(place):
            place.mkdir(parents=True)
        write(place / "console.log", result.console)
        write(place / "dmesg", result.dmesg)
        write(place / "qemu-command", f"{shlex.join(result.qemu_argv)}\n")
        write(place / "reproduce.sh", reproduce.script(self.run, result), mode=0o755)
        if result.disassembly:
            write(place / "disassembly", result.disassembly)
        write(place / "result.json", f"{fragment}\n")
        self.results += (result,)
        self._fragments += (fragment,)
        self._write_documents()
        return result

    def update(self, run: Run) -> None:
        """What is known of the run has changed: kernels are built, it has finished."""
        for before in self._kernels:
            for now in run.kernels:
                if before.arch == now.arch and before.key != now.key:
                    raise UsageError(
                        f"{self.path} was begun on another kernel for {now.arch}",
                        hint="begin anew with -o DIR",
                    )
        self.run = run
        self._write_documents()

    def _go_on(self) -> None:
        """Take up what was there; what a kill left of a case without its result goes."""
        before, results = read(self.path)
        if (before.source, before.series) != (self.run.source, self.run.series):
            raise UsageError(
                f"{self.path} was begun with --kernel {before.source}, "
                f"--series {' --series '.join(before.series) or 'none'}",
                hint="go on with the same command line, or begin anew with -o DIR",
            )
        self._kernels = before.kernels
        self.run = replace(self.run, started=before.started, guests=before.guests)
        for result in results:
            name = self._case_name(result)
            place = self.path / name
            console, dmesg = (_text(place / file) for file in ("console.log", "dmesg"))
            self.results += (replace(result, console=console, dmesg=dmesg),)
            self._fragments += (json.case_text(json.record(result, name)),)
        with told(self.path):
            for kernel in before.kernels:
                for place in self.path.glob(f"{kernel.arch}/*/"):
                    if place.relative_to(self.path).as_posix() not in self._names:
                        shutil.rmtree(place)

    def _write_documents(self) -> None:
        write(self.path / RESULTS, json.document_text(self.run, self.results, self._fragments))
        write(self.path / "junit.xml", junit(self.run, self.results))
        write(self.path / "results.ktap", ktap(self.run, self.results))

    def _case_name(self, result: CaseResult) -> str:
        case = _NOT_IN_NAMES.sub("_", f"{result.case.module_set}.{result.case.name}").strip("_")
        first = name = f"{result.arch}/{case[:100]}"
        number = 1
        while name in self._names:
            number += 1
            name = f"{first}-{number}"
        self._names.add(name)
        return name


def _text(path: Path) -> str:
    with told(path), path.open(encoding="utf-8", errors="backslashreplace", newline="") as file:
        return file.read()


def write(path: Path, text: str, mode: int = 0o644, *, sync: bool = False) -> None:
    """Replace a file atomically; characters that UTF-8 cannot carry are escaped.

    sync: it is on the disk before the old one goes, for what cannot be had again after power loss.
    """
    partial = path.with_name(f".{path.name}{_PARTIAL}")
    with told(path):
        try:
            partial.write_text(text, encoding="utf-8", errors="backslashreplace", newline="")
            partial.chmod(mode)
            if sync:
                with partial.open("rb") as written:
                    os.fsync(written.fileno())
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


def read(path: Path) -> tuple[Run, tuple[CaseResult, ...]]:
    """A results directory, or a results.json, as values; consoles and kernel logs are not read."""
    found = document(path)
    return found.run, tuple(map(json.as_result, found.cases))


def document(path: Path) -> json.Document:
    """results.json of a results directory, or the file itself. Raises UsageError."""
    file = path / RESULTS if path.is_dir() else path
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as trouble:
        why = trouble.strerror if isinstance(trouble, OSError) else "it is not UTF-8"
        raise UsageError(
            f"cannot read {file}: {why}", hint="give the directory `klp-e2e run -o` wrote"
        ) from trouble
    return json.document(text, str(file))


def load(file: Path, shape: TypeAdapter[T], command: str) -> T:
    """A document that `command` wrote into its directory. Raises UsageError."""
    try:
        return shape.validate_json(file.read_bytes())
    except OSError as trouble:
        raise UsageError(
            f"cannot read {file}: {trouble.strerror}", hint=f"give a directory of `{command}`"
        ) from trouble
    except ValidationError as trouble:
        first = trouble.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UsageError(
            f"{file} is malformed at {place or 'its top'}: {first['msg']}",
            hint="was it written by another version of klp-e2e?",
        ) from trouble


def prepare(path: Path) -> None:
    """Make an empty directory for results. Raises UsageError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        occupied = any(path.iterdir())
        writable = os.access(path, os.W_OK | os.X_OK)
    except OSError as trouble:
        raise UsageError(
            f"cannot write results to {path}: {trouble.strerror}", hint="choose another with -o DIR"
        ) from trouble
    if occupied:
        raise UsageError(
            f"the results directory {path} is not empty",
            hint="choose another with -o DIR, or remove it",
        )
    if not writable:
        raise UsageError(f"no permission to write to {path}", hint="choose another with -o DIR")


@contextlib.contextmanager
def told(path: Path) -> Iterator[None]:
    """A file that cannot be written is HarnessError."""
    try:
        yield
    except OSError as trouble:
        raise HarnessError(
            f"cannot write {path}: {trouble.strerror}",
            hint="is the disk full? what was written before is still valid",
        ) from trouble
