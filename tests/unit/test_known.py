# SPDX-License-Identifier: GPL-2.0-only
"""Known issues and capabilities: the matching, and the files in kernel-config/."""

from __future__ import annotations

from dataclasses import replace
from fnmatch import fnmatchcase as fnmatch
from pathlib import Path
from typing import Literal

import pytest
from samples import a_kernel, a_reading, an_answer

from orchestrator import catalog
from orchestrator.errors import UsageError
from orchestrator.model import known, orders, suite, words
from orchestrator.nouns import Case, Failure, Kernel, ModuleSet, ModuleSpec, Probe
from orchestrator.source import series
from orchestrator.verdicts import (
    Answers,
    CaseResult,
    Check,
    CheckKind,
    Health,
    Modules,
    Patched,
    PatchState,
    Reading,
    RelocationState,
    Shown,
    Sign,
    Status,
    Step,
)

CONFIG = catalog.data_dir("kernel-config")
SERIES = "livepatch-reload"


@pytest.mark.parametrize(
    ("text", "good", "bad"),
    [
        ("", [(6, 1), (2, 6)], []),
        (">=6.1,<6.3", [(6, 1), (6, 2)], [(5, 19), (6, 3), (6, 12)]),
        ("<6.13", [(6, 12), (5, 15)], [(6, 13)]),
        ("==6.1", [(6, 1)], [(6, 10)]),
        ("> 6.1 , <= 6.9", [(6, 9)], [(6, 1), (6, 10)]),
    ],
)
def test_version_ranges(text: str, good: list[tuple[int, int]], bad: list[tuple[int, int]]) -> None:
    assert all(known.in_range(version, text) for version in good)
    assert not any(known.in_range(version, text) for version in bad)


@pytest.mark.parametrize("text", ["6.1", ">=6", ">=6.1,", "=>6.1"])
def test_a_malformed_range_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="no comparison"):
        known.in_range((9, 9), text)


@pytest.mark.parametrize(
    ("version", "arch", "applied", "expected"),
    [
        ((6, 1), "x86_64", (), set()),
        ((6, 3), "x86_64", (), {"clears-on-unload"}),
        ((6, 12), "riscv64", (SERIES,), set()),
        ((6, 12), "s390x", (), set()),
        ((6, 1), "s390x", (SERIES,), {"clears-on-unload", "clears-on-refusal"}),
        ((6, 12), "x86_64", ("own", SERIES), {"clears-on-unload", "clears-on-refusal"}),
        ((6, 1), "x86_64", (f"{SERIES}@1",), set()),
        ((6, 1), "x86_64", (f"{SERIES}@2",), {"clears-on-unload", "clears-on-refusal"}),
        ((6, 1), "s390x", (f"{SERIES}@2", "own@3"), set()),
        ((6, 1), "s390x", (f"{SERIES}@3",), {"clears-on-unload", "clears-on-refusal"}),
        ((6, 1), "s390x", (f"{SERIES}@3@2",), set()),
        ((6, 1), "ppc64le", (f"{SERIES}@3",), set()),
        ((6, 12), "ppc64le", (f"{SERIES}@4",), {"clears-on-unload", "clears-on-refusal"}),
        ((6, 1), "s390x", (f"{SERIES}@merged",), {"clears-on-unload", "clears-on-refusal"}),
        ((6, 1), "s390x", (f"{SERIES}@2@merged",), set()),
        ((6, 12), "x86_64", (f"{SERIES}@1",), {"clears-on-unload"}),
        ((7, 3), "arm64", (f"{SERIES}@4",), set()),
        ((7, 3), "arm64", (SERIES,), {"clears-on-unload", "clears-on-refusal"}),
    ],
)
def test_declared_capabilities(
    version: tuple[int, int], arch: str, applied: tuple[str, ...], expected: set[str]
) -> None:
    file = catalog.load_toml(CONFIG / "capabilities.toml", known.CapabilitiesFile)
    able = known.capabilities(file.capability, version, arch, applied)
    assert {name for name in able if name.startswith("clears-")} == expected


def test_a_capability_of_a_whole_series_is_none_of_its_prefixes() -> None:
    whole = known.Capability("able", series="S")
    assert known.capabilities([whole], (6, 1), "x", ["S"]) == {"able"}
    assert known.capabilities([whole], (6, 1), "x", ["S@9", "T"]) == set()


@pytest.mark.parametrize("version", [(6, 1), (6, 12), (7, 3)])
def test_the_patches_a_capability_needs_are_those_of_its_code(version: tuple[int, int]) -> None:
    """The last of them is about livepatch or the architecture, and none after it is."""
    file = catalog.load_toml(CONFIG / "capabilities.toml", known.CapabilitiesFile)
    counted = [entry for entry in file.capability if entry.series]
    assert {entry.series for entry in counted} == {SERIES}
    found = [patch.diff.files() for patch in series.resolve(SERIES, version).patches]
    for entry in counted:
        if not known.in_range(version, entry.kernels):
            continue
        (arch,) = entry.architectures
        place = catalog.arch(arch).image_path  # arch/x86/boot/bzImage, or vmlinux
        if not place.startswith("arch/"):
            place = f"arch/{catalog.arch(arch).kernel_arch}/"
        code = ("kernel/livepatch/", "/".join(place.split("/")[:2]))
        theirs = [any(name.startswith(code) for name in names) for names in found]
        assert theirs[entry.patches - 1] and not any(theirs[entry.patches :]), entry


