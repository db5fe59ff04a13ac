# SPDX-License-Identifier: GPL-2.0-only
"""reproduce.sh reads a relocation of every kind as we do, in a shell as guests have. The guest is
a directory, and a fake agent with as much memory as is asked for."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from bundle_samples import a_bench, script_reading
from samples import a_reading

from orchestrator.build import prepare
from orchestrator.elf import encoding, following
from orchestrator.nouns import Arch, BuiltSet, Encoding, RelocationType, Stub, StubField, Value
from orchestrator.run import signs
from orchestrator.verdicts import Reading, RelocationState, Step

# dash takes no number of 64 bits
SHELLS = [found for name in ("bash", "busybox") if (found := shutil.which(name))]
AGENT = """#!{python}
import sys
address, size = sys.stdin.read().split()[1].split(":")
start, size = int(address, 16), int(size)
for line in open("{memory}"):
    at, data = int(line.split()[0], 16), line.split()[1]
    if at <= start and start + size <= at + len(data) // 2:
        print('{{"data":["%s"]}}' % data[2 * (start - at) : 2 * (start - at + size)])
        break
else:
    print('{{"data":[null]}}')
"""
LIVEPATCH, GOT, TARGET = 0xFFFF80007A3E1000, 0xFFFF80007A3EBFF0, 0xFFFF80007B123000
AT, SYMBOL = LIVEPATCH + 12, TARGET + 16  # as the sample has them


def a_type(value: Value, *field: str, part: bool = False, bits: int = 32) -> RelocationType:
    return RelocationType(name="R", number=4, bits=bits, value=value, field=field, part=part)


def its(at: int, row: Encoding) -> StubField:
    return StubField(at=at, bits=row.bits, value=row.value, field=row.field, part=row.part)


PAGE = a_type("Page(S + A) - Page(P)", "30..29 = 13..12", "23..5 = 32..14")
LOW = a_type("S + A", "21..10 = 11..0", part=True)
CALL = a_type("L(S + A) - P", "25..0 = 27..2")
GOT_HIGH = a_type("Page(G(S + A) + 0x800) - Page(P)", "24..5 = 31..12")
GOT_LOW = a_type("G(S + A)", "21..10 = 11..0", part=True)
ROWS = [
    *(PAGE, LOW, CALL, GOT_HIGH, GOT_LOW, a_type("S + A", bits=64), a_type("S + A - P")),
    a_type("Page(S + A + 0x800) - Page(P)", "24..5 = 31..12"),
    a_type("S + A - Near(S + A, P)", "24..5 = 51..32", part=True),
    a_type("S + A", "21..10 = 63..52", part=True),
    a_type("G(S) + A - P", "31..0 = 32..1"),
    a_type("L(S) + A - P", "31..0 = 32..1"),
]
STUB = Stub(12, (its(0, PAGE), its(4, LOW)), "10000090 10020091 00021fd6")
ELSEWHERE = 0x5678


@dataclass(frozen=True)
class Guest:
    """Its memory: address -> bytes."""

    memory: dict[int, bytes]
    loaded: bool

    def read(self, address: int, size: int) -> bytes | None:
        for start, data in self.memory.items():
            if start <= address and address + size <= start + len(data):
                return data[address - start : address - start + size]
        return None


def guests(arch: Arch, row: RelocationType, addend: int) -> Sequence[tuple[str, Guest]]:
    """Right, wrong, by a stub, not loaded."""
    inner = encoding.inner(row, addend)
    slots = [SYMBOL + ELSEWHERE, SYMBOL + inner, LIVEPATCH]

    def made(leads_to: int, held: Sequence[int] = slots, loaded: bool = True) -> Guest:
        stored = encoding.encode(row, AT, 0x900000 << 40 & (1 << row.bits) - 1, leads_to, addend)
        assert stored is not None
        raw = stored.to_bytes(row.bits // 8, "little")
        got = b"".join((each % 2**64).to_bytes(8, "little") for each in held)
        stub = encoding.a_stub(STUB, "little", LIVEPATCH + 0x100, SYMBOL + inner)
        assert stub is not None
        spoilt = stub[:8] + bytes(4)
        memory = {AT: raw, GOT: got, LIVEPATCH + 0x100: stub, LIVEPATCH + 0x200: spoilt}
        return Guest(memory, loaded)

    if row.leads_to == "got":
        return [
            ("right", made(GOT + 8)),
            ("another's slot", made(GOT + 8, [*slots[:1], SYMBOL + ELSEWHERE, *slots[2:]])),
            ("no slot", made(GOT + 0x23000)),
            ("not loaded", made(GOT + 8, loaded=False)),
        ]
    high = any(run.of >= 32 for run in encoding.runs(row))
    wrong = 1 << 52 | 1 << 33 if high else ELSEWHERE
    found = [
        ("right", made(SYMBOL + inner)),
        ("wrong", made((SYMBOL + inner + wrong) % 2**64)),
        ("not loaded", made(SYMBOL + inner, loaded=False)),
    ]
    if row.leads_to == "plt":
        found += [("stub", made(LIVEPATCH + 0x100)), ("no stub", made(LIVEPATCH + 0x200))]
    return found


def shell_script(tmp_path: Path, arch: Arch, rela_type: RelocationType, addend: int) -> str:
    """What the script runs in the guest to read the sample's first relocation."""
    bench = a_bench(tmp_path / "cache")
    built = bench.sets["./tiny"]
    patch = built.modules["my_patch"]
    initial = bytes(rela_type.bits // 8)
    rela = replace(patch.klp_relocations[0], initial=initial, addend=addend)
    modules = {**built.modules, "my_patch": replace(patch, klp_relocations=(rela,))}
    check = a_reading(
        livepatch="my_patch",
        object=rela.object,
        section=rela.section,
        offset=rela.offset,
        symbol=rela.symbol.name,
        owner=rela.symbol.object,
        type=rela_type.name,
    )
    assert isinstance(check.detail, Reading)
    detail = replace(check.detail, state=RelocationState.APPLIED, raw=initial.hex())
    check = replace(check, detail=detail, good=False)
    field = signs.field(arch, BuiltSet(built.set, modules), Step("+x", (check,), 0, 0, 0))
    assert field is not None
    text = script_reading(field)
    found = re.search(r"<<'GUEST'\n(.*?)\nGUEST\n", text, re.DOTALL)
    assert found is not None
    return found[1]


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: Path(shell).name)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.value}, {row.field}")
def test_a_shell_reads_what_we_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shell: str, row: RelocationType
) -> None:
    monkeypatch.setattr(prepare, "qemu_version", lambda arch: "QEMU 7.2")
    addend = 2 if row.value.startswith(("G(S) +", "L(S) +")) else 0
    bench = a_bench(tmp_path / "other")
    arch = replace(bench.arch, relocations=(row,), stub=STUB, got=".got")
    script = shell_script(tmp_path, arch, row, addend)
    for name, guest in guests(arch, row, addend):
        field = following.Field(row, AT, guest.memory[AT], addend, SYMBOL if guest.loaded else None)
        slots = following.Hop(GOT, 24) if row.leads_to == "got" else None
        hop = following.hop(arch, field, slots)
        led = following.follow(arch, field, hop, guest.read(hop.address, hop.size) if hop else None)
        place = tmp_path / name.replace(" ", "-").replace("'", "")
        said = carried_out(shell, script, place, guest)
        told = dict(line.partition(" ")[::2] for line in said.splitlines())
        leads = int(told["leads"], 16) if "leads" in told else None
        assert (leads, name) == (led.to, name), (said, led)
        assert bool(led.beside) == ("beside," in told), (name, said, led)
        assert (led.to == SYMBOL) == (name in ("right", "stub")) or not guest.loaded or led.beside
        if led.to is not None:
            assert told["via"] == led.via, name


def carried_out(shell: str, script: str, place: Path, guest: Guest) -> str:
    sections = {"my_patch": {".text": LIVEPATCH, ".got": GOT, ".data": GOT + 24}}
    if guest.loaded:
        sections["the_target"] = {".text": TARGET}
    for module, its_sections in sections.items():
        (place / module / "sections").mkdir(parents=True)
        for section, address in its_sections.items():
            (place / module / "sections" / section).write_text(f"{address:#x}\n")
    lines = (f"{address:#x} {data.hex()}\n" for address, data in guest.memory.items())
    (place / "memory").write_text("".join(lines))
    agent = place / "bin" / "klp-agent"
    agent.parent.mkdir()
    agent.write_text(AGENT.format(python=sys.executable, memory=place / "memory"))
    agent.chmod(0o755)
    argv = [shell, "sh"] if shell.endswith("busybox") else [shell]
    told = subprocess.run(
        [*argv, "-c", script.replace("/sys/module", str(place))],
        env={"PATH": f"{agent.parent}:{os.defpath}:/bin"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=True,
        text=True,
    )
    assert not told.stderr
    return told.stdout
