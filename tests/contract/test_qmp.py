# SPDX-License-Identifier: GPL-2.0-only
"""The QMP facade, once against a fake monitor and once against QEMU."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator import catalog
from orchestrator.deadline import Deadline
from orchestrator.errors import GuestLost, HarnessError, OutOfTime
from orchestrator.host import process
from orchestrator.vm import qmp

NODE = "state"


class FakeMonitor(threading.Thread):
    """As much of QEMU's monitor as the facade uses; one client."""

    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True)
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(path))
        self._server.listen(1)
        self._jobs: dict[str, dict[str, str]] = {}
        self._tags: set[str] = set()
        self.silent = False

    def run(self) -> None:
        client, _ = self._server.accept()
        self._server.close()
        with client:
            self._client = client
            version = {"qemu": {"micro": 0, "minor": 2, "major": 7}, "package": ""}
            self._send({"QMP": {"version": version, "capabilities": []}})
            for request in self._requests():
                if self.silent:
                    continue
                command = request["execute"]
                answer = self._answer(command, request.get("arguments", {}))
                self._send(answer | {key: request[key] for key in ("id",) if key in request})
                if command == "quit":
                    return

    def _requests(self) -> Iterator[dict[str, Any]]:
        """JSON texts one behind the other, without line ends, as QEMU takes them."""
        text = ""
        while data := self._client.recv(4096):
            text += data.decode()
            while text:
                try:
                    request, end = json.JSONDecoder().raw_decode(text)
                except ValueError:
                    break
                text = text[end:].lstrip()
                yield request

    def _send(self, message: dict[str, Any]) -> None:
        self._client.sendall(json.dumps(message).encode() + b"\r\n")

    def _event(self, name: str, data: dict[str, str]) -> None:
        stamp = {"seconds": int(time.time()), "microseconds": 0}
        self._send({"event": name, "data": data, "timestamp": stamp})

    def _answer(self, command: str, arguments: dict[str, Any]) -> dict[str, Any]:
        match command:
            case "qmp_capabilities" | "quit":
                pass
            case "query-status":
                return {"return": {"status": "prelaunch", "running": False}}
            case "snapshot-save" | "snapshot-load" | "snapshot-delete":
                self._jobs[arguments["job-id"]] = self._job(command, arguments)
            case "query-jobs":
                return {"return": [{"id": i, **job} for i, job in self._jobs.items()]}
            case "job-dismiss":
                del self._jobs[arguments["id"]]
            case _:
                return {"error": {"class": "CommandNotFound", "desc": f"no {command}"}}
        return {"return": {}}

    def _job(self, command: str, arguments: dict[str, Any]) -> dict[str, str]:
        ended = {"status": "concluded"}
        self._event("JOB_STATUS_CHANGE", {"id": arguments["job-id"], **ended})
        if arguments["devices"] != [NODE]:
            return {**ended, "error": f"No block device node '{arguments['devices'][0]}'"}
        if command == "snapshot-save":
            self._tags.add(arguments["tag"])
        elif arguments["tag"] not in self._tags:
            return {**ended, "error": f"Snapshot '{arguments['tag']}' does not exist"}
        elif command == "snapshot-delete":
            self._tags.remove(arguments["tag"])
        return ended


Started = Callable[[], None]


@contextlib.contextmanager
def _fake(path: Path) -> Iterator[Started]:
    monitor = FakeMonitor(path)
    monitor.start()
    yield lambda: None
    monitor.join(5)
    assert not monitor.is_alive()


@contextlib.contextmanager
def _qemu(path: Path) -> Iterator[Started]:
    arch = next(iter(catalog.default_arches().values()))
    disk = path.parent / "state.qcow2"
    process.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "1M"])
    log = path.parent / "qemu.log"
    # no kernel and CPUs stopped: nothing of a guest's runs
    argv = [
        *(arch.qemu, "-machine", arch.machine, "-accel", "tcg", "-nodefaults", "-m", "16", "-S"),
        *("-display", "none", "-qmp", f"unix:{path},server=on,wait=off"),
        *("-blockdev", f"driver=qcow2,node-name={NODE},file.driver=file,file.filename={disk}"),
    ]
    with process.start(argv, stdout=log, stderr=log) as running:

        def alive() -> None:
            if running.poll() is not None:
                raise GuestLost(log.read_text())

        yield alive


