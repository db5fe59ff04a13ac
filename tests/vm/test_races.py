# SPDX-License-Identifier: GPL-2.0-only
"""Events at the same time, and bursts of events, on real guests."""

from __future__ import annotations

import pytest
from vmkit import TROUBLE, case, run_cases

from orchestrator.build.prepare import Bootable
from orchestrator.verdicts import CaseResult, Check, CheckKind, Status

AGAIN = 10


def checks(result: CaseResult, subject: str) -> list[Check]:
    return [check for step in result.steps for check in step.checks if check.subject == subject]


def test_livepatch_and_target_race_and_the_rest_is_as_ever(bootable: Bootable) -> None:
    """Each time from the snapshot of one guest with two CPUs."""
    order = "{+klp_patch +klp_target} -klp_target +klp_target"
    cases = [case(f"race-{number}", order) for number in range(AGAIN)]
    ran = run_cases([bootable], cases)
    assert [r.reason for r in ran.results if r.status is not Status.PASS] == []
    assert len(ran.results) == AGAIN
    assert len(ran.guests) == 1
    for result in ran.results:
        assert result.qemu_argv[result.qemu_argv.index("-smp") + 1] == "2"
        assert checks(result, "answer")[0].seen == "success, success"
        assert all(step.relocations_read for step in result.steps)


@pytest.mark.parametrize(
    ("order", "modules", "answers"),
    [
        (
            "{+klp_target +klp_target}",
            "basic",
            {"success, EEXIST (17)", "EEXIST (17), success"},
        ),
        (
            "+klp_patch {+klp_target -klp_target}",
            "basic",
            {
                f"success, {other}"
                for other in ("success", "ENOENT (2)", "EBUSY (16)", "EAGAIN (11)")
            },
        ),
        (
            "{+klp_lower +klp_upper}",
            "stacked",
            {"success, EBUSY (16)", "EBUSY (16), success", "success, success"},
        ),
    ],
)
def test_the_kernel_decides_a_race_as_it_may(
    bootable: Bootable, order: str, modules: str, answers: set[str]
) -> None:
    ran = run_cases([bootable], [case(f"race-{number}", order, modules) for number in range(3)])
    assert [r.reason for r in ran.results if r.status is not Status.PASS] == []
    assert {checks(result, "answer")[-1].seen for result in ran.results} <= answers


def test_reloads_leak_nothing_and_a_leak_of_a_page_is_seen(bootable: Bootable) -> None:
    leaks = ("leak", "forget")
    cases = [
        case("reload", "+klp_patch (+klp_target -klp_target)*50"),
        case("all", "(+klp_patch +klp_target -klp_target klp_patch=0 -klp_patch)*50"),
        *[case(what, f"(+trouble[what={what}] -trouble)*50", TROUBLE) for what in leaks],
    ]
    ran = run_cases([bootable], cases)
    results = {result.case.name: result for result in ran.results}
    for name in ("reload", "all"):
        assert (results[name].status, results[name].reason) == (Status.PASS, "")
        (memory,) = checks(results[name], "memory")
        assert memory.good
    for name in leaks:
        wrong = [check for step in results[name].steps for check in step.checks if not check.good]
        assert [(check.kind, check.subject) for check in wrong] == [(CheckKind.HEALTH, "memory")]
