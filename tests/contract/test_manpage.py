# SPDX-License-Identifier: GPL-2.0-only
"""The manual page has everything, and roff takes it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer.main

from orchestrator import cli
from orchestrator.cli import manpage
from orchestrator.cli.table import GROUPS
from orchestrator.errors import Exit

TOP = Path(__file__).parents[2]
PAGE = manpage.page()


def plain(text: str) -> str:
    """What a reader sees of lines of roff."""
    for character, escaped in manpage._SPECIAL.items():
        if character != "\\":
            text = text.replace(escaped, character)
    return text.replace("\\e", "\\")


def section(title: str) -> str:
    return plain(re.split(r"(?m)^\.S[SH] ", PAGE.partition(f"{title}\n")[2])[0])


def every_command() -> dict[str, Any]:
    whole: Any = typer.main.get_command(cli.app)
    found: dict[str, Any] = {}
    for name, command in whole.commands.items():
        for part, each in getattr(command, "commands", {"": command}).items():
            found[f"{name} {part}".strip()] = each
    return found


COMMANDS = every_command()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_there_with_all_it_takes_and_its_examples(name: str) -> None:
    heading = re.search(rf"(?m)^\.SS klp\\-e2e {name}(?= \[)[^\n]*$", PAGE)
    assert heading
    told = section(heading[0])
    command = COMMANDS[name]
    assert " ".join(command.help.split("\n\n")[0].split()) in " ".join(told.split())
    named = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", "\n".join(re.findall(r"\.B .*", told))))
    options = {o for param in command.params for o in param.opts if o.startswith("-")}
    assert named == options
    arguments = [p for p in command.params if not p.opts[0].startswith("-")]
    assert all(f".B {each.metavar}" in told for each in arguments)
    assert command.epilog.partition("Example:\n")[2].rstrip() in told


def test_it_has_the_groups_the_program_s_options_and_the_other_sections() -> None:
    titles = [title.upper() for title in GROUPS]
    others = ["EXIT STATUS", "ENVIRONMENT", "FILES", "EXAMPLES", "SEE ALSO"]
    found = re.findall(r"(?m)^\.SH (.*)$", PAGE)
    assert found == ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", *titles, *others]
    whole: Any = typer.main.get_command(cli.app)
    told = section(".SH OPTIONS")
    assert all(f".B {param.opts[0]}" in told for param in whole.params)
    codes = section(".SH EXIT STATUS")
    assert re.findall(r"(?m)^\.B (\d+)$", codes) == [str(int(code)) for code in Exit]


def test_it_tells_of_the_environment_what_the_reference_does() -> None:
    text = (TOP / "docs" / "reference" / "environment.md").read_text().partition("For tests:")[0]
    told = section(".SH ENVIRONMENT")
    names = re.findall(r"(?m)^\| `(\w+)`", text)
    assert len(names) > 5
    assert [name for name in names if name not in told] == []


def test_what_roff_would_take_for_its_own_is_shown() -> None:
    text = ".TH 'a' \\n\n.x -- `b` ~/^ …"
    assert manpage.roff(text) == (
        "\\&.TH \\(aqa\\(aq \\en\n\\&.x \\-\\- \\(gab\\(ga \\(ti/\\(ha \\[u2026]"
    )


def test_roff_warns_of_nothing() -> None:
    argv = ["groff", "-man", "-ww", "-Tutf8", "-rLL=100n"]
    done = subprocess.run(argv, input=PAGE, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    shown = re.sub(r".\x08|\x1b\[\d*m", "", done.stdout)
    assert "klp-e2e run [OPTIONS]" in shown
    assert "klp-e2e run --arch s390x --order '+klp_patch +klp_target -klp_target" in shown
    wrong = subprocess.run(argv, input=f"{PAGE}.SX\n", capture_output=True, text=True, check=True)
    assert wrong.stderr != ""
