# SPDX-License-Identifier: GPL-2.0-only
"""The results directory, written as the run goes.

    DIR/results.json  junit.xml  results.ktap     rewritten after every case
    DIR/ARCH/SET.NAME/result.json                 this case's entry of results.json
                      console.log                 what the guest printed on its console
                      dmesg                       the guest's kernel log, empty when it was lost
                      qemu-command                one line for a shell
                      reproduce.sh                runs this case alone
                      disassembly                 around a relocation that was found wrong
                      M.ko                        the modules of a case that failed, as loaded
    DIR/.klp-e2e  .lock                           it is ours; somebody is at work in it

Every file appears whole or not at all, so that a killed run leaves what it knew.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace
from pathlib import Path
from typing import Self

from orchestrator.errors import UsageError
from orchestrator.host import files, ours, walk
from orchestrator.model.orders import format as notation
from orchestrator.model.orders import loaded
from orchestrator.nouns import Order, set_title
from orchestrator.plain import KEPT_CHARACTERS
from orchestrator.report import reproduce, resultsjson, store
from orchestrator.report.junit import junit
from orchestrator.report.ktap import ktap
from orchestrator.report.same import refuse_other
from orchestrator.report.store import Store, load_document, write, write_errors
from orchestrator.verdicts import CaseResult, Run, Status

RESULTS = "results.json"
RESULT = "result.json"
_OWN = (ours.MARK, store.LOCK, RESULTS, "junit.xml", "results.ktap")
_FILES = r"console\.log|dmesg|qemu-command|reproduce\.sh|disassembly"
# What a kill leaves of a case without its result.
_LEFT = re.compile(rf"{_FILES}|\.(?:{_FILES}|result\.json)(?:\.\w+)?\.partial")
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._+=-]+")


class ResultsDirectory(Store):
    """A context manager made with the run as it begins: `add` each result, `update` the run when
    more of it is known. At the end `finished` is written, and in `trouble` what ended it early.
    Nobody else writes to the directory meanwhile.

    With `resume` the directory may hold what the same command left there: see `done`.

    Raises UsageError when the directory has something in it, was begun with something else, or
    cannot be made; HarnessError when a file cannot be written (a full disk).
    """

    DOCUMENTS = (RESULTS, "junit.xml", "results.ktap")

    def __init__(self, path: Path, run: Run, *, resume: bool = False) -> None:
        self.run = run
        self.results: tuple[CaseResult, ...] = ()
        self._fragments: tuple[str, ...] = ()  # of each result
        self._places: tuple[str, ...] = ()  # likewise, ARCH/SET.NAME
        self._names: set[str] = set()
        self._again: set[str] = set()  # directories of cases that were ERROR, and run again
        self._before: Run | None = None  # what was there
        self._refused = False  # for what was there
        if resume and (path / RESULTS).exists():
            document(path)  # before anything is written
        super().__init__(path, resume=resume)

    def _open(self) -> None:
        if self._begun:
            self._go_on()

    @property
    def done(self) -> frozenset[tuple[str, str, str]]:
        """(architecture, SET/NAME, order) of every case that has its verdict."""
        return frozenset(map(_key, self.results))

    def __enter__(self) -> Self:
        """The first documents; whoever is interrupted from then on leaves the reason in them."""
        try:
            self._write_documents()
        except BaseException as err:
            self.__exit__(type(err), err, err.__traceback__)
            raise
        return self

    def _end(self, err: BaseException | None) -> None:
        if not self._refused:
            self.run = store.ended_by(self.run, err)
        self._write_documents()
        if self._refused:
            self.results = ()  # none of what was asked for now

    @property
    def _idle(self) -> bool:
        return not (self.results or self.run.kernels)

    def add(self, result: CaseResult, modules: Iterable[Path] = ()) -> CaseResult:
        """Write one case and the documents; returns the result with its `reproduce` line. modules:
        .ko files to keep with it."""
        if not result.reproduce:
            result = replace(result, reproduce=reproduce.line(self.run, result))
        name = self._case_name(result)
        fragment = resultsjson.case_text(resultsjson.record(result, name))
        place = self.path / name
        with write_errors(place):
            ours.folder(place.parent, within=self.path)
            if os.path.lexists(place):  # of this very case: a kill left it, or it was an ERROR
                known = _is_result if name in self._again else _is_left
                kept = _modules(result.case.order)
                ours.clear(place, lambda file: known(file) or file in kept)
            place.mkdir()
            for module in modules:
                shutil.copyfile(module, place / module.name)
        write(place / "console.log", result.console)
        write(place / "dmesg", result.dmesg)
        write(place / "qemu-command", f"{shlex.join(result.qemu_argv)}\n")
        write(place / "reproduce.sh", reproduce.script(self.run, result), mode=0o755)
        if result.disassembly:
            write(place / "disassembly", result.disassembly)
        write(place / RESULT, f"{fragment}\n")
        self.results += (result,)
        self._fragments += (fragment,)
        self._places += (name,)
        self._write_documents()
        return result

    def judge_again(self, results: Iterable[CaseResult]) -> None:
        """These of its cases may have another verdict, now that all of them are known."""
        anew = {_key(result): result for result in results}
        for index, (was, name) in enumerate(zip(self.results, self._places, strict=True)):
            now = anew.get(_key(was), was)
            if now != was:
                fragment = resultsjson.case_text(resultsjson.record(now, name))
                write(self.path / name / RESULT, f"{fragment}\n")
                self.results = (*self.results[:index], now, *self.results[index + 1 :])
                self._fragments = (
                    *self._fragments[:index],
                    fragment,
                    *self._fragments[index + 1 :],
                )
        self._write_documents()

    def update(self, run: Run) -> None:
        """What is known of the run has changed: kernels are built, it has finished."""
        if self._before is not None:
            try:
                refuse_other(self.path, self._before, run)
            except UsageError:
                self.run, self._refused = self._before, True  # it stays as it was
                raise
        self.run = run
        self._write_documents()

    def _go_on(self) -> None:
        """Take up what was there."""
        before, results = read(self.path)
        refuse_other(self.path, before, self.run)
        self._before = before
        self.run = replace(
            self.run,
            started=before.started,
            resumed=self.run.started,
            guests=before.guests,
            kernels=before.kernels,
            qemu=before.qemu,
            inputs={**before.inputs, **self.run.inputs},
        )
        names = [(result, self._case_name(result)) for result in results]
        for result, name in names:
            if result.status is Status.ERROR:  # no verdict: it runs again, in its old place
                self._again.add(name)
            else:
                self._take(result, name)
        self._names -= self._again
        with write_errors(self.path):
            for arch in sorted({kernel.arch for kernel in before.kernels}):
                self._go_on_below(self.path / arch)

    def _take(self, result: CaseResult, name: str) -> None:
        place = self.path / name
        console, dmesg = (_text(place / file) for file in ("console.log", "dmesg"))
        self.results += (replace(result, console=console, dmesg=dmesg),)
        self._fragments += (resultsjson.case_text(resultsjson.record(result, name)),)
        self._places += (name,)

    def _go_on_below(self, place: Path) -> None:
        """Of one architecture's cases: one that has its result and is not in the list yet is taken,
        what is left of one that has none stays until that is run again: a directory of another name
        may be somebody's. Raises NotOurs for anything else."""
        if place.is_symlink():
            raise ours.NotOurs(f"{place} leads elsewhere, where nothing is removed or written")
        left = place.iterdir() if place.is_dir() else ()
        for case in sorted(path for path in left if path.is_dir()):
            name = case.relative_to(self.path).as_posix()
            if name in self._names or name in self._again:
                continue
            if not case.is_symlink() and (case / RESULT).is_file():
                record = load_document(case / RESULT, resultsjson.CASE, "klp-e2e run")
                resultsjson.refuse_contradictions((record,), str(case / RESULT))
                result = resultsjson.as_result(record)
                if record.directory == name and result.status is Status.ERROR:
                    self._again.add(name)
                    continue
                if record.directory == name == self._case_name(result):
                    self._take(result, name)
                    continue
            ours.only(case, lambda file: _is_left(file) or file.endswith(".ko"))

    def _write_documents(self) -> None:
        write(
            self.path / RESULTS, resultsjson.document_text(self.run, self.results, self._fragments)
        )
        write(self.path / "junit.xml", junit(self.run, self.results))
        write(self.path / "results.ktap", ktap(self.run, self.results))

    def _case_name(self, result: CaseResult) -> str:
        case = _NOT_IN_NAMES.sub(
            "_", f"{set_title(result.case.module_set)}.{result.case.name}"
        ).strip("_")
        first = name = f"{result.arch}/{case[:100]}"
        number = 1
        while name in self._names:
            number += 1
            name = f"{first}-{number}"
        self._names.add(name)
        return name


