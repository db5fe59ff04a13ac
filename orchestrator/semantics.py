# SPDX-License-Identifier: GPL-2.0-only
"""The reference semantics of livepatch: what a single event does to the state of a guest.

Read from kernel/livepatch/core.c, transition.c, patch.c and kernel/module/main.c of Linux 6.1; 6.12
differs only in what the two capabilities say. Transitions are taken as finished: the harness waits
for them after every event.

    clears-on-unload    klp relocations return to what the .ko holds when klp_module_going(), or the
                        error path of klp_module_coming(), takes an object away
    clears-on-refusal   also those of the very livepatch that made klp_module_coming() fail

A module whose init fails goes through klp_module_going(): that is "clears-on-unload".
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import Literal

from orchestrator import errnos
from orchestrator.errors import UsageError
from orchestrator.nouns import (
    Load,
    ModuleSet,
    ModuleSpec,
    Plain,
    Probe,
    SetEnabled,
    SetParameter,
    Unload,
)
from orchestrator.verdicts import RelocationState

VMLINUX = "vmlinux"
CLEARS_ON_UNLOAD = "clears-on-unload"
CLEARS_ON_REFUSAL = "clears-on-refusal"

Pair = tuple[str, str]  # (livepatch, object)


@dataclass(frozen=True, slots=True)
class State:
    """Everything that decides what the next event does. Hashable; `State()` is a fresh guest."""

    loaded: frozenset[str] = frozenset()
    failing: frozenset[tuple[str, str, int]] = frozenset()
    # (loaded module, its failure parameter, errno), only where the errno is not 0
    stack: tuple[str, ...] = ()
    # klp_patches: enabled livepatches in the order of enabling, the last one on top. A disabled or
    # replaced livepatch is not in it, though its module may still be loaded.
    relocations: frozenset[tuple[Pair, RelocationState]] = frozenset()
    # of every loaded livepatch; WRITTEN is for one event only and does not stand here
    at_init: frozenset[tuple[str, str]] = frozenset()
    # (probe, livepatch on top when its object's init ran, "" for none), of loaded objects

    def relocation_states(self) -> dict[Pair, RelocationState]:
        return dict(self.relocations)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one event came to."""

    state: State
    errno: int
    why: str
    written: frozenset[Pair] = frozenset()
    # relocations written and given up within this event: nobody has read those bytes before


@dataclass(frozen=True, slots=True)
class Past:
    """What has happened since the guest was last looked at."""

    state: State
    answers: tuple[int, ...] = ()
    written: frozenset[Pair] = frozenset()  # relocations written meanwhile: nobody read those bytes
    why: str = field(default="", compare=False)

    def and_then(self, outcome: Outcome) -> Past:
        """One more thing."""
        was = self.state.relocation_states()
        applied = {
            pair
            for pair, now in outcome.state.relocations
            if now is RelocationState.APPLIED and was.get(pair) is not RelocationState.APPLIED
        }
        return Past(
            outcome.state,
            (*self.answers, outcome.errno),
            self.written | outcome.written | applied,
            f"{self.why}; {outcome.why}" if self.why else outcome.why,
        )


def happen(world: World, state: State, event: Plain) -> Outcome:
    """One event, alone.

    Raises UsageError when it names a module that the set lacks (see `orders.check`).
    """
    match event:
        case Load():
            return load(world, state, event)
        case Unload(module):
            return unload(world, state, world.spec(module))
        case SetEnabled(module, enabled):
            return set_enabled(state, world.spec(module), enabled)
        case SetParameter(module, parameter, value):
            return set_parameter(state, world.spec(module), parameter, value)


