# SPDX-License-Identifier: GPL-2.0-only
"""The command line: the only place that prints results and exits."""

from orchestrator.cli.program import app, main

__all__ = ["app", "main"]
