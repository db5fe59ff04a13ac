# SPDX-License-Identifier: GPL-2.0-only
"""Every command, in the groups of `klp-e2e --help`, with the module of this folder that has it: it
is imported when the command is called.

What a command is for stands in its docstring, too; tests hold the two together.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Entry(NamedTuple):
    module: str
    line: str  # of `klp-e2e --help`: the first sentence of the command's own help


GROUPS: Mapping[str, Mapping[str, Entry]] = {
    "Run and reproduce": {
        "run": Entry("cases", "Run orders on guests."),
        "report": Entry("cases", "Print an earlier run's table."),
        "shell": Entry("cases", "Work in a guest."),
        "minimise": Entry("explored", "Shorten a failing order."),
        "replay": Entry("explored", "See a bundle's order fail again."),
        "bisect": Entry(
            "altered", "Find the patch, or the commit, that changes what an order does."
        ),
    },
    "Explore": {
        "explore": Entry("explored", "Walk every load order."),
        "orders": Entry("cases", "List a suite's orders."),
    },
    "Judge the suite": {
        "ablate": Entry("altered", "Take livepatch apart, piece by piece."),
        "mutate": Entry("altered", "Make small mistakes in livepatch."),
    },
    "Validate": {
        "port": Entry("port", "Make an architecture's report card."),
        "arch": Entry("arch", "Write and check an architecture's two files."),
        "kselftest": Entry("kselftest", "Run the kernel's own livepatch tests."),
        "malformed": Entry("malformed", "Feed the kernel broken livepatch modules."),
    },
    "Nightly": {
        "nightly": Entry("nightly", "Run a matrix of kernels, unattended."),
        "compare": Entry("history", "Say what changed from A to B, and which inputs."),
        "history": Entry("history", "List the nights, newest first."),
    },
    "Files and host": {
        "convert": Entry("modules", "Defer a module's relocations."),
        "inspect": Entry("modules", "Check a livepatch module."),
        "build": Entry("build", "Build the kernels."),
        "cache": Entry("build", "Look after what is kept between runs."),
        "doctor": Entry("build", "Say what this host lacks."),
    },
}
COMMANDS: Mapping[str, Entry] = {
    name: entry for group in GROUPS.values() for name, entry in group.items()
}
