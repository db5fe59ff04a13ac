# SPDX-License-Identifier: GPL-2.0-only
"""Completion as a shell asks for it. With a real bash; of zsh and fish what they ask."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from orchestrator import catalog
from orchestrator.cli import options, program
from orchestrator.cli.table import COMMANDS
from orchestrator.errors import Exit
from orchestrator.model import suite

HERE = Path(sys.executable).parent


def klp(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [HERE / "klp-e2e", *words],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def offered(line: str) -> list[str]:
    """What is offered for the last word of a line, as bash asks for it."""
    words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
    told = klp(**words, **{program.COMPLETE: "complete_bash"})
    assert (told.returncode, told.stderr) == (0, "")
    return told.stdout.split()


NAMES: Mapping[str, list[str]] = {
    "klp-e2e ": [*COMMANDS],
    "klp-e2e m": [name for name in COMMANDS if name.startswith("m")],
    "klp-e2e cache ": ["list", "size", "prune"],
    "klp-e2e run --suite ": [*options.our_suites()],
    "klp-e2e run --modules ": [*catalog.module_sets()],
    "klp-e2e explore --modules ": [*catalog.module_sets(), options.ALL],
    "klp-e2e -v build --series ": [options.SERIES, options.BARE, "x86-ftrace-call"],
    "klp-e2e build --arch ": [*catalog.arches()],
    "klp-e2e port ": [*catalog.arches()],
    "klp-e2e run --accel ": ["auto", "kvm", "tcg"],
    "klp-e2e run --order '' --str": ["--strict"],
    "klp-e2e run --modules ./": [],  # bash offers files then
}


@pytest.mark.parametrize("line", NAMES)
def test_what_is_offered(line: str) -> None:
    assert sorted(offered(line)) == sorted(NAMES[line])


def test_what_is_said_at_once_is_not_said_while_a_line_is_completed() -> None:
    assert "--show-completion" in offered("klp-e2e --version -")


def test_every_suite_that_is_offered_is_one() -> None:
    read = {name: catalog.load_toml(p, suite.SuiteFile) for name, p in options.our_suites().items()}
    assert options.SUITE in read


def test_bash_completes(tmp_path: Path) -> None:
    script = """
        source <(klp-e2e --show-completion bash)
        complete -p klp-e2e
        COMP_WORDS=(klp-e2e run --suite s) COMP_CWORD=3
        _klp_e2e_completion klp-e2e
        echo "${COMPREPLY[@]}"
    """
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        env={"PATH": f"{HERE}:{os.environ['PATH']}", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""
    registered, found = done.stdout.splitlines()
    assert registered == "complete -o default -F _klp_e2e_completion klp-e2e"
    assert found == "smoke"


@pytest.mark.parametrize("shell", program.Shell)
def test_each_shell_gets_its_script_and_no_file_is_written(
    shell: program.Shell, tmp_path: Path
) -> None:
    told = klp("--show-completion", shell, HOME=str(tmp_path))
    assert (told.returncode, told.stderr) == (0, "")
    assert f"{program.COMPLETE}=complete_{shell}" in told.stdout
    if there := shutil.which(shell):
        check = subprocess.run([there, "-n"], input=told.stdout, text=True, check=False)
        assert check.returncode == 0
    assert klp("--install-completion", HOME=str(tmp_path)).returncode == Exit.USAGE
    assert [*tmp_path.iterdir()] == []


def test_fish_and_zsh_are_told_what_each_is_for() -> None:
    line = {"_TYPER_COMPLETE_ARGS": "klp-e2e mu", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    told = klp(**line, **{program.COMPLETE: "complete_fish"})
    assert told.stdout == f"mutate\t{COMMANDS['mutate']}\n"
    told = klp(**line, **{program.COMPLETE: "complete_zsh"})
    assert f'"mutate":"{COMMANDS["mutate"]}"' in told.stdout


def test_to_offer_commands_imports_none() -> None:
    text = """
import sys
from orchestrator.__main__ import main
sys.argv[0] = "klp-e2e"
try:
    main()
finally:
    print(*(name for name in sorted(sys.modules) if name.startswith("orchestrator.commands.")))
"""
    asked = {"COMP_WORDS": "klp-e2e m", "COMP_CWORD": "1", program.COMPLETE: "complete_bash"}
    done = subprocess.run(
        [sys.executable, "-c", text],
        env={**os.environ, **asked},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split() == ["minimise", "mutate", "malformed", "merge"]
