# SPDX-License-Identifier: GPL-2.0-only
"""Bundles: what is written can be read, what was damaged is named, the script does the right events
and judges by what failed. Nothing is booted."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from bundle_samples import (
    ANSWER,
    ARCH,
    CRASH,
    ORDER,
    RUN,
    SUCCESS,
    VALUE,
    a_bench,
    a_result,
    change,
)
from samples import an_answer

from orchestrator import catalog, initramfs
from orchestrator.build import prepare
from orchestrator.build.prepare import Bootable
from orchestrator.commands import replay
from orchestrator.errors import Exit, HarnessError, MissingTool, UsageError
from orchestrator.host import tools
from orchestrator.model import judge, orders, words
from orchestrator.model.findings import signature
from orchestrator.model.known import Fails, KnownIssue
from orchestrator.nouns import Arch, Origin, SourcePatch
from orchestrator.repro import bundle, byhand
from orchestrator.repro import script as reproduce
from orchestrator.repro.readme import readme
from orchestrator.repro.story import Story
from orchestrator.run import signs
from orchestrator.verdicts import (
    CaseResult,
    Check,
    CheckKind,
    Expectation,
    Health,
    Modules,
    Observation,
    RelocationReading,
    RelocationState,
    Sign,
    Status,
    Step,
)
from orchestrator.vm.qemu import qemu_argv


@pytest.fixture
def bootable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bootable:
    monkeypatch.setattr(prepare, "qemu_version", lambda arch: "QEMU 7.2")
    return a_bench(tmp_path / "cache")


def script(bootable: Bootable, result: CaseResult) -> str:
    return reproduce.script(story(bootable, result))


def story(bootable: Bootable, result: CaseResult) -> Story:
    built = bootable.sets[result.case.module_set]
    return Story(result, bootable.arch, bootable.kernel, built, (3, 4), "QEMU 7.2", "it's b")


def readme_of(told: Story) -> str:
    return readme(told, byhand.made(told, told.built.set.directory))


def relocation_check(bootable: Bootable, state: RelocationState, raw: bytes = b"\1\2\3\4") -> Check:
    """A failed check of the first relocation, in judge's own words."""
    built = bootable.sets["./tiny"]
    readings = []
    for number, relocation in enumerate(built.modules["my_patch"].klp_relocations):
        now = raw if number == 0 else relocation.initial
        name = ARCH.relocation(relocation.type)
        assert name is not None
        reading = RelocationReading(
            "my_patch", relocation, name.name, 0x1000, now, 5, "", 0x2000, ""
        )
        readings.append(reading)
    expected = Expectation(
        (0,), frozenset({"my_patch"}), {}, {}, {("my_patch", "the_target"): state}
    )
    both = frozenset({"my_patch", "the_target"})
    seen = Observation((0,), both, {}, {}, tuple(readings), 0, "")
    before = replace(
        seen, relocations=tuple(replace(r, raw=r.relocation.initial) for r in readings)
    )
    checks = judge.judge_memory(expected, seen, before, built)
    return next(check for check in checks if not check.good)


# --- write and read ------------------------------------------------------------------------------


