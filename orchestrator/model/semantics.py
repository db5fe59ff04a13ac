# SPDX-License-Identifier: GPL-2.0-only
"""The reference semantics of livepatch: what a single event does to the state of a guest.

Read from kernel/livepatch/core.c, transition.c, patch.c and kernel/module/main.c of Linux 6.1; 6.12
and 7.3 differ only in what the capabilities say. Transitions are taken as finished: the harness
waits for them after every event.

    clears-on-unload    klp relocations return to what the .ko holds when klp_module_going(), or the
                        error path of klp_module_coming(), takes an object away
    clears-on-refusal   also those of the very livepatch that made klp_module_coming() fail
    reserves-eexist     do_init_module() makes EBUSY of an init's own EEXIST

A module whose init fails goes through klp_module_going(): that is "clears-on-unload".
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from orchestrator import errnos
from orchestrator.model.state import (
    COMES,
    GOES,
    RESERVES_EEXIST,
    Called,
    EventOutcome,
    Pair,
    State,
    World,
    owners,
    present_objects,
)
from orchestrator.nouns import VMLINUX, Load, ModuleSpec, Plain, SetEnabled, SetParameter, Unload
from orchestrator.verdicts import RelocationState


def happen(world: World, state: State, event: Plain) -> EventOutcome:
    """One event, alone.

    Raises UsageError when it names a module that the set lacks (see `orders.check`).
    """
    match event:
        case Load():
            return load(world, state, event)
        case Unload(module):
            return unload(world, state, world.spec(module))
        case SetEnabled(module, enabled):
            return set_enabled(world, state, world.spec(module), enabled)
        case SetParameter(module, parameter, value):
            return set_parameter(state, world.spec(module), parameter, value)


def load(world: World, state: State, event: Load) -> EventOutcome:
    """load_module(): the name must be free; klp_module_coming(); init; else everything back."""
    spec = world.spec(event.module)
    if spec.name in state.loaded:
        why = f"{spec.name} is loaded already"
        return refused(state, errno.EEXIST, why)
    if (outcome := no_module(state, spec)) is not None:
        return outcome
    failing = with_parameters(state.failing, spec, event.parameters)
    users = world.users(state, spec.name)

    for index, livepatch in enumerate(users):
        there = state.loaded | {spec.name}
        if refusal := _refusal(world.spec(livepatch), state.failing, spec.name, there):
            # The livepatches before this one are taken back; those after it never heard of it.
            after = {(name, spec.name): world.after_going() for name in users[:index]}
            if refusal.written:
                after[livepatch, spec.name] = world.after_refusal()
            calls: list[Called] = [(name, spec.name, COMES + GOES) for name in users[:index]]
            if refusal.called:
                calls.append((livepatch, spec.name, COMES[:1]))
            why = f"{spec.name} is refused: {refusal.reason}"
            refused_by = replace(state, calls=world.calls(state.calls, *calls))
            return _given_up(refused_by, refusal.errno, why, after)

    error, reason = _init_error(world, state, spec, failing)
    if error := init_answer(world, error):
        after = {(name, spec.name): world.after_going() for name in users}
        gone = world.calls(state.calls, *((name, spec.name, COMES + GOES) for name in users))
        why = f"{spec.name} is refused: {reason}"
        return _given_up(replace(state, calls=gone), error, why, after)

    relocations = state.relocation_states()
    relocations.update(
        {
            (name, spec.name): RelocationState.APPLIED
            for name in users
            if spec.name in world.spec(name).klp_symbols
        }
    )
    stack = state.stack
    came: list[Called] = [(name, spec.name, COMES) for name in users]
    came += [(spec.name, name, COMES) for name in present_objects(spec, state)]
    if spec.kind == "livepatch":
        relocations.update(_own_relocations(spec, state.loaded))
        stack = (spec.name,) if spec.replace else (*state.stack, spec.name)
    new = State(
        loaded=state.loaded | {spec.name},
        failing=failing,
        stack=stack,
        relocations=frozenset(relocations.items()),
        at_init=state.at_init | world.shown_at_init(state, spec.name),
        calls=world.calls(state.calls, *came),
    )
    return EventOutcome(new, 0, _why_loaded(spec, state, users))


def no_module(state: State, spec: ModuleSpec) -> EventOutcome | None:
    """What a load comes to that fails before livepatch hears of it; None where it does not."""
    if needed := missing(state, spec):
        return refused(state, errno.ENOENT, f"{spec.name} needs symbols of {_names(needed)}")
    for defect in spec.defects:
        if not defect.object:
            return refused(state, defect.errno, f"{spec.name} is no module to load")
    return None


def missing(state: State, spec: ModuleSpec) -> list[str]:
    """Modules that it depends on and that are not there."""
    return [name for name in spec.depends if name not in state.loaded]


def init_answer(world: World, error: int) -> int:
    """What do_init_module() makes of the errno that a module's init returns."""
    reserved = error == errno.EEXIST and RESERVES_EEXIST in world.capabilities
    return errno.EBUSY if reserved else error


