# SPDX-License-Identifier: GPL-2.0-only
"""`klp-e2e fleet`: many machines that work for one command."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer

from orchestrator.cli.program import EXAMPLE, app, guarded
from orchestrator.errors import Exit, UsageError
from orchestrator.fleet import chosen
from orchestrator.host import process
from orchestrator.host.rundir import run_dir
from orchestrator.report.terminal import tell

LISTEN = "127.0.0.1:8786"

fleet = typer.Typer(invoke_without_command=True, help="Let many machines work for one command.")
app.add_typer(fleet, name="fleet", epilog=EXAMPLE + "klp-e2e fleet start -n 2")


@fleet.callback()
def show(context: typer.Context) -> None:
    """Let many machines work for one command. Without a word behind it: who is there."""
    if context.invoked_subcommand is None:
        _status()


@guarded
def _status() -> Exit:
    chosen.need_dask()
    from orchestrator.fleet import place, status

    for line in status.lines(place.known()):
        tell(line)
    return Exit.GOOD


@fleet.command("start", epilog=EXAMPLE + "klp-e2e fleet start -n 2")
@guarded
def start(
    number: Annotated[
        int,
        typer.Option(
            "-n", "--workers", min=0, max=256, metavar="N", help="How many workers to begin here."
        ),
    ] = 1,
    listen: Annotated[
        str, typer.Option("--listen", metavar="HOST:PORT", help="Where the scheduler is to listen.")
    ] = LISTEN,
    store: Annotated[
        str,
        typer.Option(
            "--store",
            metavar="PLACE",
            help="What every machine reaches: a directory, or a URL as fsspec takes it. "
            "[default: in the state directory]",
        ),
    ] = "",
) -> Exit:
    """Begin a fleet, until Ctrl-C: scheduler, keys, workers. Who has the keys runs code on all."""
    chosen.need_dask()
    from orchestrator.fleet import place, service
    from orchestrator.fleet.store import Store

    if not listen.rpartition(":")[2].isdigit() or not listen.rpartition(":")[0]:
        raise UsageError(f"'{listen}' is no HOST:PORT", hint=f"such as {LISTEN}")
    home = place.directory()
    if not place.has_keys(home):
        place.new_keys(home)
    where = store or str(home / "store")
    Store(where)  # or no worker could do anything
    security = place.security(f"tls://{listen}", home)

    log = home / "workers.log"

    async def live(life: contextlib.ExitStack) -> None:
        def begun(address: str) -> None:
            place.remember(place.Fleet(address, where))
            tell(f"a fleet at {address}, its store: {where}")
            tell(f"on another machine: klp-e2e fleet join {address} --keys DIR --store {where}")
            tell(f"  DIR: a copy of {place.KEY} and {place.CERTIFICATE} of {home}")
            for _ in range(number):
                argv = [sys.executable, "-m", "orchestrator", "fleet", "join", address]
                argv += ["--keys", str(home), "--store", where]
                life.enter_context(process.start(argv, stdout=log, stderr=log))

        await service.schedule(listen, security, begun, asyncio.Event())

    with contextlib.ExitStack() as life:
        _run(live(life))
    return Exit.GOOD


@fleet.command("join", epilog=EXAMPLE + "klp-e2e fleet join tls://host:8786 --keys ./keys")
@guarded
def join(
    address: Annotated[
        str, typer.Argument(metavar="ADDRESS", help="Where its scheduler listens: tls://HOST:PORT.")
    ],
    keys: Annotated[
        Path | None,
        typer.Option("--keys", metavar="DIR", help="Where the fleet's key and certificate are."),
    ] = None,
    store: Annotated[
        str, typer.Option("--store", metavar="PLACE", help="The fleet's store, as seen from here.")
    ] = "",
) -> Exit:
    """Work for a fleet, until Ctrl-C, one unit of work at a time."""
    chosen.need_dask()
    from orchestrator.fleet import place, service, worker

    place.check_address(address)
    security = place.security(address, keys or place.directory())
    worker.KEEPER.store = store
    with run_dir("fleet-worker") as scratch:
        _run(service.work(address, security, scratch, tell))
    return Exit.GOOD


def _run(service: Coroutine[Any, Any, None]) -> None:
    asyncio.run(service)
