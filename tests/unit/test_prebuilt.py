# SPDX-License-Identifier: GPL-2.0-only
"""Modules that others built: taken as they are, or refused before anything is booted."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from elf_samples import (
    MODINFO,
    SYMTAB,
    TEXT,
    append,
    livepatch,
    local,
    symbol,
    target,
    with_section,
    with_symbol,
)
from samples import a_kernel

from orchestrator import catalog
from orchestrator.build import modules, prebuilt
from orchestrator.elf import klpformat, reader, room, rules
from orchestrator.elf.footprint import Footprint
from orchestrator.elf.klp import convert
from orchestrator.elf.records import (
    SHF_ALLOC,
    SHN_COMMON,
    SHT_PROGBITS,
    SHT_RELA,
    STT_SECTION,
    Elf,
    Rela,
    Section,
)
from orchestrator.elf.relocation import table
from orchestrator.elf.writer import write
from orchestrator.errors import BuildError, UsageError
from orchestrator.nouns import Arch, BuiltSet, Defect, KlpSymbol, ModuleSet, ModuleSpec

ARCH = catalog.arch("x86_64")  # the ELF samples' types are in its table
TABLE = table(ARCH.relocations)
VERMAGIC = b"6.1.192 SMP mod_unload "
PATCH = ModuleSpec(
    "my_patch",
    "livepatch",
    {"the_target": ("target_fn",), "vmlinux": ("shown",), "absent": ("f",)},
    ko="{arch}/patch.ko",
)
TARGET = ModuleSpec("the_target", "target", ko="{arch}/the-target.ko")
MAP = "ffffffff81000000 T _text\nffffffff81000010 t hidden\nffffffff81000020 t shown\n"


def about(elf: Elf, name: str, vermagic: bytes = VERMAGIC, mark: bytes = b"") -> bytes:
    lines = (b"name=" + name.encode(), b"vermagic=" + vermagic, b"depends=", mark, b"")
    return write(with_section(elf, MODINFO, lambda s: replace(s, data=b"\0".join(lines))))


def the_patch(*symbols: KlpSymbol) -> bytes:
    """A livepatch that defers these; of the sample's undefined symbols there are four."""
    return convert(about(livepatch(), "my_patch", mark=b"livepatch=Y"), symbols, table=TABLE)


@pytest.fixture
def module_set(tmp_path: Path) -> ModuleSet:
    place = tmp_path / "mine"
    (place / ARCH.name).mkdir(parents=True)
    (place / ARCH.name / "patch.ko").write_bytes(the_patch())
    (place / ARCH.name / "the-target.ko").write_bytes(about(target(), "the_target"))
    return ModuleSet("mine", place, (PATCH, TARGET))


def test_they_are_taken_as_they_are(module_set: ModuleSet) -> None:
    found = prebuilt.files(module_set, ARCH)
    assert set(found) == {"my_patch", "the_target"}
    assert found["my_patch"] == (module_set.directory / ARCH.name / "patch.ko").read_bytes()


def test_a_module_without_file_and_sources_is_named(module_set: ModuleSet) -> None:
    bare = replace(module_set, modules=(PATCH, replace(TARGET, ko="")))
    with pytest.raises(UsageError, match=r"mine/set\.toml: the_target: no `ko`, and nothing"):
        prebuilt.files(bare, ARCH)
    (module_set.directory / "Kbuild").touch()
    assert set(prebuilt.files(bare, ARCH)) == {"my_patch"}


def other(arch: Arch) -> Arch:
    return next(a for a in catalog.arches().values() if a.elf_machine != arch.elf_machine)


def test_an_architecture_without_a_file_is_named(module_set: ModuleSet) -> None:
    arch = other(ARCH)
    with pytest.raises(UsageError, match=rf"{arch.name}/patch\.ko: No such file.*my_patch") as told:
        prebuilt.files(module_set, arch)
    assert "--arch" in told.value.hint