# --- matching ----------------------------------------------------------------------------------

ORDER = "+p +t -t +filler +t"
ISSUE = known.KnownIssue(
    id="reload",
    title="",
    reference="",
    kernels="<6.3",
    architectures=("x86_64",),
    kind=CheckKind.ANSWER,
    errno="ENOEXEC",
    fails=(known.Fails("basic", "+t#2", cases=("reload-*",)),),
    without_series=(SERIES,),
)


def module(name: str, kind: Literal["target", "livepatch", "plain"]) -> ModuleSpec:
    if kind != "livepatch":
        return ModuleSpec(name, kind)
    failures = (Failure("fail", "pre_patch"),)
    return ModuleSpec(name, kind, {"t": ("f",)}, klp_symbols={"t": ("auto",)}, failures=failures)


SET = ModuleSet(
    "basic",
    Path("nowhere"),
    (module("p", "livepatch"), module("t", "target"), module("filler", "plain")),
    probes=(Probe("probe", "t", "f", "version=t", {"p": "version=p"}, file="/x"),),
)


def kernel(version: tuple[int, int] = (6, 1), *series: str, able: str = "") -> Kernel:
    able_to = frozenset(able.split())
    return a_kernel("x86_64", version=version, series=series, capabilities=able_to)


ANSWER, GOOD = an_answer(seen=8), an_answer()
# After the refusal: the target is away, and the livepatch patches nothing.
AWAY = words.modules(Modules(("filler", "p", "t"), ("filler", "p")))
HELD = words.modules(Modules(("filler", "p", "t"), ("p",)))


def patch(on: bool) -> PatchState:
    return PatchState(enabled=True, transition=False, objects={"t": on}, functions={"t": ("f,1",)})


def patched(seen: PatchState | None) -> Check:
    return words.patched(Patched("p", patch(True), seen))


def failed(*checks: Check, at: int = 4) -> CaseResult:
    texts = ORDER.split()[: at + 1]
    steps = tuple(
        Step(text, checks if index == at else (GOOD,), 0.0, 0.0, 0)
        for index, text in enumerate(texts)
    )
    case = Case("reload-moved", "basic", orders.parse(ORDER))
    return CaseResult(case, "x86_64", Status.FAIL, "wrong", steps)


def test_failing_exactly_so_is_known() -> None:
    gone = a_reading(livepatch="p", object="t", symbol_address=None)
    shown = words.shown(Shown("probe", "version=p", None))
    result = failed(ANSWER, GOOD, gone, shown, AWAY, patched(patch(False)))
    judged = known.judge_known(result, SET, kernel(), [ISSUE])
    assert (judged.status, judged.known_issue) == (Status.KNOWN, "reload")


@pytest.mark.parametrize(
    "result",
    [
        failed(an_answer(seen=19)),
        failed(an_answer(19, 0)),
        failed(ANSWER, words.late(("BUG: x",))),
        failed(ANSWER, a_reading(livepatch="p", object="other")),  # of another object
        failed(ANSWER, HELD),  # another module is away as well
        failed(ANSWER, patched(None)),  # the livepatch is
        failed(ANSWER, patched(replace(patch(False), transition=True))),
        failed(ANSWER, words.shown(Shown("probe", "version=p", "version=wrong"))),
        failed(words.shown(Shown("probe", "x", None))),  # the first failed check is another
        failed(ANSWER, at=1),  # at another event
        failed(),  # no check failed: a guest that crashed
    ],
)
def test_failing_otherwise_is_a_failure(result: CaseResult) -> None:
    assert known.judge_known(result, SET, kernel(), [ISSUE]) == result


WARNED = replace(ISSUE, reports=("WARNING in stub_for_addr",), at="stub_for_addr")
WARNING = words.late(("WARNING in stub_for_addr",), ("stub_for_addr", "apply_relocate_add"))
_AT = "WARNING: CPU: 0 PID: 71 at"
STUB_LINE = f"{_AT} arch/powerpc/kernel/module_64.c:611 stub_for_addr+0x1c0/0x2a0"


def said(*lines: str) -> Check:
    """As `judge` has it: the first report's title, and the line that opens each."""
    found = Health(
        Sign.CONSOLE, ("WARNING in stub_for_addr", *lines), ("stub_for_addr", "apply_relocate_add")
    )
    return words.health(found, "nothing")


