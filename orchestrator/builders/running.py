# SPDX-License-Identifier: GPL-2.0-only
"""A builder's program run to its end, and what it comes to where it makes nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from orchestrator.build import kbuild
from orchestrator.build.kbuild import Progress
from orchestrator.builders.request import Request
from orchestrator.builders.tree import BuildTree
from orchestrator.deadline import Deadline
from orchestrator.errors import BuildError, HarnessError, KlpError
from orchestrator.host import process

COMPILER = re.compile(r"^\S+:\d+(?::\d+)?: (?:fatal )?error: .+$", re.MULTILINE)
# a shell's words, of a program of its own that this machine has ended
_KILLED = re.compile(r": line \d+: +\d+ (?:Killed|Terminated|Bus error)\b.*$", re.MULTILINE)


def run(
    name: str,
    command: Sequence[str],
    request: Request,
    tree: BuildTree,
    patches: Sequence[Path],
    *,
    compiled: re.Pattern[str],
    expected: int,
    progress: Progress,
    deadline: Deadline,
    why_unbuilt: Callable[[str, Request, Path], KlpError],
) -> Path:
    """The livepatch's .ko, which `command` is to have put into `tree.made`.

    name: the builder's. compiled: a line of it that tells of a file, group 1. expected: how many of
    those there will be, 0 where nobody knows. Raises what `why_unbuilt` makes of what it said;
    HarnessError where it was killed; OutOfTime.
    """
    done_so_far = 0

    def on_line(line: str) -> None:
        nonlocal done_so_far
        if match := compiled.match(line[: kbuild.LINE]):
            done_so_far += 1
            progress(done_so_far, max(expected, done_so_far + 1), match[1])

    ended = process.run(
        [*command, *map(str, patches)],
        cwd=tree.source,
        log=tree.log,
        check=False,
        on_line=on_line,
        deadline=deadline,
    )
    if ended.code < 0:
        raise HarnessError(
            f"{name} was killed by signal {-ended.code}", hint=f"nothing it did is kept; {tree.log}"
        )
    made = tree.made / f"{request.name}.ko"
    if ended.code != 0 or not made.is_file():
        said = tree.log.read_text(errors="replace").replace(f"{patches[0].parent}/", "")
        raise why_unbuilt(said, request, tree.log)
    return made


def failure(
    name: str,
    text: str,
    request: Request,
    log: Path,
    words: Iterable[str],
    advice: Callable[[str], str] = lambda _: "",
) -> BuildError | HarnessError:
    """What a build that failed comes to, by what it said: HarnessError where this machine is to
    blame, BuildError with the builder's own `words` where patch or kernel are."""
    killed = _KILLED.search(text)
    if fault := kbuild.fault_of_machine(text) or (killed[0].lstrip(": ") if killed else ""):
        return HarnessError(
            f"{request.name} could not be built here: {fault}",
            hint=f"that is this machine's, and says nothing of the patch; the whole log: {log}",
        )
    last = (text.strip().splitlines() or [f"{name} said nothing"])[-1]
    told = "; ".join(dict.fromkeys(words)) or last
    more = advice(told)
    return BuildError(
        f"{name} does not build {request.fix.name}: {told}",
        hint=(f"{more}\n" if more else "") + f"the whole log: {log}",
        log=str(log),
    )
