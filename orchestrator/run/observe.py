# SPDX-License-Identifier: GPL-2.0-only
"""What a guest shows after an event, every klp relocation included.

Addresses of relocations are never taken from livepatch's own bookkeeping: a field's address is its
section's address (/sys/module/M/sections) plus the entry's offset in the .ko file, a symbol's
address is its section's address plus its offset in the target's .ko file. Livepatch must have come
to the same result by its own way.
"""

from __future__ import annotations

import contextlib
import shlex
import time
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from orchestrator import kernelreports, plain
from orchestrator.deadline import Deadline
from orchestrator.elf import encoding, following, relocation, tables
from orchestrator.errors import HarnessError, OutOfTime
from orchestrator.model import memory
from orchestrator.model.judge import allowed_taint
from orchestrator.nouns import (
    VMLINUX,
    Arch,
    BuiltModule,
    BuiltSet,
    Burst,
    Event,
    KlpRelocation,
    KlpSymbol,
    Load,
    Plain,
    Probe,
    Race,
    RelocationType,
    SetEnabled,
    SetParameter,
    Unload,
)
from orchestrator.verdicts import Growth, Observation, RelocationReading
from orchestrator.vm.guest import Guest, Look

REPORT_SECONDS = 1.0
EVENT_SECONDS = 20.0  # for one event, or one look; times the architecture's time_scale
PIECE = 4096  # bytes of guest memory that are read at once: MAX_PEEK of images/guest/agent.c
SETTLE_SECONDS = 10.0  # a transition of an idle guest takes one scheduler pass; times time_scale


@dataclass(frozen=True, slots=True)
class GuestView:
    """What is needed to look at one module set in one guest."""

    arch: Arch
    built: BuiltSet
    vmlinux_symbols: Mapping[str, tuple[int, ...]]  # present addresses, in kallsyms order


def module_path(set_name: str, module: str) -> str:
    """Where the guest finds a module (see `initramfs.overlay`)."""
    return f"/modules/{set_name}/{module}.ko"


@dataclass(frozen=True, slots=True)
class Done:
    """What an event came to by its own account."""

    answers: tuple[int, ...]  # errno of each plain event, in the order written
    growth: Growth | None = None


def perform(guest: Guest, view: GuestView, event: Event, deadline: Deadline) -> Done:
    """Do one event and wait until livepatch has settled, in a burst after each of its events.

    Raises GuestLost when the guest goes away.
    """
    match event:
        case Race(events):
            answers = guest.race(
                [request(view.built.set.name, racer) for racer in events], deadline
            )
            _settle(guest, view, deadline)
            return Done(answers)
        case Burst(events, times):
            return _burst(guest, view, events, times, deadline)
        case _:
            return Done((_plain(guest, view, event, deadline),))


def _plain(guest: Guest, view: GuestView, event: Plain, deadline: Deadline) -> int:
    errno = guest.change(request(view.built.set.name, event), deadline)
    _settle(guest, view, deadline)
    return errno


def _burst(
    guest: Guest, view: GuestView, events: tuple[Plain, ...], times: int, deadline: Deadline
) -> Done:
    answers, readings = [], []
    for number in range(1, times + 1):
        for event in events:
            # its own deadline as well: one that hangs is noticed before the time of all is up
            until = deadline.sooner(EVENT_SECONDS * view.arch.time_scale)
            answers.append(_plain(guest, view, event, until))
        if memory.read_after(number, times):
            readings.append(memory.in_use(guest.observe((), memory.FILES, deadline).files))
    return Done(tuple(answers), memory.growth(readings, times))


def request(set_name: str, event: Plain) -> tuple[str, ...]:
    """The agent's request that carries out an event of that module set's."""
    match event:
        case Load(module, parameters):
            arguments = " ".join(f"{name}={value}" for name, value in parameters)
            path = module_path(set_name, module)
            return ("load", path, arguments) if arguments else ("load", path)
        case Unload(module):
            return ("unload", module)
        case SetEnabled(module, enabled):
            return ("write", f"/sys/kernel/livepatch/{module}/enabled", str(int(enabled)))
        case SetParameter(module, parameter, value):
            return ("write", f"/sys/module/{module}/parameters/{parameter}", value)


def _settle(guest: Guest, view: GuestView, deadline: Deadline) -> None:
    with contextlib.suppress(OutOfTime):
        # A transition that never ends is the kernel's: `transition` still shows it, and is judged.
        guest.settle(SETTLE_SECONDS * view.arch.time_scale, deadline)


