# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's own tests on real guests: one of the kernel's scripts, and scripts of ours that end
in every other way, to see that none of them passes."""

from __future__ import annotations

import functools
import shutil
import threading
from collections.abc import Mapping

import pytest
from vmkit import ARCHES

from orchestrator.build import testtree
from orchestrator.build.prepare import Bootable
from orchestrator.commands import kselftest
from orchestrator.deadline import Deadline
from orchestrator.run import scriptrun, slot, workers
from orchestrator.run.observe import module_path
from orchestrator.verdicts import CaseResult, CheckKind, Status

pytestmark = pytest.mark.xdist_group("kselftest")  # its guests are made once

OWN = "test-shadow-vars.sh"  # the quickest
IMPATIENCE = 4.0  # seconds for the script that hangs, times time_scale
HEAD = "#!/bin/bash\n. $(dirname $0)/functions.sh\n"
# log(): what the kernel's log is expected to hold is not what it holds
DIFFERS = 'start_test "differs"\nlog "livepatch: seen"\ncheck_result "livepatch: expected"\n'
HANGING = "hangs.sh"
HANGS = 'start_test "hangs"\nsleep 100000\n'
CRASHES = """\
start_test "crashes"
insmod {module}
echo panic > /sys/module/trouble/parameters/what
"""


@pytest.fixture(scope="module")
def results(
    bootables: Mapping[str, Bootable], tmp_path_factory: pytest.TempPathFactory
) -> Mapping[tuple[str, str], CaseResult]:
    """By architecture and script, all architectures side by side."""
    scratch = tmp_path_factory.mktemp("kselftest")
    crashes = CRASHES.format(module=module_path("trouble", "trouble"))
    scripts = {"crashes.sh": crashes, "differs.sh": DIFFERS, HANGING: HANGS}
    ready = []
    for bootable in bootables.values():
        built = testtree.build(
            bootable.kernel, bootable.arch, jobs=2, deadline=Deadline.after(600), say=print
        )
        assert "test-reload.sh" in built.tests, "of the series"
        tree = testtree.SelftestTree(scratch / f"{bootable.arch.name}.tree", built.release)
        shutil.copytree(built.directory, tree.directory)
        installed = tree.directory / "kselftest"
        for name, text in scripts.items():
            (installed / "livepatch" / name).write_text(HEAD + text)
            (installed / "livepatch" / name).chmod(0o755)
        listed = "".join(f"livepatch:{name}\n" for name in (OWN, *scripts))
        (installed / testtree.LIST).write_text(listed)
        ready.append(kselftest.with_tests(bootable, tree, scratch))
    found: list[CaseResult] = []
    cases = kselftest.cases(tree)
    used = slot.GuestOptions()
    workers.run_cases(ready, [c for c in cases if c.name != HANGING], used, found.append)
    patience = functools.partial(scriptrun.run_script, patience=IMPATIENCE)
    (hanging,) = (case for case in cases if case.name == HANGING)
    for bootable in ready:
        with slot.GuestSlot(bootable, used, threading.Event()) as guests:
            found.append(guests.use(hanging, patience))
    return {(result.arch, result.case.name): result for result in found}


@pytest.mark.parametrize("arch", ARCHES)
def test_the_kernels_script_passes(
    results: Mapping[tuple[str, str], CaseResult], arch: str
) -> None:
    result = results[arch, OWN]
    assert (result.status, result.reason) == (Status.PASS, "")
    assert [step.event for step in result.steps] == ["basic shadow variable API", "end"]
    assert "klp_shadow_get" in result.dmesg


@pytest.mark.parametrize("arch", ARCHES)
def test_a_difference_in_the_kernels_log_is_shown(
    results: Mapping[tuple[str, str], CaseResult], arch: str
) -> None:
    result = results[arch, "differs.sh"]
    assert (result.status, result.reason) == (Status.FAIL, "differs: -livepatch: expected")
    assert "\n+livepatch: seen\n" in result.steps[0].checks[0].seen


@pytest.mark.parametrize("arch", ARCHES)
def test_a_script_that_hangs_says_nothing_of_the_kernel(
    results: Mapping[tuple[str, str], CaseResult], arch: str
) -> None:
    result = results[arch, "hangs.sh"]
    assert result.status is Status.ERROR
    assert "hangs" in result.reason


@pytest.mark.parametrize("arch", ARCHES)
def test_a_crash_is_the_kernels(results: Mapping[tuple[str, str], CaseResult], arch: str) -> None:
    result = results[arch, "crashes.sh"]
    assert result.status is Status.FAIL
    assert result.reason.startswith("crashes: Kernel panic - not syncing: ")
    assert result.steps[-1].checks[-1].kind is CheckKind.HEALTH
