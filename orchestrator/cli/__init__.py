# SPDX-License-Identifier: GPL-2.0-only
"""The command line: the only place that prints results and exits."""

from orchestrator.cli import build, cases, explored, modules
from orchestrator.cli.program import app, main

__all__ = ["app", "build", "cases", "explored", "main", "modules"]
