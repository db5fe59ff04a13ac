# SPDX-License-Identifier: GPL-2.0-only
"""by-hand/ of a bundle: the sources of the order's modules, and the order as a shell script."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from bundle_samples import ANSWER, ARCH, VALUE, a_bench, a_result
from samples import an_answer

from orchestrator import catalog
from orchestrator.build.prepare import Bootable
from orchestrator.elf import reader, room
from orchestrator.elf.footprint import Footprint
from orchestrator.elf.writer import write
from orchestrator.model import words
from orchestrator.nouns import BuiltSet, CaseKind, ModuleSpec, Room
from orchestrator.repro import bundle, byhand, sources
from orchestrator.repro.story import Story
from orchestrator.verdicts import CaseResult, Check, CheckKind, Health, Shown, Sign

RACE = "+my_patch {+the_target my_patch=0}"


@pytest.fixture
def bootable(tmp_path: Path) -> Bootable:
    bench = a_bench(tmp_path / "cache")
    place = tmp_path / "cache" / "tiny"
    (place / "Kbuild").write_text(
        "# both\nobj-m := the_target.o my_patch.o spare.o\nmy_patch-y := patch.o more.o\n"
    )
    (place / "the_target.c").write_text('#include "target.h"\n')
    (place / "target.h").write_text('#include "../klp_e2e.h"\n')
    for name in ("patch.c", "more.c", "spare.c"):
        (place / name).write_text("#include <linux/module.h>\n")
    return bench


def made(
    bootable: Bootable, result: CaseResult, module_set: BuiltSet | None = None
) -> byhand.ByHand:
    built = module_set or bootable.sets["./tiny"]
    story = Story(result, ARCH, bootable.kernel, built, (1, 1), "QEMU", "b")
    return byhand.made(story, built.set.directory)


def with_module(built: BuiltSet, called: str, **changes: object) -> BuiltSet:
    specs = tuple(
        replace(spec, **changes) if spec.name == called else spec  # type: ignore[arg-type]
        for spec in built.set.modules
    )
    return replace(built, set=replace(built.set, modules=specs))


# --- what is built -------------------------------------------------------------------------------


def test_what_the_orders_modules_are_made_of_is_there_and_nothing_else(bootable: Bootable) -> None:
    files = made(bootable, a_result(ANSWER)).files
    assert {name for name in files if name.startswith(("src/", "klp_e2e"))} == {
        *("src/Kbuild", "src/the_target.c", "src/target.h", "src/patch.c", "src/more.c"),
        "klp_e2e.h",
    }
    kbuild = files["src/Kbuild"].decode().splitlines()[1:]
    assert kbuild == ["obj-m := the_target.o my_patch.o", "my_patch-y := patch.o more.o"]
    assert set(files["my_patch.changes"].decode().split()) == {
        f"the_target.{name},0" for name in ("target_fn", "target_var", "hidden")
    }
    makefile = files["Makefile"].decode()
    assert "\tcp src/the_target.ko the_target.ko\n" in makefile
    assert "klp-rela.py my_patch.changes src/my_patch.ko my_patch.ko\n" in makefile
    assert b"def convert" in files["klp-rela.py"]


def test_modules_that_the_order_does_not_load_are_left_out(bootable: Bootable) -> None:
    files = made(bootable, a_result(VALUE, order="+the_target")).files
    assert "src/patch.c" not in files and "klp-rela.py" not in files
    assert "my_patch" not in files["Makefile"].decode()


def test_a_kbuild_that_says_more_comes_whole(bootable: Bootable) -> None:
    place = bootable.sets["./tiny"].set.directory
    text = "obj-m := the_target.o my_patch.o\nccflags-y := -DMORE\n"
    (place / "Kbuild").write_text(text)
    (place / "old.o").write_text("")
    files = made(bootable, a_result(ANSWER)).files
    assert files["src/Kbuild"].decode() == text
    assert "src/spare.c" in files and "src/old.o" not in files


@pytest.mark.parametrize("name", sorted(catalog.module_sets()))
def test_each_of_our_sets_is_told_module_by_module(name: str) -> None:
    module_set = catalog.module_sets()[name]
    if not module_set.in_tree:
        found = sources.objects((module_set.directory / "Kbuild").read_text())
        assert found is not None
        assert {s.name for s in module_set.modules if not s.ours} == set(found)
        for part in (part for each in found.values() for part in each):
            assert (module_set.directory / part.replace(".o", ".c")).is_file()


def test_a_set_without_sources_has_none(bootable: Bootable) -> None:
    theirs = with_module(bootable.sets["./tiny"], "my_patch", ko="my_patch.ko")
    found = made(bootable, a_result(ANSWER), theirs)
    assert not found.files
    assert found.why_not == "my_patch: built elsewhere, and its sources are not here"


def test_a_module_that_was_broken_on_purpose_has_none(bootable: Bootable) -> None:
    result = a_result(ANSWER)
    result = replace(result, case=replace(result.case, kind=CaseKind.MALFORMED))
    assert "was broken after it was built" in made(bootable, result).why_not


def test_a_filler_of_ours_is_made_as_large(bootable: Bootable) -> None:
    built = with_module(bootable.sets["./tiny"], "the_target", kind="plain", room=Room())
    module = built.modules["the_target"]
    larger = room.enlarged(reader.read(module.path.read_bytes()), Footprint(8192, 0, 1, 64))
    module.path.write_bytes(write(larger))
    built = replace(
        built, modules={**built.modules, "the_target": replace(module, spec=built.set.modules[0])}
    )
    files = made(bootable, a_result(ANSWER), built).files
    assert files["the_target.changes"].decode().splitlines() == [
        "+.klp_e2e.text 0x6 8192",
        "+.data..ro_after_init 0x3 1",
        "+.klp_e2e.data 0x3 64",
    ]
    assert "init(the_target_init)" in files["src/the_target.c"].decode()
    assert files["src/Kbuild"].decode().splitlines()[-1] == "obj-m += the_target.o"


def test_the_kernels_own_modules_are_fetched_from_its_tree(bootable: Bootable) -> None:
    built = bootable.sets["./tiny"]
    built = replace(built, set=replace(built.set, in_tree="samples/livepatch"))
    files = made(bootable, a_result(ANSWER), built).files
    assert not [name for name in files if name.startswith("src/")]
    makefile = files["Makefile"].decode()
    assert "cp $(KDIR)/samples/livepatch/the-target.ko the_target.ko\n" in makefile
    assert "M=$(CURDIR)" not in makefile


def test_make_goes_by_the_makefile(bootable: Bootable, tmp_path: Path) -> None:
    """As make reads it, without a kernel."""
    files = made(bootable, a_result(ANSWER)).files
    place = put(files, tmp_path / "by hand")
    argv = ["make", "-n", "KDIR=/k", "MAKE=echo make"]
    told = subprocess.run(argv, cwd=place, check=True, capture_output=True, text=True).stdout
    assert f"make -C /k M={place}/src KBUILD_MODPOST_WARN=1 modules" in told


# --- what is done --------------------------------------------------------------------------------

ROOT = """
insmod() {
	: >begun
	[ "$1" != "$REFUSES" ] || { echo "insmod: $1: $WHY"; return 1; }
	case $1 in ./the_target.ko) [ ! -e loaded ] || return 1; : >loaded ;; esac
}
rmmod() { [ -n "$KEEPS" ] || rm loaded; }
dmesg() { echo "$BOOT"; [ ! -e begun ] || echo "$SAID"; [ -z "$FORBIDDEN" ]; }
cat() {
	case $1 in
	*/tainted) if [ -e begun ]; then echo "$TAINT"; else echo "$TAINTED"; fi ;;
	*) command cat "$@" ;;
	esac
}
sed() { case $* in */proc/cmdline) echo "mine quiet" ;; *) command sed "$@" ;; esac; }
"""


_ENV = dict.fromkeys(("KEEPS", "SAID", "BOOT", "REFUSES", "WHY", "FORBIDDEN"), "")
_ENV |= {"PATH": os.defpath, "TAINT": "36864", "TAINTED": "0"}


def put(files: Mapping[str, bytes], place: Path) -> Path:
    for name, content in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(content)
    return place


def carried_out(files: Mapping[str, bytes], place: Path, **env: str) -> tuple[int, str]:
    """(exit status, what it prints), with commands that do as a kernel might."""
    put(files, place)
    for name in ("the_target.ko", "my_patch.ko"):
        (place / name).write_text(f"\0vermagic={os.uname().release} SMP\0")
    (place / "sys" / "kernel" / "livepatch").mkdir(parents=True)
    script = files["order.sh"].decode().replace("/sys/", f"{place}/sys/")
    head, _, rest = script.partition("put() {")
    (place / "order.sh").write_text(f"{head}{ROOT}put() {{{rest}")
    told = subprocess.run(
        ["sh", "order.sh"],
        cwd=place,
        env=_ENV | env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return told.returncode, told.stdout + told.stderr


def test_a_refusal_is_reproduced_or_not(bootable: Bootable, tmp_path: Path) -> None:
    files = made(bootable, a_result(ANSWER)).files
    code, text = carried_out(files, tmp_path / "good")
    assert code == 0 and "NOT REPRODUCED" in text, text
    code, text = carried_out(files, tmp_path / "bad", KEEPS="yes")
    assert code == 1 and "\nREPRODUCED: 4. load the_target again: refused" in text, text
    assert "<-- expected: success" in text


def test_what_came_before_reproduces_nothing(bootable: Bootable, tmp_path: Path) -> None:
    """A refusal that was the model's, in an event before the failed one."""
    result = a_result(ANSWER, order="+the_target +the_target +my_patch")
    first, second, last = result.steps
    refused = replace(second, checks=(an_answer(expected=17, seen=17),))
    files = made(bootable, replace(result, steps=(first, refused, last))).files
    code, text = carried_out(files, tmp_path / "b")
    assert code == 0 and "expected:" not in text.split("# ---")[0], text