TAINTED = words.health(Health(Sign.TAINT), "nothing beyond 45056 (O E K)", "37376 (W O K)", False)


@pytest.mark.parametrize(
    ("checks", "status"),
    [
        ((WARNING, TAINTED), Status.KNOWN),
        ((WARNING,), Status.KNOWN),
        ((), Status.FAIL),  # it does not warn
        ((TAINTED,), Status.FAIL),
        ((words.late(("WARNING in f",), ("f",)),), Status.FAIL),
        ((words.late(("WARNING in stub_for_addr",), ("f",)), TAINTED), Status.FAIL),
        ((WARNING, replace(TAINTED, seen="37504 (D W O K)")), Status.FAIL),
        ((said(STUB_LINE, STUB_LINE), TAINTED), Status.KNOWN),  # of each relocation
        ((said(STUB_LINE, "WARNING: possible circular locking dependency detected"),), Status.FAIL),
        ((said(STUB_LINE, f"{_AT} other.c:9 other+0x4/0x8"), TAINTED), Status.FAIL),
        ((said(STUB_LINE, "INFO: task insmod:71 blocked for more than 10 s."),), Status.FAIL),
    ],
)
def test_a_refusal_that_warns(checks: tuple[Check, ...], status: Status) -> None:
    result = failed(ANSWER, AWAY, *checks)
    assert known.judge_known(result, SET, kernel(), [WARNED]).status is status
    plain = known.judge_known(result, SET, kernel(), [ISSUE])
    assert plain.status is (Status.FAIL if checks else Status.KNOWN)


@pytest.mark.parametrize(
    ("result", "of"),
    [
        (failed(ANSWER), kernel((6, 3))),
        (failed(ANSWER), kernel((6, 1), SERIES)),
        (replace(failed(ANSWER), arch="s390x"), kernel()),
        (replace(failed(ANSWER), case=Case("retry", "basic", orders.parse(ORDER))), kernel()),
        (replace(failed(ANSWER), case=Case("reload-x", "other", orders.parse(ORDER))), kernel()),
    ],
)
def test_what_is_not_listed_is_left_alone(result: CaseResult, of: Kernel) -> None:
    assert known.judge_known(result, SET, of, [ISSUE]).status is Status.FAIL
    passed = replace(result, status=Status.PASS)
    assert known.judge_known(passed, SET, of, [ISSUE]) == passed


def test_an_order_by_another_name_is_matched_by_its_notation() -> None:
    issue = replace(ISSUE, fails=(known.Fails("basic", "+t", orders=("+p  +t -t +filler +t",)),))
    result = replace(failed(ANSWER), case=Case("order", "basic", orders.parse(ORDER)))
    assert known.judge_known(result, SET, kernel(), [issue]).status is Status.KNOWN


def test_passing_although_it_cannot_is_fixed() -> None:
    passed = replace(failed(ANSWER), status=Status.PASS)
    judged = known.judge_known(passed, SET, kernel(), [ISSUE])
    assert (judged.status, judged.known_issue) == (Status.FIXED, "reload")


@pytest.mark.parametrize("status", [Status.ERROR, Status.SKIP])
def test_trouble_of_the_harness_is_never_a_known_issue(status: Status) -> None:
    result = replace(failed(ANSWER), status=status)
    assert known.judge_known(result, SET, kernel(), [ISSUE]) == result


# --- issues that speak of every order ----------------------------------------------------------

LACK = replace(ISSUE, fails=(), lacks="clears-on-unload", surely=("*/reload-*",))
REFUSED = "+p[fail=19] +t p.fail=0 +t"


@pytest.mark.parametrize(
    ("order", "capability", "expected"),
    [
        (ORDER, "clears-on-unload", [4]),
        (ORDER, "clears-on-refusal", []),
        (REFUSED, "clears-on-refusal", [3]),
        (REFUSED, "clears-on-unload", []),
        ("+p +t -t -p +t", "clears-on-unload", [4]),  # -p is refused, p is still there
        ("+p +t -t p=0 -p +p +t", "clears-on-unload", []),  # another p
        ("+t -t +t", "clears-on-unload", []),
        ("+p +t (-t +t)*9 -t", "clears-on-unload", [2]),
        ("{+p +t} -t {+filler +t}", "clears-on-unload", [2]),
    ],
)
def test_where_a_kernel_lacks_a_capability(
    order: str, capability: str, expected: list[int]
) -> None:
    lacks = known.lacking(SET, orders.parse(order), frozenset(), capability)
    assert [index for index, here in enumerate(lacks) if here] == expected
    assert not any(known.lacking(SET, orders.parse(order), {capability}, capability))


