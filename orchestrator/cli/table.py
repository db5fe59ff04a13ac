# SPDX-License-Identifier: GPL-2.0-only
"""Every command, in the groups of `klp-e2e --help`. It is the module, or the folder, of its name in
`commands/`, imported when it is called.

What a command is for stands in its docstring, too; tests hold the two together.
"""

from __future__ import annotations

from collections.abc import Mapping

# group -> command -> the first sentence of its own help
GROUPS: Mapping[str, Mapping[str, str]] = {
    "Run and reproduce": {
        "run": "Run orders on guests.",
        "report": "Print an earlier run's table.",
        "shell": "Work in a guest.",
        "minimise": "Shorten a failing order.",
        "replay": "See a bundle's order fail again.",
        "bisect": "Find the patch, or the commit, that changes what an order does.",
    },
    "Build and prove": {
        "livepatch": "Build a livepatch of a source patch and prove it.",
    },
    "Explore": {
        "explore": "Walk every load order.",
        "orders": "List a suite's orders.",
    },
    "Judge the suite": {
        "ablate": "Take livepatch apart, piece by piece.",
        "mutate": "Make small mistakes in livepatch.",
    },
    "Validate": {
        "port": "Make an architecture's report card.",
        "arch": "Write and check an architecture's two files.",
        "kselftest": "Run the kernel's own livepatch tests.",
        "malformed": "Feed the kernel broken livepatch modules.",
    },
    "Nightly": {
        "nightly": "Run a matrix of kernels, unattended.",
        "merge": "Make one night of parts that were run here and there.",
        "compare": "Say what changed from A to B, and which inputs.",
        "history": "List the nights, newest first.",
        "fleet": "Let many machines work for one command.",
    },
    "Files and host": {
        "convert": "Defer a module's relocations.",
        "inspect": "Check a livepatch module.",
        "build": "Build the kernels.",
        "cache": "Look after what is kept between runs.",
        "doctor": "Say what this host lacks.",
    },
}
COMMANDS: Mapping[str, str] = {
    name: line for group in GROUPS.values() for name, line in group.items()
}