def test_one_error_instead_of_another_is_not_told(bootable: Bootable, tmp_path: Path) -> None:
    files = made(bootable, a_result(an_answer(expected=16, seen=8))).files
    code, text = carried_out(files, tmp_path / "b", KEEPS="yes")
    assert code == 4 and "../reproduce.sh can" in text


def test_a_value_is_reproduced_or_not(bootable: Bootable, tmp_path: Path) -> None:
    files = made(bootable, a_result(VALUE)).files
    for shown, wanted in (("it's 42", 0), ("0", 1)):
        place = tmp_path / str(wanted)
        (place / "sys/module/the_target/parameters").mkdir(parents=True)
        script = files["order.sh"].replace(b'[ ! -e "/sys/module/$module" ]', b"true")
        (place / "sys/module/the_target/parameters/show").write_text(f"{shown}\n")
        code, text = carried_out({**files, "order.sh": script}, place)
        assert code == wanted, text
        assert f"expected  it's 42\n  seen      {shown}\n" in text


@pytest.mark.parametrize("shown", [None, "0\nexit status 127"])
def test_a_guest_in_which_nothing_is_shown_is_no_verdict(
    bootable: Bootable, tmp_path: Path, shown: str | None
) -> None:
    """One that has not mounted debugfs, or has no such command."""
    files = made(bootable, a_result(VALUE)).files
    script = files["order.sh"].replace(b'[ ! -e "/sys/module/$module" ]', b"true")
    place = tmp_path / "b"
    (place / "sys/module/the_target/parameters").mkdir(parents=True)
    if shown is not None:
        (place / "sys/module/the_target/parameters/show").write_text(shown)
    code, text = carried_out({**files, "order.sh": script}, place)
    assert code == 4 and "not as it was then: shown is " in text, text
    files = made(bootable, a_result(words.shown(Shown("shown", "it's 42", shown)))).files
    script = files["order.sh"].replace(b'[ ! -e "/sys/module/$module" ]', b"true")
    (place / "begun").unlink()
    (place / "loaded").unlink()
    (place / "sys/kernel/livepatch").rmdir()
    assert carried_out({**files, "order.sh": script}, place)[0] == 1


