# SPDX-License-Identifier: GPL-2.0-only
"""An exploration as junit.xml and results.ktap: for each architecture and module set the walk,
which passes when all of it was walked, and its findings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import junitparser

from orchestrator.nouns import set_title
from orchestrator.report import exploretext, ktap
from orchestrator.report.explorejson import (
    CampaignRecord,
    ExploreDocument,
    findings,
    incomplete,
    unwalked,
)
from orchestrator.report.junit import THE_RUN, begun, outcome, written, xml
from orchestrator.report.ktap import subtest
from orchestrator.verdicts import Status

WALK = "walk"
Case = tuple[str, Status, str, tuple[str, ...]]  # name, status, reason, lines beneath it


def junit(document: ExploreDocument) -> str:
    """The text of junit.xml: one suite for each architecture and module set."""
    suites = [_suite(document, campaign) for campaign in document.campaigns]
    if why := incomplete(document):
        suite = begun(THE_RUN, document.run.started)
        suite.add_testcase(_testcase(THE_RUN, (THE_RUN, Status.ERROR, why, ()), False))
        suites.append(suite)
    return written(suites)


def text(document: ExploreDocument) -> str:
    """The text of results.ktap: one subtest for each architecture and module set."""
    strict = document.run.strict
    subtests = [
        subtest(
            _name(campaign),
            [
                ([f"# {ktap.plain(line)}" for line in lines], name, status, reason)
                for name, status, reason, lines in _cases(document, campaign)
            ],
            strict,
        )
        for campaign in document.campaigns
    ]
    summary = exploretext.exploration_summary(document)
    return ktap.document(subtests, summary, incomplete(document))


MACHINES: Mapping[str, Callable[[ExploreDocument], str]] = {
    "junit.xml": junit,
    "results.ktap": text,
}


def _name(campaign: CampaignRecord) -> str:
    return f"{campaign.arch}.{set_title(campaign.module_set)}"


def _cases(document: ExploreDocument, campaign: CampaignRecord) -> Iterator[Case]:
    why = unwalked(document, campaign)
    yield WALK, Status.ERROR if why else Status.PASS, why, ()
    for found in findings(campaign):
        first = found.reproducers[0]
        lines = tuple(exploretext.reproducer_lines(first))
        known = found.status is Status.KNOWN and not document.run.strict
        reason = first.result.known_issue if known else first.result.reason
        yield str(found.signature), found.status, reason, lines


def _suite(document: ExploreDocument, campaign: CampaignRecord) -> junitparser.TestSuite:
    suite = begun(_name(campaign), document.run.started)
    for case in _cases(document, campaign):
        suite.add_testcase(_testcase(_name(campaign), case, document.run.strict))
    return suite


def _testcase(suite: str, case: Case, strict: bool) -> junitparser.TestCase:
    name, status, reason, lines = case
    made = junitparser.TestCase(xml(name), classname=xml(suite))
    inside = outcome(status, reason, "\n".join(lines), strict)
    if inside is not None:
        made.result = [inside]
    return made
