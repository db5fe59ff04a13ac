# SPDX-License-Identifier: GPL-2.0-only
"""mail.txt of a night: what is new in it, where, since when, and how to see it again.

Its first line is the subject, so that a program that sends mail takes it as it is. No line is
longer than 78 columns, but for those to be pasted, which stand alone; all else is ASCII, so that no
header has to name a character set.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from orchestrator.history import digest
from orchestrator.history.digest import News
from orchestrator.history.nights import Change, Changed, Changes, Night
from orchestrator.plain import printable
from orchestrator.report.ktap import plain

WIDTH = 78
LABEL = 11  # columns: two blanks, a label, a blank at least
IN_FULL = (Change.NEW_FAILURE, Change.NEW_TROUBLE, Change.FLAKY)
IN_SHORT = (
    *(Change.FIXED, Change.NEWLY_KNOWN, Change.NEWLY_SKIPPED),
    *(Change.GONE, Change.SLOWER),
)
SHOWN = 10  # of each kind; the page has them all
TEXT_LIMIT = 600  # characters of one field


def subject(night: Night, changes: Changes) -> str:
    """`klp-e2e: 2 new failures, 1 fixed: debian:6.1 + livepatch-reload on s390x`"""
    line = _ascii(f"klp-e2e: {digest.digest(night, changes).headline}")
    places = {each.where for each in digest.news(night, changes, IN_FULL)}
    whole = _ascii(f"{line}: {', '.join(sorted(places))}") if places else line
    room = WIDTH - len("Subject: ")
    fitting = whole if len(whole) <= room else line
    return fitting if len(fitting) <= room else f"{fitting[: room - 3]}..."


def mail(night: Night, changes: Changes) -> str:
    """The whole text."""
    lines = [f"Subject: {subject(night, changes)}", "", *_opening(night, changes)]
    full = digest.news(night, changes, IN_FULL)
    for news in full[:SHOWN]:
        lines += ["", *_in_full(news)]
    if len(full) > SHOWN:
        lines += ["", *_wrapped(f"... and {len(full) - SHOWN} more; the page has them all.")]
    lines += _list("Inputs that changed:", list(_inputs(changes)))
    for change in IN_SHORT:
        lines += _list(
            f"{change.capitalize()}:", [_short(e) for e in digest.news(night, changes, (change,))]
        )
    still = digest.news(night, changes, digest.OLD)
    lines += _list("As before:", [f"{_short(each)}, since {each.first.since}" for each in still])
    undone = digest.undone(night)
    lines += _list("Jobs not done:", [f"{r.job}: {r.status}: {r.reason}" for r in undone])
    lines += ["", *_closing(night)]
    return "\n".join(lines) + "\n"


def _opening(night: Night, changes: Changes) -> list[str]:
    against = f"compared with {changes.before}" if changes.before else "the first night"
    headline = digest.digest(night, changes).headline
    lines = _wrapped(f"{headline[:1].upper()}{headline[1:]}. Night {night.name}, {against}.")
    if night.trouble:
        lines += _wrapped(f"It stopped early: {night.trouble}")
    return [*lines, *_wrapped(digest.totals(night))]


def _in_full(news: News) -> list[str]:
    first, row = news.first, news.first.row
    lines = _wrapped(f"{first.change.upper()}: {row.case}")
    lines += _field("where", news.where)
    if news.kernel is not None:
        made = news.kernel
        version = f"Linux {made.release} ({made.source_version})"
        lines += _field("", f"{version}, {made.compiler}, {made.qemu}")
    lines += _field("what", row.reason)
    lines += _field("tests", row.why)
    lines += _field("since", _since(first))
    lines += _field("failed", f"{row.failed} of {row.runs} runs" if row.runs > 1 else "")
    lines += _field("note", first.note)
    lines += _field("blame", news.blame)
    others = [each.row.case for each in news.others]
    more = f" and {len(others) - SHOWN} more" if len(others) > SHOWN else ""
    what = "blamed on it, too: " if news.blame else "the same in "
    lines += _field("also", others and f"{what}{', '.join(others[:SHOWN])}{more}")
    lines += _field("files", row.directory)
    if row.reproduce:
        lines += ["  reproduce:", "", plain(row.reproduce)]
    return lines


def _since(changed: Changed) -> str:
    since = "this night" if changed.nights == 1 else f"{changed.since}, {changed.nights} nights"
    return f"{since}; it last passed in {changed.last_good}" if changed.last_good else since


def _short(news: News) -> str:
    more = f" and {len(news.others)} more" if news.others else ""
    note = f" ({news.first.note})" if news.first.note else ""
    return f"{news.first.row.case}{more}, {news.where}{note}"


def _inputs(changes: Changes) -> Iterator[str]:
    for each in changes.inputs:
        place = " on ".join(filter(None, (each.kernel, each.arch)))
        lines = f"{each.what}: {each.before or '(none)'} -> {each.after or '(none)'}"
        yield f"{place}: {lines}" if place else lines


def _closing(night: Night) -> list[str]:
    lines = _wrapped(f"The whole report is index.html in the directory of night {night.name}.")
    return [*lines, *_wrapped(f"klp-e2e {night.tool}, {night.config}, {night.host}")]


# --- lines ---------------------------------------------------------------------------------------


def _list(title: str, entries: Sequence[str]) -> list[str]:
    if not entries:
        return []
    lines = ["", title]
    for entry in entries[:SHOWN]:
        lines += _wrapped(entry, "  ", "    ")
    return [*lines, f"  ... and {len(entries) - SHOWN} more"] if len(entries) > SHOWN else lines


def _field(label: str, text: object) -> list[str]:
    if not text:
        return []
    return _wrapped(str(text), f"  {label}".ljust(LABEL) + " ", " " * (LABEL + 1))


def _wrapped(text: str, first: str = "", others: str = "") -> list[str]:
    short = _ascii(text)
    short = short if len(short) <= TEXT_LIMIT else f"{short[: TEXT_LIMIT - 3]}..."

    def lines(width: int) -> list[str]:
        return textwrap.wrap(
            short, width, initial_indent=first, subsequent_indent=others, break_on_hyphens=False
        )

    # where a word begins a line it may be a command for a CI, and gets a character more
    shown = [printable(line) for line in lines(WIDTH)]
    fits = all(len(line) <= WIDTH for line in shown)
    return shown if fits else [printable(line) for line in lines(WIDTH - 1)]


def _ascii(text: str) -> str:
    """One line; what is not ASCII is escaped as in Python."""
    return (
        plain(text.replace("\N{HORIZONTAL ELLIPSIS}", "..."))
        .encode("ascii", "backslashreplace")
        .decode()
    )
