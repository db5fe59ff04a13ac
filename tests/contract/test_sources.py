# SPDX-License-Identifier: GPL-2.0-only
"""Kernel sources, with real tar, git and dpkg-deb, and a stand-in for apt.

The stand-in gives the answers that apt gives, and a tiny package, so that every way to fail can be
had without the network. The real apt is used wherever a real kernel is built.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

import pytest

from orchestrator.errors import HarnessError, UsageError
from orchestrator.host import process
from orchestrator.source import debian, sources

MAKEFILE = "VERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 192\nEXTRAVERSION =\n"
PACKAGE = "linux-source-6.1"

# Asked with options of our own, it answers from what other releases have: repo/others has a line
# "PACKAGE VERSION SHA256" for each.
APT_CACHE = """#!/bin/sh
for last; do :; done
case "$*" in
*Dir::State::Lists*pkgnames*) cut -d' ' -f1 {repo}/others | sort -u ;;
*Dir::State::Lists*show*)
    while read -r name version sha; do
        [ "$name" = "$last" ] || continue
        printf 'Package: %s\\nVersion: %s\\nSHA256: %s\\n\\n' "$name" "$version" "$sha"
    done < {repo}/others ;;
*)  [ "$last" = linux-source-6.1 ] || { echo "E: No packages found" >&2; exit 100; }
    printf 'Package: %s\\nVersion: %s\\nSHA256: %s\\n' "$last" "$(cat {repo}/version)" abc ;;
esac
"""
APT_GET = """#!/bin/sh
case "$*" in *indextargets*) echo "Debian Debian http://mirror.example/debian/"; exit ;; esac
[ -e {repo}/offline ] && { echo "E: Failed to fetch x  Could not resolve" >&2; exit 100; }
echo "$@" >> {repo}/downloads
case "$*" in
*update)
    for word; do
        case $word in
        Dir::State::Lists=*) touch "${word#*=}/mirror_Packages" ;;
        Dir::Etc::SourceList=*) cp "${word#*=}" {repo}/sources.list ;;
        esac
    done ;;
*)  cp {repo}/package.deb ./$(basename {repo}).deb ;;
esac
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KLP_E2E_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "linux-6.1"
    (tree / "kernel").mkdir(parents=True)
    for name, text in {
        "Makefile": MAKEFILE,
        "Kconfig": "",
        "Kbuild": "",
        "kernel/a.c": "1",
    }.items():
        (tree / name).write_text(text)
    (tree / "link").symlink_to("kernel")
    return tree


