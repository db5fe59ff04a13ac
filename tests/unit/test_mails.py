# SPDX-License-Identifier: GPL-2.0-only
"""Which messages of a mailbox are the series, and what is in a message."""

from __future__ import annotations

import base64
import quopri

import pytest

from orchestrator.errors import UsageError
from orchestrator.source import mails

B4 = "From git@z Thu Jan  1 00:00:00 1970\n"


def diff(number: int = 1) -> str:
    return f"--- a/fs/{number}.c\n+++ b/fs/{number}.c\n@@ -1 +1 @@\n-a\n+b\n"


def mail(subject: str, body: str = "", *headers: str) -> str:
    return "".join([B4, f"Subject: {subject}\n", *(f"{h}\n" for h in headers), "\n", body, "\n"])


def patch(subject: str, number: int = 1, *headers: str) -> str:
    return mail(subject, f"why\n---\n fs/{number}.c | 2 +-\n\n{diff(number)}-- \n2.39\n", *headers)


def files(*messages: str) -> list[str]:
    """The file that each patch of the series touches."""
    found = mails.series("".join(messages).encode(), "t.mbx")
    return [name for patch in found for name in patch.diff.files()]


def refused(*messages: str) -> UsageError:
    with pytest.raises(UsageError) as caught:
        mails.series("".join(messages).encode(), "t.mbx")
    return caught.value


QUOTE = "> " + diff(9).replace("\n", "\n> ") + "\nLooks good.\n"
INSTEAD = "How about this instead?\n\n-- >8 --\n" + diff(9)


def test_a_thread_gives_its_patches_and_nothing_of_the_replies() -> None:
    thread = [
        mail("[PATCH v2 0/2] cover", "No diff in it.\n"),
        patch("[PATCH v2 1/2] livepatch:\n one/two", 1),
        mail("Re: [PATCH v2 1/2] livepatch: one/two", QUOTE),
        mail("Re: [PATCH v2 1/2] livepatch: one/two", INSTEAD),
        mail("[GIT PULL] livepatching", INSTEAD),
        patch("[RFC PATCH v2 2/2] second", 2),
    ]
    found = mails.series("".join(thread).encode(), "t.mbx")
    names = ["0001-livepatch-one-two.patch", "0002-second.patch"]
    assert [patch.name for patch in found] == names
    assert files(*thread) == ["fs/1.c", "fs/2.c"]


@pytest.mark.parametrize(
    "subjects",
    [
        ("[PATCH 2/3] b", "[PATCH 3/3] c", "[PATCH 1/3] a"),
        ("[PATCHv3 02/03] b", "[list] [PATCHv3 03/03] c", "[PATCH RESEND v3 01/03, net] a"),
    ],
)
def test_patches_come_in_the_order_they_count(subjects: tuple[str, ...]) -> None:
    assert files(*map(patch, subjects, (2, 3, 1))) == ["fs/1.c", "fs/2.c", "fs/3.c"]


def test_without_numbers_the_file_decides() -> None:
    assert files(patch("[PATCH] b", 2), patch("[PATCH] a", 1)) == ["fs/2.c", "fs/1.c"]


