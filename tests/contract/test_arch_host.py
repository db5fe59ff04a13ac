# SPDX-License-Identifier: GPL-2.0-only
"""Our architectures' files against this host's QEMU and compilers: right as they are, and wrong
where one field is altered."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path

import pytest

from orchestrator import catalog
from orchestrator.port import archfile
from orchestrator.port.archfile import FieldKind, Remark
from orchestrator.port.archhost import ArchHost, Asked

# Not those whose QEMU comes from a mirror, and whose compiler a host need not have.
FILES = {
    name: catalog.arch_file(name) for name, a in catalog.arches().items() if not a.qemu_package
}
HOST = ArchHost(
    words=functools.cache(ArchHost().words), tuxmake=functools.cache(ArchHost().tuxmake)
)


@pytest.fixture(params=FILES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def remarks(path: Path) -> list[Remark]:
    draft = archfile.read(path)
    return [*draft.remarks, *draft.run_checks((*archfile.CHECKS, *Asked(HOST).checks))]


def altered(name: str, place: Path, **values: object) -> list[Remark]:
    """What is said of one of ours with other values."""
    text = FILES[name].read_text()
    for key, value in values.items():
        (before,) = re.findall(rf"^{key} = .*$", text, flags=re.M)
        text = text.replace(before, f"{key} = {json.dumps(value)}")
    path = place / f"{name}.toml"
    path.write_text(text)
    return remarks(path)


def test_ours_are_right(name: str) -> None:
    assert remarks(FILES[name]) == []


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("machine", "{name}x", "has no machine"),
        ("machine", "{name},x-of-tomorrow=on", "of-tomorrow' not found"),
        ("cpu", "{cpu}imum", "has no CPU"),
        ("cpu", "{cpu},of-tomorrow=on", "of-tomorrow' not found"),
        ("network_device", "{network_device}x", "has no device"),
        ("serial_device", "{serial_device},ports=1", "'[^ ]*ports' not found"),
        ("rng_device", "{rng_device},period=0", "refuses .*period"),
        ("rng_device", "virtio-blk-device", "must be virtio-rng"),
        ("tuxmake_arch", "{kernel_arch}x", "tuxmake does not know"),
        ("debian_arch", "{debian_arch}x", "dpkg knows no 64-bit"),
    ],
)
def test_what_this_host_does_not_know(
    name: str, tmp_path: Path, key: str, value: str, text: str
) -> None:
    data = catalog.read_toml(FILES[name])
    bare = {key: data[key].partition(",")[0] for key in ("machine", "network_device")}
    known = {**data, "name": bare["machine"], "network_device": bare["network_device"]}
    (remark,) = altered(name, tmp_path, **{key: value.format(**known)})
    assert (remark.field, remark.kind) == (key, FieldKind.WRONG)
    assert re.search(text, remark.text), remark
    assert remark.hint


def test_numbers_that_qemu_refuses(name: str, tmp_path: Path) -> None:
    (remark,) = altered(name, tmp_path, cpus=60_000)
    assert (remark.field, "refuses -smp 60000: " in remark.text) == ("cpus", True)
    (remark,) = altered(name, tmp_path, qemu_args=["-of-tomorrow"])
    assert (remark.field, "-of-tomorrow: invalid option" in remark.text) == ("qemu_args", True)


def test_a_suggestion_is_what_was_meant(name: str, tmp_path: Path) -> None:
    meant = catalog.arch(name).rng_device
    (remark,) = altered(name, tmp_path, rng_device=f"{meant[:-1]}")
    assert f"did you mean {meant}?" in remark.hint


def test_a_compiler_of_another_architecture(name: str, tmp_path: Path) -> None:
    mine = catalog.arch(name)
    (remark,) = altered(name, tmp_path, elf_machine=40)
    assert (remark.field, f"({mine.elf_machine}), not 40" in remark.text) == ("elf_machine", True)
    order = "big" if mine.byte_order == "little" else "little"
    said = [r.text for r in altered(name, tmp_path, byte_order=order)]
    assert f"{mine.cross_compile}gcc compiles {mine.byte_order}-endian code, not {order}" in said[0]
    assert said[1:] == [f"Debian's {mine.debian_arch} is {mine.byte_order}-endian"]


def test_programs_that_are_not_there(name: str, tmp_path: Path) -> None:
    found = altered(name, tmp_path, qemu="qemu-system-vax", packages=["qemu-system-vax", "gcc"])
    assert [(r.field, r.kind) for r in found] == [("qemu", FieldKind.LACKING)]
    assert found[0].hint == "sudo apt-get install --no-install-recommends qemu-system-vax"
    (remark,) = altered(name, tmp_path, qemu="qemu-system-vax")
    assert (remark.field, remark.kind) == ("qemu", FieldKind.WRONG), "its package is here"
    (remark,) = altered(name, tmp_path, cross_compile="vax-linux-")
    assert (remark.field, remark.kind) == ("cross_compile", FieldKind.WRONG)
