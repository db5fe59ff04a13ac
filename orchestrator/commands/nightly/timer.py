# SPDX-License-Identifier: GPL-2.0-only
"""`make install-timer`: systemd units of the user's own that run `klp-e2e nightly` every night."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from orchestrator import catalog
from orchestrator.cli.program import Alone, carried_out, guarded
from orchestrator.deadline import Deadline
from orchestrator.errors import Exit, HarnessError, MissingTool, UsageError
from orchestrator.history.files import NIGHTS
from orchestrator.host import files, process
from orchestrator.host.process import CommandFailed
from orchestrator.plain import one_line
from orchestrator.report import store
from orchestrator.report.terminal import open_streams, tell
from orchestrator.templating import text_templates

NAME = "klp-e2e-nightly"
TIMER = f"{NAME}.timer"
PASSED_ON = ("KLP_E2E_CACHE",)  # what the user's shell has and systemd's does not
# In each unit of ours, by which it is known.
WRITTEN = "# Written by `make install-timer`, which writes it anew; changes of yours belong into"
START = f"systemctl --user daemon-reload && systemctl --user enable --now {TIMER}"
SYSTEMCTL_S = 60.0

_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t"}


def percent(text: object) -> str:
    """As a path in a unit: % begins a specifier."""
    return str(text).replace("%", "%%")


def setting(text: str) -> str:
    """One quoted word of a list in a unit, its specifiers taken literally."""
    return f'"{"".join(_ESCAPES.get(c, c) for c in percent(text))}"'


def word(text: str) -> str:
    """One word of ExecStart=, where $ begins a variable, too."""
    return setting(text).replace("$", "$$")


_TEMPLATES = text_templates()
_TEMPLATES.filters.update(percent=percent, setting=setting, word=word)

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def units(command: Sequence[str], place: Path, environment: Mapping[str, str]) -> Mapping[str, str]:
    """File name -> text. command: absolute program and its arguments. place: where it runs."""
    known = {
        "command": command,
        "directory": place,
        "environment": environment,
    }
    names = (f"{NAME}.service", TIMER)
    return {name: _TEMPLATES.get_template(f"{name}.j2").render(known) for name in names}


@app.command(cls=Alone)
@guarded
def install(
    config: Annotated[
        Path | None, typer.Argument(metavar="CONFIG.toml", help="As of klp-e2e nightly.")
    ] = None,
    output: Annotated[
        Path, typer.Option("-o", metavar="DIR", help="The place of nights.")
    ] = NIGHTS,
    notify_command: Annotated[
        str | None, typer.Option("--notify-command", metavar="CMD", help="Run after each night.")
    ] = None,
) -> Exit:
    """Write the units and start the timer. Done again, it changes what is different."""
    chosen = (config or catalog.data_dir("kernel-config") / "nightly.toml").absolute()
    if not chosen.is_file():
        raise UsageError(f"there is no {chosen}", hint="give the file that says what a night does")
    command = [str(Path(sys.executable).with_name("klp-e2e")), "nightly", str(chosen)]
    command += ["-o", str(output.absolute()), "--wait"]
    if notify_command is not None:
        command += ["--notify-command", notify_command]
    place = Path.cwd()
    if one_line(str(place)) != str(place) or str(place)[-1] in " \\":
        raise UsageError(
            f"systemd cannot be told of {str(place)!r}: no name of a directory is quoted there",
            hint="give it another name",
        )
    passed_on = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    written = _write(units(command, place, passed_on))
    _start()
    tell("started: systemctl --user list-timers says when it runs next")
    tell("to have it run while you are not logged in: loginctl enable-linger")
    tell(f"to undo: systemctl --user disable --now {TIMER} && rm {process.pasteable(written)}")
    return Exit.GOOD


def _write(made: Mapping[str, str]) -> list[str]:
    """The files' paths. Raises UsageError, before anything is written, where one is not ours."""
    settings = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    place = settings / "systemd" / "user"
    with store.write_errors(place):
        place.mkdir(parents=True, exist_ok=True)
        before = {name: _ours(place / name) for name in made}
    for name, text in made.items():
        if before[name] != text:
            store.write(place / name, text)
        tell(f"{place / name}: {'as it was' if before[name] == text else 'written'}")
    return [str(place / name) for name in made]


def _ours(path: Path) -> str:
    """What we wrote there before, "" where there is nothing."""
    if not os.path.lexists(path):
        return ""
    text = ""
    if not path.is_symlink():
        with contextlib.suppress(OSError):  # no file, or nobody may read it: none of ours
            text = files.read(path, files.TABLE).decode(errors="replace")
    if WRITTEN not in text.splitlines()[:3]:
        raise UsageError(
            f"{path} is there, and none that this wrote: it stays as it is",
            hint="move it away, or start `klp-e2e nightly` from it yourself",
        )
    return text


def _start() -> None:
    """Restarted, for a running timer keeps its old times."""
    try:
        for words in (["daemon-reload"], ["enable", TIMER], ["restart", TIMER]):
            process.run(["systemctl", "--user", *words], deadline=Deadline.after(SYSTEMCTL_S))
    except MissingTool as missing:
        raise HarnessError(
            "the units are written, but this machine has no systemd that could run them",
            hint="on one that has it: " + START,
        ) from missing
    except CommandFailed as failed:
        said = (failed.tail.strip().splitlines() or ["no reason given"])[0]
        raise HarnessError(
            f"the units are written, but no systemd of yours takes them: {said}",
            hint=f"once you are logged in, outside of containers: {START}",
        ) from failed


if __name__ == "__main__":
    open_streams()
    sys.exit(carried_out(lambda: app(prog_name="make install-timer")))
