# SPDX-License-Identifier: GPL-2.0-only
"""Bundles of strangers, and names that guests and modules make up: nothing outside of a bundle is
read, written, removed or started, and nothing in a text is more than text."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shlex
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from bundle_samples import (
    ANSWER,
    ARCH,
    EVIL,
    SET,
    VALUE,
    a_bench,
    a_result,
    change,
    hostile,
    script_reading,
)
from test_report import a_run

from orchestrator import catalog
from orchestrator.build import prepare
from orchestrator.build.prepare import Bootable
from orchestrator.commands import minimise
from orchestrator.errors import HarnessError, UsageError
from orchestrator.host import ours, workdir
from orchestrator.model import words
from orchestrator.nouns import Case, Order
from orchestrator.report import reproduce
from orchestrator.report.directory import ResultsDirectory
from orchestrator.report.progress import Reporter
from orchestrator.report.terminal import Terminal
from orchestrator.repro import bundle, byhand, record, script
from orchestrator.repro.readme import readme
from orchestrator.repro.story import Story
from orchestrator.run import booting, signs
from orchestrator.verdicts import Health, Run, Sign
from orchestrator.vm import agent


@pytest.fixture
def bootable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bootable:
    monkeypatch.setattr(prepare, "qemu_version", lambda arch: "QEMU 7.2")
    return a_bench(tmp_path / "cache")


@pytest.fixture
def place(bootable: Bootable, tmp_path: Path) -> Path:
    found = tmp_path / "b"
    bundle.write(found, bootable, a_result(ANSWER), (1, 1))
    return found


def tree(directory: Path) -> dict[str, str]:
    """Everything below a directory: files with their content, links with where they lead."""
    return {
        str(path.relative_to(directory)): str(path.readlink())
        if path.is_symlink()
        else hashlib.sha256(path.read_bytes()).hexdigest()
        if path.is_file()
        else ""
        for path in directory.rglob("*")
    }


def put(place: Path, name: str, data: bytes) -> None:
    """A file of a bundle with its sha256 put right, as anybody can who makes one."""
    (place / name).parent.mkdir(parents=True, exist_ok=True)
    (place / name).write_bytes(data)
    change(place, lambda r: r["files"].update({name: hashlib.sha256(data).hexdigest()}))


# --- what stands where a bundle is to go ---------------------------------------------------------


def notes(place: Path) -> None:
    (place / "notes.txt").write_text("what I found out")


def hidden_notes(place: Path) -> None:
    (place / "set" / ".mine.swp").write_text("what I found out")


def edited(place: Path) -> None:
    with (place / "reproduce.sh").open("a") as file:
        file.write("# tried with my fix\n")


def another_kernel(place: Path) -> None:
    """As README says: with its sha256 changed as well."""
    put(place, "kernel", b"with my fix")
    (place / "tried").mkdir()


def unmarked(place: Path) -> None:
    (place / ours.MARK).unlink()


def no_record(place: Path) -> None:
    (place / record.RECORD).unlink()


def foreign_record(place: Path) -> None:
    (place / record.RECORD).write_text('{"format": 1, "mine": true}')


def linked_record(place: Path) -> None:
    file = place / record.RECORD
    file.rename(place.parent / "theirs.json")
    file.symlink_to(place.parent / "theirs.json")


def strangers(place: Path) -> None:
    shutil.rmtree(place)
    (place / "important").mkdir(parents=True)
    (place / "important" / "thesis").write_text("years of work")


def a_file(place: Path) -> None:
    shutil.rmtree(place)
    place.write_text("no directory")


CHANGES = [notes, hidden_notes, edited, another_kernel, unmarked, no_record, foreign_record]
CHANGES += [linked_record, strangers, a_file]


@pytest.mark.parametrize("changed", CHANGES)
def test_what_somebody_has_put_there_stays(
    bootable: Bootable, place: Path, tmp_path: Path, changed: Callable[[Path], None]
) -> None:
    changed(place)
    before = tree(tmp_path)
    with pytest.raises(UsageError, match="no bundle that is as klp-e2e wrote it") as caught:
        bundle.write(place, bootable, a_result(VALUE), (1, 1))
    assert "-o DIR" in caught.value.hint
    assert tree(tmp_path) == before
    beside = bundle.place(tmp_path, "b")
    assert beside == tmp_path / "b-2"
    bundle.write(beside, bootable, a_result(VALUE), (1, 1))
    after = tree(tmp_path)
    assert {name: after[name] for name in before} == before
    assert bundle.read(beside).record.first == VALUE


def test_a_bundle_as_we_wrote_it_is_replaced(
    bootable: Bootable, place: Path, tmp_path: Path
) -> None:
    assert bundle.place(tmp_path, "b") == place
    bundle.write(place, bootable, a_result(VALUE), (1, 1))
    assert bundle.read(place).record.first == VALUE
    assert ours.marked(place, ours.MarkKind.BUNDLE)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b", "cache"]


def test_a_link_is_followed_and_stays(bootable: Bootable, tmp_path: Path) -> None:
    victim, link = tmp_path / "victim", tmp_path / "link"
    strangers_dir = victim / "important"
    strangers_dir.mkdir(parents=True)
    link.symlink_to(victim)
    with pytest.raises(UsageError, match="is not empty"):
        bundle.write(link, bootable, a_result(ANSWER), (1, 1))
    strangers_dir.rmdir()
    bundle.write(link, bootable, a_result(ANSWER), (1, 1))  # it was empty
    assert link.readlink() == victim
    assert bundle.read(victim).record.first == ANSWER


def test_a_place_that_cannot_be_one_is_refused(bootable: Bootable, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    os.mkfifo(tmp_path / "pipe")
    before = {*tmp_path.iterdir()}
    for name in ("file", "file/b", "file/b/c", "loop", "loop/b", "pipe", "."):
        with pytest.raises(UsageError) as caught:
            bundle.write(tmp_path / name, bootable, a_result(ANSWER), (1, 1))
        assert "-o DIR" in caught.value.hint
    assert {*tmp_path.iterdir()} == before


def test_a_private_directory_stays_private(bootable: Bootable, tmp_path: Path) -> None:
    place = tmp_path / "b"
    place.mkdir(mode=0o700)
    for check in (ANSWER, VALUE):
        bundle.write(place, bootable, a_result(check), (1, 1))
        assert place.stat().st_mode & 0o777 == 0o700


def test_a_full_disk_leaves_what_was_there(
    bootable: Bootable, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(directory: Path) -> dict[str, str]:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = tree(tmp_path)
    monkeypatch.setattr(record, "digests", full)
    with pytest.raises(HarnessError, match="No space left"):
        bundle.write(place, bootable, a_result(VALUE), (1, 1))
    assert tree(tmp_path) == before


def test_what_comes_while_a_bundle_is_written_stays(
    bootable: Bootable, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def noted(story: Story, by_hand: byhand.ByHand) -> str:
        notes(place)
        return "text"

    monkeypatch.setattr(bundle, "readme", noted)
    with pytest.raises(UsageError):
        bundle.write(place, bootable, a_result(VALUE), (1, 1))
    assert (place / "notes.txt").exists()
    assert sorted(p.name for p in place.parent.iterdir()) == ["b", "cache"]


def test_minimise_refuses_a_place_before_it_does_anything(tmp_path: Path) -> None:
    (tmp_path / "out" / "important").mkdir(parents=True)
    with pytest.raises(UsageError, match="is not empty"):
        minimise.minimise_failure(tmp_path, "x", 1, tmp_path / "out", 1, Reporter(Terminal()))


def test_minimise_writes_through_no_link(tmp_path: Path) -> None:
    with ResultsDirectory(tmp_path / "r", a_run(1)) as writer:
        case = writer.add(a_result(VALUE)).case
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "r" / "findings").symlink_to(tmp_path / "elsewhere")
    name = f"{a_result(VALUE).arch}/{case.module_set}/{case.name}"
    with pytest.raises(ours.NotOurs, match="leads elsewhere"):
        minimise.minimise_failure(tmp_path / "r", name, 1, None, 1, Reporter(Terminal()))
    assert not any((tmp_path / "elsewhere").iterdir())


def test_the_working_directory_is_not_replaced(
    bootable: Bootable, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place / "set")
    with pytest.raises(UsageError, match="holds the working directory"):
        bundle.write(place, bootable, a_result(VALUE), (1, 1))


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("x86_64", "basic"), "x86_64-basic"),
        (("x86_64", "in/g/liar/"), "x86_64-liar"),
        (("x86_64", "/home/me/my set", "order-1"), "x86_64-my_set-order-1"),
        (("x86_64", "..", "../../x"), "x86_64-..-.._.._x"),
        (("x86_64", "a\nb", "c/d"), "x86_64-a_b-c_d"),
    ],
)
def test_a_bundle_is_called_by_the_sets_last_part(words: tuple[str, ...], name: str) -> None:
    assert bundle.name(*words) == name
    assert len(bundle.name(*words, "y" * 500)) <= 100


# --- what a bundle says --------------------------------------------------------------------------


PATHS = ("../x", "/etc/hostname", "a/../../x", "set/../../x", "./x", "a//b", "a\nb", "a\x1b", "..")


@pytest.mark.parametrize("name", [*PATHS, "x" * 5000, ""])
def test_a_path_out_of_a_bundle_is_refused(place: Path, name: str) -> None:
    change(place, lambda r: r["files"].update({name: "0" * 64}))
    with pytest.raises(UsageError, match=r"bundle\.json is damaged at files\.") as caught:
        bundle.read(place)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("arch", value) for value in ("../evil", "/x/evil.toml", "evil.toml", "", "a\nb", "a b")),
        *(("module_set", value) for value in ("..", ".", "", "a/b", "../../x", "a\nb", "\x1b[2J")),
        *((key, "a\nb") for key in ("name", "why", "known_issue", "qemu_version")),
        *((key, "\x1b]0;PWNED\x07") for key in ("name", "why", "known_issue", "qemu_version")),
        *((key, -1) for key in ("failed_event", "repeated", "tries")),
        # in less time than a right kernel takes, whatever it does is not done
        *(("time_scale", value) for value in (0.01, 0.99, -1.0, 61.0, "nan")),
        ("files", {f"f{number}": "0" * 64 for number in range(10_001)}),
        ("files", {"kernel": "not a digest"}),
        *(("order", value) for value in ("\x1b[2J", "+my_patch\u202e", "+my_patch " * 20_000)),
    ],
)
def test_what_a_bundle_calls_itself_is_checked(place: Path, key: str, value: object) -> None:
    change(place, lambda r: r.update({key: value}))
    with pytest.raises(UsageError, match=rf"bundle\.json is damaged at {key}") as caught:
        bundle.read(place)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("key", ["source", "source_version", "release", "compiler", "key"])
def test_what_it_calls_its_kernel_is_checked(place: Path, key: str) -> None:
    change(place, lambda r: r["kernel"].update({key: "6.1\x1b[2J\n::error::pwn"}))
    with pytest.raises(UsageError, match=rf"is damaged at kernel\.{key}: ") as caught:
        bundle.read(place)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["kernel", "modules/my_patch.ko", "set/set.toml", "console.log"])
@pytest.mark.parametrize("kind", ["link", "pipe", "directory", "link above"])
def test_only_ordinary_files_are_opened(place: Path, tmp_path: Path, name: str, kind: str) -> None:
    path, elsewhere = place / name, tmp_path / "elsewhere"
    if kind == "link above":
        if path.parent == place:
            return
        path.parent.rename(elsewhere)
        path.parent.symlink_to(elsewhere)
    else:
        path.rename(elsewhere)
        match kind:
            case "link":
                path.symlink_to(elsewhere)
            case "pipe":
                os.mkfifo(path)
            case "directory":
                path.mkdir()
    with pytest.raises(UsageError, match=f"(is no ordinary file|a link leads to {name})"):
        bundle.read(place)


@pytest.mark.parametrize("name", ["kernel", "userland.cpio.gz", "System.map"])
def test_a_file_of_a_size_that_nobody_can_hold_is_not_read(
    place: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (place / name).open("r+b") as file:
        file.truncate(3 << 30)  # sparse
    monkeypatch.setattr(workdir, "file_digest", lambda path: pytest.fail("it was read"))
    with pytest.raises(UsageError, match=f"{name} is larger than any such file"):
        bundle.read(place)


@pytest.mark.parametrize(
    "text", ["[" * 200_000, '{"format": NaN}', '{"format": 1, "format\x1b": 2}', "\xff", "9" * 5000]
)
def test_a_record_that_is_none(place: Path, text: str) -> None:
    (place / record.RECORD).write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError, match=r"damaged|format") as caught:
        bundle.read(place)
    assert str(caught.value).isprintable()
    (place / record.RECORD).unlink()
    os.mkfifo(place / record.RECORD)
    with pytest.raises(UsageError, match="no regular file"):
        bundle.read(place)


def test_it_starts_no_program_of_its_own(place: Path) -> None:
    evil = (
        catalog.arch_file(ARCH.name)
        .read_text()
        .replace('qemu = "qemu-system-x86_64"', f'qemu = "{place}/evil.sh"')
    )
    put(place, "evil.sh", b"#!/bin/sh\ntouch pwned\n")
    put(place, "evil.toml", evil.encode())
    change(place, lambda r: r.update(arch="evil"))
    with pytest.raises(UsageError, match=r"evil\.toml: qemu: must be qemu-system-"):
        bundle.read(place)
    mine = evil.replace(f"{place}/evil.sh", "qemu-system-x86_64")
    put(place, "evil.toml", mine.replace("qemu_args = []", 'qemu_args = ["-S"]').encode())
    with pytest.raises(UsageError, match="qemu_args: '-S'"):
        bundle.read(place)
    put(place, "evil.toml", mine.encode())
    assert bundle.read(place).bootable.arch.qemu == "qemu-system-x86_64"


@pytest.mark.parametrize("name", ["../../../elsewhere", "/etc/hostname", "a\nb", "a b", ""])
def test_a_module_is_called_as_a_module(place: Path, name: str) -> None:
    text = SET.replace('"the_target"', shlex.quote(name).replace("'", '"')).encode()
    put(place, "set/set.toml", text.replace(b'\n"', b'\\n"'))
    with pytest.raises(UsageError, match=r"set\.toml"):
        bundle.read(place)


def test_a_module_that_is_not_listed_is_not_read(place: Path) -> None:
    put(place, "set/set.toml", SET.replace('name = "the_target"', 'name = "other"').encode())
    (place / "modules" / "other.ko").write_bytes(b"")
    with pytest.raises(UsageError, match=r"(does not list modules/other\.ko|set has no module)"):
        bundle.read(place)


def test_what_a_terminal_obeys_is_not_shown(place: Path) -> None:
    evil = {"event": EVIL, "kind": EVIL, "detail": EVIL}
    change(place, lambda r: r.update(signature=evil))
    found = bundle.read(place)
    again = replace(a_result(ANSWER), case=found.case, reason=EVIL)  # as `replay` runs it
    shown = (found.heading, found.compared(again))
    for text in shown:
        assert text.replace("\n", "").isprintable(), text
    assert len(found.heading.splitlines()) == 3


def test_a_symbol_map_of_a_strangers_is_read_or_refused() -> None:
    names = {"_text", "printk"}
    good = "ffffffff81000000 T _text\n" + "0000000000000010 t printk\n" * 200_000
    found = booting.parse_system_map(f"{good}junk\n\n\0\xff x\n", names)
    assert found["_text"] == (0xFFFFFFFF81000000,)
    assert len(found["printk"]) == 200_000
    with pytest.raises(HarnessError, match=r"System\.map is damaged in line 2"):
        booting.parse_system_map("0 T other\nnothing T _text\n", names)


# --- what guests and modules call themselves -----------------------------------------------------


def carried_out(script: str) -> str:
    """A shell script without comments and without what stands in single quotes or in a text that
    is handed on ("here"-document)."""
    script = re.sub(r"<<'GUEST'\n.*?\nGUEST\n", "\n", script, flags=re.S)
    script = script.replace("'\"'\"'", "")  # a single quote within single quotes
    parts = r"""'[^']*'|"(?:\\.|[^"\\])*"|(?<=\s)#[^\n]*"""
    return re.sub(parts, lambda found: found[0] if found[0][0] == '"' else "", script, flags=re.S)


