# SPDX-License-Identifier: GPL-2.0-only
"""A bundle: a directory with all that is needed to see one order fail again on another machine.

    BUNDLE/README.md  reproduce.sh              for people (`readme`, `script`)
           by-hand/                             for people with a kernel of their own (`byhand`)
           bundle.json                          for us: what failed, on what, sha256 of every file
           kernel  System.map  config           of the kernel
           userland.cpio.gz  overlay.cpio       the guest's initramfs, in two parts
           modules/NAME.ko  set/                the module set, and what was compiled, or patched
           ARCH.toml                            its architecture, when it is none of ours
           id_ed25519  known_hosts              keys of this bundle's guest and of no other
           console.log  dmesg  qemu-command     from the boot in which it was seen

`replay` takes keys of its own for each boot, as ever; those here are for reproduce.sh. A bundle is
code: `replay` boots its kernel, in a guest without a network, and starts nothing else of it;
reproduce.sh is a script of whoever made it.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator import catalog, initramfs
from orchestrator.build import delivery, modules, prepare
from orchestrator.build.prepare import Bootable
from orchestrator.errors import Exit, UsageError
from orchestrator.host import files, ours, walk, workdir
from orchestrator.model import culprit, issuecheck, orders
from orchestrator.model.findings import signature
from orchestrator.model.known import KnownIssue
from orchestrator.model.movers import FILLER, completed
from orchestrator.nouns import BuiltSet, Case, Kernel, ModuleSet
from orchestrator.plain import lines, one_line
from orchestrator.repro import byhand, record, script
from orchestrator.repro.readme import readme
from orchestrator.repro.record import (
    CONFIG,
    FORMAT,
    HINT,
    KERNEL,
    MODULES,
    OVERLAY,
    RECORD,
    SET,
    SET_FILE,
    SYSTEM_MAP,
    USERLAND,
    KernelRecord,
    Record,
)
from orchestrator.repro.story import Story
from orchestrator.run.observe import module_path
from orchestrator.run.slot import judged
from orchestrator.verdicts import CaseResult, Status
from orchestrator.vm import ssh

KEY, KNOWN_HOSTS = "id_ed25519", "known_hosts"
PRIVATE = 0o600
_UNSAFE = re.compile(r"[^A-Za-z0-9_.+-]+")
_NAME_LENGTH = 100


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle that was read: ready to boot."""

    bootable: Bootable
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

    def judged(self, result: CaseResult) -> CaseResult:
        """A replay, with what its set is to blame for as ERROR: who edits a bundle edits its set.
        What fails as recorded stays: it was judged then."""
        if self.shown_by(result):
            return result
        module_set = self.bootable.sets[self.case.module_set].set
        return next(iter(culprit.judge_together((result,), module_set)), result)

    def known_as(self, result: CaseResult) -> str:
        """The id of the issue that it fails as, by what the bundle was judged by; "" for none. That
        it is known makes it no less wrong: no exit code goes by it."""
        by = replace(self.bootable, known_issues=self.record.known_issues)
        return judged(result, by).known_issue

    @property
    def heading(self) -> str:
        """What is to be seen again, for a terminal."""
        kernel, record = self.bootable.kernel, self.record
        return lines(
            f"kernel    {record.arch}, Linux {kernel.release}, {kernel.source} "
            f"{kernel.source_version}, series {' '.join(kernel.series) or 'none'}"
            f"{''.join(f', config {each}' for each in kernel.configs)}\n"
            f"order     {one_line(record.order)}\n"
            f"recorded  {one_line(str(record.signature))} "
            f"({record.repeated} of {record.tries} cold boots)"
        )

    def compared(self, result: CaseResult) -> str:
        """One line about a replay."""
        why = one_line(result.reason)
        if result.status is Status.FAIL and (listed := self.known_as(result)):
            why += f" (known issue {listed})"
        if self.shown_by(result):
            return f"REPRODUCED  {why}"
        if result.status is Status.FAIL:
            return f"FAILS OTHERWISE  {why}"
        return f"{result.status}  {why or 'every check is good'}"


def replay_exit_code(results: Sequence[CaseResult]) -> Exit:
    """Of replays. One that fails otherwise shows a kernel that is wrong, too."""
    statuses = {result.status for result in results}
    if Status.FAIL in statuses:
        return Exit.TEST_FAILURE
    return Exit.HARNESS if Status.ERROR in statuses else Exit.GOOD


# --- writing -------------------------------------------------------------------------------------


def name(arch: str, module_set: str, *more: str) -> str:
    """What a bundle is called; a module set that was given as a path by its last part."""
    words = (arch, Path(module_set).name, *more)
    safe = _UNSAFE.sub("_", "-".join(word for word in words if word))
    return safe[:_NAME_LENGTH].strip("._") or "bundle"


def place(findings: Path, wanted: str) -> Path:
    """Where a bundle of that name can be written: NAME, else NAME-2, ...: nothing is lost there."""
    found, number = findings / wanted, 1
    while not _free(found):
        number += 1
        found = findings / f"{wanted}-{number}"
    return found


