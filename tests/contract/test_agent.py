# SPDX-License-Identifier: GPL-2.0-only
"""The agent's protocol: one suite against a fake agent and against the program itself, compiled
for this host, and what `Guest` makes of answers that are not as agreed.

Nothing here loads a module or writes to this host's kernel: requests look, or write to /dev/null.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote

import pytest

from orchestrator import catalog
from orchestrator.deadline import Deadline
from orchestrator.errors import GuestLost, HarnessError, OutOfTime
from orchestrator.host.lines import UnixLines
from orchestrator.nouns import Channel
from orchestrator.verdicts import PatchState
from orchestrator.vm.agent import encode
from orchestrator.vm.guest import ANSWER_SECONDS, Guest
from orchestrator.vm.machine import Machine

FAKE_FILES = {"/proc/version": "Linux version\n"}


def answer(request: str) -> dict[str, Any]:
    """What an agent says in a guest without modules."""
    verb, *arguments = (unquote(word) for word in request.split(" "))
    match verb, arguments:
        case "hello", [token]:
            return {"agent": 2, "token": token, "release": "6.1.0", "cmdline": "console=x"}
        case "settle", [_]:
            return {"errno": 0, "usec": 5}
        case "observe", [_, *paths]:
            files = {
                path: {"errno": 0 if path in FAKE_FILES else 2, "text": FAKE_FILES.get(path, "")}
                for path in paths
            }
            empty: dict[str, Any] = {"taint": 0, "modules": [], "patches": {}, "sections": {}}
            return {**empty, "files": files}
        case "run", [_, command]:
            status, text = {"exit 3": (3, ""), "printf 'a%%\\303\\251 \\n'": (0, "a%Ã© \n")}[
                command
            ]
            return {"status": status, "expired": False, "output": text}
        case "write", [path, _]:
            return {"errno": 0 if path == "/dev/null" else 2, "usec": 1}
        case "race", [count, *words]:
            size = int(count)
            result = {"errnos": [answer(" ".join(words[:size]))["errno"]], "usec": 7}
            if rest := words[size:]:
                result["errnos"] += answer(" ".join(["race", *rest]))["errnos"]
            return result
    return {"error": "unknown request"}


@dataclass
class Stub:
    """As much of a machine as a guest needs."""

    agent: UnixLines
    reasons: list[str] = field(default_factory=list)

    def lost(self, why: str) -> GuestLost:
        self.reasons.append(why)
        return GuestLost(why, console="last words")


@contextlib.contextmanager
def _ends() -> Iterator[tuple[Stub, socket.socket]]:
    ours, theirs = socket.socketpair()
    with theirs, contextlib.closing(UnixLines(ours)) as lines:
        yield Stub(lines), theirs


def _guest(stub: Stub) -> Guest:
    return Guest(cast(Machine, stub), Channel.AGENT, Deadline.after(5))


def _serve(end: socket.socket, reply: Callable[[str], list[str]]) -> None:
    with end, end.makefile("r") as stream:
        for line in stream:
            for text in reply(line.rstrip("\n")):
                end.sendall(text.encode() + b"\n")


@contextlib.contextmanager
def guest_of(reply: Callable[[str], list[str]]) -> Iterator[Guest]:
    """A guest whose agent answers each request with the lines that `reply` returns."""
    with _ends() as (stub, end):
        thread = threading.Thread(target=_serve, args=(end.dup(), reply), daemon=True)
        thread.start()
        end.close()
        yield _guest(stub)
        stub.agent.close()
        thread.join(5)
        assert not thread.is_alive()


@pytest.fixture(scope="session")
def agent_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("agent") / "klp-agent"
    source = catalog.data_dir("images/guest") / "agent.c"
    flags = ["-std=gnu11", "-Wall", "-Wextra", "-Wno-unused-result", "-Werror"]
    subprocess.run(["gcc", *flags, "-o", program, source], check=True)
    return program


@pytest.fixture(params=["fake", "real"])
def guest(request: pytest.FixtureRequest) -> Iterator[Guest]:
    if request.param == "fake":
        with guest_of(lambda line: [json.dumps(answer(line))]) as made:
            yield made
        return
    program = str(request.getfixturevalue("agent_program"))
    with _ends() as (stub, end):
        running = subprocess.Popen([program], stdin=end.fileno(), stdout=end.fileno())
        end.close()
        yield _guest(stub)
        stub.agent.close()  # the end of its input is the agent's end
        assert running.wait(5) == 0


def soon() -> Deadline:
    return Deadline.after(5)


def test_hello_tells_kernel_and_command_line(guest: Guest) -> None:
    assert guest.release
    assert guest.cmdline
    assert not guest.cmdline.endswith("\n")


def test_requests_and_answers_are_logged(guest: Guest, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "orchestrator.host.lines")
    guest.observe([], ["/proc/version"], soon())
    request, answered = (record.getMessage() for record in caplog.records)
    assert request == "--> observe - /proc/version"
    assert answered.startswith("<-- {") and '"taint":' in answered


def test_files_and_their_absence_are_observed(guest: Guest) -> None:
    look = guest.observe(["no_such_module"], ["/proc/version", "/no such%file"], soon())
    assert str(look.files["/proc/version"]).startswith("Linux version")
    assert look.files["/no such%file"] is None
    assert look.sections == {}


def test_the_taint_is_read_after_the_files_that_may_bring_it(agent_program: Path) -> None:
    """A file that is read may be a patched function that is called, and warns."""
    asked = f"{encode('observe', '-', '/proc/version')}\n"
    told = subprocess.run([agent_program], input=asked, capture_output=True, text=True, check=True)
    assert [*json.loads(told.stdout)][-2:] == ["files", "taint"]


def test_command_output_survives_blanks_percent_and_bytes_beyond_ascii(guest: Guest) -> None:
    assert guest.run_command(r"printf 'a%%\303\251 \n'", soon()) == "a%é \n"
    with pytest.raises(HarnessError, match="status 3"):
        guest.run_command("exit 3", soon())


def test_settle_and_errno_of_a_write(guest: Guest) -> None:
    guest.settle(1, soon())
    assert guest.change(("write", "/no/such/file", "1"), soon()) == 2


def test_racers_answer_in_the_order_asked(guest: Guest) -> None:
    there, missing = ("write", "/dev/null", "1"), ("write", "/no/such/file", "1")
    assert guest.race([there, missing, there, missing], soon()) == (0, 2, 0, 2)
    assert guest.race([missing, there], soon()) == (2, 0)


def test_garbled_requests_are_refused_and_the_next_one_is_served(guest: Guest) -> None:
    lines = guest.machine.agent
    for request in ("bogus", "%zz", "sing along"):
        lines.send(request, soon())
        assert set(json.loads(lines.receive(soon()))) == {"error"}
    guest.settle(1, soon())


# --- the program only --------------------------------------------------------------------------


def test_agent_ends_a_command_in_time_with_all_it_started(agent_program: Path) -> None:
    request = encode("run", "100", "sleep 60 & sleep 60") + "\n"
    done = subprocess.run([agent_program], input=request, capture_output=True, text=True, timeout=5)
    assert json.loads(done.stdout) == {"status": 137, "expired": True, "output": ""}


def test_agent_answers_a_request_that_is_too_long_and_goes_on(agent_program: Path) -> None:
    text = "x" * 600_000 + "\nhello t\n"
    done = subprocess.run([agent_program], input=text, capture_output=True, text=True, timeout=5)
    first, second = map(json.loads, done.stdout.splitlines())
    assert first == {"error": "the request is too long"}
    assert second["token"] == "t"


_KERNEL = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Says on stderr which file is loaded; one write, so that racers do not mix. */
static long kernel(long number, intptr_t fd, intptr_t text, intptr_t flags)
{
    char line[100], content[20] = "";
    struct stat file;
    int len;

    if (number != SYS_finit_module || fstat(fd, &file) ||
        pread(fd, content, sizeof(content) - 1, 0) < 0)
        return -1;
    len = snprintf(line, sizeof(line), "%llx:%llx %s %s\n", (long long)file.st_dev,
                   (long long)file.st_ino, content, (char *)text);
    return write(2, line, len) < 0 || fcntl(fd, F_GETFL) & O_ACCMODE ? -1 : 0;
}
#define syscall(...) CALL(__VA_ARGS__, 0, 0)
#define CALL(number, a, b, c, ...) kernel(number, (intptr_t)(a), (intptr_t)(b), (intptr_t)(c))
#include "agent.c"
"""


