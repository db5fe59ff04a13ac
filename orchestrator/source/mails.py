# SPDX-License-Identifier: GPL-2.0-only
"""Mailboxes: which of their messages are the patches of a series, and in which order. Pure.

A mailbox is what `b4 am` writes (FILE.mbx: the patches alone, in order), and also a whole thread as
`b4 mbox` or a mail program saves it: cover letter, patches in the order of their arrival, replies
that quote them, and replies that say "how about this instead?" with a diff. So a message counts by
its subject: [PATCH ...], and no reply; and whatever is in doubt is refused, never guessed.
"""

from __future__ import annotations

import contextlib
import email
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.message import Message

from orchestrator.errors import UsageError
from orchestrator.source import patches
from orchestrator.source.patches import Patch

# The line before a message: a time, a year and a header behind it, for texts have From, too. A
# line at a time, and step by step: one pattern for all would try each digit with each other one.
_FROM = re.compile(rb"^From ([^\n]*)\n(?=[A-Za-z-]+:)", re.MULTILINE)
_TIME = re.compile(rb"\d:\d\d")
_YEAR = re.compile(rb" \d{4}")
# What `email` cannot take in any number: it calls itself for each level, and goes through the
# parameters of a field once for each of them.
_NESTED = re.compile(
    rb"(?:^|\r)content-type:\s*(?:multipart|message)/", re.MULTILINE | re.IGNORECASE
)
_FIELD = re.compile(
    rb"(?:^|\r)content-[a-z-]+:[^\n]*(?:\n[ \t][^\n]*)*", re.MULTILINE | re.IGNORECASE
)
_LEVELS = 50
_FIELD_BYTES = 8192
_SUBJECT = 1000  # characters of a subject that are decoded
_TAGS = re.compile(r"(?:\[[^\]]*\]\s*)*")
_NUMBER = re.compile(r"(?<![\d/])(\d{1,4})/(\d{1,4})(?![\d/])")
_REPLY = re.compile(r"(?:re|aw|antw|sv|vs|tr|fwd?|wg)\s*:", re.IGNORECASE)
_PATCH_TYPES = ("text/plain", "text/x-patch", "text/x-diff")
_LISTED = 20  # how many missing ones
_SHOWN = 3  # how many subjects a message of ours lists


@dataclass(frozen=True, slots=True)
class Mail:
    """subject: on one line, "" when there is none. text: what is plain text in it and the patches
    attached to it, decoded, with \\n line ends; bytes that are no UTF-8 as surrogates."""

    subject: str
    text: str
    id: str = ""

    @property
    def tags(self) -> str:
        """`[PATCH v2 1/3] ` of `[PATCH v2 1/3] livepatch: ...`"""
        found = _TAGS.match(self.subject)
        return found[0] if found else ""

    @property
    def title(self) -> str:
        return self.subject.removeprefix(self.tags)

    @property
    def number(self) -> tuple[int, int] | None:
        """(N, M) of [PATCH N/M]"""
        found = _NUMBER.search(self.tags)
        return (int(found[1]), int(found[2])) if found else None

    @property
    def is_patch(self) -> bool:
        """[PATCH], [RFC PATCH v2 3/6], [list] [PATCHv3]; but neither Re: [PATCH] nor [PATCH 0/6]"""
        return re.search(r"(?i)\bpatch", self.tags) is not None and not self.is_cover

    @property
    def is_cover(self) -> bool:
        return self.number is not None and self.number[0] == 0

    @property
    def is_reply(self) -> bool:
        return _REPLY.match(self.subject) is not None


def series(data: bytes, name: str) -> tuple[Patch, ...]:
    """The patches of a file: a mailbox, a single message, or a bare diff.

    name: the file's. Raises UsageError when there is none, or it is in doubt which ones count.
    """
    mails = mailbox(data, name)
    if not mails:
        alone = _mail(data, name)
        if not alone.subject:
            patch = Patch(patches.distinct([name])[0], patches.decoded(data))
            if not patch.diff.text:
                raise UsageError(f"{name} holds no patch: it is neither mail nor diff")
            return (patch,)
        mails = (alone,)
    return patches.named((mail.title, mail.text) for mail in _chosen(mails, name))


def mailbox(data: bytes, name: str) -> tuple[Mail, ...]:
    """The messages of a mailbox, one that came twice only once; () when `data` is no mailbox.

    Raises UsageError for a message that no mail program writes.
    """
    found: dict[str, Mail] = {}
    for number, body in enumerate(_messages(data)):
        # mboxrd puts a > before a line that begins with From, or with From behind other >
        mail = _mail(re.sub(rb"^>(>*From )", rb"\1", body, flags=re.MULTILINE), name)
        found.setdefault(mail.id or str(number), mail)
    return tuple(found.values())


def _messages(data: bytes) -> Iterator[bytes]:
    """What stands before the first line that begins a message, if anything, and behind each."""
    end = 0
    for line in _FROM.finditer(data):
        time = _TIME.search(line[1])
        if time and _YEAR.search(line[1], time.end()):
            if end or data[: line.start()].strip():
                yield data[end : line.start()]
            end = line.end()
    if end:
        yield data[end:]


