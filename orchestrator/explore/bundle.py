# SPDX-License-Identifier: GPL-2.0-only
"""A bundle: a directory with all that is needed to see one order fail again on another machine.

    BUNDLE/README.md  reproduce.sh              for people (see `reproducer`)
           bundle.json                          for us: what failed, on what, sha256 of every file
           kernel  System.map  config           of the kernel
           userland.cpio.gz  overlay.cpio       the guest's initramfs, in two parts
           modules/NAME.ko  set/                the module set, and what it was built from
           ARCH.toml                            its architecture, when it is none of ours
           id_ed25519  known_hosts              keys of this bundle's guest and of no other
           console.log  dmesg  qemu-command     from the boot in which it was seen

`replay` takes keys of its own for each boot, as ever; those here are for reproduce.sh.
"""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

from orchestrator import catalog
from orchestrator.build import image, modules, prepare
from orchestrator.build.prepare import Bench
from orchestrator.errors import Exit, UsageError
from orchestrator.explore import reproducer
from orchestrator.host import ours, workdir
from orchestrator.model import orders
from orchestrator.model.findings import Signature, signature
from orchestrator.nouns import BuiltSet, Case, Kernel, ModuleSet
from orchestrator.run.observe import module_path
from orchestrator.verdicts import CaseResult, Check, Status
from orchestrator.vm import ssh

