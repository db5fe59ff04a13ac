# SPDX-License-Identifier: GPL-2.0-only
"""Building real kernels. Everything here goes on from the working tree of the kernel that the other
tests use, with a small series more, so that one file is compiled and the kernel linked again.

The kernel is that with the fewest objects. Each series holds a number of its own: what is built
here was never built before, and is removed from the cache afterwards.
"""

from __future__ import annotations

import difflib
import json
import re
import secrets
import shutil
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from vmkit import BUILDS, Klp, wait_for

from orchestrator.build.prepare import Bootable
from orchestrator.cli import options
from orchestrator.errors import Exit
from orchestrator.host import ours, workdir
from orchestrator.nouns import Arch
from orchestrator.source import sources

# one build tree an architecture: who counts what is compiled must be alone with it
pytestmark = [pytest.mark.xdist_group("build trees"), pytest.mark.timeout(BUILDS)]

OBJECTS_AT_MOST = {"x86_64": 800, "s390x": 700}  # files that a cold build compiles
TAG = f"test{secrets.token_hex(4)}"  # in the name of every series here, and so of every kernel
FILE = "lib/ctype.c"
OBJECT = "lib/ctype.o"
# compiled for every link: the version with its time stamp, the symbol tables, the parts of the
# boot image that hold the kernel
FOR_EVERY_LINK = re.compile(
    r"init/version|\.vmlinux\.export|\.tmp_vmlinux|^arch/\w+/boot/|\.mod\.o$"
)


@pytest.fixture(scope="module")
def arch(bootables: Mapping[str, Bootable]) -> Arch:
    return min(bootables.values(), key=lambda bootable: bootable.kernel.objects).arch


@pytest.fixture(scope="module")
def tree(bootables: Mapping[str, Bootable]) -> Path:
    return sources.fetch(options.SOURCE).directory


@pytest.fixture(scope="module", autouse=True)
def built_here() -> Iterator[None]:
    """Take away the kernels that these tests have built."""
    yield
    for path in (workdir.cache_root() / "kernels").glob(f"*{TAG}*"):
        if path.is_dir():
            ours.remove(path, within=path)


def write_series(place: Path, tree: Path, name: str, changed: str) -> str:
    """A quilt directory with one patch that makes `changed` of the file."""
    old = (tree / name).read_text()
    lines = difflib.unified_diff(
        old.splitlines(True), changed.splitlines(True), f"a/{name}", f"b/{name}"
    )
    place.mkdir()
    (place / "series").write_text("change.patch\n")
    (place / "change.patch").write_text("".join(lines))
    return str(place)


def one_line(place: Path, tree: Path, file: str = FILE) -> str:
    """A series that adds a line, never seen before, to one file."""
    line = f'static const char klp_e2e_test[] __used = "{secrets.token_hex(8)}";\n'
    return write_series(place, tree, file, (tree / file).read_text() + line)


def build_argv(arch: Arch, *series: str) -> list[str]:
    stack = [word for name in (options.SERIES, *series) for word in ("--series", name)]
    return ["build", "--arch", arch.name, *stack]


def directory(out: str) -> Path:
    """Of the kernel that `klp-e2e build` names in its one line."""
    (line,) = out.splitlines()
    return Path(line.split()[-1])


def compiled(kernel: Path) -> set[str]:
    """What was compiled for a kernel, by the log that is kept with it."""
    found = re.findall(r"^  (?:CC|AS)(?: \[M\])? +(\S+\.o)$", log(kernel), re.MULTILINE)
    return {name for name in found if not FOR_EVERY_LINK.search(name)}


def log(kernel: Path) -> str:
    return (kernel / "build.log").read_text()


def test_kernels_are_small(bootables: Mapping[str, Bootable]) -> None:
    assert set(OBJECTS_AT_MOST) == set(bootables)
    for name, bootable in bootables.items():
        assert 100 < bootable.kernel.objects <= OBJECTS_AT_MOST[name]


