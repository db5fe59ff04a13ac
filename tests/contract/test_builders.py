# SPDX-License-Identifier: GPL-2.0-only
"""A kernel's tree in which a builder works: what it leaves there, and what it cannot spoil."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import time
import tomllib
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from elf_samples import MODINFO, target, with_section
from samples import a_kernel

from orchestrator.build import kernel as kernels
from orchestrator.builders import klpbuild, kpatch, livepatch, sympos, tree
from orchestrator.builders.request import Request
from orchestrator.catalog import arches
from orchestrator.deadline import Deadline
from orchestrator.elf import reader
from orchestrator.elf.writer import write
from orchestrator.errors import BuildError, HarnessError, PatchError, UsageError
from orchestrator.host import pruning, workdir
from orchestrator.nouns import VMLINUX, Kernel
from orchestrator.source import archive, series, sources, worktree

HOST = next(arch for arch in arches().values() if not arch.cross_compile)
GENUINE = Path(__file__).parents[1] / "unit/genuine/objtool-7.3.4.ko"
FIX = """--- a/kernel/one.c
+++ b/kernel/one.c
@@ -1 +1 @@
-int one = 1;
+int one = 3;
"""
# As the real one: works in the tree, and cleans up behind itself unless it is killed.
SCRIPT = """#!/bin/bash
while [ $# -gt 1 ]; do
    case $1 in
    --output=*) out=${1#--output=} ;;
    --short-circuit=2) echo again ;;
    esac
    shift
done
patch -s -p1 < "$1" || exit 1
sed -i '2i echo changed' scripts/setlocalversion
echo "# CC      kernel/one.o"
[ ! -e ../die ] || kill -9 $$
[ ! -e ../refuse ] || { echo "error: klp-build: no changes detected" >&2; exit 1; }
mkdir -p klp-tmp/1-orig && touch klp-tmp/1-orig/.complete
cp kernel/one.c "$out"
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KLP_E2E_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    place = tmp_path / "linux"
    for name, text in {
        "Makefile": "VERSION = 7\nPATCHLEVEL = 3\nSUBLEVEL = 4\nEXTRAVERSION =\n",
        "Kconfig": "",
        "Kbuild": "",
        "kernel/one.c": "int one = 1;\n",
        "scripts/setlocalversion": "#!/bin/sh\necho 1\n",
        klpbuild.SCRIPT: SCRIPT,
    }.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (place / klpbuild.SCRIPT).chmod(0o755)
    return place


@pytest.fixture
def kernel(source: Path, tmp_path: Path) -> Kernel:
    config = tmp_path / "config"
    config.write_text(f"{klpbuild.OPTION}\n")
    return replace(
        a_kernel(), source=f"dir:{source}", series=(), config=config, arch=HOST.name, key="k" * 64
    )


@pytest.fixture
def request_(kernel: Kernel, tmp_path: Path) -> Request:
    (tmp_path / "fix.patch").write_text(FIX)
    return Request(kernel, HOST, series.resolve(str(tmp_path / "fix.patch"), (7, 3)), True)


def texts(place: Path) -> dict[str, str]:
    return {
        str(path.relative_to(place)): path.read_text()
        for path in sorted(place.rglob("*"))
        if path.is_file() and "klp-tmp" not in path.parts
    }


def opened(
    request: Request, written: Collection[str], say: Callable[[str], None] = lambda _: None
) -> contextlib.AbstractContextManager[tree.BuildTree]:
    origin = sources.fetch(request.kernel.source)
    return tree.opened(request.kernel, HOST, origin, written, say=say)


def built(request: Request, said: list[str], seen: list[str] | None = None) -> str:
    written = (*request.files, *klpbuild.WRITES)
    with opened(request, written, said.append) as site:
        patch = site.made / "fix.patch"
        patch.write_bytes(request.fix.patches[0].diff.raw)
        made = klpbuild.make(
            request,
            site,
            [patch],
            jobs=1,
            progress=lambda _done, _total, file: (seen if seen is not None else []).append(file),
            deadline=Deadline.after(60),
            say=said.append,
        )
        return made.read_text()


