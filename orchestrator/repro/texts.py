# SPDX-License-Identifier: GPL-2.0-only
"""What a bundle says: `reproduce.sh` and `README.md`. Pure, from templates/*.j2.

The script needs a shell, QEMU and an OpenSSH client. It does the events up to the one that fails by
the same requests as `observe`, and judges by one sign: what failed first, or, where that was a
relocation and a patched function read through it, what that function shows.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator import errnos, plain
from orchestrator.errors import HarnessError
from orchestrator.model import orders
from orchestrator.model.judge import allowed_taint
from orchestrator.model.known import KnownIssue
from orchestrator.model.words import SHOWN_ANSWERS, place
from orchestrator.nouns import (
    Arch,
    BuiltModule,
    BuiltSet,
    Burst,
    Event,
    Kernel,
    Load,
    ModuleSet,
    Plain,
    Race,
    SetEnabled,
    SetParameter,
    Unload,
)
from orchestrator.run import observe, signs
from orchestrator.run.booting import BOOT_SECONDS
from orchestrator.templating import text_templates
from orchestrator.verdicts import Answers, CaseResult, Check, CheckKind, Reading, Step
from orchestrator.vm import agent

HOST_ALIAS = "klp-e2e-guest"  # the guest's name in known_hosts, whatever its port
CONSOLE_LINES = 12  # shown in the README
MOST_SHOWN = 500  # characters of a line of them

_TEMPLATES = text_templates()
# What others have named or said goes through one of these: see `plain`.
_TEMPLATES.filters |= {
    "q": plain.shell,
    "exactly": shlex.quote,  # what something is compared with, and is not shown
    "line": plain.one_line,
    "lines": plain.lines,
    "md": plain.markdown,
    "code": plain.code,
}


@dataclass(frozen=True, slots=True)
class Story:
    """A case that failed, with all that its texts are made of."""

    result: CaseResult
    arch: Arch
    kernel: Kernel
    built: BuiltSet
    tries: tuple[int, int]  # of how many cold boots how many failed so: (failed, boots)
    qemu_version: str
    place: str  # the bundle's name
    issue: KnownIssue | None = None  # that it fails as

    @property
    def failure(self) -> tuple[int, Step, Check]:
        """(index of the event from 0, step, cause). Raises HarnessError when nothing failed."""
        found = self.result.first_failure()
        if found is None:
            raise HarnessError(f"{self.result.case.name} did not fail: there is nothing to bundle")
        index, step, _ = found
        return index, step, signs.cause(step)


@dataclass(frozen=True, slots=True)
class Act:
    """One event for the script and for the README."""

    event: str
    words: str
    expected: str
    requests: tuple[str, ...]  # lines for the agent
    times: int
    seconds: int  # until the guest is given up


def script(story: Story) -> str:
    """reproduce.sh"""
    index, step, _ = story.failure
    result, arch = story.result, story.arch
    field = signs.field(story.arch, story.built, step)
    return _TEMPLATES.get_template("reproduce.sh.j2").render(
        title=_title(story),
        program=arch.qemu,
        oldest=arch.qemu_version,
        options=portable(result.qemu_argv),
        kvm=_accel(result.qemu_argv) == "kvm",
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


def readme(story: Story) -> str:
    """README.md"""
    index, step, first = story.failure
    result = story.result
    checks = [check for check in step.checks if not check.good and check is not first]
    failed, tries = story.tries
    return _TEMPLATES.get_template("README.md.j2").render(
        title=_title(story),
        story=_story(story),
        known_issue=result.known_issue,
        issue=story.issue,
        differs=_differs,
        livepatches=_livepatches(story),
        order=orders.format(result.case.order),
        acts=_acts(story)[: index + 1],
        unreached=[orders.format_event(e) for e in result.case.order.events[index + 1 :]],
        failed=failed,
        tries=tries,
        first=first,
        others=checks,
        said=[line.rstrip()[:MOST_SHOWN] for line in result.console.splitlines()[-CONSOLE_LINES:]],
        kernel=story.kernel,
        arch=story.arch.name,
        program=story.arch.qemu,
        oldest=story.arch.qemu_version,
        qemu_version=story.qemu_version,
        accel=_accel(result.qemu_argv).upper(),
        cmdline=_value(result.qemu_argv, "-append"),
        place=plain.one_line(shlex.quote(story.place)),
        hints=_hints(story, first),
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


def _value(argv: Sequence[str], option: str) -> str:
    return argv[argv.index(option) + 1] if option in argv else ""


def _accel(argv: Sequence[str]) -> str:
    return _value(argv, "-accel") or "tcg"


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
                words=_event_words(story.built.set, event),
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


def _event_words(module_set: ModuleSet, event: Event) -> str:
    match event:
        case Race(events):
            words = "; ".join(_plain_words(module_set, each) for each in events)
            return f"at the same time, each on a CPU of its own: {words}"
        case Burst(events, times):
            words = "; ".join(_plain_words(module_set, each) for each in events)
            return f"{times} times, one after another: {words}"
        case _:
            return _plain_words(module_set, event)


def _plain_words(module_set: ModuleSet, event: Plain) -> str:
    match event:
        case Load(module, parameters):
            words = " ".join(f"{name}={value}" for name, value in parameters)
            given = f" with {plain.code(words)}" if words else ""
            return f"load `{module}`{given} ({plain.markdown(_what(module_set, module))})"
        case Unload(module):
            return f"unload `{module}`"
        case SetEnabled(module, enabled):
            doing = "enable" if enabled else "disable"
            return f"{doing} it: write {int(enabled)} to /sys/kernel/livepatch/{module}/enabled"
        case SetParameter(module, parameter, value):
            return f"write {plain.code(value)} to /sys/module/{module}/parameters/{parameter}"


def _what(module_set: ModuleSet, name: str) -> str:
    spec = module_set.module(name)
    if spec is None or spec.kind == "plain":
        return "an unrelated module: it takes memory"
    if spec.kind == "target":
        return "a target"
    patches = ", ".join(
        f"{' and '.join(functions) or 'no function'} of {where}"
        for where, functions in spec.patches.items()
    )
    return f"a livepatch{', replacing all others,' if spec.replace else ''} for {patches}"


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


# --- livepatches ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Livepatch:
    name: str
    origin: str
    relocations: str  # how many of which type


def _livepatches(story: Story) -> list[_Livepatch]:
    return [
        _Livepatch(module.spec.name, _origin(module, story.built.set), _types(module, story.arch))
        for module in story.built.modules.values()
        if module.spec.kind == "livepatch"
    ]


def _origin(module: BuiltModule, module_set: ModuleSet) -> str:
    if module.spec.ko:
        return "built elsewhere, taken as it is"
    if module_set.in_tree:
        return f"built in the kernel's tree, in {module_set.in_tree}"
    return (
        "built from set/ by the kernel's kbuild; then klp-e2e made klp relocations "
        "(Documentation/livepatch/module-elf-format.rst) of what its objects do not export"
    )


def _types(module: BuiltModule, arch: Arch) -> str:
    kinds = ((entry.object, arch.relocation(entry.type)) for entry in module.klp_relocations)
    named = Counter((owner, "unknown" if kind is None else kind.name) for owner, kind in kinds)
    return ", ".join(f"{n} {kind} for {owner}" for (owner, kind), n in named.items()) or "none"


# --- the story -----------------------------------------------------------------------------------


def _title(story: Story) -> str:
    _, step, first = story.failure
    what = first.seen if first.kind is CheckKind.ANSWER else first.subject
    return f"{story.arch.name}, Linux {story.kernel.release}: {step.event}: {what}"


def _story(story: Story) -> str:
    """What happened, in one sentence."""
    index, step, first = story.failure
    before = " ".join(orders.format_event(e) for e in story.result.case.order.events[:index])
    event = plain.code(step.event)
    after = f"After {plain.code(before)} the event {event}" if before else f"The event {event}"
    seen, expected, subject = map(plain.markdown, (first.seen, first.expected, first.subject))
    what = {
        CheckKind.ANSWER: f"is answered with {seen} instead of {expected}",
        CheckKind.RELOCATION: "leaves a deferred relocation of a livepatch wrong",
        CheckKind.VALUE: "leaves a patched function that reads or does what is wrong",
        CheckKind.SYSFS: "leaves livepatch or the module loader in another state than it should",
        CheckKind.HEALTH: f"does harm to the kernel ({subject}: {seen})",
    }
    return f"{after} {what[first.kind]}."


def _differs(check: Check) -> str:
    """`read=0 instead of read=42, ...`: of two texts of as many words, those that are not alike;
    "" for others, and where every one differs."""
    pairs = list(zip(check.seen.split(), check.expected.split(), strict=False))
    found = [f"{seen} instead of {expected}" for seen, expected in pairs if seen != expected]
    as_long = len(check.seen.split()) == len(check.expected.split())
    whole = check.kind is CheckKind.VALUE and as_long and len(found) < len(pairs)
    return ", ".join(found) if whole else ""


def _hints(story: Story, first: Check) -> list[str]:
    hints = []
    match first.kind:
        case CheckKind.RELOCATION:
            hints.append(
                "`klp_write_section_relocs()` or `klp_apply_section_relocs()` in "
                "`kernel/livepatch/core.c`, and `apply_relocate_add()` of the architecture "
                f"(`{_arch_directory(story.arch)}/kernel/module*.c`)"
            )
            if isinstance(first.detail, Reading):
                command = plain.code(f"objdump -dr modules/{first.detail.livepatch}.ko")
                hints.append(f"{command} at {plain.code(place(first.detail))}")
        case CheckKind.ANSWER:
            hints.append(
                "the console's lines above: livepatch and the module loader say why they refuse "
                "(`kernel/livepatch/core.c`, `klp_module_coming()`; `kernel/module/main.c`; "
                f"`apply_relocate_add()` in `{_arch_directory(story.arch)}/kernel/module*.c`)"
            )
        case CheckKind.VALUE:
            hints.append("what the patched function reads, in `set/`, and through which relocation")
        case CheckKind.SYSFS:
            hints.append("`kernel/livepatch/core.c` and `transition.c`, `kernel/module/main.c`")
        case CheckKind.HEALTH:
            hints.append("`console.log`: the first report counts, the others follow from it")
    files = f"kernel/livepatch/core.c {_arch_directory(story.arch)}/kernel/module*.c"
    hints.append(f"Who is to be told: `scripts/get_maintainer.pl -f {files}`")
    return hints


def _arch_directory(arch: Arch) -> str:
    """arch/NAME of the kernel's tree, which may not be called as `make ARCH=` calls it."""
    top, _, rest = arch.image_path.partition("/")
    return f"arch/{rest.partition('/')[0] if top == 'arch' else arch.kernel_arch}"
