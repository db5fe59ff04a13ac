# SPDX-License-Identifier: GPL-2.0-only
"""What a suite said of kernels that were made wrong on purpose (`source.alterations`). Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from orchestrator.model import orders
from orchestrator.verdicts import CaseResult, Status

DOCUMENT = "6-documentation"  # the sixth ablation: no patch, but what `inspect` tells
CONTROL = "unaltered"  # the kernel as it is: what it fails, no alteration can be caught by


class TrialOutcome(StrEnum):
    """What a suite said of an altered kernel."""

    CAUGHT = "CAUGHT"  # at least one order failed
    SURVIVED = "SURVIVED"  # every order passed
    SAME = "SAME"  # byte for byte the unaltered kernel and modules: there is nothing to be seen
    UNBUILT = "UNBUILT"  # it does not apply, or does not compile
    ERROR = "ERROR"  # trouble of the harness: nothing is said


@dataclass(frozen=True, slots=True)
class Trial:
    """One alteration on one architecture."""

    alteration: str
    arch: str
    outcome: TrialOutcome = TrialOutcome.ERROR
    unseen: str = ""  # why nobody can see it, as declared
    reason: str = ""  # of UNBUILT and ERROR
    orders: int = 0  # that ran
    caught_by: tuple[str, ...] = ()  # those that failed, as SET/NAME
    order: str = ""  # the first of them, in notation
    symptom: str = ""  # and what it showed
    reproduce: str = ""
    build_seconds: float = 0.0
    run_seconds: float = 0.0

    @property
    def hole(self) -> bool:
        """Is it a hole in the suite, or a claim of the header that is wrong?"""
        if self.alteration == CONTROL:
            return self.outcome is not TrialOutcome.SURVIVED
        if self.unseen:
            return self.outcome in (TrialOutcome.CAUGHT, TrialOutcome.UNBUILT, TrialOutcome.ERROR)
        return self.outcome in (TrialOutcome.SURVIVED, TrialOutcome.UNBUILT, TrialOutcome.ERROR)


def judged(trial: Trial, results: Iterable[CaseResult]) -> Trial:
    """The trial with what its orders said. One failure is enough, whatever else went wrong."""
    ran = tuple(results)
    failed = [result for result in ran if result.status is Status.FAIL]
    errors = [result for result in ran if result.status is Status.ERROR]
    trial = replace(trial, orders=len(ran))
    if failed:
        first = failed[0]
        return replace(
            trial,
            outcome=TrialOutcome.CAUGHT,
            caught_by=tuple(result.case.label for result in failed),
            order=orders.format(first.case.order),
            symptom=first.reason,
            reproduce=first.reproduce,
        )
    if errors or not ran:
        reason = errors[0].reason if errors else "no order ran"
        return replace(trial, outcome=TrialOutcome.ERROR, reason=reason)
    return replace(trial, outcome=TrialOutcome.SURVIVED)


def contradiction(trial: Trial) -> str:
    """What of a trial cannot be so by what else it says, in words; "" where all of it can: what is
    CAUGHT was caught by something that ran, and by nothing what is not."""
    caught, ran = len(trial.caught_by), trial.orders
    if not caught <= ran:
        return f"{caught} orders caught it, and {ran} ran"
    if trial.outcome is TrialOutcome.CAUGHT and not caught:
        return f"{trial.outcome}, and no order caught it"
    if trial.outcome is TrialOutcome.SURVIVED and not ran:
        return f"{trial.outcome}, and no order ran"
    if trial.alteration == DOCUMENT:  # CAUGHT only by all there is
        right = (trial.outcome is TrialOutcome.CAUGHT) is (caught == ran)
        return "" if right else f"{trial.outcome}, and {caught} of {ran} caught it"
    if trial.outcome is not TrialOutcome.CAUGHT and caught:
        return f"{trial.outcome}, and {trial.caught_by[0]} caught it"
    if trial.outcome in (TrialOutcome.SAME, TrialOutcome.UNBUILT) and ran:
        return f"{trial.outcome}, and {ran} orders ran"
    return ""


@dataclass(frozen=True, slots=True)
class Score:
    """Of one architecture."""

    arch: str
    caught: int
    survived: int
    unseen: int  # nobody can see them: the same kernel, or declared so
    untold: int  # UNBUILT, ERROR

    def __str__(self) -> str:
        """`s390x: 81 of 83 that can be seen are caught (98 %), 7 cannot be seen, 1 untried`"""
        seen = self.caught + self.survived
        share = f" ({self.caught / seen:.0%})" if seen else ""
        return (
            f"{self.arch}: {self.caught} of {seen} that can be seen are caught{share}, "
            f"{self.unseen} cannot be seen, {self.untold} untried"
        )


def score(trials: Iterable[Trial], arch: str) -> Score:
    """Controls left out."""
    mine = [each for each in trials if each.arch == arch and each.alteration != CONTROL]
    unseen = [
        each
        for each in mine
        if each.outcome is TrialOutcome.SAME
        or (each.unseen and each.outcome is TrialOutcome.SURVIVED)
    ]
    caught = sum(each.outcome is TrialOutcome.CAUGHT for each in mine)
    survived = sum(each.outcome is TrialOutcome.SURVIVED for each in mine if not each.unseen)
    untold = sum(each.outcome in (TrialOutcome.UNBUILT, TrialOutcome.ERROR) for each in mine)
    return Score(arch, caught, survived, len(unseen), untold)
