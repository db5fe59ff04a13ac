# SPDX-License-Identifier: GPL-2.0-only
"""What of a patch is its diff, and what is wrong with it before any tree is looked at."""

from __future__ import annotations

import pytest

from orchestrator.nouns import series_prefix
from orchestrator.source import patches
from orchestrator.source.patches import Patch

DIFF = "--- a/fs/one.c\n+++ b/fs/one.c\n@@ -1,2 +1,2 @@\n-a\n+b\n c\n"
GIT = "diff --git a/fs/one.c b/fs/one.c\nindex 1234567..89abcde 100644\n" + DIFF
INDENTED = "".join(f"  {line}" for line in DIFF.splitlines(True))


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("livepatch-reload", ("livepatch-reload", None)),
        ("livepatch-reload@2", ("livepatch-reload", 2)),
        ("/tmp/a@b/c@0", ("/tmp/a@b/c", 0)),
        ("git:linux#v6.1..HEAD@{1}", ("git:linux#v6.1..HEAD@{1}", None)),
        ("git:linux#v6.1..b@12", ("git:linux#v6.1..b", 12)),
        ("@2", ("@2", None)),
    ],
)
def test_a_prefix_is_a_number_behind_an_at(spec: str, expected: tuple[str, int | None]) -> None:
    assert series_prefix(spec) == expected


def test_the_diff_is_headers_and_hunks_whatever_the_message_shows() -> None:
    message = f"Why.\n\n{INDENTED}\n> {DIFF}---\n fs/one.c | 2 +-\n\n"
    after = f"-- \n2.39.5\n\n{INDENTED}"
    assert Patch("p", message + GIT + after).diff.text == GIT
    both = Patch("p", message + DIFF + after + GIT).diff
    assert both.text == DIFF + GIT and both.damage == ""


def test_what_stands_in_a_hunk_is_no_header() -> None:
    text = (
        "--- a/x\n+++ b/x\n@@ -1,3 +1,4 @@\n --- a/y\n--- a/../../etc/passwd\n+++ b/z\n+new\n c\n"
    )
    diff = Patch("p", text).diff
    assert diff.files() == ("x",) and diff.refusal() == ""


def test_the_files_of_a_diff_include_renamed_new_and_deleted_ones() -> None:
    text = (
        "diff --git a/old name/x.c b/y.c\nsimilarity index 100%\n"
        "rename from old name/x.c\nrename to y.c\n"
        "diff --git a/run.sh b/run.sh\nold mode 100644\nnew mode 100755\n"
        "--- /dev/null\n+++ b/new.h\n@@ -0,0 +1 @@\n+1\n"
        "--- a/gone.S\t2024-01-01\n+++ /dev/null\n@@ -1 +0,0 @@\n-1\n"
        "Index: linux/fs/a.c\n===\n--- linux.orig/fs/a.c 2024\n+++ linux/fs/a.c 2024\n@@ -1 +1 @@\n"
    )
    diff = Patch("p", text + "-1\n+2\n").diff
    wanted = {"old name/x.c", "y.c", "run.sh", "new.h", "gone.S", "fs/a.c"}
    assert wanted <= set(diff.files()) and "dev/null" not in diff.files()
    assert diff.deleted() == {"gone.S"} and diff.made() == {"new.h", "y.c"}
    assert diff.refusal() == ""


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("only words\n", "holds no diff"),
        (GIT.replace("a/", "").replace("b/", ""), "names fs/one.c without a/ and b/"),
        (
            "diff --git a/f.bin b/f.bin\nindex 1..2 100644\nGIT binary patch\nliteral 1\n",
            "binary patch (f.bin)",
        ),
        (
            "diff --git a/f.bin b/f.bin\nBinary files a/f.bin and b/f.bin differ\n" + GIT,
            "binary patch (f.bin)",
        ),
        (
            "diff --git a/l b/l\nnew file mode 120000\n--- /dev/null\n+++ b/l\n@@ -0,0 +1 @@\n+/\n",
            "l, a symbolic link",
        ),
        ("diff --git a/l b/l\nindex 1..2 120000\n" + DIFF, "l, a symbolic link"),
        (DIFF.replace("b/fs", "b/../fs"), "touches ../fs/one.c, which lies outside the tree"),
        (DIFF.replace("a/fs", "a//fs"), "touches /fs/one.c, which lies outside the tree"),
        (GIT + DIFF.replace("+b\n", "+b and\nmore\n"), "fs/one.c: hunk #1 is damaged at 'more'"),
        (DIFF.replace("-a\n", "-a\n-a\n-a\n"), "fs/one.c: hunk #1 is damaged at '+b'"),
        (DIFF.replace("1,2", "1,9"), "fs/one.c: hunk #1 is cut short"),
        (
            GIT + DIFF.replace("1,2 @@", "1,3 @@").replace("+b\n c\n", "+b\n\n c\n") + GIT + DIFF,
            "fs/one.c: hunk #1 has one line too many",
        ),
        # what would be left out without a word
        (DIFF.replace("-1,2", f"-1,{'9' * 5000}"), "fs/one.c: '@@ -1,999999"),
        (DIFF.replace("-1,2", f"-{'9' * 5000},2"), "fs/one.c: '@@ -999999"),
        (GIT + DIFF.replace("@@ -", "@@@ -1 -"), "fs/one.c: '@@@ -1 -1,2 +1,2 @@' belongs to no"),
        (DIFF + "+one more\n", "fs/one.c: '+one more' belongs to no hunk"),
        (DIFF + "-one less\n", "fs/one.c: '-one less' belongs to no hunk"),
        (
            GIT.replace("b/fs/one.c", '"b/\\303\\244.c"'),
            r'git quotes, which is not supported: "b/\303',
        ),
        (DIFF.replace("a/fs/one.c", '"a/x"'), 'git quotes, which is not supported: "a/x"'),
        ('diff --git a/x b/"\nrename from "x"\nrename to y\n', 'not supported: "x"'),
        (
            DIFF.replace("one.c", "o\x1bne.c"),
            r"touches 'fs/o\x1bne.c', which has control characters",
        ),
    ],
)
def test_what_no_tree_can_take_is_told(text: str, told: str) -> None:
    assert told in Patch("p", text).diff.refusal()