@pytest.mark.parametrize("which", [0, 1, 2])
def test_no_name_becomes_a_line_of_the_script(bootable: Bootable, which: int) -> None:
    mine, result = hostile(bootable)
    *steps, last = result.steps
    steps.append(replace(last, checks=last.checks[which:]))
    result = replace(result, steps=tuple(steps))
    story = Story(result, ARCH, mine.kernel, mine.sets["./tiny"], (1, 1), EVIL, EVIL)
    text = script.script(story)
    title = text.splitlines()[2]
    assert title.startswith("# livepatch/x86: loading the_target again") and title.isprintable()
    assert "touch pwned" not in carried_out(text)
    by_hand = byhand.made(story, story.built.set.directory)
    assert "touch pwned" not in carried_out(by_hand.files["order.sh"].decode())
    given = tuple(replace(spec, ko=EVIL) for spec in story.built.set.modules)
    of_others = replace(story.built, set=replace(story.built.set, modules=given))
    told = readme(story, by_hand) + readme(replace(story, built=of_others), by_hand)
    for line in told.splitlines():
        assert line.isprintable() or not line.replace("\t", ""), line
        assert not line.startswith(("touch", "#\x1b", "```"))


def test_a_relocations_names_stay_between_quotes(bootable: Bootable) -> None:
    """A section of a .ko may be called so that it ends the text for the guest."""
    evil = ".text\nGUEST\n)\"; touch pwned; : $(touch pwned) 'x"
    field = signs.Field(
        *("subject", "seen", "stale", evil, evil, 0, 8, 4, "0xff", "0", evil),
        signs.Bits("x - p", ((0, "0xff", 0),), "", "0x80"),
        outer=0, inner=0, initial="00000000", little=True, leads_to="symbol", stub=(), stub_size=0,
        code=(), slots="", slots_max=0, object=evil, symbol_name=evil, symbol_number=1,
        symbol_section=evil, symbol_offset=0,
    )  # fmt: skip
    story = Story(
        a_result(ANSWER), ARCH, bootable.kernel, bootable.sets["./tiny"], (1, 1), "QEMU", "b"
    )
    whole = script.script(story)
    assert "GUEST" not in whole  # it has no relocation
    text = script_reading(field)
    assert text.split("\n").count("GUEST") == 1
    assert "touch pwned" not in carried_out(text)