@pytest.fixture(params=[_fake, _qemu], ids=["fake", "real"])
def monitor(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[qmp.Qmp]:
    path = tmp_path / "q.sock"
    with (
        request.param(path) as alive,
        qmp.connect(path, Deadline.after(20), alive) as connected,
    ):
        yield connected


def test_commands_answer_and_events_are_kept_in_order(monitor: qmp.Qmp) -> None:
    assert monitor.execute("query-status")["running"] is False
    monitor.snapshot_save("fresh", NODE, Deadline.after(20))
    events = [event for event in monitor.events() if event.name == "JOB_STATUS_CHANGE"]
    assert events[-1].data["status"] in ("concluded", "null")
    assert all(abs(event.at - time.time()) < 60 for event in events)


def test_a_refusal_is_harness_error_and_the_connection_goes_on(monitor: qmp.Qmp) -> None:
    with pytest.raises(HarnessError, match="no-such-command"):
        monitor.execute("no-such-command")
    assert monitor.execute("query-status")["status"] == "prelaunch"


def test_messages_are_logged_both_ways(monitor: qmp.Qmp, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "orchestrator.vm.qmp")
    monitor.execute("query-status")
    with pytest.raises(HarnessError):
        monitor.execute("no-such-command", {"id": 1})
    monitor.snapshot_save("fresh", NODE, Deadline.after(20))
    said = [record.getMessage() for record in caplog.records]
    assert said[0] == "--> query-status "
    assert said[1].startswith("<-- {") and "prelaunch" in said[1]
    assert said[2] == "--> no-such-command {'id': 1}"
    assert said[3].startswith("<-- ") and "no-such-command" in said[3]
    assert any(line.startswith("<-- {") and "JOB_STATUS_CHANGE" in line for line in said[4:])


def test_snapshots_are_saved_loaded_and_deleted(monitor: qmp.Qmp) -> None:
    deadline = Deadline.after(20)
    monitor.snapshot_save("fresh", NODE, deadline)
    monitor.snapshot_load("fresh", NODE, deadline)
    monitor.snapshot_delete("fresh", NODE, deadline)
    with pytest.raises(HarnessError, match="fresh"):
        monitor.snapshot_load("fresh", NODE, deadline)
    with pytest.raises(HarnessError, match="nowhere"):
        monitor.snapshot_save("fresh", "nowhere", deadline)
    assert monitor.execute("query-jobs") == []


def test_qemu_gone_is_guest_lost(monitor: qmp.Qmp) -> None:
    monitor.execute("quit")
    monitor.wait_for_end(Deadline.after(5))
    with pytest.raises(GuestLost):
        monitor.execute("query-status")
    monitor.close()
    with pytest.raises(GuestLost):
        monitor.execute("query-status")


def test_a_silent_monitor_is_out_of_time(tmp_path: Path) -> None:
    monitor = FakeMonitor(tmp_path / "q.sock")
    monitor.start()
    with qmp.connect(tmp_path / "q.sock", Deadline.after(5), lambda: None) as connected:
        monitor.silent = True
        with pytest.raises(OutOfTime, match="query-status"):
            connected.execute("query-status", deadline=Deadline.after(0.1))
    monitor.join(5)


def test_nobody_there_is_noticed_at_once(tmp_path: Path) -> None:
    def dead() -> None:
        raise GuestLost("QEMU has ended")

    began = time.monotonic()
    with (
        pytest.raises(GuestLost, match="has ended"),
        qmp.connect(tmp_path / "q.sock", Deadline.after(20), dead),
    ):
        pass
    assert time.monotonic() - began < 2