def observe_memory(
    guest: Guest, view: GuestView, done: Done, seconds: float, deadline: Deadline
) -> Observation:
    """State and relocations as they are now; no patched function is called.

    `seconds`: how long the event took. `observe_rest` fills in what is still missing.
    """
    built = view.built
    look = guest.observe(tuple(built.modules), (), deadline)
    began = time.monotonic()
    readings = _read_relocations(guest, view, look, deadline)
    return Observation(
        answers=done.answers,
        modules=frozenset(look.modules) & frozenset(built.modules),
        patches=look.patches,
        probes={},
        relocations=readings,
        taint=look.taint,
        console="",
        seconds=seconds,
        readback_seconds=time.monotonic() - began,
        growth=done.growth,
    )


def observe_rest(
    guest: Guest,
    view: GuestView,
    seen: Observation,
    console_mark: int,
    deadline: Deadline,
    unsafe: AbstractSet[str] = frozenset(),
) -> Observation:
    """Call every patched function, then see what that and the event did to the guest's health.

    unsafe: names of probes that are left alone."""
    built = view.built
    probes = [probe for probe in built.set.probes if probe.name not in unsafe]
    commands = [probe for probe in probes if probe.command]
    shown = {
        probe.name: guest.run_command(asked(probe), deadline)
        if probe.object == VMLINUX or probe.object in seen.modules
        else None
        for probe in commands
    }
    look = guest.observe((), tuple(probe.file for probe in probes if probe.file), deadline)
    shown |= {probe.name: look.files[probe.file] for probe in probes if probe.file}
    strange = look.taint & ~allowed_taint(built)
    printed = _printed(guest, console_mark, strange, deadline)
    complaints, warnings = kernelreports.without(printed, built.set.warnings)
    return replace(
        seen,
        probes=shown,
        taint=look.taint,
        console=plain.excerpt(printed),
        qmp_events=guest.qmp_events(),
        reports=kernelreports.reports(complaints),
        frames=kernelreports.frames(complaints),
        fault=kernelreports.fault(complaints),
        refusals=kernelreports.refusals(complaints),
        crash=kernelreports.crash_title(complaints),
        warnings=warnings,
    )


def check_untouched(
    guest: Guest, readings: Sequence[RelocationReading], deadline: Deadline
) -> None:
    """Raises HarnessError where the set's own code, which was called meanwhile, has written over a
    relocation: what is there at the next event says nothing of the kernel."""
    fields = [(each.address, len(each.raw)) for each in readings]
    for reading, raw in zip(readings, guest.read_memory(fields, deadline), strict=True):
        if raw is not None and raw != reading.raw:
            place = f"{reading.relocation.section}+{reading.relocation.offset:#x}"
            raise HarnessError(
                f"{reading.livepatch} {place}: a function of the set wrote over the relocation "
                f"to {reading.relocation.symbol}",
                hint="what the kernel does to it at the next event cannot be told from that: let "
                "the code keep what it changes in a variable of its own",
            )


def asked(probe: Probe) -> str:
    """Shell for the guest that runs a probe's command, and says so where that fails."""
    return f'sh -c {shlex.quote(probe.command)} 2>&1 || echo "exit status $?"'


def _printed(guest: Guest, mark: int, strange: int, deadline: Deadline) -> str:
    """What the console printed since `mark`, all of it.

    strange: taint that no module of ours brings. Another CPU may still be printing the report whose
    taint we see, so where the taint speaks of one, wait for it.
    """
    until = deadline.sooner(REPORT_SECONDS)
    printed = guest.printed(mark, deadline)
    while strange and not kernelreports.reports(printed) and not until.passed:
        time.sleep(0.01)
        printed = guest.console_since(mark)
    return printed


def _read_relocations(
    guest: Guest, view: GuestView, look: Look, deadline: Deadline
) -> tuple[RelocationReading, ...]:
    """Two passes over guest memory: the fields, then the slots and stubs they lead to."""
    entries = [
        (name, rela, _field_address(look, name, rela))
        for name, module in sorted(view.built.modules.items())
        if name in look.modules
        for rela in module.klp_relocations
    ]
    ranges = [(address, len(rela.initial)) for _, rela, address in entries]
    fields = [
        _field(view, look, entry, raw)
        for entry, raw in zip(entries, guest.read_memory(ranges, deadline), strict=True)
    ]
    fields = _sorted(guest, view, look, entries, fields, deadline)
    hops = [
        following.hop(view.arch, field, _slots(view.arch, look, name))
        for (name, *_), field in zip(entries, fields, strict=True)
    ]
    further = [(hop.address, hop.size) for hop in hops if hop is not None]
    contents = iter(guest.read_memory(further, deadline))
    readings = []
    for (name, rela, _), field, hop in zip(entries, fields, hops, strict=True):
        led = following.follow(view.arch, field, hop, None if hop is None else next(contents))
        order = view.arch.byte_order
        readings.append(
            RelocationReading(
                livepatch=name,
                relocation=rela,
                type_name=field.row.name,
                address=field.address,
                raw=field.raw,
                leads_to=tables.leads_to(view.arch, field) if rela.table else led.to,
                via=led.via,
                symbol_address=field.symbol,
                beside=relocation.beside(field.row, order, rela.initial, field.raw) or led.beside,
                said=encoding.said(field.row),
            )
        )
    return tuple(readings)


