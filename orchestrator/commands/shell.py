# SPDX-License-Identifier: GPL-2.0-only
"""A person in a guest: boot, replay an order, hand over a terminal by the host's own ssh."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from orchestrator.build.prepare import Bench
from orchestrator.errnos import describe_all
from orchestrator.host import process
from orchestrator.model.orders import format_event, largest_race, plain_events
from orchestrator.nouns import Accel, Order
from orchestrator.run import lab
from orchestrator.run.observe import EVENT_SECONDS, perform
from orchestrator.vm.machine import Machine


def interactive(
    bench: Bench, set_name: str, order: Order, accel: Accel, say: Callable[[str], None]
) -> None:
    """Replay `order`, say what each event came to and how to attach, then run ssh until it ends.

    Raises GuestLost when the guest dies on the way; its modules lie in /modules.
    """
    cpus = largest_race(order)
    with lab.booted(bench, accel=accel, want_ssh=True, debug=True, cpus=cpus) as guest:
        sight = lab.sights(bench, guest)[set_name]
        for event in order.events:
            until = lab.deadline(bench.arch, EVENT_SECONDS * plain_events(event))
            done = perform(guest, sight, event, until)
            say(f"{format_event(event)}: {describe_all(done.answers)}")
        at = guest.machine.places
        say(f"gdb: gdb-multiarch -ex 'target remote {at.gdb}' {bench.kernel.directory}/vmlinux")
        say(f"QMP: qmp-shell {at.user_qmp}")
        say(f"console: {at.console}")
        say("modules lie in /modules; Ctrl-D ends the guest")
        process.attach(_ssh_argv(guest.machine))


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
