# SPDX-License-Identifier: GPL-2.0-only
"""The notation of events and orders: text -> Order -> text, checks against a module set, and
enumeration of orders.

    +M                 load module M
    +M[param=value,…]  load it with parameters
    -M                 unload it
    M=0  M=1           disable / enable livepatch M
    M.param=value      write /sys/module/M/parameters/param
    {E E}              2 to 4 events at the same time
    (E E)*N            the events one after another, N times

Events are separated by blanks. E is any of the first five. A "-" inside a module name is
read as "_", as the kernel does.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence

from orchestrator import errnos
from orchestrator.errors import UsageError
from orchestrator.nouns import (
    Burst,
    Event,
    Load,
    ModuleSet,
    ModuleSpec,
    Order,
    Plain,
    Race,
    SetEnabled,
    SetParameter,
    Unload,
)

NOTATION = (
    "events are +M, +M[param=value,...], -M, M=0, M=1, M.param=value, {EVENT EVENT} and "
    "(EVENT EVENT)*N, parted by blanks"
)
RACERS = (2, 4)  # events of a race: a guest kernel has at most 4 CPUs (CONFIG_NR_CPUS)
MOST_TIMES = 10_000  # of a burst

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")  # 9p and 8021q are modules
_PARAMETER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_VALUE = re.compile(r"[^\s\[\],(){}]+")
_NUMBER = re.compile(r"[0-9]{1,9}")
_ZERO_OR_ONE = re.compile("[01]")
_BLANKS = re.compile(r"\s*")


def parse(text: str, known: ModuleSet | None = None) -> Order:
    """Read an order; with `known`, also check every event against that module set.

    Raises UsageError with the column (from 1) and what was expected there.
    """
    events = []
    reader = _Reader(text)
    while (column := reader.next_column()) is not None:
        event = reader.event()
        if known is not None and (problem := _problem(event, known)) is not None:
            message, hint = problem
            raise UsageError(f"order '{text}', column {column}: {message}", hint)
        events.append(event)
    if not events:
        raise UsageError("the order is empty: it needs at least one event", NOTATION)
    return Order(tuple(events))


def format(order: Order) -> str:
    """The order in one line; `parse` gives the same order back."""
    return " ".join(format_event(event) for event in order.events)


def format_event(event: Event) -> str:
    """One event in notation."""
    match event:
        case Load(module, ()):
            return f"+{module}"
        case Load(module, parameters):
            return f"+{module}[{','.join(f'{name}={value}' for name, value in parameters)}]"
        case Unload(module):
            return f"-{module}"
        case SetEnabled(module, enabled):
            return f"{module}={int(enabled)}"
        case SetParameter(module, parameter, value):
            return f"{module}.{parameter}={value}"
        case Race(events):
            return f"{{{' '.join(map(format_event, events))}}}"
        case Burst(events, times):
            return f"({' '.join(map(format_event, events))})*{times}"


def plain_events(event: Event) -> int:
    """How many plain events are carried out."""
    match event:
        case Race(events):
            return len(events)
        case Burst(events, times):
            return len(events) * times
        case _:
            return 1


def loaded(order: Order) -> tuple[str, ...]:
    """The modules that it loads, or tries to, each once."""
    plain = (
        each
        for event in order.events
        for each in (event.events if isinstance(event, Race | Burst) else (event,))
    )
    return tuple(dict.fromkeys(each.module for each in plain if isinstance(each, Load)))


def largest_race(order: Order) -> int:
    """How many CPUs its races want: the events of the largest one, 1 when there is none."""
    return max((len(event.events) for event in order.events if isinstance(event, Race)), default=1)


def check(order: Order, module_set: ModuleSet) -> None:
    """Raise UsageError for the first event that makes no sense with this module set.

    What merely fails in the kernel (unloading what is not loaded) makes sense: the model knows the
    errno. A module or parameter the set does not have, or disabling a module that is no livepatch,
    does not.
    """
    for index, event in enumerate(order.events, start=1):
        if (problem := _problem(event, module_set)) is not None:
            message, hint = problem
            raise UsageError(f"event {index} ('{format_event(event)}'): {message}", hint)


def interleavings(sequences: Sequence[Sequence[Event]]) -> Iterator[Order]:
    """Every order in which the sequences can run into one another, each keeping its own order.

    Deterministic: as long as they last, events of earlier sequences come first.
    """

    def merge(left: tuple[tuple[Event, ...], ...]) -> Iterator[tuple[Event, ...]]:
        if not any(left):
            yield ()
            return
        for index, sequence in enumerate(left):
            if sequence:
                rest = (*left[:index], sequence[1:], *left[index + 1 :])
                for tail in merge(rest):
                    yield (sequence[0], *tail)

    for events in merge(tuple(tuple(sequence) for sequence in sequences)):
        yield Order(events)


class _Reader:
    """Reads events from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def next_column(self) -> int | None:
        """Skip blanks; the column, from 1, of the event that begins there, None at the end."""
        self._blanks()
        return self._at + 1 if self._at < len(self._text) else None

    def event(self) -> Event:
        event = self._event()
        if self._at < len(self._text) and not self._text[self._at].isspace():
            raise self._wrong("a blank or the end of the order")
        return event

    def _event(self) -> Event:
        if self._skip("{"):
            return self._race()
        if self._skip("("):
            return self._burst()
        return self._plain("an event: '+', '-', '{', '(' or a module name")

    def _race(self) -> Race:
        least, most = RACERS
        events = self._group("}")
        if not least <= len(events) <= most:
            self._at -= 1
            raise self._wrong(f"{least} to {most} events between '{{' and '}}', not {len(events)}")
        return Race(events)

    def _burst(self) -> Burst:
        events = self._group(")")
        self._need("*")
        what = f"a number from 1 to {MOST_TIMES} after '*'"
        begin = self._at
        times = self._take(_NUMBER, what)
        if not 1 <= int(times) <= MOST_TIMES:
            self._at = begin
            raise self._wrong(what)
        return Burst(events, int(times))

    def _group(self, end: str) -> tuple[Plain, ...]:
        """Plain events, parted by blanks, up to and with `end`."""
        events: list[Plain] = []
        self._blanks()
        while not events or not self._skip(end):
            ended = f", or '{end}'" if events else ""
            events.append(self._plain(f"an event: '+', '-' or a module name{ended}"))
            if self._blanks() == 0 and not self._text.startswith(end, self._at):
                raise self._wrong(f"a blank or '{end}'")
        return tuple(events)

    def _plain(self, what: str) -> Plain:
        if self._skip("+"):
            module = self._module("a module name after '+'")
            return Load(module, self._parameters())
        if self._skip("-"):
            return Unload(self._module("a module name after '-'"))
        module = self._module(what)
        if self._skip("."):
            parameter = self._take(_PARAMETER, "a parameter name after '.'")
            self._need("=")
            return SetParameter(module, parameter, self._take(_VALUE, "a value after '='"))
        if not self._skip("="):
            raise self._wrong("'=' or '.' after the module name")
        return SetEnabled(module, self._take(_ZERO_OR_ONE, "0 or 1 after '='") == "1")

    def _parameters(self) -> tuple[tuple[str, str], ...]:
        if not self._skip("["):
            return ()
        parameters = []
        while True:
            name = self._take(_PARAMETER, "a parameter name")
            self._need("=")
            parameters.append((name, self._take(_VALUE, "a value after '='")))
            if self._skip("]"):
                return tuple(parameters)
            if not self._skip(","):
                raise self._wrong("',' or ']'")

    def _module(self, what: str) -> str:
        return self._take(_NAME, what).replace("-", "_")

    def _blanks(self) -> int:
        """Skip blanks; how many."""
        return len(self._take(_BLANKS, "blanks"))

    def _take(self, pattern: re.Pattern[str], what: str) -> str:
        found = pattern.match(self._text, self._at)
        if found is None:
            raise self._wrong(what)
        self._at = found.end()
        return found.group()

    def _skip(self, character: str) -> bool:
        if self._text.startswith(character, self._at):
            self._at += 1
            return True
        return False

    def _need(self, character: str) -> None:
        if not self._skip(character):
            raise self._wrong(f"'{character}'")

    def _wrong(self, expected: str) -> UsageError:
        rest = re.match(r"\S*", self._text[self._at :])
        found = f"'{rest.group()}'" if rest and rest.group() else "the end of the event"
        return UsageError(
            f"order '{self._text}', column {self._at + 1}: expected {expected}, found {found}",
            NOTATION,
        )


