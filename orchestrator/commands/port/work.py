# SPDX-License-Identifier: GPL-2.0-only
"""What `klp-e2e port` does, from options to a report card. Prints nothing itself.

Line by line: what goes wrong with one is written there, and whatever does not need it goes on. A
kernel that cannot have livepatch is built and booted without, so that its porter learns what works.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator import catalog, doctor
from orchestrator.build import kconfigtree, prepare
from orchestrator.build.configs import configured
from orchestrator.build.kconfigtree import Config
from orchestrator.build.kernel import compiler_version
from orchestrator.cli import options, session
from orchestrator.cli.options import BuildOptions
from orchestrator.commands.port import boot, kernel, parts
from orchestrator.commands.port.parts import Scope
from orchestrator.commands.port.source import PortSource
from orchestrator.elf import reader
from orchestrator.errors import KlpError, UsageError
from orchestrator.nouns import Accel, Arch, BuiltModule
from orchestrator.port import archcheck, archfile, card, coverage
from orchestrator.port.card import LIVEPATCH, Line, Part, ReportCard, Verdict, one_line, troubled
from orchestrator.port.coverage import Coverage
from orchestrator.report.cardjson import CardDirectory
from orchestrator.report.progress import Reporter
from orchestrator.report.store import write
from orchestrator.verdicts import CaseResult

CONFIG = "config"  # beside the card
NEEDS_LIVEPATCH = (
    *(Part.VMLINUX, Part.DEFERRED, Part.RELOAD),
    *(Part.CORE, Part.EXPLORE, Part.KSELFTEST, Part.MALFORMED),
)
NEEDS_KERNEL = (Part.BOOT, Part.LOG, Part.MODULES, *NEEDS_LIVEPATCH)
NEEDS_SOURCE = (Part.KCONFIG, Part.BUILD, *NEEDS_KERNEL)


@dataclass(frozen=True, slots=True)
class PortOptions:
    spec: str  # an architecture's name or file
    source: str
    series: tuple[str, ...]
    jobs: int
    scope: Scope
    directory: Path
    accel: Accel = Accel.AUTO
    configs: tuple[str, ...] = ()
    toolchain: str = ""
    known_issues: tuple[Path, ...] = ()  # files beside our own list


def begin(wanted: PortOptions, command: Sequence[str]) -> CardDirectory:
    """The directory with an empty card. Raises UsageError for an architecture that is none."""
    empty = ReportCard(
        arch=catalog.arch_file(wanted.spec).stem,
        source=wanted.source,
        series=wanted.series,
        configs=wanted.configs,
        command=tuple(command),
        started=time.time(),
        host=session.host_line(),
    )
    return CardDirectory(wanted.directory, empty)


def make(wanted: PortOptions, writer: CardDirectory, reporter: Reporter) -> None:
    """Fill in the card. Raises UsageError for a source or series that is none, and nothing else of
    ours: it is on the card."""

    def skip(parts: Sequence[Part], why: str) -> None:
        writer.update(writer.card.skip(parts, why))

    writer.update(writer.card.put(_files(wanted, reporter)))
    try:
        arch = options.with_toolchain(catalog.arch(wanted.spec), wanted.toolchain)
        arch = configured(arch, wanted.configs)
    except UsageError as err:
        if not writer.card.bad(Part.FILES):
            writer.update(writer.card.put(troubled(Part.FILES, err)))
        others = (Part.HOST, Part.COMPILER, *NEEDS_SOURCE)
        skip(others, "the architecture's file cannot be used")
        return
    writer.update(writer.card.put(*_host(arch)))
    try:
        source = PortSource.fetch(wanted.source, wanted.series, arch, reporter.say)
    except UsageError:
        raise
    except KlpError as err:
        skip(NEEDS_SOURCE, "there is no kernel source")
        writer.update(writer.card.put(troubled(Part.BUILD, err)))
        return
    built = BuildOptions(
        (arch,),
        wanted.source,
        wanted.series,
        wanted.jobs,
        wanted.configs,
        wanted.toolchain,
        wanted.known_issues,
    )
    outcome = kernel.build(built, source, reporter)
    writer.update(writer.card.put(*outcome.lines))
    covered = _Covered(arch, source, outcome.config, writer)
    covered.tell()
    writer.update(writer.card.put(*_kconfig(source, outcome.config, writer.path)))
    made = outcome.kernel
    if made is None:
        skip(NEEDS_KERNEL, "there is no kernel")
        return
    about = f"Linux {made.release} ({made.source_version})"
    writer.update(replace(writer.card, kernel=about))
    covered.modules = boot.boot(built, made, wanted.accel, writer, reporter)
    covered.tell()
    if not outcome.livepatch:
        skip(
            NEEDS_LIVEPATCH,
            f"this kernel has no livepatch on this architecture: {_gap(source, outcome.config)}",
        )
    elif writer.card.bad(Part.BOOT):
        skip(NEEDS_LIVEPATCH, "the kernel does not boot")
    else:
        _livepatch(built, wanted, covered, writer, reporter)


# --- this host ---------------------------------------------------------------------------------


def _files(wanted: PortOptions, reporter: Reporter) -> Line:
    """What `klp-e2e arch check` says; what the host lacks has another line."""
    (report,) = archcheck.check((wanted.spec,), wanted.source, reporter.say)
    wrong = [r for r in report.remarks if r.kind is archfile.FieldKind.WRONG]
    notes = [r for r in report.remarks if r.kind is archfile.FieldKind.NOTE]
    told = [f"{len(wrong)} wrong" if wrong else "right", str(report.path)]
    told += [f"note: {remark.field}: {remark.text}" for remark in notes]
    return Line(
        Part.FILES,
        Verdict.WRONG if wrong else Verdict.PASS,
        one_line(*told),
        one_line(*(f"{remark.field}: {remark.text}" for remark in wrong)),
        (f"klp-e2e arch check {wanted.spec}",) if wrong else (),
    )


def _host(arch: Arch) -> list[Line]:
    """What programs there are."""
    needs = session.host_needs((arch,))
    missing = doctor.missing(needs)
    try:
        host = Line(Part.HOST, Verdict.PASS, (prepare.qemu_version(arch),))
    except KlpError as err:
        host = troubled(Part.HOST, err)
    looked = f"{len(needs)} things looked for, missing: {len(missing)}"
    host = replace(host, evidence=(*host.evidence, looked))
    if missing:
        lacks = tuple(f"missing: {need.what} ({need.package})" for need in missing)
        line = (doctor.install_line(needs),)
        host = replace(host, verdict=Verdict.ERROR, obstacles=lacks, advice=line)
    try:
        return [host, Line(Part.COMPILER, Verdict.PASS, (compiler_version(arch),))]
    except KlpError as err:
        return [host, troubled(Part.COMPILER, err)]


# --- the kernel's source -----------------------------------------------------------------------


def _kconfig(source: PortSource, config: Config | None, place: Path) -> list[Line]:
    if source.tree is None or config is None:
        why = "the kernel has no such architecture" if source.tree is None else "it has no .config"
        return [Line(Part.KCONFIG, evidence=(f"{card.NOT_YET}: {why}",))]
    write(place / CONFIG, "".join(f"CONFIG_{name}={value}\n" for name, value in config.items()))
    return card.kconfig(source.tree, config, CONFIG)


def _gap(source: PortSource, config: Config | None) -> str:
    """Why there is no livepatch, at the bottom of it."""
    if source.tree is None or config is None:
        return f"there is no {source.place}"
    return kconfigtree.reasons(source.tree, LIVEPATCH, config)[-1]


class _Covered:
    """Relocation coverage, as far as it is known."""

    def __init__(
        self, arch: Arch, source: PortSource, config: Config | None, writer: CardDirectory
    ) -> None:
        self.modules: tuple[BuiltModule, ...] = ()
        self._arch = arch
        self._place = source.place
        self._handled = source.handled(config)
        self._writer = writer

    def tell(self, ran: Iterable[CaseResult] = ()) -> tuple[Coverage, ...]:
        """Write it on the card. ran: what relocations were read back in."""
        elves = [reader.read(each.path.read_bytes(), each.path.name) for each in self.modules]
        deferred = coverage.deferred(self.modules)
        rows = coverage.coverage(
            self._arch.relocations,
            self._handled,
            deferred,
            coverage.ordinary(elves),
            coverage.late(ran),
        )
        note = (
            ""
            if deferred
            else "no livepatch was built: what the compiler makes of one is not known"
        )
        if not self._handled:
            note = f"no relocation type was found in {self._place}"
        self._writer.update(replace(self._writer.card, coverage=rows, coverage_note=note))
        return rows


def _livepatch(
    built: BuildOptions,
    wanted: PortOptions,
    covered: _Covered,
    writer: CardDirectory,
    reporter: Reporter,
) -> None:
    """All that needs livepatch."""
    try:
        (bootable,) = session.bootables(built, catalog.module_sets(), reporter)
    except KlpError as err:
        writer.update(writer.card.put(*(troubled(part, err) for part in NEEDS_LIVEPATCH)))
        return
    covered.modules = tuple(
        module for made in bootable.sets.values() for module in made.modules.values()
    )
    covered.tell()

    def put(lines: Iterable[Line]) -> None:
        found = tuple(lines)  # making them may tell of coverage
        writer.update(writer.card.put(*found))

    command, tell = writer.card.command, covered.tell
    parts.Parts(
        built, wanted.scope, writer.path, command, reporter, put, tell, wanted.accel
    ).run_parts()
