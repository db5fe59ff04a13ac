# SPDX-License-Identifier: GPL-2.0-only
"""QEMU's command line as data gives it, for every architecture there is."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from orchestrator import catalog
from orchestrator.nouns import Arch
from orchestrator.vm.qemu import Places, qemu_argv

KERNEL = Path("/k/image")
RUN = Path("/tmp/klp-run")


def _values(argv: list[str], option: str) -> list[str]:
    return [value for name, value in itertools.pairwise(argv) if name == option]


@pytest.fixture(params=catalog.arches().values(), ids=lambda arch: arch.name)
def arch(request: pytest.FixtureRequest) -> Arch:
    found = request.param
    assert isinstance(found, Arch)
    return found


def test_the_architecture_is_only_data(arch: Arch) -> None:
    argv = qemu_argv(arch, KERNEL, RUN)
    assert argv[0] == arch.qemu
    assert _values(argv, "-machine") == [arch.machine]
    assert _values(argv, "-cpu") == [arch.cpu]
    assert _values(argv, "-accel") == ["tcg"]
    assert _values(argv, "-m") == [str(arch.memory_mb)]
    (cmdline,) = _values(argv, "-append")
    assert cmdline == f"console={arch.console} ignore_loglevel {arch.cmdline}"
    devices = [value.split(",")[0] for value in _values(argv, "-device")]
    assert devices == [
        arch.serial_device,
        "virtserialport",
        arch.network_device.partition(",")[0],
        arch.rng_device,
    ]


def test_kvm_takes_its_own_cpu(arch: Arch) -> None:
    argv = qemu_argv(arch, KERNEL, RUN, accel="kvm")
    assert (_values(argv, "-accel"), _values(argv, "-cpu")) == (["kvm"], [arch.cpu_kvm])


def test_the_guest_reaches_nobody_and_ssh_is_ours_alone(arch: Arch) -> None:
    (netdev,) = _values(qemu_argv(arch, KERNEL, RUN), "-netdev")
    assert netdev.split(",") == ["user", "id=net", "restrict=on", "hostfwd=tcp:127.0.0.1:0-:22"]


def test_every_file_lies_in_the_run_directory(arch: Arch) -> None:
    at = Places(RUN)
    words = " ".join(qemu_argv(arch, KERNEL, RUN, debug=True))
    for path in (at.console, at.initrd, at.snapshots, at.qmp, at.agent, at.user_qmp, at.gdb):
        assert path.parent == RUN
        assert str(path) in words


def test_debug_sockets_only_on_demand(arch: Arch) -> None:
    assert "-gdb" not in qemu_argv(arch, KERNEL, RUN)
    assert _values(qemu_argv(arch, KERNEL, RUN, debug=True), "-gdb") == ["chardev:gdb"]


def test_further_kernel_parameters_come_last_and_a_comma_in_a_path_is_doubled(arch: Arch) -> None:
    argv = qemu_argv(arch, KERNEL, Path("/tmp/a,b"), cmdline="loglevel=8")
    assert _values(argv, "-append")[0].endswith(" loglevel=8")
    assert any("path=/tmp/a,,b/agent.sock" in value for value in _values(argv, "-chardev"))
    assert _values(argv, "-initrd") == ["/tmp/a,b/initrd"]
