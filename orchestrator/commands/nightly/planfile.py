# SPDX-License-Identifier: GPL-2.0-only
"""The plan of a night for machines: `nightly --dry-run --json`.

Each job by its name, which is the same tomorrow and on another machine: whoever has machines
to give (a CI service, a batch system) hands jobs out by it, `nightly --only NAME`.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from orchestrator.build import toolchain
from orchestrator.build.configs import configured
from orchestrator.cli import options
from orchestrator.cli.version import version
from orchestrator.commands.nightly import resources, work
from orchestrator.commands.nightly.work import NightOptions, Planned
from orchestrator.history.nights import Job, JobKind
from orchestrator.nouns import Accel

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Needs:
    """What a machine has to have for a job."""

    arch: str  # the guest's
    memory: int  # bytes that its guest takes, QEMU included; 0: it has none
    compilers: tuple[str, ...]  # programs
    accel: str  # auto, kvm or tcg


@dataclass(frozen=True, slots=True)
class PlannedJob:
    name: str
    cell: str  # one kernel on one architecture: its jobs share a build, on one machine
    kind: JobKind
    kernel: str
    arch: str
    what: str
    command: tuple[str, ...]  # the words after klp-e2e, but for -o
    needs: Needs
    after: tuple[str, ...]  # names of the jobs that it waits for; --only takes them along
    seconds: float  # that it is expected to take; 0: nothing is to be done
    why: str  # why it has its place in the plan
    no_time: bool  # the night's budget is up before its turn, on this machine alone


@dataclass(frozen=True, slots=True)
class PlanDocument:
    schema: int
    tool: str  # klp-e2e's version: parts of another cannot be merged
    digest: str  # of the file and what it names, the same wherever they lie: likewise
    budget: float  # seconds
    guests: int  # side by side, on this machine
    cells: tuple[str, ...]  # of all jobs, each once
    jobs: tuple[PlannedJob, ...]  # in the order in which they are begun


def text(planned: Planned, wanted: NightOptions) -> str:
    """One JSON document. Raises UsageError."""
    found = tuple(_planned(job, planned) for job in planned.jobs)
    made = PlanDocument(
        schema=SCHEMA,
        tool=version(),
        digest=work.digest_of(wanted),
        budget=options.seconds(wanted.config.budget),
        guests=wanted.guests,
        cells=tuple(dict.fromkeys(job.cell for job in found)),
        jobs=found,
    )
    return json.dumps(asdict(made), indent=2)


def _planned(job: Job, planned: Planned) -> PlannedJob:
    return PlannedJob(
        name=job.name,
        cell=job.name.rpartition("/")[0],
        kind=job.kind,
        kernel=job.kernel,
        arch=job.arch,
        what=job.what,
        command=job.command,
        needs=_needs(job),
        after=_after(job, planned.jobs),
        seconds=float(job.estimate),
        why=job.why,
        no_time=job.name in planned.left_out,
    )


def _needs(job: Job) -> Needs:
    (arch,) = options.arches((job.arch_spec,))
    arch = configured(options.with_toolchain(arch, job.toolchain), job.configs)
    compilers = (toolchain.compiler(arch), toolchain.compiler(toolchain.agents(arch)))
    build = job.kind is JobKind.BUILD
    accels = (value for name, value in itertools.pairwise(job.command) if name == "--accel")
    return Needs(
        arch=job.arch,
        memory=0 if build else (arch.memory_mb << 20) + resources.BESIDE,
        compilers=tuple(dict.fromkeys(compilers)),
        accel=next(accels, str(Accel.AUTO)),
    )


def _after(job: Job, found: Sequence[Job]) -> tuple[str, ...]:
    if job.kind is JobKind.BUILD:
        return ()
    return tuple(
        each.name
        for each in found
        if each.kind is JobKind.BUILD and (each.kernel, each.arch) == (job.kernel, job.arch)
    )
