# SPDX-License-Identifier: GPL-2.0-only
"""What was expected against what was seen, one Check for each promised thing, good ones included.

The order of the checks is the order of causes: the event's answer, the relocations, the values read
through them, sysfs, health. So the first failed check is the one to name.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterator, Mapping
from dataclasses import replace

from orchestrator.errors import HarnessError
from orchestrator.model import memory, words
from orchestrator.nouns import VMLINUX, BuiltSet, KlpRelocation
from orchestrator.verdicts import (
    Answers,
    Check,
    Expectation,
    Growth,
    Health,
    Modules,
    Observation,
    Patched,
    Reading,
    RelocationReading,
    RelocationState,
    Shown,
    Sign,
    Unread,
)

# Documentation/admin-guide/tainted-kernels.rst, bit -> letter
_TAINTS = "PFSRMBUDAWCIOELKXTN"
# What loading an unsigned out-of-tree livepatch sets: O, E, K.
LIVEPATCH_TAINT = 1 << 15
ALLOWED_TAINT = 1 << 12 | 1 << 13 | LIVEPATCH_TAINT
WARNING_TAINT = 1 << 9  # W

# QMP events that only a crashed or rebooting guest emits. x86_64 with panic=-1 shows nothing but
# "SHUTDOWN guest-reset"; see qapi/run-state.json, ShutdownCause.
_CRASH_EVENTS = frozenset(
    {
        "GUEST_PANICKED",
        "GUEST_CRASHLOADED",
        "WATCHDOG",
        "SHUTDOWN guest-panic",
        "SHUTDOWN guest-reset",
        "RESET guest-reset",
    }
)

_Key = tuple[str, str, str, int]  # livepatch, object, section, offset


def judge(
    expectation: Expectation,
    observation: Observation,
    previous: Observation | None,
    built: BuiltSet,
) -> tuple[Check, ...]:
    """Every check after one event.

    previous: the observation after the event before; it holds the bytes that must be unchanged
    where the expectation says LEFT. built: which relocations there are to be read.

    Raises HarnessError when something promised could not be checked for a reason that is not the
    kernel's: a relocation that nobody read, a value nobody asked for.
    """
    return (
        *judge_memory(expectation, observation, previous, built),
        *_values(expectation, observation),
        *_sysfs(expectation, observation),
        *_health(expectation, observation, previous, built),
    )


def judge_memory(
    expectation: Expectation,
    observation: Observation,
    previous: Observation | None,
    built: BuiltSet,
) -> tuple[Check, ...]:
    """The checks that stand before any patched function has been called: the event's answer and
    every relocation. What calling one then does to the guest cannot take them back."""
    return (
        _answer(expectation, observation),
        *_relocations(expectation, observation, previous, built),
    )


def with_cmdline(expectation: Expectation, cmdline: str) -> Expectation:
    """Put the guest's boot command line where a probe's text says `{cmdline}`."""
    probes = {
        name: text if text is None else text.replace("{cmdline}", cmdline)
        for name, text in expectation.probes.items()
    }
    return replace(expectation, probes=probes)


def allowed_taint(built: BuiltSet) -> int:
    """What loading modules of that set, and asking its probes, may bring."""
    warned = WARNING_TAINT if built.set.warnings else 0
    taints = (module.taint for module in built.modules.values())
    return functools.reduce(operator.or_, taints, ALLOWED_TAINT | warned)


def crash_of(crash: str | None, qmp_events: tuple[str, ...]) -> str | None:
    """The title of a kernel crash, if console (`crash`) or QMP show one.

    Decides about a lost guest: with a title the kernel is wrong, without one the harness is.
    """
    if crash is not None:
        return crash
    return next((f"QEMU: {event}" for event in qmp_events if _is_crash(event)), None)


def _is_crash(event: str) -> bool:
    return event in _CRASH_EVENTS or event.split(" ", 1)[0] in _CRASH_EVENTS


# --- the event's own answer --------------------------------------------------------------------


def _answer(expectation: Expectation, observation: Observation) -> Check:
    expected, seen = expectation.answers, observation.answers
    if len(expected) != len(seen):
        raise HarnessError(
            f"{len(expected)} answers were expected and {len(seen)} were noted",
            hint="this is a fault of the harness, not of the kernel; please report it",
        )
    said = observation.refusals if expected != seen else ()
    return words.answers(Answers(expected, seen, said))


# --- relocations -------------------------------------------------------------------------------


def _relocations(
    expectation: Expectation,
    observation: Observation,
    previous: Observation | None,
    built: BuiltSet,
) -> Iterator[Check]:
    readings = _by_key(observation)
    before = {} if previous is None else _by_key(previous)
    promised = _promised(expectation, built)
    for (livepatch, object_name), state in expectation.relocations.items():
        if livepatch not in observation.modules:
            # The kernel's doing, not ours: there is no memory to read.
            yield words.unread(Unread(livepatch, object_name))
            continue
        for relocation in promised[livepatch, object_name]:
            key = _key(livepatch, relocation)
            if key not in readings:
                raise _unread(livepatch, relocation, "was not read")
            written_over = RelocationState.INDETERMINATE if relocation.rewritten else state
            yield _relocation(readings[key], written_over, before.get(key), observation)


def _promised(
    expectation: Expectation, built: BuiltSet
) -> Mapping[tuple[str, str], tuple[KlpRelocation, ...]]:
    """(livepatch, object) -> its relocations. What the build holds and what the model speaks of
    must be the same, else something would go unchecked."""
    found: dict[tuple[str, str], tuple[KlpRelocation, ...]] = {}
    for name, module in built.modules.items():
        if name not in expectation.modules:
            continue
        for relocation in module.klp_relocations:
            pair = (name, relocation.object)
            if pair not in expectation.relocations:
                raise _unread(name, relocation, "is not in the model's expectation")
            found[pair] = (*found.get(pair, ()), relocation)
    missing = [pair for pair in expectation.relocations if pair not in found]
    if missing:
        names = ", ".join(f"{livepatch} for {name}" for livepatch, name in missing)
        raise HarnessError(
            f"module set '{built.set.name}' as built has no klp relocation of {names}",
            hint="see `klp_symbols` in set.toml, and `klp-e2e inspect` on the .ko",
        )
    return found


def _relocation(
    reading: RelocationReading,
    state: RelocationState,
    before: RelocationReading | None,
    observation: Observation,
) -> Check:
    relocation = reading.relocation
    if len(reading.raw) != len(relocation.initial):
        raise _unread(
            reading.livepatch,
            relocation,
            f"was read as {len(reading.raw)} bytes instead of {len(relocation.initial)}",
        )
    if state is RelocationState.STALE and before is None:
        raise _unread(reading.livepatch, relocation, "was not read after the event before this one")
    symbol = relocation.symbol
    there = symbol.object == VMLINUX or symbol.object in observation.modules
    if state is RelocationState.APPLIED and reading.symbol_address is None and there:
        raise _unread(reading.livepatch, relocation, f"has no address to compare with: {symbol}")
    hop, _, address = reading.via.partition(" ")
    left = state in (RelocationState.STALE, RelocationState.APPLIED) and before is not None
    found = Reading(
        livepatch=reading.livepatch,
        object=relocation.object,
        section=relocation.section,
        offset=relocation.offset,
        type=reading.type_name,
        symbol=symbol,
        state=state,
        raw=_hex(reading.raw),
        initial=_hex(relocation.initial),
        before=_hex(before.raw) if left and before is not None else "",
        hop=hop,
        hop_address=int(address, 16) if address else None,
        resolves_to=reading.leads_to,
        symbol_address=reading.symbol_address,
        beside=reading.beside,
        address=reading.address,
        earlier=before.places if hop and before is not None else (),
        said=reading.said,
    )
    return words.reading(found)


def _hex(raw: bytes) -> str:
    return raw.hex(" ")


def _by_key(observation: Observation) -> Mapping[_Key, RelocationReading]:
    return {_key(r.livepatch, r.relocation): r for r in observation.relocations}


def _key(livepatch: str, relocation: KlpRelocation) -> _Key:
    return livepatch, relocation.object, relocation.section, relocation.offset


def _unread(livepatch: str, relocation: KlpRelocation, what: str) -> HarnessError:
    return HarnessError(
        f"klp relocation {livepatch} {words.place(relocation)} of {relocation.symbol} {what}",
        hint="this is a fault of the harness, not of the kernel; please report it",
    )


# --- values, sysfs -----------------------------------------------------------------------------


def _values(expectation: Expectation, observation: Observation) -> Iterator[Check]:
    for name, text in expectation.probes.items():
        if name not in observation.probes:
            raise HarnessError(
                f"probe '{name}' was not read",
                hint="this is a fault of the harness, not of the kernel; please report it",
            )
        yield words.shown(Shown(name, text, observation.probes[name]))


def _sysfs(expectation: Expectation, observation: Observation) -> Iterator[Check]:
    loaded = (tuple(sorted(found.modules)) for found in (expectation, observation))
    yield words.modules(Modules(*loaded))
    for name in sorted(expectation.patches.keys() | observation.patches.keys()):
        states = (found.patches.get(name) for found in (expectation, observation))
        yield words.patched(Patched(name, *states))
    if not expectation.patches and not observation.patches:
        yield words.patched(Patched("", None, None))


# --- health ------------------------------------------------------------------------------------


def _health(
    expectation: Expectation,
    observation: Observation,
    previous: Observation | None,
    built: BuiltSet,
) -> Iterator[Check]:
    crashes = tuple(event for event in observation.qmp_events if _is_crash(event))
    yield words.health(Health(Sign.QMP, crashes), "no crash")
    reports = observation.reports
    if observation.crash is not None and observation.crash not in reports:
        reports = (observation.crash, *reports)
    # The event before may still be speaking: what it printed can come to the console later.
    answers = (*expectation.answers, *observation.answers, *(previous.answers if previous else ()))
    if not any(answers):
        reports = (*reports, *observation.refusals)
    found = Health(Sign.CONSOLE)
    if reports:
        found = Health(Sign.CONSOLE, reports, observation.frames, observation.fault)
    yield words.health(found, "no kernel report")
    if built.set.warnings:
        yield words.warnings(expectation.warnings, observation.warnings)
    taint, allowed = observation.taint, allowed_taint(built)
    yield words.health(
        Health(Sign.TAINT),
        f"nothing beyond {_taint(allowed)}",
        _taint(taint),
        taint & ~allowed == 0,
    )
    if any(built.modules[name].spec.kind == "livepatch" for name in expectation.modules):
        # check_modinfo_livepatch(); 6.12: module_augment_kernel_taints()
        has, wanted = _taint(taint & LIVEPATCH_TAINT), _taint(LIVEPATCH_TAINT)
        yield words.health(Health(Sign.LIVEPATCH_TAINT), wanted, has, has == wanted)
    if observation.growth is not None:
        yield _memory(observation.growth)


def _memory(growth: Growth) -> Check:
    more, most = growth.last - growth.first, memory.allowed(growth.rounds)
    return words.health(
        Health(Sign.MEMORY),
        f"at most {most // 1024} kB more after {growth.rounds} rounds",
        f"{more // 1024} kB more, {more // growth.rounds} bytes a round",
        more <= most,
    )


def _taint(taint: int) -> str:
    """`0`, or number and letters: `36864 (O K)`. Bits without a letter are shown by number."""
    if taint == 0:
        return "0"
    bits = [bit for bit in range(taint.bit_length()) if taint >> bit & 1]
    letters = [_TAINTS[bit] if bit < len(_TAINTS) else f"bit {bit}" for bit in bits]
    return f"{taint} ({' '.join(letters)})"
