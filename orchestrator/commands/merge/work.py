# SPDX-License-Identifier: GPL-2.0-only
"""What `klp-e2e merge` does: parts are read as a stranger's are, and nothing of them is run.

The night's directory has what a whole one has, but for the patches of its kernels: later nights
build and run what a night of this machine has kept, and these are another's.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from orchestrator.commands.nightly import inputs, place, plan, resources, work
from orchestrator.errors import HarnessError, UsageError
from orchestrator.history import files, parts
from orchestrator.history.nights import Night
from orchestrator.history.parts import Copy, Given
from orchestrator.host import copying, ours, workdir
from orchestrator.report.store import write_errors

MANY = 3  # of what was left behind so many are named


def merge(directories: Sequence[Path], nights: Path) -> work.NightEnd:
    """A new night in the place of nights, with its report; compared with those before it there.

    Raises UsageError for parts that do not belong together, before anything is written; NotOurs
    where the place is not ours; HarnessError: a night runs there, or it cannot be written.
    """
    given = [Given(str(each), files.read(each)) for each in _once(directories)]
    places = [Path(each.called) for each in given]
    parts.merged(given, "")
    _same_configurations(given)
    with write_errors(nights):
        adopted = place.claim(nights)
    troubles = [adopted] if adopted else []
    nights = nights.resolve()
    with _alone(nights):
        made = parts.merged(given, work.name_of(nights))
        night = _in_its_place(made.night, nights)
        mine = nights / night.name
        with write_errors(mine), ours.appearing(mine, ours.MarkKind.NIGHT) as partial:
            troubles += _copied(made.copies, places, partial)
            files.write(partial, night)
        return work.report_night(nights, night, troubles)


def _once(directories: Sequence[Path]) -> Sequence[Path]:
    """Raises UsageError where one is given twice."""
    seen: dict[Path, Path] = {}
    for each in directories:
        if (other := seen.setdefault(each.resolve(), each)) is not each:
            raise UsageError(f"{other} is given twice", hint="each part once")
    return directories


def _same_configurations(given: Sequence[Given]) -> None:
    """Raises UsageError where two parts have kept different configurations of one kernel."""
    for number, one in enumerate(given):
        for other in given[:number]:
            both = files.configs(
                Path(one.called), one.night, Path(other.called), other.night
            ).items()
            for (kernel, arch), (mine, theirs) in both:
                if mine != theirs:
                    differs = sorted(mine.items() ^ theirs.items())
                    raise UsageError(
                        f"{other.called} and {one.called} have run {kernel} on {arch} of two "
                        f"kinds: {differs[0][0]}",
                        hint="run again the part that is out of date",
                    )


@contextlib.contextmanager
def _alone(nights: Path) -> Iterator[None]:
    """Raises HarnessError where a night runs in the place, whose name would be the same."""

    def busy(_line: str) -> None:
        raise HarnessError(f"a night runs in {nights}", hint="merge when it has ended")

    with workdir.locked(nights / resources.LOCK, busy):
        yield


def _in_its_place(night: Night, nights: Path) -> Night:
    """Its jobs in the order in which a whole night would have begun them, after those before it."""
    before = work.known_before(nights, night.name)
    changed = _changed(night, before.last)
    planned = [record.job for record in night.jobs]
    ordered = plan.ordered(planned, before.last, changed, before.seconds)
    records = {record.job.name: record for record in night.jobs}
    jobs = tuple(replace(records[job.name], job=job) for job in ordered)
    return replace(night, jobs=jobs)


def _changed(night: Night, last: Night | None) -> Mapping[tuple[str, str], str]:
    now = {(kernel.kernel, kernel.arch): kernel for kernel in night.kernels}
    return {
        (then.kernel, then.arch): inputs.differences(found.source_version, found.patches, then)
        for then in (last.kernels if last else ())
        if (found := now.get((then.kernel, then.arch)))
    }


def _copied(copies: Sequence[Copy], places: Sequence[Path], goal: Path) -> Iterator[str]:
    """A line for each part of which something was left behind. Raises UsageError, OSError."""
    left: dict[int, list[str]] = {}
    for part, source, inner in copies:
        try:
            left.setdefault(part, []).extend(copying.copy(places[part], source, goal / inner))
        except (FileExistsError, IsADirectoryError, NotADirectoryError) as err:
            raise UsageError(
                f"{places[part]} was not written by klp-e2e: two of its files go to {err.filename}",
                hint="do not trust it",
            ) from err
    for part, names in left.items():
        if names:
            more = f" and {len(names) - MANY} more" if len(names) > MANY else ""
            yield (
                f"{places[part]}: no files of its own, and left behind: "
                f"{', '.join(names[:MANY])}{more}"
            )
