# SPDX-License-Identifier: GPL-2.0-only
"""`klp-e2e ablate`: livepatch without one of its pieces; see `mutate`."""

from __future__ import annotations

from orchestrator.cli import options
from orchestrator.cli.arguments import (
    AccelOption,
    ArchOption,
    ConfigOption,
    JobsOption,
    KernelOption,
    OutputOption,
    SeriesOption,
    SuiteOption,
    ToolchainOption,
)
from orchestrator.cli.program import EXAMPLE, app, guarded
from orchestrator.commands.mutate.command import (
    ControlsOption,
    OnlyOption,
    PatchesOption,
    ResumeOption,
    resumed,
    tried,
)
from orchestrator.errors import Exit
from orchestrator.nouns import Accel
from orchestrator.source.alterations import AlterationKind


@app.command(epilog=EXAMPLE + "klp-e2e ablate --only '3-*'")
@guarded
def ablate(
    arch: ArchOption = None,
    kernel: KernelOption = options.SOURCE,
    series: SeriesOption = None,
    config: ConfigOption = None,
    toolchain: ToolchainOption = None,
    suite: SuiteOption = None,
    only: OnlyOption = None,
    patches: PatchesOption = None,
    controls: ControlsOption = 1,
    accel: AccelOption = Accel.AUTO,
    output: OutputOption = None,
    resume: ResumeOption = None,
    jobs: JobsOption = None,
) -> Exit:
    """Take livepatch apart, piece by piece. Which orders notice that a piece is gone?"""
    if resume is not None:
        return resumed(resume, output, jobs, arch, kernel, series, config, suite, patches)
    built = options.build_options(arch, kernel, series, jobs, config, toolchain)
    return tried(
        AlterationKind.ABLATION, built, only or (), patches, suite, True, controls, accel, output
    )
