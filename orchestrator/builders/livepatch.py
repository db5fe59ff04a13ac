# SPDX-License-Identifier: GPL-2.0-only
"""A source patch becomes a module set: the livepatch that a builder makes of it, the modules that
it patches as they came with the kernel, and a set.toml of what they say of themselves.

CACHE/livepatches/ARCH-NAME-KEY/NAME/     a finished set, with the patches beside it
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from orchestrator.build import kernel as kernels
from orchestrator.build.kbuild import Progress
from orchestrator.builders import klpbuild, kpatch, sympos, tree
from orchestrator.builders.request import Request
from orchestrator.builders.tree import BuildTree
from orchestrator.catalog import SET_FILE
from orchestrator.deadline import Deadline
from orchestrator.elf import klp, klpformat, patchtable, reader, relocation
from orchestrator.elf.records import Elf
from orchestrator.elf.rules import FATAL
from orchestrator.errors import BuildError, HarnessError
from orchestrator.host import workdir
from orchestrator.host.rundir import run_dir
from orchestrator.model import kofiles
from orchestrator.nouns import VMLINUX, Arch, Kernel, KlpSymbol, Origin, SourcePatch
from orchestrator.plain import one_line
from orchestrator.source import series, sources


class Builder(Protocol):
    """What each module of a builder has.

    WRITES: what it writes to in a kernel's tree, besides the files of the patch. OPTIONS: what it
    wants of a kernel's configuration. identity: which of several builders of that name it is, as
    far as the kernel's source does not tell. warnings: what it warned of, by its log, of what it
    has made. original: the object, vmlinux or a module's, in which it counted symbols of one name;
    None: in those of the kernel that boots.
    """

    NAME: str
    WRITES: tuple[str, ...]
    OPTIONS: Mapping[str, str]

    def check(self, request: Request, source: Path) -> None: ...

    def make(
        self,
        request: Request,
        tree: BuildTree,
        patches: Sequence[Path],
        *,
        jobs: int,
        progress: Progress,
        deadline: Deadline,
        say: Callable[[str], None],
    ) -> Path: ...

    def warnings(self, text: str) -> tuple[str, ...]: ...

    def identity(self, say: Callable[[str], None]) -> str: ...

    def original(self, tree: BuildTree, name: str) -> Path | None: ...


BUILDERS: Mapping[str, Builder] = {klpbuild.NAME: klpbuild, kpatch.NAME: kpatch}
LOG = "build.log"
_WARNINGS, _WARNING = 50, 500  # kept of a builder; characters of each
_LAYOUT = "2"  # of an entry: another number makes all of them anew


def build(
    request: Request,
    builder: str,
    *,
    jobs: int,
    progress: Progress,
    say: Callable[[str], None],
    deadline: Deadline,
) -> Path:
    """The directory of the set, from the cache or built now.

    Raises PatchError where the patch does not apply to the kernel's source, BuildError where the
    builder refuses it or means other symbols than the kernel has, UsageError, HarnessError, also
    where the source is no longer what the kernel was built of.
    """
    makes = BUILDERS[builder]
    kernel, arch = request.kernel, request.arch
    origin = sources.fetch(kernel.source, deadline, say)
    stack = [series.resolve(name, origin.kernel) for name in kernel.series]
    series.apply(origin.directory, [*stack, request.fix])
    if not kernels.is_of(kernel, arch, origin):
        raise HarnessError(
            f"{kernel.source} was changed since the kernel was built of it",
            hint="run again, and leave it alone meanwhile",
        )
    makes.check(request, origin.directory)
    identity = makes.identity(say)
    final = (
        workdir.cache_root()
        / "livepatches"
        / f"{arch.name}-{request.name}-{_key(request, builder, identity)}"
    )
    with workdir.locked(final, say):
        if workdir.verify(final):
            written = {*request.files, *makes.WRITES}
            with (
                tree.opened(kernel, arch, origin, written, say=say) as site,
                run_dir("fix") as scratch,
            ):
                patches = []
                for one in request.fix.patches:
                    patches.append(scratch / one.name)
                    patches[-1].write_bytes(one.diff.raw)
                made = makes.make(
                    request, site, patches, jobs=jobs, progress=progress, deadline=deadline, say=say
                )
                _check_format(request, made, makes)
                _check_positions(request, site, made, makes)
                with workdir.staging(final) as tmp:
                    place = tmp / request.name
                    place.mkdir()
                    for name, data in _modules(made.read_bytes(), request).items():
                        (place / name).write_bytes(data)
                    said = site.log.read_text(errors="replace")
                    _describe(place, request, builder, makes.warnings(said), identity)
                    shutil.copyfile(site.log, tmp / LOG)
                    workdir.publish(tmp, final)
        workdir.touch(final)
    return final / request.name


def _key(request: Request, builder: str, identity: str) -> str:
    parts = [_LAYOUT, request.kernel.key, builder, identity, str(request.replace), request.name]
    parts += [hashlib.sha256(one.diff.raw).hexdigest() for one in request.fix.patches]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _describe(
    place: Path, request: Request, builder: str, warned: Sequence[str], identity: str
) -> None:
    """set.toml, and the patches by the names that it has for them."""
    given = {path.name: path.read_bytes() for path in sorted(place.glob("*.ko"))}
    patches = []
    for file, one in zip(request.patch_files, request.fix.patches, strict=True):
        (place / file).write_bytes(one.diff.raw)
        patches.append(SourcePatch(file, hashlib.sha256(one.diff.raw).hexdigest()))
    more = [f"and {len(warned) - _WARNINGS} more"] if len(warned) > _WARNINGS else []
    kept = (*(each[:_WARNING] for each in warned[:_WARNINGS]), *more)
    version = identity or request.kernel.release
    origin = Origin(builder, version, tuple(patches), kept, request.replace)
    (place / SET_FILE).write_text(kofiles.set_text(given) + kofiles.origin_text(origin))


# --- what goes with it -------------------------------------------------------------------------


def _modules(made: bytes, request: Request) -> Mapping[str, bytes]:
    """File name -> module: the livepatch, those that it patches and what these depend on, as far as
    the kernel has them as modules."""
    elf = reader.read(made, f"{request.name}.ko")
    found = {f"{request.name}.ko": made}
    there = {klpformat.object_name(p.stem): p for p in request.kernel.build_tree.rglob("*.ko")}
    left = [*objects(elf, f"{request.name}.ko"), *klpformat.dependencies(elf)]
    while left:
        path = there.get(name := left.pop())
        if path is not None and path.name not in found:
            found[path.name] = path.read_bytes()
            left += klpformat.dependencies(reader.read(found[path.name], path.name))
        elif path is None and name != VMLINUX:
            raise BuildError(
                f"{request.name}.ko patches {name}, which the kernel {request.kernel.release} does "
                "not have as a module",
                hint="ask for it with --config FILE: CONFIG_...=m",
            )
    return found


def objects(elf: Elf, name: str) -> tuple[str, ...]:
    """What a livepatch says it patches, as far as it says so before it is loaded."""
    said = patchtable.prepared(elf, name)
    return tuple(each for each, _ in said.objects) if said else ()


def _check_format(request: Request, made: Path, makes: Builder) -> None:
    """Raises BuildError for a livepatch that a right kernel refuses, or writes astray."""
    arch = request.arch
    found = klp.inspect(
        made.read_bytes(),
        table=relocation.table(arch.relocations),
        none=arch.none,
        name=made.name,
    )
    broken = [f"{v.where}: {v.text}" for v in found.violations if v.rule in FATAL]
    if broken:
        raise BuildError(
            f"{makes.NAME} made a {made.name} that no kernel can apply as it is meant:\n"
            + "\n".join(map(one_line, broken[:_WARNINGS])),
            hint=f"that is a fault of {makes.NAME}'s, and not of the patch; leave out of the patch "
            "what it says",
        )


def _check_positions(request: Request, site: BuildTree, made: Path, makes: Builder) -> None:
    """Raises BuildError for a symbol that is another one in the kernel that boots."""
    elf = reader.read(made.read_bytes(), made.name)
    wanted: dict[str, list[KlpSymbol]] = {}
    for symbol in _asked(elf, request.arch, made.name):
        wanted.setdefault(symbol.object, []).append(symbol)
    wrong = [
        line for name, asked in wanted.items() for line in _moved(request, site, makes, name, asked)
    ]
    if wrong:
        raise BuildError(
            f"{made.name} does not mean what the kernel that boots has by these names:\n"
            + "\n".join(wrong),
            hint=f"{makes.NAME} counted in a kernel that it compiled with other options",
        )


def _asked(elf: Elf, arch: Arch, name: str) -> Iterator[KlpSymbol]:
    said = patchtable.prepared(elf, name)
    for target, functions in said.objects if said else ():
        yield from (KlpSymbol(target, f.name, f.sympos) for f in functions)
    for found in klp.klp_relocations(elf, relocation.table(arch.relocations), name):
        yield found.symbol


def _moved(
    request: Request, site: BuildTree, makes: Builder, name: str, asked: Iterable[KlpSymbol]
) -> Iterator[str]:
    theirs = makes.original(site, name)
    ours = _of_kernel(request.kernel, name)
    if theirs is None or ours is None:
        return
    asked = tuple(asked)
    both = [
        sympos.places(
            reader.symbols(path.read_bytes(), path.name),
            (symbol.name for symbol in asked),
            by_address=name == VMLINUX,
        )
        for path in (theirs, ours)
    ]
    yield from sympos.differing(asked, *both)


def _of_kernel(kernel: Kernel, name: str) -> Path | None:
    if name == VMLINUX:
        return kernel.directory / VMLINUX
    found = (p for p in kernel.build_tree.rglob("*.ko") if klpformat.object_name(p.stem) == name)
    return next(found, None)