@pytest.mark.parametrize(
    ("messages", "told"),
    [
        (
            [patch("[PATCH 1/4] a"), patch("[PATCH 3/4] c", 3)],
            't.mbx lacks 2/4, 4/4 of the series of "[PATCH 1/4] a"',
        ),
        (
            [patch("[PATCH v2 1/1] a"), patch("[PATCH v3 1/1] a2")],
            't.mbx holds a patch twice: "[PATCH v2 1/1] a", "[PATCH v3 1/1] a2"',
        ),
        (
            [patch("[PATCH] a"), patch("[PATCH v2] a")],
            't.mbx holds a patch twice: "[PATCH] a", "[PATCH v2] a"',
        ),
        (
            [patch("[PATCH v2 1/1] a"), patch("[PATCH v3 1/2] a"), patch("[PATCH v3 2/2] b")],
            't.mbx holds patches of more than one series: "[PATCH v2 1/1] a", "[PATCH v3 2/2] b"',
        ),
        (
            [patch("[PATCH 1/1] a"), patch("[PATCH] how about this instead?")],
            't.mbx holds patches of more than one series: "[PATCH 1/1] a", "[PATCH] how about',
        ),
        ([patch("[PATCH 1/1] a"), patch("[PATCH 2/1] b")], "t.mbx counts 1 patches and holds 2"),
        (
            [patch("[PATCH 1/2] a"), mail("[PATCH 2/2] b", "see attachment\n")],
            't.mbx: "[PATCH 2/2] b" carries no diff',
        ),
    ],
)
def test_what_is_in_doubt_is_refused_by_name(messages: list[str], told: str) -> None:
    assert told in str(refused(*messages))


def test_nothing_that_counts_says_what_was_found() -> None:
    error = refused(mail("Re: [PATCH] a", INSTEAD), mail("hello"), mail(""), mail("[PATCH 0/1] b"))
    assert str(error) == (
        't.mbx holds no patch, only "Re: [PATCH] a", "hello", "(no subject)" and 1 more'
    )
    assert "save" in error.hint
    assert "save" not in refused(mail("[PATCH v2 0/3] the .cover of b4 am", "words\n")).hint
    assert "neither mail nor diff" in str(refused("words\n"))
    assert "only" in str(refused("saved by hand:\n" + diff(), mail("Re: [PATCH] a", INSTEAD)))


def test_a_file_with_one_message_is_that_patch() -> None:
    """git format-patch's 0002-x.patch; and a patch of b4 am -Q, without [PATCH]."""
    assert files(patch("[PATCH 2/6] x")) == ["fs/1.c"]
    assert files("From: A <a@b>\nSubject: x\nDate: today\n\nwhy\n---\n" + diff()) == ["fs/1.c"]
    assert "holds no patch" in str(refused("Subject: Re: [PATCH] x\n\n" + INSTEAD))


def test_a_message_that_came_twice_counts_once() -> None:
    twice = patch("[PATCH 1/1] a", 1, "Message-ID: <1@z>")
    assert files(twice, mail("Re: [PATCH 1/1] a", QUOTE, "Message-Id: <2@z>"), twice) == ["fs/1.c"]


def test_a_line_of_the_text_that_begins_with_from_parts_nothing() -> None:
    body = f"From 9:30 in 2026 it works.\n>From there too.\n>>From him.\n{diff()}"
    (found,) = mails.series(mail("[PATCH] a", body).encode(), "t.mbx")
    assert found.text.startswith("From 9:30 in 2026 it works.\nFrom there too.\n>From him.\n---")


@pytest.mark.parametrize("name", ["base64", "quoted-printable", "8bit"])
def test_transfer_encodings_crlf_and_charsets(name: str) -> None:
    raw = f"wh\xfc\r\n---\r\n{diff()}".replace("+b", "+\xfc = 1").encode("latin-1")
    raw = raw.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    coded = {
        "base64": base64.encodebytes(raw),
        "quoted-printable": quopri.encodestring(raw),
        "8bit": raw,
    }[name]
    head = mail(
        "=?utf-8?q?=5BPATCH_1/1=5D_livepatch=3A_=C3=BC?=",
        "",
        'Content-Type: text/plain; charset="iso-8859-1"',
        f"Content-Transfer-Encoding: {name}",
    ).removesuffix("\n")
    (found,) = mails.series(head.encode().replace(b"\n", b"\r\n") + coded, "t.mbx")
    assert found.name == "0001-livepatch.patch"
    # as git am: a diff is of bytes, whatever the message's charset
    assert found.diff.raw == diff().replace("+b", "+X").encode().replace(b"X", b"\xfc = 1")