def test_an_issue_may_speak_of_every_order() -> None:
    result = replace(failed(ANSWER), case=Case("any", "basic", orders.parse(ORDER)))
    judged = known.judge_known(result, SET, kernel(), [LACK])
    assert (judged.status, judged.known_issue) == (Status.KNOWN, "reload")
    elsewhere = replace(failed(ANSWER, at=1), case=result.case)
    assert known.judge_known(elsewhere, SET, kernel(), [LACK]) == elsewhere
    part = kernel((6, 1), f"{SERIES}@1")
    assert known.judge_known(result, SET, part, [LACK]) == judged
    able = kernel(able="clears-on-unload")
    assert known.judge_known(result, SET, able, [LACK]) == result
    for whole in (SERIES, f"{SERIES}@merged"):
        gone = replace(LACK, without_series=(SERIES,))
        assert known.judge_known(result, SET, kernel((6, 1), whole), [gone]) == result


def test_of_those_only_the_sure_ones_are_news_when_they_pass() -> None:
    passed = replace(failed(ANSWER), status=Status.PASS)
    assert known.judge_known(passed, SET, kernel(), [LACK]).status is Status.FIXED
    perhaps = replace(passed, case=replace(passed.case, name="other"))
    assert known.judge_known(perhaps, SET, kernel(), [LACK]) == perhaps
    harmless = replace(passed, case=Case("reload-not", "basic", orders.parse("+p +t")))
    assert known.judge_known(harmless, SET, kernel(), [LACK]) == harmless


@pytest.mark.parametrize(("places", "status"), [((8, 16), Status.FIXED), ((8, 8), Status.PASS)])
def test_where_nothing_moved_a_stale_slot_is_right_by_luck(
    places: tuple[int, int], status: Status
) -> None:
    """A user's own order, by whatever name: that it passes is no news then."""
    issue = replace(LACK, kind=CheckKind.RELOCATION, errno="", via="got")
    one, other = (a_reading(symbol_address=at, resolves_to=at) for at in places)
    events = (("+p",), ("+t", one), ("-t",), ("+t", other))
    steps = tuple(Step(event, (GOOD, *checks), 0.0, 0.0, 0) for event, *checks in events)
    case = Case("reload-mine", "basic", orders.parse("+p +t -t +t"))
    passed = CaseResult(case, "x86_64", Status.PASS, "", steps)
    assert known.judge_known(passed, SET, kernel(), [issue]).status is status


@pytest.mark.parametrize("order", ["+p +t {-t +t}", "+p {+t -t} +t"])
def test_a_race_that_passes_is_no_news(order: str) -> None:
    """As it is written the target is loaded again; but it may have been another way."""
    passed = CaseResult(Case("reload-x", "basic", orders.parse(order)), "x86_64", Status.PASS)
    assert known.judge_known(passed, SET, kernel(), [LACK]) == passed


# --- our list ----------------------------------------------------------------------------------


def test_every_sure_case_in_our_list_comes_to_such_an_event() -> None:
    sets = catalog.module_sets()
    core = catalog.load_toml(Path(suite.__file__).parents[1] / "suites/core.toml", suite.SuiteFile)
    cases = suite.expand(core, sets)
    for issue in catalog.load_toml(CONFIG / "known-issues.toml", known.KnownIssuesFile).issue:
        for pattern in issue.surely:
            listed = [c for c in cases if fnmatch(f"{c.module_set}/{c.name}", pattern)]
            assert any(
                any(known.lacking(sets[c.module_set], c.order, frozenset(), issue.lacks))
                for c in listed
            ), f"{issue.id}: {pattern}"


@pytest.mark.parametrize(
    ("arch", "name", "status"),
    [
        ("ppc64le", "basic", Status.FIXED),
        ("ppc64le", "/me/mine", Status.PASS),  # whose livepatch may defer data only
        ("x86_64", "/me/mine", Status.FIXED),  # where each field is looked at
    ],
)
def test_only_calls_are_refused_where_only_calls_are_looked_at(
    arch: str, name: str, status: Status
) -> None:
    listed = catalog.load_toml(CONFIG / "known-issues.toml", known.KnownIssuesFile).issue
    case = Case("order-1", name, orders.parse("+p +t -t +t"))
    passed = CaseResult(case, arch, Status.PASS)
    assert known.judge_known(passed, SET, kernel(), listed).status is status


def test_every_capability_an_issue_lacks_is_declared() -> None:
    issues = catalog.load_toml(CONFIG / "known-issues.toml", known.KnownIssuesFile).issue
    declared = catalog.load_toml(CONFIG / "capabilities.toml", known.CapabilitiesFile).capability
    assert {issue.lacks for issue in issues} - {""} <= {entry.name for entry in declared}


