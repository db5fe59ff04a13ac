# SPDX-License-Identifier: GPL-2.0-only
"""Relocations that a set's own code writes over."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from orchestrator.deadline import Deadline
from orchestrator.errors import HarnessError
from orchestrator.nouns import KlpRelocation, KlpSymbol
from orchestrator.run.observe import check_untouched
from orchestrator.verdicts import RelocationReading
from orchestrator.vm.guest import Guest

RELOCATION = KlpRelocation("t", ".data", 8, 1, KlpSymbol("t", "tm_v", 0), 0, bytes(4))
READINGS = (RelocationReading("lp", RELOCATION, "R", 0x40, b"1234", 8, "", 8, ""),)


def guest(raw: bytes | None) -> Guest:
    def read_memory(fields: list[tuple[int, int]], _: Deadline) -> list[bytes | None]:
        assert fields == [(0x40, 4)]
        return [raw]

    return cast("Guest", SimpleNamespace(read_memory=read_memory))


@pytest.mark.parametrize("raw", [b"1234", None])
def test_what_stays_is_well(raw: bytes | None) -> None:
    check_untouched(guest(raw), READINGS, Deadline.after(1))


def test_what_the_sets_own_code_has_written_is_no_fault_of_the_kernels() -> None:
    """`lp_cursor = &tm_w` in a patched function: it was FAIL at the next event."""
    with pytest.raises(HarnessError, match=r"lp \.data\+0x8: a function of the set wrote over"):
        check_untouched(guest(b"1235"), READINGS, Deadline.after(1))
