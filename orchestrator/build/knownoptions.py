# SPDX-License-Identifier: GPL-2.0-only
"""`make known-options ARGS="debian:6.1 debian:newest"`: every option that these kernels' Kconfig
files define, added to kernel-config/known-options.txt."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from orchestrator import catalog
from orchestrator.build import kconfigtree
from orchestrator.host import workdir
from orchestrator.source import sources

FILE = "known-options.txt"  # in kernel-config/


def known() -> frozenset[str]:
    """What the file has, without CONFIG_."""
    text = (catalog.data_dir("kernel-config") / FILE).read_text()
    return frozenset(line for line in text.splitlines() if not line.startswith("#"))


def defined(source: Path) -> frozenset[str]:
    """What a tree's Kconfig files define, those of every architecture."""
    files = sorted(source.rglob("Kconfig*"))
    return kconfigtree.defined(path.read_text(errors="replace") for path in files)


def add(specs: Sequence[str]) -> None:
    """Add those of these sources. Raises UsageError, HarnessError."""
    found = set(known())
    for spec in specs:
        found |= defined(sources.fetch(spec).directory)
    file = catalog.data_dir("kernel-config") / FILE
    head = [line for line in file.read_text().splitlines() if line.startswith("#")]
    workdir.write_atomically(file, "\n".join([*head, *sorted(found)]) + "\n")


if __name__ == "__main__":
    add(sys.argv[1:])