@pytest.mark.parametrize(
    ("spec", "data", "message"),
    [
        (PATCH, b"\xfd7zXZ\0", r"patch\.ko is compressed with xz"),
        (PATCH, about(livepatch("big"), "my_patch"), r"patch\.ko is for EM_S390, big-endian; exp"),
        (PATCH, about(target(), "thing"), r"patch\.ko is module 'thing', set\.toml calls it 'my_p"),
        (PATCH, about(target(), "my_patch"), r"patch\.ko has no MODULE_INFO\(livepatch"),
        (replace(PATCH, kind="target"), the_patch(), r"patch\.ko has MODULE_INFO\(livepatch"),
    ],
)
def test_another_module_than_set_toml_says(
    module_set: ModuleSet, spec: ModuleSpec, data: bytes, message: str
) -> None:
    (module_set.directory / ARCH.name / "patch.ko").write_bytes(data)
    with pytest.raises(UsageError, match=message):
        prebuilt.files(replace(module_set, modules=(spec,)), ARCH)


def test_what_is_no_file_is_not_read(module_set: ModuleSet) -> None:
    """A device has no end, a FIFO never begins."""
    place = module_set.directory / ARCH.name / "patch.ko"
    place.unlink()
    os.mkfifo(place)
    with pytest.raises(UsageError, match=r"patch\.ko: it is no regular file"):
        prebuilt.files(module_set, ARCH)
    device = replace(PATCH, ko="/dev/zero")
    with pytest.raises(UsageError, match="/dev/zero: it is no regular file"):
        prebuilt.files(replace(module_set, modules=(device,)), ARCH)
    place.unlink()
    place.touch()
    os.truncate(place, 1 << 40)
    with pytest.raises(UsageError, match=r"patch\.ko: it is larger than"):
        prebuilt.files(module_set, ARCH)


def test_a_relocation_that_no_kernel_can_apply_is_told_with_its_file(module_set: ModuleSet) -> None:
    """An offset that was edited: x86's loader refuses it for what stands in the field."""
    place = module_set.directory / ARCH.name / "patch.ko"
    place.write_bytes(the_patch(KlpSymbol("the_target", "target_fn", 0)))
    prebuilt.check_relocations(prebuilt.files(module_set, ARCH), module_set, ARCH)
    good = reader.read(place.read_bytes())
    filled = with_section(good, TEXT, lambda s: replace(s, data=b"\x90" * len(s.data)))
    place.write_bytes(write(filled))
    with pytest.raises(UsageError) as told:
        prebuilt.check_relocations(prebuilt.files(module_set, ARCH), module_set, ARCH)
    assert str(told.value) == (
        f"{place}: .klp.rela.the_target..text at 0xc: the field holds 90 90 90 90, and the kernel "
        "refuses one that is not zero"
    )


def test_what_breaks_a_rule_that_kernels_go_by_is_refused(module_set: ModuleSet) -> None:
    """It was FAIL: the livepatch is refused, or its relocations are written astray."""
    place = module_set.directory / ARCH.name / "patch.ko"
    place.write_bytes(the_patch(FUNCTION))
    good = reader.read(place.read_bytes())
    (klp,) = (i for i, s in enumerate(good.sections) if klpformat.is_klp_section(s))
    marked = good.sections[klp].relas[0].symbol
    unmarked = with_symbol(good, marked, lambda s: replace(s, shndx=SHN_COMMON))
    freed = with_section(good, klp, lambda s: replace(s, flags=s.flags & ~SHF_ALLOC))
    early = with_section(good, TEXT, lambda s: replace(s, name="__mcount_loc"))
    for bad, why in (
        (unmarked, "COMMON symbols"),
        (freed, "carries SHF_ALLOC"),
        (early, "what the loader reads while"),
    ):
        place.write_bytes(write(bad))
        found = prebuilt.files(module_set, ARCH)
        with pytest.raises(UsageError, match=why) as caught:
            prebuilt.check_relocations(found, module_set, ARCH)
        assert str(place) in str(caught.value) and "inspect" in caught.value.hint
        spec = replace(PATCH, defects=(Defect("", 8, False),))
        declared = replace(module_set, modules=(spec, TARGET))
        prebuilt.check_relocations(found, declared, ARCH)
    custom = with_section(good, klp, lambda s: replace(s, entsize=0, link=0))
    place.write_bytes(write(custom))  # no kernel asks
    prebuilt.check_relocations(prebuilt.files(module_set, ARCH), module_set, ARCH)


def test_every_rule_that_refuses_is_one() -> None:
    assert not {name for name in rules.FATAL if rules.RULES[name].warning}


