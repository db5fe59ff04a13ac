# SPDX-License-Identifier: GPL-2.0-only
"""What is wrong with an architecture's file when this host and a kernel's source are asked.

QEMU and the compiler are asked by what they do: QEMU is started with one field after another and
ended before the guest runs, the compiler's object is read. Their help texts are for suggestions.
"""

from __future__ import annotations

import difflib
import platform
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from orchestrator import doctor
from orchestrator.build import emulator, kbuild
from orchestrator.build import toolchain as toolchains
from orchestrator.deadline import Deadline
from orchestrator.elf import reader
from orchestrator.errors import UsageError
from orchestrator.host import process
from orchestrator.host.process import CommandFailed
from orchestrator.host.rundir import run_dir
from orchestrator.nouns import Arch
from orchestrator.port.archfile import Check, FieldKind, Remark, fields

SECONDS = 60.0  # for one question; QEMU answers in a tenth of a second
DPKG_CPUS = Path("/usr/share/dpkg/cputable")


# --- asking this host --------------------------------------------------------------------------


def _help(program: str, option: str) -> frozenset[str]:
    """Empty where it does not say: one that was unpacked ends at modules that it does not find."""
    ran = process.run([program, option, "help"], deadline=Deadline.after(SECONDS), check=False)
    return frozenset(re.findall(r"[\w.+-]+", ran.output)) if ran.code == 0 else frozenset()


def _refusal(argv: Sequence[str]) -> str:
    """What QEMU says against it; "" when it starts. -S: the guest does not run."""
    quiet = ("-S", "-nodefaults", "-no-user-config", "-display", "none", "-monitor", "stdio")
    deadline = Deadline.after(SECONDS)
    done = process.run([*argv, *quiet], input=b"quit\n", deadline=deadline, check=False)
    if done.code == 0:
        return ""
    lines = [line.removeprefix(f"{argv[0]}: ") for line in done.errors.splitlines()]
    return " ".join(lines) or f"it ends with status {done.code}"


def _object(*compiler: str) -> bytes:
    """What the compiler, with its options, makes of an empty C file. Raises CommandFailed."""
    with run_dir("cc") as scratch:
        made = scratch / "empty.o"
        command: list[str | Path] = [*compiler, "-c", "-x", "c", "/dev/null", "-o", made]
        process.run(command, deadline=Deadline.after(SECONDS))
        return made.read_bytes()


def _emulator(arch: Arch, say: Callable[[str], None]) -> str:
    """The QEMU that serves, brought if need be. Raises HarnessError."""
    emulator.ready(arch, say)
    return emulator.program(arch)


def _tuxmake() -> frozenset[str]:
    command = [sys.executable, "-m", "tuxmake", "--list-architectures"]
    return frozenset(process.run(command, deadline=Deadline.after(SECONDS)).output.split())


@dataclass(frozen=True, slots=True)
class Cpu:
    """A row of dpkg's cputable."""

    debian: str
    gnu: str
    byte_order: str


def _dpkg_cpus() -> tuple[Cpu, ...]:
    """Those of 64 bits."""
    if not DPKG_CPUS.is_file():
        return ()
    rows = [line.split() for line in DPKG_CPUS.read_text().splitlines()]
    rows = [row for row in rows if row and not row[0].startswith("#")]
    return tuple(Cpu(row[0], row[1], row[4]) for row in rows if row[3] == "64")


@dataclass(frozen=True, slots=True)
class ArchHost:
    """How to ask a machine; the default asks this one."""

    packages: doctor.Host = field(default_factory=doctor.Host)
    words: Callable[[str, str], frozenset[str]] = _help  # of (QEMU, "-machine")'s help
    refusal: Callable[[Sequence[str]], str] = _refusal
    object: Callable[..., bytes] = _object
    tuxmake: Callable[[], frozenset[str]] = _tuxmake
    emulator: Callable[[Arch, Callable[[str], None]], str] = _emulator
    cpus: Callable[[], tuple[Cpu, ...]] = _dpkg_cpus  # none: it is no Debian
    machine: str = platform.machine()


# --- checks ------------------------------------------------------------------------------------


def _close(name: str, known: Sequence[str] | frozenset[str], else_: str) -> str:
    close = difflib.get_close_matches(name, sorted(known), n=1)
    return f"did you mean {close[0]}? {else_}" if close else else_