def test_what_is_written_is_read(bootable: Bootable, tmp_path: Path) -> None:
    place = tmp_path / "a bundle"
    result = a_result(ANSWER, VALUE)
    bundle.write(place, bootable, result, (3, 4))
    found = bundle.read(place)
    assert (found.record.order, found.case.order) == (ORDER, result.case.order)
    assert found.case.module_set == found.record.module_set == "tiny"
    assert found.record.failed_event == 3
    assert found.record.signature == signature(result)
    assert (found.record.first, found.record.failed) == (ANSWER, (ANSWER, VALUE))
    assert (found.record.repeated, found.record.tries) == (3, 4)
    assert found.bootable.kernel.capabilities == bootable.kernel.capabilities
    assert found.bootable.kernel.image.read_text() == "the image\n"
    built = found.bootable.sets["tiny"]
    assert [m.klp_relocations for m in built.modules.values()] == [
        m.klp_relocations for m in bootable.sets["./tiny"].modules.values()
    ]
    assert all(place in module.path.parents for module in built.modules.values())
    assert found.shown_by(result)
    assert not found.shown_by(replace(result, steps=result.steps[1:]))  # at another event
    assert not found.shown_by(a_result(replace(ANSWER, seen="ENOMEM (12)")))
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_what_an_edited_set_is_to_blame_for_is_not_told_as_the_kernels(
    bootable: Bootable, tmp_path: Path
) -> None:
    bundle.write(tmp_path / "b", bootable, a_result(ANSWER), (1, 1))
    found = bundle.read(tmp_path / "b")
    recorded = a_result(ANSWER)
    assert found.judged(recorded) == recorded
    kernels = a_result(replace(ANSWER, seen="ENOMEM (12)"))
    assert found.judged(kernels) == kernels
    without_livepatch = a_result(VALUE, order="+the_target")
    judged = found.judged(without_livepatch)
    assert judged.status is Status.ERROR and "likelier wrong than the kernel" in judged.reason
    assert bundle.replay_exit_code([judged]) is Exit.HARNESS


def test_what_it_was_judged_by_comes_along(bootable: Bootable, tmp_path: Path) -> None:
    """An issue of the user's own, too: `replay` names it, and goes by no list of its host's."""
    arch = bootable.arch.name
    mine = KnownIssue(
        "mine", "they know", "a mail", "", (arch,), CheckKind.ANSWER, errno="ENOEXEC",
        fails=(Fails("./tiny", "+the_target#2", cases=("reload",)),),
    )  # fmt: skip
    other = replace(mine, id="other", architectures=("elsewhere",))
    judged = replace(bootable, known_issues=(other, mine))
    result = replace(a_result(ANSWER), status=Status.KNOWN, known_issue="mine")
    bundle.write(tmp_path / "b", judged, result, (1, 1))
    text = (tmp_path / "b/README.md").read_text()
    assert text.startswith("# livepatch/x86: they know\n")
    assert "lists it as `mine`" in text and "\n    a mail\n" in text
    found = bundle.read(tmp_path / "b")
    assert [issue.id for issue in found.record.known_issues] == ["mine"]
    again = replace(result, case=found.case, status=Status.FAIL, known_issue="", reason="refused")
    assert found.compared(again) == "REPRODUCED  refused (known issue mine)"
    elsewhere = replace(again, steps=again.steps[1:])
    assert found.compared(elsewhere) == "FAILS OTHERWISE  refused"


def test_a_strangers_issue_that_nobody_can_judge_by_is_damage(
    bootable: Bootable, tmp_path: Path
) -> None:
    wrong = KnownIssue("i", "t", "r", "6.1", (bootable.arch.name,), CheckKind.HEALTH)
    bundle.write(tmp_path / "b", replace(bootable, known_issues=(wrong,)), a_result(ANSWER), (1, 1))
    with pytest.raises(UsageError, match="is damaged: known issue: reports: missing"):
        bundle.read(tmp_path / "b")


def test_an_architecture_that_is_none_of_ours_comes_along(
    bootable: Bootable, tmp_path: Path
) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(catalog.arch_file(ARCH.name).read_text())
    mine = catalog.arch(str(file))
    bundle.write(tmp_path / "bundle", replace(bootable, arch=mine), a_result(ANSWER), (1, 1))
    file.unlink()
    place = (tmp_path / "bundle").rename(tmp_path / "elsewhere")
    assert bundle.read(place).bootable.arch == replace(mine, file=place / "mine.toml")
    (place / "mine.toml").unlink()
    with pytest.raises(UsageError, match=r"is damaged: mine\.toml is missing"):
        bundle.read(place)


def test_the_keys_are_fresh_and_nobody_elses(bootable: Bootable, tmp_path: Path) -> None:
    keys = set()
    for name in ("one", "two"):
        place = tmp_path / name
        bundle.write(place, bootable, a_result(ANSWER), (1, 1))
        for private in ("id_ed25519", "known_hosts", "overlay.cpio"):
            assert (place / private).stat().st_mode & 0o777 == 0o600
        keys.add((place / "id_ed25519").read_text())
        # the parts of an initramfs stand at multiples of four bytes
        assert (place / "userland.cpio.gz").stat().st_size % 4 == 0
        overlay = (place / "overlay.cpio").read_bytes()
        assert overlay.startswith(b"070701")
        assert b"modules/tiny/my_patch.ko\0" in overlay
    assert len(keys) == 2