def test_the_boot_command_line_is_that_of_whatever_guest_it_is(
    bootable: Bootable, tmp_path: Path
) -> None:
    built = bootable.sets["./tiny"]
    probe = replace(built.set.probes[0], original="it is {cmdline} ")
    theirs = replace(built, set=replace(built.set, probes=(probe,)))
    wrong = words.shown(Shown("shown", "it is console=x panic=-1", "0"))
    script = made(bootable, a_result(wrong), theirs).files["order.sh"]
    script = script.replace(b'[ ! -e "/sys/module/$module" ]', b"true")
    for shown, wanted in (("it is mine quiet", 0), ("0", 1)):
        place = tmp_path / str(wanted)
        (place / "sys/module/the_target/parameters").mkdir(parents=True)
        (place / "sys/module/the_target/parameters/show").write_text(f"{shown}\n")
        code, text = carried_out({"order.sh": script}, place)
        assert code == wanted and "expected  it is mine quiet\n" in text, text


def test_what_a_guest_refuses_for_its_own_reasons_is_no_verdict(
    bootable: Bootable, tmp_path: Path
) -> None:
    files = made(bootable, a_result(ANSWER, order="+my_patch")).files
    for number, why in enumerate(("Operation not permitted", "Required key not available")):
        refused = {"REFUSES": "./my_patch.ko", "WHY": why}
        code, text = carried_out(files, tmp_path / str(number), **refused)
        assert code == 4 and "signed modules only" in text, text
    refused = {"REFUSES": "./my_patch.ko", "WHY": "Invalid module format"}
    assert carried_out(files, tmp_path / "so", **refused)[0] == 1
    # busybox's grep looks at a line as far as its first NUL only
    assert b"tr '\\0' '\\n' <\"$module.ko\" | grep -qF" in files["order.sh"]
    older = {**files, "order.sh": files["order.sh"].replace(b"$(uname -r)", b"1.2.3")}
    code, text = carried_out(older, tmp_path / "older", **refused)
    assert code == 4 and "my_patch.ko is for another kernel" in text, text


