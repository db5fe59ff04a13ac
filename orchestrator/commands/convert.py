# SPDX-License-Identifier: GPL-2.0-only
"""`klp-e2e convert`: a livepatch module made of an ordinary one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from orchestrator import catalog
from orchestrator.cli.program import EXAMPLE, app, guarded
from orchestrator.elf import klp, klpformat, reader, relocation
from orchestrator.errors import Exit, UsageError
from orchestrator.host import files, ours
from orchestrator.host.workdir import disk_errors
from orchestrator.nouns import Arch, KlpSymbol
from orchestrator.report.terminal import tell


def read_file(path: Path) -> bytes:
    """Raises UsageError for a file that cannot be read."""
    try:
        return files.read(path, files.MODULE)
    except OSError as err:
        raise UsageError(f"cannot read {path}: {err.strerror}", hint="give a .ko file") from err


def arch_of(data: bytes, name: str, arch_files: Sequence[str] = ()) -> Arch:
    """The architecture a module was built for: of these files, else of ours. Raises UsageError when
    it is none of them."""
    elf = reader.read(data, name)
    known = [*map(catalog.arch, arch_files), *catalog.arches().values()]
    for arch in known:
        if (arch.elf_machine, arch.byte_order) == (elf.machine, elf.byte_order):
            return arch
    raise UsageError(
        f"{name} is for another architecture: ELF machine {elf.machine}, {elf.byte_order} endian",
        hint=f"known: {', '.join(arch.name for arch in known)}; --arch-file adds one",
    )


@dataclass(frozen=True, slots=True)
class Converted:
    """symbols: how many are deferred. needed: their object, where `depends=` still names it."""

    symbols: int
    needed: tuple[str, ...]


def convert_file(
    source: Path,
    goal: Path,
    object_name: str | None,
    symbols: Sequence[str],
    auto: Path | None,
    arch_files: Sequence[str] = (),
    *,
    force: bool = False,
) -> Converted:
    """Write `goal`, `source` with its relocations against the symbols deferred.

    With `auto` every undefined symbol which that module defines is added, and the object's name is
    by default that of the file. force: also where a file is.
    """
    name = object_name or (auto.stem if auto else None)
    if name is None or not (symbols or auto):
        raise UsageError(
            "convert needs to know which symbols belong to which object",
            hint="--object M --symbol NAME[,SYMPOS]..., or --auto TARGET.ko",
        )
    data = read_file(source)
    arch = arch_of(data, str(source), arch_files)
    wanted = klp_symbols(name, symbols)
    if auto is not None:
        given = {symbol.name for symbol in wanted}
        wanted += klp.auto_symbols(data, read_file(auto), name, given=given)
    if not wanted:
        raise UsageError(
            f"{source} has no undefined symbol that {auto} defines",
            hint="nothing is to be deferred; is it the right target?",
        )
    # modpost names in depends= whose exports it uses. Only with the target's file is it known that
    # none is left; where one is, modprobe needs that line.
    bound = () if auto is not None else (klpformat.object_name(name),)
    table = relocation.table(arch.relocations)
    made = klp.convert(data, wanted, bound=bound, table=table, name=str(source))
    with disk_errors(f"cannot write {goal}"):
        write_atomically(goal, made, force=force)
    left = set(bound).intersection(klpformat.dependencies(reader.read(made, str(goal))))
    return Converted(len(wanted), tuple(left))


def write_atomically(path: Path, data: bytes, *, force: bool) -> None:
    """A module that is there is whole. Raises UsageError where a file is there and is not to be
    written over, OSError."""
    if not path.parent.is_dir():
        raise UsageError(f"{path.parent} is not a directory", hint="create it first")
    there = UsageError(f"{path} is there already", hint="--force writes over it")
    if os.path.lexists(path) and not force:
        raise there
    try:
        with ours.replacing(path, new=not force) as partial:
            partial.write_bytes(data)
    except FileExistsError:  # somebody has made it meanwhile
        raise there from None


def klp_symbols(object_name: str, texts: Sequence[str]) -> tuple[KlpSymbol, ...]:
    """`NAME` or `NAME,SYMPOS` of one object, for the converter; sympos 0 means "unique"."""
    made = []
    for text in texts:
        name, comma, position = text.partition(",")
        if not name or (comma and not position.isdecimal()):
            raise UsageError(
                f"'{text}' is no symbol",
                hint="NAME, or NAME,N for the N-th of that name in the symbol table",
            )
        made.append(KlpSymbol(object_name.replace("-", "_"), name, int(position or 0)))
    return tuple(made)


ArchFileOption = Annotated[
    list[str] | None,
    typer.Option(
        "--arch-file",
        metavar="FILE",
        help="File A.toml of an architecture that is not built in; may be given again.",
    ),
]


@app.command(
    epilog=EXAMPLE + "klp-e2e convert patch.ko klp_patch.ko --object klp_target \\\n"
    "      --symbol hidden --symbol twice,2"
)
@guarded
def convert(
    source: Annotated[Path, typer.Argument(metavar="IN.ko", help="An ordinary module.")],
    goal: Annotated[Path, typer.Argument(metavar="OUT.ko", help="The livepatch module.")],
    object_name: Annotated[
        str | None,
        typer.Option("--object", metavar="M", help="Module that defines the symbols, or vmlinux."),
    ] = None,
    symbol: Annotated[
        list[str] | None,
        typer.Option(
            "--symbol", metavar="NAME[,N]", help="Defer this symbol, the N-th of that name."
        ),
    ] = None,
    auto: Annotated[
        Path | None,
        typer.Option(metavar="TARGET.ko", help="Defer every symbol that this module defines."),
    ] = None,
    arch_file: ArchFileOption = None,
    force: Annotated[
        bool, typer.Option("--force", help="Write over OUT.ko if it is there.")
    ] = False,
) -> Exit:
    """Defer a module's relocations. Makes a livepatch module of an ordinary one."""
    files = arch_file or ()
    done = convert_file(source, goal, object_name, symbol or (), auto, files, force=force)
    tell(f"{goal}: {done.symbols} klp symbol{'s' * (done.symbols != 1)}")
    for name in done.needed:
        tell(
            f"depends= still names {name}, of which it may use other exports: "
            f"--auto {name}.ko defers all of them"
        )
    return Exit.GOOD
