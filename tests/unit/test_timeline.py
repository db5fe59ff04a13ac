# SPDX-License-Identifier: GPL-2.0-only
"""What is in which state after each event, and the picture of it."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from pages_samples import HOSTILE, ORDER, STEPS, step
from samples import an_answer

from orchestrator import catalog
from orchestrator.errors import UsageError
from orchestrator.model import words
from orchestrator.model.orders import parse
from orchestrator.pages import svg, timeline
from orchestrator.pages.svg import Trend
from orchestrator.pages.timeline import Look, TimeLine
from orchestrator.verdicts import Modules, Patched, PatchState, Step

NOT_LOADED, LOADED, ENABLED = Look.NOT_LOADED, Look.LOADED, Look.ENABLED


def line(order: str, *steps: Step, clears: bool = False, modules: str = "basic") -> TimeLine:
    capabilities = {"clears-on-unload"} if clears else set()
    return timeline.time_line(catalog.module_set(modules), parse(order), capabilities, steps)


def looks(shown: TimeLine, name: str) -> list[Look]:
    (lifeline,) = [lifeline for lifeline in shown.lifelines if lifeline.name == name]
    return [cell.look for cell in lifeline.cells]


def good(order: str) -> list[Step]:
    return [step(event) for event in order.split(" ")]


@pytest.mark.parametrize("clears", [False, True])
def test_lanes_follow_the_model(clears: bool) -> None:
    order = "+klp_patch +klp_target -klp_target klp_patch=0"
    shown = line(order, *good(order), clears=clears)
    gone = Look.UNRELOCATED if clears else Look.STALE
    assert looks(shown, "klp_patch") == [ENABLED, ENABLED, ENABLED, Look.DISABLED]
    assert looks(shown, "klp_target") == [NOT_LOADED, LOADED, NOT_LOADED, NOT_LOADED]
    assert looks(shown, "klp_patch → klp_target") == [Look.UNRELOCATED, Look.APPLIED, gone, gone]


def test_a_wrong_relocation_is_wrong_in_its_lane() -> None:
    shown = line(ORDER, *STEPS)
    cells = {lifeline.name: lifeline.cells[-1] for lifeline in shown.lifelines}
    assert [name for name, cell in cells.items() if cell.wrong] == ["klp_patch → klp_target"]
    assert cells["klp_patch → klp_target"].text == "wrong: 1 of 1 not applied"
    assert shown.moments[-1].told == "2 of 3 wrong" and shown.moments[0].told == "2 good"


def test_what_was_not_reached_is_not_shown_as_if() -> None:
    shown = line(ORDER, *STEPS[:2])
    assert looks(shown, "klp_target") == [NOT_LOADED, LOADED, *[Look.UNREACHED] * 3]
    assert [m.reached for m in shown.moments] == [True, True, False, False, False]


def test_refusals_are_told() -> None:
    order = "+klp_callbacks[fail_pre_patch=19] +klp_callbacks_target"
    events = order.split(" ")
    shown = line(order, *map(step, events), modules="callbacks")
    (lifeline,) = [
        lifeline for lifeline in shown.lifelines if lifeline.name == "klp_callbacks_target"
    ]
    assert (
        lifeline.cells[1].text == "not loaded, refused, ENODEV (19)" and not lifeline.cells[1].wrong
    )
    answer = an_answer(19, 8)
    wrong = Step(events[1], (answer,), 0.0, 0.0, 0)
    shown = line(order, step(events[0]), wrong, modules="callbacks")
    (lifeline,) = [
        lifeline for lifeline in shown.lifelines if lifeline.name == "klp_callbacks_target"
    ]
    assert lifeline.cells[1].text == "wrong: ENOEXEC (8), not ENODEV (19)"


def test_sysfs_says_what_is_loaded_and_in_transition() -> None:
    loaded = words.modules(Modules(("klp_patch", "klp_target"), ("klp_patch",)))
    states = (PatchState(enabled=True, transition=moving, objects={}) for moving in (False, True))
    moving = words.patched(Patched("klp_patch", *states))
    shown = line("+klp_patch +klp_target", step("+klp_patch"), step("+klp_target", loaded, moving))
    last = {lifeline.name: lifeline.cells[-1] for lifeline in shown.lifelines}
    assert last["klp_target"].look is NOT_LOADED and last["klp_target"].wrong
    assert last["klp_patch"].look is Look.TRANSITION and last["klp_patch"].wrong


@pytest.mark.parametrize("order", ["{+klp_patch +klp_target}", "(+klp_target -klp_target)*50"])
def test_races_and_bursts_have_lanes(order: str) -> None:
    shown = line(order, step(order))
    assert len(shown.moments) == 1 and "klp_target" in [
        lifeline.name for lifeline in shown.lifelines
    ]


def test_an_order_of_other_modules_is_refused() -> None:
    with pytest.raises(UsageError, match="no module"):
        line("+nobody")


# --- pictures ----------------------------------------------------------------------------------


def texts(picture: str) -> list[str]:
    """All text of an SVG, which has to be well-formed for that."""
    return [text.strip() for text in ET.fromstring(picture).itertext() if text.strip()]


def test_the_picture_says_every_state_in_words() -> None:
    found = texts(svg.lifelines(line(ORDER, *STEPS)))
    for text in ("5 +klp_target", "✗ 2 of 3 wrong", "enabled", "stale", "✗ 1 of 1 not applied"):
        assert text in found, text
    assert any("Wrong at event 5" in text for text in found)


def test_harm_in_a_picture_is_text() -> None:
    shown = timeline.bare([HOSTILE], [step(HOSTILE)])
    picture = svg.lifelines(shown)
    assert "<script" not in picture and "<img" not in picture and texts(picture)


def path(values: tuple[float | None, ...]) -> tuple[str, str]:
    """(line, dots)"""
    picture = svg.trend(Trend("t", values, 0.0, 10.0), "about")
    lines = [element.attrib.get("d", "") for element in ET.fromstring(picture)]
    return lines[1], lines[2]


def test_a_trend_has_gaps_where_nothing_is_known() -> None:
    assert path((0.0, None, 10.0, 5.0))[0] == "M4 76M398.7 4L596 40"
    assert path((0.0, None, 10.0, 5.0))[1] == "M4 76h0M596 40h0"
    assert path(()) == ("", "") == path((None,))
    assert path((5.0,)) == ("M4 40", "M4 40h0")
