# SPDX-License-Identifier: GPL-2.0-only
"""README.md of a bundle: its failure as a report that goes to a kernel list as it is."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from orchestrator import kernelreports, plain
from orchestrator.model import orders, words
from orchestrator.nouns import Arch, BuiltModule, ModuleSet
from orchestrator.repro.byhand import DIRECTORY, ByHand
from orchestrator.repro.script import accel, value
from orchestrator.repro.story import TEMPLATES, Story, arch_directory, event_words
from orchestrator.verdicts import Answers, Check, CheckKind, Reading, RelocationState, Unread

CONSOLE_LINES = 12  # shown
MOST_SHOWN = 500  # characters of a line of them
FRAMES = 4  # of an oops
_LOADER = "apply_relocate_add()"  # every architecture has it


def readme(story: Story, by_hand: ByHand) -> str:
    """README.md"""
    index, step, first = story.failure
    result = story.result
    checks = [check for check in step.checks if not check.good and check is not first]
    failed, tries = story.tries
    return TEMPLATES.get_template("README.md.j2").render(
        title=story.title,
        known_issue=result.known_issue,
        issue=story.issue,
        differs=_differs,
        livepatches=_livepatches(story),
        order=orders.format(result.case.order),
        acts=_acts(story),
        unreached=[orders.format_event(e) for e in result.case.order.events[index + 1 :]],
        failed=failed,
        tries=tries,
        first=first,
        fields=[found for check in (first, *checks) if (found := _field(check, story.arch))][:1],
        others=checks,
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
    for event, step in zip(story.events, story.result.steps, strict=False):
        answer = next((c for c in step.checks if c.kind is CheckKind.ANSWER), None)
        expected = answer.expected if answer else "an answer"
        seen = answer.seen if answer and not answer.good else ""
        yield _Act(event_words(story.built.set, event), expected, seen)


# --- expected and seen ---------------------------------------------------------------------------


def _differs(check: Check) -> str:
    """`read=0 instead of read=42, ...`: of two texts of as many words, those that are not alike;
    "" for others, and where every one differs."""
    pairs = list(zip(check.seen.split(), check.expected.split(), strict=False))
    found = [f"{seen} instead of {expected}" for seen, expected in pairs if seen != expected]
    as_long = len(check.seen.split()) == len(check.expected.split())
    whole = check.kind is CheckKind.VALUE and as_long and len(found) < len(pairs)
    return ", ".join(found) if whole else ""


def _field(check: Check, arch: Arch) -> dict[str, str]:
    """A klp relocation that is wrong, line by line; {} for another check."""
    read = check.detail
    if not isinstance(read, Reading):
        return {}
    kind = next((row for row in arch.relocations if row.name == read.type), None)
    number = f" ({kind.number})" if kind else ""
    found = {
        "relocation": f"{read.type}{number} at {words.place(read)} of {read.livepatch}",
        "symbol": f"{read.symbol.name} of {read.symbol.object}, sympos {read.symbol.sympos}",
        "now at": "nowhere: not loaded"
        if read.symbol_address is None
        else f"{read.symbol_address:#x}",
        "in the .ko": read.initial,
        "before": read.before,
        "bytes": read.raw,
    }
    if read.hop_address is not None:
        hop = {"got": "the GOT slot", "plt": "the stub"}.get(read.hop, read.hop)
        found["through"] = f"{hop} at {read.hop_address:#x}"
    if read.resolves_to is None:
        found["leads to"] = "no memory that can be read"
    else:
        found["leads to"] = f"{read.resolves_to:#x}"
    if read.resolves_to in read.earlier and read.resolves_to != read.symbol_address:
        found["leads to"] += ", where the symbol was at an earlier load"
    if read.beside:
        found["beside"] = read.beside
    found["expected"] = {
        RelocationState.APPLIED: "it leads to the symbol",
        RelocationState.UNRELOCATED: "the bytes of the .ko: its object is not loaded",
        RelocationState.STALE: "the bytes that were there before, or those of the .ko",
    }.get(read.state, "anything")
    return {name: text for name, text in found.items() if text}


def _said(story: Story, first: Check) -> list[str]:
    """What the kernel said of it: its first report, or why it refused; else its last lines."""
    lines = [line.rstrip()[:MOST_SHOWN] for line in story.result.console.splitlines()]
    refused = first.detail.said if isinstance(first.detail, Answers) else ()
    opening = (kernelreports.reports(story.result.console) or refused)[:1]
    at = next((n for n, line in enumerate(lines) if opening and opening[0] in line), None)
    if at is not None:
        return lines[at : at + CONSOLE_LINES]
    return lines[-CONSOLE_LINES:]


# --- the place in the source ---------------------------------------------------------------------


def _where(story: Story, first: Check) -> Iterator[str]:
    """In Markdown, the likeliest first."""
    if story.issue:
        yield plain.markdown(story.issue.reference)
        return
    if frames := kernelreports.frames(story.result.console)[:FRAMES]:
        yield f"the inmost frames of the kernel's report: {', '.join(map(plain.code, frames))}"
    applied = plain.code(story.arch.loader or f"{arch_directory(story.arch)}/kernel/, {_LOADER}")
    late = "`klp_module_coming()` in `kernel/livepatch/core.c`"
    match first.kind:
        case CheckKind.RELOCATION if isinstance(first.detail, Reading | Unread):
            yield (
                f"{applied}, which writes klp relocations, as `klp_apply_section_relocs()` in "
                "`kernel/livepatch/core.c` tells it to"
            )
        case CheckKind.ANSWER:
            yield f"{applied}, and {late}: see what the kernel says as it refuses"
        case CheckKind.VALUE:
            yield f"what the patched function reads, in `set/`; its relocations are from {applied}"
        case CheckKind.SYSFS:
            yield "`kernel/livepatch/core.c` and `transition.c`, `kernel/module/main.c`"
        case CheckKind.HEALTH if not frames:
            yield f"{late}, and {applied}: the console tells no more"


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
    return "built from set/ by kbuild; what it refers to of other objects was made klp relocations"


def _types(module: BuiltModule, arch: Arch) -> str:
    kinds = ((entry.object, arch.relocation(entry.type)) for entry in module.klp_relocations)
    named = Counter((owner, "unknown" if kind is None else kind.name) for owner, kind in kinds)
    return ", ".join(f"{n} {kind} for {owner}" for (owner, kind), n in named.items()) or "none"
