# SPDX-License-Identifier: GPL-2.0-only
"""A place where units of work are done one after the other, and the guests that it keeps between
them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from types import TracebackType
from typing import Any, Self, TypeVar

from orchestrator.build.prepare import Bootable
from orchestrator.run.slot import GuestOptions, GuestSlot
from orchestrator.verdicts import GuestRecord

T = TypeVar("T")


class Site:
    """A context manager: its guests end with it. All that it keeps is of one bootable."""

    def __init__(
        self,
        stop: threading.Event | None = None,
        on_guest: Callable[[GuestRecord], None] = lambda record: None,
    ) -> None:
        """stop: set when everything is to end. on_guest: hears of each guest that has ended."""
        self._stop = stop or threading.Event()
        self._on_guest = on_guest
        self._bootable: Bootable | None = None
        self._slots: dict[tuple[GuestOptions, int], GuestSlot] = {}
        self._kept: dict[Hashable, Any] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        err: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.clear()

    @property
    def stopped(self) -> bool:
        """Is everything to end?"""
        return self._stop.is_set()

    def slot(self, bootable: Bootable, options: GuestOptions, cpus: int = 1) -> GuestSlot:
        """That for guests which are used in this way; the guests of another bootable end."""
        self._turn_to(bootable)
        key = options, cpus
        if key not in self._slots:
            self._slots[key] = GuestSlot(bootable, options, self._stop, self._on_guest, cpus)
        return self._slots[key]

    def kept(self, bootable: Bootable, name: Hashable, make: Callable[[], T]) -> T:
        """What was made under this name for this bootable, which goes when its guests go."""
        self._turn_to(bootable)
        if name not in self._kept:
            self._kept[name] = make()
        found: T = self._kept[name]
        return found

    def clear(self) -> None:
        """End all guests, and forget what was kept."""
        self._bootable = None
        self._kept.clear()
        slots, self._slots = self._slots, {}
        for slot in slots.values():
            slot.discard()

    def kill(self) -> None:
        """End the guests now, from another thread."""
        for slot in list(self._slots.values()):
            slot.kill()

    def _turn_to(self, bootable: Bootable) -> None:
        if self._bootable is not bootable and self._bootable != bootable:
            self.clear()
            self._bootable = bootable
