# SPDX-License-Identifier: GPL-2.0-only
"""Which QEMU an architecture gets: this host's, one of Debian's in the cache, or one message."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator import catalog
from orchestrator.build import emulator
from orchestrator.errors import HarnessError, MissingTool
from orchestrator.host import process, tools
from orchestrator.host.process import Completed
from orchestrator.nouns import Arch
from orchestrator.source import archive
from orchestrator.source.archive import Package

ANY = next(iter(catalog.default_arches().values()))
NEW = replace(ANY, qemu_version="9.1", qemu_package="qemu-system-odd")
SAYS = "QEMU emulator version {} (Debian)\nCopyright\n"
DEBIANS = [("old", "1:7.2+dfsg-7"), ("old-backports", "1:10.0.2+ds-2"), ("new", "1:11.1.3+ds-1")]


@pytest.fixture(autouse=True)
def fresh() -> None:
    emulator._hosts.cache_clear()
    emulator._whole.cache_clear()


Host = Callable[[str], None]


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """A host with a QEMU of that version, none for "", and a mirror with `DEBIANS`; what is
    unpacked tells the version that its file holds."""

    def run(argv: list[object], **_options: object) -> Completed:
        words = [str(word) for word in argv]
        if words[0] == "dpkg-deb":
            into = Path(words[3])
            for name in (f"usr/bin/{ANY.qemu}", "usr/bin/qemu-other", "usr/lib/odd/libodd.so.3"):
                (into / name).parent.mkdir(parents=True, exist_ok=True)
                (into / name).write_text(Path(words[2]).read_text())
        if words[1:] != ["--version"]:
            return Completed(tuple(words), 0, "", "", 0.0)
        unpacked = Path(words[0]).parent / f"root/usr/bin/{ANY.qemu}"
        says = unpacked.read_text() if unpacked.exists() else SAYS.format(hosts[0])
        return Completed(
            tuple(words), 0 if says else 127, says, "" if says else "libodd.so.9: not found\n", 0.0
        )

    def downloaded(packages: list[Package], into: Path, _deadline: object) -> list[Path]:
        deb = into / "odd.deb"
        deb.write_text(SAYS.format("10.0.2") if packages[0].version != "1:broken" else "")
        return [deb]

    hosts = [""]
    monkeypatch.setenv("KLP_E2E_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(process, "run", run)
    monkeypatch.setattr(
        tools, "which", lambda name: Path(name) if hosts[0] or name != ANY.qemu else None
    )
    monkeypatch.setattr(archive, "lists", lambda say: ())
    monkeypatch.setattr(archive, "suites_with", lambda package, options: DEBIANS)
    monkeypatch.setattr(
        archive,
        "lacking",
        lambda package, suite: [Package(package, dict(DEBIANS)[suite], "sum")],
    )
    monkeypatch.setattr(archive, "downloaded", downloaded)

    def of(version: str) -> None:
        hosts[0] = version

    return of


def fetched(arch: Arch) -> list[str]:
    """What is said while it is made ready."""
    said: list[str] = []
    emulator.ready(arch, said.append)
    return said


def test_the_hosts_own_serves_where_any_does(host: Host) -> None:
    host("2.0.0")
    assert fetched(ANY) == [] and emulator.program(ANY) == ANY.qemu


@pytest.mark.parametrize("version", ["9.1.0", "9.10.2", "10.0.2"])
def test_the_hosts_own_serves_where_it_is_new_enough(host: Host, version: str) -> None:
    host(version)
    assert fetched(NEW) == [] and emulator.program(NEW) == ANY.qemu
    assert emulator.told(NEW) == "QEMU 9.1 or later: this host's"


@pytest.mark.parametrize("version", ["", "7.2.22", "9.0.4"])
def test_the_first_release_that_has_one_so_new_is_unpacked_into_the_cache(
    host: Host, version: str
) -> None:
    host(version)
    assert "when it is first needed" in emulator.told(NEW)
    assert fetched(NEW) == [
        f"downloading qemu-system-odd 1:10.0.2+ds-2 of Debian old-backports, for {NEW.name}"
    ]
    program = Path(emulator.program(NEW))
    assert program.parent.name == f"{NEW.qemu}_10.0.2+ds-2" and program.name == NEW.qemu
    assert [path.name for path in (program.parent / "root/usr/bin").iterdir()] == [NEW.qemu]
    assert "$root/usr/lib/odd$" in program.read_text().replace("{", "").replace("\n", "$")
    assert emulator.told(NEW) == "QEMU 9.1 or later: 10.0.2+ds-2, in the cache"


def test_what_the_cache_has_needs_no_mirror(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host("7.2.22")
    fetched(NEW)
    monkeypatch.setattr(archive, "lists", lambda say: pytest.fail("the network was asked"))
    assert fetched(NEW) == []
    with pytest.raises(HarnessError, match=r"needs QEMU 10\.1 or later"):
        emulator.program(replace(NEW, qemu_version="10.1"))


def test_a_damaged_one_is_fetched_again(host: Host) -> None:
    host("7.2.22")
    fetched(NEW)
    program = Path(emulator.program(NEW))
    (program.parent / f"root/usr/bin/{NEW.qemu}").write_text("spoilt")
    emulator._whole.cache_clear()
    assert len(fetched(NEW)) == 1
    assert "10.0.2" in emulator.version(NEW)


def refused(arch: Arch) -> HarnessError:
    with pytest.raises(HarnessError) as caught:
        emulator.ready(arch, lambda _line: None)
    assert caught.value.hint and not list(emulator._place().glob(f"{arch.qemu}_*/digests.json"))
    return caught.value


def test_one_that_cannot_be_had_is_one_message(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host("7.2.22")
    said = refused(replace(NEW, qemu_version="12.0"))
    assert str(said) == (
        f"{NEW.name} needs QEMU 12.0 or later, this host has 7.2, and no newer one: "
        "no Debian release that can be looked in has a qemu-system-odd so new"
    )
    assert "of 12.0 or later on PATH" in said.hint
    monkeypatch.setattr(archive, "lists", lambda say: None)  # no network
    host("")
    emulator._hosts.cache_clear()
    assert "this host has none" in str(refused(NEW))


def test_one_that_does_not_run_here_is_not_kept(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host("7.2.22")
    broken = [Package("qemu-system-odd", "1:broken", "sum")]
    monkeypatch.setattr(archive, "lacking", lambda package, suite: broken)
    assert "does not run on this host: libodd.so.9: not found" in str(refused(NEW))


def test_no_package_leads_out_of_where_it_is_unpacked(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two, the first brings links, and the second files below them; then programs for other
    machines are removed, and what nobody needs."""
    home = tmp_path / "home"
    (home / "doc").mkdir(parents=True)
    (home / "thesis").write_text("mine")
    (home / "doc/notes").write_text("mine")
    run = process.run

    def hostile(argv: list[object], **options: object) -> Completed:
        if argv[0] != "dpkg-deb":
            return run(argv, **options)  # type: ignore[arg-type] # the fixture's
        root = Path(str(argv[3]))
        if not root.exists():
            for name, goal in LINKS.items():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).symlink_to(goal.format(home=home))
            os.mkfifo(root / "pipe")
            helper = root / "helper"
            helper.touch()
            helper.chmod(0o6755)
            return Completed((), 0, "", "", 0.0)
        for name in ("usr/bin", "etc", "a/b", "up"):
            (root / name).mkdir(parents=True, exist_ok=True)
            (root / name / "left").write_text("theirs")
        return run(argv, **options)  # type: ignore[arg-type] # the fixture's

    host("7.2.22")
    monkeypatch.setattr(process, "run", hostile)
    twice = archive.downloaded
    monkeypatch.setattr(archive, "downloaded", lambda *asked: twice(*asked) * 2)
    fetched(NEW)
    root = Path(emulator.program(NEW)).parent / "root"
    assert sorted(path.name for path in home.rglob("*")) == ["doc", "notes", "thesis"]
    assert (home / "thesis").read_text() == (home / "doc/notes").read_text() == "mine"
    assert {path.name for path in root.rglob("*") if path.is_symlink()} == {"er", "within"}
    assert (root / "helper").stat().st_mode & 0o7777 == 0o755 and not (root / "pipe").exists()


LINKS = {
    "usr/bin": "{home}",
    "usr/share": "{home}",
    "etc": "../../../../../../../../../../..{home}",
    "deep/er": "..",
    "up": "deep/er/../../../../../../..",
    "a/b": "{home}",
    "within": "helper",
}


def test_a_package_without_programs_is_one_message(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = process.run

    def empty(argv: list[object], **options: object) -> Completed:
        if argv[0] == "dpkg-deb":
            Path(str(argv[3])).mkdir()
            return Completed((), 0, "", "", 0.0)
        found = run(argv, **options)  # type: ignore[arg-type] # the fixture's
        there = "emulators" not in str(argv[0])
        return found if there else replace(found, code=127, output="", errors="not found")

    host("7.2.22")
    monkeypatch.setattr(process, "run", empty)
    assert "Debian's does not run on this host: not found" in str(refused(NEW))


def test_a_host_without_any_is_told_the_package(host: Host) -> None:
    host("")
    with pytest.raises(MissingTool) as caught:
        emulator.ready(ANY, lambda _line: None)
    assert next(p for p in ANY.packages if p.startswith("qemu-")) in caught.value.hint
