# SPDX-License-Identifier: GPL-2.0-only
"""`klp-e2e replay`: a bundle's order again, each time on a guest booted anew."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli import session
from orchestrator.cli.arguments import (
    AccelOption,
)
from orchestrator.cli.program import EXAMPLE, app, guarded
from orchestrator.errors import Exit
from orchestrator.model import orders
from orchestrator.nouns import Accel
from orchestrator.report.terminal import tell
from orchestrator.repro import bundle
from orchestrator.repro.bundle import Bundle
from orchestrator.run import slot
from orchestrator.verdicts import CaseResult


@app.command(epilog=EXAMPLE + "klp-e2e replay results/2026-01-31-020000/findings/s390x-basic -n 10")
@guarded
def replay(
    place: Annotated[
        Path, typer.Argument(metavar="BUNDLE", help="Its directory, from explore or minimise.")
    ],
    times: Annotated[
        int,
        typer.Option(
            "-n", min=1, metavar="N", help="Run it N times, each time on a guest booted anew."
        ),
    ] = 1,
    accel: AccelOption = Accel.AUTO,
) -> Exit:
    """See a bundle's order fail again. Exit code 1 when it fails, 0 when it does not.

    A bundle is code: its kernel is booted, in a guest without a network. Nothing but QEMU is
    started, with arguments that klp-e2e chooses. The bundle's own reproduce.sh is a script of
    whoever made it: read it first.
    """
    results = replay_bundle(bundle.read(place), times, tell, accel)
    return bundle.replay_exit_code(results)


def replay_bundle(
    recorded: Bundle, times: int, say: Callable[[str], None], accel: Accel = Accel.AUTO
) -> list[CaseResult]:
    """A bundle's order so many times, each on a guest booted for it. Raises MissingTool, and
    HarnessError where the accelerator that is asked for cannot be had."""
    session.need_emulator(recorded.bootable.arch, accel, say)
    cpus = orders.largest_race(recorded.case.order)
    results: list[CaseResult] = []
    say(recorded.heading)
    used = slot.GuestOptions(cold=True, accel=accel)
    with slot.GuestSlot(recorded.bootable, used, threading.Event(), cpus=cpus) as guests:
        for number in range(1, times + 1):
            results.append(recorded.judged(guests.run_case(recorded.case)))
            say(f"{number} of {times}  {recorded.compared(results[-1])}")
    say(f"reproduced {sum(map(recorded.shown_by, results))} of {times}")
    return results