def test_another_kernels_module_is_refused(module_set: ModuleSet, tmp_path: Path) -> None:
    tree = tmp_path / "build"
    tree.mkdir()
    (tree / "sample.ko").write_bytes(about(target(), "sample"))
    kernel = a_kernel(ARCH.name, series=("mine",), build_tree=tree)
    prebuilt.check_kernel(prebuilt.files(module_set, ARCH), module_set, kernel, ARCH)
    path = module_set.directory / ARCH.name / "the-target.ko"
    path.write_bytes(about(target(), "the_target", b"6.12.1 SMP mod_unload "))
    with pytest.raises(UsageError) as told:
        prebuilt.check_kernel(prebuilt.files(module_set, ARCH), module_set, kernel, ARCH)
    said = str(told.value)
    assert str(path) in said and "'6.12.1 SMP mod_unload'" in said
    assert "debian:6.1 with series mine is '6.1.192 SMP mod_unload'" in said
    assert "--kernel" in told.value.hint


@pytest.mark.parametrize("kernels", ["gcc", "clang", ""])
@pytest.mark.parametrize("theirs", ["gcc", "clang", ""])
def test_another_compiler_s_module_is_refused(
    module_set: ModuleSet, tmp_path: Path, kernels: str, theirs: str
) -> None:
    marks = {
        "gcc": b"\0GCC: (Debian 12) 12.2.0\0",
        "clang": b"\0Debian clang version 19\0",
        "": b"",
    }

    def by(compiler: str) -> bytes:
        return about(append(target(), Section(".comment", 1, data=marks[compiler])), "the_target")

    tree = tmp_path / "build"
    tree.mkdir()
    (tree / "sample.ko").write_bytes(by(kernels))
    kernel = a_kernel(ARCH.name, series=("mine",), build_tree=tree)
    path = module_set.directory / ARCH.name / "the-target.ko"
    path.write_bytes(by(theirs))
    found = prebuilt.files(module_set, ARCH)
    if theirs and kernels and theirs != kernels:
        told = rf"the-target\.ko was compiled by {theirs}, and the kernel by {kernels}"
        with pytest.raises(UsageError, match=told):
            prebuilt.check_kernel(found, module_set, kernel, ARCH)
    else:
        prebuilt.check_kernel(found, module_set, kernel, ARCH)


def with_versions(elf: Elf, **versions: int) -> bytes:
    entries = (
        crc.to_bytes(8, "little") + n.encode().ljust(56, b"\0") for n, crc in versions.items()
    )
    table = Section("__versions", SHT_PROGBITS, SHF_ALLOC, align=32, data=b"".join(entries))
    return write(replace(elf, sections=(*elf.sections, table)))


@pytest.mark.parametrize(
    ("versions", "why"),
    [
        ({"module_layout": 0x11, "_printk": 0x22}, ""),
        ({"module_layout": 0x11}, ""),  # the kernel warns once and lets it go
        (
            {"module_layout": 0x11, "_printk": 0x23},
            "version of _printk is 0x23, the kernel's is 0x22",
        ),
        ({"module_layout": 0x12, "_printk": 0x22}, "version of module_layout is 0x12"),
        ({"module_layout": 0x11, "_printk": 0x22, "unused": 7}, ""),
        (None, "has no versions of symbols"),
    ],
)
def test_symbol_versions_are_the_kernels(
    module_set: ModuleSet, tmp_path: Path, versions: dict[str, int] | None, why: str
) -> None:
    symvers = tmp_path / "Module.symvers"
    line = "0x{:08x}\t{}\tvmlinux\tEXPORT_SYMBOL\t\n"
    crcs = (("_printk", 0x22), ("module_layout", 0x11), ("unused", 8))
    symvers.write_text("".join(line.format(crc, name) for name, crc in crcs))
    elf = livepatch()
    data = write(elf) if versions is None else with_versions(elf, **versions)
    found = {"my_patch": data}
    if why:
        with pytest.raises(UsageError, match=why):
            prebuilt.check_versions(found, module_set, symvers, ARCH)
    else:
        prebuilt.check_versions(found, module_set, symvers, ARCH)
    symvers.write_text("".join(line.format(0, name) for name, _ in crcs))  # it has none
    prebuilt.check_versions(found, module_set, symvers, ARCH)


