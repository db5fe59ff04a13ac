# SPDX-License-Identifier: GPL-2.0-only
"""The line that reproduces one case, and a script around it."""

from __future__ import annotations

import shlex

from orchestrator.model import malformations, orders
from orchestrator.nouns import Accel, CaseKind
from orchestrator.plain import one_line
from orchestrator.verdicts import CaseResult, Run, Status


def words(run: Run, result: CaseResult) -> tuple[str, ...]:
    """The arguments after `klp-e2e` that run this case alone, on the same kernel."""
    case = result.case
    strict = run.strict or result.status is Status.KNOWN  # 1 when it is seen again
    command, *chosen = case_words(case.kind, case.module_set, case.name, orders.format(case.order))
    cold = ["--cold"] * (result.cold and case.kind is CaseKind.ORDER)
    judged = (*known_words(run), *cold, *["--strict"] * strict)
    where = kernel_words(run, result.arch)
    return (command, *where, *chosen, *(() if case.kind is CaseKind.SELFTEST else judged))


def known_words(run: Run) -> tuple[str, ...]:
    """The options that name the user's own known issues."""
    return tuple(word for file in run.known_issues for word in ("--known-issues", file))


def case_words(kind: CaseKind, module_set: str, name: str, order: str) -> tuple[str, ...]:
    """The command that runs a case, and its options that choose this one."""
    match kind:
        case CaseKind.SELFTEST:
            return ("kselftest", "--test", name)
        case CaseKind.MALFORMED:
            return ("malformed", "--only", f"{malformations.broken_how(module_set)}/{name}")
        case CaseKind.ORDER:
            return ("run", "--modules", module_set, "--order", order)


def kernel_words(run: Run, arch: str) -> tuple[str, ...]:
    """The options that name the kernel of an architecture, and what it runs under where one was
    asked for."""
    series = [word for name in run.series or ("none",) for word in ("--series", name)]
    series += [word for spec in run.configs for word in ("--config", spec)]
    series += ["--toolchain", run.toolchain] if run.toolchain else []
    option = "--arch-file" if arch in run.arch_files else "--arch"
    accel = run.option("accel", Accel.AUTO)
    under = ("--accel", accel) if accel != Accel.AUTO else ()
    return (option, run.arch_spec(arch), "--kernel", run.exact_source, *series, *under)


def line(run: Run, result: CaseResult) -> str:
    """One line that can be pasted into a shell."""
    return shlex.join(("klp-e2e", *words(run, result)))


def script(run: Run, result: CaseResult) -> str:
    """reproduce.sh: POSIX shell; further arguments are handed on (`./reproduce.sh -o DIR`).

    Uses $KLP_E2E, else `klp-e2e` on PATH, else the program that ran the case; and the cache that
    its kernel came from, where that is still there and no other is named.
    """
    program = shlex.quote(run.command[0] if run.command else "klp-e2e")
    order = orders.format(result.case.order)
    about = f"{result.status} on {result.arch}: {result.case.name}"
    said = (one_line(about), *map(one_line, (*result.reason.splitlines(), *order.splitlines())))
    comment = "".join(f"# {text}\n" for text in said)
    return (
        "#!/bin/sh\n"
        f"{comment}"
        "set -eu\n"
        f"{_cache(run, result.arch)}"
        f"program=${{KLP_E2E:-$(command -v klp-e2e || printf %s {program})}}\n"
        f'exec "$program" {shlex.join(words(run, result))} "$@"\n'
    )


def _cache(run: Run, arch: str) -> str:
    """A line for the script; nothing where no kernel was built."""
    for kernel in run.kernels:
        if kernel.arch == arch:
            root = shlex.quote(str(kernel.directory.parent.parent))  # of kernels/KEY
            return (
                f'[ -n "${{KLP_E2E_CACHE:-}}" ] || [ ! -w {root} ] || export KLP_E2E_CACHE={root}\n'
            )
    return ""