def test_a_callback_that_reads_astray_while_its_target_is_refused_again() -> None:
    """Nothing can be read back then: the record is all there is, and only the record counts."""
    issue = replace(
        LACK, kind=CheckKind.VALUE, errno="", lacks="clears-on-refusal", differs="read="
    )
    calls = dict.fromkeys(("pre_patch", "post_patch", "pre_unpatch", "post_unpatch"), "read=1")
    record_of = Probe("calls", "p", "t", "none", calls, file="/c", at="callbacks")
    module_set = replace(SET, probes=(record_of, *SET.probes))
    order = "+p[fail=19] +t +filler +t"
    texts = order.split()
    record = words.shown(Shown("calls", "read=1", "read=100001"))
    other = words.shown(Shown("probe", "version=p", "version=x"))

    def judged(*checks: Check) -> Status:
        steps = tuple(Step(t, (GOOD,), 0.0, 0.0, 0) for t in texts[:3])
        steps += (Step(texts[3], checks, 0.0, 0.0, 0),)
        case = Case("any", "basic", orders.parse(order))
        result = CaseResult(case, "x86_64", Status.FAIL, "wrong", steps)
        return known.judge_known(result, module_set, kernel(), [issue]).status

    assert judged(an_answer(19, 19), record) is Status.KNOWN
    assert judged(an_answer(19, 19), other) is Status.FAIL
    assert judged(an_answer(19, 19), record, other) is Status.FAIL
    assert judged(an_answer(0, 0), record) is Status.FAIL  # loaded: what was written can be read
    for seen in ("BOGUS read=100001", "read=", "", None):
        told = words.shown(Shown("calls", "read=1", seen))
        assert judged(an_answer(19, 19), told) is Status.FAIL
    assert judged(an_answer(19, 19), record, words.late(("BUG",))) is Status.FAIL


@pytest.mark.parametrize(
    ("raw", "address", "status"),
    [
        ("00 00", 0x1002, Status.KNOWN),
        ("00 00", 0x1001, Status.KNOWN),
        ("00 00", 0x1004, Status.FAIL),  # aligned
        ("00 00", None, Status.FAIL),
        ("00 01", 0x1002, Status.FAIL),  # written
    ],
)
def test_a_relocation_is_known_by_where_it_lies(
    raw: str, address: int | None, status: Status
) -> None:
    issue = replace(ISSUE, kind=CheckKind.RELOCATION, errno="", unwritten=4)
    wrong = a_reading(raw, initial="00 00", address=address, resolves_to=0)
    shown = words.shown(Shown("probe", "version=p", "version=p half=-1"))
    judged = known.judge_known(failed(wrong, shown), SET, kernel(), [issue])
    assert judged.status is status


def test_a_relocation_is_known_only_by_where_it_leads() -> None:
    """Never written, written beside, or its function never patched: that is news."""
    issue = replace(ISSUE, kind=CheckKind.RELOCATION, errno="", via="got")
    stale = a_reading("12 34", initial="00 02", hop="got", hop_address=0x40)
    astray = words.shown(Shown("probe", "version=p", "version=p x=wrong"))
    assert isinstance(stale.detail, Reading)
    beside = replace(stale.detail, beside="other bits of the field have changed")
    unread = replace(stale.detail, resolves_to=None)

    def judged(*checks: Check) -> Status:
        return known.judge_known(failed(GOOD, *checks), SET, kernel(), [issue]).status

    assert judged(stale) is judged(stale, astray) is Status.KNOWN
    assert judged(a_reading("00 02", initial="00 02", hop="got")) is Status.FAIL
    assert judged(words.reading(unread)) is Status.FAIL
    assert judged(words.reading(beside)) is Status.FAIL
    assert judged(words.reading(replace(beside, resolves_to=0x10))) is Status.FAIL
    assert judged(stale, words.shown(Shown("probe", "version=p", "version=t"))) is Status.FAIL


@pytest.mark.parametrize(
    ("answers", "status"),
    [((11, 8), Status.KNOWN), ((0, 8), Status.KNOWN), ((11, 0), Status.FAIL)],
)
def test_what_a_refused_load_holds_follows_from_its_refusal(
    answers: tuple[int, ...], status: Status
) -> None:
    """It writes over what stands there, be the removal of what it depends on first or last."""
    depends = replace(SET, modules=(*SET.modules, ModuleSpec("base", "target")))
    needs = [replace(m, depends=("base",)) if m.name == "t" else m for m in depends.modules]
    depends = replace(depends, modules=tuple(needs))
    texts = ["+base", "+t", "+p", "-t", "{-base +t}"]
    checks = [GOOD] * 4 + [words.answers(Answers((0, 2), answers))]
    steps = tuple(Step(t, (c,), 0.0, 0.0, 0) for t, c in zip(texts, checks, strict=True))
    case = Case("any", "basic", orders.parse(" ".join(texts)))
    result = CaseResult(case, "x86_64", Status.FAIL, "wrong", steps)
    assert known.judge_known(result, depends, kernel(), [LACK]).status is status