def unload(world: World, state: State, spec: ModuleSpec) -> EventOutcome:
    """delete_module(name, O_NONBLOCK), then klp_module_going()."""
    if spec.name not in state.loaded:
        return refused(state, errno.ENOENT, f"{spec.name} is not loaded")
    if spec.name in state.stack:
        # klp_enable_patch() took a reference that only disabling or replacing gives back.
        return refused(state, errno.EWOULDBLOCK, f"{spec.name} is in use while it is enabled")
    if dependents := world.dependents(state, spec.name):
        why = f"{spec.name} is in use by {_names(dependents)}"
        return refused(state, errno.EWOULDBLOCK, why)
    users = world.users(state, spec.name)
    relocations = {}
    for (livepatch, name), was in state.relocations:
        if livepatch == spec.name:
            continue
        now = was
        if name == spec.name and was is RelocationState.APPLIED:
            # klp_module_going() goes over enabled livepatches only: a disabled or replaced one
            # keeps what was written into it, on every kernel.
            now = world.after_going() if livepatch in users else RelocationState.STALE
        relocations[livepatch, name] = now
    new = replace(
        state,
        loaded=state.loaded - {spec.name},
        failing=frozenset(entry for entry in state.failing if entry[0] != spec.name),
        relocations=frozenset(relocations.items()),
        at_init=frozenset(
            entry for entry in state.at_init if entry[0] not in world.probes_of(spec.name)
        ),
        calls=frozenset(
            entry
            for entry in world.calls(state.calls, *((name, spec.name, GOES) for name in users))
            if entry[0][0] != spec.name
        ),
    )
    why = f"{spec.name} goes"
    if users:
        why += f", {_names(users)} {_verb(users)} taken off it"
    return EventOutcome(new, 0, why)


def set_enabled(world: World, state: State, spec: ModuleSpec, enabled: bool) -> EventOutcome:
    """enabled_store(); the file exists only while the livepatch is enabled."""
    if spec.name not in state.stack:
        why = f"/sys/kernel/livepatch/{spec.name} is not there: {spec.name} is not enabled"
        return refused(state, errno.ENOENT, why)
    if enabled:
        return refused(state, errno.EINVAL, f"{spec.name} is enabled already")
    new = replace(
        state,
        stack=tuple(name for name in state.stack if name != spec.name),
        calls=world.calls(
            state.calls, *((spec.name, name, GOES) for name in present_objects(spec, state))
        ),
    )
    return EventOutcome(new, 0, f"{spec.name} is disabled for good, its module stays")


def set_parameter(state: State, spec: ModuleSpec, parameter: str, value: str) -> EventOutcome:
    """A write to /sys/module/M/parameters/: takes effect the next time the module asks."""
    if spec.name not in state.loaded:
        return refused(state, errno.ENOENT, f"{spec.name} is not loaded, it has no parameters")
    new = replace(state, failing=with_parameters(state.failing, spec, ((parameter, value),)))
    return EventOutcome(new, 0, f"{parameter} of {spec.name} is now {value}")


def unprepared(world: World, state: State, spec: ModuleSpec) -> tuple[int, str]:
    """(errno, reason) when klp_enable_patch() finds something wrong with a livepatch before it asks
    whether another one is in transition; else (0, "")."""
    for other in state.stack:
        if _is_incompatible(spec, world.spec(other)):
            return errno.EINVAL, f"it cannot deal with the states of {other}"
    nobody: frozenset[tuple[str, str, int]] = frozenset()
    for name in present_objects(spec, state):
        if (refusal := _refusal(spec, nobody, name, state.loaded)) is not None:
            return refusal.errno, refusal.reason
    return 0, ""


def _is_incompatible(spec: ModuleSpec, old: ModuleSpec) -> bool:
    """klp_is_patch_compatible() (kernel/livepatch/state.c): a state of one that is enabled must not
    be a newer one, and who replaces must have all of them."""
    return any(
        spec.states[number] < version if number in spec.states else spec.replace
        for number, version in old.states.items()
    )


