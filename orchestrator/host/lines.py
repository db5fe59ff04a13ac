# SPDX-License-Identifier: GPL-2.0-only
"""A channel of lines to the guest's agent over a unix socket of QEMU's.

`ssh.Lines` is the other channel of the same shape. Both raise OutOfTime at the deadline and
GuestLost as soon as the far end has gone.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from orchestrator.deadline import Deadline
from orchestrator.errors import GuestLost, OutOfTime

CONNECT_POLL_SECONDS = 0.005


class Channel(Protocol):
    """Lines there and back."""

    def send(self, line: str, deadline: Deadline) -> None: ...

    def receive(self, deadline: Deadline) -> str: ...

    def close(self) -> None: ...


class UnixLines:
    """Lines over a connected stream socket."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._buffer = bytearray()

    def send(self, line: str, deadline: Deadline) -> None:
        """Raises OutOfTime, GuestLost."""
        left = deadline.check("the agent to take a request")
        try:
            self._socket.settimeout(left)
            self._socket.sendall(line.encode() + b"\n")
        except TimeoutError as error:
            raise OutOfTime("time ran out while the agent took a request") from error
        except OSError as error:
            raise GuestLost(f"the agent's channel broke: {error}") from error

    def receive(self, deadline: Deadline) -> str:
        """The next line, without its end. Raises OutOfTime, GuestLost."""
        while (end := self._buffer.find(b"\n")) < 0:
            left = deadline.check("the agent's answer")
            try:
                self._socket.settimeout(left)
                data = self._socket.recv(1 << 16)
            except TimeoutError:
                continue  # the check above says so with the right words
            except OSError as error:
                raise GuestLost(f"the agent's channel broke: {error}") from error
            if not data:
                raise GuestLost("the agent's channel was closed: QEMU has ended")
            self._buffer += data
        line = self._buffer[:end].decode(errors="replace")
        del self._buffer[: end + 1]
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