def test_the_tree_is_again_as_it_was(request_: Request, source: Path, cache: Path) -> None:
    before, said, seen = texts(source), list[str](), list[str]()
    assert built(request_, said, seen) == "int one = 3;\n"
    assert seen == ["kernel/one.o"]
    (place,) = (cache / "livepatch-trees").glob("*/tree")
    after = texts(place)
    assert after.pop(".config") == f"{klpbuild.OPTION}\n"
    assert after == before == texts(source)
    assert "and before it the kernel" in said[-1]
    assert built(request_, said) == "int one = 3;\n"
    assert "and before it the kernel" not in said[-1]


def test_the_builders_words_come_first(request_: Request, source: Path, cache: Path) -> None:
    assert built(request_, [])
    (place,) = (cache / "livepatch-trees").glob("*/tree")
    (place.parent / "refuse").touch()
    with pytest.raises(BuildError, match=r"does not build .*: no changes detected") as raised:
        built(request_, [])
    assert "does it compile the file" in raised.value.hint
    assert texts(place)["kernel/one.c"] == texts(source)["kernel/one.c"]
    (place.parent / "refuse").unlink()
    said: list[str] = []
    assert built(request_, said)
    assert "and before it the kernel" not in said[-1]  # what it had compiled is whole


def test_a_killed_build_leaves_nothing(request_: Request, source: Path, cache: Path) -> None:
    """One that we killed, or that was killed with us: the tree is made anew."""
    assert built(request_, [])
    (place,) = (cache / "livepatch-trees").glob("*/tree")
    with (
        pytest.raises(KeyboardInterrupt),
        opened(request_, request_.files) as site,
    ):
        (site.source / "kernel/one.c").write_text("half")
        raise KeyboardInterrupt
    said: list[str] = []
    assert built(request_, said) == "int one = 3;\n"
    assert "was killed: starting afresh" in said[0] and "before it the kernel" in said[-1]
    assert texts(place)["kernel/one.c"] == texts(source)["kernel/one.c"] == "int one = 1;\n"


def test_a_builder_that_was_killed_leaves_nothing(request_: Request, cache: Path) -> None:
    assert built(request_, [])
    (place,) = (cache / "livepatch-trees").glob("*/tree")
    (place.parent / "die").touch()
    with pytest.raises(HarnessError, match="killed by signal 9"):
        built(request_, [])
    (place.parent / "die").unlink()
    said: list[str] = []
    assert built(request_, said) == "int one = 3;\n"
    assert "was killed: starting afresh" in said[0] and "before it the kernel" in said[-1]


def test_a_file_that_a_builder_writes_is_no_link_to_the_source(
    request_: Request, source: Path
) -> None:
    with opened(request_, request_.files) as site:
        (site.source / "kernel/one.c").unlink()
        os.link(source / "kernel/one.c", site.source / "kernel/one.c")
    with opened(request_, request_.files) as site:
        (site.source / "kernel/one.c").write_text("in place")
        assert (source / "kernel/one.c").read_text() == "int one = 1;\n"


def test_what_a_patch_adds_goes_again(request_: Request, cache: Path) -> None:
    with opened(request_, ["kernel/new.c"]) as site:
        (site.source / "kernel/new.c").write_text("new")
    assert not (site.source / "kernel/new.c").exists()


def test_a_tree_in_which_somebody_has_worked_is_kept(request_: Request, cache: Path) -> None:
    said: list[str] = []
    assert built(request_, said)
    (place,) = (cache / "livepatch-trees").glob("*/tree")
    os.utime(place.parent, (0, 0))
    (place / "kernel/one.c").write_text("a day's work")
    assert pruning.prune(cache, older_than_days=0) == ()
    assert built(request_, said) == "int one = 3;\n"
    assert any("was worked in: it is kept" in line for line in said)
    (kept,) = (cache / "livepatch-trees").glob("*.worked-in-*/tree")
    assert (kept / "kernel/one.c").read_text() == "a day's work"
    for entry in (place.parent, kept.parent):
        os.utime(entry, (0, 0))
    gone = [entry.path for entry in pruning.prune(cache, older_than_days=0)]
    assert place.parent in gone and kept.parent not in gone


def test_a_tree_of_files_with_times_to_come_is_nobodys_work(
    request_: Request, source: Path, cache: Path
) -> None:
    soon = time.time() + 3600
    os.utime(source / "kernel/one.c", (soon, soon))
    for _ in range(2):
        assert built(request_, [])
    assert list((cache / "livepatch-trees").glob("*.worked-in-*")) == []


