# SPDX-License-Identifier: GPL-2.0-only
"""The file that says what a night does; kernel-config/nightly.toml is one, with comments. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from orchestrator.explore.campaign import Strategy

Count = Annotated[int, Field(ge=0, le=100_000)]
Guests = Annotated[int, Field(ge=0, le=1000)]  # each has a thread
Retries = Annotated[int, Field(ge=0, le=100)]
Time = Annotated[str, Field(max_length=8)]  # 999999h is a century
GiB = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True, slots=True)
class Exploring:
    """What `klp-e2e explore` is told."""

    modules: tuple[str, ...] = ("all",)
    budget: Time = "20m"  # of each kernel and architecture
    strategy: Strategy = Strategy.EXHAUSTIVE
    races: bool = False
    burst: Count = 0


@dataclass(frozen=True, slots=True)
class Matrix:
    """Every kernel with every series on every architecture; and what is done with each."""

    kernels: tuple[str, ...]  # debian:6.1, git:URL#branch, ...
    series: tuple[str | tuple[str, ...], ...]  # one, or several on top of one another; "none"
    arches: tuple[str, ...] = ()  # names or files; empty: all that are taken by default
    suites: tuple[str, ...] = ("core",)
    modules: tuple[str, ...] = ()  # only these module sets' orders of the suites; empty: all
    explore: Exploring | None = None
    kselftest: bool = False
    malformed: bool = False
    ablate: bool = False
    configs: tuple[str | tuple[str, ...], ...] = ("none",)  # as series, as --config takes them
    toolchains: tuple[str, ...] = ("",)  # as --toolchain takes them; "": the architecture's own


@dataclass(frozen=True, slots=True)
class Config:
    matrix: tuple[Matrix, ...]
    budget: Time = "8h"  # for the whole night
    retries: Retries = 2  # of a new failure, each from a cold boot
    bisect: Time = "30m"  # for all bisects of a night; "": none
    known_issues: tuple[str, ...] = ()  # files, as --known-issues takes them
    guests: Guests = 0  # side by side; 0: by free cores and memory
    keep_nights: Count = 30  # whose files are kept; the history keeps what they were
    keep_free: GiB = 10.0  # GiB that must be free before anything is begun
