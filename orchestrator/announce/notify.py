# SPDX-License-Identifier: GPL-2.0-only
"""`--notify-command`: the user's own command hears of the night, and tells whom it likes."""

from __future__ import annotations

from pathlib import Path

from orchestrator.announce.files import MAIL
from orchestrator.announce.mail import mail, subject
from orchestrator.deadline import Deadline
from orchestrator.errors import HarnessError, OutOfTime
from orchestrator.history import digest
from orchestrator.history.nights import Change, Changes, Night
from orchestrator.host import process
from orchestrator.host.process import CommandFailed

SECONDS = 120.0  # for the command: a mail is handed on, or a page is copied


def send(
    command: str, place: Path, night: Night, changes: Changes, seconds: float = SECONDS
) -> None:
    """Run a shell command with the text of mail.txt on its standard input. place: the night's
    directory, in which it runs.

    Raises HarnessError, one clear message. Whoever calls tells it and leaves the night's verdict
    as it is: that a mail was not sent says nothing about a kernel.
    """
    new = sum(each.change is Change.NEW_FAILURE for each in changes.changed)
    env = {
        "KLP_E2E_NIGHT": str(place.absolute()),
        "KLP_E2E_VERDICT": str(digest.digest(night, changes).verdict),
        "KLP_E2E_SUBJECT": subject(night, changes),
        "KLP_E2E_NEW_FAILURES": str(new),
    }
    text = mail(night, changes).encode(errors="backslashreplace")
    hint = f"the night's verdict stands; {place / MAIL} has what was to be told"
    words = ["sh", "-c", command]
    try:
        process.run(words, cwd=place, env=env, input=text, deadline=Deadline.after(seconds))
    except OutOfTime as late:
        message = f"the notify command did not end within {seconds:.0f} s: {command}"
        raise HarnessError(message, hint) from late
    except CommandFailed as failed:
        last = failed.tail.strip().splitlines()[-1:]
        message = f"the notify command ended with status {failed.code}: {command}"
        raise HarnessError("\n    ".join((message, *last)), hint) from failed
