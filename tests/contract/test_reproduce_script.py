# SPDX-License-Identifier: GPL-2.0-only
"""reproduce.sh in real shells, where every name in the bundle is evil and the guest lies: it does
nothing that is not ours, and says nothing that a terminal obeys. QEMU and ssh are fakes."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from bundle_samples import ANSWER, EVIL, SUCCESS, a_bench, a_result, hostile
from samples import a_reading

from orchestrator.build import prepare
from orchestrator.build.prepare import Bootable
from orchestrator.elf.reader import read
from orchestrator.model import words
from orchestrator.nouns import BuiltSet
from orchestrator.repro import bundle
from orchestrator.run import observe
from orchestrator.verdicts import CaseResult, Health, Sign

PATIENCE = 60.0
SHELLS = [found for name in ("dash", "bash", "busybox") if (found := shutil.which(name))]

QEMU = """#!/bin/sh
printf 'BUG: %s\\n' "$LIE" >console.log
echo 'TCP[HOST_FORWARD]  12  127.0.0.1  40022  10.0.2.15  22'
exec cat >/dev/null
"""
# a guest that answers every question with the same lie
SSH = """#!/bin/sh
while IFS= read -r line; do
	case $line in
	*@end*)
		number=${line##*@end }
		number=${number%%[!0-9]*}
		printf '%s\\n\\n@end %s\\n' "$LIE" "$number"
		;;
	esac
done
"""
LIES = [
    "a[$(touch pwned)]",
    EVIL,
    '{"errno":a[$(touch pwned)],"usec":1}',
    '{"errno":8,"usec":1}\nbytes 00\nvia $(touch pwned)\nleads a[$(touch pwned)]\nsymbol \\033[2J',
    "\\033]0;PWNED\\007 \033[2J \\x1b[2J %s%n `touch pwned`",
]


@pytest.fixture
def bootable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bootable:
    monkeypatch.setattr(prepare, "qemu_version", lambda arch: "QEMU 7.2")
    return a_bench(tmp_path / "cache")


def ran(shell: str, place: Path, lie: str, qemu: str = QEMU) -> tuple[int, str]:
    """reproduce.sh with a guest that says `lie`: exit status, and all that it prints."""
    programs, temporary = place.parent / "bin", place.parent / "tmp"
    programs.mkdir()
    temporary.mkdir()
    for name, text in (("qemu-system-x86_64", qemu), ("ssh", SSH)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    argv = [shell, "sh"] if shell.endswith("busybox") else [shell]
    told = subprocess.run(
        [*argv, place / "reproduce.sh"],
        cwd=place,
        env={"PATH": f"{programs}:{os.defpath}:/bin", "TMPDIR": str(temporary), "LIE": lie},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=PATIENCE,
        check=False,
    )
    assert not list(temporary.iterdir())
    return told.returncode, told.stdout.decode()


def signs_of(bootable: Bootable) -> dict[str, tuple[Bootable, CaseResult]]:
    """A failure for each thing that the script judges by."""
    mine, result = hostile(bootable)
    checks = result.steps[-1].checks
    found = {}
    for check in checks:
        steps = (*result.steps[:-1], replace(result.steps[-1], checks=(check,)))
        found[check.kind] = mine, replace(result, steps=steps)
    taint = words.health(Health(Sign.TAINT), "nothing", "512 (W)", good=False)
    return {
        **{str(kind): each for kind, each in found.items()},
        "taint": (mine, a_result(taint)),
        "answer": (mine, a_result(replace(ANSWER, seen=EVIL))),
        "relocation": evil_section(bootable),
    }


def evil_section(bootable: Bootable) -> tuple[Bootable, CaseResult]:
    """A relocation in a section, and to a symbol, that are called to end the text for the guest."""
    evil = ".text\nGUEST\n)\"; touch pwned; : $(touch pwned) 'x"
    (built,) = bootable.sets.values()
    patch = built.modules["my_patch"]
    first, *_ = patch.klp_relocations
    symbol = replace(first.symbol, name=evil)
    rela = replace(first, section=evil, symbol=symbol)
    target = built.modules["the_target"]
    modules = {
        "my_patch": replace(patch, klp_relocations=(rela,)),
        "the_target": replace(target, symbols={evil: ((evil, 0),)}),
    }
    check = a_reading(
        livepatch="my_patch",
        object=rela.object,
        section=evil,
        offset=rela.offset,
        symbol=evil,
        owner=rela.symbol.object,
        type=observe.row_of(bootable.arch, rela).name,
    )
    check = replace(check, expected="leads to it", seen=EVIL)
    return replace(bootable, sets={"./tiny": BuiltSet(built.set, modules)}), a_result(
        SUCCESS, check
    )


KINDS = ["sysfs", "health", "value", "taint", "answer", "relocation"]


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: Path(shell).name)
@pytest.mark.parametrize("lie", LIES, ids=range(len(LIES)))
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_but_ours_is_carried_out(
    bootable: Bootable, tmp_path: Path, shell: str, lie: str, kind: str
) -> None:
    mine, result = signs_of(bootable)[kind]
    place = tmp_path / "b"
    bundle.write(place, mine, result, (1, 1))
    code, out = ran(shell, place, lie)
    assert not list(tmp_path.rglob("pwned*"))
    assert code in (0, 1, 4), out
    assert all(line.isprintable() for line in out.replace("\t", "").split("\n")), out
    assert out.startswith("booting "), out


def test_the_samples_section_is_one_of_a_module(bootable: Bootable) -> None:
    """So that `evil_section` stands for what a real .ko can say."""
    (built,) = bootable.sets.values()
    patch = built.modules["my_patch"]
    elf = read(patch.path.read_bytes(), "my_patch.ko")
    assert patch.klp_relocations[0].section in {section.name for section in elf.sections}


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: Path(shell).name)
@pytest.mark.parametrize(
    ("says", "old"),
    [
        ("QEMU emulator version 7.2.22 (Debian 1:7.2)", True),
        ("QEMU emulator version 9.0.4", True),
        ("QEMU emulator version 9.1.0", False),
        ("QEMU emulator version 9.10.0", False),
        ("QEMU emulator version 10.0.2 (Debian)", False),
        ("what?", True),
        ("", True),
    ],
)
def test_a_qemu_that_is_too_old_is_told_before_the_guest(
    bootable: Bootable, tmp_path: Path, shell: str, says: str, old: bool
) -> None:
    place = tmp_path / "b"
    mine = replace(bootable, arch=replace(bootable.arch, qemu_version="9.1"))
    bundle.write(place, mine, a_result(ANSWER), (1, 1))
    assert "`qemu-system-x86_64` 9.1 or later" in (place / "README.md").read_text()
    code, out = ran(shell, place, "", qemu=f"#!/bin/sh\necho '{says}'\n[ -n \"$2\" ] && exit 3\n")
    assert code == 4, out
    assert ("qemu-system-x86_64 is older than 9.1" in out) == old
    assert ("booting " in out) == (not old), out