FORMAT: Literal[1] = 1
RECORD = "bundle.json"
KERNEL, SYSTEM_MAP, CONFIG = "kernel", "System.map", "config"
USERLAND, OVERLAY = "userland.cpio.gz", "overlay.cpio"
MODULES, SET = "modules", "set"
KEY, KNOWN_HOSTS = "id_ed25519", "known_hosts"
PRIVATE = 0o600
HINT = "get it again from where it was made; what was changed on purpose needs its sha256 changed"


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True, slots=True)
class KernelRecord:
    """The kernel, without its places on the machine that built it."""

    key: str
    source: str
    source_version: str
    series: tuple[str, ...]
    release: str
    version: tuple[int, int]
    compiler: str
    capabilities: tuple[str, ...]


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True, slots=True)
class Record:
    """bundle.json"""

    format: Literal[1]
    arch: str
    kernel: KernelRecord
    name: str  # of the case
    module_set: str
    order: str  # in notation
    why: str
    failed_event: int  # index from 0
    signature: Signature
    first: Check  # the first check that failed
    failed: tuple[Check, ...]  # all that failed after the same event
    known_issue: str  # id in known-issues.toml, or empty
    repeated: int  # of `tries` cold boots, how many failed alike
    tries: int
    qemu_version: str
    qemu_argv: tuple[str, ...]
    files: Mapping[str, str]  # relative path -> sha256, of every other file


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle that was read: ready to boot."""

    bench: Bench
    case: Case
    record: Record

    def shown_by(self, result: CaseResult) -> bool:
        """Whether the case failed as recorded: at the same event, in the same way."""
        failure = result.first_failure()
        return (
            failure is not None
            and failure[0] == self.record.failed_event
            and signature(result) == self.record.signature
        )

    @property
    def heading(self) -> str:
        """What is to be seen again, for a terminal."""
        kernel, record = self.bench.kernel, self.record
        return (
            f"kernel    {record.arch}, Linux {kernel.release}, {kernel.source} "
            f"{kernel.source_version}, series {' '.join(kernel.series) or 'none'}\n"
            f"order     {record.order}\n"
            f"recorded  {record.signature} ({record.repeated} of {record.tries} cold boots)"
        )

    def compared(self, result: CaseResult) -> str:
        """One line about a replay."""
        if self.shown_by(result):
            return f"REPRODUCED  {result.reason}"
        if result.status is Status.FAIL:
            return f"FAILS OTHERWISE  {result.reason}"
        return f"{result.status}  {result.reason or 'every check is good'}"


def exit_code(results: Sequence[CaseResult]) -> Exit:
    """Of replays. One that fails otherwise shows a kernel that is wrong, too."""
    statuses = {result.status for result in results}
    if Status.FAIL in statuses:
        return Exit.KERNEL_WRONG
    return Exit.HARNESS if Status.ERROR in statuses else Exit.GOOD


_RECORD = TypeAdapter(Record)


# --- writing -------------------------------------------------------------------------------------


def write(place: Path, bench: Bench, result: CaseResult, tries: tuple[int, int]) -> None:
    """Make the bundle of a case that failed.

    tries: (how many of the cold boots failed alike, how many cold boots). The directory appears
    whole or not at all; one that is there is replaced. Raises HarnessError when nothing failed, or
    when it cannot be written.
    """
    place = place.absolute()
    built = bench.sets[result.case.module_set]
    version = prepare.qemu_version(bench.arch)
    story = reproducer.Story(result, bench.arch, bench.kernel, built, tries, version, place.name)
    index, step, first = story.failure
    partial = place.with_name(f".{place.name}.partial")
    with workdir.disk_errors(f"the bundle {place} cannot be written"):
        ours.scrap(partial)
        partial.mkdir(parents=True)
        try:
            _fill(partial, bench, built)
            texts = {
                "README.md": reproducer.readme(story),
                "reproduce.sh": reproducer.script(story),
                "console.log": result.console,
                "dmesg": result.dmesg,
                "qemu-command": f"{shlex.join(result.qemu_argv)}\n",
            }
            for name, text in texts.items():
                (partial / name).write_text(text, encoding="utf-8", errors="backslashreplace")
            (partial / "reproduce.sh").chmod(0o755)
            like = signature(result)
            assert like is not None  # story.failure
            record = Record(
                format=FORMAT,
                arch=bench.arch.name,
                kernel=_kernel_record(bench.kernel),
                name=result.case.name,
                module_set=built.set.name,
                order=orders.format(result.case.order),
                why=result.case.why,
                failed_event=index,
                signature=like,
                first=first,
                failed=tuple(check for check in step.checks if not check.good),
                known_issue=result.known_issue,
                repeated=tries[0],
                tries=tries[1],
                qemu_version=version,
                qemu_argv=result.qemu_argv,
                files=digests(partial),
            )
            (partial / RECORD).write_bytes(_RECORD.dump_json(record, indent=2) + b"\n")
            ours.scrap(place)
            partial.rename(place)
        finally:
            ours.scrap(partial)


def _fill(into: Path, bench: Bench, built: BuiltSet) -> None:
    """Everything but the texts."""
    kernel = bench.kernel
    for origin, name in (
        (kernel.image, KERNEL),
        (kernel.system_map, SYSTEM_MAP),
        (kernel.config, CONFIG),
    ):
        shutil.copyfile(origin, into / name)
    # padded here, so that the two parts make an initramfs by mere `cat`
    (into / USERLAND).write_bytes(image.stack(bench.userland.read_bytes(), b""))
    if bench.arch.file:
        shutil.copyfile(bench.arch.file, into / _arch_file(bench.arch.name))
    shutil.copytree(built.set.directory, into / SET)
    (into / MODULES).mkdir()
    keys = ssh.new_keys()
    files = keys.files()
    for name, module in built.modules.items():
        data = module.path.read_bytes()
        (into / MODULES / f"{name}.ko").write_bytes(data)
        files[module_path(built.set.name, name)] = data
    for name, content in (
        (OVERLAY, image.overlay(files)),
        (KEY, keys.client.encode()),
        (KNOWN_HOSTS, f"{reproducer.HOST_ALIAS} {keys.host_public}\n".encode()),
    ):
        (into / name).touch(mode=PRIVATE)
        (into / name).write_bytes(content)


def _arch_file(arch: str) -> str:
    """What the description of an architecture that is none of ours is called in a bundle."""
    return f"{arch}.toml"


def _kernel_record(kernel: Kernel) -> KernelRecord:
    return KernelRecord(
        key=kernel.key,
        source=kernel.source,
        source_version=kernel.source_version,
        series=kernel.series,
        release=kernel.release,
        version=kernel.version,
        compiler=kernel.compiler,
        capabilities=tuple(sorted(kernel.capabilities)),
    )


def digests(directory: Path) -> dict[str, str]:
    """sha256 of every file by its relative path, without bundle.json."""
    return {
        str(path.relative_to(directory)): workdir.file_digest(path)
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path != directory / RECORD
    }


# --- reading -------------------------------------------------------------------------------------


def read(place: Path) -> Bundle:
    """Raises UsageError for what is no bundle, of another format, damaged or of an unknown
    architecture."""
    place = place.absolute()
    record = load(place)
    _check_digests(place, record)
    own = _arch_file(record.arch)
    arch = catalog.arch(str(place / own) if own in record.files else record.arch)
    module_set = catalog.load_toml(
        place / SET / "set.toml", ModuleSet, name=record.module_set, directory=place / SET
    )
    order = orders.parse(record.order, module_set)
    built = modules.read(module_set, place / MODULES, arch)
    bench = Bench(
        arch=arch,
        kernel=_kernel(record, place),
        sets={module_set.name: built},
        userland=place / USERLAND,
        known_issues=(),  # that it is known makes it no less wrong
    )
    return Bundle(bench, Case(record.name, module_set.name, order, record.why), record)


def load(place: Path) -> Record:
    """bundle.json alone. Raises UsageError."""
    file = place / RECORD
    try:
        text = file.read_text(encoding="utf-8")
        head = json.loads(text)
    except OSError as trouble:
        raise UsageError(
            f"{place} is no bundle: {RECORD}: {trouble.strerror}",
            hint="give the directory that holds reproduce.sh",
        ) from trouble
    except ValueError as trouble:
        raise UsageError(f"{file} is damaged: {trouble}", hint=HINT) from trouble
    found = head.get("format") if isinstance(head, dict) else None
    if found != FORMAT:
        raise UsageError(
            f"{place} is a bundle of format {found!r}, this klp-e2e reads {FORMAT}",
            hint="its reproduce.sh runs without klp-e2e; or take the klp-e2e that wrote it",
        )
    try:
        return _RECORD.validate_json(text)
    except ValidationError as trouble:
        first = trouble.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{file} is damaged at {where}: {first['msg']}", hint=HINT) from trouble


def _check_digests(place: Path, record: Record) -> None:
    for name in (KERNEL, SYSTEM_MAP, USERLAND, f"{SET}/set.toml"):
        if name not in record.files:
            raise UsageError(f"{place / RECORD} is damaged: it does not list {name}", hint=HINT)
    for name, digest in record.files.items():
        path = place / name
        if not path.is_file():
            raise UsageError(f"the bundle {place} is damaged: {name} is missing", hint=HINT)
        if workdir.file_digest(path) != digest:
            raise UsageError(
                f"the bundle {place} is damaged: {name} is not what was written", hint=HINT
            )


def _kernel(record: Record, place: Path) -> Kernel:
    kernel = record.kernel
    return Kernel(
        key=kernel.key,
        arch=record.arch,
        source=kernel.source,
        source_version=kernel.source_version,
        series=kernel.series,
        release=kernel.release,
        version=kernel.version,
        compiler=kernel.compiler,
        directory=place,
        image=place / KERNEL,
        system_map=place / SYSTEM_MAP,
        config=place / CONFIG,
        build_tree=place,  # nothing is built against it
        source_tree=place,
        capabilities=frozenset(kernel.capabilities),
    )
