# SPDX-License-Identifier: GPL-2.0-only
"""The command line: the only place that prints results and exits."""

from orchestrator.cli import (
    altered,
    arch,
    build,
    cases,
    explored,
    history,
    kselftest,
    malformed,
    modules,
    nightly,
    port,
)
from orchestrator.cli.program import app, main

__all__ = [
    "altered",
    "app",
    "arch",
    "build",
    "cases",
    "explored",
    "history",
    "kselftest",
    "main",
    "malformed",
    "modules",
    "nightly",
    "port",
]