def test_an_attached_patch_is_taken_and_html_is_not() -> None:
    kinds = ("text/plain", "text/html", 'application/octet-stream; name="a.patch"')
    bodies = ("please apply\n", diff(7), base64.encodebytes(diff(1).encode()).decode())
    codings = ("7bit", "7bit", "base64")
    parts = "".join(
        f"--B\nContent-Type: {kind}\nContent-Transfer-Encoding: {coding}\n\n{body}\n"
        for kind, body, coding in zip(kinds, bodies, codings, strict=True)
    )
    whole = mail("[PATCH] a", parts + "--B--\n", 'Content-Type: multipart/mixed; boundary="B"')
    assert files(whole) == ["fs/1.c"]


@pytest.mark.parametrize(("delsp", "end"), [("yes", "  "), ("no", " ")])
def test_a_flowed_message_is_put_together_again(delsp: str, end: str) -> None:
    long = "--- a/x\n+++ b/x\n@@ -1,2 +1,2 @@\n-a\n+one two\n  c\n"
    flowed = long.replace("one two", f"one{end}\ntwo").replace("\n  c", "\n   c")
    kind = f"Content-Type: text/plain; format=flowed; delsp={delsp}"
    (found,) = mails.series(mail("[PATCH] a", flowed, kind).encode(), "t.mbx")
    assert found.diff.text == long and found.diff.refusal() == ""


def test_headers_that_lie_do_not_stop_us() -> None:
    odd = patch("=?nope?q?x?= [PATCH", 1, "Message-ID: <[odd", "Content-Type: ;;")
    raw = B4.encode() + b"Subject: [PATCH] \xff\xfe raw\n\n" + diff(2).encode()
    assert files(odd) == ["fs/1.c"]
    assert mails.series(raw, "t.mbx")[0].name == "0001-raw.patch"


def test_a_line_that_could_begin_a_message_in_many_ways_takes_no_time() -> None:
    """One pattern for the line was cubic: a line of 100 kB would have taken an hour."""
    line = b"From " + b"1:11 1111 " * 100_000 + b"\n"
    with pytest.raises(UsageError, match="neither mail nor diff"):
        mails.series(line * 10, "t.mbx")
    (found,) = mails.series(line + patch("[PATCH] a").removeprefix(B4).encode(), "t.mbx")
    assert found.diff.files() == ("fs/1.c",)


def nested(levels: int, kind: str) -> str:
    return "".join(f'Content-Type: {kind}; boundary="{n}"\n\n--{n}\n' for n in range(levels))


@pytest.mark.parametrize("kind", ["multipart/mixed", "message/rfc822", "\n\tmultipart/digest"])
def test_a_message_of_very_many_levels_is_refused(kind: str) -> None:
    text = nested(3000, kind)
    assert "3000 messages and parts" in str(refused(B4 + "Subject: [PATCH] a\n" + text))
    assert "3000 messages and parts" in str(refused("Subject: [PATCH] a\n" + text))


@pytest.mark.parametrize(
    "odd",
    [";" * 10**6, '"' + ";" * 10**6, "a=b;\n " * 10**5],
    ids=["empty", "in quotes", "folded"],
)
def test_a_field_that_takes_long_to_read_is_refused(odd: str) -> None:
    for name in ("Content-Type: text/plain;", "CONTENT-DISPOSITION: attachment;"):
        assert "a field Content-... of" in str(refused(patch("[PATCH] a", 1, name + odd)))


def test_a_long_subject_stays_as_it_came() -> None:
    (found,) = mails.series(patch("[PATCH] " + "=?a?q?" * 50_000).encode(), "t.mbx")
    assert found.diff.files() == ("fs/1.c",)


def test_a_series_that_lacks_thousands_names_a_few() -> None:
    assert len(str(refused(patch("[PATCH 1/9999] a"), patch("[PATCH 2/9999] b", 2)))) < 500
