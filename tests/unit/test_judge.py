# SPDX-License-Identifier: GPL-2.0-only
"""A good observation passes every check; each single wrong in it turns exactly one check bad."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from samples import a_reading

from orchestrator.errors import HarnessError
from orchestrator.model import words
from orchestrator.model.judge import ALLOWED_TAINT, LIVEPATCH_TAINT, crash_of, judge, with_cmdline
from orchestrator.nouns import (
    BuiltModule,
    BuiltSet,
    KlpRelocation,
    KlpSymbol,
    ModuleSet,
    ModuleSpec,
    Probe,
)
from orchestrator.verdicts import (
    Answers,
    Check,
    CheckKind,
    Expectation,
    Growth,
    Modules,
    Observation,
    PatchState,
    Reading,
    RelocationReading,
    RelocationState,
    Shown,
    Sign,
)

VALUE = KlpSymbol("klp_target", "klp_value", 0)
CALL = KlpSymbol("klp_target", "klp_call", 1)
OTHER = KlpSymbol("other", "x", 0)
RELOCATIONS = (
    KlpRelocation("klp_target", ".text", 0x1C, 26, VALUE, 2, bytes(4)),
    KlpRelocation("klp_target", ".text", 0x20, 20, CALL, 2, bytes(4)),
    KlpRelocation("other", ".data", 8, 22, OTHER, 0, bytes(8)),
)


def a_set(*relocations: KlpRelocation) -> BuiltSet:
    specs = (ModuleSpec("klp_target", "target"), ModuleSpec("klp_patch", "livepatch"))
    path = Path("nowhere.ko")
    return BuiltSet(
        ModuleSet("basic", Path("nowhere"), specs),
        {
            "klp_target": BuiltModule(specs[0], path, (), {}),
            "klp_patch": BuiltModule(specs[1], path, relocations, {}),
        },
    )


BUILT = a_set(*RELOCATIONS)


def reading(index: int, raw: str, leads_to: int | None, symbol: int | None) -> RelocationReading:
    relocation = RELOCATIONS[index]
    return RelocationReading(
        livepatch="klp_patch",
        relocation=relocation,
        type_name=("R_390_GOTENT", "R_390_PLT32DBL", "R_390_64")[index],
        address=0x1000 + relocation.offset,
        raw=bytes.fromhex(raw),
        leads_to=leads_to,
        via="got 0x2000" if index == 0 else "",
        symbol_address=symbol,
        beside="",
    )


PATCH = PatchState(True, False, {"klp_target": True}, {"klp_target": ("f,1", "g,2")})
EXPECTATION = Expectation(
    answers=(0,),
    modules=frozenset({"klp_patch", "klp_target"}),
    patches={"klp_patch": PATCH},
    probes={"target": "version=klp_patch read=42", "gone": None},
    relocations={
        ("klp_patch", "klp_target"): RelocationState.APPLIED,
        ("klp_patch", "other"): RelocationState.UNRELOCATED,
    },
)
GOOD = Observation(
    answers=(0,),
    modules=frozenset({"klp_patch", "klp_target"}),
    patches={"klp_patch": PATCH},
    probes={"target": "version=klp_patch read=42 \n", "gone": None},
    relocations=(
        reading(0, "00000800", 0x5000, 0x5000),
        reading(1, "00001800", 0x6000, 0x6000),
        reading(2, "0000000000000000", 0, None),
    ),
    taint=ALLOWED_TAINT,
    console="klp_patch: loading out-of-tree module taints kernel.",
    qmp_events=("RESUME",),
)


def with_reading(index: int, changed: RelocationReading) -> Observation:
    readings = list(GOOD.relocations)
    readings[index] = changed
    return replace(GOOD, relocations=tuple(readings))


def test_every_promised_thing_is_checked() -> None:
    checks = judge(EXPECTATION, GOOD, None, BUILT)
    assert all(check.good for check in checks)
    assert [check.kind for check in checks] == [
        CheckKind.ANSWER,
        *[CheckKind.RELOCATION] * 3,
        *[CheckKind.VALUE] * 2,
        *[CheckKind.SYSFS] * 2,
        *[CheckKind.HEALTH] * 4,
    ]


@pytest.mark.parametrize(
    ("seen", "kind", "says"),
    [
        (replace(GOOD, answers=(8,)), CheckKind.ANSWER, "ENOEXEC (8)"),
        (
            with_reading(0, reading(0, "00000800", 0x4000, 0x5000)),
            CheckKind.RELOCATION,
            "bytes 00 00 08 00 resolve through got 0x2000 to 0x4000, 0x1000 below the symbol",
        ),
        (
            with_reading(0, reading(0, "00000800", None, 0x5000)),
            CheckKind.RELOCATION,
            "bytes 00 00 08 00 resolve through got 0x2000 to no readable memory",
        ),
        (
            with_reading(1, reading(1, "00000000", 0x1020, 0x6000)),
            CheckKind.RELOCATION,
            "resolve to 0x1020, 0x4fe0 below the symbol, unrelocated: never applied",
        ),
        (
            with_reading(2, reading(2, "0000000000005000", 0x5000, None)),
            CheckKind.RELOCATION,
            "bytes 00 00 00 00 00 00 50 00 resolve to 0x5000",
        ),
        (
            replace(GOOD, probes={"target": "version=klp_patch read=0", "gone": None}),
            CheckKind.VALUE,
            "version=klp_patch read=0",
        ),
        (
            replace(GOOD, probes={"target": None, "gone": None}),
            CheckKind.VALUE,
            "no file",
        ),
        (
            replace(GOOD, probes={**GOOD.probes, "gone": "still here"}),
            CheckKind.VALUE,
            "still here",
        ),
        (
            replace(GOOD, modules=GOOD.modules | {"filler"}),
            CheckKind.SYSFS,
            "filler klp_patch klp_target",
        ),
        (
            replace(GOOD, patches={"klp_patch": replace(PATCH, transition=True)}),
            CheckKind.SYSFS,
            "enabled=1 transition=1 klp_target/patched=1 klp_target/f,1 klp_target/g,2",
        ),
        (
            replace(GOOD, patches={"klp_patch": replace(PATCH, objects={"klp_target": False})}),
            CheckKind.SYSFS,
            "klp_target/patched=0",
        ),
        (
            replace(
                GOOD, patches={"klp_patch": replace(PATCH, functions={"klp_target": ("f,1",)})}
            ),
            CheckKind.SYSFS,
            "enabled=1 transition=0 klp_target/patched=1 klp_target/f,1",
        ),
        (replace(GOOD, patches={}), CheckKind.SYSFS, "not there"),
        (
            replace(GOOD, patches={**GOOD.patches, "stray": PatchState(True, False, {})}),
            CheckKind.SYSFS,
            "enabled=1 transition=0",
        ),
        (replace(GOOD, taint=ALLOWED_TAINT | 1 << 9), CheckKind.HEALTH, "(W O E K)"),
        (replace(GOOD, taint=ALLOWED_TAINT & ~LIVEPATCH_TAINT), CheckKind.HEALTH, "0"),
        (replace(GOOD, reports=("WARNING: at x",)), CheckKind.HEALTH, "WARNING: at x"),
        (replace(GOOD, refusals=("livepatch: no",)), CheckKind.HEALTH, "livepatch: no"),
        (replace(GOOD, crash="BUG: y"), CheckKind.HEALTH, "BUG: y"),
        (replace(GOOD, qmp_events=("GUEST_PANICKED",)), CheckKind.HEALTH, "GUEST_PANICKED"),
        (
            replace(GOOD, qmp_events=("SHUTDOWN guest-reset",)),
            CheckKind.HEALTH,
            "SHUTDOWN guest-reset",
        ),
    ],
)
def test_one_wrong_thing_is_one_bad_check(seen: Observation, kind: CheckKind, says: str) -> None:
    bad = [check for check in judge(EXPECTATION, seen, None, BUILT) if not check.good]
    assert [check.kind for check in bad] == [kind]
    assert says in bad[0].seen


def test_what_stands_beside_an_applied_value_counts() -> None:
    """It leads to the symbol, and is wrong all the same."""
    good = GOOD.relocations[0]
    seen = with_reading(0, replace(good, beside="behind it not 18 00 41 e8"))
    (bad,) = [check for check in judge(EXPECTATION, seen, None, BUILT) if not check.good]
    assert bad.kind is CheckKind.RELOCATION
    assert bad.seen.endswith(", behind it not 18 00 41 e8")


def test_an_applied_relocation_says_what_a_kernel_developer_asks() -> None:
    check = judge(EXPECTATION, GOOD, None, BUILT)[1]
    assert check.subject == "klp_patch .text+0x1c R_390_GOTENT klp_target:klp_value,0"
    assert check.expected == "resolves to klp_target:klp_value,0 at 0x5000"
    assert check.seen == "bytes 00 00 08 00 resolve through got 0x2000 to 0x5000"


GONE = replace(
    EXPECTATION,
    relocations={**EXPECTATION.relocations, ("klp_patch", "klp_target"): RelocationState.STALE},
)
AWAY = replace(GOOD, relocations=tuple(replace(r, symbol_address=None) for r in GOOD.relocations))


def test_what_is_left_must_be_as_last_read() -> None:
    assert all(check.good for check in judge(GONE, AWAY, GOOD, BUILT))
    before = with_reading(1, reading(1, "00001801", 0x6002, 0x6000))
    bad = [check for check in judge(GONE, AWAY, before, BUILT) if not check.good]
    assert [check.expected for check in bad] == ["bytes 00 00 18 01 as before (stale), or cleared"]


def test_what_may_be_left_may_be_cleared_too() -> None:
    """A series under another name than the declared one can clear as well."""
    cleared = with_reading(1, reading(1, "00000000", 0, None))
    assert all(check.good for check in judge(GONE, cleared, GOOD, BUILT))


def test_what_was_written_and_given_up_may_be_anything_but_is_checked() -> None:
    written = {
        **EXPECTATION.relocations,
        ("klp_patch", "klp_target"): RelocationState.INDETERMINATE,
    }
    checks = judge(replace(EXPECTATION, relocations=written), AWAY, None, BUILT)
    assert all(check.good for check in checks)
    assert sum(check.kind is CheckKind.RELOCATION for check in checks) == 3


def test_a_target_that_the_kernel_refused_is_the_kernels_fault() -> None:
    """Its relocations cannot lead to symbols that are nowhere; the harness did its part."""
    refused = replace(AWAY, answers=(8,), modules=frozenset({"klp_patch"}))
    bad = [check for check in judge(EXPECTATION, refused, GOOD, BUILT) if not check.good]
    assert (bad[0].kind, bad[0].seen) == (CheckKind.ANSWER, "ENOEXEC (8)")
    assert [c.seen.endswith("klp_target is not loaded") for c in bad[1:3]] == [True, True]


def test_a_livepatch_that_the_kernel_refused_is_the_kernels_fault() -> None:
    refused = replace(GOOD, answers=(8,), modules=frozenset({"klp_target"}), relocations=())
    bad = [check for check in judge(EXPECTATION, refused, None, BUILT) if not check.good]
    assert [c.seen for c in bad if c.kind is CheckKind.RELOCATION] == [
        "klp_patch is not loaded"
    ] * 2


def without_reading(observation: Observation) -> Observation:
    return replace(observation, relocations=observation.relocations[1:])


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: judge(EXPECTATION, without_reading(GOOD), None, BUILT), "was not read"),
        (lambda: judge(GONE, AWAY, None, BUILT), "after the event before"),
        (lambda: judge(GONE, AWAY, without_reading(GOOD), BUILT), "after the event before"),
        (lambda: judge(EXPECTATION, AWAY, None, BUILT), "no address to compare with"),
        (
            lambda: judge(EXPECTATION, with_reading(0, reading(0, "0000", 1, 0x5000)), None, BUILT),
            "2 bytes instead of 4",
        ),
        (
            lambda: judge(EXPECTATION, GOOD, None, a_set(*RELOCATIONS[:2])),
            "no klp relocation of klp_patch for other",
        ),
        (
            lambda: judge(replace(EXPECTATION, relocations={}), GOOD, None, BUILT),
            "not in the model's expectation",
        ),
        (lambda: judge(EXPECTATION, replace(GOOD, probes={}), None, BUILT), "'target' was not"),
    ],
)
def test_what_the_harness_did_not_do_is_no_verdict(call: Callable[[], object], says: str) -> None:
    with pytest.raises(HarnessError) as raised:
        call()
    assert says in str(raised.value)


def test_a_crash_is_known_by_console_or_qmp() -> None:
    assert crash_of("Oops: 0004", ("GUEST_PANICKED",)) == "Oops: 0004"
    assert crash_of(None, ("RESUME", "GUEST_PANICKED run")) == "QEMU: GUEST_PANICKED run"
    assert (
        crash_of(None, ("RESUME", "SHUTDOWN host-qmp-quit", "RESET host-qmp-system-reset")) is None
    )


def test_the_command_line_stands_where_a_text_asks_for_it() -> None:
    asking = replace(EXPECTATION, probes={"cmdline": "{cmdline} x", "gone": None})
    assert with_cmdline(asking, "a={b}").probes == {"cmdline": "a={b} x", "gone": None}


# --- races and bursts -----------------------------------------------------------------------------


def answered(expected: tuple[int, ...], seen: tuple[int, ...]) -> Check:
    expectation, observation = replace(EXPECTATION, answers=expected), replace(GOOD, answers=seen)
    return judge(expectation, observation, None, BUILT)[0]


def test_answers_of_a_race_are_shown_and_of_a_burst_the_first_that_is_wrong() -> None:
    race = answered((0, 17), (0, 0))
    assert (race.expected, race.seen, race.good) == (
        "success, EEXIST (17)",
        "success, success",
        False,
    )
    burst = answered((0, 17) * 50, (0, 17) * 20 + (8, 17) * 30)
    assert not burst.good
    assert burst.expected == "number 41 of 100: success"
    assert burst.seen == "number 41 of 100: ENOEXEC (8), 30 are wrong"
    good = answered((0, 17) * 50, (0, 17) * 50)
    assert (good.expected, good.seen, good.good) == ("success, EEXIST (17)",) * 2 + (True,)


def test_an_answer_that_nobody_noted_is_the_harnesss_fault() -> None:
    with pytest.raises(HarnessError, match="2 answers were expected and 1 were noted"):
        answered((0, 17), (0,))


@pytest.mark.parametrize(("pages", "good"), [(0, True), (0.5, True), (1, False), (-3, True)])
def test_a_burst_may_not_eat_a_page_a_round(pages: float, good: bool) -> None:
    growth = Growth(30, first=5_000_000, last=5_000_000 + int(30 * 4096 * pages))
    checks = judge(EXPECTATION, replace(GOOD, growth=growth), None, BUILT)
    (check,) = [check for check in checks if check.subject == "memory"]
    assert (check.kind, check.good) == (CheckKind.HEALTH, good)
    assert check.expected == "at most 79 kB more after 30 rounds"
    assert not any(c.subject == "memory" for c in judge(EXPECTATION, GOOD, None, BUILT))


@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_refusal_in_words_is_no_complaint_where_an_event_is_refused(index: int) -> None:
    """Expected to be refused, refused though it was not expected, or still told of the event
    before."""
    refused = replace(GOOD, refusals=("livepatch: no",), answers=(19,) if index == 1 else (0,))
    expected = replace(EXPECTATION, answers=(19,) if index == 0 else (0,))
    before = replace(GOOD, answers=(19,) if index == 2 else (0,))
    checks = judge(expected, refused, before, BUILT)
    assert all(check.good for check in checks if check.kind is CheckKind.HEALTH)


@pytest.mark.parametrize(
    "check",
    [
        words.shown(Shown("probe", "no file", None)),
        words.shown(Shown("probe", None, "no file\n")),
        words.modules(Modules(("none",), ())),
        words.modules(Modules((), ("none",))),
    ],
)
def test_what_is_not_there_is_not_what_is_called_so(check: Check) -> None:
    assert check.expected == check.seen and not check.good


def test_a_module_may_bring_the_taint_that_it_says_it_does() -> None:
    """A license that is not the GPL, staging, a test: the kernel does as it should."""
    tainted = replace(GOOD, taint=GOOD.taint | 1 | 1 << 10)
    bad = [check for check in judge(EXPECTATION, tainted, None, BUILT) if not check.good]
    assert [check.subject for check in bad] == ["taint"]
    target = replace(BUILT.modules["klp_target"], taint=1 | 1 << 10)
    built = replace(BUILT, modules={**BUILT.modules, "klp_target": target})
    assert all(check.good for check in judge(EXPECTATION, tainted, None, built))
    warned = replace(tainted, taint=tainted.taint | 1 << 9)
    assert not all(check.good for check in judge(EXPECTATION, warned, None, built))


def test_without_a_livepatch_nobody_asks_for_its_taint() -> None:
    """A target alone, on a fresh guest."""
    alone = replace(EXPECTATION, modules=frozenset({"klp_target"}), relocations={})
    seen = replace(GOOD, modules=alone.modules, taint=0)
    assert all(c.good for c in judge(alone, seen, None, BUILT) if c.kind is CheckKind.HEALTH)


def test_a_reading_knows_where_its_symbol_was() -> None:
    """Of what leads through a slot: what it holds may be right of an earlier load."""
    before = replace(GOOD.relocations[0], places=(0x4000, 0x5000))
    checks = judge(EXPECTATION, GOOD, with_reading(0, before), BUILT)
    earlier = [c.detail.earlier for c in checks if isinstance(c.detail, Reading)]
    assert earlier == [(0x4000, 0x5000), (), ()]
    assert not any(
        c.detail.earlier
        for c in judge(EXPECTATION, GOOD, None, BUILT)
        if isinstance(c.detail, Reading)
    )


def test_a_wrong_answer_knows_what_the_kernel_said() -> None:
    said = ("livepatch: patch 'p' failed for module 't', refusing to load",)

    def told(answer: int) -> tuple[str, ...]:
        seen = replace(GOOD, answers=(answer,), refusals=said)
        first = judge(EXPECTATION, seen, None, BUILT)[0].detail
        assert isinstance(first, Answers)
        return first.said

    assert told(8) == said
    assert told(0) == ()


@pytest.mark.parametrize(
    ("earlier", "before", "told"),
    [
        ((0x8,), "12 34", ""),  # stale, as it is known of some
        ((0x4,), "12 34", "; there it was at no earlier load"),
        ((), "12 34", "; where the symbol was at an earlier load nobody saw"),
        ((), "00 02", ""),  # its first load
    ],
)
def test_why_a_wrong_slot_is_not_stale_is_told(
    earlier: tuple[int, ...], before: str, told: str
) -> None:
    check = a_reading(
        "12 34", initial="00 02", hop="got", hop_address=1, before=before, earlier=earlier
    )
    assert check.seen.endswith(f"0x8 below the symbol{told}")


WARNS = Probe("warn", "t", "f", "a", {"klp_patch": "b"}, file="/f", warns={"klp_patch": "x.c:5 f"})


@pytest.mark.parametrize(
    ("promised", "seen", "good"),
    [
        (("x.c:5 f",), ("x.c:5 f",), True),
        ((), (), True),
        (("x.c:5 f",), (), False),
        (("x.c:5 f",), ("x.c:6 f",), False),
        (("x.c:5 f",), ("x.c:5 f", "x.c:5 f"), False),
        ((), ("x.c:5 f",), False),
    ],
)
def test_a_promised_warning_is_there_once_and_from_its_line(
    promised: tuple[str, ...], seen: tuple[str, ...], good: bool
) -> None:
    warning = replace(BUILT, set=replace(BUILT.set, probes=(WARNS,)))
    wanted = replace(EXPECTATION, warnings=promised)
    checks = judge(wanted, replace(GOOD, warnings=seen, taint=GOOD.taint | 1 << 9), None, warning)
    bad = [check for check in checks if not check.good]
    assert [check.subject for check in bad] == [str(Sign.WARNINGS)] * (not good)
    assert len(checks) == len(judge(EXPECTATION, GOOD, None, BUILT)) + 1


def test_only_a_set_that_warns_may_bring_the_taint_of_a_warning() -> None:
    checks = judge(EXPECTATION, replace(GOOD, taint=GOOD.taint | 1 << 9), None, BUILT)
    assert [check.subject for check in checks if not check.good] == [str(Sign.TAINT)]


def test_a_field_that_the_kernel_writes_itself_may_lead_anywhere() -> None:
    symbol = KlpSymbol("vmlinux", "__SCT__called", 0)
    field = KlpRelocation("vmlinux", ".text", 0x30, 20, symbol, 2, bytes(4), rewritten=True)
    elsewhere = replace(
        reading(1, "00001800", 0x7000, 0x6000), relocation=field, symbol_address=0x6000
    )
    wanted = replace(
        EXPECTATION,
        relocations={**EXPECTATION.relocations, ("klp_patch", "vmlinux"): RelocationState.APPLIED},
    )
    for rewritten in (True, False):
        here = replace(field, rewritten=rewritten)
        seen = replace(GOOD, relocations=(*GOOD.relocations, replace(elsewhere, relocation=here)))
        checks = judge(wanted, seen, None, a_set(*RELOCATIONS, here))
        assert all(check.good for check in checks) == rewritten