def test_what_has_to_be_loaded_first_has_to_be_said() -> None:
    data = write(livepatch())  # depends=other,the-target
    prebuilt.check_depends(data, replace(PATCH, depends=("the_target", "other")), "p.ko")
    with pytest.raises(
        UsageError, match=r"p\.ko uses .* of other, the_target, .* says no m"
    ) as told:
        prebuilt.check_depends(data, PATCH, "p.ko")
    assert 'depends = ["other", "the_target"]' in told.value.hint


def built(tmp_path: Path, patch: bytes, goal: Elf, spec: ModuleSpec = PATCH) -> BuiltSet:
    (tmp_path / "my_patch.ko").write_bytes(patch)
    (tmp_path / "the_target.ko").write_bytes(write(goal))
    (tmp_path / "System.map").write_text(MAP)
    return modules.read(ModuleSet("mine", tmp_path, (spec, TARGET)), tmp_path, ARCH)


FUNCTION = KlpSymbol("the_target", "target_fn", 0)
HIDDEN = KlpSymbol("vmlinux", "hidden", 0)


def test_what_a_livepatch_defers_is_read_from_it(tmp_path: Path) -> None:
    absent = KlpSymbol("absent", "_printk", 3)  # of a module that never comes
    found = built(tmp_path, the_patch(FUNCTION, HIDDEN, absent), target())
    spec = found.set.module("my_patch")
    assert spec is not None and dict(spec.klp_symbols) == {
        "the_target": ("target_fn,0",),
        "vmlinux": ("hidden,0",),
        "absent": ("_printk,3",),
    }
    assert found.modules["my_patch"].spec == spec
    prebuilt.check_symbols(found, tmp_path / "System.map")


@pytest.mark.parametrize(
    ("deferred", "goal", "spec", "message"),
    [
        (replace(FUNCTION, sympos=2), target(), PATCH, "target_fn,2, .* 1 symbol of that name"),
        (FUNCTION, target(twice="target_fn"), PATCH, "target_fn,0, .* 2 symbols of that name"),
        (replace(HIDDEN, name="_printk"), target(), PATCH, "vmlinux has no symbol of that name"),
        (
            FUNCTION,
            target(),
            replace(PATCH, patches={"the_target": ("typo",)}),
            "set.toml has it replace the_target:typo,0, .* no symbol",
        ),
    ],
)
def test_what_nobody_defines_is_named(
    tmp_path: Path, deferred: KlpSymbol, goal: Elf, spec: ModuleSpec, message: str
) -> None:
    found = built(tmp_path, the_patch(deferred), goal, spec)
    with pytest.raises(UsageError, match=rf"my_patch\.ko: .*{message}"):
        prebuilt.check_symbols(found, tmp_path / "System.map")
    objects = tuple(Defect(name, 22, True) for name in ("the_target", "vmlinux"))
    declared = built(tmp_path, the_patch(deferred), goal, replace(spec, defects=objects))
    prebuilt.check_symbols(declared, tmp_path / "System.map")


def test_a_per_cpu_variable_of_a_module_cannot_be_read_back(tmp_path: Path) -> None:
    """It was told in the guest, with a hint that leads nowhere."""
    found = built(tmp_path, the_patch(FUNCTION), target())
    moved = replace(found.modules["the_target"], symbols={"target_fn": ((klpformat.PER_CPU, 0),)})
    found = replace(found, modules={**found.modules, "the_target": moved})
    with pytest.raises(UsageError, match=r"the_target:target_fn,0, a per-CPU variable"):
        prebuilt.check_symbols(found, tmp_path / "System.map")


@pytest.mark.parametrize("position", [0, 1, 2])
def test_what_is_there_only_while_its_module_loads_cannot_be_meant(
    tmp_path: Path, position: int
) -> None:
    """The kernel forgets __init symbols once the module has loaded (kernel/module/kallsyms.c): a
    livepatch that comes later is refused, rightly, or gets another one of that name."""
    found = built(tmp_path, the_patch(replace(FUNCTION, sympos=position)), target())
    places = ((".init.text", 0), *((".text", 0) for _ in range(position)))
    gone = replace(found.modules["the_target"], symbols={"target_fn": places})
    late = replace(found, modules={**found.modules, "the_target": gone})
    with pytest.raises(UsageError, match=r"target_fn,., .* only while the_target loads"):
        prebuilt.check_symbols(late, tmp_path / "System.map")


