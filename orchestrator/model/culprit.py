# SPDX-License-Identifier: GPL-2.0-only
"""Whether what failed can be the kernel's at all, and whether it is likely. Pure.

What a probe asks for and nobody has, and the names that a livepatch gives to what it patches, are
the work of whoever wrote set.toml and the modules: sysfs lists what the livepatch itself says
(klp_init_patch(), kernel/livepatch/core.c). Unless its tables were compared with set.toml before.
Its states are told nowhere but in those tables (kernel/livepatch/state.c).

The rest shows only where all orders of a set are looked at together: what fails as well before any
livepatch is loaded, and what is wrong alike in every order while each klp relocation is right.
"""

from __future__ import annotations

import errno
import re
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace

from orchestrator.model import words
from orchestrator.nouns import (
    BuiltSet,
    Burst,
    Event,
    Load,
    ModuleSet,
    Race,
)
from orchestrator.verdicts import (
    Answers,
    CaseResult,
    Check,
    Health,
    Modules,
    Patched,
    PatchState,
    Reading,
    Shown,
    Sign,
    Status,
    Step,
    Unread,
)

NOT_FOUND = "exit status 127"  # sh(1): the command was not found
_NO_FILES = {  # how reading one fails that no kernel could read, see `GuestState.files`
    "error: EISDIR": "it is a directory",
    "error: ENOTDIR": "a part of its path is no directory",
}
SUSPECT = "set.toml, or the modules' code, is likelier wrong than the kernel"
_INCOMPATIBLE = re.compile(r"livepatch: Livepatch patch \((\S+)\) is not compatible ")

Text = tuple[str, str]  # (probe, what it shows)
Texts = AbstractSet[Text]


def not_the_kernels(step: Step, built: BuiltSet, refusals: Sequence[str]) -> str:
    """Why a failed step says nothing about the kernel; "" where one of its checks may.

    refusals: `kernelreports.refusals` of what was printed meanwhile."""
    if reason := _of_states(step, built, refusals) or _of_commands(step, built):
        return reason
    reasons = [_reason(check, built) for check in step.checks if not check.good]
    return reasons[0] if reasons and all(reasons) else ""


def _reason(check: Check, built: BuiltSet) -> str:
    match check.detail:
        case Shown(probe=name, seen_text=seen) if seen in _NO_FILES:
            probe = next((p for p in built.set.probes if p.name == name), None)
            if probe is not None and probe.file:
                return f"probe '{name}' of set.toml: {probe.file} is no file: {_NO_FILES[seen]}"
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


def _of_commands(step: Step, built: BuiltSet) -> str:
    """Did a module go without an event, while there are commands that may have unloaded it?"""
    wrong = [check.detail for check in step.checks if not check.good]
    named = set(re.findall(r"\w+", step.event))
    gone = [
        name
        for detail in wrong
        if isinstance(detail, Modules)
        for name in detail.expected_modules
        if name not in detail.seen_modules and name not in named
    ]
    commands = [f"'{probe.command}'" for probe in built.set.probes if probe.command]
    if not gone or not commands or any(isinstance(detail, Health) for detail in wrong):
        return ""
    return f"{', '.join(gone)} went, and no event unloads it: does {' or '.join(commands)} do so?"


def _last_line(text: str | None) -> str:
    return (text or "").rstrip().rpartition("\n")[2]


def _names(state: PatchState) -> dict[str, tuple[str, ...]]:
    return {name: tuple(sorted(state.functions.get(name, ()))) for name in state.objects}


def _words(state: PatchState) -> str:
    return " and ".join(f"{', '.join(f) or 'nothing'} of {o}" for o, f in _names(state).items())


# --- all orders of a set together --------------------------------------------------------------


