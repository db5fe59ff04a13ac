# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's own tests of livepatch, tools/testing/selftests/livepatch, ready for a guest.

They are built from the tree that the kernel was built from, its series included, and laid out as
`make -C tools/testing/selftests install` does it. Their modules lie beside the scripts (6.12) or
in lib/livepatch (6.1), where CONFIG_TEST_LIVEPATCH asks for them: our kernels do not have it, so it
is told to make here. Either are built out of tree, against the finished kernel.
"""

from __future__ import annotations

import hashlib
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from orchestrator import catalog, initramfs
from orchestrator.build import delivery, outoftree, toolchain
from orchestrator.deadline import Deadline
from orchestrator.errors import BuildError, UsageError
from orchestrator.host import ours, process, workdir
from orchestrator.host.rundir import run_dir
from orchestrator.host.tools import building
from orchestrator.initramfs import Entry
from orchestrator.nouns import Arch, Kernel
from orchestrator.source import series, sources

COLLECTION = "livepatch"
SELFTESTS = Path("tools/testing/selftests")
IN_LIB = Path("lib/livepatch")
# what is taken of the tree: the tests, and what their Makefile and their runner need
_PARTS = (
    SELFTESTS / COLLECTION,
    SELFTESTS / "kselftest",
    *(SELFTESTS / name for name in ("lib.mk", "kselftest.h", "kselftest_harness.h")),
    SELFTESTS / "run_kselftest.sh",
    IN_LIB,
)
LIST = "kselftest-list.txt"  # lines of COLLECTION:TEST, in the order of the Makefile
# in a cache entry, and below / in the guest
_INSTALLED = "kselftest"
_MODULES = "modules"
_INSTALLED_NAMES = ("settings", "config")  # besides what can be run, scripts and modules


@dataclass(frozen=True, slots=True)
class SelftestTree:
    """A finished entry of the cache."""

    directory: Path
    release: str  # of the kernel

    @property
    def tests(self) -> tuple[str, ...]:
        """Names of the scripts, in the order in which kselftest runs them."""
        lines = (self.directory / _INSTALLED / LIST).read_text().splitlines()
        return tuple(line.partition(":")[2] for line in lines)

    def archive(self) -> bytes:
        """A cpio archive of /kselftest, /bin/run-kselftest and the modules where modprobe looks."""
        runner = catalog.data_dir("images/guest") / "run-kselftest"
        modules_in_guest = f"lib/modules/{self.release}"
        entries = {
            "bin/run-kselftest": Entry(stat.S_IFREG | 0o755, runner.read_bytes()),
            modules_in_guest: Entry(stat.S_IFDIR | 0o755),
        }
        for top, below in ((_INSTALLED, _INSTALLED), (_MODULES, f"{modules_in_guest}/extra")):
            for path in _files(self.directory / top):
                mode = 0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644
                name = f"{below}/{path.relative_to(self.directory / top)}"
                entries[name] = Entry(stat.S_IFREG | mode, path.read_bytes())
        return initramfs.cpio(entries)


def build(
    kernel: Kernel,
    arch: Arch,
    *,
    jobs: int,
    deadline: Deadline,
    say: Callable[[str], None],
) -> SelftestTree:
    """The tests that belong to `kernel`, from the cache where they have been built before.

    Raises UsageError for a kernel that has none, BuildError, HarnessError.
    """
    final = workdir.cache_root() / "selftests" / f"{arch.name}-{key(kernel)[:32]}"
    with workdir.locked(final, say):
        if workdir.verify(final):
            with workdir.staging(final) as tmp, run_dir("selftests") as scratch:
                _copy_sources(kernel, scratch, deadline, say)
                _make(scratch, kernel, arch, jobs, deadline)
                _install(scratch, tmp, kernel)
                workdir.publish(tmp, final)
        workdir.touch(final)
    return SelftestTree(final, kernel.release)


def key(kernel: Kernel) -> str:
    """What the tests depend on, as hexadecimal digits. A kernel that is built anew is the same, and
    may have another key to sign modules with."""
    keys = (kernel.build_tree / name for name in delivery.KEYS)
    files = (Path(__file__), *(path for path in keys if path.exists()))
    parts = (kernel.key, *map(workdir.file_digest, files))
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()


def _copy_sources(
    kernel: Kernel, into: Path, deadline: Deadline, say: Callable[[str], None]
) -> None:
    """The parts of the kernel's tree that are needed, as its series leave them."""
    tree = sources.fetch(kernel.source, deadline, say)
    stack = [series.resolve(name, tree.kernel) for name in kernel.series]
    patched = series.apply(tree.directory, stack)
    for part in _PARTS:
        origin = tree.directory / part
        if origin.is_dir():
            shutil.copytree(origin, into / part, symlinks=True)
        elif origin.is_file():
            (into / part).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(origin, into / part)
    for name, file in patched.items():
        if not any(Path(name).is_relative_to(part) for part in _PARTS):
            continue
        target = into / name
        if file.content is None:
            ours.scrap(target)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.content)
            target.chmod(0o755 if file.executable else 0o644)
    if not (into / SELFTESTS / COLLECTION / "Makefile").is_file():
        raise UsageError(f"{kernel.source} has no {SELFTESTS / COLLECTION}")