@pytest.mark.parametrize(
    ("race", "answers", "last", "status"),
    [
        ("{-t +t}", (0, 17), 8, Status.KNOWN),  # there was a t: the other way round
        ("{-t +t}", (0, 16), 8, Status.KNOWN),  # into one another
        ("{+t -t}", (17, 0), 8, Status.KNOWN),
        ("{-t +t}", (0, 0), 8, Status.FAIL),  # there is a t: EEXIST is right, nothing is written
        ("{+t -t}", (8, 0), None, Status.KNOWN),  # the race's own load is refused
        ("{+t -t}", (8, 16), None, Status.FAIL),
    ],
)
def test_a_race_counts_as_it_went(
    race: str, answers: tuple[int, ...], last: int | None, status: Status
) -> None:
    """Which of its ends it came to decides whether a later load writes over anything."""
    texts = ["+p", "+t", race] + ["+t"] * (last is not None)
    good = words.answers(Answers(answers, answers))
    bad = words.answers(Answers((17, 0), answers)) if last is None else an_answer(seen=last)
    checks = [GOOD, GOOD, good, bad] if last is not None else [GOOD, GOOD, bad]
    steps = tuple(Step(t, (c,), 0.0, 0.0, 0) for t, c in zip(texts, checks, strict=True))
    case = Case("any", "basic", orders.parse(" ".join(texts)))
    result = CaseResult(case, "x86_64", Status.FAIL, "wrong", steps)
    assert known.judge_known(result, SET, kernel(), [LACK]).status is status


@pytest.mark.parametrize(
    ("event", "expected", "seen", "status"),
    [
        ("{+t +filler}", (0, 0), (8, 0), Status.KNOWN),
        ("{+t +filler}", (0, 0), (8, 8), Status.FAIL),  # filler has no relocations
        ("(+t +filler)*2", (0, 0, 17, 17), (8, 0, 8, 17), Status.KNOWN),
        ("(+t +filler)*2", (0, 0, 17, 17), (8, 8, 8, 8), Status.FAIL),
        ("(-t +t)*1", (2, 0), (2, 8), Status.KNOWN),
    ],
)
def test_the_refusal_of_one_load_says_nothing_of_another(
    event: str, expected: tuple[int, ...], seen: tuple[int, ...], status: Status
) -> None:
    assert _after(f"+p +t -t {event}", expected, seen) is status


def test_nothing_is_written_over_the_first_time() -> None:
    assert _after("+p (+t -t)*2", (0, 0, 0, 0), (0, 0, 8, 2)) is Status.KNOWN
    assert _after("+p (+t -t)*2", (0, 0, 0, 0), (8, 2, 8, 2)) is Status.FAIL


def _after(order: str, expected: tuple[int, ...], seen: tuple[int, ...]) -> Status:
    """The last event's answers; all before it was right."""
    parsed = orders.parse(order)
    texts = [orders.format_event(event) for event in parsed.events]
    checks = [GOOD] * (len(texts) - 1) + [words.answers(Answers(expected, seen))]
    steps = tuple(Step(t, (c,), 0.0, 0.0, 0) for t, c in zip(texts, checks, strict=True))
    result = CaseResult(Case("any", "basic", parsed), "x86_64", Status.FAIL, "wrong", steps)
    return known.judge_known(result, SET, kernel(), [LACK]).status


# --- what else could hide behind an issue ------------------------------------------------------

WILD = "Unable to handle kernel pointer dereference"
CRASHES = replace(
    LACK, kind=CheckKind.HEALTH, errno="", reports=(WILD, "illegal operation"), inside="livepatch"
)
IN_PATCH, IN_TARGET = ("show [p]", "init [t]", "do_one_initcall"), ("init [t]", "show [p]")


def judged_at_reload(issue: known.KnownIssue, *checks: Check, of: ModuleSet = SET) -> Status:
    """ORDER, whose last event writes p's relocations of t over those of t's first load."""
    return known.judge_known(failed(*checks), of, kernel(), [issue]).status


@pytest.mark.parametrize(
    ("frames", "status"),
    [
        (IN_PATCH, Status.KNOWN),
        (("show [p]",), Status.KNOWN),
        (IN_TARGET, Status.FAIL),  # its own wild write, and a patched function called it
        (("strlen", "show [p]"), Status.FAIL),
        (("show [other]", "show [p]"), Status.FAIL),
        ((), Status.FAIL),
    ],
)
def test_a_crash_is_known_only_where_the_issue_has_it(
    frames: tuple[str, ...], status: Status
) -> None:
    assert judged_at_reload(CRASHES, words.dead(f"{WILD} in f", frames)) is status
    assert judged_at_reload(CRASHES, words.late((f"{WILD} in virtual", "Oops"), frames)) is status
    beside = replace(CRASHES, kind=CheckKind.RELOCATION, via="got")
    stale = a_reading("12 34", hop="got", hop_address=0x40)
    assert judged_at_reload(beside, stale, words.dead(f"{WILD} in f", frames)) is status


