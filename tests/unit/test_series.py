# SPDX-License-Identifier: GPL-2.0-only
"""Where patches come from. Applying them takes patch(1): tests/contract/test_series_apply.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.cli import options
from orchestrator.errors import UsageError
from orchestrator.source import series
from orchestrator.source.patches import Patch

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
        ("a.patch\na.patch\n", r"series:2: a\.patch is listed a second time"),
    ],
)
def test_a_bad_line_of_a_series_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        series.resolve(str(quilt(tmp_path / "s", series=text)), (6, 1))


def test_a_series_file_that_lists_nothing_is_refused(tmp_path: Path) -> None:
    """Else its kernel would be the bare one."""
    with pytest.raises(UsageError, match="series lists no patch"):
        series.resolve(str(quilt(tmp_path / "s", series="# a.patch\n\n")), (6, 1))


def test_a_quilt_patch_stays_as_it_is_and_has_a_name_for_files(tmp_path: Path) -> None:
    directory = quilt(tmp_path / "s", series="old/a#1.patch # why\na.patch\n")
    (directory / "old").mkdir()
    raw = f"Subject: \xfc\n\n{DIFF}".encode("latin-1")
    (directory / "old/a#1.patch").write_bytes(raw)
    first, second = series.resolve(str(directory), (6, 1)).patches
    assert (first.name, first.raw, second.name) == ("a-1.patch", raw, "a.patch")


def test_what_b4_am_writes_is_a_series_in_each_of_its_forms(tmp_path: Path) -> None:
    """`b4 am -Q` (b4's mbox.py, save_as_quilt): SLUG.mbx, SLUG.cover and SLUG.patches/."""
    slug = tmp_path / "v2_20260131_a_livepatch_fix"
    body = f"why\n\nLink: https://x\n---\n fs/one.c | 2 +-\n\n{DIFF}"
    head = "From: A <a@b>\nSubject: {}\nDate: Sat, 31 Jan 2026 12:00:00 +0000\n"
    mime = 'Message-Id: <{}@b>\nContent-Type: text/plain; charset="utf-8"\n'
    mime += "Content-Transfer-Encoding: 8bit\nMIME-Version: 1.0\n\n"
    quilted = slug.with_suffix(".patches")
    quilted.mkdir()
    mbx = ""
    for number in (1, 2):
        subject = f"[PATCH v2 {number}/2] livepatch: one"
        mbx += "From git@z Thu Jan  1 00:00:00 1970\n" + head.format(subject)
        mbx += mime.format(number) + body.rstrip() + "\n\n"
        name = f"000{number}_livepatch_one.patch"
        (quilted / name).write_text(head.format("livepatch: one") + "\n" + body)
    (quilted / "series").write_text("0001_livepatch_one.patch\n0002_livepatch_one.patch\n")
    slug.with_suffix(".mbx").write_text(mbx)
    slug.with_suffix(".cover").write_text(head.format("[PATCH v2 0/2] cover") + "\nwords\n")
    for suffix in (".mbx", ".patches"):
        found = series.resolve(str(slug.with_suffix(suffix)), (6, 1)).patches
        assert [patch.diff.text for patch in found] == [DIFF, DIFF], suffix
    with pytest.raises(UsageError, match=r"cover holds no patch, only .\[PATCH v2 0/2\] cover"):
        series.resolve(str(slug.with_suffix(".cover")), (6, 1))


def test_a_single_patch_file_is_a_series(tmp_path: Path) -> None:
    (tmp_path / "x.patch").write_text("words\n" + DIFF)
    assert len(series.resolve(str(tmp_path / "x.patch"), (6, 1)).patches) == 1
    (tmp_path / "y.patch").write_text("words\n")
    with pytest.raises(UsageError, match="holds no patch"):
        series.resolve(str(tmp_path / "y.patch"), (6, 1))


def test_a_prefix_takes_the_first_patches_of_any_series(tmp_path: Path) -> None:
    directory = quilt(tmp_path / "s", series="a.patch\n")
    (directory / "series-6.12").write_text("a.patch\nb.patch\n")

    def names(spec: str, version: tuple[int, int] = (6, 12)) -> list[str]:
        found = series.resolve(spec, version)
        assert found.name == spec
        return [patch.name for patch in found.patches]

    assert names(f"{directory}@2") == ["a.patch", "b.patch"]
    assert names(f"{directory}@1") == names(f"{directory}@2@1") == ["a.patch"]
    assert names(f"{directory}@0") == names("none@0") == []
    assert len(names("livepatch-reload@3")) == 3
    with pytest.raises(UsageError, match=r"s has only 1 patches for 6\.1$"):
        names(f"{directory}@2", (6, 1))
    directory.rename(tmp_path / "s@2")  # a path that is there is meant
    assert len(names(f"{tmp_path / 's@2'}")) == 2 and len(names(f"{tmp_path / 's@2'}@1")) == 1


def test_what_is_merged_is_not_applied_and_has_to_be_there(tmp_path: Path) -> None:
    directory = quilt(tmp_path / "s", series="a.patch\n")
    for spec in (f"{directory}@merged", f"{directory}@1@merged", "livepatch-reload@merged"):
        assert series.resolve(spec, (6, 1)) == series.Series(spec, ())
    for spec in ("nonesuch@merged", f"{directory}@2@merged"):
        with pytest.raises(UsageError):
            series.resolve(spec, (6, 1))
    directory.rename(tmp_path / "s@merged")  # a path that is there is meant
    assert len(series.resolve(f"{tmp_path / 's@merged'}", (6, 1)).patches) == 1


def test_a_prefix_and_a_range_serve_in_any_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    quilt(tmp_path / "s", series="a.patch\n")
    given = ("s@1", "git:s#A..B", "git:s#A..B@2", "livepatch-reload@2", "gone@1", "s@1@merged")
    assert options.stack(given) == (
        *(f"{tmp_path}/s@1", f"git:{tmp_path}/s#A..B", f"git:{tmp_path}/s#A..B@2"),
        *("livepatch-reload@2", "gone@1", f"{tmp_path}/s@1@merged"),
    )


def test_none_is_nothing_and_an_unknown_name_lists_the_known() -> None:
    assert series.resolve("none", (6, 1)).patches == ()
    with pytest.raises(UsageError, match="no such series: nonesuch") as caught:
        series.resolve("nonesuch", (6, 1))
    assert "none" in caught.value.hint and "git:REPO#A..B" in caught.value.hint


def test_the_text_makes_the_digest_and_not_the_name() -> None:
    assert Patch("a", DIFF).digest == Patch("b", DIFF).digest != Patch("a", DIFF + "\n").digest