def _problem(event: Event, module_set: ModuleSet) -> tuple[str, str] | None:
    """(what is wrong, what to do) with one event, None when it makes sense."""
    if isinstance(event, Race | Burst):
        problems = (_problem(plain, module_set) for plain in event.events)
        return next((problem for problem in problems if problem is not None), None)
    spec = module_set.module(event.module)
    if spec is None:
        names = [module.name for module in module_set.modules]
        return f"module set '{module_set.name}' has no module '{event.module}'", _known(
            "modules", event.module, names
        )
    match event:
        case Load(_, parameters):
            problems = (_parameter_problem(spec, name, value) for name, value in parameters)
            return next((problem for problem in problems if problem is not None), None)
        case Unload():
            return None
        case SetEnabled():
            if spec.kind == "livepatch":
                return None
            livepatches = [m.name for m in module_set.modules if m.kind == "livepatch"]
            return (
                f"'{spec.name}' is no livepatch, it cannot be enabled or disabled",
                _known("livepatches", spec.name, livepatches),
            )
        case SetParameter(_, parameter, value):
            return _parameter_problem(spec, parameter, value)


def _parameter_problem(spec: ModuleSpec, name: str, value: str) -> tuple[str, str] | None:
    failures = {failure.parameter: failure for failure in spec.failures}
    names = list(dict.fromkeys((*spec.parameters, *failures)))
    if name not in names:
        return f"module '{spec.name}' has no parameter '{name}'", _known("parameters", name, names)
    if name in failures:
        error = errnos.of_parameter(value)
        if error is None:
            return (
                f"'{value}' is no errno, and '{spec.name}.{name}' takes one",
                f"a number from 1 to {errnos.MAX_ERRNO}, or 0 to not fail",
            )
        answer = failures[name].value(error)
        if error and int(value, 0) != int(answer):
            return (
                f"'{spec.name}.{name}' fails with errno {error} when it is told {answer}",
                f"write {answer} for {value}",
            )
    return None


def _known(what: str, wrong: str, names: Sequence[str]) -> str:
    close = difflib.get_close_matches(wrong, names, n=1)
    question = f"did you mean '{close[0]}'? " if close else ""
    return f"{question}known {what}: {', '.join(names) or 'none'}"
