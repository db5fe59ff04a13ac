# SPDX-License-Identifier: GPL-2.0-only
"""Every reader of what others wrote, with almost good input. `make fuzz SECONDS=600` goes on for
so long with each; otherwise each gets a fixed number of inputs, always the same.

What ever failed lies in corpus/READER/ and comes first.
"""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path

import pytest
from harness import Reader, fault, limits
from mutate import inputs
from readers import READERS

from orchestrator.errors import KlpError

CORPUS = Path(__file__).with_name("corpus")
INPUTS = 60
SECONDS = float(os.environ.get("KLP_E2E_FUZZ_SECONDS", "0"))
SEED = os.environ.get("KLP_E2E_FUZZ_SEED", "1" if not SECONDS else str(time.time_ns()))

each_reader = pytest.mark.parametrize("reader", READERS, ids=[reader.name for reader in READERS])


@each_reader
def test_samples_are_read(reader: Reader, tmp_path: Path) -> None:
    """Some of them at least; spoiling what is refused at once would find nothing."""
    refused = 0
    for sample in reader.samples():
        try:
            reader.read(sample, tmp_path)
        except KlpError:
            refused += 1
    assert refused < len(reader.samples())


@each_reader
def test_what_ever_failed_is_read_or_refused(reader: Reader, tmp_path: Path) -> None:
    with limits():
        for path in sorted((CORPUS / reader.name).glob("*")):
            wrong = fault(reader, path.read_bytes(), tmp_path)
            assert not wrong, f"{path}:\n{wrong}"
        for number, data in enumerate(reader.big()):
            wrong = fault(reader, data, tmp_path)
            assert not wrong, f"{reader.name}: the big one with number {number}:\n{wrong}"


@each_reader
def test_almost_good_input_is_read_or_refused(reader: Reader, tmp_path: Path) -> None:
    end = time.monotonic() + SECONDS
    with limits():
        for number, data in zip(
            itertools.count(),
            inputs(f"{SEED}-{reader.name}", reader.samples(), reader.ways),
            strict=False,
        ):
            if number >= INPUTS and time.monotonic() >= end:
                break
            if wrong := fault(reader, data, tmp_path):
                kept = tmp_path / f"input-{number}"
                kept.write_bytes(data)
                pytest.fail(
                    f"{reader.name}, seed {SEED}, input {number}; mend it, and keep it:\n"
                    f"  cp {kept} {CORPUS / reader.name}/\n{wrong}"
                )


def test_the_corpus_belongs_to_readers() -> None:
    assert {path.name for path in CORPUS.iterdir()} <= {reader.name for reader in READERS}
