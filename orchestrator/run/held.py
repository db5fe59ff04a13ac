# SPDX-License-Identifier: GPL-2.0-only
"""Tasks that keep a transition from ending because they stay in a function of the set: a right
kernel waits for them, too (klp_check_stack(), kernel/livepatch/transition.c)."""

from __future__ import annotations

import re
import time
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
# One that runs may be on its way: it stays in a function if it is there at each look.
_LOOKS, _BETWEEN_SECONDS = 4, 0.3
_SLEEPS, _RUNS = "SDI", "R"
_TASK = re.compile(r"task ([A-Z]) (.*)")
_FRAME = re.compile(r"\[<[^>]{1,40}>\] ([A-Za-z_][\w.]*)\+0x[0-9a-f]+/0x[0-9a-f]+(?: \[(\w+)\])?")


@dataclass(frozen=True, slots=True)
class Sleeper:
    """A task and a function of the set that it is in."""

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
            found = _found(
                guest, module_set, _STACKS.format(state=int(not state.enabled)), deadline
            )
        except GuestLost:
            return  # what was seen of the transition stands
        if found is not None:
            how, sleeper = found
            raise HarnessError(
                f"the transition of {name} waits for task {sleeper.task}, which {how} in "
                f"{sleeper.function}",
                hint="a task that does not leave a function keeps it from being replaced, on a "
                "right kernel, too: let it return now and then",
            )


def _found(
    guest: Guest, module_set: ModuleSet, command: str, deadline: Deadline
) -> tuple[str, Sleeper] | None:
    listed = guest.run_command(command, deadline)
    if sleeping := sleepers(listed, module_set):
        return "sleeps", sleeping[0]
    running = sleepers(listed, module_set, _RUNS)
    for _ in range(_LOOKS - 1):
        if not running:
            return None
        time.sleep(_BETWEEN_SECONDS)
        again = sleepers(guest.run_command(command, deadline), module_set, _RUNS)
        running = [each for each in running if each in again]
    return ("runs", running[0]) if running else None


def sleepers(listed: str, module_set: ModuleSet, states: str = _SLEEPS) -> list[Sleeper]:
    """The tasks in such a state with each function that they are in, inmost first, as far as a
    livepatch of the set has or replaces it: in any other a right kernel does not wait for them.

    listed: what _STACKS prints."""
    livepatches = {spec.name for spec in module_set.modules if spec.kind == "livepatch"}
    replaced = {
        (object_name, entry.partition(",")[0])
        for spec in module_set.modules
        for object_name, entries in spec.patches.items()
        for entry in entries
    }
    found, task = [], ""
    for line in listed.splitlines():
        if opened := _TASK.fullmatch(line):
            task = opened[2] if opened[1] in states else ""
        elif task and (frame := _FRAME.search(line)):
            function, module = frame[1], frame[2] or ""
            name = function.partition(".")[0]  # the compiler's .constprop, .isra
            if module in livepatches or (module or VMLINUX, name) in replaced:
                found.append(Sleeper(task, f"{function} [{module}]" if module else function))
    return found