class _Together:
    """What all orders of one set on one architecture have in common."""

    def __init__(
        self, results: Sequence[CaseResult], module_set: ModuleSet, seen: Texts | None
    ) -> None:
        self._set = module_set
        self._alone: dict[Hashable, str] = {}  # what failed before any livepatch -> in which order
        self._warned: dict[tuple[str, ...], set[tuple[str, ...]]] = {}  # promised -> seen
        self._shown: dict[Text, Counter[str | None]] = {}  # where it was to be shown: what was
        wrong: dict[str, set[str]] = {}  # probe -> what it showed that was wrong, alone
        self._right = set(seen or ())
        self._no_records = {
            n: how for result in results for n, how in _no_records(result, module_set)
        }
        for result in results:
            for step, alone in _steps(result, module_set):
                self._right |= right_texts(step)
                for check in step.checks:
                    if alone and not check.good:
                        order = " ".join(each.event for each in result.steps)
                        self._alone.setdefault(_alike(step, check), order)
                    match check.detail:
                        case Health(sign=Sign.WARNINGS, promised=promised, warned=warned):
                            self._warned.setdefault(promised, set()).add(warned)
                        case Shown(probe=name, expected_text=str(text), seen_text=was):
                            if alone and not check.good and was is not None:
                                wrong.setdefault(name, set()).add(was)
                            self._shown.setdefault((name, text), Counter())[was] += 1
        self._fickle = {name for name, texts in wrong.items() if len(texts) > 1}
        relocated = all(
            check.good or not isinstance(check.detail, Reading | Unread | None)
            for result in results
            for step in result.steps
            if not self._refused_alone(step)
            for check in step.checks
        )
        several = len({result.case.order for result in results}) > 1
        self._likely = relocated and several and seen is not None

    def culprit(self, step: Step) -> str:
        """What of the set is likelier wrong than the kernel, by this step that failed; or ""."""
        bad = [check for check in step.checks if not check.good]
        if self._refused_alone(step):
            bad = [check for check in bad if isinstance(check.detail, Answers) or _reports(check)]
        if any(map(_reports, bad)):
            bad = [check for check in bad if not _follows(check)]
        reasons = [self._reason(step, check) for check in bad]
        return reasons[0] if reasons and all(reasons) else ""

    def _refused_alone(self, step: Step) -> bool:
        """Does the event fail alike without any livepatch? Of what is behind it only a report of
        the kernel's says anything then."""
        answers = (c for c in step.checks if isinstance(c.detail, Answers) and not c.good)
        return any(_alike(step, check) in self._alone for check in answers)

    def _reason(self, step: Step, check: Check) -> str:
        if (order := self._alone.get(_alike(step, check))) and self._is_own(check):
            return f"{_seen(check)}, also without any livepatch ({order})"
        if isinstance(check.detail, Shown) and (how := self._no_records.get(check.detail.probe)):
            return f"probe '{check.detail.probe}' is no record of what its module's init saw: {how}"
        if isinstance(check.detail, Shown) and check.detail.probe in self._fickle:
            return (
                f"probe '{check.detail.probe}' shows another text each time, also without any "
                "livepatch"
            )
        match check.detail if self._likely else None:
            case Shown(probe=name, expected_text=str(text), seen_text=str(seen)):
                if self._never_so(name, text, seen):
                    return (
                        f"probe '{name}' never showed '{_one_line(text)}', as set.toml has it, but "
                        f"each time '{_one_line(seen)}', and every klp relocation was right"
                    )
            case Health(sign=Sign.WARNINGS, promised=promised, warned=warned):
                if promised and self._warned[promised] == {warned}:
                    return (
                        f"warned of '{check.seen}' each time, and never of '{check.expected}', as "
                        "set.toml has it, and every klp relocation was right"
                    )
            case Health(frames=(first, *_)) if self._never_well(_owner(first)):
                return (
                    f"{_seen(check)}: {first} is code of the set, no run of it was seen to end "
                    "well, and every klp relocation was right"
                )
        return ""

    def _is_own(self, check: Check) -> bool:
        """No report of the kernel's, or one from within the set's code: a kernel may be wrong
        without any livepatch, too."""
        if not _reports(check):
            return True
        match check.detail:
            case Health(frames=(first, *_)):
                return self._set.module(_owner(first)) is not None
        return False

    def _never_so(self, name: str, text: str, seen: str) -> bool:
        """Where a probe is to show a text, does it always show the same other one? One that is
        right somewhere, or that may be, speaks of the version that runs: that is the kernel's."""
        probe = next((p for p in self._set.probes if p.name == name), None)
        if probe is None or probe.at != "now" or set(self._shown[name, text]) != {seen}:
            return False
        if (name, text) in self._right or (name, seen) in self._right:
            return False
        return seen not in (probe.original, *probe.patched.values()) or (name, seen) in self._shown

    def _never_well(self, livepatch: str) -> bool:
        """Is there a text for its version, and was that seen nowhere?"""
        spec = self._set.module(livepatch)
        if spec is None or spec.kind != "livepatch":
            return False
        texts = {(p.name, p.patched[livepatch]) for p in self._set.probes if livepatch in p.patched}
        return bool(texts) and not texts & self._right


def right_texts(step: Step) -> Texts:
    """(probe, text) of each probe that shows what it is to show."""
    shown = [check.detail for check in step.checks if check.good]
    return frozenset(
        (each.probe, each.expected_text)
        for each in shown
        if isinstance(each, Shown) and each.expected_text is not None
    )


