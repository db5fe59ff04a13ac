# SPDX-License-Identifier: GPL-2.0-only
"""An architecture described outside of the tree serves as ours do, and what is found with it can be
seen again; and ours are right against the kernel's real source."""

from __future__ import annotations

import json
import shlex
import shutil

from conftest import MakeBenches
from vmkit import ARCHES, Klp

from orchestrator import catalog
from orchestrator.cli import options
from orchestrator.errors import Exit
from orchestrator.port import archcheck
from orchestrator.port.archfile import FieldKind

NAME = ARCHES[0]
RELOAD = "+klp_patch +klp_target -klp_target +filler +klp_target"


def test_ours_are_right_and_another_kernel_arch_is_not(klp: Klp) -> None:
    # not those whose tools come from a mirror, which may have them no more
    names = sorted(name for name, arch in catalog.arches().items() if not arch.qemu_package)
    reports = archcheck.check(names, options.SOURCE, print)
    assert [report.path.stem for report in reports] == names
    assert {r.kind for report in reports for r in report.remarks} <= {FieldKind.NOTE}
    text = catalog.arch_file(NAME).read_text().replace("kernel_arch = ", "kernel_arch = 'vax' #")
    (klp.directory / "mine.toml").write_text(text)
    shutil.copy(catalog.fragment(catalog.arch_file(NAME)), klp.directory / "mine.config")
    told = klp.run("arch", "check", "mine.toml")
    assert told.code == Exit.USAGE, told.err
    assert told.out.startswith("mine: 1 wrong (")
    assert "wrong    kernel_arch: the kernel has no arch/vax/\n" in told.out


def test_what_is_found_with_a_file_is_seen_again(klp: Klp, make_benches: MakeBenches) -> None:
    make_benches(())  # under its own name, so that its kernel is the one in the cache
    ours = catalog.arch_file(NAME)
    for file in (ours, catalog.fragment(ours)):
        shutil.copy(file, klp.directory)
    what = ("--series", "none", "--modules", "basic", "--order", RELOAD, "--strict")
    told = klp.run("run", "--arch-file", f"{NAME}.toml", *what, "-o", "results")
    assert told.code == Exit.TEST_FAILURE, told.err
    document = json.loads((klp.results / "results.json").read_text())
    words = shlex.split(document["cases"][0]["reproduce"])
    assert words[1:4] == ["run", "--arch-file", str(klp.directory / f"{NAME}.toml")]
    name = f"{NAME}/basic/order-1"
    short = ("minimise", "results", name, "--confirm", "1", "-o", "bundle")
    told = klp.run(*short)
    assert told.code == Exit.USAGE, told.err
    assert f"add --arch-file {klp.directory / NAME}.toml" in told.err
    told = klp.run(*short, "--arch-file", f"{NAME}.toml")
    assert told.code == Exit.TEST_FAILURE, told.err
    (klp.directory / f"{NAME}.toml").unlink()
    told = klp.run("replay", "bundle")
    assert (told.code, "reproduced 1 of 1" in told.out) == (Exit.TEST_FAILURE, True), told.err
