# SPDX-License-Identifier: GPL-2.0-only
"""A package of another Debian release, by an apt that answers from a table."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator.source import archive
from orchestrator.source.archive import NoDownload, Package

# What apt prints of it; a colon in a version is %3a there, and nobody has it in a URI.
PLAN = """Reading package lists...
'http://m/odd_1%3a10.0-1_amd64.deb' odd_1%3a10.0-1_amd64.deb 100 SHA256:aa
'http://m/odd-common_10.0_all.deb' odd-common_1%3a10.0-1_all.deb 100 SHA256:bb
'http://m/libthere_2_amd64.deb' libthere_2-1_amd64.deb 100 SHA256:cc
'http://m/libnew_3_amd64.deb' libnew_3-1_amd64.deb 100 SHA256:dd
"""
MADISON = """       odd | 1:11.1-1 | http://m/debian sid/main amd64 Packages
       odd | 1:10.0-1~bpo12+1 | http://m/debian bookworm-backports/main amd64 Packages
       odd | 1:7.2-1 | http://m/debian bookworm/main amd64 Packages
"""
APT_GET = """#!/bin/sh
case "$*" in *indextargets*) echo "Debian Debian http://mirror.example/debian/"; exit ;; esac
echo "$@" > {here}/asked
for word; do case $word in Dir::Etc::SourceList=*) cp "${{word#*=}}" {here}/sources ;; esac; done
cat {here}/plan
"""


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with what apt says; `odd-common`, another one, and `libthere` are installed."""
    monkeypatch.setenv("KLP_E2E_CACHE", str(tmp_path / "cache"))
    programs = tmp_path / "bin"
    programs.mkdir()
    (tmp_path / "plan").write_text(PLAN)
    (tmp_path / "madison").write_text(MADISON)
    installed = "installed odd-common\\ninstalled libthere\\nconfig-files libnew\\n"
    for name, script in (
        ("apt-get", APT_GET.format(here=tmp_path)),
        ("apt-cache", f"#!/bin/sh\ncat {tmp_path}/madison\n"),
        ("dpkg-query", f"#!/bin/sh\nprintf '{installed}'\n"),
    ):
        (programs / name).write_text(script)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return tmp_path


def test_the_releases_that_have_it_are_told_in_the_order_of_our_lists(apt: Path) -> None:
    assert archive.suites_with("odd", ()) == [
        ("bookworm", "1:7.2-1"),
        ("bookworm-backports", "1:10.0-1~bpo12+1"),
        ("sid", "1:11.1-1"),
    ]


def test_what_the_host_has_not_is_fetched_and_what_is_of_the_same_source(apt: Path) -> None:
    found = archive.lacking("odd", "bookworm-backports")
    assert [(p.name, p.version, p.sha256) for p in found] == [
        ("odd", "1:10.0-1", "aa"),
        ("odd-common", "1:10.0-1", "bb"),
        ("libnew", "3-1", "dd"),
    ]
    lines = (apt / "sources").read_text().splitlines()
    assert [line.split()[-2] for line in lines] == ["bookworm", "bookworm-backports"]
    assert all("signed-by=/usr/share/keyrings/debian-archive-keyring.gpg" in line for line in lines)
    assert "-t bookworm-backports" in (apt / "asked").read_text()
    archive.lacking("odd", "sid")
    assert len((apt / "sources").read_text().splitlines()) == 1, "no backports, no other release"


def test_a_package_that_apt_cannot_install_is_told_in_its_words(apt: Path) -> None:
    (apt / "plan").write_text("E: Unable to correct problems\n")
    with pytest.raises(NoDownload, match=r"odd of Debian sid cannot be had \(E: Unable to correct"):
        archive.lacking("odd", "sid")


def test_several_are_downloaded_by_one_apt(apt: Path) -> None:
    one, other = Package("a", "1", "x", ("-o", "x=y")), Package("b", "2", "y", ("-o", "x=y"))
    assert archive.downloaded([one, other], apt, None) == []
    assert (apt / "asked").read_text().endswith("download a=1 b=2\n")
