# SPDX-License-Identifier: GPL-2.0-only
"""reproduce.sh of a bundle: shows its failure again with nothing but QEMU and an OpenSSH client."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator import errnos
from orchestrator.model import orders
from orchestrator.model.judge import allowed_taint
from orchestrator.model.words import SHOWN_ANSWERS
from orchestrator.nouns import Burst, Event, Race
from orchestrator.repro.story import TEMPLATES, Story
from orchestrator.run import observe, signs
from orchestrator.run.booting import BOOT_SECONDS
from orchestrator.verdicts import Answers, CheckKind, Step
from orchestrator.vm import agent

HOST_ALIAS = "klp-e2e-guest"  # the guest's name in known_hosts, whatever its port


@dataclass(frozen=True, slots=True)
class Act:
    """One event."""

    event: str
    expected: str
    requests: tuple[str, ...]  # lines for the agent
    times: int
    seconds: int  # until the guest is given up


def script(story: Story) -> str:
    """reproduce.sh"""
    index, step, _ = story.failure
    result, arch = story.result, story.arch
    field = signs.field(story.arch, story.built, step)
    return TEMPLATES.get_template("reproduce.sh.j2").render(
        title=story.title,
        program=arch.qemu,
        oldest=arch.qemu_version,
        options=portable(result.qemu_argv),
        kvm=accel(result.qemu_argv) == "kvm",
        cpu=arch.cpu,
        cpu_kvm=arch.cpu_kvm,
        kvm_host=arch.kvm_host,
        release=story.kernel.release,
        arch=arch.name,
        host_alias=HOST_ALIAS,
        boot_seconds=int(BOOT_SECONDS * arch.time_scale),
        event_seconds=int(observe.EVENT_SECONDS * arch.time_scale),
        settle_ms=int(observe.SETTLE_SECONDS * arch.time_scale * 1000),
        errnos=_errno_names(result.steps),
        shown_answers=SHOWN_ANSWERS,
        allowed_taint=allowed_taint(story.built),
        acts=_acts(story)[: index + 1],
        probes=signs.probes(story.built.set, step),
        field=field,
        sign=signs.sign(story.built.set, step, result.console, field),
    )


# --- QEMU ----------------------------------------------------------------------------------------


def portable(argv: Sequence[str]) -> list[tuple[str, ...]]:
    """QEMU's options, each with its value, for a start in a directory of its own: kernel, initrd,
    sockets and console are named relative to it. Without the accelerator and the CPU, which the
    script chooses, and without what only the harness needs: QMP, gdb, the node for snapshots."""
    options: list[list[str]] = []
    for word in argv[1:]:
        if word.startswith("-"):
            options.append([word])
        else:
            options[-1].append(word)
    return [kept for option in options if (kept := _portable(tuple(option)))]


def _portable(option: tuple[str, ...]) -> tuple[str, ...]:
    match option:
        case ("-accel" | "-cpu" | "-blockdev" | "-mon" | "-gdb", *_):
            return ()
        case ("-kernel" | "-initrd", _):
            return option[0], option[0].removeprefix("-")
        case ("-chardev", value):
            kept = re.search(r",id=(?:console|agent),", value)
            return (option[0], re.sub(r"path=.*/", "path=", value)) if kept else ()
    return option


def value(argv: Sequence[str], option: str) -> str:
    return argv[argv.index(option) + 1] if option in argv else ""


def accel(argv: Sequence[str]) -> str:
    return value(argv, "-accel") or "tcg"


# --- events --------------------------------------------------------------------------------------


def _acts(story: Story) -> list[Act]:
    """Those that were done."""
    scale = story.arch.time_scale
    acts = []
    for event, step in zip(story.result.case.order.events, story.result.steps, strict=False):
        answer = next((c for c in step.checks if c.kind is CheckKind.ANSWER), None)
        acts.append(
            Act(
                event=step.event,
                expected=answer.expected if answer else "an answer",
                requests=_requests(story.built.set.name, event),
                times=event.times if isinstance(event, Burst) else 1,
                seconds=int(observe.EVENT_SECONDS * orders.plain_events(event) * scale),
            )
        )
    return acts


def _requests(set_name: str, event: Event) -> tuple[str, ...]:
    match event:
        case Race(events):
            racers = [observe.request(set_name, racer) for racer in events]
            words = [word for racer in racers for word in (str(len(racer)), *racer)]
            return (_line("race", *words),)
        case Burst(events, _):
            return tuple(_line(*observe.request(set_name, each)) for each in events)
        case _:
            return (_line(*observe.request(set_name, event)),)


def _line(*words: str) -> str:
    """Coded further than `agent.encode` needs: the script puts it between single quotes, and some
    shells' `echo` reads backslashes."""
    return agent.encode(*words).replace("'", "%27").replace("\\", "%5c")


def _errno_names(steps: Sequence[Step]) -> list[tuple[int, str]]:
    """(number, "ENOEXEC (8)") of every errno that was seen or expected."""
    details = (check.detail for step in steps for check in step.checks)
    found = {
        number
        for detail in details
        if isinstance(detail, Answers)
        for number in (*detail.expected_errnos, *detail.seen_errnos)
    }
    return [(number, errnos.describe(number)) for number in sorted(found - {0})]
