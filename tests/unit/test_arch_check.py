# SPDX-License-Identifier: GPL-2.0-only
"""Every kind of mistake in an architecture's two files has a remark of its own, and all of them are
said at once. QEMU, compiler and kernel source are fakes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields as dataclass_fields
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn

import pytest
from elf_samples import target

from orchestrator import catalog, doctor
from orchestrator.build.kernel import configuration
from orchestrator.elf.writer import write
from orchestrator.errors import ConfigError, Exit, HarnessError, UsageError
from orchestrator.nouns import Arch
from orchestrator.port import archcheck, archfile, archnew
from orchestrator.port.archfile import FieldKind, Remark
from orchestrator.port.archhost import ArchHost, Cpu
from orchestrator.source import sources

NAME = "x86_64"  # the ELF samples are its
TEXT = catalog.arch_file(NAME).read_text()
FRAGMENT = "CONFIG_VIRTIO_MMIO=y\n"
WORDS = {
    "-machine": frozenset({"microvm", "pc"}),
    "-cpu": frozenset({"max", "host"}),
    "-device": frozenset({"virtio-net-device", "virtio-net-pci", "virtio-rng-device"})
    | {"virtio-serial-device"},
}


ADDRESS_OF = 'bits = 64, value = "S + A", field = ["63..8 = 55..0"], signed = true'


def refusal(argv: Sequence[str]) -> str:
    """A QEMU that knows microvm with acpi and rtc, 8 CPUs, memory by 64 MB, and no PCI."""
    options = dict(zip(argv[1::2], argv[2::2], strict=False))
    if "x-new" in options["-machine"]:
        return "Property 'microvm-machine.x-new' not found"
    if int(options.get("-smp", "1")) > 8:
        return "Invalid SMP CPUs"
    if int(options.get("-m", "64")) % 64:
        return "Memory size is not aligned to 64 MiB"
    if "-pci" in options.get("-device", ""):
        return "No 'PCI' bus found"
    return "-bogus: invalid option" if "-bogus" in argv else ""


def present(name: str) -> bool:
    return True


HOST = ArchHost(
    packages=doctor.Host(program=present, file=present, package=present),
    words=lambda _qemu, option: WORDS[option],
    refusal=refusal,
    object=lambda _compiler: write(target()),
    tuxmake=lambda: frozenset({NAME, "arm64"}),
    cpus=lambda: (Cpu("amd64", NAME, "little"), Cpu("s390x", "s390x", "big")),
    machine=NAME,
)


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As much of a kernel's source as is looked at."""
    tree = tmp_path / "linux"
    (tree / "arch/x86/boot").mkdir(parents=True)
    (tree / "Makefile").write_text("ifeq ($(ARCH),x86_64)\n        SRCARCH := x86\nendif\n")
    (tree / "arch/x86/Makefile").write_text("all: bzImage\n")
    (tree / "arch/x86/boot/Makefile").write_text("targets := vmlinux.bin bzImage\n")
    monkeypatch.setattr(sources, "fetch", lambda spec, say: SimpleNamespace(directory=tree))
    return tree


@pytest.fixture
def check(kernel: Path, tmp_path: Path) -> Callable[..., list[Remark]]:
    def checked(
        text: str = TEXT, fragment: str | None = FRAGMENT, host: ArchHost = HOST
    ) -> list[Remark]:
        path = tmp_path / f"{NAME}.toml"
        path.write_text(text)
        if fragment is not None:
            path.with_suffix(".config").write_text(fragment)
        (report,) = archcheck.check([str(path)], "dir:linux", print, host)
        return list(report.remarks)

    return checked


