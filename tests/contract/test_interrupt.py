# SPDX-License-Identifier: GPL-2.0-only
"""Ctrl-C where Python cannot pass it on."""

from __future__ import annotations

import subprocess
import sys

import pytest

from orchestrator.errors import Exit

PROGRAM = """
import os, signal, sys, time
from orchestrator.cli import program

class Destroyed:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)

def body():
    Destroyed()
    print("lost", flush=True)
    time.sleep(60)

program.listen()
sys.exit(program.outcome(body))
"""


MADE_OTHERWISE = """
import os, signal, sys, time
from orchestrator.cli import program

def body():
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)
    except KeyboardInterrupt as err:  # as pydantic has it while it looks at a type
        raise ValueError(f"Error building serializer: {err!r}")

program.listen()
sys.exit(program.%s)
"""


def interrupted(program: str) -> str:
    """What it has printed that ended as it should."""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stderr) == (Exit.INTERRUPTED, "klp-e2e: interrupted\n")
    return done.stdout


def test_an_interrupt_that_a_destructor_swallows_comes_again() -> None:
    assert interrupted(PROGRAM) == "lost\n"


@pytest.mark.parametrize("run", ["outcome(body)", "carried_out(body)"])
def test_an_interrupt_of_which_a_library_makes_something_else_is_one(run: str) -> None:
    assert interrupted(MADE_OTHERWISE % run) == ""
