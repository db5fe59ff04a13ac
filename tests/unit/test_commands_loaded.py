# SPDX-License-Identifier: GPL-2.0-only
"""Commands are imported when they are called: `--help` is there at once, and says what they say."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from orchestrator import commands
from orchestrator.cli import program
from orchestrator.cli.table import COMMANDS, GROUPS
from orchestrator.errors import Exit

HEAVY = "cryptography elftools jinja2 paramiko pydantic qemu tuxmake"
HELP = f"""
import sys
from orchestrator.cli import app
try:
    app(["--help"])
except SystemExit:
    print("imported:", sorted({{*"{HEAVY}".split()}} & {{*sys.modules}}))
"""
GENUINE = Path(__file__).parent / "genuine/objtool-7.3.4.ko"
# an architecture's file is checked by pydantic, and a module read by elftools
NOT_OF_INSPECT = (
    "cryptography jinja2 paramiko psutil qemu tuxmake "
    "orchestrator.cli.options orchestrator.host.process orchestrator.report.resultsjson"
)
INSPECT = f"""
import sys
from orchestrator.cli import app
try:
    app(["inspect", {str(GENUINE)!r}])
finally:
    print("imported:", sorted({{*"{NOT_OF_INSPECT}".split()}} & {{*sys.modules}}))
"""
INCOMPLETE = """
import sys
sys.modules["paramiko"] = None
sys.argv[1:] = {words}
from orchestrator.__main__ import main
main()
"""


def python(text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, timeout=60, check=False
    )


def test_help_imports_no_command() -> None:
    told = python(HELP)
    assert told.stderr == "" and told.stdout.endswith("imported: []\n")
    assert all(f"  {name} " in told.stdout for name in COMMANDS)


def test_inspect_imports_nothing_of_builds_and_guests() -> None:
    """It is called for each of many files."""
    told = python(INSPECT)
    assert told.stderr == "" and "violations:\n  none\n" in told.stdout
    assert told.stdout.endswith("imported: []\n")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_where_the_table_has_it_and_says_the_same(name: str) -> None:
    whole: Any = typer.main.get_command(program.app)
    command = whole.get_command(None, name)
    assert command.name == name
    assert command.get_short_help_str(limit=100) == COMMANDS[name]


def test_help_shows_the_groups_and_run_first() -> None:
    told = CliRunner().invoke(program.app, ["--help"]).stdout
    for title, group in GROUPS.items():
        lines = told.partition(f"\n{title}:\n")[2].partition("\n\n")[0].splitlines()
        assert [tuple(line.split(maxsplit=1)) for line in lines] == [
            (name, line) for name, line in group.items()
        ]
    assert next(iter(COMMANDS)) == "run"
    assert sum(map(len, GROUPS.values())) == len(COMMANDS)


def test_every_command_is_in_the_table() -> None:
    there = {path.stem for path in Path(commands.__file__).parent.iterdir()}
    assert {name for name in there if not name.startswith("_")} == {*COMMANDS}
    for name in COMMANDS:
        import_module(f"{commands.__name__}.{name}")
    known = [*program.app.registered_commands, *program.app.registered_groups]
    names = {each.name or getattr(each.callback, "__name__", "") for each in known}  # type: ignore[attr-defined]  # groups have names
    assert names == {*COMMANDS}


def test_what_is_no_command_is_told_with_what_is_like_it() -> None:
    whole: Any = typer.main.get_command(program.app)
    assert whole.get_command(None, "rum") is None
    assert (len(whole.commands), "rum" in whole.commands) == (len(COMMANDS), False)


def test_a_command_of_an_installation_that_is_not_whole_has_its_own_exit_code() -> None:
    told = python(INCOMPLETE.format(words=["doctor"]))
    assert told.returncode == Exit.HARNESS
    assert told.stderr.startswith("klp-e2e: the installation is not whole: ")
    assert python(INCOMPLETE.format(words=["--version"])).returncode == Exit.GOOD


def test_ctrl_c_while_a_command_is_imported_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(program, "import_module", interrupted)
    with pytest.raises(typer.Exit) as end:
        program.Called()["run"]
    assert end.value.exit_code == Exit.INTERRUPTED