# --- which messages count ----------------------------------------------------------------------


def _chosen(mails: Sequence[Mail], where: str) -> Sequence[Mail]:
    if len(mails) == 1:
        # a person named it: it needs no [PATCH], and 2/6 is no lack of five others
        chosen = [mail for mail in mails if not mail.is_reply and not mail.is_cover]
    else:
        chosen = [mail for mail in mails if mail.is_patch]
    if not chosen:
        hint = "a message counts when its subject begins with [PATCH"
        if any(_has_diff(mail) for mail in mails):
            hint += "; a diff that came in another can be saved as a file of its own"
        raise UsageError(f"{where} holds no patch, only {_listed(mails)}", hint=hint)
    for mail in chosen:
        if not _has_diff(mail):
            raise UsageError(f"{where}: {_listed([mail])} carries no diff")
    return chosen if len(mails) == 1 else _in_order(chosen, where)


def _in_order(mails: Sequence[Mail], where: str) -> Sequence[Mail]:
    """By N of [PATCH N/M] where there is such a number, else as they come."""
    known: dict[tuple[int, int] | str, Mail] = {}
    for mail in mails:
        twin = known.setdefault(mail.number or mail.title, mail)
        if twin is not mail:
            raise UsageError(
                f"{where} holds a patch twice: {_listed([twin, mail])}",
                hint="keep one version of the series: b4 am -vN takes version N",
            )
    by_total = {mail.number and mail.number[1]: mail for mail in mails}
    if len(by_total) > 1:
        raise UsageError(
            f"{where} holds patches of more than one series: {_listed(list(by_total.values()))}",
            hint="give each series a file and a --series of its own",
        )
    (total,) = by_total
    if total is None:
        return mails
    numbers = [mail.number[0] for mail in mails if mail.number]
    if missing := sorted(set(range(1, total + 1)) - set(numbers)):
        lost = ", ".join(f"{number}/{total}" for number in missing[:_LISTED])
        lost += f" and {len(missing) - _LISTED} more" if len(missing) > _LISTED else ""
        raise UsageError(
            f"{where} lacks {lost} of the series of {_listed(mails[:1])}",
            hint="fetch the whole thread; to leave patches out, use a quilt directory (b4 am -Q)",
        )
    if len(numbers) > total:
        raise UsageError(f"{where} counts {total} patches and holds {len(numbers)}")
    return [mail for _, mail in sorted(zip(numbers, mails, strict=True))]


def _has_diff(mail: Mail) -> bool:
    return bool(Patch("", mail.text).diff.text)


def _listed(mails: Sequence[Mail]) -> str:
    """`"a", "b", "c" and 3 more`"""
    shown = ", ".join(f'"{mail.subject or "(no subject)"}"' for mail in mails[:_SHOWN])
    return shown + (f" and {len(mails) - _SHOWN} more" if len(mails) > _SHOWN else "")


# --- what is in a message ----------------------------------------------------------------------


def _mail(data: bytes, name: str) -> Mail:
    levels = sum(1 for _ in _NESTED.finditer(data))
    longest = max((len(field[0]) for field in _FIELD.finditer(data)), default=0)
    if levels > _LEVELS or longest > _FIELD_BYTES:
        raise UsageError(
            f"{name} holds a message with {levels} messages and parts of parts in it"
            if levels > _LEVELS
            else f"{name} holds a message with a field Content-... of {longest} bytes",
            hint="save the patch alone",
        )
    message = email.message_from_bytes(data)
    raw = message.get("Subject", "")
    subject = str(raw)
    if len(subject) <= _SUBJECT:
        with contextlib.suppress(HeaderParseError, LookupError, UnicodeError):
            subject = str(make_header(decode_header(raw)))  # one encoded wrongly stays as it came
    identity = str(message.get("Message-ID", "")).strip()
    return Mail(" ".join(subject.split()), _text(message), identity)


def _text(message: Message) -> str:
    """Bytes stay as they are whatever the charset, as with git am: a diff is of bytes."""
    texts = []
    for part in message.walk():
        payload = part.get_payload(decode=True)
        name = part.get_filename("")
        is_text = part.get_content_type() in _PATCH_TYPES or name.endswith((".patch", ".diff"))
        if is_text and isinstance(payload, bytes):
            text = payload.decode(errors="surrogateescape").replace("\r\n", "\n")
            if str(part.get_param("format", "")).lower() == "flowed":
                text = _unflowed(text, str(part.get_param("delsp", "")).lower() == "yes")
            texts.append(text)
    return "\n".join(texts)


def _unflowed(text: str, delsp: bool) -> str:
    """format=flowed undone (RFC 3676): a leading blank was put there, a trailing one goes on."""
    lines = []
    held = ""
    for line in text.split("\n"):
        rest = line if line == "-- " else line.removeprefix(" ")
        if rest.endswith(" ") and rest != "-- ":
            held += rest[:-1] if delsp else rest
        else:
            lines.append(held + rest)
            held = ""
    return "\n".join([*lines, held])
