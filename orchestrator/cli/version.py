# SPDX-License-Identifier: GPL-2.0-only
"""Which klp-e2e this is."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from orchestrator.errors import MissingTool
from orchestrator.host import process


def version() -> str:
    """Ours, with the commit where this is a checkout: `0.1.0 (4ab813a+)`, + for local changes."""
    number = metadata.version("klp-e2e")
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return number
    command = ["git", "-C", str(root), "describe", "--always", "--abbrev=12", "--dirty=+"]
    try:
        told = process.run(command, check=False)  # git refuses a checkout that is somebody else's
    except MissingTool:
        return number
    return number if told.code else f"{number} ({told.output.strip()})"
