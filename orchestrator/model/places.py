# SPDX-License-Identifier: GPL-2.0-only
"""Where a symbol was at the loads of its module that were seen, for each klp relocation that leads
to it through a GOT slot or a PLT stub. Pure.

A slot is stale when it holds such an address: an earlier load wrote it, and no later one did. What
else it may hold was never right.
"""

from __future__ import annotations

from dataclasses import replace

from orchestrator.verdicts import Observation, RelocationReading


def remembered(now: Observation, before: Observation | None) -> Observation:
    """The observation with `places` in its readings. before: that of the event before, which has
    them; None on a fresh guest."""
    earlier = {_key(each): each for each in before.relocations} if before is not None else {}
    readings = (replace(r, places=_places(r, earlier.get(_key(r)))) for r in now.relocations)
    return replace(now, relocations=tuple(readings))


def _places(now: RelocationReading, before: RelocationReading | None) -> tuple[int, ...]:
    """Since the field was first written; none of a field that is as in the .ko."""
    if not _written(now):
        return ()
    known = before.places if before is not None and _written(before) else ()
    here = now.symbol_address
    if here is None and not known:
        # Loaded and gone within this event, refused or unloaded again: nobody saw where. All that
        # tells of that load is what it has written; what comes later is held against it.
        here = now.leads_to
    return known if here is None or here in known else (*known, here)


def _written(reading: RelocationReading) -> bool:
    return bool(reading.via) and reading.raw != reading.relocation.initial


def _key(reading: RelocationReading) -> tuple[str, str, str, int]:
    relocation = reading.relocation
    return reading.livepatch, relocation.object, relocation.section, relocation.offset
