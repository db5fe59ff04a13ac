# SPDX-License-Identifier: GPL-2.0-only
"""When a guest is fresh by a snapshot, and when by a boot."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from bundle_samples import a_bench

from orchestrator.run import booting, leaking
from orchestrator.run.slot import GuestOptions, GuestSlot


@pytest.mark.parametrize(
    ("snapshots", "cold", "done"),
    [
        (True, False, ["boot", "save", "restore", "restore"]),
        (True, True, ["boot", "end", "boot", "end", "boot"]),
        (False, False, ["boot", "end", "boot", "end", "boot"]),
    ],
)
def test_a_guest_that_cannot_go_back_is_booted_again(
    snapshots: bool, cold: bool, done: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = a_bench(tmp_path)
    bench = replace(bench, arch=replace(bench.arch, snapshots=snapshots))
    seen: list[str] = []

    @contextlib.contextmanager
    def booted(*_args: object, **_named: object) -> Iterator[Any]:
        seen.append("boot")
        yield SimpleNamespace(
            machine=SimpleNamespace(arch=bench.arch),
            save=lambda *_: seen.append("save"),
            restore=lambda *_: seen.append("restore"),
        )
        seen.append("end")

    monkeypatch.setattr(booting, "booted", booted)
    monkeypatch.setattr(booting, "views", lambda *_: {})
    monkeypatch.setattr(leaking, "rehearse", lambda *_: None)
    with GuestSlot(bench, GuestOptions(cold=cold), threading.Event()) as slot:
        for _ in range(3):
            slot.fresh()
        assert seen == done
        assert slot.booted == (not snapshots or cold)
