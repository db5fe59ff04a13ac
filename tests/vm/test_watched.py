# SPDX-License-Identifier: GPL-2.0-only
"""A guest that is watched with -vv: every stage of its life is told, and no key of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from vmkit import ARCHES, klp_e2e

from orchestrator.errors import Exit

STAGES = (
    ": booting ",
    ": QEMU runs and answers",
    ": waiting for the agent in the guest",
    "] Linux version ",
    ": the agent answers",
    ": a login over SSH works",
    "--> load /modules/basic/klp_patch.ko",
    ": the guest was ended by power-off",
)


@pytest.mark.parametrize("arch", ARCHES)
def test_every_stage_is_told_and_no_key(arch: str, tmp_path: Path) -> None:
    words = ("run", "--arch", arch, "--channel", "ssh", "--order", "+klp_patch +klp_target")
    told = klp_e2e("-vv", *words, "-o", tmp_path / "r")
    assert told.code == Exit.GOOD, told.errors
    assert [stage for stage in STAGES if stage not in told.errors] == []
    assert "vm.machine" not in told.output
    assert "PRIVATE KEY" not in told.errors
