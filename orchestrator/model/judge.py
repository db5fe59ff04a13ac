# SPDX-License-Identifier: GPL-2.0-only
"""What was expected against what was seen, one Check for each promised thing, good ones included.

The order of the checks is the order of causes: the event's answer, the relocations, the values read
through them, sysfs, health. So the first failed check is the one to name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from orchestrator import errnos
from orchestrator.errors import HarnessError
from orchestrator.model import memory
from orchestrator.nouns import VMLINUX, BuiltSet, KlpRelocation
from orchestrator.verdicts import (
    Check,
    CheckKind,
    Expectation,
    Growth,
    Observation,
    PatchState,
    RelocationReading,
    RelocationState,
)

# Documentation/admin-guide/tainted-kernels.rst, bit -> letter
_TAINTS = "PFSRMBUDAWCIOELKXTN"
# What loading an unsigned out-of-tree livepatch sets: O, E, K.
LIVEPATCH_TAINT = 1 << 15
LIVEPATCH_TAINT_SUBJECT = "taint of livepatches"
ALLOWED_TAINT = 1 << 12 | 1 << 13 | LIVEPATCH_TAINT

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

SHOWN_ANSWERS = 4  # as many as a race has at most; a burst's may be thousands

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
    """Answers as they are; of a burst's many, the first that is wrong."""
    expected, seen = expectation.answers, observation.answers
    if len(expected) != len(seen):
        raise HarnessError(
            f"{len(expected)} answers were expected and {len(seen)} were noted",
            hint="this is a fault of the harness, not of the kernel; please report it",
        )
    wanted, found = (errnos.describe_all(some, SHOWN_ANSWERS) for some in (expected, seen))
    wrong = [i for i, pair in enumerate(zip(expected, seen, strict=True)) if pair[0] != pair[1]]
    if wrong and len(seen) > SHOWN_ANSWERS:
        first = f"number {wrong[0] + 1} of {len(seen)}: "
        wanted = first + errnos.describe(expected[wrong[0]])
        found = first + f"{errnos.describe(seen[wrong[0]])}, {len(wrong)} are wrong"
    return Check(CheckKind.ANSWER, "answer", wanted, found, not wrong)


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
            yield Check(
                CheckKind.RELOCATION,
                f"{livepatch} relocations of {object_name}",
                f"{livepatch} is loaded",
                f"{livepatch} is not loaded",
                False,
            )
            continue
        for relocation in promised[livepatch, object_name]:
            key = _key(livepatch, relocation)
            if key not in readings:
                raise _unread(livepatch, relocation, "was not read")
            yield _relocation(readings[key], state, before.get(key), observation)


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
    match state:
        case RelocationState.APPLIED:
            expected, seen, good = _applied(reading, observation)
        case RelocationState.PRISTINE:
            good = reading.raw == relocation.initial
            expected = (
                f"bytes {_hex(relocation.initial)} as in the .ko, {relocation.object} is away"
            )
            seen = f"bytes {_hex(reading.raw)}" + ("" if good else _leading(reading))
        case RelocationState.LEFT:
            if before is None:
                raise _unread(
                    reading.livepatch, relocation, "was not read after the event before this one"
                )
            # A kernel that clears without having been declared to (capabilities.toml) does no harm.
            good = reading.raw in (before.raw, relocation.initial)
            expected = f"bytes {_hex(before.raw)} left as they were, or cleared"
            seen = f"bytes {_hex(reading.raw)}" + ("" if good else _leading(reading))
        case RelocationState.WRITTEN:
            expected = f"any bytes, {relocation.object} came and was given up"
            seen, good = f"bytes {_hex(reading.raw)}", True
    subject = relocation_subject(reading.livepatch, relocation, reading.type_name)
    return Check(CheckKind.RELOCATION, subject, expected, seen, good)


def _applied(reading: RelocationReading, observation: Observation) -> tuple[str, str, bool]:
    """(expected, seen, good)"""
    relocation = reading.relocation
    symbol, address = relocation.symbol, reading.symbol_address
    if address is None:
        if symbol.object == VMLINUX or symbol.object in observation.modules:
            raise _unread(
                reading.livepatch, relocation, f"has no address to compare with: {symbol}"
            )
        seen = f"bytes {_hex(reading.raw)}, {symbol.object} is not loaded"
        return f"leads to {symbol}", seen, False
    right = reading.leads_to == address
    good = right and not reading.beside
    seen = f"bytes {_hex(reading.raw)}{_leading(reading)}"
    if reading.beside:
        seen += f", {reading.beside}"
    if reading.leads_to is not None and not right:
        seen += f", {_distance(reading.leads_to - address)} the symbol"
        if reading.raw == relocation.initial:
            seen += ", as in the .ko: never applied"
    return f"leads to {symbol} at {address:#x}", seen, good


def _leading(reading: RelocationReading) -> str:
    through = f" through {reading.via}" if reading.via else ""
    if reading.leads_to is None:
        return f" lead{through} to no readable memory"
    return f" lead{through} to {reading.leads_to:#x}"