def test_what_a_killed_build_left_goes(request_: Request, cache: Path) -> None:
    with pytest.raises(KeyboardInterrupt), opened(request_, ()) as site:
        (site.source / "kernel/one.o").write_text("half")
        raise KeyboardInterrupt
    os.utime(site.root, (0, 0))
    assert site.root in [entry.path for entry in pruning.prune(cache, older_than_days=0)]


@pytest.mark.parametrize("where", ["elsewhere", "in the source", "nowhere"])
def test_a_build_writes_through_no_link_of_the_source(
    request_: Request, source: Path, tmp_path: Path, where: str
) -> None:
    goal = {
        "elsewhere": tmp_path / "mine",
        "in the source": source / "mine",
        "nowhere": tmp_path / "no",
    }[where]
    if where != "nowhere":
        goal.mkdir()
    (source / "kernel/driver").symlink_to(goal)
    with (
        pytest.raises(UsageError, match=r"kernel/driver of .* is a link to .*/(mine|no): what is"),
        opened(request_, request_.files),
    ):
        pass


def test_links_in_the_tree_and_to_files_are_no_matter(
    request_: Request, source: Path, tmp_path: Path
) -> None:
    (tmp_path / "notes").write_text("mine")
    (source / "notes").symlink_to(tmp_path / "notes")
    (source / "kernel/again").symlink_to("../kernel")
    script = source / "scripts/setlocalversion"
    script.rename(tmp_path / "setlocalversion")
    script.symlink_to(tmp_path / "setlocalversion")
    before = (tmp_path / "setlocalversion").read_text()
    assert built(request_, []) == "int one = 3;\n"
    assert (tmp_path / "setlocalversion").read_text() == before and script.is_symlink()


def test_what_a_builder_writes_lies_behind_no_link(request_: Request, source: Path) -> None:
    (source / "scripts").rename(source / "programs")
    (source / "scripts").symlink_to("programs")
    with (
        pytest.raises(UsageError, match=r"scripts of .* is a link to"),
        opened(request_, klpbuild.WRITES),
    ):
        pass


