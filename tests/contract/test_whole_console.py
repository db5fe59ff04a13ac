# SPDX-License-Identifier: GPL-2.0-only
"""That a console is whole: what a guest's agent and console have to show for it, and what a case or
an event comes to when they do not. The agent and the console are ours here."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast
from urllib.parse import unquote

import pytest
from samples import an_answer

from orchestrator import plain
from orchestrator.deadline import Deadline
from orchestrator.errors import GuestLost, HarnessError, OutOfTime
from orchestrator.host import lines
from orchestrator.host.lines import UnixLines
from orchestrator.model import leaks, orders
from orchestrator.model.leaks import Leak
from orchestrator.nouns import Case, Channel, Kernel
from orchestrator.run.observe import GuestView
from orchestrator.run.runner import CaseRun, EventRun
from orchestrator.verdicts import CaseResult, CheckKind, Status
from orchestrator.vm import guest as guests
from orchestrator.vm import serial
from orchestrator.vm.guest import Guest
from orchestrator.vm.machine import Machine

HUNG = "INFO: task foo:1 blocked for more than 120 seconds."


@dataclass
class Stub:
    """As much of a machine as a guest needs."""

    agent: UnixLines
    console: serial.Console
    arch: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(time_scale=1.0))

    def lost(self, why: str) -> GuestLost:
        return GuestLost(why)

    def alive(self) -> None:
        """It is."""


@dataclass
class Kernels:
    """What a kernel does with its log and its console."""

    out: int  # the console, as QEMU has it
    log: str = ""
    mute: bool = False
    refuses: bool = False
    before: str = ""  # comes out just before the next mark
    lost: str = ""  # what kmemleak lists
    blind: int = 0  # the exit status of having it look

    def printk(self, text: str) -> None:
        line = f"[    1.000000] {text}\n"
        self.log += line
        if not self.mute:
            os.write(self.out, line.replace("\n", "\r\n").encode())

    def answer(self, request: str) -> dict[str, object]:
        verb, *words = (unquote(word) for word in request.split(" "))
        match verb, words:
            case "hello", [token]:
                return {"agent": 2, "token": token, "release": "6.1.0", "cmdline": ""}
            case "write", ["/dev/kmsg", text]:
                if self.refuses:
                    return {"errno": 1, "usec": 1}
                os.write(self.out, self.before.encode())
                assert text.startswith("<0>") and text.endswith("\n")
                self.printk(text[3:-1])
                return {"errno": 0, "usec": 1}
            case "write", ["/dev/console", _]:
                return {"errno": 0, "usec": 1}
            case "run", [_, "dmesg"]:
                return {"status": 0, "expired": False, "output": self.log}
            case "run", [_, leaks.SCAN]:
                return {"status": self.blind, "expired": False, "output": self.lost}
        return {"error": "unknown request"}


def serve(end: socket.socket, kernel: Kernels) -> None:
    with end, end.makefile("r") as stream:
        for line in stream:
            end.sendall(json.dumps(kernel.answer(line.rstrip("\n"))).encode() + b"\n")


@dataclass
class World:
    guest: Guest
    kernel: Kernels


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(guests, "CONSOLE_SECONDS", 0.2)
    ours, theirs = socket.socketpair()
    with contextlib.ExitStack() as stack:
        kept = stack.enter_context(serial.kept(tmp_path / "console.log"))
        out = os.open(tmp_path / "console.log", os.O_WRONLY)
        stack.callback(os.close, out)
        kernel = Kernels(out)
        thread = threading.Thread(target=serve, args=(theirs, kernel), daemon=True)
        thread.start()
        agent = stack.enter_context(contextlib.closing(UnixLines(ours)))
        stub = Stub(agent, kept)
        yield World(Guest(cast(Machine, stub), Channel.AGENT, soon()), kernel)
    thread.join(5)
    assert not thread.is_alive()


def soon() -> Deadline:
    return Deadline.after(30)


# --- the proof ----------------------------------------------------------------------------------


def test_all_that_was_logged_before_is_printed_and_the_mark_is_not_shown(world: World) -> None:
    world.kernel.printk("old")
    mark = world.guest.console_mark()
    world.kernel.printk("new")
    assert world.guest.printed(mark, soon()) == "[    1.000000] new\n"


def test_a_console_that_loses_what_is_printed_is_harness_error(world: World) -> None:
    world.kernel.mute = True
    with pytest.raises(HarnessError, match=r"console is not whole.*does not come out"):
        world.guest.printed(0, soon())


def test_a_log_that_cannot_be_written_is_harness_error(world: World) -> None:
    world.kernel.refuses = True
    with pytest.raises(HarnessError, match=r"console is not whole: /dev/kmsg.*EPERM"):
        world.guest.printed(0, soon())


def test_what_the_kernel_dropped_is_harness_error(world: World) -> None:
    world.kernel.before = "** 3 printk messages dropped **\n"
    with pytest.raises(HarnessError, match="dropped 3 messages"):
        world.guest.printed(0, soon())


def test_what_comes_between_two_events_is_looked_at_with_the_second(world: World) -> None:
    guest, kernel = world.guest, world.kernel
    kernel.printk("while booting")
    first = guest.console_untold()
    kernel.printk("one")
    assert guest.printed(first, soon()) == "[    1.000000] one\n"
    kernel.printk(HUNG)
    second = guest.console_untold()
    kernel.printk("two")
    assert guest.printed(second, soon()) == f"[    1.000000] {HUNG}\n[    1.000000] two\n"


@pytest.mark.parametrize("what", ["mute", "refuses", "before"])
def test_a_complaint_needs_no_proof(world: World, what: str) -> None:
    world.kernel.printk(HUNG)
    value = "** 3 printk messages dropped **\n" if what == "before" else True
    setattr(world.kernel, what, value)
    assert HUNG in world.guest.printed(0, soon())


# --- a case -------------------------------------------------------------------------------------


WARNED = "WARNING: CPU: 0 PID: 1 at kernel/foo.c:1 foo+0x1/0x2"
OOPSED = "BUG: kernel NULL pointer dereference, address: 0000000000000000"


@pytest.mark.parametrize(
    ("said", "lost", "status"),
    [
        ("hello", GuestLost("gone", ended=True), Status.ERROR),
        (WARNED, GuestLost("gone", ended=True), Status.ERROR),  # by its host, it may be
        (HUNG, GuestLost("gone", ended=True), Status.ERROR),
        (OOPSED, GuestLost("gone", ended=True), Status.FAIL),
        ("hello", GuestLost("no answer", silent=True), Status.ERROR),
        (WARNED, GuestLost("no answer", silent=True), Status.FAIL),  # by itself: in this event
        (HUNG, GuestLost("no answer", silent=True), Status.FAIL),
        (WARNED, GuestLost("flooded"), Status.FAIL),
        (OOPSED, HarnessError("garbled"), Status.ERROR),
        (WARNED, OutOfTime("late"), Status.ERROR),
    ],
    ids=str,
)
def test_a_guest_that_is_lost_in_an_event(
    said: str,
    lost: HarnessError,
    status: Status,
    world: World,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def event() -> None:
        world.kernel.printk(said)
        raise lost

    monkeypatch.setattr(Guest, "qmp_events", lambda self: ())
    monkeypatch.setattr(Guest, "stood_still", lambda self: "")
    assert run(world, monkeypatch, event).status is status


def run(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    event: Callable[[], None],
    errno: int = 0,
    before: tuple[Leak, ...] | None = None,
    judged: int = 0,
) -> CaseResult:
    """A case of one event that is good; `event` is what the kernel does after it was judged. errno:
    what it is answered with, as it should be. before: see CaseRun. judged: how many promised
    warnings were."""
    arch = SimpleNamespace(time_scale=1.0)
    case = Case("one", "basic", orders.parse("+klp_target"))

    def take(self: EventRun, *_: object) -> tuple[None, None]:
        good = an_answer(errno, errno)
        self.warnings = judged
        self.step = replace(self.step, checks=(good,))
        event()
        return None, None

    monkeypatch.setattr(EventRun, "take", take)
    warns = SimpleNamespace(warnings=frozenset({"x.c:5 f [p]"}))
    built = SimpleNamespace(modules={}, set=warns)
    view = cast(GuestView, SimpleNamespace(arch=arch, built=built))
    kernel = cast(Kernel, SimpleNamespace(capabilities=frozenset()))
    return CaseRun(world.guest, view, kernel, CaseResult(case, "any"), before).run_events()


def test_a_quiet_case_passes_and_shows_no_mark(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.kernel.printk(HUNG)  # in the snapshot's log: none of this case's
    result = run(world, monkeypatch, lambda: world.kernel.printk("hello"))
    assert (result.status, result.reason) == (Status.PASS, "")
    assert result.console == "[    1.000000] hello\n"
    assert result.dmesg == f"[    1.000000] {HUNG}\n[    1.000000] hello\n"


def test_what_the_kernel_says_after_its_last_event_was_judged_is_fail(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run(world, monkeypatch, lambda: world.kernel.printk(HUNG))
    assert (result.status, result.reason) == (Status.FAIL, f"+klp_target: console: {HUNG}")
    failure = result.first_failure()
    assert failure is not None and failure[2].kind is CheckKind.HEALTH


@pytest.mark.parametrize(("judged", "status"), [(0, Status.FAIL), (1, Status.PASS)])
def test_a_promised_warning_that_comes_when_all_was_judged_is_fail(
    judged: int, status: Status, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = "WARNING: CPU: 0 PID: 5 at /mine/x.c:5 f+0x1/0x2 [p]"
    result = run(world, monkeypatch, lambda: world.kernel.printk(said), judged=judged)
    assert result.status is status
    assert ("x.c:5 f [p]" in result.reason) == (status is Status.FAIL)


def test_what_only_the_log_knows_is_error(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def event() -> None:
        world.kernel.mute = True
        world.kernel.printk(HUNG)
        world.kernel.mute = False

    result = run(world, monkeypatch, event)
    assert result.status is Status.ERROR
    assert f"the kernel's log has what its console did not show: {HUNG}" in result.reason


def test_a_console_that_is_lost_after_the_last_event_is_error(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run(world, monkeypatch, lambda: setattr(world.kernel, "mute", True))
    assert result.status is Status.ERROR
    assert "console is not whole" in result.reason


LOST = """unreferenced object 0xffff888002a0c000 (size 64):
  comm "klp-agent", pid 41, jiffies 4294670000
  hex dump (first 32 bytes):
    00 00 00 00 00 00 00 00 01 00 00 00 00 00 00 00  ................
  backtrace (crc 0):
    __kmalloc_cache_noprof+0x1d4/0x2c0
    klp_add_nops+0x10/0x60
    init_module+0x10/0x20 [klp_patch]
