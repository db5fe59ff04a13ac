# SPDX-License-Identifier: GPL-2.0-only
"""Real objdump, on modules with the bytes in place that a guest showed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from elf_samples import TEXT, livepatch, with_section
from samples import a_reading

from orchestrator import catalog
from orchestrator.elf import writer
from orchestrator.elf.records import ByteOrder
from orchestrator.model import words
from orchestrator.model.orders import parse
from orchestrator.nouns import Arch, BuiltModule, BuiltSet, Case, ModuleSet, ModuleSpec
from orchestrator.run import disassembly
from orchestrator.verdicts import CaseResult, Reading, Status, Step

# a call whose field is at 0x14, between instructions that do nothing; and what it becomes
CALLS: dict[ByteOrder, tuple[bytes, bytes, str, str]] = {
    "little": (b"\x90", b"\xe8", "f4 ff ff ff", "e8 f4 ff ff ff"),
    "big": (b"\x07\x07", b"\xc0\xe5", "ff ff ff fb", "c0 e5 ff ff ff fb"),
}


def arch_of(byte_order: ByteOrder) -> Arch:
    machine = livepatch(byte_order).machine
    return next(a for a in catalog.arches().values() if a.elf_machine == machine)


def built(directory: Path, byte_order: ByteOrder) -> BuiltSet:
    nop, call, _, _ = CALLS[byte_order]
    text = nop * ((0x14 - len(call)) // len(nop)) + call + bytes(4)
    text += nop * ((0x40 - len(text)) // len(nop))
    elf = with_section(livepatch(byte_order), TEXT, lambda s: replace(s, data=text))
    ko = directory / "my_patch.ko"
    ko.write_bytes(writer.write(elf))
    spec = ModuleSpec("my_patch", "livepatch")
    module = BuiltModule(spec, ko, (), {})
    return BuiltSet(ModuleSet("set", directory, (spec,)), {"my_patch": module})


def seen(*fields: tuple[str, str, bool]) -> CaseResult:
    """fields: (place, bytes, whether they are right)"""
    checks = [
        a_reading(
            raw,
            livepatch="my_patch",
            object="target",
            symbol="hidden",
            section=place.partition("+")[0],
            offset=int(place.partition("+")[2], 16),
            type="R_X",
            symbol_address=0x8 if good else 0x10,
        )
        for place, raw, good in fields
    ]
    case = Case("c", "set", parse("+my_patch"))
    step = Step("+my_patch", tuple(checks), 0.0, 0.0, len(checks))
    return CaseResult(case, "arch", Status.FAIL, steps=(step,))


@pytest.mark.parametrize("byte_order", CALLS)
def test_a_call_is_shown_as_the_guest_had_it(tmp_path: Path, byte_order: ByteOrder) -> None:
    *_, raw, whole = CALLS[byte_order]
    wrong = seen((".data+0x8", "00 " * 7 + "00", True), (".text+0x14", raw, False))
    text = disassembly.of(wrong, built(tmp_path, byte_order), arch_of(byte_order))
    assert text.startswith("my_patch .text as seen in the guest after event 1, +my_patch\n")
    (line,) = [line for line in text.splitlines() if line.startswith(">")]
    assert whole in line and line.endswith("# WRONG R_X target:hidden,0")


@pytest.mark.parametrize("byte_order", CALLS)
def test_addresses_are_those_of_the_guest(tmp_path: Path, byte_order: ByteOrder) -> None:
    *_, raw, _ = CALLS[byte_order]
    base = 0x3FF80120000
    (wrong,) = seen((".text+0x14", raw, False)).steps[0].checks
    assert isinstance(wrong.detail, Reading)
    there = words.reading(replace(wrong.detail, address=base + 0x14))
    result = seen()
    result = replace(result, steps=(replace(result.steps[0], checks=(there,)),))
    text = disassembly.of(result, built(tmp_path, byte_order), arch_of(byte_order))
    (line,) = [line for line in text.splitlines() if line.startswith(">")]
    assert line[1:].strip().startswith("3ff801200")
    assert "3ff801200" in line.split("\t")[-1].split(maxsplit=2)[2], "it leads there as well"


def test_data_is_shown_as_bytes(tmp_path: Path) -> None:
    result = seen((".data+0x8", "11 22 33 44 55 66 77 88", False))
    text = disassembly.of(result, built(tmp_path, "little"), arch_of("little"))
    (line,) = [line for line in text.splitlines() if line.startswith(">")]
    assert "11223344 55667788" in line and "WRONG" in line


def test_nothing_where_it_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, arch = built(tmp_path, "little"), arch_of("little")
    wrong = seen((".text+0x14", "f4 ff ff ff", False))
    assert disassembly.of(wrong, made, arch)
    assert not disassembly.of(wrong, made, replace(arch, cross_compile="no-such-machine-"))
    assert not disassembly.of(seen((".text+0x14", "f4 ff ff ff", True)), made, arch)
    with pytest.MonkeyPatch.context() as hurried:
        hurried.setattr(disassembly, "_SECONDS", 0.0)
        assert not disassembly.of(wrong, made, arch)
    (tmp_path / "my_patch.ko").write_bytes(b"\x7fELF")
    assert not disassembly.of(wrong, made, arch)
