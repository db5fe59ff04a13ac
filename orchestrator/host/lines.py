# SPDX-License-Identifier: GPL-2.0-only
"""A channel of lines to the guest's agent over a unix socket of QEMU's.

`ssh.Lines` is the other channel of the same shape. Both raise OutOfTime at the deadline and
GuestLost as soon as the far end has gone.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from orchestrator.deadline import Deadline
from orchestrator.errors import GuestLost, OutOfTime

log = logging.getLogger(__name__)

CONNECT_POLL_SECONDS = 0.005
CHUNK_BYTES = 1 << 16
# Of one answer. A command's output may take 1.5 MB: 256 KiB, six characters for each that is not
# plain.
LINE_BYTES = 16 << 20


class Channel(Protocol):
    """Lines there and back."""

    def send(self, line: str, deadline: Deadline) -> None: ...

    def receive(self, deadline: Deadline) -> str: ...

    def close(self) -> None: ...


class Buffer:
    """What has come of a stream of lines."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._searched = 0  # bytes without an end of line

    def feed(self, data: bytes) -> None:
        """Raises GuestLost at a line that is longer than any answer."""
        self._held += data
        if self._searched > LINE_BYTES:
            raise GuestLost(f"a line of more than {LINE_BYTES} bytes is no answer of the agent's")

    def line(self) -> str | None:
        """The next line, without its end; None when its end has not come."""
        end = self._held.find(b"\n", self._searched)
        if end < 0:
            self._searched = len(self._held)
            return None
        line = self._held[:end].decode(errors="replace")
        del self._held[: end + 1]
        self._searched = 0
        return line


class UnixLines:
    """Lines over a connected stream socket."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._buffer = Buffer()

    def send(self, line: str, deadline: Deadline) -> None:
        """Raises OutOfTime, GuestLost."""
        left = deadline.check("the agent to take a request")
        log.debug("--> %s", line)
        try:
            self._socket.settimeout(left)
            self._socket.sendall(line.encode() + b"\n")
        except TimeoutError as err:
            raise OutOfTime("time ran out while the agent took a request") from err
        except OSError as err:
            raise GuestLost(f"the agent's channel broke: {err}") from err

    def receive(self, deadline: Deadline) -> str:
        """The next line, without its end. Raises OutOfTime, GuestLost."""
        while (line := self._buffer.line()) is None:
            left = deadline.check("the agent's answer")
            try:
                self._socket.settimeout(left)
                data = self._socket.recv(CHUNK_BYTES)
            except TimeoutError:
                continue  # the check above says so with the right words
            except OSError as err:
                raise GuestLost(f"the agent's channel broke: {err}") from err
            if not data:
                raise GuestLost("the agent's channel was closed: QEMU has ended")
            self._buffer.feed(data)
        log.debug("<-- %s", line)
        return line

    def close(self) -> None:
        self._socket.close()


@contextlib.contextmanager
def connect(path: Path, deadline: Deadline, alive: Callable[[], None]) -> Iterator[UnixLines]:
    """Connect to a socket that is going to appear; `alive` raises when it never will."""
    while True:
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            client.settimeout(deadline.check(f"the socket {path}"))
            client.connect(str(path))
            break
        except OSError:
            client.close()
            alive()
            time.sleep(CONNECT_POLL_SECONDS)
        except BaseException:
            client.close()
            raise
    with contextlib.closing(UnixLines(client)) as channel:
        yield channel
