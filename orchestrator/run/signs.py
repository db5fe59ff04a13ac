# SPDX-License-Identifier: GPL-2.0-only
"""By what `reproduce.sh` judges: how a shell sees again what a check of ours saw. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from orchestrator import errnos, kernelreports
from orchestrator.elf import encoding, following, relocation
from orchestrator.model.findings import is_death
from orchestrator.model.judge import LIVEPATCH_TAINT
from orchestrator.model.words import SHOWN_ANSWERS
from orchestrator.nouns import (
    VMLINUX,
    Arch,
    BuiltSet,
    Encoding,
    KlpRelocation,
    ModuleSet,
    Probe,
    RelocationType,
    Stub,
    StubField,
)
from orchestrator.run import observe
from orchestrator.verdicts import (
    Answers,
    Check,
    CheckKind,
    Health,
    Modules,
    Reading,
    RelocationState,
    Shown,
    Step,
)
from orchestrator.verdicts import Sign as Sort


@dataclass(frozen=True, slots=True)
class Sign:
    """By what the script judges."""

    kind: Literal["answer", "value", "relocation", "sysfs", "taint", "console", "ended", "unjudged"]
    words: str
    subject: str = ""
    expected: str = ""
    seen: str = ""
    number: int = 0  # of a long burst's answers: which, from 1
    pattern: str = ""  # basic regular expression: what the console says
    command: str = ""  # prints what is expected or seen


@dataclass(frozen=True, slots=True)
class Bits:
    """How a shell decodes a field: `elf.encoding.decode`, with x what it leads to and p where it
    lies."""

    value: str  # arithmetic of x and p
    runs: tuple[tuple[int, str, int], ...]  # the lowest bit in the field, ones, that of the value
    covered: str  # the value's bits that the field says; "": it says all
    top_bit: str  # that of a negative number; "": it has none


@dataclass(frozen=True, slots=True)
class StubBits:
    """A field of a stub."""

    bits: Bits
    at: int  # bytes from the stub's start
    size: int  # bytes
    mask: str  # the bits that hold the value
    others: str  # the other bits; "": any


@dataclass(frozen=True, slots=True)
class Field:
    """How to read a klp relocation by shell: what `elf.following` does."""

    subject: str
    seen: str
    state: str  # applied, unrelocated, stale
    livepatch: str
    section: str
    offset: int
    size: int
    value_size: int  # of those, bytes of the field itself
    mask: str  # the bits that hold the value; "": all
    others: str  # the field's other bits
    behind: str  # hex digits of what belongs behind it
    bits: Bits
    outer: int  # addend of what the field leads to
    inner: int  # addend of what slot or stub lead to
    initial: str  # hex digits
    little: bool
    leads_to: str
    stub: tuple[StubBits, ...]
    stub_size: int
    code: tuple[tuple[int, str], ...]  # of a stub, between its fields: bytes from its start, digits
    slots: str  # section of the GOT slots that are looked through; "": none
    slots_max: int
    object: str
    symbol_name: str
    symbol_number: int
    symbol_section: str  # "": the kernel's own
    symbol_offset: int


# `elf.encoding.FORMULAS`
_PAGES = "((x{} & ~0xfff) - (p & ~0xfff))"
ARITHMETIC = {
    "X": "x",
    "X - P": "x - p",
    "Page(X) - Page(P)": _PAGES.format(""),
    "Page(X) - P": "(x & ~0xfff) - p",
    "Page(X + 0x800) - Page(P)": _PAGES.format(" + 0x800"),
    "X - Near(X, P)": f"x - (p & ~0xfff) - (({_PAGES.format(' + 0x800')} & 0xffffffff ^ 0x80000000)"
    " - 0x80000000)",
}


def sign(module_set: ModuleSet, step: Step, printed: str, where: Field | None) -> Sign:
    """Of the first check that failed. A relocation that a patched function read through is judged
    by what that function shows. printed: what the console said; where: of `field`."""
    bad = [check for check in step.checks if not check.good]
    first = cause(step)
    words = f"{first.kind}: {first.subject}: expected {first.expected}, seen {first.seen}"
    if first.kind is CheckKind.RELOCATION:
        first = next((c for c in bad if c.kind is CheckKind.VALUE), first)
    found = Sign("unjudged", words, first.subject, first.expected, first.seen)
    match first.kind:
        case CheckKind.ANSWER:
            return _of_answer(found, first.detail)
        case CheckKind.VALUE:
            return replace(found, kind="value")
        case CheckKind.RELOCATION if where is not None:
            return replace(found, kind="relocation")
        case CheckKind.SYSFS:
            return replace(found, kind="sysfs", command=_sysfs(module_set, first))
        case CheckKind.HEALTH:
            complaints, _ = kernelreports.without(printed, module_set.warnings)
            return _of_health(found, first.detail, complaints)
    return found


def cause(step: Step) -> Check:
    """What to name of a step that failed: that the guest died, else the first that is wrong."""
    bad = [check for check in step.checks if not check.good]
    return (*filter(is_death, bad), *bad)[0]


def _of_answer(found: Sign, detail: object) -> Sign:
    """Of a long burst only the first wrong answer is told (`words.answers`)."""
    if not isinstance(detail, Answers) or len(detail.seen_errnos) <= SHOWN_ANSWERS:
        return replace(found, kind="answer")
    first = detail.wrong[0]
    seen = errnos.describe(detail.seen_errnos[first])
    return replace(found, kind="answer", number=first + 1, seen=seen)


def _of_health(found: Sign, detail: object, printed: str) -> Sign:
    if not isinstance(detail, Health):
        return found
    match detail.sign:
        case Sort.TAINT:
            return replace(found, kind="taint")
        case Sort.LIVEPATCH_TAINT:
            missing = f"$(($(cat /proc/sys/kernel/tainted) & {LIVEPATCH_TAINT})) -eq 0"
            command = f"if [ {missing} ]; then echo 0; else echo '{found.expected}'; fi"
            return replace(found, kind="sysfs", command=command)
        case Sort.MEMORY | Sort.LEAKS | Sort.WARNINGS:
            return found
    said = kernelreports.reports(printed)
    if not said:
        return replace(found, kind="ended")
    return replace(found, kind="console", pattern=pattern(said[0]))


def pattern(line: str) -> str:
    """A basic regular expression for a line of the console, whatever the numbers in it."""
    parts = re.split(r"0x[0-9a-f]+|[0-9a-f]{6,}|\b[0-9]+\b", line)
    return ".*".join(re.sub(r"([][.*^$\\])", r"\\\1", part) for part in parts)


def _sysfs(module_set: ModuleSet, check: Check) -> str:
    """Shell for the guest that shows what this check compared, in the same words."""
    if isinstance(check.detail, Modules):
        names = " ".join(sorted(spec.name for spec in module_set.modules))
        return (
            f'all=; for m in {names}; do ! grep -q "^$m " /proc/modules || all="$all $m"; done; '
            'all=${all# }; echo "${all:-none}"'
        )
    where = shlex.quote(check.subject)
    return (
        f"if cd {where} 2>/dev/null; then "
        'printf "enabled=%s transition=%s" "$(cat enabled)" "$(cat transition)"; '
        'for o in */patched; do [ -e "$o" ] || continue; printf " %s=%s" "$o" "$(cat "$o")"; '
        'for f in "${o%patched}"*,*; do [ ! -d "$f" ] || printf " %s" "$f"; done; done; echo; '
        "cd /; else echo 'not there'; fi"
    )


def probes(module_set: ModuleSet, step: Step) -> list[dict[str, str]]:
    """Of each probe that was looked at after the event: its name, what it asks, shell for the guest
    that does so, and the text that was expected."""
    known = {probe.name: probe for probe in module_set.probes}
    return [
        {
            "name": check.detail.probe,
            "asked": known[check.detail.probe].file or known[check.detail.probe].command,
            "command": _probe(known[check.detail.probe]),
            "expected": check.expected,
        }
        for check in step.checks
        if isinstance(check.detail, Shown)
    ]


def _probe(probe: Probe) -> str:
    """Shell for the guest that shows what `observe` would, in the words of `judge`."""
    there = "/sys/module" if probe.object == VMLINUX else f"/sys/module/{probe.object}"
    where, doing = probe.file, f"cat {shlex.quote(probe.file)} || echo error"
    if probe.command:
        where, doing = there, observe.asked(probe)
    return f"if [ -e {shlex.quote(where)} ]; then {doing}; else echo 'no file'; fi"


def field(arch: Arch, built: BuiltSet, step: Step) -> Field | None:
    """The first relocation that was wrong after the event."""
    for check in step.checks:
        read = check.detail
        if not isinstance(read, Reading) or check.good or read.livepatch not in built.modules:
            continue
        for rela in built.modules[read.livepatch].klp_relocations:
            if (rela.object, rela.section, rela.offset) == (read.object, read.section, read.offset):
                row = observe.row_of(arch, rela)
                if rela.table:
                    return None  # the kernel has sorted it: where each lies no shell can tell
                raw = bytes.fromhex(read.raw)
                if relocation.written(row, arch.byte_order, raw) is not row:
                    return None  # which instruction it is depends on where everything lies
                return _read_by_shell(arch, built, check, read, rela, row)
    return None


def _read_by_shell(
    arch: Arch,
    built: BuiltSet,
    check: Check,
    read: Reading,
    rela: KlpRelocation,
    row: RelocationType,
) -> Field:
    symbol = rela.symbol
    number = max(symbol.sympos, 1)
    section, offset = "", 0
    places = (
        built.modules[symbol.object].symbols.get(symbol.name, ())
        if symbol.object in built.modules
        else ()
    )
    if number <= len(places):  # else the script looks among the kernel's own, and finds none
        section, offset = places[number - 1]
    size, mask = row.bits // 8, encoding.mask(row)
    stub = arch.stub if row.leads_to == "plt" else None
    outer = encoding.outer(row, rela.addend)
    return Field(
        subject=check.subject,
        seen=check.seen,
        state=_state(read),
        livepatch=read.livepatch,
        section=rela.section,
        offset=rela.offset,
        size=len(rela.initial),
        value_size=size,
        mask=_number(mask) if mask.bit_count() < row.bits else "",
        others=_number(int.from_bytes(rela.initial[:size], arch.byte_order) & ~mask),
        behind=row.behind.after if row.behind and len(rela.initial) > size else "",
        bits=_bits(row),
        outer=outer,
        inner=rela.addend - outer,
        initial=rela.initial.hex(),
        little=arch.byte_order == "little",
        leads_to=row.leads_to if row.leads_to != "plt" or stub else "symbol",
        stub=tuple(_stub_bits(stub, each, arch.byte_order) for each in stub.fields) if stub else (),
        stub_size=stub.size if stub else 0,
        code=tuple(_between(stub)) if stub else (),
        slots=arch.got or "" if row.leads_to == "got" and not encoding.is_whole(row) else "",
        slots_max=following.SLOTS_MAX,
        object=symbol.object,
        symbol_name=symbol.name,
        symbol_number=number,
        symbol_section=section,
        symbol_offset=offset,
    )


def _bits(row: Encoding) -> Bits:
    runs = encoding.runs(row)
    covered = sum(run.ones << run.of for run in runs)
    signed = encoding.is_signed(row) and covered.bit_length() < encoding.WORD
    return Bits(
        value=ARITHMETIC[encoding.formula(row)],
        runs=tuple((run.at, _number(run.ones), run.of) for run in runs),
        covered=_number(covered) if row.part else "",
        top_bit=_number(1 << (covered.bit_length() - 1)) if signed and not row.part else "",
    )


def _stub_bits(stub: Stub, row: StubField, order: Literal["little", "big"]) -> StubBits:
    size, mask = row.bits // 8, encoding.mask(row)
    code = bytes.fromhex(stub.code)[row.at : row.at + size]
    others = _number(int.from_bytes(code, order) & ~mask) if code else ""
    return StubBits(_bits(row), row.at, size, _number(mask), others)


def _between(stub: Stub) -> Iterator[tuple[int, str]]:
    """What of a stub's code no field is in."""
    code, at = bytes.fromhex(stub.code), 0
    for row in (*sorted(stub.fields, key=lambda each: each.at), None):
        end = row.at if row else len(code)
        if code[at:end]:
            yield at, code[at:end].hex()
        at = end + (row.bits // 8 if row else 0)


def _number(unsigned: int) -> str:
    """For a shell, whose numbers are signed and have 64 bits."""
    return f"{unsigned:#x}" if unsigned < 1 << 63 else str(unsigned - (1 << 64))


def _state(read: Reading) -> str:
    """What was promised, as the script calls it."""
    if read.state in (RelocationState.APPLIED, RelocationState.UNRELOCATED):
        return str(read.state)
    return str(RelocationState.STALE)
