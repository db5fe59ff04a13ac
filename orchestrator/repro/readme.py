# SPDX-License-Identifier: GPL-2.0-only
"""README.md of a bundle: its failure as a report that goes to a kernel list as it is."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from orchestrator import kernelreports, plain
from orchestrator.model import orders, words
from orchestrator.nouns import Arch, ModuleSet, ModuleSpec
from orchestrator.repro.byhand import DIRECTORY, ByHand
from orchestrator.repro.record import SET
from orchestrator.repro.script import accel, value
from orchestrator.repro.story import TEMPLATES, Story, arch_directory, event_words
from orchestrator.verdicts import Answers, Check, CheckKind, Reading, RelocationState, Shown

CONSOLE_LINES = 12  # shown
RELOCATIONS = 3  # beside the first that is wrong
MOST_SHOWN = 500  # characters of a line of them
FRAMES = 4  # of an oops
_COMING = "kernel/livepatch/core.c, klp_module_coming()"
_LOADER = "apply_relocate_add()"  # every architecture has it


def readme(story: Story, by_hand: ByHand) -> str:
    """README.md"""
    index, step, first = story.failure
    result = story.result
    checks = [check for check in step.checks if not check.good]
    answers = [check for check in checks if check.kind is CheckKind.ANSWER]
    refused = any(isinstance(each.detail, Answers) and _refuses(each.detail) for each in answers)
    wrong = next((each for each in checks if _field(each, story.arch, refused)), None)
    others = _others([check for check in checks if check not in (wrong, *answers)])
    left = len(checks) - len(answers) - (wrong is not None) - (0 if refused else len(others))
    failed, tries = story.tries
    return TEMPLATES.get_template("README.md.j2").render(
        title=story.title,
        known_issue=result.known_issue,
        issue=story.issue,
        summary=_summary(index + 1, first, checks),
        differs=_differs,
        livepatches=_livepatches(story),
        built_again=_built_again(story),
        order=orders.format(result.case.order),
        acts=_acts(story),
        unreached=[orders.format_event(e) for e in result.case.order.events[index + 1 :]],
        failed=failed,
        tries=tries,
        first=first,
        field=_field(wrong, story.arch, refused) if wrong else {},
        refused=refused,
        others=[(_subject(story, each), each) for each in others if not refused],
        left_out=left,
        said=_said(story, first),
        where=list(_where(story, first)),
        kernel=story.kernel,
        arch=story.arch.name,
        arch_directory=arch_directory(story.arch),
        kernel_arch=story.arch.kernel_arch,
        prefix=story.arch.cross_compile,
        program=story.arch.qemu,
        oldest=story.arch.qemu_version,
        qemu_version=story.qemu_version,
        accel=accel(result.qemu_argv).upper(),
        cmdline=value(result.qemu_argv, "-append"),
        place=plain.one_line(shlex.quote(story.place)),
        by_hand=by_hand,
        directory=DIRECTORY,
    )


# --- the order -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Act:
    words: str
    expected: str
    seen: str  # "": as expected


def _acts(story: Story) -> Iterator[_Act]:
    for number, (event, step) in enumerate(zip(story.events, story.result.steps, strict=False)):
        answer = next((c for c in step.checks if c.kind is CheckKind.ANSWER), None)
        expected = answer.expected if answer else "success"
        seen = answer.seen if answer and not answer.good else ""
        words = event_words(story.built.set, event, story.events[:number])
        yield _Act(words, expected, seen)


# --- expected and seen ---------------------------------------------------------------------------


def _summary(number: int, first: Check, checks: Sequence[Check]) -> str:
    """In a sentence or two, in Markdown. number: of the step, from 1."""
    seen, expected, subject = map(plain.markdown, (first.seen, first.expected, first.subject))
    shown = next((found for c in checks if (found := _differs(c))), "")
    match first.kind:
        case CheckKind.ANSWER:
            return f"Step {number} below is answered with {seen} instead of {expected}."
        case CheckKind.RELOCATION:
            wrong = _relocations(checks)
            some = "klp relocations are" if wrong > 1 else "klp relocation is"
            text = f"After step {number} below, {wrong} {some} wrong."
            return f"{text} A patched function shows {plain.markdown(shown)}." if shown else text
        case CheckKind.VALUE:
            shown = plain.markdown(shown) or f"{seen} instead of {expected}"
            return f"After step {number} below, a patched function shows {shown}."
        case CheckKind.SYSFS:
            return f"After step {number} below, {subject} is not as it should be."
        case CheckKind.HEALTH:
            return f"Step {number} below harms the kernel: {subject}: {seen}."


def _refuses(answers: Answers) -> bool:
    """Is an event refused that should have gone?"""
    return any(answers.seen_errnos[each] for each in answers.wrong)


def _relocations(checks: Sequence[Check]) -> int:
    return sum(check.kind is CheckKind.RELOCATION for check in checks)


def _others(checks: Sequence[Check]) -> list[Check]:
    """Those that are shown: a few relocations, and nothing twice."""
    relocations = [check for check in checks if check.kind is CheckKind.RELOCATION]
    shown: dict[tuple[str, str], Check] = {}
    for check in checks:
        if check not in relocations[RELOCATIONS:]:
            shown.setdefault((check.expected, check.seen), check)
    return list(shown.values())


def _subject(story: Story, check: Check) -> str:
    """What was looked at."""
    if isinstance(check.detail, Shown):
        for probe in story.built.set.probes:
            if probe.name == check.detail.probe:
                return f"{probe.file or probe.command}, of {probe.function}"
    return check.subject


def _differs(check: Check) -> str:
    """`read=0 instead of read=42, ...`: of two texts of as many words, those that are not alike;
    "" for others, and where every one differs."""
    pairs = list(zip(check.seen.split(), check.expected.split(), strict=False))
    found = [f"{seen} instead of {expected}" for seen, expected in pairs if seen != expected]
    as_long = len(check.seen.split()) == len(check.expected.split())
    whole = check.kind is CheckKind.VALUE and as_long and len(found) < len(pairs)
    return ", ".join(found) if whole else ""


def _field(check: Check, arch: Arch, refused: bool) -> dict[str, str]:
    """A klp relocation that is wrong, line by line; {} for another check. After a target was
    refused, what was left of an earlier one."""
    read = check.detail
    if not isinstance(read, Reading) or (refused and read.raw == read.initial):
        return {}
    kind = next((row for row in arch.relocations if row.name == read.type), None)
    number = f" ({kind.number})" if kind else ""
    found = {
        "relocation": f"{read.type}{number} at {words.place(read)} of {read.livepatch}",
        "symbol": f"{read.symbol.name} of {read.symbol.object}, sympos {read.symbol.sympos}",
        "in the .ko": f"bytes {read.initial}",
        "before": f"bytes {read.before}" if read.before else "",
        "seen": f"bytes {read.raw}",
    }
    if not refused:
        found["seen"] += _leading(read)
        found["expected"] = {
            RelocationState.APPLIED: "that it leads to the symbol",
            RelocationState.UNRELOCATED: "the bytes of the .ko: its object is not loaded",
            RelocationState.STALE: "the bytes that were there before, or those of the .ko",
        }.get(read.state, "anything")
        if read.state is RelocationState.APPLIED and read.symbol_address is not None:
            found["expected"] += f", at {read.symbol_address:#x}"
    return {name: text for name, text in found.items() if text}


def _leading(read: Reading) -> str:
    hop = {"got": "the GOT slot", "plt": "the stub"}.get(read.hop, read.hop)
    through = "" if read.hop_address is None else f" through {hop} at {read.hop_address:#x}"
    if read.resolves_to is None:
        return f", leading{through} to no memory that can be read"
    text = f", leading{through} to {read.resolves_to:#x}"
    if read.resolves_to in read.earlier and read.resolves_to != read.symbol_address:
        text += ", where the symbol was before it was unloaded"
    return f"{text}; {read.beside}" if read.beside else text


def _complaints(story: Story) -> str:
    """The console without the warnings that the set's own functions are to make."""
    return kernelreports.without(story.result.console, story.built.set.warnings)[0]


