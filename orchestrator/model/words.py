# SPDX-License-Identifier: GPL-2.0-only
"""A check in words: the one place that makes them. Nothing takes them apart again. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from orchestrator import errnos, kernelreports
from orchestrator.nouns import VMLINUX, KlpRelocation
from orchestrator.verdicts import (
    Answers,
    Check,
    CheckKind,
    Health,
    Modules,
    Patched,
    PatchState,
    Reading,
    RelocationState,
    Shown,
    Sign,
    Step,
    Unread,
)

SHOWN_ANSWERS = 4  # as many as a race has at most; a burst's may be thousands
_LIVEPATCHES = "/sys/kernel/livepatch"


def answers(found: Answers) -> Check:
    """Answers as they are; of a burst's many, the first that is wrong."""
    expected, seen, wrong = found.expected_errnos, found.seen_errnos, found.wrong
    wanted, got = (errnos.describe_all(some, SHOWN_ANSWERS) for some in (expected, seen))
    if wrong and len(seen) > SHOWN_ANSWERS:
        first = f"number {wrong[0] + 1} of {len(seen)}: "
        wanted = first + errnos.describe(expected[wrong[0]])
        got = first + f"{errnos.describe(seen[wrong[0]])}, {len(wrong)} are wrong"
    return Check(CheckKind.ANSWER, "answer", wanted, got, not wrong, found)


# --- relocations -------------------------------------------------------------------------------


def unread(found: Unread) -> Check:
    name = found.livepatch
    return Check(
        CheckKind.RELOCATION,
        f"{name} relocations of {found.object}",
        f"{name} is loaded",
        f"{name} is not loaded",
        False,
        found,
    )


def reading(found: Reading) -> Check:
    """A klp relocation as it is, against the state that was promised."""
    seen = f"bytes {found.raw}"
    match found.state:
        case RelocationState.APPLIED:
            expected, seen, good = _applied(found)
        case RelocationState.UNRELOCATED:
            good = found.raw == found.initial
            expected = f"bytes {found.initial}, unrelocated: {found.object} is not loaded"
            seen += "" if good else _resolving(found)
        case RelocationState.STALE:
            # A kernel that clears without having been declared to (capabilities.toml) does no harm.
            good = found.raw in (found.before, found.initial)
            expected = f"bytes {found.before} as before (stale), or cleared"
            seen += "" if good else _resolving(found)
        case RelocationState.INDETERMINATE:
            good = True
            why = f"{found.object} was loaded and refused"
            if found.object == VMLINUX:
                why = "the kernel writes there what the static call calls by now"
            expected = f"any bytes (indeterminate): {why}"
    return Check(CheckKind.RELOCATION, subject(found), expected, seen, good, found)


def _applied(found: Reading) -> tuple[str, str, bool]:
    """(expected, seen, good)"""
    symbol, address = found.symbol, found.symbol_address
    if address is None:
        seen = f"bytes {found.raw}, {symbol.object} is not loaded"
        if symbol.object != found.object and found.before:
            # another module's symbol: nothing keeps that module, and nothing takes this back
            return f"bytes {found.before} as before (stale)", seen, found.raw == found.before
        return f"resolves to {symbol}", seen, False
    right = found.resolves_to == address
    seen = f"bytes {found.raw}{_resolving(found)}"
    if found.beside:
        seen += f", {found.beside}"
    if found.resolves_to is not None and not right:
        seen += f", {_distance(found.resolves_to - address)} the symbol"
        if found.raw == found.initial:
            seen += ", unrelocated: never applied"
        elif found.hop and found.before and found.before != found.initial:
            seen += _of_the_past(found)
    return f"resolves to {symbol} at {address:#x}", seen, right and not found.beside


def _of_the_past(found: Reading) -> str:
    """Of what was written before this event: why it is not called stale."""
    if not found.earlier:
        return "; where the symbol was at an earlier load nobody saw"
    return "" if found.resolves_to in found.earlier else "; there it was at no earlier load"


def _resolving(found: Reading) -> str:
    through = "" if found.hop_address is None else f" through {found.hop} {found.hop_address:#x}"
    if found.resolves_to is None:
        return f" resolve{through} to no readable memory"
    partly = f", by {found.said} alone" if found.said else ""
    return f" resolve{through} to {found.resolves_to:#x}{partly}"


def _distance(difference: int) -> str:
    return f"{abs(difference):#x} {'above' if difference > 0 else 'below'}"


