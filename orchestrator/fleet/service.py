# SPDX-License-Identifier: GPL-2.0-only
"""A fleet's processes: its scheduler, and its workers. Each lives as long as the coroutine."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from pathlib import Path

import dask
from distributed import Scheduler, Worker
from distributed.security import Security

from orchestrator import catalog
from orchestrator.build import emulator
from orchestrator.errors import HarnessError, MissingTool, UsageError
from orchestrator.fleet import worker

SETTINGS = {
    "distributed.scheduler.worker-ttl": "60s",  # who says nothing for so long is lost
    "distributed.comm.timeouts.connect": "10s",
    "distributed.admin.log-length": 0,  # who asks keeps the journal
    "distributed.worker.memory.terminate": False,  # its memory is guests'; the kernel looks to that
}
logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what is wrong is said by us
AGAIN_SECONDS = 2.0  # between tries to reach a scheduler
REST_SECONDS = 5.0  # between looks whether a guest is still used


def able() -> tuple[str, ...]:
    """The architectures whose guests this machine can run, as it is now."""
    found = []
    for name, arch in catalog.arches().items():
        with contextlib.suppress(MissingTool, HarnessError):
            if emulator.version(arch):
                found.append(name)
    return tuple(found)


async def schedule(
    listen: str, security: Security | None, begun: Callable[[str], None], ended: asyncio.Event
) -> None:
    """A scheduler at HOST:PORT until `ended`. begun: gets its address. Raises UsageError where it
    cannot listen there."""
    host, _, port = listen.rpartition(":")
    with dask.config.set(SETTINGS):
        try:
            scheduler = Scheduler(
                host=host,
                port=int(port),
                protocol="tcp" if security is None else "tls",
                security=security,
                dashboard=False,
                dashboard_address="127.0.0.1:0",  # nobody reaches it from elsewhere
            )
            await scheduler
        except (OSError, ValueError, RuntimeError) as err:
            why = err.__cause__ or err
            raise UsageError(f"nobody can listen at {listen}: {why}") from err
        async with scheduler:
            begun(scheduler.address)
            await ended.wait()


async def work(
    address: str,
    security: Security | None,
    scratch: Path,
    say: Callable[[str], None],
    once: bool = False,
) -> None:
    """A worker of the scheduler at that address, until it is cancelled: where the scheduler goes it
    waits for another one there. once: it does not."""
    arches = able()
    if not arches:
        raise MissingTool(
            "this machine has no QEMU for any architecture",
            hint="klp-e2e doctor says what it lacks",
        )
    resources = {f"arch:{name}": 1.0 for name in arches}
    waiting = False
    try:
        while True:
            with dask.config.set(SETTINGS):
                try:
                    await _one_life(address, security, scratch, resources, say)
                    if once:
                        return
                except (OSError, TimeoutError) as err:
                    if once:
                        raise HarnessError(f"no scheduler answers at {address}: {err}") from err
                    if not waiting:
                        say(f"no scheduler answers at {address}; waiting for one")
                    waiting = True
                else:
                    waiting = False
            await asyncio.sleep(AGAIN_SECONDS)
    finally:
        worker.KEEPER.close()


async def _one_life(
    address: str,
    security: Security | None,
    scratch: Path,
    resources: dict[str, float],
    say: Callable[[str], None],
) -> None:
    """Until the scheduler is gone."""
    one = Worker(
        address,
        nthreads=1,
        memory_limit=0,
        resources=resources,
        security=security,
        local_directory=str(scratch),
        dashboard=False,
        dashboard_address="127.0.0.1:0",
    )
    async with asyncio.timeout(30):
        await one
    say(f"working for {address}: {' '.join(name.partition(':')[2] for name in resources)}")
    async with one:
        rest = asyncio.create_task(_rest())
        try:
            await one.finished()
        finally:
            rest.cancel()
    say(f"the scheduler at {address} has gone")


async def _rest() -> None:
    while True:
        await asyncio.sleep(REST_SECONDS)
        await asyncio.to_thread(worker.KEEPER.rest)
