# SPDX-License-Identifier: GPL-2.0-only
"""The command line: the only place that prints results and exits."""

from orchestrator.cli import altered, build, cases, explored, kselftest, modules
from orchestrator.cli.program import app, main

__all__ = ["altered", "app", "build", "cases", "explored", "kselftest", "main", "modules"]
