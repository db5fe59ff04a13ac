# SPDX-License-Identifier: GPL-2.0-only
"""`klp-e2e nightly`: what is typed, and what is shown."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.program import EXAMPLE, app, complain, guarded
from orchestrator.cli.showing import show
from orchestrator.commands.nightly import planfile, text, work
from orchestrator.errors import Exit, UsageError
from orchestrator.report.progress import Reporter
from orchestrator.report.terminal import Terminal, tell


@app.command(
    epilog=EXAMPLE + "klp-e2e nightly --dry-run\n"
    "  klp-e2e nightly mine.toml --only '*/core'\n"
    "  klp-e2e nightly mine.toml -o nights --notify-command 'mail -s \"$KLP_E2E_SUBJECT\" me'"
)
@guarded
def nightly(
    config: Annotated[
        Path | None,
        typer.Argument(
            metavar="CONFIG.toml",
            help="What a night runs. [default: the built-in kernel-config/nightly.toml]",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", metavar="DIR", help="Directory of all nights. [default: nights]"),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print the plan, with each job's time, and run nothing."),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="With --dry-run: print the plan as JSON.")
    ] = False,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only",
            metavar="JOB",
            help="Run a part of the night: this job, and the build of its kernel. A pattern such "
            "as '*/core' will do; may be given again. `klp-e2e merge` makes a night of parts.",
        ),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            "--resume",
            metavar="DIR",
            help="Go on with this night, the newest, or part of one, which did not end.",
        ),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until another night on this machine has ended.")
    ] = False,
    notify_command: Annotated[
        str | None,
        typer.Option(
            metavar="CMD", help="Shell command that gets the mail's text on its standard input."
        ),
    ] = None,
) -> Exit:
    """Run a matrix of kernels, unattended. Says what changed since the night before."""
    if as_json and not dry_run:
        raise UsageError("--json is of --dry-run", hint="a night's own JSON is its night.json")
    wanted = work.night_options(config, output, resume, wait, notify_command, only or ())
    if dry_run:
        planned = work.planned(wanted)
        if as_json:
            tell(planfile.text(planned, wanted))
        else:
            show(text.plan(planned, wanted))
        return Exit.GOOD
    with Reporter(Terminal(stderr=True)) as reporter:
        ended = work.run_night(wanted, reporter)
    for trouble in ended.troubles:
        complain(trouble)
    show(text.night(ended))
    return ended.digest.exit_code
