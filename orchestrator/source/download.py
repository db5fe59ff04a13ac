# SPDX-License-Identifier: GPL-2.0-only
"""Files from the web: by http or https, through the user's proxies, and never without a checksum.

What a server says of a file is not believed, nor who it is: the checksum decides.
"""

from __future__ import annotations

import hashlib
import http.client
import re
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from orchestrator.deadline import Deadline
from orchestrator.errors import HarnessError, UsageError

STALL_SECONDS = 60.0  # without a byte, a server is taken for dead
BLOCK = 1 << 20
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
    until = deadline or Deadline.after(float("inf"))
    digest, length = hashlib.sha256(), 0
    request = urllib.request.Request(wanted.url, headers={"User-Agent": "klp-e2e"})
    try:
        with (
            urllib.request.urlopen(request, timeout=STALL_SECONDS) as answer,
            into.open("wb") as file,
        ):
            expected = answer.headers.get("Content-Length", "")
            while block := answer.read(BLOCK):
                until.check(wanted.url)
                digest.update(block)
                length += len(block)
                file.write(block)
    except urllib.error.HTTPError as err:
        err.close()
        hint = "is it still there?" if err.code in (404, 410) else ""
        raise HarnessError(f"{wanted.url}: {err.code} {err.reason}", hint=hint) from err
    except urllib.error.URLError as err:
        raise HarnessError(f"{wanted.url} cannot be had: {err.reason}", hint=_OFFLINE) from err
    except (http.client.HTTPException, ConnectionError, TimeoutError) as err:
        raise HarnessError(f"{wanted.url} ended early: {err!r}", hint=_OFFLINE) from err
    if expected.isdecimal() and length < int(expected):
        raise HarnessError(
            f"{wanted.url} ended early: {length} of {expected} bytes", hint="try it again"
        )
    if digest.hexdigest() != wanted.sha256:
        raise HarnessError(
            f"{wanted.url} is not what it should be: its sha256 is {digest.hexdigest()}",
            hint="is the sum that of this very file? If so, do not trust what the server sent",
        )
