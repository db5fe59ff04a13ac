# SPDX-License-Identifier: GPL-2.0-only
"""Building and keeping kernels: the real tuxmake, make and gcc on a kernel of two C files.

The little kernel answers the targets that tuxmake uses. What a real kernel's build does with the
same calls is seen in tests/vm.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.build import kernel
from orchestrator.catalog import arches
from orchestrator.errors import BuildError, ConfigError, PatchError, UsageError
from orchestrator.host import ours, workdir
from orchestrator.nouns import Arch, Kernel
from orchestrator.source import sources

HOST = next(arch for arch in arches().values() if not arch.cross_compile)

MAKEFILE = """VERSION = 6
PATCHLEVEL = 1
SUBLEVEL = 9
EXTRAVERSION =
OBJECTS := $(O)/kernel/one.o $(O)/kernel/two.o
all: $(O)/vmlinux
tinyconfig:
\t@mkdir -p $(O) && echo CONFIG_MODULES=y > $(O)/.config
olddefconfig:
\t@if [ -e drop ]; then sed -i /$$(cat drop)/d $(O)/.config; fi
$(O)/kernel/%.o: kernel/%.c include/head.h
\t@mkdir -p $(@D) && echo "  CC      kernel/$*.o"
\t@if [ -e slow ]; then sleep 1000; fi
\t@$(CC) -Iinclude -c -o $@ $<
\t@echo "source_kernel/$*.o := $(CURDIR)/$< include/head.h" > $(@D)/.$*.o.cmd
$(O)/vmlinux: $(OBJECTS)
\t@$(LD) -r -o $@ $^ && touch $(O)/System.map
\t@mkdir -p $(O)/include/config && echo 6.1.9 > $(O)/include/config/kernel.release
IMAGE_TARGET: all
\t@mkdir -p $(O)/$(dir IMAGE_PATH) && cp $(O)/vmlinux $(O)/IMAGE_PATH
.PHONY: all tinyconfig olddefconfig IMAGE_TARGET
.DELETE_ON_ERROR:
"""
KCONFIG = "config LIVEPATCH\n\tdepends on NO_SUCH_THING && MODULES\n"
MERGE = '#!/bin/sh\n# -m -O DIR CONFIG FRAGMENTS...\nshift 3; c=$1; shift; cat "$@" >> $c\n'


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KLP_E2E_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    makefile = MAKEFILE.replace("IMAGE_TARGET", HOST.image_target)
    for name, text in {
        "Makefile": makefile.replace("IMAGE_PATH", HOST.image_path),
        "Kconfig": KCONFIG,
        "Kbuild": "",
        "kernel/one.c": '#include "head.h"\nint one = ONE;\n',
        "kernel/two.c": '#include "head.h"\nint two = 2;\n',
        "include/head.h": "#define ONE 1\n",
        "scripts/kconfig/merge_config.sh": MERGE,
    }.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tree / "scripts/kconfig/merge_config.sh").chmod(0o755)
    return tree


def patch(tmp_path: Path, name: str, file: str, old: str, new: str) -> str:
    before, after = f"-{old}\n" if old else "", f"+{new}\n"
    head = f"--- {'a/' + file if old else '/dev/null'}\n+++ b/{file}\n"
    hunk = "@@ -1,1 +1,1 @@\n" if old else "@@ -0,0 +1,1 @@\n"
    (tmp_path / name).write_text(head + hunk + before + after)
    return str(tmp_path / name)


def build(tree: Path, *series: str, arch: Arch = HOST) -> tuple[Kernel, list[str]]:
    """The kernel, and what was compiled for it."""
    files: list[str] = []
    built = kernel.build(
        arch,
        f"dir:{tree}",
        series,
        jobs=1,
        progress=lambda done, _total, text: files.append(text) if done else None,
    )
    return built, files


def there(tree: Path, *series: str) -> bool:
    return kernel.is_built(HOST, sources.fetch(f"dir:{tree}"), series)


def test_only_what_a_series_touches_is_compiled_again(tree: Path, tmp_path: Path) -> None:
    bare, files = build(tree)
    assert sorted(files) == ["kernel/one.o", "kernel/two.o"] and bare.objects == 2
    assert (bare.release, bare.version, bare.series) == ("6.1.9", (6, 1), ())
    assert build(tree) == (bare, [])
    assert there(tree)

    header = patch(tmp_path, "header", "include/head.h", "#define ONE 1", "#define ONE 11")
    assert not there(tree, header)
    with_header, files = build(tree, header)
    assert there(tree, header) and there(tree, "none")
    assert sorted(files) == ["kernel/one.o", "kernel/two.o"]
    assert with_header.objects == 2 and with_header.series == (header,)
    both = (header, patch(tmp_path, "two", "kernel/two.c", '#include "head.h"', "char x;"))
    assert build(tree, *both)[1] == ["kernel/two.o"]
    assert build(tree, header) == (with_header, [])
    assert build(tree, "none") == (bare, [])  # its directory never changed meanwhile
    assert workdir.verify(bare.directory) == ""


def test_the_same_patches_by_another_name_are_the_same_kernel(tree: Path, tmp_path: Path) -> None:
    one = patch(tmp_path, "one", "kernel/one.c", "int one = ONE;", "int one = 10;")
    two = patch(tmp_path, "two", "kernel/two.c", "int two = 2;", "int two = 20;")
    (tmp_path / "both").mkdir()
    (tmp_path / "both/series").write_text("one\ntwo\n")
    for name in ("one", "two"):
        shutil.copy(tmp_path / name, tmp_path / "both")
    both, files = build(tree, str(tmp_path / "both"))
    assert files and both.series == (str(tmp_path / "both"),)
    stacked, files = build(tree, one, f"{two}@1")
    assert (stacked.directory, files) == (both.directory, [])
    assert stacked.series == (one, f"{two}@1")  # and is called as it was asked for
    assert build(tree, two, one)[0].directory == both.directory
    first = f"{tmp_path / 'both'}@1"
    assert build(tree, first)[0].directory == build(tree, one)[0].directory != both.directory
    bare = build(tree)[0]
    merged = build(tree, f"{one}@merged")[0]
    assert (merged.directory, merged.series) == (bare.directory, (f"{one}@merged",))


def test_the_same_change_is_one_kernel_however_it_comes(tree: Path, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    shutil.copytree(tree, repository)

    def git(*words: str) -> str:
        who = ["-c", "user.name=A", "-c", "user.email=a@b", "-c", "commit.gpgSign=false"]
        done = subprocess.run(
            ["git", "-C", str(repository), *who, *words], check=True, capture_output=True, text=True
        )
        return done.stdout

    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "--message=base")
    for number, file in enumerate(("one", "two"), 1):
        path = repository / f"kernel/{file}.c"
        path.write_text(path.read_text().replace("int ", "long "))
        git("commit", "--quiet", "--all", f"--message=livepatch: change {number}")

    bare = tmp_path / "bare.diff"  # of both commits in one
    bare.write_text(git("diff", "HEAD~2", "HEAD"))
    mailbox = tmp_path / "series.mbx"
    mailbox.write_text(git("format-patch", "--stdout", "HEAD~2"))
    quilt = tmp_path / "quilt"
    git("format-patch", f"--output-directory={quilt}", "HEAD~2")
    (quilt / "series").write_text("".join(f"{each.name}\n" for each in sorted(quilt.iterdir())))
    forms = [str(bare), str(mailbox), str(quilt), f"git:{repository}#HEAD~2..HEAD"]
    assert build(tree, forms[0])[1]
    assert [there(tree, each) for each in forms] == [True] * 4
    assert {build(tree, each)[0].directory for each in forms} == {
        build(tree, forms[0])[0].directory
    }
    assert not there(tree, f"{mailbox}@1")


def test_what_is_kept_suffices_for_modules_and_tells_how_it_was_made(tree: Path) -> None:
    built, _ = build(tree)
    assert built.image.read_bytes()[:4] == b"\x7fELF" and built.system_map.exists()
    assert (built.build_tree / "include/config/kernel.release").exists()
    assert (built.source_tree / "Makefile").exists()
    record = json.loads((built.directory / "metadata.json").read_text())
    assert "--kconfig=tinyconfig" in record["build"]["reproducer_cmdline"]
    assert (built.directory / "reproducer.sh").stat().st_mode & 0o100


def test_a_damaged_kernel_is_noticed_and_built_again(tree: Path) -> None:
    built, _ = build(tree)
    built.image.write_bytes(b"damaged")
    said: list[str] = []
    again = kernel.build(HOST, f"dir:{tree}", [], jobs=1, say=said.append)
    assert any("image is damaged" in line for line in said)
    assert again == built and again.image.read_bytes()[:4] == b"\x7fELF"


def test_a_dropped_option_stops_the_build_with_its_dependency(tree: Path) -> None:
    (tree / "drop").write_text("CONFIG_LIVEPATCH=y\n")
    with pytest.raises(ConfigError) as caught:
        build(tree)
    assert "LIVEPATCH depends on NO_SUCH_THING && MODULES\n" in str(caught.value)
    assert "    this kernel has no option NO_SUCH_THING" in str(caught.value)
    newer = replace(HOST, since="6.17")
    with pytest.raises(ConfigError) as caught:
        kernel.build(newer, f"dir:{tree}", [], jobs=1, say=lambda _: None)
    assert "has livepatch from Linux 6.17 on" in (caught.value.hint or "")
    (tree / "drop").unlink()
    assert len(build(tree)[1]) == 2


@pytest.mark.parametrize("name", ["kernel/two.c", "mine.c"])
def test_a_tree_in_which_somebody_has_worked_is_kept_and_in_no_kernel(
    tree: Path, tmp_path: Path, cache: Path, name: str
) -> None:
    build(tree)
    (site,) = (path for path in (cache / "trees").iterdir() if path.is_dir())
    work = site / "src" / name
    changed = f"{work.read_text() if work.exists() else ''}int mine;\n"
    ours.scrap(work)
    work.write_text(changed)
    for number, word in enumerate(("20", "30")):
        two = patch(tmp_path, word, "kernel/two.c", "int two = 2;", f"int two = {word};")
        said: list[str] = []
        built = kernel.build(HOST, f"dir:{tree}", [two], jobs=1, say=said.append)
        symbols = subprocess.run(["nm", built.image], check=True, capture_output=True, text=True)
        assert " mine" not in symbols.stdout and " two" in symbols.stdout
        (kept,) = (cache / "trees").glob("*.worked-in-*")
        assert (kept / "src" / name).read_text() == changed
        assert any(f"{kept / 'src'} was worked in" in line for line in said) is (number == 0)


def test_a_compile_error_names_the_line_and_the_log(tree: Path, tmp_path: Path) -> None:
    build(tree)
    bad = patch(tmp_path, "bad", "kernel/two.c", '#include "head.h"', "int;;; nonsense")
    message = (
        rf"the {HOST.name} kernel does not build with series bad: .*kernel/two\.c:\d+:\d+: error: "
    )
    with pytest.raises(BuildError, match=message) as caught:
        build(tree, bad)
    assert "nonsense" in Path(caught.value.log).read_text()
    assert build(tree)[1] == []


def test_a_patch_that_does_not_apply_stops_before_anything(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(PatchError, match=r"bad: bad does not apply: kernel/two\.c: hunk #1"):
        build(tree, patch(tmp_path, "bad", "kernel/two.c", "something", "else"))


def test_an_architecture_file_with_a_wrong_image_is_told(tree: Path) -> None:
    wrong = dataclasses.replace(HOST, image_path="arch/x/boot/none")
    with pytest.raises(BuildError, match="arch/x/boot/none"):
        build(tree, arch=wrong)


RUN = """
import sys
from orchestrator import catalog
from orchestrator.build import kernel
kernel.build(catalog.arch(sys.argv[1]), "dir:" + sys.argv[2], [], jobs=1,
             progress=lambda done, total, text: print(done, text, flush=True))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_build_leaves_nothing_that_looks_finished(
    tree: Path, cache: Path, number: signal.Signals
) -> None:
    (tree / "slow").touch()
    # pytest itself may have been started with SIGINT ignored, and would hand that down
    command = ["env", "--default-signal", sys.executable, "-c", RUN, HOST.name, str(tree)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as run:
        assert run.stdout is not None
        while run.stdout.readline() != "1 kernel/one.o\n":
            assert run.poll() is None
        os.kill(run.pid, number)
    assert not [p for p in (cache / "kernels").iterdir() if p.suffix != ".lock"]
    for attempt in range(100):  # the watchdog works after us
        if not any(str(cache) in line for line in _commands()):
            break
        time.sleep(0.05 * (attempt < 99))
    else:
        pytest.fail("a compiler goes on")
    (tree / "slow").unlink()
    assert len(build(tree)[1]) == 2


def _commands() -> list[str]:
    """The command lines of all processes."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return lines


def test_two_runs_at_once_share_one_build(tree: Path) -> None:
    command = [sys.executable, "-c", RUN, HOST.name, str(tree)]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [run.communicate()[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    assert sorted(text.count("kernel/") for text in outputs) == [0, 2]


@pytest.mark.parametrize("name", ["a cache", "a:cache", "a\tcache"])
def test_a_cache_in_which_kbuild_would_not_build_is_refused_at_once(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KLP_E2E_CACHE", str(tmp_path / name))
    with pytest.raises(UsageError, match="a blank or a colon") as caught:
        kernel.build(next(iter(arches().values())), "debian:6.1")
    assert "KLP_E2E_CACHE" in caught.value.hint
    assert not (tmp_path / name).exists()
