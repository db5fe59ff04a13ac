# SPDX-License-Identifier: GPL-2.0-only
"""`klp-e2e cache`: what is kept between runs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.program import EXAMPLE, app, guarded
from orchestrator.errors import Exit
from orchestrator.host import pruning, workdir
from orchestrator.report.terminal import tell
from orchestrator.source import git, sources

cache = typer.Typer(no_args_is_help=True, help="Look after what is kept between runs.")
app.add_typer(cache, name="cache", epilog=EXAMPLE + "klp-e2e cache prune --older-than 30")


@cache.command("list", epilog=EXAMPLE + "klp-e2e cache list")
@guarded
def cache_list() -> Exit:
    """List the cache's entries. Kind, size, days since last used, name."""
    for entry in pruning.entries(workdir.cache_root(using=False), touched):
        days = (time.time() - entry.used) / 86400
        foreign = "" if entry.ours else "  (holds what is not of klp-e2e's making: prune leaves it)"
        tell(f"{entry.kind:<10} {megabytes(entry.size)} {days:6.1f} d  {entry.name}{foreign}")
    return Exit.GOOD


@cache.command("size", epilog=EXAMPLE + "klp-e2e cache size")
@guarded
def cache_size() -> Exit:
    """Say how big the cache is. And where it lies."""
    root = workdir.cache_root(using=False)
    tell(f"{megabytes(pruning.size(root))}  {root}")
    return Exit.GOOD


@cache.command("prune", epilog=EXAMPLE + "klp-e2e cache prune --older-than 90")
@guarded
def cache_prune(
    older_than: Annotated[
        float, typer.Option("--older-than", min=0, metavar="DAYS", help="Unused for so many days.")
    ] = 30,
) -> Exit:
    """Remove old entries, and what killed runs left. Never what is in use, or of others' making."""
    with workdir.disk_errors("the cache cannot be pruned"):
        removed = pruning.prune(workdir.cache_root(using=False), older_than, touched)
    freed = megabytes(sum(entry.size for entry in removed)).strip()
    tell(f"removed {len(removed)} entries, {freed}")
    return Exit.GOOD


def touched(entry: Path) -> bool:
    """Has somebody worked in a clone of `bisect`?"""
    return entry.parent.name == sources.CLONES and bool(git.work(entry / "tree"))


def megabytes(size: int) -> str:
    """Bytes as megabytes, in a column's width."""
    return f"{size / 1e6:10.1f} MB"
