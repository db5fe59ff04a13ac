# SPDX-License-Identifier: GPL-2.0-only
"""The notation of orders."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import UsageError
from orchestrator.model import orders
from orchestrator.nouns import (
    Burst,
    Event,
    Failure,
    Load,
    ModuleSet,
    ModuleSpec,
    Order,
    Race,
    SetEnabled,
    SetParameter,
    Unload,
)

SET = ModuleSet(
    name="basic",
    description="",
    modules=(
        ModuleSpec("klp_target", "target"),
        ModuleSpec(
            "klp_patch",
            "livepatch",
            failures=(
                Failure("fail_pre_patch", "pre_patch"),
                Failure("returned", "pre_patch", negative=True),
            ),
            parameters=("verbose",),
        ),
        ModuleSpec("filler", "plain"),
    ),
    probes=(),
    directory=Path("nowhere"),
)


@pytest.mark.parametrize(
    ("text", "event"),
    [
        ("+klp_patch", Load("klp_patch")),
        ("+klp_patch[a=1,b=-19]", Load("klp_patch", (("a", "1"), ("b", "-19")))),
        ("-klp_target", Unload("klp_target")),
        ("klp_patch=0", SetEnabled("klp_patch", False)),
        ("klp_patch=1", SetEnabled("klp_patch", True)),
        ("+9p", Load("9p")),
        ("8021q=0", SetEnabled("8021q", False)),
        ("0=1", SetEnabled("0", True)),
        ("klp_patch.fail=19", SetParameter("klp_patch", "fail", "19")),
        ("{+a[x=1] b=0}", Race((Load("a", (("x", "1"),)), SetEnabled("b", False)))),
        ("(-a)*10000", Burst((Unload("a"),), 10000)),
        ("(-a +a b.c=1)*1", Burst((Unload("a"), Load("a"), SetParameter("b", "c", "1")), 1)),
    ],
)
def test_each_event_reads_and_writes_back(text: str, event: Event) -> None:
    assert orders.parse(text) == Order((event,))
    assert orders.format_event(event) == text


def test_an_order_comes_back_in_one_line_and_dashes_become_underscores() -> None:
    order = orders.parse(
        "  +livepatch-sample[x=1]\t-livepatch-sample\n livepatch-sample=0 a-b.p=q "
        "{ +a  -b } ( +a\t)*2 "
    )
    assert orders.format(order) == (
        "+livepatch_sample[x=1] -livepatch_sample livepatch_sample=0 a_b.p=q {+a -b} (+a)*2"
    )
    assert orders.parse(orders.format(order)) == order


@pytest.mark.parametrize(
    ("text", "column", "expected"),
    [
        ("+a ++b", 5, "expected a module name after '+', found '+b'"),
        ("+a -", 5, "expected a module name after '-', found the end of the event"),
        ("a", 2, "expected '=' or '.' after the module name"),
        ("+a b=2", 6, "expected 0 or 1 after '=', found '2'"),
        ("a=01", 4, "expected a blank or the end of the order, found '1'"),
        ("+a[x=1", 7, "expected ',' or ']'"),
        ("+a[x]", 5, "expected '=', found ']'"),
        ("+a[]", 4, "expected a parameter name"),
        ("+a[x=1]y", 8, "expected a blank or the end of the order"),
        ("a.b", 4, "expected '=', found the end of the event"),
        ("a.b=", 5, "expected a value after '='"),
        ("+a *", 4, "expected an event"),
        ("{+a}", 4, "expected 2 to 4 events between '{' and '}', not 1, found '}'"),
        ("{+a +b +c +d +e} +f", 16, "expected 2 to 4 events between '{' and '}', not 5"),
        ("{}", 2, "expected an event: '+', '-' or a module name, found '}'"),
        ("{+a +b", 7, "expected a blank or '}', found the end of the event"),
        ("{+a ", 5, "expected an event: '+', '-' or a module name, or '}', found the end"),
        ("{+a +b}+c", 8, "expected a blank or the end of the order"),
        ("{+a {+b +c}}", 5, "expected an event: '+', '-' or a module name, or '}', found '{+b'"),
        ("(+a {+b +c})*2", 5, "expected an event: '+', '-' or a module name, or ')', found '{+b'"),
        ("+x (+a -a)", 11, "expected '*', found the end of the event"),
        ("(+a -a) *2", 8, "expected '*', found the end of the event"),
        ("(+a)*", 6, "expected a number from 1 to 10000 after '*', found the end"),
        ("(+a)*0", 6, "expected a number from 1 to 10000 after '*', found '0'"),
        ("(+a)*10001", 6, "expected a number from 1 to 10000 after '*', found '10001'"),
        ("(+a)*2x", 7, "expected a blank or the end of the order, found 'x'"),
        ("(+a -)*2", 6, "expected a module name after '-', found ')*2'"),
    ],
)
def test_what_is_no_event_is_refused_with_its_column(text: str, column: int, expected: str) -> None:
    with pytest.raises(UsageError) as raised:
        orders.parse(text)
    assert f"column {column}: {expected}" in str(raised.value)
    assert raised.value.hint == orders.NOTATION


@pytest.mark.parametrize("text", ["", "  \n"])
def test_an_empty_order_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="empty"):
        orders.parse(text)


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("+klp_pach", "has no module 'klp_pach'", "did you mean 'klp_patch'? known modules: klp_"),
        ("filler=0", "'filler' is no livepatch", "known livepatches: klp_patch"),
        ("klp_target=1", "'klp_target' is no livepatch", "did you mean"),
        ("+klp_patch[verbos=1]", "has no parameter 'verbos'", "did you mean 'verbose'?"),
        ("filler.x=1", "has no parameter 'x'", "known parameters: none"),
        ("klp_patch.fail_pre_patch=no", "'no' is no errno", "1 to 4095"),
        ("+klp_patch[fail_pre_patch=4096]", "'4096' is no errno", "1 to 4095"),
        ("klp_patch.fail_pre_patch=-19", "fails with errno 19 when it is told 19", "write 19 for"),
        ("klp_patch.returned=0x13", "fails with errno 19 when it is told -19", "write -19 for"),
        ("{+filler +klp_pach}", "has no module 'klp_pach'", "did you mean 'klp_patch'?"),
        ("(-filler filler=0)*3", "'filler' is no livepatch", "known livepatches: klp_patch"),
    ],
)
def test_what_the_set_cannot_do_is_refused(text: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError) as raised:
        orders.parse(f"+klp_target {text}", SET)
    assert message in str(raised.value) and "column 13" in str(raised.value)
    assert hint in raised.value.hint
    with pytest.raises(UsageError) as raised:
        orders.check(orders.parse(f"+klp_target {text}"), SET)
    assert message in str(raised.value) and "event 2" in str(raised.value)


def test_what_merely_fails_in_the_kernel_is_an_order() -> None:
    text = "-klp_target klp_patch=1 klp_patch.verbose=x +filler +filler"
    events = (
        Unload("klp_target"),
        SetEnabled("klp_patch", True),
        SetParameter("klp_patch", "verbose", "x"),
        *(Load("filler"), Load("filler")),
    )
    assert orders.parse(text, SET) == Order(events)


def test_interleavings_are_all_there_once_and_keep_each_sequence() -> None:
    sequences = [orders.parse(text).events for text in ("+a -a", "+b -b", "+c")]
    made = [orders.format(order) for order in orders.interleavings(sequences)]
    assert len(made) == len(set(made)) == 30  # 5! / (2! 2! 1!)
    assert made[0] == "+a -a +b -b +c" and made[-1] == "+c +b -b +a -a"
    assert all(text.index("+a") < text.index("-a") for text in made)
    assert all(text.index("+b") < text.index("-b") for text in made)


def test_a_guest_gets_as_many_cpus_as_its_largest_race_wants() -> None:
    sizes = {"+a": 1, "(+a -a)*9": 1, "{+a +b}": 2, "{+a +b} {+c +d +e} -a": 3}
    assert {t: orders.largest_race(orders.parse(t)) for t in sizes} == sizes
    counted = [orders.plain_events(e) for e in orders.parse("+a (+a -a)*9 {+a +b +c}").events]
    assert counted == [1, 18, 3]
