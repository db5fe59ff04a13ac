# SPDX-License-Identifier: GPL-2.0-only
"""Whether a process was let stand still, with real ones that are stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest

from orchestrator.vm import pulse

STILL = 0.2


@pytest.fixture
def sleeper(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(pulse, "STILL_SECONDS", STILL)
    with subprocess.Popen(["sleep", "1000"]) as process:
        yield process.pid
        process.kill()


def stop(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)
    os.waitid(os.P_PID, pid, os.WSTOPPED)


def test_a_process_that_sleeps_does_not_stand_still(sleeper: int) -> None:
    felt = pulse.Pulse(sleeper)
    for _ in range(5):
        time.sleep(STILL / 4)
        felt.feel()
    assert felt.stood_still(0.0) == 0


def test_one_that_is_stopped_does_and_did_so_when_it_goes_on(sleeper: int) -> None:
    felt = pulse.Pulse(sleeper)
    stop(sleeper)
    time.sleep(2 * STILL)
    felt.feel()
    assert felt.stood_still(0.0) > STILL
    os.kill(sleeper, signal.SIGCONT)
    os.waitid(os.P_PID, sleeper, os.WCONTINUED)
    felt.feel()
    assert felt.stood_still(0.0) > STILL
    assert felt.stood_still(time.monotonic()) == 0  # nothing of a life that began later


def test_so_does_one_while_we_stand_still_ourselves(sleeper: int) -> None:
    felt = pulse.Pulse(sleeper)
    time.sleep(2 * STILL)
    assert felt.stood_still(0.0) > STILL


def test_one_that_has_ended_does_not(sleeper: int) -> None:
    felt = pulse.Pulse(sleeper)
    os.kill(sleeper, signal.SIGKILL)
    os.waitid(os.P_PID, sleeper, os.WEXITED)
    felt.feel()
    assert felt.stood_still(0.0) == 0


def test_it_is_felt_by_itself(sleeper: int) -> None:
    with pulse.felt(sleeper) as felt:
        time.sleep(4 * STILL)
        assert felt.stood_still(0.0) == 0
