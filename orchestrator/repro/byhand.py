# SPDX-License-Identifier: GPL-2.0-only
"""by-hand/ of a bundle: the order for whoever has a kernel, a guest and a compiler of his own.

by-hand/Makefile           builds the modules: make KDIR=...
        src/ klp_e2e.h     of the modules that the order uses, what they are made of
        klp-rela.py        makes klp relocations (`klprela`) of what
        MODULE.changes     says
        order.sh           the order, for root in any guest
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator import catalog
from orchestrator.build import filler
from orchestrator.elf import reader
from orchestrator.elf.records import SHT_NOBITS
from orchestrator.host import walk
from orchestrator.model import movers
from orchestrator.model.judge import allowed_taint
from orchestrator.nouns import (
    VMLINUX,
    BuiltModule,
    Burst,
    CaseKind,
    Event,
    Load,
    ModuleSpec,
    Plain,
    Probe,
    Race,
    SetEnabled,
    SetParameter,
    Unload,
)
from orchestrator.plain import shell
from orchestrator.repro import klprela, sources
from orchestrator.repro.story import TEMPLATES, Story, plain_words
from orchestrator.run import observe, signs
from orchestrator.verdicts import Answers, CheckKind, Step

DIRECTORY = "by-hand"
SOURCES = "src"
# what `elf.room` adds to a module that asks for room
_ROOM = (".klp_e2e.text", ".klp_e2e.rodata", ".klp_e2e.data", ".data..ro_after_init")
_ANY = "-"
_CMDLINE = "{cmdline}"  # `judge.with_cmdline`
_NOTHING = ("no file", "error")  # what a probe shows where there is nothing to be read
_NO_COMMAND = ("exit status 126", "exit status 127")
_UNSIGNED = 1 << 13  # a kernel of one's own may want signatures
_BUILD = ("Kbuild", "Makefile")
_PRODUCTS = (".a", ".ko", ".mod", ".mod.c", ".o")  # kbuild would take them for its own
_LICENSE = "# SPDX-License-Identifier: GPL-2.0-only\n"


@dataclass(frozen=True, slots=True)
class ByHand:
    """What is in the directory; nothing where it would be of no use."""

    files: Mapping[str, bytes] = field(default_factory=dict)  # relative path -> content
    why_not: str = ""  # there is none
    otherwise: tuple[str, ...] = ()  # what it does in another way than was done, in sentences


@dataclass(frozen=True, slots=True)
class _Step:
    words: str
    expected: str  # success, refused; `_ANY`: nobody knows
    command: str  # shell


@dataclass(frozen=True, slots=True)
class _Act:
    number: int
    steps: tuple[_Step, ...]
    times: int = 1
    together: bool = False


def made(story: Story, module_set: Path) -> ByHand:
    """What a bundle has of it. module_set: the directory of the bundle with the set's sources."""
    used = story.used
    if story.result.case.kind is CaseKind.MALFORMED:
        return ByHand(why_not="a module in modules/ was broken after it was built")
    if given := [spec.name for spec in used if spec.ko]:
        return ByHand(why_not=f"{', '.join(given)}: built elsewhere, and its sources are not here")
    wanted = _sources(story, used, module_set)
    built = {spec.name: story.built.modules[spec.name] for spec in used}
    changes = {name: text for name, module in built.items() if (text := _changes(module))}
    files = {
        **wanted,
        **{f"{name}.changes": text for name, text in changes.items()},
        "Makefile": _makefile(story, used, changes),
        "order.sh": _script(story, used),
    }
    if changes:
        files["klp-rela.py"] = Path(klprela.__file__).read_text()
    content = {name: text.encode(errors="surrogateescape") for name, text in files.items()}
    return ByHand(content, otherwise=tuple(_otherwise(story, used)))


def _otherwise(story: Story, used: Sequence[ModuleSpec]) -> Iterator[str]:
    for number, event in enumerate(story.events, 1):
        if isinstance(event, Race):
            yield (
                f"Step {number} is a race: two shells seldom meet as closely as the threads that "
                "reproduce.sh has for it, so try it often."
            )
    for spec in used:
        if spec.page_end:
            yield (
                f"{spec.name} as it lies in modules/ has a relocated field at the end of a page of "
                "its code; built here it may lie anywhere."
            )
    if _sign(story).kind in ("relocation", "unjudged"):
        yield (
            "What is wrong shows in the kernel's memory only, and order.sh cannot tell: "
            "reproduce.sh reads it there."
        )


