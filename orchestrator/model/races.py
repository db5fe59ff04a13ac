# SPDX-License-Identifier: GPL-2.0-only
"""Events at the same time: every way in which they can run into one another. Pure.

Whatever the kernel does under one lock is one moment, and the moments of several events come in any
order (paths of Linux 6.1; 6.12 and 7.3 are the same):

- A load takes the module's name (kernel/module/main.c, add_unformed_module()), which everybody
  sees from then on. A target is then offered to the livepatches (klp_module_coming()) before its
  init runs; a livepatch is enabled by its init. Both hold klp_mutex.
- Each load is one of its own: the agent loads a copy. Since 6.5 those who load one file at the same
  time share a load and its result (idempotent_init_module()), which is nothing that races.
- Who loads a module that is being loaded waits for the other; only if that one succeeds the answer
  is EEXIST, else EBUSY, and there is no second attempt. While it is being unloaded: EBUSY at once.
- A load takes a reference on each loaded module that it depends on (simplify_symbols()) before it
  is offered to anybody. One that is refused, by whomever, holds them until it is taken down again
  (module_unload_free()), and its own name even longer. Who unloads what is held so gets
  EWOULDBLOCK, be it alive or not. Who depends on a module that is being loaded waits for its init
  (resolve_symbol_wait()); of one that is being unloaded there are no symbols: ENOENT.
- Who unloads a module that is being loaded or unloaded gets EBUSY (delete_module()), or EWOULDBLOCK
  when its init has just ended and the loader's own reference is still held.
- Enabling and disabling a livepatch begins a transition that outlasts the system call: a task that
  is running on another CPU cannot be switched at once (kernel/livepatch/transition.c,
  klp_check_and_switch_task()). Until it ends, another livepatch can be neither enabled nor
  disabled: EBUSY (core.c, __klp_enable_patch(), __klp_disable_patch()), but what is wrong with it
  in itself or beside those that are listed is found before that; writing to the same
  livepatch's `enabled` turns the transition round (enabled_store()). A livepatch on its way out
  still takes part in the coming and going of targets.
- Between its offer and its init a target waits for nobody, so that its init runs what is enabled by
  then; during a transition, what its own task runs, which may be either
  (kernel/livepatch/patch.c, klp_ftrace_handler()).
- A livepatch that is being replaced stays in klp_patches, and its module is held, until the
  transition has ended (transition.c, klp_complete_transition()).
- Files are opened before the start: what was not there then is ENOENT, what goes before the write
  is ENODEV (fs/kernfs/file.c, kernfs_fop_write_iter()).
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from orchestrator.model.semantics import (
    init_answer,
    load,
    missing,
    no_module,
    refused,
    set_enabled,
    set_parameter,
    told_to_fail,
    unload,
    unprepared,
    with_parameters,
)
from orchestrator.model.state import EventOutcome, Progress, State, World
from orchestrator.nouns import Load, Plain, SetEnabled, SetParameter, Unload


@dataclass(frozen=True, slots=True)
class _Refused:
    """A load that has failed, and has not given its module's name back yet."""

    errno: int
    holds: frozenset[str]  # modules that it depends on
    formed: bool  # false: nobody but another load has seen its name (MODULE_STATE_UNFORMED)


# How an event stands that has begun and is not over.
_Standing = Literal["", "loads", "waits", "unloads"] | _Refused


@dataclass(frozen=True, slots=True)
class _Transition:
    """klp_transition_patch, and what tasks run that stand on the other side than State.stack."""

    livepatch: str
    way: Literal["in", "out"]
    other: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Moment:
    """How far all have come."""

    past: Progress
    answers: tuple[int | None, ...]  # None: not yet
    standing: tuple[_Standing, ...]
    transition: _Transition | None = None

    def then(self, outcome: EventOutcome) -> _Moment:
        """Something has happened. Answers are kept by event here, not in order of coming."""
        return replace(self, past=replace(self.past.and_then(outcome), answers=()))

    @property
    def listed(self) -> State:
        """With all that stands in klp_patches as its stack, those that are being replaced first."""
        state = self.past.state
        if self.transition is None or self.transition.way == "out":
            return state
        replaced = (name for name in self.transition.other if name not in state.stack)
        return replace(state, stack=(*replaced, *state.stack))

    def then_still(self, outcome: EventOutcome) -> _Moment:
        """Something has happened to a module while livepatches stay `listed` as they are."""
        state = replace(outcome.state, stack=self.past.state.stack)
        return self.then(replace(outcome, state=state))

    def stands(self, index: int, how: _Standing) -> _Moment:
        standing = (*self.standing[:index], how, *self.standing[index + 1 :])
        return replace(self, standing=standing)

    def answer(self, index: int, error: int) -> _Moment:
        """An event has its answer, and is over."""
        answers = (*self.answers[:index], error, *self.answers[index + 1 :])
        return replace(self.stands(index, ""), answers=answers)

    def refuse(self, index: int, error: int, why: str) -> _Moment:
        """Its answer is an errno, and nothing has changed."""
        return self.then(refused(self.past.state, error, why)).answer(index, error)


