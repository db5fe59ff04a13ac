# SPDX-License-Identifier: GPL-2.0-only
"""The report of a night as static pages, and the page of all nights.

    DIR/index.html             all nights, newest first, with trends
    DIR/NIGHT/index.html       verdict, what changed, matrix, cases, inputs
    DIR/NIGHT/cases/*.html     one case each

Every page stands alone: no script, no other file. Whatever others wrote goes through autoescape.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
from markupsafe import Markup

from orchestrator.history import alike
from orchestrator.history.alike import Key
from orchestrator.history.nights import Changes, Night, NightTotals, Past
from orchestrator.pages import compare, front, svg
from orchestrator.pages.evidence import Archive
from orchestrator.pages.front import JobView
from orchestrator.pages.lanes import TimeLine
from orchestrator.pages.svg import Trend
from orchestrator.plain import clean
from orchestrator.report.directory import told
from orchestrator.report.directory import write as write_file
from orchestrator.report.verdict import WORST_FIRST, duration
from orchestrator.verdicts import CheckKind, Status

INDEX = "index.html"
CASES = "cases"
JOBS = "jobs"  # where a job's results directory is, by the job's name
MOST_FAILED = 40  # failed checks that a case's page shows


# Of a case in one night, where there is room for one: no two are told apart by colour alone.
LETTERS: Mapping[Status, str] = {
    Status.PASS: "P",
    Status.FAIL: "F",
    Status.FLAKY: "~",
    Status.KNOWN: "K",
    Status.FIXED: "+",
    Status.ERROR: "E",
    Status.SKIP: "S",
}


def _fit(value: object) -> object:
    """Any text of a template, before it is escaped."""
    return clean(value) if type(value) is str else value


def _picture(shown: TimeLine | Trend, about: str = "") -> Markup:
    return svg.trend(shown, about) if isinstance(shown, Trend) else svg.lanes(shown)


_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("orchestrator"),
    undefined=jinja2.StrictUndefined,
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    finalize=_fit,
)
_TEMPLATES.filters |= {"picture": _picture, "took": duration, "letter": LETTERS.__getitem__}


def write(
    place: Path,
    night: Night,
    changes: Changes,
    totals: Sequence[NightTotals],
    past: Mapping[Key, Sequence[Past]],
) -> Path:
    """NIGHT/index.html, its cases' pages, DIR/index.html; returns the first.

    place: DIR, which holds the night's directory. totals, past: newest first. Raises HarnessError
    when a file cannot be written (a full disk).
    """
    directory = place / night.name
    with told(directory / CASES):
        (directory / CASES).mkdir(parents=True, exist_ok=True)
    pages = front.with_pages(night, changes)
    views = {view.record.job.name: view for view in front.jobs(night)}
    for name, text in _cases(place, night, changes, past, pages, views):
        write_file(directory / CASES / name, text)
    index = directory / INDEX
    write_file(index, _night(directory, night, changes, past, pages, views))
    write_file(place / INDEX, _nights(place, totals))
    return index


# --- a night -----------------------------------------------------------------------------------


def _night(
    directory: Path,
    night: Night,
    changes: Changes,
    past: Mapping[Key, Sequence[Past]],
    pages: Mapping[Key, str],
    views: Mapping[str, JobView],
) -> str:
    tone, line = front.headline(night, changes)
    before = f"../{changes.before}/{INDEX}"
    listed = tuple(views.values())
    return _TEMPLATES.get_template("night.html.j2").render(
        night=night,
        changes=changes,
        tone=tone,
        line=line,
        facts=_facts(night),
        totals=front.counts(night.rows),
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
    return [*found, f"{len(night.rows)} cases in {len(night.jobs)} jobs"]


# --- a case ------------------------------------------------------------------------------------


def _cases(
    place: Path,
    night: Night,
    changes: Changes,
    past: Mapping[Key, Sequence[Past]],
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


def _links(place: Path, nights: Sequence[Past], name: str) -> dict[str, str]:
    """night -> the same case's page there, where it still exists."""
    return {
        each.night: f"../../{each.night}/{CASES}/{name}"
        for each in nights
        if (place / each.night / CASES / name).is_file()
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
    counts = {s: totals.counts[s] for s in WORST_FIRST if totals.counts.get(s)}
    ran = sum(counts.values()) - counts.get(Status.SKIP, 0)
    passed = f"{counts.get(Status.PASS, 0)} of {ran}" if ran else ""
    return _Line(totals, counts, passed, link if (place / link).is_file() else "")