def test_a_report_is_reproduced_or_not(bootable: Bootable, tmp_path: Path) -> None:
    found = Health(Sign.CONSOLE, ("BUG: unable to handle page fault",))
    check = words.health(found, "nothing")
    files = made(bootable, a_result(check)).files
    said = "[    9.0] BUG: unable to handle page fault for 0xffff77"
    assert carried_out(files, tmp_path / "bad", SAID=said)[0] == 1
    code, text = carried_out(files, tmp_path / "good")
    assert code == 0 and "may end this guest" in text
    # a kernel that says the like while it boots
    assert carried_out(files, tmp_path / "boot", BOOT=said)[0] == 0
    assert carried_out(files, tmp_path / "again", BOOT=said, SAID=said)[0] == 1
    code, text = carried_out(files, tmp_path / "forbidden", SAID=said, FORBIDDEN="yes")
    assert code == 4 and "dmesg shows nothing" in text, text


def test_taint_is_reproduced_or_not(bootable: Bootable, tmp_path: Path) -> None:
    check = words.health(Health(Sign.TAINT), "nothing", "512 (W)", good=False)
    files = made(bootable, a_result(check)).files
    assert carried_out(files, tmp_path / "good")[0] == 0
    assert carried_out(files, tmp_path / "bad", TAINT="37376")[0] == 1
    # what was there before is not of the order's making: staging drivers, a firmware's fault
    assert carried_out(files, tmp_path / "not-its", TAINT="38912", TAINTED="2048")[0] == 0
    code, text = carried_out(files, tmp_path / "before", TAINT="37376", TAINTED="512")
    assert code == 4 and "tainted before the order begins (512)" in text, text


