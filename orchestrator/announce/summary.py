# SPDX-License-Identifier: GPL-2.0-only
"""summary.md of a night: Markdown for a CI job's page. No text in it is taken for markup."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from orchestrator.history import digest
from orchestrator.history.digest import News
from orchestrator.history.nights import Change, Changes, Night, Row
from orchestrator.report.ktap import plain

SHOWN = 50  # rows of a table; the page has them all
REPRODUCED = (Change.NEW_FAILURE, Change.NEW_TROUBLE, Change.FLAKY, Change.STILL_FAILING)
TEXT_LIMIT = 200  # characters of a cell
_MARKUP = re.compile(r"[\\`*_\[\]~$]")
_HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;"}


def night_markdown(night: Night, changes: Changes) -> str:
    """The whole text."""
    against = f", compared with {_text(changes.before)}" if changes.before else ""
    blocks = [
        f"## klp-e2e: {_text(digest.digest(night, changes).headline)}",
        f"Night {_text(night.name)}{against}. {_text(digest.totals(night))}.",
    ]
    if night.trouble:
        blocks.append(f"It stopped early: {_text(night.trouble)}")
    new = digest.news(night, changes, [c for c in Change if c not in digest.QUIET])
    old = digest.news(night, changes, digest.OLD)
    blocks += _table("What changed", "change|case|where|since|what|blame", map(_news, new))
    blocks += _table("As before", "change|case|where|since|what|blame", map(_news, old))
    blocks += _table("Inputs that changed", "where|what|before|after", _inputs(changes))
    blocks += _table("Matrix", "kernel|architecture|job|result", _matrix(night))
    blocks += _reproduce(digest.news(night, changes, REPRODUCED))
    return "\n\n".join(blocks) + "\n"


def _news(news: News) -> Sequence[str]:
    first = news.first
    more = f" and {len(news.others)} more" if news.others else ""
    what = "; ".join(filter(None, (first.row.reason, first.note)))
    return (first.change, f"{first.row.case}{more}", news.where, first.since, what, news.blame)


def _inputs(changes: Changes) -> Iterator[Sequence[str]]:
    for each in changes.inputs:
        place = " on ".join(filter(None, (each.kernel, each.arch)))
        yield (place or "all", each.what, each.before, each.after)


def _matrix(night: Night) -> Iterator[Sequence[str]]:
    for record, rows in digest.by_job(night):
        job = record.job
        yield (job.kernel, job.arch, job.what, _cell(rows))


def _cell(rows: Sequence[Row]) -> str:
    return ", ".join(f"{number} {status}" for status, number in digest.counts(rows).items())


def _table(title: str, columns: str, rows: Iterable[Sequence[str]]) -> list[str]:
    found = list(rows)
    if not found:
        return []
    names = columns.split("|")
    lines = [f"| {' | '.join(names)} |", f"|{' --- |' * len(names)}"]
    lines += [f"| {' | '.join(map(_text, row))} |" for row in found[:SHOWN]]
    more = [f"… and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
    return [f"### {title}", "\n".join(lines), *more]


def _reproduce(found: Sequence[News]) -> list[str]:
    lines = [plain(each.first.row.reproduce) for each in found if each.first.row.reproduce]
    if not lines:
        return []
    return ["### Reproduce", *map(_fenced, lines[:SHOWN])]


def _fenced(text: str) -> str:
    """A block of code, its fence longer than any in the text."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}sh\n{text}\n{fence}"


def _text(text: str) -> str:
    """Shown as it is: neither Markdown nor HTML, one line, cut short where it is long."""
    shown = plain(text)
    shown = shown if len(shown) <= TEXT_LIMIT else f"{shown[:TEXT_LIMIT]}…"
    return "".join(_HTML.get(c) or _MARKUP.sub(r"\\\g<0>", c) for c in shown)
