# SPDX-License-Identifier: GPL-2.0-only
"""SSH into a guest: the only importer of paramiko.

Keys are made afresh for each boot, the guest's host key too, so that it is known and checked before
the first byte is trusted. Every wait has a deadline; a connection that breaks is GuestLost.
"""

from __future__ import annotations

import base64
import contextlib
import io
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import paramiko
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from orchestrator.deadline import Deadline
from orchestrator.errors import GuestLost, OutOfTime
from orchestrator.host import lines

log = logging.getLogger(__name__)

# What goes wrong comes as an exception; without a handler logging prints it as well.
logging.getLogger("paramiko").addHandler(logging.NullHandler())

USER = "root"
RETRY_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one boot."""

    client: str  # private key, OpenSSH's own format
    authorized: str  # its public half, a line of authorized_keys
    host: bytes  # the host's private key, in dropbear's format
    host_public: str  # "ssh-ed25519 BASE64", as in known_hosts

    def files(self) -> dict[str, bytes]:
        """What the guest needs, by path in the guest (see images/guest/init)."""
        return {
            "/root/.ssh/authorized_keys": self.authorized.encode() + b"\n",
            "/etc/dropbear/host_key": self.host,
        }


def new_keys() -> Keys:
    """Fresh ed25519 keys for a client and a host."""
    client = ed25519.Ed25519PrivateKey.generate()
    host = ed25519.Ed25519PrivateKey.generate()
    return Keys(
        client=client.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.OpenSSH,
            serialization.NoEncryption(),
        ).decode(),
        authorized=_public(client),
        host=dropbear_key(host.private_bytes_raw(), host.public_key().public_bytes_raw()),
        host_public=_public(host),
    )


def dropbear_key(private: bytes, public: bytes) -> bytes:
    """A host key file of dropbear 2022: SSH strings of the type and of both halves
    (dropbear's ed25519.c, buf_put_ed25519_priv_key())."""
    name = b"ssh-ed25519"
    both = private + public
    return len(name).to_bytes(4, "big") + name + len(both).to_bytes(4, "big") + both


def _public(key: ed25519.Ed25519PrivateKey) -> str:
    encoded = key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    return encoded.decode()


class Ssh:
    """One connection; made by `connect`."""

    def __init__(self, client: paramiko.SSHClient) -> None:
        self._client = client

    def lines(self, command: str, deadline: Deadline) -> Lines:
        """Start a command that answers one line to each line it gets."""
        stack = contextlib.ExitStack()
        channel = stack.enter_context(self._channel(command, deadline))
        return Lines(channel, stack)

    @contextlib.contextmanager
    def _channel(self, command: str, deadline: Deadline) -> Iterator[paramiko.Channel]:
        transport = self._client.get_transport()
        if transport is None or not transport.is_active():
            raise GuestLost(f"the SSH connection is closed; {command!r} cannot be run")
        with _errors(f"a channel for {command!r}"):
            channel = transport.open_session(timeout=max(0.01, deadline.left()))
        log.debug("command: %s", command)
        with contextlib.closing(channel):
            with _errors(f"start of {command!r}"):
                channel.settimeout(max(0.01, deadline.left()))
                channel.exec_command(command)
            yield channel

    def close(self) -> None:
        self._client.close()


class Lines:
    """A command in the guest that answers one line to each line it gets."""

    def __init__(self, channel: paramiko.Channel, stack: contextlib.ExitStack) -> None:
        self._channel = channel
        self._stack = stack
        self._buffer = lines.Buffer()

    def send(self, line: str, deadline: Deadline) -> None:
        log.debug("--> %s", line)
        with _errors("a request over SSH"):
            self._channel.settimeout(max(0.01, deadline.left()))
            self._channel.sendall(line.encode() + b"\n")

    def receive(self, deadline: Deadline) -> str:
        """The next line. Raises OutOfTime, GuestLost at the end of the stream."""
        while (line := self._buffer.line()) is None:
            self._channel.settimeout(max(0.01, deadline.check("an answer over SSH")))
            with _errors("an answer over SSH"):
                data = self._channel.recv(1 << 16)
            if not data:
                raise GuestLost("the SSH channel was closed")
            self._buffer.feed(data)
        log.debug("<-- %s", line)
        return line

    def close(self) -> None:
        self._stack.close()


@contextlib.contextmanager
def _errors(what: str) -> Iterator[None]:
    """paramiko's exceptions become ours."""
    try:
        yield
    except TimeoutError as err:
        raise OutOfTime(f"time ran out while waiting for {what}") from err
    except (paramiko.SSHException, EOFError, OSError) as err:
        raise GuestLost(f"{what}: {err or type(err).__name__}") from err


@contextlib.contextmanager
def connect(
    port: int, keys: Keys, deadline: Deadline, alive: Callable[[], None] = lambda: None
) -> Iterator[Ssh]:
    """A connection to the guest behind `port` of 127.0.0.1, tried until sshd answers; `alive`
    raises when it never will.

    Raises GuestLost when the host shows another key than the one we gave it, OutOfTime.
    """
    with contextlib.ExitStack() as stack:
        stack.callback((ssh := _connected(port, keys, deadline, alive)).close)
        yield ssh


def _connected(port: int, keys: Keys, deadline: Deadline, alive: Callable[[], None]) -> Ssh:
    client_key = paramiko.Ed25519Key.from_private_key(io.StringIO(keys.client))
    kind, encoded = keys.host_public.split()
    host_key = paramiko.PKey.from_type_string(kind, base64.b64decode(encoded))
    while True:
        client = paramiko.SSHClient()
        client.set_missing_host_key_policy(paramiko.RejectPolicy())
        client.get_host_keys().add(f"[127.0.0.1]:{port}", kind, host_key)
        left = deadline.check("sshd in the guest")
        try:
            client.connect(
                "127.0.0.1",
                port=port,
                username=USER,
                pkey=client_key,
                allow_agent=False,
                look_for_keys=False,
                timeout=left,
                banner_timeout=left,
                auth_timeout=left,
                channel_timeout=left,
            )
        except (paramiko.BadHostKeyException, paramiko.AuthenticationException) as err:
            client.close()
            raise GuestLost(f"SSH to the guest: {err}") from err
        except (paramiko.SSHException, EOFError, OSError):
            # QEMU listens before the guest does: refused, or closed again, until sshd is up
            client.close()
            alive()
            deadline.check("sshd in the guest")
            time.sleep(RETRY_SECONDS)
            continue
        except BaseException:
            client.close()
            raise
        return Ssh(client)
