# SPDX-License-Identifier: GPL-2.0-only
"""Text of others made fit to be shown: on a page, on a terminal, in a CI's log. Pure.

A guest, a module's file and a bundle say what they like. Escaping is the business of templates
(autoescape); here is what escaping does not do.
"""

from __future__ import annotations

import re

REPLACEMENT = "\ufffd"

# What HTML cannot carry (controls but tab and newline, surrogates, noncharacters), and what would
# show a line in another order than it has (bidirectional overrides and isolates).
_UNFIT = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff"
    "\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)
# What a CI takes for a command in what a job prints: GitHub "::error::" behind blanks at most, and
# "##[error]" anywhere, Azure "##vso[".
_COLONS = re.compile(r"^(\s*):(?=:)", re.MULTILINE)
_HASHES = re.compile(r"#(?=#\w*\[)")


def clean(text: str) -> str:
    """The text with a replacement character for each that a page cannot show."""
    return _UNFIT.sub(REPLACEMENT, text)


def printable(text: str) -> str:
    """The text as a terminal may get it: no control character but tab and newline, and nothing that
    a CI would carry out."""
    return _HASHES.sub("# ", _COLONS.sub(r"\1: ", clean(text)))
