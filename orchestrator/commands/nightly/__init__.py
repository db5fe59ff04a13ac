# SPDX-License-Identifier: GPL-2.0-only
"""`klp-e2e nightly`: `command` is what is typed and shown, `work` the night from its plan to its
report; the rest are its parts."""

from orchestrator.commands.nightly import command

__all__ = ["command"]