def _sorted(
    guest: Guest,
    view: GuestView,
    look: Look,
    entries: Sequence[tuple[str, KlpRelocation, int]],
    fields: Sequence[following.Field],
    deadline: Deadline,
) -> list[following.Field]:
    """The fields of `entries`, those in tables that the kernel has sorted where they are now."""
    result = list(fields)
    numbers: dict[tuple[str, str, int], list[int]] = {}  # of each table: its fields
    for number, (name, rela, _) in enumerate(entries):
        if rela.table:
            numbers.setdefault((name, rela.section, rela.table), []).append(number)
    for (name, section, size), mine in numbers.items():
        start = _section_address(look, name, section)
        pieces = [(start + at, min(PIECE, size - at)) for at in range(0, size, PIECE)]
        content = b"".join(piece or b"" for piece in guest.read_memory(pieces, deadline))
        now = tables.found(view.arch, section, start, content, [result[n] for n in mine])
        for number, field in zip(mine, now, strict=True):
            result[number] = field
    return result


def _field(
    view: GuestView, look: Look, entry: tuple[str, KlpRelocation, int], raw: bytes | None
) -> following.Field:
    livepatch, rela, address = entry
    row = row_of(view.arch, rela)
    if raw is None:
        raise HarnessError(
            f"cannot read guest memory at {address:#x}, where {livepatch} has a {row.name} in "
            f"{rela.section}",
            hint="the guest kernel needs CONFIG_PROC_KCORE, see kernel-config/base.config",
        )
    symbol = _symbol_address(view, look, rela.symbol)
    row = relocation.written(row, view.arch.byte_order, raw)
    return following.Field(row, address, raw, rela.addend, symbol)


def _slots(arch: Arch, look: Look, livepatch: str) -> following.Hop | None:
    """The livepatch's GOT slots, as far as the next of its sections; None where its types say a
    slot's whole address."""
    if arch.got is None:
        return None
    start = _section_address(look, livepatch, arch.got)
    places = look.sections[livepatch].values()
    end = min((at for at in places if at > start), default=start + following.SLOTS_MAX)
    return following.Hop(start, min(end - start, following.SLOTS_MAX))


def row_of(arch: Arch, rela: KlpRelocation) -> RelocationType:
    """The table row for an entry; HarnessError when the architecture file lacks its type."""
    row = arch.relocation(rela.type)
    if row is None:
        file = arch.file or f"orchestrator/arches/{arch.name}.toml"
        raise HarnessError(
            f"{arch.name}: relocation type {rela.type} (on {rela.symbol}) is not in the table",
            hint=f"add a [[relocations]] row to {file}",
        )
    return row


def _field_address(look: Look, livepatch: str, rela: KlpRelocation) -> int:
    return _section_address(look, livepatch, rela.section) + rela.offset


def _section_address(look: Look, module: str, section: str) -> int:
    """Every section that is loaded and not empty is shown (sect_empty(), kernel/module/sysfs.c)."""
    sections = look.sections[module]
    if section not in sections:
        raise HarnessError(
            f"the guest does not show section {section} of {module}",
            hint="/sys/module/*/sections needs CONFIG_KALLSYMS and root",
        )
    return sections[section]


def _symbol_address(view: GuestView, look: Look, symbol: KlpSymbol) -> int | None:
    """Where the symbol stands now, None while its object is not loaded or where it has none such.

    sympos 0 means "unique", n the n-th of that name (kernel/livepatch/core.c,
    klp_find_object_symbol()).
    """
    index = max(symbol.sympos, 1) - 1
    if symbol.object == VMLINUX:
        found = view.vmlinux_symbols[symbol.name]
        return found[index] if index < len(found) else None
    module: BuiltModule | None = view.built.modules.get(symbol.object)
    sections = look.sections.get(symbol.object)
    if module is None or sections is None:
        return None
    places = module.symbols.get(symbol.name, ())
    if index >= len(places):
        return None
    section, offset = places[index]
    # SHN_ABS: the value is the address (`reader.definitions`)
    return (_section_address(look, symbol.object, section) if section else 0) + offset
