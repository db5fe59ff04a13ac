# SPDX-License-Identifier: GPL-2.0-only
"""The words of the house as frozen values (DESIGN.md, "The words"). No behaviour, no I/O.

Addresses are guest-virtual unsigned 64-bit integers. Paths are on the host unless a docstring says
"in the guest". Errnos are positive numbers, 0 for success.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Literal

# --- architectures (orchestrator/arches/NAME.toml) ---------------------------------------------


@dataclass(frozen=True, slots=True)
class RelocationType:
    """How to read back one relocation type; a row of an architecture file's table.

    The field's content, decoded, must lead to symbol + addend. Sources: the psABI of the
    architecture and its `apply_relocate_add()` (arch/*/kernel/module*.c).
    """

    name: str  # as binutils' readelf prints it
    number: int  # ELF64_R_TYPE
    bits: int  # field width in bits, a multiple of 8
    shift: int = 0  # the stored value is (target >> shift)
    pc_relative: bool = False  # the stored value is relative to the field's own address
    signed: bool = False  # sign-extend when decoding; pc-relative fields are always signed
    leads_to: Literal["symbol", "got", "plt"] = "symbol"  # symbol itself, GOT slot, or PLT stub
    emitted_for: tuple[str, ...] = ()  # which C constructs make gcc emit it into a livepatch


@dataclass(frozen=True, slots=True)
class Stub:
    """Where a PLT stub keeps the address it jumps to. A relocation type with leads_to="plt" may
    lead straight to the symbol or to such a stub inside the livepatch's own memory."""

    address_offset: int  # bytes from the stub's start to the target address
    size: int  # bytes of the whole stub


@dataclass(frozen=True, slots=True)
class Arch:
    """Everything that differs between architectures. Loaded by `catalog` from TOML."""

    name: str  # ours, and Debian's gnu triplet's cpu part: x86_64, s390x
    kernel_arch: str  # make ARCH=
    tuxmake_arch: str  # tuxmake --target-arch
    cross_compile: str  # make CROSS_COMPILE=, "" where the host's own compiler serves
    image_target: str  # make target of the bootable image
    image_path: str  # that image, relative to the build directory
    debian_arch: str  # for the guest's userland
    elf_machine: int  # e_machine
    byte_order: Literal["little", "big"]
    qemu: str  # QEMU system emulator's program name
    machine: str  # -machine
    cpu: str  # -cpu under TCG
    cpu_kvm: str  # -cpu under KVM
    kvm_host: str  # platform.machine() of a host on which KVM can serve
    memory_mb: int
    cpus: int
    console: str  # kernel console= parameter
    cmdline: str  # further kernel parameters
    qemu_args: tuple[str, ...]  # further QEMU arguments
    network_device: str  # -device name of the virtio network card
    rng_device: str
    serial_device: str  # -device name of the virtio serial bus
    time_scale: float  # how much slower than native TCG is here; multiplies every guest deadline
    packages: tuple[str, ...]  # Debian packages the host needs
    relocations: tuple[RelocationType, ...]
    stub: Stub | None = None

    def relocation(self, number: int) -> RelocationType | None:
        """The table's row for an ELF64_R_TYPE, None when the table lacks it."""
        return next((r for r in self.relocations if r.number == number), None)


# --- module sets (images/modules/SET/set.toml) -------------------------------------------------


@dataclass(frozen=True, slots=True)
class Failure:
    """A module parameter that makes something fail: N means "fail with errno N", 0 "do not"."""

    parameter: str
    at: Literal["init", "pre_patch"]


@dataclass(frozen=True, slots=True)
class ModuleSpec:
    """One module of a set."""

    name: str  # KBUILD_MODNAME, with "_"
    kind: Literal["target", "livepatch", "plain"]
    patches: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    # livepatch: object ("vmlinux" or module name) -> functions it replaces
    replace: bool = False  # livepatch: klp_patch.replace
    klp_symbols: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    # livepatch: object -> "NAME" or "NAME,sympos" to turn into klp symbols; "auto" = every
    # undefined symbol which that object's .ko defines
    failures: tuple[Failure, ...] = ()
    parameters: tuple[str, ...] = ()  # writable at run time or at load


@dataclass(frozen=True, slots=True)
class Probe:
    """A file in the guest that runs a patched function and shows what it read.

    `original` is its text while no livepatch replaces `function`; `patched[L]` while livepatch L's
    version is on top. Lines are compared exactly, after stripping trailing white space.
    `{cmdline}` in a text stands for the guest's boot command line.
    """

    name: str
    file: str  # in the guest
    object: str  # the file exists while this module is loaded; "vmlinux": always
    function: str  # the patched function whose version it shows
    original: str
    patched: Mapping[str, str] = field(default_factory=dict)
    at: Literal["now", "init"] = "now"  # init: what the object's own init saw, not what is now


@dataclass(frozen=True, slots=True)
class ModuleSet:
    name: str
    description: str
    modules: tuple[ModuleSpec, ...]
    probes: tuple[Probe, ...]
    directory: Path  # holds set.toml and the C sources
    in_tree: str = ""  # instead of own sources: a directory of the kernel tree with built modules

    def module(self, name: str) -> ModuleSpec | None:
        return next((m for m in self.modules if m.name == name), None)


# --- orders ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Load:
    """`+M` or `+M[param=value,...]`"""

    module: str
    parameters: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Unload:
    """`-M`"""

    module: str


@dataclass(frozen=True, slots=True)
class SetEnabled:
    """`M=0` / `M=1`: write to /sys/kernel/livepatch/M/enabled"""

    module: str
    enabled: bool


@dataclass(frozen=True, slots=True)
class SetParameter:
    """`M.param=value`: write to /sys/module/M/parameters/param"""

    module: str
    parameter: str
    value: str


Event = Load | Unload | SetEnabled | SetParameter


@dataclass(frozen=True, slots=True)
class Order:
    events: tuple[Event, ...]


# --- kernels and built modules -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Kernel:
    """A finished build. `directory` is content-addressed by `key` and never changes."""

    key: str  # hex digest of source, series, config, architecture, compiler
    arch: str
    source: str  # as written: debian:6.1
    source_version: str  # as recorded: 6.1.192-2
    series: tuple[str, ...]  # names, in the order applied; empty for the bare kernel
    release: str  # make kernelrelease
    version: tuple[int, int]  # (6, 1)
    compiler: str  # first line of gcc --version
    directory: Path
    image: Path
    system_map: Path
    config: Path
    build_tree: Path  # O= directory, for building modules against
    source_tree: Path
    capabilities: frozenset[str] = frozenset()
    objects: int = 0  # files compiled by a cold build


@dataclass(frozen=True, slots=True)
class KlpSymbol:
    """`.klp.sym.OBJECT.NAME,SYMPOS` (Documentation/livepatch/module-elf-format.rst)"""

    object: str
    name: str
    sympos: int

    def __str__(self) -> str:
        return f"{self.object}:{self.name},{self.sympos}"


@dataclass(frozen=True, slots=True)
class KlpRelocation:
    """One entry of a `.klp.rela.OBJECT.SECTION` section."""

    object: str
    section: str  # name of the section it applies to: .text, .data.rel.ro
    offset: int  # bytes from that section's start
    type: int
    symbol: KlpSymbol
    addend: int
    initial: bytes  # the field's bytes in the .ko file


@dataclass(frozen=True, slots=True)
class BuiltModule:
    """A .ko as the guest loads it, with what a reader needs to check it in memory."""

    spec: ModuleSpec
    path: Path
    klp_relocations: tuple[KlpRelocation, ...]
    symbols: Mapping[str, tuple[tuple[str, int], ...]]
    # name -> (section name, offset) of each definition, in symbol-table order (sympos counts it)


@dataclass(frozen=True, slots=True)
class BuiltSet:
    set: ModuleSet
    modules: Mapping[str, BuiltModule]  # by module name


# --- what should be, what is -------------------------------------------------------------------


class RelocationState(StrEnum):
    """What must hold at every klp relocation of one (livepatch, object) pair."""

    PRISTINE = "pristine"  # as in the .ko file: never applied, or cleared again
    APPLIED = "applied"  # leads to the symbol at its present address
    LEFT = "left"  # object gone, this kernel may leave what it wrote: as last read, or as PRISTINE
    WRITTEN = "written"  # applied and given up again within this event, and this kernel leaves it:
    # nobody read those bytes while the object was there, so any are right, and LEFT from now on


@dataclass(frozen=True, slots=True)
class PatchState:
    """/sys/kernel/livepatch/NAME"""

    enabled: bool
    transition: bool
    objects: Mapping[str, bool]  # object -> patched


@dataclass(frozen=True, slots=True)
class Expectation:
    """What the model says must hold after one event."""

    errno: int
    modules: frozenset[str]  # loaded, of the set's modules
    patches: Mapping[str, PatchState]
    probes: Mapping[str, str | None]  # probe name -> text, None: the file is absent
    relocations: Mapping[tuple[str, str], RelocationState]  # (loaded livepatch, object)
    why: str = ""  # one line, for `klp-e2e orders`


@dataclass(frozen=True, slots=True)
class RelocationReading:
    """One klp relocation as it stands in guest memory."""

    livepatch: str
    relocation: KlpRelocation
    type_name: str
    address: int  # of the field
    raw: bytes  # the field's bytes now
    leads_to: int | None  # decoded address, through GOT slot or stub; None: unreadable
    via: str  # "", "got 0x...", "plt 0x..."
    symbol_address: int | None  # where the symbol is now; None while its object is not loaded


@dataclass(frozen=True, slots=True)
class Observation:
    """What the guest showed after one event."""

    errno: int
    modules: frozenset[str]
    patches: Mapping[str, PatchState]
    probes: Mapping[str, str | None]
    relocations: tuple[RelocationReading, ...]
    taint: int  # /proc/sys/kernel/tainted
    console: str  # what the console printed during the event
    qmp_events: tuple[str, ...] = ()  # name, or name and reason: "SHUTDOWN guest-reset"
    complaints: tuple[str, ...] = ()  # console.complaints() of that text
    crash: str | None = None  # console.crash_title() of that text
    seconds: float = 0.0  # the event itself
    readback_seconds: float = 0.0


# --- verdicts ----------------------------------------------------------------------------------


class CheckKind(StrEnum):
    ANSWER = "answer"
    VALUE = "value"
    SYSFS = "sysfs"
    RELOCATION = "relocation"
    HEALTH = "health"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was promised and compared."""

    kind: CheckKind
    subject: str
    expected: str
    seen: str
    good: bool


class Status(StrEnum):
    """A case's result. It starts as ERROR and is earned."""

    PASS = "PASS"
    FAIL = "FAIL"
    KNOWN = "KNOWN"
    FIXED = "FIXED"  # listed in known-issues.toml, yet it passes
    ERROR = "ERROR"
    SKIP = "SKIP"


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
class Case:
    """What is to be run: an order of a module set, with the name the suite gives it."""

    name: str
    module_set: str
    order: Order
    why: str = ""  # what this order is there to catch


@dataclass(frozen=True, slots=True)
class CaseResult:
    case: Case
    arch: str
    status: Status = Status.ERROR
    reason: str = "did not run"
    steps: tuple[Step, ...] = ()
    known_issue: str = ""  # id in known-issues.toml
    reproduce: str = ""  # the line that reproduces it
    console: str = ""
    dmesg: str = ""
    qemu_argv: tuple[str, ...] = ()
    seconds: float = 0.0
    cold: bool = False  # booted for this case, not restored from a snapshot

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


@dataclass(frozen=True, slots=True)
class Run:
    """What one `klp-e2e run` was asked for and what it ran on; its results are CaseResults."""

    command: tuple[str, ...]  # argv as typed, [0] the program's path
    started: float  # seconds since the epoch
    source: str  # kernel source as asked for: debian:6.1
    series: tuple[str, ...]  # as asked for; empty: the bare kernel
    planned: int  # cases planned over all architectures
    finished: float | None = None  # None: still running, or killed
    kernels: tuple[Kernel, ...] = ()
    host: str = ""  # one line: system, machine, cores, memory
    qemu: Mapping[str, str] = field(default_factory=dict)  # architecture -> version line
    options: Mapping[str, str] = field(default_factory=dict)  # further options that mattered
    strict: bool = False  # KNOWN counts as FAIL
    guests: tuple[GuestRecord, ...] = ()  # every guest that has ended so far
    trouble: str = ""  # why the run ended before all planned cases had run
