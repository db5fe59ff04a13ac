# SPDX-License-Identifier: GPL-2.0-only
"""What should be, what is, and what follows from it, as frozen values. No behaviour, no I/O.

From `Expectation` (the model's) and `Observation` (the guest's) to `Check`, `Step`, `CaseResult`
and `Run`. Addresses are guest-virtual unsigned 64-bit integers; errnos are positive, 0 for success.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from orchestrator.nouns import Case, Kernel, KlpRelocation, KlpSymbol, Origin

# --- what should be, what is -------------------------------------------------------------------


class RelocationState(StrEnum):
    """What must hold at every klp relocation of one (livepatch, object) pair."""

    UNRELOCATED = "unrelocated"  # as in the .ko file: never applied, or cleared again
    APPLIED = "applied"  # resolves to the symbol at its present address
    STALE = "stale"  # object gone, what was written may stay: as last read, or unrelocated
    INDETERMINATE = "indeterminate"  # applied and undone within this event, and this kernel leaves
    # it: nobody read those bytes while the object was there, so any are right, and STALE

    @classmethod
    def _missing_(cls, value: object) -> RelocationState | None:
        """As an older klp-e2e called them in its results."""
        old = {"pristine": cls.UNRELOCATED, "left": cls.STALE, "written": cls.INDETERMINATE}
        return old.get(value) if isinstance(value, str) else None


@dataclass(frozen=True, slots=True)
class PatchState:
    """/sys/kernel/livepatch/NAME"""

    enabled: bool
    transition: bool
    objects: Mapping[str, bool]  # object -> patched
    functions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    # object -> its directories "NAME,sympos", sorted


@dataclass(frozen=True, slots=True)
class Expectation:
    """What the model says must hold after one event."""

    answers: tuple[int, ...]  # errno of each plain event carried out, in the order written
    modules: frozenset[str]  # loaded, of the set's modules
    patches: Mapping[str, PatchState]
    probes: Mapping[str, str | None]  # probe name -> text, None: the file is absent; one is missing
    # here when events at the same time may have made it show this or that
    relocations: Mapping[tuple[str, str], RelocationState]  # (loaded livepatch, object)
    why: str = ""  # one line, for `klp-e2e orders`
    warnings: tuple[str, ...] = ()  # of the kernel's, when all probes have been asked: each as
    # `kernelreports.warning` has it, sorted


@dataclass(frozen=True, slots=True)
class RelocationReading:
    """One klp relocation as it stands in guest memory."""

    livepatch: str
    relocation: KlpRelocation
    type_name: str
    address: int  # of the field
    raw: bytes  # the field's bytes now, as many as in `relocation.initial`
    leads_to: int | None  # decoded address, through GOT slot or stub; None: unreadable
    via: str  # "", "got 0x...", "plt 0x..."
    symbol_address: int | None  # where the symbol is now; None while its object is not loaded
    beside: str  # what is not as an applied relocation has it, besides where it leads; "": nothing
    places: tuple[int, ...] = ()  # where the symbol was, now and at earlier loads of its module, as
    # far as they were seen, since the field was first written: see `model.places`
    said: str = ""  # what of an address its type says, "the page", "bits 11..0"; "": all of it


@dataclass(frozen=True, slots=True)
class Growth:
    """What a burst did to the guest's memory in use, in bytes, between two rounds of it."""

    rounds: int  # from the first reading to the last
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Observation:
    """What the guest showed after one event."""

    answers: tuple[int, ...]  # errno of each plain event carried out, in the order written
    modules: frozenset[str]
    patches: Mapping[str, PatchState]
    probes: Mapping[str, str | None]
    relocations: tuple[RelocationReading, ...]
    taint: int  # /proc/sys/kernel/tainted
    console: str  # what the console printed during the event
    qmp_events: tuple[str, ...] = ()  # name, or name and reason: "SHUTDOWN guest-reset"
    reports: tuple[str, ...] = ()  # kernelreports.reports() of that text
    frames: tuple[str, ...] = ()  # kernelreports.frames() of that text
    fault: int | None = None  # kernelreports.fault() of that text
    refusals: tuple[str, ...] = ()  # kernelreports.refusals() of that text
    crash: str | None = None  # kernelreports.crash_title() of that text
    warnings: tuple[str, ...] = ()  # those of the functions that are to warn; not in what is above
    seconds: float = 0.0  # the event itself
    readback_seconds: float = 0.0
    growth: Growth | None = None  # of a burst that is long enough


