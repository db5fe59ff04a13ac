# SPDX-License-Identifier: GPL-2.0-only
"""`klp-e2e port`: `command` is what is typed and shown, `work` what is done; the rest its parts."""

from orchestrator.commands.port import command

__all__ = ["command"]
