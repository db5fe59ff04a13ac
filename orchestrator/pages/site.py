# SPDX-License-Identifier: GPL-2.0-only
"""The report of a night as static pages, and the page of all nights.

    DIR/index.html             all nights, newest first, with trends
    DIR/NIGHT/index.html       verdict, what changed, matrix, cases, inputs
    DIR/NIGHT/cases/*.html     one case each

Every page stands alone: no script, no other file. Whatever others wrote goes through autoescape.
"""

from __future__ import annotations

import itertools
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from orchestrator.history import alike, digest
from orchestrator.history.alike import Key
from orchestrator.history.checked import is_night
from orchestrator.history.nights import Changes, Night, NightTotals, PastResult
from orchestrator.host.ours import NotOurs, below
from orchestrator.pages import compare, front, svg
from orchestrator.pages.evidence import Archive
from orchestrator.pages.front import JobView
from orchestrator.pages.svg import Trend
from orchestrator.pages.timeline import TimeLine
from orchestrator.plain import clean
from orchestrator.report.store import write as write_file
from orchestrator.report.store import write_errors
from orchestrator.report.verdict import duration
from orchestrator.templating import page_templates
from orchestrator.verdicts import CheckKind, Status

INDEX = "index.html"
CASES = "cases"
JOBS = "jobs"  # where a job's results directory is, by the job's name
GENERATOR = '<meta name="generator" content="klp-e2e">'
_HEAD = 4096  # bytes of a page that tell whose it is
_OLDER = re.compile(
    r'<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; [^>]*>\s*'
    r"<title>(klp-e2e: \d+ nights|[^<]*klp-e2e [^<]*)</title>"
)
MOST_FAILED = 40  # failed checks that a case's page shows


def _fit(value: object) -> object:
    """Any text of a template, before it is escaped."""
    return clean(value) if type(value) is str else value


def _picture(shown: TimeLine | Trend, about: str = "") -> Markup:
    return svg.trend(shown, about) if isinstance(shown, Trend) else svg.lifelines(shown)


_TEMPLATES = page_templates(finalize=_fit)
_TEMPLATES.filters |= {"picture": _picture, "took": duration}


def write(
    place: Path,
    night: Night,
    changes: Changes,
    past: Mapping[Key, Sequence[PastResult]],
) -> Path:
    """NIGHT/index.html and its cases' pages; returns the first.

    place: DIR, which holds the night's directory. past: newest first. Raises HarnessError when a
    file cannot be written (a full disk), NotOurs where it would lie elsewhere.
    """
    directory = place / night.name
    pages = front.with_pages(night, changes)
    views = {view.record.job.name: view for view in front.jobs(night)}
    for name, text in _cases(place, night, changes, past, pages, views):
        with write_errors(directory / CASES):
            file = below(directory / CASES / name, directory)
        write_file(file, text)
    index = directory / INDEX
    write_file(index, _night(directory, night, changes, past, pages, views))
    return index


def write_list(place: Path, totals: Sequence[NightTotals]) -> None:
    """DIR/index.html. totals: newest first. Raises HarnessError, and NotOurs where one stands that
    klp-e2e did not write."""
    index = place / INDEX
    if os.path.lexists(index) and not is_ours(index):
        raise NotOurs(
            f"{index} was not written by klp-e2e, and stays: nights are not listed there",
            hint="move it out of the way",
        )
    write_file(index, _nights(place, totals))


def is_ours(page: Path) -> bool:
    """Is it a page that klp-e2e wrote? Older ones say so in their title only."""
    if page.is_symlink() or not page.is_file():
        return False
    try:
        with page.open("rb") as file:
            head = file.read(_HEAD).decode(errors="replace").partition("</head>")[0]
    except OSError:  # nobody can say
        return False
    return GENERATOR in head or _OLDER.search(head) is not None


# --- a night -----------------------------------------------------------------------------------


