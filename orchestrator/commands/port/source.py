# SPDX-License-Identifier: GPL-2.0-only
"""The kernel source that a port is judged by, its series applied: what its Kconfig files and its
module loader say of one architecture."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.build import kbuild, kconfigtree
from orchestrator.build.kconfigtree import Config
from orchestrator.nouns import Arch
from orchestrator.port import relocsource
from orchestrator.port.relocsource import Handled
from orchestrator.source import series, sources
from orchestrator.source.series import Patched


@dataclass(frozen=True, slots=True)
class PortSource:
    """A tree as it is read: the series' files before its own."""

    directory: Path
    patched: Mapping[str, Patched]
    place: str  # arch/SRCARCH
    tree: kconfigtree.KconfigTree | None  # None: the kernel has no such architecture

    @classmethod
    def fetch(
        cls, spec: str, stack: Sequence[str], arch: Arch, say: Callable[[str], None]
    ) -> PortSource:
        """Raises UsageError for a source or a series that is none, PatchError, HarnessError."""
        found = sources.fetch(spec, say=say)
        resolved = [series.resolve(each, found.kernel) for each in stack]
        patched = series.apply(found.directory, resolved)
        srcarch = kbuild.source_arch(found.directory, arch.kernel_arch)
        made = cls(found.directory, patched, f"arch/{srcarch}", None)
        if made.read(f"{made.place}/{kconfigtree.TOP}") is None:
            return made
        return cls(made.directory, patched, made.place, kconfigtree.read(made.read, srcarch))

    def read(self, name: str) -> str | None:
        """A file's text; None when there is none."""
        if name in self.patched:
            content = self.patched[name].content
            return None if content is None else content.decode(errors="replace")
        path = self.directory / name
        return path.read_text(errors="replace") if path.is_file() else None

    def stands_on(self, name: str, other: str) -> bool:
        """Does the one option depend on the other?"""
        wanted = kconfigtree.demands(self.tree, name) if self.tree else ()
        return any(other in kconfigtree.symbols(each) for each in wanted)

    def handled(self, config: Config | None) -> tuple[Handled, ...]:
        """The relocation types that apply_relocate_add() takes."""
        pattern = f"{self.place}/{relocsource.SOURCES}"
        own = [str(path.relative_to(self.directory)) for path in self.directory.glob(pattern)]
        names = sorted({*own, *fnmatch.filter(self.patched, pattern)})
        headers = [f"{self.place}/{name}" for name in relocsource.HEADERS]
        code = [name for name in names if not name.endswith(relocsource.NOT_OURS)]
        return relocsource.handled(self._texts(code), self._texts(headers), config)

    def _texts(self, names: Sequence[str]) -> Mapping[str, str]:
        texts = {name: self.read(name) for name in names}
        return {name: text for name, text in texts.items() if text is not None}
