# SPDX-License-Identifier: GPL-2.0-only
"""What every command stands on: the program and its table of commands, the options that several
have, what is typed made into values, a run that begins."""

from orchestrator.cli.program import app, main

__all__ = ["app", "main"]
