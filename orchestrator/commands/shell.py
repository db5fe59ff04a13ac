# SPDX-License-Identifier: GPL-2.0-only
"""`klp-e2e shell`: boot, replay an order, hand over a terminal by the host's own ssh."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.build.prepare import Bootable
from orchestrator.cli import options, session
from orchestrator.cli.arguments import (
    AccelOption,
    ArchArgument,
    ConfigOption,
    JobsOption,
    KernelOption,
    SeriesOption,
    ToolchainOption,
    modules_option,
)
from orchestrator.cli.program import EXAMPLE, app, guarded
from orchestrator.errnos import describe_all
from orchestrator.errors import Exit, GuestLost, HarnessError
from orchestrator.host import process, tools, workdir
from orchestrator.kernelreports import crash_title
from orchestrator.model.orders import format_event, largest_race, plain_events
from orchestrator.nouns import Accel, Order
from orchestrator.report.progress import Reporter
from orchestrator.report.terminal import Terminal
from orchestrator.run import booting
from orchestrator.run.observe import EVENT_SECONDS, module_path, perform
from orchestrator.vm.guest import CONSOLE_SECONDS
from orchestrator.vm.machine import Machine

# kernel/reboot.c; a machine without ACPI stands still then, and QEMU goes on
_OFF = ("reboot: System halted", "reboot: Power down")
_LOOK_SECONDS = 0.5
# so that the addresses of vmlinux are those of the guest
_CMDLINE = "nokaslr"

Say = Callable[[str], None]


def interactive(bootable: Bootable, set_name: str, order: Order, accel: Accel, say: Say) -> Exit:
    """Replay `order`, say what each event came to and how to attach, then run ssh until it ends.

    1 when the guest's kernel has reported anything by then, else 0; its console is kept then.
    Raises GuestLost when the guest dies on the way.
    """
    cpus = largest_race(order)
    with booting.booted(
        bootable, accel=accel, want_ssh=True, debug=True, cpus=cpus, cmdline=_CMDLINE
    ) as guest:
        try:
            view = booting.views(bootable, guest)[set_name]
            for event in order.events:
                until = booting.deadline(bootable.arch, EVENT_SECONDS * plain_events(event))
                done = perform(guest, view, event, until)
                say(f"{format_event(event)}: {describe_all(done.answers)}")
        except GuestLost as lost:
            lost.hint = f"its console: {_kept(guest.machine)}"
            raise
        for line in _ways_in(bootable, guest.machine, view.built.set.name):
            say(line)
        with _ended_when_off(guest.machine):
            process.attach(_ssh_argv(guest.machine))
        with contextlib.suppress(HarnessError):  # it may be off
            guest.mark(
                booting.deadline(bootable.arch, CONSOLE_SECONDS)
            )  # its last words have come then
        title = crash_title(guest.machine.console.since(0))
        if title is None:
            return Exit.GOOD
        say(f"the guest's kernel said: {title}; its console: {_kept(guest.machine)}")
        return Exit.TEST_FAILURE


def _ways_in(bootable: Bootable, machine: Machine, set_name: str) -> Iterator[str]:
    at = machine.places
    gdb = "gdb-multiarch"
    lacks = "" if tools.which(gdb) else f" ({gdb} is not installed)"
    yield (
        f"gdb{lacks}: {gdb} -ex 'target remote {at.gdb}' {bootable.kernel.directory}/vmlinux "
        f"(symbols, no line numbers; booted with {_CMDLINE})"
    )
    yield f"QMP: {Path(sys.executable).with_name('qmp-shell')} {at.user_qmp}"
    yield f"console: {at.console}"
    yield f"modules lie in {Path(module_path(set_name, 'M')).parent}; Ctrl-D ends the guest"


def _kept(machine: Machine) -> Path:
    """All that the guest has printed, in a file that stays until the next shell's."""
    log = workdir.whole(workdir.LOGS) / f"shell-{machine.arch.name}.log"
    workdir.write_atomically(log, machine.console.since(0))
    return log


@contextlib.contextmanager
def _ended_when_off(machine: Machine) -> Iterator[None]:
    """End QEMU when the guest has been switched off and QEMU has not noticed: who sits in it would
    wait for ever."""
    leave = threading.Event()

    def watch() -> None:
        while not leave.wait(_LOOK_SECONDS):
            if any(words in machine.console.since(0) for words in _OFF):
                leave.wait(_LOOK_SECONDS)  # QEMU may yet end by itself
                machine.kill()
                return

    watcher = threading.Thread(target=watch, name="off", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        leave.set()
        watcher.join()


def _ssh_argv(machine: Machine) -> list[str | Path]:
    """OpenSSH with this boot's key, and with its host key and no other."""
    directory = machine.places.directory
    key, hosts = directory / "id_ed25519", directory / "known_hosts"
    key.touch(mode=0o600)
    key.write_text(machine.keys.client)
    hosts.write_text(f"[127.0.0.1]:{machine.ssh_port} {machine.keys.host_public}\n")
    return [
        *("ssh", "-F", "none", "-i", key, "-p", str(machine.ssh_port)),
        *("-o", f"UserKnownHostsFile={hosts}", "-o", "StrictHostKeyChecking=yes"),
        *("-o", "IdentitiesOnly=yes", "-o", "LogLevel=ERROR"),
        "root@127.0.0.1",
    ]


@app.command(epilog=EXAMPLE + "klp-e2e shell s390x --order '+klp_patch +klp_target'")
@guarded
def shell(
    arch: ArchArgument,
    kernel: KernelOption = options.SOURCE,
    series: SeriesOption = None,
    config: ConfigOption = None,
    toolchain: ToolchainOption = None,
    modules: Annotated[
        str,
        modules_option("what the guest gets."),
    ] = options.MODULE_SET,
    order: Annotated[
        str | None, typer.Option("--order", metavar="'EVENTS'", help="Run these events first.")
    ] = None,
    accel: AccelOption = Accel.AUTO,
    jobs: JobsOption = None,
) -> Exit:
    """Work in a guest. Boots it, runs the events, hands over a shell; Ctrl-D ends the guest."""
    events = Order(()) if order is None else options.order(modules, order)
    wanted = options.build_options((arch,), kernel, series, jobs, config, toolchain)
    reporter = Reporter(Terminal(stderr=True))
    with reporter:  # its bars must be gone when the terminal is handed over
        (bootable,) = session.bootables(wanted, (modules,), reporter)
    return interactive(bootable, modules, events, accel, say=reporter.say)