def test_a_bundle_appears_whole_or_not_at_all(bootable: Bootable, tmp_path: Path) -> None:
    place = tmp_path / "b"
    with pytest.raises(HarnessError, match="did not fail"):
        bundle.write(place, bootable, a_result(SUCCESS), (0, 1))
    bundle.write(place, bootable, a_result(ANSWER), (1, 1))
    with pytest.raises(HarnessError, match="No such file"):
        bundle.write(place, replace(bootable, userland=tmp_path / "none"), a_result(VALUE), (1, 1))
    assert bundle.read(place).record.first == ANSWER
    bundle.write(place, bootable, a_result(VALUE), (1, 1))
    assert bundle.read(place).record.first == VALUE
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b", "cache"]


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: flip(p / "kernel"), "kernel is not what was written"),
        (lambda p: flip(p / "modules" / "my_patch.ko"), "my_patch.ko is not what was written"),
        (lambda p: (p / "System.map").unlink(), "System.map is missing"),
        (lambda p: (p / "bundle.json").write_text("{"), "bundle.json is damaged"),
        (lambda p: (p / "bundle.json").unlink(), "is no bundle"),
        (lambda p: change(p, lambda r: r.update(format=2)), "format 2, this klp-e2e reads 1"),
        (lambda p: change(p, lambda r: r.pop("order")), "damaged at order"),
        (lambda p: change(p, lambda r: r.update(arch="vax")), "unknown architecture: vax"),
        (lambda p: change(p, lambda r: r["files"].pop("kernel")), "does not list kernel"),
    ],
)
def test_damage_is_named(
    bootable: Bootable, tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    place = tmp_path / "b"
    bundle.write(place, bootable, a_result(ANSWER), (1, 1))
    damage(place)
    with pytest.raises(UsageError, match=re.escape(message)) as caught:
        bundle.read(place)
    assert caught.value.hint


def test_replay_needs_the_emulator(
    bootable: Bootable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle.write(tmp_path / "b", bootable, a_result(ANSWER), (1, 1))
    monkeypatch.setattr(tools, "which", lambda program: None)
    with pytest.raises(MissingTool, match="qemu-system-x86_64 is not installed") as caught:
        replay.replay_bundle(bundle.read(tmp_path / "b"), 1, print)
    assert "apt-get install qemu-system-x86" in caught.value.hint


@pytest.mark.parametrize(
    ("statuses", "code"),
    [
        ("FAIL PASS", Exit.TEST_FAILURE),
        ("FAIL ERROR", Exit.TEST_FAILURE),
        ("PASS ERROR", Exit.HARNESS),
        ("PASS PASS", Exit.GOOD),
    ],
)
def test_exit_code_of_replays(statuses: str, code: Exit) -> None:
    results = [replace(a_result(), status=Status(word)) for word in statuses.split()]
    assert bundle.replay_exit_code(results) is code


# --- the script ----------------------------------------------------------------------------------


@pytest.mark.parametrize("arch", catalog.arches().values(), ids=lambda arch: arch.name)
def test_qemu_is_started_as_it_was_but_elsewhere(arch: Arch) -> None:
    argv = qemu_argv(arch, Path(RUN) / "bzImage", Path(RUN), cmdline="a b", debug=True)
    options = reproduce.portable(argv)
    words = [word for option in options for word in option]
    assert not [word for word in words if "/tmp" in word or "z/" in word]
    assert ("-kernel", "kernel") in options and ("-initrd", "initrd") in options
    assert ("-chardev", "file,id=console,path=console.log") in options
    assert ("-chardev", "socket,id=agent,path=agent.sock,server=on,wait=off") in options
    # what the guest sees is the same
    asked = list(itertools.pairwise(argv))
    for option in ("-machine", "-m", "-smp", "-append", "-device", "-netdev", "-serial"):
        assert [o for o in options if o[0] == option] == [o for o in asked if o[0] == option]
    assert not {"-accel", "-cpu", "-blockdev", "-mon", "-gdb"} & set(words)


def test_events_are_requests_with_what_is_expected(bootable: Bootable) -> None:
    order = (
        "+my_patch {+the_target -my_patch} (-the_target +the_target[word=it's])*50 "
        "my_patch=0 the_target.word=a\\b"
    )
    text = script(bootable, a_result(ANSWER, order=order))
    events = [shlex.split(line) for line in text.splitlines() if line.startswith("event ")]
    assert [words[1] for words in events] == [
        orders.format_event(event) for event in orders.parse(order).events
    ]
    assert {words[2] for words in events} == {"success"}
    requests = [words[5:] for words in events]
    assert requests == [
        ["load /modules/tiny/my_patch.ko"],
        ["race 2 load /modules/tiny/the_target.ko 2 unload my_patch"],
        ["unload the_target", "load /modules/tiny/the_target.ko word=it%27s"],
        ["write /sys/kernel/livepatch/my_patch/enabled 0"],
        ["write /sys/module/the_target/parameters/word a%5cb"],
    ]
    assert [words[3] for words in events] == ["1", "1", "50", "1", "1"]
    assert "8) name='ENOEXEC (8)' ;;" in text


@pytest.mark.parametrize(
    ("checks", "judgement"),
    [
        ((ANSWER, VALUE), "[ \"$text\" != 'ENOEXEC (8)' ] || reproduced"),
        ((SUCCESS, VALUE), "[ \"$value\" = 'it'\"'\"'s 42' ] || reproduced"),
        ((SUCCESS, CRASH), "! grep -e 'BUG: unable to handle page fault for .*' console.log"),
        (
            (an_answer((0,) * 9, (*[0] * 6, 5, 0, 5)),),
            'text=$(echo "$numbers" | awk \'{ print $7 }\')\ndescribe "$text"\n'
            "[ \"$text\" != 'EIO (5)' ]",
        ),
        (
            (words.modules(Modules(("my_patch",), ())),),
            '[ "$said" = my_patch ] || reproduced',
        ),
        (
            (words.health(Health(Sign.TAINT), "nothing", "512 (W)", good=False),),
            f"$((taint & ~{judge.ALLOWED_TAINT})) -eq 0 ] || reproduced",
        ),
        (
            (words.health(Health(Sign.LIVEPATCH_TAINT), "32768 (K)", "0", good=False),),
            "[ \"$said\" = '32768 (K)' ] || reproduced",
        ),
        (
            (words.health(Health(Sign.MEMORY), "at most 64 kB", "900 kB more", good=False),),
            "trouble 'this cannot be judged by a script",
        ),
    ],
)
def test_it_is_judged_by_what_failed_first(
    bootable: Bootable, checks: tuple[Check, ...], judgement: str
) -> None:
    assert judgement in script(bootable, a_result(*checks))


def test_a_symbol_that_its_object_lacks_is_at_no_place(bootable: Bootable) -> None:
    """The script then looks for it where it is not either, among the kernel's own."""
    built, check = bootable.sets["./tiny"], relocation_check(bootable, RelocationState.UNRELOCATED)
    bare = replace(built.modules["the_target"], symbols={})
    without = replace(built, modules={**built.modules, "the_target": bare})
    found = signs.field(ARCH, without, Step("+the_target", (check,), 0.0, 0.0, 1))
    assert found is not None and found.symbol_section == ""


def test_a_guest_that_ended_without_a_word_is_to_end_again(bootable: Bootable) -> None:
    ended = replace(CRASH, seen="QEMU: SHUTDOWN guest-reset")
    text = script(bootable, replace(a_result(SUCCESS, ended), console="livepatch: enabling\n"))
    assert 'lives "$qemu" || reproduced' in text
    assert "grep -q -e" not in text


@pytest.mark.parametrize(
    ("state", "judgement"),
    [
        (RelocationState.APPLIED, '[ "$leads" = "$symbol" ] && [ -z "$beside" ]; } || reproduced'),
        (RelocationState.UNRELOCATED, '[ "$bytes" = 00000000 ] || reproduced'),
        (
            RelocationState.STALE,
            '[ "$bytes" = "$before" ] || [ "$bytes" = 00000000 ] || reproduced',
        ),
    ],
)
def test_a_relocation_is_judged_by_its_bytes_where_no_value_shows_it(
    bootable: Bootable, state: RelocationState, judgement: str
) -> None:
    check = relocation_check(bootable, state)
    alone = script(bootable, a_result(check))
    assert judgement in alone
    assert 'at=$(( $(cat "$place") + 12 ))' in alone  # the sample's first call, .text+0xc
    with_value = script(bootable, a_result(check, VALUE))
    assert judgement not in with_value
    assert '[ "$value" = ' in with_value and check.subject in with_value


def test_a_table_that_the_kernel_has_sorted_is_read_by_no_shell(bootable: Bootable) -> None:
    """It would find another entry there, and a right kernel would be REPRODUCED."""
    built = bootable.sets["./tiny"]
    check = relocation_check(bootable, RelocationState.APPLIED)
    module = built.modules["my_patch"]
    entries = tuple(replace(entry, table=32) for entry in module.klp_relocations)
    modules = {**built.modules, "my_patch": replace(module, klp_relocations=entries)}
    step = Step("+x", (check,), 0, 0, 0)
    assert signs.field(ARCH, built, step) is not None
    assert signs.field(ARCH, replace(built, modules=modules), step) is None


def test_a_field_is_read_as_the_table_says(bootable: Bootable) -> None:
    built = bootable.sets["./tiny"]
    check = relocation_check(bootable, RelocationState.APPLIED)
    field = signs.field(ARCH, built, Step("+x", (check,), 0, 0, 0))
    assert field is not None
    assert (field.section, field.offset, field.size, field.initial) == (".text", 12, 4, "00000000")
    assert (field.bits.value, field.bits.runs) == ("x - p", ((0, "0xffffffff", 0),))
    assert (field.bits.top_bit, field.outer, field.inner) == ("0x80000000", -4, 0)
    assert (field.object, field.symbol_section, field.symbol_offset) == ("the_target", ".text", 16)
    assert field.little


def test_a_pattern_finds_its_line_with_other_numbers() -> None:
    line = "BUG: [x]* at /a.c:17 page fault for ffffffffc0271052 (0x1f) $5^"
    pattern = signs.pattern(line)
    assert re.search(pattern, line.replace("17", "9").replace("c0271052", "c0350000"))
    assert not re.search(pattern, line.replace("page", "cage"))
    assert not re.search(pattern, line.replace("a.c", "aXc"))


# --- README --------------------------------------------------------------------------------------


def test_the_readme_tells_all(bootable: Bootable) -> None:
    text = readme_of(story(bootable, a_result(ANSWER, VALUE)))
    for told in (
        "# livepatch/x86: loading the_target again: ENOEXEC (8)",
        "`that-one`",
        "1. load `my_patch` (a livepatch for target_fn of the_target)\n",
        "4. load `the_target` again: **ENOEXEC (8)**, expected: success <- here",
        "Step 4 below is answered with ENOEXEC (8) instead of success.",
        "Seen in 3 of 4 cold boots",
        "1 more check failed with it, as with any target that is refused",
        "no patches on top of debian:6.1",
        "debian:6.1, version 6.1.192-2",
        "gcc 12.2",
        "QEMU 7.2",
        "arch/x86/kernel/module",
        "klp-e2e replay -n 10 'it'\"'\"'s b'",
        "./reproduce.sh",
    ):
        assert told in text


def test_events_after_the_failure_are_told_as_not_reached(bootable: Bootable) -> None:
    result = a_result(ANSWER)
    longer = orders.parse(f"{ORDER} -the_target")
    result = replace(result, case=replace(result.case, order=longer))
    assert "follows `-the_target`, which was not reached" in readme_of(story(bootable, result))
    assert script(bootable, result).count("\nevent ") == 4


def test_the_userland_stays_as_it_is_but_for_padding() -> None:
    assert initramfs.stack(b"12345", b"") == b"12345\0\0\0"


def test_what_lies_behind_a_link_goes_into_no_bundle(tmp_path: Path) -> None:
    """A bundle is sent to others."""
    (tmp_path / "secret").write_text("mine")
    made = tmp_path / "set"
    (made / "sub").mkdir(parents=True)
    (made / "sub" / "a.c").write_text("x")
    (made / "NOTES").symlink_to(tmp_path / "secret")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "b.c").write_text("mine")
    (made / "linked").symlink_to(tmp_path / "elsewhere")
    with (made / "huge").open("wb") as file:
        file.truncate(65 << 20)
    bundle._copy_set(made, tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").rglob("*") if p.is_file()] == ["a.c"]


def test_of_a_set_that_others_built_only_the_modules_go_into_a_bundle(
    bootable: Bootable, tmp_path: Path
) -> None:
    """Its .ko files may lie in a home directory, and a bundle is sent to others."""
    built = bootable.sets["./tiny"]
    home = built.set.directory
    (home / "letters").mkdir()
    (home / "letters" / "to-the-bank.txt").write_text("mine")
    (home / "passwords.txt").write_text("mine")
    specs = tuple(replace(spec, ko=f"{spec.name}.ko") for spec in built.set.modules)
    given = replace(built, set=replace(built.set, modules=specs))
    place = tmp_path / "b"
    bundle.write(place, replace(bootable, sets={"./tiny": given}), a_result(ANSWER), (1, 1))
    assert [p.name for p in (place / "set").rglob("*")] == ["set.toml"]
    assert sorted(p.name for p in (place / "modules").iterdir()) == ["my_patch.ko", "the_target.ko"]
    assert bundle.read(place).shown_by(a_result(ANSWER))


def built_of(bootable: Bootable, *patches: SourcePatch) -> Bootable:
    """Its livepatch is a builder's."""
    built = bootable.sets["./tiny"]
    specs = tuple(replace(spec, ko=f"{spec.name}.ko") for spec in built.set.modules)
    origin = Origin("klp-build", "7.3.4", patches, ("f: left out",), replace=False)
    made = replace(built, set=replace(built.set, modules=specs, origin=origin))
    return replace(bootable, sets={"./tiny": made})


def test_the_source_patch_of_a_livepatch_goes_into_a_bundle(
    bootable: Bootable, tmp_path: Path
) -> None:
    fix, home = b"--- a/f.c\n", bootable.sets["./tiny"].set.directory
    (home / "fix.patch").write_bytes(fix)
    mine = built_of(bootable, SourcePatch("fix.patch", hashlib.sha256(fix).hexdigest()))
    place = tmp_path / "b"
    bundle.write(place, mine, a_result(ANSWER), (1, 1))
    assert (place / "set/fix.patch").read_bytes() == fix
    text = (place / "README.md").read_text()
    assert "- `my_patch`: klp-build 7.3.4 built it of set/fix.patch; klp relocations: " in text
    again = "klp-e2e livepatch set/fix.patch --arch x86_64 --kernel debian:6.1 --no-replace"
    assert f"\n    {again} --builder klp-build\n" in text
    assert "set/fix.patch" in json.loads((place / "bundle.json").read_text())["files"]
    assert bundle.read(place).shown_by(a_result(ANSWER))


@pytest.mark.parametrize("kind", ["another", "link", "gone", "huge"])
def test_what_is_no_longer_the_source_patch_goes_into_no_bundle(
    kind: str, bootable: Bootable, tmp_path: Path
) -> None:
    """A bundle is sent to others."""
    fix, home = b"mine\n", bootable.sets["./tiny"].set.directory
    (tmp_path / "secret").write_bytes(fix)
    if kind == "another":
        (home / "fix.patch").write_bytes(b"changed\n")
    elif kind == "link":
        (home / "fix.patch").symlink_to(tmp_path / "secret")
    elif kind == "huge":
        with (home / "fix.patch").open("wb") as file:
            file.truncate(65 << 20)
    mine = built_of(bootable, SourcePatch("fix.patch", hashlib.sha256(fix).hexdigest()))
    bundle.write(tmp_path / "b", mine, a_result(ANSWER), (1, 1))
    assert [p.name for p in (tmp_path / "b" / "set").rglob("*")] == ["set.toml"]


def test_of_several_source_patches_no_line_builds_the_livepatch(bootable: Bootable) -> None:
    patches = (SourcePatch("a-1.patch", "0" * 64), SourcePatch("a-2.patch", "1" * 64))
    text = readme_of(story(built_of(bootable, *patches), a_result(ANSWER)))
    assert "of set/a-1.patch, set/a-2.patch" in text and "Built again" not in text


def test_the_readme_tells_what_a_maintainer_would_ask(bootable: Bootable, tmp_path: Path) -> None:
    issue = KnownIssue(
        id="stale",
        title="a slot is stale",
        reference="arch/x/kernel/module.c, apply()",
        kernels="<7.4",
        architectures=(ARCH.name,),
        kind=CheckKind.ANSWER,
        without_series=("mended",),
    )
    known = replace(bootable, known_issues=(issue,))
    value = replace(VALUE, expected="version=p call=8 read=42", seen="version=p call=8 read=0")
    result = replace(a_result(ANSWER, value), known_issue="stale")
    bundle.write(tmp_path / "bundle", known, result, (1, 1))
    text = (tmp_path / "bundle" / "README.md").read_text()
    assert "# livepatch/x86: a slot is stale\n" in text
    assert "\n    arch/x/kernel/module.c, apply()\n" in text
    assert "for kernels `<7.4`; it is gone with the patches of its series `mended`." in text
    assert "- `my_patch`: its source is in set/; klp relocations: " in text
    assert re.search(r"klp relocations: \d+ R_X86\\?_64\\?_\w+ for the_target", text)
    assert "scripts/get_maintainer.pl -f kernel/livepatch/core.c arch/x86/kernel/module*.c" in text
    assert "differs" not in readme_of(story(bootable, a_result(ANSWER)))
    everywhere = replace(
        story(bootable, result), issue=replace(issue, kernels="", without_series=())
    )
    assert "lists it as `stale` for every kernel.\n" in readme_of(everywhere)


def test_the_readme_names_the_place_in_the_source(bootable: Bootable) -> None:
    """The inmost frames of an oops; else the function that writes relocations."""
    said = "BUG: kernel NULL pointer dereference, address: 0\n"
    said += "RIP: 0010:klp_patch_object+0x12/0x90\nCall Trace:\n klp_module_coming+0x1/0x2\n"
    crash = replace(a_result(words.dead("BUG in klp_patch_object")), console=said)
    text = readme_of(story(bootable, crash))
    assert "\n    klp_patch_object, klp_module_coming: the inmost frames" in text
    assert "\n    BUG: kernel NULL pointer dereference, address: 0\n    RIP: " in text
    quiet = replace(a_result(ANSWER), console="")
    assert "\n    arch/x86/kernel/module.c, apply_relocate_add(): " in readme_of(
        story(bootable, quiet)
    )
    other = replace(bootable, arch=replace(bootable.arch, loader=""))
    assert "\n    arch/x86/kernel/, apply_relocate_add(): " in readme_of(story(other, quiet))


def test_the_readme_tells_a_relocation_field_by_field(bootable: Bootable) -> None:
    wrong = relocation_check(bootable, RelocationState.APPLIED)
    text = readme_of(story(bootable, a_result(wrong, VALUE)))
    assert "After step 4 below, 1 klp relocation is wrong." in text
    for line in (
        r"    relocation  R_X86_64_\w+ \(\d+\) at \.text\+0x\w+ of my_patch",
        r"    symbol      target_fn of the_target, sympos 0",
        r"    in the \.ko  bytes 00 00 00 00",
        r"    seen        bytes 01 02 03 04, leading to 0x5",
        r"    expected    that it leads to the symbol, at 0x2000",
        r"    value: /sys/module/the_target/parameters/show, of target_fn",
    ):
        assert re.search(f"(?m)^{line}$", text), (line, text)