def ends(
    world: World,
    state: State,
    events: tuple[Plain, ...],
    refusals: Mapping[int, int] = MappingProxyType({}),
) -> tuple[Progress, ...]:
    """Every distinct end of a race, answers in the order written; first the one in which the events
    come one after another as they are written.

    refusals: index of a load -> the errno with which the kernel refuses it, should it not fail
    before it is offered to anybody, though it should not."""
    race = _Race(world, state, events, refusals)
    touched = {event.module for event in events if not isinstance(event, SetParameter)}
    standing: tuple[_Standing, ...] = tuple("" for _ in events)
    first = _Moment(Progress(state), (None,) * len(events), standing)
    found: dict[Progress, None] = {}
    seen = {first}
    ahead = [first]
    while ahead:
        moment = ahead.pop()
        following = list(race.following(moment))
        if not following:
            answers = tuple(answer for answer in moment.answers if answer is not None)
            why = f"at the same time: {moment.past.why}"
            end = world.at_the_same_time(moment.past.state, touched)
            found.setdefault(replace(moment.past, state=end, answers=answers, why=why))
        ahead += [one for one in reversed(following) if one not in seen]
        seen.update(following)
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Race:
    world: World
    start: State
    events: tuple[Plain, ...]
    refusals: Mapping[int, int]

    def following(self, moment: _Moment) -> Iterator[_Moment]:
        """All that can come next; nothing when it is all over."""
        if moment.transition is not None:
            yield self._transition_ends(moment)
        for index, event in enumerate(self.events):
            if moment.standing[index] == "unloads":
                yield moment.stands(index, "")
            elif moment.answers[index] is None:
                match event:
                    case Load():
                        yield from self._load(moment, index, event)
                    case Unload(module):
                        yield from self._unload(moment, index, module)
                    case SetEnabled():
                        yield from self._set_enabled(moment, index, event)
                    case SetParameter():
                        yield self._set_parameter(moment, index, event)

    def _standing(self, moment: _Moment, module: str) -> frozenset[_Standing]:
        """How the events stand that load or unload this module."""
        pairs = zip(self.events, moment.standing, strict=True)
        return frozenset(how for event, how in pairs if event.module == module and how != "")

    def _was_unloaded(self, moment: _Moment, module: str) -> bool:
        pairs = zip(self.events, moment.answers, strict=True)
        return any(answer == 0 and event == Unload(module) for event, answer in pairs)

    def _is_coming(self, moment: _Moment, module: str) -> bool:
        standing = self._standing(moment, module)
        return any(how == "loads" or isinstance(how, _Refused) for how in standing)

    def _holder(self, moment: _Moment, module: str) -> str:
        """Whose load holds this module, "" where none does."""
        for event, how in zip(self.events, moment.standing, strict=True):
            if how == "loads":
                holds = self.world.held(moment.past.state, event.module)
            else:
                holds = how.holds if isinstance(how, _Refused) else frozenset()
            if module in holds:
                return event.module
        return ""

    # --- modules -------------------------------------------------------------------------------

    def _load(self, moment: _Moment, index: int, event: Load) -> Iterator[_Moment]:
        name, loaded = event.module, moment.past.state.loaded
        own, others = moment.standing[index], self._standing(moment, event.module)
        if own == "loads":
            yield from self._init(moment, index, event)
        elif isinstance(own, _Refused):
            if own.holds:
                yield moment.stands(index, replace(own, holds=frozenset()))
            else:
                yield moment.answer(index, own.errno)
        elif self._is_coming(moment, name):
            if own != "waits":
                yield moment.stands(index, "waits")
        elif name in loaded:
            yield moment.refuse(index, errno.EEXIST, f"{name} is loaded already")
        elif own == "waits" or "unloads" in others:
            yield moment.refuse(index, errno.EBUSY, f"{name} was coming or going")
        elif not any(
            "loads" in self._standing(moment, needed) for needed in self.world.spec(name).depends
        ):
            yield self._coming(moment, index, event)

    def _coming(self, moment: _Moment, index: int, event: Load) -> _Moment:
        """It has its name and holds what it depends on; a target has been offered to the
        livepatches, its init is yet to run."""
        spec, state = self.world.spec(event.module), moment.past.state
        if (outcome := no_module(state, spec)) is not None:
            pass
        elif (error := self.refusals.get(index, 0)) != 0:
            outcome = refused(state, error, f"{spec.name} is refused")
        elif spec.kind == "livepatch":
            return moment.stands(index, "loads")
        else:
            asked_by_init = {failure.parameter for failure in spec.failures if failure.at == "init"}
            parameters = tuple(p for p in event.parameters if p[0] not in asked_by_init)
            outcome = load(self.world, moment.listed, replace(event, parameters=parameters))
        after = moment.then_still(outcome)
        if outcome.errno:
            held, formed = self.world.held(state, spec.name), not missing(state, spec)
            return after.stands(index, _Refused(outcome.errno, held, formed))
        return after.stands(index, "loads")

    def _init(self, moment: _Moment, index: int, event: Load) -> Iterator[_Moment]:
        """Its init has run, and has enabled a livepatch."""
        spec, state = self.world.spec(event.module), moment.past.state
        error = told_to_fail(with_parameters(frozenset(), spec, event.parameters), spec, "init")
        if spec.kind != "livepatch":
            if not error:
                yield from self._init_has_seen(moment.answer(index, 0), spec.name)
                return
            gone = unload(self.world, moment.listed, spec)
            failed = replace(gone, why=f"the init of {spec.name} fails")
            yield moment.then_still(failed).answer(index, init_answer(self.world, error))
            return
        listed, transition = moment.listed, moment.transition
        if not error and transition and not unprepared(self.world, listed, spec)[0]:
            why = f"{spec.name} meets the transition of {transition.livepatch}"
            yield moment.refuse(index, errno.EBUSY, why)
            return
        outcome = load(self.world, listed, event)
        if outcome.errno:
            yield moment.then_still(outcome).answer(index, outcome.errno)
        else:  # no transition, so that what is listed is what is enabled
            after = moment.then(outcome).answer(index, 0)
            yield replace(after, transition=_Transition(spec.name, "in", state.stack))

    def _init_has_seen(self, moment: _Moment, target: str) -> Iterator[_Moment]:
        """What is enabled when it runs, not when it was offered."""
        state, transition = moment.past.state, moment.transition
        others = self.world.probes_of(target)
        rest = frozenset(entry for entry in state.at_init if entry[0] not in others)
        other = transition.other if transition else state.stack
        for stack in dict.fromkeys((state.stack, other)):  # the ends always in one order
            seen = self.world.shown_at_init(replace(state, stack=stack), target)
            yield replace(
                moment, past=replace(moment.past, state=replace(state, at_init=rest | seen))
            )

    def _unload(self, moment: _Moment, index: int, name: str) -> Iterator[_Moment]:
        others = self._standing(moment, name)
        if holder := self._holder(moment, name):
            yield moment.refuse(index, errno.EWOULDBLOCK, f"the load of {holder} holds {name}")
            return
        unseen = {how for how in others if isinstance(how, _Refused) and not how.formed}
        if others - unseen - {"waits"}:
            yield moment.refuse(index, errno.EBUSY, f"{name} is coming or going")
            if "loads" in others and name in moment.past.state.loaded:
                yield moment.refuse(index, errno.EWOULDBLOCK, f"the loader still holds {name}")
            return
        outcome = unload(self.world, moment.listed, self.world.spec(name))
        after = moment.then_still(outcome).answer(index, outcome.errno)
        yield after if outcome.errno else after.stands(index, "unloads")

    # --- files ---------------------------------------------------------------------------------

    def _set_enabled(self, moment: _Moment, index: int, event: SetEnabled) -> Iterator[_Moment]:
        name, transition = event.module, moment.transition
        if name not in self.start.stack:
            yield moment.refuse(index, errno.ENOENT, f"{name} was not enabled")
        elif name not in moment.past.state.stack or self._was_unloaded(moment, name):
            yield moment.refuse(index, errno.EINVAL, f"{name} is disabled already")
            yield moment.refuse(index, errno.ENODEV, f"{name} has gone from sysfs")
            if transition is not None and not event.enabled:  # of the one that replaces it
                yield moment.refuse(index, errno.EBUSY, f"{name} is being replaced")
        elif transition is not None and transition.livepatch != name:
            if event.enabled:
                yield moment.refuse(index, errno.EINVAL, f"{name} is in that state already")
            else:
                why = f"{name} meets the transition of {transition.livepatch}"
                yield moment.refuse(index, errno.EBUSY, why)
        elif event.enabled == (transition is None or transition.way == "in"):
            yield moment.refuse(index, errno.EINVAL, f"{name} is in that state already")
        elif transition is not None:
            turns = EventOutcome(moment.past.state, 0, f"{name} turns round")
            way: Literal["in", "out"] = "in" if event.enabled else "out"
            yield replace(
                moment.then(turns).answer(index, 0), transition=replace(transition, way=way)
            )
        else:
            without = tuple(other for other in moment.past.state.stack if other != name)
            begun = _Transition(name, "out", without)
            yield replace(moment.answer(index, 0), transition=begun)

    def _transition_ends(self, moment: _Moment) -> _Moment:
        assert moment.transition is not None
        over = replace(moment, transition=None)
        if moment.transition.way == "in":
            return over
        livepatch = self.world.spec(moment.transition.livepatch)
        return over.then(set_enabled(self.world, moment.past.state, livepatch, enabled=False))

    def _set_parameter(self, moment: _Moment, index: int, event: SetParameter) -> _Moment:
        name, state = event.module, moment.past.state
        if name not in self.start.loaded:
            return moment.refuse(index, errno.ENOENT, f"{name} was not loaded")
        if self._was_unloaded(moment, name):
            return moment.refuse(index, errno.ENODEV, f"{name} has gone from sysfs")
        outcome = set_parameter(state, self.world.spec(name), event.parameter, event.value)
        return moment.then(outcome).answer(index, outcome.errno)