def test_racers_share_no_load(tmp_path: Path) -> None:
    """Who loads the same file at the same time as another may be given the other's result; alone,
    it is the file that is loaded, as by everybody."""
    (tmp_path / "kernel.c").write_text(_KERNEL)
    program, module = tmp_path / "klp-agent", tmp_path / "m.ko"
    module.write_text("its bytes")
    include = f"-I{catalog.data_dir('images/guest')}"
    subprocess.run(["gcc", "-std=gnu11", include, "-o", program, tmp_path / "kernel.c"], check=True)
    load = ("load", str(module))
    asked = [encode(*load, "a=1"), encode("race", "2", *load, "3", *load, "a=1")]
    text = "".join(f"{line}\n" for line in asked)
    done = subprocess.run([program], input=text, capture_output=True, text=True, timeout=5)
    one, two = map(json.loads, done.stdout.splitlines())
    assert (one["errno"], two["errnos"]) == (0, [0, 0])
    alone, *together = (line.split(" ", 1) for line in done.stderr.splitlines())
    mine = module.stat()
    assert alone == [f"{mine.st_dev:x}:{mine.st_ino:x}", "its bytes a=1"]
    assert sorted(text for _, text in together) == ["its bytes ", "its bytes a=1"]
    assert len({alone[0], *(file for file, _ in together)}) == 3


