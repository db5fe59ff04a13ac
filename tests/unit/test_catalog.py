# SPDX-License-Identifier: GPL-2.0-only
"""A TOML file is right in every key, or refused by file and key."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import pydantic_core
import pytest

from orchestrator import catalog
from orchestrator.errors import UsageError


@dataclass(frozen=True, slots=True)
class Row:
    number: int
    kind: Literal["a", "b"] = "a"


@dataclass(frozen=True, slots=True)
class File:
    name: str
    scale: float = 1.0
    words: tuple[str, ...] = ()
    row: tuple[Row, ...] = ()
    table: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def load(tmp_path: Path, text: str) -> File:
    path = tmp_path / "f.toml"
    path.write_text(text)
    return catalog.load_toml(path, File, name="f")


def test_a_file_becomes_its_dataclass(tmp_path: Path) -> None:
    text = 'scale = 2\nwords = ["x"]\ntable.k = ["v"]\n[[row]]\nnumber = 3\nkind = "b"\n'
    assert load(tmp_path, text) == File("f", 2.0, ("x",), (Row(3, "b"),), {"k": ("v",)})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nonsense = 1", r"f\.toml: nonsense: unknown key"),
        ("[[row]]\nnumber = 1\nmore = 2", r"row\[0\]\.more: unknown key"),
        ("[[row]]\n", r"row\[0\]\.number: missing"),
        ('[[row]]\nnumber = "1"', r"row\[0\]\.number: .*integer, not '1'"),
        ('[[row]]\nnumber = 1\nkind = "c"', r"row\[0\]\.kind: .*'a' or 'b', not 'c'"),
        ('words = "x"', r"words: .*array"),
        ("table.k = [1]", r"table\.k\[0\]: .*string, not 1"),
        ("words = = 1", r"f\.toml: .*line 1"),
        ('name = "g"', r"name: must be 'f'"),
    ],
)
def test_what_is_wrong_is_named_with_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load(tmp_path, text)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"gone\.toml: No such file"):
        catalog.load_toml(tmp_path / "gone.toml", File)


def test_every_architecture_and_module_set_of_ours_loads() -> None:
    for name, arch in catalog.arches().items():
        assert arch.name == name
        numbers = [row.number for row in arch.relocations]
        assert len(set(numbers)) == len(numbers)
    for name, module_set in catalog.module_sets().items():
        assert module_set.name == name and module_set.directory.is_dir()


def test_unknown_names_list_the_known() -> None:
    known = sorted(catalog.arches())
    with pytest.raises(UsageError, match="unknown architecture: vax") as caught:
        catalog.arch("vax")
    assert all(name in caught.value.hint for name in known)
    with pytest.raises(UsageError, match="unknown module set: basik") as caught:
        catalog.module_set("basik")
    assert "did you mean basic?" in caught.value.hint


def test_an_architecture_may_be_a_file_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, arch = next(iter(catalog.arches().items()))
    (tmp_path / "mine.toml").write_text(catalog.arch_file(name).read_text())
    monkeypatch.chdir(tmp_path)
    mine = catalog.arch("mine.toml")
    assert mine == replace(arch, name="mine", file=tmp_path / "mine.toml")
    assert catalog.arch("./mine.toml") == mine
    assert catalog.fragment(tmp_path / "mine.toml") == tmp_path / "mine.config"
    assert catalog.arch(str(catalog.arch_file(name))) == arch, "ours by its path is ours"
    with pytest.raises(UsageError, match="unknown architecture: mine") as caught:
        catalog.arch("mine")
    assert "a file is given as mine.toml" in caught.value.hint
    with pytest.raises(UsageError, match=r"other\.toml: No such file"):
        catalog.arch("other.toml")
    with pytest.raises(UsageError, match="no name of an architecture's file"):
        catalog.arch("./my arch.toml")


@pytest.mark.parametrize(
    ("place", "told", "hint"),
    [
        ("./mine", "it holds no set.toml", "basic/set.toml is one"),
        ("./rigth", "there is no such directory", "did you mean right/?"),
        ("./right/set.toml", "it is a file", "as in right/"),
        ("./gone/deep", "there is no such directory", "known: basic"),
    ],
)
def test_a_place_that_is_no_module_set_is_told_as_what_it_is(
    place: str, told: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "right").mkdir()
    (tmp_path / "right" / "set.toml").touch()
    with pytest.raises(UsageError, match=f"{place} is not a module set: {told}") as caught:
        catalog.module_set(place)
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a = nan", "nan is no number"),
        ("a = -inf", "-inf is no number"),
        ("a = 1e999", "1e999 is no number"),
        (f"a = {'9' * 5000}", "5000 digits"),
        (f"a = {'[' * 5000}", "too deep in one another"),
        (f"{'a.' * 10000}a = 1", "more than 100 dots"),
        ("a = 1\nb = '\udcff'", "line 2 is not UTF-8"),
    ],
)
def test_what_a_toml_file_cannot_say(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(UsageError, match=told):
        catalog.read_toml(path)


# --- what an architecture's file may say ---------------------------------------------------------


def arch_with(tmp_path: Path, **words: object) -> Path:
    """The file of one of ours with other values."""
    text = catalog.arch_file("x86_64").read_text()
    for key, value in words.items():
        line = f"{key} = {json.dumps(value)}".replace("\\", "\\\\")
        text, times = re.subn(rf"^{key} = .*$", line, text, count=1, flags=re.M)
        assert times == 1, key
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("qemu", value) for value in ("/bin/sh", "./qemu-system-x86_64", "qemu-system-x/../sh")),
        *(("qemu", value) for value in ("", "sh", "qemu-system-x86_64 ", "qemu-system-x86_64\n")),
        *(("kernel_arch", value) for value in ("x86 CC=evil", "-f/evil", "../x", "x=y", "")),
        *(("tuxmake_arch", value) for value in ("--runtime=x", "x86_64\n", "../x")),
        *(("cross_compile", value) for value in ("-x-", "../evil-", "/a/../b-", "a b-", "a;b-")),
        *(("image_target", value) for value in ("-f/evil", "CC=evil", "../x", "$(shell id)")),
        *(("image_path", value) for value in ("/boot/x", "../x", "arch/../../x", "arch//x", "")),
        *(("debian_arch", value) for value in ("--x", "a,b", "../x")),
        *(("machine", value) for value in ("pc,dumpdtb=/etc/x", "pc,firmware=../x", "pc,a", "")),
        *(("machine", value) for value in ("pc,,kernel=x", "pc,dtb=a:b", "pc\n")),
        *(("cpu", value) for value in ("max,x=/etc/passwd", "max -S", "", "-S")),
        *(("cpu_kvm", value) for value in ("host,x=a,,b", "")),
        *(("kvm_host", value) for value in ("$(id)", "x y")),
        *(("memory_mb", value) for value in (0, -1, 10**9)),
        *(("cpus", value) for value in (0, -1, 10**9)),
        *(("console", value) for value in ("ttyS0 init=/bin/sh", "ttyS0\n", "")),
        *(("cmdline", value) for value in ("a\nb", "\x1b[2J", "\0", "x" * 5000)),
        *(("qemu_args", value) for value in (["a\nb"], ["\0"], "-S")),
        ("network_device", "virtio-net-pci,romfile=/etc/shadow"),
        ("network_device", "vfio-pci,host=01:00.0"),
        ("rng_device", "virtio-rng-pci,rng=x"),
        ("serial_device", "virtio-serial-pci,chardev=console"),
        *(("packages", value) for value in (["-o Dpkg::x=y"], ["$(id)"], ["a b"], [""])),
        *(("time_scale", value) for value in (0.0, -1.0, 1e300)),
        *(("elf_machine", value) for value in (-1, 1 << 16)),
        *(("packages", value) for value in (["gcc-"], ["x" * 101])),
        *((key, "x" * 5000) for key in ("kernel_arch", "debian_arch", "image_target", "kvm_host")),
        *((key, "x" * 5000) for key in ("image_path", "cross_compile", "cpu", "console")),
        ("machine", "virt" + ",a=b" * 1000),
        ("qemu", "qemu-system-" + "x" * 100),
        ("bits", 1 << 40),
        ("name", "R_\nGUEST"),
    ],
)
def test_no_word_of_an_architecture_can_be_more_than_a_word(
    tmp_path: Path, key: str, value: object
) -> None:
    with pytest.raises(UsageError, match=rf"mine\.toml: .*\b{key}"):
        catalog.arch(str(arch_with(tmp_path, **{key: value})))


DIGITS = "9" * 5000


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("qemu_version", value) for value in (f"{DIGITS}.1", f"9.{DIGITS}", "9", "-9.1")),
        *(("qemu_package", value) for value in ("../x", "/x", "-o=x", "http://x/y.deb", "x-")),
        *(("qemu_package", value) for value in ("x\n", "x=1", "x/sid", "x" * 5000)),
        *(("toolchain", value) for value in (f"gcc-{DIGITS}", "llvm-../x", "llvm-")),
        *(("suite", value) for value in ("..", "a/../b", "-x", "[trusted=yes]", "x" * 5000)),
        *(("component", value) for value in ("../main", "main non-free", "http://x")),
        *(("since", value) for value in (f"{DIGITS}.1", "7", "-7.1")),
    ],
)
def test_what_is_fetched_for_an_architecture_is_named_by_words_alone(
    tmp_path: Path, key: str, value: str
) -> None:
    text = catalog.arch_file("x86_64").read_text()
    of_userland = key in ("suite", "component")
    line = f"{key} = {json.dumps(value)}\n"
    path = tmp_path / "mine.toml"
    path.write_text(f"{text}\n[userland]\n{line}" if of_userland else f"{line}{text}")
    with pytest.raises(UsageError, match=rf"mine\.toml: .*\b{key}"):
        catalog.arch(str(path))


OPCODE = 'value = "S + A", opcode = 0, opcode_bits = 1'


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ("bits = 33", "R_X has 33 bits, and a field has bytes"),
        ('bits = 64\nfield = ["99..0 = 99..0"]', "beyond 64 bits"),
        ('bits = 32\nfield = ["0..25 = 2..27"]', "R_X: '0..25 = 2..27': not as many bits"),
        ('bits = 32\nfield = ["9..0 = 9..0", "9..0 = 19..10"]', "stand in two runs"),
        ('bits = 32\nbehind = { before = "000", after = "000" }', "behind it 3 hexadecimal digits"),
        (f"bits = 32\ninstead = [{{ bits = 64, {OPCODE} }}]", "instead of it a field of 64 bits"),
        (
            f'bits = 32\ninstead = [{{ bits = 32, field = ["0..9 = 9..0"], {OPCODE} }}]',
            "instead of it a field: '0..9 = 9..0'",
        ),
        (
            f"bits = 32\ninstead = [{{ bits = 32, {OPCODE}, stub = {{ size = 4, fields = ["
            '{ at = 2, bits = 32, value = "S + A" }] } }]',
            "instead of it the stub's field at 2",
        ),
        ('bits = 32\nbehind = { before = "00", after = "0000" }', "hexadecimal digits, and 4"),
        ('bits = 32\n[stub]\nsize = 8\ncode = "00"\nfields = []', "code has 2 hexadecimal"),
        (
            'bits = 32\n[stub]\nsize = 8\nfields = [{ at = 4, bits = 64, value = "S + A" }]',
            "field at 4 lies beyond its 8 bytes",
        ),
    ],
)
def test_a_table_by_which_nothing_can_be_read_is_refused(
    tmp_path: Path, row: str, why: str
) -> None:
    """By whoever reads it: `arch check` is not asked before a run. It ended in a traceback."""
    text = catalog.arch_file("x86_64").read_text()
    path = tmp_path / "mine.toml"
    path.write_text(f'{text}\n[[relocations]]\nname = "R_X"\nnumber = 99\nvalue = "S + A"\n{row}\n')
    with pytest.raises(UsageError, match=re.escape(why)):
        catalog.arch(str(path))


@pytest.mark.parametrize(
    "words",
    [
        {"cross_compile": "/opt/cross-13/bin/aarch64-linux-"},
        {"machine": "virt,gic-version=3,highmem=off", "cpu": "cortex-a57,+aes,pmu=off,-sve"},
        {"console": "ttyAMA0,115200n8", "network_device": "virtio-net-pci-non-transitional"},
        {"network_device": "virtio-net-pci,romfile=", "packages": ["libc6-dev:amd64", "g++"]},
        {"qemu_args": ["-drive", "file=/dev/null,if=none,id=d"]},  # it is the user's own file
    ],
)
def test_what_is_usual_is_taken(tmp_path: Path, words: dict[str, object]) -> None:
    found = catalog.arch(str(arch_with(tmp_path, **words)))
    for key, value in words.items():
        assert getattr(found, key) == (tuple(value) if isinstance(value, list) else value)


@pytest.mark.parametrize(
    "words",
    [
        *({"qemu_args": [option, "x"]} for option in ("-fsdev", "-virtfs", "-drive", "-chardev")),
        *({"qemu_args": [option, "x"]} for option in ("-netdev", "-monitor", "-serial", "-object")),
        *(
            {"qemu_args": [option, "x"]}
            for option in ("-readconfig", "-L", "-bios", "-qmp", "-gdb")
        ),
        *(
            {"qemu_args": [option, "x"]}
            for option in ("-trace", "-D", "-pidfile", "-kernel", "-dtb")
        ),
        *({"qemu_args": [option]} for option in ("-daemonize", "-S", "/dev/sda", "-vga", "--vga")),
        {"qemu_args": ["-vga", "none", "-snapshot"]},
        {"qemu_args": ["-device", "vfio-pci,host=01:00.0"]},
        {"qemu_args": ["-device", "virtio-balloon-pci,romfile=/etc/shadow"]},
        {"qemu_args": ["-device", "usb-host,hostbus=1,hostaddr=2"]},
        {"qemu_args": ["-global", "virtio-net-pci.romfile=/etc/shadow"]},
        {"qemu_args": ["-global", "driver=x,property=y,value=z"]},
        {"qemu_args": ["-prom-env", "x=a,b"]},
        {"machine": "pc,dumpdtb=x"},
        {"machine": "pc,firmware=x"},
        {"machine": "pc,memory-backend=x"},
        {"qemu": "/bin/sh"},
        {"memory_mb": 16384},
        {"cpus": 64},
        {"time_scale": 100.0},
    ],
)
def test_a_strangers_file_asks_qemu_for_nothing_of_this_host(
    tmp_path: Path, words: dict[str, object]
) -> None:
    with pytest.raises(UsageError, match=r"mine\.toml: (machine|qemu|memory_mb|cpus|time_scale)"):
        catalog.arch_of_others(arch_with(tmp_path, **words))


@pytest.mark.parametrize("name", catalog.arch_files())
def test_what_ours_ask_for_a_stranger_may_ask_too(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"{name}.toml"
    path.write_text(catalog.arch_file(name).read_text())
    assert catalog.arch_of_others(path) == replace(catalog.arch(name), file=path)


@pytest.mark.parametrize(
    ("said", "raised"),
    [("KeyboardInterrupt: ", KeyboardInterrupt), ("no such type", pydantic_core.SchemaError)],
)
def test_ctrl_c_while_a_type_is_looked_at_is_no_mistake_of_ours(
    monkeypatch: pytest.MonkeyPatch, said: str, raised: type[BaseException]
) -> None:
    def adapter(_type: object) -> None:
        raise pydantic_core.SchemaError(f"Error building `literal` serializer:\n  {said}")

    monkeypatch.setattr("pydantic.TypeAdapter", adapter)
    with pytest.raises(raised):
        catalog.problems("gcc", str)
