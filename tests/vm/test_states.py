# SPDX-License-Identifier: GPL-2.0-only
"""The states of livepatches: which livepatch the kernel enables beside, and in place of, which."""

from __future__ import annotations

from vmkit import case, run_cases

from orchestrator.build.prepare import Bootable
from orchestrator.verdicts import Answers, Status

ORDERS = {
    "a newer version, an older one, one without": (
        "+klp_stateful +klp_state_one +klp_state_two klp_state_one=0 -klp_state_one +klp_state_one "
        "+klp_state_none",
        [0, 0, 0, 0, 0, 22, 0],
    ),
    "in the place of all": (
        "+klp_state_two +klp_stateful +klp_state_less +klp_state_all -klp_state_two +klp_state_two "
        "klp_state_two=0 klp_state_all=0 +klp_state_less",
        [0, 0, 22, 0, 0, 0, 0, 0, 0],
    ),
    "nothing of what is there": ("+klp_state_all +klp_state_one +klp_state_less", [0, 22, 22]),
}


def test_the_kernel_goes_by_the_states(bootable: Bootable) -> None:
    cases = [case(name, order, "states") for name, (order, _) in ORDERS.items()]
    ran = run_cases([bootable], cases)
    assert [r.reason for r in ran.results if r.status is not Status.PASS] == []
    for result in ran.results:
        details = [check.detail for step in result.steps for check in step.checks]
        seen = [d.seen_errnos for d in details if isinstance(d, Answers)]
        assert seen == [(errno,) for errno in ORDERS[result.case.name][1]], result.case.name
    assert sum(step.relocations_read for r in ran.results for step in r.steps) > 0


def test_two_livepatches_of_which_one_is_older_race(bootable: Bootable) -> None:
    order = "+klp_stateful {+klp_state_one +klp_state_two} {+klp_state_none +klp_stateful}"
    ran = run_cases([bootable], [case(f"race-{number}", order, "states") for number in range(3)])
    assert [r.reason for r in ran.results if r.status is not Status.PASS] == []
