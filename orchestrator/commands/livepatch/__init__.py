# SPDX-License-Identifier: GPL-2.0-only
"""`klp-e2e livepatch`: `command` is what is typed and shown, `work` what is done before a run."""

from orchestrator.commands.livepatch import command

__all__ = ["command"]
