# SPDX-License-Identifier: GPL-2.0-only
"""The line that reproduces one case, and a script around it."""

from __future__ import annotations

import shlex

from orchestrator import orders, selftests
from orchestrator.verdicts import CaseResult, Run


def words(run: Run, result: CaseResult) -> tuple[str, ...]:
    """The arguments after `klp-e2e` that run this case alone, on the same kernel."""
    series = [word for name in run.series or ("none",) for word in ("--series", name)]
    if selftests.is_script(result.case):
        where = ("--arch", result.arch, "--kernel", run.source)
        return ("kselftest", *where, *series, "--test", result.case.name)
    extra = ["--cold"] * result.cold + ["--strict"] * run.strict
    # fmt: off
    return (
        "run", "--arch", result.arch, "--kernel", run.source, *series,
        "--modules", result.case.module_set, "--order", orders.format(result.case.order), *extra,
    )
    # fmt: on


def line(run: Run, result: CaseResult) -> str:
    """One line that can be pasted into a shell."""
    return shlex.join(("klp-e2e", *words(run, result)))


def script(run: Run, result: CaseResult) -> str:
    """reproduce.sh: POSIX shell; further arguments are handed on (`./reproduce.sh -o DIR`).

    Uses $KLP_E2E, else `klp-e2e` on PATH, else the program that ran the case.
    """
    program = shlex.quote(run.command[0] if run.command else "klp-e2e")
    order = orders.format(result.case.order)
    told = "".join(f"# {text}\n" for text in (*result.reason.splitlines(), *order.splitlines()))
    return (
        "#!/bin/sh\n"
        f"# {result.status} on {result.arch}: {result.case.name}\n"
        f"{told}"
        "set -eu\n"
        f"program=${{KLP_E2E:-$(command -v klp-e2e || echo {program})}}\n"
        f'exec "$program" {shlex.join(words(run, result))} "$@"\n'
    )
