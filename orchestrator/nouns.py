# SPDX-License-Identifier: GPL-2.0-only
"""The words of the house as frozen values (DESIGN.md, "The words"). No behaviour, no I/O.

Addresses are guest-virtual unsigned 64-bit integers. Paths are on the host unless a docstring says
"in the guest". Errnos are positive numbers, 0 for success.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Literal

# --- architectures (orchestrator/arches/NAME.toml) ---------------------------------------------


@dataclass(frozen=True, slots=True)
class Behind:
    """What stands right behind a field, where apply_relocate_add() writes that as well: the bytes
    as hexadecimal digits, in the order in memory."""

    before: str  # what it demands there
    after: str  # what it puts there
    where: int = 0  # only where all these bits of the field are set: of a call, not of a jump


@dataclass(frozen=True, slots=True)
class RelocationType:
    """How to read back one relocation type; a row of an architecture file's table.

    The field's content, decoded, must lead to symbol + addend. Sources: the psABI of the
    architecture and its `apply_relocate_add()` (arch/*/kernel/module*.c).
    """

    name: str  # as binutils' readelf prints it
    number: int  # ELF64_R_TYPE
    bits: int  # field width in bits, a multiple of 8
    mask: int = 0  # those bits of the field that hold the value, in one run; 0: all of them
    shift: int = 0  # the stored value, where `mask` has it, is (target >> shift)
    pc_relative: bool = False  # the stored value is relative to the field's own address
    signed: bool = False  # sign-extend when decoding; pc-relative fields are always signed
    leads_to: Literal["symbol", "got", "plt"] = "symbol"  # symbol itself, GOT slot, or PLT stub
    emitted_for: tuple[str, ...] = ()  # which C constructs make gcc emit it into a livepatch
    behind: Behind | None = None


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
    by_default: bool = True  # whether a command takes it where none is named
    file: Path | None = None  # where it is described, when it is none of ours; not in the file

    def relocation(self, number: int) -> RelocationType | None:
        """The table's row for an ELF64_R_TYPE, None when the table lacks it."""
        return next((r for r in self.relocations if r.number == number), None)


# --- module sets (images/modules/SET/set.toml) -------------------------------------------------


@dataclass(frozen=True, slots=True)
class Failure:
    """A module parameter that makes something fail: N means "fail with errno N", 0 "do not"."""

    parameter: str
    at: Literal["init", "pre_patch"]
    object: str = ""  # pre_patch: of this object only; "": of each
    negative: bool = False  # it is returned as it is: -N is "fail with errno N", and N no failure

    def value(self, error: int) -> str:
        """What the parameter is set to, for failing with this errno."""
        return str(-error if self.negative else error)


@dataclass(frozen=True, slots=True)
class Defect:
    """Why the kernel refuses to patch an object with this livepatch: klp_init_object_loaded()
    fails, whatever it is told. Or, without an object, why it never loads this module."""

    object: str  # "": the module itself is refused
    errno: int
    written: bool  # its klp relocations are in place by then (a function is missing), or none is


@dataclass(frozen=True, slots=True)
class ModuleSpec:
    """One module of a set."""

    name: str  # KBUILD_MODNAME, with "_"
    kind: Literal["target", "livepatch", "plain"]
    patches: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    # livepatch: object ("vmlinux" or module name) -> functions it replaces, as in klp_symbols
    replace: bool = False  # livepatch: klp_patch.replace
    klp_symbols: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    # livepatch: object -> "NAME" or "NAME,sympos" to turn into klp symbols; "auto" = every
    # undefined symbol which that object's .ko defines; "MODULE:NAME": another module's symbol
    depends: tuple[str, ...] = ()  # modules of the set whose exported symbols it uses
    failures: tuple[Failure, ...] = ()
    defects: tuple[Defect, ...] = ()
    parameters: tuple[str, ...] = ()  # writable at run time or at load
    ko: str = ""  # a .ko that others built, relative to set.toml, "{arch}" in it standing for the
    # architecture's name; "": built from the set's own sources, or in the kernel's tree


@dataclass(frozen=True, slots=True)
class Probe:
    """A file to read or a command to run in the guest, which calls a patched function and shows
    what it did: one of the two.

    `original` is the text while no livepatch replaces `function`; `patched[L]` while livepatch L's
    version is on top. Lines are compared exactly, after stripping trailing white space.
    `{cmdline}` in a text stands for the guest's boot command line. A command's text is what it
    prints, on both streams, and a last line `exit status N` where it fails.

    Or a file of the livepatch `object` that records which callbacks were called for the object
    `function`, from the last pre_patch on: `original` before any call, else for each call the text
    that `patched` has for it ("pre_patch", ...), parted by blanks.
    """

    name: str
    object: str  # it shows something while this module is loaded; "vmlinux": always
    function: str  # the patched function whose version it shows
    original: str
    patched: Mapping[str, str] = field(default_factory=dict)
    file: str = ""  # in the guest
    command: str = ""  # for the guest's shell; not run while its object is away
    at: Literal["now", "init", "callbacks"] = "now"
    # init: what the object's own init saw, not what is now; callbacks: such a record


@dataclass(frozen=True, slots=True)
class ModuleSet:
    name: str
    directory: Path  # holds set.toml and the C sources
    modules: tuple[ModuleSpec, ...]
    description: str = ""
    probes: tuple[Probe, ...] = ()
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


Plain = Load | Unload | SetEnabled | SetParameter


@dataclass(frozen=True, slots=True)
class Race:
    """`{EVENT EVENT...}`: 2 to 4 events at the same time, each on a CPU of its own"""

    events: tuple[Plain, ...]


@dataclass(frozen=True, slots=True)
class Burst:
    """`(EVENT...)*TIMES`: the events one after another, 1 to 10000 times, checked at the end"""

    events: tuple[Plain, ...]
    times: int


Event = Plain | Race | Burst


@dataclass(frozen=True, slots=True)
class Order:
    events: tuple[Event, ...]


# --- kernels and built modules -----------------------------------------------------------------


MERGED = "@merged"  # behind a series: the source has it already


def series_prefix(spec: str) -> tuple[str, int | None]:
    """("S", 3) of "S@3", the first three patches of a series S; ("S", None) of "S", all of them.

    What a source has merged counts as what is applied to it: "S@merged" is ("S", None).
    """
    found = re.fullmatch(r"(.+)@(\d+)", merged(spec) or spec)
    return (found[1], int(found[2])) if found else (merged(spec) or spec, None)


def merged(spec: str) -> str:
    """ "S" of "S@merged", which nothing is applied for; "" of any other."""
    return spec.removesuffix(MERGED) if spec.endswith(MERGED) else ""


@dataclass(frozen=True, slots=True)
class Kernel:
    """A finished build. `directory` is content-addressed by `key` and never changes."""

    key: str  # hex digest of source, series, config, architecture, compiler
    arch: str
    source: str  # debian:6.1; of a branch in git its commit: git:REPO#COMMIT
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
    initial: bytes  # the field's bytes in the .ko file, and those that are written behind it


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


# --- cases --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Case:
    """What is to be run: an order of a module set, with the name the suite gives it."""

    name: str
    module_set: str
    order: Order
    why: str = ""  # what this order is there to catch


class Channel(StrEnum):
    """How to talk to a guest while events run."""

    AGENT = "agent"  # a virtio-serial port: lives through snapshots, milliseconds a request
    SSH = "ssh"  # a new connection after each restore
