# SPDX-License-Identifier: GPL-2.0-only
"""One QEMU: its command line, its birth, its end.

`boot` yields a machine whose guest answers, and leaves nothing behind: process, sockets, snapshots
and console sit in one private directory on one ExitStack.
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from orchestrator import initramfs
from orchestrator.build import emulator
from orchestrator.deadline import Deadline
from orchestrator.errors import GuestLost, HarnessError, OutOfTime
from orchestrator.host import lines, process, workdir
from orchestrator.host.rundir import run_dir
from orchestrator.kernelreports import crash_title, death_title
from orchestrator.nouns import Accel, Arch
from orchestrator.vm import pulse, qmp, ram, serial, ssh
from orchestrator.vm.qemu import Places, qemu_argv

log = logging.getLogger(__name__)

KVM_DEVICE = Path("/dev/kvm")
# A kernel under a KVM that works prints its first line in a fraction of this. Some nested KVMs
# create the machine and then never run it.
KVM_SIGN_SECONDS = 4.0
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
POLL_SECONDS = 0.005
RUNG_SECONDS = 3.0
LAST_WORDS_SECONDS = 1.0
LOG_BYTES = 64 << 10  # of what QEMU itself says


@dataclass(eq=False)
class Machine:
    """A running QEMU whose guest has answered."""

    arch: Arch
    argv: tuple[str, ...]
    accel: Literal["kvm", "tcg"]
    places: Places
    console: serial.Console
    pulse: pulse.Pulse
    qmp: qmp.Qmp
    agent: lines.UnixLines
    keys: ssh.Keys
    ssh_port: int
    _running: process.Running
    broken: bool = False  # the guest is past asking it to power off
    ended_by: str = ""  # the rung of the shutdown ladder that ended it

    @property
    def pid(self) -> int:
        return self._running.pid

    def footprint(self) -> tuple[int, int]:
        """(bytes of memory at most so far, bytes on disk now); 0 for what can no longer be told."""
        memory = disk = 0
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{self.pid}/status").read_text()
            found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
            memory = int(found[1]) * 1024 if found else 0
        with contextlib.suppress(OSError):
            disk = self.places.snapshots.stat().st_blocks * 512
        return memory, disk

    def alive(self) -> None:
        """Raises GuestLost when QEMU has ended."""
        if self._running.poll() is not None:
            raise self.lost("QEMU has ended")

    def kill(self) -> None:
        """End QEMU now, from any thread; whoever waits for the guest gets GuestLost."""
        self.broken = True
        self._running.kill()

    def lost(self, why: str) -> GuestLost:
        """The exception for a guest that went away, with all that is known of its end."""
        self.broken = True
        with contextlib.suppress(OutOfTime):
            self._running.wait(Deadline.after(LAST_WORDS_SECONDS))
        at, felt = self.places, self.pulse
        return _lost(self.arch, why, self._running, at, felt, self.console, self.qmp)

    @contextlib.contextmanager
    def open_ssh(self, deadline: Deadline) -> Iterator[ssh.Ssh]:
        """A new SSH connection into the guest."""

        def alive() -> None:
            if self._running.poll() is not None:
                raise GuestLost("QEMU has ended")

        with ssh.connect(self.ssh_port, self.keys, deadline, alive) as connection:
            yield connection


def _lost(
    arch: Arch,
    why: str,
    running: process.Running,
    at: Places,
    felt: pulse.Pulse,
    console: serial.Console,
    monitor: qmp.Qmp | None,
) -> GuestLost:
    code = running.poll()
    parts = [f"the {arch.name} guest is lost: {why}"]
    printed = console.since(0)
    said, death = crash_title(printed), death_title(printed)
    if said is not None:
        parts.append(f"its kernel said: {death or said}")
    if still := felt.stood_still(0.0):
        parts.append(f"it was let stand still for {still:.0f} s")
        death = None
    if console.flooded:
        parts.append(f"it was ended: its console has said more than {serial.LIMIT_BYTES} bytes")
    if code is not None:
        if monitor is not None:
            monitor.wait_for_end(Deadline.after(LAST_WORDS_SECONDS))
        parts.append(f"QEMU ended with status {code}")
    if words := _qemu_said(at):
        parts.append(f"QEMU said: {words}")
    return GuestLost(
        "; ".join(parts),
        console=console.last_lines(),
        crash=death,
        silent=code is None and not still,
        ended=code is not None and not console.flooded,
    )


def _qemu_said(at: Places) -> str:
    """QEMU's own words, the last of many."""
    try:
        with at.qemu_log.open("rb") as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - LOG_BYTES))
            return log.read(LOG_BYTES).decode(errors="replace").strip()
    except FileNotFoundError:
        return ""


