# SPDX-License-Identifier: GPL-2.0-only
"""What the documents point at is there, and what klp-e2e takes stands in them."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import typer.main
import typer.testing
from samples import commands

from orchestrator import cli, nouns
from orchestrator.catalog import default_arches
from orchestrator.commands.nightly import config, planfile
from orchestrator.elf.inspection import Inspection
from orchestrator.errors import Exit
from orchestrator.explore import campaign
from orchestrator.history import nights
from orchestrator.model import known, suite
from orchestrator.port import card, coverage
from orchestrator.report import explorejson, resultsjson, trialsjson
from orchestrator.repro import record
from orchestrator.trials import Trial
from orchestrator.verdicts import Check, GuestRecord, Run, Status, Step

TOP = Path(__file__).parents[2]
REFERENCE = TOP / "docs" / "reference"
PAGES = [
    *(TOP / name for name in ("README.md", "CONTRIBUTING.md", "NEWS.md")),
    *sorted((TOP / "docs").rglob("*.md")),
]
NAMES = [str(page.relative_to(TOP)) for page in PAGES]
EACH = pytest.mark.parametrize("page", PAGES, ids=NAMES)


# --- what they point at --------------------------------------------------------------------------


@EACH
def test_every_file_that_is_named_is_there(page: Path) -> None:
    text = page.read_text()
    named = re.findall(r"`((?:tests|orchestrator|docs|kernel-config|images)/[\w./-]+)`", text)
    lost = [n for n in named if "NAME" not in n and not (TOP / n).exists()]
    tests = re.findall(r"`(test_\w+\.py)`", text)
    lost += [name for name in tests if not list(TOP.glob(f"tests/*/{name}"))]
    assert not lost


def anchors(page: Path) -> set[str]:
    """What `#...` may name: each heading as GitHub and GitLab make one of it."""
    headings = re.findall(r"(?m)^#+ (.*)$", page.read_text())
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@EACH
def test_every_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]*)\)", page.read_text())
    assert links or page.parent != TOP
    for link in links:
        name, _, anchor = link.partition("#")
        goal = (page.parent / name).resolve() if name else page
        assert goal.exists() and goal.is_relative_to(TOP), link
        assert not anchor or anchor in anchors(goal), link


def test_every_page_is_reached_from_the_index() -> None:
    index = TOP / "docs" / "README.md"
    links = re.findall(r"\]\(([^)#]+)", index.read_text())
    reached = {(index.parent / link).resolve() for link in links}
    assert set(PAGES) - {index} <= reached


@EACH
def test_a_page_is_about_every_machine(page: Path) -> None:
    text = page.read_text()
    assert re.findall(r"https?://\S+|(?<![\w/])/(?:root|home|work|var/tmp)/\S*", text) == []
    assert "been run here" not in text


def test_readme_is_short() -> None:
    assert len((TOP / "README.md").read_text().splitlines()) <= 150


# --- commands and options ------------------------------------------------------------------------


COMMANDS = commands()


def options(command: Any) -> set[str]:
    found = {name for param in command.params for name in (*param.opts, *param.secondary_opts)}
    return {name for name in found if name.startswith("-")}


def section(text: str, title: str) -> str:
    found = re.search(rf"(?ms)^(#+) {re.escape(title)}\n(.*?)(?=^#|\Z)", text)
    assert found, f"no section '{title}'"
    return found[2]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_section_with_all_its_options(name: str) -> None:
    told = section((REFERENCE / "commands.md").read_text(), f"klp-e2e {name}")
    words = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", told))
    mine = options(COMMANDS[name])
    assert mine <= words
    assert words <= mine, "no option of it"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_and_argument_says_what_it_is_for_without_ours_and_yours(name: str) -> None:
    command = COMMANDS[name]
    texts = {each.opts[0]: each.help or "" for each in command.params}
    assert [name for name, text in texts.items() if len(text.split()) < 3] == []
    told = " ".join((command.help, *texts.values()))
    assert re.findall(r"(?i)\b(?:ours|yours|theirs|them\.|of our|so often)\b", told) == []


def test_every_section_is_a_command_s() -> None:
    titles = re.findall(r"(?m)^### klp-e2e (.*)$", (REFERENCE / "commands.md").read_text())
    assert sorted(titles) == sorted(COMMANDS)


def snippets(text: str) -> Iterator[str]:
    """What is shown as code: indented lines, and what stands between back quotes."""
    lines = re.sub(r"\\\n\s+", "", text).splitlines()
    yield from (line.strip() for line in lines if line.startswith("    "))
    prose = "\n".join(line for line in lines if not line.startswith("    "))
    yield from (" ".join(each.split()) for each in re.findall(r"`([^`]+)`", prose))


def shown(text: str) -> Iterator[list[str]]:
    """The words after `klp-e2e` of every command line that is shown in full."""
    for snippet in snippets(text):
        found = re.match(r"(?:reproduce +)?(?:\.venv/bin/)?klp-e2e (.*)", snippet)
        if found and "[-" not in found[1] and "COMMAND" not in found[1]:
            yield shlex.split(found[1], comments=True)


def refused(words: Sequence[str]) -> str:
    """Why klp-e2e would not take this line; "" where it would. The command is not run.

    A line that only names command and options, without what has to stand behind them, is one that
    can be asked for its help.
    """
    told = typer.testing.CliRunner().invoke(cli.app, [*words, "--help"])
    return "" if told.exit_code == Exit.GOOD else told.output


@EACH
def test_every_command_line_is_one_that_is_taken(page: Path) -> None:
    for words in shown(page.read_text()):
        assert not refused(words), words


def test_a_line_that_is_not_taken_is_noticed() -> None:
    page = (
        "\n    klp-e2e cache prune \\\n        --younger-than 7  # days\n\nor `klp-e2e\ndaily`.\n"
    )
    lines = list(shown(page))
    assert lines == [["cache", "prune", "--younger-than", "7"], ["daily"]]
    assert all(refused(words) for words in lines)
    everything = [words for page in PAGES for words in shown(page.read_text())]
    assert len(everything) > 80


@EACH
def test_targets_of_make_are_there(page: Path) -> None:
    makefile = (TOP / "Makefile").read_text()
    asked = [each.split() for each in snippets(page.read_text()) if each.startswith("make ")]
    for _, target, *_ in asked:
        ours = re.search(rf"(?m)^{target}:", makefile)
        assert ours or target in ("ARCH=", "-C", "olddefconfig"), target


# --- files ---------------------------------------------------------------------------------------

FORMATS: Mapping[str, Sequence[type]] = {
    "set-toml.md": [
        *(nouns.ModuleSet, nouns.ModuleSpec, nouns.Failure, nouns.Defect, nouns.Probe),
    ],
    "arch-file.md": [
        *(nouns.Arch, nouns.RelocationType, nouns.Behind, nouns.Stub, nouns.StubField),
    ],
    "suites.md": [suite.SuiteFile, suite.CaseEntry, suite.Interleave],
    "nightly-file.md": [config.Config, config.Matrix, config.Exploring],
    "known-issues.md": [known.KnownIssue, known.Fails, known.Capability],
    "results.md": [
        *(resultsjson.ResultsDocument, resultsjson.CaseRecord, Step, Check, Run, GuestRecord),
        *(
            explorejson.ExploreDocument,
            explorejson.ReproducerRecord,
            campaign.Stats,
            explorejson.Walked,
        ),
        *(
            trialsjson.TrialsDocument,
            Trial,
            card.ReportCard,
            card.Line,
            coverage.Coverage,
            record.Record,
        ),
        *(nights.Night, nights.Row, nights.Changes, nights.Changed),
        *(planfile.PlanDocument, planfile.PlannedJob, planfile.Needs),
    ],
}


def tables(text: str) -> list[set[str]]:
    """The names in the first column of each table."""
    found = re.findall(r"(?m)^\| --- .*\n((?:\|.*\n)+)", text)
    return [
        {name for row in rows.splitlines() for name in re.findall(r"`([^`]+)`", row.split("|")[1])}
        for rows in found
    ]


@pytest.mark.parametrize(
    ("page", "kind"),
    [(page, kind) for page, kinds in FORMATS.items() for kind in kinds],
    ids=lambda value: value if isinstance(value, str) else value.__qualname__,
)
def test_every_key_has_a_row_of_its_table(page: str, kind: type) -> None:
    keys = {field.name for field in dataclasses.fields(kind)}
    found = tables((REFERENCE / page).read_text())
    assert keys in found, min((keys ^ names for names in found), key=len)


@pytest.mark.parametrize("kind", [known.KnownIssuesFile, known.CapabilitiesFile])
def test_every_list_of_a_file_is_named(kind: type) -> None:
    text = (REFERENCE / "known-issues.md").read_text()
    plain = {"suites"}  # a list of names, at the file's top
    for field in dataclasses.fields(kind):
        assert f"`{field.name}`" in text if field.name in plain else f"`[[{field.name}]]`" in text


def test_what_inspect_says_to_machines_is_told() -> None:
    keys = {field.name for field in dataclasses.fields(Inspection)} | {"well_formed"}
    assert keys in tables((REFERENCE / "results.md").read_text())


def test_every_status_and_exit_code_is_told() -> None:
    text = (REFERENCE / "exit-codes.md").read_text()
    assert all(str(status) in text for status in Status)
    assert all(f"| {int(code)} |" in text for code in Exit)


def test_what_is_taken_by_default_is_told() -> None:
    text = (REFERENCE / "commands.md").read_text()
    assert ", ".join(sorted(default_arches(), reverse=True)) in text


def test_every_environment_variable_is_told() -> None:
    macros = (TOP / "images" / "modules" / "klp_e2e.h").read_text()
    places = [
        TOP / "Makefile",
        *(TOP / "orchestrator").rglob("*.*"),
        *(TOP / "tests").rglob("*.py"),
    ]
    texts = [place.read_text(errors="replace") for place in places if place.suffix != ".pyc"]
    used = {name for text in texts for name in re.findall(r"\bKLP_E2E(?:_[A-Z]+)+\b", text)}
    mine = {name for name in used if name not in macros}
    assert len(mine) > 8
    assert mine <= set.union(*tables((REFERENCE / "environment.md").read_text()))
