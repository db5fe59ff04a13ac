# SPDX-License-Identifier: GPL-2.0-only
"""Whether what was begun may be gone on with: only what asks the very same, of the very same. A
result that is taken over from anything else is a verdict on what never ran. Pure.

What an older klp-e2e did not write down cannot be compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from orchestrator.errors import UsageError
from orchestrator.verdicts import Run

MATTERS_NOT = frozenset({"jobs"})  # of a run's options


def refuse_other(path: Path, before: Run, now: Run) -> None:
    """Raises UsageError when `now`, as far as it is known, is not what `path` was begun with."""
    for what in _differences(before, now):
        raise UsageError(
            f"{path} was begun {what}",
            hint="go on with the same command line on what is unchanged, or begin anew with -o DIR",
        )


def _differences(before: Run, now: Run) -> Iterator[str]:
    if (before.source, before.series) != (now.source, now.series):
        series = " --series ".join(before.series) or "none"
        yield f"with --kernel {before.source}, --series {series}"
    if before.configs != now.configs:
        yield f"with --config {' --config '.join(before.configs) or 'none'}"
    if before.toolchain != now.toolchain:
        yield f"with --toolchain {before.toolchain or 'of its own'}"
    if before.strict != now.strict:
        yield f"{'with' if before.strict else 'without'} --strict"
    for name in sorted((before.options.keys() & now.options.keys()) - MATTERS_NOT):
        was, wanted = before.option(name), now.option(name)  # an older klp-e2e wrote all as text
        if was != wanted:
            yield f"with {name} {was}, and not {wanted}"
    kernels = {kernel.arch: kernel.key for kernel in before.kernels}
    for kernel in now.kernels:
        if kernels.get(kernel.arch, kernel.key) != kernel.key:
            yield f"on another kernel for {kernel.arch}"
    for name in sorted(before.inputs.keys() & now.inputs.keys()):
        if before.inputs[name] != now.inputs[name]:
            yield f"with another {name}"
