# SPDX-License-Identifier: GPL-2.0-only
"""Pictures for pages: the lifelines of a case, the trend of many nights. Pure.

Colours are classes of the page's style sheet, so that light and dark are its business; whatever a
colour says, a word or a sign says too. Lengths are pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from orchestrator.pages.timeline import Cell, Lifeline, Look, Moment, TimeLine
from orchestrator.plain import clean

_CHARACTER = 7.3  # of the monospace font at 12 px
_NARROWEST, _WIDEST = 100.0, 300.0  # of an event's column
_HEAD, _ROW, _BAR = 46.0, 30.0, 20.0
_GAP = 3.0


# --- lifelines -----------------------------------------------------------------------------------


def lifelines(line: TimeLine) -> Markup:
    """Modules and relocations over the events, left to right; what it shows is told by a table
    beside it."""
    label = min(
        _WIDEST,
        max((len(lifeline.name) for lifeline in line.lifelines), default=0) * _CHARACTER + 16,
    )
    edges = [label]
    for index, moment in enumerate(line.moments):
        cells = [lifeline.cells[index] for lifeline in line.lifelines]
        words = [f"00 {moment.event}", f"{moment.sign}{moment.told}"]
        words += [_words(cell) for cell in cells if cell.note]
        wide = (max(map(len, words)) + 3) * _CHARACTER
        edges.append(edges[-1] + min(_WIDEST, max(_NARROWEST, wide)))
    height = _HEAD + len(line.lifelines) * _ROW + 6
    parts = [_moment(i, m, edges, height) for i, m in enumerate(line.moments)]
    for row, lifeline in enumerate(line.lifelines):
        top = _HEAD + row * _ROW
        name = _fit(lifeline.name, label - 12)
        parts.append(_text(name, 2, top + 18, "lifeline-name", lifeline.name))
        parts += [_segment(*each, edges, top) for each in _segments(lifeline)]
    reached = sum(moment.reached for moment in line.moments)
    if reached < len(line.moments) and line.lifelines:
        left = edges[reached]
        parts.append(
            Markup('<rect class="unreached" x="{}" y="{}" width="{}" height="{}"/>').format(
                _n(left), _n(_HEAD - 4), _n(edges[-1] - left), _n(height - _HEAD)
            )
        )
    return Markup(
        '<svg role="img" aria-labelledby="lifelines-title lifelines-about" width="{w}" '
        'height="{h}" viewBox="0 0 {w} {h}">'
        '<title id="lifelines-title">Modules and relocations over the order</title>'
        '<desc id="lifelines-about">{about}</desc>{hatch}{parts}</svg>'
    ).format(
        w=_n(edges[-1] + 2),
        h=_n(height),
        about=_about(line),
        hatch=_HATCH,
        parts=Markup("").join(parts),
    )


_HATCH = Markup(
    '<defs><pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" '
    'patternTransform="rotate(45)"><rect class="hatch-ground" width="6" height="6"/>'
    '<rect class="hatch-line" width="2" height="6"/></pattern></defs>'
)


def _about(line: TimeLine) -> str:
    wrong = [i for i, moment in enumerate(line.moments, start=1) if moment.failed]
    what = f"{len(line.moments)} events, {len(line.lifelines)} lifelines. "
    what += f"Wrong at event {wrong[0]}. " if wrong else ""
    return what + "The table below says the same."


def _moment(index: int, moment: Moment, edges: Sequence[float], height: float) -> Markup:
    left, width = edges[index], edges[index + 1] - edges[index]
    kind = "wrong" if moment.failed else "good" if moment.reached else "soft"
    name = f"{index + 1} {moment.event}"
    x = left + 7
    return Markup("").join(
        (
            Markup('<line class="tick {}" x1="{x}" x2="{x}" y1="4" y2="{}"/>').format(
                kind, _n(height - 4), x=_n(left + 0.5)
            ),
            _text(_fit(name, width - 12), x, 16, f"event {kind}", name),
            _text(_fit(moment.sign + moment.told, width - 12), x, 34, f"told {kind}"),
        )
    )


def _segments(lifeline: Lifeline) -> Iterator[tuple[Cell, int, int]]:
    """Neighbours that show the same become one: (what, first event, event behind the last)."""
    cells, start = lifeline.cells, 0
    for at in range(1, len(cells) + 1):
        if at == len(cells) or cells[at] != cells[start] or cells[at].note:
            yield cells[start], start, at
            start = at


def _segment(cell: Cell, first: int, end: int, edges: Sequence[float], top: float) -> Markup:
    left, width = edges[first] + _GAP, edges[end] - edges[first] - _GAP
    if cell.look is Look.UNREACHED:
        return Markup("")
    kind = "wrong" if cell.wrong else cell.look.replace(" ", "-")
    text = _text(_fit(_words(cell), width - 12), left + 6, top + 18, f"in {kind}", cell.text)
    if cell.look is Look.NOT_LOADED and not cell.wrong:
        line = Markup('<line class="not-loaded" x1="{}" x2="{}" y1="{y}" y2="{y}"/>')
        return line.format(_n(left), _n(left + width), y=_n(top + 26)) + text
    bar = Markup('<rect class="bar {}" x="{}" y="{}" width="{}" height="{}" rx="3"/>')
    return bar.format(kind, _n(left), _n(top + 4), _n(width), _n(_BAR)) + text


def _words(cell: Cell) -> str:
    if cell.wrong:
        return f"✗ {cell.note}"
    return cell.note if cell.look is Look.NOT_LOADED else cell.text


def _text(words: str, x: float, y: float, kind: str, whole: str = "") -> Markup:
    title = Markup("<title>{}</title>").format(clean(whole)) if whole else ""
    return Markup('<text class="{}" x="{}" y="{}">{}{}</text>').format(
        kind, _n(x), _n(y), clean(words), title
    )


def _fit(text: str, width: float) -> str:
    room = max(1, int(width / _CHARACTER))
    return text if len(text) <= room else f"{text[: room - 1]}…"


def _n(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")


# --- trends ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Trend:
    """One number over the nights, oldest first; None: that night does not have it."""

    title: str
    values: tuple[float | None, ...]
    low: float  # of the picture's lower and upper edge
    high: float

    @property
    def known(self) -> list[float]:
        return [value for value in self.values if value is not None]


_WIDE, _HIGH, _EDGE = 600.0, 80.0, 4.0


def trend(shown: Trend, about: str) -> Markup:
    """A line over the width it is given; gaps where a number is missing. `about` says it in
    words."""
    points = list(_points(shown))
    runs: list[list[tuple[float, float]]] = []
    for before, point in pairwise([None, *points]):
        if point is not None:
            if before is None:
                runs.append([])
            runs[-1].append(point)
    line = "".join("M" + "L".join(f"{_n(x)} {_n(y)}" for x, y in run) for run in runs)
    # A line of no length with round ends is a dot, however the picture is stretched.
    dots = "".join(f"M{_n(x)} {_n(y)}h0" for run in runs for x, y in run if len(run) == 1)
    if runs and len(runs[-1]) > 1:
        dots += "M{} {}h0".format(*map(_n, runs[-1][-1]))
    return Markup(
        '<svg class="trend" role="img" viewBox="0 0 {} {}" preserveAspectRatio="none">'
        '<title>{}</title><path class="line" d="{}"/><path class="dot" d="{}"/></svg>'
    ).format(_n(_WIDE), _n(_HIGH), clean(f"{shown.title}: {about}"), line, dots)


def _points(shown: Trend) -> Iterator[tuple[float, float] | None]:
    span = (shown.high - shown.low) or 1.0
    step = (_WIDE - 2 * _EDGE) / max(1, len(shown.values) - 1)
    for index, value in enumerate(shown.values):
        if value is None:
            yield None
        else:
            part = min(1.0, max(0.0, (value - shown.low) / span))
            yield _EDGE + index * step, _HIGH - _EDGE - part * (_HIGH - 2 * _EDGE)
