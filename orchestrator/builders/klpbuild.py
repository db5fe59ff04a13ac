# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's own builder: scripts/livepatch/klp-build, with `objtool klp` (since Linux 6.19).

Facts of the script in 7.3 this relies on: it works in the kernel's directory, on the .config there;
it keeps its objects in klp-tmp with -T, and with -S 2 begins at the patched kernel, which needs
klp-tmp/1-orig/.complete; it refuses by lines that begin with `error: klp-build: `; what objtool
leaves out of a livepatch (a tracepoint, a pr_debug() of a module's) is a warning of it after
"Diffing objects"; make is called without variables, and takes those of MAKEFLAGS.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from orchestrator.build import kbuild, toolchain
from orchestrator.build.kbuild import Progress
from orchestrator.builders import running
from orchestrator.builders.request import Request
from orchestrator.builders.tree import BuildTree
from orchestrator.deadline import Deadline
from orchestrator.elf.klpformat import object_name
from orchestrator.errors import BuildError, HarnessError, MissingTool, UsageError
from orchestrator.host import tools
from orchestrator.nouns import VMLINUX

NAME = "klp-build"
SCRIPT = "scripts/livepatch/klp-build"
WRITES: tuple[str, ...] = ("scripts/setlocalversion",)  # besides the files of the patch
OPTIONS: Mapping[str, str] = {}  # KLP_BUILD is on where it can be
SINCE = "6.19"
OPTION = "CONFIG_KLP_BUILD=y"
_PROGRAMS = {"gawk": "gawk", "recountdiff": "patchutils", "objcopy": "binutils"}
_HASHES = Path("/usr/include/xxhash.h")  # objtool takes them for its checksums
_ORIGINAL = "klp-tmp/1-orig/.complete"
_COMPILED = re.compile(r"^#\s+(?:CC|AS)(?: \[M\])?\s+(\S+\.o)$")  # with V=1
_SAID = re.compile(r"^error: klp-build: (?!line \d+: )(.+)$", re.MULTILINE)
_LINE = re.compile(r"^error: klp-build: (line \d+: .+)$", re.MULTILINE)
_OBJTOOL = re.compile(r"^(?:\S+: )?error: objtool\S*: (.+)$|^(\S+: error: objtool: .+)$", re.M)


_DIFFING = "Diffing objects"
_WARNED = re.compile(r"^warning: klp-build: (.+)$", re.MULTILINE)
_OBJTOOL_WARNED = re.compile(r"^(?:\S+: )?warning: objtool: (.+)$", re.MULTILINE)


def check(request: Request, source: Path) -> None:
    """Can it build for this kernel, on this machine? source: the kernel's. Raises UsageError,
    BuildError, MissingTool."""
    kernel = request.kernel
    if not (source / SCRIPT).is_file():
        raise UsageError(
            f"{kernel.source} has no {SCRIPT}: it came with Linux {SINCE}",
            hint="--builder kpatch-build builds for older kernels",
        )
    if OPTION not in kernel.config.read_text().splitlines():
        raise BuildError(
            f"the {request.arch.name} kernel {kernel.release} is configured without {OPTION[:-2]}",
            hint="it wants HAVE_KLP_BUILD, which only some architectures select, and OBJTOOL "
            "(kernel/livepatch/Kconfig)",
        )
    for program, package in _PROGRAMS.items():
        tools.need(program, package)
    if not _HASHES.is_file():
        raise MissingTool(
            f"{_HASHES} is not there, which objtool needs for {NAME}",
            hint="sudo apt-get install libxxhash-dev",
        )


def make(
    request: Request,
    tree: BuildTree,
    patches: Sequence[Path],
    *,
    jobs: int,
    progress: Progress,
    deadline: Deadline,
    say: Callable[[str], None],
) -> Path:
    """The livepatch's .ko, in `tree.made`. patches: files of the request's, in their order. Raises
    BuildError with the builder's own words first, HarnessError, OutOfTime."""
    arch, kernel = request.arch, request.kernel
    made = tree.made / f"{request.name}.ko"
    again = (tree.source / _ORIGINAL).is_file()
    variables = [*toolchain.variables(arch)]
    environment = {
        **kbuild.SAME,
        "ARCH": arch.kernel_arch,
        "CROSS_COMPILE": arch.cross_compile,
        "MAKEFLAGS": " ".join(variables),
        **kbuild.compiler_cache(),
    }
    command = [f"./{SCRIPT}", "--keep-tmp", "--verbose", f"--jobs={jobs}", f"--output={made}"]
    command += [] if request.replace else ["--no-replace"]
    command += ["--short-circuit=2"] if again else []
    say(f"{NAME} builds {request.name}.ko" + ("" if again else ", and before it the kernel"))
    expected = 0 if again else kernel.objects
    return running.run(
        NAME,
        tools.building(command, ("HOME",), environment),
        request,
        tree,
        patches,
        compiled=_COMPILED,
        expected=expected,
        progress=progress,
        deadline=deadline,
        why_unbuilt=why_unbuilt,
    )


def identity(say: Callable[[str], None]) -> str:
    """Nothing: it is part of the kernel's source."""
    del say
    return ""


def original(tree: BuildTree, name: str) -> Path | None:
    """The object, vmlinux or a module's, in which it counted symbols of one name."""
    kept = (tree.source / _ORIGINAL).parent
    if name == VMLINUX:
        return kept / VMLINUX
    found = (path for path in kept.rglob("*.o") if object_name(path.stem) == name)
    return next(found, None)


def why_unbuilt(text: str, request: Request, log: Path) -> BuildError | HarnessError:
    """What a build that failed comes to, by what it said: HarnessError where this machine is to
    blame, BuildError with the builder's own words where patch or kernel are."""
    said = [match[0] for rule in (running.COMPILER, _OBJTOOL) for match in rule.finditer(text)][:1]
    said += [match[1] for match in _SAID.finditer(text)] or [
        match[1] for match in _LINE.finditer(text)
    ]
    return running.failure(NAME, text, request, log, said, _advice)


_ADVICE = {
    "unsupported patch to": "it takes no assembly, no vdso, and nothing below lib/: leave such a "
    "file out of the patch",
    "no changes detected": "no object of this configuration changes: does it compile the file, and "
    "does the patch change code?",
    "KLP_BUILD not enabled": "CONFIG_KLP_BUILD=y",
    "changed data: ": "no livepatch changes data that is there: write to it in a function",
    "reference init code/data": "what is __init has run, and is gone: leave it out of the patch",
    "unsupported static branch key": "as it says, in the patch",
    "unsupported static call key": "as it says, in the patch",
    "objtool klp diff failed": "what it says before that is what it cannot make a livepatch of",
}


def warnings(text: str) -> tuple[str, ...]:
    """Its own, and objtool's of the livepatch: those of the kernel itself come before that."""
    own = text.rpartition(f"\n{_DIFFING}\n")[2]
    found = [match[1] for match in _WARNED.finditer(text)]
    return tuple(dict.fromkeys(found + [match[1] for match in _OBJTOOL_WARNED.finditer(own)]))


def _advice(words: str) -> str:
    return next((advice for mark, advice in _ADVICE.items() if mark in words), "")
