# SPDX-License-Identifier: GPL-2.0-only
"""What is mounted in a directory of ours is not ours: a developer's driver over a kernel's tree in
the cache, of the same disk and as old as it may be."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

# A real mount, in a namespace of its own.
SCRIPT = """
import os, subprocess, sys
from pathlib import Path
from orchestrator.host import ours, pruning, walk, workdir

his, root = Path(sys.argv[1]), workdir.cache_root(using=False)
entry = workdir.own(root / "trees/x86_64-1")
place = entry / "build/a driver"
place.mkdir(parents=True)
os.utime(entry, (0, 0))
subprocess.run(["mount", "--bind", his, place], check=True)
print(walk.mounted(entry) == walk.mounted(place) == [place], walk.mounted(entry / "build/a"))
print([each.name for each in pruning.prune(root, 0)])
for remove in (
    lambda: ours.scrap(entry),
    lambda: ours.remove(entry, within=entry),
    lambda: ours.removed(entry, entry, lambda _: False),
):
    try:
        remove()
    except ours.NotOurs as err:
        print(f"{place} is mounted" in str(err))
subprocess.run(["umount", place], check=True)
print([each.name for each in pruning.prune(root, 0)])
"""


def test_what_is_mounted_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    apart = ["unshare", "--user", "--map-root-user", "--mount"]
    if subprocess.run([*apart, "true"], check=False, capture_output=True).returncode:
        pytest.skip("no namespace can be made here")
    monkeypatch.setenv("KLP_E2E_CACHE", str(tmp_path / "cache"))
    his = tmp_path / "his"
    his.mkdir()
    (his / "thesis").write_text("mine")
    told = subprocess.run(
        [*apart, sys.executable, "-c", SCRIPT, str(his)], check=True, capture_output=True, text=True
    )
    assert told.stdout.splitlines() == ["True []", "[]", "True", "True", "True", "['x86_64-1']"]
    assert (his / "thesis").read_text() == "mine"