def subject(found: Reading) -> str:
    """`LIVEPATCH SECTION+OFFSET TYPE OBJECT:SYMBOL,SYMPOS`"""
    return f"{found.livepatch} {place(found)} {found.type} {found.symbol}"


def place(found: Reading | KlpRelocation) -> str:
    """`.text+0x1d`"""
    return f"{found.section}+{found.offset:#x}"


# --- values, sysfs -----------------------------------------------------------------------------


def shown(found: Shown) -> Check:
    expected, seen = _text(found.expected_text), _text(found.seen_text)
    check = _same(CheckKind.VALUE, found.probe, expected, seen, found)
    if (found.expected_text is None) == (found.seen_text is None):
        return check
    return replace(check, good=False)  # a file may say "no file"


def _text(text: str | None) -> str:
    if text is None:
        return "no file"
    return "\n".join(line.rstrip() for line in text.rstrip().splitlines())


def modules(found: Modules) -> Check:
    expected, seen = (" ".join(names) or "none" for names in _both(found))
    check = _same(CheckKind.SYSFS, "loaded modules", expected, seen, found)
    return replace(check, good=found.expected_modules == found.seen_modules)  # one may be "none"


def _both(found: Modules) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return found.expected_modules, found.seen_modules


def patched(found: Patched) -> Check:
    if not found.livepatch:
        return Check(CheckKind.SYSFS, _LIVEPATCHES, "empty", "empty", True, found)
    path = f"{_LIVEPATCHES}/{found.livepatch}"
    expected, seen = _patch(found.expected_state), _patch(found.seen_state)
    return _same(CheckKind.SYSFS, path, expected, seen, found)


def _patch(state: PatchState | None) -> str:
    if state is None:
        return "not there"
    parts = [f"enabled={int(state.enabled)}", f"transition={int(state.transition)}"]
    for name, on in sorted(state.objects.items()):
        parts.append(f"{name}/patched={int(on)}")
        parts += [f"{name}/{function}" for function in state.functions.get(name, ())]
    return " ".join(parts)


def _same(
    kind: CheckKind, subject: str, expected: str, seen: str, found: Shown | Modules | Patched
) -> Check:
    return Check(kind, subject, expected, seen, expected == seen, found)


# --- health ------------------------------------------------------------------------------------


def taints(check: Check) -> frozenset[str]:
    """Of a check of the taint the letters that should not be there: W of `512 (W)`."""
    return _letters(check.seen) - _letters(check.expected)


def _letters(taint: str) -> frozenset[str]:
    return frozenset(taint.partition("(")[2]) - set(" )")


def health(
    found: Health, expected: str, seen: str | None = None, good: bool | None = None
) -> Check:
    """A check of the guest's health. seen, good: else by whether there is a report."""
    text = seen if seen is not None else "; ".join(found.reports) or expected
    right = good if good is not None else not found.reports
    return Check(CheckKind.HEALTH, str(found.sign), expected, text, right, found)


def late(reports: tuple[str, ...], frames: tuple[str, ...] = (), fault: int | None = None) -> Check:
    """What the kernel reported after its event had been judged."""
    return health(Health(Sign.CONSOLE, reports, frames, fault), "no kernel report")


def warnings(promised: tuple[str, ...], seen: tuple[str, ...]) -> Check:
    """Those that the set's own functions make: each as often as it is promised, and from the line
    that is."""
    found = Health(Sign.WARNINGS, promised=tuple(sorted(promised)), warned=tuple(sorted(seen)))
    wanted, got = (", ".join(each) or "none" for each in (found.promised, found.warned))
    return health(found, wanted, got, found.promised == found.warned)


def complaints(steps: Iterable[Step], console: str) -> str:
    """What a console printed during these steps, without the warnings that were promised then."""
    details = (check.detail for step in steps for check in step.checks)
    promised = {w for found in details if isinstance(found, Health) for w in found.promised}
    return kernelreports.without(console, promised)[0]


SILENT = "does not answer"  # what a check of health sees of a guest that hangs


def dead(title: str | None, frames: tuple[str, ...] = (), fault: int | None = None) -> Check:
    """A guest that is gone: with the title of its crash, or silent, which proves nothing."""
    if title is None:
        return health(Health(Sign.GUEST, silent=True), "lives", SILENT, good=False)
    return health(Health(Sign.GUEST, (title,), frames, fault), "lives")
