# SPDX-License-Identifier: GPL-2.0-only
"""--notify-command, with a real shell."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from orchestrator.announce import notify
from orchestrator.announce.mail import mail
from orchestrator.errors import HarnessError
from orchestrator.history.nights import Changes, Night

NIGHT = Night("2026-01-31-020000", 0.0, 60.0, "0.1.0", "a host", "nightly.toml", None)
CHANGES = Changes(before="")
TOLD = "NIGHT VERDICT SUBJECT NEW_FAILURES"


def test_the_command_is_told_of_the_night(tmp_path: Path) -> None:
    shown = " ".join(f'"$KLP_E2E_{name}"' for name in TOLD.split())
    command = f"printf '%s\\n' {shown} >env; cat >stdin"
    notify.send(command, tmp_path, NIGHT, CHANGES)
    assert (tmp_path / "env").read_text().splitlines() == [
        *(str(tmp_path), "trouble", "klp-e2e: nothing ran", "0"),
    ]
    assert (tmp_path / "stdin").read_text() == mail(NIGHT, CHANGES)


def test_a_command_that_fails_is_one_message(tmp_path: Path) -> None:
    command = "echo no such list >&2; exit 67"
    with pytest.raises(HarnessError) as told:
        notify.send(command, tmp_path, NIGHT, CHANGES)
    assert str(told.value) == (
        f"the notify command ended with status 67: {command}\n    no such list"
    )
    assert f"the night's verdict stands; {tmp_path}/mail.txt" in told.value.hint


def test_a_command_that_hangs_is_ended(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(HarnessError, match="did not end within 0 s"):
        notify.send("sleep 60", tmp_path, NIGHT, CHANGES, seconds=0.3)
    assert time.monotonic() - began < 30
