# SPDX-License-Identifier: GPL-2.0-only
"""What `klp-e2e bisect` does: which patch of a series, or which commit, changes what an order does.

DIR/bisect.log        one line for each kernel that was tried, with what it said
DIR/found.json        the change, a `Found`
DIR/git-bisect.log   over commits: for `git bisect replay` in one's own repository
DIR/POINT/            the results directory of each kernel
"""

from __future__ import annotations

import contextlib
import shlex
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import TypeAdapter

from orchestrator.build import prepare
from orchestrator.cli import options, session
from orchestrator.cli.options import BuildOptions
from orchestrator.commands.bisect import commits, halving
from orchestrator.commands.bisect.halving import Seen
from orchestrator.errors import BuildError, HarnessError, UsageError
from orchestrator.model.orders import format as notation
from orchestrator.nouns import Accel, Arch, Case
from orchestrator.report import store
from orchestrator.report.directory import ResultsDirectory
from orchestrator.report.progress import Reporter
from orchestrator.run.slot import GuestOptions, GuestSlot
from orchestrator.source import series
from orchestrator.source.sources import fetch
from orchestrator.verdicts import CaseResult, RunKind, Status


@dataclass(frozen=True, slots=True)
class BisectOptions:
    build: BuildOptions  # of one architecture
    case: Case
    times: int  # cold boots of each kernel; one failure is enough
    directory: Path
    accel: Accel = Accel.AUTO

    @property
    def arch(self) -> Arch:
        return self.build.arches[0]


@dataclass(frozen=True, slots=True)
class Found:
    """The change, and what was seen on either side of it."""

    culprits: tuple[str, ...]  # one, or more where those between could not be told
    before: Seen
    after: Seen


def over_series(asked: BisectOptions, command: Sequence[str], reporter: Reporter) -> Found:
    """Which patch of the last series: prefixes of it are built on top of the others."""
    session.need_emulators(asked.build, asked.accel, reporter.say)
    *below, last = asked.build.series or (options.BARE,)
    tree = fetch(asked.build.source, say=reporter.say)
    patches = series.resolve(last, tree.kernel).patches
    if not patches:
        raise UsageError(f"series {last} has no patch for {asked.build.source}: nothing to bisect")
    looking = _Looking(asked, command, reporter)
    seen: dict[int, Seen] = {}

    def look(number: int) -> Seen:
        # the whole series goes by its own name: it may be built already
        name = last if number == len(patches) else f"{last}@{number}"
        wanted = replace(asked.build, series=(*below, name) if number else tuple(below))
        seen[number] = looking.at(f"{number:02}", name, wanted)
        return seen[number]

    change = halving.search(len(patches) + 1, look)
    culprits = tuple(patch.name for patch in patches[change.before : change.after])
    return Found(culprits, seen[change.before], seen[change.after])


def over_commits(
    asked: BisectOptions, good: str, bad: str, command: Sequence[str], reporter: Reporter
) -> Found:
    """Which commit between two of --kernel git:REPO, or of dir:CHECKOUT."""
    session.need_emulators(asked.build, asked.accel, reporter.say)
    kind, _, place = asked.build.source.partition(":")
    repository = place.partition("#")[0]
    if kind != "git" and not (Path(repository) / ".git").exists():  # dir: may be a checkout
        raise UsageError(
            f"--good and --bad are commits, and {asked.build.source} has none",
            hint="--kernel git:REPO --good REF --bad REF",
        )
    looking = _Looking(asked, command, reporter)
    with commits.working_copy(repository, reporter.say) as tree:
        here = replace(asked.build, source=f"dir:{tree}")

        def look(commit: str, name: str) -> Seen:
            return looking.at(commit[:12], name, here, source=f"git:{repository}#{commit}")

        found = commits.search(tree, good, bad, look)
    store.write(asked.directory / "git-bisect.log", found.log)
    return Found(found.culprits, found.before, found.after)


FOUND = "found.json"
_FOUND = TypeAdapter(Found)


def keep(place: Path, found: Found) -> None:
    """What was found, for programs."""
    store.write(place / FOUND, _FOUND.dump_json(found, indent=2).decode() + "\n")


def kept(place: Path) -> Found:
    """What a bisect found whose directory this is. Raises UsageError."""
    return store.load_document(place / FOUND, _FOUND, "klp-e2e bisect")


class _Looking:
    """Builds a kernel, runs the order on it, writes down what it said."""

    def __init__(self, asked: BisectOptions, command: Sequence[str], reporter: Reporter) -> None:
        self._asked = asked
        self._command = command
        self._reporter = reporter
        self._claim = contextlib.ExitStack()  # until nobody looks any more
        self._claim.enter_context(store.claimed(asked.directory))
        self._lines = [f"# {shlex.join(command)}"]

    def at(self, place: str, name: str, wanted: BuildOptions, source: str = "") -> Seen:
        """`source`: how the kernel is called where results tell how to reproduce them."""
        seen = self._judged(place, name, wanted, source or wanted.source)
        line = f"{seen.name}: {seen.word}"
        self._reporter.say(line)
        self._lines.append(line)
        store.write(self._asked.directory / "bisect.log", "\n".join(self._lines) + "\n")
        return seen

    def _judged(self, place: str, name: str, wanted: BuildOptions, source: str) -> Seen:
        case = self._asked.case
        try:
            (bootable,) = session.bootables(wanted, (case.module_set,), self._reporter)
        except (BuildError, HarnessError) as err:
            return Seen(name, None, str(err), built=not isinstance(err, BuildError))
        bootable = replace(
            bootable, kernel=replace(bootable.kernel, source=source)
        )  # none of our clone
        run = replace(
            session.begun(
                wanted,
                self._command,
                strict=True,
                kind=RunKind.BISECT,
                accel=self._asked.accel,
            ),
            source=source,
            planned=self._asked.times,
            kernels=(bootable.kernel,),
            qemu={bootable.arch.name: prepare.qemu_version(bootable.arch)},
            started=time.time(),
        )
        results: list[CaseResult] = []
        used = GuestOptions(cold=self._asked.times > 1, accel=self._asked.accel)
        with (
            ResultsDirectory(self._asked.directory / place, run) as written,
            GuestSlot(bootable, used, threading.Event()) as slot,
        ):
            for _ in range(self._asked.times):
                results.append(written.add(slot.run_case(case)))
        return said(name, results)


def said(name: str, results: Sequence[CaseResult]) -> Seen:
    """What a kernel said of an order that ran so often. One failure is enough, and one in which the
    order had begun says more than one before it."""
    failed = [each for each in results if each.status in (Status.FAIL, Status.KNOWN)]
    if failed:
        first = next((each for each in failed if each.steps), failed[0])
        return Seen(name, True, first.reason, first.reproduce, booted=bool(first.steps))
    untold = next((each for each in results if each.status is Status.ERROR), None)
    if untold is not None:
        return Seen(name, None, untold.reason)
    return Seen(name, False, "", results[0].reproduce)


def lines(asked: BisectOptions, found: Found) -> list[str]:
    """What there is to say: the culprit, the order, what was seen before it and with it."""
    what = "begins to fail" if found.after.fails else "begins to pass"
    several = len(found.culprits) > 1
    return [
        f"{asked.arch.name}: the order {what} with {'one of' if several else found.culprits[0]}",
        *(f"    {name}" for name in found.culprits if several),
        f"  order      {notation(asked.case.order)}",
        f"  before     {found.before.name}: {found.before.word}",
        f"  after      {found.after.name}: {found.after.word}",
        f"  reproduce  {(found.after if found.after.fails else found.before).reproduce}",
    ]
