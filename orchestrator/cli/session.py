# SPDX-License-Identifier: GPL-2.0-only
"""What the commands that build and boot do, from options to results. Prints nothing itself."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import psutil

from orchestrator import catalog
from orchestrator import doctor as hosts
from orchestrator.build import emulator, image, modules, prepare, toolchain
from orchestrator.build.prepare import Bootable
from orchestrator.cli import options
from orchestrator.cli.options import BuildOptions
from orchestrator.cli.version import version
from orchestrator.errors import BuildError, UsageError
from orchestrator.host import files
from orchestrator.host.workdir import file_digest
from orchestrator.model import orders
from orchestrator.nouns import Accel, Arch, Case, Origin, Userland
from orchestrator.report.progress import Reporter
from orchestrator.verdicts import Run, RunKind
from orchestrator.vm import machine

DIGITS = 16  # of a digest: enough to tell builds apart
CPUS = Path("/proc/cpuinfo")
_MODEL = re.compile(
    r"(?im)^(?:model name|cpu model|cpu|cpu part)[ \t]*:[ \t]*(\S.*)|machine = (\w+)"
)


def host_needs(arches: Iterable[Arch]) -> list[hosts.Need]:
    """What this host should have for these architectures, and whether it has it."""
    file = Path(__file__).parents[1] / "host-packages.toml"
    return hosts.examine(catalog.load_toml(file, hosts.HostPackages), arches)


def from_elsewhere(arches: Iterable[Arch]) -> Iterator[str]:
    """A line for each architecture whose tools are not the usual ones: which, and whence."""
    for arch in arches:
        told = [arch.toolchain] if toolchain.number(arch) else []
        told += [emulator.told(arch)] if arch.qemu_version else []
        told += [image.told(arch)] if arch.userland != Userland() else []
        if told:
            yield f"{arch.name}: {'; '.join(told)}"


def bootables(
    wanted: BuildOptions, module_sets: Iterable[str], reporter: Reporter
) -> tuple[Bootable, ...]:
    """Kernel, modules and guest image of every architecture."""
    return prepare.bootables(
        wanted.arches,
        source=wanted.source,
        series=wanted.series,
        module_sets=tuple(dict.fromkeys(module_sets)),
        known_issues=options.known_issues(wanted.known_issues, wanted.arches),
        jobs=wanted.jobs,
        say=reporter.say,
        advance=reporter.advance,
    )


def begun(
    wanted: BuildOptions, command: Sequence[str], *, strict: bool, kind: RunKind, accel: Accel
) -> Run:
    """A run as far as it is known before anything is built."""
    program = Path(command[0]).absolute()
    if program.name == "__main__.py":  # python -m: the command lies beside python
        program = Path(sys.executable).with_name("klp-e2e")
    return Run(
        command=(str(program), *command[1:]),
        started=time.time(),
        source=wanted.source,
        series=wanted.series,
        configs=wanted.configs,
        toolchain=wanted.toolchain,
        planned=0,
        host=host_line(),
        host_name=host_name(),
        host_kind=host_kind(),
        options={"accel": accel},
        tool=version(),
        strict=strict,
        kind=kind,
        arch_files={arch.name: str(arch.file) for arch in wanted.arches if arch.file},
        known_issues=tuple(map(str, wanted.known_issues)),
    )


def inputs(wanted: BuildOptions, cases: Iterable[Case] = ()) -> Mapping[str, str]:
    """What is run, and on what, as far as it is known before a build: name -> digest."""
    told = {
        f"description of {arch.name}": _digest(repr(replace(arch, file=None)))
        for arch in wanted.arches
    }
    named = [f"{case.label} {orders.format(case.order)}" for case in cases]
    arches = [arch.name for arch in wanted.arches]
    issues = options.known_issues(wanted.known_issues, wanted.arches)
    return {
        **told,
        "choice of cases": _digest("\n".join([*arches, *named])),
        "list of known issues": _digest(repr(issues)),
    }


def built(bootables: Iterable[Bootable]) -> Mapping[str, str]:
    """The modules that are run, and by what they are judged: name -> digest."""
    told = {}
    for bootable in bootables:
        arch, kernel = bootable.arch.name, bootable.kernel
        told[f"emulator of {arch}"] = _digest(prepare.qemu_version(bootable.arch))
        told[f"userland of {arch}"] = _digest(bootable.userland.parent.name)
        for name, made in bootable.sets.items():
            files = (f"{m} {file_digest(made.modules[m].path)}" for m in sorted(made.modules))
            told[f"build of module set {name} for {arch}"] = _digest("\n".join(files))
            described = repr(replace(made.set, directory=Path()))
            told[f"description of module set {name} for {arch}"] = _digest(described)
        judged = (sorted(kernel.capabilities), bootable.known_issues)
        told[f"list of capabilities and known issues for {arch}"] = _digest(repr(judged))
    return told


def own_sets(bootables: Iterable[Bootable]) -> Mapping[str, Mapping[str, str]]:
    """Architecture -> module set that is not ours -> digest of what it holds."""
    return {
        bootable.arch.name: {
            name: modules.content(made.set, bootable.arch)[:DIGITS]
            for name, made in bootable.sets.items()
            if catalog.is_place(name)
        }
        for bootable in bootables
    }


def origins(bootables: Iterable[Bootable]) -> Mapping[str, Origin]:
    """Module set -> of what its livepatch was built, and by whom, where that is known."""
    return {
        name: made.set.origin
        for bootable in bootables
        for name, made in bootable.sets.items()
        if made.set.origin is not None
    }


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:DIGITS]


def arches_of(run: Run, place: Path) -> tuple[str, ...]:
    """Those of a run that is gone on with, as --arch takes them. Raises UsageError."""
    names = run.option("arches").split()
    if not names:
        raise UsageError(f"{place} does not say for which architectures", hint="begin a new one")
    if strange := next((name for name in names if not catalog.is_arch_name(name)), ""):
        raise UsageError(f"{place}: '{strange}' is no architecture's name", hint="begin a new one")
    return tuple(map(run.arch_spec, names))


def accel_of(run: Run, place: Path) -> Accel:
    """That of a run that is gone on with; an older klp-e2e had but one. Raises UsageError."""
    name = run.option("accel", Accel.AUTO)
    if name not in {*Accel}:
        raise UsageError(f"{place}: '{name}' is no accelerator", hint="begin a new one")
    return Accel(name)


def need_emulators(wanted: BuildOptions, accel: Accel, say: Callable[[str], None]) -> None:
    """Before a build of ten minutes, not after it. Raises MissingTool, and HarnessError where the
    accelerator, or the QEMU, that is asked for cannot be had."""
    for arch in wanted.arches:
        need_emulator(arch, accel, say)


def need_emulator(arch: Arch, accel: Accel, say: Callable[[str], None]) -> None:
    emulator.ready(arch, say)
    machine.may_use_kvm(arch, accel)


def buildable(
    wanted: BuildOptions, module_sets: Sequence[str], reporter: Reporter
) -> tuple[tuple[Bootable, ...], Mapping[str, str]]:
    """(what builds, architecture -> why it does not). Raises BuildError when nothing builds."""
    made: list[Bootable] = []
    unbuilt: dict[str, BuildError] = {}
    for arch in wanted.arches:
        try:
            made += bootables(replace(wanted, arches=(arch,)), module_sets, reporter)
        except BuildError as err:
            unbuilt[arch.name] = err
    if not made:
        raise next(iter(unbuilt.values()))
    return tuple(made), {name: err.full_message for name, err in unbuilt.items()}


def host_name() -> str:
    """What this machine is called."""
    return platform.node()


def host_kind() -> str:
    """Machine, CPU and cores, on one line: what times depend on before all else."""
    try:
        told = files.read(CPUS, files.TEXT).decode(errors="replace")
    except OSError:
        told = ""
    return f"{platform.machine()} {cpu_model(told)}".rstrip() + f", {_cores()} cores"


def cpu_model(cpuinfo: str) -> str:
    """From /proc/cpuinfo, in which every architecture calls it otherwise; "" where it is not told.
    The first CPU's: it stands for all."""
    found = _MODEL.search(cpuinfo)
    return " ".join(next(filter(None, found.groups())).split()) if found else ""


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def host_line() -> str:
    """`Debian GNU/Linux 12 (bookworm), Linux 6.1.0-28-amd64, x86_64, 2 cores, 8 GB`"""
    try:
        system = platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        system = platform.system()
    cores = _cores()
    memory = psutil.virtual_memory().total / 1e9
    release, machine = platform.release(), platform.machine()
    return f"{system}, Linux {release}, {machine}, {cores} cores, {memory:.0f} GB"
