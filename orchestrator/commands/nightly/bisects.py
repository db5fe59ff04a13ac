# SPDX-License-Identifier: GPL-2.0-only
"""Which patch, or commit, a new failure is to be blamed on: by bisect, where inputs have changed.

ours      tonight's series, if a patch of it is new or has changed: it begins to fail with one
theirs    the last good night's series, if a patch of it is gone or has changed: it begins to
          pass with one, which is not what it was
commits   the commits since the last good night, where the kernel comes from git
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from orchestrator.commands.bisect.work import Found
from orchestrator.commands.nightly import plan, retry
from orchestrator.history.nights import Blame, Job, KernelInput, Row
from orchestrator.nouns import MERGED, CaseKind, merged

BISECTS = Path("bisects")  # in a night: NN-WAY/, NN-WAY.log
OF_A_KERNEL = 3  # ways of failing that are bisected; the others are likely to have the same cause


class BisectKind(StrEnum):
    OURS = "ours"
    THEIRS = "theirs"
    COMMITS = "commits"


def bisect_kinds(now: KernelInput, good: KernelInput | None) -> tuple[BisectKind, ...]:
    """In which ways to look, the cheapest first. Without a good night: the series as it is."""
    if good is None:
        return (BisectKind.OURS,) if now.patches else ()
    found = []
    if any(good.patches.get(name) != digest for name, digest in now.patches.items()):
        found.append(BisectKind.OURS)
    if any(now.patches.get(name) != digest for name, digest in good.patches.items()):
        found.append(BisectKind.THEIRS)
    if now.commit and good.commit and now.commit != good.commit:
        found.append(BisectKind.COMMITS)
    return tuple(found)


def command(
    kind: BisectKind, job: Job, row: Row, kept: str, now: KernelInput, good: KernelInput | None
) -> tuple[str, ...]:
    """The words after klp-e2e, but for -o. `kept`: the good night's patches, a quilt directory."""
    words = ["bisect", "--arch", job.arch_spec, "--kernel", job.source]
    words += ["--modules", row.module_set, "--order", row.order]
    series = [*job.series]
    if kind is BisectKind.THEIRS:  # the failure is one by what tonight's series promises
        series = [*(name if merged(name) else f"{name}{MERGED}" for name in job.series), kept]
    words += plan.stack_words(series, job.configs, job.toolchain)
    if kind is BisectKind.COMMITS:
        assert good is not None
        words += ["--good", good.commit, "--bad", now.commit]
    return tuple(words)


class Cause(NamedTuple):
    patch: str  # or a commit
    told: str  # one line


def verdict(
    kind: BisectKind, found: Found, now: KernelInput, good: KernelInput | None
) -> Cause | None:
    """None when what it found does not explain the failure."""
    several = f" (one of {len(found.culprits)})" if len(found.culprits) > 1 else ""
    name = found.culprits[0]
    if kind is BisectKind.THEIRS:
        assert good is not None
        same = now.patches.get(name)
        if not found.before.fails or same == good.patches.get(name):
            return None
        what = "is gone" if same is None else "has changed"
        return Cause(name, f"it passed with it, which {what}{several}")
    if not found.after.fails:
        return None
    return Cause(name, f"it begins to fail with it{several}")


def worth(
    rows: Sequence[Row], kernels: Mapping[tuple[str, str], KernelInput], jobs: Mapping[str, Job]
) -> tuple[Row, ...]:
    """Some ways of failing of each kernel on an architecture, of each the row with the shortest
    order: others that fail alike have the same cause. Scripts have no order to bisect by."""
    best: dict[tuple[str, str, str], Row] = {}
    for row in rows:
        job = jobs[row.job]
        bisectable = row.kind is CaseKind.ORDER and retry.words(job, row)
        if not bisectable or (job.kernel, job.arch) not in kernels:
            continue
        key = (job.kernel, job.arch, row.symptom)
        if key not in best or len(row.order) < len(best[key].order):
            best[key] = row
    chosen: Counter[tuple[str, str]] = Counter()
    found = []
    for (kernel, arch, _), row in sorted(best.items(), key=lambda each: len(each[1].order)):
        chosen[kernel, arch] += 1
        if chosen[kernel, arch] <= OF_A_KERNEL:
            found.append(row)
    return tuple(found)


def likely(
    rows: Sequence[Row], blames: Sequence[Blame], jobs: Mapping[str, Job]
) -> tuple[Blame, ...]:
    """The blame for those that were not bisected themselves, where the bisects of their kernel on
    their architecture agree."""
    culprits: dict[tuple[str, str], set[str]] = {}
    for blame in blames:
        job = jobs[blame.job]
        culprits.setdefault((job.kernel, job.arch), set()).add(blame.patch)
    blamed = {(blame.job, blame.case) for blame in blames}
    found = []
    for row in rows:
        job = jobs[row.job]
        patches = culprits.get((job.kernel, job.arch), set()) - {""}
        if (row.job, row.case) not in blamed and len(patches) == 1:
            (patch,) = patches
            told = "by the bisects of what else fails on this kernel"
            found.append(Blame(row.job, row.case, patch, told, ""))
    return tuple(found)


def shared(blame: Blame, row: Row, rows: Sequence[Row], jobs: Mapping[str, Job]) -> list[Blame]:
    """The blame for this row and for all that fail alike."""
    mine = jobs[row.job]
    return [
        Blame(each.job, each.case, blame.patch, blame.told, blame.directory)
        for each in rows
        if each.symptom == row.symptom
        and (jobs[each.job].kernel, jobs[each.job].arch) == (mine.kernel, mine.arch)
    ]