def _said(story: Story, first: Check) -> list[str]:
    """What the kernel said of it: its first report, or why it refused; else its last lines."""
    lines = [line.rstrip()[:MOST_SHOWN] for line in story.result.console.splitlines()]
    refused = first.detail.said if isinstance(first.detail, Answers) else ()
    opening = (kernelreports.reports(_complaints(story)) or refused)[:1]
    at = next((n for n, line in enumerate(lines) if opening and opening[0] in line), None)
    if at is not None:
        return lines[at : at + CONSOLE_LINES]
    return lines[-CONSOLE_LINES:]


# --- the place in the source ---------------------------------------------------------------------


def _where(story: Story, first: Check) -> Iterator[str]:
    """The likeliest first."""
    if story.issue:
        yield story.issue.reference
        return
    frames = kernelreports.frames(_complaints(story))[:FRAMES]
    if frames:
        yield f"{', '.join(frames)}: the inmost frames of the kernel's report"
    applied = story.arch.loader or f"{arch_directory(story.arch)}/kernel/, {_LOADER}"
    match first.kind:
        case CheckKind.RELOCATION:
            yield f"{applied}: writes klp relocations"
            yield "kernel/livepatch/core.c, klp_apply_section_relocs(): tells it to"
        case CheckKind.ANSWER:
            yield f"{applied}: writes klp relocations, or says why not"
            yield f"{_COMING}: refuses a target"
        case CheckKind.VALUE:
            yield f"{applied}: wrote what the patched function reads through"
        case CheckKind.SYSFS:
            yield "kernel/livepatch/core.c, transition.c; kernel/module/main.c"
        case CheckKind.HEALTH if not frames:
            yield f"{_COMING}; {applied}: the console tells no more"


