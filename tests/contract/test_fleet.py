# SPDX-License-Identifier: GPL-2.0-only
"""A fleet on this machine, scheduler and workers as processes of their own: what is done, by whom,
and what becomes of it where one of them ends. Units are made up; no guest is booted."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fleetunits import Piece
from samples import a_kernel

from orchestrator import catalog
from orchestrator.build.prepare import Bootable
from orchestrator.errors import HarnessError, UsageError
from orchestrator.fleet import executor, place, status, worker
from orchestrator.fleet.executor import OnFleet
from orchestrator.fleet.place import Fleet
from orchestrator.fleet.store import Store
from orchestrator.verdicts import GuestRecord

pytestmark = pytest.mark.xdist_group("fleet")
ARCH = "x86_64"


class Heap:
    """A queue of pieces, and what was told of them."""

    width = 1

    def __init__(
        self, pieces: Sequence[Piece], heard: Callable[[Any], None] = lambda message: None
    ) -> None:
        self._left = list(pieces)
        self._heard = heard
        self.told_of: list[Any] = []

    def next(self) -> Piece | None:
        return self._left.pop(0) if self._left else None

    def told(self, unit: Piece, message: Any) -> None:
        self.told_of.append(message)
        self._heard(message)

    def guest(self, record: GuestRecord) -> None:
        raise AssertionError("no guest is booted")

    @property
    def numbers(self) -> list[int]:
        return sorted(number for number, *_ in self.told_of)


class Ground:
    """A place for a fleet: its state, its port, its processes."""

    def __init__(self, home: Path) -> None:
        self.home = home
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.running: list[subprocess.Popen[bytes]] = []
        self.said: list[str] = []

    @property
    def fleet(self) -> Fleet:
        return Fleet(f"tls://127.0.0.1:{self.port}", str(self.home / "store"))

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        here = str(Path(__file__).parent)
        env = {**os.environ, "KLP_E2E_STATE": str(self.home / "state"), "PYTHONPATH": here}
        command = [sys.executable, "-m", "orchestrator", "fleet", *words]
        with (self.home / "log").open("ab") as log:
            self.running.append(subprocess.Popen(command, env=env, stdout=log, stderr=log))
        return self.running[-1]

    def schedule(self) -> subprocess.Popen[bytes]:
        listen = f"127.0.0.1:{self.port}"
        started = self.start("start", "-n", "0", "--listen", listen, "--store", self.fleet.store)
        self.wait(lambda: bool(list(status.lines(self.fleet))))
        return started

    def join(self) -> subprocess.Popen[bytes]:
        there = self.workers()
        started = self.start("join", self.fleet.address)
        self.wait(lambda: self.workers() > there)
        return started

    def workers(self) -> int:
        return len(list(status.lines(self.fleet))) - 1

    def wait(self, true: Callable[[], bool]) -> None:
        end = time.monotonic() + 60
        while True:
            with contextlib.suppress(HarnessError, UsageError):
                if true():
                    return
            assert time.monotonic() < end, (self.home / "log").read_text()[-2000:]
            time.sleep(0.1)

    def perform(self, *heaps: Heap) -> None:
        OnFleet(self.fleet, self.said.append).perform(heaps)

    def end(self) -> None:
        for one in self.running:
            one.send_signal(signal.SIGINT)
        for one in self.running:
            try:
                one.wait(60)  # a busy machine
            except subprocess.TimeoutExpired:
                one.kill()
                raise


@contextlib.contextmanager
def a_ground(home: Path) -> Iterator[Ground]:
    made = Ground(home)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("KLP_E2E_STATE", str(home / "state"))
        environment.setenv("KLP_E2E_CACHE", str(home / "cache"))
        try:
            yield made
        finally:
            made.end()


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    """For a test that ends some of its processes."""
    with a_ground(tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """With a scheduler and two workers, which nobody ends."""
    with a_ground(tmp_path_factory.mktemp("fleet")) as made:
        made.schedule()
        made.join()
        made.join()
        yield made


@pytest.fixture
def pair(shared: Ground, monkeypatch: pytest.MonkeyPatch) -> Ground:
    monkeypatch.setenv("KLP_E2E_STATE", str(shared.home / "state"))
    monkeypatch.setenv("KLP_E2E_CACHE", str(shared.home / "cache"))
    shared.said.clear()
    return shared


@pytest.fixture
def bootable(tmp_path: Path) -> Bootable:
    files = {name: tmp_path / name for name in ("image", "System.map", "config", "userland")}
    for name, file in files.items():
        file.write_text(f"the {name}")
    kernel = replace(
        a_kernel(ARCH),
        image=files["image"],
        system_map=files["System.map"],
        config=files["config"],
    )
    return Bootable(catalog.arch(ARCH), kernel, {}, files["userland"], ())


def test_each_piece_is_done_once_and_both_workers_do_some(pair: Ground, bootable: Bootable) -> None:
    heaps = [Heap([Piece(bootable, n, 0.05) for n in range(15)]) for _ in range(2)]
    pair.perform(*heaps)
    for heap in heaps:
        assert heap.numbers == list(range(15))
    told = [each for heap in heaps for each in heap.told_of]
    assert {content for _, content, _ in told} == {"the image"}
    assert len({pid for *_, pid in told}) == 2
    shown = "\n".join(status.lines(pair.fleet))
    assert "2 workers" in shown and ARCH in shown and "units done" in shown


def test_a_worker_that_is_killed_and_one_that_comes(ground: Ground, bootable: Bootable) -> None:
    ground.schedule()
    victim = ground.join()
    ground.join()

    def strike(message: Any) -> None:
        if len(heap.told_of) == 5:
            victim.kill()
            victim.wait()
            ground.start("join", ground.fleet.address)

    heap = Heap([Piece(bootable, n, 0.1) for n in range(40)], strike)
    ground.perform(heap)
    assert heap.numbers == list(range(40))
    assert any("it has gone" in line for line in ground.said)


def test_a_piece_that_ends_two_workers_is_given_up_and_no_other(
    ground: Ground, bootable: Bootable
) -> None:
    ground.schedule()
    for _ in range(3):
        ground.join()
    heap = Heap([Piece(bootable, n, 0.05, fatal=n == 3) for n in range(12)])
    ground.perform(heap)
    assert heap.numbers == list(range(12))
    ((number, _, why),) = [each for each in heap.told_of if each[1] == "given up"]
    assert number == 3 and "given up after 2 workers" in why


def test_a_scheduler_that_is_killed_and_begun_again(ground: Ground, bootable: Bootable) -> None:
    first = ground.schedule()
    ground.join()

    def strike(message: Any) -> None:
        if len(heap.told_of) == 3:
            first.kill()
            first.wait()
            threading.Thread(target=ground.schedule).start()

    heap = Heap([Piece(bootable, n, 0.1) for n in range(20)], strike)
    ground.perform(heap)
    assert heap.numbers == list(range(20))


def test_an_interrupt_ends_what_is_done_for_us_at_once(
    pair: Ground, bootable: Bootable, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"

    def interrupt(message: Any) -> None:
        pair.wait(mark.exists)  # the next one is under way
        raise KeyboardInterrupt

    heap = Heap([Piece(bootable, 0), Piece(bootable, 1, 100, mark=mark)], interrupt)
    with pytest.raises(KeyboardInterrupt):
        pair.perform(heap)
    pair.wait(lambda: not mark.exists())
    again = Heap([Piece(bootable, 2)])
    pair.perform(again)
    assert again.numbers == [2]


def test_who_has_another_version_is_refused_with_both(
    pair: Ground, bootable: Bootable, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = worker.identity()
    monkeypatch.setattr(executor, "PATIENCE", 3.0)
    monkeypatch.setattr(worker, "identity", lambda: "9.9, another")
    with pytest.raises(HarnessError, match=f"its klp-e2e is {own}, not 9.9, another"):
        pair.perform(Heap([Piece(bootable, 0)]))


def test_an_artifact_that_is_damaged_is_not_used(
    pair: Ground, bootable: Bootable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor, "PATIENCE", 3.0)
    bootable.kernel.image.write_text("one that no worker has yet")
    put = Store.put

    def spoilt(self: Store, digest: str, path: Path) -> None:
        put(self, digest, path)
        if path == bootable.kernel.image:
            (pair.home / "store" / digest[:2] / digest).write_text("another image")

    monkeypatch.setattr(Store, "put", spoilt)
    with pytest.raises(HarnessError, match="has another content"):
        pair.perform(Heap([Piece(bootable, 0)]))


def test_who_has_other_keys_is_not_let_in(
    pair: Ground, bootable: Bootable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(executor, "PATIENCE", 3.0)
    monkeypatch.setenv("KLP_E2E_STATE", str(tmp_path / "another"))
    with pytest.raises(UsageError, match="no keys of the fleet"):
        pair.perform(Heap([Piece(bootable, 0)]))
    place.new_keys(place.directory())
    with pytest.raises(HarnessError, match="no worker of the fleet"):
        pair.perform(Heap([Piece(bootable, 0)]))


def test_what_no_worker_can_run_is_given_up(
    pair: Ground, bootable: Bootable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor, "PATIENCE", 2.0)
    strange = replace(bootable, arch=replace(bootable.arch, name="vax"))
    heap, other = Heap([Piece(strange, 0)]), Heap([Piece(bootable, 1)])
    pair.perform(heap, other)
    assert other.numbers == [1]
    assert heap.told_of == [(0, "given up", "no worker of the fleet can run vax guests")]


def test_an_address_that_is_not_encrypted_is_for_this_machine_only(tmp_path: Path) -> None:
    assert place.security("tcp://127.0.0.1:8786", tmp_path) is None
    with pytest.raises(UsageError, match="not encrypted"):
        place.security("tcp://example.org:8786", tmp_path)
    for wrong in ("example.org", "tls://", "http://a:1", "tls://a b:1"):
        with pytest.raises(UsageError):
            place.check_address(wrong)
