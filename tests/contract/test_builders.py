# SPDX-License-Identifier: GPL-2.0-only
"""A kernel's tree in which a builder works: what it leaves there, and what it cannot spoil."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from samples import a_kernel

from orchestrator.builders import klpbuild, livepatch, sympos, tree
from orchestrator.builders.request import Request
from orchestrator.catalog import arches
from orchestrator.deadline import Deadline
from orchestrator.elf import reader
from orchestrator.errors import BuildError, HarnessError, PatchError, UsageError
from orchestrator.nouns import VMLINUX, Kernel
from orchestrator.source import series

HOST = next(arch for arch in arches().values() if not arch.cross_compile)
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


def built(request: Request, said: list[str], seen: list[str] | None = None) -> str:
    written = (*request.files, *klpbuild.WRITES)
    with tree.opened(request.kernel, HOST, written, say=said.append) as site:
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
        tree.opened(request_.kernel, HOST, request_.files, say=lambda _: None) as site,
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
    with tree.opened(request_.kernel, HOST, request_.files, say=lambda _: None) as site:
        (site.source / "kernel/one.c").unlink()
        os.link(source / "kernel/one.c", site.source / "kernel/one.c")
    with tree.opened(request_.kernel, HOST, request_.files, say=lambda _: None) as site:
        (site.source / "kernel/one.c").write_text("in place")
        assert (source / "kernel/one.c").read_text() == "int one = 1;\n"


def test_what_a_patch_adds_goes_again(request_: Request, cache: Path) -> None:
    with tree.opened(request_.kernel, HOST, ["kernel/new.c"], say=lambda _: None) as site:
        (site.source / "kernel/new.c").write_text("new")
    assert not (site.source / "kernel/new.c").exists()


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
        ("error: klp-build: line 12: 'make clean'\n", BuildError, "line 12: 'make clean'"),
        ("", BuildError, "said nothing"),
    ],
)  # fmt: skip
def test_why_unbuilt(
    request_: Request, text: str, kind: type[Exception], words: str, tmp_path: Path
) -> None:
    found = klpbuild.why_unbuilt(text, request_, tmp_path / "log")
    assert type(found) is kind and words in str(found)


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