def _key(result: CaseResult) -> tuple[str, str, str]:
    return result.arch, result.case.label, notation(result.case.order)


def _text(path: Path) -> str:
    """What reports show of a console or a kernel log: its beginning and its end."""
    with write_errors(path):
        head, left_out, end = files.ends(path, files.TEXT, KEPT_CHARACTERS)
    between = f"\n[{left_out} bytes are left out here]\n".encode() if left_out else b""
    return (head + between + end).decode(errors="backslashreplace")


def read(path: Path) -> tuple[Run, tuple[CaseResult, ...]]:
    """A results directory, or a results.json, as values; consoles and kernel logs are not read."""
    found = document(path)
    return found.run, tuple(map(resultsjson.as_result, found.cases))


def document(path: Path) -> resultsjson.ResultsDocument:
    """results.json of a results directory, or the file itself. Raises UsageError."""
    file = path / RESULTS if path.is_dir() else path
    try:
        text = files.read(file, files.TEXT).decode()
    except (OSError, UnicodeDecodeError) as err:
        why = err.strerror if isinstance(err, OSError) else "it is not UTF-8"
        raise UsageError(
            f"cannot read {file}: {why}", hint="give the directory `klp-e2e run -o` wrote"
        ) from err
    return resultsjson.read_document(text, str(file))


