# SPDX-License-Identifier: GPL-2.0-only
"""Tasks that keep a transition from ending because they sleep in a function of the set: a right
kernel waits for them, too (klp_check_stack(), kernel/livepatch/transition.c)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.deadline import Deadline
from orchestrator.errors import GuestLost, HarnessError
from orchestrator.nouns import VMLINUX, ModuleSet
from orchestrator.verdicts import PatchState
from orchestrator.vm.guest import Guest

# Shell for the guest: name, state and stack of each task that is not where it is to go.
_STACKS = """for t in /proc/[0-9]*/task/*; do
if [ "$(cat $t/patch_state 2>/dev/null)" = {state} ]; then
echo "task $(sed -n 's/^State:[^A-Z]*\\(.\\).*/\\1/p' $t/status) $(cat $t/comm)"; cat $t/stack; fi
done 2>/dev/null"""
_TASK = re.compile(r"task ([A-Z]) (.*)")
_FRAME = re.compile(r"\[<[^>]{1,40}>\] ([A-Za-z_][\w.]*)\+0x[0-9a-f]+/0x[0-9a-f]+(?: \[(\w+)\])?")


@dataclass(frozen=True, slots=True)
class Sleeper:
    task: str
    function: str  # FUNCTION, or FUNCTION [MODULE]


def check(
    guest: Guest, module_set: ModuleSet, patches: Mapping[str, PatchState], deadline: Deadline
) -> None:
    """Raises HarnessError where a transition has not ended and such a task is why."""
    for name, state in patches.items():
        if not state.transition:
            continue
        try:
            listed = guest.run_command(_STACKS.format(state=int(not state.enabled)), deadline)
        except GuestLost:
            return  # what was seen of the transition stands
        if (found := sleeper(listed, module_set)) is not None:
            raise HarnessError(
                f"the transition of {name} waits for task {found.task}, which sleeps in "
                f"{found.function}",
                hint="a task that does not leave a function keeps it from being replaced, on a "
                "right kernel, too: let it return now and then",
            )


def sleeper(listed: str, module_set: ModuleSet) -> Sleeper | None:
    """The first task that sleeps in a function of the set's modules, or in one of vmlinux that a
    livepatch of the set replaces. listed: what _STACKS prints."""
    modules = {spec.name for spec in module_set.modules}
    replaced = {
        entry.partition(",")[0]
        for spec in module_set.modules
        for entry in spec.patches.get(VMLINUX, ())
    }
    task = ""
    for line in listed.splitlines():
        if opened := _TASK.fullmatch(line):
            task = opened[2] if opened[1] in "SDI" else ""
        elif task and (frame := _FRAME.search(line)):
            function, module = frame[1], frame[2] or ""
            if module in modules or (not module and function in replaced):
                return Sleeper(task, f"{function} [{module}]" if module else function)
    return None