@dataclass(frozen=True, slots=True)
class World:
    """What does not change while an order runs."""

    module_set: ModuleSet
    capabilities: AbstractSet[str]

    def spec(self, name: str) -> ModuleSpec:
        spec = self.module_set.module(name)
        if spec is None:
            known = ", ".join(module.name for module in self.module_set.modules)
            raise UsageError(
                f"module set '{self.module_set.name}' has no module '{name}'",
                hint=f"known modules: {known}",
            )
        return spec

    def users(self, state: State, object_name: str) -> list[str]:
        """Enabled livepatches that patch this object, in the order of klp_patches."""
        return [name for name in state.stack if object_name in self.spec(name).patches]

    def on_top(self, stack: tuple[str, ...], probe: Probe) -> str:
        """The livepatch whose version of the probe's function runs (klp_ops.func_stack, rebuilt in
        the order of klp_patches when the object comes again); "" for the original."""
        over = [
            name
            for name in stack
            if probe.function in self.spec(name).patches.get(probe.object, ())
        ]
        return over[-1] if over else ""

    def probes_of(self, object_name: str) -> frozenset[str]:
        return frozenset(p.name for p in self.module_set.probes if p.object == object_name)

    def shown_at_init(self, state: State, loading: str) -> frozenset[tuple[str, str]]:
        """What the init of a module that loads now will have seen, for `State.at_init`."""
        return frozenset(
            (probe.name, self.on_top(state.stack, probe))
            for probe in self.module_set.probes
            if probe.at == "init" and probe.object == loading
        )

    def after_going(self) -> RelocationState:
        """What klp_cleanup_module_patches_limited() makes of an applied relocation."""
        clears = CLEARS_ON_UNLOAD in self.capabilities
        return RelocationState.PRISTINE if clears else RelocationState.LEFT

    def after_refusal(self) -> RelocationState:
        """What the err path of klp_module_coming() makes of those of the failing livepatch."""
        clears = CLEARS_ON_REFUSAL in self.capabilities
        return RelocationState.PRISTINE if clears else RelocationState.LEFT


def load(world: World, state: State, event: Load) -> Outcome:
    """load_module(): the name must be free; klp_module_coming(); init; else everything back."""
    spec = world.spec(event.module)
    if spec.name in state.loaded:
        why = f"{spec.name} is loaded already"
        return refused(state, errno.EEXIST, why)
    failing = with_parameters(state.failing, spec, event.parameters)
    users = world.users(state, spec.name)

    for index, livepatch in enumerate(users):
        if error := told_to_fail(state.failing, world.spec(livepatch), "pre_patch"):
            # The relocations are written before the callback is asked (klp_init_object_loaded()),
            # and the livepatches before this one are taken back; those after it never heard of it.
            after = {(name, spec.name): world.after_going() for name in users[:index]}
            after[livepatch, spec.name] = world.after_refusal()
            why = f"{spec.name} is refused: pre_patch of {livepatch} fails"
            return _given_up(state, error, why, after)

    error, reason = _init_error(state, spec, failing)
    if error:
        after = {(name, spec.name): world.after_going() for name in users}
        return _given_up(state, error, f"{spec.name} is refused: {reason}", after)

    relocations = state.relocation_states()
    relocations.update(
        {
            (name, spec.name): RelocationState.APPLIED
            for name in users
            if spec.name in world.spec(name).klp_symbols
        }
    )
    stack = state.stack
    if spec.kind == "livepatch":
        relocations.update(_own_relocations(spec, state.loaded))
        stack = (spec.name,) if spec.replace else (*state.stack, spec.name)
    new = State(
        loaded=state.loaded | {spec.name},
        failing=failing,
        stack=stack,
        relocations=frozenset(relocations.items()),
        at_init=state.at_init | world.shown_at_init(state, spec.name),
    )
    return Outcome(new, 0, _why_loaded(spec, state, users))


def unload(world: World, state: State, spec: ModuleSpec) -> Outcome:
    """delete_module(name, O_NONBLOCK), then klp_module_going()."""
    if spec.name not in state.loaded:
        return refused(state, errno.ENOENT, f"{spec.name} is not loaded")
    if spec.name in state.stack:
        # klp_enable_patch() took a reference that only disabling or replacing gives back.
        return refused(state, errno.EWOULDBLOCK, f"{spec.name} is in use while it is enabled")
    users = world.users(state, spec.name)
    relocations = {}
    for (livepatch, name), was in state.relocations:
        if livepatch == spec.name:
            continue
        now = was
        if name == spec.name and was is RelocationState.APPLIED:
            # klp_module_going() goes over enabled livepatches only: a disabled or replaced one
            # keeps what was written into it, on every kernel.
            now = world.after_going() if livepatch in users else RelocationState.LEFT
        relocations[livepatch, name] = now
    new = replace(
        state,
        loaded=state.loaded - {spec.name},
        failing=frozenset(entry for entry in state.failing if entry[0] != spec.name),
        relocations=frozenset(relocations.items()),
        at_init=frozenset(
            entry for entry in state.at_init if entry[0] not in world.probes_of(spec.name)
        ),
    )
    why = f"{spec.name} goes"
    if users:
        why += f", {_names(users)} {_verb(users)} taken off it"
    return Outcome(new, 0, why)