def _sign(story: Story) -> signs.Sign:
    _, step, _ = story.failure
    where = signs.field(story.arch, story.built, step)
    return signs.sign(story.built.set, step, story.result.console, where)


# --- what is built -------------------------------------------------------------------------------


def _sources(story: Story, used: Sequence[ModuleSpec], place: Path) -> dict[str, str]:
    """Path -> text, of C sources and their Kbuild."""
    own = [spec for spec in used if not spec.ours and not story.built.set.in_tree]
    fillers = [spec.name for spec in used if spec.ours]
    found, kbuild = _chosen(_texts(place), own) if own else ({}, _LICENSE)
    for name in fillers:
        source = (filler.sources() / "filler.c").read_text()
        found[f"{SOURCES}/{name}.c"] = source.replace(movers.FILLER, name)
        kbuild += f"obj-m += {name}.o\n"
    return {**found, f"{SOURCES}/Kbuild": kbuild} if own or fillers else {}


def _texts(place: Path) -> dict[str, str]:
    """Path -> text, of a set's files, and of the headers of ours that it includes as "../N.h"."""
    files = {path.name: path for path in catalog.data_dir("images/modules").glob("*.h")}
    for path in sorted(walk.below(place)):
        if path.is_file() and not path.name.endswith(_PRODUCTS):
            files[f"{SOURCES}/{path.relative_to(place)}"] = path
    return {name: path.read_text("utf-8", "surrogateescape") for name, path in files.items()}


def _chosen(texts: Mapping[str, str], own: Sequence[ModuleSpec]) -> tuple[dict[str, str], str]:
    """(path -> text of what these modules are made of, their Kbuild)."""
    place = next((f"{SOURCES}/{name}" for name in _BUILD if f"{SOURCES}/{name}" in texts), "")
    known = sources.objects(texts.get(place, "?"))
    parts = {spec.name: (known or {}).get(spec.name, ()) for spec in own}
    wanted = [f"{SOURCES}/{part.removesuffix('.o')}.c" for each in parts.values() for part in each]
    if not all(parts.values()) or not all(path in texts for path in wanted):
        return dict(texts), texts.get(place, _LICENSE)
    kbuild = f"{_LICENSE}obj-m := {' '.join(f'{name}.o' for name in parts)}\n"
    for name, each in parts.items():
        if each != (f"{name}.o",):
            kbuild += f"{name}-y := {' '.join(each)}\n"
    return {path: texts[path] for path in sorted(sources.closure(texts, wanted))}, kbuild


def _changes(module: BuiltModule) -> str:
    """For klp-rela.py: what was done to the module after it was built."""
    lines = []
    for rela in module.klp_relocations:
        home = f"{rela.object}:" if rela.object != rela.symbol.object else ""
        lines.append(f"{home}{rela.symbol.object}.{rela.symbol.name},{rela.symbol.sympos}\n")
    elf = reader.read(module.path.read_bytes(), module.path.name)
    if module.spec.room is not None:
        for section in elf.sections:
            if section.type == SHT_NOBITS and section.name in _ROOM:
                lines.append(f"+{section.name} {section.flags:#x} {section.memory_size}\n")
    return "".join(dict.fromkeys(lines))


def _makefile(story: Story, used: Sequence[ModuleSpec], changes: Mapping[str, str]) -> str:
    in_tree = story.built.set.in_tree
    names = [spec.name for spec in used if not (in_tree and not spec.ours)]
    theirs = [spec.name for spec in used if spec.name not in names]
    return TEMPLATES.get_template("by-hand.mk.j2").render(
        kernel_arch=story.arch.kernel_arch,
        prefix=story.arch.cross_compile,
        changed=[name for name in names if name in changes],
        plain=[name for name in names if name not in changes],
        in_tree=in_tree,
        theirs=theirs,
    )


# --- what is done --------------------------------------------------------------------------------


def _script(story: Story, used: Sequence[ModuleSpec]) -> str:
    _, step, _ = story.failure
    sign, acts = _sign(story), list(_acts(story))
    return TEMPLATES.get_template("order.sh.j2").render(
        title=story.title,
        release=story.kernel.release,
        arch=story.arch.name,
        modules=[spec.name for spec in used],
        livepatches=[spec.name for spec in used if spec.kind == "livepatch"],
        settle_tenths=int(observe.SETTLE_SECONDS * story.arch.time_scale * 10),
        acts=acts,
        shown=list(_shown(story, step, used, sign)),
        allowed_taint=allowed_taint(story.built),
        otherwise=list(_otherwise(story, used)),
        taint=_new_taint(story) if sign.kind == "taint" else 0,
        nothing_shown=sign.seen.startswith(_NOTHING) or sign.seen.endswith(_NO_COMMAND),
        sign=sign,
        turns=_turns(step, acts[-1].steps),
    )


