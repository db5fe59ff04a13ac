# SPDX-License-Identifier: GPL-2.0-only
"""QEMU's monitor, QMP, without asyncio: the only importer of `qemu.qmp`.

The library lives on an event loop in a thread of its own; every call here hands over one coroutine
and waits for it, with a deadline. Losing QEMU is GuestLost, an answer of QEMU that says no is
HarnessError.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from qemu.qmp import EventListener, ExecuteError, QMPClient, QMPError, Runstate

from orchestrator.deadline import Deadline
from orchestrator.errors import GuestLost, HarnessError, OutOfTime

log = logging.getLogger(__name__)

T = TypeVar("T")

CONNECT_POLL_SECONDS = 0.005
JOB_POLL_SECONDS = 0.005
DEFAULT_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Event:
    """`at`: seconds since the epoch, QEMU's clock."""

    name: str
    data: Mapping[str, object]
    at: float


class Qmp:
    """One monitor connection; made by `connect`, ended by `close`."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="qmp", daemon=True)
        self._thread.start()
        self._client: QMPClient | None = None
        self._events: list[Event] = []
        self._listener: asyncio.Task[None] | None = None
        self._calls: set[asyncio.Task[Any]] = set()
        self._job = 0
        self._closed = False

    def execute(
        self,
        command: str,
        arguments: Mapping[str, object] | None = None,
        deadline: Deadline | None = None,
    ) -> Any:
        """One command's `return`. Raises HarnessError when QEMU refuses, GuestLost, OutOfTime."""
        client = self._client
        if client is None or self._closed:
            raise GuestLost(f"QMP is closed; {command} cannot be executed")
        deadline = deadline or Deadline.after(DEFAULT_SECONDS)
        log.debug("--> %s %s", command, arguments or "")
        answer = self._wait(client.execute(command, arguments), deadline, f"QMP {command}")
        log.debug("<-- %s", answer)
        return answer

    def events(self) -> tuple[Event, ...]:
        """Every event so far, oldest first."""
        return tuple(self._events)

    def wait_for_end(self, deadline: Deadline) -> None:
        """Wait, up to `deadline`, for QEMU to hang up: then `events` holds its last words."""
        client = self._client
        while client is not None and client.runstate == Runstate.RUNNING and not deadline.passed:
            time.sleep(CONNECT_POLL_SECONDS)

    # --- snapshots -----------------------------------------------------------------------------

    def snapshot_save(self, tag: str, node: str, deadline: Deadline) -> None:
        """Save CPUs, memory and devices under `tag` in block node `node`; the guest runs on."""
        self._snapshot("snapshot-save", tag, {"vmstate": node, "devices": [node]}, deadline)

    def snapshot_load(self, tag: str, node: str, deadline: Deadline) -> None:
        """Go back to what was saved under `tag`; the guest runs on from there."""
        self._snapshot("snapshot-load", tag, {"vmstate": node, "devices": [node]}, deadline)

    def snapshot_delete(self, tag: str, node: str, deadline: Deadline) -> None:
        self._snapshot("snapshot-delete", tag, {"devices": [node]}, deadline)

    def _snapshot(
        self, command: str, tag: str, where: Mapping[str, object], deadline: Deadline
    ) -> None:
        """Start the job and follow it to its end (qapi/migration.json, qapi/job.json)."""
        self._job += 1
        job = f"klp-{self._job}"
        self.execute(command, {"job-id": job, "tag": tag, **where}, deadline)
        while True:
            jobs = self.execute("query-jobs", deadline=deadline)
            state = next((j for j in jobs if j["id"] == job), None)
            if state is None:
                raise HarnessError(f"QEMU forgot the job of {command} {tag}")
            if state["status"] == "concluded":
                break
            deadline.check(f"{command} {tag}")
            time.sleep(JOB_POLL_SECONDS)
        self.execute("job-dismiss", {"id": job}, deadline)
        if "error" in state:
            raise HarnessError(
                f"{command} {tag} failed: {state['error']}",
                hint="is the disk full? Snapshots lie in $TMPDIR, or in /tmp",
            )

    # --- the loop ------------------------------------------------------------------------------

    def connect(self, path: Path, deadline: Deadline, alive: Callable[[], None]) -> None:
        """Connect to QEMU's socket as soon as it is there.

        `alive` is called while waiting and raises when QEMU has ended.
        """
        while True:
            client = self._client = QMPClient("klp")
            try:
                self._wait(client.connect(str(path)), deadline, "QMP's greeting")
                log.debug("<-- %s", client.greeting)
                break
            except GuestLost:
                alive()  # not there yet, or never
                deadline.check(f"QEMU's monitor at {path}")
                time.sleep(CONNECT_POLL_SECONDS)
        self._wait(self._listen(client), deadline, "QMP's event listener")

    def _wait(self, work: Coroutine[Any, Any, T], deadline: Deadline, what: str) -> T:
        """Run `work` on the loop; on any exception it has ended there before we go on."""
        future = asyncio.run_coroutine_threadsafe(self._bounded(work, deadline.left()), self._loop)
        try:
            return future.result()
        except TimeoutError as err:
            raise OutOfTime(f"time ran out while waiting for {what}") from err
        except ExecuteError as err:
            log.debug("<-- %s", err)
            raise HarnessError(f"{what}: QEMU refuses: {err}") from err
        except (QMPError, EOFError, OSError, concurrent.futures.CancelledError) as err:
            raise GuestLost(f"{what}: QEMU is gone: {err}") from err
        except BaseException:
            future.cancel()
            raise

    async def _bounded(self, work: Coroutine[Any, Any, T], seconds: float) -> T:
        task = asyncio.current_task()
        assert task is not None
        self._calls.add(task)
        try:
            return await asyncio.wait_for(work, seconds)
        finally:
            self._calls.discard(task)

    async def _listen(self, client: QMPClient) -> None:
        listener = EventListener()
        client.register_listener(listener)
        self._listener = asyncio.create_task(self._collect(listener))

    async def _collect(self, listener: EventListener) -> None:
        async for message in listener:
            log.debug("<-- %s", dict(message))
            stamp: Any = message["timestamp"]
            data: Any = message.get("data", {})
            at = stamp["seconds"] + stamp["microseconds"] / 1e6
            self._events.append(Event(str(message["event"]), data, at))

    async def _end(self) -> None:
        # calls that were interrupted come first: the library takes one disconnect at a time
        await _cancel(self._calls)
        if self._client is not None and self._client.runstate != Runstate.IDLE:
            # QEMU's going away is how a connection usually ends
            with contextlib.suppress(QMPError, EOFError, OSError):
                await self._client.disconnect()
        if self._listener is not None:
            await _cancel({self._listener})

    def close(self) -> None:
        """Hang up and end the thread; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        try:
            asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(5.0)
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()


async def _cancel(tasks: set[asyncio.Task[Any]]) -> None:
    tasks = set(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.contextmanager
def connect(path: Path, deadline: Deadline, alive: Callable[[], None]) -> Iterator[Qmp]:
    """A connection to QEMU's QMP socket; see `Qmp.connect`."""
    qmp = Qmp()
    try:
        qmp.connect(path, deadline, alive)
        yield qmp
    finally:
        qmp.close()