def test_llvm_needs_no_gcc_and_a_newer_qemu_is_asked_where_it_is(
    check: Callable[..., list[Remark]],
) -> None:
    newer = 'qemu_version = "99.1"\nqemu_package = "qemu-x"\ntoolchain = "llvm-19"\n'
    text = TEXT.replace("[[relocations]]", '[userland]\ntoolchain = "llvm-19"\n[[relocations]]', 1)
    text = newer + re.sub(r"^packages = .*$", "packages = []", text, flags=re.M)
    asked: list[str] = []
    compiled: list[tuple[str, ...]] = []

    def refusing(argv: Sequence[str]) -> str:
        asked.append(argv[0])
        return refusal(argv)

    def compiles(*compiler: str) -> bytes:
        compiled.append(compiler)
        return write(target())

    host = replace(
        HOST, emulator=lambda _arch, _say: "/cache/qemu", refusal=refusing, object=compiles
    )
    assert check(text, host=host) == []
    assert set(asked) == {"/cache/qemu"} and compiled == [("clang-19",)]

    def none(_arch: Arch, _say: object) -> str:
        raise HarnessError("too old", hint="a newer one")

    (remark,) = check(text, host=replace(HOST, emulator=none))
    assert (remark.field, remark.kind, remark.text) == ("qemu_version", "lacking", "too old")


def edited(key: str, value: str) -> str:
    """The file with another value for a key; without it for an empty one."""
    line = f"{key} = {value}\n" if value else ""
    made, times = re.subn(rf"^{key} = .*\n", lambda _: line, TEXT, count=1, flags=re.M)
    assert times == 1
    return made


def test_a_right_file_has_no_remark(check: Callable[..., list[Remark]]) -> None:
    assert check() == []


