# SPDX-License-Identifier: GPL-2.0-only
"""`klp-e2e bisect`: `command` is what is typed and shown, `work` what is done."""

from orchestrator.commands.bisect import command

__all__ = ["command"]