# --- birth -------------------------------------------------------------------------------------


@contextlib.contextmanager
def boot(
    arch: Arch,
    kernel: Path,
    base: Path,
    files: Mapping[str, bytes],
    deadline: Deadline,
    *,
    accel: Accel = Accel.AUTO,
    want_ssh: bool = False,
    debug: bool = False,
    cmdline: str = "",
) -> Iterator[Machine]:
    """Boot a kernel with the userland `base` (image.base) and `files` (guest path -> content).

    Yields once the agent has answered and, with want_ssh, a login has worked. auto: KVM where this
    host has one that works, else TCG. Raises HarnessError when QEMU does not start, GuestLost when
    the guest dies or never gets ready, MissingTool.
    """
    with contextlib.ExitStack() as stack:
        machine = None
        if may_use_kvm(arch, accel):
            attempt = _boot(arch, kernel, base, files, deadline, "kvm", debug, cmdline, accel)
            try:
                machine = stack.enter_context(attempt)
            except _KvmUseless:
                log.info(
                    "%s: KVM is there and does not work: TCG, until this host reboots", arch.name
                )
                _remember_kvm_useless(arch)
        if machine is None:
            machine = stack.enter_context(
                _boot(arch, kernel, base, files, deadline, "tcg", debug, cmdline, accel)
            )
        if want_ssh:
            with machine.open_ssh(deadline):
                log.info("%s: a login over SSH works", arch.name)
        yield machine


class _KvmUseless(Exception):
    """KVM was there, and the guest did not even start."""


@contextlib.contextmanager
def _boot(
    arch: Arch,
    kernel: Path,
    base: Path,
    files: Mapping[str, bytes],
    deadline: Deadline,
    accel: Literal["kvm", "tcg"],
    debug: bool,
    cmdline: str,
    asked: Accel,
) -> Iterator[Machine]:
    with contextlib.ExitStack() as stack:
        at = Places(stack.enter_context(run_dir(arch.name)))
        keys = ssh.new_keys()
        with workdir.disk_errors("the guest's initramfs cannot be made"):
            overlay = initramfs.overlay({**keys.files(), **files})
            at.initrd.write_bytes(initramfs.stack(base.read_bytes(), overlay))
        process.run(
            ["qemu-img", "create", "-q", "-f", "qcow2", at.snapshots, "1M"], deadline=deadline
        )
        console = stack.enter_context(serial.kept(at.console))
        started = replace(arch, qemu=emulator.program(arch))
        argv = qemu_argv(started, kernel, at.directory, accel=accel, cmdline=cmdline, debug=debug)
        # not among what is told of this guest: whoever boots another one needs none of it
        images = []
        if arch.ram and accel == "tcg":
            begin = int(arch.ram, 16)
            end = begin + (arch.memory_mb << 20)
            images = ram.written_anew(argv, begin, end, at.directory, deadline)
        stack.enter_context(_named(argv))
        log.info("%s: booting %s under %s; its console: %s", arch.name, kernel, accel, at.console)
        running = stack.enter_context(
            process.start([*argv, *images], stdout=at.qemu_log, stderr=at.qemu_log)
        )
        stack.enter_context(console.watched(serial.LIMIT_BYTES, running.kill))
        felt = stack.enter_context(pulse.felt(running.pid))

        def alive() -> None:
            if running.poll() is not None:
                raise GuestLost("QEMU has ended")

        try:
            monitor = stack.enter_context(qmp.connect(at.qmp, deadline, alive))
            log.info("%s: QEMU runs and answers", arch.name)
            agent = stack.enter_context(lines.connect(at.agent, deadline, alive))
            agent.send("hello boot", deadline)  # waits in QEMU until the guest listens
            if accel == "kvm" and asked is Accel.AUTO:
                _await_sign_of_life(console, deadline)
            port = _forwarded_port(monitor, deadline)
            log.info("%s: waiting for the agent in the guest", arch.name)
            agent.receive(deadline)
            log.info("%s: the agent answers", arch.name)
        except HarnessError as err:
            if accel == "kvm" and asked is Accel.AUTO and not console.mark():
                raise _KvmUseless from err
            raise _boot_failure(arch, argv, running, at, felt, console, err) from err
        machine = Machine(
            arch=arch,
            argv=tuple(argv),
            accel=accel,
            places=at,
            console=console,
            pulse=felt,
            qmp=monitor,
            agent=agent,
            keys=keys,
            ssh_port=port,
            _running=running,
        )
        stack.push(lambda kind, _value, _trace: _end(machine, hurry=kind is not None))
        yield machine