def test_blanks_that_a_mail_program_took_do_no_harm() -> None:
    text = "--- a/x\n+++ b/x\n@@ -1,4 +1,4 @@\n\n-a\n+b\n\tc\n\n\\ No newline at end of file\n"
    assert Patch("p", text).diff.refusal() == ""


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (DIFF.replace("\n", "\r\n"), DIFF),
        (DIFF.replace("-a\n", "-a\r\n"), DIFF.replace("-a\n", "-a\r\n")),
    ],
)
def test_crlf_goes_where_the_headers_have_it(data: str, expected: str) -> None:
    assert patches.decoded(data.encode()) == expected


def test_what_follows_a_diff_is_text_and_no_hunk() -> None:
    for text in ("-- \n2.39\n", "--\nBob\n", "\n+1 from me\n- and him\n@@ whatever\n", "Bye\n@@\n"):
        diff = Patch("p", DIFF + text + GIT).diff
        assert diff.refusal() == "" and diff.text == DIFF + GIT


def test_bytes_that_are_no_utf8_are_kept() -> None:
    data = DIFF.encode().replace(b"+b", b"+\xfc\x85")
    patch = Patch("p", patches.decoded(data))
    assert patch.raw == data == patch.diff.raw


def test_names_are_distinct_and_fit_for_files() -> None:
    assert patches.distinct(["6.12/a.patch", "b c.patch", "6.1/a.patch"]) == (
        *("a.patch", "b-c.patch", "0003-a.patch"),
    )
    names = [patch.name for patch in patches.named([("same/title", ""), ("same/title", "")])]
    assert names == ["0001-same-title.patch", "0002-same-title.patch"]


@pytest.mark.parametrize("name", ["x" * 256, "\u00e4" * 128, "a/" * 1025])
def test_a_longer_name_than_a_file_can_have_is_refused(name: str) -> None:
    text = DIFF.replace("one.c", name)
    assert "a longer name than a file can have" in Patch("p", text).diff.refusal()


@pytest.mark.parametrize(("levels", "refused"), [(100, False), (101, True), (1000, True)])
def test_no_tree_is_so_deep(levels: int, refused: bool) -> None:
    """Directories a thousand deep are more than what removes them goes down."""
    text = f"--- /dev/null\n+++ b/{'a/' * levels}x.c\n@@ -0,0 +1 @@\n+1\n"
    assert ("deeper than any tree" in Patch("p", text).diff.refusal()) is refused
    assert Patch("p", DIFF.replace("one.c", "x" * 255)).diff.refusal() == ""
