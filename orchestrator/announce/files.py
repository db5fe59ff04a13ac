# SPDX-License-Identifier: GPL-2.0-only
"""What a night's directory holds for those who do not look at its pages.

NIGHT/junit.xml  results.ktap  kcidb.json      for machines
NIGHT/summary.md                               for a CI job's page
NIGHT/mail.txt                                 for people
"""

from __future__ import annotations

from pathlib import Path

from orchestrator.announce.kcidb import kcidb
from orchestrator.announce.mail import mail
from orchestrator.announce.nightjunit import junit
from orchestrator.announce.nightktap import ktap
from orchestrator.announce.summary import night_markdown
from orchestrator.history.nights import Changes, Night
from orchestrator.report import store

MAIL = "mail.txt"
NAMES = ("junit.xml", "results.ktap", "kcidb.json", "summary.md", MAIL)


def write(place: Path, night: Night, changes: Changes) -> None:
    """All of them, each whole. place: the night's directory. Raises HarnessError (a full disk)."""
    texts = (
        junit(night),
        ktap(night),
        kcidb(night, changes),
        night_markdown(night, changes),
        mail(night, changes),
    )
    for name, text in zip(NAMES, texts, strict=True):
        store.write(place / name, text)