def _init_error(
    world: World, state: State, spec: ModuleSpec, failing: frozenset[tuple[str, str, int]]
) -> tuple[int, str]:
    """(errno, reason) when the module's init fails, klp_enable_patch() included; else (0, "")."""
    if error := told_to_fail(failing, spec, "init"):
        return error, "its init fails"
    if spec.kind != "livepatch":
        return 0, ""
    # All objects are prepared before the first callback is asked (klp_init_patch()).
    error, reason = unprepared(world, state, spec)
    if error:
        return error, reason
    for name in present_objects(spec, state):
        if (refusal := _refusal(spec, failing, name, state.loaded)) is not None:
            return refusal.errno, refusal.reason
    return 0, ""


@dataclass(frozen=True, slots=True)
class _Refusal:
    errno: int
    reason: str
    written: bool  # the object's klp relocations are in place by then
    called: bool  # it is pre_patch that refuses


def _refusal(
    spec: ModuleSpec,
    failing: frozenset[tuple[str, str, int]],
    object_name: str,
    there: frozenset[str],
) -> _Refusal | None:
    """Why a livepatch does not want to patch an object: first klp_init_object_loaded() writes the
    relocations and looks for the functions, then pre_patch is asked. there: the modules whose
    symbols it finds."""
    for defect in spec.defects:
        if defect.object == object_name:
            reason = f"{spec.name} names what {object_name} has not"
            return _Refusal(defect.errno, reason, defect.written, False)
    sections = owners(spec, object_name)
    for index, named in enumerate(sections):
        if absent := [name for name in named if name not in there]:
            # klp_resolve_symbols() looks at a whole section before any of it is written
            reason = f"{spec.name} needs symbols of {_names(absent)}"
            return _Refusal(errno.EINVAL, reason, index > 0, False)
    error = told_to_fail(failing, spec, "pre_patch", object_name)
    return _Refusal(error, f"pre_patch of {spec.name} fails", True, True) if error else None


def _own_relocations(spec: ModuleSpec, loaded: frozenset[str]) -> Mapping[Pair, RelocationState]:
    """A livepatch that has just been enabled.

    Those of vmlinux are written while it loads (kernel/module/main.c, apply_relocations()), whether
    it patches vmlinux or not; those of a module only if it patches that module.
    """
    return {
        (spec.name, name): RelocationState.APPLIED
        if name == VMLINUX or (name in spec.patches and name in loaded)
        else RelocationState.UNRELOCATED
        for name in spec.klp_symbols
    }


def told_to_fail(
    failing: frozenset[tuple[str, str, int]],
    spec: ModuleSpec,
    at: Literal["init", "pre_patch"],
    object_name: str = "",
) -> int:
    """The errno with which this module is told to fail there, 0 when it is not."""
    errors = {parameter: error for module, parameter, error in failing if module == spec.name}
    return next(
        (
            errors[f.parameter]
            for f in spec.failures
            if f.at == at and f.parameter in errors and f.object in ("", object_name)
        ),
        0,
    )


def with_parameters(
    failing: frozenset[tuple[str, str, int]],
    spec: ModuleSpec,
    parameters: Iterable[tuple[str, str]],
) -> frozenset[tuple[str, str, int]]:
    result = failing
    failures = {failure.parameter for failure in spec.failures}
    for name, value in parameters:
        if name not in failures:
            continue  # no other parameter changes what livepatch does
        result = frozenset(entry for entry in result if entry[:2] != (spec.name, name))
        if error := errnos.of_parameter(value):
            result |= {(spec.name, name, error)}
    return result


def refused(state: State, error: int, why: str) -> EventOutcome:
    """An event that changed nothing at all."""
    return EventOutcome(state, error, f"{why}: {errnos.describe(error)}")


def _given_up(
    state: State, error: int, why: str, after: Mapping[Pair, RelocationState]
) -> EventOutcome:
    """A load that wrote relocations before it failed; `after`: what became of them."""
    relocations = state.relocation_states()
    known = {pair: now for pair, now in after.items() if pair in relocations}
    relocations.update(known)
    written = frozenset(pair for pair, now in known.items() if now is RelocationState.STALE)
    new = replace(state, relocations=frozenset(relocations.items()))
    return EventOutcome(new, error, f"{why}: {errnos.describe(error)}", written)


def _why_loaded(spec: ModuleSpec, state: State, users: list[str]) -> str:
    parts = [f"{spec.name} loads"]
    if users:
        parts.append(f"{_names(users)} {_verb(users)} applied to it")
    if spec.kind == "livepatch":
        present = present_objects(spec, state)
        absent = [name for name in spec.patches if name not in present]
        if present:
            parts.append(f"patches {_names(present)}")
        if absent:
            parts.append(f"waits for {_names(absent)}")
        if spec.replace and state.stack:
            parts.append(f"replaces {_names(state.stack)}")
    return ", ".join(parts)


def _names(names: Iterable[str]) -> str:
    return " and ".join(names)


def _verb(names: list[str]) -> str:
    return "is" if len(names) == 1 else "are"
