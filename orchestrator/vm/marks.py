# SPDX-License-Identifier: GPL-2.0-only
"""Marks of ours in the kernel's log, by which what is said after a moment is found again. Pure."""

from __future__ import annotations

import re

from orchestrator.kernelreports import PREFIX

MARK = "klp-e2e: mark "  # in the kernel's log, before a token
_MARKS = re.compile(rf"(?:{PREFIX})?{MARK}[0-9a-f]{{16}}\n?")


def without_marks(text: str) -> str:
    """Without the lines that `vm.guest.Guest.mark` has put there."""

    def ended(match: re.Match[str]) -> str:
        """Behind half a line of the guest's own, its end stays."""
        return "\n" if match.start() and text[match.start() - 1] != "\n" else ""

    return _MARKS.sub(ended, text) if MARK in text else text


def logged_since(token: str, log: str) -> str:
    """What the kernel's log says after that mark; all of it when the mark has been overwritten, for
    then all came later."""
    before, found, after = log.partition(f"{MARK}{token}\n")
    return without_marks(after if found else before)
