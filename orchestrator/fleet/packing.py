# SPDX-License-Identifier: GPL-2.0-only
"""A bootable as it travels: the value itself, with the digest of each file that a guest needs in
place of its path. Pure but for the digests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from orchestrator.build.prepare import Bootable
from orchestrator.errors import HarnessError
from orchestrator.host.workdir import file_digest
from orchestrator.nouns import BuiltModule, BuiltSet

SCHEME = "sha256:"


def packed(bootable: Bootable) -> tuple[Bootable, Mapping[str, Path]]:
    """(what travels, digest in hex -> file). Other paths of it mean nothing elsewhere, and are
    needed by nobody who only runs it."""
    files: dict[str, Path] = {}

    def blob(path: Path) -> Path:
        digest = file_digest(path)
        files[digest] = path
        return Path(f"{SCHEME}{digest}")

    return _with_files(bootable, blob), files


def unpacked(bootable: Bootable, file_of: Callable[[str], Path]) -> Bootable:
    """The bootable again. file_of: where the file of a digest is on this machine."""

    def local(path: Path) -> Path:
        scheme, digest = path.name[: len(SCHEME)], path.name[len(SCHEME) :]
        if scheme != SCHEME or len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
            raise HarnessError(f"a bootable that came over the fleet names a file, {path}")
        return file_of(digest)

    return _with_files(bootable, local)


def _with_files(bootable: Bootable, turned: Callable[[Path], Path]) -> Bootable:
    kernel = bootable.kernel
    return replace(
        bootable,
        kernel=replace(
            kernel,
            image=turned(kernel.image),
            system_map=turned(kernel.system_map),
            config=turned(kernel.config),
        ),
        sets={name: _set(built, turned) for name, built in bootable.sets.items()},
        userland=turned(bootable.userland),
    )


def _set(built: BuiltSet, turned: Callable[[Path], Path]) -> BuiltSet:
    def module(each: BuiltModule) -> BuiltModule:
        return replace(each, path=turned(each.path))

    return replace(built, modules={name: module(each) for name, each in built.modules.items()})
