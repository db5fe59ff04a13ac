# SPDX-License-Identifier: GPL-2.0-only
"""Of a report card: does the kernel build? One that drops CONFIG_LIVEPATCH is built without."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from orchestrator.build import kconfig, prepare
from orchestrator.build.kconfigtree import Config
from orchestrator.build.kernel import configuration
from orchestrator.cli.options import BuildOptions
from orchestrator.commands.port.source import PortSource
from orchestrator.errors import ConfigError, KlpError, UsageError
from orchestrator.nouns import Kernel
from orchestrator.port.card import LIVEPATCH, Line, Part, Verdict, troubled
from orchestrator.report.progress import Reporter


@dataclass(frozen=True, slots=True)
class KernelOutcome:
    """What came of it."""

    lines: tuple[Line, ...]
    kernel: Kernel | None = None
    config: Config | None = None  # the final one, as far as it came
    livepatch: bool = False  # the kernel has it


def build(built: BuildOptions, source: PortSource, reporter: Reporter) -> KernelOutcome:
    """The kernel with livepatch, or else without. Raises UsageError for a source that is none."""
    try:
        kernel, line = _built(built, (), reporter)
    except ConfigError as err:
        return _without_livepatch(built, source, err, reporter)
    except UsageError:
        raise
    except KlpError as err:
        return KernelOutcome((troubled(Part.BUILD, err),))
    return KernelOutcome((line,), kernel, kconfig.parse(kernel.config.read_text()), livepatch=True)


def _without_livepatch(
    built: BuildOptions, source: PortSource, refusal: ConfigError, reporter: Reporter
) -> KernelOutcome:
    """The configuration was refused: what if livepatch, and what stands on it, is not asked for?"""
    (arch,) = built.arches
    config = kconfig.parse(refusal.final)
    lost = [each.name for each in kconfig.lost(configuration(arch), refusal.final)]
    first = troubled(Part.BUILD, refusal)
    if LIVEPATCH not in lost:
        return KernelOutcome((first,), config=config)
    first = replace(first, verdict=Verdict.FAIL, detail="with livepatch", advice=())
    without = [name for name in lost if name == LIVEPATCH or source.stands_on(name, LIVEPATCH)]
    reporter.say(f"building without {', '.join(without)}")
    try:
        kernel, line = _built(built, without, reporter)
    except KlpError as err:
        line, kernel = troubled(Part.BUILD, err), None
    left_out = f"not asked for: {', '.join(without)}"
    line = replace(line, detail="without livepatch", evidence=(*line.evidence, left_out))
    return KernelOutcome((first, line), kernel, config)


def _built(built: BuildOptions, without: Sequence[str], reporter: Reporter) -> tuple[Kernel, Line]:
    compiled = False

    def advance(task: str, done: int, total: int) -> None:
        nonlocal compiled
        compiled = True
        reporter.advance(task, done, total)

    began = time.monotonic()
    (kernel,) = prepare.kernels(
        built.arches,
        source=built.source,
        series=built.series,
        jobs=built.jobs,
        say=reporter.say,
        advance=advance,
        without=without,
    )
    (arch,) = built.arches
    took = f"built in {time.monotonic() - began:.0f} s" if compiled else "from the cache"
    size = kernel.image.stat().st_size / 1e6
    told = f"Linux {kernel.release}, {arch.image_path} of {size:.1f} MB, {took}"
    return kernel, Line(Part.BUILD, Verdict.PASS, (told, str(kernel.directory)))