# --- livepatches ---------------------------------------------------------------------------------


def _livepatches(story: Story) -> list[tuple[str, str]]:
    """(name, what it is) of those that the order loads."""
    return [
        (spec.name, f"{_origin(spec, story.built.set)}; {_deferred(story, spec.name)}")
        for spec in story.used
        if spec.kind == "livepatch"
    ]


def _origin(spec: ModuleSpec, module_set: ModuleSet) -> str:
    if spec.ko and module_set.origin is not None:
        origin = module_set.origin
        patches = ", ".join(f"{SET}/{patch.file}" for patch in origin.patches)
        return f"{origin.builder} {origin.version} built it of {patches}"
    if spec.ko:
        return "built elsewhere, taken as it is"
    if module_set.in_tree:
        return f"the kernel's own, of {module_set.in_tree}"
    return "its source is in set/"


def _built_again(story: Story) -> str:
    """The line that builds the livepatch of its one source patch again; "" where there are several,
    or where it was built otherwise."""
    origin, kernel = story.built.set.origin, story.kernel
    if origin is None or len(origin.patches) != 1:
        return ""
    words = ["klp-e2e", "livepatch", f"{SET}/{origin.patches[0].file}"]
    words += ["--arch", story.arch.name, "--kernel", kernel.source]
    words += [word for name in kernel.series for word in ("--series", name)]
    words += [word for name in kernel.configs for word in ("--config", name)]
    words += [] if origin.replace else ["--no-replace"]
    return shlex.join([*words, "--builder", origin.builder])


def _deferred(story: Story, name: str) -> str:
    """How many klp relocations of which type it has."""
    entries = story.built.modules[name].klp_relocations
    kinds = ((entry.object, story.arch.relocation(entry.type)) for entry in entries)
    named = Counter((owner, "unknown" if kind is None else kind.name) for owner, kind in kinds)
    told = ", ".join(f"{n} {kind} for {owner}" for (owner, kind), n in named.items())
    return f"klp relocations: {told or 'none'}"
