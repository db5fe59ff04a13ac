# SPDX-License-Identifier: GPL-2.0-only
"""The fleet's store: files by the digest of their content, in a directory that everyone sees or in
any place that fsspec reaches; and the copies of them that a worker keeps in its cache."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from pathlib import Path

import fsspec  # type: ignore[import-untyped]

from orchestrator.errors import HarnessError, UsageError
from orchestrator.host import workdir

KIND = "fleet"  # of the cache: an entry for each digest


class Store:
    """Raises HarnessError, with the place and its own words, where it cannot be reached."""

    def __init__(self, url: str) -> None:
        """url: a directory, or a URL as fsspec takes it (`ssh:`, `s3:`, `http:` read-only). Raises
        UsageError where fsspec knows no such place."""
        self.url = url
        try:
            self._fs, self._root = fsspec.core.url_to_fs(url)
        except (ValueError, ImportError, OSError) as err:
            raise UsageError(
                f"the fleet's store {url} cannot be used: {err}",
                hint="a directory that every machine sees, or a URL as fsspec takes it",
            ) from err

    def put(self, digest: str, path: Path) -> None:
        """Of what is there already nothing is written. A file is there whole, or not at all."""
        with self._trouble("written to"):
            goal = self._place(digest)
            if self._fs.exists(goal):
                return
            self._fs.makedirs(goal.rpartition("/")[0], exist_ok=True)
            partial = f"{goal}.{secrets.token_hex(4)}.part"
            self._fs.put_file(str(path), partial)
            self._fs.mv(partial, goal)

    def get(self, digest: str, into: Path) -> None:
        """Its content, which is that of the digest: anything else is not taken."""
        with self._trouble("read"):
            self._fs.get_file(self._place(digest), str(into))
        if workdir.file_digest(into) != digest:
            raise HarnessError(
                f"{self.url}: what is there for {digest[:16]} has another content",
                hint="remove it there: who has it puts it there again",
            )

    def _place(self, digest: str) -> str:
        return f"{self._root}/{digest[:2]}/{digest}"

    @contextlib.contextmanager
    def _trouble(self, what: str) -> Iterator[None]:
        try:
            yield
        except HarnessError:
            raise
        except Exception as err:  # each of fsspec's places has errors of its own
            raise HarnessError(
                f"the fleet's store {self.url} cannot be {what}: {type(err).__name__}: {err}",
                hint="is it reachable from this machine? klp-e2e fleet join --store names another",
            ) from err


def local(store: Store, digest: str) -> Path:
    """The file of a digest in this machine's cache, taken from the store where it is not there, or
    where what is there is damaged. Raises HarnessError."""
    place = workdir.cache_root() / KIND / digest
    with workdir.locked(place), workdir.disk_errors(f"{place} cannot be filled"):
        if workdir.verify(place):
            with workdir.staging(place) as tmp:
                store.get(digest, tmp / "content")
                workdir.publish(tmp, place)
        workdir.touch(place)
        return place / "content"