def test_what_is_gone_later_matters_to_nobody_before_it(tmp_path: Path) -> None:
    spec = replace(PATCH, patches={"the_target": ("target_fn,1",)})
    found = built(tmp_path, the_patch(replace(FUNCTION, sympos=1)), target(), spec)
    both = replace(
        found.modules["the_target"], symbols={"target_fn": ((".text", 0), (".init.text", 0))}
    )
    prebuilt.check_symbols(
        replace(found, modules={**found.modules, "the_target": both}), tmp_path / "System.map"
    )


def traceable(*places: int) -> bytes:
    """The target, of which ftrace can trace these offsets in .text."""
    elf = target()
    section = local("", TEXT, kind=STT_SECTION)
    elf = replace(elf, symbols=(*elf.symbols, section))
    relas = tuple(Rela(8 * n, 1, len(elf.symbols) - 1, at) for n, at in enumerate(places))
    table = Section("__mcount_loc", SHT_PROGBITS, SHF_ALLOC, data=bytes(8 * len(places)))
    index = len(elf.sections)
    its = Section(".rela__mcount_loc", SHT_RELA, 0, 0, SYMTAB, index, 8, 24, relas=relas)
    return write(append(append(elf, table), its))


@pytest.mark.parametrize(
    ("place", "addend", "align", "fits"),
    [(8, 4, 8, True), (9, 3, 8, True), (8, 3, 8, False), (9, 4, 8, False), (8, 3, 1, True)],
)
def test_where_symbol_and_field_lie_decides_whether_a_type_can_say_it(
    tmp_path: Path, place: int, addend: int, align: int, fits: bool
) -> None:
    """s390's apply_rela_bits() refuses what is odd, and the symbol may be odd, too."""
    halves = replace(ARCH.relocation(2) or ARCH.relocations[0], field=("31..0 = 32..1",))
    rows = tuple(halves if row.number == 2 else row for row in ARCH.relocations)
    arch = replace(ARCH, relocations=rows)
    made = built(tmp_path, the_patch(FUNCTION, HIDDEN), target())
    (found, *_) = (r for r in made.modules["my_patch"].klp_relocations if r.symbol == FUNCTION)
    one = replace(found, type=2, addend=addend, offset=0x10)
    goal = made.modules["the_target"]
    ((section, _),) = goal.symbols["target_fn"]
    elf = reader.read(goal.path.read_bytes())
    index = next(i for i, s in enumerate(elf.sections) if s.name == section)
    goal.path.write_bytes(write(with_section(elf, index, lambda s: replace(s, align=align))))
    modules_made = {
        "my_patch": replace(made.modules["my_patch"], klp_relocations=(one,)),
        "the_target": replace(goal, symbols={"target_fn": ((section, place),)}),
    }
    if fits:
        prebuilt.check_steps(replace(made, modules=modules_made), tmp_path / "System.map", arch)
        return
    with pytest.raises(UsageError, match="come to no multiple of 2"):
        prebuilt.check_steps(replace(made, modules=modules_made), tmp_path / "System.map", arch)


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ("early", "is __init, and gone"),
        ("twice,1", "is __init, and gone"),
        ("twice,2", ""),
        ("late", ""),
        ("quiet", "is noinstr"),
        ("absent", ""),  # `check_symbols` has words for it
    ],
)
def test_a_function_of_the_kernel_that_ftrace_does_not_know(
    module_set: ModuleSet, tmp_path: Path, entry: str, why: str
) -> None:
    system_map = tmp_path / "System.map"
    lines = ("1 _sinittext", "1 early", "2 twice", "9 _einittext", "9 late", "b twice")
    more = ("10 __noinstr_text_start", "11 quiet", "12 __noinstr_text_end", "20 __entry_text_end")
    system_map.write_text("".join("{} t {}\n".format(*each.split()) for each in (*lines, *more)))

    def check(spec: ModuleSpec) -> None:
        prebuilt.check_untraced(replace(module_set, modules=(spec,)), system_map)

    spec = replace(PATCH, patches={"vmlinux": (entry,)})
    check(replace(spec, defects=(Defect("vmlinux", 22, written=False),)))
    if not why:
        check(spec)
        return
    with pytest.raises(UsageError, match=why):
        check(spec)