@pytest.mark.parametrize(
    ("key", "value", "field", "text"),
    [
        ("memory_mb", "", "memory_mb", "missing: the guest's memory"),
        ("memory_mb", '"192"', "memory_mb", "integer, not '192'"),
        ("memory_mb", "192\nmemory = 3", "memory", "unknown key"),
        ("memory_mb", "64", "memory_mb", "greater than or equal to 96, not 64"),
        ("memory_mb", "200", "memory_mb", "refuses -m 200: Memory size is not aligned"),
        ("memory_mb", "= 3", "the file", r"line \d+, column 13"),
        ("console", '""', "console", "empty"),
        ("cpus", "0", "cpus", "greater than or equal to 1, not 0"),
        ("cpus", "99", "cpus", "refuses -smp 99: Invalid SMP"),
        ("time_scale", "0.0", "time_scale", "greater than or equal to 1, not 0.0"),
        ("time_scale", "inf", "the file", "inf is no number"),
        ("byte_order", '"middle"', "byte_order", "'little' or 'big', not 'middle'"),
        ("elf_machine", "22", "elf_machine", r"gcc compiles for EM_X86_64 \(62\), not 22"),
        ("kernel_arch", '"vax"', "kernel_arch", "no arch/vax/"),
        ("tuxmake_arch", '"arm46"', "tuxmake_arch", "tuxmake does not know arm46"),
        ("debian_arch", '"s390x"', "byte_order", "Debian's s390x is big-endian"),
        ("debian_arch", '"amd46"', "debian_arch", "no 64-bit amd46"),
        ("image_path", '"/boot/bzImage"', "image_path", "not '/boot/bzImage'"),
        ("image_path", '"arch/arm/boot/bzImage"', "image_path", "is not under arch/x86/ or"),
        ("image_path", '"arch/x86/boot/zImage"', "image_path", "the build gives no zImage"),
        (
            "image_target",
            '"zImage"',
            "image_target",
            "the build gives no zImage: neither arch/x86/M",
        ),
        ("machine", '"micro"', "machine", "no machine micro"),
        ("machine", '"microvm,x-new=on"', "machine", "refuses .*x-new' not found"),
        ("cpu", '"maxx"', "cpu", "no CPU maxx"),
        ("cpu_kvm", '"hots"', "cpu_kvm", "no CPU hots"),
        ("network_device", '"virtio-net-ccw"', "network_device", "no device virtio-net-ccw"),
        ("network_device", '"virtio-net-pci"', "network_device", "No 'PCI' bus"),
        ("qemu", '"/bin/sh"', "qemu", r"must be qemu-system-.* not '/bin/sh'"),
        ("qemu_args", r'["\n"]', "qemu_args[0]", r"not '\\n'"),
        ("qemu_args", '["-bogus"]', "qemu_args", "refuses them: -bogus"),
        ("packages", '["gcc"]', "packages", "no qemu-... package, which brings"),
        ("packages", '["qemu-system-x86"]', "packages", "no gcc... package, which brings gcc"),
        ("packages", '["gcc"]\nqemu_version = "9.1"', "qemu_package", "empty, and qemu_version"),
        ("packages", '["gcc"]\nqemu_package = "qemu-x"', "qemu_version", "empty, and qemu_package"),
        ("qemu_args", '[]\nqemu_version = "9"', "qemu_version", "not '9'"),
        ("bits", "12", "relocations[0].bits", "12 is no width"),
        ("bits", '"64"', "relocations[0].bits", "not '64'"),
        ("value", '"S + A - Q"', "relocations[0].value", "'S \\+ A - P', .* not 'S \\+ A - Q'"),
        ("value", '"L(S + A) - P"', "stub", "missing, and R_X86_64_64 leads to one"),
        ("value", '"G(S + A)"\npart = true\nfield = ["11..0 = 11..0"]', "got", "missing"),
        ("bits", '64\nfield = ["11..0"]', "relocations[0].field[0]", "11..0"),
        (
            "bits",
            '64\nfield = ["63..54 = 10..0"]',
            "relocations[0].field",
            "not as many bits on either side",
        ),
        (
            "bits",
            '64\nfield = ["0..9 = 0..9"]',
            "relocations[0].field",
            "not as many bits on either side",
        ),
        ("bits", '64\nfield = ["64..60 = 4..0"]', "relocations[0].field", "beyond 64 bits"),
        ("bits", '64\nfield = ["9..0 = 70..61"]', "relocations[0].field", "or 64 of a value"),
        (
            "bits",
            '64\nfield = ["9..0 = 9..0", "12..8 = 14..10"]',
            "relocations[0].field",
            "stand in two runs",
        ),
        (
            "bits",
            '64\nfield = ["9..0 = 9..0", "14..10 = 12..8"]',
            "relocations[0].field",
            "stand in two runs",
        ),
        (
            "bits",
            '64\nfield = ["9..0 = 9..0", "20..10 = 30..20"]',
            "relocations[0].field",
            "in the midst",
        ),
        (
            "bits",
            '64\nfield = ["19..0 = 31..12"]',
            "relocations[0].field",
            "the low 12 bits of the value are",
        ),
        (
            "bits",
            "64\npart = true",
            "relocations[0].field",
            "part, and no bit of the value is left out",
        ),
        ("bits", "64\npart = true\nsigned = true", "relocations[0].field", "signed and part"),
        (
            *("bits", '64\nbehind = { before = "0", after = "11" }'),
            *("relocations[0].behind.before", "'0' are not the hexadecimal digits of bytes"),
        ),
        (
            *("bits", '64\nbehind = { before = "00", after = "1111" }'),
            *("relocations[0].behind", "1 and 2 bytes"),
        ),
        *(
            ("bits", f"64\ninstead = [{{ {text} }}]", f"relocations[0].instead[0].{key}", wrong)
            for text, key, wrong in (
                (f"{ADDRESS_OF}, opcode = 2, opcode_bits = 1", "opcode", "0x2 of 0x1"),
                (f"{ADDRESS_OF}, opcode = 0, opcode_bits = 0x100", "opcode", "0x0 of 0x100"),
                (
                    'bits = 32, value = "S + A", opcode = 0, opcode_bits = 0x100000000',
                    *("bits", "32 bits, and the field has 64"),
                ),
            )
        ),
        ("bits", "64\nwidth = 64", "relocations[0].width", "unknown key"),
        ("number", "2", "relocations[1].number", r"2 stands in relocations\[0\] already"),
        ("number", "9", "relocations[0].number", "R_X86_64_64 is 1, not 9"),
        ("name", '"R_X86_64_PC32"', "relocations[1].name", "R_X86_64_PC32 stands in"),
        ("name", '"R_X86_64_46"', "relocations[0].name", "pyelftools does not know"),
    ],
)
def test_each_mistake_is_said_of_its_field(
    check: Callable[..., list[Remark]], key: str, value: str, field: str, text: str
) -> None:
    found = check(edited(key, value))
    mine = [remark for remark in found if remark.field == field and re.search(text, remark.text)]
    assert len(mine) == 1, found
    assert mine[0].kind is (FieldKind.NOTE if "pyelftools" in text else FieldKind.WRONG)
    assert mine[0].hint or "relocations" in field or "not '" in text