def check(place: Path) -> Path:
    """A place that a user named, links followed, when a bundle can be written there; it is, or
    becomes, a directory of ours. Raises UsageError when something would be lost."""
    try:
        real = place.resolve()
    except (OSError, RuntimeError) as err:  # links that lead to one another
        raise UsageError(f"{place} leads nowhere", "choose another place with -o DIR") from err
    for above in real.parents:
        if above.exists() and not above.is_dir():
            raise UsageError(f"{above} is no directory", "choose another place with -o DIR")
    ours.lasting(real, "choose another place with -o DIR")
    if not _free(real):
        raise UsageError(
            f"{place} is not empty, and no bundle that is as klp-e2e wrote it",
            hint="choose another place with -o DIR, or move what is there out of the way",
        )
    if Path.cwd().is_relative_to(real):
        raise UsageError(
            f"{place} holds the working directory, which would be replaced",
            hint="give the bundle a name: -o DIR",
        )
    return real


def _free(place: Path) -> bool:
    """Nothing, an empty directory, or a bundle of ours that nobody has added to or changed."""
    if not os.path.lexists(place):
        return True
    if place.is_symlink() or not place.is_dir():
        return False
    return not any(place.iterdir()) or record.as_written(place)


def write(place: Path, bootable: Bootable, result: CaseResult, tries: tuple[int, int]) -> None:
    """Make the bundle of a case that failed.

    tries: (how many of the cold boots failed alike, how many cold boots). The directory appears
    whole or not at all; a bundle of ours that is as we wrote it is replaced. Raises UsageError when
    anything else is there; HarnessError when nothing failed, or when it cannot be written.
    """
    place = check(place)
    built = bootable.sets[result.case.module_set]
    version = prepare.qemu_version(bootable.arch)
    judged_by = _judged_by(bootable, result.case, built.set.name)
    issue = next((each for each in judged_by if each.id == result.known_issue), None)
    story = Story(result, bootable.arch, bootable.kernel, built, tries, version, place.name, issue)
    index, step, first = story.failure
    like = signature(result)
    assert like is not None  # story.failure
    with (
        workdir.disk_errors(f"the bundle {place} cannot be written"),
        ours.appearing(place, ours.MarkKind.BUNDLE, record.foreign) as partial,
    ):
        _fill(partial, bootable, built)
        by_hand = byhand.made(story, partial / SET)
        for name, content in by_hand.files.items():
            file = partial / byhand.DIRECTORY / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        written = {
            "README.md": readme(story, by_hand),
            "reproduce.sh": script.script(story),
            "console.log": result.console,
            "dmesg": result.dmesg,
            "qemu-command": f"{shlex.join(result.qemu_argv)}\n",
        }
        for name, text in written.items():
            (partial / name).write_text(text, encoding="utf-8", errors="backslashreplace")
        (partial / "reproduce.sh").chmod(0o755)
        made = Record(
            format=FORMAT,
            arch=bootable.arch.name,
            kernel=_kernel_record(bootable.kernel),
            name=one_line(result.case.name),
            module_set=built.set.name,
            order=orders.format(result.case.order),
            why=one_line(result.case.why),
            failed_event=index,
            signature=like,
            first=first,
            failed=tuple(check for check in step.checks if not check.good),
            known_issue=result.known_issue,
            repeated=tries[0],
            tries=tries[1],
            qemu_version=one_line(version),
            qemu_argv=result.qemu_argv,
            files=record.digests(partial),
            memory_mb=bootable.arch.memory_mb,
            time_scale=bootable.arch.time_scale,
            known_issues=judged_by,
        )
        (partial / RECORD).write_bytes(record.text(made))
        check(place)  # it took a while


def _judged_by(bootable: Bootable, case: Case, name: str) -> tuple[KnownIssue, ...]:
    """The issues of its architecture. The case's module set is called `name` in a bundle, wherever
    it lay."""

    def called(issue: KnownIssue) -> KnownIssue:
        mine = tuple(
            replace(each, modules=name) if each.modules == case.module_set else each
            for each in issue.fails
        )
        return replace(issue, fails=mine)

    of_it = (i for i in bootable.known_issues if bootable.arch.name in i.architectures)
    return tuple(map(called, of_it))


