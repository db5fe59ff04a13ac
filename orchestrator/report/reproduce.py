# SPDX-License-Identifier: GPL-2.0-only
"""The line that reproduces one case, and a script around it."""

from __future__ import annotations

import shlex

from orchestrator.model import malformations, orders
from orchestrator.nouns import Accel
from orchestrator.plain import one_line
from orchestrator.run import selftests
from orchestrator.verdicts import CaseResult, Run


def words(run: Run, result: CaseResult) -> tuple[str, ...]:
    """The arguments after `klp-e2e` that run this case alone, on the same kernel."""
    where = kernel_words(run, result.arch)
    if selftests.is_script(result.case):
        return ("kselftest", *where, "--test", result.case.name)
    if malformations.is_malformed(result.case):
        return ("malformed", *where, "--only", malformations.label(result.case))
    extra = ["--cold"] * result.cold + ["--strict"] * run.strict
    order = orders.format(result.case.order)
    return ("run", *where, "--modules", result.case.module_set, "--order", order, *extra)


def kernel_words(run: Run, arch: str) -> tuple[str, ...]:
    """The options that name the kernel of an architecture, and what it runs under where one was
    asked for."""
    series = [word for name in run.series or ("none",) for word in ("--series", name)]
    option = "--arch-file" if arch in run.arch_files else "--arch"
    accel = run.options.get("accel", Accel.AUTO)
    under = ("--accel", accel) if accel != Accel.AUTO else ()
    return (option, run.arch_spec(arch), "--kernel", run.exact_source, *series, *under)


def line(run: Run, result: CaseResult) -> str:
    """One line that can be pasted into a shell."""
    return shlex.join(("klp-e2e", *words(run, result)))


def script(run: Run, result: CaseResult) -> str:
    """reproduce.sh: POSIX shell; further arguments are handed on (`./reproduce.sh -o DIR`).

    Uses $KLP_E2E, else `klp-e2e` on PATH, else the program that ran the case.
    """
    program = shlex.quote(run.command[0] if run.command else "klp-e2e")
    order = orders.format(result.case.order)
    about = f"{result.status} on {result.arch}: {result.case.name}"
    told = (one_line(about), *map(one_line, (*result.reason.splitlines(), *order.splitlines())))
    comment = "".join(f"# {text}\n" for text in told)
    return (
        "#!/bin/sh\n"
        f"{comment}"
        "set -eu\n"
        f"program=${{KLP_E2E:-$(command -v klp-e2e || printf %s {program})}}\n"
        f'exec "$program" {shlex.join(words(run, result))} "$@"\n'
    )
