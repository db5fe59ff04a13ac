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
from typing import Annotated, Literal

from pydantic import Field

from orchestrator.errnos import Errno

# --- architectures (orchestrator/arches/NAME.toml) ---------------------------------------------

# The words of an architecture's file become arguments of make, QEMU, the compiler and a shell. What
# `catalog` reads keeps to these, whoever wrote it: nothing is taken for an option, a variable of
# make or two words, nothing names a file to QEMU or leads out of the build directory.
ArchName = Annotated[str, Field(pattern="^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
Word = Annotated[str, Field(pattern="^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$")]
Prefix = Annotated[
    str,
    Field(
        pattern="^((/[A-Za-z0-9_+-][A-Za-z0-9_.+-]*)*/)?[A-Za-z0-9_][A-Za-z0-9_.+-]*$|^$",
        max_length=1024,
    ),
]
_FILE = "[A-Za-z0-9_][A-Za-z0-9_.+-]*"
Inside = Annotated[str, Field(pattern=f"^({_FILE}/)*{_FILE}$", max_length=1024)]
Emulator = Annotated[str, Field(pattern="^qemu-system-[a-z0-9_]{1,40}$")]
Machine = Annotated[
    str,
    Field(
        pattern="^[A-Za-z0-9][A-Za-z0-9._-]*(,[a-z][a-z0-9._-]*=[A-Za-z0-9._-]+)*$",
        max_length=1024,
    ),
]
Cpu = Annotated[
    str,
    Field(
        pattern="^[A-Za-z0-9][A-Za-z0-9._+-]*(,[+-]?[A-Za-z0-9._-]+(=[A-Za-z0-9._+-]+)?)*$",
        max_length=1024,
    ),
]
_DEVICE = "(-[a-z]+)+(,[a-z][a-z0-9_-]*=(on|off|auto|true|false|[0-9]*))*$"
NetworkDevice = Annotated[str, Field(pattern=f"^virtio-net{_DEVICE}", max_length=1024)]
RngDevice = Annotated[str, Field(pattern=f"^virtio-rng{_DEVICE}", max_length=1024)]
SerialDevice = Annotated[str, Field(pattern=f"^virtio-serial{_DEVICE}", max_length=1024)]
Console = Annotated[str, Field(pattern="^[A-Za-z][A-Za-z0-9]*(,[0-9a-z]+)?$", max_length=64)]
Printable = Annotated[str, Field(pattern="^[ -~]*$", max_length=1024)]
# none ends in "-": apt would remove it
Package = Annotated[str, Field(pattern="^[a-z0-9]([a-z0-9+.:-]{0,98}[a-z0-9+.])?$")]
Toolchain = Annotated[str, Field(pattern="^(gcc|gcc-[1-9][0-9]{0,2}|llvm-[1-9][0-9]{0,2})$")]
Release = Annotated[str, Field(pattern="^([1-9][0-9]{0,3}[.][0-9]{1,3})?$")]
RelocationName = Annotated[str, Field(pattern="^R_[A-Za-z0-9_]{1,98}$")]
Hex = Annotated[str, Field(pattern="^[0-9a-fA-F]*$", max_length=64)]


@dataclass(frozen=True, slots=True)
class Behind:
    """What stands right behind a field, where apply_relocate_add() writes that as well: the bytes
    as hexadecimal digits, in the order in memory."""

    before: Hex  # what it demands there
    after: Hex  # what it puts there
    where: Annotated[int, Field(ge=0, lt=1 << 64)] = (
        0  # only where all these bits of the field are set: of a call, not of a jump
    )


Value = Literal[
    "S + A",
    "S + A - P",
    "Page(S + A) - Page(P)",
    "Page(S + A) - P",
    "Page(S + A + 0x800) - Page(P)",
    "S + A - Near(S + A, P)",
    "G(S) + A - P",
    "G(S + A)",
    "Page(G(S + A) + 0x800) - Page(P)",
    "L(S) + A - P",
    "L(S + A) - P",
]
"""What a field says, in the notation of the psABIs: S the symbol's address, A the addend, P the
field's own address, G() that of the GOT slot that holds it, L() that of a stub that jumps there, or
itself. See docs/reference/arch-file.md."""

Bits = Annotated[str, Field(pattern=r"^[0-9]{1,2}\.\.[0-9]{1,2} = [0-9]{1,2}\.\.[0-9]{1,2}$")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """How the bits of a field say an address; read and written by `elf.encoding`."""

    bits: Annotated[int, Field(ge=1, le=64)]  # the field's width, a multiple of 8
    value: Value
    field: tuple[Bits, ...] = ()  # "30..29 = 13..12": these bits of the field are those of the
    # value, both inclusive, in as many runs as need be; none: the field is the value's low bits
    signed: bool = False  # the field is sign-extended; one whose value is a difference always is
    part: bool = False  # the value's other bits are no matter here: another field says them

    @property
    def leads_to(self) -> Literal["symbol", "got", "plt"]:
        """The symbol itself, a GOT slot, or a stub (or the symbol itself)."""
        return "got" if "G(" in self.value else "plt" if "L(" in self.value else "symbol"


@dataclass(frozen=True, slots=True, kw_only=True)
class StubField(Encoding):
    """A field of a stub; its S + A is what the stub jumps to, its P the field's own address."""

    at: Annotated[int, Field(ge=0, lt=4096)]  # bytes from the stub's start


@dataclass(frozen=True, slots=True)
class Stub:
    """How a stub of the loader's says what it jumps to. A relocation type that has L() in its value
    may lead straight to the symbol or to such a stub inside the livepatch's own memory."""

    size: Annotated[int, Field(ge=1, le=4096)]  # bytes of the whole stub
    fields: tuple[StubField, ...]  # that together say the whole address
    code: Annotated[str, Field(pattern="^[0-9a-fA-F ]*$", max_length=12288)] = (
        ""  # its bytes but for the fields, in hexadecimal digits; "": any
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Instead(Encoding):
    """Another instruction that apply_relocate_add() may put in a field's place, and how that says
    the address. What is neither its opcode nor its address is as it was."""

    opcode: Annotated[int, Field(ge=0, lt=1 << 64)]  # what stands in these bits:
    opcode_bits: Annotated[int, Field(ge=1, lt=1 << 64)]
    stub: Stub | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RelocationType(Encoding):
    """How to read back one relocation type; a row of an architecture file's table.

    Sources: the psABI of the architecture and its `apply_relocate_add()`
    (arch/*/kernel/module*.c).
    """

    name: RelocationName  # as binutils' readelf prints it
    number: Annotated[int, Field(ge=0, lt=1 << 32)]  # ELF64_R_TYPE
    emitted_for: tuple[str, ...] = ()  # which C constructs make a compiler emit it into a livepatch
    behind: Behind | None = None
    empty: bool = False  # apply_relocate_add() refuses a field that is not zero before
    instead: tuple[Instead, ...] = ()
    stub: Stub | None = None  # that L() of its value leads to, where it is not the architecture's


@dataclass(frozen=True, slots=True)
class Userland:
    """Where a guest's Debian packages are from, and what its agent is compiled with: gcc is the
    cross compiler with a C library of this host's, llvm-N takes that of the packages."""

    suite: Word = "bookworm"
    component: Word = "main"
    toolchain: Toolchain = "gcc"


@dataclass(frozen=True, slots=True)
class Arch:
    """Everything that differs between architectures. Loaded by `catalog` from TOML."""

    name: ArchName  # ours, and Debian's gnu triplet's cpu part: x86_64, s390x
    kernel_arch: Word  # make ARCH=
    tuxmake_arch: Word  # tuxmake --target-arch
    cross_compile: Prefix  # make CROSS_COMPILE=, "" where the host's own compiler serves
    image_target: Word  # make target of the bootable image
    image_path: Inside  # that image, relative to the build directory
    debian_arch: Word  # for the guest's userland
    elf_machine: Annotated[int, Field(ge=0, lt=1 << 16)]  # e_machine
    byte_order: Literal["little", "big"]
    qemu: Emulator  # QEMU system emulator's program name, looked for on PATH
    machine: Machine  # -machine
    cpu: Cpu  # -cpu under TCG
    cpu_kvm: Cpu  # -cpu under KVM
    kvm_host: Word  # platform.machine() of a host on which KVM can serve
    memory_mb: Annotated[int, Field(ge=96, le=16384)]  # kernel and userland need some 80
    cpus: Annotated[int, Field(ge=1, le=65536)]
    console: Console  # kernel console= parameter
    cmdline: Printable  # further kernel parameters
    qemu_args: tuple[Printable, ...]  # further QEMU arguments
    network_device: NetworkDevice  # -device name of the virtio network card
    rng_device: RngDevice
    serial_device: SerialDevice  # -device name of the virtio serial bus
    time_scale: Annotated[
        float, Field(ge=1, le=100)
    ]  # how much slower than native TCG is here; multiplies every guest deadline
    packages: tuple[Package, ...]  # Debian packages the host needs
    relocations: tuple[RelocationType, ...]
    none: tuple[Annotated[int, Field(ge=0, lt=1 << 32)], ...] = ()  # types that
    # apply_relocate_add() passes over: what objtool's `klp post-link` leaves of the late ones
    stub: Stub | None = None
    got: Annotated[str, Field(pattern=r"^\.[A-Za-z0-9._]{1,60}$")] | None = (
        None  # a module's section of GOT slots, where a type says only a part of a slot's address
    )
    toolchain: Toolchain = "gcc"  # what kernels and modules are compiled with
    qemu_version: Release = ""  # the oldest QEMU that will do; "": any, which the host has
    qemu_package: Package | Literal[""] = ""  # that brings one where the host's is older
    userland: Userland = Userland()
    snapshots: bool = True  # whether a guest is itself again when QEMU has gone back to one
    ram: Annotated[str, Field(pattern=r"^(0x[0-9a-f]{1,16})?$")] = (
        ""  # where a guest's RAM begins, if it is to be written to before a snapshot-load: `vm.ram`
    )
    by_default: bool = True  # whether a command takes it where none is named
    since: Annotated[str, Field(pattern=r"^([1-9][0-9]{0,2}\.[0-9]{1,3})?$")] = (
        ""  # the first kernel version that has livepatch there; "": all that we know
    )
    loader: Printable = ""  # FILE, FUNCTION of the kernel that write its relocations, for reports
    file: Path | None = None  # where it is described, when it is none of ours; not in the file
    configs: tuple[str, ...] = ()  # of its kernels, on top of its own fragment; not in the file

    def relocation(self, number: int) -> RelocationType | None:
        """The table's row for an ELF64_R_TYPE, None when the table lacks it."""
        return next((r for r in self.relocations if r.number == number), None)


# --- module sets (images/modules/SET/set.toml) -------------------------------------------------

VMLINUX = "vmlinux"  # the object of a livepatch that is the kernel itself: always there


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
    errno: Errno
    written: bool  # its klp relocations are in place by then (a function is missing), or none is


@dataclass(frozen=True, slots=True)
class Room:
    """Memory of each kind that a module takes beyond its own: "64K", "130M", "" for none."""

    text: str = ""
    rodata: str = ""
    data: str = ""


@dataclass(frozen=True, slots=True)
class ModuleSpec:
    """One module of a set."""

    name: str  # KBUILD_MODNAME, with "_"
    kind: Literal["target", "livepatch", "plain"]
    patches: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    # livepatch: object ("vmlinux" or module name) -> functions it replaces, as in klp_symbols
    replace: bool = False  # livepatch: klp_patch.replace
    states: Mapping[str, int] = field(default_factory=dict)
    # livepatch: klp_patch.states, id of each in decimal -> its version
    klp_symbols: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    # livepatch: object -> "NAME" or "NAME,sympos" to turn into klp symbols; "auto" = every
    # undefined symbol which that object's .ko defines; "MODULE:NAME": another module's symbol
    klp_sections: Mapping[str, tuple[tuple[str, ...], ...]] = field(default_factory=dict)
    # livepatch that is built: object -> for each of its klp sections, in the sequence in which the
    # kernel writes them, the modules whose symbols it names
    depends: tuple[str, ...] = ()  # modules of the set whose exported symbols it uses
    failures: tuple[Failure, ...] = ()
    defects: tuple[Defect, ...] = ()
    parameters: tuple[str, ...] = ()  # writable at run time or at load
    ko: str = ""  # a .ko that others built, relative to set.toml, "{arch}" in it standing for the
    # architecture's name; "": built from the set's own sources, or in the kernel's tree
    room: Room | None = None  # a plain one that has it is the harness's own and has no sources: of
    # these sizes, or where there is none as large as the smallest target
    copies: int = 1  # of such a plain one: NAME_1 ... NAME_N, once the set is `movers.completed`
    copy_of: str = ""  # of one of these: NAME
    page_end: bool = False  # livepatch: its code lies so that a klp relocation is at a page's end

    @property
    def ours(self) -> bool:
        """Is it made of the harness's own filler?"""
        return self.kind == "plain" and self.room is not None


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

    `warns[L]`: while livepatch L's version is on top, the kernel warns once, and so, each time that
    the probe is asked: "FILE:LINE FUNCTION [MODULE]", as `kernelreports.warning` has it.
    """

    name: str
    object: str  # it shows something while this module is loaded; "vmlinux": always
    function: str  # the patched function whose version it shows
    original: str
    patched: Mapping[str, str] = field(default_factory=dict)
    file: str = ""  # in the guest
    command: str = ""  # for the guest's shell; not run while its object is not loaded
    at: Literal["now", "init", "callbacks"] = "now"
    # init: what the object's own init saw, not what is now; callbacks: such a record
    warns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SourcePatch:
    """file: beside the set.toml. sha256: of what the builder was given."""

    file: Annotated[str, Field(pattern=f"^{_FILE}$", max_length=255)]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


@dataclass(frozen=True, slots=True)
class Origin:
    """Of what, and by whom, the livepatch of a set was built (`klp-e2e livepatch`)."""

    builder: str  # its name, as --builder takes it
    version: str
    patches: tuple[SourcePatch, ...]  # of the kernel's source, in their order
    warned: tuple[str, ...] = ()  # what the builder warned of: it has left that out, or guessed
    replace: bool = True  # False: it was told to let it stand beside others


@dataclass(frozen=True, slots=True)
class ModuleSet:
    name: str
    directory: Path  # holds set.toml and the C sources
    modules: tuple[ModuleSpec, ...]
    description: str = ""
    probes: tuple[Probe, ...] = ()
    in_tree: str = ""  # instead of own sources: a directory of the kernel tree with built modules
    origin: Origin | None = None

    def module(self, name: str) -> ModuleSpec | None:
        return next((m for m in self.modules if m.name == name), None)

    @property
    def warnings(self) -> frozenset[str]:
        """All that its functions are to warn of, as `kernelreports.warning` has it."""
        return frozenset(text for probe in self.probes for text in probe.warns.values())


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
    absent: tuple[str, ...] = ()  # requested options that it does not define, without CONFIG_
    configs: tuple[str, ...] = ()  # on top of the architecture's own, a later one winning
    toolchain: str = ""  # gcc, gcc-12, llvm-19; "": an older klp-e2e did not write it down


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
    rewritten: bool = False  # a static call's, or of code with an alternative: see `elf.tables`
    table: int = 0  # bytes of the section, where the kernel sorts it later: see `elf.tables`


@dataclass(frozen=True, slots=True)
class BuiltModule:
    """A .ko as the guest loads it, with what a reader needs to check it in memory."""

    spec: ModuleSpec
    path: Path
    klp_relocations: tuple[KlpRelocation, ...]
    symbols: Mapping[str, tuple[tuple[str, int], ...]]
    # name -> (section name, offset) of each definition, in symbol-table order (sympos counts it)
    taint: int = 0  # of the kernel, for what it says of itself: its license, staging, a test
    compared: bool = False  # its own tables of what it patches say what set.toml says


@dataclass(frozen=True, slots=True)
class BuiltSet:
    set: ModuleSet
    modules: Mapping[str, BuiltModule]  # by module name


# --- cases --------------------------------------------------------------------------------------


def set_title(module_set: str) -> str:
    """What a module set is called where it is shown: of one's own, by the directory's name."""
    return Path(module_set).name if module_set.startswith("/") else module_set


class CaseKind(StrEnum):
    ORDER = "order"  # an order of a module set
    MALFORMED = "malformed"  # an order in which the livepatch is broken in a certain way
    SELFTEST = "selftest"  # one of the kernel's own scripts: it has no order, its steps are tests


@dataclass(frozen=True, slots=True)
class Case:
    """What is to be run, with the name the suite gives it."""

    name: str
    module_set: str  # name or directory of a set; of another kind: what stands there for one
    order: Order
    why: str = ""  # what this order is there to catch
    kind: CaseKind = CaseKind.ORDER

    @property
    def label(self) -> str:
        """`basic/reload-moved`, `/home/me/mine/order-1`: which case of which set it is."""
        return f"{self.module_set}/{self.name}"

    @property
    def title(self) -> str:
        """The same to be shown: `mine/order-1`."""
        return f"{set_title(self.module_set)}/{self.name}"


class Accel(StrEnum):
    """What runs a guest's instructions."""

    AUTO = "auto"  # KVM where this host has one that works for the architecture, else TCG
    KVM = "kvm"
    TCG = "tcg"  # QEMU's own translator


class Channel(StrEnum):
    """How to talk to a guest while events run."""

    AGENT = "agent"  # a virtio-serial port: lives through snapshots, milliseconds a request
    SSH = "ssh"  # a new connection after each restore
