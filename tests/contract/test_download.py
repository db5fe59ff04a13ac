# SPDX-License-Identifier: GPL-2.0-only
"""tar:URL#sha256=HEX, from a server on this machine."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from orchestrator.deadline import Deadline
from orchestrator.errors import HarnessError, OutOfTime, UsageError
from orchestrator.host import process
from orchestrator.source import download, sources

NONE = "0" * 64


class Server:
    """What it has, by path; and what it was asked for."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        mine = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                mine.asked.append(self.path)
                if self.path.startswith("/moved"):
                    self.send_response(302)
                    self.send_header("Location", self.path.removeprefix("/moved"))
                    self.end_headers()
                    return
                body = mine.files.get(self.path.removesuffix("?cut"))
                if body is None:
                    self.send_error(404, "Not Found")
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[:100] if self.path.endswith("?cut") else body)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def stop(self) -> None:
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    if thread.is_alive():
        made.stop()
    thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KLP_E2E_CACHE", str(tmp_path / "cache"))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "cache"


@pytest.fixture
def tarball(tmp_path: Path, server: Server) -> str:
    """The spec of a kernel's tarball on the server."""
    tree = tmp_path / "linux-6.1"
    tree.mkdir()
    (tree / "Makefile").write_text("VERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 9\n")
    for name in ("Kconfig", "Kbuild"):
        (tree / name).write_text("")
    file = tmp_path / "l.tar.xz"
    process.run(["tar", "-C", str(tmp_path), "-cJf", str(file), tree.name])
    server.files["/l.tar.xz"] = file.read_bytes()
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return f"tar:{server.url}/l.tar.xz#sha256={digest}"


def refused(spec: str, told: str, deadline: Deadline | None = None) -> str:
    with pytest.raises(HarnessError, match=told) as caught:
        sources.fetch(spec, deadline)
    return caught.value.hint


def nothing_is_left(cache: Path) -> bool:
    return [path.suffix for path in (cache / "sources").iterdir()] in ([], [".lock"])


def test_it_is_downloaded_once(tarball: str, server: Server) -> None:
    assert sources.at_hand(tarball) is None
    said: list[str] = []
    found = sources.fetch(tarball, say=said.append)
    assert (found.kernel, found.version, found.exact) == ((6, 1), "6.1.9", tarball)
    assert any("downloading" in line for line in said)
    assert [p.name for p in found.directory.parent.iterdir() if p.name.startswith("archive")] == []
    server.stop()
    assert sources.fetch(tarball) == found == sources.at_hand(tarball)
    upper, _, digest = tarball.rpartition("=")
    assert sources.fetch(f"{upper}={digest.upper()}").digest == found.digest
    assert server.asked == ["/l.tar.xz"]


def test_a_redirection_is_followed_the_sum_decides(tarball: str) -> None:
    assert sources.fetch(tarball.replace("/l.tar", "/moved/l.tar")).kernel == (6, 1)


def test_what_is_another_file_is_not_used(tarball: str, server: Server, cache: Path) -> None:
    server.files["/l.tar.xz"] += b"x"
    hint = refused(tarball, r"l\.tar\.xz is not what it should be: its sha256 is [0-9a-f]{64}")
    assert "do not trust" in hint and nothing_is_left(cache)


def test_what_is_not_there_is_told(server: Server, cache: Path) -> None:
    assert "still there" in refused(f"tar:{server.url}/gone.tar#sha256={NONE}", "404 Not Found")
    assert nothing_is_left(cache)


def test_what_ends_early_is_told_as_that(tarball: str) -> None:
    cut = tarball.replace("#", "?cut#")
    assert refused(cut, "ended early: 100 of [0-9]+ bytes") == "try it again"


def test_no_network_is_told(tarball: str, server: Server) -> None:
    server.stop()
    assert "network" in refused(tarball, "cannot be had: .*refused")
    gone = f"tar:http://nonesuch.invalid/l.tar#sha256={NONE}"
    assert "network" in refused(gone, "cannot be had")


def test_time_runs_out(tarball: str) -> None:
    with pytest.raises(OutOfTime):
        sources.fetch(tarball, Deadline.after(0))


HEAD = b"HTTP/1.1 200 OK\r\n"
WITHOUT_END = {
    "says nothing": (b"", b""),
    "never begins": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "a head of one line": (HEAD, b"X"),
    "a body drop by drop": (HEAD + b"Content-Length: 1000000\r\n\r\n", b"x"),
    "a chunk's size": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"0"),
    "a trailer": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X: y\r\n"),
}


@contextlib.contextmanager
def hostile(head: bytes, again: bytes, pause: float) -> Iterator[str]:
    """The URL of a server that sends `again` for ever."""

    def serve() -> None:
        with contextlib.suppress(OSError):
            connection, _ = listening.accept()
            with connection:
                connection.settimeout(5)
                connection.recv(1 << 16)
                connection.sendall(head)
                for _ in itertools.takewhile(lambda _: not over.wait(pause), itertools.count()):
                    connection.sendall(again)

    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/l.tar"
        finally:
            over.set()
            thread.join()


@pytest.mark.parametrize("what", WITHOUT_END)
@pytest.mark.parametrize("time_is_up", [True, False])
def test_a_server_without_end_is_left(
    cache: Path, monkeypatch: pytest.MonkeyPatch, what: str, time_is_up: bool
) -> None:
    """Each byte comes long before it would be taken for dead."""
    monkeypatch.setattr(download, "STALL_SECONDS", 60.0 if time_is_up else 0.5)
    deadline = Deadline.after(0.5) if time_is_up else None
    began = time.monotonic()
    with (
        hostile(*WITHOUT_END[what], pause=0.02) as url,
        pytest.raises(
            OutOfTime if time_is_up else HarnessError,
            match="time ran out" if time_is_up else "less than a kilobyte a second|timed out",
        ),
    ):
        sources.fetch(f"tar:{url}#sha256={NONE}", deadline)
    assert time.monotonic() - began < 5 and nothing_is_left(cache)


def test_a_file_without_end_does_not_fill_the_disk(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "MOST", 10 << 20)
    with hostile(HEAD + b"\r\n", bytes(1 << 20), pause=0) as url:
        refused(f"tar:{url}#sha256={NONE}", "larger than 10 MiB")
    assert nothing_is_left(cache)


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("tar:https://h/x.tar", "with its checksum only"),
        ("tar:https://h/x.tar#sha256=12", "with its checksum only"),
        (f"tar:https://h/x.tar#md5={NONE}", "with its checksum only"),
        (f"tar:ftp://h/x.tar#sha256={NONE}", "no URL of http or https"),
        (f"tar:file:///etc/passwd#sha256={NONE}", "no URL of http or https"),
        (f"tar:https:///x#sha256={NONE}", "no URL of http or https"),
        (f"tar:http://[h/x#sha256={NONE}", "tar:http"),
    ],
)
def test_without_a_sum_or_a_host_nothing_is_asked(spec: str, told: str) -> None:
    for ask in (sources.fetch, sources.at_hand):
        with pytest.raises(UsageError, match=told):
            ask(spec)
