# SPDX-License-Identifier: GPL-2.0-only
"""The words of nights: what was planned, what became of it, what changed. No behaviour, no I/O.

Times are seconds since the epoch, durations seconds. Paths are relative to the night's directory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from orchestrator.nouns import CaseKind
from orchestrator.verdicts import Status

# --- what a night does ---------------------------------------------------------------------------


class JobKind(StrEnum):
    """What a job is: the command of klp-e2e that does it."""

    BUILD = "build"
    SUITE = "run"
    KSELFTEST = "kselftest"
    MALFORMED = "malformed"
    EXPLORE = "explore"
    ABLATE = "ablate"


# Which job runs a case of which kind.
OF_CASES: Mapping[CaseKind, JobKind] = {
    CaseKind.ORDER: JobKind.SUITE,
    CaseKind.MALFORMED: JobKind.MALFORMED,
    CaseKind.SELFTEST: JobKind.KSELFTEST,
}


@dataclass(frozen=True, slots=True)
class Job:
    """One command of klp-e2e, for one kernel on one architecture."""

    name: str  # unique in a night, and a path: "debian-6.1+livepatch-reload/s390x/core"
    kind: JobKind
    kernel: str  # as it is named in reports: "debian:6.1 + livepatch-reload"
    source: str  # debian:6.1
    series: tuple[str, ...]  # empty: the bare kernel
    arch: str
    what: str  # "core", "explore basic callbacks"
    command: tuple[str, ...]  # the words after klp-e2e, but for -o
    estimate: float  # seconds it is expected to take
    why: str  # why it has its place in the plan: "failed last night"
    arch_spec: str = ""  # as --arch takes it: its name, or its file
    module_sets: tuple[str, ...] = ()  # those that it is told to take; empty: its command's own
    configs: tuple[str, ...] = ()  # of the kernel, on top of its architecture's
    toolchain: str = ""  # it is compiled with; "": its architecture's own


class State(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    ENDED = "ended"
    SKIPPED = "skipped"  # with a reason: the night's time was up


class Skip(StrEnum):
    """Why a job is not begun."""

    TIME = "time"  # the night's time is up: planned so
    SOURCE = "source"  # the kernel's source, or its series, cannot be had
    KERNEL = "kernel"  # its kernel was not built
    DISK = "disk"  # there is no room
    PART = "part"  # of a night merged of parts: none of these has it


@dataclass(frozen=True, slots=True)
class JobRecord:
    job: Job
    state: State = State.WAITING
    reason: str = ""  # why it was skipped, or what ended it early
    exit_code: int | None = None
    started: float | None = None
    finished: float | None = None
    skip: Skip | None = None  # of one that is SKIPPED
    host: str = ""  # the name of the machine that ran it; "": not recorded
    machine: str = ""  # its kind, within which durations compare: CPU, cores, accelerator; likewise


@dataclass(frozen=True, slots=True)
class Row:
    """One case of one job: an order, a script, a trial, or a finding of an exploration."""

    job: str  # Job.name
    case: str  # "basic/reload-moved"; unique in its job
    status: Status
    reason: str = ""
    symptom: str = ""  # the reason without addresses and times: the same for the same fault
    seconds: float = 0.0
    order: str = ""  # in order notation; empty where there is none
    why: str = ""  # what it is there to catch
    reproduce: str = ""  # one line for a shell
    directory: str = ""  # its files (console.log, dmesg, reproduce.sh); empty: none
    runs: int = 1  # how often it ran this night: a new failure is tried again
    failed: int = 0  # how often of these it failed
    relocations: int = 0  # read back
    within: str = ""  # of a finding: the case that walked into it; where that one ran and this one
    # is not there, it was not found again
    timed: bool = True  # its seconds compare with other nights': no boot in them, no budget
    kind: CaseKind | None = None  # None: it is no case that can be run alone, by the next two
    module_set: str = ""
    name: str = ""  # of the case in its set
    content: str = ""  # digest of what its module set holds, of one that is not ours


@dataclass(frozen=True, slots=True)
class KernelInput:
    """What one kernel of the night was made from, and what ran it."""

    kernel: str  # Job.kernel
    arch: str
    source_version: str  # 6.1.192-2
    release: str
    patches: Mapping[str, str]  # file name -> digest, in the order applied
    config: str  # the final .config, a copy in the night's directory; empty: not kept
    compiler: str
    qemu: str
    commit: str = ""  # its first 12 digits; "" where it does not come from git
    configs: tuple[str, ...] = ()  # on top of its architecture's


@dataclass(frozen=True, slots=True)
class Blame:
    """What the automatic bisect of a new failure found."""

    job: str
    case: str
    patch: str  # the patch's file name, or the commit; empty: it found none
    told: str  # one line
    directory: str


@dataclass(frozen=True, slots=True)
class Part:
    """Of a night that is run in several parts: which one this is, and of which whole."""

    only: tuple[str, ...]  # names of its jobs
    plan: tuple[Job, ...]  # every job of the whole night, in the file's order
    digest: str  # of the night's file and what it is judged by, the same wherever they lie


@dataclass(frozen=True, slots=True)
class Night:
    """night.json, and what the history keeps."""

    name: str  # the directory's: 2026-01-31-020000
    started: float
    finished: float | None  # None: under way, or killed
    tool: str  # klp-e2e's version
    host: str  # one line
    config: str  # the matrix's file
    budget: float | None  # seconds for the whole night
    jobs: tuple[JobRecord, ...] = ()
    kernels: tuple[KernelInput, ...] = ()
    rows: tuple[Row, ...] = ()
    blames: tuple[Blame, ...] = ()
    trouble: str = ""  # why it ended before everything had run
    interrupted: bool = False  # somebody ended it
    part: Part | None = None  # None: it is whole
    parts: tuple[str, ...] = ()  # names of those that it was merged of


class Verdict(StrEnum):
    """A night in one word, worst first; what the kernel does wrong comes before our own trouble."""

    NEW_FAILURES = "new failures"
    FAILING = "failing"
    TROUBLE = "trouble"  # something did not get its verdict
    GOOD = "good"


# --- what changed --------------------------------------------------------------------------------


class Change(StrEnum):
    """What a row is, measured by the nights before it; worst news first."""

    NEW_FAILURE = "new failure"
    NEW_TROUBLE = "new trouble"  # ERROR: ours or the machine's
    FLAKY = "flaky"  # failed and passed, within this night or, with this symptom, of late
    STILL_FAILING = "still failing"
    STILL_TROUBLE = "still in trouble"
    NEWLY_KNOWN = "newly known"  # passed, and is now wrong as the list of known issues has it
    NEWLY_SKIPPED = "newly skipped"
    GONE = "gone"  # ran last time, is not in this night's plan any more
    SLOWER = "slower"
    FIXED = "fixed"
    FASTER = "faster"
    NEW_CASE = "new case"


@dataclass(frozen=True, slots=True)
class PastResult:
    """A case in an earlier night."""

    night: str
    status: Status
    seconds: float = 0.0
    symptom: str = ""  # empty: none, or not kept
    timed: bool = True  # as in Row
    content: str = ""  # likewise
    machine: str = ""  # as in JobRecord


@dataclass(frozen=True, slots=True)
class Changed:
    change: Change
    row: Row  # of GONE: as it last was
    since: str  # the first night of those in a row in which it was so; this one, if that is new
    nights: int = 1  # how many these are, this one included
    last_good: str = ""  # the last night in which it passed; empty: never seen
    note: str = ""  # "4.2 s, usually 1.1 s", "failed in 3 of the last 30 nights"


@dataclass(frozen=True, slots=True)
class InputChange:
    """Something that went into the night and is not what it was."""

    kernel: str  # empty: it holds for all (host, klp-e2e)
    arch: str
    what: str  # "source version", "patch 0003-x.patch", "CONFIG_X", "compiler", "QEMU"
    before: str  # empty: was not there
    after: str  # empty: is not there any more


@dataclass(frozen=True, slots=True)
class Changes:
    """What this night tells that the one before it did not."""

    before: str  # name of the night it is compared with; empty: there is none
    changed: tuple[Changed, ...] = ()  # worst first
    inputs: tuple[InputChange, ...] = ()


@dataclass(frozen=True, slots=True)
class NightTotals:
    """One night as a point of a trend."""

    name: str
    started: float
    seconds: float | None  # None: it did not end
    counts: Mapping[Status, int] = field(default_factory=dict)
    relocations: int = 0  # read back in it
    verdict: Verdict | None = None  # None: an older klp-e2e did not write it down


@dataclass(frozen=True, slots=True)
class CaseHistory:
    """A case over the nights."""

    job: str
    case: str
    past: tuple[PastResult, ...]  # newest first; nights in which it was not there are left out
    versions: Mapping[str, str] = field(
        default_factory=dict
    )  # night -> its kernel's source version
