# SPDX-License-Identifier: GPL-2.0-only
"""Who does a command's work: this machine, or the fleet. Dask is an extra, and is imported by none
who does without."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.errors import MissingTool
from orchestrator.run.workers import Executor, Here


def executor(on_fleet: bool, say: Callable[[str], None]) -> Executor:
    """Raises UsageError where this user has no fleet, MissingTool."""
    if not on_fleet:
        return Here()
    need_dask()
    from orchestrator.fleet import place
    from orchestrator.fleet.executor import OnFleet

    return OnFleet(place.known(), say)


def need_dask() -> None:
    """Raises MissingTool where it is not there."""
    try:
        import distributed  # noqa: F401
    except ImportError:
        raise MissingTool(
            "a fleet needs Dask", hint="pip install 'klp-e2e[fleet]'; in a checkout: make venv"
        ) from None
