# SPDX-License-Identifier: GPL-2.0-only
"""What a shell offers behind an option that takes a name: the names of ours. Where a path may be
given as well, the shell offers files once no name fits."""

from __future__ import annotations

from orchestrator import catalog
from orchestrator.build import configs as configurations
from orchestrator.cli import options


def arches() -> list[str]:
    return [*catalog.arches()]


def module_sets() -> list[str]:
    return [*catalog.module_sets()]


def every_module_set() -> list[str]:
    """For an option that also takes all of them in one word."""
    return [*module_sets(), options.ALL]


def series() -> list[str]:
    there = catalog.data_dir("kernel-config") / "series"
    return [*sorted(path.name for path in there.iterdir() if path.is_dir()), options.BARE]


def configs() -> list[str]:
    return [*configurations.ours()]


def suites() -> list[str]:
    return [*options.our_suites()]
