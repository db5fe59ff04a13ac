# SPDX-License-Identifier: GPL-2.0-only
"""`klp-e2e merge`: `command` is what is typed and shown, `work` the night that is made of parts."""

from orchestrator.commands.merge import command

__all__ = ["command"]
