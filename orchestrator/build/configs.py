# SPDX-License-Identifier: GPL-2.0-only
"""Configurations: Kconfig fragments that go on top of an architecture's own, a later one winning.

Ours lie in kernel-config/configs; anybody's is given as a file. A fragment's head, its comments,
says in words what it is for and how its kernel reports (`for`, `report`), and what it needs, each
line of which may be left out:

    # memory: 3             times the guest's memory
    # time: 3               times what the guest takes for anything
    # arches: x86_64 s390   values of the kernel's ARCH that can have it, all by default
    # kernels: 5.17         the first kernel that can have it
    # toolchain: llvm       whose compiler it takes, gcc or llvm, either by default
    # required: KASAN       options that must not be missing (`kconfig.required`)
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator import catalog
from orchestrator.build import kconfig, toolchain
from orchestrator.errors import UsageError
from orchestrator.host import files
from orchestrator.nouns import Arch

SUFFIX = ".config"
MOST = 16.0  # times
_HEAD = re.compile(r"^# (for|report|memory|time|arches|kernels|toolchain): +(.+)$", re.MULTILINE)
_ANY = (0, 0)


@dataclass(frozen=True, slots=True)
class Fragment:
    """One configuration as its file tells."""

    path: Path
    text: str
    purpose: str = ""
    report: str = ""
    memory: float = 1.0  # times the guest's
    time: float = 1.0
    arches: tuple[str, ...] = ()  # of the kernel's ARCH; empty: all
    since: tuple[int, int] = _ANY  # the first kernel
    compiler: str = ""  # gcc or llvm; empty: either


def ours() -> Mapping[str, Path]:
    """Name -> file, of those that come with us."""
    place = catalog.data_dir("kernel-config") / "configs"
    return {path.stem: path for path in sorted(place.glob(f"*{SUFFIX}"))}


def is_file(spec: str) -> bool:
    """Is it a fragment's file, and not the name of one of ours?"""
    return "/" in spec or spec.endswith(SUFFIX)


def placed(spec: str) -> str:
    """A configuration as it serves in any directory. Raises UsageError for one that is none."""
    found = str(Path(spec).absolute()) if is_file(spec) else spec
    read(found)
    return found


def read(spec: str) -> Fragment:
    """One of ours by name, or any by its file. Raises UsageError for one that cannot be read, or
    whose head or options say what cannot be."""
    path = Path(spec) if is_file(spec) else ours().get(spec)
    if path is None:
        close = difflib.get_close_matches(spec, ours(), n=1)
        guess = f"did you mean {close[0]}?\n" if close else ""
        known = "".join(f"  {name}: {read(name).purpose}\n" for name in ours())
        raise UsageError(
            f"unknown configuration: {spec}",
            hint=f"{guess}{known}a file ends in {SUFFIX} or has a / in it",
        )
    try:
        text = files.read(path, files.TEXT).decode()
    except (OSError, UnicodeDecodeError) as err:
        raise UsageError(f"{path}: {err}", hint="it is to be a Kconfig fragment") from err
    if wrong := kconfig.unreadable(text):
        raise UsageError(f"{path}: {wrong[0]}", hint="CONFIG_X=y, or # CONFIG_X is not set")
    return _fragment(path, text)


def _fragment(path: Path, text: str) -> Fragment:
    head = dict(_HEAD.findall(text))
    since = re.fullmatch(r"(\d+)\.(\d+)", head.get("kernels", "0.0"))
    if since is None:
        raise UsageError(f"{path}: kernels: {head['kernels']}", hint="the first one, as 5.17")
    compiler = head.get("toolchain", "")
    if compiler not in ("", *toolchain.FAMILIES):
        raise UsageError(
            f"{path}: toolchain: {compiler}", hint=f"one of {', '.join(toolchain.FAMILIES)}"
        )
    return Fragment(
        path=path,
        text=text,
        purpose=head.get("for", ""),
        report=head.get("report", ""),
        memory=_times(path, "memory", head),
        time=_times(path, "time", head),
        arches=tuple(head.get("arches", "").split()),
        since=(int(since[1]), int(since[2])),
        compiler=compiler,
    )


def _times(path: Path, key: str, head: Mapping[str, str]) -> float:
    found = re.fullmatch(r"\d+(\.\d+)?", text := head.get(key, "1"))
    if found is None or not 1 <= float(text) <= MOST:
        raise UsageError(
            f"{path}: {key}: {text}", hint=f"a number from 1 to {MOST:g}: times so much"
        )
    return float(text)


def configured(arch: Arch, specs: Iterable[str]) -> Arch:
    """The architecture with kernels of these configurations, and with guests that have the memory
    and the time for them. Raises UsageError where one is not for it."""
    specs, own = tuple(specs), arch
    for spec in specs:
        found = read(spec)
        if found.arches and arch.kernel_arch not in found.arches:
            raise UsageError(
                f"configuration {spec} is not for {arch.name}",
                hint=f"{found.path}: arches: {' '.join(found.arches)}",
            )
        if found.compiler not in ("", toolchain.family(arch)):
            raise UsageError(
                f"configuration {spec} is for {found.compiler} and not for {arch.toolchain}, "
                f"which is to compile the {arch.name} kernel",
                hint=f"--toolchain {toolchain.FAMILIES[found.compiler]}",
            )
        memory, scale = arch.memory_mb * found.memory, arch.time_scale * found.time
        if memory > MOST * own.memory_mb or scale > MOST * own.time_scale:
            raise UsageError(
                f"configurations {', '.join(specs)} together need more than {MOST:g} times the "
                f"memory or the time of {arch.name}",
                hint="leave one out: what they need is multiplied",
            )
        arch = replace(arch, memory_mb=int(memory), time_scale=scale)
    return replace(arch, configs=(*arch.configs, *specs))


def check_kernel(arch: Arch, kernel: tuple[int, int]) -> None:
    """Raises UsageError where a configuration needs a later kernel."""
    for spec in arch.configs:
        if kernel < (found := read(spec)).since:
            raise UsageError(
                f"configuration {spec} is for Linux {found.since[0]}.{found.since[1]} and later, "
                f"this is {kernel[0]}.{kernel[1]}",
                hint=f"{found.path}: kernels",
            )
