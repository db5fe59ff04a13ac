# SPDX-License-Identifier: GPL-2.0-only
"""What `klp-e2e livepatch --into DIR` leaves, and the configuration that a patch asks for."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.build import configs
from orchestrator.builders import configuring
from orchestrator.catalog import arches
from orchestrator.cli import options
from orchestrator.commands.livepatch import work
from orchestrator.errors import HarnessError, PatchError, UsageError
from orchestrator.host import ours, workdir
from orchestrator.report.progress import Reporter
from orchestrator.report.terminal import Terminal
from orchestrator.source import series, sources

HOST = next(arch for arch in arches().values() if not arch.cross_compile)
FIX = """A fix.

--- a/drivers/net/dummy.c
+++ b/drivers/net/dummy.c
@@ -1 +1 @@
-int one = 1;
+int one = 3;
--- a/fs/open.c
+++ b/fs/open.c
@@ -1 +1 @@
-int two = 1;
+int two = 3;
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KLP_E2E_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def made(tmp_path: Path) -> work.Made:
    place = tmp_path / "livepatch-fix"
    place.mkdir()
    for name in ("livepatch-fix.ko", "dummy.ko", "set.toml"):
        (place / name).write_text(name)
    fragment = configuring.configuration({"DUMMY": "m", "FLAG": "y"}, HOST)
    build = options.build_options((HOST.name,), "debian:7.3", ("none",), 1, (str(fragment),))
    return work.Made(place, build)


def test_the_set_is_copied_with_the_configuration_of_its_kernel(
    made: work.Made, tmp_path: Path
) -> None:
    into = tmp_path / "into"
    work.check_place(into)
    into.mkdir()
    work.check_place(into)
    work.keep(made, into)
    assert {path.name for path in into.iterdir()} == {
        *(path.name for path in made.place.iterdir()),
        work.CONFIG,
        ours.MARK,
    }
    text = configs.read(str(into / work.CONFIG)).text
    assert "CONFIG_DUMMY=m\n" in text and "CONFIG_FLAG=y\n" in text
    assert (
        work.again(made, into).split()
        == (
            f"klp-e2e run --modules {into}/ --arch {HOST.name} --kernel debian:7.3 --series none "
            f"--config {into / work.CONFIG}"
        ).split()
    )


@pytest.mark.parametrize("what", ["file", "document", "link", "mine"])
def test_what_lies_there_stays(made: work.Made, tmp_path: Path, what: str) -> None:
    into, other = tmp_path / "into", tmp_path / "other"
    other.mkdir()
    (other / "document").write_text("mine")
    match what:
        case "file":
            into.write_text("mine")
        case "document":
            into.mkdir()
            (into / "klp-fix.patch").write_text("mine")
        case "link":
            into.symlink_to(other)
        case "mine":
            work.keep(made, into)
            (into / "set.toml").write_text("mine")
    before = {p: p.is_file() and p.read_text() for p in sorted(tmp_path.glob("[io]*/*"))}
    with pytest.raises(UsageError, match="no new or empty directory"):
        work.check_place(into)
    with pytest.raises(ours.NotOurs):
        work.keep(made, into)
    assert {p: p.is_file() and p.read_text() for p in sorted(tmp_path.glob("[io]*/*"))} == before
    assert not [p for p in tmp_path.iterdir() if ours.PARTIAL in p.name]


@pytest.mark.parametrize("linked", [False, True])
def test_nothing_is_put_where_it_does_not_last(
    made: work.Made, cache: Path, tmp_path: Path, linked: bool
) -> None:
    entry = workdir.own(workdir.cache_root() / "livepatch-trees" / "x86_64-0")
    into = entry / "tree/mine"
    if linked:
        (tmp_path / "link").symlink_to(entry)
        into = tmp_path / "link/mine"
    with pytest.raises(ours.NotOurs, match="does not last"):
        work.check_place(into)
    with pytest.raises(ours.NotOurs, match="does not last"):
        work.keep(made, into)
    assert [path.name for path in entry.iterdir()] == [ours.MARK]


