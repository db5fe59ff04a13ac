# SPDX-License-Identifier: GPL-2.0-only
"""Configurations: what a fragment's head says, and where a configuration turns up again."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from bundle_samples import ANSWER, a_bench, a_result
from history_samples import a_kernel_input, a_night

from orchestrator import catalog
from orchestrator.build import configs, kconfig, knownoptions
from orchestrator.build.kernel import configuration
from orchestrator.cli import options, outsiders
from orchestrator.cli.outsiders import Given
from orchestrator.commands.nightly import plan, retry
from orchestrator.commands.nightly.config import Config, Matrix
from orchestrator.errors import ConfigError, UsageError
from orchestrator.history import inputs
from orchestrator.history.nights import Job, Row
from orchestrator.nouns import CaseKind
from orchestrator.report import reproduce, same
from orchestrator.repro import bundle
from orchestrator.verdicts import Run, Status

ARCH = next(iter(catalog.arches().values()))
RUN = Run(("klp-e2e", "run"), 0.0, "debian:6.1", (), 1)


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    file = tmp_path / "mine.config"
    file.write_text("# memory: 2\n# time: 1.5\nCONFIG_KASAN=y\n# CONFIG_SMP is not set\n")
    return file


@pytest.mark.parametrize("name", configs.ours())
def test_each_of_ours_says_what_it_is_for_and_requires_what_it_is_named_after(name: str) -> None:
    found = configs.read(name)
    assert found.purpose and found.report
    values = kconfig.parse(found.text)
    required = kconfig.required([found.text])
    names = frozenset().union(*required)
    assert names and names <= values.keys(), "or a kernel without it would pass for one"
    assert values.keys() <= knownoptions.known()
    keys = set(re.findall(r"^# (\w+): ", found.text, re.MULTILINE))
    assert keys <= {
        *("for", "report", "memory", "time", "arches", "kernels", "toolchain", "required")
    }
    known = {arch.kernel_arch for arch in catalog.arches().values()}
    assert set(found.arches) <= known


def test_the_reference_tells_of_each_of_ours_in_its_own_words() -> None:
    page = (Path(__file__).parents[2] / "docs/reference/kernels-and-series.md").read_text()
    section = page.partition("\n## Configurations\n")[2].partition("\n## ")[0]
    section = section.partition("| `--config` |")[2].partition("\n\n")[0]
    rows = dict(re.findall(r"^\| `([a-z-]+)` \| (.+) \|$", section, re.MULTILINE))
    assert rows == {name: configs.read(name).purpose for name in configs.ours()}


def test_a_fragment_goes_on_top_of_the_architecture_s_and_the_last_one_wins(mine: Path) -> None:
    arch = configs.configured(ARCH, [str(mine)])
    values = kconfig.parse(configuration(arch))
    assert (values["KASAN"], values["SMP"], values["MODULES"]) == ("y", "n", "y")
    other = mine.with_name("other.config")
    other.write_text("CONFIG_SMP=y\n")
    both = configs.configured(arch, [str(other)])
    assert kconfig.parse(configuration(both))["SMP"] == "y"
    assert both.configs == (str(mine), str(other))


def test_guests_have_the_memory_and_the_time_for_it(mine: Path) -> None:
    arch = configs.configured(ARCH, [str(mine)])
    assert arch.memory_mb == 2 * ARCH.memory_mb and arch.time_scale == 1.5 * ARCH.time_scale
    built = options.build_options([ARCH.name], "debian:6.1", [], 1, [str(mine), str(mine)])
    assert built.arches == (arch,) and built.configs == (str(mine),)


def test_what_several_need_together_has_a_bound(mine: Path, tmp_path: Path) -> None:
    mine.write_text(mine.read_text().replace("memory: 2", "memory: 16"))
    other = tmp_path / "other.config"
    other.write_text("# memory: 1.5\nCONFIG_SMP=y\n")
    assert configs.configured(ARCH, [str(mine)]).memory_mb == 16 * ARCH.memory_mb
    with pytest.raises(UsageError, match="together need more than 16 times"):
        configs.configured(ARCH, [str(mine), str(other)])


@pytest.mark.parametrize(
    ("head", "told"),
    [
        ("# memory: 0.5", "memory: 0.5"),
        ("# memory: much", "memory: much"),
        ("# time: 17", "time: 17"),
        ("# kernels: 6", "kernels: 6"),
        ("# toolchain: clang", "toolchain: clang"),
        ("CONFIG_X", "line 1 is not a Kconfig option: CONFIG_X"),
        ('CONFIG_X="$(shell id)"', r"line 1 has a \$ in it"),
    ],
)
def test_a_head_that_cannot_be_is_told(head: str, told: str, mine: Path) -> None:
    mine.write_text(f"{head}\n")
    with pytest.raises(UsageError, match=rf"{mine}: {told}"):
        options.configurations([str(mine)])


def test_one_that_is_none_of_ours_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown configuration: kasen") as caught:
        options.configurations(["kasen"])
    assert "did you mean kasan?" in caught.value.hint
    with pytest.raises(UsageError, match=r"gone\.config"):
        options.configurations([str(tmp_path / "gone.config")])


def test_what_it_needs_is_told_before_anything_is_built(mine: Path) -> None:
    mine.write_text("# arches: vax\n")
    with pytest.raises(UsageError, match=f"is not for {ARCH.name}"):
        configs.configured(ARCH, [str(mine)])
    mine.write_text(f"# arches: vax {ARCH.kernel_arch}\n# kernels: 6.2\n")
    arch = configs.configured(ARCH, [str(mine)])
    with pytest.raises(UsageError, match=r"for Linux 6\.2 and later, this is 6\.1"):
        configs.check_kernel(arch, (6, 1))
    configs.check_kernel(arch, (6, 2))


@pytest.mark.parametrize(
    ("whose", "given", "right"), [("llvm", "gcc", "llvm-19"), ("gcc", "llvm-19", "gcc-12")]
)
def test_one_for_another_compiler_is_told_before_anything_is_built(
    mine: Path, whose: str, given: str, right: str
) -> None:
    mine.write_text(f"# toolchain: {whose}\nCONFIG_KASAN=y\n")
    told = rf"{mine} is for {whose} and not for {given}, .* {ARCH.name} kernel"
    with pytest.raises(UsageError, match=told) as caught:
        options.build_options([ARCH.name], "debian:6.1", [], 1, [str(mine)], given)
    assert f"--toolchain {whose}" in caught.value.hint
    built = options.build_options([ARCH.name], "debian:6.1", [], 1, [str(mine)], right)
    assert built.arches[0].configs == (str(mine),)


def test_an_architecture_s_file_names_no_configuration(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    text = catalog.arch_file(ARCH.name).read_text()
    file.write_text(f'configs = ["kasan"]\n{text}')
    with pytest.raises(UsageError, match="configs"):
        catalog.arch(str(file))


def test_a_fragment_of_the_architecture_that_is_none_is_told_by_its_name(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(catalog.arch_file(ARCH.name).read_text())
    file.with_suffix(".config").write_text("X\n")
    with pytest.raises(ConfigError, match=rf"{tmp_path}/mine\.config: line 1"):
        configuration(catalog.arch(str(file)))


# --- where it turns up again ---------------------------------------------------------------------


def test_the_line_that_reproduces_a_case_names_it() -> None:
    line = reproduce.line(replace(RUN, configs=("kasan", "lockdep")), a_result())
    assert "--series none --config kasan --config lockdep " in line


def test_what_was_begun_with_another_is_not_gone_on_with() -> None:
    same.refuse_other(Path("r"), RUN, RUN)
    with pytest.raises(UsageError, match="begun with --config kasan"):
        same.refuse_other(Path("r"), replace(RUN, configs=("kasan",)), RUN)


def test_a_document_that_names_somebody_s_file_does_not_have_it_built(mine: Path) -> None:
    run = replace(RUN, configs=("kasan", str(mine)))
    with pytest.raises(UsageError, match=str(mine)) as caught:
        outsiders.refuse(Path("r"), run, outsiders.NOTHING)
    assert f"--config {mine}" in caught.value.hint
    outsiders.refuse(Path("r"), run, Given.of(config=[str(mine)]))
    outsiders.refuse(Path("r"), replace(RUN, configs=("kasan",)), outsiders.NOTHING)


def a_plan(*chosen: str | tuple[str, ...]) -> tuple[Job, ...]:
    read = plan.Reader(
        targets=lambda names: [plan.Target("x", "x")],
        source=str,
        stack=lambda names: tuple(name for name in names if name != "none"),
        known_issues=tuple,
        seconds=options.seconds,
    )
    return plan.expand(Config((Matrix(("k",), ("s",), configs=chosen),)), read)


def test_a_night_has_each_configuration_as_a_kernel_of_its_own() -> None:
    found = a_plan("none", "kasan", ("kasan", "lockdep"))
    builds = [job for job in found if job.name.endswith("/build")]
    assert [job.kernel for job in builds] == ["k + s", "k + s + kasan", "k + s + kasan + lockdep"]
    assert [job.configs for job in builds] == [(), ("kasan",), ("kasan", "lockdep")]
    assert builds[2].command[-4:] == ("--config", "kasan", "--config", "lockdep")
    assert len({job.name for job in found}) == len(found)


def test_what_a_night_tries_again_it_tries_on_the_same_kernel() -> None:
    job = next(job for job in a_plan("kasan") if not job.name.endswith("/build"))
    assert plan.stack_words((), ("a",), "") == ("--series", "none", "--config", "a")
    row = Row(job.name, "c", Status.FAIL, kind=CaseKind.ORDER, module_set="basic", order="+x")
    assert "--config kasan" in " ".join(retry.words(job, row))


def test_two_runs_that_differ_in_it_are_told_apart() -> None:
    before = replace(a_night("1"), kernels=(a_kernel_input(),))
    now = replace(a_night("2"), kernels=(replace(a_kernel_input(), configs=("kasan",)),))
    told = inputs.inputs(now, before, {})
    assert [(one.what, one.before, one.after) for one in told] == [("configuration", "", "kasan")]


def test_a_bundle_boots_a_guest_as_large_and_as_slow_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KLP_E2E_CACHE", str(tmp_path))
    bench = a_bench(tmp_path)
    large = replace(bench.arch, memory_mb=777, time_scale=33.0)
    kernel = replace(bench.kernel, configs=("kasan",))
    bundle.write(
        tmp_path / "b", replace(bench, arch=large, kernel=kernel), a_result(ANSWER), (1, 1)
    )
    found = bundle.read(tmp_path / "b").bootable
    assert (found.arch.memory_mb, found.arch.time_scale) == (777, 33.0)
    assert found.kernel.configs == ("kasan",)
    assert "configured with kasan on top" in (tmp_path / "b/README.md").read_text()


def test_a_file_of_the_same_name_is_another_configuration(mine: Path) -> None:
    arch = configs.configured(ARCH, [str(mine)])
    before = configuration(arch)
    mine.write_text("CONFIG_LOCKDEP=y\n")
    assert configuration(arch) != before, "and so is the kernel's key"
