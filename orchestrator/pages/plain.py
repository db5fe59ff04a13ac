# SPDX-License-Identifier: GPL-2.0-only
"""Text of others made fit for a page, and names of pages made of it. Pure.

Escaping is the templates' business (autoescape); here is what escaping does not do.
"""

from __future__ import annotations

import hashlib
import re

REPLACEMENT = "\ufffd"

# What HTML cannot carry (controls but tab and newline, surrogates, noncharacters), and what would
# show a line in another order than it has (bidirectional overrides and isolates).
_UNFIT = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff"
    "\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")


def clean(text: str) -> str:
    """The text with a replacement character for each that a page cannot show."""
    return _UNFIT.sub(REPLACEMENT, text)


def page_name(job: str, case: str) -> str:
    """The file of a case's page: the same every night, safe as a name and in a link, and another
    for every other case."""
    return f"{_word(f'{job}-{case}')[-60:].lstrip('-')}-{_digest(job, case)}.html"


def anchor(job: str) -> str:
    """The id of a job's list on the night's page."""
    return f"job-{_digest(job)}"


def _word(text: str) -> str:
    return _UNSAFE.sub("-", text).strip("-")


def _digest(*texts: str) -> str:
    whole = "\0".join(texts).encode(errors="backslashreplace")
    return hashlib.sha256(whole).hexdigest()[:10]