_HOLDS = r"""
#define _GNU_SOURCE
#include <string.h>
#include <unistd.h>

#define access(path, mode) strcmp(path, "/sys/kernel/livepatch/there")
#define main agent_main
#include "agent.c"
#undef main
int main(int argc, char **argv)
{
    return argc == 2 && holds_itself(argv[1]);
}
"""


def test_a_livepatch_that_still_holds_itself_is_waited_for(tmp_path: Path) -> None:
    """On PREEMPT_RT an unload after the sysfs directory had gone was told EAGAIN, as a FAIL."""
    (tmp_path / "holds.c").write_text(_HOLDS)
    include = f"-I{catalog.data_dir('images/guest')}"
    program = tmp_path / "holds"
    subprocess.run(["gcc", "-std=gnu11", include, "-o", program, tmp_path / "holds.c"], check=True)
    lines = {
        "gone 16384 1 - Live 0xffffffffc0000000 (OEK)": 1,
        "gone 16384 2 user, Live 0xffffffffc0000000 (OEK)": 1,
        "gone 16384 1 user, Live 0xffffffffc0000000 (OEK)": 0,
        "gone 16384 0 - Live 0xffffffffc0000000 (OEK)": 0,
        "there 16384 1 - Live 0xffffffffc0000000 (OEK)": 0,
        "no_livepatch 16384 1 - Live 0xffffffffc0000000 (OE)": 0,
        "no_livepatch 16384 1 - Live 0xffffffffc0000000": 0,
    }
    said = {line: subprocess.run([program, line], check=False).returncode for line in lines}
    assert said == lines


def test_agent_says_which_port_it_misses(agent_program: Path) -> None:
    argv = [str(agent_program), "--port", "no.such.port"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=5)
    assert (done.returncode, done.stdout) == (1, "")
    assert "no.such.port" in done.stderr


