# SPDX-License-Identifier: GPL-2.0-only
"""RAM that QEMU writes to before it goes back to a snapshot.

Where an architecture's CPU in QEMU lacks VMSTATE_CPU() (target/loongarch/machine.c in 10.0) nobody
drops translated code when a guest goes back, and a function that has been patched since goes on
doing what it was patched to do. But before that the machine is reset (migration/savevm.c,
load_snapshot()), and the reset writes every image that was loaded into RAM anew (hw/core/loader.c,
rom_reset()), which drops what was translated from there. So all RAM that no image lies in becomes
one, of zeros. It costs QEMU as much memory again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from orchestrator.deadline import Deadline
from orchestrator.errors import HarnessError
from orchestrator.host import process

IMAGE = re.compile(r"addr=([0-9a-f]+) size=0x([0-9a-f]+) mem=ram ")


def gaps(images: str, begin: int, end: int) -> Iterator[tuple[int, int]]:
    """(address, bytes) of what lies in no image of QEMU's `info roms`, from `begin` to `end`."""
    for address, size in sorted((int(a, 16), int(s, 16)) for a, s in IMAGE.findall(images)):
        if address >= end:
            break
        if address > begin:
            yield begin, address - begin
        begin = max(begin, address + size)
    if begin < end:
        yield begin, end - begin


def written_anew(
    argv: Sequence[str], begin: int, end: int, directory: Path, deadline: Deadline
) -> list[str]:
    """What a QEMU that is started so needs in addition; files of zeros are made in `directory`.

    QEMU is asked what it loads where: it is started, and ended before the guest's first
    instruction. Raises HarnessError when it does not say.
    """
    asked = [*argv, "-S", "-monitor", "stdio"]
    said = process.run(asked, input=b"info roms\nquit\n", deadline=deadline, check=False)
    if not IMAGE.search(said.output):
        raise HarnessError(f"QEMU does not tell what it loads where: {said.errors.strip()[-500:]}")
    more = []
    for number, (address, size) in enumerate(gaps(said.output, begin, end)):
        file = directory / f"zeros-{number}"
        with file.open("xb") as zeros:  # as long, and all of it a hole but for its last block
            zeros.seek(size - 1)
            zeros.write(b"\0")
        quoted = str(file).replace(",", ",,")
        more += ["-device", f"loader,file={quoted},addr={address:#x},force-raw=on"]
    return more