@pytest.fixture
def apt(tmp_path: Path, tree: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that plays the mirror; `apt-cache` and `apt-get` on PATH answer from it."""
    repo = tmp_path / "repo"
    root = repo / "root"
    (root / "usr/src").mkdir(parents=True)
    (root / "DEBIAN").mkdir()
    tarball = root / f"usr/src/{PACKAGE}.tar.xz"
    process.run(["tar", "-C", str(tree.parent), "-cJf", str(tarball), tree.name])
    control = f"Package: {PACKAGE}\nVersion: 6.1.192-2\nArchitecture: all\n"
    (root / "DEBIAN/control").write_text(control + "Maintainer: a <a@b>\nDescription: x\n")
    process.run(["dpkg-deb", "--root-owner-group", "-b", str(root), str(repo / "package.deb")])
    (repo / "version").write_text("6.1.192-2")
    (repo / "downloads").write_text("")
    (repo / "others").write_text("")
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    for name, script in (("apt-cache", APT_CACHE), ("apt-get", APT_GET)):
        (bin_ / name).write_text(script.replace("{repo}", str(repo)))
        (bin_ / name).chmod(0o755)
    (tmp_path / "lists").mkdir()
    monkeypatch.setattr(debian, "APT_LISTS", tmp_path / "lists")
    monkeypatch.setenv("PATH", f"{bin_}:{os.environ['PATH']}")
    return repo


def test_a_debian_package_is_fetched_once(apt: Path) -> None:
    said: list[str] = []
    found = sources.fetch("debian:6.1", say=said.append)
    assert (found.version, found.kernel, found.digest) == ("6.1.192-2", (6, 1), "abc")
    assert (found.directory / "kernel/a.c").read_text() == "1"
    assert set(sources.listing(found)) == {"Makefile", "Kconfig", "Kbuild", "kernel/a.c", "link"}
    assert sources.fetch("debian:6.1") == found
    assert (apt / "downloads").read_text().count("\n") == 1
    assert said == ["unpacking debian:6.1", "downloading linux-source-6.1 6.1.192-2"]


def test_what_is_at_hand_is_told_and_nothing_is_fetched_for_it(
    apt: Path, tree: Path, tmp_path: Path
) -> None:
    tarball = tmp_path / "linux.tar.gz"
    process.run(["tar", "-C", str(tree.parent), "-czf", str(tarball), tree.name])
    git(tree, "init", "--quiet")
    git(tree, "add", ".")
    git(tree, "commit", "--quiet", "--message=one")
    commit, url = git(tree, "rev-parse", "HEAD"), f"file://{tree}"
    specs = ["debian:6.1", f"tar:{tarball}", f"git:{tree}#main", f"git:{url}#{commit}"]
    assert [sources.at_hand(spec) for spec in specs] == [None] * 4
    assert (apt / "downloads").read_text() == ""
    fetched = [sources.fetch(spec) for spec in (*specs[:2], f"git:{tree}", f"git:{url}#main")]
    (apt / "offline").touch()
    for spec, found in zip(specs, fetched, strict=True):
        there = sources.at_hand(spec)
        assert there is not None
        assert (there.digest, there.directory) == (found.digest, found.directory)
        assert (there.version, there.revision) == (found.version, found.revision)
    assert sources.at_hand("debian:newest") is None
    assert sources.at_hand(f"git:{url}#main") is None  # it may have moved on
    assert sources.at_hand(f"dir:{tree}") == sources.fetch(f"dir:{tree}")
    (tree / "kernel/a.c").write_text("2")
    git(tree, "commit", "--quiet", "--all", "--message=two")
    assert sources.at_hand(f"git:{tree}#main") is None
    with pytest.raises(UsageError, match="no such file"):
        sources.at_hand("tar:/nonesuch.tar")


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"stamp": 1}', "\xff"])
def test_a_damaged_record_of_apt_s_answer_is_asked_for_again(
    apt: Path, cache: Path, damage: str
) -> None:
    first = sources.fetch("debian:6.1")
    (record,) = cache.glob("debian/*.json")
    record.write_text(damage, encoding="latin-1")
    assert sources.fetch("debian:6.1") == first


def test_a_user_without_a_name_can_download(apt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(uid: int) -> NoReturn:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr("pwd.getpwuid", nobody)
    assert sources.fetch("debian:6.1").kernel == (6, 1)


def test_without_network_the_cached_package_serves(apt: Path) -> None:
    found = sources.fetch("debian:6.1")
    (apt / "offline").touch()
    assert sources.fetch("debian:6.1") == found
    (apt / "version").write_text("6.1.200-1")
    os.utime(debian.APT_LISTS, (1, 1))  # as apt-get update would
    said: list[str] = []
    assert sources.fetch("debian:6.1", say=said.append) == found
    assert "cannot be downloaded" in said[-1] and "using the cached" in said[-1]


def test_what_apt_cannot_give_has_a_hint(apt: Path) -> None:
    (apt / "others").write_text("linux-source-6.12 6.12.9-1 a\nlinux-source-7.3 7.3.4-1 b\n")
    with pytest.raises(HarnessError, match=r"no Debian release .* has linux-source-6\.7") as caught:
        sources.fetch("debian:6.7")
    assert caught.value.hint == "there are debian:7.3, debian:6.12"
    (apt / "offline").touch()
    with pytest.raises(HarnessError, match="Could not resolve") as caught:
        sources.fetch("debian:6.1")
    assert "network" in caught.value.hint


OTHERS = """linux-source-7.3 7.3~rc7-1~exp1 rc
linux-source-7.3 7.3.4-1~bpo13+1 right
linux-source-6.12 6.12.95-1~bpo12+1 older
linux-source-6.12 6.12.117-1 newer
linux-source-6.12-rt 6.12.117-1 other
linux-source-7.10 7.10-1 newest
"""


def test_a_package_of_another_release(apt: Path, cache: Path) -> None:
    (apt / "others").write_text(OTHERS)
    said: list[str] = []
    found = sources.fetch("debian:6.12", say=said.append)
    assert (found.version, found.digest, found.spec) == ("6.12.117-1", "newer", "debian:6.12")
    assert sources.fetch("debian:7.3").version == "7.3.4-1~bpo13+1"
    update, *downloads = (apt / "downloads").read_text().splitlines()
    assert update.endswith("update") and len(downloads) == 2  # lists of today are not fetched again
    assert f"Dir::State::Lists={cache}" in update and "Dir::Etc::SourceParts=/dev/null" in update
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    lines = (apt / "sources.list").read_text().splitlines()
    assert f"deb [signed-by={keyring}] http://mirror.example/debian trixie-backports main" in lines
    assert said[0].startswith("fetching the package lists of Debian's bookworm, ")


def test_the_newest_is_recorded_as_what_it_was(apt: Path) -> None:
    (apt / "others").write_text(OTHERS)
    said: list[str] = []
    found = sources.fetch("debian:newest", say=said.append)
    assert (found.spec, found.exact, found.version) == ("debian:7.10", "debian:7.10", "7.10-1")
    assert "Debian's newest kernel is debian:7.10, linux-source-7.10 7.10-1" in said
    (apt / "offline").touch()
    assert sources.fetch("debian:newest") == found
    assert sources.fetch("debian:7.10") == found
    (apt / "others").write_text("")  # it has left the mirrors
    assert sources.fetch("debian:7.10") == found
    with pytest.raises(HarnessError, match="which kernel is Debian's newest") as caught:
        sources.fetch("debian:newest")
    assert "network" in caught.value.hint


def test_old_lists_serve_where_new_ones_cannot_be_had(apt: Path, cache: Path) -> None:
    (apt / "others").write_text(OTHERS)
    sources.fetch("debian:7.3")
    os.utime(cache / "debian/fetched", (1, 1))
    (apt / "offline").touch()
    said: list[str] = []
    assert sources.fetch("debian:7.3", say=said.append).version == "7.3.4-1~bpo13+1"
    assert "E: Failed to fetch x  Could not resolve" in said


def test_a_damaged_tree_is_noticed_and_fetched_again(apt: Path) -> None:
    found = sources.fetch("debian:6.1")
    said: list[str] = []
    assert sources.repair(found, said.append) and said == []
    (found.directory / "kernel/a.c").write_text("damage")
    assert not sources.repair(found, said.append)
    assert "kernel/a.c is damaged" in said[0]
    again = sources.fetch("debian:6.1")
    assert (again.directory / "kernel/a.c").read_text() == "1"


def test_what_somebody_keeps_in_a_cached_tree_outlives_its_repair(apt: Path) -> None:
    found = sources.fetch("debian:6.1")
    (found.directory / "kernel/mine.c").write_text("a day's work")
    assert not sources.repair(found, lambda _line: None)
    (apt / "offline").touch()
    with pytest.raises(HarnessError, match="cannot be downloaded"):
        sources.fetch("debian:6.1")  # what was put aside is not built
    (apt / "offline").unlink()
    assert not (sources.fetch("debian:6.1").directory / "kernel/mine.c").exists()
    (aside,) = found.directory.parent.parent.glob("*.damaged-*")
    assert (aside / "linux/kernel/mine.c").read_text() == "a day's work"


@pytest.mark.parametrize(("letter", "suffix"), [("z", "tar.gz"), ("J", "tar.xz")])
def test_a_tarball(tree: Path, tmp_path: Path, letter: str, suffix: str) -> None:
    tarball = tmp_path / f"v6.1.{suffix}"
    process.run(["tar", "-C", str(tree.parent), f"-c{letter}f", str(tarball), tree.name])
    found = sources.fetch(f"tar:{tarball}")
    assert (found.version, found.kernel) == ("6.1.192", (6, 1))
    assert (found.directory / "link").is_symlink()


def test_a_tarball_s_link_to_a_tree_is_no_kernel(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed" / "k").symlink_to(tree)
    process.run(["tar", "-C", str(tmp_path / "packed"), "-cf", str(tmp_path / "x.tar"), "k"])
    with pytest.raises(UsageError, match="holds no kernel tree"):
        sources.fetch(f"tar:{tmp_path / 'x.tar'}")


def test_of_a_makefile_only_the_head_is_read(tree: Path) -> None:
    with (tree / "Makefile").open("a") as file:
        file.truncate(1 << 42)  # more than there is memory
    assert sources.fetch(f"dir:{tree}").kernel == (6, 1)


def test_a_file_that_is_no_kernel_leaves_nothing_behind(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "x.tar.xz").write_text("no tarball")
    with pytest.raises(UsageError, match=r"x\.tar\.xz cannot be unpacked"):
        sources.fetch(f"tar:{tmp_path / 'x.tar.xz'}")
    process.run(["tar", "-C", str(tmp_path), "-czf", str(tmp_path / "y.tar.gz"), "x.tar.xz"])
    with pytest.raises(UsageError, match=r"y\.tar\.gz holds no kernel tree"):
        sources.fetch(f"tar:{tmp_path / 'y.tar.gz'}")
    assert [path.suffix for path in (cache / "sources").iterdir()] == [".lock", ".lock"]


def git(tree: Path, *words: str) -> str:
    who = ["-c", "user.name=A", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]
    return process.run(["git", "-C", str(tree), *who, *words]).output.strip()


def test_a_commit_of_a_repository(tree: Path) -> None:
    git(tree, "init", "--quiet")
    git(tree, "add", ".")
    git(tree, "commit", "--quiet", "--message=one")
    commit = git(tree, "rev-parse", "HEAD")
    (tree / "kernel/a.c").write_text("2")
    found = sources.fetch(f"git:{tree}#main")
    assert (found.digest, found.version) == (commit, f"6.1.192 ({commit[:12]})")
    assert (found.directory / "kernel/a.c").read_text() == "1"
    assert git(tree, "status", "--porcelain") == "M kernel/a.c"  # the index was left alone
    assert found.exact == f"git:{tree}#{commit}"
    assert sources.fetch(f"dir:{tree}").digest != commit  # it is not what was committed
    git(tree, "checkout", "--quiet", "kernel/a.c")
    checkout = sources.fetch(f"dir:{tree}")
    assert (checkout.digest, checkout.version) == (commit, found.version)
    assert checkout.exact == f"dir:{tree}"
    (tree / "kernel/a.c").write_text("2")

    url = f"file://{tree}"
    first = sources.fetch(f"git:{url}#main")
    assert first.digest == commit
    git(tree, "commit", "--quiet", "--all", "--message=two")
    newer = sources.fetch(f"git:{url}#main")
    assert newer.digest != commit and (newer.directory / "kernel/a.c").read_text() == "2"
    tree.rename(tree.with_name("moved"))
    assert sources.fetch(first.exact).digest == commit  # whatever it was fetched by
    said: list[str] = []
    assert sources.fetch(f"git:{url}#main", say=said.append) == newer
    assert "cannot be reached" in said[-1]
    with pytest.raises(HarnessError, match="other of file://"):
        sources.fetch(f"git:{url}#other")


def test_a_directory_is_taken_as_it_lies(tree: Path) -> None:
    git(tree, "init", "--quiet")
    (tree / ".gitignore").write_text("*.o\n")
    (tree / "kernel/a.o").write_text("")
    found = sources.fetch(f"dir:{tree}")
    assert found.directory == tree and "kernel/a.o" not in set(sources.listing(found))
    assert sources.fetch(f"dir:{tree}").digest == found.digest
    (tree / "kernel/a.c").write_text("other")
    assert sources.fetch(f"dir:{tree}").digest != found.digest
    (tree / ".config").write_text("")
    with pytest.raises(UsageError, match="has been built in") as caught:
        sources.fetch(f"dir:{tree}")
    assert "mrproper" in caught.value.hint


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("6.1", "is no kernel source"),
        ("deb:6.1", "is no kernel source"),
        ("debian:six", "is to look like 6.1"),
        ("tar:/nonesuch.tar", "no such file"),
        ("dir:/nonesuch", "is not a kernel tree"),
        ("git:nonesuch#main", "neither a directory nor a URL"),
        ("git:/#--output=x", "no git reference"),
        ("git:-oX@host:x#main", "neither a directory nor a URL"),
        *((f"{kind}:~nosuch-user/x", "home directory") for kind in ("tar", "dir", "git")),
        *((f"{kind}:/{'a' * 300}", "File name too long") for kind in ("tar", "dir", "git")),
    ],
)
def test_a_spec_that_is_none_is_refused(spec: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        sources.fetch(spec)