def test_each_racer_does_its_own(agent_program: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    held = os.open(pipe, os.O_RDWR)
    writers = " ".join([f"3 write {pipe} {letter}" for letter in "abcd"])
    done = subprocess.run(
        [agent_program], input=f"race {writers}\n", capture_output=True, text=True, timeout=5
    )
    assert json.loads(done.stdout)["errnos"] == [0, 0, 0, 0]
    assert sorted(os.read(held, 100)) == sorted(b"abcd")
    os.close(held)


@pytest.mark.parametrize(
    "request_",
    [
        "race",
        "race 0",
        "race 4 write /dev/null 1",
        "race 2 observe -",
        "race 2 load /no/such.ko",
        "race " + " ".join(["3 write /dev/null 1"] * 5),
        "race 3 write /dev/null 1 2 load /no/such.ko",
    ],
)
def test_a_garbled_race_is_refused_and_leaves_no_racer(agent_program: Path, request_: str) -> None:
    text = f"{request_}\nrun 1000 ls%20/proc/self/fd\n"
    done = subprocess.run([agent_program], input=text, capture_output=True, text=True, timeout=5)
    refused, after = map(json.loads, done.stdout.splitlines())
    assert set(refused) == {"error"}
    assert len(after["output"].split()) <= 4


# --- answers that are not as agreed ------------------------------------------------------------

FULL = {
    "taint": 4096,
    "modules": [["klp_patch", 16384, 1, "Live", "0xffffffffc0000000"]],
    "patches": {
        "klp_patch": {"enabled": 1, "transition": 0, "objects": {"klp_target": [1, ["b,2", "a,1"]]}}
    },
    "sections": {"klp_patch": {".text": "0xffffffffc0000000"}},
    "files": {"/f": {"errno": 19, "text": ""}},
}


def _answering(text: str) -> contextlib.AbstractContextManager[Guest]:
    def reply(line: str) -> list[str]:
        return [json.dumps(answer(line)) if line.startswith("hello") else text]

    return guest_of(reply)


def test_a_full_look() -> None:
    with _answering(json.dumps(FULL)) as guest:
        look = guest.observe(["klp_patch"], ["/f"], soon())
    assert look.taint == 4096
    assert look.modules["klp_patch"].address == look.sections["klp_patch"][".text"]
    assert look.patches == {
        "klp_patch": PatchState(True, False, {"klp_target": True}, {"klp_target": ("a,1", "b,2")})
    }
    assert look.files == {"/f": "error: ENODEV"}


@pytest.mark.parametrize(
    "text",
    [
        "no json",
        "[]",
        '{"errno": "0", "usec": 1}',
        '{"errno": 0}',
        '{"errno": 0, "usec": 1, "more": 2}',
        '{"error": "unknown request"}',
        "[" * 200_000,
        '{"errno":' * 200_000,
        '{"errno": 0, "usec": ' + "1" * 100_000 + "}",
        "{" + ",".join(f'"{number}": 1' for number in range(100_000)) + "}",
        '{"error": "' + "x" * 100_000 + '"}',
        '{"error": ["unknown request"]}',
        "",
    ],
    ids=lambda text: text[:20],
)
def test_a_malformed_answer_is_harness_error(text: str) -> None:
    with _answering(text) as guest, pytest.raises(HarnessError, match="unload") as caught:
        guest.change(("unload", "klp_patch"), soon())
    assert len(str(caught.value)) < 1000


def test_a_race_has_as_many_answers_as_racers() -> None:
    two = [("unload", "a"), ("unload", "b")]
    with (
        _answering('{"errnos": [0], "usec": 1}') as guest,
        pytest.raises(HarnessError, match="2 req"),
    ):
        guest.race(two, soon())
    with _answering('{"errnos": [0, "0"], "usec": 1}') as guest, pytest.raises(HarnessError):
        guest.race(two, soon())


def test_a_taint_that_the_guest_could_not_read_is_harness_error() -> None:
    """/proc is gone: that says nothing of the kernel."""
    broken = {**FULL, "taint": -1}
    with _answering(json.dumps(broken)) as guest, pytest.raises(HarnessError, match="taint"):
        guest.observe(["klp_patch"], [], soon())


def test_an_address_that_is_no_number_is_harness_error() -> None:
    broken = {**FULL, "sections": {"klp_patch": {".text": "(null)"}}}
    with _answering(json.dumps(broken)) as guest, pytest.raises(HarnessError, match="no number"):
        guest.observe(["klp_patch"], [], soon())


def test_peek_is_exact_about_lengths() -> None:
    with _answering('{"data": ["0011", null]}') as guest:
        assert guest.read_memory([(0x1000, 2), (0x2000, 8)], soon()) == [b"\x00\x11", None]
        with pytest.raises(HarnessError, match="length"):
            guest.read_memory([(0x1000, 4), (0x2000, 8)], soon())
        with pytest.raises(HarnessError, match="1 ranges gave 2"):
            guest.read_memory([(0x1000, 2)], soon())


def test_a_transition_that_does_not_end_is_out_of_time_and_leaves_the_guest_usable() -> None:
    with _answering('{"errno": 110, "usec": 900000}') as guest:
        with pytest.raises(OutOfTime, match="transition"):
            guest.settle(1, soon())
        assert cast(Stub, guest.machine).reasons == []


def test_a_guest_whose_clock_is_slow_is_not_lost_while_a_transition_does_not_end() -> None:
    """On a busy host it takes its 40 s for 50 of ours: the kernel's fault was told as ours."""
    asked = []

    def reply(line: str) -> list[str]:
        if line.startswith("hello"):
            return [json.dumps(answer(line))]
        asked.append(line)
        time.sleep(ANSWER_SECONDS + 1)
        return ['{"errno": 110, "usec": 500000}']

    with guest_of(reply) as guest, pytest.raises(OutOfTime, match="transition"):
        guest.settle(0.5, Deadline.after(ANSWER_SECONDS + 5))
    assert asked == ["settle 500"]


def test_silence_is_guest_lost_with_the_console() -> None:
    def reply(line: str) -> list[str]:
        return [json.dumps(answer(line))] if line.startswith("hello") else []

    with guest_of(reply) as guest, pytest.raises(GuestLost, match="load") as caught:
        guest.change(("load", "/modules/basic/klp_patch.ko"), Deadline.after(0.2))
    assert caught.value.console == "last words"


def test_the_end_of_the_channel_is_guest_lost_at_once() -> None:
    with _ends() as (stub, end):
        thread = threading.Thread(target=_serve_once, args=(end,))
        thread.start()
        guest = _guest(stub)
        with pytest.raises(GuestLost, match="QEMU has ended"):
            guest.change(("unload", "klp_patch"), Deadline.after(60))
        thread.join(5)


def _serve_once(end: socket.socket) -> None:
    end.sendall(json.dumps(answer(end.recv(1000).decode().strip())).encode() + b"\n")
    end.recv(1000)
    end.shutdown(socket.SHUT_RDWR)


def test_answers_of_an_earlier_life_are_dropped_by_the_next_hello() -> None:
    """As after a restore from amid a request."""

    def reply(line: str) -> list[str]:
        stale = ['{"errno":0,"usec":1}', '{"agent":2,"token":"t0","release":"","cmdline":""}']
        return [*stale, json.dumps(answer(line))]

    with guest_of(reply) as guest:
        assert guest.release == "6.1.0"


def test_requests_are_encoded_word_by_word() -> None:
    assert encode("load", "/a b", "p=1%\n") == "load /a%20b p=1%25%0a"
    with pytest.raises(ValueError, match="empty"):
        encode("write", "/f", "")


def test_fds_do_not_leak(agent_program: Path) -> None:
    request = encode("run", "1000", "ls /proc/self/fd") + "\n"
    done = subprocess.run([agent_program], input=request, capture_output=True, text=True, timeout=5)
    shown = json.loads(done.stdout)["output"].split()
    assert len(shown) <= 4, f"0, 1, 2 and the directory itself; got {shown}"