def test_events_of_a_race_run_side_by_side(bootable: Bootable) -> None:
    result = a_result(an_answer(), VALUE, order=RACE)
    found = made(bootable, result)
    script = found.files["order.sh"].decode()
    assert " - insmod ./the_target.ko &\n" in script
    assert " - put 0 /sys/kernel/livepatch/my_patch/enabled &\nwait\n" in script
    assert "two shells seldom meet as closely" in found.otherwise[0]
    assert found.otherwise[0] in script


@pytest.mark.parametrize(
    ("order", "expected", "seen"),
    [
        (RACE, (0, 0), (8, 0)),
        ("+my_patch (+the_target)*2", (0, 17), (8, 17)),  # not the same each time
    ],
)
def test_an_answer_that_the_script_cannot_judge_is_no_verdict(
    bootable: Bootable,
    tmp_path: Path,
    order: str,
    expected: tuple[int, ...],
    seen: tuple[int, ...],
) -> None:
    """Of such steps it knows no expected answer, whatever the kernel does."""
    files = made(bootable, a_result(an_answer(expected, seen), order=order)).files
    for refuses in ("", "./the_target.ko"):
        code, text = carried_out(files, tmp_path / f"b{refuses[2:]}", REFUSES=refuses)
        assert code == 4 and "REPRODUCED" not in text, text
        assert "../reproduce.sh can" in text


def test_a_burst_is_a_loop(bootable: Bootable, tmp_path: Path) -> None:
    result = a_result(ANSWER, order="+my_patch (+the_target -the_target)*3")
    files = made(bootable, result).files
    code, text = carried_out(files, tmp_path / "good")
    assert code == 0 and "(3 of 3): success" in text, text
    assert carried_out(files, tmp_path / "bad", KEEPS="yes")[0] == 1


def test_a_bundle_with_it_is_replaced_only_as_it_was(bootable: Bootable, tmp_path: Path) -> None:
    place = tmp_path / "b"
    bundle.write(place, bootable, a_result(ANSWER), (1, 1))
    assert "by-hand/src/the_target.c" in bundle.read(place).record.files
    bundle.write(place, bootable, a_result(ANSWER), (1, 1))
    (place / "by-hand" / "the_target.ko").touch()
    assert bundle.place(tmp_path, "b") == tmp_path / "b-2"


def test_spec_of_ours_needs_no_kbuild() -> None:
    assert ModuleSpec("x", "plain", room=Room()).ours
    assert sources.objects("obj-m := a.o\n$(shell touch x)\n") is None


def test_steps_that_go_otherwise_than_they_did_are_no_verdict(
    bootable: Bootable, tmp_path: Path
) -> None:
    """A module of another kernel is refused, and nothing is patched."""
    for number, check in enumerate(
        (ANSWER, VALUE, words.health(Health(Sign.TAINT), "", good=False))
    ):
        files = made(bootable, a_result(check)).files
        code, text = carried_out(files, tmp_path / f"first{number}", REFUSES="./my_patch.ko")
        assert code == 4 and "not as it was then: 1. load my_patch" in text, text
    files = made(bootable, a_result(an_answer(), VALUE)).files
    code, text = carried_out(files, tmp_path / "last", KEEPS="yes")
    assert code == 4 and "not as it was then: 4. load the_target again: refused" in text, text


def test_what_shows_in_memory_only_is_left_to_the_other_script(
    bootable: Bootable, tmp_path: Path
) -> None:
    wrong = Check(CheckKind.RELOCATION, "my_patch .text+0xc", "right", "wrong", good=False)
    found = made(bootable, a_result(an_answer(), wrong))
    code, text = carried_out(found.files, tmp_path / "b")
    assert code == 4 and "../reproduce.sh reads it there" in text, text
    assert "reproduce.sh reads it there" in found.otherwise[0]
