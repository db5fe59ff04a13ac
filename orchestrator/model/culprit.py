# SPDX-License-Identifier: GPL-2.0-only
"""Whether what failed can be the kernel's at all. Pure.

What a probe asks for and nobody has, and the names that a livepatch gives to what it patches, are
the work of whoever wrote set.toml and the modules: sysfs lists what the livepatch itself says
(klp_init_patch(), kernel/livepatch/core.c). Unless its tables were compared with set.toml before.
Its states are told nowhere but in those tables (kernel/livepatch/state.c).
"""

from __future__ import annotations

import errno
import re
from collections.abc import Sequence

from orchestrator.nouns import BuiltSet
from orchestrator.verdicts import Answers, Check, Health, Patched, PatchState, Shown, Step

NOT_FOUND = "exit status 127"  # sh(1): the command was not found
_INCOMPATIBLE = re.compile(r"livepatch: Livepatch patch \((\S+)\) is not compatible ")


def not_the_kernels(step: Step, built: BuiltSet, refusals: Sequence[str]) -> str:
    """Why a failed step says nothing about the kernel; "" where one of its checks may.

    refusals: `kernelreports.refusals` of what was printed meanwhile."""
    if reason := _of_states(step, built, refusals):
        return reason
    reasons = [_reason(check, built) for check in step.checks if not check.good]
    return reasons[0] if reasons and all(reasons) else ""


def _reason(check: Check, built: BuiltSet) -> str:
    match check.detail:
        case Shown(probe=name, expected_text=str(), seen_text=seen):
            probe = next((p for p in built.set.probes if p.name == name), None)
            if probe is not None and probe.file and seen is None:
                return f"probe '{name}' of set.toml: the guest has no file {probe.file}"
            if probe is not None and probe.command and _last_line(seen) == NOT_FOUND:
                return f"probe '{name}' of set.toml: the guest has no such command: {probe.command}"
        case Patched(
            livepatch=name, expected_state=PatchState() as declared, seen_state=PatchState() as its
        ):
            module = built.modules.get(name)
            known = module is not None and module.compared  # then sysfs is wrong, or no word of it
            if not known and _names(declared) != _names(its):
                own = f"livepatch {name} patches {_words(its)} by its own word in sysfs"
                return f"{own}, and set.toml says {_words(declared)}"
    return ""


def _of_states(step: Step, built: BuiltSet, refusals: Sequence[str]) -> str:
    """Was a livepatch refused for states that nobody could read?"""
    unread = [
        name
        for name, module in built.modules.items()
        if module.spec.kind == "livepatch" and not module.compared
    ]
    wrong = [check.detail for check in step.checks if not check.good]
    first = wrong[0] if wrong else None
    if not unread or not isinstance(first, Answers) or any(isinstance(w, Health) for w in wrong):
        return ""
    if all(first.seen_errnos[index] != errno.EINVAL for index in first.wrong):
        return ""
    for line in refusals:
        if found := _INCOMPATIBLE.match(line):
            return (
                f"the kernel calls {found[1]} incompatible with the livepatches that are enabled, "
                f"and the .states of {', '.join(unread)} cannot be read: does set.toml say them?"
            )
    return ""


def _last_line(text: str | None) -> str:
    return (text or "").rstrip().rpartition("\n")[2]


def _names(state: PatchState) -> dict[str, tuple[str, ...]]:
    return {name: tuple(sorted(state.functions.get(name, ()))) for name in state.objects}


def _words(state: PatchState) -> str:
    return " and ".join(f"{', '.join(f) or 'nothing'} of {o}" for o, f in _names(state).items())