def test_what_no_guest_has_the_memory_for_is_not_booted(tmp_path: Path) -> None:
    """It would be refused with ENOMEM, which is FAIL."""
    for mib, fits in ((130, True), (140, False)):
        large = room.enlarged(target(), Footprint(0, 0, 0, mib << 20))
        made = built(tmp_path, write(livepatch()), large)
        if fits:
            prebuilt.check_memory(made, ARCH)
            continue
        with pytest.raises(UsageError, match="take 140 MiB, and of the 192 MiB of") as caught:
            prebuilt.check_memory(made, ARCH)
        assert caught.value.hint.startswith("the largest is the_target, with 140 MiB")
        prebuilt.check_memory(made, replace(ARCH, memory_mb=256))


def test_sets_of_ours_fit_every_guest() -> None:
    """As far as set.toml says what they take."""
    for module_set in catalog.module_sets().values():
        rooms = [room.said(spec.room) for spec in module_set.modules if spec.room is not None]
        for arch in catalog.arches().values():
            assert sum(map(sum, rooms)) < arch.memory_mb * 0.69 * (1 << 20)


def test_a_livepatch_that_never_enables_itself() -> None:
    """It was FAIL: "not there", "never applied"."""
    elf = livepatch()
    calls = replace(elf, symbols=(*elf.symbols, symbol("klp_enable_patch")))
    prebuilt.check_enables(calls, PATCH, "my_patch.ko")
    prebuilt.check_enables(target(), TARGET, "the_target.ko")
    with pytest.raises(UsageError, match=r"my_patch\.ko is a livepatch and never calls klp_enable"):
        prebuilt.check_enables(elf, PATCH, "my_patch.ko")
    for said in (b"livepatch=Y\0license=Proprietary\0", b"livepatch=Y\0"):
        sections = list(calls.sections)
        sections[MODINFO] = replace(sections[MODINFO], data=said)
        theirs = replace(calls, sections=tuple(sections))
        with pytest.raises(UsageError, match="no licence that is compatible with the GPL"):
            prebuilt.check_enables(theirs, PATCH, "my_patch.ko")


def test_a_module_without_an_exit_function_is_never_unloaded() -> None:
    elf = target()
    both = [local(name, TEXT) for name in ("init_module", "cleanup_module")]
    for kept in ((), both[1:], both):
        prebuilt.check_unloadable({"t": write(replace(elf, symbols=(*elf.symbols, *kept)))})
    with pytest.raises(UsageError, match=r"t\.ko has an init function and no exit function"):
        prebuilt.check_unloadable({"t": write(replace(elf, symbols=(*elf.symbols, both[0])))})


def test_a_function_that_ftrace_does_not_know_cannot_be_replaced(tmp_path: Path) -> None:
    """The kernel refused it, rightly, and that was its FAIL."""
    spec = replace(PATCH, patches={"the_target": ("target_fn",)})
    mine = ModuleSet("mine", tmp_path, (spec, TARGET))
    # of 8 bytes at 0x10, and nothing before it; (): nobody knows
    for places in ((0x10,), (0x17, 0x40), (0x8,), ()):
        prebuilt.check_traceable(mine, {"the_target": traceable(*places)})
    wrong = {"the_target": traceable(0x18)}
    with pytest.raises(UsageError, match=r"my_patch\.ko: .*the_target:target_fn,0, .* ftrace"):
        prebuilt.check_traceable(mine, wrong)
    declared = replace(spec, defects=(Defect("the_target", 22, True),))
    prebuilt.check_traceable(replace(mine, modules=(declared, TARGET)), wrong)


def test_what_the_kernel_never_writes_again_is_told(tmp_path: Path) -> None:
    """It was FAIL: functions that read nothing, or what had been there."""
    data = the_patch(FUNCTION)
    spec = replace(PATCH, patches={"the_sarget": ("target_fn",)})
    found = built(tmp_path, data, target(), spec)
    with pytest.raises(UsageError, match="when the_target is loaded, which it does not patch"):
        prebuilt.check_symbols(found, tmp_path / "System.map")
    elf = reader.read(data)
    (klp,) = (i for i, s in enumerate(elf.sections) if klpformat.is_klp_section(s))
    kernels = with_section(elf, klp, lambda s: replace(s, name=".klp.rela.vmlinux..text"))
    found = built(tmp_path, write(kernels), target())
    with pytest.raises(UsageError, match="leads nowhere once the_target has gone"):
        prebuilt.check_symbols(found, tmp_path / "System.map")