def test_the_guests_taint_is_a_number_before_it_is_reckoned_with(bootable: Bootable) -> None:
    """`$((taint & 1))` of "a[$(COMMAND)]" runs COMMAND in bash."""
    check = words.health(Health(Sign.TAINT), "nothing", "512 (W)", good=False)
    built = bootable.sets["./tiny"]
    story = Story(a_result(check), ARCH, bootable.kernel, built, (1, 1), "QEMU", "b")
    text = script.script(story)
    assert text.index("*[!0-9]*) trouble") < text.index("$((taint &")


def test_a_result_of_evil_names_has_one_script(bootable: Bootable) -> None:
    _, result = hostile(bootable)
    run = Run((EVIL,), 0.0, EVIL, (), 1)
    text = reproduce.script(run, replace(result, case=Case(EVIL, EVIL, Order(()), EVIL)))
    comments = text.split("set -eu\n")[0].split("\n")
    assert all(line.startswith("#") and line.isprintable() for line in comments[:-1])
    assert "touch pwned" not in carried_out(text)


OBSERVED = (
    '{"taint":0,"modules":[["%s",1,0,"Live","0x0"]],"patches":{"%s":{"enabled":1,"transition":0,'
    '"objects":{"%s":[1,["%s"]]}}},"sections":{},"files":{}}'
)


def test_names_from_a_guest_are_names_of_modules() -> None:
    good = ("klp_patch", "klp-patch.2", "vmlinux", "show.isra.0,1")
    assert agent.decode(OBSERVED % good, agent.Observed, "observe").patches
    for number in range(4):
        for evil in ("x\\ntouch pwned", "../x", "a b", "", "\\u001b[2J", "x" * 600, "\\u202e"):
            words = [*good[:number], evil, *good[number + 1 :]]
            with pytest.raises(HarnessError, match=r"is not as agreed: (modules|patches)"):
                agent.decode(OBSERVED % tuple(words), agent.Observed, "observe")