def _distance(difference: int) -> str:
    return f"{abs(difference):#x} {'above' if difference > 0 else 'below'}"


def relocation_subject(livepatch: str, relocation: KlpRelocation, type_name: str) -> str:
    """What a check of a relocation is called."""
    where = f"{relocation.section}+{relocation.offset:#x}"
    return f"{livepatch} {where} {type_name} {relocation.symbol}"


def _hex(raw: bytes) -> str:
    return raw.hex(" ")


def _by_key(observation: Observation) -> Mapping[_Key, RelocationReading]:
    return {_key(r.livepatch, r.relocation): r for r in observation.relocations}


def _key(livepatch: str, relocation: KlpRelocation) -> _Key:
    return livepatch, relocation.object, relocation.section, relocation.offset


def _unread(livepatch: str, relocation: KlpRelocation, what: str) -> HarnessError:
    where = f"{relocation.section}+{relocation.offset:#x}"
    return HarnessError(
        f"klp relocation {livepatch} {where} of {relocation.symbol} {what}",
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
        seen = observation.probes[name]
        yield _same(CheckKind.VALUE, name, _text(text), _text(seen))


def _text(text: str | None) -> str:
    if text is None:
        return "no file"
    return "\n".join(line.rstrip() for line in text.rstrip().splitlines())


def _sysfs(expectation: Expectation, observation: Observation) -> Iterator[Check]:
    yield _same(
        CheckKind.SYSFS,
        "loaded modules",
        " ".join(sorted(expectation.modules)) or "none",
        " ".join(sorted(observation.modules)) or "none",
    )
    for name in sorted(expectation.patches.keys() | observation.patches.keys()):
        yield _same(
            CheckKind.SYSFS,
            f"/sys/kernel/livepatch/{name}",
            _patch(expectation.patches.get(name)),
            _patch(observation.patches.get(name)),
        )
    if not expectation.patches and not observation.patches:
        yield Check(CheckKind.SYSFS, "/sys/kernel/livepatch", "empty", "empty", True)


def _patch(state: PatchState | None) -> str:
    if state is None:
        return "not there"
    parts = [f"enabled={int(state.enabled)}", f"transition={int(state.transition)}"]
    for name, on in sorted(state.objects.items()):
        parts.append(f"{name}/patched={int(on)}")
        parts += [f"{name}/{function}" for function in state.functions.get(name, ())]
    return " ".join(parts)


# --- health ------------------------------------------------------------------------------------


def _health(
    expectation: Expectation,
    observation: Observation,
    previous: Observation | None,
    built: BuiltSet,
) -> Iterator[Check]:
    crashes = tuple(event for event in observation.qmp_events if _is_crash(event))
    yield _health_check("QMP events", "no crash", crashes)
    complaints = observation.complaints
    if observation.crash is not None and observation.crash not in complaints:
        complaints = (observation.crash, *complaints)
    # The event before may still be speaking: what it printed can come to the console later.
    answers = (*expectation.answers, *observation.answers, *(previous.answers if previous else ()))
    if not any(answers):
        complaints = (*complaints, *observation.refusals)
    yield _health_check("console", "no complaint", complaints)
    taint = observation.taint
    yield Check(
        CheckKind.HEALTH,
        "taint",
        f"nothing beyond {_taint(ALLOWED_TAINT)}",
        _taint(taint),
        taint & ~ALLOWED_TAINT == 0,
    )
    if any(built.modules[name].spec.kind == "livepatch" for name in expectation.modules):
        # check_modinfo_livepatch(); 6.12: module_augment_kernel_taints()
        has = _taint(taint & LIVEPATCH_TAINT)
        yield _same(CheckKind.HEALTH, LIVEPATCH_TAINT_SUBJECT, _taint(LIVEPATCH_TAINT), has)
    if observation.growth is not None:
        yield _memory(observation.growth)


def _memory(growth: Growth) -> Check:
    more, most = growth.last - growth.first, memory.allowed(growth.rounds)
    return Check(
        CheckKind.HEALTH,
        "memory",
        f"at most {most // 1024} kB more after {growth.rounds} rounds",
        f"{more // 1024} kB more, {more // growth.rounds} bytes a round",
        more <= most,
    )


def _health_check(subject: str, expected: str, found: tuple[str, ...]) -> Check:
    return Check(CheckKind.HEALTH, subject, expected, "; ".join(found) or expected, not found)


def _taint(taint: int) -> str:
    """`0`, or number and letters: `36864 (O K)`. Bits without a letter are shown by number."""
    if taint == 0:
        return "0"
    bits = [bit for bit in range(taint.bit_length()) if taint >> bit & 1]
    letters = [_TAINTS[bit] if bit < len(_TAINTS) else f"bit {bit}" for bit in bits]
    return f"{taint} ({' '.join(letters)})"


def _same(kind: CheckKind, subject: str, expected: str, seen: str) -> Check:
    return Check(kind, subject, expected, seen, expected == seen)
