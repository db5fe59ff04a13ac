# SPDX-License-Identifier: GPL-2.0-only
"""`make man`: the manual page, made of the commands, options and texts of `--help`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from importlib import metadata
from typing import Any, NamedTuple

import typer

from orchestrator.cli.program import NAME, app
from orchestrator.cli.table import GROUPS
from orchestrator.report.terminal import tell
from orchestrator.templating import text_templates

PAGE = f"{NAME}.1"
# What roff would take for its own, or show as another character that nobody can paste.
_SPECIAL = {"\\": "\\e", "-": "\\-", "'": "\\(aq", "`": "\\(ga", "^": "\\(ha", "~": "\\(ti"}


class Command(NamedTuple):
    """`words`: `cache list`; `usage`: what stands behind them; `options`: (names, help) of each;
    `examples`: the lines that --help shows."""

    words: str
    usage: str
    help: Sequence[str]
    options: Sequence[tuple[str, str]]
    examples: str


def roff(text: str) -> str:
    """Text that is shown as it is."""
    escaped = "".join(_SPECIAL.get(c, c) if c.isascii() else f"\\[u{ord(c):04X}]" for c in text)
    return re.sub(r"^(?=\.)", r"\\&", escaped, flags=re.MULTILINE)


def described(command: Any, words: str, parent: Any) -> Iterator[Command]:
    """A command, or the commands of a group."""
    context = typer.Context(command, info_name=words, parent=parent)
    if hasattr(command, "commands"):
        for name in command.commands:
            yield from described(command.commands[name], f"{words} {name}", parent)
        return
    yield Command(
        words,
        " ".join(command.collect_usage_pieces(context)),
        (command.help or "").split("\n\n"),
        options(command, context),
        (command.epilog or "").partition("Example:\n")[2],
    )


def options(command: Any, context: Any) -> list[tuple[str, str]]:
    """What --help says of each, but for --help itself."""
    records = (each.get_help_record(context) for each in command.params)
    return [each for each in records if each is not None]


def page() -> str:
    """The whole manual page."""
    whole: Any = typer.main.get_command(app)
    top = typer.Context(whole, info_name=NAME)
    groups = {
        title: [each for name in group for each in described(whole.commands[name], name, top)]
        for title, group in GROUPS.items()
    }
    templates = text_templates()
    templates.filters["roff"] = roff
    return templates.get_template(f"{PAGE}.j2").render(
        name=NAME,
        version=metadata.version(NAME),
        help=whole.help,
        options=options(whole, top),
        groups=groups,
    )


if __name__ == "__main__":
    tell(page().removesuffix("\n"))