"""


def test_memory_that_an_order_has_lost_is_fail(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.kernel.lost = LOST
    result = run(world, monkeypatch, lambda: None, before=())
    told = "64 bytes from klp_add_nops < init_module [klp_patch]"
    assert (result.status, result.reason) == (Status.FAIL, f"+klp_target: kmemleak: {told}")
    again = run(world, monkeypatch, lambda: None, before=leaks.read(LOST))
    assert again.status is Status.PASS
    assert "kmemleak" in [check.subject for check in again.steps[-1].checks]
    assert run(world, monkeypatch, lambda: None).status is Status.PASS, "its kernel does not tell"


def test_a_kmemleak_that_has_given_up_proves_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.kernel.blind = 1
    assert run(world, monkeypatch, lambda: None, before=()).status is Status.ERROR


def test_a_long_console_is_kept_by_its_ends(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def event() -> None:
        for _ in range(20):
            world.kernel.printk("a" * 100_000)

    result = run(world, monkeypatch, event)
    assert result.status is Status.PASS
    assert len(result.console) < 2 * plain.KEPT_CHARACTERS + 100


# --- lines of the agent's -----------------------------------------------------------------------


def fed(pieces: list[bytes]) -> lines.Buffer:
    buffer = lines.Buffer()
    for piece in pieces:
        buffer.feed(piece)
    return buffer


def test_lines_come_out_of_whatever_pieces() -> None:
    buffer = fed([b"o", b"ne\ntw", b"o\n", b"\nfour"])
    assert [buffer.line() for _ in range(4)] == ["one", "two", "", None]
    buffer.feed(b"\n")
    assert buffer.line() == "four"


def test_a_line_without_an_end_is_searched_once_and_ends_at_the_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    searched = 0

    class Counted(bytearray):
        def find(self, sub: bytes, start: int = 0) -> int:  # type: ignore[override]
            nonlocal searched
            searched += len(self) - start
            return super().find(sub, start)

    buffer = lines.Buffer()
    monkeypatch.setattr(buffer, "_held", Counted())
    fed_bytes = 0
    with pytest.raises(GuestLost, match="no answer of the agent's"):
        while True:
            buffer.feed(b"a" * lines.CHUNK_BYTES)
            fed_bytes += lines.CHUNK_BYTES
            assert buffer.line() is None
    assert fed_bytes <= lines.LINE_BYTES + 2 * lines.CHUNK_BYTES
    assert searched <= 2 * fed_bytes


def test_a_flood_without_an_end_comes_to_an_end_over_a_socket() -> None:
    ours, theirs = socket.socketpair()
    stop = threading.Event()

    def flood() -> None:
        with theirs, contextlib.suppress(OSError):
            while not stop.is_set():
                theirs.sendall(b"a" * lines.CHUNK_BYTES)

    thread = threading.Thread(target=flood)
    thread.start()
    with contextlib.closing(UnixLines(ours)) as channel:
        with pytest.raises(GuestLost, match="no answer of the agent's"):
            channel.receive(Deadline.after(60))
        stop.set()
    thread.join(5)


def test_lines_that_are_no_answer_to_hello_end_with_its_time() -> None:
    ours, theirs = socket.socketpair()

    def chatter() -> None:
        with theirs, contextlib.suppress(OSError):
            while True:
                theirs.sendall(b'{"errno":0,"usec":1}\n' * 1000)

    thread = threading.Thread(target=chatter)
    thread.start()
    with contextlib.closing(UnixLines(ours)) as channel:
        stub = cast(Machine, SimpleNamespace(agent=channel, lost=GuestLost))
        with pytest.raises(GuestLost, match="no answer to `hello"):
            Guest(stub, Channel.AGENT, Deadline.after(0.3))
    thread.join(5)


def test_out_of_time_is_said(world: World) -> None:
    with pytest.raises(OutOfTime):
        world.guest.machine.agent.receive(Deadline.after(0.01))


def test_an_order_of_which_every_event_is_refused_proves_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run(world, monkeypatch, lambda: None, errno=2)
    assert (result.status, "nothing was proved" in result.reason) == (Status.ERROR, True)
