# SPDX-License-Identifier: GPL-2.0-only
"""What `klp-e2e livepatch` does before orders are run. Prints nothing itself."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator import catalog
from orchestrator.build import configs, kconfig, kernel, prepare
from orchestrator.builders import configuring, livepatch
from orchestrator.builders.request import Request
from orchestrator.cli import options
from orchestrator.cli.options import BuildOptions
from orchestrator.deadline import Deadline
from orchestrator.elf import klp, patchtable, placeholders, reader, relocation
from orchestrator.errors import UsageError
from orchestrator.host import ours
from orchestrator.nouns import Arch
from orchestrator.report import store
from orchestrator.report.progress import Reporter
from orchestrator.source import series, sources

BUILD_SECONDS = prepare.BUILD_SECONDS
CONFIG = "kernel.config"
_CHOOSE = "choose another one"


@dataclass(frozen=True, slots=True)
class Made:
    """The set of a livepatch, and the options with which its kernel is had again."""

    place: Path
    build: BuildOptions

    @property
    def arch(self) -> Arch:
        return self.build.arches[0]


def this_machine() -> str:
    """The architecture of ours that this machine is of. Raises UsageError where there is none."""
    found = (a.name for a in catalog.arches().values() if a.kvm_host == platform.machine())
    name = next(found, None)
    if name is None:
        raise UsageError(
            f"there is no architecture for {platform.machine()}", hint="name one with --arch"
        )
    return name


def make(
    wanted: BuildOptions, patch: Path, builder: str, *, replacing: bool, reporter: Reporter
) -> Made:
    """Build kernel and livepatch. Raises as `builders.livepatch.build` and `kernel.build` do."""
    if not patch.exists():
        raise UsageError(f"{patch} is not there", hint="name the file of a patch")
    if builder not in livepatch.BUILDERS:
        raise UsageError(f"unknown builder: {builder}", hint=", ".join(livepatch.BUILDERS))
    (arch,) = wanted.arches
    deadline = Deadline.after(BUILD_SECONDS)
    origin = sources.fetch(wanted.source, deadline, reporter.say)
    # a file, also where a series of ours has its name
    fix = series.resolve(str(patch if patch.is_absolute() else f"./{patch}"), origin.kernel)
    stack = [series.resolve(name, origin.kernel) for name in wanted.series]
    series.apply(origin.directory, [*stack, fix])  # before anything is built
    final = kernel.final_config(
        arch,
        wanted.source,
        wanted.series,
        jobs=wanted.jobs,
        say=reporter.say,
        deadline=deadline,
    )
    lacking = {**configuring.lacking(fix, arch, origin, final), **_wanted(builder, final)}
    if lacking:
        told = ", ".join(f"CONFIG_{name}={value}" for name, value in sorted(lacking.items()))
        reporter.say(f"patch and builder want a kernel with {told}")
        fragment = str(configuring.configuration(lacking, arch))
        arch = configs.configured(arch, [fragment])
        wanted = replace(wanted, arches=(arch,), configs=(*wanted.configs, fragment))
    (built,) = prepare.kernels(
        wanted.arches,
        source=wanted.source,
        series=wanted.series,
        jobs=wanted.jobs,
        say=reporter.say,
        advance=reporter.advance,
    )
    place = livepatch.build(
        Request(built, arch, fix, replacing),
        builder,
        jobs=wanted.jobs,
        progress=_onto(reporter.advance),
        say=reporter.say,
        deadline=Deadline.after(BUILD_SECONDS),
    )
    return Made(place, wanted)


def _wanted(builder: str, config: str) -> Mapping[str, str]:
    """What the builder itself wants of a kernel, and this one has not."""
    there = kconfig.parse(config)
    wanted = livepatch.BUILDERS[builder].OPTIONS
    return {name: value for name, value in wanted.items() if there.get(name, "n") != value}


def _onto(advance: Callable[[str, int, int], None]) -> Callable[[int, int, str], None]:
    return lambda done, total, _file: advance("building the livepatch", done, total)


def described(made: Made) -> Iterator[str]:
    """Line by line: what is patched, which relocations are deferred to what, and what the builder
    warned of."""
    module_set = catalog.module_set(str(made.place))
    for spec in (each for each in module_set.modules if each.kind == "livepatch"):
        path = made.place / spec.ko
        elf = reader.read(path.read_bytes(), path.name)
        yield f"{path}"
        table = patchtable.prepared(elf, path.name)
        for target, functions in table.objects if table else ():
            names = ", ".join(f"{f.name},{f.sympos}" if f.sympos else f.name for f in functions)
            yield f"  patches {target}: {names or 'no function'}"
        found = klp.klp_relocations(elf, relocation.table(made.arch.relocations), path.name)
        times: dict[tuple[str, str], int] = {}
        for each in found:
            key = (each.object, str(each.symbol).removesuffix(",0"))
            times[key] = times.get(key, 0) + 1
        for (target, symbol), count in times.items():
            yield f"  deferred until {target} is there: {symbol}" + f" ({count} times)" * (
                count > 1
            )
        if not found:
            yield "  nothing is deferred: it has no klp relocation"
        for where in placeholders.left(elf):
            yield (
                f"  {where} has {placeholders.POINTER:#018x} for a constant that vmlinux alone "
                "gets, at boot: what goes wrong there is no fault of the kernel's"
            )
    if module_set.origin is not None:
        for words in module_set.origin.warned:
            yield f"  {module_set.origin.builder} warns: {words}"


def check_place(into: Path) -> None:
    """Raises UsageError for what `keep` would not fill: before a build, not after it."""
    ours.lasting(Path(os.path.realpath(into)), _CHOOSE)
    with store.place_errors(into):
        if os.path.lexists(into) and (
            into.is_symlink() or not into.is_dir() or next(into.iterdir(), None) is not None
        ):
            raise UsageError(f"{into} is no new or empty directory", hint=_CHOOSE)
        if into.is_mount():  # a container's volume
            raise UsageError(
                f"{into} is a mount point, whose place nothing can take",
                hint=f"name a directory in it: {into / 'livepatch'}",
            )
        above = next(each for each in into.absolute().parents if os.path.lexists(each))
        if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
            raise UsageError(f"nothing can be made in {above}, where {into} goes", hint=_CHOOSE)


def keep(made: Made, into: Path) -> None:
    """A copy of the set, and of what its kernel was configured with, in a new or empty directory.
    Raises NotOurs, HarnessError."""
    with (
        store.write_errors(into),
        ours.appearing(into, ours.MarkKind.SET, lambda _: True) as place,
    ):
        for path in sorted(made.place.iterdir()):
            shutil.copyfile(path, place / path.name)
        texts = [configs.read(spec).text for spec in made.build.configs]
        if texts:
            (place / CONFIG).write_text("\n".join(texts))


def again(made: Made, into: Path) -> str:
    """The line that runs the orders of what `keep` has kept there."""
    build = made.build
    words = ["klp-e2e", "run", "--modules", f"{into}/", "--arch", made.arch.name]
    words += ["--kernel", build.source]
    for name in build.series or (options.BARE,):
        words += ["--series", name]
    words += ["--config", str(into / CONFIG)] * bool(build.configs)
    words += ["--toolchain", build.toolchain] * bool(build.toolchain)
    return shlex.join(words)
