# SPDX-License-Identifier: GPL-2.0-only
"""What a kernel unpacks at its start: archives of files, one behind the other. Pure.

The format is cpio's "newc" (Documentation/driver-api/early-userspace/buffer-format.rst).
"""

from __future__ import annotations

import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath


@dataclass(frozen=True, slots=True)
class Entry:
    """One member. `mode` holds the type bits too; `data` is a file's content or a link's target."""

    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)  # major, minor of a device node


def cpio(entries: Mapping[str, Entry]) -> bytes:
    """An archive with these members and their parent directories: same input, same bytes.

    Paths are relative. Order, inode numbers, owners and times say nothing of the host. The length
    is a multiple of 4.
    """
    full = dict(entries)
    for path in entries:
        for parent in PurePosixPath(path).parents:
            if str(parent) != ".":
                full.setdefault(str(parent), Entry(stat.S_IFDIR | 0o755))
    out = bytearray()
    for number, path in enumerate(sorted(full), 1):
        _member(out, path, number, full[path])
    _member(out, "TRAILER!!!", 0, Entry(0))
    return bytes(out)


def _member(out: bytearray, path: str, number: int, entry: Entry) -> None:
    name = path.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    fields = (number, entry.mode, 0, 0, links, 0, len(entry.data), 0, 0, *entry.device, len(name))
    out += b"070701" + "".join(f"{field:08x}" for field in (*fields, 0)).encode() + name
    out += bytes(-len(out) % 4)
    out += entry.data
    out += bytes(-len(out) % 4)


def overlay(files: Mapping[str, bytes]) -> bytes:
    """An uncompressed archive of files by their paths in the guest ("/modules/basic/x.ko").

    Everything is root's and private: dropbear refuses keys that others may write.
    """
    return cpio(
        {path.lstrip("/"): Entry(stat.S_IFREG | 0o600, data) for path, data in files.items()}
        | {
            str(parent).lstrip("/"): Entry(stat.S_IFDIR | 0o700)
            for path in files
            for parent in PurePosixPath("/", path).parents
            if str(parent) in ("/root", "/root/.ssh")
        }
    )


def stack(base: bytes, *overlays: bytes) -> bytes:
    """An initramfs of archives one behind the other, each at a multiple of four bytes."""
    out = bytearray(base)
    for archive in overlays:
        out += bytes(-len(out) % 4)
        out += archive
    return bytes(out)


# --- archives in the cache ---------------------------------------------------------------------