@pytest.mark.parametrize("where", ["in a file", "behind a link to nothing", "not writable"])
def test_a_place_in_which_nothing_can_be_made_is_told_before_a_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    into = tmp_path / "above/below/into"
    match where:
        case "in a file":
            (tmp_path / "above").write_text("mine")
        case "behind a link to nothing":
            (tmp_path / "above").symlink_to("nowhere")
        case _:
            monkeypatch.setattr("os.access", lambda path, _mode: path != tmp_path)
    with pytest.raises(UsageError, match="nothing can be made in"):
        work.check_place(into)


def test_a_mount_point_is_told_before_a_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "volume").mkdir()
    monkeypatch.setattr(Path, "is_mount", lambda path: path == tmp_path / "volume")
    with pytest.raises(UsageError, match="is a mount point") as raised:
        work.check_place(tmp_path / "volume")
    assert str(tmp_path / "volume/livepatch") in raised.value.hint


def test_a_disk_that_is_full_is_told(
    made: work.Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(HarnessError, match=r"cannot write .*/into: No space left") as raised:
        work.keep(made, tmp_path / "into")
    assert "the disk is full" in raised.value.hint
    assert not [path.name for path in tmp_path.iterdir() if "into" in path.name]


def test_a_kernel_without_further_options_needs_no_configuration(
    made: work.Made, tmp_path: Path
) -> None:
    plain = replace(made, build=replace(made.build, configs=()))
    work.keep(plain, tmp_path / "into")
    assert not (tmp_path / "into" / work.CONFIG).exists()
    assert "--config" not in work.again(plain, tmp_path / "into")


def test_what_a_configuration_lacks_for_a_patch(tmp_path: Path) -> None:
    tree = tmp_path / "linux"
    for name, text in {
        "Makefile": "VERSION = 7\nPATCHLEVEL = 3\nSUBLEVEL = 4\nEXTRAVERSION =\n",
        "Kconfig": 'source "drivers/net/Kconfig"\n',
        "Kbuild": "",
        "drivers/net/Kconfig": 'config DUMMY\n\ttristate "Dummy"\n',
        "drivers/net/Makefile": "obj-$(CONFIG_DUMMY) += dummy.o\n",
        "fs/Makefile": "obj-y += open.o\n",
    }.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
    (tmp_path / "fix.patch").write_text(FIX)
    fix = series.resolve(str(tmp_path / "fix.patch"), (7, 3))
    origin = sources.fetch(f"dir:{tree}", None, lambda _: None)
    lacking = configuring.lacking(fix, HOST, origin, "# CONFIG_DUMMY is not set\n")
    assert lacking == {"DUMMY": "m"}
    assert configuring.lacking(fix, HOST, origin, "CONFIG_DUMMY=y\n") == {}
    fragment = configuring.configuration(lacking, HOST)
    assert fragment.name == "dummy.config"
    assert configs.read(str(fragment)).text.endswith("CONFIG_DUMMY=m\n")
    assert configuring.configuration(lacking, HOST) == fragment


@pytest.mark.parametrize("name", ["none", "livepatch-reload", "mutants/1.patch"])
def test_a_patch_is_a_file_whatever_it_is_called(
    made: work.Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Not the series of ours that has its name."""
    tree = tmp_path / "linux"
    tree.mkdir()
    (tree / "Makefile").write_text("VERSION = 7\nPATCHLEVEL = 3\nSUBLEVEL = 4\nEXTRAVERSION =\n")
    for empty in ("Kconfig", "Kbuild"):
        (tree / empty).touch()
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(FIX)
    monkeypatch.chdir(tmp_path)
    build = replace(made.build, source=f"dir:{tree}")
    with pytest.raises(PatchError, match=rf"^\./{name}: .* does not apply"):
        work.make(build, Path(name), "klp-build", replacing=True, reporter=Reporter(Terminal()))


def test_a_patch_that_is_not_there(tmp_path: Path, made: work.Made) -> None:
    with pytest.raises(UsageError, match="is not there"):
        work.make(made.build, tmp_path / "no", "klp-build", replacing=True, reporter=None)  # type: ignore[arg-type]  # it says nothing yet
    (tmp_path / "fix.patch").write_text(FIX)
    with pytest.raises(UsageError, match="unknown builder: nobody") as raised:
        work.make(made.build, tmp_path / "fix.patch", "nobody", replacing=True, reporter=None)  # type: ignore[arg-type]  # likewise
    assert "klp-build" in raised.value.hint
