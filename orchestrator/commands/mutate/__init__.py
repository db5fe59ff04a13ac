# SPDX-License-Identifier: GPL-2.0-only
"""`klp-e2e mutate`, and `ablate`'s work: `command` is what is typed and shown."""

from orchestrator.commands.mutate import command

__all__ = ["command"]