# --- verdicts ----------------------------------------------------------------------------------


class CheckKind(StrEnum):
    ANSWER = "answer"
    VALUE = "value"
    SYSFS = "sysfs"
    RELOCATION = "relocation"
    HEALTH = "health"


@dataclass(frozen=True, slots=True)
class Answers:
    """What a check of an event's answer compared: errno of each plain event that was carried out,
    in the order written."""

    expected_errnos: tuple[int, ...]
    seen_errnos: tuple[int, ...]
    said: tuple[str, ...] = ()  # where one is wrong: what livepatch or the module loader refused

    @property
    def wrong(self) -> tuple[int, ...]:
        """Indices from 0 of those that differ."""
        pairs = zip(self.expected_errnos, self.seen_errnos, strict=True)
        return tuple(index for index, (one, other) in enumerate(pairs) if one != other)


@dataclass(frozen=True, slots=True)
class Reading:
    """What a check of a klp relocation compared. Bytes in hexadecimal, parted by blanks."""

    livepatch: str
    object: str  # whose loading has it written
    section: str
    offset: int  # bytes from the section's start
    type: str  # name of the relocation type
    symbol: KlpSymbol
    state: RelocationState  # what was promised
    raw: str  # as seen
    initial: str  # in the .ko
    before: str  # after the event before, where that is promised; else ""
    hop: str  # "got", "plt": what it leads through; "": nothing
    hop_address: int | None
    resolves_to: int | None  # None: unreadable
    symbol_address: int | None  # None: its module is not loaded
    beside: str  # what else is not as an applied relocation has it
    earlier: tuple[int, ...] = ()  # of what leads through a hop: where the symbol was before this
    # event, as far as it was seen, since the field was first written
    address: int | None = None  # of the field; None: an older klp-e2e did not write it down
    said: str = ""  # what of an address its type says; the rest of `resolves_to` is the symbol's


@dataclass(frozen=True, slots=True)
class Unread:
    """Of a livepatch that should be loaded, and is not, no relocation can be read."""

    livepatch: str
    object: str


@dataclass(frozen=True, slots=True)
class Shown:
    """What a check of a probe compared; None: there is no file."""

    probe: str
    expected_text: str | None
    seen_text: str | None


@dataclass(frozen=True, slots=True)
class Modules:
    """What a check of the loaded modules compared, those of the set."""

    expected_modules: tuple[str, ...]
    seen_modules: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Patched:
    """What a check of /sys/kernel/livepatch/NAME compared; None: it is not there. `livepatch` is ""
    of the directory above where both are empty."""

    livepatch: str
    expected_state: PatchState | None
    seen_state: PatchState | None


class Sign(StrEnum):
    """What a check of the guest's health looked at; the check is called so."""

    QMP = "QMP events"
    CONSOLE = "console"
    TAINT = "taint"
    LIVEPATCH_TAINT = "taint of livepatches"
    MEMORY = "memory"
    LEAKS = "kmemleak"
    WARNINGS = "warnings of the set's own"
    GUEST = "guest"  # it lives


@dataclass(frozen=True, slots=True)
class Health:
    """What a check of the guest's health found."""

    sign: Sign
    reports: tuple[str, ...] = ()  # of the kernel or of QMP: titles, first lines, events
    frames: tuple[
        str, ...
    ] = ()  # FUNCTION, or FUNCTION [MODULE], of the first report, inmost first
    fault: int | None = None  # the address that it says could not be accessed, or was executed
    silent: bool = False  # the guest does not answer, which proves nothing
    promised: tuple[str, ...] = ()  # warnings of the set's own functions that had to be
    warned: tuple[str, ...] = ()  # those that there were


