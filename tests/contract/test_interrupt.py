# SPDX-License-Identifier: GPL-2.0-only
"""Ctrl-C where Python cannot pass it on."""

from __future__ import annotations

import subprocess
import sys

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


def test_an_interrupt_that_a_destructor_swallows_comes_again() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.stdout == "lost\n"
    assert (done.returncode, done.stderr) == (Exit.INTERRUPTED, "klp-e2e: interrupted\n")