def test_a_source_that_changes_while_it_is_copied(
    request_: Request, source: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a commit it would be kept, and be another's."""
    real = worktree.sync

    def changing(*args: Any) -> frozenset[str]:
        (source / "kernel/one.c").write_text("int one = 2;\n")
        return real(*args)

    monkeypatch.setattr(worktree, "sync", changing)
    with pytest.raises(HarnessError, match="was changed while it was copied"):
        built(request_, [])
    monkeypatch.undo()
    monkeypatch.setenv("KLP_E2E_CACHE", str(cache))
    (source / "kernel/one.c").write_text("int one = 1;\n")
    assert built(request_, []) == "int one = 3;\n"


def test_a_source_that_was_changed_since_its_kernel_was_built(request_: Request) -> None:
    with pytest.raises(HarnessError, match="was changed since the kernel was built of it"):
        livepatch.build(
            request_,
            klpbuild.NAME,
            jobs=1,
            progress=lambda *_: None,
            say=lambda _: None,
            deadline=Deadline.after(60),
        )


def test_a_livepatch_is_of_the_version_of_its_builder(
    request_: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And without the network of the one that is there."""
    asked: list[list[tuple[str, str]]] = [
        [("bookworm", "1:0.9.7-1")],
        [("bookworm", "0.9.10-1")],
        [],
    ]
    monkeypatch.setattr(archive, "lists", lambda _say: [])
    monkeypatch.setattr(archive, "suites_with", lambda *_: asked.pop(0))
    kept_builder()
    found = [kpatch.identity(lambda _: None) for _ in range(3)]
    assert found == ["kpatch-build_0.9.7-1", "kpatch-build_0.9.10-1", "kpatch-build_0.9.7-1"]
    keys = {livepatch._key(request_, kpatch.NAME, each) for each in found}
    assert len(keys) == 2


def kept_builder() -> Path:
    """Its program, in the cache."""
    final = workdir.cache_root() / "builders/kpatch-build_0.9.7-1"
    with workdir.staging(final) as tmp:
        binary = tmp / "root/usr/bin/kpatch-build"
        binary.parent.mkdir(parents=True)
        binary.write_text("#!/bin/sh\n")
        workdir.publish(tmp, final)
    return final / "root/usr/bin/kpatch-build"


def test_a_builder_that_somebody_has_changed_is_not_run_without_the_network_either(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(archive, "lists", lambda _say: None)
    program = kept_builder()
    os.utime(program.parents[3], (0, 0))
    assert kpatch._program(lambda _: None, Deadline.after(9)) == program
    assert program.parents[3].stat().st_mtime > time.time() - 60  # in use: not to be pruned
    program.write_text("#!/bin/sh\necho other\n")
    with pytest.raises(HarnessError, match=r"kpatch-build_0\.9\.7-1 is damaged"):
        kpatch._program(lambda _: None, Deadline.after(9))
    workdir.discard(program.parents[3])
    assert list((workdir.cache_root() / "builders").glob("*.damaged-*"))
    with pytest.raises(HarnessError, match="no Debian release"):
        kpatch._program(lambda _: None, Deadline.after(9))


WARNED = """o.o: warning: objtool: the kernel's own, of every build
warning: klp-build: fix.patch applied with fuzz
Diffing objects
t.o: warning: objtool: f: disabling unsupported tracepoint t
t.o: warning: objtool: f: disabling unsupported tracepoint t
warning: objtool: f: disabling unsupported pr_debug()
t.o: changed function: f
"""


def test_what_builders_warn_of() -> None:
    assert klpbuild.warnings(WARNED) == (
        "fix.patch applied with fuzz",
        "f: disabling unsupported tracepoint t",
        "f: disabling unsupported pr_debug()",
    )
    said = "WARNING: of make's\nf.o: WARNING: unable to correlate x, assuming variable is new\n"
    assert kpatch.warnings(said) == ("unable to correlate x, assuming variable is new",)


@pytest.fixture
def makes(
    request_: Request, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Path], Path]:
    """The set of a livepatch that the builder, so to speak, has made."""
    monkeypatch.setattr(kernels, "is_of", lambda *_: True)
    monkeypatch.setattr(klpbuild, "_PROGRAMS", {})
    monkeypatch.setattr(klpbuild, "_HASHES", source / "Makefile")
    built = tmp_path / "built"
    built.mkdir()
    modinfo = b"license=GPL\0name=klp_target\0"
    elf = with_section(target(), MODINFO, lambda section: replace(section, data=modinfo))
    (built / "klp_target.ko").write_bytes(write(elf))
    asked = replace(request_, kernel=replace(request_.kernel, build_tree=built))

    def made(module: Path) -> Path:
        script = SCRIPT.replace("cp kernel/one.c", f"cp {module}")
        (source / klpbuild.SCRIPT).write_text(f"{script}cat >&2 <<'END'\n{WARNED}END\n")
        return livepatch.build(
            asked,
            klpbuild.NAME,
            jobs=1,
            progress=lambda *_: None,
            say=lambda _: None,
            deadline=Deadline.after(60),
        )

    return made


def test_a_set_says_of_what_it_was_built_and_by_whom(
    makes: Callable[[Path], Path], request_: Request
) -> None:
    """And the patch lies beside it. Another time it comes from the cache."""
    place = makes(GENUINE)
    assert place == makes(GENUINE)
    assert (place / "fix.patch").read_text() == FIX
    tables = tomllib.loads((place / "set.toml").read_text())
    assert tables["origin"] == {
        "builder": "klp-build",
        "version": request_.kernel.release,
        "warned": [*klpbuild.warnings(WARNED)],
        "patches": [{"file": "fix.patch", "sha256": hashlib.sha256(FIX.encode()).hexdigest()}],
    }


def test_a_livepatch_that_no_kernel_applies_as_it_is_meant_is_its_builders_fault(
    makes: Callable[[Path], Path], cache: Path
) -> None:
    """And not the kernel's: it is not run, nor kept."""
    with pytest.raises(BuildError, match="no kernel can apply as it is meant") as raised:
        makes(GENUINE.parent / "wrong/alternative-7.3.4.ko")
    assert ".text+0x5, code that has an alternative" in raised.value.full_message
    assert "fault of klp-build's" in raised.value.hint
    assert not [path for path in (cache / "livepatches").iterdir() if path.is_dir()]


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("error: klp-build: x.patch: unsupported patch to lib/x.c\n", BuildError, "lib/x.c"),
        ("cc1: No space left on device\n", HarnessError, "No space left on device"),
        ("a.c:3:1: error: expected ;\nerror: klp-build: patched kernel build failed\n", BuildError,
         "a.c:3:1: error: expected ;; patched kernel build failed"),
        ("vmlinux.o: error: objtool: f: no such symbol\n"
         "error: klp-build: objtool klp diff failed\n", BuildError,
         "no such symbol; objtool klp diff failed"),
        ("./klp-build: line 605: 4711 Killed   \"${cmd[@]}\"\nerror: klp-build: objtool failed\n",
         HarnessError, "line 605: 4711 Killed"),
        ("error: klp-build: line 12: 'make clean'\n", BuildError, "line 12: 'make clean'"),
        ("", BuildError, "said nothing"),
    ],
)  # fmt: skip
def test_why_unbuilt(
    request_: Request, text: str, kind: type[Exception], words: str, tmp_path: Path
) -> None:
    found = klpbuild.why_unbuilt(text, request_, tmp_path / "log")
    assert type(found) is kind and words in str(found)


