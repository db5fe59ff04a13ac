# SPDX-License-Identifier: GPL-2.0-only
"""Each rule of livepatch that the model knows, one order each."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.errors import UsageError
from orchestrator.model import model, orders, refused
from orchestrator.nouns import Defect, Failure, Load, ModuleSet, ModuleSpec, Probe
from orchestrator.verdicts import Expectation

COMES, WHOLE = "pre post", "pre post preun postun"
BARE: frozenset[str] = frozenset()
UPSTREAM = frozenset({"clears-on-unload"})
SERIES = frozenset({"clears-on-unload", "clears-on-refusal"})


def livepatch(name: str, *objects: str, replace: bool = False) -> ModuleSpec:
    return ModuleSpec(
        name,
        "livepatch",
        patches=dict.fromkeys(objects, ("show",)),
        replace=replace,
        klp_symbols=dict.fromkeys(objects, ("auto",)),
        failures=(Failure("fail", "pre_patch"), Failure("fail_init", "init")),
        parameters=("other",),
    )


SHOWN = {n: n for n in ("a", "b", "both", "r", "s", "one", "far", "later", "placed")}
CALLS = dict(
    zip(("pre_patch", "post_patch", "pre_unpatch", "post_unpatch"), WHOLE.split(), strict=True)
)
SET = ModuleSet(
    name="model",
    description="t and u are targets, a and b patch t, r and s replace, ab patches t and u",
    modules=(
        ModuleSpec("t", "target", failures=(Failure("fail", "init"),)),
        ModuleSpec("u", "target"),
        ModuleSpec("filler", "plain"),
        livepatch("a", "t"),
        livepatch("b", "t"),
        livepatch("both", "t", "u"),
        livepatch("r", "t", replace=True),
        livepatch("s", "t", replace=True),
        livepatch("v", "vmlinux"),
        ModuleSpec("x", "livepatch", patches={"t": ()}, klp_symbols={"vmlinux": ("f",)}),
        ModuleSpec("y", "livepatch", patches={"u": ()}, klp_symbols={"t": ("f",)}),
        ModuleSpec("w", "target", depends=("u",)),
        ModuleSpec("needy", "target", depends=("u", "t")),
        livepatch("of_w", "w"),
        replace(livepatch("user", "u"), depends=("filler",)),
        replace(livepatch("s1", "u"), states={"1": 1}),
        replace(livepatch("s2", "u"), states={"1": 2, "2": 0}),
        replace(livepatch("whole", "u", replace=True), states={"2": 0, "1": 2}),
        replace(livepatch("lacks", "u", replace=True), states={"1": 9}),
        replace(livepatch("old", "u", "t"), states={"1": 1}, defects=(Defect("t", 2, False),)),
        replace(
            livepatch("one", "t", "u"),
            patches={"t": ("show", "twin,2"), "u": ("twin",)},
            failures=(Failure("fail_t", "pre_patch", "t"), Failure("fail_u", "pre_patch", "u")),
        ),
        replace(livepatch("never", "t", "u"), defects=(Defect("t", 22, written=False),)),
        replace(livepatch("found_late", "t", "u"), defects=(Defect("t", 22, written=True),)),
        replace(livepatch("far", "t"), klp_symbols={"t": ("auto", "u:f,1", "vmlinux:g")}),
        replace(livepatch("later", "t"), klp_sections={"t": ((), ("u",))}),
        replace(livepatch("placed", "t", replace=True), patches={"t": ("show,1",)}),
    ),
    probes=(
        Probe("t", "t", "show", "t", SHOWN, file="/t"),
        Probe("init", "t", "show", "t", SHOWN, file="/i", at="init"),
        Probe("cmdline", "vmlinux", "show", "v0", {"v": "v1"}, file="/proc/cmdline"),
        *(
            Probe(f"{p}-{o}", p, o, "none", CALLS, file=f"/{p}/{o}", at="callbacks")
            for p in ("a", "b", "one")
            for o in ("t", "u")
        ),
    ),
    directory=Path("nowhere"),
)


def after(order: str, capabilities: frozenset[str] = BARE) -> Expectation:
    return model.expectations(SET, orders.parse(order, SET), capabilities)[-1]


@pytest.mark.parametrize(
    ("order", "errno"),
    [
        ("+a", 0),
        ("+a +a", 17),  # EEXIST
        ("+t +t", 17),
        ("+a a=0 +a", 17),  # disabled, the module still has its name
        ("-t", 2),  # ENOENT
        ("+a -a", 11),  # EWOULDBLOCK: enabled
        ("+t +a -a", 11),
        ("+a a=0 -a", 0),
        ("a=0", 2),
        ("+a a=0 a=0", 2),  # /sys/kernel/livepatch/a is gone
        ("+a a=0 a=1", 2),
        ("+a a=1", 22),  # EINVAL: already in the requested state
        ("+a -t", 2),
        ("+a +t -t", 0),  # no reference is held on a target
        ("a.fail=1", 2),
        ("+a a.fail=1", 0),
        ("+a a.other=1", 0),
        ("+a[fail=19] +t", 19),
        ("+a[fail=19]", 0),  # nothing to patch yet, no callback
        ("+t +a[fail=22]", 22),
        ("+v[fail=22]", 22),  # vmlinux is always there
        ("+t +v[fail=5,fail=0]", 0),
        ("+a[fail_init=12]", 12),
        ("+t[fail=5]", 5),
        ("+a[fail=19] +t[fail=5]", 19),  # pre_patch comes before init
        ("+a +t[fail=5]", 5),
        ("+a[fail=19] a.fail=0 +t", 0),
        ("+a[fail=19] a=0 +t", 0),  # a disabled livepatch is not asked
        ("+a[fail=19] a=0 -a +a +t", 0),  # parameters are the defaults again
        ("+a a.fail=19 +t", 19),
        ("+t +a a.fail=19 a=0", 0),
        ("+r +s -r", 0),  # replaced: its reference is given back
        ("+r +s -s", 11),
        ("+r +s r=0", 2),
        ("+r +s +r", 17),
        ("+r +s -r +r", 0),
        # A symbol is missing: klp_init_object_loaded() fails, early or late.
        ("+never", 0),
        ("+never +t", 22),
        ("+never +u", 0),
        ("+t +never", 22),
        ("+u +never", 0),
        ("+never[fail=19] +t", 22),  # before pre_patch is asked
        ("+u +t +never[fail=19]", 22),  # of any object (klp_init_patch())
        ("+u +never[fail=19]", 19),
        ("+never[fail_init=5]", 5),
        ("+never never=0 +t", 0),
        ("+one[fail_u=19] +t", 0),  # one object refuses, another does not
        ("+one[fail_u=19] +u", 19),
        ("+t +u +one[fail_u=19]", 19),
        ("+t +one[fail_u=19]", 0),
        # far names a symbol of u in what it writes for t: EINVAL where u is not there.
        ("+far +u", 0),
        ("+far +t", 22),
        ("+t +far", 22),
        ("+u +far +t", 0),
        ("+u +t +far", 0),
        ("+u +far -u +t", 22),
        ("+u +far +t -u", 0),  # nothing keeps it
        ("+u +far +t -u +u -t +t", 0),
        ("+later +t", 22),
        # w uses a symbol that u exports.
        ("+w", 2),  # ENOENT: simplify_symbols()
        ("+u +w", 0),
        ("+u +w -u", 11),  # EWOULDBLOCK: delete_module(), source_list
        ("+u +w -w -u", 0),
    ],
)
def test_errno(order: str, errno: int) -> None:
    assert after(order).answers == (errno,)


@pytest.mark.parametrize(
    ("order", "modules", "enabled"),
    [
        ("+t +a", "a t", "a"),
        ("+t +a a=0", "a t", ""),
        ("+t +a +b", "a b t", "a b"),
        ("+t +a +b a=0", "a b t", "b"),  # in the middle of the stack
        ("+a +b +r", "a b r", "r"),  # replace takes them all
        ("+r +a", "a r", "r a"),  # without replace nothing is taken
        ("+r +s", "r s", "s"),
        ("+r +s -r", "s", "s"),
        ("+r +s -r +r", "r s", "r"),
        ("+a +t +r[fail=1]", "a t", "a"),  # a refused livepatch is gone and replaced nothing
        ("+a[fail=1] +t", "a", "a"),  # a refused target is gone, the livepatch stays
        ("+a +t[fail=1]", "a", "a"),
        ("+a[fail_init=1]", "", ""),
        ("+t +a -t", "a", "a"),
    ],
)
def test_what_is_loaded_and_enabled(order: str, modules: str, enabled: str) -> None:
    expectation = after(order)
    assert expectation.modules == frozenset(modules.split())
    assert list(expectation.patches) == enabled.split()
    assert all(p.enabled and not p.transition for p in expectation.patches.values())


@pytest.mark.parametrize(
    ("order", "patched"),
    [
        ("+both", {"t": False, "u": False}),
        ("+t +both", {"t": True, "u": False}),
        ("+both +t +u -t", {"t": False, "u": True}),
        ("+both[fail=1] +t", {"t": False, "u": False}),
        ("+both +t[fail=1]", {"t": False, "u": False}),
    ],
)
def test_patched_of_each_object(order: str, patched: dict[str, bool]) -> None:
    assert after(order).patches["both"].objects == patched


@pytest.mark.parametrize(
    ("order", "text"),
    [
        ("+a", None),
        ("+t", "t"),
        ("+t +a", "a"),
        ("+a +t", "a"),
        ("+a +b +t", "b"),
        ("+b +a +t", "a"),
        ("+t +a +b b=0", "a"),
        ("+t +a +b a=0", "b"),
        ("+t +a +b a=0 -a +a", "a"),  # enabled last, on top
        ("+a +b +t -t +t", "b"),
        ("+t +a a=0", "t"),
        ("+r +t +s s=0", "t"),  # r does not come back
        ("+a a=0 +t", "t"),
        ("+a[fail=1] +t a.fail=0 +t", "a"),
    ],
)
def test_which_version_a_probe_shows(order: str, text: str | None) -> None:
    assert after(order).probes["t"] == text


def test_vmlinux_is_always_there() -> None:
    assert after("+t").probes["cmdline"] == "v0"
    expectation = after("+v")
    assert expectation.probes["cmdline"] == "v1"
    assert expectation.patches["v"].objects == {"vmlinux": True}


@pytest.mark.parametrize(
    ("order", "bare", "upstream", "series"),
    [
        ("+a", "unrelocated", "unrelocated", "unrelocated"),
        ("+a +t", "applied", "applied", "applied"),
        ("+t +a", "applied", "applied", "applied"),
        ("+a +t -t", "stale", "unrelocated", "unrelocated"),
        ("+a +t -t +filler", "stale", "unrelocated", "unrelocated"),
        ("+a +t -t +t", "applied", "applied", "applied"),
        ("+a +t +t", "applied", "applied", "applied"),
        # A disabled or replaced livepatch is touched by nobody, on any kernel.
        ("+a +t a=0", "applied", "applied", "applied"),
        ("+a +t a=0 -t", "stale", "stale", "stale"),
        ("+a +t a=0 -t +t", "stale", "stale", "stale"),
        ("+a a=0 +t", "unrelocated", "unrelocated", "unrelocated"),
        ("+a +t -t a=0", "stale", "unrelocated", "unrelocated"),
        ("+a +t +r -t", "stale", "stale", "stale"),
        ("+a +r +t", "unrelocated", "unrelocated", "unrelocated"),
        # Refused by its own callback: written before the callback was asked.
        ("+a[fail=1] +t", "indeterminate", "indeterminate", "unrelocated"),
        ("+a[fail=1] +t +filler", "stale", "stale", "unrelocated"),
        ("+a[fail=1] +t +t", "indeterminate", "indeterminate", "unrelocated"),
        ("+a[fail=1] +t a.fail=0 +t", "applied", "applied", "applied"),
        # Refused by a livepatch after it: taken back as if the target had gone.
        ("+a +b[fail=1] +t", "indeterminate", "unrelocated", "unrelocated"),
        # Refused by a livepatch before it: never heard of the target.
        ("+b[fail=1] +a +t", "unrelocated", "unrelocated", "unrelocated"),
        ("+b +a +t -t b.fail=1 +t", "stale", "unrelocated", "unrelocated"),
        # The target's init fails: klp_module_going().
        ("+a +t[fail=1]", "indeterminate", "unrelocated", "unrelocated"),
        ("+a +t[fail=1] +t", "applied", "applied", "applied"),
        ("+a a=0 +t[fail=1]", "unrelocated", "unrelocated", "unrelocated"),
        # Refused by one that finds a symbol missing: as by a callback.
        ("+a +never +t", "indeterminate", "unrelocated", "unrelocated"),
    ],
)
def test_relocations(order: str, bare: str, upstream: str, series: str) -> None:
    found = [after(order, c).relocations["a", "t"] for c in (BARE, UPSTREAM, SERIES)]
    assert found == [bare, upstream, series]


@pytest.mark.parametrize(
    ("order", "bare", "series"),
    [
        # All symbols of a klp section are found before any of it is written, functions later.
        ("+never +t", "unrelocated", "unrelocated"),
        ("+never +t +t", "unrelocated", "unrelocated"),
        ("+found_late +t", "indeterminate", "unrelocated"),
        ("+found_late +t +u", "stale", "unrelocated"),
        ("+found_late found_late=0 +t", "unrelocated", "unrelocated"),
        # Another module's symbol: all of a klp section are found before any of it is written.
        ("+far +t", "unrelocated", "unrelocated"),
        ("+later +t", "indeterminate", "unrelocated"),  # the section before it is written
    ],
)
def test_relocations_of_what_is_refused(order: str, bare: str, series: str) -> None:
    name = order.split()[0].removeprefix("+")
    assert [after(order, c).relocations[name, "t"] for c in (BARE, SERIES)] == [bare, series]


def test_no_probe_calls_into_a_module_that_is_gone() -> None:
    assert after("+u +far +t").probes["t"] == "far"
    gone = after("+u +far +t -u")
    assert gone.relocations["far", "t"] == "applied"  # and what was written stays
    assert "t" not in gone.probes and gone.probes["init"] == "far"
    assert after("+u +far +t -u far=0").probes["t"] == "t"
    assert after("+u +far +t -u +u").probes["t"] == "far"


@pytest.mark.parametrize(
    ("order", "warnings"),
    [
        ("+a", ()),
        ("+t", ()),
        ("+a +t", ("x.c:1 f",)),
        ("+a +t +t", ("x.c:1 f",)),  # asked again, it warns again
        ("+a +t +b", ()),
        ("+a +t a=0", ()),
        ("+a +t -t", ()),
        ("+u +far +t", ("x.c:2 f",)),
        ("+u +far +t -u", ()),  # nobody asks
    ],
)
def test_a_function_warns_while_its_version_is_on_top(
    order: str, warnings: tuple[str, ...]
) -> None:
    probes = tuple(
        replace(probe, warns={"a": "x.c:1 f", "far": "x.c:2 f"}) if probe.name == "t" else probe
        for probe in SET.probes
    )
    mine = replace(SET, probes=probes)
    found = model.expectations(mine, orders.parse(order, mine), BARE)[-1]
    assert found.warnings == warnings


def test_functions_in_sysfs_have_their_position() -> None:
    """klp_init_func(), whether the object is there or not."""
    assert after("+one").patches["one"].functions == {"t": ("show,1", "twin,2"), "u": ("twin,1",)}
    assert after("+v").patches["v"].functions == {"vmlinux": ("show,1",)}


@pytest.mark.parametrize(
    ("order", "errno"),
    [
        ("+t[fail=17]", 16),
        ("+t +a[fail=17]", 16),  # klp_enable_patch() is called by its init
        ("+a[fail=17] +t", 17),  # klp_module_coming() is not
        ("+t +t", 17),
        ("+t[fail=19]", 19),
    ],
)
def test_eexist_of_an_init_is_another_errno_where_that_is_reserved(order: str, errno: int) -> None:
    assert after(order, frozenset({"reserves-eexist"})).answers == (errno,)
    assert after(order).answers == (19 if errno == 19 else 17,)


def test_eexist_of_an_init_is_another_errno_in_a_race_as_well() -> None:
    reserving = frozenset({"reserves-eexist"})
    assert ends("+a", "{+t[fail=17] +filler}", reserving) == {"16 0": {"a filler/a"}}
    assert ends("+a", "{+t[fail=17] +filler}", BARE) == {"17 0": {"a filler/a"}}


@pytest.mark.parametrize(
    ("order", "shown"),
    [
        ("+t +placed", "placed"),
        ("+placed +t", "placed"),
        ("+t +r +placed", "placed"),
        ("+t +placed +r", "r"),
        ("+t +placed +a", "a"),
        ("+t +a +placed placed=0", "t"),
    ],
)
def test_a_unique_name_is_its_first_position(order: str, shown: str) -> None:
    """klp_find_func(); a name that is not unique needs one, or is refused."""
    probe = replace(SET.probes[0], function="show,1")
    placed = replace(SET, probes=(probe, *SET.probes[1:]))
    for module_set in (SET, placed):
        found = model.expectations(module_set, orders.parse(order, module_set), BARE)[-1]
        assert found.probes["t"] == shown


@pytest.mark.parametrize(
    ("order", "shown"),
    [
        ("+t", None),
        ("+a", "none"),
        ("+a +t", COMES),
        ("+t +a", COMES),
        ("+a +u", "none"),
        ("+a +t -t", WHOLE),
        ("+a +t -t +filler", WHOLE),
        ("+a +t -t +t", COMES),  # from the last pre_patch on
        ("+a +t a=0", WHOLE),
        ("+a +t a=0 -t", WHOLE),  # disabled: nobody is called
        ("+a +t a=0 -t +t", WHOLE),
        ("+a a=0 +t", "none"),
        ("+a +t +r", COMES),  # replaced: neither (klp_unpatch_replaced_patches())
        ("+a +t a=0 -a +a", COMES),
        ("+a +t a=0 -a -t +a", "none"),
        ("+a[fail=1] +t", "pre"),  # and no post_unpatch
        ("+a[fail=1] +t +t", "pre"),
        ("+a +t -t a.fail=1 +t", "pre"),
        ("+a +t[fail=1]", WHOLE),
        ("+a +b[fail=1] +t", WHOLE),  # taken back
        ("+b[fail=1] +a +t", "none"),  # never heard of it
        ("+a +never +t", WHOLE),
        ("+never +a +t", "none"),
        ("+a (+t -t)*50", WHOLE),
    ],
)
def test_which_callbacks_are_called(order: str, shown: str | None) -> None:
    assert after(order).probes["a-t"] == shown


def test_each_objects_callbacks_are_its_own() -> None:
    probes = after("+one[fail_u=19] +t +u -t").probes
    assert (probes["one-t"], probes["one-u"]) == (WHOLE, "pre")


def test_which_callbacks_were_called_at_the_same_time_nobody_can_tell() -> None:
    """Until the next pre_patch; what the race does not touch stays known."""
    assert "a-t" not in after("+a {+t +u}").probes
    assert "a-t" not in after("+a {+t +u} +filler -t").probes
    assert after("+a {+t +u} -t +t").probes["a-t"] == COMES
    assert after("+a +t {+u +filler}").probes["a-t"] == COMES
    assert after("+a +t {a.fail=1 +filler}").probes["a-t"] == COMES


def test_each_object_and_each_livepatch_has_its_own_relocations() -> None:
    assert after("+both +t +u -t").relocations == {("both", "t"): "stale", ("both", "u"): "applied"}
    assert after("+t +a -t +b +t").relocations == {("a", "t"): "applied", ("b", "t"): "applied"}
    assert after("+a +t a=0 -a").relocations == {}
    assert after("+t +a[fail=1]").relocations == {}


def test_vmlinux_relocations_are_there_from_load_on() -> None:
    assert after("+v v=0").relocations == {("v", "vmlinux"): "applied"}
    # Written by the module loader, whether the livepatch patches vmlinux or not.
    assert after("+x").relocations == {("x", "vmlinux"): "applied"}


def test_relocations_of_an_object_that_is_not_patched_are_never_applied() -> None:
    assert after("+t +y").relocations == {("y", "t"): "unrelocated"}
    assert after("+y +t").relocations == {("y", "t"): "unrelocated"}


def test_an_order_that_comes_back_comes_back_to_the_same_state() -> None:
    """What exploration will rely on: states are hashable, and equal when nothing differs."""

    def state(order: str) -> model.State:
        now = model.State()
        for event in orders.parse(order).events:
            ((now, _),) = model.outcomes(SET, now, event, SERIES)
        return replace(now, calls=frozenset())

    assert {state("+a[fail=3] +t a=0 -a"), state("-t +v v=0 -v")} == {model.State()}
    assert state("+a +t -t") == state("+a")
    assert state("+a a.fail=0") == state("+a")
    assert state("+a +b") != state("+b +a")


def test_every_event_says_why() -> None:
    texts = [e.why for e in model.expectations(SET, orders.parse("+a[fail=19] +t a=0 -t +r"), BARE)]
    assert texts == [
        "a loads, waits for t",
        "t is refused: pre_patch of a fails: ENODEV (19)",
        "a is disabled for good, its module stays",
        "t is not loaded: ENOENT (2)",
        "r loads, waits for t",
    ]


def test_a_probe_without_a_text_for_the_livepatch_is_the_sets_fault() -> None:
    with pytest.raises(UsageError, match="does not say what it shows under x"):
        model.expectations(
            ModuleSet(
                "broken",
                Path("nowhere"),
                (ModuleSpec("x", "livepatch", patches={"vmlinux": ("f",)}),),
                probes=(Probe("p", "vmlinux", "f", "o", file="/p"),),
            ),
            orders.parse("+x"),
            BARE,
        )


@pytest.mark.parametrize(
    ("order", "now", "at_init"),
    [
        ("+a", None, None),
        ("+a +t", "a", "a"),
        ("+t +a", "a", "t"),  # it came before
        ("+a +t a=0", "t", "a"),  # what init saw does not change
        ("+a +t +b", "b", "a"),
        ("+a +b +t", "b", "b"),
        ("+a +t -t", None, None),
        ("+a +t -t a=0 +t", "t", "t"),
        ("+a +t[fail=5]", None, None),
    ],
)
def test_what_a_targets_own_init_sees(order: str, now: str | None, at_init: str | None) -> None:
    probes = after(order).probes
    assert (probes["t"], probes["init"]) == (now, at_init)


# --- bursts -------------------------------------------------------------------------------------


def test_a_burst_ends_like_its_events_written_out() -> None:
    once = "+t -t a=0 -a +a"
    for capabilities in (BARE, UPSTREAM, SERIES):
        burst = after(f"+t +a (-t +t -t)*7 ({once})*3", capabilities)
        written_out = after(" ".join(["+t +a", *["-t +t -t"] * 7, *[once] * 3]), capabilities)
        assert burst.answers == (0,) * 15
        assert (burst.modules, burst.patches) == (written_out.modules, written_out.patches)
        assert burst.relocations == written_out.relocations


def test_a_burst_has_every_answer() -> None:
    assert after("(+t)*3").answers == (0, 17, 17)
    assert after("+a (-t +t a=0)*2").answers == (2, 0, 0, 0, 0, 2)
    assert len(after("(+t -t)*10000").answers) == 20_000


def test_what_was_written_and_left_within_one_look_may_be_any_bytes() -> None:
    assert after("+a (+t -t)*2").relocations["a", "t"] == "indeterminate"
    assert after("+a (+t -t)*2 +filler").relocations["a", "t"] == "stale"
    assert after("+a +t (-t +filler -filler)*2").relocations["a", "t"] == "stale"
    assert after("+a +t (-t +t -t)*2").relocations["a", "t"] == "indeterminate"
    assert after("+a (+t -t)*2", SERIES).relocations["a", "t"] == "unrelocated"


# --- races --------------------------------------------------------------------------------------


def ends(before: str, race: str, capabilities: frozenset[str] = SERIES) -> dict[str, set[str]]:
    """`answers` -> the states that go with them, each as `modules/livepatches, lowest first`."""
    state = model.State()
    for event in orders.parse(before, SET).events if before else ():
        state, _ = model.outcomes(SET, state, event, capabilities)[0]
    (event,) = orders.parse(race, SET).events
    found: dict[str, set[str]] = {}
    for end, expectation in model.outcomes(SET, state, event, capabilities):
        answers = " ".join(map(str, expectation.answers))
        shown = f"{' '.join(sorted(end.loaded))}/{' '.join(end.stack)}"
        found.setdefault(answers, set()).add(shown)
    return found


@pytest.mark.parametrize(
    ("before", "race", "expected"),
    [
        # The same end, whoever comes first: klp_mutex.
        ("", "{+a +t}", {"0 0": {"a t/a"}}),
        ("+a", "{+t +u}", {"0 0": {"a t u/a"}}),
        ("+t +a", "{a=0 -t}", {"0 0": {"a/"}}),
        # Two loads of one module: the second waits for the first.
        ("", "{+t +t}", {"0 17": {"t/"}, "17 0": {"t/"}}),
        ("+t", "{+t +t}", {"17 17": {"t/"}}),
        ("", "{+t[fail=5] +t}", {"5 0": {"t/"}, "5 16": {"/"}, "17 0": {"t/"}}),
        ("+a[fail=9]", "{+t +t}", {"9 9": {"a/a"}, "9 16": {"a/a"}, "16 9": {"a/a"}}),
        # Unloading what is on its way in or out.
        ("", "{+t -t}", {"0 0": {"/"}, "0 2": {"t/"}, "0 16": {"t/"}, "0 11": {"t/"}}),
        ("+t", "{+t -t}", {"17 0": {"/"}, "16 0": {"/"}, "0 0": {"t/"}}),
        ("+t", "{-t -t}", {"0 2": {"/"}, "0 16": {"/"}, "2 0": {"/"}, "16 0": {"/"}}),
        ("+a", "{+a -a}", {"17 11": {"a/a"}}),
        # One transition at a time.
        ("", "{+a +b}", {"0 0": {"a b/a b", "a b/b a"}, "0 16": {"a/a"}, "16 0": {"b/b"}}),
        ("+a", "{a=0 +b}", {"0 0": {"a b/b"}, "0 16": {"a/"}, "16 0": {"a b/a b"}}),
        ("+a", "{a=0 a=1}", {"0 22": {"a/"}, "0 19": {"a/"}, "0 0": {"a/a"}}),
        ("+a", "{a=0 a=0}", {"0 22": {"a/"}, "0 19": {"a/"}, "22 0": {"a/"}, "19 0": {"a/"}}),
        # The livepatch gives its module back only when its transition has ended.
        ("+a", "{a=0 -a}", {"0 0": {"/"}, "0 11": {"a/"}}),
        # Opened before the start, and not there then.
        ("", "{+a a=0}", {"0 2": {"a/a"}}),
        ("", "{+a a.fail=5}", {"0 2": {"a/a"}}),
        # A load holds what it depends on, or finds it gone.
        ("+u", "{-u +w}", {"0 2": {"/"}, "11 0": {"u w/"}}),
        ("+filler", "{-filler +user}", {"0 2": {"/"}, "11 0": {"filler user/user"}}),
        ("+u +w", "{-w -u}", {"0 0": {"/"}, "0 11": {"u/"}}),
        ("", "{+u +w}", {"0 2": {"u/"}, "0 0": {"u w/"}}),
        # So does one that is refused, and what it holds is neither its own name nor longer held.
        ("+u", "{-u +needy}", {"0 2": {"/"}, "11 2": {"u/"}}),
        (
            "",
            "{+u +w -u}",
            {"0 2 0": {"/"}, "0 2 2": {"u/"}, "0 2 16": {"u/"}, "0 2 11": {"u/"}}
            | {"0 0 2": {"u w/"}, "0 0 16": {"u w/"}, "0 0 11": {"u w/"}},
        ),
        (
            "+u +of_w[fail=9]",
            "{-u +w}",
            {"0 2": {"of_w/of_w"}, "0 9": {"of_w/of_w"}, "11 9": {"of_w u/of_w"}},
        ),
        (
            "+filler +u",
            "{+user[fail=9] -filler}",
            {"2 0": {"u/"}, "9 0": {"u/"}, "9 11": {"filler u/"}},
        ),
        # Who needs a module that is coming waits for its init.
        ("+u", "{+t[fail=5] +needy}", {"5 2": {"u/"}}),
        ("+u", "{+t +needy}", {"0 2": {"t u/"}, "0 0": {"needy t u/"}}),
        # What lacks symbols is seen by nobody but another load of it.
        ("+u", "{+needy -needy}", {"2 2": {"u/"}}),
        ("+u", "{+needy +needy}", {"2 2": {"u/"}, "2 16": {"u/"}, "16 2": {"u/"}}),
        # It is no business of a livepatch that is being disabled.
        ("+u +w +of_w", "{of_w=0 -u}", {"0 11": {"of_w u w/"}}),
        # A livepatch that meets a target whose init is yet to fail.
        ("", "{+t[fail=5] +a[fail=9]}", {"5 0": {"a/a"}, "5 9": {"/"}, "9 0": {"a/a"}}),
    ],
)
def test_how_a_race_may_end(before: str, race: str, expected: dict[str, set[str]]) -> None:
    assert ends(before, race) == expected


@pytest.mark.parametrize(
    ("order", "answer", "enabled"),
    [
        ("+s1 +s2", 0, "s1 s2"),
        ("+s2 +s1", 22, "s2"),  # an older version
        ("+s1 +user", 2, "s1"),
        ("+s1 +filler +user", 0, "s1 user"),  # knows nothing of states: it may, beside others
        ("+s1 +r", 22, "s1"),  # and may not, in their place
        ("+s1 +s2 +whole", 0, "whole"),
        ("+s1 +s2 +lacks", 22, "s1 s2"),
        ("+s1 +lacks", 0, "lacks"),
        ("+lacks +whole", 22, "lacks"),
        ("+whole +s2", 0, "whole s2"),
        ("+s2 s2=0 +s1", 0, "s1"),  # who is disabled, or replaced, has no say
        ("+s1 +s2 +whole whole=0 +r", 0, "r"),
        ("+s1 +s1[fail=9]", 17, "s1"),
        ("+u +s2 +s1[fail=9]", 22, "s2"),  # before any callback is asked
        ("+u +s2 +s1[fail_init=9]", 9, "s2"),
        ("+t +s2 +old", 22, "s2"),  # and before any object is looked at
        ("+t +old", 2, ""),
    ],
)
def test_states_of_enabled_livepatches_bind_the_next(order: str, answer: int, enabled: str) -> None:
    last = after(order)
    assert last.answers == (answer,)
    assert " ".join(last.patches) == enabled
    if answer:
        assert last.modules == after(order.rpartition(" ")[0]).modules


@pytest.mark.parametrize(
    ("before", "race", "expected"),
    [
        ("", "{+s1 +s2}", {"0 0": {"s1 s2/s1 s2"}, "22 0": {"s2/s2"}, "0 16": {"s1/s1"}}),
        # It is asked before the transition is: EINVAL, and no EBUSY.
        ("+s2", "{s2=0 +s1}", {"0 22": {"s2/"}, "0 0": {"s1 s2/s1"}}),
        # One that is being replaced still has its say.
        ("+s2", "{+whole +s1}", {"0 22": {"s2 whole/whole"}}),
        ("+t +a", "{a=0 +never}", {"0 22": {"a t/"}}),
        ("+t +a", "{a=0 +b[fail=9]}", {"0 16": {"a t/"}, "0 9": {"a t/"}}),
    ],
)
def test_how_a_race_of_states_may_end(
    before: str, race: str, expected: dict[str, set[str]]
) -> None:
    assert ends(before, race) == expected


@pytest.mark.parametrize(
    ("before", "race", "answers", "expected"),
    [
        ("+u +w +of_w -w", "{-u +w}", (11, 8), {("of_w u", "w")}),  # the refused load holds it
        ("+u +w +of_w -w", "{-u +w}", (0, 8), {("of_w", "w")}),
        ("+u +w +of_w -w", "{-u +w}", (0, 2), set()),  # nothing was refused that should not be
        ("+u +w +of_w -w", "{-u +w}", (16, 8), set()),
        ("+t", "{-t +t}", (0, 8), {("", "t")}),
        ("", "{+t +t}", (8, 16), {("", "t")}),
        ("", "{+t +t}", (8, 17), set()),
        ("", "{+t +u -t}", (8, 8, 16), {("", "t u")}),
    ],
)
def test_what_a_wrong_refusal_explains_in_a_race(
    before: str, race: str, answers: tuple[int, ...], expected: set[tuple[str, str]]
) -> None:
    """(modules afterwards, modules that were refused)"""
    state = refused.before(SET, orders.parse(before, SET).events if before else (), BARE)
    (event,) = orders.parse(race, SET).events
    ways = refused.after(SET, BARE, state, event, answers, 8)
    assert expected == {
        (" ".join(sorted(way.expectation.modules)), " ".join(sorted(way.modules))) for way in ways
    }


def test_a_races_first_end_is_its_events_in_turn() -> None:
    assert after("+t {-t -t}").answers == (0, 2)
    assert after("{+a +b}").modules == {"a", "b"}
    assert after("+a {+t a=0}").probes["init"] == "a"
    assert after("+a {a=0 +t}").probes["init"] == "t"


@pytest.mark.parametrize(
    ("before", "race", "expected"),
    [
        # The target has been offered to the livepatch, and its init runs after that is disabled.
        ("+a", "{+t a=0}", {("unrelocated", "t"), ("applied", "t"), ("applied", "a")}),
        # Enabled between the two: the same; and during its transition either may be seen.
        ("", "{+t +a}", {("applied", "t"), ("applied", "a")}),
        ("+b", "{+t a=1}", {("", "b")}),
        # A livepatch that replaces: until its transition ends the other one is in the list, too,
        # and its version is what tasks run that are not switched yet.
        ("+a", "{+t +r}", {("applied", "a"), ("applied", "r"), ("unrelocated", "r")}),
    ],
)
def test_what_the_init_of_a_target_may_see_in_a_race(
    before: str, race: str, expected: set[tuple[str, str]]
) -> None:
    """(klp relocations of `a` for the target, what its init saw)"""
    state = model.State()
    for event in orders.parse(before, SET).events if before else ():
        state, _ = model.outcomes(SET, state, event, SERIES)[0]
    (event,) = orders.parse(race, SET).events
    found = {
        (str(expectation.relocations.get(("a", "t"), "")), expectation.probes["init"])
        for _, expectation in model.outcomes(SET, state, event, SERIES)
    }
    assert found == expected


def test_relocations_after_a_race() -> None:
    def found(capabilities: frozenset[str]) -> set[str]:
        state, _ = model.outcomes(SET, model.State(), Load("t"), capabilities)[0]
        (race,) = orders.parse("{+a -t}").events
        outcomes = model.outcomes(SET, state, race, capabilities)
        return {expectation.relocations["a", "t"] for _, expectation in outcomes}

    assert found(SERIES) == {"unrelocated"}
    assert found(BARE) == {"unrelocated", "indeterminate"}


def test_a_race_of_four_is_soon_thought_through() -> None:
    found = ends("+t +a", "{a=0 +b -t -a}")
    assert set(found) == {"0 0 0 0", "0 0 0 11", "0 16 0 0", "0 16 0 11", "16 0 0 11"}
