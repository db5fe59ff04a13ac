# SPDX-License-Identifier: GPL-2.0-only
"""Who else is on this machine: other users, other containers with the same /tmp and cache, another
user's cache, a stranger's files. None of them is hurt, and none of them hurts a run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import stranger_samples
from samples import Told
from vmkit import RUNS, Klp, wait_for

from orchestrator.build.prepare import Bootable
from orchestrator.errors import Exit
from orchestrator.host import ours, workdir
from orchestrator.host.rundir import run_dir

NOBODY = 65534
ORDER = ("--modules", "basic", "--order", "+klp_patch +klp_target")
LONG = ("--modules", "basic", "--order", "(+klp_patch klp_patch=0 -klp_patch)*400 +klp_target")
# a container, as far as process numbers go
CONTAINER = ["unshare", *(["-r"] if os.getuid() else []), "-pf", "--mount-proc"]


@pytest.fixture
def one(bootables: Mapping[str, Bootable]) -> Bootable:
    return min(bootables.values(), key=lambda bootable: bootable.kernel.objects)


def words(one: Bootable, place: Path, *more: str) -> list[str]:
    return ["run", "--arch", one.arch.name, "-o", str(place), *more]


def cases(place: Path) -> list[tuple[str, str]]:
    """(status, console) of each case of a run."""
    document = json.loads((place / "results.json").read_text())
    found = []
    for case in document["cases"]:
        (console,) = place.glob(f"{case['arch']}/*.{case['name']}/console.log")
        found.append((case["status"], console.read_text()))
    return found


# --- containers -----------------------------------------------------------------------------------


def test_a_run_beside_another_with_one_tmp_and_one_cache(klp: Klp, one: Bootable) -> None:
    first = klp.start(*words(one, klp.results, *LONG))
    wait_for("its guest", lambda: klp.emulators(one))
    second = klp.start(*words(one, klp.directory / "second", *ORDER), prefix=CONTAINER)
    assert klp.end(second).code == Exit.GOOD
    told = klp.end(first)
    assert told.code == Exit.GOOD, told.err
    (found,) = cases(klp.results)
    assert found[0] == "PASS" and "klp_patch" in found[1]


def test_pruning_takes_nothing_from_a_run(klp: Klp, one: Bootable) -> None:
    """Of a cache of its own, which holds the kernels of the real one."""
    cache = klp.directory / "cache"
    env = {"KLP_E2E_CACHE": str(cache)}
    assert klp.run("cache", "size", env=env).code == Exit.GOOD
    for kind in ("kernels", "sources", "guest"):
        (cache / kind).mkdir()
        for entry in (workdir.cache_root() / kind).iterdir():
            if kind == "sources" or one.arch.name in entry.name:
                copy = ["cp", "-al" if kind == "sources" else "-a", str(entry), str(cache / kind)]
                assert os.spawnvp(os.P_WAIT, "cp", copy) == 0
    started = klp.start(*words(one, klp.results, "--cold", *LONG), env=env)
    wait_for("its guest", lambda: klp.emulators(one))
    pruned = klp.end(klp.start("cache", "prune", "--older-than", "0", env=env, prefix=CONTAINER))
    assert pruned.code == Exit.GOOD, pruned.err
    assert one.kernel.directory.name in {path.name for path in (cache / "kernels").iterdir()}
    told = klp.end(started)
    assert told.code == Exit.GOOD, told.err
    again = klp.run("cache", "prune", "--older-than", "0", env=env)
    assert again.code == Exit.GOOD and "removed 0" not in again.out
    assert not list((cache / "kernels").glob(f"*{one.kernel.key[:16]}"))


# --- a stranger's files ---------------------------------------------------------------------------


def test_a_run_in_a_directory_full_of_a_stranger_s_files(klp: Klp, one: Bootable) -> None:
    place = stranger_samples.make(klp.directory / "mine")
    before = stranger_samples.inventory(place)
    klp.temporary.rmdir()
    klp.temporary, klp.directory = place, place
    for call in (
        words(one, place / "new-run", *ORDER),
        ["explore", "--arch", one.arch.name, "--depth", "2", "-o", str(place / "new-walk")],
        ["malformed", "--arch", one.arch.name, "--only", "symbol-*", "-o", str(place / "new-mal")],
    ):
        told: Told = klp.end(klp.start(*call))
        assert told.code == Exit.GOOD, told.err
    after = stranger_samples.inventory(place)
    assert {name: after.get(name) for name in before} == before
    new = {Path(name).parts[1] for name in after} - {Path(name).parts[1] for name in before}
    assert new == {"new-run", "new-walk", "new-mal", RUNS}


# --- users ----------------------------------------------------------------------------------------


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory in which anybody may make things, as in /tmp."""
    directory = Path(tempfile.mkdtemp(prefix="k", dir="/tmp"))
    directory.chmod(0o1777)
    yield directory
    shutil.rmtree(directory)


def as_nobody(body: str, place: Path) -> str:
    """What a piece of Python prints that is run as another user (root is asked for it)."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(write, 1)
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        os.environ |= {"KLP_E2E_CACHE": str(place / "cache"), "HOME": str(place)}
        tempfile.tempdir = str(place)
        try:
            exec(body)
        except ours.NotOurs as refused:
            os.write(1, str(refused).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read, encoding="utf-8") as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said


needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can be two users")


@needs_root
def test_another_user_s_cache_is_refused_and_left_alone(place: Path) -> None:
    (place / "cache").mkdir(mode=0o755)
    ours.mark(place / "cache", ours.MarkKind.CACHE)
    said = as_nobody("workdir.cache_root()", place)
    assert "belongs to another user" in said
    assert [path.name for path in (place / "cache").iterdir()] == [ours.MARK]


@needs_root
def test_two_users_have_run_directories_of_their_own(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    with run_dir("root") as mine:
        body = "with run_dir('other') as path:\n    os.write(1, str(path).encode())"
        theirs = Path(as_nobody(body, place))
        assert mine.exists()
    assert theirs.parent == place / f"klp-e2e-{NOBODY}" and not theirs.exists()


@needs_root
@pytest.mark.parametrize("mode", [0o700, 0o777])
def test_a_place_of_run_directories_that_a_neighbour_has_made_is_refused(
    place: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    taken = place / f"klp-e2e-{os.geteuid()}"
    taken.mkdir()
    taken.chmod(mode)
    os.chown(taken, NOBODY, NOBODY)
    with pytest.raises(ours.NotOurs, match="belongs to another user") as caught, run_dir():
        pass
    assert "TMPDIR" in caught.value.hint and not list(taken.iterdir())


@needs_root
def test_a_link_that_a_neighbour_has_made_leads_nowhere(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even to a directory of ours: what it leads to may change while we work there."""
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    (place / "mine").mkdir(mode=0o700)
    (place / f"klp-e2e-{os.geteuid()}").symlink_to(place / "mine")
    os.chown(place / f"klp-e2e-{os.geteuid()}", NOBODY, NOBODY, follow_symlinks=False)
    with pytest.raises(ours.NotOurs), run_dir():
        pass
    assert not list((place / "mine").iterdir())


def test_a_killed_run_s_directory_goes_with_the_next_run(klp: Klp, one: Bootable) -> None:
    started = klp.start(*words(one, klp.results, *LONG))
    wait_for("its guest", lambda: klp.emulators(one))
    started.send_signal(signal.SIGKILL)
    klp.end(started)
    wait_for("everything to end", lambda: not klp.running())
    assert klp.run_directories()
    klp.run(*words(one, klp.directory / "second", *ORDER))
    assert not klp.run_directories()