def _make(scratch: Path, kernel: Kernel, arch: Arch, jobs: int, deadline: Deadline) -> None:
    """Build the tests in place, and let their Makefile say which there are."""
    log = workdir.whole(workdir.LOGS) / f"selftests-{arch.name}.log"
    log.write_text("")
    make = ["make", f"-j{jobs}", f"ARCH={arch.kernel_arch}", f"CROSS_COMPILE={arch.cross_compile}"]
    make += toolchain.variables(arch)  # there are modules among the tests
    place = scratch / SELFTESTS / COLLECTION
    # OUTPUT: lib.mk knows a default only where no make has called us. static: the guest has no more
    # libraries than its own programs need.
    here = ["-C", str(place), f"OUTPUT={place}", f"COLLECTION={COLLECTION}"]
    argvs = [[*make, *here, f"KDIR={kernel.build_tree}", "USERLDFLAGS=-static", "all"]]
    if (scratch / IN_LIB).is_dir():
        kbuild = ["-C", str(kernel.build_tree), f"M={scratch / IN_LIB}"]
        argvs.append([*make, *kbuild, "CONFIG_TEST_LIVEPATCH=m", "modules"])
    try:
        for argv in argvs:
            process.run(building(argv), deadline=deadline, log=log)
    except process.CommandFailed as failed:
        line = outoftree.first_error(log.read_text(errors="replace"), scratch) or str(failed)
        raise BuildError(
            f"the kernel's own tests do not build for {arch.name}: {line}",
            hint=f"the whole output is in {log}",
            log=str(log),
        ) from failed
    emit = ["make", "-s", "--no-print-directory", *here, "emit_tests"]
    listed = process.run(building(emit), deadline=deadline).output
    (scratch / SELFTESTS / LIST).write_text(listed)


def _install(scratch: Path, into: Path, kernel: Kernel) -> None:
    """What `make install` of lib.mk and of the selftests' Makefile would copy; modules signed."""
    selftests = scratch / SELFTESTS
    kept = [selftests / LIST, selftests / "run_kselftest.sh", *_files(selftests / "kselftest")]
    kept += [path for path in _files(selftests / COLLECTION) if _installed(path)]
    moved = {path: into / _INSTALLED / path.relative_to(selftests) for path in kept}
    moved |= {path: into / _MODULES / path.name for path in (scratch / IN_LIB).glob("*.ko")}
    for origin, target in moved.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(origin, target)
        if origin.suffix == ".ko":
            target.write_bytes(delivery.signed(kernel, origin.read_bytes(), origin.name))


def _installed(path: Path) -> bool:
    return (
        path.suffix in (".sh", ".ko")
        or path.name in _INSTALLED_NAMES
        or bool(path.stat().st_mode & stat.S_IXUSR)
    )


def _files(top: Path) -> Iterator[Path]:
    return (path for path in sorted(top.rglob("*")) if path.is_file())
