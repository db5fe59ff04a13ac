# SPDX-License-Identifier: GPL-2.0-only
"""Where patches come from. Applying them takes patch(1): tests/contract/test_series_apply.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator import series
from orchestrator.errors import UsageError
from orchestrator.series import Patch

DIFF = "--- a/fs/one.c\n+++ b/fs/one.c\n@@ -1 +1 @@\n-a\n+b\n"


def quilt(directory: Path, **files: str) -> Path:
    directory.mkdir()
    for name, text in files.items():
        (directory / name.replace("_", "-").replace("0x2E", ".")).write_text(text)
    (directory / "a.patch").write_text(DIFF)
    (directory / "b.patch").write_text(DIFF)
    return directory


@pytest.mark.parametrize(
    ("version", "wanted"),
    [
        ((5, 15), ["a.patch"]),
        ((6, 1), ["b.patch"]),
        ((6, 2), ["b.patch"]),
        ((6, 12), ["a.patch", "b.patch"]),
    ],
)
def test_the_variant_not_above_the_kernel_wins(
    tmp_path: Path, version: tuple[int, int], wanted: list[str]
) -> None:
    directory = quilt(tmp_path / "s", series="# all\na.patch -p1 # why\n\n")
    (directory / "series-6.1").write_text("b.patch\n")
    (directory / "series-6.12").write_text("a.patch\nb.patch\n")
    found = series.resolve(str(directory), version)
    assert [patch.name for patch in found.patches] == wanted


def test_a_directory_for_newer_kernels_only_is_refused(tmp_path: Path) -> None:
    directory = quilt(tmp_path / "s")
    (directory / "series-6.12").write_text("a.patch\n")
    with pytest.raises(UsageError, match=r"no quilt series for 6\.1"):
        series.resolve(str(directory), (6, 1))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.patch -p0\n", r"series:1: only -p1"),
        ("\ngone.patch\n", r"series:2: gone\.patch: No such"),
    ],
)
def test_a_bad_line_of_a_series_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        series.resolve(str(quilt(tmp_path / "s", series=text)), (6, 1))


def test_an_mbox_gives_the_messages_with_a_diff(tmp_path: Path) -> None:
    box = tmp_path / "thread.mbx"
    box.write_text(
        "From git@z Thu Jan  1 00:00:00 1970\nSubject: [PATCH 0/2] cover\n\nNo diff in it.\n\n"
        "From git@z Thu Jan  1 00:00:00 1970\nSubject: [PATCH v2 1/2] livepatch:\n one/two\n"
        "Content-Transfer-Encoding: quoted-printable\n\nwhy =C3=BC\n---\n"
        + DIFF.replace("-a\n", "-a=3D1\n")
        + "\nFrom git@z Thu Jan  1 00:00:00 1970\nSubject: [PATCH v2 2/2] second\n\n"
        + DIFF
    )
    found = series.resolve(str(box), (6, 1)).patches
    names = ["0002-livepatch-one-two.patch", "0003-second.patch"]
    assert [patch.name for patch in found] == names
    assert "\n-a=1\n" in found[0].text and "ü" in found[0].text


def test_a_single_patch_file_is_a_series(tmp_path: Path) -> None:
    (tmp_path / "x.patch").write_text("words\n" + DIFF)
    assert len(series.resolve(str(tmp_path / "x.patch"), (6, 1)).patches) == 1
    (tmp_path / "y.patch").write_text("words\n")
    with pytest.raises(UsageError, match="holds no patch"):
        series.resolve(str(tmp_path / "y.patch"), (6, 1))


def test_none_is_nothing_and_an_unknown_name_lists_the_known() -> None:
    assert series.resolve("none", (6, 1)).patches == ()
    with pytest.raises(UsageError, match="no such series: nonesuch") as caught:
        series.resolve("nonesuch", (6, 1))
    assert "none" in caught.value.hint and "git:REPO#A..B" in caught.value.hint


def test_the_files_of_a_patch_include_renamed_new_and_deleted_ones() -> None:
    text = "diff --git a/old name/x.c b/y.c\ndiff --git a/x.c b/y.c\nrename from x.c\n"
    text += "--- /dev/null\n+++ b/new.h\n@@ -0,0 +1 @@\n+1\n--- a/gone.S\t2024\n+++ /dev/null\n"
    assert set(Patch("p", text).files()) >= {"x.c", "y.c", "new.h", "gone.S"}
    assert "/dev/null" not in Patch("p", text).files()


def test_another_text_or_order_has_another_digest() -> None:
    one, two = Patch("a", DIFF), Patch("b", DIFF + "\n")
    digests = {series.Series("s", patches).digest for patches in ((one, two), (two, one), (one,))}
    assert len(digests) == 3
