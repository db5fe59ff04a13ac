# SPDX-License-Identifier: GPL-2.0-only
"""`klp-e2e inspect`: is a livepatch module well-formed?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.program import EXAMPLE, app, guarded
from orchestrator.commands import convert
from orchestrator.elf import inspection as inspections
from orchestrator.elf import relocation
from orchestrator.elf.inspection import Inspection
from orchestrator.errors import Exit
from orchestrator.nouns import Arch
from orchestrator.report.terminal import tell


@app.command(epilog=EXAMPLE + "klp-e2e inspect klp_patch.ko --json")
@guarded
def inspect(
    module: Annotated[Path, typer.Argument(metavar="X.ko", help="A livepatch module.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
    arch_file: convert.ArchFileOption = None,
) -> Exit:
    """Check a livepatch module. Exit code 1 when it is not well-formed."""
    found, arch = examine(module, arch_file or ())
    tell(json_text(found) if as_json else plain_text(found, arch))
    return Exit.GOOD if found.well_formed else Exit.TEST_FAILURE


def examine(path: Path, arch_files: Sequence[str] = ()) -> tuple[Inspection, Arch]:
    """Raises UsageError for what is no module of a known architecture."""
    data = convert.read_file(path)
    arch = convert.arch_of(data, str(path), arch_files)
    return inspections.inspect(
        data, table=relocation.table(arch.relocations), none=arch.none, name=str(path)
    ), arch


def json_text(inspection: Inspection) -> str:
    """Fields as in `Inspection`; bytes in hex."""
    plain = {**asdict(inspection), "well_formed": inspection.well_formed}
    return json.dumps(plain, indent=2, default=bytes.hex)


def plain_text(inspection: Inspection, arch: Arch) -> str:
    """Sections, relocations, symbols, then each violation with its rule."""
    lines = [f"module {inspection.module or '(no name)'} for {arch.name}", "", "klp sections:"]
    lines += [f"  {s.name}: {s.entries} entries" for s in inspection.sections] or ["  none"]
    lines += ["", "klp relocations:"]
    for found in inspection.relocations:
        row = arch.relocation(found.type)
        lines.append(
            f"  {found.applies_to}+{found.offset:#x} {row.name if row else found.type} "
            f"{found.symbol or found.symbol_name} {found.addend:+#x}"
        )
    lines += [] if inspection.relocations else ["  none"]
    lines += ["", "klp symbols:"]
    lines += [f"  {s.name}: used {s.uses} times" for s in inspection.symbols] or ["  none"]
    lines += ["", "undefined, and left to what the kernel and other modules export:"]
    lines += [f"  {name}" for name in inspection.undefined] or ["  none"]
    lines += ["", "violations:"]
    lines += [
        f"  {'warning' if v.warning else 'ERROR'} [{v.rule}] {v.where}: {v.text}"
        for v in inspection.violations
    ] or ["  none"]
    return "\n".join(lines)
