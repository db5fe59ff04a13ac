# SPDX-License-Identifier: GPL-2.0-only
"""`pip install .` brings everything: what lies in the tree also lies in the wheel, byte for byte.

The kernels' keys are hashes of some of these files: a change on the way would build them all again.
"""

from __future__ import annotations

import shutil
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from orchestrator import catalog
from orchestrator.host import process

ROOT = Path(__file__).parents[2]
PARTS = ("orchestrator", "images", "kernel-config")
NOT_OURS = "__pycache__"


def files(top: Path) -> Mapping[str, bytes]:
    return {
        str(path.relative_to(top)): path.read_bytes()
        for path in top.rglob("*")
        if path.is_file() and NOT_OURS not in path.parts
    }


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What would be installed as site-packages/orchestrator.

    Made of a copy: setuptools leaves `build/` behind, and packs again what it finds there.
    """
    place = tmp_path_factory.mktemp("wheel")
    source = place / "source"
    for part in PARTS:
        shutil.copytree(ROOT / part, source / part, ignore=shutil.ignore_patterns(NOT_OURS))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    process.run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", place, source])
    (wheel,) = place.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place / "site-packages")
    return place / "site-packages" / "orchestrator"


def test_the_wheel_is_the_tree(package: Path) -> None:
    code, *data = PARTS
    tree = dict(files(ROOT / code))
    for part in data:
        tree |= {f"_data/{part}/{name}": content for name, content in files(ROOT / part).items()}
    packed = files(package)
    assert sorted(packed) == sorted(tree)
    assert [name for name in tree if packed[name] != tree[name]] == []


def test_an_installed_package_reads_its_own_data(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = list(catalog.module_sets())
    monkeypatch.setattr(catalog, "_PACKAGE", package)
    for name in catalog._DATA:
        assert catalog.data_dir(name) == package / "_data" / name
    assert list(catalog.module_sets()) == known
