# SPDX-License-Identifier: GPL-2.0-only
"""What the host does to us: Ctrl-C at any point, kill -9, full disks, missing programs.
With the real `klp-e2e`: one clear message, the right exit code, and nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from samples import Told
from vmkit import Klp, descendants, in_namespace, wait_for

from orchestrator.build.prepare import Bootable
from orchestrator.errors import Exit
from orchestrator.explore.walker import SAVES_IN_VAIN
from orchestrator.host import ours, workdir
from orchestrator.report import resultsjson as report_json

ORDER = ("--modules", "basic", "--order", "+klp_patch +klp_target")
# many cases on one guest: there is time to interrupt it
MANY = ("--suite", "core", "--modules", "two-targets")


@pytest.fixture
def one(bootables: Mapping[str, Bootable]) -> Bootable:
    """Of the architectures the one whose kernel is smallest."""
    return min(bootables.values(), key=lambda bootable: bootable.kernel.objects)


def assert_clear(told: Told, code: Exit, *words: str) -> None:
    """One message with what to do, and the exit code."""
    assert told.code == code, told.err
    assert told.err.count("klp-e2e: ") == 1
    assert "Traceback" not in told.err and "a mistake of klp-e2e" not in told.err
    for word in words:
        assert word in told.err
    assert "\n    " in told.err, "what is to be done about it?"


# --- Ctrl-C and the like --------------------------------------------------------------------------


def interrupted(told: Told) -> None:
    assert told.code == Exit.INTERRUPTED, told.err
    assert told.err.rstrip().endswith("klp-e2e: interrupted")
    assert "Traceback" not in told.err


def valid(document: dict[str, Any]) -> dict[str, Any]:
    jsonschema.validate(document, json.loads(report_json.schema_text()))
    return document


def test_ctrl_c_while_the_guests_boot(klp: Klp, bootables: Mapping[str, Bootable]) -> None:
    # with a single order the first guest may be gone before the other begins
    started = klp.start("run", "-o", str(klp.results), *MANY)
    wait_for("emulators", lambda: all(klp.emulators(bootable) for bootable in bootables.values()))
    started.send_signal(signal.SIGINT)
    interrupted(klp.end(started))
    klp.assert_nothing_left()
    document = valid(klp.document())
    assert document["run"]["trouble"] == "interrupted"
    # on a busy machine one guest may be at work before the other boots; none is half a result
    assert len(document["cases"]) < document["run"]["planned"]
    assert {case["status"] for case in document["cases"]} <= {"PASS"}
    assert len(document["run"]["kernels"]) == len(bootables)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ctrl_c_in_mid_suite(klp: Klp, one: Bootable, number: signal.Signals) -> None:
    started = klp.start(*klp.run_argv(one, *MANY))
    wait_for("a result", lambda: klp.begun() and klp.document()["cases"])
    started.send_signal(number)
    told = klp.end(started)
    interrupted(told)
    klp.assert_nothing_left()
    document = valid(klp.document())
    assert document["run"]["trouble"] == "interrupted"
    assert 0 < len(document["cases"]) < document["run"]["planned"]
    assert {case["status"] for case in document["cases"]} <= {"PASS", "KNOWN", "FAIL"}
    assert f"results: {klp.results}" in told.out
    assert "stopped early: interrupted" in told.out


def test_an_impatient_ctrl_c_leaves_no_process(klp: Klp, one: Bootable) -> None:
    started = klp.start(*klp.run_argv(one, *MANY))
    wait_for("an emulator", lambda: klp.emulators(one))
    for _ in range(5):
        started.send_signal(signal.SIGINT)
        time.sleep(0.05)
    # The last one may reach Python at its own end; to a shell that is 130 as well.
    assert klp.end(started).code in (Exit.INTERRUPTED, -signal.SIGINT)
    klp.assert_nothing_left()
    valid(klp.document())


def test_ctrl_c_before_anything_has_begun(klp: Klp, one: Bootable) -> None:
    """From the first document on, which is written before anything is built."""
    started = klp.start(*klp.run_argv(one, *MANY))
    wait_for("results", klp.begun)
    started.send_signal(signal.SIGINT)
    interrupted(klp.end(started))
    klp.assert_nothing_left()
    assert valid(klp.document())["run"]["trouble"] == "interrupted"


def test_kill_9_leaves_no_process_and_what_was_known(klp: Klp, one: Bootable) -> None:
    """Nobody can remove its run directory but the next run, and that does."""
    started = klp.start(*klp.run_argv(one, *MANY))
    wait_for("a result", lambda: klp.begun() and klp.document()["cases"])
    started.kill()
    klp.end(started)
    wait_for("all processes to end", lambda: not descendants(klp.mark))
    document = valid(klp.document())
    assert document["run"]["finished"] is None and document["cases"]
    assert len(klp.run_directories()) == 1
    klp.results.rename(klp.directory / "first")
    assert klp.run(*klp.run_argv(one, *ORDER)).code == Exit.GOOD


@pytest.fixture
def slow_tree(tmp_path: Path) -> Path:
    """A kernel source whose one object never gets compiled."""
    tree = tmp_path / "tree"
    files = {
        "Makefile": "VERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 9\nEXTRAVERSION =\n"
        "tinyconfig:\n\t@mkdir -p $(O) && echo CONFIG_MODULES=y > $(O)/.config\n"
        "olddefconfig:\n\t@true\n"
        "all bzImage:\n\t@echo '  CC      kernel/one.o'; sleep 1000\n",
        "Kconfig": "",
        "Kbuild": "",
        "scripts/kconfig/merge_config.sh": "#!/bin/sh\n# -m -O DIR CONFIG FRAGMENTS...\n"
        'shift 3; c=$1; shift; cat "$@" >> $c\n',
    }
    for name, text in files.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tree / "scripts/kconfig/merge_config.sh").chmod(0o755)
    return tree


def test_ctrl_c_while_building(klp: Klp, one: Bootable, slow_tree: Path) -> None:
    cache = klp.directory / "cache"
    started = klp.start(
        *klp.run_argv(one, "--kernel", f"dir:{slow_tree}", "--series", "none", *ORDER),
        env={"KLP_E2E_CACHE": str(cache)},
    )
    wait_for("a compiler", lambda: klp.running("sleep"))
    started.send_signal(signal.SIGINT)
    interrupted(klp.end(started))
    klp.assert_nothing_left()
    document = valid(klp.document())
    assert document["run"]["trouble"] == "interrupted" and document["cases"] == []
    assert [p.suffix for p in (cache / "kernels").iterdir()] == [".lock"]


# --- disks ----------------------------------------------------------------------------------------


def tmpfs(path: Path, options: str) -> str:
    path.mkdir(exist_ok=True)
    return f"mount -t tmpfs -o mode=0700,{options} klp-e2e-test {path}"


def test_no_room_for_a_build(klp: Klp, one: Bootable, slow_tree: Path) -> None:
    cache = klp.directory / "cache"
    told = klp.run(
        *klp.run_argv(one, "--kernel", f"dir:{slow_tree}", "--series", "none", *ORDER),
        env={"KLP_E2E_CACHE": str(cache)},
        prefix=in_namespace(tmpfs(cache, "size=4m")),
    )
    assert_clear(told, Exit.HARNESS, "needs 3 GiB", "klp-e2e cache prune")


def test_a_cache_that_runs_full_while_modules_are_built(klp: Klp, one: Bootable) -> None:
    cache, real = klp.directory / "cache", workdir.cache_root()
    shared = " ".join(str(real / kind) for kind in ("kernels", "sources", "guest", "trees"))
    mark = f"cp {real}/{ours.MARK} {cache}"
    mount = f"{tmpfs(cache, 'size=32k')} && {mark} && ln -s {shared} {cache}"
    left = klp.directory / "left"
    told = klp.run(
        *klp.run_argv(one, *ORDER),
        env={"KLP_E2E_CACHE": str(cache)},
        prefix=in_namespace(mount, after=f"ls -A {cache}/modules > {left}"),
    )
    assert_clear(told, Exit.HARNESS, "No space left on device", "klp-e2e cache prune")
    assert [name for name in left.read_text().split() if not name.endswith(".lock")] == []


def test_no_room_for_a_guest(klp: Klp, one: Bootable) -> None:
    """The run goes on to the next guest; the case has no verdict."""
    told = klp.run(
        *klp.run_argv(one, *ORDER),
        prefix=in_namespace(tmpfs(klp.temporary, "size=1m")),
    )
    assert told.code == Exit.HARNESS
    (found,) = klp.document()["cases"]
    assert found["status"] == "ERROR"
    assert "No space left on device" in found["reason"]
    assert "Traceback" not in told.err


def test_no_room_for_more_than_the_first_snapshot(klp: Klp, one: Bootable) -> None:
    """States are reached by their events instead, from a new boot; nothing is left out."""
    told = klp.run(
        *(
            "explore",
            "--arch",
            one.arch.name,
            "--depth",
            "3",
            "--guests",
            "1",
            "-o",
            str(klp.results),
        ),
        prefix=in_namespace(tmpfs(klp.temporary, "size=70m")),
    )
    assert told.code == Exit.GOOD, told.err
    document = json.loads((klp.results / "explore.json").read_text())
    stats = document["campaigns"][0]["stats"]
    assert stats["verified"] == stats["planned"] > 0
    assert len(document["run"]["guests"]) == 1 + SAVES_IN_VAIN  # each of them cost a guest


def test_no_room_for_results(klp: Klp, one: Bootable) -> None:
    told = klp.run(*klp.run_argv(one, *ORDER), prefix=in_namespace(tmpfs(klp.results, "size=4k")))
    assert_clear(told, Exit.HARNESS, f"cannot write {klp.results}", "the disk is full: ")


def test_no_room_for_what_an_exploration_finds_out(klp: Klp, one: Bootable) -> None:
    told = klp.run(
        *("explore", "--arch", one.arch.name, "--depth", "5", "-o", str(klp.results)),
        prefix=in_namespace(tmpfs(klp.results, "size=24k")),
    )
    assert_clear(told, Exit.HARNESS, f"cannot write {klp.results}", "the disk is full: ")


def test_a_cache_that_cannot_be_written_to(klp: Klp, one: Bootable) -> None:
    """Read-only, which binds root as well."""
    cache = klp.directory / "cache"
    told = klp.run(
        *klp.run_argv(one, *ORDER),
        env={"KLP_E2E_CACHE": str(cache)},
        prefix=in_namespace(tmpfs(cache, "ro")),
    )
    assert_clear(told, Exit.HARNESS, f"{cache} cannot be used", "read-only", "set KLP_E2E_CACHE")


# --- programs -------------------------------------------------------------------------------------


def path_without(directory: Path, program: str) -> Mapping[str, str]:
    """A PATH that has everything but one program."""
    directory.mkdir()
    for place in os.environ["PATH"].split(":"):
        for path in Path(place).glob("*"):
            link = directory / path.name
            if path.name != program and not link.is_symlink():
                link.symlink_to(path)
    return {"PATH": str(directory)}


def test_a_missing_emulator_is_told_before_anything_is_built(klp: Klp, bootable: Bootable) -> None:
    told = klp.run(
        *klp.run_argv(bootable, *ORDER),
        env={
            **path_without(klp.directory / "bin", bootable.arch.qemu),
            "KLP_E2E_CACHE": str(klp.directory / "cache"),
        },
    )
    package = next(name for name in bootable.arch.packages if name.startswith("qemu-"))
    assert_clear(told, Exit.HARNESS, bootable.arch.qemu, "apt-get install", package)


def test_a_missing_compiler_is_told(klp: Klp, bootable: Bootable) -> None:
    compiler = f"{bootable.arch.cross_compile}gcc"
    told = klp.run(
        *("build", "--arch", bootable.arch.name),
        env=path_without(klp.directory / "bin", compiler),
    )
    assert_clear(told, Exit.HARNESS, f"{compiler} is not installed", "apt-get install gcc")


def test_doctor_names_what_is_missing(klp: Klp, bootable: Bootable) -> None:
    env = path_without(klp.directory / "bin", bootable.arch.qemu)
    told = klp.run("doctor", "--arch", bootable.arch.name, env=env)
    assert told.code == Exit.HARNESS
    assert f"missing: program {bootable.arch.qemu}" in told.out
    assert told.out.splitlines()[-1].startswith("sudo apt-get install ")


def test_nothing_is_missing_here(klp: Klp) -> None:
    assert klp.run("doctor").code == Exit.GOOD
