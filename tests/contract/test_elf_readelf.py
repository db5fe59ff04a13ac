# SPDX-License-Identifier: GPL-2.0-only
"""Our reader and converter against binutils' readelf, on what the real compilers emit."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestrator.catalog import arches
from orchestrator.elf import relocation
from orchestrator.elf.klp import auto_symbols, convert, inspect, klp_relocations
from orchestrator.elf.reader import read
from orchestrator.elf.records import SHT_RELA, STT_FILE, Elf
from orchestrator.elf.writer import write
from orchestrator.host.process import run
from orchestrator.nouns import KlpSymbol

TARGET = """
int data = 42;
static __attribute__((noinline)) int hidden(int x) { return x + data; }
int called(int x) { return hidden(x) * 3; }
"""
# One construct for each kind of relocation that a livepatch carries.
LIVEPATCH = """
#define INFO(name, text) static const char name[] \
    __attribute__((section(".modinfo"), used)) = text
INFO(info_livepatch, "livepatch=Y"); INFO(info_depends, "depends=first,the-target,last");
INFO(info_name, "name=my_patch");
char __this_module[256] __attribute__((section(".gnu.linkonce.this_module"), aligned(64)));
extern int data, kernel_data;
int called(int), hidden(int), kernel_call(int), exported(int);
static int local_before(int x) { return exported(x); }
int *in_data = &data;
int (*const in_rodata)(int) = called;
int (*const in_rodata_of_ours)(int) = local_before;
int (*taken)(int);
int new_version(int x)
{
    taken = hidden;
    data += kernel_data;
    return called(x) + kernel_call(x) + local_before(x) + in_rodata(x) + *in_data;
}
int init_module(void) { return new_version(1); }
"""
KLP_TARGET = {"data", "called", "hidden"}
KLP_VMLINUX = {"kernel_data", "kernel_call"}

FLAGS = ["-O2", "-c", "-ffreestanding", "-fno-common", "-fno-asynchronous-unwind-tables"]
COMPILERS = {  # flags as the kernel has them for modules
    "little": ["x86_64-linux-gnu-gcc", "-mcmodel=kernel", "-fno-pic", "-fcf-protection=none"],
    "big": ["s390x-linux-gnu-gcc", "-fPIC"],
}


@dataclass(frozen=True)
class Seen:
    """What readelf prints. Numbers of sections, symbols and offsets are as printed, in order."""

    sections: list[tuple[str, str, int, int, str, int, int, int]]
    # name, type, size, entry size, flags, link, info, alignment
    symbols: list[tuple[int, int, str, str, str, str]]  # value, size, type, bind, ndx, name
    relocations: dict[str, list[tuple[int, int, str, int]]]  # offset, info, symbol, addend


_SECTION = re.compile(
    r"\s*\[ *(\d+)\] (\S+) +(\w+) +[0-9a-f]{16} [0-9a-f]+ ([0-9a-f]+) ([0-9a-f]+)"
    r" +([A-Za-z]*) +(\d+) +(\d+) +(\d+)"
)
_SYMBOL = re.compile(r" *\d+: ([0-9a-f]{16}) +(\w+) (\w+) +(\w+) +\w+ +(OS \[0x\w+\]|\w+) ?(.*)")
_TABLE = re.compile(r"Relocation section '(.+)' at offset")
_RELA = re.compile(r"([0-9a-f]{16})  ([0-9a-f]{16}) \w+ +[0-9a-f]{16} (\S+) ([+-]) ([0-9a-f]+)")


def readelf(data: bytes, path: Path) -> Seen:
    path.write_bytes(data)
    done = run(["readelf", "-W", "-S", "-s", "-r", path])
    assert done.errors == "" and "Warning" not in done.output
    seen = Seen([], [], {})
    table: list[tuple[int, int, str, int]] = []
    for line in done.output.splitlines():
        if m := _SECTION.match(line):
            sizes, rest = (int(m[4], 16), int(m[5], 16)), (int(m[7]), int(m[8]), int(m[9]))
            seen.sections.append((m[2], m[3], *sizes, m[6], *rest))
        elif m := _TABLE.match(line):
            table = seen.relocations[m[1]] = []
        elif m := _RELA.match(line):
            addend = int(m[4] + m[5], 16)
            table.append((int(m[1], 16), int(m[2], 16), m[3], addend))
        elif m := _SYMBOL.match(line):
            numbers = int(m[1], 16), int(m[2], 0)
            seen.symbols.append((*numbers, m[3], m[4], m[5], m[6].strip()))
    return seen


def ours(elf: Elf) -> dict[str, list[tuple[int, int, str, int]]]:
    """Our relocations in readelf's terms."""
    return {
        s.name: [
            (r.offset, r.symbol << 32 | r.type, elf.symbol_name(r.symbol), r.addend)
            for r in s.relas
        ]
        for s in elf.sections
        if s.type == SHT_RELA and s.relas
    }