@contextlib.contextmanager
def _named(argv: list[str]) -> Iterator[None]:
    """Whatever of ours ends this boot or this guest carries QEMU's command line."""
    try:
        yield
    except HarnessError as err:
        err.argv = tuple(argv)
        raise


def _await_sign_of_life(console: serial.Console, deadline: Deadline) -> None:
    """Wait for the console's first byte. Raises OutOfTime."""
    soon = deadline.sooner(KVM_SIGN_SECONDS)
    while not console.mark():
        soon.check("the kernel's first words under KVM")
        time.sleep(POLL_SECONDS)


def _forwarded_port(monitor: qmp.Qmp, deadline: Deadline) -> int:
    """The host's port that leads to the guest's sshd."""
    text = monitor.execute("human-monitor-command", {"command-line": "info usernet"}, deadline)
    found = re.search(r"TCP\[HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(\d+)", text)
    if not found:
        raise HarnessError(f"QEMU does not say which port it forwards: {text.strip()!r}")
    return int(found[1])


def _boot_failure(
    arch: Arch,
    argv: list[str],
    running: process.Running,
    at: Places,
    felt: pulse.Pulse,
    console: serial.Console,
    err: HarnessError,
) -> HarnessError:
    """Why there is no guest: QEMU did not start, or the guest died, or it never got ready."""
    if isinstance(err, GuestLost):
        with contextlib.suppress(OutOfTime):
            running.wait(Deadline.after(LAST_WORDS_SECONDS))
        if running.poll() is not None and not console.mark():
            said = _qemu_said(at)
            return HarnessError(
                f"{arch.qemu} ended with status {running.poll()} before the guest started: {said}",
                hint=f"to see it again: {process.pasteable(argv)}",
            )
        return _lost(arch, f"it died while booting ({err})", running, at, felt, console, None)
    if isinstance(err, OutOfTime):
        return _lost(arch, f"it never got ready ({err})", running, at, felt, console, None)
    return err


# --- KVM ---------------------------------------------------------------------------------------


def may_use_kvm(arch: Arch, asked: Accel) -> bool:
    """Whether to try KVM. Raises HarnessError when it is asked for and cannot be had."""
    if asked is Accel.TCG:
        return False
    fits = arch.kvm_host == platform.machine()
    opens = os.access(KVM_DEVICE, os.R_OK | os.W_OK)
    if asked is Accel.KVM and not (fits and opens):
        raise HarnessError(
            f"no KVM for {arch.name} here: {KVM_DEVICE} cannot be opened"
            if fits
            else f"no KVM for {arch.name} here: the host is {platform.machine()}",
            hint="use --accel auto or --accel tcg",
        )
    return asked is Accel.KVM or (fits and opens and not _kvm_known_useless(arch))


def _note(arch: Arch) -> Path:
    return workdir.state_dir() / f"kvm-useless-{arch.name}"


def _kvm_known_useless(arch: Arch) -> bool:
    note = _note(arch)
    return note.exists() and note.read_text() == BOOT_ID.read_text()


def _remember_kvm_useless(arch: Arch) -> None:
    """Finding it out takes seconds; what was found holds until the host boots again."""
    workdir.write_atomically(_note(arch), BOOT_ID.read_text())


# --- the end -----------------------------------------------------------------------------------


def _end(machine: Machine, hurry: bool) -> None:
    """The shutdown ladder: power-off, QMP quit, SIGTERM, SIGKILL. Sets `ended_by`.

    hurry: an exception is on its way; the guest is not asked.
    """
    running = machine._running

    def ended() -> bool:
        with contextlib.suppress(OutOfTime):
            running.wait(Deadline.after(RUNG_SECONDS))
        return running.poll() is not None

    def power_off() -> None:
        # with -no-reboot a reboot ends QEMU on every machine; a power-off needs ACPI on some
        machine.agent.send("run 1000 reboot%20-f", Deadline.after(RUNG_SECONDS))

    def quit_() -> None:
        machine.qmp.execute("quit", deadline=Deadline.after(RUNG_SECONDS))

    if running.poll() is not None:
        machine.ended_by = "itself"
        log.info("%s: the guest has ended by itself", machine.arch.name)
        return
    rungs: list[tuple[str, Callable[[], None]]] = [
        ("power-off", power_off),
        ("QMP quit", quit_),
        ("SIGTERM", running.terminate),
        ("SIGKILL", running.kill),
    ]
    for name, rung in rungs[1:] if hurry or machine.broken else rungs:
        # QEMU may end, or its sockets may close, while it is being asked
        with contextlib.suppress(GuestLost, OutOfTime):
            rung()
        if ended():
            machine.ended_by = name
            log.info("%s: the guest was ended by %s", machine.arch.name, name)
            return
    raise HarnessError(f"QEMU (process {machine.pid}) cannot be ended")
