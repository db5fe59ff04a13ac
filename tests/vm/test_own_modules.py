# SPDX-License-Identifier: GPL-2.0-only
"""Modules that others built, by `--modules DIR`: in the layout of kpatch-build and klp-build every
relocation is read back, and what does not fit is refused before anything is booted."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from foreign import laid_out
from typer.testing import CliRunner
from vmkit import ARCHES, klp_e2e

from orchestrator import catalog, cli
from orchestrator.build import modules
from orchestrator.build.prepare import Bootable
from orchestrator.deadline import Deadline
from orchestrator.elf import klp, reader, relocation
from orchestrator.elf.records import SHN_LIVEPATCH, STB_LOCAL
from orchestrator.host.rundir import run_dir
from orchestrator.nouns import KlpSymbol
from orchestrator.report import directory
from orchestrator.verdicts import CaseResult, CheckKind, Status

pytestmark = pytest.mark.xdist_group("own modules")  # their modules are made once

OWN = Path(__file__).with_name("own")
PATCH = "klp_own_patch"
SAMPLE = "livepatch_sample"
DEFERRED = {
    "vmlinux": ["envp_init,0", "c_start,2"],
    "klp_own_base": ["klp_own_base_number,0"],
    "klp_own_target": [
        *("klp_own_number,0", "klp_own_counter,0", "klp_own_table,0", "klp_own_scale,0"),
        *("klp_own_twin,2", "klp_own_twin_call,2"),
    ],
    "klp_own_other": ["klp_own_other_number,0", "klp_own_other_scale,0"],
    "klp_own_absent": ["klp_own_absent_number,0", "klp_own_absent_call,0"],
}
RELOAD = (
    "+klp_own_patch +klp_own_base +klp_own_target -klp_own_target +klp_own_other +klp_own_target"
)
ORDERS = (
    f"{RELOAD} klp_own_patch=0",
    f"+klp_own_base +klp_own_target +{SAMPLE} +klp_own_patch +klp_own_other -{SAMPLE} "
    "-klp_own_base -klp_own_target klp_own_patch=0 -klp_own_patch",
)


@pytest.fixture(scope="module")
def own(bootables: Mapping[str, Bootable], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory as a user has it: set.toml, and the .ko files of every architecture."""
    place = tmp_path_factory.mktemp("users") / "mine"
    place.mkdir()
    shutil.copyfile(OWN / "set.toml", place / "set.toml")
    module_set = catalog.module_set(str(OWN))
    to_make = tuple(replace(m, ko="") for m in module_set.modules if m.name != SAMPLE)
    to_make_set = replace(module_set, modules=to_make)
    for bootable in bootables.values():
        with run_dir("test") as scratch:
            until = Deadline.after(300)
            files = dict(
                modules._make(scratch, bootable.kernel, bootable.arch, to_make_set, 2, until)
            )
        symbols = [
            KlpSymbol(owner, *_parts(entry)) for owner, found in DEFERRED.items() for entry in found
        ]
        table = relocation.table(bootable.arch.relocations)
        converted = klp.convert(files[PATCH], symbols, table=table)
        files[PATCH] = laid_out(converted, PATCH, ("klp_own_base", "klp_own_target"))
        (place / bootable.arch.name).mkdir()
        for name, data in files.items():
            (place / bootable.arch.name / f"{name}.ko").write_bytes(data)
        sample = bootable.kernel.build_tree / "samples/livepatch/livepatch-sample.ko"
        shutil.copy(sample, place / bootable.arch.name)
    return place


def _parts(entry: str) -> tuple[str, int]:
    name, _, sympos = entry.partition(",")
    return name, int(sympos)


def run(own: Path, place: Path, *more: str | Path) -> tuple[int, Sequence[CaseResult]]:
    done = klp_e2e("run", "--modules", own, "-o", place, *more)
    _, results = directory.read(place)
    assert results, done.output + done.errors
    return done.code, results


@pytest.fixture(scope="module")
def ran(own: Path, tmp_path_factory: pytest.TempPathFactory) -> Sequence[CaseResult]:
    """Every order on every architecture, as typed by a user."""
    orders = itertools.chain.from_iterable(("--order", order) for order in ORDERS)
    code, results = run(own, tmp_path_factory.mktemp("ran") / "results", *orders)
    assert (code, len(results)) == (0, len(ORDERS) * len(ARCHES)), [r.reason for r in results]
    return results


@pytest.mark.parametrize("arch", ARCHES)
def test_the_layout_is_that_of_other_tools(own: Path, arch: str) -> None:
    path = own / arch / f"{PATCH}.ko"
    told = klp_e2e("inspect", path, "--json")
    assert told.code == 0, told.output
    document = json.loads(told.output)
    assert document["violations"] == []
    sections = {section["name"]: section["object"] for section in document["sections"]}
    assert sections[f".klp.rela.klp_own_target..text.{PATCH}_show"] == "klp_own_target"
    objects = list(sections.values())
    assert set(objects) == {"vmlinux", "klp_own_target", "klp_own_other", "klp_own_absent"}
    assert objects.count("vmlinux") == 2 and objects.count("klp_own_target") >= 4
    lies = {name.split(".", 4)[4] for name in sections}  # behind .klp.rela.OBJECT.
    assert {name.split(".")[1] for name in lies} >= {"text", "data"}
    positions = {
        (symbol["symbol"]["name"], symbol["symbol"]["sympos"]) for symbol in document["symbols"]
    }
    assert {("c_start", 2), ("klp_own_twin", 2), ("klp_own_number", 0)} <= positions
    elf = reader.read(path.read_bytes())
    kinds = [
        "k" if s.shndx == SHN_LIVEPATCH else "o" for s in elf.symbols if s.binding != STB_LOCAL
    ]
    assert "okoko" in "".join(kinds)
    assert any(s.shndx == SHN_LIVEPATCH and s.binding == STB_LOCAL for s in elf.symbols)
    assert {".kpatch.strings", ".kpatch.funcs", ".kpatch.left"} <= {s.name for s in elf.sections}
    target = reader.definitions(reader.read((own / arch / "klp_own_target.ko").read_bytes()))
    assert target["klp_own_counter"] == ((".bss.klp_own_counter", 0),)
    assert target["klp_own_table"] == ((".rodata.klp_own_table", 0),)