@pytest.fixture(params=sorted(COMPILERS))
def built(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[bytes, bytes]:
    """(livepatch, target), linked as modules are, which orders and merges their tables."""
    compiler, *flags = COMPILERS[request.param]
    objects = []
    for name, source in (("livepatch", LIVEPATCH), ("target", TARGET)):
        file = tmp_path / f"{name}.c"
        file.write_text(source)
        run([compiler, *FLAGS, *flags, file, "-o", tmp_path / f"{name}.o"])
        module = tmp_path / f"{name}.ko"
        run([compiler, "-r", "-nostdlib", tmp_path / f"{name}.o", "-o", module])
        objects.append(module.read_bytes())
    return objects[0], objects[1]


def converted(livepatch: bytes, target: bytes) -> bytes:
    """By both ways of naming symbols, in two steps."""
    once = convert(livepatch, auto_symbols(livepatch, target, "the-target"))
    return convert(once, [KlpSymbol("vmlinux", name, 0) for name in sorted(KLP_VMLINUX)])


def test_we_read_what_readelf_reads(built: tuple[bytes, bytes], tmp_path: Path) -> None:
    for data in (*built, converted(*built)):
        elf, seen = read(data), readelf(data, tmp_path / "x.ko")
        assert ours(elf) == seen.relocations
        for section, row in zip(elf.sections[1:], seen.sections, strict=True):
            size = len(elf.symbols) * 24 if row[1] == "SYMTAB" else section.size
            mine = (section.name, size, section.entsize, section.link, section.info, section.align)
            assert mine == (row[0], row[2], row[3], *row[5:])
        for symbol, line in zip(elf.symbols, seen.symbols, strict=True):
            assert (symbol.value, symbol.size) == line[:2]
            assert symbol.name in ("", line[5])
        assert write(elf) == data


def test_the_converted_module_is_what_the_kernel_asks_for(
    built: tuple[bytes, bytes], tmp_path: Path
) -> None:
    before = readelf(built[0], tmp_path / "before.ko")
    data = converted(*built)
    after = readelf(data, tmp_path / "after.ko")

    klp = {name: f".klp.sym.the_target.{name},0" for name in KLP_TARGET}
    klp |= {name: f".klp.sym.vmlinux.{name},0" for name in KLP_VMLINUX}
    for old, new in zip(before.symbols, after.symbols, strict=True):
        if old[5] in klp:
            assert old[2:5] == ("NOTYPE", "GLOBAL", "UND")
            assert new == (0, 0, "NOTYPE", "GLOBAL", "OS [0xff20]", klp[old[5]])
        else:
            assert new == old
    assert {s[5] for s in after.symbols if s[4] == "OS [0xff20]"} == set(klp.values())

    count = len(before.sections)
    for was, is_now in zip(before.sections, after.sections, strict=False):
        assert (was[:2], was[3:]) == (is_now[:2], is_now[3:])  # all but the size
        assert was[2] == is_now[2] or was[1] in ("RELA", "STRTAB")
    names = [row[0] for row in before.sections]
    for name, kind, _, entsize, flags, link, info, align in after.sections[count:]:
        assert (kind, entsize, flags, align) == ("RELA", 24, "AIo", 8)
        assert names[link - 1] == ".symtab"
        assert re.fullmatch(r"\.klp\.rela\.(the_target|vmlinux)\.(.+)", name)
        assert name.endswith("." + names[info - 1])

    # every entry is either where it was or in a klp section, once, with order and numbers kept
    sections = {row[0]: row for row in after.sections}
    for section, entries in before.relocations.items():
        target = sections[section][6]
        moved = {
            name: relas
            for name, relas in after.relocations.items()
            if name.startswith(".klp.rela.") and sections[name][6] == target
        }
        kept = after.relocations.get(section, [])
        assert kept == [e for e in entries if e[2] not in klp]
        for name, relas in moved.items():
            object = name.split(".")[3]
            wanted = KLP_VMLINUX if object == "vmlinux" else KLP_TARGET
            assert relas == [(o, i, klp[s], a) for o, i, s, a in entries if s in wanted]
        assert len(kept) + sum(map(len, moved.values())) == len(entries)
    assert len(after.sections) - count >= 4  # .text for two objects, data, read-only data


def test_the_converted_module_breaks_no_rule(built: tuple[bytes, bytes]) -> None:
    data = converted(*built)
    found = inspect(data)
    assert found.violations == ()
    assert found.module == "my_patch"
    elf = read(data)
    arch = next(a for a in arches().values() if a.elf_machine == elf.machine)
    relocations = klp_relocations(elf, relocation.table(arch.relocations))
    assert {r.symbol.name for r in relocations} == KLP_TARGET | KLP_VMLINUX
    assert not any(any(r.initial) for r in relocations)
    modinfo, module = elf.section(".modinfo"), elf.section(".gnu.linkonce.this_module")
    original = read(built[0])
    assert modinfo and b"depends=first,last\0" in modinfo.data
    assert module == original.section(".gnu.linkonce.this_module")
    first_global = next(i for i, s in enumerate(elf.symbols) if i and s.binding)
    table = elf.sections[elf.symbol_table or 0]
    assert table.info == first_global
    assert all(s.binding for s in elf.symbols[first_global:])
    assert any(s.type == STT_FILE for s in elf.symbols)