def judge_together(
    results: Sequence[CaseResult], module_set: ModuleSet, seen: Texts | None = frozenset()
) -> tuple[CaseResult, ...]:
    """Results of one set on one architecture: a FAIL for which the set itself is to blame, likelier
    than the kernel, becomes ERROR, with the reason why.

    A check speaks against the set when it fails alike in an order that has loaded no livepatch yet,
    or is of a probe that is to show what an init saw, and changes with other events.
    And, where there is more than one order and no klp relocation was wrong in any: when a probe
    never shows what set.toml says, but always the same, which is right nowhere else; or when the
    kernel reports a fault in a livepatch's own function, of which no run was ever seen to end well.

    seen: `right_texts` of steps that are not in the results; None: there are some, and it is not
    known what they are.
    """
    together = _Together(results, module_set, seen)
    return tuple(_judged(result, together) for result in results)


def _judged(result: CaseResult, together: _Together) -> CaseResult:
    failure = result.first_failure()
    if result.status is not Status.FAIL or failure is None:
        return result
    step = failure[1]
    if not (why := together.culprit(step)):
        return result
    reason = f"{step.event}: {why}: {SUSPECT}"
    return replace(result, status=Status.ERROR, culprit=why, reason=reason)


def _no_records(result: CaseResult, module_set: ModuleSet) -> Iterator[tuple[str, str]]:
    """(probe, how it shows) of each that is to show what an init saw (`at`), and changes later."""
    records = {probe.name: probe.object for probe in module_set.probes if probe.at == "init"}
    before: dict[str, str] = {}
    for event, step in zip(result.case.order.events, result.steps, strict=False):
        several = event.events if isinstance(event, Race | Burst) else (event,)
        texts = {
            check.detail.probe: check.detail.seen_text
            for check in step.checks
            if isinstance(check.detail, Shown) and check.detail.seen_text is not None
        }
        for name, target in records.items():
            was, now = before.get(name), texts.get(name)
            if (
                was is not None
                and now is not None
                and was != now
                and target not in {e.module for e in several}
            ):
                old, new = _one_line(was), _one_line(now)
                yield name, f"{step.event} changes it from '{old}' to '{new}'"
        before = texts


def _steps(result: CaseResult, module_set: ModuleSet) -> Iterator[tuple[Step, bool]]:
    """Each step, and whether no livepatch had been loaded by its end, or been tried to be."""
    alone = True
    for event, step in zip(result.case.order.events, result.steps, strict=False):
        alone = alone and not any(_livepatch(name, module_set) for name in _loaded(event))
        yield step, alone


def _loaded(event: Event) -> Iterator[str]:
    several = event.events if isinstance(event, Race | Burst) else (event,)
    yield from (each.module for each in several if isinstance(each, Load))


def _livepatch(name: str, module_set: ModuleSet) -> bool:
    spec = module_set.module(name)
    return spec is None or spec.kind == "livepatch"


def _alike(step: Step, check: Check) -> Hashable:
    """The same for what fails in the same way, whatever else is loaded and at which addresses."""
    match check.detail:
        case Answers(seen_errnos=errnos):
            return (step.event, errnos)
        case Shown(probe=name, expected_text=expected, seen_text=seen):
            return (name, expected, seen)
        case Health(sign=Sign.MEMORY):  # how much it lost
            return (Sign.MEMORY, check.seen)
        case Health(sign=Sign.TAINT):
            return (Sign.TAINT, words.taints(check))
        case Health(sign=sign, reports=reports):
            return (sign, tuple(_NUMBER.sub("N", report) for report in reports))
        case Modules(expected_modules=expected, seen_modules=seen):
            return tuple(sorted(set(expected) ^ set(seen)))
    return (check.kind, check.subject, check.expected, check.seen)


def _reports(check: Check) -> bool:
    """Is it the kernel that complains?"""
    return isinstance(check.detail, Health) and bool(check.detail.reports)


def _follows(check: Check) -> bool:
    """Does it only say in another way that there was a report?"""
    return isinstance(check.detail, Health) and check.detail.sign in (Sign.TAINT, Sign.QMP)


_NUMBER = re.compile(r"0x[0-9a-f]+|\b[0-9a-f]{8,}\b|[0-9]+")  # addresses, PIDs
_FRAME = re.compile(r".+ \[(\w+)\]")


def _owner(frame: str) -> str:
    """Whose function it is, as kernelreports.frames() has it: FUNCTION [MODULE]; "": vmlinux's."""
    found = _FRAME.fullmatch(frame)
    return found[1] if found else ""


def _seen(check: Check) -> str:
    return f"{check.subject} ({_one_line(check.seen)})"


def _one_line(text: str) -> str:
    return " / ".join(text.rstrip().splitlines())
