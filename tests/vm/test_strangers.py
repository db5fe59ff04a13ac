# SPDX-License-Identifier: GPL-2.0-only
"""Every command, let loose in a directory full of a stranger's files: as temporary directory, as
cache, as state, as output, as the place of nights, as working directory. Not a byte may change."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import stranger_samples
from samples import commands

from orchestrator.errors import Exit

PLACE = "PLACE"  # stands for the stranger's directory
OUTPUT = ("-o", PLACE)
ORDER = ("--modules", "basic", "--order", "+klp_patch")
CALLS: Mapping[str, Sequence[Sequence[str]]] = {
    "ablate": [OUTPUT, ("--resume", PLACE), ()],
    "mutate": [OUTPUT, ("--resume", PLACE), ()],
    "bisect": [(*ORDER, *OUTPUT), ORDER],
    "doctor": [()],
    "build": [()],
    "run": [
        (*ORDER, *OUTPUT),
        (*ORDER, "--resume", PLACE),
        (*ORDER, "-o", f"{PLACE}/thesis"),
        (*ORDER, "-o", f"{PLACE}/out"),
        ORDER,
        ("--modules", f"{PLACE}/"),
    ],
    "orders": [(), ("--modules", f"{PLACE}/")],
    "shell": [("s390x", "--order", "+klp_patch")],
    "report": [(PLACE,), (f"{PLACE}/2020-01-02-020000",), (f"{PLACE}/2020-01-03-020000",)],
    "explore": [(*OUTPUT,), ("--resume", PLACE), ()],
    "minimise": [(PLACE, "x86_64/basic/order-1", *OUTPUT), (PLACE, "x86_64/basic/order-1")],
    "replay": [(PLACE,), (f"{PLACE}/findings/x86_64-basic-1",)],
    "compare": [(PLACE, f"{PLACE}/2020-01-02-020000")],
    "history": [OUTPUT],
    "kselftest": [OUTPUT, ("--resume", PLACE)],
    "livepatch": [
        (f"{PLACE}/klp-fix.patch", "--kernel", "debian:6.1", "--into", PLACE),
        (f"{PLACE}/klp-fix.patch", "--kernel", "debian:6.1", *OUTPUT),
    ],
    "malformed": [OUTPUT, ("--resume", PLACE)],
    "convert": [
        (f"{PLACE}/patch.ko", "--object", "x", "-o", f"{PLACE}/order.ko"),
        (f"{PLACE}/patch.ko", "--object", "x", "-o", f"{PLACE}/thesis"),
    ],
    "inspect": [(f"{PLACE}/patch.ko",), (f"{PLACE}/thesis",)],
    "nightly": [
        *(OUTPUT, ("--resume", PLACE), ("--resume", f"{PLACE}/2020-01-02-020000")),
        ("--resume", f"{PLACE}/2020-01-03-020000"),
        *((f"{PLACE}/my.toml", *OUTPUT), ()),
    ],
    "merge": [(PLACE, *OUTPUT), (f"{PLACE}/2020-01-02-020000", *OUTPUT), (PLACE,)],
    # nobody can listen at an address of documents: it ends
    "fleet start": [("--listen", "203.0.113.1:8786", "--store", PLACE)],
    "fleet join": [("tls://127.0.0.1:1", "--keys", PLACE, "--store", PLACE)],
    "port": [("s390x", *OUTPUT), (f"{PLACE}/my.toml",), ("s390x",)],
    "arch new": [("my", "--directory", PLACE, "--kernel-arch", "riscv")],
    "arch check": [(f"{PLACE}/my.toml",)],
    "cache list": [()],
    "cache size": [()],
    "cache prune": [("--older-than", "0"), ()],
}


def test_every_command_is_let_loose() -> None:
    assert sorted(commands()) == sorted(CALLS)


def surroundings(place: Path, everywhere: bool) -> Mapping[str, str]:
    """Everything that can be a directory is the stranger's; or what commands work with is ours, so
    that they come further, and none of the programs that they would start is there."""
    ours = place.with_name("ours")
    ours.mkdir()
    named = {"TMPDIR": "tmp", "KLP_E2E_CACHE": "cache", "KLP_E2E_STATE": "state"}
    if everywhere:
        named |= {"XDG_CACHE_HOME": "cache", "XDG_STATE_HOME": "state"}
        return {name: str(place) for name in named}
    (ours / "tmp").mkdir()
    return {name: str(ours / directory) for name, directory in named.items()} | {"PATH": str(ours)}


@pytest.mark.parametrize("everywhere", [True, False], ids=["everywhere", "output"])
@pytest.mark.parametrize("command", CALLS)
def test_a_stranger_s_files_stay_as_they_are(
    tmp_path: Path, command: str, everywhere: bool
) -> None:
    place = stranger_samples.make(tmp_path / "mine")
    before = stranger_samples.inventory(place)
    environment = surroundings(place, everywhere)
    for call in CALLS[command]:
        words = [word.replace(PLACE, str(place)) for word in call]
        told = subprocess.run(
            [sys.executable, "-m", "orchestrator", *command.split(), *words],
            cwd=place,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert told.returncode in set(Exit) - {Exit.TEST_FAILURE}, told.stderr
        assert "Traceback" not in told.stderr and "a mistake of klp-e2e" not in told.stderr
        after = stranger_samples.inventory(place)
        new = {name: state for name, state in after.items() if name not in before}
        assert {name: after.get(name) for name in before} == before, (call, told)
        # what a command makes anew has a place of its own, and nothing lies beside a stranger's
        made = {Path(name).parts[1] for name in new} - {"results", "nights", "my.toml"}
        assert made <= {f"klp-e2e-{os.geteuid()}"}, (call, told)
