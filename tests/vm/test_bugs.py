# SPDX-License-Identifier: GPL-2.0-only
"""A PASS cannot be had by accident: kernels with a piece missing turn red, for the right reason."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from vmkit import ARCHES, BUILDS, klp_e2e

from orchestrator import catalog
from orchestrator.report import directory
from orchestrator.verdicts import CaseResult, CheckKind, Status

# one build tree an architecture: who counts what is compiled must be alone with it
pytestmark = [pytest.mark.xdist_group("build trees"), pytest.mark.timeout(BUILDS)]

RELOAD = "+klp_patch +klp_target -klp_target +filler +klp_target"
RETRY = (
    "+klp_callbacks[fail_pre_patch=19] +klp_callbacks_target +klp_callbacks_filler "
    "klp_callbacks.fail_pre_patch=0 +klp_callbacks_target"
)
WITH_GOT = [a for a in ARCHES if any(r.leads_to == "got" for r in catalog.arch(a).relocations)]
WITHOUT_GOT = [a for a in ARCHES if a not in WITH_GOT]


def run(place: Path, *arguments: str | Path) -> tuple[int, dict[tuple[str, str], CaseResult]]:
    """(exit code, (architecture, module set) -> result)"""
    done = klp_e2e("run", "-o", place, *arguments)
    _, results = directory.read(place)
    assert results, done.output + done.errors
    found = {}
    for result in results:
        case = place / result.arch / f"{result.case.module_set}.{result.case.name}"
        console = (case / "console.log").read_text()
        found[result.arch, result.case.module_set] = replace(result, console=console)
    return done.code, found


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], CaseResult]:
    """Both orders on the kernel without the series."""
    where = tmp_path_factory.mktemp("bare")
    found = {}
    for number, (name, order) in enumerate((("basic", RELOAD), ("callbacks", RETRY))):
        common = ("--series", "none", "--strict", "--modules", name, "--order", order)
        code, results = run(where / str(number), *common)
        assert code == 1
        found.update(results)
    return found


@pytest.mark.parametrize("name", ["basic", "callbacks"])
@pytest.mark.parametrize("arch", WITHOUT_GOT)
def test_a_bare_kernel_refuses_the_second_load(
    bare: dict[tuple[str, str], CaseResult], arch: str, name: str
) -> None:
    result = bare[arch, name]
    assert result.status is Status.KNOWN, "by what the kernel lacks, not by a case's name"
    failure = result.first_failure()
    assert failure is not None
    index, _, check = failure
    assert index == len(result.case.order.events) - 1
    assert (check.kind, check.expected) == (CheckKind.ANSWER, "success")
    assert check.seen == "ENOEXEC (8)"
    assert "existing value is nonzero" in result.console


@pytest.mark.parametrize("name", ["basic", "callbacks"])
@pytest.mark.parametrize("arch", WITH_GOT)
def test_a_bare_kernel_leaves_a_stale_got_slot(
    bare: dict[tuple[str, str], CaseResult], arch: str, name: str
) -> None:
    """The load succeeds and the console is clean: only the read-back and the values tell."""
    result = bare[arch, name]
    assert result.status is Status.KNOWN
    last = result.steps[-1]
    assert len(result.steps) == len(result.case.order.events)
    bad = [check for check in last.checks if not check.good]
    assert {check.kind for check in bad} == {CheckKind.RELOCATION, CheckKind.VALUE}
    through = [check for check in bad if check.kind is CheckKind.RELOCATION]
    got = {r.name for r in catalog.arch(arch).relocations if r.leads_to == "got"}
    assert {check.subject.split()[2] for check in through} <= got
    assert all("resolve through got 0x" in check.seen for check in through)


def test_the_series_without_a_patch_fails_where_the_patch_belongs(tmp_path: Path) -> None:
    """Leave out the patch for the architecture with a GOT: there, and only there, reload is red."""
    series = catalog.data_dir("kernel-config") / "series" / "livepatch-reload"
    mine = tmp_path / "without-one"
    shutil.copytree(series, mine)
    names = [name for name in (mine / "series").read_text().split() if "s390" not in name]
    (mine / "series").write_text("\n".join(names) + "\n")
    code, results = run(
        tmp_path / "results", "--series", mine, "--strict", "--modules", "basic", "--order", RELOAD
    )
    assert code == 1
    for arch in WITHOUT_GOT:  # nobody has said that this series mends what is listed
        assert results[arch, "basic"].status is Status.FIXED
    for arch in WITH_GOT:
        assert results[arch, "basic"].status is Status.KNOWN
        failure = results[arch, "basic"].first_failure()
        assert failure is not None
        assert failure[2].kind is CheckKind.RELOCATION
