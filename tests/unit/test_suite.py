# SPDX-License-Identifier: GPL-2.0-only
"""Suites are data: what stands in the files makes sense, and nonsense is refused by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator import catalog
from orchestrator.errors import UsageError
from orchestrator.model import model, orders, suite
from orchestrator.model.suite import CaseEntry, Interleave, SuiteFile
from orchestrator.nouns import Case, ModuleSet, ModuleSpec

FILES = Path(suite.__file__).parents[1] / "suites"
SETS = {
    "two": ModuleSet(
        "two",
        Path("nowhere"),
        (
            ModuleSpec("patch", "livepatch", parameters=("p",)),
            ModuleSpec("a", "target"),
            ModuleSpec("b", "target"),
        ),
    )
}
CASE = CaseEntry("first", "two", "+patch +a", "why")
ALL = Interleave(
    "any", "two", ("+patch patch=0", "+a"), {"patch": "L", "a": "A"}, "why", then="-patch"
)


def test_cases_written_and_made() -> None:
    made = suite.expand(SuiteFile("", (CASE,), (ALL,)), SETS)
    assert [(case.name, orders.format(case.order)) for case in made] == [
        ("first", "+patch +a"),
        ("any+LL=0+A", "+patch patch=0 +a -patch"),
        ("any+L+AL=0", "+patch +a patch=0 -patch"),
        ("any+A+LL=0", "+a +patch patch=0 -patch"),
    ]
    assert {case.why for case in made} == {"why"}


@pytest.mark.parametrize(
    ("file", "says"),
    [
        (SuiteFile("", (replace(CASE, modules="tow"),)), "wants module set 'tow'"),
        (
            SuiteFile("", (replace(CASE, order="+patch +c"),)),
            "'first': order '+patch +c', column 8",
        ),
        (SuiteFile("", (replace(CASE, name="a/b"),)), "'a/b' is no name"),
        (SuiteFile("", (CASE, replace(CASE, order="+a"))), "two cases are named 'first'"),
        (SuiteFile("", (CASE, replace(CASE, name="2nd"))), "'first' and '2nd' are the same order"),
        (SuiteFile("", (), (replace(ALL, letters={"a": "A"}),)), "no letter for module 'patch'"),
        (
            SuiteFile(
                "",
                (),
                (
                    replace(
                        ALL,
                        then="=",
                    ),
                ),
            ),
            "'any': order '=', column 1",
        ),
    ],
)
def test_a_suite_that_makes_no_sense_is_refused(file: SuiteFile, says: str) -> None:
    with pytest.raises(UsageError) as raised:
        suite.expand(file, SETS)
    assert says in str(raised.value)


def test_a_set_that_no_suite_speaks_of_has_its_usual_orders() -> None:
    mine = ModuleSet(
        "mine",
        Path("nowhere"),
        (
            ModuleSpec("low", "plain"),
            ModuleSpec("base", "plain", depends=("low",)),
            ModuleSpec("t", "target", depends=("base",)),
            ModuleSpec("filler", "plain"),
            ModuleSpec("p", "livepatch", patches={"vmlinux": ("f",), "t": ("f",), "gone": ("f",)}),
            ModuleSpec("q", "livepatch", patches={"vmlinux": ("f",)}),
        ),
    )
    made = suite.usual("/mine", mine)
    lines = [orders.format(case.order) for case in made]
    assert lines[0] == "+low +base +p p=0 -p +t -t +filler +t"
    assert "+low +base +t +p -t p=0 +filler -p +t" in lines
    assert {"+q q=0 -q", "+q q=0 -q +q q=0 -q"} <= set(lines)
    assert "+low +base +t +p -t +filler +t p=0 -p" in lines
    assert lines[-2:] == ["+p +q q=0 -q p=0 -p", "+q +p p=0 -p q=0 -q"]
    assert len(lines) == len(set(lines)) == 35 + 2 + 2
    assert {case.module_set for case in made} == {"/mine"}
    for case in made:
        assert all(e.answers == (0,) for e in model.expectations(mine, case.order, frozenset()))


@pytest.mark.parametrize("replacing", [False, True])
def test_usual_orders_have_two_livepatches_of_one_target_both_loaded(replacing: bool) -> None:
    def livepatch(name: str, *needs: str) -> ModuleSpec:
        return ModuleSpec(
            name, "livepatch", patches={"t": ("f",)}, replace=replacing, depends=needs
        )

    mine = ModuleSet(
        "mine",
        Path("nowhere"),
        (
            ModuleSpec("t", "target"),
            ModuleSpec("filler", "plain"),
            *(livepatch("p"), livepatch("q"), livepatch("r", "q")),
        ),
    )
    made = suite.usual("mine", mine)
    lines = [orders.format(case.order) for case in made]
    end = "q=0 -q -p" if replacing else "q=0 -q p=0 -p"
    assert f"+t -t +p +q +filler +t {end}" in lines
    assert f"+p +t +q -t +filler +t {end}" in lines
    assert any(line.startswith("+q +p +t") for line in lines)
    assert not any("+r" in line and line.index("+r") < line.index("+q") for line in lines)
    assert len(lines) == 3 * 35 + 2 * 15 + 1 * 15  # r cannot come before q
    for case in made:
        able = frozenset({"clears-on-unload"})
        assert all(e.answers == (0,) for e in model.expectations(mine, case.order, able))


def cases(name: str) -> tuple[Case, ...]:
    file = catalog.load_toml(FILES / f"{name}.toml", suite.SuiteFile)
    return suite.expand(file, catalog.module_sets())


@pytest.mark.parametrize("path", sorted(FILES.glob("*.toml")), ids=lambda path: path.stem)
def test_every_suite_of_ours_makes_sense_to_the_model(path: Path) -> None:
    sets = catalog.module_sets()
    for case in cases(path.stem):
        assert case.why
        expected = model.expectations(sets[case.module_set], case.order, frozenset())
        assert all(expectation.why for expectation in expected)


def test_the_core_suite_holds_what_it_must() -> None:
    core = {case.name: case for case in cases("core")}
    assert len(core) >= 40
    elsewhere = {"states"}  # its orders are those of tests/vm/test_states.py
    assert {case.module_set for case in core.values()} == set(catalog.module_sets()) - elsewhere
    assert orders.format(core["reload-moved"].order) == (
        "+klp_patch +klp_target -klp_target +filler +klp_target"
    )
    # All orders of one livepatch and two targets, of two livepatches and one target.
    assert {f"two-targets{x}" for x in ("+L+A+B-A", "+L+B+A-A", "+A+L+B-A", "+B+L+A-A")} <= set(
        core
    )
    assert {f"two-targets{x}" for x in ("+A+B+L-A", "+B+A+L-A")} <= set(core)
    stacked = ("+L+U+T", "+U+L+T", "+L+T+U", "+U+T+L", "+T+L+U", "+T+U+L")
    assert {f"stacked{x}" for x in stacked} <= set(core)


def test_an_interleave_that_would_make_too_many_orders_is_refused() -> None:
    """Four sequences of ten events make 5e21."""
    ten = " ".join(["+a -a"] * 5)
    long = " ".join([ten] * 1000)
    for many in ((ten,) * 4, (long, "+patch"), (long, long)):
        wrong = replace(ALL, sequences=many)
        with pytest.raises(UsageError, match=r"'any' makes .* orders, more than 10000"):
            suite.expand(SuiteFile("", (), (wrong,)), SETS)