def test_a_patch_that_does_not_apply_names_patch_file_and_hunk(
    klp: Klp, arch: Arch, tree: Path
) -> None:
    name = write_series(
        klp.directory / f"{TAG}-bad",
        tree,
        FILE,
        (tree / FILE).read_text().replace("_ctype", "other", 1),
    )
    patch = Path(name) / "change.patch"
    patch.write_text(patch.read_text().replace("\n #include", "\n #exclude"))
    told = klp.run(*build_argv(arch, name))
    assert told.code == Exit.BUILD
    assert f"{name}: change.patch does not apply: {FILE}: hunk #1 at line" in told.err
    assert "refresh the patch" in told.err


def test_a_dropped_option_stops_the_build_with_its_dependency(
    klp: Klp, arch: Arch, tree: Path
) -> None:
    """A series takes away what a requested option depends on."""
    name = "kernel/livepatch/Kconfig"
    text = (tree / name).read_text()
    changed = text.replace("\tdepends on MODULES\n", "\tdepends on MODULES && NO_SUCH_OPTION\n")
    assert changed != text
    told = klp.run(
        *build_argv(arch, write_series(klp.directory / f"{TAG}-drop", tree, name, changed))
    )
    assert told.code == Exit.BUILD
    assert f"the {arch.name} kernel does not take the configuration" in told.err
    assert "CONFIG_LIVEPATCH=y became n" in told.err
    assert "this kernel has no option NO_SUCH_OPTION" in told.err


def test_small_changes_make_small_builds(klp: Klp, arch: Arch, tree: Path) -> None:
    """One line compiles one file; a mistake is named and costs no more; two runs share one build;
    damage is noticed."""
    first = one_line(klp.directory / f"{TAG}-first", tree)
    told = klp.run(*build_argv(arch, first))
    assert told.code == Exit.GOOD, told.err

    wrong = "#error this is wrong\n"
    bad = write_series(
        klp.directory / f"{TAG}-wrong", tree, FILE, wrong + (tree / FILE).read_text()
    )
    told = klp.run(*build_argv(arch, bad))
    assert told.code == Exit.BUILD
    assert re.search(rf"{FILE}:1:2: error: #error this is wrong", told.err)
    assert "the whole log: " in told.err

    second = one_line(klp.directory / f"{TAG}-second", tree)
    runs = [klp.start(*build_argv(arch, second)) for _ in range(2)]
    both = [klp.end(run) for run in runs]
    assert [each.code for each in both] == [Exit.GOOD] * 2, both
    assert both[0].out == both[1].out
    assert sum("waiting for it" in each.err for each in both) == 1
    kernel = directory(both[0].out)
    assert compiled(kernel) == {OBJECT}
    record = json.loads((kernel / "kernel.json").read_text())
    assert record["compiled"] < 20 < record["objects"]

    image = kernel / "image"
    good = image.read_bytes()
    middle = len(good) // 2
    image.write_bytes(good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :])
    told = klp.run(*build_argv(arch, second))
    assert told.code == Exit.GOOD, told.err
    assert "is damaged (image is damaged); building it again" in told.err
    assert image.read_bytes() == good
    assert compiled(kernel) == set()


def test_a_killed_build_leaves_nothing_that_looks_finished(
    klp: Klp, arch: Arch, tree: Path
) -> None:
    """kill -9 while the compiler runs. The next build has ccache for what was compiled before."""
    file = "mm/memory.c"  # which takes a while
    series = one_line(klp.directory / f"{TAG}-killed", tree, file)
    kernels = workdir.cache_root() / "kernels"
    before = finished(kernels)
    started = klp.start(*build_argv(arch, series))
    wait_for("the compiler", lambda: klp.running("cc1", Path(file).name))
    started.send_signal(signal.SIGKILL)
    klp.end(started)
    wait_for("everything to end", lambda: not klp.running())
    assert finished(kernels) == before
    shutil.rmtree(klp.temporary)  # its run directory, which it could not remove
    klp.temporary.mkdir()

    told = klp.run(*build_argv(arch, series))
    assert told.code == Exit.GOOD, told.err
    assert finished(kernels) - before == {directory(told.out)}
    assert workdir.verify(directory(told.out)) == ""


def finished(kernels: Path) -> set[Path]:
    """Of ours, what looks finished."""
    return {path for path in kernels.glob(f"[!.]*{TAG}*") if path.is_dir()}
