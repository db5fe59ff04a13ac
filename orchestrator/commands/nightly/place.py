# SPDX-License-Identifier: GPL-2.0-only
"""The place of all nights, and what may be written there and into a night that lies there."""

from __future__ import annotations

import os
from pathlib import Path

from orchestrator.announce import files as announcements
from orchestrator.errors import UsageError
from orchestrator.history import checked, files, store
from orchestrator.history.database import NAME
from orchestrator.host import ours
from orchestrator.pages import site

HINT = "name an empty or a new directory for the nights with -o DIR"


def claim(nights: Path) -> str:
    """It is ours from here on: made, taken if it is empty, adopted if a klp-e2e that set no marks
    made it (then in words, else ""). Raises NotOurs, before anything is written; OSError."""
    try:
        ours.make(nights, ours.MarkKind.NIGHTS, HINT)
    except ours.NotOurs:
        real = Path(os.path.realpath(nights))
        if not _is_an_older_ones(real):
            raise
        ours.mark(real, ours.MarkKind.NIGHTS)
        return f"{nights} holds nights of an older klp-e2e, and is marked as their place now"
    return ""


def _is_an_older_ones(nights: Path) -> bool:
    """Does a history of ours lie there, or nothing but nights and their list?"""
    if not nights.is_dir() or nights.stat().st_uid != os.geteuid():
        return False
    if os.path.lexists(nights / ours.MARK):
        return False  # it says what it is for, and that is something else
    if _has_history(nights):
        return True
    whole = set(files.nights(nights))
    for path in nights.iterdir():
        if path in whole:
            try:
                if files.document(path).name == path.name:
                    continue
            except UsageError:
                return False
        if path.name != site.INDEX or not site.is_ours(path):
            return False
    return bool(whole)


def may_list(nights: Path) -> bool:
    """Is it a place of nights, so that the list of all and the history belong there?"""
    return ours.marked(nights, ours.MarkKind.NIGHTS) or _has_history(nights)


def _has_history(nights: Path) -> bool:
    try:
        return store.whose(nights / NAME) is store.Owner.OURS
    except OSError:  # who may not read it will not write it
        return False


def belongs(place: Path) -> bool:
    """Is it one of the nights of its place, and no copy under another name?"""
    return checked.is_night(place.name) and files.document(place).name == place.name


def check_report(place: Path) -> None:
    """Raises UsageError where a report would be written over files that are somebody else's."""
    if ours.marked(place, ours.MarkKind.NIGHT) or site.is_ours(place / site.INDEX):
        return
    for name in (site.INDEX, files.CHANGES, site.CASES, *announcements.NAMES):
        if os.path.lexists(place / name):
            raise UsageError(
                f"{place / name} is there, and nothing says that klp-e2e wrote it",
                hint="move it out of the way: the report is written anew",
            )