ADDRESS = '{ at = 8, bits = 64, value = "S + A" }'


@pytest.mark.parametrize(
    ("stub", "field", "text"),
    [
        (f"fields = [{ADDRESS}]", "", ""),
        (f'fields = [{ADDRESS}]\ncode = "{"00" * 8} {"00" * 8}"', "", ""),
        ('fields = [{ at = 9, bits = 64, value = "S + A" }]', "stub.fields[0].at", "not within 16"),
        ('fields = [{ at = 8, bits = 64, value = "G(S + A)" }]', "stub.fields[0].value", "itself"),
        ('fields = [{ at = 8, bits = 32, value = "S + A" }]', "stub.fields", "the whole address"),
        ("fields = []", "stub.fields", "the whole address"),
        (f'fields = [{ADDRESS}]\ncode = "0011"', "stub.code", "4 hexadecimal digits"),
        (
            'fields = [{ at = 0, bits = 32, value = "S + A", field = ["9..0 = 9..1"] }]',
            *("stub.fields[0].field", "not as many bits on either side (at 0)"),
        ),
    ],
)
def test_a_stub_says_a_whole_address(
    check: Callable[..., list[Remark]], stub: str, field: str, text: str
) -> None:
    found = check(f"{TEXT}\n[stub]\nsize = 16\n{stub}\n")
    assert [remark.field for remark in found] == ([field] if field else [])
    assert not found or text in found[0].text


@pytest.mark.parametrize(
    ("fragment", "kind", "text"),
    [
        (None, FieldKind.WRONG, "is missing"),
        ("CONFIG_X=y\nNONSENSE\n", FieldKind.WRONG, "line 2 is not a Kconfig option: NONSENSE"),
        ("CONFIG_LIVEPATCH=m\n", FieldKind.WRONG, "contradicts base.config, which has y"),
        ("# CONFIG_LIVEPATCH is not set\n", FieldKind.NOTE, "is off here, and y in base.config"),
    ],
)
def test_the_fragment_is_read_on_top_of_the_base(
    check: Callable[..., list[Remark]], fragment: str | None, kind: FieldKind, text: str
) -> None:
    (remark,) = check(fragment=fragment)
    assert (remark.field, remark.kind) == (archfile.FRAGMENT, kind)
    assert text in remark.text


def test_all_is_said_at_once_in_the_order_of_the_file(check: Callable[..., list[Remark]]) -> None:
    text = edited("memory_mb", "").replace('"max"', '"min"').replace("bits = 32", "bits = 31", 1)
    fields = [remark.field for remark in check(f"nonsense = 1\n{text}", "x\ny\n")]
    wanted = ["nonsense", "cpu", "memory_mb", "relocations[1].bits"]
    assert fields == [*wanted, archfile.FRAGMENT, archfile.FRAGMENT]