@dataclass(frozen=True, slots=True)
class _Shown:
    name: str
    expected: tuple[str, ...]  # parts, between which the guest's boot command line stands
    file: str
    command: str  # instead of a file


def _shown(
    story: Story, step: Step, used: Sequence[ModuleSpec], sign: signs.Sign
) -> Iterator[_Shown]:
    """What the patched functions of the order's modules show, and what is judged."""
    there = {VMLINUX, *(spec.name for spec in used)}
    known = {probe.name: probe for probe in story.built.set.probes}
    for probe in signs.probes(story.built.set, step):
        found = known[probe["name"]]
        if found.object in there or found.name == sign.subject:
            expected = _parts(found, probe["expected"])
            yield _Shown(found.name, expected, found.file, probe["command"])


def _parts(probe: Probe, expected: str) -> tuple[str, ...]:
    """What was expected, parted where set.toml has the command line of whatever guest it is."""
    for text in (probe.original, *probe.patched.values()):
        parts = "\n".join(map(str.rstrip, text.rstrip().splitlines())).split(_CMDLINE)
        if len(parts) > 1 and re.fullmatch("(.*)".join(map(re.escape, parts)), expected):
            return tuple(parts)
    return (expected,)


def _new_taint(story: Story) -> int:
    """The bits for which it failed, of a check that shows `512 (W)`."""
    number = re.match("[0-9]+", story.failure[2].seen)
    bits = int(number[0]) if number else 0
    return bits & ~allowed_taint(story.built) & ~_UNSIGNED


def _turns(step: Step, steps: Sequence[_Step]) -> bool:
    """Is the wrong answer success instead of an error, or the reverse, of a step whose answer is
    judged? Errors look too much alike for a shell to tell one from another."""
    for check in step.checks:
        if isinstance(check.detail, Answers) and check.detail.wrong:
            first = check.detail.wrong[0]
            expected, seen = check.detail.expected_errnos[first], check.detail.seen_errnos[first]
            return bool(expected) != bool(seen) and steps[first % len(steps)].expected != _ANY
    return True


def _acts(story: Story) -> Iterator[_Act]:
    for number, (event, step) in enumerate(zip(story.events, story.result.steps, strict=False), 1):
        answer = next((c.detail for c in step.checks if c.kind is CheckKind.ANSWER), None)
        expected = answer.expected_errnos if isinstance(answer, Answers) else ()
        events, before = _several(event), story.events[: number - 1]
        rounds = [expected[at : at + len(events)] for at in range(0, len(expected), len(events))]
        alike = [{each[at] for each in rounds if at < len(each)} for at in range(len(events))]
        steps = tuple(
            _Step(_words(story, each, before), _answer(found), _command(each))
            for each, found in zip(events, alike, strict=True)
        )
        if isinstance(event, Race):
            steps = tuple(_Step(each.words, _ANY, each.command) for each in steps)
        yield _Act(
            number,
            steps,
            event.times if isinstance(event, Burst) else 1,
            isinstance(event, Race),
        )


def _words(story: Story, event: Plain, before: Sequence[Event]) -> str:
    return plain_words(story.built.set, event, before).replace("`", "")


def _several(event: Event) -> Sequence[Plain]:
    return event.events if isinstance(event, Race | Burst) else (event,)


def _answer(numbers: set[int]) -> str:
    """What is expected, of all that it is answered with each time."""
    if not numbers or (0 in numbers and len(numbers) > 1):
        return _ANY
    return "success" if numbers == {0} else "refused"


def _command(event: Plain) -> str:
    match event:
        case Load(module, parameters):
            words = [f"./{module}.ko", *(f"{name}={value}" for name, value in parameters)]
            return f"insmod {' '.join(map(shell, words))}"
        case Unload(module):
            return f"rmmod {shell(module)}"
        case SetEnabled(module, enabled):
            return f"put {int(enabled)} {shell(f'/sys/kernel/livepatch/{module}/enabled')}"
        case SetParameter(module, parameter, value):
            return f"put {shell(value)} {shell(f'/sys/module/{module}/parameters/{parameter}')}"
