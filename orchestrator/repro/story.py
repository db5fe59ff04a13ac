# SPDX-License-Identifier: GPL-2.0-only
"""A case that failed, with all that the texts of its bundle are made of, and words of which more
than one of them has need."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from orchestrator import plain
from orchestrator.errors import HarnessError
from orchestrator.model.known import KnownIssue
from orchestrator.nouns import (
    Arch,
    BuiltSet,
    Burst,
    Event,
    Kernel,
    Load,
    ModuleSet,
    ModuleSpec,
    Plain,
    Race,
    SetEnabled,
    SetParameter,
    Unload,
)
from orchestrator.run import signs
from orchestrator.templating import text_templates
from orchestrator.verdicts import CaseResult, Check, CheckKind, Step

TEMPLATES = text_templates()
# What others have named or said goes through one of these: see `plain`.
TEMPLATES.filters |= {
    "q": plain.shell,
    "exactly": shlex.quote,  # what something is compared with, and is not shown
    "line": plain.one_line,
    "lines": plain.lines,
    "md": plain.markdown,
    "code": plain.code,
}


@dataclass(frozen=True, slots=True)
class Story:
    """A case that failed, with all that its texts are made of."""

    result: CaseResult
    arch: Arch
    kernel: Kernel
    built: BuiltSet
    tries: tuple[int, int]  # of how many cold boots how many failed so: (failed, boots)
    qemu_version: str
    place: str  # the bundle's name
    issue: KnownIssue | None = None  # that it fails as

    @property
    def failure(self) -> tuple[int, Step, Check]:
        """(index of the event from 0, step, cause). Raises HarnessError when nothing failed."""
        found = self.result.first_failure()
        if found is None:
            raise HarnessError(f"{self.result.case.name} did not fail: there is nothing to bundle")
        index, step, _ = found
        return index, step, signs.cause(step)

    @property
    def events(self) -> tuple[Event, ...]:
        """Those that were done, the failed one last."""
        return self.result.case.order.events[: self.failure[0] + 1]

    @property
    def used(self) -> tuple[ModuleSpec, ...]:
        """The modules that were loaded."""
        loaded = {each.module for each in plain_events(self.events) if isinstance(each, Load)}
        return tuple(spec for spec in self.built.set.modules if spec.name in loaded)

    @property
    def title(self) -> str:
        """As a mail to the kernel's list has it."""
        first = self.failure[2]
        what = _deed(self.events)
        match first.kind:
            case CheckKind.ANSWER | CheckKind.HEALTH:
                what += f": {first.seen}"
            case CheckKind.RELOCATION:
                what += " leaves a klp relocation wrong"
            case CheckKind.VALUE:
                what += ": a patched function shows what is wrong"
            case CheckKind.SYSFS:
                what += f": {first.subject} is not as it should be"
        where = arch_directory(self.arch).removeprefix("arch/")
        return f"livepatch/{where}: {self.issue.title if self.issue else what}"


def plain_events(events: Sequence[Event]) -> Iterator[Plain]:
    """Each once, however often it is done."""
    for event in events:
        match event:
            case Race(several) | Burst(several):
                yield from several
            case _:
                yield event


def _deed(events: Sequence[Event]) -> str:
    """The last of these, as the subject of a sentence."""
    *before, last = events
    match last:
        case Race(several):
            return f"a race of {' and '.join(map(_doing, several))}"
        case Burst(several, times):
            return f"{', '.join(map(_doing, several))}, {times} times"
        case Load(module) if _was_loaded(module, before):
            return f"{_doing(last)} again"
        case _:
            return _doing(last)


def _was_loaded(module: str, before: Sequence[Event]) -> bool:
    return any(isinstance(e, Load) and e.module == module for e in plain_events(before))


def _doing(event: Plain) -> str:
    match event:
        case Load(module):
            return f"loading {module}"
        case Unload(module):
            return f"unloading {module}"
        case SetEnabled(module, enabled):
            return f"{'enabling' if enabled else 'disabling'} {module}"
        case SetParameter(module, parameter):
            return f"writing to {module}.{parameter}"


def event_words(module_set: ModuleSet, event: Event, before: Sequence[Event]) -> str:
    """In Markdown. before: what was done already, by which a module is loaded again."""
    match event:
        case Race(events):
            words = "; ".join(plain_words(module_set, each, before) for each in events)
            return f"at the same time, each on a CPU of its own: {words}"
        case Burst(events, times):
            words = "; ".join(plain_words(module_set, each, before) for each in events)
            return f"{times} times, one after another: {words}"
        case _:
            return plain_words(module_set, event, before)


def plain_words(module_set: ModuleSet, event: Plain, before: Sequence[Event]) -> str:
    """The same of a plain event."""
    match event:
        case Load(module, parameters):
            words = " ".join(f"{name}={value}" for name, value in parameters)
            given = f" with {plain.code(words)}" if words else ""
            if _was_loaded(module, before):
                return f"load `{module}` again{given}"
            return f"load `{module}`{given} ({plain.markdown(_what(module_set, module))})"
        case Unload(module):
            return f"unload `{module}`"
        case SetEnabled(module, enabled):
            doing = "enable" if enabled else "disable"
            switch = f"/sys/kernel/livepatch/{module}/enabled"
            return f"{doing} `{module}`: write {int(enabled)} to {switch}"
        case SetParameter(module, parameter, value):
            return f"write {plain.code(value)} to /sys/module/{module}/parameters/{parameter}"


def _what(module_set: ModuleSet, name: str) -> str:
    spec = module_set.module(name)
    if spec is None or spec.kind == "plain":
        return "an unrelated module, which takes memory that others left"
    if spec.kind == "target":
        return "a module to be patched"
    patches = ", ".join(
        f"{' and '.join(functions) or 'no function'} of {where}"
        for where, functions in spec.patches.items()
    )
    return f"a livepatch{', replacing all others,' if spec.replace else ''} for {patches}"


def arch_directory(arch: Arch) -> str:
    """arch/NAME of the kernel's tree, which may not be called as `make ARCH=` calls it."""
    top, _, rest = arch.image_path.partition("/")
    return f"arch/{rest.partition('/')[0] if top == 'arch' else arch.kernel_arch}"
