# SPDX-License-Identifier: GPL-2.0-only
"""Known issues and capabilities: the matching, and the files in kernel-config/."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator import catalog, known, model, orders, suite
from orchestrator.errors import UsageError
from orchestrator.nouns import Case, Kernel
from orchestrator.verdicts import CaseResult, Check, CheckKind, RelocationState, Status, Step

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
    ("version", "arch", "series", "expected"),
    [
        ((6, 1), "x86_64", (), set()),
        ((6, 3), "x86_64", (), {"clears-on-unload"}),
        ((6, 12), "ppc64le", (SERIES,), set()),
        ((6, 12), "s390x", (), set()),
        ((6, 1), "s390x", (SERIES,), {"clears-on-unload", "clears-on-refusal"}),
        ((6, 12), "x86_64", ("own", SERIES), {"clears-on-unload", "clears-on-refusal"}),
    ],
)
def test_declared_capabilities(
    version: tuple[int, int], arch: str, series: tuple[str, ...], expected: set[str]
) -> None:
    file = catalog.load_toml(CONFIG / "capabilities.toml", known.CapabilitiesFile)
    assert known.capabilities(file.capability, version, arch, series) == expected


# --- matching ----------------------------------------------------------------------------------

ORDER = "+p +t -t +filler +t"
ISSUE = known.KnownIssue(
    id="reload",
    title="",
    reference="",
    kernels="<6.3",
    architectures=("x86_64",),
    kind=CheckKind.ANSWER,
    seen=r"^ENOEXEC \(8\)$",
    fails=(known.Fails("basic", "+t#2", cases=("reload-*",)),),
    also=(CheckKind.VALUE,),
    without_series=(SERIES,),
)


def kernel(version: tuple[int, int] = (6, 1), *series: str) -> Kernel:
    here = Path("nowhere")
    return Kernel(
        "k", "x86_64", "", "", series, "", version, "gcc", here, here, here, here, here, here
    )


def bad(kind: CheckKind, seen: str) -> Check:
    return Check(kind, "s", "e", seen, False)


ANSWER = bad(CheckKind.ANSWER, "ENOEXEC (8)")
GOOD = Check(CheckKind.ANSWER, "s", "success", "success", True)


def failed(*checks: Check, at: int = 4) -> CaseResult:
    texts = ORDER.split()[: at + 1]
    steps = tuple(
        Step(text, checks if index == at else (GOOD,), 0.0, 0.0, 0)
        for index, text in enumerate(texts)
    )
    case = Case("reload-moved", "basic", orders.parse(ORDER))
    return CaseResult(case, "x86_64", Status.FAIL, "wrong", steps)


def test_failing_exactly_so_is_known() -> None:
    result = failed(ANSWER, GOOD, bad(CheckKind.VALUE, "no file"))
    judged = known.judge_known(result, kernel(), [ISSUE])
    assert (judged.status, judged.known_issue) == (Status.KNOWN, "reload")


@pytest.mark.parametrize(
    "result",
    [
        failed(bad(CheckKind.ANSWER, "ENODEV (19)")),
        failed(ANSWER, bad(CheckKind.ANSWER, "another")),
        failed(ANSWER, bad(CheckKind.HEALTH, "BUG")),  # not among `also`
        failed(bad(CheckKind.VALUE, "no file")),  # the first failed check is of another kind
        failed(ANSWER, at=1),  # at another event
        failed(),  # no check failed: a guest that crashed
    ],
)
def test_failing_otherwise_is_a_failure(result: CaseResult) -> None:
    assert known.judge_known(result, kernel(), [ISSUE]) == result


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
    assert known.judge_known(result, of, [ISSUE]).status is Status.FAIL
    passed = replace(result, status=Status.PASS)
    assert known.judge_known(passed, of, [ISSUE]) == passed


def test_an_order_by_another_name_is_matched_by_its_notation() -> None:
    issue = replace(ISSUE, fails=(known.Fails("basic", "+t", orders=("+p  +t -t +filler +t",)),))
    result = replace(failed(ANSWER), case=Case("order", "basic", orders.parse(ORDER)))
    assert known.judge_known(result, kernel(), [issue]).status is Status.KNOWN


def test_passing_although_listed_is_fixed_unless_it_fails_only_sometimes() -> None:
    passed = replace(failed(ANSWER), status=Status.PASS)
    judged = known.judge_known(passed, kernel(), [ISSUE])
    assert (judged.status, judged.known_issue) == (Status.FIXED, "reload")
    sometimes = replace(ISSUE, fails=(replace(ISSUE.fails[0], sometimes=True),))
    assert known.judge_known(passed, kernel(), [sometimes]) == passed
    assert known.judge_known(failed(ANSWER), kernel(), [sometimes]).status is Status.KNOWN


@pytest.mark.parametrize("status", [Status.ERROR, Status.SKIP])
def test_trouble_of_the_harness_is_never_a_known_issue(status: Status) -> None:
    result = replace(failed(ANSWER), status=status)
    assert known.judge_known(result, kernel(), [ISSUE]) == result


# --- our list ----------------------------------------------------------------------------------


def written_again(capabilities: frozenset[str]) -> Iterator[tuple[str, str, str]]:
    """(module set, case, event) of the core suite at which livepatch writes relocations that still
    hold an earlier target's, the first time in each case: what x86 refuses."""
    sets = catalog.module_sets()
    core = catalog.load_toml(Path(suite.__file__).parent / "suites/core.toml", suite.SuiteFile)
    for case in suite.expand(core, sets):
        state, so_far = model.State(), []
        for event in case.order.events:
            before = state.relocation_states()
            so_far.append(text := orders.format_event(event))
            state, expected = model.step(sets[case.module_set], state, event, capabilities)
            if any(
                before.get(pair) is RelocationState.LEFT
                and now in (RelocationState.APPLIED, RelocationState.WRITTEN)
                for pair, now in expected.relocations.items()
            ):
                yield case.module_set, case.name, f"{text}#{so_far.count(text)}"
                break


@pytest.mark.parametrize("version", [(6, 1), (6, 12)])
def test_our_list_for_x86_is_what_the_model_says(version: tuple[int, int]) -> None:
    file = catalog.load_toml(CONFIG / "known-issues.toml", known.KnownIssuesFile)
    declared = catalog.load_toml(CONFIG / "capabilities.toml", known.CapabilitiesFile).capability
    listed = {
        (fails.modules, case, fails.event if "#" in fails.event else f"{fails.event}#1")
        for issue in file.issue
        if "x86_64" in issue.architectures and known.in_range(version, issue.kernels)
        for fails in issue.fails
        for case in fails.cases
    }
    capabilities = known.capabilities(declared, version, "x86_64", ())
    assert listed == set(written_again(capabilities))


def test_every_case_in_our_list_is_in_the_core_suite() -> None:
    file = catalog.load_toml(CONFIG / "known-issues.toml", known.KnownIssuesFile)
    listed = {(f.modules, case) for issue in file.issue for f in issue.fails for case in f.cases}
    assert listed <= {(modules, case) for modules, case, _ in written_again(frozenset())}
