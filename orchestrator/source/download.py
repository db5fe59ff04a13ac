# SPDX-License-Identifier: GPL-2.0-only
"""Files from the web: by http or https, through the user's proxies, and never without a checksum.

What a server says of a file is not believed, nor who it is: the checksum decides. One that goes on
for ever, at whatever place of its answer, is left: it is listened to in a thread of its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import queue
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from orchestrator.deadline import Deadline
from orchestrator.errors import HarnessError, UsageError

STALL_SECONDS = 60.0  # in which a server sends less than LEAST a second, and is taken for dead
LEAST = 1000  # bytes
FETCH_SECONDS = 3 * 3600.0  # at most, of all
MOST = 4 << 30  # bytes of a file
BLOCK = 1 << 20
POLL_SECONDS = 0.1
_SUM = re.compile(r"sha256=([0-9a-fA-F]{64})")
_OFFLINE = "is the network there? A proxy is taken from https_proxy and http_proxy"


@dataclass(frozen=True, slots=True)
class Remote:
    """A file of the web and the only content that it may have."""

    url: str
    sha256: str  # lower case


def is_url(text: str) -> bool:
    """Whether it is a URL, fit or not, and no path."""
    return re.match(r"\w+://", text) is not None


def remote(text: str, spec: str) -> Remote:
    """URL#sha256=HEX. Raises UsageError, naming `spec`, without the sum or for another protocol."""
    url, _, fragment = text.partition("#")
    try:
        place = urlsplit(url)
    except ValueError as err:
        raise UsageError(f"{spec}: {err}") from err
    if place.scheme not in ("http", "https") or not place.hostname or not url.isprintable():
        raise UsageError(f"{spec}: {url} is no URL of http or https")
    found = _SUM.fullmatch(fragment)
    if found is None:
        raise UsageError(
            f"{spec}: a file of the web is taken with its checksum only",
            hint=f"tar:{url}#sha256=HEX, 64 digits as sha256sum prints them; kernel.org has them "
            "in sha256sums.asc beside the file",
        )
    return Remote(url, found[1].lower())


def fetch(wanted: Remote, into: Path, deadline: Deadline | None = None) -> None:
    """Write the file. Raises HarnessError when it cannot be had or is another; OutOfTime."""
    until = deadline or Deadline.after(FETCH_SECONDS)
    digest, length = hashlib.sha256(), 0
    try:
        with into.open("wb") as file, contextlib.closing(_answer(wanted.url, until)) as answer:
            for block in answer:
                digest.update(block)
                length += len(block)
                if length > MOST:
                    raise HarnessError(f"{wanted.url} is larger than {MOST >> 20} MiB")
                file.write(block)
    except urllib.error.HTTPError as err:
        err.close()
        hint = "is it still there?" if err.code in (404, 410) else ""
        raise HarnessError(f"{wanted.url}: {err.code} {err.reason}", hint=hint) from err
    except urllib.error.URLError as err:
        raise HarnessError(f"{wanted.url} cannot be had: {err.reason}", hint=_OFFLINE) from err
    except (http.client.HTTPException, ConnectionError, TimeoutError, ValueError) as err:
        raise HarnessError(f"{wanted.url} ended early: {err!r}", hint=_OFFLINE) from err
    if digest.hexdigest() != wanted.sha256:
        raise HarnessError(
            f"{wanted.url} is not what it should be: its sha256 is {digest.hexdigest()}",
            hint="is the sum that of this very file? If so, do not trust what the server sent",
        )


def _answer(url: str, until: Deadline) -> Generator[bytes, None, None]:
    """What the server sends, as it comes. Raises what urllib does, HarnessError, OutOfTime."""
    said: queue.Queue[bytes | Exception] = queue.Queue(maxsize=4)
    over = threading.Event()
    listening = threading.Thread(target=_listen, args=(url, said, over), daemon=True)
    listening.start()
    lull, length = Deadline.after(STALL_SECONDS), 0
    try:
        while True:
            try:
                block = said.get(timeout=min(until.check(url), lull.left()))
            except queue.Empty:
                until.check(url)
                raise HarnessError(
                    f"{url} is left: it sends less than a kilobyte a second", hint=_OFFLINE
                ) from None
            if isinstance(block, Exception):
                raise block
            if not block:
                return
            yield block
            length += len(block)
            if length >= LEAST * STALL_SECONDS:
                lull, length = Deadline.after(STALL_SECONDS), 0
    finally:
        over.set()


def _listen(url: str, said: queue.Queue[bytes | Exception], over: threading.Event) -> None:
    """Put there what the server sends, and b"" at its end; or what went wrong."""

    def put(what: bytes | Exception) -> None:
        while not over.is_set():
            with contextlib.suppress(queue.Full):
                said.put(what, timeout=POLL_SECONDS)
                break

    request = urllib.request.Request(url, headers={"User-Agent": "klp-e2e"})
    length = 0
    try:
        with urllib.request.urlopen(request, timeout=STALL_SECONDS) as answer:
            expected = answer.headers.get("Content-Length", "")
            while not over.is_set() and (block := answer.read1(BLOCK)):
                length += len(block)
                put(block)
        if expected.isdecimal() and length < int(expected):
            told = f"{url} ended early: {length} of {expected} bytes"
            raise HarnessError(told, hint="try it again")
        put(b"")
    except Exception as err:  # it is raised by whoever listens here
        put(err)
