# SPDX-License-Identifier: GPL-2.0-only
"""The report card on real kernels: a short one where livepatch works, and what the real source says
of an architecture where it does not."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path

from vmkit import case

from orchestrator import catalog
from orchestrator.build import kconfig
from orchestrator.build.prepare import Bootable
from orchestrator.cli import options
from orchestrator.commands import malformed
from orchestrator.commands.port import parts, work
from orchestrator.commands.port.source import PortSource
from orchestrator.errors import Exit
from orchestrator.port import card as cards
from orchestrator.port.card import Part, ReportCard, Verdict, card_exit_code
from orchestrator.report import cardjson as rendered
from orchestrator.report import directory
from orchestrator.report.progress import Reporter
from orchestrator.report.terminal import Terminal
from orchestrator.verdicts import Status

FOREIGN = "arm64"  # which has livepatch since 6.17
RELOAD = "+klp_patch +klp_target -klp_target +filler +klp_target"


def a_card(arch: str, series: str, scope: parts.Scope, place: Path) -> ReportCard:
    wanted = work.PortOptions(
        arch,
        options.SOURCE,
        options.stack((series,)),
        len(os.sched_getaffinity(0)),
        scope,
        place,
    )
    writer = work.begin(wanted, ("klp-e2e", "port", arch))
    with writer, Reporter(Terminal(file=io.StringIO())) as reporter:
        work.make(wanted, writer, reporter)
    return writer.card


def test_a_short_card(bootables: Mapping[str, Bootable], tmp_path: Path) -> None:
    arch = sorted(bootables)[-1]
    scope = parts.Scope(
        core=(case("reload", RELOAD), case("life", "+klp_vmlinux klp_vmlinux=0", "vmlinux")),
        explored=("vmlinux",),
        malformed=malformed.cases(["symbol-common/target-later"]),
    )
    made = a_card(arch, options.SERIES, scope, tmp_path / "card")
    verdicts = {line.name: line.verdict for line in made.lines}
    assert {n: v for n, v in verdicts.items() if v is not Verdict.PASS} == {
        Part.KSELFTEST: Verdict.SKIP
    }
    assert card_exit_code(made) is Exit.HARNESS  # not all was done
    assert {row.name for row in made.coverage if row.livepatches} == {
        row.name for row in made.coverage if row.late
    }
    assert all(row.place for row in made.coverage)  # what gcc emits, the kernel takes
    for line in made.lines:
        assert all((tmp_path / "card" / name).is_file() for name in line.files)
    run, results = directory.read(tmp_path / "card" / "core")
    assert {result.status for result in results} == {Status.PASS} and len(results) == run.planned
    assert rendered.load_card(tmp_path / "card").lines == made.lines


def test_the_real_source_tells_why_an_architecture_has_no_livepatch(
    bootables: Mapping[str, Bootable],
) -> None:
    arch = catalog.arch(FOREIGN)
    (bootable, *_) = bootables.values()
    config = kconfig.parse(
        bootable.kernel.config.read_text()
    )  # of another one, which has livepatch
    config = {name: value for name, value in config.items() if "LIVEPATCH" not in name}
    source = PortSource.fetch(options.SOURCE, (), arch, lambda _text: None)
    assert source.tree is not None
    lines = {line.detail: line for line in cards.kconfig(source.tree, config)}
    assert lines["HAVE_LIVEPATCH"].verdict is Verdict.FAIL
    own = f"{source.place}/Kconfig does not"
    assert [text.startswith(own) for text in lines["HAVE_LIVEPATCH"].obstacles] == [True, True]
    assert lines["MODULES"].verdict is Verdict.PASS
    handled = {each.number: each.name for each in source.handled(config)}
    assert all(handled[row.number] == row.name for row in arch.relocations)
    assert len(handled) > 30
