# SPDX-License-Identifier: GPL-2.0-only
"""What a night's directory holds for those who do not look at its pages.

NIGHT/junit.xml  results.ktap  kcidb.json      for machines
NIGHT/summary.md                               for a CI job's page
NIGHT/mail.txt                                 for people
"""

from __future__ import annotations

from pathlib import Path

from orchestrator.announce.junit import junit
from orchestrator.announce.kcidb import kcidb
from orchestrator.announce.ktap import ktap
from orchestrator.announce.mail import mail
from orchestrator.announce.summary import summary
from orchestrator.history.nights import Changes, Night
from orchestrator.report import directory

MAIL = "mail.txt"


def write(place: Path, night: Night, changes: Changes) -> None:
    """All of them, each whole. place: the night's directory. Raises HarnessError (a full disk)."""
    directory.write(place / "junit.xml", junit(night))
    directory.write(place / "results.ktap", ktap(night))
    directory.write(place / "kcidb.json", kcidb(night, changes))
    directory.write(place / "summary.md", summary(night, changes))
    directory.write(place / MAIL, mail(night, changes))