def test_a_symbol_of_a_module_that_the_set_lacks(tmp_path: Path) -> None:
    """As kpatch-build does it: what one module exports to another, when the other comes."""
    data = the_patch(FUNCTION).replace(b".klp.sym.the_target.", b".klp.sym.the_sarget.")
    found = built(tmp_path, data, target())
    with pytest.raises(UsageError, match=r"the_sarget:target_fn,0 when the_target is loaded"):
        prebuilt.check_symbols(found, tmp_path / "System.map")


def test_what_an_earlier_build_left_is_no_source(tmp_path: Path) -> None:
    names = ("Kbuild", "set.toml", "a.c", "sub/b.h", "a.o", "a.ko", "a.mod", "a.mod.c", ".a.o.cmd")
    for name in (*names, "Module.symvers", "modules.order", ".git/config", "sub/.b.o.d"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = modules._sources(ModuleSet("mine", tmp_path, (TARGET,)))
    own = {name.removeprefix("set/") for name in found if name.startswith("set/")}
    assert own == {"Kbuild", "set.toml", "a.c", "sub/b.h"}


def test_a_set_holds_the_same_wherever_it_lies(tmp_path: Path) -> None:
    """What it is built against, and what a build leaves beside it, says nothing of it."""
    arch = catalog.arch("x86_64")

    def content(name: str, **files: str) -> str:
        place = tmp_path / name
        place.mkdir(exist_ok=True)
        for file, text in {"Kbuild": "", "set_toml": "", "a_c": "", **files}.items():
            (place / file.replace("_", ".")).write_text(text)
        return modules.content(ModuleSet(name, place, (ModuleSpec("a", "target"),)), arch)

    assert content("mine") == content("elsewhere") == content("mine", a_o="x", a_ko="y")
    assert content("mine") != content("mine", a_c="int x;")
    assert content("elsewhere") != content("elsewhere", set_toml="# x")


def test_so_does_one_of_modules_that_others_built(module_set: ModuleSet, tmp_path: Path) -> None:
    (module_set.directory / "set.toml").touch()
    held = modules.content(module_set, ARCH)
    shutil.copytree(module_set.directory, tmp_path / "elsewhere")
    moved = replace(module_set, directory=tmp_path / "elsewhere")
    (moved.directory / "notes").touch()
    assert modules.content(moved, ARCH) == held
    built = about(target(), "the_target", b"6.12.1 SMP mod_unload ")
    (moved.directory / ARCH.name / "the-target.ko").write_bytes(built)
    assert modules.content(moved, ARCH) != held


@pytest.mark.parametrize(
    ("said", "taint"),
    [
        (b"license=GPL", 0),
        (b"license=Dual BSD/GPL\0description=staging", 0),
        (b"license=Proprietary", 1),
        (b"description=of no licence", 1),
        (b"license=GPL\0staging=Y", 1 << 10),
        (b"license=BSD\0test=Y", 1 << 18 | 1),
    ],
)
def test_what_a_module_says_of_itself_taints(said: bytes, taint: int) -> None:
    elf = with_section(target(), MODINFO, lambda s: replace(s, data=said + b"\0"))
    assert klpformat.own_taint(elf) == taint


def test_exports_are_found() -> None:
    elf = with_symbol(target(), 1, lambda s: local("__ksymtab_mine", TEXT))
    elf = with_symbol(elf, 2, lambda s: symbol("__ksymtab_theirs"))
    assert elf.sections[SYMTAB].info
    assert prebuilt.exports(write(elf), "t.ko") == {"mine"}


@pytest.mark.parametrize(
    ("spec", "hint"),
    [
        (
            ModuleSpec("p", "livepatch", klp_symbols={"t": ("auto",)}),
            "what t.ko defines: has the compiler",
        ),
        (ModuleSpec("p", "livepatch"), "name it, under its object, in klp_symbols"),
        (ModuleSpec("p", "livepatch", ko="p.ko"), "or name it in klp_symbols of set.toml"),
        (ModuleSpec("t", "target", ko="t.ko"), "is what exports it in the set?"),
    ],
)
def test_a_symbol_that_nobody_has_says_where_it_may_come_from(spec: ModuleSpec, hint: str) -> None:
    with pytest.raises(BuildError, match="which nothing exports") as caught:
        modules._refuse_unresolved(spec, write(livepatch()), frozenset())
    assert hint in caught.value.hint