def _night(
    directory: Path,
    night: Night,
    changes: Changes,
    past: Mapping[Key, Sequence[PastResult]],
    pages: Mapping[Key, str],
    views: Mapping[str, JobView],
) -> str:
    write_errors = digest.digest(night, changes)
    before = f"../{changes.before}/{INDEX}"
    listed = tuple(views.values())
    return _TEMPLATES.get_template("night.html.j2").render(
        night=night,
        changes=changes,
        tone=str(write_errors.tone),
        line=write_errors.headline[:1].upper() + write_errors.headline[1:],
        facts=_facts(night),
        totals=digest.counts(night.rows),
        before_link=before if changes.before and (directory / before).is_file() else "",
        groups=front.groups(night, changes, past),
        broke=front.BROKE,
        wrong_jobs=[view for view in listed if front.went_wrong(view.record)],
        matrix=front.matrix(listed),
        views=listed,
        by_name=views,
        pages=pages,
        files={
            view.anchor: f"{JOBS}/{name}/"
            for name, view in views.items()
            if (directory / JOBS / name).is_dir()
        },
        configs={k.config for k in night.kernels if k.config and (directory / k.config).is_file()},
    )


def _facts(night: Night) -> list[str]:
    """What stands under the verdict."""
    begun = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(night.started))
    found = [night.name, f"begun {begun}"]
    if night.finished is not None:
        found.append(f"took {duration(night.finished - night.started)}")
    found.append(f"{len(night.rows)} cases in {len(night.jobs)} jobs")
    found += [f"merged of {len(night.parts)} parts"] if night.parts else []
    return [*found, digest.share(night)] if night.part else found


# --- a case ------------------------------------------------------------------------------------


def _cases(
    place: Path,
    night: Night,
    changes: Changes,
    past: Mapping[Key, Sequence[PastResult]],
    pages: Mapping[Key, str],
    views: Mapping[str, JobView],
) -> Iterator[tuple[str, str]]:
    """(file name, page) of every case that has one."""
    template = _TEMPLATES.get_template("case.html.j2")
    archive = Archive(place / night.name)
    changed = {alike.key(each.row): each for each in changes.changed}
    for row in night.rows:
        key = alike.key(row)
        if key not in pages:
            continue
        name = pages[key]
        evidence = archive.evidence(row)
        failed = compare.failed(evidence.steps)
        shown = list(itertools.islice(failed, MOST_FAILED))
        nights = tuple(reversed(past.get(key, ())))
        yield (
            name,
            template.render(
                night=night,
                row=row,
                view=views.get(row.job),
                changed=changed.get(key),
                blames=[b for b in night.blames if (b.job, b.case) == key],
                past=nights,
                links=_links(place, nights, name),
                evidence=evidence,
                failed=shown,
                unshown=sum(1 for _ in failed),
                of_relocation=any(f.check.kind is CheckKind.RELOCATION for f in shown),
            ),
        )


def _links(place: Path, nights: Sequence[PastResult], name: str) -> dict[str, str]:
    """night -> the same case's page there, where it still exists."""
    return {
        each.night: f"../../{each.night}/{CASES}/{name}"
        for each in nights
        if is_night(each.night) and (place / each.night / CASES / name).is_file()
    }


# --- all nights --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Line:
    """A night in the list of all."""

    totals: NightTotals
    counts: Mapping[Status, int]  # worst first
    passed: str
    link: str  # empty: its files are gone


def _nights(place: Path, totals: Sequence[NightTotals]) -> str:
    return _TEMPLATES.get_template("nights.html.j2").render(
        nights=[_line(place, each) for each in totals], trends=front.trends(totals)
    )


def _line(place: Path, totals: NightTotals) -> _Line:
    link = f"{totals.name}/{INDEX}"
    counts = {s: totals.counts[s] for s in sorted(totals.counts, key=lambda s: s.rank)}
    ran = sum(counts.values()) - counts.get(Status.SKIP, 0)
    passed = f"{counts.get(Status.PASS, 0)} of {ran}" if ran else ""
    there = is_night(totals.name) and (place / link).is_file()
    return _Line(totals, counts, passed, link if there else "")