def test_why_kpatch_build_builds_nothing(request_: Request, tmp_path: Path) -> None:
    """As 0.9.10 says it, of tests/corpus/6.1/refused-data.patch."""
    text = (
        "ERROR: dummy.o: 1 unsupported section change(s)\n\n"
        "dummy.o: changed section .data.numdummies not selected for inclusion\n"
        "ERROR: 1 error(s) encountered. Check /somewhere/build.log for more details.\n"
    )
    found = kpatch.why_unbuilt(text, request_, tmp_path / "log")
    assert isinstance(found, BuildError)
    assert str(found).endswith(
        ": dummy.o: changed section .data.numdummies not selected for inclusion; "
        "dummy.o: 1 unsupported section change(s); 1 error(s) encountered"
    )
    full = kpatch.why_unbuilt("ld: No space left on device\n", request_, tmp_path / "log")
    assert isinstance(full, HarnessError)


def test_a_kernel_it_cannot_build_for(request_: Request, source: Path) -> None:
    klpbuild.check(request_, source)
    request_.kernel.config.write_text("# CONFIG_KLP_BUILD is not set\n")
    with pytest.raises(BuildError, match="without CONFIG_KLP_BUILD"):
        klpbuild.check(request_, source)
    (source / klpbuild.SCRIPT).unlink()
    with pytest.raises(UsageError, match=r"Linux 6\.19") as raised:
        klpbuild.check(request_, source)
    assert "--builder" in raised.value.hint


def test_a_patch_for_another_tree_is_told_before_a_build(request_: Request, source: Path) -> None:
    (source / "kernel/one.c").write_text("int two;\n")
    with pytest.raises(PatchError, match=r"fix\.patch does not apply"):
        livepatch.build(
            request_,
            klpbuild.NAME,
            jobs=1,
            progress=lambda *_: None,
            say=lambda _: None,
            deadline=Deadline.after(60),
        )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("fix.patch", "livepatch-fix"),
        ("a fix (v2).mbx", "livepatch-a-fix--v2-"),
        ("x" * 80 + ".patch", "livepatch-" + "x" * 45),
    ],
)
def test_its_name(request_: Request, name: str, expected: str) -> None:
    named = replace(request_, fix=replace(request_.fix, name=f"/tmp/{name}"))
    assert named.name == expected


def test_which_file_a_symbol_is_of(tmp_path: Path) -> None:
    """A real linker's symbol table; sections of their own may put functions in another order."""
    compiler = shutil.which("gcc")
    assert compiler
    for name, other in (("one", "two"), ("two", "one")):
        (tmp_path / f"{name}.c").write_text(
            f"static int same(int a) {{ return a + {len(other)}; }}\n"
            f"int {name}(int a) {{ return same(a); }}\n"
        )
    objects = []
    for name in ("one", "two"):
        objects.append(str(tmp_path / f"{name}.o"))
        argv = [compiler, "-O0", "-c", f"{name}.c", "-o", objects[-1]]
        subprocess.run(argv, cwd=tmp_path, check=True)
    found = []
    for order in (objects, objects[::-1]):
        linked = ["ld", "-e", "one", "-o", str(tmp_path / VMLINUX), *order]
        subprocess.run(linked, check=True)
        symbols = reader.symbols((tmp_path / VMLINUX).read_bytes(), VMLINUX)
        found.append(sympos.places(symbols, ["same", "one", "none"], by_address=True))
    assert found[0]["same"] == ("one.c", "two.c") and found[1]["same"] == ("two.c", "one.c")
    assert found[0]["one"] == found[1]["one"] == ("no file of its own",)
    assert found[0]["none"] == ()