def _fill(into: Path, bootable: Bootable, built: BuiltSet) -> None:
    """Everything but the texts."""
    kernel = bootable.kernel
    for origin, name in (
        (kernel.image, KERNEL),
        (kernel.system_map, SYSTEM_MAP),
        (kernel.config, CONFIG),
    ):
        shutil.copyfile(origin, into / name)
    # padded here, so that the two parts make an initramfs by mere `cat`
    (into / USERLAND).write_bytes(initramfs.stack(bootable.userland.read_bytes(), b""))
    if bootable.arch.file:
        shutil.copyfile(bootable.arch.file, into / _arch_file(bootable.arch.name))
    if modules.has_sources(built.set):
        _copy_set(built.set.directory, into / SET)
    (into / SET_FILE).parent.mkdir(exist_ok=True)
    (into / SET_FILE).write_bytes(catalog.set_text(built.set.directory))
    _copy_patches(built.set, into / SET)
    (into / MODULES).mkdir()
    pack = delivery.packing(kernel)
    keys = ssh.new_keys()
    files = keys.files()
    for name, module in built.modules.items():
        data = module.path.read_bytes()
        (into / MODULES / f"{name}.ko").write_bytes(data)
        files[module_path(built.set.name, name)] = pack(data)
    for name, content in (
        (OVERLAY, initramfs.overlay(files)),
        (KEY, keys.client.encode()),
        (KNOWN_HOSTS, f"{script.HOST_ALIAS} {keys.host_public}\n".encode()),
    ):
        (into / name).touch(mode=PRIVATE)
        (into / name).write_bytes(content)


def _copy_patches(module_set: ModuleSet, into: Path) -> None:
    """What its livepatch was built of, as far as that still lies beside it and is what it was: who
    changes it has his reason, and the bundle is of the livepatch."""
    for patch in module_set.origin.patches if module_set.origin else ():
        path = module_set.directory / patch.file
        if files.is_ordinary(path) and path.stat().st_size <= modules.SOURCE_MAX:
            content = files.read(path, modules.SOURCE_MAX)
            if hashlib.sha256(content).hexdigest() == patch.sha256:
                (into / patch.file).write_bytes(content)


def _copy_set(directory: Path, into: Path) -> None:
    """What a set is built from: ordinary files, nothing hidden, no names that nobody can type."""
    for path in sorted(walk.below(directory)):
        inside = path.relative_to(directory)
        hidden = any(part.startswith(".") for part in inside.parts)
        linked = path.is_symlink() or any(
            up.is_symlink() for up in path.parents if up.is_relative_to(directory)
        )
        if linked or not path.is_file() or path.stat().st_size > modules.SOURCE_MAX:
            continue
        if not hidden and one_line(str(inside)) == str(inside):
            (into / inside).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, into / inside)


def _arch_file(arch: str) -> str:
    """What the description of an architecture that is none of ours is called in a bundle."""
    return f"{arch}.toml"


def _kernel_record(kernel: Kernel) -> KernelRecord:
    return KernelRecord(
        key=kernel.key,
        source=one_line(kernel.source),
        source_version=one_line(kernel.source_version),
        series=tuple(map(one_line, kernel.series)),
        release=one_line(kernel.release),
        version=kernel.version,
        compiler=one_line(kernel.compiler),
        configs=tuple(map(one_line, kernel.configs)),
        capabilities=tuple(sorted(kernel.capabilities)),
    )


# --- reading -------------------------------------------------------------------------------------


def read(place: Path) -> Bundle:
    """Raises UsageError for what is no bundle, of another format, damaged, of an unknown
    architecture, or of one that asks QEMU for more than a stranger may (`catalog.arch_of_others`).
    """
    place = place.absolute()
    made = record.load_record(place)
    for issue in made.known_issues:
        issuecheck.well_formed(issue, f"{place / RECORD} is damaged: known issue")
    record.check_files(place, made, (KERNEL, SYSTEM_MAP, CONFIG, USERLAND, SET_FILE))
    own = _arch_file(made.arch)
    arch = catalog.arch_of_others(place / own) if own in made.files else catalog.arch(made.arch)
    arch = replace(
        arch,
        memory_mb=made.memory_mb or arch.memory_mb,
        time_scale=made.time_scale or arch.time_scale,
    )
    module_set = completed(catalog.module_set_in(place / SET, made.module_set))
    if f"{MODULES}/{FILLER}.ko" not in made.files:  # older bundles have none
        theirs = tuple(spec for spec in module_set.modules if spec.name != FILLER)
        module_set = replace(module_set, modules=theirs)
    for spec in module_set.modules:
        if f"{MODULES}/{spec.name}.ko" not in made.files:
            wrong = f"{place / RECORD} is damaged: it does not list {MODULES}/{spec.name}.ko"
            raise UsageError(wrong, hint=HINT)
    order = orders.parse(made.order, module_set)
    built = modules.read(module_set, place / MODULES, arch)
    bootable = Bootable(
        arch=arch,
        kernel=_kernel(made, place),
        sets={module_set.name: built},
        userland=place / USERLAND,
        known_issues=(),  # see `known_as`
    )
    return Bundle(bootable, Case(made.name, module_set.name, order, made.why), made)


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
        configs=kernel.configs,
        directory=place,
        image=place / KERNEL,
        system_map=place / SYSTEM_MAP,
        config=place / CONFIG,
        build_tree=place,  # nothing is built against it
        source_tree=place,
        capabilities=frozenset(kernel.capabilities),
    )