Detail = Answers | Reading | Unread | Shown | Modules | Patched | Health


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was promised and compared: in words, as `model.words` has them, and what the
    words are made of (None in results of an older klp-e2e, and of the kernel's own scripts)."""

    kind: CheckKind
    subject: str
    expected: str
    seen: str
    good: bool
    detail: Detail | None = None


class Status(StrEnum):
    """A case's result. It starts as ERROR and is earned."""

    PASS = "PASS"
    FAIL = "FAIL"
    FLAKY = "FLAKY"  # failed, and passed when a night tried it again from a cold boot
    KNOWN = "KNOWN"
    FIXED = "FIXED"  # listed in known-issues.toml, yet it passes
    ERROR = "ERROR"
    SKIP = "SKIP"

    @property
    def wrong(self) -> bool:
        """The kernel, or the list of known issues, is wrong."""
        return self in (Status.FAIL, Status.FLAKY, Status.FIXED)

    @property
    def bad(self) -> bool:
        """Somebody has to look: something is wrong, or did not get its verdict."""
        return self.wrong or self is Status.ERROR

    @property
    def rank(self) -> int:
        """0 is the worst: the order in which statuses are listed and failures are shown."""
        return WORST_FIRST.index(self)

    @property
    def letter(self) -> str:
        """One character, where there is room for one; no two have the same."""
        return _LETTERS[self]


WORST_FIRST = (
    *(Status.FAIL, Status.FLAKY, Status.FIXED, Status.ERROR),
    *(Status.KNOWN, Status.SKIP, Status.PASS),
)
_LETTERS: Mapping[Status, str] = {
    Status.PASS: ".",
    Status.FAIL: "F",
    Status.FLAKY: "~",
    Status.KNOWN: "k",
    Status.FIXED: "!",
    Status.ERROR: "E",
    Status.SKIP: "-",
}


def by_status(statuses: Iterable[Status]) -> Mapping[Status, int]:
    """Status -> how often it occurs; those that do not occur are left out; worst first."""
    found = Counter(statuses)
    return {status: found[status] for status in WORST_FIRST if found[status]}


@dataclass(frozen=True, slots=True)
class Step:
    """One event with everything checked after it."""

    event: str  # in order notation
    checks: tuple[Check, ...]
    seconds: float
    readback_seconds: float
    relocations_read: int

    @property
    def good(self) -> bool:
        return bool(self.checks) and all(c.good for c in self.checks)


@dataclass(frozen=True, slots=True)
class Proof:
    """How much was seen to work, beyond refusals."""

    events: int = 0  # plain events that succeeded
    patched: int = 0  # times that an object came to be patched by a livepatch
    relocations: int = 0  # times that a klp relocation was read back applied, and right

    def __str__(self) -> str:
        return (
            f"{self.events} events succeeded, {self.patched} objects patched, "
            f"{self.relocations} relocations read back applied"
        )


NO_PROOF = Proof()


def proof(steps: Iterable[Step]) -> Proof:
    """Of the steps of one case."""
    events = patched = relocations = 0
    before: set[tuple[str, str]] = set()
    for step in steps:
        now: set[tuple[str, str]] = set()
        for check in step.checks:
            match check.detail:
                case Answers(seen_errnos=errnos):
                    events += errnos.count(0)
                case Reading(state=RelocationState.APPLIED) if check.good:
                    relocations += 1
                case Patched(livepatch=name, seen_state=PatchState(objects=objects)):
                    now |= {(name, each) for each, on in objects.items() if on}
        patched += len(now - before)
        before = now
    return Proof(events, patched, relocations)


def proofs(results: Iterable[CaseResult]) -> Proof:
    """Of many cases together."""
    found = [proof(result.steps) for result in results]
    return Proof(
        events=sum(each.events for each in found),
        patched=sum(each.patched for each in found),
        relocations=sum(each.relocations for each in found),
    )


@dataclass(frozen=True, slots=True)
class CaseResult:
    case: Case
    arch: str
    status: Status = Status.ERROR
    reason: str = "did not run"
    steps: tuple[Step, ...] = ()
    known_issue: str = ""  # id in known-issues.toml, or what this kernel does not check
    reproduce: str = ""  # the line that reproduces it
    console: str = ""
    dmesg: str = ""
    qemu_argv: tuple[str, ...] = ()
    seconds: float = 0.0
    cold: bool = False  # booted for this case, not restored from a snapshot
    disassembly: str = ""  # around a relocation that was found wrong
    culprit: str = ""  # what of the module set is likelier wrong than the kernel; then it is ERROR

    def first_failure(self) -> tuple[int, Step, Check] | None:
        """(index of the event from 0, step, check) of the first check that failed."""
        for index, step in enumerate(self.steps):
            for check in step.checks:
                if not check.good:
                    return index, step, check
        return None


@dataclass(frozen=True, slots=True)
class GuestRecord:
    """One guest's life, in seconds."""

    arch: str
    accel: str  # kvm or tcg
    ready_seconds: float  # from the start of QEMU until the guest answered
    alive_seconds: float  # until QEMU had ended
    ended_by: str  # the rung of the shutdown ladder
    started: float  # seconds since the epoch
    memory: int = 0  # bytes, QEMU's at its largest
    disk: int = 0  # bytes that its snapshots took at the end


class RunKind(StrEnum):
    """What a run is: the command of klp-e2e that began it."""

    ORDERS = "run"
    KSELFTEST = "kselftest"
    MALFORMED = "malformed"
    EXPLORE = "explore"
    ABLATE = "ablate"
    MUTATE = "mutate"
    BISECT = "bisect"
    PORT = "port"


@dataclass(frozen=True, slots=True)
class Run:
    """What one `klp-e2e run` was asked for and what it ran on; its results are CaseResults."""

    command: tuple[str, ...]  # argv as typed, [0] the program's path
    started: float  # seconds since the epoch
    source: str  # kernel source as asked for: debian:6.1
    series: tuple[str, ...]  # as asked for; empty: the bare kernel
    planned: int  # cases planned over all architectures
    finished: float | None = None  # None: still running, or killed
    resumed: float | None = None  # when it was gone on with the last time, if it was
    kernels: tuple[Kernel, ...] = ()
    host: str = ""  # one line: system, machine, cores, memory
    qemu: Mapping[str, str] = field(default_factory=dict)  # architecture -> version line
    options: Mapping[str, str | int | bool] = field(default_factory=dict)  # further options that
    # mattered
    strict: bool = False  # KNOWN counts as FAIL
    guests: tuple[GuestRecord, ...] = ()  # every guest that has ended so far
    trouble: str = ""  # why the run ended before all planned cases had run
    trouble_exit: int = 0  # the exit code that goes with it; 0: there was none, or it is not known
    unbuilt: Mapping[str, str] = field(default_factory=dict)  # architecture -> why it has no kernel
    arch_files: Mapping[str, str] = field(default_factory=dict)  # name -> file, of those not ours
    known_issues: tuple[str, ...] = ()  # files of known issues, beside our own list
    inputs: Mapping[str, str] = field(default_factory=dict)  # what else it runs, and on what -> its
    # digest: who goes on with it must have the same
    kind: RunKind | None = None  # None: an older klp-e2e did not write it down
    configs: tuple[str, ...] = ()  # as asked for, on top of each architecture's own
    toolchain: str = ""  # as asked for; "": each architecture's own
    tool: str = ""  # klp-e2e's version; "": an older one did not write it down
    own_sets: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # architecture -> path
    # of a module set that is not ours -> digest of what it holds, the same wherever it lies
    host_name: str = ""  # what the machine is called; "": an older klp-e2e did not write it down
    host_kind: str = ""  # its CPU and cores: times compare among machines of one kind
    origins: Mapping[str, Origin] = field(default_factory=dict)  # path of a module set whose
    # livepatch was built of source patches -> of which, and by whom

    def option(self, name: str, default: str = "") -> str:
        """One of `options` as text."""
        return str(self.options.get(name, default))

    @property
    def exact_source(self) -> str:
        """The source; of a branch in git the commit, once a kernel has been made of it."""
        return next((kernel.source for kernel in self.kernels), self.source)

    def arch_spec(self, name: str) -> str:
        """An architecture of this run as `--arch` takes it: its file, or its name if it is ours."""
        return self.arch_files.get(name, name)
