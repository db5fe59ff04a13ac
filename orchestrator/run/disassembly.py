# SPDX-License-Identifier: GPL-2.0-only
"""What a livepatch looked like around a relocation that was found wrong, disassembled.

The .ko is at hand only while its case runs; binutils' objdump reads it with the bytes put in place
that were seen in the guest. Bytes that are no klp relocation are those of the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from orchestrator.build import toolchain
from orchestrator.deadline import Deadline
from orchestrator.elf import reader
from orchestrator.elf.records import SHF_EXECINSTR, Elf
from orchestrator.errors import HarnessError, UsageError
from orchestrator.host import process
from orchestrator.host.rundir import run_dir
from orchestrator.nouns import Arch, BuiltSet
from orchestrator.verdicts import CaseResult, Check, Reading

LINES_BEFORE, LINES_AFTER = 24, 16  # of the place
_BYTES_BEHIND = 64  # of the place, at least, that are disassembled
_MOST_BEFORE = 1 << 18  # bytes of a function before it; of a longer one they are not shown
_SECONDS = 30.0

_FAR = re.compile(r" <\S+\+0x[0-9a-f]{6,}>")  # outside the section: no symbol of it is near
_LINE = re.compile(r"^ *([0-9a-f]+)(?::\t| )")


@dataclass(frozen=True, slots=True)
class _Place:
    livepatch: str
    section: str
    offset: int
    what: str  # type and symbol
    raw: bytes  # as seen
    good: bool
    base: int  # where the section begins in the guest


def of(result: CaseResult, built: BuiltSet, arch: Arch) -> str:
    """The place of the first relocation found wrong, a line an instruction; empty where there is
    none, and where objdump is missing or cannot: it adds to a result and is not part of it."""
    found = result.first_failure()
    places = list(_places(found[1].checks)) if found else []
    wrong = next((place for place in places if not place.good), None)
    if found is None or wrong is None or wrong.livepatch not in built.modules:
        return ""
    index, step, _ = found
    mine = {
        place.offset: place
        for place in places
        if (place.livepatch, place.section) == (wrong.livepatch, wrong.section)
    }
    module = built.modules[wrong.livepatch]
    try:
        shown = _objdump(module.path, wrong, mine, arch)
    except (HarnessError, UsageError):
        return ""
    head = (
        f"{wrong.livepatch} {wrong.section} as seen in the guest after event {index + 1}, "
        f"{step.event}\n"
    )
    return head + "\n".join(_around(shown, wrong, mine)) + "\n"


def _places(checks: tuple[Check, ...]) -> Iterator[_Place]:
    for check in checks:
        read = check.detail
        if isinstance(read, Reading):
            yield _Place(
                livepatch=read.livepatch,
                section=read.section,
                offset=read.offset,
                what=f"{read.type} {read.symbol}",
                raw=bytes.fromhex(read.raw),
                good=check.good,
                base=max((read.address or 0) - read.offset, 0),
            )


def _objdump(ko: Path, wrong: _Place, places: Mapping[int, _Place], arch: Arch) -> list[str]:
    """objdump's lines that begin with an address, from the function's start on."""
    data = bytearray(ko.read_bytes())
    elf = reader.read(bytes(data), ko.name)
    section = next(section for section in elf.sections if section.name == wrong.section)
    for place in places.values():
        at = section.offset + place.offset
        data[at : at + len(place.raw)] = place.raw
    code = bool(section.flags & SHF_EXECINSTR)
    start = _start(elf, wrong) if code else wrong.offset & ~0xF
    if wrong.offset - start > _MOST_BEFORE:
        start = wrong.offset
    stop = min(section.size, wrong.offset + len(wrong.raw) + _BYTES_BEHIND)
    with run_dir("objdump") as directory:
        copy = directory / ko.name
        copy.write_bytes(data)
        words = [toolchain.objdump(arch), "-d" if code else "-s", "-j", wrong.section]
        # what is relative to the place leads where it does
        words.append(f"--adjust-vma={wrong.base:#x}")
        span = [
            f"--start-address={wrong.base + start:#x}",
            f"--stop-address={wrong.base + stop:#x}",
        ]
        deadline = Deadline.after(_SECONDS)
        output = process.run([*words, *span, copy], deadline=deadline).output
    return [_FAR.sub("", line).rstrip() for line in output.splitlines() if _LINE.match(line)]


def _start(elf: Elf, place: _Place) -> int:
    """Of the function that holds it: an instruction begins there."""
    offsets = (
        offset
        for definitions in reader.definitions(elf).values()
        for section, offset in definitions
        if section == place.section and offset <= place.offset
    )
    return max(offsets, default=0)


def _around(lines: list[str], wrong: _Place, places: Mapping[int, _Place]) -> Iterator[str]:
    """Lines near the place; `>` stands before it, and behind each line what it defers."""
    addresses = (int(line.strip().split(":")[0].split(" ")[0], 16) for line in lines)
    starts = [address - wrong.base for address in addresses]
    at = max((i for i, start in enumerate(starts) if start <= wrong.offset), default=0)
    for index in range(max(0, at - LINES_BEFORE), min(len(lines), at + LINES_AFTER)):
        end = starts[index + 1] if index + 1 < len(lines) else starts[index] + 16
        defers = [
            f"{'' if place.good else 'WRONG '}{place.what}"
            for offset, place in sorted(places.items())
            if starts[index] <= offset < end
        ]
        line = f"{'>' if index == at else ' '} {lines[index].expandtabs(8)}"
        yield f"{line:<64}  # {', '.join(defers)}" if defers else line
