# SPDX-License-Identifier: GPL-2.0-only
"""A livepatch that names, for its target, a symbol of a third module: that one there or not, and
gone meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest
from vmkit import ARCHES, klp_e2e

from orchestrator.model.movers import FILLER
from orchestrator.report import directory
from orchestrator.verdicts import CheckKind, Status

ELSEWHERE = Path(__file__).with_name("elsewhere")
ORDERS = (
    "+klp_near_patch +klp_near +klp_far +klp_near -klp_near +klp_near",
    "+klp_near +klp_near_patch +klp_far +klp_near_patch",
    f"+klp_far +klp_near_patch +klp_near -klp_near +{FILLER} +klp_near -klp_far -klp_near "
    "+klp_far +klp_near",
)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("elsewhere") / "results"
    given = (word for order in ORDERS for word in ("--order", order))
    done = klp_e2e("run", "--modules", ELSEWHERE, "-o", place, *given)
    assert done.code == 0, done.output + done.errors
    return place


@pytest.mark.parametrize("arch", ARCHES)
def test_a_third_modules_symbol_is_there_or_its_target_is_refused(ran: Path, arch: str) -> None:
    results = {r.case.name: r for r in directory.read(ran)[1] if r.arch == arch}
    assert {r.status for r in results.values()} == {Status.PASS}, [
        r.reason for r in results.values()
    ]
    answers = {
        name: [c.seen for s in r.steps for c in s.checks if c.kind is CheckKind.ANSWER]
        for name, r in results.items()
    }
    refused, good = "EINVAL (22)", "success"
    assert answers["order-1"] == [good, refused, good, good, good, good]
    assert answers["order-2"] == [good, refused, good, good]
    assert answers["order-3"] == [good] * 10


@pytest.mark.parametrize("arch", ARCHES)
def test_nothing_calls_into_it_once_it_is_gone(ran: Path, arch: str) -> None:
    (result,) = (r for r in directory.read(ran)[1] if (r.arch, r.case.name) == (arch, "order-3"))
    gone = result.steps[6]
    assert gone.event == "-klp_far" and gone.relocations_read >= 2
    assert not [c for c in gone.checks if c.kind is CheckKind.VALUE]
    left = [c for c in gone.checks if "klp_far_secret" in c.subject]
    assert left and all(c.good and "as before (stale)" in c.expected for c in left)
    last = [c for c in result.steps[-1].checks if c.kind is CheckKind.VALUE]
    assert [c.seen for c in last] == ["version=klp_near_patch near=33 far=77"]
