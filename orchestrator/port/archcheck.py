# SPDX-License-Identifier: GPL-2.0-only
"""`klp-e2e arch check`: everything that is wrong with an architecture's two files, at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator import catalog
from orchestrator.errors import Exit, HarnessError
from orchestrator.port import archfile
from orchestrator.port.archfile import Draft, FieldKind, Remark
from orchestrator.port.archhost import ArchHost, Asked, KernelTree
from orchestrator.source import sources

BASE = "base.config"


@dataclass(frozen=True, slots=True)
class Report:
    """What there is to say about one architecture."""

    path: Path
    remarks: tuple[Remark, ...]

    @property
    def lines(self) -> list[str]:
        """For a terminal: the verdict, then each remark with what to do."""
        counts = {kind: sum(r.kind is kind for r in self.remarks) for kind in FieldKind}
        bad = [
            f"{counts[kind]} {kind}"
            for kind in (FieldKind.WRONG, FieldKind.LACKING)
            if counts[kind]
        ]
        lines = [f"{self.path.stem}: {', '.join(bad) or 'right'} ({self.path})"]
        for remark in self.remarks:
            first, *more = remark.text.splitlines()
            lines.append(f"  {remark.kind:<7}  {remark.field}: {first}")
            lines += [f"           {line}" for line in (*more, *remark.hint.splitlines())]
        return lines


def check(
    specs: Sequence[str], source: str, say: Callable[[str], None], host: ArchHost | None = None
) -> list[Report]:
    """Architectures by name or file, all of ours when none is given, against a kernel's source.

    Raises UsageError for a name that is unknown and a source that is none.
    """
    places = [catalog.arch_file(spec) for spec in specs or catalog.arch_files()]
    asked = Asked(host or ArchHost())
    checks = [*archfile.CHECKS, *asked.checks]
    unread: list[Remark] = []
    try:
        checks += KernelTree(sources.fetch(source, say=say).directory).checks
    except HarnessError as err:
        text = f"not compared with the kernel's source: {err}"
        unread.append(Remark("kernel_arch", text, err.hint, FieldKind.LACKING))
    return [_report(_emulated(path, asked.host, say), checks, unread) for path in places]


def _emulated(path: Path, host: ArchHost, say: Callable[[str], None]) -> Draft:
    """The file, with the QEMU that will be started where it wants a newer one than any."""
    draft = archfile.read(path)
    if draft.remarks or not draft.right["qemu_version"]:
        return draft
    try:
        program = host.emulator(catalog.arch(str(path)), say)
    except HarnessError as err:
        return replace(
            draft, remarks=(Remark("qemu_version", str(err), err.hint, FieldKind.LACKING),)
        )
    return replace(draft, right={**draft.right, "qemu": program})


def _report(draft: Draft, checks: Iterable[archfile.Check], unread: Iterable[Remark]) -> Report:
    path = draft.path
    base = catalog.data_dir("kernel-config") / BASE
    found = [*draft.remarks, *draft.run_checks(checks), *unread]
    found += archfile.fragment_remarks(catalog.fragment(path), base)
    return Report(path, tuple(sorted(found, key=_rank)))


def _rank(remark: Remark) -> int:
    """As the keys stand in a file; what is no key comes last, an unknown one first."""
    order = list(archfile.fields())
    top = archfile.top(remark.field)
    last = remark.field == archfile.FRAGMENT
    return order.index(top) if top in order else len(order) if last else -1


def check_exit_code(reports: Iterable[Report]) -> Exit:
    """Files that are wrong before a host that lacks something."""
    kinds = {remark.kind for report in reports for remark in report.remarks}
    if FieldKind.WRONG in kinds:
        return Exit.USAGE
    return Exit.HARNESS if FieldKind.LACKING in kinds else Exit.GOOD