@pytest.mark.parametrize(
    "key", [key for key in archfile.fields() if f"\n{key} = " in TEXT and key != "loader"]
)
def test_one_mistake_hides_no_other_and_breaks_no_check(
    check: Callable[..., list[Remark]], key: str
) -> None:
    text = edited(key, "").replace("bits = 32", "bits = 31", 1)
    assert [remark.field for remark in check(text)] == [key, "relocations[1].bits"]


# --- the host ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("program", "field"), [("qemu-system-x86_64", "qemu"), ("gcc", "cross_compile")]
)
def test_a_program_that_is_not_there(
    check: Callable[..., list[Remark]], program: str, field: str
) -> None:
    def absent(name: str) -> bool:
        return name != program

    def nothing(name: str) -> bool:
        return False

    look = doctor.Host(program=absent, package=nothing)
    bare = [r for r in check(host=replace(HOST, packages=look)) if r.field != "packages"]
    assert [(r.field, r.kind) for r in bare] == [(field, FieldKind.LACKING)]
    assert bare[0].hint.startswith("sudo apt-get install --no-install-recommends ")
    look = doctor.Host(program=absent, package=present)  # its package is there: the name is wrong
    (remark,) = check(host=replace(HOST, packages=look))
    assert (remark.field, remark.kind) == (field, FieldKind.WRONG)
    assert f"is installed, and brings no program {program}" in remark.text


@pytest.mark.parametrize(
    ("data", "text"),
    [(b"", "empty"), (b"MZ", "not an ELF"), (b"\x7fELF\1" + bytes(99), "not a 64")],
)
def test_what_the_compiler_makes_must_be_an_object_of_ours(
    check: Callable[..., list[Remark]], data: bytes, text: str
) -> None:
    (remark,) = check(host=replace(HOST, object=lambda _: data))
    assert remark.field == "cross_compile"
    assert text in remark.text


