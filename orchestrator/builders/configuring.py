# SPDX-License-Identifier: GPL-2.0-only
"""What a kernel's configuration lacks for a patch to change anything in it.

CACHE/livepatches/ARCH-modules-KEY/       a Kconfig fragment with the modules that a patch touches
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

from orchestrator.build import kbuild, kconfig, kconfigtree
from orchestrator.builders import touched
from orchestrator.host import workdir
from orchestrator.nouns import Arch
from orchestrator.source.series import Series
from orchestrator.source.sources import SourceTree


def lacking(fix: Series, arch: Arch, origin: SourceTree, config: str) -> Mapping[str, str]:
    """Option -> value, of what a kernel's .config lacks for what the patch touches to be in it."""
    there = kconfig.parse(config)
    read = _reading(origin)
    known = kconfigtree.read(read, kbuild.source_arch(origin.directory, arch.kernel_arch))
    names = {name for one in fix.patches for name in one.diff.files()}
    found: dict[str, str] = {}
    for name in sorted(names):
        found |= touched.missing(
            touched.owners(name, read), there, lambda o: kconfigtree.can_be_module(known, o)
        )
    return found


def _reading(origin: SourceTree) -> Callable[[str], str | None]:
    def read(name: str) -> str | None:
        path = origin.directory / name
        return path.read_text(errors="replace") if path.is_file() else None

    return read


def configuration(options: Mapping[str, str], arch: Arch) -> Path:
    """A Kconfig fragment that asks for these options, in the cache."""
    lines = [
        "# for: what a patch touches",
        *(f"CONFIG_{n}={v}" for n, v in sorted(options.items())),
    ]
    text = "".join(f"{line}\n" for line in lines)
    key = hashlib.sha256(text.encode()).hexdigest()[:32]
    final = workdir.cache_root() / "livepatches" / f"{arch.name}-modules-{key}"
    name = "+".join(sorted(option.lower() for option in options))[:40]
    with workdir.locked(final):
        if workdir.verify(final):
            with workdir.staging(final) as tmp:
                (tmp / f"{name}.config").write_text(text)
                workdir.publish(tmp, final)
        workdir.touch(final)
    return final / f"{name}.config"
