# SPDX-License-Identifier: GPL-2.0-only
"""Real kernels, real modules, real guests, from the default cache: built here when they are not
there yet, which takes minutes; what is being done is printed meanwhile.

No test leaves a process or a run directory behind, and each is looked at for that.
"""

from __future__ import annotations

import contextlib
import functools
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import psutil
import pytest
from vmkit import FRESH, TROUBLE, Klp

from orchestrator import catalog
from orchestrator.build import prepare
from orchestrator.build.prepare import Bootable
from orchestrator.cli import options
from orchestrator.host import rundir
from orchestrator.run import booting
from orchestrator.vm.guest import Guest

HERE = Path(__file__).parent
GUEST_SECONDS = 3600.0  # for a test, its fixtures included; one command has 40 minutes (vmkit.py)
Say = Callable[[str], None]
MakeBenches = Callable[
    [tuple[str, ...]], Mapping[str, Bootable]
]  # series -> benches by architecture
SAY_EVERY = 10.0  # seconds between lines of one build


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Guests take longer than the tests of pyproject.toml's limit, and builds longer still."""
    for item in items:
        if HERE in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(GUEST_SECONDS))


@pytest.fixture(scope="session")
def say(pytestconfig: pytest.Config) -> Say:
    """Print a line at once, whatever pytest captures."""
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    assert capture is not None

    def tell(text: str) -> None:
        with capture.global_and_fixture_disabled():
            print(f"\n    {text}", end="", flush=True)

    return tell


@pytest.fixture(scope="session")
def make_benches(say: Say) -> MakeBenches:
    """Every architecture with every module set and `trouble`, on a kernel with these series."""
    told: dict[str, float] = {}

    def advance(task: str, done: int, total: int) -> None:
        now = time.monotonic()
        if now - told.setdefault(task, now) > SAY_EVERY:
            told[task] = now
            say(f"{task}: {done} of {total}")

    @functools.cache
    def make(series: tuple[str, ...]) -> Mapping[str, Bootable]:
        made = prepare.bootables(
            tuple(catalog.default_arches().values()),
            source=options.SOURCE,
            series=series,
            module_sets=(*catalog.module_sets(), TROUBLE),
            known_issues=options.known_issues((), ()),
            jobs=len(os.sched_getaffinity(0)),
            say=say,
            advance=advance,
        )
        return {bootable.arch.name: bootable for bootable in made}

    return make


@pytest.fixture(scope="session")
def bootables(make_benches: MakeBenches) -> Mapping[str, Bootable]:
    """By architecture, with the default series."""
    return make_benches((options.SERIES,))


@pytest.fixture(scope="session", params=catalog.default_arches())
def bootable(request: pytest.FixtureRequest, bootables: Mapping[str, Bootable]) -> Bootable:
    """Each architecture in turn."""
    name: str = request.param
    return bootables[name]


@pytest.fixture(scope="session")
def any_bootable(bootables: Mapping[str, Bootable]) -> Bootable:
    """One architecture, for what is the harness's business and not the kernel's."""
    return next(iter(bootables.values()))


@pytest.fixture(scope="session")
def booted(bootable: Bootable) -> Iterator[Guest]:
    """One guest for all tests of an architecture; see `guest`."""
    with booting.booted(bootable, want_ssh=True) as guest:
        guest.save(FRESH, booting.deadline(bootable.arch, 20))
        yield guest


@pytest.fixture
def guest(bootable: Bootable, booted: Guest) -> Guest:
    """That guest in its freshly booted state."""
    booted.restore(FRESH, booting.deadline(bootable.arch, 20))
    return booted


@pytest.fixture
def klp(bootables: Mapping[str, Bootable]) -> Iterator[Klp]:
    """The real `klp-e2e`; everything it would build is in the cache."""
    with (
        tempfile.TemporaryDirectory(prefix="k", dir="/tmp") as directory,  # short, for sockets
        Klp(Path(directory)) as made,
    ):
        yield made


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """No process and no run directory of ours beyond those of fixtures that live on."""
    before = {*_children(), *_run_directories()}
    yield
    left = {*_children(), *_run_directories()} - before
    assert not left


def _children() -> set[str]:
    return {f"{p.pid} {p.name()}" for p in psutil.Process().children(recursive=True)}


def _run_directories() -> set[str]:
    found = set()
    for lock in Path(tempfile.gettempdir()).glob(f"klp-e2e-{os.geteuid()}/*{rundir.SUFFIX}"):
        with contextlib.suppress(FileNotFoundError):  # another worker's, gone meanwhile
            found |= {str(lock)} if lock.read_text().strip() == str(os.getpid()) else set()
    return found
