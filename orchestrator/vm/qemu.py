# SPDX-License-Identifier: GPL-2.0-only
"""QEMU's command line, and the names in a machine's run directory. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from orchestrator.nouns import Arch

AGENT_PORT = "klp.agent"  # images/guest/init opens it by this name
SNAPSHOT_NODE = "state"


@dataclass(frozen=True, slots=True)
class Places:
    """Names in a machine's run directory."""

    directory: Path

    @property
    def console(self) -> Path:
        return self.directory / "console.log"

    @property
    def qemu_log(self) -> Path:
        return self.directory / "qemu.log"

    @property
    def initrd(self) -> Path:
        return self.directory / "initrd"

    @property
    def snapshots(self) -> Path:
        return self.directory / "state.qcow2"

    @property
    def qmp(self) -> Path:
        return self.directory / "qmp.sock"

    @property
    def agent(self) -> Path:
        return self.directory / "agent.sock"

    @property
    def user_qmp(self) -> Path:
        return self.directory / "monitor.sock"

    @property
    def gdb(self) -> Path:
        return self.directory / "gdb.sock"


def qemu_argv(
    arch: Arch,
    kernel: Path,
    run_dir: Path,
    *,
    accel: Literal["kvm", "tcg"] = "tcg",
    cmdline: str = "",
    debug: bool = False,
) -> list[str]:
    """QEMU's command line; pure.

    cmdline: kernel parameters beyond the architecture's. debug: sockets for gdb and for a second
    QMP client. The forwarded SSH port is QEMU's choice (hostfwd port 0), read back over QMP: no
    other program can take it in between.
    """
    at = Places(run_dir)
    # ignore_loglevel: neither `quiet` nor a guest's `dmesg -n 1` keeps a report off the console
    words = (f"console={arch.console}", "ignore_loglevel", arch.cmdline, cmdline)
    argv = [
        *(arch.qemu, "-name", "klp-e2e", "-nodefaults", "-no-user-config", "-display", "none"),
        *("-machine", arch.machine, "-accel", accel),
        *("-cpu", arch.cpu_kvm if accel == "kvm" else arch.cpu),
        *("-m", str(arch.memory_mb), "-smp", str(arch.cpus)),
        # a reboot is a panic's end or our own power-off; either way the machine is done
        "-no-reboot",
        *("-kernel", str(kernel), "-initrd", str(at.initrd)),
        *("-append", " ".join(word for word in words if word)),
        *_chardev("console", f"file,path={_quoted(at.console)}"),
        *("-serial", "chardev:console"),
        *_chardev("qmp", _server(at.qmp)),
        *("-mon", "chardev=qmp,mode=control"),
        *("-device", f"{arch.serial_device},id=ports"),
        *_chardev("agent", _server(at.agent)),
        *("-device", f"virtserialport,bus=ports.0,chardev=agent,name={AGENT_PORT}"),
        # restrict: the guest reaches nobody, neither this host nor the network behind it
        *("-netdev", "user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:0-:22"),
        # guest_announce: or QEMU interrupts the guest five times in the second after each restore
        *("-device", f"{arch.network_device},netdev=net,guest_announce=off"),
        *("-device", arch.rng_device),
        # holds snapshots only; no device of the guest's is behind it, and nobody needs it on disk
        *(
            "-blockdev",
            f"driver=qcow2,node-name={SNAPSHOT_NODE},cache.no-flush=on,file.driver=file,"
            f"file.cache.no-flush=on,file.filename={_quoted(at.snapshots)}",
        ),
        *arch.qemu_args,
    ]
    if debug:
        argv += [
            *_chardev("monitor", _server(at.user_qmp)),
            *("-mon", "chardev=monitor,mode=control"),
            *_chardev("gdb", _server(at.gdb)),
            *("-gdb", "chardev:gdb"),
        ]
    return argv


def _chardev(name: str, backend: str) -> tuple[str, str]:
    kind, _, options = backend.partition(",")
    return "-chardev", f"{kind},id={name},{options}"


def _server(path: Path) -> str:
    return f"socket,path={_quoted(path)},server=on,wait=off"


def _quoted(path: Path) -> str:
    """A comma ends an option's value; two stand for one (QEMU's util/keyval.c)."""
    return str(path).replace(",", ",,")
