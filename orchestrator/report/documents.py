# SPDX-License-Identifier: GPL-2.0-only
"""What a directory of results can hold, by the name of its document: how that is read and shown,
and what its command ended with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from rich.console import RenderableType

from orchestrator.errors import Exit
from orchestrator.port import card as cards
from orchestrator.report import (
    cardjson,
    directory,
    explorejson,
    exploretext,
    prefixes,
    resultstext,
    trialsjson,
    trialstext,
    verdict,
)
from orchestrator.verdicts import Run

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class DocumentKind:
    """Both functions take the directory, and raise UsageError where the document is malformed."""

    file: str
    shown: Callable[[Path], tuple[RenderableType, Exit]]  # for a terminal; its exit code
    run: Callable[[Path], Run] | None = None  # None: it is of no single run


def kind(
    file: str,
    load: Callable[[Path], T],
    render: Callable[[T], RenderableType],
    exit_code: Callable[[T], Exit],
    run: Callable[[T], Run] | None = None,
) -> DocumentKind:
    """One of documents that are loaded as T."""

    def shown(place: Path) -> tuple[RenderableType, Exit]:
        document = load(place)
        return render(document), exit_code(document)

    return DocumentKind(file, shown, run and (lambda place: run(load(place))))


RESULTS = kind(
    directory.RESULTS,
    directory.read,
    lambda found: resultstext.results_report(*found),
    lambda found: verdict.results_exit_code(*found),
    lambda found: found[0],
)
KINDS = (
    kind(
        explorejson.DOCUMENT,
        explorejson.load_exploration,
        exploretext.exploration_report,
        explorejson.exploration_exit_code,
        lambda found: found.run,
    ),
    kind(
        trialsjson.DOCUMENT,
        trialsjson.load_trials,
        trialstext.trials_report,
        trialstext.trials_exit_code,
        lambda found: found.run,
    ),
    kind(cardjson.DOCUMENT, cardjson.load_card, cardjson.card_report, cards.card_exit_code),
    kind(prefixes.DOCUMENT, prefixes.load, prefixes.report, prefixes.exit_code),
    RESULTS,
)


def kind_in(place: Path, kinds: Sequence[DocumentKind] = KINDS) -> DocumentKind:
    """What lies there: the first of `kinds` that is there; RESULTS where none is, to read which
    says so."""
    return next((each for each in kinds if (place / each.file).exists()), RESULTS)


def run_in(place: Path) -> Run:
    """The run whose results directory this is, of whatever command. Raises UsageError."""
    found = kind_in(place, [each for each in KINDS if each.run is not None])
    assert found.run is not None
    return found.run(place)
