# SPDX-License-Identifier: GPL-2.0-only
"""The command line: what is typed, what is printed, the exit code. Nothing is built or booted."""

from __future__ import annotations

import errno
import io
import json as stdjson
import os
import re
import signal
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NoReturn

import pytest
from elf_samples import livepatch, target
from samples import a_kernel, a_result, commands, klp

from orchestrator import catalog, doctor
from orchestrator.build import prepare
from orchestrator.cli import options, program, session
from orchestrator.cli.outsiders import Given
from orchestrator.commands import build, explore
from orchestrator.commands.mutate import work
from orchestrator.elf.klpformat import dependencies
from orchestrator.elf.reader import read
from orchestrator.elf.writer import write
from orchestrator.errors import BuildError, Exit, HarnessError, KlpError, UsageError
from orchestrator.explore.campaign import CampaignOptions
from orchestrator.model import orders
from orchestrator.model.known import KnownIssue
from orchestrator.nouns import (
    Accel,
    BuiltModule,
    BuiltSet,
    Case,
    Channel,
    Kernel,
    ModuleSet,
    ModuleSpec,
    Probe,
    Userland,
)
from orchestrator.report import directory, progress
from orchestrator.report.terminal import Terminal
from orchestrator.run import workers
from orchestrator.run.slot import GuestOptions
from orchestrator.source.alterations import AlterationKind
from orchestrator.verdicts import CaseResult, Check, CheckKind, GuestRecord, RunKind, Status, Step
from orchestrator.vm import machine

ORDER = "+klp_patch +klp_target"
GOOD = Check(CheckKind.ANSWER, "+klp_patch", "success", "success", True)


@pytest.mark.parametrize("command", commands())
def test_help_has_an_example(command: str) -> None:
    told = klp(*command.split(), "--help")
    assert told.code == 0
    assert f"  klp-e2e {command}" in told.out.partition("Example:")[2]


def test_version_is_the_number_and_the_commit() -> None:
    told = klp("--version")
    assert (told.code, told.err) == (0, "")
    assert re.fullmatch(r"klp-e2e \d+\.\d+\.\d+( \([0-9a-f]{12}\+?\))?\n", told.out)


@pytest.mark.parametrize(
    ("argv", "message", "hint"),
    [
        (["run", "--arch", "sparc"], "unknown architecture: sparc", "known:"),
        (["run", "--arch-file", "sparc.toml"], "sparc.toml: No such file", ""),
        (["arch", "check", "sparc"], "unknown architecture: sparc", "known:"),
        (["arch", "new", "a b", "--directory", "."], "no name of an architecture", "NAME.toml"),
        (["shell", "sparc"], "unknown architecture: sparc", "known:"),
        (["port", "sparc"], "unknown architecture: sparc", "known:"),
        (["port", "s390x", "--series", "none", "--series", "x"], "the bare kernel", "leave out"),
        (["build", "--kernel", "6.1"], "'6.1' is no kernel source", "debian:6.1, tar:PATH"),
        (["run", "--modules", "nosuch"], "unknown module set: nosuch", "basic"),
        (
            ["run", "--modules", "basic", "--modules", "far"],
            "--modules is given 2 times",
            "in turn",
        ),
        (["run", "--suite=smoke", "--suite", "core"], "--suite is given 2 times", "in turn"),
        (["mutate", "--kernel", "x:y", "--kernel", "z"], "--kernel is given 2 times", "in turn"),
        (["explore", "--modules", "basic", "--modules", "x/"], "x/ is not a module set", ""),
        (["run", "--suite", "nosuch"], "unknown suite: nosuch", "core"),
        (["run", "--suite", "nosuch.toml"], "nosuch.toml: No such file", ""),
        (["run", "--suite", "./"], "Is a directory", ""),
        (["orders", "--suite", "nosuch"], "unknown suite: nosuch", "core"),
        (["run", "--order", "+nosuch"], "has no module 'nosuch'", "known modules: klp_target"),
        (["run", "--order", "~klp_patch"], "column 1: expected an event", "+M, +M["),
        (["run", "--order", " "], "the order is empty", "+M"),
        (["run", "--order", ORDER, "--suite", "core"], "exclude each other", "--order"),
        (["run", "--series", "none", "--series", "x"], "the bare kernel", "leave out"),
        (["run", "--order", ORDER, "-o", "."], "is not empty", "-o DIR"),
        (["run", "--order", ORDER, "-o", "n\udcff"], "is not UTF-8", "rename"),
        (["explore", "--kernel", "dir:/n\udcff"], "is not UTF-8", "rename"),
        (["-v", "inspect", "n\udcff.ko"], "No such file", ".ko"),
        (["run", "--jobs", "0"], "--jobs", ""),
        (["run", "--bogus"], "--bogus", ""),
        (["convert", "a.ko", "b.ko"], "which symbols", "--auto TARGET.ko"),
        (["convert", "a.ko", "b.ko", "--auto", "t.ko"], "cannot read a.ko: No such file", ".ko"),
        (["inspect", "none.ko"], "cannot read none.ko: No such file", ".ko"),
        (["report", "."], "cannot read results.json: No such file", "-o"),
        (["run", "--resume", "r"], "r has no results.json to go on with", "-o DIR"),
        (["malformed", "--resume", "."], ". has no results.json", "-o DIR"),
        (["kselftest", "--resume", ".", "-o", "r"], "--resume and -o exclude", "leave out -o"),
        (["explore", "--resume", ".", "-o", "r"], "--resume and -o exclude", "leave out -o"),
        (["ablate", "--resume", ".", "-o", "r"], "--resume and -o exclude", "leave out -o"),
        (["mutate", "--resume", ".", "-o", "r"], "--resume and -o exclude", "leave out -o"),
        (["run", "-o", "r", "--continue"], "--continue is --resume DIR now", "leave out -o"),
        (["kselftest", "--continue", "-o", "r"], "--continue is --resume DIR now", ""),
        (["malformed", "--continue"], "--continue is --resume DIR now", ""),
        (["nightly", "--resume"], "--resume names no directory", "--resume DIR"),
        (["report"], "report needs a directory", "--schema"),
        (["replay", "."], "is no bundle: bundle.json: No such file", "holds reproduce.sh"),
    ],
)
def test_bad_input_is_one_message_and_2(
    argv: list[str], message: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "occupied").touch()
    monkeypatch.chdir(tmp_path)
    told = klp(*argv)
    assert told.code == Exit.USAGE
    assert message in told.err
    assert hint in told.err
    assert "Traceback" not in told.err
    assert told.out == ""
    assert [p.name for p in tmp_path.iterdir()] == ["occupied"]


