# SPDX-License-Identifier: GPL-2.0-only
"""Walking a plan of orders over one guest: each event verified where the plan puts it, states come
back to by snapshot where that is cheaper than doing their events again.

A failure ends its branch: from there on, kernel and model are apart. Trouble of the harness is
tried again once, on a newly booted guest.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import Literal

from orchestrator import errnos
from orchestrator.deadline import Deadline
from orchestrator.errors import GuestLost, HarnessError
from orchestrator.model import words
from orchestrator.model.model import State, outcomes
from orchestrator.model.orders import format_event, plain_events
from orchestrator.model.places import remembered
from orchestrator.model.search import Branch, WorkItem
from orchestrator.nouns import Event, Order
from orchestrator.run import booting
from orchestrator.run.observe import EVENT_SECONDS, Done, observe_memory, perform
from orchestrator.run.runner import EventRun, dead
from orchestrator.run.slot import GuestSlot, ill
from orchestrator.verdicts import Answers, Observation, Step
from orchestrator.vm.guest import Guest

RESTORE_SECONDS = 2.0  # times time_scale; a guest that sleeps for ever is not waited for longer
TRIES = 2  # of an event whose guest was lost, the second on a new guest
SAVES_IN_VAIN = 2  # after so many in a row no state is kept any more: each has cost a guest
GUESS = 0.1  # seconds, before anything was measured

EventPath = tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class Hit:
    """An event that failed, after a path every event of which was good."""

    order: Order
    step: Step
    console: str
    before: tuple[Step, ...] = ()  # of the events before it, with their answers; none: not known


@dataclass(frozen=True, slots=True)
class WalkListener:
    """Who hears what the walk finds. `unwalked`: path, number of events not verified, and why."""

    verified: Callable[[EventPath, Step, float], None]  # seconds, getting there included
    hit: Callable[[EventPath, Hit, int], None]  # the int: events behind it that nobody can verify
    not_run: Callable[[EventPath, int, str], None]


@dataclass(slots=True)
class Costs:
    """What things take on this guest, in seconds, as running means."""

    event: float = GUESS  # one that is verified
    repeat: float = GUESS  # one that is not: right after a restore the emulator has to warm up
    save: float = 3 * GUESS
    restore: float = GUESS
    saves: int = 0
    restores: int = 0
    repeated: int = 0  # events carried out to get to a state, not to be verified
    spent: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    # seconds, by what they went into

    def learn(
        self, what: Literal["event", "repeat", "save", "restore"], seconds: float, times: int = 1
    ) -> None:
        """`seconds`: of so many times."""
        old: float = getattr(self, what)
        setattr(self, what, 0.8 * old + 0.2 * seconds / times)
        self.spent[what] += seconds

    def told(self) -> tuple[int, int, int, Mapping[str, float]]:
        """(saves, restores, repeated, spent) since they were last told."""
        told = self.saves, self.restores, self.repeated, dict(self.spent)
        self.saves = self.restores = self.repeated = 0
        self.spent.clear()
        return told


@dataclass(frozen=True, slots=True)
class _State:
    """A state on the way: how to get there, and what model and guest said of it."""

    path: EventPath = ()
    done: EventPath = ()  # what the guest has really had: refused events too, that change no state
    state: State = field(default_factory=State)
    seen: Observation | None = None  # None on a fresh guest
    steps: tuple[Step, ...] = ()  # of what was done, with the answers: what came of each race


@dataclass(slots=True)
class _Standing:
    """The guest at hand, where it stands, and which of its states are kept as snapshots."""

    guest: Guest
    here: _State | None  # None: somewhere off the plan
    kept: dict[EventPath, _State] = field(default_factory=dict)


class Walker:
    """Walks work items over a slot's guest."""

    def __init__(
        self,
        slot: GuestSlot,
        module_set: str,
        capabilities: AbstractSet[str],
        listener: WalkListener,
        over: Callable[[], bool],
        costs: Costs,
    ) -> None:
        """over: is it to end now? What is not told of by then is still to be walked. costs: what
        was learned of them so far."""
        self.costs = costs
        self._slot = slot
        self._name = module_set
        self._set = slot.bootable.sets[module_set].set
        self._capabilities = capabilities
        self._told = listener
        self._over = over
        self._at: _Standing | None = None
        self._saves_in_vain = 0  # in a row

    def walk(self, item: WorkItem) -> None:
        """Verify everything in it, and tell. Raises nothing but Ctrl-C."""
        self._at = None  # others may have used the slot meanwhile
        try:
            self._go(item.before)  # so that it can be kept
        except HarnessError:
            self._lose()  # whoever comes next tries again, and tells if it is in vain
        self._below(item.before, item.branch)

    # --- the tree ------------------------------------------------------------------------------

    def _below(self, path: EventPath, branch: Branch) -> None:
        """What is tried in the state that `path` leads to."""
        self._keep(path, branch)
        for child in branch.children:
            if self._verify(path, child.event, child.edges) and (child.children or child.settled):
                self._below((*path, child.event), child)
        # At last: they change nothing that the model knows of, yet a refused load has taken memory
        # and given it back, and what comes after it may lie elsewhere.
        for event in branch.settled:
            self._verify(path, event, 1, stays=True)
        if self._at is not None:
            self._at.kept.pop(path, None)

    def _verify(self, path: EventPath, event: Event, edges: int, *, stays: bool = False) -> bool:
        """One event after `path`; False when nothing can be tried behind it.

        edges: how many events, itself included, stand or fall with it. stays: the model says that
        it changes nothing.
        """
        why = ""
        for _ in range(TRIES):
            if self._over():
                return False
            taken, here = None, None
            began = time.monotonic()
            try:
                at, here = self._go(path)
                there = time.monotonic()
                taken = EventRun(at.guest, self._slot.view(self._name), event)
                state, seen = taken.take(here.state, here.seen, self._capabilities)
            except HarnessError as err:
                if self._over():
                    return False  # the guest was ended by us
                hit = self._crash(path, here, event, taken, err)
                self._lose()
                if hit is not None:
                    self._told.hit((*path, event), hit, edges - 1)
                    return False
                why = err.full_message
            else:
                steps = (*here.steps, _answered(event, seen.answers))
                after = _State((*path, event), (*here.done, event), state, seen, steps)
                now = time.monotonic()
                self.costs.spent["verify"] += now - there - taken.step.seconds
                return self._judged(at, after, taken, edges, stays, now - began)
        self._told.not_run((*path, event), edges, why)
        return False

    def _judged(
        self,
        at: _Standing,
        after: _State,
        taken: EventRun,
        edges: int,
        stays: bool,
        seconds: float,
    ) -> bool:
        path, step = after.path, taken.step
        if not step.good:
            hit = Hit(Order(after.done), step, taken.console(), after.steps[:-1])
            at.here = None
            if ill(step):
                self._lose()
            self._told.hit(path, hit, edges - 1)
            return False
        self.costs.learn("event", step.seconds)
        at.here = replace(after, path=path[:-1]) if stays else after
        self._told.verified(path, step, seconds)
        return True

    def _crash(
        self,
        path: EventPath,
        here: _State | None,
        event: Event,
        taken: EventRun | None,
        err: HarnessError,
    ) -> Hit | None:
        """What is to be told when the kernel went down: in this event, or in one before it that was
        good the last time. None when it did not."""
        if not isinstance(err, GuestLost):
            return None
        if taken is not None and here is not None:
            title = taken.end(err)
            if title is None:
                return None
            return Hit(Order((*here.done, event)), taken.step, taken.console(), here.steps)
        if err.crash is None or not path:
            return None
        check = dead(err.crash, err.console, err.ended)
        step = Step(format_event(path[-1]), (check,), 0.0, 0.0, 0)
        return Hit(Order(path), step, err.console)

    # --- getting there -------------------------------------------------------------------------

    def _go(self, path: EventPath) -> tuple[_Standing, _State]:
        """The guest in the state that `path` leads to, from the nearest state that was kept."""
        at = self._at
        if at is not None and at.here is not None and at.here.path == path:
            return at, at.here
        at, here = self._nearest(path)
        if here.path != path:
            here = self._catch_up(at, here, path)
        at.here = here
        return at, here

    def _nearest(self, path: EventPath) -> tuple[_Standing, _State]:
        """The guest as it was last kept on the way to `path`, at worst freshly booted."""
        at = self._at
        began = time.monotonic()
        self.costs.restores += 1
        kept = _longest(path, at.kept) if at is not None else None
        if at is not None and kept is not None:
            at.here = None
            try:
                at.guest.restore(_name(kept), self._deadline(RESTORE_SECONDS))
            except HarnessError:
                self._lose()  # it says nothing of the kernel: take the longer way
            else:
                self.costs.learn("restore", time.monotonic() - began)
                return at, at.kept[kept]
        try:
            guest = self._slot.fresh()
        except GuestLost as lost:  # while booting: no order did that
            raise HarnessError(lost.full_message) from lost
        if self._slot.booted:
            self.costs.spent["boot"] += time.monotonic() - began
        else:
            self.costs.learn("restore", time.monotonic() - began)
        if self._slot.booted or self._at is None:
            self._at = _Standing(guest, None)
        return self._at, _State()

    def _catch_up(self, at: _Standing, here: _State, path: EventPath) -> _State:
        """Carry out events that were verified before. After each the memory is read: where modules
        are loaded to may be another place than it was then, and what the last one shows is to be
        compared with what comes next."""
        at.here = None
        began = time.monotonic()
        view = self._slot.view(self._name)
        state, seen, steps = here.state, here.seen, here.steps
        left = path[len(here.path) :]
        for event in left:
            until = self._deadline(EVENT_SECONDS * plain_events(event))
            done = perform(at.guest, view, event, until)
            state = self._state_after(state, event, done)
            now = observe_memory(at.guest, view, done, 0.0, self._deadline(EVENT_SECONDS))
            seen = remembered(now, seen)
            steps = (*steps, _answered(event, done.answers))
        self.costs.repeated += len(left)
        self.costs.learn("repeat", time.monotonic() - began, len(left))
        return _State(path, (*here.done, *left), state, seen, steps)

    def _state_after(self, state: State, event: Event, done: Done) -> State:
        """The state that an event led to, by its answers. Raises HarnessError when they are not
        those of an event that was good before, or fit more than one end of a race: what is looked
        at next would be judged by a state that nobody has seen."""
        ends = outcomes(self._set, state, event, self._capabilities)
        fitting = {after for after, expected in ends if expected.answers == done.answers}
        if len(fitting) != 1:
            raise HarnessError(
                f"{format_event(event)}, done again on the way to what is to be verified, answered "
                f"{errnos.describe_all(done.answers)}",
                hint="it was good before: try the order by itself, klp-e2e run --order",
            )
        return fitting.pop()

    # --- keeping states ------------------------------------------------------------------------

    def _keep(self, path: EventPath, branch: Branch) -> None:
        """Keep the state, where coming back to it by its events would cost more."""
        at = self._at
        if at is None or at.here is None or at.here.path != path or not path:
            return
        if self._saves_in_vain == SAVES_IN_VAIN or not self._slot.bootable.arch.snapshots:
            return
        reproducer = len(path) - len(_longest(path, at.kept) or ())
        if returns(branch) * reproducer * self.costs.repeat < self.costs.save:
            return
        began = time.monotonic()
        name = _name(path)
        for other in [other for other in at.kept if _name(other) == name]:
            del at.kept[other]  # its snapshot is dropped for this one
        try:
            at.guest.save_unproven(name, self._slot.snapshot_deadline())
        except HarnessError:
            self._saves_in_vain += 1
            self._lose()  # what was to be kept can be reached by its events
            return
        self._saves_in_vain = 0
        self.costs.learn("save", time.monotonic() - began)
        self.costs.saves += 1
        at.kept[path] = at.here

    def _lose(self) -> None:
        self._at = None
        self._slot.discard()

    def _deadline(self, seconds: float) -> Deadline:
        return booting.deadline(self._slot.bootable.arch, seconds)


def _answered(event: Event, errnos_seen: tuple[int, ...]) -> Step:
    """An event that was good, as short as it can be told."""
    check = words.answers(Answers(errnos_seen, errnos_seen))
    return Step(format_event(event), (check,), 0.0, 0.0, 0)


def returns(branch: Branch) -> int:
    """How often a walk comes back to this state, or to one behind it."""
    return max(0, len(branch.children) - 1) + sum(map(returns, branch.children))


def _longest(path: EventPath, kept: Collection[EventPath]) -> EventPath | None:
    """The longest beginning of `path` that is kept."""
    return next((path[:n] for n in range(len(path), 0, -1) if path[:n] in kept), None)


def _name(path: EventPath) -> str:
    """One snapshot for each depth: what is kept at once lies on one path."""
    return f"depth-{len(path)}"
