# SPDX-License-Identifier: GPL-2.0-only
"""A kernel of three words, a module set of two samples, and a case of them that failed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from elf_samples import livepatch, target
from samples import a_kernel, an_answer

from orchestrator import catalog
from orchestrator.build import modules
from orchestrator.build.prepare import Bootable
from orchestrator.elf import klp
from orchestrator.elf.relocation import table
from orchestrator.elf.writer import write
from orchestrator.model import orders, words
from orchestrator.nouns import Case, KlpSymbol, ModuleSet, Origin, SourcePatch
from orchestrator.repro.story import TEMPLATES
from orchestrator.run import signs
from orchestrator.verdicts import CaseResult, Check, Patched, Shown, Status, Step
from orchestrator.vm.qemu import qemu_argv

ARCH = catalog.arch("x86_64")  # the ELF samples' types are in its table
RUN = "/tmp/klp-x,y z"  # a run directory with all that an option's value trips over
ORDER = "+my_patch +the_target -the_target +the_target"
SET = """
name = "tiny"
description = "of two samples"
[[modules]]
name = "the_target"
kind = "target"
parameters = ["word"]
[[modules]]
name = "my_patch"
kind = "livepatch"
[modules.patches]
the_target = ["target_fn"]
[[probes]]
name = "shown"
file = "/sys/module/the_target/parameters/show"
object = "the_target"
function = "target_fn"
original = "42"
patched = { my_patch = "0" }
"""
ANSWER, SUCCESS = an_answer(seen=8), an_answer()
VALUE = words.shown(Shown("shown", "it's 42", "0"))
CRASH = words.dead("BUG: unable to handle page fault in x")


def a_bench(cache: Path) -> Bootable:
    """What a cache would hold, in a new directory."""
    (cache / "tiny").mkdir(parents=True)
    (cache / "tiny" / "set.toml").write_text(SET)
    for name in ("image", "System.map", "config"):
        (cache / name).write_text(f"the {name}\n")
    (cache / "base.cpio.gz").write_bytes(b"not a multiple of four bytes."[:-3])
    symbols = [KlpSymbol("the_target", name, 0) for name in ("target_fn", "target_var", "hidden")]
    (cache / "my_patch.ko").write_bytes(
        klp.convert(write(livepatch()), symbols, table=table(ARCH.relocations), name="my_patch")
    )
    (cache / "the_target.ko").write_bytes(write(target(twice="hidden")))
    module_set = catalog.load_toml(
        cache / "tiny" / "set.toml", ModuleSet, name="tiny", directory=cache / "tiny"
    )
    kernel = a_kernel(ARCH.name, cache, capabilities=frozenset({"clears"}))
    sets = {"./tiny": modules.read(module_set, cache, ARCH)}
    return Bootable(ARCH, kernel, sets, cache / "base.cpio.gz", ())


def a_result(*checks: Check, order: str = ORDER) -> CaseResult:
    """The last event fails by these checks."""
    events = orders.parse(order)
    *before, last = (orders.format_event(event) for event in events.events)
    steps = [Step(event, (SUCCESS,), 0.1, 0.1, 0) for event in before]
    return CaseResult(
        case=Case("reload", "./tiny", events, "why not"),
        arch=ARCH.name,
        status=Status.FAIL,
        reason="wrong",
        steps=(*steps, Step(last, checks, 0.1, 0.1, 0)),
        known_issue="that-one",
        console="[    1.0] livepatch: enabling\nBUG: unable to handle page fault for 0xffff01\n",
        dmesg="[    0.0] Linux \ud800",
        qemu_argv=tuple(qemu_argv(ARCH, Path(RUN) / "bzImage", Path(RUN), cmdline="quiet")),
    )


def change(place: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    record = json.loads((place / "bundle.json").read_text())
    edit(record)
    (place / "bundle.json").write_text(json.dumps(record))


def script_reading(field: signs.Field) -> str:
    """A reproduce.sh of no event that reads this relocation."""
    return TEMPLATES.get_template("reproduce.sh.j2").render(
        title="t", program="q", oldest="", options=[], kvm=False, cpu="c", cpu_kvm="c",
        kvm_host="h", release="r", arch="a", host_alias="h", boot_seconds=1, event_seconds=1,
        settle_ms=1, errnos=[], shown_answers=1, allowed_taint=0, acts=[], probes=[], field=field,
        sign=signs.Sign("relocation", "told"),
    )  # fmt: skip


# what a guest, a module or a file may call itself
EVIL = "x\ntouch pwned\n#\x1b]0;PWNED\x07\u2028\u202e\r\x9b`$(touch pwned)`'\"|[a](http://b)<b>"


def hostile(bootable: Bootable) -> tuple[Bootable, CaseResult]:
    """Every name that others choose is evil."""
    checks = (
        replace(words.patched(Patched(EVIL, None, None)), expected=EVIL, seen=EVIL, good=False),
        words.dead(EVIL),
        replace(words.shown(Shown(EVIL, EVIL, f"{EVIL}2")), seen=EVIL, good=False),
    )
    result = a_result(*checks)
    result = replace(
        result,
        case=replace(result.case, name=EVIL, why=EVIL),
        reason=EVIL,
        known_issue=EVIL,
        console=f"BUG: {EVIL}\n" * 3,
        qemu_argv=(*result.qemu_argv, "-append", EVIL),
    )
    kernel = replace(bootable.kernel, release=EVIL, source=EVIL, compiler=EVIL, series=(EVIL,))
    (built,) = bootable.sets.values()
    probe = replace(built.set.probes[0], name=EVIL, command=EVIL, file="")
    origin = Origin(EVIL, EVIL, (SourcePatch(EVIL, EVIL),), (EVIL,))
    evil_set = replace(built, set=replace(built.set, probes=(probe,), origin=origin))
    return replace(bootable, kernel=kernel, sets={"./tiny": evil_set}), result
