# SPDX-License-Identifier: GPL-2.0-only
"""What a model of livepatch has to remember: the state of a guest, and what cannot change.

What events make of it is in `semantics` and `races`.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace

from orchestrator.errors import UsageError
from orchestrator.nouns import VMLINUX, ModuleSet, ModuleSpec, Probe
from orchestrator.verdicts import RelocationState

CLEARS_ON_UNLOAD = "clears-on-unload"
CLEARS_ON_REFUSAL = "clears-on-refusal"
RESERVES_EEXIST = "reserves-eexist"

Pair = tuple[str, str]  # (livepatch, object)
Called = tuple[str, str, tuple[str, ...]]  # livepatch, object, callbacks in the order called
Calls = frozenset[tuple[Pair, tuple[str, ...] | None]]

# klp_callbacks in the order in which they are called. Those of a livepatch that is replaced are not
# (klp_unpatch_replaced_patches()), nor those of an object that is not loaded.
COMES: tuple[str, ...] = ("pre_patch", "post_patch")
GOES: tuple[str, ...] = ("pre_unpatch", "post_unpatch")


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
    calls: Calls = frozenset()
    # of the loaded livepatches that record them: callbacks called from the last pre_patch on; None:
    # events at the same time have called them, in one of several ways

    def relocation_states(self) -> dict[Pair, RelocationState]:
        return dict(self.relocations)


@dataclass(frozen=True, slots=True)
class EventOutcome:
    """What one event came to."""

    state: State
    errno: int
    why: str
    written: frozenset[Pair] = frozenset()
    # relocations written and given up within this event: nobody has read those bytes before


@dataclass(frozen=True, slots=True)
class Progress:
    """What has happened since the guest was last looked at."""

    state: State
    answers: tuple[int, ...] = ()
    written: frozenset[Pair] = frozenset()  # relocations written meanwhile: nobody read those bytes
    why: str = field(default="", compare=False)

    def and_then(self, outcome: EventOutcome) -> Progress:
        """One more thing."""
        was = self.state.relocation_states()
        applied = {
            pair
            for pair, now in outcome.state.relocations
            if now is RelocationState.APPLIED and was.get(pair) is not RelocationState.APPLIED
        }
        return Progress(
            outcome.state,
            (*self.answers, outcome.errno),
            self.written | outcome.written | applied,
            f"{self.why}; {outcome.why}" if self.why else outcome.why,
        )


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

    def dependents(self, state: State, module: str) -> list[str]:
        """Loaded modules that use its exported symbols."""
        return sorted(name for name in state.loaded if module in self.spec(name).depends)

    def held(self, state: State, module: str) -> frozenset[str]:
        """Modules that a load of this one holds: those it depends on that are there."""
        return state.loaded.intersection(self.spec(module).depends)

    def on_top(self, stack: tuple[str, ...], probe: Probe) -> str:
        """The livepatch whose version of the probe's function runs (klp_ops.func_stack, rebuilt in
        the order of klp_patches when the object comes again); "" for the original."""
        over = [name for name in stack if replaces(self.spec(name), probe.object, probe.function)]
        return over[-1] if over else ""

    def dangles(self, state: State, livepatch: str, object_name: str) -> bool:
        """Does what a livepatch wrote for an object lead into a module that is gone? Nothing keeps
        such a module: klp_resolve_symbols() takes no reference."""
        named = {name for section in owners(self.spec(livepatch), object_name) for name in section}
        applied = state.relocation_states().get((livepatch, object_name))
        return applied is RelocationState.APPLIED and not named <= state.loaded

    def probes_of(self, object_name: str) -> frozenset[str]:
        return frozenset(p.name for p in self.module_set.probes if p.object == object_name)

    def shown_at_init(self, state: State, loading: str) -> frozenset[tuple[str, str]]:
        """What the init of a module that loads now will have seen, for `State.at_init`."""
        return frozenset(
            (probe.name, self.on_top(state.stack, probe))
            for probe in self.module_set.probes
            if probe.at == "init" and probe.object == loading
        )

    def calls(self, before: Calls, *more: Called) -> Calls:
        """The records after `more` calls."""
        recorded = {(p.object, p.function) for p in self.module_set.probes if p.at == "callbacks"}
        if not recorded:
            return before
        calls = dict(before)
        for livepatch, name, called in more:
            so_far = () if called[0] == COMES[0] else calls.get((livepatch, name), ())
            if (livepatch, name) in recorded and so_far is not None:
                calls[livepatch, name] = (*so_far, *called)
        return frozenset(calls.items())

    def at_the_same_time(self, state: State, modules: Iterable[str]) -> State:
        """The state after events on these modules that ran into one another: which callbacks they
        called, nobody can tell."""
        touched = set(modules)
        calls = {pair: None if touched & set(pair) else called for pair, called in state.calls}
        return replace(state, calls=frozenset(calls.items()))

    def after_going(self) -> RelocationState:
        """What klp_cleanup_module_patches_limited() makes of an applied relocation."""
        clears = CLEARS_ON_UNLOAD in self.capabilities
        return RelocationState.UNRELOCATED if clears else RelocationState.STALE

    def after_refusal(self) -> RelocationState:
        """What the err path of klp_module_coming() makes of those of the failing livepatch."""
        clears = CLEARS_ON_REFUSAL in self.capabilities
        return RelocationState.UNRELOCATED if clears else RelocationState.STALE


def present_objects(spec: ModuleSpec, state: State) -> list[str]:
    """Those of a livepatch's objects that are there to be patched, in its own order."""
    return [name for name in spec.patches if name == VMLINUX or name in state.loaded]


def owners(spec: ModuleSpec, object_name: str) -> tuple[tuple[str, ...], ...]:
    """Of each klp section of an object the modules, vmlinux apart, whose symbols it names: as it
    was built, or else, where nobody knows, all of them in one section, as set.toml names them."""
    if object_name in spec.klp_sections:
        return spec.klp_sections[object_name]
    named = {entry.rpartition(":")[0] for entry in spec.klp_symbols.get(object_name, ())}
    return (tuple(sorted(named - {"", VMLINUX})),)


def replaces(spec: ModuleSpec, object_name: str, function: str) -> bool:
    """Does a livepatch replace that function of an object? "NAME" is "NAME,1": without a position
    the kernel takes a name only where it is the only one (klp_find_object_symbol())."""
    return sysfs_name(function) in map(sysfs_name, spec.patches.get(object_name, ()))


def sysfs_name(function: str) -> str:
    """ "NAME,SYMPOS": what sysfs calls a function that set.toml has a livepatch replace
    (klp_init_func(), kernel/livepatch/core.c)."""
    name, _, sympos = function.partition(",")
    return f"{name},{int(sympos or 0) or 1}"
