# SPDX-License-Identifier: GPL-2.0-only
"""The cpio archives of a guest's userland, without unpacking anything foreign."""

from __future__ import annotations

import gzip
import io
import stat
import tarfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from orchestrator import catalog, initramfs
from orchestrator.build import image
from orchestrator.build.image import Recipe
from orchestrator.deadline import Deadline
from orchestrator.errors import BuildError
from orchestrator.host import process
from orchestrator.initramfs import Entry
from orchestrator.nouns import Userland
from orchestrator.source import archive
from orchestrator.vm.ssh import new_keys

FILE = stat.S_IFREG | 0o644


def members(archive: bytes) -> dict[str, tuple[int, bytes, tuple[int, int]]]:
    """name -> (mode, data, device): an independent reader of "newc", as in the kernel's
    init/initramfs.c."""
    out: dict[str, tuple[int, bytes, tuple[int, int]]] = {}
    at = 0
    while True:
        header = archive[at : at + 110]
        assert header[:6] == b"070701"
        fields = [int(header[6 + 8 * i : 14 + 8 * i], 16) for i in range(13)]
        mode, size, name_size = fields[1], fields[6], fields[11]
        name = archive[at + 110 : at + 110 + name_size - 1].decode()
        data_at = (at + 110 + name_size + 3) & ~3
        if name == "TRAILER!!!":
            return out
        assert fields[2:4] == [0, 0], "root's"
        assert fields[5] == 0, "no time of this host"
        out[name] = (mode, archive[data_at : data_at + size], (fields[9], fields[10]))
        at = (data_at + size + 3) & ~3


def test_archive_holds_files_links_devices_and_parents_in_order() -> None:
    archive = initramfs.cpio(
        {
            "usr/bin/x": Entry(stat.S_IFREG | 0o755, b"abc"),
            "dev/console": Entry(stat.S_IFCHR | 0o600, device=(5, 1)),
            "bin/sh": Entry(stat.S_IFLNK | 0o777, b"busybox"),
        }
    )
    found = members(archive)
    assert list(found) == ["bin", "bin/sh", "dev", "dev/console", "usr", "usr/bin", "usr/bin/x"]
    assert found["usr"][0] == stat.S_IFDIR | 0o755
    assert found["usr/bin/x"][:2] == (stat.S_IFREG | 0o755, b"abc")
    assert found["bin/sh"][1] == b"busybox"
    assert found["dev/console"][2] == (5, 1)
    assert len(archive) % 4 == 0


def test_same_input_in_another_order_gives_the_same_bytes() -> None:
    one = {"b": Entry(FILE, b"2"), "a/c": Entry(FILE, b"1")}
    assert initramfs.cpio(one) == initramfs.cpio(dict(reversed(one.items())))


def test_overlay_keeps_keys_private() -> None:
    files = {**new_keys().files(), "/modules/basic/klp_patch.ko": b"\x7fELF"}
    found = members(initramfs.overlay(files))
    assert found["modules/basic/klp_patch.ko"][1] == b"\x7fELF"
    for name in ("root/.ssh/authorized_keys", "etc/dropbear/host_key"):
        assert stat.S_IMODE(found[name][0]) == 0o600
    # dropbear checks these two (svr-authpubkey.c, checkpubkeyperms())
    assert stat.S_IMODE(found["root"][0]) == stat.S_IMODE(found["root/.ssh"][0]) == 0o700


def test_stacked_archives_begin_at_multiples_of_four() -> None:
    base = gzip.compress(initramfs.cpio({"a": Entry(FILE, b"x")}), mtime=0)
    over = initramfs.overlay({"/b": b"y"})
    for shift in range(4):
        stacked = initramfs.stack(base + bytes(shift), over)
        start = stacked.index(b"070701")
        assert start % 4 == 0
        assert list(members(stacked[start:])) == ["b"]


def test_host_key_is_as_dropbear_writes_it() -> None:
    key = new_keys().files()["/etc/dropbear/host_key"]
    assert key.startswith(b"\0\0\0\x0bssh-ed25519\0\0\0\x40")
    assert len(key) == 4 + 11 + 4 + 64


# --- mirror ------------------------------------------------------------------------------------

TARGETS = """\
Debian Debian http://deb.example/debian/ bookworm-updates main
Debian Debian-Security http://deb.example/debian-security/ bookworm main
Debian Debian http://deb.example/debian/ bookworm contrib
Ubuntu Ubuntu http://ubuntu.example/ bookworm main
Debian Debian http://deb.example/debian/ bookworm main
Debian Debian http://other.example/debian/ bookworm main
"""


def test_mirror_is_the_hosts_first_of_exactly_that_suite() -> None:
    assert archive.mirror(TARGETS, "bookworm", "main") == "http://deb.example/debian"
    assert archive.mirror(TARGETS, "trixie", "main") == ""
    security = TARGETS.splitlines()[1]
    assert archive.mirror(security) == archive.mirror("") == ""
    assert archive.mirror(TARGETS) == "http://deb.example/debian"


