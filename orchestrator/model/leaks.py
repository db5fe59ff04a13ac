# SPDX-License-Identifier: GPL-2.0-only
"""Memory that nothing leads to any more, as kmemleak lists it (print_unreferenced() of
mm/kmemleak.c). Pure.

What a guest loses that is only looked at is none of an order's; nor is what a module of the set
allocates by its own code and loses: of that the kernel knows nothing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from orchestrator.errors import HarnessError
from orchestrator.model import words
from orchestrator.verdicts import Check, Health, Sign

OPTION = "CONFIG_DEBUG_KMEMLEAK=y"  # of a final configuration: there is such a list
FILE = "/sys/kernel/debug/kmemleak"
AGE_SECONDS = 6  # what is younger does not count (MSECS_MIN_AGE)
# Shell for the guest. What has changed since the scan before counts as in use: two are needed.
SCAN = f"sleep {AGE_SECONDS} && echo scan > {FILE} && echo scan > {FILE} && cat {FILE}"
FORGET = f"echo clear > {FILE}"  # what is listed now will not be again
TOLD = 10  # kinds of leaks
CALLERS = 4  # of an allocation, that are told

_OPENS = re.compile(r"unreferenced object(?: \(\w{1,9}\))? 0x[0-9a-f]+ \(size (\d{1,18})\):")
_FRAME = re.compile(
    r" +(?:\[<[^>]{1,40}>\] )?([A-Za-z_][\w.]*)\+0x[0-9a-f]+/0x[0-9a-f]+( \[\w+\])?(?: \[\w+\])?"
)
_OTHER = re.compile(r'  comm "|  hex dump \(|  backtrace|    [0-9a-f]{2} | +(?:\[<[^>]+>\] )?0x')
# what stands between memory and who asked for it
_ALLOCATOR = re.compile(
    r"kmemleak_|_*(?:k[mv]*|vm|vz)alloc|kmem_cache_alloc|_*kmem_cache|_*slab_|_*(?:do_)?kmalloc"
    r"|kvmalloc|_*vmalloc|kmemdup|kstrdup|kstrndup|kvasprintf|kasprintf|krealloc|kvrealloc"
    r"|pcpu_alloc|_*alloc_p|_*get_free_page"
)


@dataclass(frozen=True, slots=True)
class Leak:
    """size: bytes. callers: FUNCTION, or FUNCTION [MODULE], of who asked for it, inmost first."""

    size: int
    callers: tuple[str, ...]

    @property
    def owner(self) -> str:
        """The module whose code asked for it, be it by a helper of the kernel's; "": nobody's but
        the kernel's. Livepatch's own functions are called by modules, too (klp_enable_patch()), and
        keep what they allocate."""
        for function, _, module in (each.partition(" [") for each in self.callers):
            if module or function.startswith("klp_"):
                return module.rstrip("]")
        return ""

    def __str__(self) -> str:
        return f"{self.size} bytes from {' < '.join(self.callers[:CALLERS]) or 'nobody knows whom'}"


def read(text: str) -> tuple[Leak, ...]:
    """What FILE lists. Raises HarnessError for what is no such list."""
    found: list[tuple[int, list[str]]] = []
    for line in text.splitlines():
        if opened := _OPENS.fullmatch(line):
            found.append((int(opened[1]), []))
        elif found and (frame := _FRAME.fullmatch(line)):
            found[-1][1].append(f"{frame[1]}{frame[2] or ''}")
        elif line and not (found and _OTHER.match(line)):
            raise HarnessError(f"the guest's {FILE} has a line that is not as agreed: {line[:200]}")
    return tuple(Leak(size, tuple(_asking(frames))) for size, frames in found)


def _asking(frames: Sequence[str]) -> Iterator[str]:
    asked = False
    for frame in frames:
        asked = asked or not _ALLOCATOR.match(frame)
        if asked:
            yield frame


def check(found: Collection[Leak], before: Collection[Leak], modules: Collection[str]) -> Check:
    """What an order has lost. before: what a guest loses that is only looked at; modules: names of
    those of the set."""
    ordinary = {leak.callers for leak in before}
    lost = [each for each in found if each.callers not in ordinary and each.owner not in modules]
    counted = Counter(lost).most_common()
    told = tuple(f"{count} times {leak}" if count > 1 else f"{leak}" for leak, count in counted)
    more = (f"and {len(told) - TOLD} others",) if len(told) > TOLD else ()
    frames = counted[0][0].callers if counted else ()
    return words.health(
        Health(Sign.LEAKS, (*told[:TOLD], *more), frames), "no memory that nothing leads to"
    )
