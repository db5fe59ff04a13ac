# SPDX-License-Identifier: GPL-2.0-only
"""Broken livepatch modules on real guests: one that is refused, one that crashes the kernel, and
one behind it, which must not suffer from that."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from vmkit import ARCHES, run_cases

from orchestrator.build.prepare import Bootable
from orchestrator.commands import malformed
from orchestrator.verdicts import CaseResult, Status

pytestmark = pytest.mark.xdist_group("malformed")  # its guests are booted once

REFUSED = "symbol-missing/target-later"
CRASHES = "relocation-symbol-range/target-first"
HARMLESS = "symbol-sympos-wraps/target-later"

Results = Mapping[str, tuple[CaseResult, ...]]  # by architecture


@pytest.fixture(scope="module")
def results(bootables: Mapping[str, Bootable], tmp_path_factory: pytest.TempPathFactory) -> Results:
    """As they are before it is asked what is known."""
    place = tmp_path_factory.mktemp("malformed")
    cases = [malformed.cases([name])[0] for name in (REFUSED, CRASHES, HARMLESS)]
    names = [name.partition("/")[0] for name in (REFUSED, CRASHES, HARMLESS)]
    broken = [malformed.with_broken(bootable, names, place) for bootable in bootables.values()]
    ran = run_cases(broken, cases)
    return {
        arch: tuple(r for case in cases for r in ran.results if (r.arch, r.case) == (arch, case))
        for arch in ARCHES
    }


@pytest.mark.parametrize("arch", ARCHES)
def test_what_is_refused_and_what_is_harmless_pass(results: Results, arch: str) -> None:
    refused, _, harmless = results[arch]
    for result in (refused, harmless):
        assert (result.status, result.reason) == (Status.PASS, "")
        assert len(result.steps) == 4
    assert "EINVAL" in refused.steps[1].checks[0].seen
    assert harmless.steps[1].relocations_read > 5
    assert harmless.cold, "the guest before it has crashed"


@pytest.mark.parametrize("arch", ARCHES)
def test_a_crash_is_a_failure_unless_it_is_known(
    results: Results, bootables: Mapping[str, Bootable], arch: str
) -> None:
    _, crashed, _ = results[arch]
    assert crashed.status is Status.FAIL
    assert [step.good for step in crashed.steps] == [True, False]
    assert crashed.reason.startswith(("BUG: ", "Unable to handle"))
    known = malformed.judged(crashed, bootables[arch].kernel.capabilities)
    assert known.status is Status.KNOWN
    assert "klp_resolve_symbols()" in known.known_issue
