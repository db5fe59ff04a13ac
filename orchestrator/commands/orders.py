# SPDX-License-Identifier: GPL-2.0-only
"""`klp-e2e orders`: the orders of a suite, with what the model expects of them."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator import catalog
from orchestrator.cli import options
from orchestrator.cli.arguments import (
    SuiteOption,
    modules_option,
)
from orchestrator.cli.program import EXAMPLE, app, guarded
from orchestrator.errnos import describe_all
from orchestrator.errors import Exit
from orchestrator.model import model, orders
from orchestrator.nouns import Case
from orchestrator.report.terminal import tell
from orchestrator.verdicts import Expectation


@app.command("orders", epilog=EXAMPLE + "klp-e2e orders --suite core --why")
@guarded
def list_orders(
    suite: SuiteOption = None,
    modules: Annotated[
        str | None,
        modules_option("list only its orders."),
    ] = None,
    order: Annotated[
        list[str] | None,
        typer.Option(
            "--order",
            metavar="'EVENTS'",
            help="Show this order instead of a suite's; may be given again.",
        ),
    ] = None,
    why: Annotated[
        bool, typer.Option("--why", "-v", help="Say of each event why the model expects that.")
    ] = False,
) -> Exit:
    """List a suite's orders. Each with what the model expects of every event."""
    for case in options.chosen_cases(modules, order or (), suite):
        steps = expected(case)
        answers = (
            f"{event} {describe_all(step.answers) if any(step.answers) else 'ok'}"
            for event, step in steps
        )
        tell(f"{case.title}: {', '.join(answers)}")
        for event, step in steps if why else ():
            tell(f"    {event}: {step.why}")
    return Exit.GOOD


def expected(case: Case) -> list[tuple[str, Expectation]]:
    """Each event of a case as it is written, with what the model expects of any kernel."""
    module_set = catalog.module_set(case.module_set)
    steps = model.expectations(module_set, case.order, frozenset())
    return list(zip(map(orders.format_event, case.order.events), steps, strict=True))