@dataclass(frozen=True, slots=True)
class Asked:
    """The checks that ask a host; each runs when the fields that it names are right."""

    host: ArchHost

    @property
    def checks(self) -> tuple[Check, ...]:
        return (
            *(self.needs, self.compiler, self.tuxmake, self.debian),
            *(self.machine, self.cpu, self.cpu_kvm, self.sizes, self.devices, self.arguments),
        )

    def needs(self, qemu: str, cross_compile: str, packages: tuple[str, ...]) -> Iterator[Remark]:
        look = self.host.packages
        needs = doctor.of_arch(qemu, cross_compile, packages, look)
        programs = {f"program {qemu}": "qemu", f"program {cross_compile}gcc": "cross_compile"}
        for need in dict.fromkeys(doctor.missing(needs)):
            key = programs.get(need.what, "packages")
            if key != "packages" and self.host.cpus() and look.package(need.package):
                text = f"{need.package} is installed, and brings no {need.what}"
                yield Remark(key, text, fields()[key].where)
            else:
                text = f"this host lacks {need.what} ({need.package})"
                yield Remark(key, text, doctor.install_line([need]), FieldKind.LACKING)

    def compiler(
        self,
        cross_compile: str,
        toolchain: str,
        elf_machine: int,
        byte_order: Literal["little", "big"],
    ) -> Iterator[Remark]:
        compiler, *options = toolchains.command(toolchain, cross_compile)
        if not self._has(compiler):
            return
        try:
            elf = reader.read(self.host.object(compiler, *options), f"what {compiler} makes")
        except (CommandFailed, UsageError) as err:
            yield Remark("cross_compile", f"{compiler}: {err}", fields()["cross_compile"].where)
            return
        made, hint = reader.machine_name(elf.machine), "the compiler, or this, is another's"
        if elf.machine != elf_machine:
            text = f"{compiler} compiles for {made} ({elf.machine}), not {elf_machine}"
            yield Remark("elf_machine", text, hint)
        if elf.byte_order != byte_order:
            text = f"{compiler} compiles {elf.byte_order}-endian code, not {byte_order}-endian"
            yield Remark("byte_order", text, hint)

    def tuxmake(self, tuxmake_arch: str) -> Iterator[Remark]:
        known = self.host.tuxmake()
        if tuxmake_arch not in known:
            hint = _close(tuxmake_arch, known, fields()["tuxmake_arch"].where)
            yield Remark("tuxmake_arch", f"tuxmake does not know {tuxmake_arch}", hint)

    def debian(self, debian_arch: str, byte_order: str) -> Iterator[Remark]:
        known = {cpu.debian: cpu for cpu in self.host.cpus()}
        if not known:
            return  # no Debian, and nobody to ask
        if debian_arch not in known:
            hint = _close(debian_arch, sorted(known), fields()["debian_arch"].where)
            yield Remark("debian_arch", f"dpkg knows no 64-bit {debian_arch}", hint)
        elif known[debian_arch].byte_order != byte_order:
            text = f"Debian's {debian_arch} is {known[debian_arch].byte_order}-endian"
            yield Remark("byte_order", text, fields()["byte_order"].where)

    def machine(self, qemu: str, machine: str) -> Iterator[Remark]:
        if not self._has(qemu):
            return
        name = machine.partition(",")[0]
        if (known := self.host.words(qemu, "-machine")) and name not in known:
            hint = _close(name, known, f"{qemu} -machine help; a newer QEMU may have it")
            yield Remark("machine", f"{qemu} has no machine {name}", hint)
        elif said := self.host.refusal([qemu, "-machine", machine]):
            hint = f"{qemu} -machine {name},help; an option may be misspelt, or this QEMU too old"
            yield Remark("machine", f"{qemu} refuses {machine}: {said}", hint)

    def cpu(self, qemu: str, machine: str, cpu: str) -> Iterator[Remark]:
        if not self._has(qemu):
            return
        name = cpu.partition(",")[0]
        if (known := self.host.words(qemu, "-cpu")) and name not in known:
            yield Remark(
                "cpu", f"{qemu} has no CPU {name}", _close(name, known, f"{qemu} -cpu help")
            )
        elif said := self._against(qemu, machine, "-cpu", cpu):
            hint = f"{qemu} -cpu help; not every CPU goes with every machine"
            yield Remark("cpu", f"{qemu} refuses {cpu}: {said}", hint)

    def cpu_kvm(self, qemu: str, cpu_kvm: str, kvm_host: str) -> Iterator[Remark]:
        """Only where KVM could serve: a QEMU that emulates a foreign CPU knows no `host`."""
        if self.host.machine != kvm_host or not self._has(qemu):
            return
        name = cpu_kvm.partition(",")[0]
        if (known := self.host.words(qemu, "-cpu")) and name not in known:
            hint = _close(name, known, f"{qemu} -cpu help")
            yield Remark("cpu_kvm", f"{qemu} has no CPU {name}", hint)

    def sizes(self, qemu: str, machine: str, memory_mb: int, cpus: int) -> Iterator[Remark]:
        for key, option, value in (("memory_mb", "-m", memory_mb), ("cpus", "-smp", cpus)):
            if value > 0 and (said := self._against(qemu, machine, option, str(value))):
                yield Remark(key, f"{qemu} refuses {option} {value}: {said}", fields()[key].where)

    def devices(
        self, qemu: str, machine: str, network_device: str, rng_device: str, serial_device: str
    ) -> Iterator[Remark]:
        if not self._has(qemu):
            return
        known = self.host.words(qemu, "-device")
        for key, device in (
            ("network_device", network_device),
            ("rng_device", rng_device),
            ("serial_device", serial_device),
        ):
            name = device.partition(",")[0]
            if known and name not in known:
                hint = _close(name, known, f"{qemu} -device help")
                yield Remark(key, f"{qemu} has no device {name}", hint)
            elif said := self._against(qemu, machine, "-device", device):
                hint = "the three devices are on the bus that this machine has"
                yield Remark(key, f"{qemu} refuses {device}: {said}", hint)

    def arguments(self, qemu: str, machine: str, qemu_args: tuple[str, ...]) -> Iterator[Remark]:
        if qemu_args and (said := self._against(qemu, machine, *qemu_args)):
            yield Remark("qemu_args", f"{qemu} refuses them: {said}", fields()["qemu_args"].where)

    def _has(self, program: str) -> bool:
        return self.host.packages.program(program)

    def _against(self, qemu: str, machine: str, *options: str) -> str:
        """What QEMU has against these options; "" too where it is the machine that is wrong."""
        base = [qemu, "-machine", machine]
        if not self._has(qemu) or self.host.refusal(base):
            return ""
        return self.host.refusal([*base, *options])