@pytest.mark.parametrize(
    ("suite", "line"),
    [
        ("bookworm", "deb http://deb.example/debian bookworm main"),
        ("sid", "deb [signed-by={keyring}] http://mirror.example/debian sid main"),
    ],
)
def test_a_suite_that_the_host_does_not_know_is_taken_from_debian_s_mirror(
    suite: str, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "_mirror", lambda _wanted: "http://mirror.example/debian")
    monkeypatch.setattr(
        process, "run", lambda *_args, **_named: SimpleNamespace(output=TARGETS, errors="")
    )
    arch = replace(next(iter(catalog.arches().values())), userland=Userland(suite))
    said = image._source(arch, Deadline.after(1))
    assert said == line.format(keyring=archive.releases().keyring)
    with pytest.raises(BuildError, match="no mirror of Debian nosuch main") as caught:
        image._source(replace(arch, userland=Userland("nosuch")), Deadline.after(1))
    assert "apt-get update" in caught.value.hint


# --- what the recipe keeps ---------------------------------------------------------------------

RECIPE = Recipe(("p",), ("bin/busybox", "lib/*/libc.so.6"), ("ls", "sh"))


def _tar(path: Path, names: dict[str, int]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, mode in names.items():
            info = tarfile.TarInfo(f"./{name}")
            info.mode, info.size, info.uid, info.mtime = mode, 3, 1000, 1_700_000_000
            archive.addfile(info, io.BytesIO(b"elf"))
    return path


def test_kept_are_the_recipes_files_with_modes_of_our_own(tmp_path: Path) -> None:
    root = _tar(
        tmp_path / "root.tar",
        {
            "bin/busybox": 0o4711,
            "lib/x/libc.so.6": 0o640,
            "usr/lib/x/libc.so.6": 0o644,
            "doc/a": 0o644,
        },
    )
    kept = image._userland(root, RECIPE)
    assert kept["bin/busybox"].mode == stat.S_IFREG | 0o755
    assert kept["lib/x/libc.so.6"].mode == FILE
    assert kept["bin/ls"] == kept["bin/sh"] == Entry(stat.S_IFLNK | 0o777, b"busybox")
    assert len(kept) == 4


def test_a_merged_usr_is_kept_where_the_recipe_has_it(tmp_path: Path) -> None:
    """Programs name their interpreter in /lib64, which Debian has in /usr/lib64 now."""
    names = {"usr/bin/busybox": 0o755, "usr/lib/x/libc.so.6": 0o644, "usr/share/bin/busybox": 0o755}
    kept = image._userland(_tar(tmp_path / "root.tar", names), RECIPE)
    assert {"bin/busybox", "lib/x/libc.so.6"} == kept.keys() - {"bin/ls", "bin/sh"}
    both = _tar(tmp_path / "both.tar", {**names, "bin/busybox": 0o600})
    assert image._userland(both, RECIPE)["bin/busybox"].mode == FILE, "itself before the merged one"


def test_a_pattern_that_keeps_nothing_is_named(tmp_path: Path) -> None:
    root = _tar(tmp_path / "root.tar", {"bin/busybox": 0o755})
    with pytest.raises(BuildError, match=r"lib/\*/libc\.so\.6"):
        image._userland(root, RECIPE)


def test_the_recipe_that_comes_with_us_is_sound() -> None:
    recipe = catalog.load_toml(catalog.data_dir("images/guest") / "recipe.toml", Recipe)
    assert {"busybox-static", "dropbear-bin"} <= set(recipe.packages)
    init = (catalog.data_dir("images/guest") / "init").read_text()
    for applet in ("sh", "mount", "mkdir", "ifconfig", "sleep", "reboot"):
        assert applet in recipe.applets
        assert applet in init or applet in ("sh", "reboot")


def test_a_recipes_own_links_win(tmp_path: Path) -> None:
    root = _tar(tmp_path / "root.tar", {"bin/bash-static": 0o755})
    links = {"bin/sh": "bash-static", "bin/bash": "bash-static"}
    recipe = Recipe(("p",), ("bin/bash-static",), ("ls", "sh"), links)
    kept = image._userland(root, recipe)
    found = {name: e.data.decode() for name, e in kept.items() if stat.S_ISLNK(e.mode)}
    assert found == {**links, "bin/ls": "busybox"}


def test_the_addition_for_the_kernels_tests_is_sound() -> None:
    place = catalog.data_dir("images/guest")
    recipe = catalog.load_toml(place / "kselftest.toml", Recipe)
    base = catalog.load_toml(place / "recipe.toml", Recipe)
    programs = {Path(path).name for path in (*recipe.keep, *recipe.links)}
    programs |= {*recipe.applets, *base.applets}
    # what functions.sh and the scripts of 6.1 and 6.12 call, and what runs them
    called = (
        "awk bash cat comm date depmod diff dmesg getconf grep id insmod kill modinfo modprobe "
    )
    called += "mktemp rm rmmod sed seq sleep sort stat sysctl tr uname"
    called += " basename cut dirname head realpath timeout uniq wc"
    assert set(called.split()) <= programs
    for path, target in recipe.links.items():
        assert str(Path("/", path).parent / target).lstrip("/") in recipe.keep
