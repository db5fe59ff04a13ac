# SPDX-License-Identifier: GPL-2.0-only
"""Of a report card: does the kernel boot, quietly, and load ordinary modules? With or without
livepatch."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace

from orchestrator import catalog
from orchestrator.build import image, modules
from orchestrator.build.prepare import SET_SECONDS, Bootable
from orchestrator.cli import session
from orchestrator.cli.options import BuildOptions
from orchestrator.deadline import Deadline
from orchestrator.errors import GuestLost, HarnessError, KlpError
from orchestrator.kernelreports import reports
from orchestrator.model import orders
from orchestrator.nouns import Accel, BuiltModule, Case, Kernel, ModuleSet
from orchestrator.port.card import NOT_YET, Line, Part, Verdict, judged, one_line, troubled
from orchestrator.report.cardjson import CardDirectory
from orchestrator.report.directory import ResultsDirectory
from orchestrator.report.progress import Reporter
from orchestrator.report.store import write
from orchestrator.run.slot import GuestOptions, GuestSlot
from orchestrator.verdicts import GuestRecord, RunKind

MODULE_SET = "basic"
ORDERS = {
    "load-unload": "+klp_target +filler -klp_target -filler",
    "reload": "+klp_target -klp_target +filler +klp_target -filler -klp_target",
}
PLACE, LOG = "boot", "boot/boot.log"  # beside the card
LAST_LINES = 5


def boot(
    built: BuildOptions, kernel: Kernel, accel: Accel, writer: CardDirectory, reporter: Reporter
) -> tuple[BuiltModule, ...]:
    """Write down whether it does; the modules that were loaded, none when it does not boot."""
    (arch,) = built.arches
    plain = ordinary(catalog.module_set(MODULE_SET))
    until = Deadline.after(SET_SECONDS)
    try:
        session.need_emulators(built, accel, reporter.say)
        made = modules.build(kernel, arch, plain, jobs=built.jobs, deadline=until)
        bootable = Bootable(arch, kernel, {MODULE_SET: made}, image.base(arch), ())
    except KlpError as err:
        skipped = writer.card.skip((Part.LOG, Part.MODULES), "nothing was booted")
        writer.update(skipped.put(troubled(Part.BOOT, err)))
        return ()
    run = session.begun(built, writer.card.command, strict=False, kind=RunKind.PORT, accel=accel)
    run = replace(run, kernels=(kernel,), planned=len(ORDERS))
    results = ResultsDirectory(writer.path / PLACE, run)
    used = GuestOptions(accel=accel)
    with results, GuestSlot(bootable, used, threading.Event(), _recorder(results)) as slot:
        writer.update(writer.card.put(*_booted(slot, writer)))
        if writer.card.bad(Part.BOOT):
            return ()
        for name, order in ORDERS.items():
            result = results.add(slot.run_case(Case(name, MODULE_SET, orders.parse(order, plain))))
            reporter.result(result, len(results.results), run.planned)
    line = judged(
        Part.MODULES, results.results, "orders", f"{PLACE}/results.json", planned=len(ORDERS)
    )
    writer.update(writer.card.put(line))
    return tuple(made.modules.values())


def ordinary(module_set: ModuleSet) -> ModuleSet:
    """A set without its livepatches."""
    return replace(
        module_set,
        modules=tuple(spec for spec in module_set.modules if spec.kind != "livepatch"),
        probes=tuple(replace(probe, patched={}) for probe in module_set.probes),
    )


def _booted(slot: GuestSlot, writer: CardDirectory) -> list[Line]:
    """The guest answers, or why it does not; and what it said meanwhile."""
    log = writer.path / LOG
    began = time.monotonic()
    try:
        guest = slot.fresh()
    except HarnessError as err:
        line = troubled(Part.BOOT, err)
        if isinstance(err, GuestLost):
            write(log, err.console)
            last = one_line(*err.console.splitlines()[-LAST_LINES:])
            line = replace(line, obstacles=(*line.obstacles, *last), files=(LOG,))
            if err.crash is not None:
                line = replace(line, verdict=Verdict.FAIL)
        why = (f"{NOT_YET}: the kernel does not boot",)
        return [line, *(Line(part, evidence=why) for part in (Part.LOG, Part.MODULES))]
    took = time.monotonic() - began
    text = guest.console_since(0)
    write(log, text)
    said = one_line(*reports(text))
    ready = f"ready, and kept as a snapshot, after {took:.1f} s under {guest.machine.accel}"
    told = f"{len(text.splitlines())} lines, kernel reports: {len(said)}"
    return [
        Line(Part.BOOT, Verdict.PASS, (ready,), files=(LOG,)),
        Line(Part.LOG, Verdict.FAIL if said else Verdict.PASS, (told,), said, files=(LOG,)),
    ]


def _recorder(results: ResultsDirectory) -> Callable[[GuestRecord], None]:
    def on_guest(record: GuestRecord) -> None:
        results.update(replace(results.run, guests=(*results.run.guests, record)))

    return on_guest