def test_a_module_of_an_architecture_that_is_none_of_ours(tmp_path: Path) -> None:
    text = re.sub(r"elf_machine = .*", "elf_machine = 40", catalog.arch_file("s390x").read_text())
    (tmp_path / "arm.toml").write_text(text)
    whole = write(target("big"))
    (tmp_path / "arm.ko").write_bytes(whole[:18] + b"\0\x28" + whole[20:])
    told = klp("inspect", str(tmp_path / "arm.ko"), "--arch-file", str(tmp_path / "arm.toml"))
    assert told.out.startswith("module my_patch for arm\n"), told.err


def test_modules_that_are_none_of_ours_are_refused(tmp_path: Path) -> None:
    whole = write(target("big"))
    for name, data, complaint in (
        ("text.ko", b"not a module", "is not an ELF file"),
        ("cut.ko", whole[:200], "truncated"),
        ("arm.ko", whole[:18] + b"\0\x28" + whole[20:], "for another architecture"),
    ):
        (tmp_path / name).write_bytes(data)
        told = klp("inspect", str(tmp_path / name))
        assert (told.code, complaint in told.err) == (Exit.USAGE, True), told.err
        told = klp("convert", str(tmp_path / name), "out.ko", "--object", "m", "--symbol", "s")
        assert (told.code, complaint in told.err) == (Exit.USAGE, True), told.err


# --- what is raised -------------------------------------------------------------------------------


def test_convert_writes_over_nothing_unless_told(tmp_path: Path) -> None:
    (tmp_path / "in.ko").write_bytes(write(livepatch()))
    (tmp_path / "t.ko").write_bytes(write(target()))
    auto = ("--auto", str(tmp_path / "t.ko"))
    words = ("convert", str(tmp_path / "in.ko"), str(tmp_path / "out.ko"), *auto)
    assert klp(*words).code == Exit.GOOD
    made = (tmp_path / "out.ko").read_bytes()
    (tmp_path / "out.ko").write_text("thesis")
    told = klp(*words)
    assert told.code == Exit.USAGE and "out.ko is there already\n    --force" in told.err
    assert (tmp_path / "out.ko").read_text() == "thesis"
    assert klp(*words, "--force").code == Exit.GOOD
    assert (tmp_path / "out.ko").read_bytes() == made
    (tmp_path / "out.ko").unlink()
    (tmp_path / "out.ko").symlink_to(tmp_path / "t.ko")
    for more in ((), ("--force",)):
        assert klp(*words, *more).code == Exit.USAGE
    assert (tmp_path / "t.ko").read_bytes() == write(target())
    assert len(list(tmp_path.iterdir())) == 3  # no partial file


def test_convert_leaves_in_depends_whose_exports_may_be_used_further(tmp_path: Path) -> None:
    """It calls target_fn, and points to target_var, which stays an ordinary reference."""
    (tmp_path / "in.ko").write_bytes(write(livepatch()))
    (tmp_path / "the-target.ko").write_bytes(write(target()))
    given, out = str(tmp_path / "in.ko"), tmp_path / "out.ko"
    told = klp("convert", given, str(out), "--object", "the-target", "--symbol", "target_fn")
    assert told.code == Exit.GOOD
    assert "still names the_target" in told.out + told.err, told
    assert dependencies(read(out.read_bytes())) == ("other", "the_target")
    told = klp("convert", given, str(out), "--auto", str(tmp_path / "the-target.ko"), "--force")
    assert (told.code, "still names" in told.out + told.err) == (Exit.GOOD, False)
    assert dependencies(read(out.read_bytes())) == ("other",)


