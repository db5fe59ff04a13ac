# SPDX-License-Identifier: GPL-2.0-only
"""The options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from orchestrator.cli import complete, options
from orchestrator.nouns import Accel, Channel

# One option with two spellings: an architecture is given by name or by file, as a module set is.
ArchOption = Annotated[
    list[str] | None,
    typer.Option(
        "--arch",
        "--arch-file",
        metavar="A|FILE",
        autocompletion=complete.arches,
        help="Name of a built-in architecture, or a file A.toml with A.config beside it; may be "
        "given again. [default: each built-in one with by_default = true]",
    ),
]
_ONE_ARCH = "Name of a built-in architecture, or a file A.toml with A.config beside it."
OneArchOption = Annotated[
    str,
    typer.Option(
        "--arch",
        "--arch-file",
        metavar="A|FILE",
        autocompletion=complete.arches,
        help=_ONE_ARCH,
    ),
]
ArchArgument = Annotated[
    str,
    typer.Argument(
        metavar="ARCH|FILE",
        autocompletion=complete.arches,
        help=_ONE_ARCH,
    ),
]
KernelOption = Annotated[
    str,
    typer.Option(
        "--kernel",
        metavar="SOURCE",
        help="Where the kernel's source comes from: debian:6.1, debian:newest, tar:PATH, "
        "tar:URL#sha256=HEX, dir:PATH or git:PATH_OR_URL#REF.",
    ),
]


def _series_option(default: str) -> Any:
    return typer.Option(
        "--series",
        metavar="S",
        autocompletion=complete.series,
        help="Patches to apply to the kernel: a name under kernel-config/series, a quilt "
        "directory, an mbox or git:REPO#A..B. S@N: only its first N patches; S@merged: the source "
        "has it already; 'none': the bare kernel. May be given again: they stack in that order. "
        f"[default: {default}]",
    )


SeriesOption = Annotated[list[str] | None, _series_option(options.SERIES)]
NoSeriesOption = Annotated[list[str] | None, _series_option(options.BARE)]
ConfigOption = Annotated[
    list[str] | None,
    typer.Option(
        "--config",
        metavar="NAME|FILE",
        autocompletion=complete.configs,
        help="What the kernel is configured with on top: a name under kernel-config/configs, or a "
        "Kconfig fragment, a file which has a / in it or ends in .config. May be given again: a "
        "later one wins.",
    ),
]
ToolchainOption = Annotated[
    str | None,
    typer.Option(
        "--toolchain",
        metavar="T",
        help="What kernels and modules are compiled with: gcc, gcc-N or llvm-N. [default: what the "
        "architecture's file says, which is gcc where it says nothing]",
    ),
]
JobsOption = Annotated[
    int | None,
    typer.Option(
        "--jobs", "-j", min=1, metavar="N", help="Jobs of make side by side. [default: the cores]"
    ),
]
SuiteOption = Annotated[
    str | None,
    typer.Option(
        "--suite",
        metavar="NAME|FILE",
        autocompletion=complete.suites,
        help="Name of a built-in suite, or a file, which has a / in it or ends in .toml. "
        f"[default: {options.SUITE}]",
    ),
]
ModuleSetsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--modules",
        metavar="SET|DIR",
        autocompletion=complete.every_module_set,
        help="Name of a module set, a directory with a set.toml, or 'all' for every built-in set; "
        f"may be given again. [default: {options.MODULE_SET}]",
    ),
]
OutputOption = Annotated[
    Path | None,
    typer.Option(
        "-o", metavar="DIR", help="Results directory, new or empty. [default: results/DATE-TIME]"
    ),
]
ResumeOption = Annotated[
    Path | None,
    typer.Option(
        "--resume",
        metavar="DIR",
        help="Go on with what this very command began in DIR: what has a verdict there does not "
        "run again.",
    ),
]
KnownIssuesOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--known-issues",
        metavar="FILE",
        help="A list of known issues of your own, beside the built-in one; may be given again.",
    ),
]
StrictOption = Annotated[bool, typer.Option("--strict", help="Count a KNOWN failure as FAIL.")]
AccelOption = Annotated[
    Accel,
    typer.Option(
        "--accel", help="What guests run under; auto: KVM where it works, else TCG (emulation)."
    ),
]
FleetOption = Annotated[
    bool,
    typer.Option("--fleet", help="Have the guests run on the workers of `klp-e2e fleet`."),
]
ChannelOption = Annotated[
    Channel,
    typer.Option(
        "--channel",
        help="How to talk to guests while events run: by the agent's serial port, or SSH.",
    ),
]


def modules_option(what: str) -> Any:
    """`--modules` of a command that takes one module set. what: what the command does with it."""
    return typer.Option(
        "--modules",
        metavar="SET|DIR",
        autocompletion=complete.module_sets,
        help=f"Name of a module set, or a directory with a set.toml: {what}",
    )