@pytest.mark.parametrize("arch", ARCHES)
def test_every_relocation_is_read_back(ran: Sequence[CaseResult], arch: str) -> None:
    """17 of them after each event while the livepatch is there; those of a module lead to it only
    while it is there, and those of the one that never comes never."""
    of = {"vmlinux": 2, "klp_own_target": 10, "klp_own_other": 3}
    for result in (r for r in ran if r.arch == arch):
        assert result.status is Status.PASS
        there = {"vmlinux"}
        for step in result.steps:
            sign, name = step.event[0], step.event.strip("+-")
            there = there | {name} if sign == "+" else there - {name}
            checks = [c for c in step.checks if c.kind is CheckKind.RELOCATION]
            leading = [c for c in checks if c.expected.startswith("resolves to")]
            never = [c for c in checks if "klp_own_absent:" in c.subject and c not in leading]
            assert len(checks) == step.relocations_read == (17 if PATCH in there else 0)
            if PATCH in there:
                assert len(leading) == sum(of[name] for name in there & of.keys()), step.event
                assert len(never) == 2


@pytest.mark.parametrize("arch", ARCHES)
def test_commands_show_what_they_print_and_how_they_end(
    ran: Sequence[CaseResult], arch: str
) -> None:
    seen: dict[str, set[str]] = {}
    for result in (r for r in ran if r.arch == arch):
        for step in result.steps:
            for check in step.checks:
                if check.kind is CheckKind.VALUE:
                    seen.setdefault(check.subject, set()).add(check.seen)
    assert seen["aside"] == {
        "no file",
        "version=original\nexit status 2",
        "version=klp_own_patch\nexit status 3",
    }
    assert "this has been live patched" in seen["cmdline"]
    assert len(seen["cmdline"]) == 3


def test_without_a_probe_a_bare_kernel_turns_red_all_the_same(own: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    shutil.copytree(own, mine)
    (mine / "set.toml").write_text((own / "set.toml").read_text().partition("[[probes]]")[0])
    bare = ("--series", "none", "--strict", "--order", RELOAD)
    code, results = run(mine, tmp_path / "results", *bare)
    assert (code, {result.arch for result in results}) == (1, set(ARCHES))
    for result in results:
        failure = result.first_failure()
        assert failure is not None and failure[0] == 5
        wrong = {check.kind for check in failure[1].checks if not check.good}
        assert {CheckKind.ANSWER, CheckKind.RELOCATION, CheckKind.SYSFS} <= wrong
        checked = {check.kind for step in result.steps for check in step.checks}
        assert checked == set(CheckKind) - {CheckKind.VALUE}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("vermagic", r"klp_own_other.ko was built for another kernel: its vermagic is '9.9.999"),
        ("gone", "klp_own_other.ko: No such file"),
        ("other", "is module 'klp_own_base', set.toml calls it 'klp_own_other'"),
        ("depends", "klp_own_target.ko uses exported symbols of klp_own_base, set.toml says no"),
        ("typo", "klp_own_patch.ko replaces klp_own_other_show,1 of klp_own_other, and "),
        ("swapped", "is for EM_S390, big-endian; expected EM_X86_64, little-endian"),
    ],
)
def test_what_does_not_fit_is_refused_before_any_boot(
    own: Path, tmp_path: Path, change: str, message: str
) -> None:
    mine, arch = tmp_path / "mine", "x86_64"
    shutil.copytree(own, mine)
    toml, other = mine / "set.toml", mine / arch / "klp_own_other.ko"
    text = toml.read_text()
    match change:
        case "vermagic":
            release = klp_vermagic(other)
            changed = b"9.9.999".ljust(len(release), b"x")
            other.write_bytes(other.read_bytes().replace(b"=" + release, b"=" + changed))
        case "gone":
            other.unlink()
        case "other":
            shutil.copyfile(mine / arch / "klp_own_base.ko", other)
        case "depends":
            toml.write_text(text.replace('depends = ["klp_own_base"]', ""))
        case "typo":
            toml.write_text(text.replace('"klp_own_other_show"', '"klp_own_odder_show"'))
        case "swapped":
            toml.write_text(text.replace("{arch}", "s390x"))
    place = tmp_path / "results"
    argv = ("run", "--modules", mine, "--arch", arch, "--order", f"+{SAMPLE}", "-o", place)
    told = CliRunner().invoke(cli.app, [str(word) for word in argv])
    assert (told.exit_code, message in told.stderr) == (2, True), told.stderr
    assert told.stderr.count("klp-e2e: ") == 1
    assert not (place / arch).exists()


def klp_vermagic(path: Path) -> bytes:
    return path.read_bytes().partition(b"vermagic=")[2].partition(b" ")[0]