def set_enabled(state: State, spec: ModuleSpec, enabled: bool) -> Outcome:
    """enabled_store(); the file exists only while the livepatch is enabled."""
    if spec.name not in state.stack:
        why = f"/sys/kernel/livepatch/{spec.name} is not there: {spec.name} is not enabled"
        return refused(state, errno.ENOENT, why)
    if enabled:
        return refused(state, errno.EINVAL, f"{spec.name} is enabled already")
    new = replace(state, stack=tuple(name for name in state.stack if name != spec.name))
    return Outcome(new, 0, f"{spec.name} is disabled for good, its module stays")


def set_parameter(state: State, spec: ModuleSpec, parameter: str, value: str) -> Outcome:
    """A write to /sys/module/M/parameters/: takes effect the next time the module asks."""
    if spec.name not in state.loaded:
        return refused(state, errno.ENOENT, f"{spec.name} is not loaded, it has no parameters")
    new = replace(state, failing=with_parameters(state.failing, spec, ((parameter, value),)))
    return Outcome(new, 0, f"{parameter} of {spec.name} is now {value}")


def _init_error(
    state: State, spec: ModuleSpec, failing: frozenset[tuple[str, str, int]]
) -> tuple[int, str]:
    """(errno, reason) when the module's init fails, klp_enable_patch() included; else (0, "")."""
    if error := told_to_fail(failing, spec, "init"):
        return error, "its init fails"
    present = [name for name in spec.patches if name == VMLINUX or name in state.loaded]
    if spec.kind == "livepatch" and present and (error := told_to_fail(failing, spec, "pre_patch")):
        return error, f"its pre_patch fails for {present[0]}"
    return 0, ""


def _own_relocations(spec: ModuleSpec, loaded: frozenset[str]) -> Mapping[Pair, RelocationState]:
    """A livepatch that has just been enabled.

    Those of vmlinux are written while it loads (kernel/module/main.c, apply_relocations()), whether
    it patches vmlinux or not; those of a module only if it patches that module.
    """
    return {
        (spec.name, name): RelocationState.APPLIED
        if name == VMLINUX or (name in spec.patches and name in loaded)
        else RelocationState.PRISTINE
        for name in spec.klp_symbols
    }


def told_to_fail(
    failing: frozenset[tuple[str, str, int]], spec: ModuleSpec, at: Literal["init", "pre_patch"]
) -> int:
    """The errno with which this module is told to fail there, 0 when it is not."""
    told = {parameter: error for module, parameter, error in failing if module == spec.name}
    return next((told[f.parameter] for f in spec.failures if f.at == at and f.parameter in told), 0)


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


def refused(state: State, error: int, why: str) -> Outcome:
    """An event that changed nothing at all."""
    return Outcome(state, error, f"{why}: {errnos.describe(error)}")


def _given_up(state: State, error: int, why: str, after: Mapping[Pair, RelocationState]) -> Outcome:
    """A load that wrote relocations before it failed; `after`: what became of them."""
    relocations = state.relocation_states()
    known = {pair: now for pair, now in after.items() if pair in relocations}
    relocations.update(known)
    written = frozenset(pair for pair, now in known.items() if now is RelocationState.LEFT)
    new = replace(state, relocations=frozenset(relocations.items()))
    return Outcome(new, error, f"{why}: {errnos.describe(error)}", written)


def _why_loaded(spec: ModuleSpec, state: State, users: list[str]) -> str:
    parts = [f"{spec.name} loads"]
    if users:
        parts.append(f"{_names(users)} {_verb(users)} applied to it")
    if spec.kind == "livepatch":
        present = [name for name in spec.patches if name == VMLINUX or name in state.loaded]
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