def test_without_the_kernels_source_the_rest_is_said(
    check: Callable[..., list[Remark]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(spec: str, say: object) -> NoReturn:
        raise HarnessError("no mirror answers", hint="be online")

    monkeypatch.setattr(sources, "fetch", offline)
    assert [(r.field, r.kind) for r in check(edited("cpu", '"maxx"'))] == [
        ("kernel_arch", FieldKind.LACKING),
        ("cpu", FieldKind.WRONG),
    ]


@pytest.mark.parametrize(
    ("kinds", "code"),
    [
        ([], Exit.GOOD),
        ([FieldKind.NOTE], Exit.GOOD),
        ([FieldKind.NOTE, FieldKind.LACKING], Exit.HARNESS),
        ([FieldKind.LACKING, FieldKind.WRONG], Exit.USAGE),
    ],
)
def test_wrong_files_come_before_a_host_that_lacks_something(
    kinds: list[FieldKind], code: Exit
) -> None:
    remarks = tuple(Remark("cpu", "text", "hint", kind) for kind in kinds)
    report = archcheck.Report(Path("mine.toml"), remarks)
    assert archcheck.check_exit_code([archcheck.Report(Path("a.toml"), ()), report]) is code
    assert len(report.lines) == 1 + 2 * len(kinds)
    assert ("mine: right" in report.lines[0]) == (code is Exit.GOOD)


# --- arch new ------------------------------------------------------------------------------------


def test_every_key_is_told_of() -> None:
    wanted = {field.name for field in dataclass_fields(Arch)} - set(archfile.GIVEN)
    assert set(archfile.fields()) == wanted


def missing(path: Path, host: ArchHost) -> Iterator[str]:
    (report,) = archcheck.check([str(path)], "dir:linux", print, host)
    for remark in report.remarks:
        yield remark.field
        assert remark.kind is FieldKind.WRONG and remark.hint


def test_a_template_lacks_what_nobody_knows(kernel: Path, tmp_path: Path) -> None:
    nobody = replace(HOST, packages=doctor.Host(program=lambda _: False, package=present))
    file, fragment = archnew.write("vax", tmp_path / "new", host=nobody)
    known = {field.name for field in archfile.fields().values() if field.usual is not None}
    wanted = [name for name in archfile.fields() if name not in {*known, "stub", "got"}]
    assert list(missing(file, HOST)) == wanted
    with pytest.raises(UsageError, match=r"vax\.toml: kernel_arch: missing; "):
        catalog.arch(str(file))  # it is no architecture yet
    assert fragment == file.with_suffix(".config")
    for name in wanted:
        assert f"\n#{name} =\n" in file.read_text() or name == "relocations"


def test_a_template_has_what_its_name_tells(kernel: Path, tmp_path: Path) -> None:
    file, _ = archnew.write(NAME, tmp_path / "new", kernel_arch=NAME, host=HOST)
    data = catalog.read_toml(file)
    assert (data["qemu"], data["debian_arch"]) == (f"qemu-system-{NAME}", "amd64")
    assert (data["cross_compile"], data["elf_machine"], data["byte_order"]) == ("", 62, "little")
    assert data["kernel_arch"] == data["tuxmake_arch"] == NAME
    foreign, _ = archnew.write("s390x", tmp_path / "new", host=replace(HOST, machine="none"))
    data = catalog.read_toml(foreign)
    assert data["cross_compile"] == "s390x-linux-gnu-"
    assert data["packages"] == ["gcc-s390x-linux-gnu", "libc6-dev-s390x-cross"]


@pytest.mark.parametrize("like", catalog.arch_files())
def test_one_that_is_like_another_has_all_of_it(like: str, tmp_path: Path) -> None:
    file, fragment = archnew.write("mine", tmp_path, like=like, host=HOST)
    assert catalog.arch(str(file)) == replace(catalog.arch(like), name="mine", file=file)
    assert fragment.read_text() == catalog.fragment(catalog.arch_file(like)).read_text()


@pytest.mark.parametrize("there", ["mine.toml", "mine.config"])
def test_nothing_is_written_over(there: str, tmp_path: Path) -> None:
    (tmp_path / there).write_text("dear to me")
    with pytest.raises(UsageError, match=rf"{there} is there already"):
        archnew.write("mine", tmp_path, host=HOST)
    assert [p.name for p in tmp_path.iterdir()] == [there]


def test_a_name_must_be_one(tmp_path: Path) -> None:
    for name in ("a b", "..", "", "x/y z", "../evil", "x/y"):
        with pytest.raises(UsageError, match="no name of an architecture's file"):
            archnew.write(name, tmp_path, host=HOST)


def test_ours_are_written_in_a_checkout_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = catalog.new_arch("vax", None)
    assert place.with_stem(NAME) == catalog.arch_file(NAME)
    assert catalog.fragment(place) == catalog.fragment(catalog.arch_file(NAME)).with_stem("vax")
    installed = catalog.arch_file(NAME).parents[1] / "_data" / "kernel-config"
    monkeypatch.setattr(catalog, "data_dir", lambda _name: installed)
    with pytest.raises(UsageError, match="is installed") as caught:
        catalog.new_arch("vax", None)
    assert "--directory" in caught.value.hint


def test_a_kernel_is_configured_by_the_fragment_beside_its_file(tmp_path: Path) -> None:
    file, fragment = archnew.write("mine", tmp_path, like=NAME, host=HOST)
    mine = catalog.arch(str(file))
    assert configuration(mine) == configuration(catalog.arch(NAME)), "so it shares the cache's key"
    fragment.write_text("CONFIG_MINE=y\n")
    assert configuration(mine).endswith("CONFIG_MINE=y\n")
    fragment.write_text("MINE\n")
    with pytest.raises(ConfigError, match=f"{fragment}: line 1 is not a Kconfig option: MINE"):
        configuration(mine)
    fragment.unlink()
    with pytest.raises(ConfigError, match=f"{fragment} is missing"):
        configuration(mine)
