# SPDX-License-Identifier: GPL-2.0-only
"""A document of somebody else's makes nobody run his Makefiles: what it names is to be typed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from bundle_samples import VALUE, a_result
from samples import a_kernel
from test_report import a_run

from orchestrator import catalog
from orchestrator.cli import options, outsiders, session
from orchestrator.cli.outsiders import Given
from orchestrator.commands import explore, minimise
from orchestrator.commands.mutate import work
from orchestrator.errors import UsageError
from orchestrator.explore.campaign import CampaignOptions
from orchestrator.nouns import Channel
from orchestrator.report.directory import ResultsDirectory
from orchestrator.report.progress import Reporter
from orchestrator.report.terminal import Terminal
from orchestrator.source import series
from orchestrator.source.alterations import AlterationKind
from orchestrator.verdicts import Run

EVIL = Path("/evil")
OURS = Run(("klp-e2e",), 0.0, "debian:6.1", ("livepatch-reload@2", "mutants/01-x"), 1)


def test_a_series_of_ours_is_not_looked_for_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Documents name it, and somebody else's directory may hold one of that name."""
    monkeypatch.chdir(tmp_path)
    for name in ("livepatch-reload", "livepatch-reload@1", "livepatch-reload@merged", "none"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "series").write_text("evil.patch\n")
        assert options.stack([name]) == (() if name == "none" else (name,))
    ours = series.resolve("livepatch-reload", (6, 1)).patches
    assert series.resolve("livepatch-reload@1", (6, 1)).patches == ours[:1]


@pytest.mark.parametrize("names", ["/evil/x.toml", "s390x ./x.toml", "../s390x"])
def test_an_architecture_in_a_document_is_a_name(names: str) -> None:
    run = replace(OURS, options={"arches": names})
    with pytest.raises(UsageError, match="is no architecture's name"):
        session.arches_of(run, Path("results"))


@pytest.mark.parametrize(
    ("run", "more", "words"),
    [
        (replace(OURS, source="git:https://evil/x#main"), {}, "--kernel git:https://evil/x#main"),
        (replace(OURS, source="dir:/evil"), {}, "--kernel dir:/evil"),
        (replace(OURS, source="tar:/evil.tar"), {}, "--kernel tar:/evil.tar"),
        (replace(OURS, series=("/evil/series",)), {}, "--series /evil/series"),
        (replace(OURS, series=("git:/evil#A..B",)), {}, "--series git:/evil#A..B"),
        (replace(OURS, series=("mutants/../../evil",)), {}, "--series mutants/../../evil"),
        (replace(OURS, series=("/evil/series@2",)), {}, "--series /evil/series@2"),
        (replace(OURS, arch_files={"x": "/evil/x.toml"}), {"arches": ["x"]}, "--arch-file"),
        (OURS, {"module_sets": ["basic", "/evil/set"]}, "--modules /evil/set"),
        (OURS, {"suite": "/evil/suite.toml"}, "--suite /evil/suite.toml"),
        (OURS, {"patches": EVIL / "patches"}, "--patches /evil/patches"),
        (replace(OURS, source="dir:/evil dir;x"), {}, "--kernel dir:/evil dir;x"),
    ],
)
def test_what_is_not_ours_is_to_be_named_again(
    run: Run, more: dict[str, object], words: str
) -> None:
    with pytest.raises(UsageError, match="runs its Makefiles") as caught:
        outsiders.refuse(Path("results"), run, Given(), **more)  # type: ignore[arg-type]
    option, value = shlex.split(caught.value.hint.rpartition("add ")[2])
    assert f"{option} {value}".startswith(words)
    key = {"--arch-file": "arch"}.get(option, option.removeprefix("--"))
    one = key in ("kernel", "suite", "patches")
    given = Given.of(**{key: value if one else [value]})  # type: ignore[arg-type]
    outsiders.refuse(Path("results"), run, given, **more)  # type: ignore[arg-type]


def test_what_is_ours_needs_no_word() -> None:
    outsiders.refuse(
        *(Path("results"), OURS, Given()),
        arches=["x86_64"],
        module_sets=["basic", "two-targets"],
        suite="core",
    )
    # of an architecture that is not to be built nothing is read
    outsiders.refuse(Path("r"), replace(OURS, arch_files={"x": "/x.toml"}), Given(), arches=["y"])


def test_the_commit_that_would_be_built_counts(tmp_path: Path) -> None:
    """`--kernel debian:6.1` in the document, and a kernel of somewhere else: that is built."""
    kernel = replace(a_kernel("s390x"), source="git:/evil#0123")
    with pytest.raises(UsageError, match="git:/evil#0123"):
        outsiders.refuse(tmp_path, replace(OURS, kernels=(kernel,)), Given.of(kernel="debian:6.1"))


def test_what_is_typed_serves_from_any_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "linux").mkdir()
    (tmp_path / "fix.mbx").touch()
    monkeypatch.chdir(tmp_path)
    given = Given.of(arch=["mine.toml"], kernel="dir:linux", series=["fix.mbx"], modules=["./mine"])
    run = replace(OURS, source=f"dir:{tmp_path}/linux", series=(f"{tmp_path}/fix.mbx",))
    run = replace(run, arch_files={"mine": f"{tmp_path}/mine.toml"})
    outsiders.refuse(tmp_path, run, given, arches=["mine"], module_sets=[f"{tmp_path}/mine"])


def a_walk(tmp_path: Path) -> None:
    built = options.build_options([], "dir:/evil", ["none"], 1)
    wanted = explore.ExploreOptions(
        built, ("basic",), CampaignOptions(), Channel.AGENT, False, tmp_path / "doc"
    )
    explore.begin(wanted, ("klp-e2e",))


def an_experiment(tmp_path: Path) -> None:
    built = options.build_options([], "dir:/evil", ["none"], 1)
    patches = options.alterations(AlterationKind.ABLATION, ())
    wanted = work.ExperimentOptions(
        built, AlterationKind.ABLATION, patches, None, options.SUITE, True, 1, tmp_path / "doc"
    )
    work.begin(wanted, ("klp-e2e",))


def some_results(tmp_path: Path) -> None:
    with ResultsDirectory(tmp_path / "doc", replace(a_run(1), source="dir:/evil", kernels=())) as w:
        w.add(a_result(VALUE))


def minimised(place: Path) -> None:
    result = a_result(VALUE)
    name = f"{result.arch}/{result.case.module_set}/{result.case.name}"
    minimise.minimise_failure(place, name, 1, None, 1, Reporter(Terminal()))


@pytest.mark.parametrize(
    ("made", "use"),
    [
        (a_walk, lambda place: explore.resumed(place, 1)),
        (an_experiment, lambda place: work.resumed(place, 1)),
        (some_results, minimised),
    ],
)
def test_every_command_that_goes_on_from_a_document_asks(
    tmp_path: Path, made: Callable[[Path], None], use: Callable[[Path], object]
) -> None:
    made(tmp_path)
    with pytest.raises(UsageError, match="names what is not klp-e2e's own") as caught:
        use(tmp_path / "doc")
    assert re.search("add --kernel dir:/evil( --modules ./tiny)?$", caught.value.hint)


def test_our_own_names_are_those_of_the_catalog() -> None:
    assert all(not catalog.is_place(name) for name in catalog.module_sets())
