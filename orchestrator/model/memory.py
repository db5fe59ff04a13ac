# SPDX-License-Identifier: GPL-2.0-only
"""Does a burst of events leak? How much memory the guest's kernel holds, and how it may vary. Pure.

Measured on good kernels, both architectures, one and two CPUs, reloads of a target and of a
livepatch: single readings move by up to 80 kB, upwards only (memory that a work queue or RCU is yet
to give back, slabs half full), and slabs grow to their lasting size in the first rounds. So those
are left out, and the lowest of some readings counts: it moves by less than 50 kB over 30 rounds,
and a leak lifts it. The first reading of all is too low: it takes memory by itself, which stays
(144 kB with pages of 16 kB).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from orchestrator.errors import HarnessError
from orchestrator.verdicts import Growth

WARM_UP = 10  # rounds before the first reading
WINDOW = 10  # readings at either end, one a round, of which the lowest counts; and one before
FEWEST_TIMES = 40  # a shorter burst is not measured: one page a round must stand out
NOISE_BYTES = 64 * 1024
# vmalloc gives address ranges back lazily, and keeps some 100 bytes for each until then
# (mm/vmalloc.c, lazy_max_pages()): three or so a round are no leak
BYTES_A_ROUND = 512

# Reading the first makes the others exact: else what each CPU has counted by itself is missing
# (mm/vmstat.c, vmstat_refresh()).
FILES = ("/proc/sys/vm/stat_refresh", "/proc/meminfo", "/proc/zoneinfo")
# What is neither free nor the kernel's for good: the guest's files and processes, and caches
_OTHERS = ("MemFree", "Cached", "AnonPages", "SReclaimable")


def read_after(number: int, times: int) -> bool:
    """Whether memory is to be read after round `number`, from 1, of a burst of so many."""
    early = WARM_UP <= number <= WARM_UP + WINDOW
    return times >= FEWEST_TIMES and (early or number > times - WINDOW)


def in_use(files: Mapping[str, str | None]) -> int:
    """Bytes that the kernel holds, by the content of FILES: slabs that cannot be reclaimed, vmalloc
    and module memory, page tables, stacks, and pages that nobody accounts for.

    Pages that wait on a CPU's list for their next user (zoneinfo, `count:`) are free as well. The
    size of a page follows from MemTotal and the number of all pages managed. Raises HarnessError
    for other content.
    """
    meminfo, zoneinfo = (files.get(path) or "" for path in FILES[1:])
    sizes = {
        name: int(kb) * 1024 for name, kb in re.findall(r"^(\w+): +(\d{1,18}) kB", meminfo, re.M)
    }
    waiting = sum(int(count) for count in re.findall(r"^ +count: (\d{1,18})$", zoneinfo, re.M))
    managed = sum(int(count) for count in re.findall(r"^ +managed +(\d{1,18})$", zoneinfo, re.M))
    if missing := [name for name in ("MemTotal", *_OTHERS) if name not in sizes]:
        raise HarnessError(f"the guest's /proc/meminfo does not show {' '.join(missing)}")
    if not managed:
        raise HarnessError("the guest's /proc/zoneinfo shows no pages")
    page_size = sizes["MemTotal"] // managed
    return sizes["MemTotal"] - sum(sizes[name] for name in _OTHERS) - waiting * page_size


def growth(readings: list[int], times: int) -> Growth | None:
    """From the readings of a burst; None when it is too short to be measured."""
    if not readings:
        return None
    rounds = times - WARM_UP - WINDOW
    _, *counted = readings
    return Growth(rounds, first=min(counted[:WINDOW]), last=min(counted[WINDOW:]))


def allowed(rounds: int) -> int:
    """By how many bytes a sound kernel may hold more after so many rounds."""
    return NOISE_BYTES + BYTES_A_ROUND * rounds
