# SPDX-License-Identifier: GPL-2.0-only
"""Every ablation and mutant on the source that all other tests here are about, and on newer ones
where somebody has fetched them: those may leave the mirrors any day."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.cli import options
from orchestrator.errors import PatchError
from orchestrator.source import series, sources
from orchestrator.source.alterations import AlterationKind, fitting


@pytest.mark.parametrize("version", ["6.1", "6.12", "7.3"])
def test_every_alteration_applies_with_the_series(version: str, tmp_path: Path) -> None:
    spec = f"debian:{version}"
    source = sources.fetch(spec) if spec == options.SOURCE else sources.at_hand(spec)
    if source is None:
        pytest.skip(f"{spec} is not in the cache; klp-e2e build --kernel {spec} fetches it")
    every = [each for kind in AlterationKind for each in options.alterations(kind, ())]
    altered = [series.resolve(each.series, source.kernel) for each in fitting(every, source.kernel)]
    ours = series.resolve(options.SERIES, source.kernel)
    # What the series makes of the files, once and not for each of a hundred.
    for name in {name for one in altered for patch in one.patches for name in patch.diff.files()}:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((source.directory / name).read_bytes())
    for name, patched in series.apply(source.directory, [ours]).items():
        if patched.content is not None and (tmp_path / name).exists():
            (tmp_path / name).write_bytes(patched.content)
    wrong = {}
    for one in altered:
        try:
            wrong[one.name] = "" if series.apply(tmp_path, [one]) else "changes nothing"
        except PatchError as err:
            wrong[one.name] = str(err)
    assert len(wrong) > 100
    assert not {name: why for name, why in wrong.items() if why}