@pytest.mark.parametrize(
    ("frames", "status"),
    [
        (("emit_plt", "emit_plt", "apply_relocate_add"), Status.KNOWN),
        (("memcpy", "emit_plt", "apply_relocate_add"), Status.FAIL),
        (("emit_plt [p]", "apply_relocate_add"), Status.FAIL),  # a module's own of that name
        ((), Status.FAIL),
    ],
)
def test_a_crash_of_the_kernels_own_is_known_by_its_function(
    frames: tuple[str, ...], status: Status
) -> None:
    issue = replace(CRASHES, inside="", at="emit_plt")
    assert judged_at_reload(issue, words.dead(f"{WILD} in f", frames)) is status


def test_what_may_pass_is_not_fixed() -> None:
    fails = known.Fails("basic", "+t", cases=("c",))
    case = Case("c", "basic", orders.parse("+p +t"))
    passed = CaseResult(case, "x86_64", Status.PASS)
    for perhaps, status in ((False, Status.FIXED), (True, Status.PASS)):
        listed = replace(ISSUE, lacks="", surely=(), fails=(replace(fails, perhaps=perhaps),))
        assert known.judge_known(passed, SET, kernel(), [listed]).status is status


def test_a_crash_in_a_livepatch_that_has_nothing_to_do_with_it_is_news() -> None:
    other = replace(module("q", "livepatch"), patches={"filler": ("f",)}, klp_symbols={})
    sets = replace(SET, modules=(*SET.modules, other))
    told = words.dead(WILD, ("show [q]", "show [p]"))
    assert judged_at_reload(CRASHES, told, of=sets) is Status.FAIL
    whatever = replace(CRASHES, inside="")
    assert judged_at_reload(whatever, told, of=sets) is Status.KNOWN


@pytest.mark.parametrize(
    ("hop", "status"),
    [
        (("p", "t", "got"), Status.KNOWN),
        (("p", "t", "plt"), Status.FAIL),
        (("p", "u", "got"), Status.FAIL),
        (("q", "t", "got"), Status.FAIL),
    ],
)
def test_a_crash_is_no_stale_slots_where_nothing_leads_through_a_slot(
    hop: known.Hop, status: Status
) -> None:
    result, issue = failed(words.dead(f"{WILD} in f", IN_PATCH)), replace(CRASHES, via="got")
    assert known.judge_known(result, SET, kernel(), [issue], {hop}).status is status
    assert known.judge_known(result, SET, kernel(), [issue]).status is Status.FAIL
    assert known.judge_known(result, SET, kernel(), [CRASHES]).status is Status.KNOWN


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (0x3FF7FF16000, Status.KNOWN),  # s390: the page only
        (0x3FF7FF16F08, Status.KNOWN),
        (0x3FF7FF17010, Status.KNOWN),  # an object that goes on in the next page
        (0x3FF7FF15FFF, Status.FAIL),
        (0x20000000000000, Status.FAIL),  # a pointer of its own that was wild
        (None, Status.FAIL),
    ],
)
def test_a_crash_is_a_stale_slots_where_the_symbol_was(fault: int | None, status: Status) -> None:
    issue = replace(CRASHES, via="got", stale=True)
    crash = words.dead(f"{WILD} in f", IN_PATCH, fault)
    place = 0x3FF7FF16F00
    seen = a_reading("12 34", hop="got", hop_address=1, resolves_to=place, symbol_address=place)
    result = failed(crash)
    first = replace(result.steps[1], checks=(replace(seen, good=True),))
    was = replace(result, steps=(result.steps[0], first, *result.steps[2:]))
    hops = {("p", "t", "got")}
    assert known.judge_known(was, SET, kernel(), [issue], hops).status is status
    assert known.judge_known(result, SET, kernel(), [issue], hops).status is Status.FAIL


def test_what_the_kernel_said_before_it_crashed_is_news() -> None:
    crash = words.dead(f"{WILD} in f", IN_PATCH)
    assert judged_at_reload(CRASHES, words.late(("WARNING: x",), ("f",)), crash) is Status.FAIL


def test_that_a_guest_ended_tells_nothing_without_its_report() -> None:
    ended = words.health(Health(Sign.QMP, ("SHUTDOWN guest-reset",)), "no crash")
    assert judged_at_reload(CRASHES, ended) is Status.FAIL
    crash = words.dead(f"{WILD} in f", IN_PATCH)
    assert judged_at_reload(CRASHES, ended, crash) is Status.KNOWN


@pytest.mark.parametrize(
    ("slot", "earlier", "status"),
    [
        (0x8, (0x8,), Status.KNOWN),
        (0x8, (0x4, 0x8), Status.KNOWN),
        (0x8, (0x4,), Status.FAIL),  # a wrong value that it never was
        (0x8, (), Status.FAIL),  # nobody knows
    ],
)
def test_stale_is_what_was_right_once(slot: int, earlier: tuple[int, ...], status: Status) -> None:
    issue = replace(LACK, kind=CheckKind.RELOCATION, errno="", via="got", stale=True)
    reading = a_reading("12 34", hop="got", hop_address=1, resolves_to=slot, earlier=earlier)
    assert judged_at_reload(issue, reading) is status