@pytest.mark.parametrize("name", ["mine.toml", "mine.config"])
def test_a_new_architecture_writes_through_no_link(name: str, tmp_path: Path) -> None:
    (tmp_path / name).symlink_to(tmp_path / "elsewhere")
    told = klp("arch", "new", "mine", "--directory", str(tmp_path))
    assert told.code == Exit.USAGE and f"{name} is there already" in told.err
    assert [path.name for path in tmp_path.iterdir()] == [name]


def raising(err: BaseException) -> Callable[[], Exit]:
    def body() -> NoReturn:
        raise err

    return body


@pytest.mark.parametrize(
    ("err", "code"),
    [
        (UsageError("no such thing", "take another"), 2),
        (BuildError("gcc failed", "take another", log="/tmp/build.log"), 3),
        (HarnessError("disk full", "take another"), 4),
    ],
)
def test_our_errors_become_message_hint_and_code(
    err: KlpError, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.outcome(raising(err)) == code
    said = capsys.readouterr().err
    assert said.startswith(f"klp-e2e: {err}\n    take another\n")
    assert ("the whole output: /tmp/build.log" in said) == isinstance(err, BuildError)


def test_a_log_is_named_once(capsys: pytest.CaptureFixture[str]) -> None:
    log = "/tmp/build.log"
    err = BuildError("gcc failed", f"the whole output is in {log}", log=log)
    assert program.outcome(raising(err)) == Exit.BUILD
    assert capsys.readouterr().err == f"klp-e2e: gcc failed\n    the whole output is in {log}\n"


def test_a_kernel_s_directory_is_printed_alone_for_a_shell(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = a_kernel("s390x")
    monkeypatch.setattr(build, "build_kernels", lambda *_: (made,))
    assert klp("build", "--print-directory").out == f"{made.directory}\n"
    assert klp("build").out == f"s390x {made.release} {made.directory}\n"


def test_a_mistake_of_ours_is_short_unless_asked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(program.DEBUG, raising=False)
    assert program.outcome(raising(KeyError("spam"))) is Exit.HARNESS
    said = capsys.readouterr().err
    assert "KeyError: 'spam' (test_cli.py:" in said
    assert "KLP_E2E_DEBUG=1" in said
    assert "Traceback" not in said
    monkeypatch.setenv(program.DEBUG, "1")
    assert program.outcome(raising(KeyError("spam"))) is Exit.HARNESS
    assert "Traceback" in capsys.readouterr().err


def test_interrupts_are_130_and_the_first_counts(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert program.outcome(raising(KeyboardInterrupt())) is Exit.INTERRUPTED
    assert capsys.readouterr().err == "klp-e2e: interrupted\n"
    handlers: dict[int, object] = {}
    monkeypatch.setattr(signal, "signal", handlers.__setitem__)
    monkeypatch.setattr(program, "_interrupted", threading.Event())  # the next test's is not set
    with pytest.raises(KeyboardInterrupt):
        program._interrupt(signal.SIGTERM, None)
    assert handlers == dict.fromkeys(program.INTERRUPTS, signal.SIG_IGN)


# --- options --------------------------------------------------------------------------------------


def test_series_stack_in_order_and_none_is_bare(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    assert options.stack([]) == (options.SERIES,)
    assert options.stack(["none"]) == ()
    assert options.stack(["git:x#a..b", "mine"]) == ("git:x#a..b", str(tmp_path / "mine"))


def test_an_architecture_is_given_by_name_or_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name, ours = next(iter(catalog.arches().items()))
    text = catalog.arch_file(name).read_text()
    for path in ("mine.toml", f"{name}.toml", "deep/mine.toml"):
        Path(path).parent.mkdir(exist_ok=True)
        Path(path).write_text(text)
    mine = replace(ours, name="mine", file=tmp_path / "mine.toml")
    assert options.arches([]) == tuple(catalog.default_arches().values())
    assert options.arches(["mine.toml"]) == (mine,)
    assert options.arches([name, "mine.toml", name, "./mine.toml"]) == (ours, mine)
    assert options.arches(["mine", "mine.toml"]) == (mine,)
    assert options.arches([f"./{name}.toml"]) == (replace(ours, file=tmp_path / f"{name}.toml"),)
    with pytest.raises(UsageError, match="are both architecture mine"):
        options.arches(["mine.toml", "deep/mine.toml"])


def test_what_is_resumed_finds_an_architectures_file_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = next(iter(catalog.arches()))
    (tmp_path / "mine.toml").write_text(catalog.arch_file(name).read_text())
    monkeypatch.chdir(tmp_path)
    built = options.build_options(["mine.toml", name], "debian:6.1", ["none"], 1)
    explored = explore.ExploreOptions(
        built, ("basic",), CampaignOptions(), Channel.AGENT, False, tmp_path / "explored", Accel.TCG
    )
    explore.begin(explored, ("klp-e2e",))
    patches = options.alterations(AlterationKind.ABLATION, ())
    tried = work.ExperimentOptions(
        built,
        AlterationKind.ABLATION,
        patches,
        None,
        options.SUITE,
        True,
        1,
        tmp_path / "tried",
        Accel.TCG,
    )
    work.begin(tried, ("klp-e2e",))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    again = Given.of(arch=["../mine.toml"])
    assert explore.resumed(tmp_path / "explored", 1, again)[0] == explored
    assert work.resumed(tmp_path / "tried", 1, again)[0] == tried
    with pytest.raises(UsageError, match="'hax' is no accelerator"):
        run = session.begun(built, ("klp-e2e",), strict=False, kind=RunKind.ORDERS, accel=Accel.TCG)
        session.accel_of(replace(run, options={"accel": "hax"}), tmp_path)


def test_sources_on_disk_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "linux").mkdir()
    assert options.source("dir:linux") == f"dir:{tmp_path}/linux"
    assert options.source("git:linux#v6.1") == f"git:{tmp_path}/linux#v6.1"
    for given in ("debian:6.1", "git:https://git.example/linux#v6.1", "tar:none.tar"):
        assert options.source(given) == given


def test_modules_without_an_order_choose_from_the_suite() -> None:
    every = options.chosen_cases(None, (), None)
    some = options.chosen_cases("replace", (), None)
    assert some == tuple(case for case in every if case.module_set == "replace")
    assert 0 < len(some) < len(every)


def test_a_directory_is_a_module_set_wherever_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = """
[[modules]]
name = "t"
kind = "target"
[[modules]]
name = "p"
kind = "livepatch"
patches.t = ["f"]
"""
    (tmp_path / "set.toml").write_text(text)
    monkeypatch.chdir(tmp_path)
    assert {case.module_set for case in options.chosen_cases(".", (), None)} == {str(tmp_path)}
    (one,) = options.chosen_cases("./", ("+p +t",), None)
    assert (one.module_set, one.name) == (str(tmp_path), "order-1")
    assert options.module_sets([".", "basic"]) == (str(tmp_path), "basic")
    told = klp("orders", "--modules", ".", "--order", "+p +p -t", "--why")
    assert "+p EEXIST (17), -t ENOENT (2)" in told.out and "p loads, waits for t" in told.out
    told = klp("orders", "--modules", ".")
    # C(7, 3): three events of p, and four of t, of which one loads the harness's filler
    assert (told.code, len(told.out.splitlines())) == (Exit.GOOD, 35)
    assert "-t ok, +klp_e2e_filler ok, +t ok" in told.out
    told = klp("orders", "--modules", ".", "--suite", "core")
    assert (told.code, "suite core has no order of module set ." in told.err) == (Exit.USAGE, True)


SUITE = """
description = "mine"
[[case]]
name = "ours"
modules = "basic"
order = "+klp_patch +klp_target"
why = "a set of klp-e2e"
[[interleave]]
name = "mine"
modules = "../sets/own"
sequences = ["+p", "+t"]
letters = { p = "P", t = "T" }
why = "a set beside the file"
"""
OWN = """
[[modules]]
name = "t"
kind = "target"
[[modules]]
name = "p"
kind = "livepatch"
patches.t = ["f"]
"""


@pytest.fixture
def own_suite(tmp_path: Path) -> Path:
    """A suite's file, of which one module set lies elsewhere."""
    for name, text in (("suites/mine.toml", SUITE), ("sets/own/set.toml", OWN)):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text)
    return tmp_path / "suites/mine.toml"


def test_what_is_wrong_in_a_suite_names_its_file(own_suite: Path) -> None:
    own_suite.write_text(SUITE.replace('name = "ours"', 'name = "Not/ours"'))
    with pytest.raises(UsageError, match=rf"^{own_suite}: 'Not/ours' is no name for a case"):
        options.chosen_cases(None, (), str(own_suite))


def test_a_suite_is_given_by_name_or_file(own_suite: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = str(own_suite.parents[1] / "sets/own")
    (own_suite.parent / "link").symlink_to(own_suite.parents[1])
    monkeypatch.chdir(own_suite.parent)
    names = ["ours", "mine+P+T", "mine+T+P"]
    for spec in ("mine.toml", "./mine.toml", str(own_suite)):
        found = options.chosen_cases(None, (), spec)
        assert [(case.module_set, case.name) for case in found] == list(
            zip(("basic", own, own), names, strict=True)
        )
        assert options.suite(spec) == str(own_suite)
    assert options.suite("core") == "core"
    for modules in ("../sets/own", "link/sets/own", own):
        assert len(options.chosen_cases(modules, (), "mine.toml")) == 2
    assert len(options.chosen_cases("basic", (), "mine.toml")) == 1
    with pytest.raises(UsageError, match="unknown suite: mine") as trouble:
        options.chosen_cases(None, (), "mine")
    assert "a file is given as mine.toml" in trouble.value.hint


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("../sets/own", "../sets", "is not a module set: it holds no set.toml"),
        ("../sets/own", "own", "wants module set 'own', which does not exist"),
        ("+klp_patch", "+nosuch", "no module 'nosuch'"),
        ("description", "descriptoin", "mine.toml"),
        (SUITE, 'description = "empty"', "has no order"),
        (SUITE, "[", "mine.toml"),
    ],
)
def test_a_suite_that_makes_no_sense_is_one_message_and_2(
    own_suite: Path, before: str, after: str, told: str
) -> None:
    own_suite.write_text(SUITE.replace(before, after))
    refused = klp("orders", "--suite", str(own_suite))
    assert (refused.code, refused.out) == (Exit.USAGE, "")
    assert told in refused.err, refused.err


def test_an_order_of_a_suites_file_is_reproduced_from_anywhere(
    guests: Callable[[object], None], own_suite: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guests(Status.PASS)
    monkeypatch.chdir(own_suite.parent)
    assert klp("run", "--suite", "mine.toml", "-o", "r").code == Exit.GOOD
    _, results = directory.read(Path("r"))
    own = own_suite.parents[1] / "sets/own"
    lines = {each.reproduce for each in results if each.case.name == "mine+T+P"}
    assert lines and all(f"--modules {own} --order '+t +p'" in line for line in lines)


def test_an_experiment_finds_its_suites_file_again(
    own_suite: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(own_suite.parent)
    seen: list[str] = []

    def conduct(asked: work.ExperimentOptions, *_: object) -> None:
        seen.append(asked.suite)
        raise HarnessError("enough")

    monkeypatch.setattr(work, "conduct", conduct)
    assert klp("mutate", "--suite", "mine.toml", "-o", "r").code == Exit.HARNESS
    assert klp("mutate", "--resume", "r").code == Exit.USAGE  # it may be somebody else's
    assert klp("mutate", "--resume", "r", "--suite", "mine.toml").code == Exit.HARNESS
    assert seen == [str(own_suite)] * 2


# --- run, wired to guests that are not there ------------------------------------------------------


@dataclass(frozen=True)
class Bench:
    arch: object
    kernel: Kernel
    userland: Path = Path("guest/0123/base.cpio.gz")
    sets: Mapping[str, None] = field(default_factory=lambda: defaultdict(lambda: None))
    known_issues: tuple[KnownIssue, ...] = ()


def a_case_result(case: Case, arch: str, status: Status) -> CaseResult:
    step = Step("+klp_patch", (GOOD,), 0.1, 0.1, 0)
    return a_result(
        case=case, arch=arch, status=status, reason="as promised", steps=(step,), seconds=1.0
    )


@pytest.fixture
def guests(monkeypatch: pytest.MonkeyPatch) -> Callable[[object], None]:
    """Set what happens for each case: a Status, or an exception that is raised."""

    def plan(happening: object) -> None:
        def run_cases(
            bootables: tuple[Bench, ...],
            cases: tuple[Case, ...],
            how: object,
            on_result: Callable[[CaseResult], None],
            on_guest: Callable[[GuestRecord], None],
            done: frozenset[tuple[str, str]],
            executor: object,
        ) -> None:
            for bootable in bootables:
                on_guest(GuestRecord(bootable.kernel.arch, "tcg", 2.5, 60.0, "poweroff", 0.0))
                on_result(a_case_result(cases[0], bootable.kernel.arch, Status.PASS))
                if isinstance(happening, BaseException):
                    raise happening
                assert isinstance(happening, Status)
                for case in cases[1:]:
                    on_result(a_case_result(case, bootable.kernel.arch, happening))

        monkeypatch.setattr(workers, "run_cases", run_cases)

    monkeypatch.setattr(
        session,
        "bootables",
        lambda wanted, sets, reporter: tuple(Bench(a, a_kernel(a.name)) for a in wanted.arches),
    )
    monkeypatch.setattr(prepare, "qemu_version", lambda arch: "QEMU 7.2")
    return plan


@pytest.mark.parametrize(
    ("status", "extra", "code"),
    [
        (Status.PASS, (), 0),
        (Status.FAIL, (), 1),
        (Status.KNOWN, (), 0),
        (Status.KNOWN, ("--strict",), 1),
        (Status.ERROR, (), 4),
    ],
)
def test_run_prints_a_line_an_order_and_writes_results(
    guests: Callable[[object], None],
    tmp_path: Path,
    status: Status,
    extra: tuple[str, ...],
    code: int,
) -> None:
    guests(status)
    place = tmp_path / "r"
    second = f"{ORDER} -klp_target"
    told = klp("run", "-o", str(place), "--order", ORDER, "--order", second, *extra)
    assert told.code == code, told.err
    lines = [line for line in told.out.splitlines() if line.lstrip().startswith("basic/order-2")]
    assert len(lines) == 1
    assert second in lines[0]
    assert lines[0].count(str(status)) == len(catalog.default_arches())
    run, results = directory.read(place)
    assert run.finished is not None
    assert not run.trouble
    assert [guest.arch for guest in run.guests] == list(catalog.default_arches())
    assert len(results) == run.planned == 2 * len(catalog.default_arches())
    again = klp("report", str(place))
    assert (again.code, f"{again.out}results: {place}\n") == (code, told.out)


def test_guests_run_under_what_is_asked_for_and_so_does_who_reproduces(
    guests: Callable[[object], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guests(Status.PASS)
    used: list[Accel] = []
    there: Callable[..., None] = workers.run_cases

    def run_cases(
        bootables: object, cases: object, how: GuestOptions, *rest: object, **more: object
    ) -> None:
        used.append(how.accel)
        there(bootables, cases, how, *rest, **more)

    monkeypatch.setattr(workers, "run_cases", run_cases)
    for accel in ("auto", "tcg"):
        words = ("run", "-o", str(tmp_path / accel), "--order", ORDER, "--accel", accel)
        assert klp(*words).code == Exit.GOOD
        run, results = directory.read(tmp_path / accel)
        assert run.options["accel"] == accel
        named = {"--accel tcg" in result.reproduce for result in results}
        assert named == {accel == "tcg"}
    assert used == [Accel.AUTO, Accel.TCG]


LISTED = """\
[[issue]]
id = "mine"
title = "t"
reference = "r"
kernels = ""
architectures = ["s390x"]
kind = "health"
reports = ["BUG"]
lacks = "clears-on-unload"
"""


def test_ones_own_known_issues_are_named_by_who_reproduces_and_wanted_by_who_resumes(
    guests: Callable[[object], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guests(Status.PASS)
    monkeypatch.chdir(tmp_path)
    mine = tmp_path / "mine.toml"
    mine.write_text(LISTED)
    what = ("--order", ORDER, "--arch", "s390x")
    listed = ("--known-issues", "mine.toml")
    assert klp("run", "-o", "r", *what, *listed).code == Exit.GOOD
    run, results = directory.read(tmp_path / "r")
    assert run.known_issues == (str(mine),)
    assert all(f"--known-issues {mine}" in result.reproduce for result in results)
    script = next((tmp_path / "r").rglob("reproduce.sh")).read_text()
    assert f"--known-issues {mine}" in script
    assert klp("run", "--resume", "r", *what, *listed).code == Exit.GOOD
    for other in ((), (*listed, "--known-issues", "more.toml")):
        (tmp_path / "more.toml").write_text(LISTED.replace('"mine"', '"more"'))
        refused = klp("run", "--resume", "r", *what, *other)
        assert refused.code == Exit.USAGE and "another list of known issues" in refused.err
    mine.write_text(LISTED.replace('"BUG"', '"WARNING"'))
    refused = klp("run", "--resume", "r", *what, *listed)
    assert refused.code == Exit.USAGE and "another list of known issues" in refused.err


def test_every_build_for_a_verdict_has_ones_own_known_issues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text(LISTED)
    given: list[list[str]] = []

    def bootables(*_: object, known_issues: Sequence[KnownIssue], **__: object) -> NoReturn:
        given.append([issue.id for issue in known_issues])
        raise HarnessError("enough")

    monkeypatch.setattr(prepare, "bootables", bootables)
    monkeypatch.setattr(session, "need_emulators", lambda *_: None)
    for number, command in enumerate(("run", "malformed", "explore")):
        words = (command, "--arch", "s390x", "--known-issues", str(mine))
        told = klp(*words, "-o", str(tmp_path / str(number)))
        assert told.code == Exit.HARNESS, told.err
    told = klp("explore", "--resume", str(tmp_path / "2"), "--known-issues", str(mine))
    assert told.code == Exit.HARNESS
    assert len(given) == 4 and all("x86-reload" in ids and ids[-1] == "mine" for ids in given)


def test_an_accelerator_that_is_not_there_is_told_before_a_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "KVM_DEVICE", tmp_path / "none")
    told = klp("run", "-o", str(tmp_path / "r"), "--accel", "kvm")
    assert told.code == Exit.HARNESS
    assert "no KVM for" in told.err and "use --accel auto or --accel tcg" in told.err
    assert klp("run", "--accel", "hax").code == Exit.USAGE


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (("--order", f"{ORDER} -klp_target"), "another choice of cases"),
        (("--order", ORDER, "--modules", "callbacks"), "another choice of cases"),
        (("--order", ORDER, "--strict"), "without --strict"),
        (("--order", ORDER, "--cold"), "cold False"),
        (("--order", ORDER, "--channel", "ssh"), "channel agent"),
        (("--order", ORDER, "--accel", "tcg"), "accel auto, and not tcg"),
        (("--order", ORDER, "--arch", "mine.toml"), "another choice of cases"),
    ],
)
def test_what_goes_on_answers_with_no_result_of_something_else(
    guests: Callable[[object], None], tmp_path: Path, changed: tuple[str, ...], told: str
) -> None:
    guests(Status.PASS)
    assert klp("run", "-o", str(tmp_path / "r"), "--order", ORDER).code == Exit.GOOD
    words = ("run", "--resume", str(tmp_path / "r"))
    assert klp(*words, "--order", ORDER).code == Exit.GOOD
    before = directory.read(tmp_path / "r")
    (tmp_path / "mine.toml").write_text(catalog.arch_file("s390x").read_text())
    given = [word.replace("mine.toml", str(tmp_path / "mine.toml")) for word in changed]
    if "callbacks" in given:
        given[1] = "+klp_callbacks"
    refused = klp(*words, *given)
    assert refused.code == Exit.USAGE and told in refused.err, refused.err
    assert directory.read(tmp_path / "r") == before


def test_what_goes_on_does_so_with_the_same_architecture_and_modules(
    guests: Callable[[object], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guests(Status.PASS)
    file = tmp_path / "mine.toml"
    text = catalog.arch_file("s390x").read_text()
    file.write_text(text)
    what = ("--order", ORDER, "--arch", str(file))
    assert klp("run", "-o", str(tmp_path / "r"), *what).code == Exit.GOOD
    words = ("run", "--resume", str(tmp_path / "r"), *what)
    before = directory.read(tmp_path / "r")
    file.write_text(re.sub(r"cmdline = .*", 'cmdline = "quiet"', text))
    refused = klp(*words)
    assert refused.code == Exit.USAGE and "another description of mine" in refused.err
    file.write_text(text)
    monkeypatch.setattr(session, "built", lambda bootables: {"build of module set basic": "x"})
    assert klp(*words).code == Exit.GOOD  # an older one did not tell: nothing to compare with
    monkeypatch.setattr(session, "built", lambda bootables: {"build of module set basic": "y"})
    refused = klp(*words)
    assert refused.code == Exit.USAGE and "another build of module set basic" in refused.err
    assert len(directory.read(tmp_path / "r")[1]) == 2 * len(before[1])


def test_what_is_run_and_by_what_it_is_judged_is_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "qemu_version", lambda arch: "QEMU 7.2")
    arch = catalog.arch("s390x")
    issue = KnownIssue("i", "t", "r", "", ("s390x",), CheckKind.ANSWER, errno="ENOEXEC")
    probe = Probe("p", "own", "f", original="calm", command="echo calm")

    def told(
        content: str = "one",
        able: frozenset[str] = frozenset(),
        probes: tuple[Probe, ...] = (probe,),
        issues: tuple[KnownIssue, ...] = (),
        userland: str = "0123",
    ) -> Mapping[str, str]:
        (tmp_path / "own.ko").write_text(content)
        module = BuiltModule(ModuleSpec("own", "target"), tmp_path / "own.ko", (), {})
        made = BuiltSet(ModuleSet("own", tmp_path, (), probes=probes), {"own": module})
        kernel = replace(a_kernel("s390x"), capabilities=able)
        return session.built(
            [prepare.Bootable(arch, kernel, {"own": made}, Path(userland, "base"), issues)]
        )

    assert told() == told()
    assert told() != told("two")
    assert told() != told(able=frozenset({"clears-on-unload"}))
    assert told() != told(probes=(replace(probe, command="echo loud"),))
    assert told() != told(issues=(issue,))
    assert told() != told(userland="4567")
    before = told()
    monkeypatch.setattr(prepare, "qemu_version", lambda arch: "QEMU 99.9")
    assert told() != before
    assert told(able=frozenset("ab")) == told(able=frozenset("ba"))


@pytest.mark.parametrize(
    ("happening", "code", "trouble"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (HarnessError("QEMU is gone"), 4, "QEMU is gone"),
        (ZeroDivisionError(), 4, "ZeroDivisionError"),
    ],
)
def test_a_run_that_ends_early_tells_what_it_knew(
    guests: Callable[[object], None], tmp_path: Path, happening: object, code: int, trouble: str
) -> None:
    guests(happening)
    told = klp("run", "-o", str(tmp_path / "r"), "--order", ORDER, "--order", "+klp_target")
    assert told.code == code
    assert "basic/order-1" in told.out
    run, results = directory.read(tmp_path / "r")
    assert run.trouble == trouble
    assert len(results) == 1
    assert klp("report", str(tmp_path / "r")).code == code


def test_orders_lists_every_case_in_one_line_and_says_why_of_every_event() -> None:
    told = klp("orders", "--why")
    assert told.code == 0
    cases = options.suite_cases("core")
    whys = [line for line in told.out.splitlines() if line.startswith("    ")]
    assert len(told.out.splitlines()) - len(whys) == len(cases)
    assert len(whys) == sum(len(case.order.events) for case in cases)
    assert [line for line in whys if not line.partition(": ")[2]] == []


def test_orders_names_the_errno_and_says_why_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    order = orders.parse("-klp_target +klp_target", catalog.module_set("basic"))
    monkeypatch.setattr(options, "suite_cases", lambda suite: [Case("gone", "basic", order)])
    line = "basic/gone: -klp_target ENOENT (2), +klp_target ok"
    assert klp("orders").out.splitlines() == [line]
    told = klp("orders", "--why").out.splitlines()
    assert told[0] == line
    assert told[1] == "    -klp_target: klp_target is not loaded: ENOENT (2)"
    assert told[2].startswith("    +klp_target: klp_target loads")
    assert klp("orders", "-v").out.splitlines() == told
    assert len(told) == 3


def test_a_complaint_that_nobody_can_read_leaves_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The terminal was closed: SIGHUP ends us, and stderr answers EIO."""

    class Gone(io.FileIO):
        def write(self, text: object) -> NoReturn:
            raise OSError(errno.EIO, "Input/output error")

    with Gone(tmp_path / "terminal", "w") as gone:
        monkeypatch.setattr(sys, "stderr", gone)
        assert program.outcome(raising(KeyboardInterrupt())) is Exit.INTERRUPTED
        assert Path(f"/proc/self/fd/{gone.fileno()}").readlink() == Path(os.devnull)


def test_report_publishes_the_schema() -> None:
    assert stdjson.loads(klp("report", "--schema").out)["title"] == "klp-e2e results, schema 3"


# --- doctor ---------------------------------------------------------------------------------------

COMMON = doctor.HostPackages({"make": "make", "xz": "xz-utils"}, {"libelf-dev": "/usr/libelf.h"})


def host(*absent: str) -> doctor.Host:
    def there(name: str) -> bool:
        return name not in absent

    return doctor.Host(program=there, file=there, package=there)


def test_doctor_finds_nothing_missing() -> None:
    needs = doctor.examine(COMMON, catalog.arches().values(), host())
    assert doctor.missing(needs) == []
    assert doctor.install_line(needs) == ""


def test_doctor_names_each_package_once_in_one_line() -> None:
    arch = next(a for a in catalog.arches().values() if a.cross_compile)
    lost = host("xz", "/usr/libelf.h", arch.qemu, f"{arch.cross_compile}gcc", *arch.packages)
    needs = doctor.examine(COMMON, [arch, arch], lost)
    wanted = sorted({"xz-utils", "libelf-dev", *arch.packages})
    assert doctor.install_line(needs) == (
        f"sudo apt-get install --no-install-recommends {' '.join(wanted)}"
    )
    assert len(doctor.missing(needs)) == len(wanted)


def test_doctor_wants_a_python_that_will_do() -> None:
    old = replace(host(), python=(3, 9))
    assert [n.what for n in doctor.missing(doctor.examine(COMMON, [], old))] == [
        "Python 3.11 or later"
    ]


def test_doctor_command_prints_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    lacking = [doctor.Need("program quilt", "quilt", False)]
    monkeypatch.setattr(session, "host_needs", lambda arches: lacking)
    told = klp("doctor")
    assert told.code == Exit.HARNESS
    assert told.out.splitlines()[0] == "missing: program quilt (quilt)"
    assert told.out.splitlines()[-1].startswith("sudo apt-get install")


def test_doctor_says_in_one_line_what_is_not_this_hosts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KLP_E2E_CACHE", str(tmp_path / "cache"))
    usual = next(iter(catalog.default_arches().values()))
    other = replace(
        usual,
        name="other",
        toolchain="llvm-19",
        qemu_version="999.1",
        qemu_package="qemu-x",
        userland=Userland("sid", toolchain="llvm-0"),
    )
    (line,) = session.from_elsewhere([usual, other])
    assert line == (
        "other: llvm-19; QEMU 999.1 or later: one of Debian's, unpacked into the cache when it is "
        "first needed; userland of Debian sid: fetched when it is first needed"
    )
    needed = {need.what for need in session.host_needs([other])}
    assert {"program clang-19", "program clang-0"} <= needed


def test_host_needs_cover_common_and_architecture_packages() -> None:
    needs = session.host_needs(catalog.arches().values())
    assert len(needs) == len(set(needs))
    wanted = {package for arch in catalog.arches().values() for package in arch.packages}
    assert wanted | {"make", "libelf-dev", "mmdebstrap"} <= {need.package for need in needs}


def test_plain_progress_has_an_eta() -> None:
    line = progress.plain_line("cases", 10, 40, 60.0)
    assert line == "cases: 10 of 40, about 3 min 00 s left"
    assert progress.plain_line("cases", 40, 40, 61.0) == "cases: 40 of 40, took 1 min 01 s"
    assert progress.plain_line("trials", 40, 50, 60.0, 10) == "trials: 40 of 50, about 20.0 s left"


def test_the_first_step_takes_time_too(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter((0.0, 6.0))
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    told = io.StringIO()
    reporter = progress.Reporter(Terminal(file=told))
    reporter.begin("cases", 0, 1)
    reporter.advance("cases", 1, 1)
    assert told.getvalue() == "cases: 1 of 1, took 6.0 s\n"
    reporter.begin("cases", 1, 1)  # where nothing is left to do nothing is said


def test_a_task_that_is_done_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """One kernel after another is built under one name."""
    clock = iter((0.0, 100.0, 500.0, 507.0))
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    told = io.StringIO()
    reporter = progress.Reporter(Terminal(file=told))
    for done in (0, 2, 0, 2):
        reporter.advance("building", done, 2)
    lines = ["building: 2 of 2, took 1 min 40 s", "building: 2 of 2, took 7.0 s"]
    assert told.getvalue().splitlines() == lines


def test_cases_are_chosen_by_name(tmp_path: Path) -> None:
    every = options.chosen_cases(None, (), "core")
    for patterns, labels in (
        (("basic/reload-moved",), {"basic/reload-moved"}),
        (("reload-moved", "basic/livepatch-*"), None),
        ((), {case.label for case in every}),
    ):
        found = {case.label for case in options.only_cases(every, patterns)}
        assert found == labels if labels else len(found) > 1
    with pytest.raises(UsageError, match="no case is called basic/reload-movd") as refused:
        options.only_cases(every, ("basic/reload-movd",))
    assert refused.value.hint == "did you mean basic/reload-moved?"
    told = klp("run", "--case", "nonsuch", "-o", str(tmp_path / "r"))
    assert told.code == Exit.USAGE and not (tmp_path / "r").exists()
