# SPDX-License-Identifier: GPL-2.0-only
"""What a guest's kernel holds, read from /proc."""

from __future__ import annotations

import pytest

from orchestrator.errors import HarnessError
from orchestrator.model import memory
from orchestrator.verdicts import Growth

MEMINFO = """MemTotal:         180000 kB
MemFree:          150000 kB
MemAvailable:     168516 kB
Cached:             6000 kB
AnonPages:           300 kB
SReclaimable:       1500 kB
SUnreclaim:         2672 kB
"""
ZONEINFO = """Node 0, zone      DMA
  pages free     30000
        managed  40000
  pagesets
    cpu: 0
              count: 10
              high:  90
    cpu: 1
              count: 5
Node 0, zone   Normal
        managed  5000
    cpu: 0
              count: 0
"""
FILES = dict(zip(memory.FILES, ("", MEMINFO, ZONEINFO), strict=True))
MEMINFO_NAME, ZONEINFO_NAME = memory.FILES[1:]


def test_what_is_in_use_is_neither_free_nor_waiting_nor_somebody_elses() -> None:
    kilobytes = 180000 - 150000 - 6000 - 300 - 1500 - 15 * 4  # 45000 pages of 4 kB
    assert memory.in_use(FILES) == kilobytes * 1024


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({MEMINFO_NAME: None}, "does not show MemTotal MemFree"),
        ({MEMINFO_NAME: MEMINFO.replace("AnonPages", "Other")}, "does not show AnonPages"),
        ({ZONEINFO_NAME: None}, "zoneinfo shows no pages"),
    ],
)
def test_files_of_another_kind_are_refused(change: dict[str, str | None], message: str) -> None:
    with pytest.raises(HarnessError, match=message):
        memory.in_use({**FILES, **change})


def test_the_first_rounds_are_left_out_and_the_lowest_readings_count() -> None:
    after = [number for number in range(1, 51) if memory.read_after(number, 50)]
    assert after == [*range(10, 21), *range(41, 51)]
    before_it_was_read = 10
    readings = [before_it_was_read, *[100] * 9, 90, *[130] * 5, 120, *[140] * 4]
    assert memory.growth(readings, 50) == Growth(30, first=90, last=120)


def test_a_short_burst_is_not_measured() -> None:
    assert not any(memory.read_after(number, 39) for number in range(1, 40))
    assert memory.growth([], 39) is None
    # what one page a round amounts to stands out in every burst that is measured
    assert all(memory.allowed(n) < 4096 * n for n in range(memory.FEWEST_TIMES - 20, 10_000))