def test_a_relocation_that_was_not_written_over_another_is_news() -> None:
    issue = replace(LACK, kind=CheckKind.RELOCATION, errno="", via="got")
    mine = a_reading("12 34", hop="got", hop_address=1)
    for other in ({"livepatch": "q"}, {"object": "filler"}):
        theirs = a_reading("12 34", hop="got", hop_address=1, **other)  # type: ignore[arg-type]
        assert judged_at_reload(issue, mine, theirs) is Status.FAIL
    probe = Probe("other", "t", "g", "version=t", {"q": "version=q"}, file="/y")
    sets = replace(SET, probes=(*SET.probes, probe))
    shown = words.shown(Shown("other", "version=q 1", "version=q 2"))
    assert judged_at_reload(issue, mine, shown, of=sets) is Status.FAIL


def test_another_livepatchs_version_is_news_beside_a_relocation_that_leads_astray() -> None:
    issue = replace(LACK, kind=CheckKind.RELOCATION, errno="", via="got")
    mine = a_reading("12 34", hop="got", hop_address=1)
    probe = replace(SET.probes[0], patched={"p": "version=p 1", "q": "version=q 1"})
    two = replace(SET, modules=(*SET.modules, module("q", "livepatch")), probes=(probe,))
    for seen, status in (("version=p 7", Status.KNOWN), ("version=q 1", Status.FAIL)):
        shown = words.shown(Shown("probe", "version=p 1", seen))
        assert judged_at_reload(issue, mine, shown, of=two) is status


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (("x86/modules: Skipping invalid relocation target, existing",), Status.KNOWN),
        (("livepatch: no such thing", "x86/modules: invalid relocation target"), Status.KNOWN),
        (("livepatch: failed to initialize patch",), Status.FAIL),
        ((), Status.FAIL),  # its own init may have answered so
    ],
)
def test_a_refusal_is_known_by_what_the_kernel_says_of_it(
    said: tuple[str, ...], status: Status
) -> None:
    issue = replace(LACK, says=("invalid relocation target",))
    assert judged_at_reload(issue, words.answers(Answers((0,), (8,), said))) is status


def test_a_record_is_known_only_beside_a_slot_that_still_has_the_old_address() -> None:
    issue = replace(
        LACK,
        kind=CheckKind.VALUE,
        errno="",
        lacks="clears-on-refusal",
        differs="read=",
        via="got",
        stale=True,
    )
    record = Probe("calls", "p", "t", "none", {"pre_patch": "read=1"}, file="/c", at="callbacks")
    module_set = replace(SET, probes=(record, *SET.probes))
    texts = ["+p[fail=19]", "+t", "+filler", "+t"]
    wrong = words.shown(Shown("calls", "read=1", "read=100001"))

    def judged(*readings: Check) -> Status:
        steps = tuple(Step(t, (GOOD,), 0.0, 0.0, 0) for t in texts[:3])
        steps += (Step(texts[3], (an_answer(19, 19), *readings, wrong), 0.0, 0.0, 0),)
        case = Case("any", "basic", orders.parse(" ".join(texts)))
        result = CaseResult(case, "x86_64", Status.FAIL, "wrong", steps)
        return known.judge_known(result, module_set, kernel(), [issue]).status

    def slot(at: int, livepatch: str = "p") -> Check:
        state = RelocationState.INDETERMINATE
        return a_reading(
            "12 34", livepatch=livepatch, state=state, hop="got", hop_address=1, resolves_to=at,
            symbol_address=None, earlier=(0x8,),
        )  # fmt: skip

    assert judged(slot(0x8)) is Status.KNOWN
    assert judged(slot(0x18)) is Status.FAIL  # written anew
    assert judged(slot(0x8, "q")) is Status.FAIL
    assert judged() is Status.FAIL


@pytest.mark.parametrize(
    ("seen", "refused", "astray"),
    [
        ((), Status.KNOWN, Status.KNOWN),
        (("x.c:5 f [p]", "x.c:5 f [p]"), Status.FAIL, Status.FAIL),
        (("x.c:6 f [p]",), Status.FAIL, Status.FAIL),
    ],
)
def test_a_warning_that_is_not_given_follows_from_what_was_not_run_or_reads_astray(
    seen: tuple[str, ...], refused: Status, astray: Status
) -> None:
    warns = replace(SET.probes[0], warns={"p": "x.c:5 f [p]"})
    mine = replace(SET, probes=(warns,))
    warned = words.warnings(("x.c:5 f [p]",), seen)
    assert known.judge_known(failed(ANSWER, warned), mine, kernel(), [ISSUE]).status is refused
    issue = replace(LACK, kind=CheckKind.RELOCATION, errno="", via="got")
    stale = a_reading("12 34", hop="got", hop_address=1)
    assert judged_at_reload(issue, stale, warned, of=mine) is astray
    assert judged_at_reload(issue, stale, warned) is Status.FAIL  # nothing of the set warns