# --- the kernel's source -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class KernelTree:
    """The checks that read a kernel's source."""

    directory: Path

    @property
    def checks(self) -> tuple[Check, ...]:
        return self.arch, self.image

    def arch(self, kernel_arch: str) -> Iterator[Remark]:
        if self._source(kernel_arch) is None:
            known = sorted(path.parent.name for path in self.directory.glob("arch/*/Makefile"))
            hint = _close(kernel_arch, known, f"it has {', '.join(known)}")
            yield Remark("kernel_arch", f"the kernel has no arch/{kernel_arch}/", hint)

    def image(self, kernel_arch: str, image_target: str, image_path: str) -> Iterator[Remark]:
        place = self._source(kernel_arch)
        if place is None:
            return
        own = [f"arch/{name}/" for name in dict.fromkeys((place.name, kernel_arch))]
        if "/" in image_path and not image_path.startswith(tuple(own)):
            text = f"{image_path} is not under {' or '.join(own)}, nor at the top"
            yield Remark("image_path", text, fields()["image_path"].where)
        files = [file for file in (place / "Makefile", place / "boot/Makefile") if file.is_file()]
        rules = "\n".join(["vmlinux", *(file.read_text(errors="replace") for file in files)])
        where = " nor ".join(str(file.relative_to(self.directory)) for file in files)
        for key, name in (("image_target", image_target), ("image_path", Path(image_path).name)):
            if not re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w.-])", rules):
                text = f"the build gives no {name}: neither {where} names it"
                yield Remark(key, text, fields()[key].where)

    def _source(self, kernel_arch: str) -> Path | None:
        """arch/SRCARCH of the source."""
        place = self.directory / "arch" / kbuild.source_arch(self.directory, kernel_arch)
        return place if (place / "Makefile").is_file() else None