def strangers(place: Path) -> list[Path]:
    """What lies in a results directory of ours and was not written there by us: whatever is not
    DIR/ARCH/CASE/FILE with a name that we give, and each file of a case that neither the documents
    nor its own result tell to be that case: it may be a copy. A place that is no directory is a
    stranger itself. Raises OSError."""
    if place.is_symlink() or not place.is_dir():
        return [place]
    cases = _told(place)
    found = []
    for path in sorted(walk.below(place)):
        depth = len(path.relative_to(place).parts)
        here = path.is_dir() and not path.is_symlink()
        if depth == 1:
            known = here or path.name in _OWN or store.is_half_written(path)
        elif depth == 2:
            known = here
        else:
            kept = cases.get(path.parent, frozenset())
            mine = path.parent in cases and (_is_result(path.name) or path.name in kept)
            known = depth == 3 and not here and mine
        if not known or path.is_symlink() or not (here or path.is_file()):
            found.append(path)
    return found


def _told(place: Path) -> Mapping[Path, AbstractSet[str]]:
    """The directories of the cases that documents tell of, and the modules that are kept in each,
    by their files' names."""
    told = {}
    with contextlib.suppress(UsageError):
        for case in document(place).cases:
            if case.directory:
                told[place / case.directory] = _modules(resultsjson.order_of(case))
    for path in place.glob(f"*/*/{RESULT}"):
        with contextlib.suppress(UsageError):
            case = load_document(path, resultsjson.CASE, "klp-e2e run")
            if case.directory == path.parent.relative_to(place).as_posix():
                told[path.parent] = _modules(resultsjson.order_of(case))
    return told


def _modules(order: Order) -> AbstractSet[str]:
    """What the files of its modules are called."""
    return {f"{name}.ko" for name in loaded(order)}


def _is_left(name: str) -> bool:
    return _LEFT.fullmatch(name) is not None


def _is_result(name: str) -> bool:
    return name == RESULT or _is_left(name)
