# SPDX-License-Identifier: GPL-2.0-only
"""Names of pages, made of text of others. Pure."""

from __future__ import annotations

import hashlib
import re

_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")


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
